//! Daemons as they run: command line, environment, program, files changed since the start, ports, and second processes.

use crate::checks::model::verdict;
use crate::checks::rule::plain_path;
use std::collections::{BTreeMap, BTreeSet};

use crate::checks::basis::{Basis, Judged, flag_values, needs, running};
use crate::checks::model::Verdict;
use crate::checks::observed::{ETCD_UNIT, unit_process};
use crate::checks::rule::{self, loopback, shown};
use crate::controls::daemons::{ANY_PROGRAM, DaemonRow, Loopback};
use crate::controls::paths::PROGRAM_DIRECTORIES;
use crate::controls::{self, CATALOGUE, Check, Daemon, Rule};
use crate::facts::live::{LiveFacts, LiveProcess};
use crate::inventory::{ArgumentValues, Component};

/// Moments of a start and of a change are compared to this, in seconds: the kernel counts starts in hundredths.
const PRECISION_S: f64 = 0.01;

/// A mount that went so short a time before a start may have gone after it: no clock tells, and nobody mounts there.
const MOUNT_MARGIN_S: f64 = 0.1;

/// A journal to which nothing was written for so long is not kept any more: a login is written to it, ours among them.
const SILENCE_S: f64 = 3600.0;

/// The verdict on a daemon as it runs.
pub(in crate::checks) fn daemon(daemon: Daemon, on: &Basis<'_>) -> Judged {
    if let Some(why) = not_ours(daemon, on) {
        return Verdict::not_applicable(why).into();
    }
    let live = match on.seen.live() {
        Ok(live) => live,
        Err(unread) => return running(daemon, on).err().unwrap_or(unread).into(),
    };
    let row = DaemonRow::by(on.inventory, daemon);
    let found: Vec<&LiveProcess> = live.processes.iter().filter(|p| is(p, daemon)).collect();
    let firsts = match row.forks {
        true => without_descendants(&found),
        false => found.clone(),
    };
    let [process] = firsts.as_slice() else {
        let found = firsts;
        return match found.len() {
            0 => running(daemon, on).err().unwrap_or_else(|| needs(daemon)),
            _ => {
                let pids: Vec<String> = found.iter().map(|p| p.pid.to_string()).collect();
                Verdict::fail(
                    format!("one {}", daemon.program()),
                    format!("{} run: processes {}", found.len(), pids.join(", ")),
                )
            }
        }
        .into();
    };
    let mut wrong: Vec<String> = Vec::new();
    // A process that it has started runs the same program, and goes by its command line.
    wrong.extend(found.iter().filter_map(|p| program(row, p)));
    wrong.extend(unit(row, process, live));
    wrong.extend(environment(row, process));
    wrong.extend(flags(row, process, on));
    wrong.extend(changed(row, process, live));
    wrong.extend(added_configuration(row, process, live));
    match covered(row, process, live) {
        Ok(covered) => wrong.extend(covered),
        Err(verdict) => return verdict.into(),
    }
    // What pods see was compared above.
    if let Some(unit) = row.unit {
        let reads: Vec<&str> =
            row.reads_at_start.iter().chain(row.reads_on_reload).copied().collect();
        match mounts_since(process.began_s, &reads, live) {
            Ok(paths) => wrong.extend(paths.into_iter().map(|p| {
                format!(
                    "a mount over {p} was made after the start (run `systemctl restart {unit}`)"
                )
            })),
            Err(verdict) => return verdict.into(),
        }
    }
    wrong.extend(sockets(row, &found, live, on));
    if live.sockets.is_none() {
        return Verdict::unknown("ss listed no listening sockets").into();
    }
    verdict(&format!("{} as configured", daemon.program()), wrong, || {
        format!("process {}, by its own command line, files and ports", process.pid)
    })
    .into()
}

/// Why there is no such daemon of ours on the node, if there is none to be.
pub(super) fn not_ours(daemon: Daemon, on: &Basis<'_>) -> Option<&'static str> {
    let is_of_endpoint = matches!(daemon, Daemon::Haproxy | Daemon::Keepalived);
    (is_of_endpoint && on.inventory.cluster.virtual_address().is_none())
        .then_some("the endpoint's load balancer is not managed (cluster.load_balancer.mode)")
}

/// Those that none of the others has started, at whatever remove.
fn without_descendants<'a>(all: &[&'a LiveProcess]) -> Vec<&'a LiveProcess> {
    let is_started =
        |p: &LiveProcess| all.iter().any(|other| other.pid == p.parent && other.pid != p.pid);
    all.iter().copied().filter(|p| !is_started(p)).collect()
}

