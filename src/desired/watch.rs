//! What has to be looked at on a node.

use super::context::Context;
use crate::facts::ancestors;
use sha2::{Digest, Sha256};

use super::collector::Collector;
use super::model::{Content, FileCheck, Item, ItemKind};
use super::observation;
use super::packages;
use super::platform::Platform;
use super::resolve::everything;
use super::shared::Shared;
use crate::controls::paths::GUARDED;
use crate::facts::{Extra, WatchList};
use crate::inventory::{Files, Inventory, Node, Role};
use crate::plain::hex;

/// Paths that decide something, and that no item may be about.
const FILES: &[&str] = &[
    "/var/lib/etcd/default",
    "/var/lib/etcd/member",
    "/var/lib/kubastion/etcd-data",
    super::apiserver::INIT,
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/kubelet/config.yaml",
];

/// Files of a control plane whose texts say what the cluster runs with.
const TEXTS: &[&str] = &[
    "/etc/kubernetes/enc/encryption.yaml",
    "/etc/kubernetes/kubastion/kubeadm-init.yaml",
    super::etcd_pod::POD,
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
];

/// Files of every kubelet that say the same.
const OF_KUBELETS: &[&str] =
    &["/etc/kubernetes/kubastion/kubeadm-kubelet.yaml", "/var/lib/kubelet/config.yaml"];

/// Units that decide something beside those of the items.
const UNITS: &[&str] = &["ssh.socket", "sshd.socket", super::kubelet::RESOLVED];

/// Everything that [`super::resolve()`] and a plan may ask about a node, whatever it will turn out to be. What
/// checks of controls read is in `checks::watch`, from the checks.
pub fn watch(inventory: &Inventory, files: &Files, node: &Node) -> WatchList {
    let mut watch = WatchList::default();
    let shared = Shared::default();
    for platform in Platform::all() {
        let context = Context { inventory, files, node, platform, shared: &shared, source: None };
        let mut collector = Collector::new(&context);
        // Also while the cluster is only observed: what it is decides whether it may be.
        everything(&context, &mut collector);
        if inventory.observes() {
            observation::items(&context, &mut collector);
        }
        watch.extend(watch_list(&collector.items));
        // Items have no content yet; who gets in is asked with what sshd is to be told.
        let is_sshd = |i: &Item| matches!(&i.kind, ItemKind::File { path, .. } if path == super::ssh::DROP_IN);
        if collector.items.iter().any(is_sshd)
            && let Ok(text) = shared.rendered(super::ssh::DROP_IN, &super::ssh::settings(&context))
        {
            watch.sshd.extend(of_sshd(super::ssh::DROP_IN, &text));
        }
    }
    for path in FILES.iter().chain(GUARDED).copied() {
        add_path(&mut watch, path);
    }
    if node.has_role(Role::ControlPlane) {
        for path in TEXTS {
            add_path(&mut watch, path);
            watch.texts.insert((*path).to_owned());
        }
        watch.extras.insert(Extra::EncryptionKeys);
        if let Some(socket) = inventory.encryption.kms_socket() {
            add_path(&mut watch, socket);
        }
    }
    // Which CAs a file holds where its digest is not the wanted one: ours and another, or others alone.
    let cas = super::pki_files::CA_FILES
        .iter()
        .map(|&(path, _)| path)
        .filter(|path| watch.files.contains(*path));
    let cas: Vec<String> = cas.map(str::to_owned).collect();
    watch.texts.extend(cas);
    // What its own settings are that ours replace.
    if node.has_role(Role::ControlPlane) || node.has_role(Role::Worker) {
        for path in OF_KUBELETS.iter().copied().chain([super::runtime::CONFIG]) {
            add_path(&mut watch, path);
            watch.texts.insert(path.to_owned());
        }
    }
    if inventory.hardening.stage.is_some() {
        watch.extras.insert(Extra::Observation);
    }
    // Who would be locked out by what sshd is to forbid.
    watch.extras.insert(Extra::SshdMatches);
    watch.units.extend(UNITS.iter().chain(super::time::TIME_UNITS).copied().map(str::to_owned));
    watch.packages.extend(packages::names().map(str::to_owned));
    watch
}

/// What has to be looked at so that the difference to some items can be told.
pub fn watch_list(items: &[Item]) -> WatchList {
    let mut watch = WatchList::default();
    for item in items {
        match &item.kind {
            ItemKind::File {
                path, content: Content::Text(text), check: FileCheck::Sshd, ..
            } if !text.is_empty() => {
                add_path(&mut watch, path);
                watch.sshd.extend(of_sshd(path, text));
            }
            ItemKind::Package { name } => {
                watch.packages.insert(name.clone());
            }
            ItemKind::User { name, .. } => {
                watch.users.insert(name.clone());
            }
            ItemKind::Directory { path, .. }
            | ItemKind::File { path, .. }
            | ItemKind::Permissions { path, .. }
            | ItemKind::StaticPod { manifest: path, .. }
            | ItemKind::NoEtcdPod { manifest: path }
            | ItemKind::Absent { path } => add_path(&mut watch, path),
            ItemKind::Program { path, .. } => {
                add_path(&mut watch, path);
                watch.programs.insert(path.clone());
            }
            ItemKind::Images { archive, .. } => {
                watch.images.insert(archive.sha256.clone());
            }
            ItemKind::Sysctl { key, .. } => {
                watch.sysctls.insert(key.clone());
                watch.sysctls.extend(crate::controls::of_interfaces(key));
            }
            ItemKind::Module { name } => {
                watch.modules.insert(name.clone());
            }
            ItemKind::Unit { name, .. } => {
                watch.units.insert(name.clone());
            }
            ItemKind::SwapOff
            | ItemKind::Firewall { .. }
            | ItemKind::FirewallAbsent
            | ItemKind::Kubeadm { .. } => {}
        }
    }
    watch
}

/// Settings of sshd that decide who gets in (sshd_config(5)).
const OF_LOGINS: &[&str] = &[
    "allowgroups",
    "allowusers",
    "authenticationmethods",
    "authorizedkeyscommand",
    "authorizedkeysfile",
    "challengeresponseauthentication",
    "chrootdirectory",
    "denygroups",
    "denyusers",
    "forcecommand",
    "gssapiauthentication",
    "hostbasedauthentication",
    "kbdinteractiveauthentication",
    "passwordauthentication",
    "permitemptypasswords",
    "permitrootlogin",
    "pubkeyauthentication",
    "trustedusercakeys",
    "usepam",
];

/// What sshd is asked with, and the file's own digest: with it in place there is nothing to ask.
fn of_sshd(path: &str, text: &str) -> impl Iterator<Item = String> {
    let file = format!("={} {path}", hex(&Sha256::digest(text.as_bytes())));
    settings(text).chain([file])
}

/// What a file of sshd says of everybody, above its first `Match`: sshd is asked with it.
fn settings(text: &str) -> impl Iterator<Item = String> + '_ {
    let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    let key = |line: &String| line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    lines
        .take_while(move |l| key(l) != "match")
        .filter(move |l| OF_LOGINS.contains(&key(l).as_str()))
}

/// A path and its ancestors, which may have to be made.
fn add_path(watch: &mut WatchList, path: &str) {
    watch.files.insert(path.to_owned());
    watch.files.extend(ancestors(path).map(str::to_owned));
}
