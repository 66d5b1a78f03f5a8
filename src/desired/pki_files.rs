//! Certificates, keys and kubeconfigs below /etc/kubernetes and /var/lib/kubelet.
//!
//! Workers get their kubelet's material and the cluster CA's certificate. The keys of the etcd and
//! front-proxy CAs reach no node, that of the cluster CA only control planes, and only with
//! `pki.ca_custody: control-plane`.
//!
//! Files of CA certificates hold whom the node believes: the CA that issues first, and those that are accepted.

use super::collector::{Collector, exists};
use super::context::{Context, Source};
use super::error::ResolveError;
use super::model::{Access, Content, FileCheck, ItemKind};
use super::places::ISSUING_CA;
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::CaCustody;
use crate::pki::kubeconfig::{self, KubeletIdentity};
use crate::pki::{Ca, CertificateKind, Pair, Trust};
use crate::secret::Secret;

/// Where the kubelet's own client certificate lies. A kubelet that rotates it writes elsewhere
/// (kubelet-client-current.pem) and prefers that.
const CLIENT: KubeletIdentity<'_> = KubeletIdentity::Files {
    cert: "/var/lib/kubelet/pki/client.crt",
    key: "/var/lib/kubelet/pki/client.key",
};

/// Where nodes hold certificates of CAs.
pub const CA_FILES: &[(&str, Ca)] = &[
    (CLUSTER_CA, Ca::Cluster),
    ("/etc/kubernetes/pki/etcd/ca.crt", Ca::Etcd),
    ("/etc/kubernetes/pki/front-proxy-ca.crt", Ca::FrontProxy),
    (super::places::ETCD_CA, Ca::Etcd),
];

const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";

/// A file of CA certificates that a node holds.
#[derive(Debug, Clone, Copy)]
pub struct HeldCas<'f> {
    /// Its path.
    pub path: &'static str,
    /// Whom it is believed in place of.
    pub ca: Ca,
    sha256: &'f str,
    text: Option<&'f str>,
}

impl HeldCas<'_> {
    /// Whether it is of the cluster whose trust this is.
    pub fn is_of(&self, trust: &Trust) -> bool {
        trust.recognizes(self.sha256, self.text)
    }
}

/// The files of CA certificates that a node holds. Of a link and the like nothing more is known: something is there, and
/// nobody looked at what it leads to.
pub fn held_cas(facts: &NodeFacts) -> impl Iterator<Item = HeldCas<'_>> {
    CA_FILES.iter().filter_map(|&(path, ca)| match facts.files.get(path) {
        Some(FileFacts::File { sha256, .. }) => {
            let text = facts.texts.get(path).and_then(Option::as_deref);
            Some(HeldCas { path, ca, sha256, text })
        }
        Some(FileFacts::Symlink { .. } | FileFacts::Directory { .. } | FileFacts::Other { .. }) => {
            Some(HeldCas { path, ca, sha256: "", text: None })
        }
        Some(FileFacts::Absent) | None => None,
    })
}

const OWNERSHIP: &str = "files-pki-ownership";

/// Leaves of a control plane below /etc/kubernetes/pki, by kubeadm's file names.
const CONTROL_PLANE: &[(CertificateKind, &[&str])] = &[
    (CertificateKind::Apiserver, &["apiserver-tls-serving"]),
    (CertificateKind::ApiserverKubeletClient, &["apiserver-kubelet-client-cert"]),
    (CertificateKind::ApiserverEtcdClient, &["apiserver-etcd-mtls"]),
    (CertificateKind::ApiserverProbe, &["apiserver-authenticated-probes"]),
    (CertificateKind::FrontProxyClient, &["pki-separate-cas"]),
];

