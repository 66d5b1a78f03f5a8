//! A small inventory for tests of what comes after this stage. Not validated: it may lack what only a
//! login needs.

use std::fmt::Write;

use super::{Inventory, Role};

/// The keys that every inventory has, but for `nodes`.
pub(crate) const HEAD: &str =
    "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n";

/// [`HEAD`] and more keys, as YAML; no nodes unless they are among these.
pub(crate) fn with(more: &str) -> Inventory {
    let nodes = if more.contains("nodes:") { "" } else { "nodes: []\n" };
    crate::yaml::from_text(&format!("{HEAD}{more}{nodes}")).unwrap()
}

/// A file that passes validation: one control plane, where nothing answers.
pub(crate) fn file_in(dir: &std::path::Path) -> std::path::PathBuf {
    let file = dir.join("inventory.yaml");
    let nodes = "ssh: {user: root, agent: true}\n\
         nodes:\n- {name: n, addresses: [127.0.0.1], roles: [control-plane], ssh: {port: 1, host_keys: ['SHA256:8DGrk4ABxkvQicgzmvk+gLNZLa18r+RwLy0YuENi2ac']}}\n";
    std::fs::write(&file, HEAD.to_owned() + nodes).unwrap();
    file
}

/// The control planes `cp1` and `cp2`, then the workers `w1` and `w2`.
pub(crate) fn two_and_two() -> Inventory {
    let planes = ["cp1", "cp2"].map(|name| (name, Role::ControlPlane));
    of_nodes(planes.into_iter().chain(["w1", "w2"].map(|name| (name, Role::Worker))))
}

/// Nodes by name and role, with the addresses 10.0.0.1 and on.
pub(crate) fn of_nodes<'n>(nodes: impl IntoIterator<Item = (&'n str, Role)>) -> Inventory {
    let mut text = "nodes:\n".to_owned();
    for (i, (name, role)) in nodes.into_iter().enumerate() {
        let role = match role {
            Role::ControlPlane => "control-plane",
            Role::Worker => "worker",
            Role::Etcd => "etcd",
        };
        let address = std::net::Ipv4Addr::from(0x0a00_0001 + u32::try_from(i).unwrap());
        let _ = writeln!(text, "- {{name: {name}, addresses: [{address}], roles: [{role}]}}");
    }
    with(&text)
}