/// Whether a process is this daemon, by its program or by its name, in the node's own network.
fn is(process: &LiveProcess, daemon: Daemon) -> bool {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let program = base(process.program.trim_end_matches(" (deleted)"));
    let called = process.argv.first().map(|a| base(a)).unwrap_or_default();
    let by_name = process.comm == daemon.comm()
        && (daemon.program().len() <= 15 || called == daemon.program());
    process.on_node && (program == daemon.program() || by_name)
}

/// That a process runs a program that is no longer in its file, or that nobody could see.
pub(super) fn replaced(process: &LiveProcess) -> Option<String> {
    let path = process.program.as_str();
    if let Some(path) = path.strip_suffix(" (deleted)") {
        return Some(format!(
            "{} was replaced after the start: restart the daemon",
            plain_path(path)
        ));
    }
    path.is_empty().then(|| "its program file is unknown".into())
}

fn program(row: &DaemonRow, process: &LiveProcess) -> Option<String> {
    if let Some(why) = replaced(process) {
        return Some(why);
    }
    let path = process.program.as_str();
    // The root directory of a pod is that of its image.
    let known = row.programs.is_empty() || row.programs.contains(&path);
    (!known).then(|| format!("it runs {}", plain_path(path)))
}

fn unit(row: &DaemonRow, process: &LiveProcess, live: &LiveFacts) -> Option<String> {
    let name = row.unit?;
    match live.units.get(name) {
        None => Some(format!("systemd did not report {name}")),
        Some(unit) if unit.main_pid != process.pid => {
            Some(format!("process {} was not started by {name}", process.pid))
        }
        Some(_) => None,
    }
}

fn environment(row: &DaemonRow, process: &LiveProcess) -> Option<String> {
    let changes = |name: &&String| {
        ANY_PROGRAM.iter().chain(row.environment).any(|prefix| name.starts_with(prefix))
            && !row.own_environment.contains(&name.as_str())
    };
    let names: Vec<String> =
        process.environment.iter().filter(changes).map(|n| plain_path(n)).collect();
    if !names.is_empty() {
        return Some(format!("its environment has {}", names.join(", ")));
    }
    // A pod's PATH comes from its image.
    row.unit?;
    let other = process.path.iter().find(|dir| !PROGRAM_DIRECTORIES.contains(&dir.as_str()))?;
    Some(format!("its PATH has {}", plain_path(other)))
}

/// Flags in both directions: missing ones and unexpected ones.
fn flags(row: &DaemonRow, process: &LiveProcess, on: &Basis<'_>) -> Vec<String> {
    if row.daemon == Daemon::Etcd && row.unit.is_some() {
        return etcd_flags(process, on);
    }
    let staged = on.seen.staged.argv(row.daemon);
    // Where kubeadm's file says nothing: for a kubelet, and for an existing cluster that has not been changed yet.
    let passed = Component::ALL.iter().find(|c| controls::daemon(**c) == row.daemon);
    let passed = passed.map(|c| on.inventory.extra_args(*c)).filter(|_| staged.is_none());
    let passed: BTreeMap<&str, &[String]> = passed
        .into_iter()
        .flatten()
        .filter(|(name, _)| !controls::is_list(row.daemon, name))
        .map(|(name, ArgumentValues(values))| (name.as_str(), values.as_slice()))
        .collect();
    let mut wrong = Vec::new();
    for name in names(&process.argv) {
        let values = flag_values(&process.argv, &name, false);
        let value = values.join(",");
        let wanted = staged.map(|argv| flag_values(argv, &name, false)).unwrap_or_default();
        let (wanted, who) = match passed.get(name.as_str()) {
            Some(values) => (values.to_vec(), "the inventory"),
            None => (wanted, "kubeadm's file"),
        };
        if !wanted.is_empty() {
            if !same(&wanted, &values) {
                let (wanted, value) = (shown(Some(&wanted.join(","))), shown(Some(&value)));
                wrong.push(format!("--{name} is {value}, and {who} says {wanted}"));
            }
            continue;
        }
        match row.flags.iter().find(|(known, _)| *known == name) {
            Some((_, wanted)) => {
                if let Verdict::Fail { expected, actual } = rule::judge(wanted, Some(&value)) {
                    wrong.push(format!("--{name} is {actual}, expected {expected}"));
                }
            }
            // A control judges its value; that nothing asks for it is worth saying only of others.
            None if judged_elsewhere(row.daemon, &name) => {}
            None => wrong.push(format!("--{name} is not an expected flag")),
        }
    }
    for name in staged.map(names).unwrap_or_default() {
        if flag_values(&process.argv, &name, false).is_empty() {
            wrong.push(format!("--{name}, set in kubeadm's file, is missing"));
        }
    }
    for name in passed.keys() {
        if flag_values(&process.argv, name, false).is_empty() {
            wrong.push(format!("--{name}, set in the inventory, is missing"));
        }
    }
    let words = process.argv.iter().skip(1).filter(|w| !w.starts_with('-')).count();
    if words > 0 && !row.values_apart {
        wrong.push("it has arguments that are not flags".into());
    }
    wrong
}