/// The same of a member that is a static pod.
const STACKED_ETCD: &[(CertificateKind, &[&str])] = &[
    (CertificateKind::EtcdServer, &["etcd-server-tls"]),
    (CertificateKind::EtcdPeer, &["etcd-peer-tls"]),
    (CertificateKind::EtcdHealthcheckClient, &["etcd-client-cert-auth"]),
];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.has_kubelet() {
        return;
    }
    collector.directory(&[], "/etc/kubernetes", Access::root(0o755));
    collector.directory(&[OWNERSHIP], "/etc/kubernetes/pki", Access::root(0o700));
    collector.directory(&[], "/var/lib/kubelet", Access::root(0o750));
    collector.directory(&[], "/var/lib/kubelet/pki", Access::root(0o700));

    let ca = CLUSTER_CA;
    ours(context, collector, ca, Ca::Cluster);
    let controls =
        ["files-kubelet-client-ca", "files-pki-cert-mode", OWNERSHIP, "pki-separate-cas"];
    cert(collector, &controls, ca, |s| Ok(s.material.trust(Ca::Cluster).bundle().to_owned()));
    kubelet(context, collector);
    if context.is_control_plane() {
        control_plane(context, collector);
    }
}

fn kubelet(context: &Context<'_>, collector: &mut Collector<'_>) {
    let pairs = [
        (
            "/var/lib/kubelet/pki/client",
            CertificateKind::KubeletClient,
            "kubelet-rotate-client-certs",
        ),
        ("/var/lib/kubelet/pki/serving", CertificateKind::KubeletServing, "kubelet-serving-cert"),
    ];
    for (path, kind, control) in pairs {
        pair(context, collector, &[control], path, kind);
    }
    secret(collector, &["files-kubelet-kubeconfig"], "/etc/kubernetes/kubelet.conf", |s| {
        let made = kubeconfig::kubelet(context.inventory, s.material, context.node, CLIENT);
        made.ok_or_else(|| missing(context, CertificateKind::KubeletClient))
    });
    secret(collector, &[], "/etc/kubernetes/kubastion/discovery.conf", |s| {
        let made = kubeconfig::discovery(context.inventory, s.material, context.node, CLIENT);
        made.ok_or_else(|| missing(context, CertificateKind::KubeletClient))
    });
}

fn control_plane(context: &Context<'_>, collector: &mut Collector<'_>) {
    for &(kind, controls) in CONTROL_PLANE {
        let path = format!("/etc/kubernetes/pki/{}", kind.profile().file);
        pair(context, collector, controls, &path, kind);
    }
    if context.inventory.has_stacked_etcd() {
        for &(kind, controls) in STACKED_ETCD {
            pair(
                context,
                collector,
                controls,
                &format!("/etc/kubernetes/pki/{}", kind.profile().file),
                kind,
            );
        }
    }
    let cert_controls = ["files-pki-cert-mode", OWNERSHIP, "pki-separate-cas"];
    let key_controls = ["files-pki-key-mode", OWNERSHIP];
    collector.directory(&[OWNERSHIP], "/etc/kubernetes/pki/etcd", Access::root(0o700));
    for (path, ca) in [CA_FILES[1], CA_FILES[2]] {
        ours(context, collector, path, ca);
        cert(collector, &cert_controls, path, |s| Ok(s.material.trust(ca).bundle().to_owned()));
    }
    let key = "/etc/kubernetes/pki/ca.key";
    match context.inventory.pki.ca_custody {
        CaCustody::ControlPlane => {
            secret(collector, &key_controls, key, |s| {
                let ca = s.material.ca(Ca::Cluster).ok_or(ResolveError::CaKey)?;
                Ok(ca.key_pem.clone())
            });
        }
        CaCustody::Operator => no_ca_key(context, collector, &key_controls, key, Ca::Cluster),
    }
    if context.signs_apart() {
        cert(collector, &cert_controls, ISSUING_CA, |s| {
            Ok(s.material.trust(Ca::Cluster).issues().to_owned())
        });
    } else if context.facts().is_none() || exists(context, ISSUING_CA) {
        collector.gone(ISSUING_CA);
    }
    for (file, ca) in [("etcd/ca", Ca::Etcd), ("front-proxy-ca", Ca::FrontProxy)] {
        let path = format!("/etc/kubernetes/pki/{file}.key");
        no_ca_key(context, collector, &["pki-separate-cas"], &path, ca);
    }
    let account = ["apiserver-service-account-key", "kcm-sa-private-key", OWNERSHIP];
    secret(collector, &account, "/etc/kubernetes/pki/sa.key", |s| {
        Ok(s.material.service_account_key().clone())
    });
    cert(collector, &account, "/etc/kubernetes/pki/sa.pub", |s| {
        Ok(s.material.service_account_public().to_owned())
    });

    secret(collector, &["files-admin-kubeconfigs"], "/etc/kubernetes/admin.conf", |s| {
        let made = kubeconfig::admin(context.inventory, s.material);
        made.ok_or_else(|| missing(context, CertificateKind::Admin))
    });
    secret(collector, &["files-kcm-conf"], "/etc/kubernetes/controller-manager.conf", |s| {
        let made = kubeconfig::controller_manager(context.inventory, s.material, context.node);
        made.ok_or_else(|| missing(context, CertificateKind::ControllerManager))
    });
    secret(collector, &["files-scheduler-conf"], "/etc/kubernetes/scheduler.conf", |s| {
        let made = kubeconfig::scheduler(context.inventory, s.material, context.node);
        made.ok_or_else(|| missing(context, CertificateKind::Scheduler))
    });
    let path = "/etc/kubernetes/super-admin.conf".to_owned();
    collector.push(&["pki-super-admin-removed"], ItemKind::Absent { path });
}

