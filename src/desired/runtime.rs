//! containerd and the bridge network.

use super::shared::PodRoutes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::collector::{self, Collector, Unit};
use super::context::Context;
use super::error::ResolveError;
use super::model::{Access, Content, FileCheck, FileText, ItemKind, OnChange};
use super::software::{self, CNI_PLUGINS, PROGRAMS};
use super::version::Version;
use crate::facts::NodeFacts;
use crate::inventory::{Cni, Inventory, Node, Role};
use crate::kubernetes::Release;
use crate::render::input::runtime::{
    BridgeNetwork, CniBinKey, Containerd1, Containerd2, ContainerdUnit, PodRoute, PodRouteList,
    PodRouteUnit, RegistryHosts,
};
use crate::render::{Input, Text};

pub(super) const CONFIG: &str = "/etc/containerd/config.toml";
/// Where no package brings one.
const UNIT: &str = "/etc/systemd/system/containerd.service";
const ROUTES_UNIT: &str = "/etc/systemd/system/kubastion-pod-routes.service";
/// What the unit goes by; templates/runtime/pod-routes.sh names it too.
pub(super) const ROUTES: &str = "/etc/kubastion/pod-routes";
/// What it runs.
const ROUTES_PROGRAM: &str = "/var/lib/kubastion/pod-routes.sh";
const CONTROLS: &[&str] = &["containerd-config-permissions", "containerd-runtime-hardening"];
/// The bridge network of this node.
pub(crate) const CONFLIST: &str = "/etc/cni/net.d/10-kubastion.conflist";
const CNI: &[&str] = &["files-cni"];
/// Leases of the bridge network, by its name in the configuration.
const LEASES: &[&str] =
    &["/var/lib/cni", "/var/lib/cni/networks", "/var/lib/cni/networks/kubastion"];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.has_kubelet() {
        return;
    }
    collector.directory(&[], "/etc/containerd", Access::root(0o755));
    collector.content(CONTROLS, CONFIG, Access::root(0o600), FileCheck::None, |source| {
        Ok(Content::Text(config(context, source.facts)?))
    });
    for (registry, mirrors) in &context.inventory.runtime.registry_mirrors {
        let path = format!("/etc/containerd/certs.d/{registry}/hosts.toml");
        collector.template(&["containerd-runtime-hardening"], &path, |_| {
            Ok(RegistryHosts { mirrors: Text::all(mirrors) })
        });
    }
    let bundled = software::bundled(context, "containerd");
    let mut watches = vec![CONFIG.to_owned()];
    // It does not notice a file that comes by a rename (containerd, internal/cri/server/cni_conf_syncer.go: create events are
    // passed over), and its node would stay NotReady.
    if context.inventory.runtime.cni == Cni::Bridge {
        watches.push(CONFLIST.to_owned());
    }
    if bundled {
        collector.template(CONTROLS, UNIT, |_| {
            // A container may not protect its processes from the host's memory killer.
            let oom_score_adjust = if context.platform.container { 0 } else { -999 };
            Ok(ContainerdUnit { oom_score_adjust })
        });
        watches.extend([UNIT.to_owned(), format!("{PROGRAMS}/containerd")]);
    }
    let unit =
        Unit { on_change: OnChange::Restart, watches, ..Unit::running("containerd.service") };
    if bundled {
        collector.unit(CONTROLS, unit);
    } else {
        collector.packaged_unit(CONTROLS, "containerd", unit);
    }
    let socket = Access::root(0o660);
    let path = "/run/containerd/containerd.sock".to_owned();
    collector
        .push(&["containerd-config-permissions"], ItemKind::Permissions { path, access: socket });
    if let Some(Some(text)) = context.facts().and_then(|f| f.texts.get(CONFIG))
        && let Some(note) = lost_settings(text)
    {
        collector.note(note);
    }
    cni(context, collector);
    let (minor, (major, least)) = (context.minor(), Release::of(context.minor()).oldest_containerd);
    if let Some(facts) = context.facts()
        // Former releases of the kubelet start with an older one; that is for `containerd-release` to judge.
        && major >= 2
        && version(context, facts).is_some_and(|v| v < Version(major, least, 0))
    {
        collector.note(format!(
            "this containerd is too old for the kubelet of Kubernetes 1.{minor}, which requires {major}.{least}"
        ));
    }
}

