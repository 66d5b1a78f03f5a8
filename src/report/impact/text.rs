//! The text report of `impact`: who would notice the hardening, by subject, and what cannot be read.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::Problem;
use crate::impact::gate::Obstacles;
use crate::impact::{Impact, Item, Listed, Section, Subject};
use crate::inventory::NodeName;
use crate::plain::{counted, plain, plain_line};
use crate::report::table::{self, Column};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of each row the first things, and of each a few of what was seen.
    Short,
    /// All of them.
    Everything,
}

/// Things of a row that are shown, where not all are.
const ITEMS: usize = 8;
/// What was seen of a thing, where not all is shown.
const SEEN: usize = 7;

fn heading(section: Section) -> &'static str {
    match section {
        Section::Workloads => "WORKLOADS",
        Section::Ports => "PORTS",
        Section::Clients => "CLIENTS",
        Section::Webhooks => "WEBHOOKS AND APIS",
        Section::Storage => "STORAGE",
    }
}

/// The report.
pub fn text(
    found: &Subject,
    impact: &Impact,
    obstacles: Option<&Obstacles>,
    unreachable: &BTreeMap<NodeName, Problem>,
    detail: Detail,
) -> String {
    let mut out = String::new();
    let profile = format!("{:?}", impact.profile).to_lowercase();
    let time = &impact.time;
    let (name, release) = (&found.name, plain_line(&found.release));
    let _ = writeln!(out, "Cluster {name}, Kubernetes {release}, profile {profile}, {time}");
    let _ = writeln!(
        out,
        "Who would notice the hardening. Nothing was judged, and nothing was written."
    );
    for note in &found.notes {
        let _ = writeln!(out, "  note: {}", plain_line(note));
    }
    let mut section = None;
    for listed in &impact.listed {
        let Ok(items) = &listed.found else { continue };
        if items.is_empty() {
            continue;
        }
        if section.replace(listed.row.section) != Some(listed.row.section) {
            let _ = writeln!(out, "\n{}", heading(listed.row.section));
        }
        row(&mut out, listed, items, detail);
    }
    let nothing: Vec<&str> = impact
        .listed
        .iter()
        .filter(|l| l.found.as_ref().is_ok_and(Vec::is_empty))
        .map(|l| l.row.id)
        .collect();
    if !nothing.is_empty() {
        let _ = writeln!(out, "\nNothing found for: {}", nothing.join(", "));
    }
    if !unreachable.is_empty() {
        out.push_str("\nUNREACHABLE: these nodes are missing above\n");
        for (node, problem) in unreachable {
            let _ = writeln!(out, "  {node}: {}", plain_line(&problem.why.join(": ")));
        }
    }
    out.push_str("\nNOT SEEN\n");
    for one in &impact.not_seen {
        let _ = writeln!(out, "  {}: {}", plain_line(&one.what), plain_line(&one.why));
    }
    if let Some(obstacles) = obstacles {
        before_enforce(&mut out, obstacles);
    }
    if detail == Detail::Short {
        out.push_str("\nuse --verbose to see everything that was found\n");
    }
    plain(&out)
}

/// What blocks the next stage; the names are those that `hardening.acknowledged` takes.
fn before_enforce(out: &mut String, obstacles: &Obstacles) {
    if obstacles.is_empty() {
        out.push_str("\nNothing blocks `hardening.stage: enforce`.\n");
        return;
    }
    out.push_str("\nBEFORE `hardening.stage: enforce`\n");
    for why in &obstacles.unobserved {
        let _ = writeln!(out, "  wait: {}", plain_line(why));
    }
    for name in &obstacles.unacknowledged {
        let _ = writeln!(out, "  fix or acknowledge: {}", plain_line(name));
    }
}

fn row(out: &mut String, listed: &Listed, items: &[Item], detail: Detail) {
    let row = listed.row;
    let _ = writeln!(out, "\n  {}  {}", row.id, row.title);
    let rows = [
        ["    hardening".to_owned(), row.hardening.to_owned()],
        ["    affects".to_owned(), row.noticed_by.to_owned()],
    ];
    out.push_str(&table::text([Column::TEXT.at_least(14), Column::TEXT], rows));
    let (shown, left) = cut(items, ITEMS, detail);
    let mut space = "";
    for item in shown {
        if item.namespace != space {
            space = &item.namespace;
            let _ = writeln!(out, "    {}", plain_line(space));
        }
        one(out, item, detail);
    }
    if left > 0 {
        let _ = writeln!(out, "    and {left} more (--verbose)");
    }
}

fn cut<T>(all: &[T], few: usize, detail: Detail) -> (&[T], usize) {
    match detail {
        // One more line is as long as the line that says so.
        Detail::Short if all.len() > few + 1 => (&all[..few], all.len() - few),
        _ => (all, 0),
    }
}

fn one(out: &mut String, item: &Item, detail: Detail) {
    let mut line = item.kind.to_owned();
    if !item.name.is_empty() {
        let _ = write!(line, " {}", plain_line(&item.name));
    }
    let mut more: Vec<String> = item.state.map(str::to_owned).into_iter().collect();
    more.extend(item.count.map(|(n, of)| counted(n, of)));
    more.extend(item.of_kubernetes.then(|| "Kubernetes' own".to_owned()));
    if !more.is_empty() {
        let _ = write!(line, " ({})", more.join(", "));
    }
    let _ = writeln!(out, "      {line}");
    let (shown, left) = cut(&item.seen, SEEN, detail);
    for (what, said) in shown {
        let _ = writeln!(out, "        {}: {}", plain_line(what), plain_line(said));
    }
    if left > 0 {
        let _ = writeln!(out, "        and {left} more (--verbose)");
    }
}
