//! The way back from what a run did.

use std::collections::BTreeSet;

use super::etcd_members::etcd_access;
use super::keys;
use super::observe::{self, Reach};
use super::records::{self, Finished, damaged};
use super::reset::left_out;
use crate::apply::execution::Sessions;
use crate::apply::{Execution, execute};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::event::Sink;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role};
use crate::plain::counted;
use crate::plan::{Gate, Peers, rollback};
use crate::runs::history::{self, Later};
use crate::runs::record::{Journal, RunKind, RunRecord, TransactionRecord};
use crate::transport::Dialer;
use crate::transport::ssh::SshDialer;
use crate::workflow::command_error::{CommandError, Exit};

/// A run that is to be taken back, on the chosen nodes.
pub struct Rollback<'l> {
    pub(super) loaded: &'l Loaded,
    pub(super) reach: &'l Reach,
    pub(super) nodes: Vec<&'l Node>,
    /// Every run on record.
    pub(super) all: Vec<RunRecord>,
    pub(super) run: RunRecord,
    /// What nobody can take back, since the inventory does not have this node any more.
    pub(super) gone: Vec<Problem>,
}

impl<'l> Rollback<'l> {
    /// Finds the run that is `wanted`, or the last apply that still stands. Nodes are asked only for a run that this
    /// machine has no record of.
    ///
    /// # Errors
    /// If there is no such run, or it has nothing to take back on these nodes.
    pub fn of(
        loaded: &'l Loaded,
        wanted: Option<&str>,
        reach: &'l Reach,
    ) -> Result<Self, CommandError> {
        let inventory = &loaded.inventory;
        let records = records::read(&loaded.base_dir)?;
        // The last run may be the one that cannot be read.
        if wanted.is_none() && !records.damaged.is_empty() {
            let mut problems = damaged(&records);
            let what = Problem::new("the last run cannot be determined");
            problems.push(
                what.left("nothing was changed")
                    .hint("run `kubastion runs`, and name the run to roll back"),
            );
            return Err(CommandError { exit: Exit::InvalidInput, problems });
        }
        let nodes = observe::chosen(inventory, reach)?;
        let cluster = inventory.cluster.name.as_str();
        let run = match choose(&records.runs, cluster, wanted) {
            Ok(run) => run.clone(),
            Err(unknown) => {
                // A run recorded on another machine, with transactions open on the nodes.
                let is_recorded = |id: &str| records.runs.iter().any(|r| r.run == id);
                let Some(id) = wanted.filter(|id| !is_recorded(id)) else {
                    return Err(unknown);
                };
                let dialer = observe::dialer(inventory, &nodes, reach)?;
                let fleet = observe::read_nodes(inventory, &loaded.files, &nodes, &dialer);
                let open = fleet.facts.answered.iter().flat_map(|(name, node)| {
                    node.facts.open_transactions.iter().map(move |t| (name, t.id.as_str()))
                });
                known_to_nodes(id, cluster, open).ok_or(unknown)?
            }
        };
        // Who names nodes does without the others.
        let gone = if reach.nodes.is_empty() { gone(&run, inventory) } else { Vec::new() };
        let rollback = Self { loaded, reach, nodes, all: records.runs, run, gone };
        if rollback.work().is_empty() {
            let what = format!("run {} has nothing to roll back on these nodes", rollback.run.run);
            let problem = Problem::new(what)
                .because("it changed nothing there, or only installed packages, which stay installed, or the nodes were reset since")
                .left("nothing was changed")
                .hint("run `kubastion runs` to see what each run did");
            let problems = std::iter::once(problem).chain(rollback.gone).collect();
            return Err(CommandError { exit: Exit::InvalidInput, problems });
        }
        Ok(rollback)
    }

    /// What will be done, and why this run is the next one, in lines.
    pub fn announcement(&self) -> Vec<String> {
        let work = self.work();
        let names: BTreeSet<&NodeName> = work.values().flatten().map(|(n, _)| &n.name).collect();
        let nodes_of_it: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
        let begins = format!(
            "rolling back run {} of {} on {}: {}",
            self.run.run,
            history::began(&self.run),
            counted(names.len(), "node"),
            nodes_of_it.join(", ")
        );
        let others = self.nodes.iter().filter(|n| !names.contains(&n.name));
        let left: Vec<&Node> = others.copied().collect();
        let mut lines = vec![begins];
        lines.extend(rolled_back_already(&self.all, &self.run));
        lines.extend(reset_since(&self.all, &self.run, &left));
        lines
    }

