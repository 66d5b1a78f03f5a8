//! A node's pods leave before the node does: no new ones are put on it, and those that are there are
//! evicted, as PodDisruptionBudgets allow (Kubernetes documentation, "Safely Drain a Node" and
//! "API-initiated Eviction").
//!
//! Pods of DaemonSets stay, since they would come back at once, and so do static pods, which the API
//! server cannot end. Pods that have already ended are ignored.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::client::ANSWER;
use crate::api::lists::whole_list;
use crate::api::objects::path;
use crate::api::{ApiError, Client};
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::NodeName;
use crate::transport::http::HttpRequest;
use crate::transport::tail;

/// How long to wait, and how often to check.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Deadline for all pods of a node to be gone.
    pub within: Duration,
    /// Pause between two checks, and so between two attempts to evict a pod that a budget protects.
    pub pause: Duration,
}

/// Why a node still has pods.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// What runs on it is not known.
    #[error("the API server cannot list its pods")]
    Unreachable(#[source] ApiError),
    /// The deadline has passed.
    #[error("pods are left after {within_s} s: {}", left.join("; "))]
    Deadline {
        /// Seconds waited.
        within_s: u64,
        /// The pods, and why each is there.
        left: Vec<String>,
    },
}

/// A pod to evict.
struct Leaving {
    /// `namespace/name`.
    pod: String,
    /// Why it has not gone yet.
    why: String,
}

/// By uid: a StatefulSet's next pod has the name of the last one.
type Pods = BTreeMap<String, Leaving>;

/// Whether new pods may be put on a node; before, if that was otherwise. `None` if the cluster does not
/// know the node.
///
/// # Errors
/// What the API server said instead.
pub fn allow_pods(
    client: &mut Client<'_>,
    node: &NodeName,
    allow: bool,
) -> Result<Option<bool>, ApiError> {
    let path = path(ObjectKind::Nodes, "", node.as_str())?;
    let Some(found) = client.find(&HttpRequest::get(&path))? else { return Ok(None) };
    let allowed = found.pointer("/spec/unschedulable") != Some(&json!(true));
    if allowed != allow {
        let body = json!({"spec": {"unschedulable": !allow}});
        client.patch(&path, &body)?;
    }
    Ok(Some(allowed))
}

/// Evicts the pods of a node that takes no new ones, and waits until they are gone. `said` hears what is
/// waited for, each time that changes. Returns the pods that nothing makes anew elsewhere.
///
/// # Errors
/// If the pods cannot be listed at first, or are not all gone in time. What was evicted stays so.
pub fn drain(
    client: &mut Client<'_>,
    node: &NodeName,
    patience: Patience,
    said: &mut dyn FnMut(&str),
) -> Result<Vec<String>, DrainError> {
    let deadline = Instant::now() + patience.within;
    let mut ownerless = Vec::new();
    let mut leaving = Pods::new();
    for pod in pods(client, node).map_err(DrainError::Unreachable)?.iter().filter(|p| leaves(p)) {
        let called = format!("{}/{}", namespace(pod), name(pod));
        if owner(pod).is_none() {
            ownerless.push(called.clone());
        }
        let uid = text(pod, "/metadata/uid").to_owned();
        leaving.insert(uid, Leaving { pod: called, why: "to be evicted".into() });
    }
    let mut told = String::new();
    while !leaving.is_empty() {
        // A server that is down for a moment comes back, or the deadline passes.
        let broken = evict(client, node, &mut leaving).err();
        let left: Vec<String> = leaving
            .values()
            .map(|l| format!("{}: {}", l.pod, l.why))
            .chain(broken.map(|e| format!("last error: {e}")))
            .collect();
        if leaving.is_empty() {
            break;
        }
        let what = left.join("; ");
        if what != told {
            said(&what);
            told = what;
        }
        if Instant::now() >= deadline {
            return Err(DrainError::Deadline { within_s: patience.within.as_secs(), left });
        }
        std::thread::sleep(patience.pause);
    }
    Ok(ownerless)
}

fn list_of(node: &NodeName) -> String {
    format!("{}?fieldSelector=spec.nodeName%3D{node}", ObjectKind::Pods.path())
}

fn pods(client: &mut Client<'_>, node: &NodeName) -> Result<Vec<Value>, ApiError> {
    let found = whole_list(&mut client.connect(ANSWER)?, &list_of(node))?;
    Ok(list(&found, "/items").to_vec())
}

/// Looks which pods are still there, and tries to evict those that do not end yet. Over one connection.
fn evict(client: &mut Client<'_>, node: &NodeName, leaving: &mut Pods) -> Result<(), ApiError> {
    let within = ANSWER * u32::try_from(leaving.len() + 1).unwrap_or(u32::MAX);
    let mut connection = client.connect(within)?;
    let found = whole_list(&mut connection, &list_of(node))?;
    let here: BTreeMap<&str, &Value> =
        list(&found, "/items").iter().map(|p| (text(p, "/metadata/uid"), p)).collect();
    leaving.retain(|uid, _| here.contains_key(uid.as_str()));
    for (uid, entry) in leaving {
        let pod = here[uid.as_str()];
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            entry.why = "terminating".into();
            continue;
        }
        let (space, name) = (namespace(pod), name(pod));
        // With its uid: a pod that was made meanwhile under the same name is another one.
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": space},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let path = format!("{}/eviction", path(ObjectKind::Pods, space, name)?);
        let answer = connection.send(&HttpRequest::post(path, &body))?;
        entry.why = match answer.status {
            200..300 => "terminating".into(),
            // Deleted, or replaced by now: the next check shows which.
            404 | 409 => "already terminating or deleted".into(),
            // 429: a budget, or a server that is busy. All of them are tried again.
            status => {
                let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
                let message = tail(text(&said, "/message").as_bytes());
                format!("{message} (status {status})").trim_start().to_owned()
            }
        };
    }
    Ok(())
}

/// The owner that recreates a pod (Kubernetes documentation, "Owners and Dependents").
fn owner(pod: &Value) -> Option<&str> {
    let owners = list(pod, "/metadata/ownerReferences");
    owners.iter().find(|o| o["controller"] == true).map(|o| text(o, "/kind"))
}

/// Whether a pod has to go before its node does.
fn leaves(pod: &Value) -> bool {
    let mirror = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    !mirror && !ended && owner(pod) != Some("DaemonSet")
}
