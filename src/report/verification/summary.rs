//! What `verify` found in plain words, for people who have never seen a report of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::switched_off::switched_off;
use crate::checks::findings::waiting_for_kubernetes;
use crate::checks::{Attempt, Finding, Outcome, Verification, attempt_words};
use crate::controls::Probe;
use crate::plain::{counted, plain};

/// What was proven and what was not, for somebody who has never seen the report.
pub fn summary(report: &Verification) -> String {
    let mut out = String::new();
    let nodes: BTreeSet<_> = report.findings.iter().filter_map(|f| f.node()).collect();
    let s = &report.summary;
    let _ = writeln!(
        out,
        "Cluster {}: {}, {} to judge.\n",
        report.cluster,
        counted(nodes.len(), "node"),
        counted(s.pass + s.fail + s.unknown + s.excepted, "control"),
    );
    if !report.unreachable.is_empty() {
        let lost = report.unreachable.len();
        let it = if lost == 1 { "it" } else { "them" };
        let _ = writeln!(
            out,
            "{} did not answer, and nothing is known of {it}:",
            counted(lost, "node")
        );
        for (node, why) in &report.unreachable {
            let _ = writeln!(out, "  {node}: {why}");
        }
        out.push('\n');
    }
    attacks(&mut out, report);
    let _ = writeln!(out, "\nWhat the nodes show:");
    let one = |n: usize, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let _ = writeln!(out, "  {:>4} {}", s.pass, one(s.pass, "control holds", "controls hold"));
    let fail = one(s.fail, "fails", "fail");
    let _ = writeln!(out, "  {:>4} {fail}{}", s.fail, names(report, Outcome::Fail, false));
    let _ = writeln!(
        out,
        "  {:>4} could not be judged{}",
        s.unknown,
        names(report, Outcome::Unknown, false)
    );
    if s.excepted > 0 {
        let _ = writeln!(
            out,
            "  {:>4} {} by an exception of the inventory{}",
            s.excepted,
            one(s.excepted, "fails", "fail"),
            names(report, Outcome::Fail, true)
        );
    }
    let waiting: Vec<&Finding> = waiting_for_kubernetes(&report.findings).collect();
    if !waiting.is_empty() {
        let staged = |o: Outcome| -> Vec<&&Finding> {
            waiting.iter().filter(|f| f.staged.as_ref().is_some_and(|v| v.outcome() == o)).collect()
        };
        let ready = waiting.iter().filter(|f| f.staged.is_some()).count();
        let _ = writeln!(
            out,
            "\nWhat has to wait for Kubernetes: {}, because its daemons do not run yet.",
            counted(waiting.len(), "control")
        );
        let _ = writeln!(
            out,
            "  {ready} of them can be judged by the configuration that is ready on the nodes: {} hold{}",
            staged(Outcome::Pass).len(),
            match staged(Outcome::Fail) {
                bad if bad.is_empty() => ".".to_owned(),
                bad => format!(",\n  {} will not{}", bad.len(), few(bad.into_iter().copied())),
            }
        );
    }
    if !report.switched_off.is_empty() {
        let off = report.switched_off.len();
        let are = one(off, "is", "are");
        let _ = writeln!(out, "\n{} {are} switched off by the inventory:", counted(off, "control"));
        switched_off(&mut out, report);
    }
    let others = s.not_applicable - waiting.len();
    if others > 0 {
        let _ = writeln!(out, "\n{others} do not apply here; --verbose says why.");
    }
    plain(&out)
}

/// What failed, a few of the controls.
fn names(report: &Verification, outcome: Outcome, excepted: bool) -> String {
    let of_interest = |f: &&Finding| f.outcome() == outcome && f.exception.is_some() == excepted;
    few(report.findings.iter().filter(of_interest))
}

/// Controls, with the nodes that each was found on as long as those are few.
fn few<'f>(findings: impl Iterator<Item = &'f Finding>) -> String {
    let mut controls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for f in findings {
        controls.entry(f.control).or_default().extend(f.node().map(|n| n.as_str()));
    }
    let named = |(id, nodes): (&str, Vec<&str>)| match nodes.len() {
        0 => id.to_owned(),
        1..=3 => format!("{id} ({})", nodes.join(", ")),
        n => format!("{id} ({n} nodes)"),
    };
    match controls.len() {
        0 => String::new(),
        n if n <= 6 => {
            format!(": {}", controls.into_iter().map(named).collect::<Vec<_>>().join(", "))
        }
        n => {
            let some: Vec<String> = controls.into_iter().take(5).map(named).collect();
            format!(": {} and {} more", some.join(", "), n - 5)
        }
    }
}

