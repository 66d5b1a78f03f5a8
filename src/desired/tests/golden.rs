//! Everything that a node gets, by Kubernetes minor and role, word for word.
//!
//! `UPDATE_GOLDEN=1 cargo test golden` writes the files anew; the difference is for a reviewer.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::{
    INVENTORY, desired, desired_with, facts, facts_with_addresses, load, with_managed_endpoint,
    with_probe,
};
use crate::desired::{Access, Content, Item, ItemKind, NodeDesired};
use crate::inventory::KubernetesVersion;

fn access(a: &Access) -> String {
    format!("{:04o} {}:{}", a.mode, a.owner, a.group)
}

/// What an item is, on one line.
pub(super) fn headline(item: &Item) -> String {
    match &item.kind {
        ItemKind::Package { name } => format!("package {name}"),
        ItemKind::User { name, home } => format!("user {name} {home}"),
        ItemKind::Directory { path, access: a } => format!("directory {path} {}", access(a)),
        ItemKind::File { path, access: a, check, .. } => {
            format!("file {path} {} {check:?}", access(a))
        }
        ItemKind::Program { path, blob, access: a } => {
            format!("program {path} {} {}", access(a), blob.sha256)
        }
        ItemKind::Images { archive, references } => {
            format!("images {} {}", archive.sha256, references.join(","))
        }
        ItemKind::Kubeadm { action, watches } => {
            format!("member {action:?} watches={}", watches.join(","))
        }
        ItemKind::Permissions { path, access: a } => format!("mode {path} {}", access(a)),
        ItemKind::Absent { path } => format!("absent {path}"),
        ItemKind::StaticPod { component, manifest } => format!("static pod {component} {manifest}"),
        ItemKind::NoEtcdPod { manifest } => format!("no static pod {manifest}"),
        ItemKind::Sysctl { key, value } => format!("sysctl {key} {value}"),
        ItemKind::Module { name } => format!("module {name}"),
        ItemKind::SwapOff => "swap off".to_owned(),
        ItemKind::Firewall { path } => format!("firewall {path}"),
        ItemKind::FirewallAbsent => "no firewall".to_owned(),
        ItemKind::Unit { name, enabled, active, on_change, watches, start } => format!(
            "unit {name} enabled={enabled} active={active} {on_change:?} {start:?} watches={}",
            watches.join(",")
        ),
    }
}

/// Items as text; a secret is its length.
fn show(desired: &NodeDesired) -> String {
    let mut out = String::new();
    for note in &desired.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for item in &desired.items {
        let _ = writeln!(
            out,
            "\n{:?} {}\n  for: {}",
            item.phase,
            headline(item),
            item.controls.join(" ")
        );
        match &item.kind {
            ItemKind::File { content: Content::Text(text), .. } => {
                for line in text.lines() {
                    let _ = writeln!(out, "{}", format!("  | {line}").trim_end());
                }
            }
            ItemKind::File { content: Content::Bytes(bytes), .. } => {
                let _ = writeln!(out, "  {} bytes", bytes.len());
            }
            ItemKind::File { content: Content::Secret(secret), .. } => {
                let _ = writeln!(out, "  secret of {} bytes", secret.expose().len());
            }
            _ => {}
        }
    }
    out
}

/// Whether an item is there for a managed endpoint, or depends on one in more than its address.
fn is_about_the_endpoint(item: &Item) -> bool {
    let words = ["haproxy", "keepalived", "endpoint-check", "firewall.nft"];
    match &item.kind {
        ItemKind::Package { name } | ItemKind::User { name, .. } | ItemKind::Unit { name, .. } => {
            words.iter().any(|w| name.contains(w))
        }
        ItemKind::File { path, .. } => words.iter().any(|w| path.contains(w)),
        _ => false,
    }
}

/// Something of everything that is passed through.
const PASSED: &str = r#"
api_server:
  extra_args:
    enable-admission-plugins: [PodNodeSelector]
    event-ttl: 3h0m0s
    feature-gates: HPAScaleToZero=true
    service-account-issuer: ["https://a.example", "https://b.example"]
    max-requests-inflight: 800
  extra_volumes:
    - { name: oidc, host_path: /etc/oidc, path_type: DirectoryOrCreate }
    - { name: tokens, host_path: /srv/tokens, mount_path: /var/lib/tokens, read_only: false }
controller_manager:
  extra_args: { node-cidr-mask-size-ipv4: 25, controllers: "*,-ttl" }
  extra_volumes: [{ name: cloud, host_path: /etc/cloud.conf, path_type: File }]
