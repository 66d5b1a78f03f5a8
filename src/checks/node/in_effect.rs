//! Daemons as they run: command line, environment, program, files changed since the start, ports, and second processes.

use crate::checks::model::verdict;
use crate::checks::rule::plain_path;
use std::collections::BTreeSet;

use crate::checks::basis::{Basis, Judged, flag_values, needs, running};
use crate::checks::model::Verdict;
use crate::checks::observed::{ETCD_UNIT, unit_process};
use crate::checks::rule::{self, loopback, shown};
use crate::controls::daemons::{ANY_PROGRAM, DaemonRow, Loopback};
use crate::controls::paths::PROGRAM_DIRECTORIES;
use crate::controls::{CATALOGUE, Check, Daemon, Rule};
use crate::facts::live::{LiveFacts, LiveProcess, PathAccess};

/// Moments of a start and of a change are compared to this, in seconds: the kernel counts starts in hundredths.
const PRECISION_S: f64 = 0.01;

/// A mount that went so short a time before a start may have gone after it: no clock tells, and nobody mounts there.
const MOUNT_MARGIN_S: f64 = 0.1;

/// The verdict on a daemon as it runs.
pub(in crate::checks) fn daemon(daemon: Daemon, on: &Basis<'_>) -> Judged {
    let Some(live) = &on.seen.live else {
        return match running(daemon, on) {
            Err(verdict) => verdict.into(),
            Ok(_) => on.seen.blind("the live state was not read").into(),
        };
    };
    let row = DaemonRow::of(daemon);
    let found: Vec<&LiveProcess> = live.processes.iter().filter(|p| is(p, daemon)).collect();
    let [process] = found.as_slice() else {
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
    wrong.extend(program(row, process));
    wrong.extend(unit(row, process, live));
    wrong.extend(environment(row, process));
    wrong.extend(flags(row, process, on));
    wrong.extend(changed(row, process, live));
    match covered(row, process, live) {
        Ok(covered) => wrong.extend(covered),
        Err(verdict) => return verdict.into(),
    }
    // What pods see was compared above.
    if let Some(unit) = row.unit {
        match mounts_since(process.began_s, row.reads_at_start, live) {
            Some(paths) => wrong.extend(paths.into_iter().map(|p| {
                format!("something was mounted over {p} after the start (run `systemctl restart {unit}`)")
            })),
            None => return Verdict::unknown("the journal was not read for mounts that are gone").into(),
        }
    }
    wrong.extend(sockets(row, process, live));
    if live.sockets.is_none() {
        return Verdict::unknown("ss listed no listening sockets").into();
    }
    verdict(&format!("{} as it was configured", daemon.program()), wrong, || {
        format!("process {}, by its own command line, files and ports", process.pid)
    })
    .into()
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

fn program(row: &DaemonRow, process: &LiveProcess) -> Option<String> {
    let path = process.program.as_str();
    if let Some(path) = path.strip_suffix(" (deleted)") {
        return Some(format!("{} was replaced after the start: restart it", plain_path(path)));
    }
    if path.is_empty() {
        return Some("its program file is unknown".into());
    }
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
    if row.daemon == Daemon::Etcd {
        return etcd_flags(process, on);
    }
    let staged = on.seen.staged.argv(row.daemon);
    let mut wrong = Vec::new();
    for name in names(&process.argv) {
        let values = flag_values(&process.argv, &name, false);
        let value = values.join(",");
        let wanted = staged.map(|argv| flag_values(argv, &name, false)).unwrap_or_default();
        if !wanted.is_empty() {
            if !same(&wanted, &values) {
                let (wanted, value) = (shown(Some(&wanted.join(","))), shown(Some(&value)));
                wrong.push(format!("--{name} is {value}, and kubeadm's file says {wanted}"));
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
    let words = process.argv.iter().skip(1).filter(|w| !w.starts_with('-')).count();
    if words > 0 && row.daemon != Daemon::Containerd {
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
    let later = |access: &PathAccess| access.changed_s > process.began_s + PRECISION_S;
    let all = live.paths.iter().chain(&live.trees);
    let read = |path: &str| {
        row.reads_at_start.iter().any(|r| {
            path.strip_prefix(r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let paths: BTreeSet<&String> =
        all.filter(|(p, a)| read(p) && later(a)).map(|(p, _)| p).collect();
    let again = match row.unit {
        Some(unit) => format!("run `systemctl restart {unit}`"),
        None => format!("run `kill {}`: the kubelet restarts it", process.pid),
    };
    paths
        .into_iter()
        .map(|p| format!("{} changed after the start ({again})", plain_path(p)))
        .collect()
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
            None => Err(Verdict::unknown("the node did not report the files that it sees")),
        };
    };
    let must_see = row.reads_at_start.iter().filter(|p| live.files.contains_key(**p));
    let missing =
        must_see.filter(|p| !inside.contains_key(**p)).map(|p| format!("it does not see {p}"));
    let differs = inside.iter().filter(|(path, digest)| live.files.get(*path) != Some(*digest));
    let differs = differs.map(|(path, _)| {
        format!("it sees another {} than the node does: restart it", plain_path(path))
    });
    Ok(missing.chain(differs).collect())
}

/// Places where something was mounted or unmounted since then, and that a daemon reads, or that such a mount covers. What
/// it read is unknown then. `None` if the journal was not read; one that does not reach back so far tells less.
pub(in crate::checks) fn mounts_since(
    began_s: f64,
    reads: &[&str],
    live: &LiveFacts,
) -> Option<BTreeSet<String>> {
    let within = |path: &str, dir: &str| {
        let dir = dir.trim_end_matches('/');
        path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let concerns = |path: &str| reads.iter().any(|r| within(r, path) || within(path, r));
    let since = live.mounts.as_ref()?.iter().filter(|m| m.at_s > began_s - MOUNT_MARGIN_S);
    Some(since.filter(|m| concerns(&m.path)).map(|m| plain_path(&m.path)).collect())
}

fn sockets(row: &DaemonRow, process: &LiveProcess, live: &LiveFacts) -> Vec<String> {
    let sockets = live.sockets.as_deref().unwrap_or_default();
    let wrong = sockets.iter().filter(|s| {
        let tolerated = row.loopback == Loopback::Any && loopback(&s.address);
        s.owners.contains(&process.pid) && !row.ports.contains(&s.port) && !tolerated
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
