//! The text report of `assess`: the cluster, its gaps, and what it takes to fix them.

use std::fmt::Write;

use super::words;
use crate::checks::gaps::{FailedCheck, Gap, Unjudged, by_severity, gaps, unjudged};
use crate::checks::{Subject, Verification};
use crate::controls::Severity;
use crate::discovery::Found;
use crate::plain::{counted, plain, plain_line};
use crate::report::controls::{affected, restarts};
use crate::report::table::{self, Column};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of each gap a few of the checks that fail; of what is unknown, how much there is for each reason.
    Short,
    /// All of them.
    Everything,
}

/// Checks of a gap that are shown for a node, where not all are.
const FEW: usize = 3;

/// The report: the cluster, gaps with the worst first, what is unknown, and what it comes to.
pub fn text(found: &Found, report: &Verification, detail: Detail) -> String {
    let mut out = String::new();
    cluster(&mut out, found, report);
    let all = gaps(&report.findings);
    for (severity, controls, findings) in by_severity(&all) {
        if controls > 0 {
            let _ = writeln!(
                out,
                "\n{}: {} in {}",
                severity.to_string().to_uppercase(),
                counted(controls, "gap"),
                counted(findings, "place")
            );
            all.iter()
                .filter(|g| g.control.severity == severity)
                .for_each(|g| gap(&mut out, g, detail));
        }
    }
    if !report.unreachable.is_empty() {
        out.push_str("\nUNREACHABLE: every control of these nodes is unknown\n");
        for (node, why) in &report.unreachable {
            let _ = writeln!(out, "  {node}: {}", plain_line(why));
        }
    }
    let reachable = |s: &Subject| s.node().is_none_or(|n| !report.unreachable.contains_key(n));
    unknown(&mut out, &unjudged(&report.findings), &reachable, detail);
    totals(&mut out, &all, report);
    if detail == Detail::Short {
        out.push_str("\nuse --verbose to see every failed check and every unknown control\n");
    }
    plain(&out)
}

fn cluster(out: &mut String, found: &Found, report: &Verification) {
    let profile = format!("{:?}", report.profile).to_lowercase();
    let _ = writeln!(
        out,
        "Cluster {}, Kubernetes {}, profile {profile}, {}",
        found.name,
        plain_line(&found.release),
        report.time
    );
    let row = |name: &str, value: String| [format!("  {name}"), value];
    let made = found.recognized.distribution.name;
    let cni = match found.cni.is_empty() {
        true => "no CNI configuration found".to_owned(),
        false => format!("CNI {}", found.cni.join(", ")),
    };
    let rows = [
        row("distribution", format!("{made}, recognized by {}", found.recognized.by())),
        row("changes", words::changes(found)),
        row("endpoint", format!("{}, {}", found.endpoint, words::answered_by(found))),
        row("etcd", words::etcd(found)),
        row(
            "network",
            format!(
                "pods {}, Services {}, {cni}",
                words::networks(&found.pod_networks),
                words::networks(&found.service_networks)
            ),
        ),
    ];
    out.push_str(&table::text([Column::TEXT; 2], rows));
    out.push('\n');
    let head = ["  NODE", "ADDRESS", "ROLE", "KUBELET", "RUNTIME", "SYSTEM"].map(str::to_owned);
    let nodes = found.nodes.iter().map(|n| {
        [
            format!("  {}", n.name),
            n.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            n.role.to_string(),
            n.kubelet.clone(),
            n.runtime.clone(),
            n.os.clone(),
        ]
    });
    out.push_str(&table::text([Column::TEXT; 6], std::iter::once(head).chain(nodes)));
    if !found.notes.is_empty() {
        out.push('\n');
        found.notes.iter().for_each(|n| _ = writeln!(out, "  note: {}", plain_line(n)));
    }
}

fn subject(subject: &Subject) -> String {
    subject.node().map_or("cluster".to_owned(), ToString::to_string)
}