/// Words that say the same, in whatever order a flag was repeated.
fn same(a: &[String], b: &[String]) -> bool {
    let parts =
        |v: &[String]| -> Vec<String> { v.join(",").split(',').map(str::to_owned).collect() };
    a == b || parts(a) == parts(b)
}

fn judged_elsewhere(daemon: Daemon, name: &str) -> bool {
    let with_value = |rule: &Rule| {
        !matches!(
            rule,
            Rule::Absent | Rule::IsOrAbsent(_) | Rule::OneOfOrAbsent(_) | Rule::Lacks(_)
        )
    };
    CATALOGUE.iter().flat_map(|c| c.checks).any(|check| match check {
        Check::Flag(d, n, rule, _) => *d == daemon && *n == name && with_value(rule),
        Check::Setting(config, _, _, Some(n), _) => config.daemon() == daemon && *n == name,
        _ => false,
    })
}

/// The names of the flags of a command line, each once.
fn names(argv: &[String]) -> BTreeSet<String> {
    let name = |word: &String| {
        let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        Some(flag.split('=').next()?.replace('_', "-"))
    };
    argv.iter().skip(1).filter_map(name).collect()
}

/// etcd's unit is ours: its command line is the one there, word by word.
fn etcd_flags(process: &LiveProcess, on: &Basis<'_>) -> Vec<String> {
    let Some(Some(text)) = on.seen.texts.get(ETCD_UNIT) else {
        return vec![format!("{ETCD_UNIT} could not be read")];
    };
    let Some(wanted) = unit_process(text) else {
        return vec![format!("{ETCD_UNIT} starts nothing")];
    };
    let (wanted, given) = (&wanted.argv[1..], process.argv.get(1..).unwrap_or_default());
    let lacks = wanted
        .iter()
        .filter(|w| !given.contains(w))
        .map(|w| format!("{} of its unit is missing", shown(Some(w))));
    let more = given
        .iter()
        .filter(|g| !wanted.contains(g))
        .map(|g| format!("{} is not in its unit", shown(Some(g))));
    lacks.chain(more).collect()
}