fn cni(context: &Context<'_>, collector: &mut Collector<'_>) {
    collector.directory(CNI, "/etc/cni/net.d", Access::root(0o700));
    if context.inventory.runtime.cni != Cni::Bridge {
        // It would sort before the one of whoever brings the network.
        collector.gone(CONFLIST);
        collector.gone(ROUTES_UNIT);
        collector.gone(ROUTES);
        return;
    }
    collector.template(CNI, CONFLIST, |_| {
        let subnets = own_subnets(context)?;
        let default = |n: &ipnet::IpNet| if n.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let routes = subnets.iter().map(default);
        Ok(BridgeNetwork { routes: Text::all(routes), subnets: Text::all(&subnets) })
    });
    // host-local makes them as the umask of the runtime says, which is not for it to choose.
    for &path in LEASES {
        collector.directory(CNI, path, Access::root(0o700));
    }
    // It would make this one 0750, for a file that nobody executes.
    let lock = format!("{}/lock", LEASES[2]);
    collector.content(CNI, &lock, Access::root(0o600), FileCheck::None, |_| {
        Ok(Content::Text("".into()))
    });
    pod_routes(context, collector);
}

fn kubelets(inventory: &Inventory) -> impl Iterator<Item = &Node> {
    inventory.nodes.iter().filter(|n| n.has_role(Role::ControlPlane) || n.has_role(Role::Worker))
}

/// The unit that sets the routes to the pods of the other nodes.
fn pod_routes(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !collector.has_directory(super::places::CONFIGURATION) {
        collector.directory(&[], super::places::CONFIGURATION, Access::root(0o700));
    }
    let access = Access::root(collector::mode(PodRouteList::TEMPLATE));
    collector.content(CNI, ROUTES, access, FileCheck::None, |_| {
        Ok(Content::Text(all_subnets(context)?.text.clone()))
    });
    collector.fixed(CNI, ROUTES_PROGRAM, "runtime/pod-routes.sh");
    collector
        .template(CNI, ROUTES_UNIT, |_| Ok(PodRouteUnit { own: Text::all(own_subnets(context)?) }));
    let watches = [ROUTES, ROUTES_PROGRAM, ROUTES_UNIT].map(str::to_owned).into();
    let name = "kubastion-pod-routes.service";
    collector.unit(CNI, Unit { on_change: OnChange::Restart, watches, ..Unit::running(name) });
}

fn all_subnets(context: &Context<'_>) -> Result<Arc<PodRoutes>, ResolveError> {
    context.shared.pod_routes(|| {
        let nodes: Vec<&Node> = kubelets(context.inventory).collect();
        let (mut all, mut routes) = (BTreeMap::new(), Vec::new());
        for (place, node) in nodes.iter().enumerate() {
            let subnets = subnets(context, place, nodes.len())?;
            for subnet in &subnets {
                // By the node's address of the same family.
                let v4 = subnet.addr().is_ipv4();
                let via = node.addresses.iter().find(|a| a.is_ipv4() == v4);
                routes.extend(
                    via.map(|via| PodRoute { subnet: Text::of(subnet), via: Text::of(via) }),
                );
            }
            all.insert(node.name.clone(), subnets);
        }
        let text = context.shared.rendered(ROUTES, &PodRouteList { routes })?;
        Ok(PodRoutes { subnets: all, text })
    })
}

/// This node's parts of the pod networks.
fn own_subnets(context: &Context<'_>) -> Result<Vec<ipnet::IpNet>, ResolveError> {
    let all = all_subnets(context)?;
    Ok(all.subnets.get(&context.node.name).cloned().unwrap_or_default())
}

/// A node's part of each pod network: by its place among the nodes with a kubelet, /24 or /64. The
/// order is the inventory's: a node that is added at its end moves no other.
fn subnets(
    context: &Context<'_>,
    place: usize,
    nodes: usize,
) -> Result<Vec<ipnet::IpNet>, ResolveError> {
    let part = |network: &crate::inventory::IpNetText| {
        let length = if network.0.addr().is_ipv4() { 24 } else { 64 };
        nth_part(network.0, length, place)
            .ok_or_else(|| ResolveError::PodNetwork { network: network.to_string(), nodes })
    };
    context.inventory.cluster.pod_networks.iter().map(part).collect()
}

