//! Reads an existing cluster to find who would notice its hardening. Writes nothing, and attacks nothing.
//!
//! The cluster is found as in [`super::assessment`], or by its inventory; the answers of its nodes and its API go to the table of
//! [`crate::impact`]. `plan` and `apply` refuse to harden a cluster while the gate of [`crate::impact`] is closed.

use std::collections::BTreeMap;

use super::assessment::{AssessRequest, ReadyCluster, prepare};
use super::finding::{Confirm, by_options};
use super::keys;
use super::objects;
use super::observe::{self, Fleet, Reach};
use crate::api::{ApiAccess, Client, lists};
use crate::checks;
use crate::clock::Clock;
use crate::error::Problem;
use crate::facts::cluster::ClusterFacts;
use crate::impact::gate::{self, Obstacles};
use crate::impact::{Impact, Reading, Subject, impact};
use crate::inventory::{Loaded, Node, NodeName, Stage};
use crate::pki::Material;
use crate::transport::Dialer;
use crate::workflow::command_error::CommandError;

/// A cluster, and who would notice its hardening.
pub struct ImpactReport {
    /// The cluster.
    pub subject: Subject,
    /// Everything that would be noticed.
    pub impact: Impact,
    /// What stands in the way of `hardening.stage: enforce`; nothing of a cluster without an inventory.
    pub obstacles: Option<Obstacles>,
    /// Nodes that did not answer, and why.
    pub unreachable: BTreeMap<NodeName, Problem>,
}

/// Reads a cluster that has no inventory yet. `say` hears what is going on.
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
    let chosen = observe::chosen(&loaded.inventory, &reach)?;
    let (fleet, impact) = read(&loaded, &chosen, &dialer, baseline.access, say);
    let unreachable = fleet.facts.failed.into_iter().map(|(n, p)| (n, by_options(p))).collect();
    Ok(ImpactReport { subject: Subject::from(&found), impact, obstacles: None, unreachable })
}

/// Reads the cluster of an inventory, by its key store. `say` hears what is going on.
///
/// # Errors
/// A key store that cannot be used. A node that does not answer is no error: it is [`ImpactReport::unreachable`].
pub fn of_inventory(
    loaded: &Loaded,
    reach: &Reach,
    say: &dyn Fn(&str),
) -> Result<ImpactReport, CommandError> {
    let material = keys::material(loaded, keys::open(loaded)?)?;
    let chosen = observe::chosen(&loaded.inventory, reach)?;
    let dialer = observe::dialer(&loaded.inventory, &chosen, reach)?;
    let (fleet, impact, obstacles) = by_inventory(loaded, &chosen, &dialer, &material, say);
    let subject = Subject::from(&loaded.inventory);
    Ok(ImpactReport {
        subject,
        impact,
        obstacles: Some(obstacles),
        unreachable: fleet.facts.failed,
    })
}

/// What would be noticed of the cluster of an inventory, and what stands in the way.
fn by_inventory(
    loaded: &Loaded,
    chosen: &[&Node],
    dialer: &dyn Dialer,
    material: &Material,
    say: &dyn Fn(&str),
) -> (Fleet, Impact, Obstacles) {
    // As it will be, whatever the stage is now.
    let mut enforced = loaded.clone();
    enforced.inventory.hardening.stage = Some(Stage::Enforce);
    let access = objects::access(&enforced.inventory, material);
    let access = access.ok_or_else(|| "the key store has no administrator certificate".to_owned());
    let (fleet, impact) = read(&enforced, chosen, dialer, access, say);
    let obstacles = gate::obstacles(&enforced.inventory, &fleet.facts.answered, &impact);
    (fleet, impact, obstacles)
}

/// Why a cluster is not hardened yet: `hardening.stage: enforce`, and somebody would notice who is not acknowledged. Nodes that are
/// not of a running cluster, or whose hardening has begun, need no observation.
///
/// # Errors
/// Everything that stands in the way.
pub(super) fn not_yet(
    loaded: &Loaded,
    fleet: &Fleet,
    nodes: &[&Node],
    dialer: &dyn Dialer,
    material: &Material,
) -> Result<(), Problem> {
    if !gate::is_due(&loaded.inventory, &fleet.facts.answered) {
        return Ok(());
    }
    let (_, _, obstacles) = by_inventory(loaded, nodes, dialer, material, &|_| {});
    if obstacles.is_empty() {
        return Ok(());
    }
    let mut problem =
        Problem::new("the cluster is not ready to be hardened: clients would be affected")
            .at("hardening.stage")
            .left("nothing was changed");
    let (unobserved, unacknowledged) = (&obstacles.unobserved, &obstacles.unacknowledged);
    for why in unobserved {
        problem = problem.because(why.clone());
    }
    for item in unacknowledged.iter().take(SHOWN) {
        problem = problem.because(format!("not acknowledged: {item}"));
    }
    if unacknowledged.len() > SHOWN {
        problem = problem.because(format!("and {} more", unacknowledged.len() - SHOWN));
    }
    Err(problem.hint(
        "run `kubastion impact` to see them; fix each, or add it to `hardening.acknowledged` with a reason, an owner and \
         an expiry date",
    ))
}

/// Things that are named where hardening is refused; `impact` lists all.
const SHOWN: usize = 20;

fn read(
    loaded: &Loaded,
    chosen: &[&Node],
    dialer: &dyn Dialer,
    access: Result<ApiAccess, String>,
    say: &dyn Fn(&str),
) -> (Fleet, Impact) {
    let (inventory, files) = (&loaded.inventory, &loaded.files);
    say(&format!("reading {}", crate::plain::counted(chosen.len(), "node")));
    let mut fleet =
        observe::read_nodes_for(inventory, files, chosen, dialer, checks::watch, usize::MAX);
    let access = access.as_ref();
    let objects = objects::read(&mut fleet, access.map_err(Clone::clone), loaded);
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
    (fleet, impact)
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
