//! A plan for people: one screen by default, every step with `--verbose`.

use std::fmt::Write;

use crate::desired::OnChange;
use crate::plain::{counted, plain};
use crate::plan::api_change::{ApiChange, called};
use crate::plan::{EtcdChange, Group, NodePlan, Plan, Stage, Step, Task, Transaction};

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// A line or two for each node.
    Summary,
    /// Every step with its reason and controls.
    Steps,
}

/// The plan as text.
pub fn render(plan: &Plan, detail: Detail) -> String {
    let mut out = String::new();
    let busy = plan.nodes.values().filter(|n| !n.transactions.is_empty()).count();
    let etcd: Vec<EtcdChange> = plan.etcd().collect();
    let of_cluster = plan.api().count() + etcd.len();
    let of_cluster = match of_cluster {
        0 => String::new(),
        n => format!("; {} in the cluster", counted(n, "change")),
    };
    let _ = writeln!(
        out,
        "Plan {} for cluster {}: {} of {} change, {}{of_cluster}",
        plan.id.get(..12).unwrap_or(&plan.id),
        plan.cluster,
        busy,
        counted(plan.nodes.len(), "node"),
        counted(plan.step_count(), "step")
    );
    if !etcd.is_empty() {
        let _ = writeln!(out, "\netcd");
        for change in &etcd {
            let _ = writeln!(out, "  {change}");
        }
    }
    // Nodes that read the same are shown once: ten workers fit on one screen.
    let mut blocks: Vec<(Vec<&str>, String)> = Vec::new();
    for (name, node) in &plan.nodes {
        let text = block(node, detail);
        match blocks.iter_mut().find(|(_, t)| *t == text) {
            Some((names, _)) => names.push(name.as_str()),
            None => blocks.push((vec![name.as_str()], text)),
        }
    }
    for (names, text) in blocks {
        if !text.is_empty() {
            let _ = write!(out, "\n{}\n{text}", names.join(", "));
        }
    }
    if detail == Detail::Summary {
        notes_of_all(plan, &mut out);
    }
    if plan.api().next().is_some() {
        let _ = writeln!(out, "\ncluster");
        for change in plan.api() {
            object(change, detail, &mut out);
        }
    }
    if let Some(climb) = &plan.encryption {
        let _ = writeln!(out, "\nencryption of stored objects\n  now   {climb}");
        for rung in climb.rung.above() {
            let _ = writeln!(out, "  then  {}", rung.words());
        }
    }
    order(plan, &mut out);
    plain(&out)
}

/// The stages in their order, but for the objects of the cluster, which come last and are listed above.
fn order(plan: &Plan, out: &mut String) {
    let of_nodes = |s: &&Stage| s.tasks().any(|t| !matches!(t, Task::Object(_)));
    let stages: Vec<&Stage> = plan.stages.iter().filter(of_nodes).collect();
    if stages.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nOrder");
    for (i, stage) in stages.into_iter().enumerate() {
        let names = |g: &Group| {
            let names: Vec<String> = g.tasks.iter().map(whose).collect();
            names.join(" + ")
        };
        let groups: Vec<String> = stage.groups.iter().map(names).collect();
        let _ = writeln!(out, "  {}. {}: {}", i + 1, stage.name, groups.join(", then "));
    }
}

/// Whose task it is, in a word or two.
fn whose(task: &Task) -> String {
    match task {
        Task::Etcd(EtcdChange::Remove { id, .. }) => format!("remove {id}"),
        Task::Rewrite { resource } => resource.clone(),
        _ => task.node().map_or_else(|| "cluster".to_owned(), ToString::to_string),
    }
}

/// A change of the cluster's objects.
fn object(change: &ApiChange, detail: Detail, out: &mut String) {
    match (change, detail) {
        (ApiChange::Apply { action, object, differs, controls, .. }, Detail::Steps) => {
            let _ = writeln!(out, "  {action} {}", called(object));
            for difference in differs {
                let _ = writeln!(out, "        {difference}");
            }
            if !controls.is_empty() {
                let ids = controls.ids();
                let _ = writeln!(out, "        for: {}", ids.join(" "));
            }
        }
        _ => {
            let _ = writeln!(out, "  {change}");
        }
    }
}