/// The part of a network at a place, all of them with this prefix length; a network that is no larger is its
/// own first part. `None` beyond the last.
fn nth_part(network: ipnet::IpNet, length: u8, place: usize) -> Option<ipnet::IpNet> {
    let network = network.trunc();
    let length = length.max(network.prefix_len());
    let place = u128::try_from(place).ok()?;
    if place >> (length - network.prefix_len()) != 0 {
        return None;
    }
    let offset = place << (network.max_prefix_len() - length);
    let address: std::net::IpAddr = match network.addr() {
        std::net::IpAddr::V4(a) => {
            let bits = u32::from(a) | u32::try_from(offset).ok()?;
            std::net::Ipv4Addr::from(bits).into()
        }
        std::net::IpAddr::V6(a) => std::net::Ipv6Addr::from(u128::from(a) | offset).into(),
    };
    ipnet::IpNet::new(address, length).ok()
}

fn config(context: &Context<'_>, facts: &NodeFacts) -> Result<FileText, ResolveError> {
    let sandbox_image =
        Text::of(format!("registry.k8s.io/pause:{}", Release::of(context.minor()).pause));
    // Version 1 of the hierarchy is met in labs only; there nobody else manages it.
    let systemd_cgroup = facts.cgroup_version == 2;
    // Where SELinux is off, containerd says so in its log and goes on.
    let selinux = context.os().selinux && !context.platform.container;
    let restrict_oom_score_adj = context.inventory.host.lab;
    let cni_bin_dir = Text::of(match context.inventory.runtime.cni {
        // What others install goes to the upstream place.
        Cni::None => CNI_PLUGINS,
        Cni::Bridge if software::bundled_plugins(context) => CNI_PLUGINS,
        Cni::Bridge => context.os().cni_plugins,
    });
    // Version 2 of the format is read by 2.x too: right for a node whose release is not known yet.
    let version = version(context, facts).unwrap_or(Version(1, 7, 0));
    if version < Version(2, 0, 0) {
        let input = Containerd1 {
            sandbox_image,
            systemd_cgroup,
            selinux,
            restrict_oom_score_adj,
            cni_bin_dir,
        };
        return context.shared.rendered(CONFIG, &input);
    }
    let cni_bin_key =
        if version < Version(2, 1, 0) { CniBinKey::BinDir } else { CniBinKey::BinDirs };
    let input = Containerd2 {
        sandbox_image,
        systemd_cgroup,
        selinux,
        restrict_oom_score_adj,
        cni_bin_dir,
        cni_bin_key,
    };
    context.shared.rendered(CONFIG, &input)
}

/// What the node's own configuration has and the new one will not have, by name alone: values may be passwords. `None` if
/// nothing of it matters, or the file is ours.
fn lost_settings(text: &str) -> Option<String> {
    if text.starts_with("# Made by kubastion") {
        return None;
    }
    const FILE: &str = "/etc/containerd/config.toml is replaced";
    let Ok(own) = text.parse::<toml::Table>() else {
        return Some(format!("{FILE}; it is not valid TOML, so its settings are unknown"));
    };
    let mut found = BTreeSet::new();
    for (key, usual) in [("root", "/var/lib/containerd"), ("state", "/run/containerd")] {
        if own.get(key).and_then(toml::Value::as_str).is_some_and(|v| !v.is_empty() && v != usual) {
            found.insert(format!("`{key}` (containerd no longer finds the data there)"));
        }
    }
    if own.get("imports").and_then(toml::Value::as_array).is_some_and(|i| !i.is_empty()) {
        found.insert("`imports`, with the imported files".to_owned());
    }
    let mut mirrors = false;
    let names = |table: &toml::Table| table.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>();
    let mut tables: Vec<(&str, &toml::Table)> = vec![("", &own)];
    while let Some((name, table)) = tables.pop() {
        for (key, value) in table {
            let Some(inner) = value.as_table() else {
                let value = value.as_str().unwrap_or_default();
                let other = |usual: &str| !value.is_empty() && value != usual;
                match key.as_str() {
                    "snapshotter" if other("overlayfs") => {
                        found.insert("`snapshotter`".to_owned());
                    }
                    "config_path" if name == "registry" && other("/etc/containerd/certs.d") => {
                        mirrors = true;
                        found.insert("`config_path` of the registries".to_owned());
                    }
                    _ => {}
                }
                continue;
            };
            match (name, key.as_str()) {
                (_, "runtimes") => found.extend(
                    names(inner)
                        .into_iter()
                        .filter(|n| n != "`runc`")
                        .map(|n| format!("runtime {n}")),
                ),
                ("registry", "mirrors") => {
                    mirrors |= !inner.is_empty();
                    found.extend(names(inner).into_iter().map(|n| format!("mirrors of {n}")));
                }
                ("registry", "configs") => found.extend(
                    names(inner)
                        .into_iter()
                        .map(|n| format!("settings and logins of registry {n}")),
                ),
                (_, "proxy_plugins" | "stream_processors") => {
                    found.extend(names(inner).into_iter().map(|n| format!("{key} {n}")));
                }
                _ => {}
            }
            tables.push((key, inner));
        }
    }
    if found.is_empty() {
        return None;
    }
    let more = found.len().saturating_sub(LOST_NAMED);
    let mut said: Vec<String> = found.into_iter().take(LOST_NAMED).collect();
    if more > 0 {
        said.push(format!("{more} more"));
    }
    let keep = if mirrors {
        "to keep mirrors, set `runtime.registry_mirrors` in the inventory; the inventory has no key for the others"
    } else {
        "the inventory has no keys for these settings"
    };
    Some(format!(
        "{FILE}, which removes: {}; {keep}; `kubastion rollback` restores the file",
        said.join(", ")
    ))
}

