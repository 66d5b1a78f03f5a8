//! Why it cannot be said what a node should hold.

use crate::render::RenderError;

/// Why it cannot be said what a node should hold.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The distribution is not known.
    #[error("{0} belongs neither to the Debian nor to the Red Hat family")]
    Distribution(String),
    /// A file could not be rendered.
    #[error("{path} cannot be written")]
    Render {
        /// The file on the node.
        path: String,
        /// Why.
        #[source]
        source: RenderError,
    },
    /// The inventory wants the cluster CA's key on control planes, and certificates are signed elsewhere.
    #[error("the key store has no key of the cluster CA: set `pki.ca_custody: operator`")]
    CaKey,
    /// The key store has no certificate that the node's roles call for.
    #[error("the key store has no {0}; run `kubastion pki ensure` to issue what is missing")]
    Certificate(String),
    /// A pod network is too small for all nodes.
    #[error("pod network {network} is too small for {nodes} nodes")]
    PodNetwork {
        /// The network.
        network: String,
        /// Nodes with a kubelet.
        nodes: usize,
    },
    /// The node is part of a cluster with other CAs.
    #[error(
        "{path} on the node is not the CA of the key store, or not a regular file: the node or the key store belongs to another cluster; check `pki.dir`, and run `kubastion doctor` to compare all nodes"
    )]
    ForeignCa {
        /// The CA certificate on the node.
        path: String,
    },
    /// Nothing says which interface should get the endpoint's address.
    #[error(
        "no interface has the node's address {0}; set `cluster.load_balancer.interface` to the interface for the endpoint"
    )]
    EndpointInterface(std::net::IpAddr),
    /// The endpoint's address would reach nobody from this node's interface.
    #[error(
        "the endpoint's address {address} is not in the network of the node's address, {network}"
    )]
    EndpointNetwork {
        /// The endpoint.
        address: std::net::IpAddr,
        /// Network of the interface.
        network: ipnet::IpNet,
    },
    /// etcd's data are of a later release than the one that would read them.
    #[error(
        "etcd {runs} runs as a static pod, and {would} cannot read its data: use a bundle or packages with etcd {runs} or newer"
    )]
    OlderEtcd {
        /// By the pod's image.
        runs: String,
        /// Of the bundle or the packages.
        would: String,
    },
    /// The inventory has members of etcd as static pods, and the node has none.
    #[error(
        "`etcd.placement` is `stacked`, but the node has no etcd static pod: run `kubeadm join --control-plane` on it, or set \
         `control-plane`"
    )]
    NoEtcdPod,
    /// The node was hardened before.
    #[error(
        "the node is already hardened, and `hardening.stage: observe` does not undo that: run `kubastion rollback`, or set `enforce`"
    )]
    Hardened,
    /// The node is part of no cluster.
    #[error(
        "the node is not part of a cluster, and only a running cluster can be observed: remove `hardening.stage`, or the node"
    )]
    NothingToObserve,
    /// A manifest of kubeadm's that cannot be changed.
    #[error("{path} cannot be changed: {why}")]
    Manifest {
        /// Its path.
        path: &'static str,
        /// Why.
        why: &'static str,
    },
    /// `audit.policy: custom` names a file that is no policy.
    #[error("the audit policy of the inventory cannot be used: {0}")]
    AuditPolicy(&'static str),
}

/// An error of the renderer, with the file it was for.
pub(super) fn rendering(path: &str, source: RenderError) -> ResolveError {
    ResolveError::Render { path: path.to_owned(), source }
}