/// One control: where and how it fails, its fix, what the fix restarts, and whom it affects.
fn gap(out: &mut String, gap: &Gap, detail: Detail) {
    let control = gap.control;
    let references = control.references.line();
    let references = if references.is_empty() { references } else { format!("  ({references})") };
    let _ = writeln!(out, "\n  {}  {}{references}", control.id, control.title);
    let mut said: Vec<(&[FailedCheck], Vec<String>)> = Vec::new();
    for weak in &gap.weak {
        match said.iter_mut().find(|(seen, _)| *seen == weak.seen) {
            Some((_, on)) => on.push(subject(&weak.subject)),
            None => said.push((&weak.seen, vec![subject(&weak.subject)])),
        }
    }
    for (seen, on) in said {
        let _ = writeln!(out, "    {}", on.join(", "));
        let shown = if detail == Detail::Short { FEW.min(seen.len()) } else { seen.len() };
        for s in &seen[..shown] {
            let _ = writeln!(
                out,
                "      {}\n        expected {}\n        observed {}",
                plain_line(&s.what),
                plain_line(&s.expected),
                plain_line(&s.observed)
            );
        }
        if shown < seen.len() {
            let _ = writeln!(out, "      and {} more", seen.len() - shown);
        }
    }
    let shown = if detail == Detail::Short { FEW.min(gap.mend.len()) } else { gap.mend.len() };
    let mut rows: Vec<[String; 2]> = Vec::new();
    for (n, line) in gap.mend[..shown].iter().enumerate() {
        rows.push([if n == 0 { "    fix" } else { "" }.to_owned(), line.clone()]);
    }
    if shown < gap.mend.len() {
        rows.push([String::new(), format!("and {} more", gap.mend.len() - shown)]);
    }
    rows.push(["    restarts".to_owned(), restarts(&control.disruption)]);
    rows.push(["    affects".to_owned(), affected(&control.disruption)]);
    out.push_str(&table::text([Column::TEXT.at_least(14), Column::TEXT], rows));
}

/// A control that is unknown somewhere, for one reason.
struct Row<'r> {
    why: &'r str,
    one: &'r Unjudged,
    on: Vec<String>,
}

fn unknown(
    out: &mut String,
    all: &[Unjudged],
    is_meant: &dyn Fn(&Subject) -> bool,
    detail: Detail,
) {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for one in all {
        for (why, on) in &one.why {
            let on: Vec<String> = on.iter().filter(|s| is_meant(s)).map(subject).collect();
            if !on.is_empty() {
                rows.push(Row { why, one, on });
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    let mut reasons: Vec<(&str, Vec<&Row<'_>>)> = Vec::new();
    for row in &rows {
        match reasons.iter_mut().find(|(why, _)| *why == row.why) {
            Some((_, of)) => of.push(row),
            None => reasons.push((row.why, vec![row])),
        }
    }
    reasons.sort_by_key(|(why, of)| (std::cmp::Reverse(of.len()), *why));
    let controls: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row.one.control.id).collect();
    let _ = writeln!(
        out,
        "\nUNKNOWN: {} could not be judged (unknown is not a pass)",
        counted(controls.len(), "control")
    );
    for (why, of) in reasons {
        let _ = writeln!(out, "  {}: {}", counted(of.len(), "control"), plain_line(why));
        if detail == Detail::Everything {
            for Row { one, on, .. } in of {
                let _ = writeln!(
                    out,
                    "    {}  {}  {}",
                    one.control.id,
                    one.control.severity,
                    on.join(", ")
                );
            }
        }
    }
}

/// How many gaps there are, by what their fix restarts.
fn totals(out: &mut String, all: &[Gap], report: &Verification) {
    let s = &report.summary;
    let _ = writeln!(
        out,
        "\nFindings: {} hold, {} fail, {} unknown, {} not applicable",
        s.pass, s.fail, s.unknown, s.not_applicable
    );
    if all.is_empty() {
        return;
    }
    let head = ["  RESTARTS", "GAPS", "CRITICAL", "HIGH", "MEDIUM", "LOW"];
    let mut rows: Vec<(String, Vec<&Gap>)> = Vec::new();
    for gap in all {
        let restarts = restarts(&gap.control.disruption);
        match rows.iter_mut().find(|(r, _)| *r == restarts) {
            Some((_, of)) => of.push(gap),
            None => rows.push((restarts, vec![gap])),
        }
    }
    rows.sort_by_key(|(restarts, of)| (std::cmp::Reverse(of.len()), restarts.clone()));
    let line = |name: String, of: &[&Gap]| {
        let count = |s: Severity| of.iter().filter(|g| g.control.severity == s).count().to_string();
        let severities = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];
        let [critical, high, medium, low] = severities.map(count);
        [format!("  {name}"), of.len().to_string(), critical, high, medium, low]
    };
    let every: Vec<&Gap> = all.iter().collect();
    let lines = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().map(|(name, of)| line(name.clone(), of)))
        .chain([line("all".to_owned(), &every)]);
    let mut columns = [Column::NUMBER; 6];
    columns[0] = Column::TEXT;
    out.push('\n');
    out.push_str(&table::text(columns, lines));
}