    /// What stays as the run left it, and why.
    pub fn problems(&self) -> &[Problem] {
        &self.gone
    }

    /// What opens connections to the nodes.
    ///
    /// # Errors
    /// If a password is needed and can neither be read nor asked for.
    pub fn dialer(&self) -> Result<SshDialer, CommandError> {
        observe::dialer(&self.loaded.inventory, &self.nodes, self.reach)
    }

    /// Begins the record of what is done about the run.
    pub(super) fn begin(&self, kind: RunKind) -> Result<Journal, CommandError> {
        let (base, plan) = (&self.loaded.base_dir, self.run.plan.as_deref());
        Journal::begin(base, kind, plan, &self.run.cluster, Clock::System).map_err(records::stop)
    }

    /// What the run did on these nodes and can be taken back.
    pub(super) fn work(&self) -> rollback::Work<'_> {
        rollback::work(&self.all, &self.run, &self.nodes)
    }

    /// Refuses a run that made a node part of a cluster, where it still is as far as the records tell. The
    /// nodes would refuse it, too; they are the ones to know where the records are old.
    ///
    /// # Errors
    /// If the run made one of these nodes part of a cluster, or began to encrypt what is stored.
    pub fn refuse_members(&self) -> Result<(), CommandError> {
        only_without_members(&self.all, &self.run, &self.work())?;
        only_without_encryption(&self.run, &self.work())
    }

    /// Takes the run back, the last stage first. `say` hears what nodes remark.
    ///
    /// # Errors
    /// If nodes cannot be asked, or the run cannot be recorded.
    pub fn carry_out(
        &self,
        sink: &dyn Sink,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<Finished, CommandError> {
        let inventory = &self.loaded.inventory;
        let dialer = self.dialer()?;
        let journal = self.begin(RunKind::Rollback)?;
        let serving = serving(self.loaded, &self.nodes, &dialer);
        let peers = match left_out(inventory, &self.nodes).is_empty() {
            true => Peers::Together,
            false => Peers::Stay,
        };
        let is_member = |node: &Node| inventory.is_etcd_member(node);
        let (all, run, nodes) = (&self.all, &self.run, &self.nodes);
        let plan = rollback::plan(all, run, nodes, &serving, peers, &is_member);
        let material = keys::open(self.loaded).and_then(|store| keys::material(self.loaded, store));
        let etcd = material.ok().and_then(|material| etcd_access(inventory, &material));
        if etcd.is_none() && plan.stages.iter().any(|s| s.gates.contains(&Gate::EtcdQuorum)) {
            say("the key store cannot be used: etcd's quorum is not checked");
        }
        let execution = Execution {
            etcd: etcd.as_ref(),
            ..Execution::without_contents(&plan, inventory, &dialer, &journal, sink, say)
        };
        let mut report = execute(&execution, Sessions::new()).map_err(records::stop)?;
        report.problems.extend(self.gone.iter().cloned());
        records::finish(journal, report)
    }
}

