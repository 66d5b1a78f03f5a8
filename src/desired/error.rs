//! Why it cannot be said what a node should hold.

use crate::render::RenderError;

/// Why it cannot be said what a node should hold.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The distribution is not known.
    #[error("{0} is neither of the Debian nor of the Red Hat family")]
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
    /// The key store has no certificate that the node's roles call for.
    #[error("the key store holds no {0}; `kubastion pki ensure` issues what is missing")]
    Certificate(String),
    /// A pod network is too small for all nodes.
    #[error("pod network {network} has no part for each of {nodes} nodes")]
    PodNetwork {
        /// The network.
        network: String,
        /// Nodes with a kubelet.
        nodes: usize,
    },
    /// The node is part of a cluster with other CAs.
    #[error(
        "{path} on the node is not the CA of the key store, or no file of its own: the node belongs to another cluster, or the store does; `pki.dir` names the store, and `kubastion doctor` compares all nodes"
    )]
    ForeignCa {
        /// The CA certificate on the node.
        path: String,
    },
    /// Nothing says which interface should get the endpoint's address.
    #[error(
        "no interface has the node's address {0}; `cluster.load_balancer.interface` can name the one for the endpoint"
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
    /// `audit.policy: custom` names a file that is no policy.
    #[error("the audit policy of the inventory cannot be used: {0}")]
    AuditPolicy(&'static str),
}

/// An error of the renderer, with the file it was for.
pub(super) fn rendering(path: &str, source: RenderError) -> ResolveError {
    ResolveError::Render { path: path.to_owned(), source }
}
