//! Checks of a node's operating system that take more than one value.

use std::net::IpAddr;

use crate::checks::basis::{Basis, live};
use crate::checks::model::Verdict;
use crate::checks::node::packet::{self, Packet};
use crate::checks::observed::{CONTAINERD_PACKAGES, FIREWALL_FILE, Observed, Origin};
use crate::checks::outside;
use crate::checks::rule::{loopback, shown};
use crate::controls::{Daemon, KernelSetting, METADATA_SERVICES, MetadataService, WantedBy};
use crate::desired::CONFLIST;
use crate::facts::{EntryKind, FileFacts};
use crate::inventory::{Cni, FirewallMode, Role};
use crate::kubernetes::Release;

/// What audit rules have to watch on every node.
pub(in crate::checks) const AUDITED: &[&str] = &[
    "/etc/kubernetes",
    "/etc/containerd",
    "/var/lib/kubastion",
    "/usr/local/bin",
    "/etc/passwd",
    "/etc/sudoers.d",
];
/// A program that can send logs elsewhere.
#[derive(Debug, Clone, Copy)]
pub(in crate::checks) struct Forwarder {
    /// Its unit.
    pub unit: &'static str,
    /// Its configuration file. What that includes is not read.
    pub file: &'static str,
    /// The machines that a line of the file sends logs to.
    target: fn(&str) -> Option<&str>,
}

pub(in crate::checks) const FORWARDERS: &[Forwarder] = &[
    Forwarder {
        unit: "rsyslog.service",
        file: "/etc/rsyslog.conf",
        target: |line| {
            let after = |key: &str| line.split_once(key).map(|(_, rest)| rest);
            let action = after("omfwd").and(after("target=")).map(|t| t.trim_start_matches('"'));
            // `selector @host`, and @@ for TCP.
            let plain = line.split_whitespace().nth(1).and_then(|a| a.strip_prefix('@'));
            action.or(plain.map(|host| host.trim_start_matches('@')))
        },
    },
    Forwarder {
        unit: "systemd-journal-upload.service",
        file: "/etc/systemd/journal-upload.conf",
        target: |line| {
            let url = line.strip_prefix("URL=")?.trim();
            Some(url.split_once("://").map_or(url, |(_, host)| host))
        },
    },
    Forwarder {
        unit: "fluent-bit.service",
        file: "/etc/fluent-bit/fluent-bit.conf",
        // Inputs listen on a `Listen`; a host is an output's.
        target: |line| {
            let (key, host) = line.split_once(char::is_whitespace)?;
            key.eq_ignore_ascii_case("host").then(|| host.trim())
        },
    },
    Forwarder {
        unit: "syslog-ng.service",
        file: "/etc/syslog-ng/syslog-ng.conf",
        target: |line| {
            let rest = line.strip_prefix("destination ")?;
            let at = ["network(", "syslog(", "tcp(", "udp("]
                .iter()
                .find_map(|k| rest.split_once(k).map(|(_, host)| host))?;
            Some(at.trim_start_matches('"'))
        },
    },
];

/// Whether a target is another machine.
fn is_remote(target: &str) -> bool {
    let target = target.trim_start_matches('[');
    let local = ["127.", "localhost", "::1", "0.0.0.0", "/"];
    target.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
        && !local.iter().any(|l| target.starts_with(l))
}

/// Units of sshd, by distribution.
pub(in crate::checks) const SSH_UNITS: &[&str] =
    &["ssh.service", "ssh.socket", "sshd.service", "sshd.socket"];
/// containerd's configuration.
pub(in crate::checks) const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// In a container, the kernel and what belongs to it are the host's.
fn of_the_host(seen: &Observed, what: &str) -> Option<Verdict> {
    let container = seen.container.as_ref()?;
    Some(Verdict::not_applicable(format!("the node is a {container} container: {what} the host's")))
}