/// A CA's key is on no node. One that the key store lacks may be the only one: it stays, and what fails for it says so.
fn no_ca_key(
    context: &Context<'_>,
    collector: &mut Collector<'_>,
    controls: &[&'static str],
    path: &str,
    ca: Ca,
) {
    if context.source.is_none_or(|s| s.material.ca(ca).is_some()) {
        collector.push(controls, ItemKind::Absent { path: path.to_owned() });
    } else if exists(context, path) {
        collector.note(format!(
            "{path} stays: the key store has no key of this CA, and this may be the only one; keep it elsewhere, and delete it here"
        ));
    }
}

/// Refuses a node that has other CAs alone, or something that may lead to one: replacing it would cut the node off from
/// its cluster. What stands beside a CA that we know is replaced: it was accepted once, or somebody added it.
pub(super) fn ours(context: &Context<'_>, collector: &mut Collector<'_>, path: &str, ca: Ca) {
    let Some(Source { facts, material }) = context.source else { return };
    let trust = material.trust(ca);
    if held_cas(facts).any(|held| held.path == path && !held.is_of(trust)) {
        collector.errors.push(ResolveError::ForeignCa { path: path.to_owned() });
    }
}

fn missing(context: &Context<'_>, kind: CertificateKind) -> ResolveError {
    ResolveError::Certificate(format!("{} of {}", kind.profile().file, context.node.name))
}

fn pair(
    context: &Context<'_>,
    collector: &mut Collector<'_>,
    controls: &[&'static str],
    path: &str,
    kind: CertificateKind,
) {
    let with = |more: &'static str| [controls, &[more, OWNERSHIP][..]].concat();
    cert(collector, &with("files-pki-cert-mode"), &format!("{path}.crt"), |s| {
        Ok(held(context, s, kind)?.cert_pem.clone())
    });
    secret(collector, &with("files-pki-key-mode"), &format!("{path}.key"), |s| {
        Ok(held(context, s, kind)?.key_pem.clone())
    });
}

/// The node's certificate of a kind.
pub(super) fn held<'a>(
    context: &Context<'_>,
    source: Source<'a>,
    kind: CertificateKind,
) -> Result<&'a Pair, ResolveError> {
    let pair = source.material.node(kind, &context.node.name);
    pair.ok_or_else(|| missing(context, kind))
}

fn cert<'a>(
    collector: &mut Collector<'a>,
    controls: &[&'static str],
    path: &str,
    content: impl FnOnce(Source<'a>) -> Result<String, ResolveError>,
) {
    let shared = collector.shared();
    collector.content(controls, path, Access::root(0o600), FileCheck::None, |s| {
        Ok(Content::Text(shared.text(&content(s)?)))
    });
}

fn secret<'a>(
    collector: &mut Collector<'a>,
    controls: &[&'static str],
    path: &str,
    content: impl FnOnce(Source<'a>) -> Result<Secret<Vec<u8>>, ResolveError>,
) {
    collector.content(controls, path, Access::root(0o600), FileCheck::None, |s| {
        Ok(Content::Secret(content(s)?))
    });
}
