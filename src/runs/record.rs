//! The record of a run on the operator's side: one JSON line an event, so that a run that was killed
//! can still be read. Lives in `.kubastion/runs` beside the inventory. Holds no secrets.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

pub use super::outcome::{NodeOutcomes, Outcome, Outcomes, Reset};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::file_lock::FileLock;
use crate::inventory::NodeName;

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// A plan was carried out.
    Apply,
    /// An apply brought to an end what an earlier run had left open, before its own work.
    Settle,
    /// What an apply did was taken back.
    Rollback,
    /// An incomplete rollback was accepted as it is.
    Accept,
    /// Nodes were led back to what they were before the first run.
    Reset,
}

impl RunKind {
    /// As a command and in lists.
    pub fn name(self) -> &'static str {
        match self {
            RunKind::Apply => "apply",
            RunKind::Settle => "settle",
            RunKind::Rollback => "rollback",
            RunKind::Accept => "accept",
            RunKind::Reset => "reset",
        }
    }
}

/// A line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first line.
    Begin {
        /// Format of the record.
        format: u32,
        /// Run id.
        run: String,
        /// When, RFC 3339.
        at: String,
        /// What kind of run.
        kind: RunKind,
        /// The plan's id, if there is one.
        plan: Option<String>,
        /// Cluster name.
        cluster: String,
    },
    /// A plan that is carried out from here on. As plain JSON, for the reason that [`Line::Object`] has.
    Plan {
        /// The plan. It holds no secrets.
        plan: serde_json::Value,
    },
    /// Something else of the plan was done, or could not be.
    Task {
        /// What, as the plan had it.
        task: serde_json::Value,
        /// Why it was not done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// An object of the cluster's API was changed, or could not be.
    Object {
        /// The change, as the plan had it. As plain JSON: what becomes of objects differs by version, and a record that a
        /// later one cannot read would be one that nobody can roll back.
        change: serde_json::Value,
        /// Why it was not made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// Who is a member of etcd was changed, or could not be.
    Etcd {
        /// The change, as the plan had it.
        change: serde_json::Value,
        /// Why it was not made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// A transaction begins on a node. Written before the node is sent anything.
    Transaction {
        /// The node.
        node: NodeName,
        /// The phase.
        phase: Phase,
        /// Transaction id on the node.
        id: String,
        /// The stage of the run, from 1. Records of before have the order of the phases instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<u32>,
        /// Whether it makes the node part of a cluster.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        joins: bool,
        /// Whether a member of etcd that was a static pod goes on as a service.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        from_pod: bool,
    },
    /// It ended.
    Result {
        /// The node.
        node: NodeName,
        /// The phase.
        phase: Phase,
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// What came of a node that was to be reset.
    Reset {
        /// The node.
        node: NodeName,
        /// What is known of it.
        #[serde(flatten)]
        reset: Reset,
    },
    /// The last line.
    End {
        /// When, RFC 3339.
        at: String,
        /// Exit code of the run.
        exit: u8,
    },
}

/// A run as read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Run id.
    pub run: String,
    /// When it began.
    pub began: String,
    /// When it ended; absent if it was cut off.
    pub ended: Option<String>,
    /// What kind of run it is.
    pub kind: RunKind,
    /// Exit code, if it ended.
    pub exit: Option<u8>,
    /// The plan's id.
    pub plan: Option<String>,
    /// Cluster name.
    pub cluster: String,
    /// Transactions in the order in which they began, with their outcome if there is one.
    pub transactions: Vec<TransactionRecord>,
    /// Whether control planes began to encrypt stored objects by it, which they could not read as they were before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encrypts: bool,
    /// Of a reset: what came of each node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reset: BTreeMap<NodeName, Reset>,
}

/// A transaction of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionRecord {
    /// The node.
    pub node: NodeName,
    /// The phase.
    pub phase: Phase,
    /// Transaction id on the node.
    pub id: String,
    /// The stage of its run, from 1: what stands on a stage is taken back before it. Of a record of before, the number of
    /// the phase.
    pub stage: u32,
    /// How it ended, if it did while somebody was looking.
    pub outcome: Option<Outcome>,
    /// When it began and ended, RFC 3339. Old records do not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// See `began`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Whether it made the node part of a cluster. Old records do not say so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
    /// Whether a member of etcd that was a static pod went on as a service: it was one before, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_pod: bool,
}

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {action} the run record")]
pub struct RecordError {
    path: String,
    action: &'static str,
    #[source]
    source: io::Error,
}

impl RecordError {
    /// Whether another run holds the lock.
    pub fn is_busy(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// A record that is being written.
pub struct Journal {
    file: Mutex<File>,
    path: PathBuf,
    clock: Clock,
    /// Run id: sorts by time, and is part of the transaction ids on the nodes.
    pub run: String,
    /// What kind of run it is.
    pub kind: RunKind,
    lock: RunLock,
    counts: Mutex<Counts>,
}

/// How many stages a run had so far, and how many transactions on each node.
#[derive(Default)]
struct Counts {
    stages: u32,
    transactions: BTreeMap<NodeName, u32>,
}

/// Held as long as a run lives: a second run on the same inventory is refused.
pub struct RunLock(#[expect(dead_code, reason = "held, not read")] FileLock);

impl RunLock {
    /// Takes the lock of an inventory's directory, before anything is done to a node.
    ///
    /// # Errors
    /// If the directory cannot be written, or another run holds the lock.
    pub fn take(base: &Path) -> Result<Self, RecordError> {
        let dir = directory(base);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(failed(&dir, "create"))?;
        let path = base.join(".kubastion").join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "lock"))?;
        let lock = FileLock::try_exclusive(lock).map_err(failed(&path, "lock"))?;
        Ok(Self(lock))
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.display().to_string();
    move |source| RecordError { path, action, source }
}

/// The run of a transaction, by the id that it has on its node: `RUN-NUMBER-PHASE`, or `RUN-PHASE` as earlier versions had
/// it. A run's own id has one `-` in it.
pub fn run_of(transaction: &str) -> &str {
    let (rest, _) = transaction.rsplit_once('-').unwrap_or((transaction, ""));
    match rest.rsplit_once('-') {
        Some((run, number)) if run.contains('-') && number.parse::<u32>().is_ok() => run,
        _ => rest,
    }
}

/// Where records live.
pub fn directory(base: &Path) -> PathBuf {
    base.join(".kubastion").join("runs")
}

impl Journal {
    /// Begins a record.
    ///
    /// # Errors
    /// If the directory cannot be written, or another run holds the lock.
    pub fn begin(
        base: &Path,
        kind: RunKind,
        plan: Option<&str>,
        cluster: &str,
        clock: Clock,
    ) -> Result<Self, RecordError> {
        Self::begin_locked(RunLock::take(base)?, base, kind, plan, cluster, clock)
    }

    /// Begins a record of a run that holds the lock already.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn begin_locked(
        lock: RunLock,
        base: &Path,
        kind: RunKind,
        plan: Option<&str>,
        cluster: &str,
        clock: Clock,
    ) -> Result<Self, RecordError> {
        let dir = directory(base);
        let now = clock.now();
        let stamp = time::macros::format_description!("[year][month][day]t[hour][minute][second]z");
        let run = format!(
            "{}-{}",
            now.format(&stamp).map_err(|e| failed(&dir, "name")(io::Error::other(e)))?,
            crate::plain::hex(&crate::clock::random_bytes::<3>())
        );
        let path = dir.join(format!("{run}.jsonl"));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "create"))?;
        let journal = Self {
            file: Mutex::new(file),
            path,
            clock,
            run: run.clone(),
            kind,
            lock,
            counts: Mutex::default(),
        };
        journal.write(&Line::Begin {
            format: FORMAT,
            run,
            at: journal.now(),
            kind,
            plan: plan.map(str::to_owned),
            cluster: cluster.to_owned(),
        })?;
        Ok(journal)
    }

    fn now(&self) -> String {
        let format = time::format_description::well_known::Rfc3339;
        let now = self.clock.now();
        now
            // Two runs of one second are told apart.
            .replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000)
            .ok()
            .and_then(|t| t.format(&format).ok())
            .unwrap_or_default()
    }

    /// The number of the stage that begins, from 1. A run may carry several plans out.
    pub fn next_stage(&self) -> u32 {
        let mut counts = self.counts.lock().expect("no thread panics while holding it");
        counts.stages += 1;
        counts.stages
    }

    /// The id of the next transaction on a node: the run, the number of the transaction there, and what it is about, for
    /// people who look at the node.
    pub fn next_transaction(&self, node: &NodeName, phase: Phase) -> String {
        let mut counts = self.counts.lock().expect("no thread panics while holding it");
        let number = counts.transactions.entry(node.clone()).or_default();
        *number += 1;
        format!("{}-{number}-{}", self.run, phase.name())
    }

    /// Adds a line and makes it durable.
    ///
    /// # Errors
    /// If the line cannot be written; nothing may then be begun on a node.
    pub fn write(&self, line: &Line) -> Result<(), RecordError> {
        let mut value = serde_json::to_value(line).expect("a line has only strings and numbers");
        if let Some(object) = value.as_object_mut() {
            object.entry("at").or_insert_with(|| self.now().into());
        }
        let mut bytes = serde_json::to_vec(&value).expect("it was made of a line");
        bytes.push(b'\n');
        let mut file = self.file.lock().expect("no thread panics while holding it");
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(|source| RecordError {
            path: self.path.display().to_string(),
            action: "write",
            source,
        })
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&self, exit: u8) -> Result<(), RecordError> {
        self.write(&Line::End { at: self.now(), exit })
    }

    /// Gives the lock to the next record of the same process.
    pub fn into_lock(self) -> RunLock {
        self.lock
    }
}

