//! Everything that `impact` lists, for machines. docs/rehardening.md says what each field is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::discovery::{Changes, Found};
use crate::error::Problem;
use crate::impact::{Impact, Item, Listed, NotSeen, Section};
use crate::inventory::{NodeName, Profile};

/// Format of the JSON report.
pub const FORMAT: &str = "kubastion-impact/v1";

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report<'r> {
    format: &'static str,
    time: &'r str,
    profile: Profile,
    cluster: Cluster<'r>,
    noticed: Vec<JsonRow<'r>>,
    not_seen: Vec<JsonNotSeen<'r>>,
    unreachable: BTreeMap<&'r NodeName, String>,
}

#[derive(Debug, Serialize)]
struct Cluster<'r> {
    name: &'r str,
    kubernetes: &'r str,
    distribution: &'static str,
    changes: Changes,
    nodes: Vec<&'r NodeName>,
    notes: &'r [String],
}

#[derive(Debug, Serialize)]
struct JsonRow<'r> {
    id: &'static str,
    section: Section,
    title: &'static str,
    hardening: &'static str,
    noticed_by: &'static str,
    found_by: &'static str,
    /// Nothing where they are not known; `not_seen` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<JsonItem<'r>>>,
}

#[derive(Debug, Serialize)]
struct JsonItem<'r> {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    seen: Vec<JsonSeen<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    of_kubernetes: bool,
}

#[derive(Debug, Serialize)]
struct JsonSeen<'r> {
    what: &'r str,
    said: &'r str,
}

#[derive(Debug, Serialize)]
struct JsonNotSeen<'r> {
    what: &'r str,
    why: &'r str,
}

/// The report as what is serialized.
pub fn json<'r>(
    found: &'r Found,
    impact: &'r Impact,
    unreachable: &'r BTreeMap<NodeName, Problem>,
) -> Report<'r> {
    let row = found.recognized.distribution;
    Report {
        format: FORMAT,
        time: &impact.time,
        profile: impact.profile,
        cluster: Cluster {
            name: found.name.as_str(),
            kubernetes: &found.release,
            distribution: row.name,
            changes: row.changes,
            nodes: found.nodes.iter().map(|n| &n.name).collect(),
            notes: &found.notes,
        },
        noticed: impact.listed.iter().map(listed).collect(),
        not_seen: impact.not_seen.iter().map(not_seen).collect(),
        unreachable: unreachable.iter().map(|(node, p)| (node, p.why.join(": "))).collect(),
    }
}

fn listed(listed: &Listed) -> JsonRow<'_> {
    let row = listed.row;
    JsonRow {
        id: row.id,
        section: row.section,
        title: row.title,
        hardening: row.hardening,
        noticed_by: row.noticed_by,
        found_by: row.found_by,
        items: listed.found.as_ref().ok().map(|items| items.iter().map(item).collect()),
    }
}

fn item(item: &Item) -> JsonItem<'_> {
    JsonItem {
        kind: item.kind,
        namespace: &item.namespace,
        name: &item.name,
        state: item.state,
        seen: item.seen.iter().map(|(what, said)| JsonSeen { what, said }).collect(),
        count: item.count.map(|(n, _)| n),
        of_kubernetes: item.of_kubernetes,
    }
}

fn not_seen(one: &NotSeen) -> JsonNotSeen<'_> {
    JsonNotSeen { what: &one.what, why: &one.why }
}