pub(in crate::checks) fn sysctl(setting: &KernelSetting, on: &Basis<'_>) -> Verdict {
    let KernelSetting { key, value, wanted } = setting;
    let actual = on.seen.sysctls.get(*key);
    if actual.is_some_and(|a| a == value) {
        if let Some(verdict) = crate::checks::node::access::each_interface(setting, on) {
            return verdict;
        }
        return Verdict::pass(format!("{key} = {value}"));
    }
    // There with a module, which a container's host loads or not.
    let of_a_module = actual.is_none() && key.starts_with("net.bridge.");
    if (!setting.is_of_the_network() || of_a_module)
        && let Some(verdict) = of_the_host(on.seen, &format!("{key} is"))
    {
        return verdict;
    }
    let wanted_value = format!("{key} = {value}");
    match actual {
        Some(actual) => Verdict::fail(wanted_value, format!("{key} = {actual}")),
        None if on.seen.origin == Origin::Rendered => Verdict::fail(wanted_value, "not set"),
        // Nothing to harden. Without any setting seen, this is not known.
        None if *wanted == WantedBy::Hardening && has_no_ipv6(key, on.seen) => {
            Verdict::not_applicable("the kernel has no IPv6")
        }
        None => Verdict::unknown(format!("the kernel has no {key}")),
    }
}

fn has_no_ipv6(key: &str, seen: &Observed) -> bool {
    let none_of = |prefix: &str| !seen.sysctls.keys().any(|k| k.starts_with(prefix));
    key.starts_with("net.ipv6.") && none_of("net.ipv6.") && !none_of("net.ipv4.")
}

/// The chains of a rules file that hook into `hook`, as text.
fn chains<'t>(rules: &'t str, hook: &str) -> Vec<&'t str> {
    rules
        .split("chain ")
        .skip(1)
        .filter(|c| c.lines().take(3).any(|l| l.contains(&format!("hook {hook} "))))
        .collect()
}

pub(in crate::checks) fn firewall(on: &Basis<'_>) -> Verdict {
    let loaded = "table inet kubastion, loaded from kubastion's file, with input policy drop";
    if on.inventory.firewall_mode() == FirewallMode::Off {
        return Verdict::fail(loaded, "the inventory says `firewall.mode: off`");
    }
    let rules = match on.seen.text(FIREWALL_FILE) {
        Ok(rules) => rules,
        Err(verdict) => return verdict,
    };
    let input = chains(rules, "input");
    if !input.iter().any(|c| c.lines().take(3).any(|l| l.contains("policy drop"))) {
        return Verdict::fail(loaded, "the rules file has no input chain with policy drop");
    }
    if on.seen.origin == Origin::Rendered {
        return Verdict::pass("the rules drop everything that no rule allows");
    }
    let Some(nft) = on.seen.nft.as_ref().filter(|n| n.usable) else {
        return Verdict::unknown("nft cannot be used on this node");
    };
    let Some(listing) = &nft.own_listing_sha256 else {
        return Verdict::fail(loaded, "the table is not loaded");
    };
    let Some(recorded) = &nft.recorded else {
        return Verdict::unknown("nothing was recorded when the table was loaded");
    };
    if recorded.listing_sha256 != *listing {
        return Verdict::fail(loaded, "the loaded table was changed since it was loaded");
    }
    let Some(wanted) = &on.seen.wanted_firewall_sha256 else {
        return Verdict::unknown("the rules of the inventory cannot be computed");
    };
    match on.seen.files.get(FIREWALL_FILE) {
        Some(FileFacts::File { sha256, .. }) if *sha256 != recorded.file_sha256 => {
            Verdict::fail(loaded, "the loaded table comes from an older file")
        }
        // A rule that was there once, or that somebody wrote into the file, lets in whom the inventory does not.
        Some(FileFacts::File { sha256, .. }) if sha256 != wanted => Verdict::fail(
            "the rules of the inventory",
            "the rules file differs: run `kubastion plan --diff` to see how, and `kubastion apply` to fix it",
        ),
        Some(FileFacts::File { .. }) => match changed_rules(on).or_else(|| strangers_pass(on)) {
            Some(verdict) => verdict,
            None => Verdict::pass("loaded as recorded and as in the inventory, input policy drop"),
        },
        _ => Verdict::fail(loaded, "the rules file does not exist"),
    }
}

