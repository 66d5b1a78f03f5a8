//! Objects of the cluster's API as they should be against those that are there.

use serde_json::Value;

use crate::desired::differences::{differences, find, is_as_desired};
use crate::desired::objects::{DesiredObject, Owner, Wanted, When, objects};
use crate::facts::cluster::is_steady;
use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, namespace, text};
use crate::inventory::Inventory;
use crate::plan::api_change::{Action, ApiChange};

/// What is to be done with objects that should exist. Where something that it depends on could not be read, nothing is.
pub(super) fn changes(
    inventory: &Inventory,
    facts: &ClusterFacts,
    wanted: Wanted,
) -> Vec<ApiChange> {
    let namespaces = facts.of(ObjectKind::Namespaces).unwrap_or_default();
    let steady = namespaces.iter().map(name).filter(|space| is_steady(facts, space));
    let all = objects(inventory, steady, wanted);
    let mut changes: Vec<ApiChange> = Vec::new();
    for object in &all {
        let Ok(listed) = facts.of(object.kind) else { continue };
        let found = find(object, listed);
        let differs = differences(object, found);
        let action = match (object.owner, found) {
            (Owner::Kubastion(_), None) => Action::Create,
            // Created by others: whether it already exists makes no difference.
            _ => Action::Change,
        };
        let is_due = action == Action::Create || !differs.is_empty();
        if !is_due || !may(object, found, listed, &all, facts) {
            continue;
        }
        // Without its prerequisite, the object would do harm.
        let first = |name: &str| {
            let first =
                all.iter().find(|o| (o.name(), o.namespace()) == (name, object.namespace()));
            first.is_some_and(|o| facts.of(o.kind).is_ok_and(|l| is_as_desired(o, l)))
                || changes.iter().any(|c| c.object() == Some((object.namespace(), name)))
        };
        if action == Action::Create && !object.after.is_none_or(first) {
            continue;
        }
        changes.push(ApiChange::Apply {
            action,
            object: object.body.clone(),
            differs: if action == Action::Create { Vec::new() } else { differs },
            after: object.after.map(str::to_owned),
            controls: object.controls.iter().copied().collect(),
        });
    }
    changes
}

/// Whether an object can be created or changed now without harm.
fn may(
    object: &DesiredObject,
    found: Option<&Value>,
    listed: &[Value],
    all: &[DesiredObject],
    facts: &ClusterFacts,
) -> bool {
    let space = object.namespace();
    let pods = facts.of(ObjectKind::Pods);
    match (object.when, pods) {
        (When::Always, _) => true,
        (When::Exists, _) => found.is_some(),
        // While it is unknown what runs, nothing is changed.
        (_, Err(_)) => false,
        (When::NoTokenMounted, Ok(pods)) => {
            !pods.iter().any(|p| namespace(p) == space && mounts_default(p))
        }
        // One that says something else is put back. One that is missing could cut off pods that rely on what is allowed
        // without it, and might say another thing than somebody's own.
        (When::NamespaceUnused, Ok(pods)) => {
            let is_own = |o: &Value| {
                all.iter()
                    .any(|w| (w.kind, w.namespace(), w.name()) == (object.kind, space, name(o)))
            };
            let mut here = listed.iter().filter(|o| namespace(o) == space);
            found.is_some() || (!pods.iter().any(|p| namespace(p) == space) && here.all(is_own))
        }
    }
}

/// Whether a pod holds a token of the default ServiceAccount.
fn mounts_default(pod: &Value) -> bool {
    matches!(text(pod, "/spec/serviceAccountName"), "" | "default")
        && list(pod, "/spec/volumes").iter().any(|v| {
            list(v, "/projected/sources").iter().any(|s| s.get("serviceAccountToken").is_some())
        })
}

#[cfg(test)]
mod tests;
