//! What `verify` found, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::checks::findings::waiting_for_kubernetes;
use crate::checks::{Attempt, attempt_words};
use crate::checks::{Evidence, Finding, Outcome, Summary, Verdict, Verification};
use crate::controls::{Probe, find};
use crate::plain::{counted, plain};

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
    let reachable =
        |f: &&Finding| f.node.as_ref().is_none_or(|n| !report.unreachable.contains_key(n));
    section(&mut out, "FAILED", &by(Outcome::Fail, false), detail);
    if !report.unreachable.is_empty() {
        out.push_str("\nNOT REACHED: every control of these nodes is unknown\n");
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
        out.push_str("\nSWITCHED OFF by the inventory, and not checked\n");
        switched_off(&mut out, report);
    }
    counts(&mut out, report);
    if detail == Detail::Short {
        out.push_str("\n--verbose shows everything that was looked at and tried, --summary says it in plain words\n");
    }
    plain(&out)
}

/// Lists every control that the inventory switches off, so that none is overlooked.
fn switched_off(out: &mut String, report: &Verification) {
    for off in &report.switched_off {
        let _ = writeln!(out, "  {}  {}  {}", off.control, off.severity, off.title);
        if let Some(g) = &off.granted {
            let _ = writeln!(out, "    until {} by {}: {}", g.expires, g.owner, g.reason);
        }
    }
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
            let node = f.node.as_ref().map_or("cluster".to_owned(), ToString::to_string);
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
        |e: &&Evidence| detail == Detail::Everything || e.verdict.outcome() == finding.outcome();
    let shown: Vec<&Evidence> = finding.evidence.iter().filter(of_interest).collect();
    if shown.is_empty() {
        lines(&mut out, None, &finding.verdict);
    }
    let mut at = 0;
    while let Some(e) = shown.get(at) {
        // What ends the same way is said once.
        let same = |o: &&&Evidence| o.verdict == e.verdict && o.staged == e.staged;
        let run = shown[at..].iter().take_while(same).count();
        let what: Vec<&str> = shown[at..at + run].iter().map(|e| e.what.as_str()).collect();
        lines(&mut out, Some(&what.join(", ")), &e.verdict);
        if let (Some(staged), Detail::Everything) = (&e.staged, detail) {
            let _ = writeln!(out, "        staged: {}", one_line(staged));
        }
        at += run;
    }
    for check in &finding.not_excused {
        let _ = writeln!(
            out,
            "      the exception does not cover this check: it has to name `check: {check:?}`"
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
    let row = |out: &mut String, name: &str, s: &Summary| {
        let _ = writeln!(
            out,
            "  {name:<20}{:>6}{:>7}{:>9}{:>10}{:>6}",
            s.pass, s.fail, s.unknown, s.excepted, s.not_applicable
        );
    };
    let _ = writeln!(
        out,
        "\n  {:<20}{:>6}{:>7}{:>9}{:>10}{:>6}",
        "", "holds", "fails", "unknown", "excepted", "n/a"
    );
    for (component, sum) in report.by_component() {
        row(out, &component.to_string(), &sum);
    }
    row(out, "all", &report.summary);
}

/// What was proven and what was not, for somebody who has never seen the report.
pub fn summary(report: &Verification) -> String {
    let mut out = String::new();
    let nodes: BTreeSet<_> = report.findings.iter().filter_map(|f| f.node.as_ref()).collect();
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
        controls.entry(f.control).or_default().extend(f.node.as_ref().map(|n| n.as_str()));
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
        f.node.as_ref() == Some(&attempt.target)
            && f.outcome() == Outcome::Fail
            && f.evidence.iter().any(|e| e.what == what)
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
    for a in report.attempts.iter().filter(|a| a.verdict.outcome() != Outcome::NotApplicable) {
        by_probe.entry(a.probe).or_default().push(a);
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
        let count = |o: Outcome| made.iter().filter(|a| a.verdict.outcome() == o).count();
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
        for a in made.iter().filter(|a| a.verdict.outcome() == Outcome::Fail) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::ExceptionGrant;
    use crate::inventory::testing;
    use time::OffsetDateTime;

    #[test]
    fn an_attempt_that_failed_by_an_exception_says_so() {
        let inventory = testing::two_and_two();
        let target = inventory.nodes[0].name.clone();
        let attempt = Attempt {
            target: target.clone(),
            probe: Probe::EffectiveSetting,
            from: "operator".into(),
            what: "kubelet protectKernelDefaults in effect".into(),
            verdict: Verdict::fail("true", "false"),
        };
        let said = |judged: bool, excepted: bool| {
            let what = if judged { attempt.evidence() } else { "something else".to_owned() };
            let evidence = Evidence {
                check: String::new(),
                what,
                verdict: attempt.verdict.clone(),
                staged: None,
            };
            let control = find("kubelet-protect-kernel-defaults").unwrap();
            let mut finding = Finding::new(control, Some(&target), vec![evidence]);
            finding.exception = excepted.then(|| ExceptionGrant {
                reason: "r".into(),
                owner: "o".into(),
                expires: "2999-01-01".into(),
            });
            let now = OffsetDateTime::UNIX_EPOCH;
            let attempts = vec![attempt.clone()];
            let report =
                Verification::new(&inventory, now, vec![finding], attempts, BTreeMap::new());
            summary(&report)
        };
        assert!(said(true, false).contains(": NOT as wanted once\n"), "{}", said(true, false));
        assert!(
            said(true, true).contains("NOT as wanted once by an exception"),
            "{}",
            said(true, true)
        );
        assert!(said(false, true).contains("NOT as wanted once, for which no control fails"));
        let one = said(true, true);
        assert!(one.contains("Cluster c: 1 node, 1 control to judge."), "{one}");
        assert!(one.contains("(1 attempt)") && one.contains("   1 fails by an exception"), "{one}");
    }

    #[test]
    fn what_is_switched_off_is_said_with_who_says_so() {
        let inventory = testing::with(
            "hardening: {controls: {kubelet-pod-pids-limit: off, policy-secrets-not-in-env: on, \
             etcd-client-cert-auth: {state: off, reason: a migration, owner: ops, \
             expires: 2999-01-01}}}\n",
        );
        let now = OffsetDateTime::UNIX_EPOCH;
        let report = Verification::new(&inventory, now, Vec::new(), Vec::new(), BTreeMap::new());
        for said in [summary(&report), text(&report, Detail::Short)] {
            let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
            // The worst first.
            assert!(at("etcd-client-cert-auth  critical") < at("kubelet-pod-pids-limit  "));
            at("until 2999-01-01 by ops: a migration");
            assert!(!said.contains("policy-secrets-not-in-env"), "{said}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["switched_off"][0]["control"], "etcd-client-cert-auth");
        assert_eq!(json["switched_off"][0]["granted"]["owner"], "ops");
        assert!(json["switched_off"][1].get("granted").is_none());
    }

    #[test]
    fn of_a_node_that_did_not_answer_nothing_is_called_judged_or_tried() {
        let inventory = testing::two_and_two();
        let (cp, worker) = (&inventory.nodes[0], inventory.nodes.last().unwrap());
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut found = crate::checks::unreachable(&inventory, worker, "no route");
        let lost = [(worker.name.clone(), "no route".to_owned())].into();
        let report = Verification::new(&inventory, now, found.clone(), Vec::new(), lost);
        let said = summary(&report);
        assert!(said.contains("1 node did not answer, and nothing is known of it:"), "{said}");
        assert!(said.contains(&format!("  {}: no route", worker.name)), "{said}");
        assert!(
            said.contains("Nothing could be tried") && !said.contains("(0 attempts)"),
            "{said}"
        );
        assert!(said.contains("   0 controls hold\n"), "{said}");
        let unknown = report.summary.unknown;
        assert!(
            unknown > 0 && said.contains(&format!("{unknown} could not be judged: ")),
            "{said}"
        );

        let control = find("host-firewall-control-plane").unwrap();
        let failed = Verdict::fail("policy drop", "accept");
        let evidence =
            vec![Evidence { what: "w".into(), check: "w".into(), verdict: failed, staged: None }];
        found.push(Finding::new(control, Some(&cp.name), evidence));
        let report = Verification::new(&inventory, now, found, Vec::new(), BTreeMap::new());
        let named = format!("1 fails: host-firewall-control-plane ({})", cp.name);
        assert!(summary(&report).contains(&named), "{}", summary(&report));
    }
}
