//! What kubeadm is told: its configuration (v1beta4), of the first node and of those that join.

use std::net::Ipv4Addr;

use serde_json::json;

use super::etcd;
use super::is_control_plane;
use crate::lab::spec::{Stock, StockEtcd, StockVariant};
use crate::lab::state::NodeState;
use crate::secret::Secret;

/// Network of the pods.
const POD_NETWORK: &str = "10.244.0.0/16";

/// What kubeadm asks of a host and a node of a lab has not: cgroup v2 and a kernel configuration, its own swap, two
/// processors and 1,700 MB for each.
const NOT_IN_A_LAB: &[&str] = &["SystemVerification", "Swap", "NumCPU", "Mem"];

/// Where an API server with odd settings has its audit policy.
pub(super) const AUDIT_DIR: &str = "/etc/kubernetes/audit";

/// What lets nodes join: valid for hours, known to nobody but this program and the nodes.
pub(super) struct Entrance {
    /// Of kubeadm's form, `[a-z0-9]{6}.[a-z0-9]{16}`.
    pub(super) token: Secret<String>,
    /// AES key of the uploaded certificates, in hexadecimal.
    pub(super) certificate_key: Secret<String>,
}

/// The first control plane's address.
fn endpoint(nodes: &[NodeState]) -> Ipv4Addr {
    nodes.first().map_or(Ipv4Addr::UNSPECIFIED, |n| n.address)
}

/// What kubeadm is told of a node. Images are those that were imported.
fn registration() -> serde_json::Value {
    json!({
        "criSocket": "unix:///run/containerd/containerd.sock",
        "imagePullPolicy": "IfNotPresent",
        "ignorePreflightErrors": NOT_IN_A_LAB,
    })
}

/// kubeadm's configuration (v1beta4): documents in JSON, which is YAML.
pub(super) fn init_configuration(
    nodes: &[NodeState],
    kubernetes: &str,
    entrance: &Entrance,
    stock: Stock,
) -> Secret<String> {
    let address = endpoint(nodes);
    let init = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "bootstrapTokens": [{"token": entrance.token.expose(), "ttl": "2h0m0s"}],
        "certificateKey": entrance.certificate_key.expose(),
        "localAPIEndpoint": {"advertiseAddress": address},
        "nodeRegistration": registration(),
    });
    let mut cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": format!("v{kubernetes}"),
        "controlPlaneEndpoint": format!("{address}:6443"),
        "networking": {"podSubnet": POD_NETWORK},
    });
    // A node is a container, which cannot have a cgroup driver of its own systemd on cgroup v1.
    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
    });
    // The kernel's table of connections is this machine's.
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    });
    if stock.etcd == StockEtcd::External {
        cluster["etcd"] = etcd::external(nodes);
    }
    if stock.variant == StockVariant::Odd {
        cluster["apiServer"] = odd_api_server();
        kubelet["maxPods"] = json!(60);
    }
    documents(&[init, cluster, kubelet, proxy])
}

/// Names that somebody uses, a flag, a feature gate, and an audit log with its policy from the host.
fn odd_api_server() -> serde_json::Value {
    let argument = |name: &str, value: &str| json!({"name": name, "value": value});
    let volume = |name: &str, path: &str, read_only: bool| {
        json!({
            "name": name,
            "hostPath": path,
            "mountPath": path,
            "readOnly": read_only,
            "pathType": "DirectoryOrCreate",
        })
    };
    let log_dir = "/var/log/kubernetes";
    json!({
        "certSANs": ["api.lab.example", "192.0.2.10"],
        "extraArgs": [
            argument("event-ttl", "3h0m0s"),
            argument("feature-gates", "HPAScaleToZero=true"),
            argument("audit-policy-file", &format!("{AUDIT_DIR}/policy.yaml")),
            argument("audit-log-path", &format!("{log_dir}/audit.log")),
        ],
        "extraVolumes": [
            volume("audit-policy", AUDIT_DIR, true),
            volume("audit-log", log_dir, false),
        ],
    })
}

