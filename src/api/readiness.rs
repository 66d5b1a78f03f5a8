//! Waits for nodes and for what every cluster needs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{ApiError, Client};
use super::lists::one_page;
use super::objects;
use crate::facts::cluster::{ObjectKind, list, name, text};
use crate::inventory::NodeName;
use crate::plain::plain_line;
use crate::transport::http::HttpRequest;
use crate::transport::tail;

/// Pause between two checks of something that is not ready yet.
const POLL: Duration = Duration::from_millis(500);

/// Why something is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Nobody says so.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is not, and why.
    #[error("{0}")]
    Waiting(String),
    /// The time is over.
    #[error("not ready within {within_s} s: {why}")]
    Deadline {
        /// Seconds waited.
        within_s: u64,
        /// Why it was not at last.
        why: String,
    },
}

/// Whether a node is Ready, or waits for nothing but a pod network that is somebody else's to bring.
///
/// # Errors
/// What is known instead.
pub fn node_ready(client: &mut Client<'_>, node: &NodeName) -> Result<(), NotReady> {
    let path = objects::path(ObjectKind::Nodes, "", node.as_str())?;
    judge(&client.json(&HttpRequest::get(path))?).map_err(NotReady::Waiting)
}

fn judge(node: &Value) -> Result<(), String> {
    let ready = list(node, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
    let Some(ready) = ready else { return Err("its kubelet has not reported yet".into()) };
    match text(ready, "/status") {
        "True" => Ok(()),
        _ if waits_for_a_network(ready) => Ok(()),
        status => Err(format!(
            "Ready is {}: {}",
            tail(status.as_bytes()),
            tail(text(ready, "/message").as_bytes())
        )),
    }
}

fn waits_for_a_network(condition: &Value) -> bool {
    text(condition, "/message").contains("cni plugin not initialized")
}

/// Waits until a node is Ready.
///
/// # Errors
/// [`NotReady::Deadline`] with the last answer, when `within` has passed.
pub fn wait_for_node(
    client: &mut Client<'_>,
    node: &NodeName,
    within: Duration,
) -> Result<(), NotReady> {
    let deadline = Instant::now() + within;
    loop {
        match node_ready(client, node) {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => {
                return Err(NotReady::Deadline {
                    within_s: within.as_secs(),
                    why: why.to_string(),
                });
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// What a cluster is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Namespaces whose DaemonSets and Deployments have to be ready.
    pub namespaces: BTreeSet<String>,
    /// Whether nodes get their network from the run itself. They may wait for one that the user installs.
    pub network: bool,
}

impl Expected {
    /// DNS and kube-proxy, which every cluster needs.
    pub fn of_every_cluster() -> Self {
        Self { namespaces: [KUBE_SYSTEM.to_owned()].into(), network: false }
    }
}

const KUBE_SYSTEM: &str = "kube-system";

/// What is expected and not ready. Nothing as long as nodes wait for a network that the user installs.
///
/// # Errors
/// See [`ApiError`].
pub fn unready(client: &mut Client<'_>, expected: &Expected) -> Result<Vec<String>, ApiError> {
    let nodes = one_page(client, ObjectKind::Nodes.path())?;
    let waiting =
        nodes.iter().filter(|n| list(n, "/status/conditions").iter().any(waits_for_a_network));
    let waiting: Vec<&Value> = waiting.collect();
    if !waiting.is_empty() && !expected.network {
        return Ok(Vec::new());
    }
    let line = |n: &&Value| plain_line(&format!("Node {}: waits for its network", name(n)));
    let mut unready: Vec<String> = waiting.iter().map(line).collect();
    for space in &expected.namespaces {
        for (kind, plural) in [("DaemonSet", "daemonsets"), ("Deployment", "deployments")] {
            let path = format!("/apis/apps/v1/namespaces/{}/{plural}", objects::segment(space)?);
            for object in one_page(client, &path)? {
                if let Some(why) = unfinished(kind, &object) {
                    unready.push(plain_line(&format!("{kind} {space}/{}: {why}", name(&object))));
                }
            }
        }
    }
    Ok(unready)
}

/// Why the pods of a workload are not all of its latest kind and ready (what `kubectl rollout status` goes by).
fn unfinished(kind: &str, object: &Value) -> Option<String> {
    let number = |at: &str| object.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, updated, ready) = match kind {
        "DaemonSet" => (
            number("/status/desiredNumberScheduled"),
            number("/status/updatedNumberScheduled"),
            number("/status/numberReady"),
        ),
        _ => (
            number("/spec/replicas"),
            number("/status/updatedReplicas"),
            number("/status/readyReplicas"),
        ),
    };
    // What the status says is of an older version of it, as right after a restart.
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Some("its change is not rolled out yet".into());
    }
    // Pods that are replaced only when somebody deletes them stay as they are.
    let on_delete = text(object, "/spec/updateStrategy/type") == "OnDelete";
    if updated < wanted && !on_delete {
        return Some(format!("{updated} of {wanted} updated"));
    }
    (ready < wanted).then(|| format!("{ready} of {wanted} ready"))
}

/// Waits until all that is expected is ready, and calls `said` with what is not.
///
/// # Errors
/// [`NotReady::Deadline`] with what is not ready, or what was said instead.
pub fn wait_until_ready(
    client: &mut Client<'_>,
    expected: &Expected,
    within: Duration,
    said: &mut dyn FnMut(&str),
) -> Result<(), NotReady> {
    let deadline = Instant::now() + within;
    loop {
        let why = match unready(client, expected) {
            Ok(unready) if unready.is_empty() => return Ok(()),
            Ok(unready) => unready.join(", "),
            Err(e) => e.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(NotReady::Deadline { within_s: within.as_secs(), why });
        }
        said(&why);
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::api::played::Server;

    fn with(status: &str, message: &str) -> Value {
        json!({"status": {"conditions": [
            {"type": "DiskPressure", "status": "True"},
            {"type": "Ready", "status": status, "message": message},
        ]}})
    }

    #[test]
    fn only_a_ready_node_is_ready() {
        assert_eq!(judge(&with("True", "")), Ok(()));
        assert!(judge(&with("False", "PLEG is not healthy")).unwrap_err().contains("PLEG"));
        assert!(judge(&with("Unknown", "")).is_err());
        assert!(judge(&json!({})).is_err());
        // Whoever brings the pod network needs the node first.
        let waiting = "Network plugin returns error: cni plugin not initialized";
        assert_eq!(judge(&with("False", waiting)), Ok(()));
    }

    fn workload(generation: u64, observed: u64, updated: u64, ready: u64) -> Value {
        json!({
            "metadata": {"name": "kube-proxy", "generation": generation},
            "status": {"observedGeneration": observed, "desiredNumberScheduled": 2,
                       "updatedNumberScheduled": updated, "numberReady": ready},
        })
    }

    /// Seen in a lab: right after a restart, the numbers are those of the pods of before.
    #[test]
    fn a_restart_is_over_when_all_new_pods_are_ready() {
        for (of, why) in [
            (workload(2, 1, 2, 2), Some("its change is not rolled out yet")),
            (workload(2, 2, 1, 2), Some("1 of 2 updated")),
            (workload(2, 2, 2, 1), Some("1 of 2 ready")),
            (workload(2, 2, 2, 2), None),
        ] {
            assert_eq!(unfinished("DaemonSet", &of).as_deref(), why, "{of}");
        }
        let mut by_hand = workload(2, 2, 0, 2);
        by_hand["spec"]["updateStrategy"]["type"] = json!("OnDelete");
        assert_eq!(unfinished("DaemonSet", &by_hand), None);
        let deployment = |updated, ready| {
            json!({"metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": 1, "updatedReplicas": updated, "readyReplicas": ready}})
        };
        assert_eq!(unfinished("Deployment", &deployment(1, 2)).as_deref(), Some("1 of 2 updated"));
        assert_eq!(unfinished("Deployment", &deployment(2, 1)).as_deref(), Some("1 of 2 ready"));
        assert_eq!(unfinished("Deployment", &deployment(2, 2)), None);
    }

    /// A cluster whose DaemonSet is rolled out after some looks, if ever.
    fn server(rolled_out_after: usize, network: bool) -> Server {
        let looks = AtomicUsize::new(0);
        Server::new(move |method, path, _| {
            assert_eq!(method, "GET");
            let items = match path {
                "/api/v1/nodes" if network => json!([]),
                "/api/v1/nodes" => {
                    let mut node = with("False", "cni plugin not initialized");
                    node["metadata"] = json!({"name": "w1"});
                    json!([node])
                }
                "/apis/apps/v1/namespaces/kube-system/daemonsets" => {
                    let done = looks.fetch_add(1, Ordering::SeqCst) >= rolled_out_after;
                    json!([if done { workload(2, 2, 2, 2) } else { workload(2, 2, 1, 2) }])
                }
                _ => json!([]),
            };
            (200, json!({ "items": items }))
        })
    }

    #[test]
    fn a_wait_ends_with_the_rollout_or_says_what_is_left() {
        let expected = Expected::of_every_cluster();
        let mut said = Vec::new();
        let mut hear = |what: &str| said.push(what.to_owned());
        let within = Duration::from_secs(30);
        let mut client = server(1, true);
        wait_until_ready(&mut client.client(), &expected, within, &mut hear).unwrap();
        assert_eq!(said, ["DaemonSet kube-system/kube-proxy: 1 of 2 updated"]);
        let mut never = server(usize::MAX, true);
        let left = wait_until_ready(&mut never.client(), &expected, Duration::ZERO, &mut |_| {});
        let why = "DaemonSet kube-system/kube-proxy: 1 of 2 updated".to_owned();
        assert_eq!(left, Err(NotReady::Deadline { within_s: 0, why }));
    }

    #[test]
    fn nodes_are_waited_for_only_where_the_run_brings_their_network() {
        let mut expected = Expected::of_every_cluster();
        assert_eq!(unready(&mut server(0, false).client(), &expected), Ok(Vec::new()));
        expected.network = true;
        let left = unready(&mut server(0, false).client(), &expected).unwrap();
        assert_eq!(left, ["Node w1: waits for its network"]);
    }
}
