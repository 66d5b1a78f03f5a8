//! Everything that `impact` lists, for machines. docs/rehardening.md says what each field is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::discovery::Changes;
use crate::error::Problem;
use crate::impact::gate::Obstacles;
use crate::impact::{Impact, Item, Listed, NotSeen, Row, Section, Subject};
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
    /// Nothing without an inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_enforce: Option<BeforeEnforce<'r>>,
    unreachable: BTreeMap<&'r NodeName, String>,
}

#[derive(Debug, Serialize)]
struct Cluster<'r> {
    name: &'r str,
    kubernetes: &'r str,
    /// Nothing where the inventory says what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    distribution: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changes>,
    nodes: Vec<&'r NodeName>,
    notes: &'r [String],
}

#[derive(Debug, Serialize)]
struct BeforeEnforce<'r> {
    unobserved: &'r [String],
    unacknowledged: &'r [String],
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
    id: String,
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
    found: &'r Subject,
    impact: &'r Impact,
    obstacles: Option<&'r Obstacles>,
    unreachable: &'r BTreeMap<NodeName, Problem>,
) -> Report<'r> {
    Report {
        format: FORMAT,
        time: &impact.time,
        profile: impact.profile,
        cluster: Cluster {
            name: &found.name,
            kubernetes: &found.release,
            distribution: found.made_by.map(|(name, _)| name),
            changes: found.made_by.map(|(_, changes)| changes),
            nodes: found.nodes.iter().collect(),
            notes: &found.notes,
        },
        noticed: impact.listed.iter().map(listed).collect(),
        not_seen: impact.not_seen.iter().map(not_seen).collect(),
        before_enforce: obstacles.map(|o| BeforeEnforce {
            unobserved: &o.unobserved,
            unacknowledged: &o.unacknowledged,
        }),
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
        items: listed.found.as_ref().ok().map(|items| items.iter().map(|i| item(row, i)).collect()),
    }
}

fn item<'i>(row: &Row, item: &'i Item) -> JsonItem<'i> {
    JsonItem {
        id: item.id(row),
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