pub(super) fn join_configuration(
    endpoint: Ipv4Addr,
    pin: &str,
    node: &NodeState,
    entrance: &Entrance,
) -> Secret<String> {
    let mut join = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {
            "apiServerEndpoint": format!("{endpoint}:6443"),
            "token": entrance.token.expose(),
            "caCertHashes": [format!("sha256:{pin}")],
        }},
        "nodeRegistration": registration(),
    });
    if is_control_plane(node) {
        join["controlPlane"] = json!({
            "localAPIEndpoint": {"advertiseAddress": node.address},
            "certificateKey": entrance.certificate_key.expose(),
        });
    }
    documents(&[join])
}

fn documents(all: &[serde_json::Value]) -> Secret<String> {
    Secret::new(all.iter().map(|d| format!("---\n{d}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Spec;

    fn entrance() -> Entrance {
        Entrance {
            token: Secret::new("abcdef.0123456789abcdef".into()),
            certificate_key: Secret::new("0".repeat(64)),
        }
    }

    fn parsed(text: &Secret<String>) -> Vec<serde_json::Value> {
        let documents = text.expose().split("---\n").filter(|d| !d.is_empty());
        documents.map(|d| serde_json::from_str(d).unwrap()).collect()
    }

    fn nodes() -> Vec<NodeState> {
        let places = Spec::new("/lab", 2, 1).places().into_iter();
        places.map(|p| NodeState { address: p.address(7), name: p.name, roles: p.roles }).collect()
    }

    #[test]
    fn a_stock_cluster_has_kubeadms_defaults_and_an_odd_one_five_settings_more() {
        let of = |variant, etcd| {
            let stock = Stock { variant, etcd };
            parsed(&init_configuration(&nodes(), "1.36.2", &entrance(), stock))
        };
        let plain = of(StockVariant::Plain, StockEtcd::Stacked);
        let odd = of(StockVariant::Odd, StockEtcd::Stacked);
        assert_eq!(plain[1]["controlPlaneEndpoint"], "10.213.7.11:6443");
        assert_eq!(plain[1]["kubernetesVersion"], "v1.36.2");
        // etcd, the API server and the other daemons are left to kubeadm.
        let keys: Vec<&String> = plain[1].as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["apiVersion", "controlPlaneEndpoint", "kind", "kubernetesVersion", "networking"]
        );
        assert_eq!(plain[2].get("maxPods"), None);
        assert_eq!((&odd[0], &odd[3]), (&plain[0], &plain[3]));
        assert_eq!(odd[2]["maxPods"], 60);
        assert_eq!(odd[1]["apiServer"]["extraArgs"].as_array().unwrap().len(), 4);
        assert_eq!(odd[1]["apiServer"]["extraVolumes"][0]["hostPath"], AUDIT_DIR);
        // A CA of its own is no setting.
        assert_eq!(of(StockVariant::SingleCa, StockEtcd::Stacked), plain);
        let mut external = of(StockVariant::Plain, StockEtcd::External);
        assert_eq!(
            external[1]["etcd"]["external"]["endpoints"],
            json!(["https://10.213.7.11:2379", "https://10.213.7.12:2379"])
        );
        external[1].as_object_mut().unwrap().remove("etcd");
        assert_eq!(external, plain);
    }

    #[test]
    fn only_a_control_plane_gets_the_key_of_the_certificates() {
        let nodes = nodes();
        let of = |node: &NodeState| {
            parsed(&join_configuration(nodes[0].address, "aa", node, &entrance())).remove(0)
        };
        let plane = of(&nodes[1]);
        assert_eq!(plane["controlPlane"]["certificateKey"], "0".repeat(64));
        assert_eq!(plane["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "10.213.7.12");
        // Who is joined is who has the CA's key.
        assert_eq!(
            plane["discovery"]["bootstrapToken"]["caCertHashes"],
            serde_json::json!(["sha256:aa"])
        );
        let worker = of(&nodes[2]);
        assert_eq!(worker.get("controlPlane"), None);
        assert!(!worker.to_string().contains(&"0".repeat(64)));
    }
}
