//! What rows of the catalogue say of restarts, beside what a plan starts again.

use std::collections::{BTreeMap, BTreeSet};

use super::{bundled, desired_with, facts, facts_with_addresses};
use crate::controls::settings::{self, FlagOrSetting};
use crate::controls::{CATALOGUE, Check, Control, Daemon, DaemonRow, find};
use crate::desired::{ItemKind, NodeDesired, OnChange};

/// Daemons that are not started again because a file has another owner or mode.
fn is_about_access(control: &Control) -> bool {
    control.checks.iter().all(|c| matches!(c, Check::Path(_) | Check::Tree(_) | Check::Gone(_)))
}

/// Daemons that a plan starts again for the content of a path, by the table that it goes by itself: what units watch.
fn watchers(desired: &NodeDesired) -> BTreeMap<&str, BTreeSet<Daemon>> {
    let mut of: BTreeMap<&str, BTreeSet<Daemon>> = BTreeMap::new();
    for item in &desired.items {
        let ItemKind::Unit { name, on_change: OnChange::Restart, watches, .. } = &item.kind else {
            continue;
        };
        let rows = crate::controls::daemons::DAEMONS.iter();
        let Some(row) = rows.clone().find(|r| r.unit == Some(name)) else { continue };
        for path in watches {
            of.entry(path).or_default().insert(row.daemon);
        }
    }
    of
}

#[test]
fn a_row_names_every_daemon_that_is_started_again_for_it() {
    let mut reasons: BTreeMap<&str, BTreeSet<Daemon>> = BTreeMap::new();
    // A command line and a configuration file are read once.
    for row in settings::rows() {
        let daemon = match row.subject {
            FlagOrSetting::Flag(daemon, _) => daemon,
            FlagOrSetting::Setting(config, _) => config.daemon(),
        };
        reasons.entry(row.control.id).or_default().insert(daemon);
    }
    for (cluster, node) in
        [("external", "cp-1"), ("external", "w-1"), ("dedicated", "e-1"), ("dedicated", "cp-1")]
    {
        let (inventory, files) = bundled::loaded(cluster, 36);
        let facts = match node.starts_with("cp") {
            true => facts_with_addresses(node, "debian 13"),
            false => facts(node, "debian 13", None),
        };
        let desired = desired_with(&inventory, &files, node, &facts);
        let watchers = watchers(&desired);
        for item in &desired.items {
            let ItemKind::File { path, .. } = &item.kind else { continue };
            let read_once = crate::controls::daemons::DAEMONS
                .iter()
                .filter(|row| row.reads_at_start.contains(&path.as_str()))
                .map(|row| row.daemon);
            let daemons: BTreeSet<Daemon> = watchers
                .get(path.as_str())
                .into_iter()
                .flatten()
                .copied()
                .chain(read_once)
                .collect();
            for id in &item.controls {
                if !is_about_access(find(id).unwrap()) {
                    reasons.entry(id).or_default().extend(&daemons);
                }
            }
        }
    }
    let mut wrong = Vec::new();
    for control in CATALOGUE {
        let named: BTreeSet<Daemon> = control.disruption.restarts.iter().copied().collect();
        let due = reasons.get(control.id).cloned().unwrap_or_default();
        let lacking: Vec<&Daemon> = due.difference(&named).collect();
        if !lacking.is_empty() {
            wrong.push(format!("{} does not name {lacking:?}", control.id));
        }
        // What no file of a plan makes true is still mended by another command line or another file of its own.
        let is_judged_otherwise = control.checks.iter().any(|c| {
            matches!(c, Check::InEffect(_) | Check::Attack(_) | Check::Node(_) | Check::RunsAs(..))
        });
        let more: Vec<&Daemon> = named.difference(&due).collect();
        if !more.is_empty() && !is_judged_otherwise {
            wrong.push(format!("nothing of {} starts {more:?} again", control.id));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn whoever_notices_a_restart_is_among_those_who_notice() {
    for control in CATALOGUE {
        let all = control.disruption.everyone_affected();
        for daemon in control.disruption.restarts {
            let by = DaemonRow::of(*daemon).restart_affects;
            let is_quiet = by == crate::controls::Affected::Nobody;
            assert!(is_quiet || all.contains(&by), "{}", control.id);
        }
        assert!(!all.contains(&crate::controls::Affected::Nobody), "{}", control.id);
        assert!(all.iter().all(|n| !n.words().is_empty()), "{}", control.id);
    }
}