/// How the rules in the kernel differ from what the file makes of an empty one. The record of what was loaded is a file on the
/// node, which whoever changes rules can change, too.
fn changed_rules(on: &Basis<'_>) -> Option<Verdict> {
    let live = on.seen.live.as_ref();
    let Some(kernel) = live.and_then(|l| l.rules.as_ref()) else {
        return Some(Verdict::unknown("the rules in the kernel were not read"));
    };
    let Some(file) = live.and_then(|l| l.file_rules.as_ref()) else {
        return Some(Verdict::unknown(
            "the rules file could not be loaded into a separate network namespace",
        ));
    };
    (plain_rules(kernel) != plain_rules(file)).then(|| {
        Verdict::fail("the rules of the file", "the loaded table was changed since it was loaded")
    })
}

/// A listing without what differs each time (libnftables-json(5)): handles, counts, the program's release, and the order of a
/// set's elements.
fn plain_rules(listing: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match listing {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| {
                !matches!(key.as_str(), "handle" | "packets" | "bytes" | "metainfo")
            });
            let plain = kept.map(|(key, value)| {
                let mut value = plain_rules(value);
                if let ("elem", Value::Array(elements)) = (key.as_str(), &mut value) {
                    elements.sort_by_key(Value::to_string);
                }
                (key.clone(), value)
            });
            Value::Object(plain.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain_rules).collect()),
        other => other.clone(),
    }
}

/// Why the rules in the kernel do not keep strangers from pods and Services, if so.
fn strangers_pass(on: &Basis<'_>) -> Option<Verdict> {
    let node = on.node;
    if !(node.has_role(Role::ControlPlane) || node.has_role(Role::Worker)) {
        return None;
    }
    let Some(table) = on.seen.live.as_ref().and_then(|l| l.rules.as_ref()) else {
        return Some(Verdict::unknown("the rules in the kernel were not read"));
    };
    let cluster = &on.inventory.cluster;
    for net in cluster.pod_networks.iter().chain(&cluster.service_networks) {
        let Some(to) = net.0.hosts().next() else { continue };
        let Some(from) = outside::address(on.inventory, to.is_ipv4()) else { continue };
        let packet = Packet { from, to, protocol: "tcp", port: 443 };
        if let Err(why) = packet::dropped(table, "prerouting", packet) {
            let expected = "pods and Services unreachable from outside";
            return Some(Verdict::fail(expected, format!("{from} to {to} in the kernel: {why}")));
        }
    }
    None
}

/// A rule without what stands between quotes: prefixes of logs and comments do nothing.
fn without_quoted(rule: &str) -> String {
    rule.split('"').step_by(2).collect()
}

/// An address of each pod network.
fn pods(on: &Basis<'_>) -> Vec<IpAddr> {
    on.inventory.cluster.pod_networks.iter().filter_map(|n| n.0.hosts().next()).collect()
}

/// Judged by the rules in the kernel; the file is the second witness, and the only one of what is not loaded yet.
pub(in crate::checks) fn metadata_blocked(on: &Basis<'_>) -> Verdict {
    let rules = match on.seen.text(FIREWALL_FILE) {
        Ok(rules) => rules,
        Err(verdict) => return verdict,
    };
    let expected = "a forward rule that drops them";
    let lines: Vec<String> =
        chains(rules, "forward").into_iter().flat_map(str::lines).map(without_quoted).collect();
    let dropped = |address: IpAddr| {
        let to = format!("daddr {address} ");
        lines.iter().any(|l| l.contains(&to) && l.split_whitespace().any(|w| w == "drop"))
    };
    let pods = pods(on);
    let aims = || {
        let of = |pod: &IpAddr| {
            let pod = *pod;
            let services = METADATA_SERVICES.iter().map(MetadataService::address);
            services.filter(move |a| a.is_ipv4() == pod.is_ipv4()).map(move |a| (pod, a))
        };
        pods.iter().flat_map(of)
    };
    let open: Vec<String> =
        aims().filter(|(_, a)| !dropped(*a)).map(|(_, a)| a.to_string()).collect();
    if !open.is_empty() {
        return Verdict::fail(expected, format!("none for {} in {FIREWALL_FILE}", open.join(", ")));
    }
    if on.seen.origin == Origin::Node {
        let Some(table) = on.seen.live.as_ref().and_then(|l| l.rules.as_ref()) else {
            return Verdict::unknown("the rules in the kernel were not read");
        };
        for (from, to) in aims() {
            let packet = Packet { from, to, protocol: "tcp", port: 80 };
            if let Err(why) = packet::dropped(table, "forward", packet) {
                return Verdict::fail(expected, format!("{from} to {to} in the kernel: {why}"));
            }
        }
    }
    Verdict::pass("packets of pods to metadata services are dropped")
}

