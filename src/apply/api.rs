//! The cluster's API, asked with the administrator's certificate over a connection that a control-plane
//! node opens to its own API server.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::gate::{Until, chain};
use crate::inventory::NodeName;
use crate::pki::kubeconfig::API_PORT;
use crate::plain::plain_line;
use crate::secret::Secret;
use crate::transport::https::{ClientIdentity, Conversation, HttpAnswer, HttpRequest, TlsClient};
use crate::transport::{Transport, tail};

/// How long one question may take. Nothing but a machine without acceleration has needed more than five.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Pause between two looks at something that is not ready yet.
const POLL: Duration = Duration::from_millis(500);

/// How the API servers are asked.
pub struct ApiAccess {
    /// The control planes and their internal addresses.
    pub servers: Vec<(NodeName, IpAddr)>,
    /// The cluster CA's certificate, PEM.
    pub ca_pem: String,
    /// The administrator's certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret<Vec<u8>>,
}

impl ApiAccess {
    /// A connection to the API server at an address, that `through` opens, for one question after
    /// another.
    ///
    /// # Errors
    /// What the server or the way to it said instead.
    pub fn converse<'t>(
        &self,
        through: &'t mut dyn Transport,
        server: IpAddr,
        within: Duration,
    ) -> Result<Conversation<'t>, String> {
        let identity =
            ClientIdentity { certificate_pem: &self.certificate_pem, key_pem: &self.key_pem };
        let host = server.to_string();
        let stream =
            through.dial(&host, API_PORT, Duration::from_secs(5)).map_err(|e| chain(&e))?;
        let stream = Box::new(Until { stream, deadline: Instant::now() + within });
        let client = TlsClient {
            ca_pem: Some(&self.ca_pem),
            server: &host,
            identity: Some(identity),
            max_version: None,
            ciphers: None,
        };
        Conversation::open(stream, &client).map_err(|e| chain(&e))
    }

    /// One request to the API server at an address, over a connection that `through` opens.
    ///
    /// # Errors
    /// What the server or the way to it said instead; an HTTP status is an answer.
    pub fn ask(
        &self,
        through: &mut dyn Transport,
        server: IpAddr,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<HttpAnswer, String> {
        let body = body.map(Value::to_string);
        let request = HttpRequest { method, path, token: None, json: body.as_deref() };
        self.converse(through, server, ANSWER)?.ask(&request).map_err(|e| chain(&e))
    }

    /// A request whose answer must be 200 or 201 and JSON.
    ///
    /// # Errors
    /// What the server or the way to it said instead.
    pub fn json(
        &self,
        through: &mut dyn Transport,
        server: IpAddr,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        decode(method, path, &self.ask(through, server, method, path, body)?)
    }
}

/// The JSON of an answer that says yes.
pub(super) fn decode(method: &str, path: &str, answer: &HttpAnswer) -> Result<Value, String> {
    if !(200..300).contains(&answer.status) {
        let said = tail(&answer.body[..answer.body.len().min(300)]);
        return Err(format!("{method} {path} answers {}: {said}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|e| format!("{method} {path}: {e}"))
}

/// Whether a node is Ready, or waits for nothing but a pod network that is somebody else's to bring.
///
/// # Errors
/// What is known instead.
pub fn node_ready(
    through: &mut dyn Transport,
    server: IpAddr,
    access: &ApiAccess,
    node: &NodeName,
) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{node}");
    judge(&access.json(through, server, "GET", &path, None)?)
}

fn judge(node: &Value) -> Result<(), String> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|c| c.get("type") == Some(&"Ready".into()));
    let Some(ready) = ready else { return Err("its kubelet has not reported yet".into()) };
    let text = |key: &str| ready.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("status") {
        "True" => Ok(()),
        _ if text("message").contains("cni plugin not initialized") => Ok(()),
        status => Err(format!("Ready is {status}: {}", tail(text("message").as_bytes()))),
    }
}

/// Waits until a node is Ready.
///
/// # Errors
/// The last answer, when `within` has passed.
pub fn wait_for_node(
    through: &mut dyn Transport,
    server: IpAddr,
    access: &ApiAccess,
    node: &NodeName,
    within: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        match node_ready(through, server, access, node) {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => {
                return Err(format!("not ready within {} s: {why}", within.as_secs()));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Workloads in kube-system that are not ready: DNS and kube-proxy, which every cluster needs. Empty while nodes wait for a
/// CNI that the user installs.
///
/// # Errors
/// What the server or the way to it said instead.
pub fn unready_workloads(
    through: &mut dyn Transport,
    server: IpAddr,
    access: &ApiAccess,
) -> Result<Vec<String>, String> {
    let mut get = |path: &str| access.json(through, server, "GET", path, None);
    let nodes = get("/api/v1/nodes")?;
    let items = |list: &Value| list.get("items").and_then(Value::as_array).cloned();
    let waits = |node: &Value| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let all = conditions.into_iter().flatten();
        all.filter_map(|c| c.get("message").and_then(Value::as_str))
            .any(|m| m.contains("cni plugin not initialized"))
    };
    if items(&nodes).unwrap_or_default().iter().any(waits) {
        return Ok(Vec::new());
    }
    let mut unready = Vec::new();
    for (kind, path, wanted, ready) in [
        ("DaemonSet", "daemonsets", "/status/desiredNumberScheduled", "/status/numberReady"),
        ("Deployment", "deployments", "/spec/replicas", "/status/readyReplicas"),
    ] {
        let list = get(&format!("/apis/apps/v1/namespaces/kube-system/{path}"))?;
        let items = items(&list).ok_or_else(|| format!("the list of {path} has no items"))?;
        let number = |o: &Value, at: &str| o.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        unready.extend(items.iter().filter_map(|object| {
            let (wanted, ready) = (number(object, wanted), number(object, ready));
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?");
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
/// What is not ready, or what was said instead, when `within` has passed.
pub fn wait_for_workloads(
    through: &mut dyn Transport,
    server: IpAddr,
    access: &ApiAccess,
    within: Duration,
    said: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let mut last = String::new();
    loop {
        let waiting = match unready_workloads(through, server, access) {
            Ok(unready) if unready.is_empty() => return Ok(()),
            Ok(unready) => unready.join(", "),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(format!("{waiting} after {} s", within.as_secs()));
        }
        if waiting != last {
            said(&waiting);
            last = waiting;
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