/// How many settings a note names.
const LOST_NAMED: usize = 8;

/// What the bundle says, the program, or its package.
fn version(context: &Context<'_>, facts: &NodeFacts) -> Option<Version> {
    if let Some(version) = software::version(context, "containerd") {
        return Version::in_text(version);
    }
    let said = facts.versions.get("containerd").and_then(|v| Version::in_text(v));
    said.or_else(|| {
        let packages = ["containerd", "containerd.io"];
        packages.iter().find_map(|p| Version::of_package(facts.packages.get(*p)?))
    })
}

#[cfg(test)]
mod tests {
    use super::{lost_settings, nth_part};

    /// By name, and no value: a registry's login is among them.
    #[test]
    fn what_a_node_loses_with_its_own_configuration_is_named() {
        let own = r#"
version = 2
root = "/data/containerd"
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
endpoint = ["https://mirror.example"]
[plugins."io.containerd.grpc.v1.cri".registry.configs."r.example".auth]
password = "poison"
[proxy_plugins.stargz]
type = "snapshot"
address = "/run/s.sock"
"#;
        let said = lost_settings(own).unwrap();
        for named in [
            "`root`",
            "`imports`",
            "runtime `kata`",
            "mirrors of `docker.io`",
            "logins of registry `r.example`",
            "proxy_plugins `stargz`",
            "runtime.registry_mirrors",
        ] {
            assert!(said.contains(named), "{named}: {said}");
        }
        assert!(!said.contains("runc") && !said.contains("snapshotter"), "{said}");
        assert!(!said.contains("poison") && !said.contains("mirror.example"), "{said}");
        // What Debian installs, what containerd prints as its default, and ours.
        for plain in [
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\n",
            "imports = []\nroot = \"/var/lib/containerd\"\n[proxy_plugins]\n[plugins.x.registry]\nconfig_path = \"\"\n",
            "disabled_plugins = [\"cri\"]\n",
            "# Made by kubastion, for containerd 1.x.\nimports = [\"/x\"]\n",
        ] {
            assert_eq!(lost_settings(plain), None, "{plain}");
        }
        assert!(lost_settings("a b").unwrap().contains("not valid TOML"));
    }

    #[test]
    fn parts_are_those_of_a_walk_through_all() {
        for network in [
            "10.244.0.0/16",
            "10.244.7.9/22",
            "10.0.0.0/8",
            "192.0.2.0/25",
            "fd00:10::/56",
            "fd00::/64",
        ] {
            let network: ipnet::IpNet = network.parse().unwrap();
            let length: u8 = if network.addr().is_ipv4() { 24 } else { 64 };
            let walk = network.trunc().subnets(length.max(network.prefix_len())).unwrap();
            let all: Vec<_> = walk.take(300).collect();
            for (place, part) in all.iter().enumerate() {
                assert_eq!(nth_part(network, length, place), Some(*part));
            }
            if all.len() < 300 {
                assert_eq!(nth_part(network, length, all.len()), None, "{network}");
            }
        }
    }
}