pub(in crate::checks) fn no_swap(on: &Basis<'_>) -> Verdict {
    match &on.seen.swaps {
        None => on.seen.blind("/proc/swaps was not read"),
        Some(areas) if areas.is_empty() => Verdict::pass("no swap area"),
        Some(areas) => of_the_host(on.seen, "swap is")
            .unwrap_or_else(|| Verdict::fail("no swap area", areas.join(", "))),
    }
}

pub(in crate::checks) fn mandatory_access_control(on: &Basis<'_>) -> Verdict {
    if let Some(verdict) = of_the_host(on.seen, "security modules are") {
        return verdict;
    }
    let Some(lsm) = &on.seen.lsm else {
        return on.seen.blind("security modules were not read");
    };
    let expected = "AppArmor enabled or SELinux enforcing";
    match (lsm.apparmor, lsm.selinux_enforcing) {
        (Some(true), _) => Verdict::pass("AppArmor is enabled"),
        (_, Some(true)) => Verdict::pass("SELinux enforces"),
        (_, Some(false)) => Verdict::fail(expected, "SELinux is permissive"),
        (Some(false), _) => Verdict::fail(expected, "AppArmor is disabled"),
        (None, None) if lsm.active.is_empty() => {
            Verdict::unknown("the kernel does not list its security modules")
        }
        (None, None) => {
            Verdict::fail(expected, format!("active modules: {}", lsm.active.join(", ")))
        }
    }
}

pub(in crate::checks) fn time_sync(on: &Basis<'_>) -> Verdict {
    if let Some(verdict) = of_the_host(on.seen, "the clock is") {
        return verdict;
    }
    let Some(time) = &on.seen.time else { return on.seen.blind("the clock was not checked") };
    match (time.synchronized, time.chrony.as_deref()) {
        (_, Some("Normal")) => Verdict::pass("chrony is synchronized"),
        (Some(true), _) => Verdict::pass("the kernel's clock is synchronized"),
        (None, None) => Verdict::unknown("neither timedatectl nor chronyc answered"),
        (_, leap) => Verdict::fail(
            "synchronized",
            leap.map_or("not synchronized".to_owned(), |l| format!("chrony says: {l}")),
        ),
    }
}

pub(in crate::checks) fn audit_rules(on: &Basis<'_>) -> Verdict {
    if let Some(verdict) = of_the_host(on.seen, "the audit subsystem is") {
        return verdict;
    }
    let expected = format!("watches on {}", AUDITED.join(", "));
    if !on.seen.audit_usable {
        return Verdict::fail(expected, "the kernel's audit subsystem cannot be used");
    }
    let rendered: Option<Vec<String>> = (on.seen.origin == Origin::Rendered).then(|| {
        let rules = on.seen.texts.iter().filter(|(p, _)| p.starts_with("/etc/audit/rules.d/"));
        rules.filter_map(|(_, t)| t.clone()).flat_map(|t| lines(&t)).collect()
    });
    let Some(rules) = rendered.as_ref().or(on.seen.audit_rules.as_ref()) else {
        return Verdict::unknown("auditctl -l gave no list");
    };
    if on.seen.origin == Origin::Node {
        match on.seen.audit_enabled {
            // 2: switched on, and the rules are locked until the next boot.
            Some(1 | 2) => {}
            Some(_) => return Verdict::fail(expected, "auditing is switched off (`auditctl -s`)"),
            None => return Verdict::unknown("auditctl -s does not show whether auditing is on"),
        }
    }
    if let Some(rule) = rules.iter().find(|r| AUDITED.iter().any(|path| leaves_out(r, path))) {
        let rule = crate::checks::rule::shown(Some(rule));
        return Verdict::fail(expected, format!("{rule} keeps them out of the log"));
    }
    let watched = |path: &str| {
        rules
            .iter()
            .filter(|r| !is_never(r))
            .any(|r| r.split([' ', '=']).any(|word| word == path || word == format!("{path}/")))
    };
    let open: Vec<&str> = AUDITED.iter().copied().filter(|p| !watched(p)).collect();
    if open.is_empty() {
        Verdict::pass(format!("{} rules", rules.len()))
    } else {
        Verdict::fail(expected, format!("none on {}", open.join(", ")))
    }
}