fn only_without_members(
    all: &[RunRecord],
    run: &RunRecord,
    todo: &rollback::Work<'_>,
) -> Result<(), CommandError> {
    let joined = |(_, t): &&(&Node, &TransactionRecord)| t.joins && history::is_final(all, run, t);
    let names: Vec<&str> =
        todo.values().flatten().filter(joined).map(|(n, _)| n.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(",");
    let problem = Problem::new(format!("run {} joined nodes to a cluster", run.run))
        .at(names.replace(',', ", "))
        .because("a node has to leave its cluster before its changes are undone")
        .left("nothing was changed, and no run was recorded")
        .hint(format!(
            "run `kubastion reset --nodes {names}` to remove them from the cluster and restore their original \
             state (all control planes and etcd members together, with --delete-etcd-data or --keep-etcd-data); \
             use --nodes to roll the run back on the other nodes"
        ));
    Err(CommandError::one(Exit::InvalidInput, problem))
}

/// Control planes as they were before could not read what has been encrypted since.
fn only_without_encryption(run: &RunRecord, todo: &rollback::Work<'_>) -> Result<(), CommandError> {
    let planes = todo.values().flatten().filter(|(n, _)| n.has_role(Role::ControlPlane));
    let names: BTreeSet<&str> = planes.map(|(n, _)| n.name.as_str()).collect();
    if names.is_empty() || !run.encrypts {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    let problem = Problem::new(format!("run {} started to encrypt stored objects", run.run))
        .at(names.join(", "))
        .because("the API servers before that run cannot read the objects that are encrypted now")
        .left("nothing was changed, and no run was recorded")
        .hint("use --nodes to roll the run back on the other nodes");
    Err(CommandError::one(Exit::InvalidInput, problem))
}

/// What earlier rollbacks took back of this run and of those above it, which is why this one is next.
fn rolled_back_already(all: &[RunRecord], run: &RunRecord) -> Vec<String> {
    let from = all.iter().position(|r| r.run == run.run).unwrap_or_default();
    let applies =
        all[from..].iter().filter(|r| r.kind == RunKind::Apply && r.cluster == run.cluster);
    let by = |r: &RunRecord| {
        r.transactions.iter().rev().find_map(|t| match history::later(all, r, t) {
            Some(Later::TakenBack(by) | Later::Accepted(by)) => Some(by.run.clone()),
            _ => None,
        })
    };
    applies
        .filter_map(|r| Some((r, by(r)?)))
        .map(|(r, by)| match r.run == run.run {
            true => format!("it was already rolled back by run {by}: the rollback is repeated"),
            false => format!(
                "run {} of {} was already rolled back by run {by}: going back one more run",
                r.run,
                history::began(r)
            ),
        })
        .collect()
}

/// Which of the nodes were reset since, and by which run.
fn reset_since(all: &[RunRecord], run: &RunRecord, nodes: &[&Node]) -> BTreeSet<String> {
    let of_nodes = run.transactions.iter().filter(|t| nodes.iter().any(|n| n.name == t.node));
    of_nodes
        .filter_map(|t| {
            let by = &history::taken_back_by_reset(all, t)?.run;
            Some(format!("{} is skipped: run {by} has since reset it", t.node))
        })
        .collect()
}

/// Nodes that a run changed and that the inventory does not have any more: there is no way to them.
fn gone(run: &RunRecord, inventory: &Inventory) -> Vec<Problem> {
    let changed = run.transactions.iter().filter(|t| {
        t.phase != Phase::Packages && t.outcome.as_ref().is_none_or(history::may_be_in_place)
    });
    let changed: BTreeSet<&NodeName> = changed.map(|t| &t.node).collect();
    let missing =
        changed.into_iter().filter(|name| !inventory.nodes.iter().any(|n| n.name == **name));
    missing
        .map(|name| {
            Problem::new("the run changed this node, which the inventory no longer has")
                .at(name.to_string())
                .left("it is as the run left it")
                .hint(format!(
                    "put it back into the inventory and run `kubastion rollback {} --nodes {name}`; if it was \
                     reset or no longer exists, select the other nodes with --nodes",
                    run.run
                ))
        })
        .collect()
}

/// The chosen nodes whose etcd or API server others depend on now. etcd.service is `active` only
/// once it has a quorum, and restarting it waits for that: one after another, they keep it.
fn serving(loaded: &Loaded, nodes: &[&Node], dialer: &dyn Dialer) -> BTreeSet<NodeName> {
    let candidates: Vec<&Node> = nodes
        .iter()
        .copied()
        .filter(|n| n.has_role(Role::ControlPlane) || n.has_role(Role::Etcd))
        .collect();
    let fleet = observe::read_nodes(&loaded.inventory, &loaded.files, &candidates, dialer);
    let serves = |facts: &NodeFacts| {
        facts.units.get("etcd.service").is_some_and(|u| u.active == "active")
            || facts.processes.contains_key("kube-apiserver")
    };
    if fleet.facts.answered.values().any(|s| serves(&s.facts)) {
        candidates.iter().map(|n| n.name.clone()).collect()
    } else {
        BTreeSet::new()
    }
}

/// The run that is named, or the last one that stands. Runs of all clusters whose inventories lie in one
/// directory are recorded beside each other.
fn choose<'r>(
    all: &'r [RunRecord],
    cluster: &str,
    wanted: Option<&str>,
) -> Result<&'r RunRecord, CommandError> {
    let found = match wanted {
        Some(id) => {
            let named = all.iter().find(|r| r.run == id);
            if let Some(run) = named.filter(|r| r.cluster != cluster) {
                let whose = &run.cluster;
                let what = format!("run {id} belongs to cluster {whose}, not to {cluster}");
                let problem = Problem::new(what).left("nothing was changed");
                let hint = "set --inventory to that cluster's inventory, or name another run (see `kubastion runs`)";
                return Err(CommandError::one(Exit::InvalidInput, problem.hint(hint)));
            }
            named
        }
        None => {
            // What was taken back since, by a rollback or a reset, is not there to be rolled back again.
            all.iter().rev().find(|r| {
                r.kind == RunKind::Apply
                    && r.cluster == cluster
                    && r.transactions.iter().any(|t| history::is_in_place(all, r, t))
            })
        }
    };
    found.ok_or_else(|| {
        let what = wanted.map_or_else(
            || format!("there is no apply of cluster {cluster} to roll back"),
            |id| format!("there is no run `{id}`"),
        );
        CommandError::one(
            Exit::InvalidInput,
            Problem::new(what).hint("run `kubastion runs` to list the runs"),
        )
    })
}

