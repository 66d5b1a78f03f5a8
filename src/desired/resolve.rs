//! Which items a node should hold.

use super::context::{Context, Source};
use super::model::{NodeDesired, Phase};
use super::sink::Sink;
use super::traits::Traits;
use super::{etcd, firewall, host, packages, ssh};
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Node};
use crate::pki::Material;
use crate::render::RenderError;

/// Why it cannot be said what a node should hold.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The distribution is not known.
    #[error("{0} is neither of the Debian nor of the Red Hat family")]
    Distribution(String),
    /// A file could not be rendered.
    #[error("{path} cannot be written")]
    Render {
        /// The file on the node.
        path: String,
        /// Why.
        #[source]
        source: RenderError,
    },
    /// A template is not meant for this Kubernetes minor.
    #[error("template {template} has no form for Kubernetes 1.{minor}")]
    Minor {
        /// The template.
        template: &'static str,
        /// Minor of the inventory.
        minor: u16,
    },
    /// The key store has no certificate that the node's roles call for.
    #[error("the key store holds no {0}; `kubastion pki ensure` issues what is missing")]
    Certificate(String),
}

/// What a node should hold.
///
/// Facts decide little: the distribution's names and paths, what a container must leave to its
/// host, and the format that an installed program reads.
///
/// # Errors
/// Everything that cannot be worked out, not only the first.
pub fn resolve(
    inventory: &Inventory,
    node: &Node,
    facts: &NodeFacts,
    material: &Material,
) -> Result<NodeDesired, Vec<ResolveError>> {
    let traits = Traits::of(facts).map_err(|e| vec![e])?;
    let source = Some(Source { facts, material });
    let context = Context { inventory, node, traits, source };
    let mut sink = Sink::new(&context);
    collect(&context, &mut sink);
    sink.finish()
}

/// All subjects, in the order in which their items are brought about.
pub(super) fn collect(context: &Context<'_>, sink: &mut Sink<'_>) {
    sink.phase(Phase::Packages);
    packages::items(context, sink);
    sink.phase(Phase::Host);
    host::guard(sink);
    host::kernel(context, sink);
    firewall::items(context, sink);
    ssh::items(context, sink);
    host::services(context, sink);
    sink.phase(Phase::Etcd);
    etcd::items(context, sink);
}
