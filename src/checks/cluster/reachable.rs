//! TCP addresses of pods and Services, from the cluster's API.

use std::net::IpAddr;

use serde_json::Value;

use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, namespace, text};
use crate::inventory::NodeName;

/// An address of a pod or a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InnerAddress {
    /// What answers there, as in `Service default/kubernetes`.
    pub what: String,
    /// Its address.
    pub address: IpAddr,
    /// A TCP port of it.
    pub port: u16,
}

/// Services that every cluster has, and a pod of the node: a pod elsewhere would answer a stranger past this node.
pub(in crate::checks) fn inner(node: &NodeName, facts: &ClusterFacts) -> Vec<InnerAddress> {
    let services = facts.of(ObjectKind::Services).unwrap_or_default();
    let known = [("default", "kubernetes"), ("kube-system", "kube-dns")];
    let mut found = Vec::new();
    for (space, called) in known {
        let service = services.iter().find(|s| namespace(s) == space && name(s) == called);
        found.extend(service.into_iter().flat_map(of_service));
    }
    let pods = facts.of(ObjectKind::Pods).unwrap_or_default();
    let mut pods: Vec<&Value> = pods.iter().filter(|p| answers(p, node)).collect();
    // Those of the system first: others may have a policy of their own.
    pods.sort_by_key(|p| (namespace(p) != "kube-system", namespace(p), name(p)));
    found.extend(pods.into_iter().map(of_pod).find(|f| !f.is_empty()).unwrap_or_default());
    found
}

fn port(ports: &[Value], key: &str) -> Option<u16> {
    let tcp = ports.iter().find(|p| matches!(text(p, "/protocol"), "" | "TCP"))?;
    u16::try_from(tcp.get(key)?.as_u64()?).ok()
}

fn of_service(service: &Value) -> Vec<InnerAddress> {
    let Some(port) = port(list(service, "/spec/ports"), "port") else { return Vec::new() };
    let what = format!("Service {}/{}", namespace(service), name(service));
    let addresses = list(service, "/spec/clusterIPs").iter().filter_map(Value::as_str);
    let addresses = addresses.filter_map(|a| a.parse::<IpAddr>().ok());
    addresses.map(|address| InnerAddress { what: what.clone(), address, port }).collect()
}

/// Whether a pod of the node is ready to be asked in its own network.
fn answers(pod: &Value, node: &NodeName) -> bool {
    let ready = |c: &Value| text(c, "/type") == "Ready" && text(c, "/status") == "True";
    text(pod, "/spec/nodeName") == node.as_str()
        && pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) != Some(true)
        && list(pod, "/status/conditions").iter().any(ready)
}

fn of_pod(pod: &Value) -> Vec<InnerAddress> {
    let containers = list(pod, "/spec/containers").iter();
    let Some(port) = containers.filter_map(|c| port(list(c, "/ports"), "containerPort")).next()
    else {
        return Vec::new();
    };
    let what = format!("pod {}/{}", namespace(pod), name(pod));
    let addresses = list(pod, "/status/podIPs").iter().map(|p| text(p, "/ip"));
    let addresses = addresses.filter_map(|a| a.parse::<IpAddr>().ok());
    addresses.map(|address| InnerAddress { what: what.clone(), address, port }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_of_every_cluster_and_a_ready_pod_of_the_node_are_tried() {
        let service = |space: &str, name: &str, ip: &str| {
            json!({"metadata": {"name": name, "namespace": space},
                "spec": {"clusterIPs": [ip], "ports": [{"port": 9, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}})
        };
        let pod = |name: &str, node: &str, ip: &str, ready: &str, host: bool| {
            json!({"metadata": {"name": name, "namespace": "kube-system"},
                "spec": {"nodeName": node, "hostNetwork": host, "containers": [{"ports": [{"containerPort": 8080}]}]},
                "status": {"podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut facts = ClusterFacts::default();
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("default", "other", "10.96.0.7"),
            service("kube-system", "kube-dns", "None"),
        ];
        let pods = [
            pod("a", "n2", "10.244.1.1", "True", false),
            pod("b", "n1", "10.244.0.1", "False", false),
            pod("c", "n1", "192.0.2.1", "True", true),
            pod("d", "n1", "10.244.0.2", "True", false),
        ];
        facts.insert(ObjectKind::Services, &mut json!({"items": services})).unwrap();
        facts.insert(ObjectKind::Pods, &mut json!({"items": pods})).unwrap();
        let found = inner(&"n1".parse().unwrap(), &facts);
        let words: Vec<String> =
            found.iter().map(|i| format!("{} {}:{}", i.what, i.address, i.port)).collect();
        assert_eq!(
            words,
            ["Service default/kubernetes 10.96.0.1:53", "pod kube-system/d 10.244.0.2:8080"]
        );
        assert!(inner(&"n1".parse().unwrap(), &ClusterFacts::default()).is_empty());
    }
}