/// The list and the action of an audit rule (auditctl(8)); a watch has none.
fn action(rule: &str) -> Vec<&str> {
    let mut words = rule.split_whitespace();
    let after = words.find(|w| matches!(*w, "-a" | "-A")).and_then(|_| words.next());
    after.into_iter().flat_map(|w| w.split(',')).collect()
}

fn is_never(rule: &str) -> bool {
    action(rule).contains(&"never")
}

/// Whether a rule keeps changes below a path out of the log, whoever makes them. One that is about some
/// programs, users or system calls only is its author's choice.
fn leaves_out(rule: &str, path: &str) -> bool {
    if !is_never(rule) || !action(rule).iter().any(|w| matches!(*w, "exit" | "task")) {
        return false;
    }
    let words: Vec<&str> = rule.split_whitespace().collect();
    words.windows(2).all(|pair| match (pair[0], pair[1].split_once('=')) {
        ("-S", _) => pair[1] == "all",
        ("-F", Some(("dir" | "path", value))) => {
            let rest = path.strip_prefix(value.trim_end_matches('/'));
            rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
        }
        ("-F", Some(("perm", value))) => value.contains('w'),
        ("-F", Some(("arch", value))) => value != "b32",
        ("-F", Some(("key", _))) => true,
        ("-F", _) => false,
        _ => true,
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|l| l.starts_with('-')).map(str::to_owned).collect()
}

/// What an update has replaced and the kernel or a daemon still runs in its old form: /run/reboot-required of Debian and
/// Ubuntu.
pub(in crate::checks) fn no_reboot_due(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    match &live.reboot_required {
        None if live.apt.is_none() => {
            Verdict::not_applicable("only Debian and Ubuntu report that a reboot is due")
        }
        None => Verdict::pass("none"),
        Some(packages) if packages.is_empty() => Verdict::fail("no reboot due", "one is due"),
        Some(packages) => Verdict::fail(
            "no reboot due",
            format!("one is due for {}", crate::checks::rule::plain_path(&packages.join(", "))),
        ),
    }
}

fn containerd_config(on: &Basis<'_>) -> Result<toml::Table, Verdict> {
    let text = on.seen.text(CONTAINERD_CONFIG)?;
    text.parse().map_err(|_| Verdict::unknown(format!("{CONTAINERD_CONFIG} is not TOML")))
}

/// Every value of a key, at any depth.
fn everywhere<'t>(table: &'t toml::Table, key: &str, found: &mut Vec<&'t toml::Value>) {
    for (name, value) in table {
        if name == key {
            found.push(value);
        }
        if let toml::Value::Table(inner) = value {
            everywhere(inner, key, found);
        }
    }
}

