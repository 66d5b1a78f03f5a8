//! Which items a node should hold.

use super::collector::{Collector, Purpose};
use super::context::{Context, Source};
use super::error::ResolveError;
use super::model::{NodeDesired, Phase};
use super::platform::Platform;
use super::shared::Shared;
use super::{
    access, apiserver, endpoint, etcd, firewall, host, join, kubelet, observation, packages,
    pki_files, repository, runtime, software, ssh,
};
use crate::facts::NodeFacts;
use crate::inventory::{Files, Inventory, Node, SoftwareSource};
use crate::pki::Material;

/// What a node should hold.
///
/// Facts decide little: the distribution's names and paths, what a container must leave to its
/// host, and the format that an installed program reads. `shared` is for all nodes of this inventory.
///
/// # Errors
/// Everything that cannot be worked out, not only the first.
pub fn resolve(
    inventory: &Inventory,
    files: &Files,
    node: &Node,
    facts: &NodeFacts,
    material: &Material,
    shared: &Shared,
) -> Result<NodeDesired, Vec<ResolveError>> {
    let platform = Platform::of(facts).map_err(|e| vec![e])?;
    let source = Some(Source { facts, material });
    let context = Context { inventory, files, node, platform, shared, source };
    let mut collector = Collector::new(&context);
    collect(&context, &mut collector);
    collector.finish()
}

/// What a cluster gets that is only observed, or that is hardened.
fn collect(context: &Context<'_>, collector: &mut Collector<'_>) {
    match context.inventory.observes() {
        true => observation::items(context, collector),
        false => everything(context, collector),
    }
}

/// All subjects, in the order in which their items are brought about.
pub(super) fn everything(context: &Context<'_>, collector: &mut Collector<'_>) {
    collector.phase(Phase::Repositories, Purpose::Cluster);
    repository::items(context, collector);
    collector.phase(Phase::Packages, Purpose::Cluster);
    packages::items(context, collector);
    collector.phase(Phase::Software, Purpose::Cluster);
    software::programs(context, collector);
    collector.phase(Phase::Host, Purpose::Hardening);
    host::guard(collector);
    collector.phase(Phase::Host, Purpose::Cluster);
    host::kernel(context, collector);
    collector.phase(Phase::Host, Purpose::Hardening);
    firewall::items(context, collector);
    ssh::items(context, collector);
    host::services(context, collector);
    collector.phase(Phase::Host, Purpose::Cluster);
    runtime::items(context, collector);
    pki_files::items(context, collector);
    kubelet::items(context, collector);
    join::unit_file(context, collector);
    apiserver::items(context, collector);
    if context.inventory.kubernetes.source == SoftwareSource::None {
        apiserver::read_at_start(context, collector);
    }
    endpoint::items(context, collector);
    collector.phase(Phase::Etcd, Purpose::Cluster);
    etcd::items(context, collector);
    collector.phase(Phase::Images, Purpose::Cluster);
    software::images(context, collector);
    collector.phase(Phase::Kubernetes, Purpose::Cluster);
    if context.inventory.kubernetes.source != SoftwareSource::None {
        apiserver::read_at_start(context, collector);
    }
    join::items(context, collector);
    collector.phase(Phase::Host, Purpose::Hardening);
    access::items(context, collector);
}
