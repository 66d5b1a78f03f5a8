//! The inventory of a lab, as its operator would have written it.

use std::fmt::Write as _;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::address;
use super::spec::LabBundle;
use super::state::State;
use crate::inventory::{HostKeyFingerprint, KubernetesVersion, Role};

/// Name of the inventory in a lab directory.
pub(super) const INVENTORY_FILE: &str = "inventory.yaml";

/// The text of the inventory; `host_keys` in the order of the nodes.
///
/// Written by hand and not by a serializer, which would spell out every default.
pub(super) fn text(state: &State, host_keys: &[HostKeyFingerprint]) -> String {
    let network = address::network(state.slot);
    let endpoint = endpoint(state);
    let default = || KubernetesVersion::DEFAULT.to_string();
    let kubernetes = state.bundle.as_ref().map_or_else(default, |b| b.kubernetes.clone());
    let software = state.bundle.as_ref().map(software).unwrap_or_default();
    let mut text = format!(
        "\
# Created by `kubastion lab up`, removed by `kubastion lab down`.
version: kubastion/v1
cluster:
  name: lab
  kubernetes: {kubernetes}
  endpoint: {endpoint}
{software}ssh:
  user: root
  key_file: ssh/id_ed25519
firewall:
  admin_networks: [{network}]
host:
  lab: true
"
    );
    text.push_str(&exceptions(state));
    text.push_str("nodes:\n");
    for (node, host_key) in state.nodes.iter().zip(host_keys) {
        let roles: Vec<String> = node.roles.iter().map(Role::to_string).collect();
        let _ = write!(
            text,
            "  - name: {}\n    addresses: [{}]\n    roles: [{}]\n    ssh:\n      host_keys: [\"{host_key}\"]\n",
            node.name,
            node.address,
            roles.join(", "),
        );
    }
    text
}

/// One control plane is its own endpoint, and so is the first of a stock cluster. Several share an address, where there is
/// something to run on them.
fn endpoint(state: &State) -> String {
    let planes = state.nodes.iter().filter(|n| n.roles.contains(&Role::ControlPlane)).count();
    if planes > 1 && state.bundle.is_some() && state.stock.is_none() {
        let (octet, port) = address::ENDPOINT;
        let address = address::in_slot(state.slot, octet);
        return format!("{address}:{port}\n  load_balancer:\n    mode: managed");
    }
    let first = state.nodes.first().map_or_else(|| state.gateway(), |n| n.address);
    format!("{first}:6443")
}

fn software(bundle: &LabBundle) -> String {
    let dir = serde_json::Value::from(bundle.dir.display().to_string());
    let mut text =
        format!("kubernetes:\n  source: bundle\n  bundle:\n    path: {dir}\n    signers:\n");
    for signer in &bundle.signers {
        let _ = writeln!(text, "      - {signer}");
    }
    text
}

/// Days that a lab's exceptions hold. A lab is not meant to grow old.
const EXCEPTION_DAYS: i64 = 90;

/// What a lab cannot fulfil, and why: it says so as an operator would.
fn exceptions(state: &State) -> String {
    let Ok(created) = OffsetDateTime::parse(&state.created, &Rfc3339) else {
        return String::new();
    };
    let expires = created.saturating_add(Duration::days(EXCEPTION_DAYS)).date();
    let debian_12 = state.rootfs.to_string_lossy().contains("bookworm");
    let rows = [
        (
            state.bundle.is_none() && debian_12,
            "containerd-runtime-hardening\n      check: containerd is of a supported release",
            "Debian 12 packages containerd 1.6; Kubernetes wants a newer one before it is installed",
        ),
        (
            state.bundle.is_some(),
            "kubelet-protect-kernel-defaults",
            "the nodes are containers, whose kernel settings are their host's",
        ),
        (
            state.bundle.is_some(),
            "network-cni-with-policies",
            "the bridge network of a lab enforces no policies",
        ),
    ];
    let mut text = String::new();
    for (control, reason) in rows.iter().filter(|r| r.0).map(|r| (r.1, r.2)) {
        let _ = write!(
            text,
            "    - control: {control}\n      reason: {reason}\n      owner: whoever made this lab\n      expires: {expires}\n"
        );
    }
    if text.is_empty() { text } else { format!("hardening:\n  exceptions:\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Spec, Stock};
    use super::super::state::{NodeState, Phase, Version};
    use super::*;
    use crate::inventory::Inventory;

    #[test]
    fn the_inventory_of_a_lab_is_an_inventory() {
        let nodes = Spec::new("/lab", 3, 1).places().into_iter().map(|p| NodeState {
            address: p.address(7),
            name: p.name,
            roles: p.roles,
        });
        let state = State {
            version: Version::V1,
            id: "0a1b2c".into(),
            created: "2026-01-02T03:04:05Z".into(),
            phase: Phase::Making,
            slot: 7,
            rootfs: "/cache/bookworm-1".into(),
            nodes: nodes.collect(),
            bundle: None,
            stock: None,
        };
        let key: HostKeyFingerprint = format!("SHA256:{}", "a".repeat(43)).parse().unwrap();
        let of = |state: &State| text(state, &vec![key.clone(); 4]);
        let text = of(&state);
        let inventory: Inventory = crate::yaml::from_text(&text).unwrap();
        assert!(inventory.host.lab);
        assert_eq!(inventory.hardening.exceptions[0].expires, "2026-04-02");
        assert_eq!(inventory.etcd_members().count(), 3);
        assert_eq!(inventory.with_role(Role::Worker).count(), 1);
        assert_eq!(inventory.nodes[3].ssh.host_keys, std::slice::from_ref(&key));
        assert_eq!(inventory.nodes[3].addresses[0].to_string(), "10.213.7.101");
        assert_eq!(inventory.cluster.endpoint.to_string(), "10.213.7.11:6443");
        assert_eq!(inventory.firewall.admin_networks[0].0.to_string(), "10.213.7.0/24");
        assert_eq!(inventory.cluster.virtual_address(), None);

        let bundle =
            LabBundle { dir: "/b".into(), kubernetes: "1.36.2".into(), signers: Vec::new() };
        let mut state = State { bundle: Some(bundle), ..state };
        let inventory: Inventory = crate::yaml::from_text(&of(&state)).unwrap();
        assert_eq!(inventory.cluster.endpoint.to_string(), "10.213.7.5:8443");
        assert!(inventory.cluster.virtual_address().is_some());
        state.stock = Some(Stock::default());
        let inventory: Inventory = crate::yaml::from_text(&of(&state)).unwrap();
        assert_eq!(inventory.cluster.endpoint.to_string(), "10.213.7.11:6443");
        assert_eq!(inventory.cluster.virtual_address(), None);
        state.stock = None;
        state.nodes.drain(1..3);
        let inventory: Inventory = crate::yaml::from_text(&of(&state)).unwrap();
        assert_eq!(inventory.cluster.endpoint.to_string(), "10.213.7.11:6443");
    }
}