pub(in crate::checks) fn containerd_no_tcp(on: &Basis<'_>) -> Verdict {
    let config = match containerd_config(on) {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let values = |key: &str| {
        let mut found = Vec::new();
        everywhere(&config, key, &mut found);
        found
    };
    // The defaults (containerd 1.7 and 2.x) are safe; only what the file says can open a port.
    let expected = "no TCP service, streams on loopback";
    if values("disable_tcp_service").iter().any(|v| v.as_bool() == Some(false)) {
        return Verdict::fail(expected, "disable_tcp_service = false");
    }
    let text = |v: &&toml::Value| v.as_str().unwrap_or_default().to_owned();
    if let Some(address) = values("tcp_address").iter().map(text).find(|a| !a.is_empty()) {
        return Verdict::fail(expected, format!("tcp_address = {address:?}"));
    }
    match values("stream_server_address").iter().map(text).find(|a| !a.is_empty() && !loopback(a)) {
        Some(address) => Verdict::fail(expected, format!("stream_server_address = {address:?}")),
        None => Verdict::pass(expected),
    }
}

pub(in crate::checks) fn containerd_release(on: &Basis<'_>) -> Verdict {
    // `containerd github.com/containerd/containerd/v2 v2.1.9 ...`, where no package brought it.
    let said = on.seen.versions.get("containerd");
    let said = said.and_then(|v| v.split(' ').find(|w| w.contains('.') && !w.contains('/')));
    let packaged = CONTAINERD_PACKAGES.iter().find_map(|p| on.seen.packages.get(*p));
    let version = said.or(packaged.map(String::as_str)).filter(|v| !v.is_empty());
    let Some(version) = version else {
        return on.seen.blind("neither a package nor containerd itself reports its version");
    };
    // Debian writes an epoch before, and a tilde before what it adds.
    let upstream = version.rsplit(':').next().unwrap_or_default().trim_start_matches('v');
    let mut numbers = upstream.split(['.', '~', '-', '+']).map_while(|n| n.parse::<u16>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let kubernetes = on.inventory.cluster.kubernetes.minor;
    let oldest = Release::of(kubernetes).oldest_containerd;
    match (major, minor) >= oldest {
        true => Verdict::pass(format!("containerd {version}")),
        false => Verdict::fail(
            format!("containerd {}.{} or newer, for Kubernetes 1.{kubernetes}", oldest.0, oldest.1),
            version,
        ),
    }
}

pub(in crate::checks) fn containerd_runtime(on: &Basis<'_>) -> Verdict {
    let config = match containerd_config(on) {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    if on.seen.origin == Origin::Node && !on.seen.runs(Daemon::Containerd) {
        return Verdict::fail("containerd runs", "it does not run");
    }
    if on.seen.cgroup_version != Some(2) {
        return Verdict::pass("the node uses cgroup v1");
    }
    let mut found = Vec::new();
    everywhere(&config, "SystemdCgroup", &mut found);
    if found.is_empty() || found.iter().any(|v| v.as_bool() != Some(true)) {
        return Verdict::fail("SystemdCgroup = true", "not set for every runtime");
    }
    Verdict::pass("SystemdCgroup = true")
}

/// Programs here are run as root by the kubelet for volumes of their names (k8s.io, "FlexVolume", deprecated).
const FLEX_VOLUMES: &str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec";

/// Directories of which containerd, and for volumes the kubelet, reads every file: hosts of registries (containerd, docs/hosts.md; without a `config_path`
/// releases since 2.2 read both), and CNI networks, of which the first by name is taken (containerd, docs/cri/config.md).
pub(in crate::checks) const READ_AS_A_WHOLE: &[&str] = &[
    FLEX_VOLUMES,
    "/etc/cdi",
    "/etc/cni/net.d",
    "/etc/containerd/certs.d",
    "/etc/docker/certs.d",
    "/etc/nri",
    "/opt/nri",
    "/run/cdi",
];

/// A file beside ours sends pulls to another registry, pods to another network, or changes containers as they are made,
/// whatever ours say.
pub(in crate::checks) fn foreign_files(on: &Basis<'_>) -> Verdict {
    let Some(trees) = &on.seen.trees else {
        return Verdict::not_applicable("only the running node can show this");
    };
    let runtime = &on.inventory.runtime;
    let is_ours = |path: &str| {
        path == CONFLIST
            || path.strip_prefix("/etc/containerd/certs.d/").is_some_and(|rest| {
                let registry = rest.strip_suffix("/hosts.toml");
                registry.is_some_and(|r| runtime.registry_mirrors.contains_key(r))
            })
    };
    let mut wrong = Vec::new();
    for &dir in READ_AS_A_WHOLE {
        // Where the network is somebody else's, so are its files. Calico brings a driver, too.
        if matches!(dir, "/etc/cni/net.d" | FLEX_VOLUMES) && runtime.cni == Cni::None {
            continue;
        }
        let Some(tree) = trees.get(dir) else { continue };
        if !tree.complete {
            return Verdict::unknown(format!("{dir} could not be listed completely"));
        }
        let others = tree
            .entries
            .iter()
            .filter(|(path, entry)| entry.kind != EntryKind::Directory && !is_ours(path.as_str()));
        wrong.extend(others.map(|(path, _)| shown(Some(path))));
    }
    match wrong.first() {
        Some(first) if wrong.len() > 1 => {
            Verdict::fail("no other files", format!("{first} and {} more", wrong.len() - 1))
        }
        Some(first) => Verdict::fail("no other files", first.clone()),
        None => Verdict::pass("no other files"),
    }
}

pub(in crate::checks) fn only_pods(on: &Basis<'_>) -> Verdict {
    let live = match crate::checks::basis::live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(others) = &live.other_containers else {
        return Verdict::unknown("containerd did not list its containers");
    };
    let wrong = others.iter().map(|c| crate::checks::rule::plain_path(c)).collect();
    crate::checks::model::verdict("only containers of pods", wrong, || "none".to_owned())
}

pub(in crate::checks) fn log_forwarding(on: &Basis<'_>) -> Verdict {
    let is_active = |f: &Forwarder| on.seen.units.get(f.unit).is_some_and(|u| u.active == "active");
    let active: Vec<&Forwarder> = FORWARDERS.iter().filter(|f| is_active(f)).collect();
    if active.is_empty() {
        return match FORWARDERS.iter().any(|f| on.seen.units.contains_key(f.unit)) {
            true => Verdict::fail("a log forwarder is active", "none is active"),
            false => on.seen.blind("units were not checked"),
        };
    }
    // A unit that runs may write files alone, as rsyslog does where nobody has told it otherwise.
    let sends = active.iter().find_map(|f| {
        let lines = on.seen.text(f.file).ok()?.lines().map(str::trim);
        let mut targets = lines.filter(|l| !l.starts_with('#')).filter_map(f.target);
        targets.find(|t| is_remote(t)).map(|target| (f, target))
    });
    match sends {
        Some((f, target)) => {
            let target = crate::checks::rule::shown(Some(target));
            Verdict::pass(format!("{} is active and {} names {target}", f.unit, f.file))
        }
        None => {
            let said: Vec<String> = active
                .iter()
                .map(|f| format!("{} is active, but {} names no other machine", f.unit, f.file))
                .collect();
            Verdict::unknown(said.join("; "))
        }
    }
}

pub(in crate::checks) fn no_sshd(on: &Basis<'_>) -> Verdict {
    let open: Vec<&str> = SSH_UNITS
        .iter()
        .copied()
        .filter(|u| {
            let unit = on.seen.units.get(*u);
            unit.is_some_and(|u| u.active == "active" || u.file == "enabled")
        })
        .collect();
    if !open.is_empty() {
        return Verdict::fail("stopped and disabled", format!("{} is not", open.join(", ")));
    }
    if SSH_UNITS.iter().all(|u| !on.seen.units.contains_key(*u)) {
        return on.seen.blind("units were not checked");
    }
    Verdict::pass("no sshd unit is active or enabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarder_sends_to_another_machine_or_nobody_knows() {
        let of = |unit: &str, line: &str| {
            let forwarder = FORWARDERS.iter().find(|f| f.unit == unit).unwrap();
            (forwarder.target)(line).is_some_and(is_remote)
        };
        let table = [
            ("rsyslog.service", "*.* @@logs.example:514", "*.* /var/log/syslog"),
            (
                "rsyslog.service",
                "action(type=\"omfwd\" target=\"192.0.2.9\" port=\"514\")",
                "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"514\")",
            ),
            ("rsyslog.service", "auth.* @192.0.2.9", "*.* @@localhost"),
            (
                "systemd-journal-upload.service",
                "URL=https://logs.example:19532",
                "URL=http://localhost:19532",
            ),
            ("systemd-journal-upload.service", "URL=logs.example", "URL="),
            ("fluent-bit.service", "Host logs.example", "Name stdout"),
            (
                "syslog-ng.service",
                "destination d_net { network(\"logs.example\" port(6514)); };",
                "destination d_auth { file(\"/var/log/auth.log\"); };",
            ),
        ];
        for (unit, remote, local) in table {
            assert!(of(unit, remote), "{remote}");
            assert!(!of(unit, local), "{local}");
        }
    }
}
