//! A member of etcd that is a static pod of kubeadm's: what is found of it, and what kubeadm is told of it.
//!
//! It runs as root: kubeadm knows no user for it, and its number would have to be the same on all nodes.

use super::collector::Collector;
use super::context::Context;
use super::error::ResolveError;
use super::model::Access;
use super::order;
use super::places::ETCD_DATA;
use super::version::Version;
use crate::controls::Daemon;
use crate::facts::{FileFacts, NodeFacts};
use crate::render::Text;
use crate::render::input::etcd::Flag;
use crate::render::input::kubernetes::{EtcdImage, EtcdTopology};

/// Its manifest.
pub(crate) const POD: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// Directory of a service's certificates, and that of a static pod's.
const OF_SERVICE: &str = "/etc/etcd/pki/";
const OF_POD: &str = "/etc/kubernetes/pki/etcd/";

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    collector.directory(&["etcd-data-dir"], ETCD_DATA, Access::root(0o700));
    if context.facts().is_some_and(|facts| EtcdPod::of(facts).is_none()) {
        collector.errors.push(ResolveError::NoEtcdPod);
    }
}

/// What kubeadm is told.
pub(super) fn topology(context: &Context<'_>) -> EtcdTopology {
    let mut flags = order::flags(context, Daemon::Etcd, &[]).flags;
    for (_, value) in &mut flags {
        if let Some(file) = value.strip_prefix(OF_SERVICE) {
            *value = format!("{OF_POD}{file}");
        }
    }
    // Without data a member is turned away by its peers, in place of being a cluster of its own: kubeadm names it alone.
    flags.push(("initial-cluster-state", "existing".to_owned()));
    // kubeadm 1.34 and later bring etcd 3.6.
    flags.push(("tls-min-version", "TLS1.2".to_owned()));
    let flag = |(name, value): (&str, String)| Flag { name: Text::of(name), value: value.into() };
    EtcdTopology::Local {
        data_dir: Text::of(ETCD_DATA),
        image: context
            .facts()
            .and_then(EtcdPod::of)
            .map_or(EtcdImage::OfKubeadm, |pod| pod.named()),
        args: flags.into_iter().map(flag).collect(),
    }
}

/// What a node says of the static pod that its member of etcd is.
pub(crate) struct EtcdPod<'f> {
    manifest: &'f str,
}

impl<'f> EtcdPod<'f> {
    /// None if there is no manifest. One that cannot be read has no text.
    pub(crate) fn of(facts: &'f NodeFacts) -> Option<Self> {
        let found = facts.files.get(POD)?;
        let text = || facts.texts.get(POD).and_then(Option::as_deref).unwrap_or_default();
        (*found != FileFacts::Absent).then(|| Self { manifest: text() })
    }

    /// Whether its data lie where the service's do, on the node and in the pod.
    pub(crate) fn keeps_data_in_place(&self) -> bool {
        let has = |line: &str| {
            self.manifest
                .lines()
                .any(|l| l.trim().trim_start_matches("- ").trim_matches('"') == line)
        };
        has(&format!("--data-dir={ETCD_DATA}")) && has(&format!("path: {ETCD_DATA}"))
    }

    /// Repository with the image's name, and tag.
    fn image(&self) -> Option<(&'f str, &'f str)> {
        let mut lines = self.manifest.lines().map(|l| l.trim().trim_start_matches("- "));
        let image = lines.find_map(|l| l.strip_prefix("image:"))?;
        image.trim().trim_matches('"').rsplit_once(':')
    }

    /// Of its image's tag, `3.6.8-0`.
    pub(super) fn release(&self) -> Option<Version> {
        Version::in_text(self.image()?.1)
    }

    /// As kubeadm is told of it: another one would be pulled, or be of another release.
    fn named(&self) -> EtcdImage {
        let Some((name, tag)) = self.image() else { return EtcdImage::OfKubeadm };
        match name.rsplit_once('/') {
            Some((repository, "etcd")) => {
                EtcdImage::Named { repository: Text::of(repository), tag: Text::of(tag) }
            }
            _ => EtcdImage::OfKubeadm,
        }
    }
}
