//! A cluster that others built is read, for who would notice that it is hardened. Nothing is written, and nothing is tried.
//!
//! It is found as [`super::assessment`] finds it, or by its inventory; what its nodes and its API answer goes to the table of
//! [`crate::impact`]. What stands in the way of hardening it keeps `plan` and `apply` from it.

use std::collections::BTreeMap;

use super::assessment::{Ground, Question, ground};
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

/// A cluster, and who would notice that it is hardened.
pub struct Noticed {
    /// The cluster.
    pub subject: Subject,
    /// Everything that would be noticed.
    pub impact: Impact,
    /// What stands in the way of `hardening.stage: enforce`; nothing of a cluster without an inventory.
    pub obstacles: Option<Obstacles>,
    /// Nodes that did not answer, and why.
    pub lost: BTreeMap<NodeName, Problem>,
}

/// Reads a cluster that has no inventory yet. `say` hears what is going on.
///
/// # Errors
/// A machine that was named and does not answer or is another one, a host key that nobody confirms, and a machine of another
/// cluster. A node that was found and does not answer is no error: it is [`Noticed::lost`].
pub fn look(
    question: Question,
    confirm: Confirm<'_>,
    say: &dyn Fn(&str),
) -> Result<Noticed, CommandError> {
    let Ground { found, loaded, footing, dialer, reach } = ground(question, confirm, say)?;
    let chosen = observe::chosen(&loaded.inventory, &reach)?;
    let (fleet, impact) = read(&loaded, &chosen, &dialer, footing.access, say);
    let lost = fleet.facts.failed.into_iter().map(|(n, p)| (n, by_options(p))).collect();
    Ok(Noticed { subject: Subject::from(&found), impact, obstacles: None, lost })
}

/// Reads the cluster of an inventory, by its key store. `say` hears what is going on.
///
/// # Errors
/// A key store that cannot be used. A node that does not answer is no error: it is [`Noticed::lost`].
pub fn of_inventory(
    loaded: &Loaded,
    reach: &Reach,
    say: &dyn Fn(&str),
) -> Result<Noticed, CommandError> {
    let material = keys::material(loaded, keys::open(loaded)?)?;
    let chosen = observe::chosen(&loaded.inventory, reach)?;
    let dialer = observe::dialer(&loaded.inventory, &chosen, reach)?;
    let (fleet, impact, obstacles) = by_inventory(loaded, &chosen, &dialer, &material, say);
    let subject = Subject::from(&loaded.inventory);
    Ok(Noticed { subject, impact, obstacles: Some(obstacles), lost: fleet.facts.failed })
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
    let mut problem = Problem::new("the cluster is not hardened yet, since somebody would notice")
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
        "run `kubastion impact` to see each of them; mend it, or add it to `hardening.acknowledged` with a reason, an owner and \
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
    say(&format!("{} are read", crate::plain::counted(chosen.len(), "node")));
    let mut fleet = observe::look_at(inventory, files, chosen, dialer, checks::watch, usize::MAX);
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

/// How many Secrets there are, by the server that told of all else. What is in them stays there.
fn secrets(fleet: &mut Fleet, objects: &ClusterFacts, access: &ApiAccess) -> Result<usize, String> {
    let server = objects.server.as_ref().ok_or("no API server was asked")?;
    let (_, address) =
        access.servers.iter().find(|(n, _)| n == server).ok_or("no API server was asked")?;
    let through = fleet.sessions.get_mut(server).ok_or("the connection is gone")?;
    let mut client = Client::new(through.as_mut(), *address, access);
    lists::count(&mut client, "/api/v1/secrets").map_err(|e| e.to_string())
}
