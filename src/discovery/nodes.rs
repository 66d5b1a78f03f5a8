//! The machines that the cluster's API names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, namespace, text};
use crate::inventory::{NodeName, Role};

/// A Node object, as far as an inventory or a report depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNode {
    /// Its name.
    pub name: NodeName,
    /// Its internal addresses, the first is what others reach it by.
    pub addresses: Vec<IpAddr>,
    /// Its role in the cluster.
    pub role: Role,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet: String,
    /// `status.nodeInfo.containerRuntimeVersion`.
    pub runtime: String,
    /// `status.nodeInfo.osImage`.
    pub os: String,
    /// `spec.providerID`.
    pub provider: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Labels that make a node a control plane, kubeadm's and those before it.
const CONTROL_PLANE: &[&str] =
    &["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The nodes of a cluster, and what is wrong with those that are left out.
///
/// # Errors
/// Why they are not known.
pub fn found(facts: &ClusterFacts) -> Result<(Vec<FoundNode>, Vec<String>), String> {
    let (mut nodes, mut left_out) = (Vec::new(), Vec::new());
    for node in facts.of(ObjectKind::Nodes)? {
        let called = name(node);
        let Ok(known) = called.parse::<NodeName>() else {
            left_out.push(format!("a Node has no usable name: {called:?}"));
            continue;
        };
        let addresses = addresses(node);
        if addresses.is_empty() {
            left_out.push(format!("Node {known} has no internal address: it cannot be assessed"));
            continue;
        }
        let info = |key: &str| text(node, &format!("/status/nodeInfo/{key}")).to_owned();
        nodes.push(FoundNode {
            role: role(&known, node, facts),
            addresses,
            kubelet: info("kubeletVersion"),
            runtime: info("containerRuntimeVersion"),
            os: info("osImage"),
            provider: text(node, "/spec/providerID").to_owned(),
            labels: labels(node),
            name: known,
        });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((nodes, left_out))
}

/// One for each family: a Node may name more, and others use the first.
fn addresses(node: &Value) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for entry in list(node, "/status/addresses") {
        if text(entry, "/type") != "InternalIP" {
            continue;
        }
        let Ok(address) = text(entry, "/address").parse::<IpAddr>() else { continue };
        if !all.iter().any(|a| a.is_ipv4() == address.is_ipv4()) {
            all.push(address);
        }
    }
    all
}

fn labels(node: &Value) -> BTreeMap<String, String> {
    let all = node.pointer("/metadata/labels").and_then(Value::as_object);
    let word = |(k, v): (&String, &Value)| Some((k.clone(), v.as_str()?.to_owned()));
    all.into_iter().flatten().filter_map(word).collect()
}

/// By its label, or by an API server that runs there as a static pod: a label can be lost.
fn role(node: &NodeName, object: &Value, facts: &ClusterFacts) -> Role {
    let labelled = labels(object);
    if CONTROL_PLANE.iter().any(|l| labelled.contains_key(*l)) {
        return Role::ControlPlane;
    }
    let pods = facts.of(ObjectKind::Pods).unwrap_or_default();
    let wanted = format!("kube-apiserver-{node}");
    let serves = |p: &&Value| {
        namespace(p) == "kube-system"
            && name(p) == wanted
            && text(p, "/spec/nodeName") == node.as_str()
            && p.pointer("/metadata/annotations")
                .is_some_and(|a| a.get("kubernetes.io/config.mirror").is_some())
    };
    if pods.iter().any(|p| serves(&p)) { Role::ControlPlane } else { Role::Worker }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A Node as an API server has it.
    pub(crate) fn node(name: &str, address: &str, labels: Value) -> Value {
        json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"providerID": ""},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": name},
                    {"type": "ExternalIP", "address": "203.0.113.9"},
                    {"type": "InternalIP", "address": address},
                ],
                "nodeInfo": {
                    "kubeletVersion": "v1.36.2", "containerRuntimeVersion": "containerd://2.1.9",
                    "osImage": "Debian GNU/Linux 12 (bookworm)",
                },
            },
        })
    }

    #[test]
    fn nodes_have_internal_addresses_and_roles() {
        let mut facts = ClusterFacts::default();
        assert!(found(&facts).is_err());
        let mut dual = node("w2", "192.0.2.21", json!({}));
        let more = ["192.0.2.22", "2001:db8::21", "x"]
            .map(|a| json!({"type": "InternalIP", "address": a}));
        dual["status"]["addresses"].as_array_mut().unwrap().extend(more);
        let mut homeless = node("w3", "192.0.2.23", json!({}));
        homeless["status"]["addresses"] = json!([]);
        facts.objects.insert(
            ObjectKind::Nodes,
            vec![
                dual,
                node("cp2", "192.0.2.12", json!({})),
                node("cp1", "192.0.2.11", json!({"node-role.kubernetes.io/control-plane": ""})),
                homeless,
                node("-", "192.0.2.9", json!({})),
            ],
        );
        // The label of the second is lost; somebody else's pod makes no control plane of a worker.
        let pod = |space: &str, on: &str, mirror: &str| {
            json!({"metadata": {"name": format!("kube-apiserver-{on}"), "namespace": space,
                "annotations": {mirror: "x"}}, "spec": {"nodeName": on}})
        };
        facts.objects.insert(
            ObjectKind::Pods,
            vec![
                pod("kube-system", "cp2", "kubernetes.io/config.mirror"),
                pod("default", "w2", "kubernetes.io/config.mirror"),
                pod("kube-system", "w2", "another"),
            ],
        );
        let (nodes, left_out) = found(&facts).unwrap();
        let said: Vec<_> =
            nodes.iter().map(|n| format!("{} {} {}", n.name, n.role, n.addresses.len())).collect();
        assert_eq!(said, ["cp1 control-plane 1", "cp2 control-plane 1", "w2 worker 2"]);
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert_eq!(nodes[0].addresses[0].to_string(), "192.0.2.11");
        assert_eq!(nodes[0].kubelet, "v1.36.2");
    }
}
