//! Kubeconfigs: who a client is, and which API server it trusts.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value as Text;

use super::material::{Material, Pair};
use super::profile::{Ca, CertificateKind};
use crate::inventory::{Inventory, Node, Role};
use crate::secret::Secret;

/// Port of an API server on its own node (kubeadm's `bindPort`).
pub const API_PORT: u16 = 6443;

/// Where a kubelet finds its client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeletIdentity<'a> {
    /// In the kubeconfig itself.
    Embedded,
    /// In files on the node, so that a rotated pair needs no new kubeconfig.
    Files {
        /// Absolute path of the certificate.
        cert: &'a str,
        /// Absolute path of the key.
        key: &'a str,
    },
}

/// admin.conf: group `kubeadm:cluster-admins`, at the cluster's endpoint.
pub fn admin(inventory: &Inventory, material: &Material) -> Option<Secret<Vec<u8>>> {
    let user = User {
        name: "kubernetes-admin",
        identity: embedded(material.operator(CertificateKind::Admin)?),
    };
    Some(write(inventory, material, &endpoint(inventory), &user))
}

/// super-admin.conf: group `system:masters`, at the cluster's endpoint. It stays with the operator.
pub fn super_admin(inventory: &Inventory, material: &Material) -> Option<Secret<Vec<u8>>> {
    let pair = material.operator(CertificateKind::SuperAdmin)?;
    let user = User { name: "kubernetes-super-admin", identity: embedded(pair) };
    Some(write(inventory, material, &endpoint(inventory), &user))
}

/// controller-manager.conf of a control-plane node, at the API server beside it.
pub fn controller_manager(
    inventory: &Inventory,
    material: &Material,
    node: &Node,
) -> Option<Secret<Vec<u8>>> {
    let pair = material.node(CertificateKind::ControllerManager, &node.name)?;
    let user = User { name: "system:kube-controller-manager", identity: embedded(pair) };
    Some(write(inventory, material, &local(node), &user))
}

/// scheduler.conf of a control-plane node, at the API server beside it.
pub fn scheduler(
    inventory: &Inventory,
    material: &Material,
    node: &Node,
) -> Option<Secret<Vec<u8>>> {
    let pair = material.node(CertificateKind::Scheduler, &node.name)?;
    let user = User { name: "system:kube-scheduler", identity: embedded(pair) };
    Some(write(inventory, material, &local(node), &user))
}

/// kubelet.conf of a node: at the API server beside it on a control-plane node, as kubeadm does
/// from 1.36 on; at the cluster's endpoint elsewhere.
pub fn kubelet(
    inventory: &Inventory,
    material: &Material,
    node: &Node,
    identity: KubeletIdentity<'_>,
) -> Option<Secret<Vec<u8>>> {
    let pair = material.node(CertificateKind::KubeletClient, &node.name)?;
    let server = if node.has_role(Role::ControlPlane) { local(node) } else { endpoint(inventory) };
    let identity = match identity {
        KubeletIdentity::Embedded => embedded(pair),
        KubeletIdentity::Files { cert, key } => Identity::Files { cert, key },
    };
    let name = format!("system:node:{}", node.name);
    Some(write(inventory, material, &server, &User { name: &name, identity }))
}

/// Where a node finds the cluster when it joins (`discovery.file`): its kubelet's identity, always
/// at the cluster's endpoint.
pub fn discovery(
    inventory: &Inventory,
    material: &Material,
    node: &Node,
    identity: KubeletIdentity<'_>,
) -> Option<Secret<Vec<u8>>> {
    let pair = material.node(CertificateKind::KubeletClient, &node.name)?;
    let identity = match identity {
        KubeletIdentity::Embedded => embedded(pair),
        KubeletIdentity::Files { cert, key } => Identity::Files { cert, key },
    };
    let name = format!("system:node:{}", node.name);
    Some(write(inventory, material, &endpoint(inventory), &User { name: &name, identity }))
}

struct User<'a> {
    name: &'a str,
    identity: Identity<'a>,
}

enum Identity<'a> {
    Embedded(&'a Pair),
    Files { cert: &'a str, key: &'a str },
}

fn embedded(pair: &Pair) -> Identity<'_> {
    Identity::Embedded(pair)
}

fn endpoint(inventory: &Inventory) -> String {
    format!("https://{}", inventory.cluster.endpoint)
}

fn local(node: &Node) -> String {
    format!("https://{}", std::net::SocketAddr::new(node.internal_ip(), API_PORT))
}

/// Writes a kubeconfig (<https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>).
///
/// By hand and not through a serializer: those leave copies of the key in buffers of their own.
fn write(
    inventory: &Inventory,
    material: &Material,
    server: &str,
    user: &User<'_>,
) -> Secret<Vec<u8>> {
    // A JSON text is a YAML scalar that can only be read as this text.
    let quote = |text: &str| Text::from(text).to_string();
    let cluster = quote(inventory.cluster.name.as_str());
    let context = quote(&format!("{}@{}", user.name, inventory.cluster.name));
    let name = quote(user.name);
    let ca = BASE64_STANDARD.encode(material.trust(Ca::Cluster).bundle());
    let server = quote(server);
    let mut text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    certificate-authority-data: {ca}
    server: {server}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {name}
current-context: {context}
users:
- name: {name}
  user:
"
    );
    let bytes = match user.identity {
        Identity::Files { cert, key } => {
            let (cert, key) = (quote(cert), quote(key));
            text.push_str(&format!("    client-certificate: {cert}\n    client-key: {key}\n"));
            text.into_bytes()
        }
        Identity::Embedded(pair) => {
            let cert = BASE64_STANDARD.encode(&pair.cert_pem);
            text.push_str(&format!("    client-certificate-data: {cert}\n    client-key-data: "));
            let key = Secret::new(BASE64_STANDARD.encode(pair.key_pem.expose()));
            // Room for all of it at once: a growing buffer would leave copies behind.
            let mut bytes = Vec::with_capacity(text.len() + key.expose().len() + 1);
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(key.expose().as_bytes());
            bytes.push(b'\n');
            bytes
        }
    };
    Secret::new(bytes)
}
