//! The repository of Kubernetes' packages: where it is, who may have signed it, and which version the
//! node keeps to.

use super::collector::Collector;
use super::context::Context;
use super::model::{Access, Content, FileCheck};
use crate::inventory::SoftwareSource;
use crate::os::PackageManager;
use crate::render::Text;
use crate::render::input::host::{KubernetesPin, KubernetesRepo, KubernetesSources};

const APT_KEY: &str = "/etc/apt/keyrings/kubastion-kubernetes.asc";
const APT_SOURCES: &str = "/etc/apt/sources.list.d/kubastion-kubernetes.sources";
const APT_PIN: &str = "/etc/apt/preferences.d/kubastion-kubernetes";
const DNF_KEY: &str = "/etc/pki/rpm-gpg/kubastion-kubernetes";
const DNF_REPO: &str = "/etc/yum.repos.d/kubastion-kubernetes.repo";

/// Repositories of the Kubernetes project, by minor
/// (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm/>).
fn project(minor: u16, family: &str) -> String {
    format!("https://pkgs.k8s.io/core:/stable:/v1.{minor}/{family}/")
}

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    let manager = context.os().manager;
    let paths: &[&str] = match manager {
        PackageManager::Apt => &[APT_KEY, APT_SOURCES, APT_PIN],
        PackageManager::Dnf => &[DNF_KEY, DNF_REPO],
    };
    let kubernetes = &context.inventory.kubernetes;
    if kubernetes.source != SoftwareSource::Packages || !context.has_kubelet() {
        // Left from another inventory: with it, an update could bring packages of ours again.
        for path in paths {
            collector.gone(path);
        }
        return;
    }
    let given = kubernetes.packages.repository.clone();
    let key = |_| {
        // Checked when the inventory was loaded.
        Ok(Content::Text(context.files.signing_key.as_deref().unwrap_or_default().into()))
    };
    match manager {
        PackageManager::Apt => {
            let repository = given.unwrap_or_else(|| project(context.minor(), "deb"));
            collector.directory(&[], "/etc/apt/keyrings", Access::root(0o755));
            // apt reads it as its own user.
            collector.content(&[], APT_KEY, Access::root(0o644), FileCheck::None, key);
            collector.template(&[], APT_SOURCES, |_| {
                Ok(KubernetesSources { repository: Text::of(repository), key: Text::of(APT_KEY) })
            });
            let version = Text::of(context.inventory.cluster.kubernetes);
            collector.template(&[], APT_PIN, |_| Ok(KubernetesPin { version }));
        }
        PackageManager::Dnf => {
            let repository = given.unwrap_or_else(|| project(context.minor(), "rpm"));
            collector.content(&[], DNF_KEY, Access::root(0o644), FileCheck::None, key);
            collector.template(&[], DNF_REPO, |_| {
                Ok(KubernetesRepo { repository: Text::of(repository), key: Text::of(DNF_KEY) })
            });
            if context.facts().is_some() {
                collector.note("dnf installs the newest packages of this minor release: no other version can be selected here");
            }
        }
    }
}
