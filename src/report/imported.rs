//! What an import took over, for people and machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::table::{self, Column};
use crate::discovery::imported::{Answer, Line, OpenConflict, Settled};
use crate::discovery::{Found, FoundNode};
use crate::inventory::Role;
use crate::plain::{counted, plain_line};

/// Longest value in a table; the whole one is in the inventory.
const MAX_VALUE: usize = 60;

/// Everything, for machines.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    format: &'static str,
    cluster: &'a str,
    inventory: String,
    files: Vec<&'a str>,
    taken_over: &'a [Line],
    passed_through: &'a [Line],
    conflicts: &'a [Answer],
    not_taken_over: &'a [Line],
}

impl<'a> Report<'a> {
    /// Of an import into a file.
    pub fn of(found: &'a Found, settled: &'a Settled, file: &std::path::Path) -> Self {
        Self {
            format: "kubastion-import/v1",
            cluster: found.name.as_str(),
            inventory: file.display().to_string(),
            files: settled.files.keys().map(String::as_str).collect(),
            taken_over: &settled.taken_over,
            passed_through: &settled.passed_through,
            conflicts: &settled.conflicts,
            not_taken_over: &settled.not_taken_over,
        }
    }
}

fn short(value: &str) -> String {
    let value = plain_line(value).to_string();
    match value.char_indices().nth(MAX_VALUE) {
        Some((at, _)) => format!("{}...", &value[..at]),
        None => value,
    }
}

fn rows(out: &mut String, title: &str, last: &str, all: &[Line]) {
    if all.is_empty() {
        return;
    }
    let head = [title, "VALUE", "FROM", last].map(str::to_owned);
    let row = |l: &Line| {
        [
            short(&l.what),
            short(&l.value),
            plain_line(&l.at).to_string(),
            plain_line(&l.now).to_string(),
        ]
    };
    out.push('\n');
    out.push_str(&table::text([Column::TEXT; 4], std::iter::once(head).chain(all.iter().map(row))));
}

/// A summary for people.
pub fn summary(found: &Found, settled: &Settled) -> String {
    let planes = found.nodes.iter().filter(|n: &&FoundNode| n.role == Role::ControlPlane).count();
    let mut out = format!(
        "Cluster {}, Kubernetes {}, {}, {}\n",
        found.name,
        found.release,
        counted(found.nodes.len(), "node"),
        counted(planes, "control plane")
    );
    rows(&mut out, "TAKEN OVER", "NOW", &settled.taken_over);
    rows(&mut out, "PASSED THROUGH", "NOW", &settled.passed_through);
    if !settled.conflicts.is_empty() {
        out.push('\n');
        out.push_str(&conflicts(settled.conflicts.iter().map(|a| (&a.conflict, a.decision))));
    }
    rows(&mut out, "NOT TAKEN OVER", "WHY", &settled.not_taken_over);
    out
}

/// Conflicts as a table.
pub fn conflicts<'a>(all: impl Iterator<Item = (&'a OpenConflict, &'static str)>) -> String {
    let head = ["CONFLICT", "VALUE", "FROM", "CONTROL", "WANTS", "DECISION"].map(str::to_owned);
    let row = |(c, decision): (&OpenConflict, &str)| {
        [
            format!("{} {}", c.component, short(&c.what)),
            short(&c.value),
            plain_line(&c.at).to_string(),
            format!("{} ({})", c.control, c.severity),
            c.wants.clone(),
            decision.to_owned(),
        ]
    };
    table::text([Column::TEXT; 6], std::iter::once(head).chain(all.map(row)))
}

/// One conflict, as it is asked about.
pub fn question(conflict: &OpenConflict) -> String {
    let mut out = String::new();
    let OpenConflict { what, component, value, at, control, severity, wants } = conflict;
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\n{component} {} is set to {}\n  in      {}\n  control {control} ({severity})\n  wants   {wants}\n",
        short(what),
        short(value),
        plain_line(at)
    );
    out
}
