//! The one table of certificates: who signs what for whom, under which name and for which use.
//!
//! Names and groups are those that kubeadm gives
//! (<https://kubernetes.io/docs/setup/best-practices/certificates/>); file names are kubeadm's,
//! below a directory per node.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{ExtendedKeyUsagePurpose as Ext, KeyUsagePurpose as Usage};

use super::inspect::San;
use crate::inventory::{Inventory, IpNetText, KeyAlgorithm, Node, NodeName, Role};

/// The certificate authorities. Three, so that a client of one is a stranger to the others
/// (CIS 2.7; control pki-separate-cas).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ca {
    /// Signs API server, kubelet and user certificates.
    Cluster,
    /// Signs etcd servers, peers and clients. Its key never reaches a node.
    Etcd,
    /// Signs the client that the API server's aggregation layer uses. Its key never reaches a node.
    FrontProxy,
}

impl Ca {
    /// All of them.
    pub const ALL: &[Ca] = &[Ca::Cluster, Ca::Etcd, Ca::FrontProxy];

    /// Common name of the CA; its organization is the cluster's name.
    pub fn common_name(self) -> &'static str {
        match self {
            Ca::Cluster => "kubernetes-ca",
            Ca::Etcd => "etcd-ca",
            Ca::FrontProxy => "front-proxy-ca",
        }
    }

    /// A word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Ca::Cluster => "cluster",
            Ca::Etcd => "etcd",
            Ca::FrontProxy => "front-proxy",
        }
    }

    /// Path in the store without its extension, as kubeadm names it.
    pub fn file(self) -> &'static str {
        match self {
            Ca::Cluster => "ca",
            Ca::Etcd => "etcd/ca",
            Ca::FrontProxy => "front-proxy-ca",
        }
    }
}

/// Kinds of leaf certificates; each has a row in [`PROFILES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateKind {
    /// What the API server serves with.
    Apiserver,
    /// The API server as a client of kubelets.
    ApiserverKubeletClient,
    /// The API server as a client of etcd.
    ApiserverEtcdClient,
    /// The liveness and readiness probes of the API server, which allow no anonymous request.
    ApiserverProbe,
    /// The API server as a client of aggregated API servers.
    FrontProxyClient,
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// What an etcd member serves clients with.
    EtcdServer,
    /// What an etcd member speaks to other members with.
    EtcdPeer,
    /// Health checks of etcd, by the node and by the operator.
    EtcdHealthcheckClient,
    /// A kubelet as a client of the API server.
    KubeletClient,
    /// What a kubelet serves with.
    KubeletServing,
    /// The administrator, whose rights are an RBAC binding that can be withdrawn.
    Admin,
    /// Unlimited rights by `system:masters`; stays with the operator (control pki-super-admin-removed).
    SuperAdmin,
}

/// Who holds a certificate and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// One for the cluster, with the operator.
    Operator,
    /// One for each control-plane node.
    ControlPlane,
    /// One for each etcd member.
    EtcdMember,
    /// One for each node with a kubelet: control-plane nodes and workers.
    Kubelet,
}

/// Common name of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonName {
    /// Always this one.
    Fixed(&'static str),
    /// The node's name.
    Node,
    /// `system:node:` and the node's name, which the Node authorizer wants.
    SystemNode,
}

/// Names and addresses in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// None: a client, known by its subject.
    None,
    /// Every name and address under which clients reach this API server.
    Apiserver,
    /// The node's name and addresses, and the loopback ones.
    NodeAndLoopback,
    /// The node's name and addresses.
    Node,
}

/// A row of the table.
#[derive(Debug)]
pub struct Profile {
    /// Which one.
    pub kind: CertificateKind,
    /// Path below the holder's directory without its extension, as kubeadm names it.
    pub file: &'static str,
    /// Who signs.
    pub issuer: Ca,
    /// Who holds it.
    pub holder: Holder,
    /// Subject: common name.
    pub common_name: CommonName,
    /// Subject: organization, which Kubernetes reads as the user's group.
    pub organization: Option<&'static str>,
    /// Subject alternative names.
    pub names: Names,
    /// Extended key usages.
    pub ext_key_usages: &'static [Ext],
}

