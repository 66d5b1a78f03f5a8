//! Inputs of templates/endpoint.

use serde::Serialize;

use super::host::input;
use crate::render::{Input, Text};

/// haproxy.cfg.
#[derive(Debug, Clone, Serialize)]
pub struct Haproxy {
    /// The endpoint, `address:port`.
    pub bind: Text,
    /// Name of the node's own entry in `servers`.
    pub own: Text,
    /// CA of the API servers, a path.
    pub ca: Text,
    /// Client certificate of the health checks, a path that ends in `.crt`; its key ends in `.key`.
    pub certificate: Text,
    /// All API servers, sorted by name.
    pub servers: Vec<ApiServer>,
}
input!(Haproxy, "endpoint/haproxy.cfg");

/// An API server behind the endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct ApiServer {
    /// Name of its node, which its certificate has to hold.
    pub name: Text,
    /// `address:port`.
    pub address: Text,
}

/// keepalived.conf(5).
#[derive(Debug, Clone, Serialize)]
pub struct Keepalived {
    /// User that check scripts run as.
    pub script_user: Text,
    /// Interface that gets the address.
    pub interface: Text,
    /// VRRP router id, 1 to 255.
    pub router_id: u8,
    /// VRRP priority without what checks add, 1 to 204; higher comes first.
    pub priority: u8,
    /// The node's own address towards the peers.
    pub own: Text,
    /// Addresses of the other control planes.
    pub peers: Vec<Text>,
    /// The endpoint's address with its length: of a host, so that no route comes with it.
    pub address: Text,
}
input!(Keepalived, "endpoint/keepalived.conf");