/// A run without a record on this machine, rebuilt from the transactions that nodes have open.
fn known_to_nodes<'a>(
    id: &str,
    cluster: &str,
    open: impl Iterator<Item = (&'a NodeName, &'a str)>,
) -> Option<RunRecord> {
    let transactions: Vec<TransactionRecord> = open
        .filter_map(|(node, of_node)| {
            let rest = of_node.strip_prefix(id)?.strip_prefix('-')?;
            let phase = Phase::of_transaction(of_node)?;
            // Runs of before had no number there. Which stage it was of other nodes does not say.
            let number = rest.strip_suffix(phase.name())?;
            let is_ours = number.is_empty() || number.strip_suffix('-')?.parse::<u32>().is_ok();
            let begun =
                TransactionRecord::begun(node.clone(), phase, of_node.to_owned(), phase as u32);
            is_ours.then_some(begun)
        })
        .collect();
    let begun = RunRecord::begun(id.into(), String::new(), RunKind::Apply, cluster.into());
    (!transactions.is_empty()).then_some(RunRecord { transactions, ..begun })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;
    use crate::runs::outcome::{Outcome, Reset};
    use crate::runs::record::testing::{done, reset_of, run};
    use crate::runs::record::{Line, read_all};
    use crate::workflow::inventory::{HostKeys, read};

    /// What a rollback of the last run that stands ends with, if it ends before nodes are asked.
    fn refused(inventory: &std::path::Path) -> CommandError {
        let loaded = read(inventory, HostKeys::Required).unwrap();
        let reach = Reach::default();
        Rollback::of(&loaded, None, &reach).and_then(|r| r.refuse_members()).unwrap_err()
    }

    #[test]
    fn a_reset_counts_by_what_it_took_back_and_not_by_the_clock() {
        let first = || run("1", RunKind::Apply, "1-host", Outcome::Committed);
        // The clock of whoever reset it was behind.
        assert!(choose(&[reset_of("n", &["1-host"]), first()], "c", None).is_err());
        let another = [reset_of("n", &["0-host"]), first()];
        assert_eq!(choose(&another, "c", None).unwrap().run, "1");
        // What it had not been able to take back is there still.
        let mut half = reset_of("n", &["2-host"]);
        half.reset.values_mut().for_each(|r| r.outcome = Outcome::Incomplete { why: "w".into() });
        let all = [first(), run("2", RunKind::Apply, "2-host", Outcome::Committed), half];
        assert_eq!(choose(&all, "c", None).unwrap().run, "1");
    }

    #[test]
    fn runs_of_another_cluster_in_the_same_directory_are_not_rolled_back() {
        let other = RunRecord {
            cluster: "d".into(),
            ..run("2", RunKind::Apply, "2-host", Outcome::Committed)
        };
        let all = [run("1", RunKind::Apply, "1-host", Outcome::Committed), other];
        assert_eq!(choose(&all, "c", None).unwrap().run, "1");
        assert_eq!(choose(&all, "d", None).unwrap().run, "2");
        let stop = choose(&all, "c", Some("2")).unwrap_err();
        assert_eq!(stop.exit, Exit::InvalidInput);
        assert!(stop.problems[0].what.contains("belongs to cluster d"), "{:?}", stop.problems);
        assert_eq!(choose(&all, "e", None).unwrap_err().exit, Exit::InvalidInput);
    }

    #[test]
    fn a_node_that_the_inventory_lacks_is_a_problem_unless_nothing_stands_on_it() {
        let refused = || Some(Outcome::Refused { why: String::new() });
        let record = RunRecord {
            transactions: vec![
                done("cp1", Phase::Host, "a", Some(Outcome::Committed)),
                done("gone", Phase::Host, "b", Some(Outcome::Committed)),
                done("gone", Phase::Etcd, "c", None),
                done("cut-off", Phase::Host, "d", None),
                done("untouched", Phase::Host, "e", refused()),
                done("packages", Phase::Packages, "f", Some(Outcome::Committed)),
            ],
            ..run("1", RunKind::Apply, "", Outcome::Committed)
        };
        let inventory = testing::two_and_two();
        let problems = gone(&record, &inventory);
        let places: Vec<&str> = problems.iter().filter_map(|p| p.place.as_deref()).collect();
        assert_eq!(places, ["cut-off", "gone"]);
        assert!(problems.iter().all(|p| p.state.is_some() && p.hint.is_some()), "{problems:?}");
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let todo = |all: &[RunRecord]| -> usize {
            rollback::work(all, &record, &nodes).values().map(Vec::len).sum()
        };
        assert_eq!(todo(std::slice::from_ref(&record)), 1);
        let reset = reset_of("cp1", &["a"]);
        let all = [record.clone(), reset];
        assert_eq!(todo(&all), 0, "it was reset since");
        let said: Vec<String> = reset_since(&all, &record, &nodes).into_iter().collect();
        assert_eq!(said, ["cp1 is skipped: run 3 has since reset it"]);
        // Of a reset that took back something else the node is asked, whatever the clocks say.
        let all = [record.clone(), reset_of("cp1", &["0-host"])];
        assert_eq!((todo(&all), reset_since(&all, &record, &nodes).len()), (1, 0));
    }

    #[test]
    fn a_rollback_on_no_node_is_an_error_and_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = testing::file_in(dir.path());
        let journal = Journal::begin(dir.path(), RunKind::Apply, None, "c", Clock::System).unwrap();
        let (node, phase): (NodeName, _) = ("m".parse().unwrap(), Phase::Host);
        let line = Line::Transaction {
            node: node.clone(),
            phase,
            id: "1-host".into(),
            stage: None,
            joins: false,
            from_pod: false,
        };
        journal.write(&line).unwrap();
        journal.write(&Line::Result { node, phase, outcome: Outcome::Committed }).unwrap();
        drop(journal);
        let stop = refused(&inventory);
        assert_eq!(stop.exit, Exit::InvalidInput);
        let said: String = stop.problems.iter().map(ToString::to_string).collect();
        assert!(
            said.contains("nothing to roll back") && said.contains("m: the run changed"),
            "{said}"
        );
        assert_eq!(read_all(dir.path()).unwrap().runs.len(), 1, "a rollback was recorded");
    }

    #[test]
    fn a_second_rollback_goes_one_run_further_back() {
        let reverted = Outcome::Reverted { why: String::new() };
        let mut all = vec![
            run("1", RunKind::Apply, "1-host", Outcome::Committed),
            run("2", RunKind::Apply, "2-host", Outcome::Committed),
            run("3", RunKind::Apply, "3-host", reverted),
        ];
        assert_eq!(choose(&all, "c", None).unwrap().run, "2");
        all.push(run("4", RunKind::Rollback, "2-host", Outcome::Committed));
        assert_eq!(choose(&all, "c", None).unwrap().run, "1");
        all.push(run("5", RunKind::Rollback, "1-host", Outcome::Committed));
        assert!(choose(&all, "c", None).is_err());
        assert_eq!(choose(&all, "c", Some("2")).unwrap().run, "2");
    }

    #[test]
    fn what_an_apply_settled_can_be_taken_back_once() {
        let cut_off = || RunRecord {
            transactions: vec![done("n", Phase::Host, "2-host", None)],
            ..run("2", RunKind::Apply, "", Outcome::Committed)
        };
        let mut all = vec![
            run("1", RunKind::Apply, "1-host", Outcome::Committed),
            cut_off(),
            run("3", RunKind::Settle, "2-host", Outcome::Committed),
        ];
        assert_eq!(choose(&all, "c", None).unwrap().run, "2");
        all.push(run("4", RunKind::Rollback, "2-host", Outcome::Committed));
        assert_eq!(choose(&all, "c", None).unwrap().run, "1");
        // The clock of whoever rolled it back was behind.
        let all =
            [run("4", RunKind::Rollback, "2-host", Outcome::Committed), all[0].clone(), cut_off()];
        assert_eq!(choose(&all, "c", None).unwrap().run, "1");
    }

    #[test]
    fn a_join_that_did_not_end_well_is_for_the_node_to_judge() {
        let nodes = testing::two_and_two();
        let w1 = nodes.nodes.iter().find(|n| n.name.as_str() == "w1").unwrap();
        let refused = |outcome: Option<Outcome>, later: &[RunRecord]| {
            let joined = TransactionRecord {
                began: None,
                ended: None,
                joins: true,
                ..done("w1", Phase::Kubernetes, "1-kubernetes", outcome)
            };
            let first = RunRecord {
                transactions: vec![joined],
                ..run("1", RunKind::Apply, "", Outcome::Committed)
            };
            let all = [std::slice::from_ref(&first), later].concat();
            only_without_members(&all, &first, &rollback::work(&[], &first, &[w1])).is_err()
        };
        let why = || "half of it".to_owned();
        assert!(refused(Some(Outcome::Committed), &[]));
        assert!(refused(Some(Outcome::Unready { why: why() }), &[]));
        assert!(!refused(Some(Outcome::Incomplete { why: why() }), &[]));
        assert!(!refused(None, &[]));
        let settled = |outcome| RunRecord {
            transactions: vec![done("w1", Phase::Kubernetes, "1-kubernetes", Some(outcome))],
            ..run("2", RunKind::Settle, "", Outcome::Committed)
        };
        assert!(refused(None, &[settled(Outcome::Committed)]));
        assert!(!refused(None, &[settled(Outcome::Committed), reset_of("w1", &[])]));
    }

    #[test]
    fn a_rollback_says_that_it_goes_further_back() {
        let mut all = vec![
            run("1", RunKind::Apply, "1-host", Outcome::Committed),
            run("2", RunKind::Apply, "2-host", Outcome::Committed),
        ];
        assert!(rolled_back_already(&all, &all[1]).is_empty());
        all.push(run("3", RunKind::Rollback, "2-host", Outcome::Committed));
        let said = rolled_back_already(&all, &all[0]);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("run 2 of") && said[0].contains("by run 3"), "{said:?}");
        let again = rolled_back_already(&all, &all[1]);
        assert!(again[0].contains("it was already rolled back by run 3"), "{again:?}");
        // Of one node alone, it stands on the others.
        all[1].transactions.push(done("m", Phase::Host, "2-host", Some(Outcome::Committed)));
        assert_eq!(choose(&all, "c", None).unwrap().run, "2");
    }

    #[test]
    fn a_run_that_joined_nodes_is_refused_before_anything_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = testing::file_in(dir.path());
        let node = || -> NodeName { "n".parse().unwrap() };
        let write = |kind: RunKind, lines: &[Line]| {
            let journal = Journal::begin(dir.path(), kind, None, "c", Clock::System).unwrap();
            lines.iter().for_each(|line| journal.write(line).unwrap());
        };
        let (phase, outcome) = (Phase::Kubernetes, Outcome::Committed);
        let id = "1-kubernetes".to_owned();
        let result = Line::Result { node: node(), phase, outcome: outcome.clone() };
        let begun = Line::Transaction {
            node: node(),
            phase,
            id: id.clone(),
            stage: Some(1),
            joins: true,
            from_pod: false,
        };
        write(RunKind::Apply, &[begun, result]);
        let stop = refused(&inventory);
        assert_eq!(stop.exit, Exit::InvalidInput);
        let said: String = stop.problems.iter().map(ToString::to_string).collect();
        for words in ["n: run ", "joined nodes to a cluster", "`kubastion reset --nodes n`"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(read_all(dir.path()).unwrap().runs.len(), 1, "a rollback was recorded");
        // After the reset, nothing of it is there.
        let reset = Reset { outcome, taken_back: vec![id] };
        write(RunKind::Reset, &[Line::Reset { node: node(), reset }]);
        let stop = refused(&inventory);
        assert!(
            stop.problems[0].what.contains("no apply of cluster c to roll back"),
            "{:?}",
            stop.problems
        );
    }

    #[test]
    fn a_run_that_others_recorded_is_known_by_what_nodes_have_open_of_it() {
        let name: NodeName = "n".parse().unwrap();
        let ids = ["7-a-etcd", "7-a-2-host", "8-b-1-host", "7-a-none", "7-a-x-host", "7-a"];
        let open = || ids.into_iter().map(|id| (&name, id));
        let run = known_to_nodes("7-a", "c", open()).unwrap();
        let of: Vec<_> =
            run.transactions.iter().map(|t| (&t.node, t.id.as_str(), t.phase)).collect();
        let wanted = [(&name, "7-a-etcd", Phase::Etcd), (&name, "7-a-2-host", Phase::Host)];
        assert_eq!(of, wanted);
        assert!(known_to_nodes("7", "c", open()).is_none());
    }
}
