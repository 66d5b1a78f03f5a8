//! Everything that `verify` found, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::switched_off::switched_off;
use crate::checks::{Evidence, Finding, Outcome, Summary, Verdict, Verification};
use crate::controls::find;
use crate::plain::plain;
use crate::report::table::{self, Column};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What failed, what is unknown, what is excepted, and counts.
    Short,
    /// Every control with everything that was looked at.
    Everything,
}

/// The report: failures first, then what is unknown, then exceptions, then counts.
pub fn text(report: &Verification, detail: Detail) -> String {
    let mut out = String::new();
    let profile = format!("{:?}", report.profile).to_lowercase();
    let _ = writeln!(out, "cluster {}, profile {profile}, {}", report.cluster, report.time);
    let by = |outcome: Outcome, excepted: bool| -> Vec<&Finding> {
        let all = report.findings.iter();
        all.filter(|f| f.outcome() == outcome && f.exception.is_some() == excepted).collect()
    };
    let reachable = |f: &&Finding| f.node().is_none_or(|n| !report.unreachable.contains_key(n));
    section(&mut out, "FAILED", &by(Outcome::Fail, false), detail);
    if !report.unreachable.is_empty() {
        out.push_str("\nUNREACHABLE: every control of these nodes is unknown\n");
        for (node, why) in &report.unreachable {
            let _ = writeln!(out, "  {node}: {why}");
        }
    }
    let unknown: Vec<&Finding> =
        by(Outcome::Unknown, false).into_iter().filter(reachable).collect();
    section(&mut out, "UNKNOWN", &unknown, detail);
    section(&mut out, "FAILED, BY EXCEPTION", &by(Outcome::Fail, true), detail);
    if detail == Detail::Everything {
        section(&mut out, "HOLDS", &by(Outcome::Pass, false), detail);
        section(&mut out, "NOT APPLICABLE", &by(Outcome::NotApplicable, false), detail);
    }
    if !report.switched_off.is_empty() {
        out.push_str("\nSWITCHED OFF in the inventory, not checked\n");
        switched_off(&mut out, report);
    }
    counts(&mut out, report);
    if detail == Detail::Short {
        out.push_str(
            "\nuse --verbose to see all evidence and attempts, or --summary for plain words\n",
        );
    }
    plain(&out)
}

/// Findings grouped by control; nodes about which the same is to be said share a paragraph.
fn section(out: &mut String, title: &str, findings: &[&Finding], detail: Detail) {
    if findings.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    let mut controls: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for f in findings {
        controls.entry(f.control).or_default().push(f);
    }
    // The worst first.
    let mut groups: Vec<_> = controls.into_iter().collect();
    groups.sort_by_key(|(id, fs)| (std::cmp::Reverse(fs[0].severity), *id));
    for (id, fs) in groups {
        let references = find(id).map(|c| c.references.line()).unwrap_or_default();
        let references =
            if references.is_empty() { references } else { format!("  ({references})") };
        let _ = writeln!(out, "  {id}  {}  {}{references}", fs[0].severity, fs[0].title);
        let mut said: Vec<(String, Vec<String>)> = Vec::new();
        for f in fs {
            let node = f.node().map_or("cluster".to_owned(), ToString::to_string);
            let words = paragraph(f, detail);
            match said.iter_mut().find(|(w, _)| *w == words) {
                Some((_, nodes)) => nodes.push(node),
                None => said.push((words, vec![node])),
            }
        }
        for (words, nodes) in said {
            let _ = writeln!(out, "    {}", nodes.join(", "));
            out.push_str(&words);
        }
    }
}

fn paragraph(finding: &Finding, detail: Detail) -> String {
    let mut out = String::new();
    let of_interest =
        |e: &&Evidence| detail == Detail::Everything || e.verdict().outcome() == finding.outcome();
    let shown: Vec<&Evidence> = finding.evidence.iter().filter(of_interest).collect();
    if shown.is_empty() {
        lines(&mut out, None, &finding.verdict);
    }
    let mut at = 0;
    while let Some(e) = shown.get(at) {
        // What ends the same way is said once.
        let same = |o: &&&Evidence| o.verdict() == e.verdict() && o.staged() == e.staged();
        let run = shown[at..].iter().take_while(same).count();
        let what: Vec<&str> = shown[at..at + run].iter().map(|e| e.what()).collect();
        lines(&mut out, Some(&what.join(", ")), e.verdict());
        if let (Some(staged), Detail::Everything) = (e.staged(), detail) {
            let _ = writeln!(out, "        staged: {}", one_line(staged));
        }
        at += run;
    }
    for check in &finding.not_excused {
        let _ = writeln!(
            out,
            "      the exception does not cover this check: add `check: {check:?}` to it"
        );
    }
    if let Some(x) = &finding.exception {
        let _ = writeln!(out, "      exception until {} by {}: {}", x.expires, x.owner, x.reason);
    }
    out
}

fn lines(out: &mut String, what: Option<&str>, verdict: &Verdict) {
    match (what, verdict) {
        (Some(what), Verdict::Fail { expected, actual }) => {
            let _ = writeln!(
                out,
                "      {what}\n        expected {expected}\n        actual   {actual}"
            );
        }
        (Some(what), verdict) => {
            let _ = writeln!(out, "      {what}: {}", one_line(verdict));
        }
        (None, verdict) => {
            let _ = writeln!(out, "      {}", one_line(verdict));
        }
    }
}

fn one_line(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass { actual } => format!("holds, {actual}"),
        Verdict::Fail { expected, actual } => format!("FAILS, expected {expected}, is {actual}"),
        Verdict::NotApplicable { why } => why.to_string(),
        Verdict::Unknown { why } => format!("unknown, {why}"),
    }
}

fn counts(out: &mut String, report: &Verification) {
    let row = |name: &str, s: &Summary| {
        let [pass, fail, unknown, excepted, none] =
            [s.pass, s.fail, s.unknown, s.excepted, s.not_applicable].map(|n| n.to_string());
        [format!("  {name}"), pass, fail, unknown, excepted, none]
    };
    let head = ["", "holds", "fails", "unknown", "excepted", "n/a"].map(str::to_owned);
    let parts = report.by_component();
    let parts = parts.iter().map(|(component, sum)| row(&component.to_string(), sum));
    let rows = std::iter::once(head).chain(parts).chain([row("all", &report.summary)]);
    // The longest component, indented, and the longest number that there may be.
    let mut columns = [Column::NUMBER; 6];
    columns[0] = Column::TEXT.at_least(21);
    columns[5] = Column::NUMBER.at_least(4);
    out.push('\n');
    out.push_str(&table::text(columns, rows));
}
