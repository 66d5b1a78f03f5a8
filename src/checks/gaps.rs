//! Gaps: failures by control, the worst first, with their fixes.

use std::collections::BTreeMap;

use crate::checks::judge::words;
use crate::checks::model::{Evidence, Finding, Outcome, Subject, Verdict};
use crate::checks::source::SourceKind;
use crate::controls::settings::{FlagOrSetting, remediation, remediation_of};
use crate::controls::{Check, Component, Control, Severity, find};

/// A control that fails somewhere.
#[derive(Debug, Clone)]
pub struct Gap {
    /// The control.
    pub control: &'static Control,
    /// Where it fails.
    pub weak: Vec<Weak>,
    /// What to set where, or what has to hold.
    pub mend: Vec<String>,
}

/// A node or the cluster on which a control fails.
#[derive(Debug, Clone)]
pub struct Weak {
    /// Where.
    pub subject: Subject,
    /// The checks that fail there.
    pub seen: Vec<FailedCheck>,
}

/// One check that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCheck {
    /// What was checked.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The observed value.
    pub observed: String,
}

/// What could not be judged, and why.
#[derive(Debug, Clone)]
pub struct Unjudged {
    /// The control.
    pub control: &'static Control,
    /// Why, and where for that reason.
    pub why: BTreeMap<String, Vec<Subject>>,
}

/// Everything that fails, the worst first.
pub fn gaps(findings: &[Finding]) -> Vec<Gap> {
    let failing = by_control(findings, |f| f.outcome() == Outcome::Fail && f.exception.is_none());
    let gap = |(control, found): (&'static Control, Vec<&Finding>)| Gap {
        mend: mend(control, &found),
        weak: found.into_iter().map(weak).collect(),
        control,
    };
    failing.into_iter().map(gap).collect()
}

/// Everything that is unknown, the worst first.
pub fn unjudged(findings: &[Finding]) -> Vec<Unjudged> {
    let unknown = by_control(findings, |f| f.outcome() == Outcome::Unknown);
    let of = |(control, found): (&'static Control, Vec<&Finding>)| {
        let mut why: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
        for finding in found {
            if let Verdict::Unknown { why: said } = &finding.verdict {
                why.entry(said.clone()).or_default().push(finding.subject.clone());
            }
        }
        Unjudged { control, why }
    };
    unknown.into_iter().map(of).collect()
}

/// Gaps by severity, the worst first: how many controls, and how many findings.
pub fn by_severity(gaps: &[Gap]) -> Vec<(Severity, usize, usize)> {
    let all = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];
    let count = |severity| {
        let of: Vec<&Gap> = gaps.iter().filter(|g| g.control.severity == severity).collect();
        (severity, of.len(), of.iter().map(|g| g.weak.len()).sum())
    };
    all.map(count).into()
}

/// The components that gaps are about, with how many each has.
pub fn by_component(gaps: &[Gap]) -> BTreeMap<Component, usize> {
    let mut counts = BTreeMap::new();
    gaps.iter().for_each(|g| *counts.entry(g.control.component).or_default() += 1);
    counts
}