/// All records of a directory.
#[derive(Debug, Default)]
pub struct Records {
    /// Oldest first. A last line that was cut off is left out.
    pub runs: Vec<RunRecord>,
    /// Records that cannot be read or hold a line that is not of the format.
    pub damaged: Vec<RecordError>,
}

impl TransactionRecord {
    /// A transaction of which only the beginning is known.
    pub(crate) fn begun(node: NodeName, phase: Phase, id: String, stage: u32) -> Self {
        let (outcome, began, ended, joins, from_pod) = (None, None, None, false, false);
        Self { node, phase, id, stage, outcome, began, ended, joins, from_pod }
    }
}

impl RunRecord {
    /// A run that has begun, and has not done anything yet.
    pub(crate) fn begun(run: String, at: String, kind: RunKind, cluster: String) -> Self {
        let (transactions, reset) = (Vec::new(), BTreeMap::new());
        Self {
            run,
            began: at,
            ended: None,
            kind,
            exit: None,
            plan: None,
            cluster,
            transactions,
            encrypts: false,
            reset,
        }
    }
}

/// Reads all records. One that is damaged does not hide the others.
///
/// # Errors
/// If the directory cannot be read.
pub fn read_all(base: &Path) -> Result<Records, RecordError> {
    let dir = directory(base);
    let fail = |path: &Path, source| RecordError {
        path: path.display().to_string(),
        action: "read",
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Records::default()),
        Err(e) => return Err(fail(&dir, e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| fail(&dir, e))?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut records = Records::default();
    for path in paths {
        match File::open(&path).and_then(|file| read(BufReader::new(file))) {
            Ok(run) => records.runs.extend(run),
            Err(e) => records.damaged.push(fail(&path, e)),
        }
    }
    // Their ids say the second alone.
    records.runs.sort_by_key(|r| {
        let format = time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(&r.began, &format).ok()
    });
    Ok(records)
}

fn read(reader: impl BufRead) -> io::Result<Option<RunRecord>> {
    let mut record: Option<RunRecord> = None;
    let lines: Vec<String> = reader.lines().collect::<io::Result<_>>()?;
    let last = lines.len().saturating_sub(1);
    for (i, text) in lines.iter().enumerate() {
        let line: Line = match serde_json::from_str(text) {
            Ok(line) => line,
            // Without a first line, it is known of one that was cut off alone that nothing was done yet.
            Err(_) if i == last && (record.is_some() || text.starts_with('{')) => break,
            Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        };
        let at = || {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            value.get("at")?.as_str().map(str::to_owned)
        };
        match (line, &mut record) {
            (Line::Begin { format, run, at, kind, plan, cluster }, None) if format == FORMAT => {
                record = Some(RunRecord { plan, ..RunRecord::begun(run, at, kind, cluster) });
            }
            (Line::Transaction { node, phase, id, stage, joins, from_pod }, Some(r)) => {
                let stage = stage.unwrap_or(phase as u32);
                let mut begun = TransactionRecord::begun(node, phase, id, stage);
                (begun.began, begun.joins, begun.from_pod) = (at(), joins, from_pod);
                r.transactions.push(begun);
            }
            // Records of before wrote down no transactions.
            (Line::Result { node, outcome, .. }, Some(r)) if r.kind == RunKind::Reset => {
                r.reset.insert(node, Reset { outcome, taken_back: Vec::new() });
            }
            (Line::Reset { node, reset }, Some(r)) => {
                r.reset.insert(node, reset);
            }
            // What was left out before it began has no transaction.
            (Line::Result { node, phase, outcome }, Some(r)) => {
                let is_it = |t: &TransactionRecord| {
                    t.node == node && t.phase == phase && t.outcome.is_none()
                };
                if let Some(t) = r.transactions.iter_mut().rev().find(|t| is_it(t)) {
                    t.outcome = Some(outcome);
                    t.ended = at();
                }
            }
            (Line::Plan { plan }, Some(r)) => {
                let rung = plan.pointer("/encryption/rung").and_then(serde_json::Value::as_str);
                r.encrypts |= rung.is_some_and(|rung| rung != "read");
            }
            // Objects of the API have no way back; what was done to them is for people to read.
            (Line::Task { .. } | Line::Object { .. } | Line::Etcd { .. }, Some(_)) => {}
            (Line::End { at, exit }, Some(r)) => {
                r.ended = Some(at);
                r.exit = Some(exit);
            }
            _ => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "lines in the wrong order"));
            }
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_changed_objects_can_be_listed_and_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(dir.path(), RunKind::Apply, None, "c", Clock::System).unwrap();
        let node: NodeName = "n".parse().unwrap();
        let (phase, id) = (Phase::Host, "1-host".to_owned());
        let begin = Line::Transaction {
            node: node.clone(),
            phase,
            id,
            stage: None,
            joins: false,
            from_pod: false,
        };
        journal.write(&begin).unwrap();
        let outcome = Outcome::Committed;
        journal.write(&Line::Result { node, phase, outcome }).unwrap();
        let token = serde_json::json!({"delete-token": {"name": "bootstrap-token-a"}});
        // As versions of before wrote them.
        let labels = serde_json::json!({"label": {"node": "w1", "labels": {"a": "b"}}});
        for change in [token, labels, "mount-nothing-in-new-namespaces".into()] {
            for problem in [None, Some("no".to_owned())] {
                journal.write(&Line::Object { change: change.clone(), problem }).unwrap();
            }
        }
        journal.end(0).unwrap();
        // Somebody's editor, or a disk: what is left of the others is what a rollback needs.
        std::fs::write(directory(dir.path()).join("0.jsonl"), "{}\n{}\n").unwrap();
        // After a power cut, as long as it was and nothing in it.
        std::fs::write(directory(dir.path()).join("9.jsonl"), [0; 300]).unwrap();
        let Records { runs: all, damaged } = read_all(dir.path()).unwrap();
        assert_eq!(damaged.len(), 2, "{damaged:?}");
        assert_eq!((all.len(), all[0].transactions.len(), all[0].exit), (1, 1, Some(0)));
    }

    #[test]
    fn the_run_of_a_transaction_is_told_by_its_id() {
        for (id, run) in [
            ("20261130t120232z-044129-1-etcd", "20261130t120232z-044129"),
            ("20261130t120232z-044129-etcd", "20261130t120232z-044129"),
            ("20261130t120232z-1a2b3c-12-host", "20261130t120232z-1a2b3c"),
            ("1-host", "1"),
        ] {
            assert_eq!(run_of(id), run, "{id}");
        }
    }

    #[test]
    fn runs_of_one_second_are_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = Vec::new();
        for _ in 0..8 {
            let journal =
                Journal::begin(dir.path(), RunKind::Apply, None, "c", Clock::System).unwrap();
            wanted.push(journal.run.clone());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let runs = read_all(dir.path()).unwrap().runs;
        assert_eq!(
            runs.iter().map(|r| &r.run).collect::<Vec<_>>(),
            wanted.iter().collect::<Vec<_>>()
        );
    }
}

/// Records for tests.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// A run with one transaction on `n`.
    pub fn run(run: &str, kind: RunKind, id: &str, outcome: Outcome) -> RunRecord {
        let transactions = vec![done("n", Phase::Host, id, Some(outcome))];
        let begun = RunRecord::begun(run.into(), String::new(), kind, "c".into());
        RunRecord { transactions, ..begun }
    }

    /// A transaction.
    pub fn done(node: &str, phase: Phase, id: &str, outcome: Option<Outcome>) -> TransactionRecord {
        let begun = TransactionRecord::begun(node.parse().unwrap(), phase, id.into(), phase as u32);
        TransactionRecord { outcome, ..begun }
    }

    /// A reset of a node that took these transactions back.
    pub fn reset_of(node: &str, taken_back: &[&str]) -> RunRecord {
        let taken_back = taken_back.iter().map(|&id| id.to_owned()).collect();
        let reset = Reset { outcome: Outcome::Committed, taken_back };
        RunRecord {
            transactions: Vec::new(),
            reset: [(node.parse().unwrap(), reset)].into(),
            ..run("3", RunKind::Reset, "", Outcome::Committed)
        }
    }
}
