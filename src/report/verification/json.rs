//! Everything that `verify` found, for machines. docs/evidence.md says what each field is.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::checks::findings::SwitchedOffControl;
use crate::checks::{self, ExceptionGrant, NothingToJudge, Outcome, Summary, Verdict};
use crate::controls::{Attack, Component, Severity};
use crate::digest::Digest;
use crate::inventory::{NodeName, Profile};

/// Format of the JSON report.
pub const FORMAT: &str = "kubastion-verification/v1";

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report<'r> {
    format: &'static str,
    cluster: &'r str,
    profile: Profile,
    time: &'r str,
    summary: &'r Summary,
    unreachable: &'r BTreeMap<NodeName, String>,
    switched_off: &'r [SwitchedOffControl],
    findings: Vec<Finding<'r>>,
    attempts: Vec<Attempt<'r>>,
}

/// The report as what is serialized.
pub fn json(report: &checks::Verification) -> Report<'_> {
    Report {
        format: FORMAT,
        cluster: &report.cluster,
        profile: report.profile,
        time: &report.time,
        summary: &report.summary,
        unreachable: &report.unreachable,
        switched_off: &report.switched_off,
        findings: report.findings.iter().map(finding).collect(),
        attempts: report.attempts.iter().map(attempt).collect(),
    }
}

#[derive(Debug, Serialize)]
struct Finding<'r> {
    control: &'static str,
    component: Component,
    title: &'static str,
    severity: Severity,
    subject: JsonSubject<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'r NodeName>,
    #[serde(flatten)]
    judged: Judged<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<&'r Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<&'r ExceptionGrant>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    not_excused: &'r [String],
    evidence: Vec<Evidence<'r>>,
}

fn finding(f: &checks::Finding) -> Finding<'_> {
    Finding {
        control: f.control,
        component: f.component,
        title: f.title,
        severity: f.severity,
        subject: subject(&f.subject),
        node: f.node(),
        judged: judged(&f.verdict, f.expected.as_deref()),
        staged: f.staged.as_ref(),
        exception: f.exception.as_ref(),
        not_excused: &f.not_excused,
        evidence: f.evidence.iter().map(evidence).collect(),
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum JsonSubject<'r> {
    Cluster,
    Object { kind: &'static str, namespace: &'static str, name: &'static str },
    Node { name: &'r NodeName },
}

fn subject(subject: &checks::Subject) -> JsonSubject<'_> {
    match subject {
        checks::Subject::Cluster => JsonSubject::Cluster,
        checks::Subject::Object { kind, namespace, name } => {
            JsonSubject::Object { kind, namespace, name }
        }
        checks::Subject::Node(name) => JsonSubject::Node { name },
    }
}

/// A verdict with what should be, whatever it is.
#[derive(Debug, Serialize)]
struct Judged<'r> {
    verdict: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<&'r str>,
    /// What `observed` was called before there was a name for it on every verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why<'r>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Why<'r> {
    Unknown(&'r str),
    NothingToJudge(&'r NothingToJudge),
}

fn judged<'r>(verdict: &'r Verdict, expected: Option<&'r str>) -> Judged<'r> {
    let (expected, observed, why) = match verdict {
        Verdict::Pass { actual } => (expected, Some(actual.as_str()), None),
        Verdict::Fail { expected, actual } => {
            (Some(expected.as_str()), Some(actual.as_str()), None)
        }
        Verdict::NotApplicable { why } => (expected, None, Some(Why::NothingToJudge(why))),
        Verdict::Unknown { why } => (expected, None, Some(Why::Unknown(why))),
    };
    Judged { verdict: verdict.outcome(), expected, observed, actual: observed, why }
}

#[derive(Debug, Serialize)]
struct Evidence<'r> {
    what: &'r str,
    check: &'r str,
    #[serde(flatten)]
    judged: Judged<'r>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<&'r Verdict>,
    sources: Vec<Source<'r>>,
}

fn evidence(e: &checks::Evidence) -> Evidence<'_> {
    Evidence {
        what: e.what(),
        check: e.check(),
        judged: judged(e.verdict(), Some(e.expected())),
        staged: e.staged(),
        sources: e.sources().iter().map(source).collect(),
    }
}

#[derive(Debug, Serialize)]
struct Source<'r> {
    kind: &'static str,
    what: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<&'r str>,
}

fn source(s: &checks::Source) -> Source<'_> {
    Source {
        kind: s.kind.name(),
        what: &s.what,
        sha256: s.sha256,
        read: s.read.and_then(moment),
        host_key: s.machine.as_ref().map(|m| m.host_key.as_str()),
        boot_id: s.machine.as_ref().map(|m| m.boot_id.as_str()),
    }
}

/// RFC 3339 in UTC, to the second.
fn moment(at: OffsetDateTime) -> Option<String> {
    at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

#[derive(Debug, Serialize)]
struct Attempt<'r> {
    target: &'r NodeName,
    attack: Attack,
    from: &'r str,
    what: &'r str,
    #[serde(flatten)]
    verdict: &'r Verdict,
    source: Source<'r>,
}

fn attempt(a: &checks::Attempt) -> Attempt<'_> {
    let tried = a.tried();
    Attempt {
        target: &tried.target,
        attack: tried.attack,
        from: &tried.from,
        what: &tried.what,
        verdict: a.verdict(),
        source: source(a.source()),
    }
}
