//! Waits for nodes and for what every cluster needs.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{ApiError, Client};
use super::lists::one_page;
use super::objects;
use crate::facts::cluster::{Kind, list, name, text};
use crate::inventory::NodeName;
use crate::plain::plain_line;
use crate::transport::http::HttpRequest;
use crate::transport::tail;

/// Pause between two looks at something that is not ready yet.
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
        /// Seconds that were waited.
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
    let path = objects::path(Kind::Nodes, "", node.as_str())?;
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

/// Workloads in kube-system that are not ready: DNS and kube-proxy, which every cluster needs. Empty while nodes wait for a
/// CNI that the user installs.
///
/// # Errors
/// See [`ApiError`].
pub fn unready_workloads(client: &mut Client<'_>) -> Result<Vec<String>, ApiError> {
    let nodes = one_page(client, Kind::Nodes.path())?;
    if nodes.iter().any(|n| list(n, "/status/conditions").iter().any(waits_for_a_network)) {
        return Ok(Vec::new());
    }
    let mut unready = Vec::new();
    for (kind, path, wanted, ready) in [
        ("DaemonSet", "daemonsets", "/status/desiredNumberScheduled", "/status/numberReady"),
        ("Deployment", "deployments", "/spec/replicas", "/status/readyReplicas"),
    ] {
        let objects = one_page(client, &format!("/apis/apps/v1/namespaces/kube-system/{path}"))?;
        let number = |o: &Value, at: &str| o.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        unready.extend(objects.iter().filter_map(|object| {
            let (wanted, ready) = (number(object, wanted), number(object, ready));
            let name = name(object);
            (ready < wanted).then(|| {
                plain_line(&format!("{kind} kube-system/{name}: {ready} of {wanted} ready"))
            })
        }));
    }
    Ok(unready)
}

/// Waits until DNS and kube-proxy are ready, and calls `said` whenever the reason for waiting changes.
///
/// # Errors
/// [`NotReady::Deadline`] with what is not ready, or what was said instead.
pub fn wait_for_workloads(
    client: &mut Client<'_>,
    within: Duration,
    said: &mut dyn FnMut(&str),
) -> Result<(), NotReady> {
    let deadline = Instant::now() + within;
    let mut last = String::new();
    loop {
        let why = match unready_workloads(client) {
            Ok(unready) if unready.is_empty() => return Ok(()),
            Ok(unready) => unready.join(", "),
            Err(e) => e.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(NotReady::Deadline { within_s: within.as_secs(), why });
        }
        if why != last {
            said(&why);
            last = why;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
