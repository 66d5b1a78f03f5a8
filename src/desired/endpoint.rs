//! The managed endpoint: haproxy on every control plane, and keepalived, which keeps the endpoint's
//! address on one of them.
//!
//! haproxy passes TCP connections on to the API servers that say of themselves that they are ready;
//! it sees no plain text and holds no key but that of the probes' certificate, which may read the
//! health paths alone. It listens on the endpoint's address only, and on the loopback for keepalived.

use std::net::{IpAddr, SocketAddr};

use super::collector::{Collector, Unit};
use super::context::Context;
use super::error::ResolveError;
use super::model::{Access, ItemKind, OnChange};
use crate::controls::daemons::{HAPROXY_CONFIG, KEEPALIVED_CONFIG};
use crate::facts::NodeFacts;
use crate::inventory::{Node, Role, VirtualAddress};
use crate::pki::CertificateKind;
use crate::pki::kubeconfig::API_PORT;
use crate::render::Text;
use crate::render::input::endpoint::{ApiServer, Haproxy, Keepalived};

/// Directory of programs of ours; keepalived runs no script that others than root could change.
const LIBRARY: &str = "/usr/local/lib/kubastion";
/// templates/endpoint/keepalived.conf names it too.
const CHECK: &str = "/usr/local/lib/kubastion/endpoint-check";
/// Who runs [`CHECK`]; the name is the one that keepalived itself looks for.
const SCRIPT_USER: &str = "keepalived_script";
const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// Priority of the first control plane; each further one has one less. What a check adds must fit in
/// below 255, which VRRP keeps for the owner of an address.
const FIRST_PRIORITY: u8 = 200;
const UNITS: &[&str] = &["haproxy.service", "keepalived.service"];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.is_control_plane() {
        return;
    }
    let Some(endpoint) = context.inventory.cluster.virtual_address() else {
        return given_up(context, collector);
    };
    let user = ItemKind::User { name: SCRIPT_USER.into(), home: "/nonexistent".into() };
    collector.push(&[], user);
    collector.directory(&[], LIBRARY, Access::root(0o755));
    collector.fixed(&[], CHECK, "endpoint/check.sh");
    let certificate =
        format!("/etc/kubernetes/pki/{}.crt", CertificateKind::ApiserverProbe.profile().file);
    let key = format!("/etc/kubernetes/pki/{}.key", CertificateKind::ApiserverProbe.profile().file);
    collector.template(&[], HAPROXY_CONFIG, |_| Ok(haproxy(context, endpoint, &certificate)));
    collector
        .template(&[], KEEPALIVED_CONFIG, |source| keepalived(context, endpoint, source.facts));
    for &name in UNITS {
        let drop_in = format!("/etc/systemd/system/{name}.d/kubastion.conf");
        collector.fixed(&[], &drop_in, "endpoint/restart.conf");
    }

    // Reloading keeps connections and the address; a file that haproxy cannot read ends it before.
    let reloaded =
        |name, watches| Unit { on_change: OnChange::Reload, watches, ..Unit::running(name) };
    let files = vec![HAPROXY_CONFIG.to_owned(), CA.to_owned(), certificate, key];
    collector.packaged_unit(&[], "haproxy", reloaded(UNITS[0], files));
    collector.packaged_unit(
        &[],
        "keepalived",
        reloaded(UNITS[1], vec![KEEPALIVED_CONFIG.to_owned()]),
    );
    if context.os().selinux && context.facts().is_some() && !context.platform.container {
        collector.note("with SELinux enforcing, haproxy can connect to the API servers only after `setsebool -P haproxy_connect_any 1`");
    }
}

/// The endpoint was managed and is not any more: a load balancer that others run stays as it is.
fn given_up(context: &Context<'_>, collector: &mut Collector<'_>) {
    for &name in UNITS {
        if context.facts().is_none_or(|f| f.unit_marks.contains_key(name)) {
            collector.unit(&[], Unit { enabled: false, active: false, ..Unit::running(name) });
        }
    }
}

fn control_planes<'a>(context: &Context<'a>) -> Vec<&'a Node> {
    let mut nodes: Vec<&Node> = context.inventory.with_role(Role::ControlPlane).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn haproxy(context: &Context<'_>, endpoint: VirtualAddress, certificate: &str) -> Haproxy {
    let server = |n: &Node| ApiServer {
        name: Text::of(&n.name),
        address: Text::of(SocketAddr::new(n.internal_ip(), API_PORT)),
    };
    Haproxy {
        bind: Text::of(SocketAddr::new(endpoint.address, endpoint.port)),
        own: Text::of(&context.node.name),
        ca: Text::of(CA),
        certificate: Text::of(certificate),
        servers: control_planes(context).into_iter().map(server).collect(),
    }
}

fn keepalived(
    context: &Context<'_>,
    endpoint: VirtualAddress,
    facts: &NodeFacts,
) -> Result<Keepalived, ResolveError> {
    let address = endpoint.address;
    let of_family =
        |n: &Node| n.addresses.iter().copied().find(|a| a.is_ipv4() == address.is_ipv4());
    // Validation saw to it that every control plane has an address of the endpoint's family.
    let own = of_family(context.node).unwrap_or_else(|| context.node.internal_ip());
    let nodes = control_planes(context);
    let place = nodes.iter().position(|n| n.name == context.node.name).unwrap_or_default();
    let place = u8::try_from(place).unwrap_or(u8::MAX).min(FIRST_PRIORITY - 1);
    let peers = nodes.iter().filter(|n| n.name != context.node.name).filter_map(|n| of_family(n));
    let length = if address.is_ipv4() { 32 } else { 128 };
    Ok(Keepalived {
        script_user: Text::of(SCRIPT_USER),
        interface: Text::of(interface(context, address, own, facts)?),
        router_id: endpoint.router_id,
        priority: FIRST_PRIORITY - place,
        own: Text::of(own),
        peers: Text::all(peers),
        address: Text::of(format!("{address}/{length}")),
    })
}

/// The interface that gets the address: the inventory's, or the one with the node's own address.
fn interface(
    context: &Context<'_>,
    endpoint: IpAddr,
    own: IpAddr,
    facts: &NodeFacts,
) -> Result<String, ResolveError> {
    let found = facts.addresses.iter().find(|a| a.network.addr() == own);
    if let Some(named) = &context.inventory.cluster.load_balancer.interface {
        return Ok(named.clone());
    }
    let found = found.ok_or(ResolveError::EndpointInterface(own))?;
    if !found.network.contains(&endpoint) {
        let (address, network) = (endpoint, found.network.trunc());
        return Err(ResolveError::EndpointNetwork { address, network });
    }
    Ok(found.interface.clone())
}
