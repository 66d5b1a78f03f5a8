//! Reads an existing cluster to find who would notice its hardening. Writes nothing, and attacks nothing.
//!
//! The cluster is found as in [`super::assessment`]; the answers of its nodes and its API go to the table of [`crate::impact`].

use std::collections::BTreeMap;

use super::assessment::{AssessRequest, ReadyCluster, prepare};
use super::finding::{Confirm, by_options};
use super::objects;
use super::observe::{self, Fleet};
use crate::api::{ApiAccess, Client, lists};
use crate::checks;
use crate::clock::Clock;
use crate::discovery::Found;
use crate::error::Problem;
use crate::facts::cluster::ClusterFacts;
use crate::impact::{Impact, Reading, impact};
use crate::inventory::NodeName;
use crate::workflow::command_error::CommandError;

/// A cluster, and who would notice its hardening.
pub struct ImpactReport {
    /// The cluster as it is.
    pub found: Found,
    /// Everything that would be noticed.
    pub impact: Impact,
    /// Nodes that did not answer, and why.
    pub unreachable: BTreeMap<NodeName, Problem>,
}

/// Reads a cluster. `say` hears what is going on.
///
/// # Errors
/// A named machine that does not answer or presents another host key, a host key that is not confirmed, or a machine of another
/// cluster. A discovered node that does not answer is no error: it is in [`ImpactReport::unreachable`].
pub fn read_impact(
    request: AssessRequest,
    confirm: Confirm<'_>,
    say: &dyn Fn(&str),
) -> Result<ImpactReport, CommandError> {
    let ReadyCluster { found, loaded, baseline, dialer, reach } = prepare(request, confirm, say)?;
    let inventory = &loaded.inventory;
    say(&format!("reading {}", crate::plain::counted(inventory.nodes.len(), "node")));
    let chosen = observe::chosen(inventory, &reach)?;
    let (files, watch) = (&loaded.files, checks::watch);
    let mut fleet = observe::read_nodes_for(inventory, files, &chosen, &dialer, watch, usize::MAX);
    let access = baseline.access.as_ref();
    let objects = objects::read(&mut fleet, access.map_err(Clone::clone), &loaded);
    let objects = objects.unwrap_or_else(|| Err("no control plane of the cluster answered".into()));
    let secrets = match (&objects, access) {
        (Ok(objects), Ok(access)) => secrets(&mut fleet, objects, access),
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
    };
    let impact = impact(&Reading {
        inventory,
        objects: objects.as_ref().map_err(String::as_str),
        nodes: &fleet.facts.answered,
        secrets,
        now: Clock::System.now(),
    });
    let unreachable = fleet.facts.failed.into_iter().map(|(n, p)| (n, by_options(p))).collect();
    Ok(ImpactReport { found, impact, unreachable })
}

/// How many Secrets there are, from the API server that listed the other objects. Their content is not read.
fn secrets(fleet: &mut Fleet, objects: &ClusterFacts, access: &ApiAccess) -> Result<usize, String> {
    let server = objects.server.as_ref().ok_or("no API server was asked")?;
    let (_, address) =
        access.servers.iter().find(|(n, _)| n == server).ok_or("no API server was asked")?;
    let through = fleet.sessions.get_mut(server).ok_or("the connection is gone")?;
    let mut client = Client::new(through.as_mut(), *address, access);
    lists::count(&mut client, "/api/v1/secrets").map_err(|e| e.to_string())
}
