//! Which items a node should hold.

use super::context::{Context, Source};
use super::error::ResolveError;
use super::model::{NodeDesired, Phase};
use super::shared::Shared;
use super::sink::{Part, Sink};
use super::traits::Traits;
use super::{
    access, apiserver, endpoint, etcd, firewall, host, kubelet, member, packages, pki_files,
    repository, runtime, software, ssh,
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
    let traits = Traits::of(facts).map_err(|e| vec![e])?;
    let source = Some(Source { facts, material });
    let context = Context { inventory, files, node, traits, shared, source };
    let mut sink = Sink::new(&context);
    collect(&context, &mut sink);
    sink.finish()
}

/// All subjects, in the order in which their items are brought about.
pub(super) fn collect(context: &Context<'_>, sink: &mut Sink<'_>) {
    sink.phase(Phase::Repositories, Part::Cluster);
    repository::items(context, sink);
    sink.phase(Phase::Packages, Part::Cluster);
    packages::items(context, sink);
    sink.phase(Phase::Software, Part::Cluster);
    software::programs(context, sink);
    software::manifests(context, sink);
    sink.phase(Phase::Host, Part::Hardening);
    host::guard(sink);
    sink.phase(Phase::Host, Part::Cluster);
    host::kernel(context, sink);
    sink.phase(Phase::Host, Part::Hardening);
    firewall::items(context, sink);
    ssh::items(context, sink);
    host::services(context, sink);
    sink.phase(Phase::Host, Part::Cluster);
    runtime::items(context, sink);
    pki_files::items(context, sink);
    kubelet::items(context, sink);
    member::unit_file(context, sink);
    apiserver::items(context, sink);
    if context.inventory.kubernetes.source == SoftwareSource::None {
        apiserver::read_at_start(context, sink);
    }
    endpoint::items(context, sink);
    sink.phase(Phase::Etcd, Part::Cluster);
    etcd::items(context, sink);
    sink.phase(Phase::Images, Part::Cluster);
    software::images(context, sink);
    sink.phase(Phase::Kubernetes, Part::Cluster);
    if context.inventory.kubernetes.source != SoftwareSource::None {
        apiserver::read_at_start(context, sink);
    }
    member::items(context, sink);
    sink.phase(Phase::Host, Part::Hardening);
    access::items(context, sink);
}