fn by_control(
    findings: &[Finding],
    is_meant: impl Fn(&Finding) -> bool,
) -> Vec<(&'static Control, Vec<&Finding>)> {
    let mut all: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings.iter().filter(|f| is_meant(f)) {
        all.entry(finding.control).or_default().push(finding);
    }
    let mut all: Vec<(&'static Control, Vec<&Finding>)> =
        all.into_iter().filter_map(|(id, found)| Some((find(id)?, found))).collect();
    all.sort_by_key(|(control, _)| (std::cmp::Reverse(control.severity), control.id));
    all
}

fn failing(finding: &Finding) -> impl Iterator<Item = (&Evidence, &str, &str)> {
    finding.evidence.iter().filter_map(|e| match e.verdict() {
        Verdict::Fail { expected, actual } => Some((e, expected.as_str(), actual.as_str())),
        _ => None,
    })
}

fn weak(finding: &Finding) -> Weak {
    let seen = failing(finding).map(|(e, expected, observed)| FailedCheck {
        what: e.what().to_owned(),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    });
    Weak { subject: finding.subject.clone(), seen: seen.collect() }
}

/// What is set where, for flags and settings that fail; what has to be so, for all else that was seen to fail. What comes of
/// attempts alone has to be so, too: otherwise it is what comes of the rest.
fn mend(control: &'static Control, found: &[&Finding]) -> Vec<String> {
    let all: Vec<(&Evidence, &str, &str)> = found.iter().flat_map(|f| failing(f)).collect();
    let fails = |check: &Check| all.iter().any(|(e, ..)| e.check() == words(check));
    let is_set = |check: &Check| matches!(check, Check::Flag(..) | Check::Setting(..));
    let mut lines = remediation_of(control, |subject| {
        control.checks.iter().filter(|c| fails(c)).any(|c| match *c {
            Check::Flag(daemon, name, ..) => subject == FlagOrSetting::Flag(daemon, name),
            Check::Setting(config, path, ..) => subject == FlagOrSetting::Setting(config, path),
            _ => false,
        })
    });
    let is_of_set = |e: &Evidence| {
        control.checks.iter().any(|c| is_set(c) && e.check() == words(c)) && !lines.is_empty()
    };
    let is_attempt = |e: &Evidence| e.sources().iter().any(|s| s.kind == SourceKind::Attempt);
    let line = |e: &Evidence, expected: &str| format!("{}: {expected}", e.what());
    let (tried, seen): (Vec<_>, Vec<_>) =
        all.iter().filter(|(e, ..)| !is_of_set(e)).partition(|(e, ..)| is_attempt(e));
    let seen: Vec<String> = seen.iter().map(|(e, expected, _)| line(e, expected)).collect();
    lines.extend(seen);
    if lines.is_empty() {
        lines = remediation(control);
    }
    if lines.is_empty() {
        lines.extend(tried.iter().map(|(e, expected, _)| line(e, expected)));
    }
    let mut once = std::collections::BTreeSet::new();
    lines.retain(|l| once.insert(l.clone()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::model::Asked;
    use crate::checks::source::Source;

    fn finding(id: &str, node: &str, verdicts: Vec<(&str, Verdict)>) -> Finding {
        let evidence = verdicts.into_iter().map(|(what, verdict)| {
            let asked = Asked { what: what.into(), check: what.into(), expected: "e".into() };
            let kind = match what.starts_with("try") {
                true => SourceKind::Attempt,
                false => SourceKind::File,
            };
            let source = Source {
                sha256: Some(crate::digest::Digest::of("x")),
                ..Source::without_answer(kind, "f")
            };
            Evidence::new(asked, verdict, source.into())
        });
        let subject = Subject::Node(node.parse().unwrap());
        Finding::new(find(id).unwrap(), subject, evidence.collect())
    }

    #[test]
    fn gaps_are_failures_by_control_the_worst_first() {
        let found = [
            finding("host-accounts", "a", vec![("passwd", Verdict::fail("one root", "two"))]),
            finding(
                "kcm-profiling-off",
                "a",
                vec![("kube-controller-manager --profiling", Verdict::fail("false", "true"))],
            ),
            finding(
                "kcm-profiling-off",
                "b",
                vec![
                    ("kube-controller-manager --profiling", Verdict::fail("false", "none")),
                    ("try", Verdict::pass("404")),
                ],
            ),
            finding("kcm-bind-localhost", "a", vec![("flag", Verdict::pass("127.0.0.1"))]),
            finding("etcd-data-dir", "a", vec![("dir", Verdict::unknown("not seen"))]),
        ];
        let gaps = gaps(&found);
        let ids: Vec<&str> = gaps.iter().map(|g| g.control.id).collect();
        let mut wanted = vec!["host-accounts", "kcm-profiling-off"];
        wanted.sort_by_key(|id| std::cmp::Reverse(find(id).unwrap().severity));
        assert_eq!(ids, wanted);
        let profiling = gaps.iter().find(|g| g.control.id == "kcm-profiling-off").unwrap();
        assert_eq!(profiling.weak.len(), 2);
        let seen = FailedCheck {
            what: "kube-controller-manager --profiling".into(),
            expected: "false".into(),
            observed: "none".into(),
        };
        assert_eq!(profiling.weak[1].seen, [seen]);
        assert_eq!(profiling.mend, ["kube-controller-manager --profiling=false"]);
        // Where nothing is set, what has to be so.
        let accounts = gaps.iter().find(|g| g.control.id == "host-accounts").unwrap();
        assert_eq!(accounts.mend, ["passwd: one root"]);
        // A flag that holds is not named, and an attempt that succeeds only where nothing else is to be done.
        let mend = |id: &str, verdicts| super::gaps(&[finding(id, "a", verdicts)])[0].mend.clone();
        let (bad, dir) = (Verdict::fail("e", "x"), "/var/lib/etcd");
        assert_eq!(mend("etcd-data-dir", vec![(dir, bad.clone())]), ["/var/lib/etcd: e"]);
        let both = vec![("our table", bad.clone()), ("try", bad.clone())];
        assert_eq!(mend("host-firewall-worker", both), ["our table: e"]);
        assert_eq!(mend("host-firewall-worker", vec![("try", bad.clone())]), ["try: e"]);
        let flag = "kube-apiserver --profiling";
        let tried = vec![(flag, Verdict::pass("false")), ("try", bad)];
        assert_eq!(mend("apiserver-profiling-off", tried), ["kube-apiserver --profiling=false"]);
        let counts: usize = by_severity(&gaps).iter().map(|(_, n, _)| n).sum();
        assert_eq!((counts, by_component(&gaps).values().sum::<usize>()), (2, 2));
        // What is unknown is neither a gap nor forgotten.
        let unknown = unjudged(&found);
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].why["not seen"].len(), 1);
    }
}