const SERVER: &[Ext] = &[Ext::ServerAuth];
const CLIENT: &[Ext] = &[Ext::ClientAuth];
/// etcd's own gateway connects with the server certificate as a client.
const BOTH: &[Ext] = &[Ext::ServerAuth, Ext::ClientAuth];

/// Every leaf certificate, in the order of `pki status`.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { kind: CertificateKind::Apiserver, file: "apiserver", issuer: Ca::Cluster, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("kube-apiserver"), organization: None,
        names: Names::Apiserver, ext_key_usages: SERVER },
    Profile { kind: CertificateKind::ApiserverKubeletClient, file: "apiserver-kubelet-client", issuer: Ca::Cluster, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("kube-apiserver-kubelet-client"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::ApiserverEtcdClient, file: "apiserver-etcd-client", issuer: Ca::Etcd, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("kube-apiserver-etcd-client"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::ApiserverProbe, file: "apiserver-probe", issuer: Ca::Cluster, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("kubastion:apiserver-probe"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::FrontProxyClient, file: "front-proxy-client", issuer: Ca::FrontProxy, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("front-proxy-client"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::ControllerManager, file: "controller-manager", issuer: Ca::Cluster, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("system:kube-controller-manager"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::Scheduler, file: "scheduler", issuer: Ca::Cluster, holder: Holder::ControlPlane,
        common_name: CommonName::Fixed("system:kube-scheduler"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::EtcdServer, file: "etcd/server", issuer: Ca::Etcd, holder: Holder::EtcdMember,
        common_name: CommonName::Node, organization: None,
        names: Names::NodeAndLoopback, ext_key_usages: BOTH },
    Profile { kind: CertificateKind::EtcdPeer, file: "etcd/peer", issuer: Ca::Etcd, holder: Holder::EtcdMember,
        common_name: CommonName::Node, organization: None,
        names: Names::NodeAndLoopback, ext_key_usages: BOTH },
    Profile { kind: CertificateKind::EtcdHealthcheckClient, file: "etcd/healthcheck-client", issuer: Ca::Etcd, holder: Holder::EtcdMember,
        common_name: CommonName::Fixed("kube-etcd-healthcheck-client"), organization: None,
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::KubeletClient, file: "kubelet-client", issuer: Ca::Cluster, holder: Holder::Kubelet,
        common_name: CommonName::SystemNode, organization: Some("system:nodes"),
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::KubeletServing, file: "kubelet-serving", issuer: Ca::Cluster, holder: Holder::Kubelet,
        common_name: CommonName::SystemNode, organization: Some("system:nodes"),
        names: Names::Node, ext_key_usages: SERVER },
    Profile { kind: CertificateKind::Admin, file: "admin", issuer: Ca::Cluster, holder: Holder::Operator,
        common_name: CommonName::Fixed("kubernetes-admin"), organization: Some("kubeadm:cluster-admins"),
        names: Names::None, ext_key_usages: CLIENT },
    Profile { kind: CertificateKind::SuperAdmin, file: "super-admin", issuer: Ca::Cluster, holder: Holder::Operator,
        common_name: CommonName::Fixed("kubernetes-super-admin"), organization: Some("system:masters"),
        names: Names::None, ext_key_usages: CLIENT },
];

impl CertificateKind {
    /// The row of the table.
    pub fn profile(self) -> &'static Profile {
        PROFILES.iter().find(|p| p.kind == self).expect("every kind has a row; a test walks them")
    }
}

/// A leaf certificate: which kind, and for which node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertId {
    /// Which kind.
    pub kind: CertificateKind,
    /// For which node; none for the operator's.
    pub node: Option<NodeName>,
}

impl CertId {
    /// A node's certificate.
    pub fn node(kind: CertificateKind, node: &NodeName) -> Self {
        Self { kind, node: Some(node.clone()) }
    }

    /// A certificate of the operator.
    pub fn operator(kind: CertificateKind) -> Self {
        Self { kind, node: None }
    }

    /// Path in the store without its extension.
    pub fn file(&self) -> String {
        let file = self.kind.profile().file;
        match &self.node {
            Some(node) => format!("nodes/{node}/{file}"),
            None => format!("operator/{file}"),
        }
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.kind.profile().file;
        match &self.node {
            Some(node) => write!(f, "{file} of {node}"),
            None => f.write_str(file),
        }
    }
}

/// A certificate as the inventory wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub id: CertId,
    pub common_name: String,
    pub organization: Option<String>,
    pub sans: BTreeSet<San>,
}

/// Every leaf certificate that the inventory wants, sorted.
pub(super) fn wanted(inventory: &Inventory) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for profile in PROFILES {
        match profile.holder {
            Holder::Operator => all.push(want(profile, None, inventory)),
            holder => {
                let nodes = inventory.nodes.iter().filter(|n| holds(holder, n, inventory));
                all.extend(nodes.map(|n| want(profile, Some(n), inventory)));
            }
        }
    }
    all.sort_by(|a, b| (&a.id.node, a.id.kind).cmp(&(&b.id.node, b.id.kind)));
    all
}

fn holds(holder: Holder, node: &Node, inventory: &Inventory) -> bool {
    use crate::inventory::EtcdPlacement::Dedicated;
    let control_plane = node.has_role(Role::ControlPlane);
    match holder {
        Holder::Operator => false,
        Holder::ControlPlane => control_plane,
        Holder::EtcdMember if inventory.etcd.placement == Dedicated => node.has_role(Role::Etcd),
        Holder::EtcdMember => control_plane,
        Holder::Kubelet => control_plane || node.has_role(Role::Worker),
    }
}

fn want(profile: &Profile, node: Option<&Node>, inventory: &Inventory) -> Wanted {
    let node_name = || node.map(|n| n.name.to_string()).unwrap_or_default();
    Wanted {
        id: CertId { kind: profile.kind, node: node.map(|n| n.name.clone()) },
        common_name: match profile.common_name {
            CommonName::Fixed(name) => name.to_owned(),
            CommonName::Node => node_name(),
            CommonName::SystemNode => format!("system:node:{}", node_name()),
        },
        organization: profile.organization.map(str::to_owned),
        sans: node.map(|n| names(profile.names, n, inventory)).unwrap_or_default(),
    }
}

fn names(names: Names, node: &Node, inventory: &Inventory) -> BTreeSet<San> {
    let mut sans = BTreeSet::new();
    if names == Names::None {
        return sans;
    }
    sans.insert(San::from_host(node.name.as_str()));
    sans.extend(node.addresses.iter().map(|a| San::Ip(*a)));
    if names == Names::Node {
        return sans;
    }
    sans.insert(San::from_host("localhost"));
    sans.insert(San::Ip(Ipv4Addr::LOCALHOST.into()));
    sans.insert(San::Ip(Ipv6Addr::LOCALHOST.into()));
    if names == Names::Apiserver {
        let cluster = &inventory.cluster;
        for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
            sans.insert(San::from_host(name));
        }
        sans.insert(San::from_host(&format!("kubernetes.default.svc.{}", cluster.domain)));
        sans.insert(San::from_host(cluster.endpoint.host.as_str()));
        sans.extend(cluster.extra_sans.iter().map(|h| San::from_host(h.as_str())));
        sans.extend(cluster.service_networks.iter().map(|n| San::Ip(first_service_ip(n))));
    }
    sans
}

/// The address of the Service `kubernetes.default`: the first one of the Service network.
fn first_service_ip(net: &IpNetText) -> IpAddr {
    match net.0.network() {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() + 1).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() + 1).into(),
    }
}

/// Key usages of a leaf: signing the handshake, and with RSA the key exchange of TLS 1.2.
pub(super) fn leaf_usages(algorithm: KeyAlgorithm) -> &'static [Usage] {
    match algorithm {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => &[Usage::DigitalSignature],
        KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
            &[Usage::DigitalSignature, Usage::KeyEncipherment]
        }
    }
}

/// Key usages of a CA (RFC 5280, 4.2.1.3).
pub(super) const CA_USAGES: &[Usage] = &[Usage::KeyCertSign, Usage::CrlSign];