/// What is to be done on one node; empty if there is nothing to say.
fn block(node: &NodePlan, detail: Detail) -> String {
    let mut out = String::new();
    if node.transactions.is_empty() {
        if detail == Detail::Steps {
            out.push_str("  nothing to do\n");
            notes(node, &mut out);
        }
        held_back(node, &mut out);
        return out;
    }
    for t in &node.transactions {
        let _ = writeln!(out, "  {}", heading(t));
        match detail {
            Detail::Summary => {
                for line in summary(t) {
                    let _ = writeln!(out, "    {line}");
                }
            }
            Detail::Steps => {
                for a in &t.steps {
                    let _ = writeln!(out, "    {}", a.step);
                    if !a.why.is_empty() {
                        let _ = writeln!(out, "        now: {}", a.why_text());
                    }
                    if !a.controls.is_empty() {
                        let ids = a.controls.ids();
                        let _ = writeln!(out, "        for: {}", ids.join(" "));
                    }
                }
            }
        }
    }
    if detail == Detail::Steps {
        notes(node, &mut out);
    }
    held_back(node, &mut out);
    out
}

/// The notes of all nodes with work, each of them once.
fn notes_of_all(plan: &Plan, out: &mut String) {
    let busy: Vec<_> = plan.nodes.iter().filter(|(_, n)| !n.transactions.is_empty()).collect();
    // In the order in which they are first met.
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, node) in &busy {
        for note in &node.notes {
            match all.iter_mut().find(|(n, _)| n == note) {
                Some((_, names)) => names.push(name.as_str()),
                None => all.push((note, vec![name.as_str()])),
            }
        }
    }
    if !all.is_empty() {
        out.push_str("\nNotes\n");
    }
    for (note, names) in all {
        let whose = match names.len() {
            n if n == busy.len() && n > 1 => format!("all {n}"),
            n if n > NAMED => format!("{} and {} more", names[..NAMED].join(", "), n - NAMED),
            _ => names.join(", "),
        };
        let _ = writeln!(out, "  {whose}: {note}");
    }
}

/// How many nodes a note names; `--verbose` has it at each of them.
const NAMED: usize = 4;

fn notes(node: &NodePlan, out: &mut String) {
    for note in &node.notes {
        let _ = writeln!(out, "  note: {note}");
    }
}

fn held_back(node: &NodePlan, out: &mut String) {
    for why in &node.held_back {
        let _ = writeln!(out, "  held back: {why}");
    }
}

fn heading(t: &Transaction) -> String {
    match t.confirm_within_s {
        Some(s) => format!(
            "{} ({}; rolls back automatically unless a new connection confirms within {s} s)",
            t.phase.name(),
            counted(t.steps.len(), "step")
        ),
        None => format!("{} ({})", t.phase.name(), counted(t.steps.len(), "step")),
    }
}