/// What a failed attempt comes to among the controls, whose counts follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// A control fails by it.
    Failing,
    /// The inventory has an exception for every control that fails by it.
    Excepted,
    /// No control that is wanted asks for it.
    Nobody,
}

fn whose(report: &Verification, attempt: &Attempt) -> Whose {
    let what = attempt.evidence();
    let fails_by_it = |f: &&Finding| {
        f.node() == Some(&attempt.tried().target)
            && f.outcome() == Outcome::Fail
            && f.evidence.iter().any(|e| e.what() == what)
    };
    let controls: Vec<&Finding> = report.findings.iter().filter(fails_by_it).collect();
    match controls.as_slice() {
        [] => Whose::Nobody,
        all if all.iter().all(|f| f.exception.is_some()) => Whose::Excepted,
        _ => Whose::Failing,
    }
}

fn attacks(out: &mut String, report: &Verification) {
    let mut by_probe: BTreeMap<Probe, Vec<&Attempt>> = BTreeMap::new();
    for a in report.attempts.iter().filter(|a| a.verdict().outcome() != Outcome::NotApplicable) {
        by_probe.entry(a.tried().probe).or_default().push(a);
    }
    if by_probe.is_empty() {
        let _ = writeln!(out, "Nothing could be tried against the nodes.");
        return;
    }
    let _ = writeln!(
        out,
        "What was tried against the nodes ({}):",
        counted(by_probe.values().map(Vec::len).sum(), "attempt")
    );
    for (probe, made) in by_probe {
        let count = |o: Outcome| made.iter().filter(|a| a.verdict().outcome() == o).count();
        let (pass, unknown) = (count(Outcome::Pass), count(Outcome::Unknown));
        let good = match probe {
            Probe::EtcdHealthy => "healthy",
            Probe::EtcdServedCertificate | Probe::EtcdPeerServedCertificate => "equal",
            Probe::EtcdAcceptedCas
            | Probe::EtcdPeerAcceptedCas
            | Probe::ApiserverAcceptedCas
            | Probe::KubeletAcceptedCas => "the key store's only",
            Probe::DefaultDrop => "dropped",
            Probe::ClosedToPeers | Probe::ClosedToOperator => "closed",
            Probe::ForwardedToStranger => "kept out",
            Probe::AuditEvent => "recorded",
            Probe::PodLogs | Probe::PodExec => "done",
            Probe::EffectiveSetting | Probe::EventRateLimit | Probe::PullPolicy => "as wanted",
            Probe::EtcdWithoutCertificate
            | Probe::EtcdForeignCertificate
            | Probe::EtcdPlainHttp
            | Probe::EtcdPeerWithoutCertificate
            | Probe::EtcdPeerPlainHttp
            | Probe::EtcdOldTls
            | Probe::EtcdWeakCiphers
            | Probe::SshPassword
            | Probe::ApiserverAnonymous
            | Probe::ApiserverPlainHttp
            | Probe::ApiserverOldTls
            | Probe::ApiserverWeakCiphers
            | Probe::KubeletAnonymous
            | Probe::KubeletWeakCiphers
            | Probe::KubeletWithoutRights
            | Probe::ApiserverHealthCertificate
            | Probe::ApiserverProfiling
            | Probe::ControllerManagerProfiling
            | Probe::SchedulerProfiling
            | Probe::PodSecurity
            | Probe::MissingServiceAccount
            | Probe::MissingNamespace
            | Probe::ExternalIps
            | Probe::NodeRestriction
            | Probe::NodeAuthorizer
            | Probe::ServiceAccountRights
            | Probe::ServiceAccountToken
            | Probe::SecretAtRest => "refused",
        };
        let times = |n: usize| if n == 1 { "once".to_owned() } else { format!("{n} times") };
        let mut how = Vec::new();
        if pass > 0 {
            how.push(format!("{good} {}", times(pass)));
        }
        let mut failed: BTreeMap<Whose, usize> = BTreeMap::new();
        for a in made.iter().filter(|a| a.verdict().outcome() == Outcome::Fail) {
            *failed.entry(whose(report, a)).or_default() += 1;
        }
        for (whose, n) in failed {
            let why = match whose {
                Whose::Failing => "",
                Whose::Excepted => " by an exception of the inventory",
                Whose::Nobody => ", for which no control fails",
            };
            how.push(format!("NOT {good} {}{why}", times(n)));
        }
        if unknown > 0 {
            how.push(format!("unknown {}", times(unknown)));
        }
        let _ = writeln!(out, "  - {}: {}", attempt_words(probe), how.join(", "));
    }
}
