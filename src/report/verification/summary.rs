//! What `verify` found in plain words, for people who have never seen a report of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::switched_off::switched_off;
use crate::checks::findings::waiting_for_kubernetes;
use crate::checks::{Attempt, Finding, Outcome, Verification, attempt_words};
use crate::controls::Attack;
use crate::plain::{counted, plain};

/// What was proven and what was not, for somebody who has never seen the report.
pub fn summary(report: &Verification) -> String {
    let mut out = String::new();
    let nodes: BTreeSet<_> = report.findings.iter().filter_map(|f| f.node()).collect();
    let s = &report.summary;
    let _ = writeln!(
        out,
        "Cluster {}: {}, {} to check.\n",
        report.cluster,
        counted(nodes.len(), "node"),
        counted(s.pass + s.fail + s.unknown + s.excepted, "control"),
    );
    if !report.unreachable.is_empty() {
        let lost = report.unreachable.len();
        let its = if lost == 1 { "its" } else { "their" };
        let _ = writeln!(out, "{} did not answer; {its} state is unknown:", counted(lost, "node"));
        for (node, why) in &report.unreachable {
            let _ = writeln!(out, "  {node}: {why}");
        }
        out.push('\n');
    }
    attacks(&mut out, report);
    let _ = writeln!(out, "\nControls:");
    let one = |n: usize, one: &'static str, many: &'static str| if n == 1 { one } else { many };
    let _ = writeln!(out, "  {:>4} {}", s.pass, one(s.pass, "control holds", "controls hold"));
    let fail = one(s.fail, "fails", "fail");
    let _ = writeln!(out, "  {:>4} {fail}{}", s.fail, names(report, Outcome::Fail, false));
    let _ = writeln!(
        out,
        "  {:>4} could not be checked{}",
        s.unknown,
        names(report, Outcome::Unknown, false)
    );
    if s.excepted > 0 {
        let _ = writeln!(
            out,
            "  {:>4} {} with an exception in the inventory{}",
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
            "\nWaiting for Kubernetes: {}, because its daemons do not run yet.",
            counted(waiting.len(), "control")
        );
        let _ = writeln!(
            out,
            "  {ready} of them can be checked against the configuration staged on the nodes: {} will hold{}",
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
        let _ = writeln!(out, "\n{} {are} switched off in the inventory:", counted(off, "control"));
        switched_off(&mut out, report);
    }
    let others = s.not_applicable - waiting.len();
    if others > 0 {
        let _ = writeln!(out, "\n{others} do not apply here; use --verbose to see why.");
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
    let mut by_attack: BTreeMap<Attack, Vec<&Attempt>> = BTreeMap::new();
    for a in report.attempts.iter().filter(|a| a.verdict().outcome() != Outcome::NotApplicable) {
        by_attack.entry(a.tried().attack).or_default().push(a);
    }
    if by_attack.is_empty() {
        let _ = writeln!(out, "No attack could be attempted on the nodes.");
        return;
    }
    let _ = writeln!(
        out,
        "Attacks on the nodes ({}):",
        counted(by_attack.values().map(Vec::len).sum(), "attempt")
    );
    for (attack, made) in by_attack {
        let count = |o: Outcome| made.iter().filter(|a| a.verdict().outcome() == o).count();
        let (pass, unknown) = (count(Outcome::Pass), count(Outcome::Unknown));
        let good = match attack {
            Attack::EtcdHealthy => "healthy",
            Attack::EtcdServedCertificate | Attack::EtcdPeerServedCertificate => "equal",
            Attack::EtcdAcceptedCas
            | Attack::EtcdPeerAcceptedCas
            | Attack::ApiserverAcceptedCas
            | Attack::KubeletAcceptedCas => "only the key store's",
            Attack::DefaultDrop => "dropped",
            Attack::ClosedToPeers | Attack::ClosedToOperator => "closed",
            Attack::ForwardedToStranger => "kept out",
            Attack::AuditEvent => "recorded",
            Attack::PodLogs | Attack::PodExec => "done",
            Attack::EffectiveSetting | Attack::EventRateLimit | Attack::PullPolicy => "as expected",
            Attack::EtcdWithoutCertificate
            | Attack::EtcdForeignCertificate
            | Attack::EtcdPlainHttp
            | Attack::EtcdPeerWithoutCertificate
            | Attack::EtcdPeerPlainHttp
            | Attack::EtcdOldTls
            | Attack::EtcdWeakCiphers
            | Attack::SshPassword
            | Attack::ApiserverAnonymous
            | Attack::ApiserverPlainHttp
            | Attack::ApiserverOldTls
            | Attack::ApiserverWeakCiphers
            | Attack::KubeletAnonymous
            | Attack::KubeletWeakCiphers
            | Attack::KubeletWithoutRights
            | Attack::ApiserverHealthCertificate
            | Attack::ApiserverProfiling
            | Attack::ControllerManagerProfiling
            | Attack::SchedulerProfiling
            | Attack::PodSecurity
            | Attack::MissingServiceAccount
            | Attack::MissingNamespace
            | Attack::ExternalIps
            | Attack::NodeRestriction
            | Attack::NodeAuthorizer
            | Attack::ServiceAccountRights
            | Attack::ServiceAccountToken
            | Attack::SecretAtRest => "refused",
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
                Whose::Excepted => " with an exception in the inventory",
                Whose::Nobody => ", but no enabled control fails because of it",
            };
            how.push(format!("NOT {good} ({}){why}", times(n)));
        }
        if unknown > 0 {
            how.push(format!("unknown {}", times(unknown)));
        }
        let _ = writeln!(out, "  - {}: {}", attempt_words(attack), how.join(", "));
    }
}
