//! etcd of a stock cluster that runs as a service of the control planes: what others have who keep it apart from the API
//! servers. Its certificates come from a CA of its own, on the first of them.

use serde_json::json;

use super::{Making, is_control_plane};
use crate::lab::command::{run, run_with_input};
use crate::lab::error::Error;
use crate::lab::state::NodeState;

/// Where its certificates are; `stock.sh` writes them.
const PKI: &str = "/etc/etcd/pki";

/// What kubeadm is told of it (v1beta4, `etcd.external`).
pub(super) fn external(nodes: &[NodeState]) -> serde_json::Value {
    let endpoints: Vec<String> =
        members(nodes).map(|n| format!("https://{}:2379", n.address)).collect();
    json!({"external": {
        "endpoints": endpoints,
        "caFile": format!("{PKI}/ca.crt"),
        "certFile": format!("{PKI}/apiserver-etcd-client.crt"),
        "keyFile": format!("{PKI}/apiserver-etcd-client.key"),
    }})
}

fn members(nodes: &[NodeState]) -> impl Iterator<Item = &NodeState> {
    nodes.iter().filter(|n| is_control_plane(n))
}

impl Making<'_> {
    /// Starts a member on every control plane, and waits until each of them answers.
    pub(super) fn external_etcd(&self) -> Result<(), Error> {
        let first = self.first()?;
        let nodes = self.lab.nodes();
        let planes: Vec<_> = nodes.iter().filter(|n| is_control_plane(n.node)).collect();
        let cluster: Vec<String> = planes
            .iter()
            .map(|n| format!("{}=https://{}:2380", n.node.name, n.node.address))
            .collect();
        let cluster = cluster.join(",");
        self.step_once(&first, &["etcd-ca"], run)?;
        for plane in &planes {
            let (name, address) = (plane.node.name.as_str(), plane.node.address.to_string());
            // Base64 of an archive, with keys in it.
            let certificates =
                self.step_once(&first, &["etcd-certificates", name, &address], run)?;
            self.step_once(plane, &["etcd", name, &address, &cluster], |c| {
                run_with_input(c, certificates.as_bytes())
            })?;
        }
        for plane in &planes {
            let address = plane.node.address.to_string();
            self.step_once(plane, &["etcd-wait", &address], run)?;
            self.say(plane.node, "etcd runs as a service");
        }
        Ok(())
    }
}