/// Counts by kind, and by name what people ask about first: restarts, packages, firewall.
fn summary(t: &Transaction) -> Vec<String> {
    let (mut files, mut new, mut directories, mut modes, mut sysctls) = (0, 0, 0, 0, 0);
    let (mut programs, mut program_bytes, mut archives, mut archive_bytes) = (0, 0, 0, 0);
    let mut lines = Vec::new();
    let mut restarts = Vec::new();
    for a in &t.steps {
        match &a.step {
            Step::Files { files: f, .. } => {
                files += f.len();
                new += f.values().filter(|n| !n.replaces).count();
            }
            Step::Directory { .. } => directories += 1,
            Step::Permissions { .. } => modes += 1,
            Step::Sysctl { .. } => sysctls += 1,
            Step::Unit { name, run: Some(true), change: OnChange::Restart, .. } => {
                restarts.push(name.as_str());
            }
            Step::Program { blob, .. } => {
                programs += 1;
                program_bytes += blob.size;
            }
            Step::Images { archive, .. } => {
                archives += 1;
                archive_bytes += archive.size;
            }
            Step::Arm { .. }
            | Step::DaemonReload
            | Step::CheckSshd
            | Step::CheckLogins { .. }
            | Step::Prove
            | Step::MarkStale { .. }
            | Step::Verify => {}
            other => lines.push(other.to_string()),
        }
    }
    let mb = |bytes: u64| format!(" ({} MB)", bytes.div_ceil(1_000_000));
    let counts: Vec<String> = [
        (files, "file", format!(" ({new} new)")),
        (directories, "directory/directories", String::new()),
        (programs, "program from the bundle/programs from the bundle", mb(program_bytes)),
        (archives, "image archive", mb(archive_bytes)),
        (modes, "owner or mode/owners or modes", String::new()),
        (sysctls, "kernel setting", String::new()),
    ]
    .into_iter()
    .filter(|(n, ..)| *n > 0)
    .map(|(n, what, more)| counted(n, what) + &more)
    .collect();
    if !counts.is_empty() {
        lines.insert(0, counts.join(", "));
    }
    if !restarts.is_empty() {
        lines.push(format!("restarts {}", restarts.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Phase;
    use crate::desired::differences::Difference;
    use crate::plan::Action;

    #[test]
    fn a_note_of_many_nodes_is_one_line() {
        let action =
            Action { step: Step::DaemonReload, controls: Default::default(), why: Vec::new() };
        let host = Transaction {
            phase: Phase::Host,
            confirm_within_s: None,
            steps: vec![action],
            expect: Default::default(),
        };
        let node = |n: usize| {
            let mut notes = vec!["of everybody".to_owned()];
            notes.extend((n == 2).then(|| "of one".to_owned()));
            notes.extend((n > 2).then(|| "of the others".to_owned()));
            // Other work than its neighbour's, so that it is shown apart.
            let transactions =
                vec![Transaction { steps: vec![host.steps[0].clone(); n], ..host.clone() }];
            (
                format!("n{n}").parse().unwrap(),
                NodePlan { transactions, notes, ..NodePlan::default() },
            )
        };
        let nodes = (1..=8).map(node).collect();
        let plan = Plan::new("c".into(), String::new(), nodes, Vec::new());
        let said = render(&plan, Detail::Summary);
        for line in [
            "\nNotes\n  all 8: of everybody\n",
            "  n2: of one\n",
            "  n3, n4, n5, n6 and 2 more: of the others\n",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert_eq!(said.matches("of everybody").count(), 1, "{said}");
        let whole = render(&plan, Detail::Steps);
        assert_eq!(whole.matches("  note: of everybody").count(), 8, "{whole}");
    }

    #[test]
    fn what_differs_in_an_object_is_shown_and_who_wants_it() {
        let pods = |path: &str| Difference {
            path: path.into(),
            is: Some("\"9\"".into()),
            wanted: Some("\"100\"".into()),
        };
        let change = ApiChange::Apply {
            action: crate::plan::api_change::Action::Change,
            object: serde_json::json!(
                {"kind": "ResourceQuota", "metadata": {"namespace": "default", "name": "q"}}
            ),
            differs: ["a", "b", "c", "d"].map(pods).into(),
            after: None,
            controls: ["policy-resource-quotas"].into_iter().collect(),
        };
        let plan = Plan::new("c".into(), String::new(), Default::default(), Vec::new());
        let plan = plan.with_api(vec![change]);
        let short = render(&plan, Detail::Summary);
        assert!(
            short.contains(
                "\ncluster\n  change ResourceQuota default/q: a: \"9\" -> \"100\"; b: \"9\" -> \"100\"; c: \"9\" -> \"100\"; and 1 more\n"
            ),
            "{short}"
        );
        let whole = render(&plan, Detail::Steps);
        assert!(
            whole.contains("  change ResourceQuota default/q\n        a: \"9\" -> \"100\"\n")
                && whole
                    .contains("        d: \"9\" -> \"100\"\n        for: policy-resource-quotas\n"),
            "{whole}"
        );
    }
}