scheduler:
  extra_args: { v: 2 }
  extra_volumes: [{ name: extender, host_path: /run/extender.sock, path_type: Socket }]
kubelet:
  extra:
    maxPods: 60
    evictionHard: { memory.available: 200Mi, nodefs.available: 10% }
    authentication: { webhook: { cacheTTL: 30s } }
    featureGates: { KubeletPodResources: true }
    imageGCHighThresholdPercent: 70
    allowedUnsafeSysctls: [net.core.somaxconn, "kernel.msg*"]
    shutdownGracePeriodByPodPriority: [{ priority: 100, shutdownGracePeriodSeconds: 10 }]
    cpuManagerPolicyOptions: {}
  extra_args: { v: 4 }
kube_proxy:
  extra: { mode: nftables, conntrack: { maxPerCore: 65536 }, nftables: { syncPeriod: 10s } }
"#;

/// Whether an item is what kubeadm is told.
fn is_of_kubeadm(item: &Item) -> bool {
    matches!(&item.kind, ItemKind::File { path, .. } if path.contains("/kubastion/kubeadm-"))
}

fn compare(path: &str, found: &str, compared: &mut BTreeSet<String>, problems: &mut Vec<String>) {
    compared.insert(path.to_owned());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, found).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    if wanted != found {
        let diff = similar::TextDiff::from_lines(wanted.as_str(), found);
        problems.push(diff.unified_diff().header(path, "now").to_string());
    }
}

#[test]
fn golden_files_hold() {
    let (mut problems, mut compared) = (Vec::new(), BTreeSet::new());
    let roles = [("cp-1", "control-plane"), ("e-1", "etcd"), ("w-1", "worker")];
    for minor in KubernetesVersion::SUPPORTED_MINORS {
        let mut inventory = load(INVENTORY);
        inventory.cluster.kubernetes = KubernetesVersion { minor, patch: 2 };
        for (name, role) in roles {
            let shown = show(&desired(&inventory, name, &facts(name, "debian 13", None)));
            compare(&format!("1.{minor}/{role}/items.txt"), &shown, &mut compared, &mut problems);
        }
    }
    let variants = [
        ("stig", "hardening: { profile: stig }", "debian 13", None),
        ("red-hat", "", "rocky 9.4", None),
        ("container", "", "debian 12", Some("systemd-nspawn")),
    ];
    for (variant, more, os, container) in variants {
        let inventory = load(&format!("{INVENTORY}{more}\n"));
        for (name, role) in roles {
            let shown = show(&desired(&inventory, name, &facts(name, os, container)));
            compare(&format!("{variant}/{role}/items.txt"), &shown, &mut compared, &mut problems);
        }
    }
    let (inventory, facts_of_plane) = (load(INVENTORY), facts("cp-1", "debian 13", None));
    let mut wanted = desired_with(&inventory, &with_probe(62), "cp-1", &facts_of_plane);
    wanted.items.retain(|i| i.controls.contains(&"apiserver-authenticated-probes"));
    compare("probe/control-plane/items.txt", &show(&wanted), &mut compared, &mut problems);
    let inventory = load(&format!("{INVENTORY}{PASSED}"));
    for (name, role) in [("cp-1", "control-plane"), ("w-1", "worker")] {
        let mut wanted = desired(&inventory, name, &facts(name, "debian 13", None));
        wanted.items.retain(is_of_kubeadm);
        let file = format!("passthrough/{role}/items.txt");
        compare(&file, &show(&wanted), &mut compared, &mut problems);
    }
    for (variant, endpoint) in [("ipv4", "192.0.2.5:8443"), ("ipv6", "[fd00:1::5]:8443")] {
        let inventory = with_managed_endpoint(endpoint);
        let mut wanted = desired(&inventory, "cp-2", &facts_with_addresses("cp-2", "debian 13"));
        wanted.items.retain(is_about_the_endpoint);
        wanted.notes.clear();
        compare(
            &format!("endpoint/{variant}/items.txt"),
            &show(&wanted),
            &mut compared,
            &mut problems,
        );
    }
    problems.extend(left_over(&compared));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Files that nobody renders any more and that would pin nothing. Two trees are compared elsewhere, as wholes.
fn left_over(compared: &BTreeSet<String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (mut left, mut open) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if ["nodes", "bundle-v1"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if !compared.contains(&name) {
                left.push(format!("tests/golden/{name} is rendered by nobody"));
            }
        }
    }
    left
}