/// Files that it read at its start and that changed since: what it runs with is unknown.
fn changed(row: &DaemonRow, process: &LiveProcess, live: &LiveFacts) -> Vec<String> {
    let later = |reads: &[&str], since_s: f64| -> BTreeSet<String> {
        let is_read = |path: &str| {
            reads.iter().any(|r| {
                path.strip_prefix(r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let all = live.paths.iter().chain(&live.trees);
        all.filter(|(p, a)| is_read(p) && a.changed_s > since_s + PRECISION_S)
            .map(|(p, _)| plain_path(p))
            .collect()
    };
    let again = match row.unit {
        Some(unit) => format!("run `systemctl restart {unit}`"),
        None => format!("run `kill {}`: the kubelet restarts it", process.pid),
    };
    let mut changed: Vec<String> = later(row.reads_at_start, process.began_s)
        .into_iter()
        .map(|p| format!("{p} changed after the start ({again})"))
        .collect();
    if let (Some(unit), false) = (row.unit, row.reads_on_reload.is_empty()) {
        // systemd notes when a unit was started or reloaded; who signals the process himself is not seen there.
        let noted = live.units.get(unit).and_then(|u| u.changed_s);
        let Some(noted) = noted else {
            changed.push(format!("systemd did not report when {unit} was started or reloaded"));
            return changed;
        };
        let since_s = process.began_s.max(noted.0 as f64 / 1e6);
        changed.extend(
            later(row.reads_on_reload, since_s)
                .into_iter()
                .map(|p| format!("{p} changed after it was read (run `systemctl reload {unit}`)")),
        );
    }
    changed
}

/// Files in a directory of configuration that a unit reads as a whole and that holds none of ours.
fn added_configuration(row: &DaemonRow, process: &LiveProcess, live: &LiveFacts) -> Vec<String> {
    let Some(dir) = row.reads_on_reload.iter().find(|p| p.ends_with(".d")) else {
        return Vec::new();
    };
    if !process.argv.iter().any(|word| word == dir) {
        return Vec::new();
    }
    let is_in = |path: &&String| {
        path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/') && rest.ends_with(".cfg"))
    };
    let found = live.trees.keys().filter(is_in);
    found.map(|p| format!("it also reads {}", plain_path(p))).collect()
}

/// Files that it sees in its mount namespace and the node does not: something was mounted over them when it started.
fn covered(
    row: &DaemonRow,
    process: &LiveProcess,
    live: &LiveFacts,
) -> Result<Vec<String>, Verdict> {
    let Some(inside) = live.inside.get(&process.pid) else {
        // A pod always has a mount namespace of its own.
        return match row.unit {
            Some(_) => Ok(Vec::new()),
            None => Err(Verdict::unknown("the node did not report the files that the daemon sees")),
        };
    };
    let reads = row.reads_at_start.iter().chain(row.reads_on_reload);
    let must_see = reads.filter(|p| live.files.contains_key(**p));
    let missing =
        must_see.filter(|p| !inside.contains_key(**p)).map(|p| format!("it does not see {p}"));
    let differs = inside.iter().filter(|(path, digest)| live.files.get(*path) != Some(*digest));
    let differs = differs.map(|(path, _)| {
        format!("its {} differs from the node's: restart the daemon", plain_path(path))
    });
    Ok(missing.chain(differs).collect())
}

/// Places where something was mounted or unmounted since then, and that a daemon reads, or that such a mount covers. What
/// it read is unknown then.
///
/// # Errors
/// The verdict where the journal does not tell: it was not read, was emptied, or journald has not written to it since. One whose oldest
/// files were put aside tells less.
pub(in crate::checks) fn mounts_since(
    began_s: f64,
    reads: &[&str],
    live: &LiveFacts,
) -> Result<BTreeSet<String>, Verdict> {
    let unknown = |why: &str| Err(Verdict::unknown(format!("removed mounts: {why}")));
    let Some(mounts) = &live.mounts else { return unknown("the journal was not searched") };
    let Some(journal) = &live.journal else {
        return unknown(
            "the journal of this boot is empty: start systemd-journald, then restart the daemon",
        );
    };
    if !journal.has_mounts {
        return unknown(
            "systemd does not log them: run `systemctl log-level info`, then restart the daemon",
        );
    }
    if journal.ended_s < began_s || journal.ended_s < live.now_s - SILENCE_S {
        return unknown(
            "journald has written nothing for an hour or more: start systemd-journald, then restart the daemon",
        );
    }
    if journal.began_s > began_s && !journal.was_rotated {
        return unknown(
            "the journal begins after the daemon's start, and no older file of it is kept: restart the daemon",
        );
    }
    let within = |path: &str, dir: &str| {
        let dir = dir.trim_end_matches('/');
        path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let concerns = |path: &str| reads.iter().any(|r| within(r, path) || within(path, r));
    let since = mounts.iter().filter(|m| m.at_s > began_s - MOUNT_MARGIN_S);
    Ok(since.filter(|m| concerns(&m.path)).map(|m| plain_path(&m.path)).collect())
}

fn sockets(
    row: &DaemonRow,
    processes: &[&LiveProcess],
    live: &LiveFacts,
    on: &Basis<'_>,
) -> Vec<String> {
    let sockets = live.sockets.as_deref().unwrap_or_default();
    let endpoint = match row.daemon {
        Daemon::Haproxy => on.inventory.cluster.virtual_address(),
        _ => None,
    };
    let wrong = sockets.iter().filter(|s| {
        let is_tolerated = row.loopback == Loopback::Any && loopback(&s.address);
        let is_endpoint =
            endpoint.is_some_and(|e| e.port == s.port && s.address.parse() == Ok(e.address));
        processes.iter().any(|p| s.owners.contains(&p.pid))
            && !row.ports.contains(&s.port)
            && !is_tolerated
            && !is_endpoint
    });
    wrong.map(|s| format!("it listens on {} port {} ({})", s.address, s.port, s.protocol)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_whatever_their_form() {
        let argv = ["x", "--a=b", "-c", "--d_e=f", "word"].map(str::to_owned);
        let found: Vec<String> = names(&argv).into_iter().collect();
        assert_eq!(found, ["a", "c", "d-e"]);
    }

    #[test]
    fn a_list_is_the_same_in_one_flag_and_in_two() {
        let of = |v: &[&str]| -> Vec<String> { v.iter().map(|s| (*s).to_owned()).collect() };
        assert!(same(&of(&["a,b"]), &of(&["a", "b"])));
        assert!(!same(&of(&["a"]), &of(&["a", "b"])));
    }
}
