//! Everything that `assess` found, for machines. docs/rehardening.md says what each field is.

use serde::Serialize;

use super::words;
use crate::checks::gaps::{self, Gap, Unjudged};
use crate::checks::{self, Verification};
use crate::controls::{Affected, Component, Daemon, Severity};
use crate::discovery::{AnsweredBy, Changes, EtcdPlace, Found, FoundNode};
use crate::inventory::{Endpoint, IpNetText, NodeName, Role};
use crate::report::verification;

/// Format of the JSON report.
pub const FORMAT: &str = "kubastion-assessment/v1";

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report<'r> {
    format: &'static str,
    cluster: Cluster<'r>,
    gaps: Vec<JsonGap<'r>>,
    unknown: Vec<JsonUnknown<'r>>,
    verification: verification::json::Report<'r>,
}

#[derive(Debug, Serialize)]
struct Cluster<'r> {
    name: &'r str,
    kubernetes: &'r str,
    judged_as: String,
    distribution: &'static str,
    recognized_by: String,
    changes: Changes,
    can_be_judged: &'static str,
    endpoint: &'r Endpoint,
    answered_by: JsonAnsweredBy<'r>,
    pod_networks: &'r [IpNetText],
    service_networks: &'r [IpNetText],
    domain: &'r str,
    etcd: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    etcd_not_assessed: &'r [String],
    cni: &'r [String],
    nodes: Vec<JsonNode<'r>>,
    notes: &'r [String],
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum JsonAnsweredBy<'r> {
    Node { name: &'r NodeName },
    Floating { name: &'r NodeName },
    Outside,
}

#[derive(Debug, Serialize)]
struct JsonNode<'r> {
    name: &'r NodeName,
    addresses: &'r [std::net::IpAddr],
    role: Role,
    kubelet: &'r str,
    runtime: &'r str,
    os: &'r str,
}

#[derive(Debug, Serialize)]
struct JsonGap<'r> {
    control: &'static str,
    title: &'static str,
    component: Component,
    severity: Severity,
    mend: &'r [String],
    restarts: &'static [Daemon],
    noticed_by: Vec<Affected>,
    weak: Vec<JsonWeak<'r>>,
}

#[derive(Debug, Serialize)]
struct JsonWeak<'r> {
    #[serde(flatten)]
    on: On<'r>,
    seen: Vec<JsonSeen<'r>>,
}

/// The node; nothing where it is the cluster.
#[derive(Debug, Serialize)]
struct On<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'r NodeName>,
}

#[derive(Debug, Serialize)]
struct JsonSeen<'r> {
    what: &'r str,
    expected: &'r str,
    observed: &'r str,
}

#[derive(Debug, Serialize)]
struct JsonUnknown<'r> {
    control: &'static str,
    title: &'static str,
    severity: Severity,
    why: &'r str,
    nodes: Vec<&'r NodeName>,
}

/// Everything that the report needs to hold on to.
pub struct Parts {
    gaps: Vec<Gap>,
    unknown: Vec<Unjudged>,
}

impl Parts {
    /// Of what was found.
    pub fn of(report: &Verification) -> Self {
        Self { gaps: gaps::gaps(&report.findings), unknown: gaps::unjudged(&report.findings) }
    }
}

/// The report as what is serialized.
pub fn json<'r>(found: &'r Found, report: &'r Verification, parts: &'r Parts) -> Report<'r> {
    Report {
        format: FORMAT,
        cluster: cluster(found),
        gaps: parts.gaps.iter().map(gap).collect(),
        unknown: parts.unknown.iter().flat_map(unknown).collect(),
        verification: verification::json(report),
    }
}

fn cluster(found: &Found) -> Cluster<'_> {
    let row = found.recognized.distribution;
    let outside: &[String] = match &found.etcd {
        EtcdPlace::Outside(at) => at,
        _ => &[],
    };
    Cluster {
        name: found.name.as_str(),
        kubernetes: &found.release,
        judged_as: found.judged_as.to_string(),
        distribution: row.name,
        recognized_by: found.recognized.by(),
        changes: row.changes,
        can_be_judged: row.judged,
        endpoint: &found.endpoint,
        answered_by: match &found.answered_by {
            AnsweredBy::Node(name) => JsonAnsweredBy::Node { name },
            AnsweredBy::Floating(name) => JsonAnsweredBy::Floating { name },
            AnsweredBy::Outside => JsonAnsweredBy::Outside,
        },
        pod_networks: &found.pod_networks,
        service_networks: &found.service_networks,
        domain: found.domain.as_str(),
        etcd: words::etcd_name(&found.etcd),
        etcd_not_assessed: outside,
        cni: &found.cni,
        nodes: found.nodes.iter().map(node).collect(),
        notes: &found.notes,
    }
}

fn node(n: &FoundNode) -> JsonNode<'_> {
    JsonNode {
        name: &n.name,
        addresses: &n.addresses,
        role: n.role,
        kubelet: &n.kubelet,
        runtime: &n.runtime,
        os: &n.os,
    }
}

fn on(subject: &checks::Subject) -> On<'_> {
    On { node: subject.node() }
}

fn gap(gap: &Gap) -> JsonGap<'_> {
    JsonGap {
        control: gap.control.id,
        title: gap.control.title,
        component: gap.control.component,
        severity: gap.control.severity,
        mend: &gap.mend,
        restarts: gap.control.disruption.restarts,
        noticed_by: gap.control.disruption.everyone_affected(),
        weak: gap.weak.iter().map(weak).collect(),
    }
}

fn weak(w: &gaps::Weak) -> JsonWeak<'_> {
    JsonWeak { on: on(&w.subject), seen: w.seen.iter().map(seen).collect() }
}

fn seen(s: &gaps::FailedCheck) -> JsonSeen<'_> {
    JsonSeen { what: &s.what, expected: &s.expected, observed: &s.observed }
}

fn unknown(one: &Unjudged) -> impl Iterator<Item = JsonUnknown<'_>> {
    one.why.iter().map(|(why, on)| JsonUnknown {
        control: one.control.id,
        title: one.control.title,
        severity: one.control.severity,
        why,
        nodes: on.iter().filter_map(|s| s.node()).collect(),
    })
}
