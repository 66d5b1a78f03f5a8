//! Nodes leave their cluster, and go back to what they were before the first run.

use std::collections::BTreeMap;

use super::etcd_members;
use super::keys;
use super::objects;
use super::observe::{self, Reach};
use super::records::{self, Finished};
use crate::api::ApiAccess;
use crate::apply::execution::Sessions;
use crate::apply::gate::{self, EtcdAccess};
use crate::apply::reset::may_be_reset;
use crate::apply::{Execution, etcd, execute};
use crate::clock::Clock;
use crate::error::{Problem, chain};
use crate::event::Sink;
use crate::facts::etcd::Listed;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role, SoftwareSource};
use crate::plan::drain::Drain;
use crate::plan::reset::Leaving;
use crate::plan::{self, EtcdData, TakenFor};
use crate::runs::record::{Journal, RunKind};
use crate::transport::{Dialer, fleet};
use crate::workflow::command_error::{CommandError, Exit};

/// How nodes are reset.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// How their pods leave them.
    pub drain: Drain,
    /// What happens to etcd's data. `None` will do where there is none.
    pub data: Option<EtcdData>,
}

/// The chosen nodes, which can be reset together.
///
/// # Errors
/// If too few nodes would stay for a cluster, or it was not said what becomes of etcd's data.
pub fn chosen<'i>(
    inventory: &'i Inventory,
    reach: &Reach,
    data: Option<EtcdData>,
) -> Result<Vec<&'i Node>, CommandError> {
    let nodes = observe::chosen(inventory, reach)?;
    refuse_partial_removal(inventory, &nodes)?;
    if data.is_none() {
        without_data(inventory, &nodes)?;
    }
    Ok(nodes)
}

/// Resets nodes: those that a cluster goes on without are drained and their etcd members removed first. One that cannot
/// leave well stays as it is.
///
/// # Errors
/// If nodes cannot be asked, the key store cannot be used, or the run cannot be recorded.
pub fn carry_out<'l>(
    loaded: &'l Loaded,
    nodes: Vec<&'l Node>,
    reach: &Reach,
    how: How,
    sink: &dyn Sink,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Finished, CommandError> {
    let inventory = &loaded.inventory;
    let dialer = observe::dialer(inventory, &nodes, reach)?;
    let cluster = inventory.cluster.name.to_string();
    let journal = Journal::begin(&loaded.base_dir, RunKind::Reset, None, &cluster, Clock::System)
        .map_err(records::stop)?;
    // Before anybody's pods are moved.
    let (mut kept, mut problems) = not_to_be_reset(inventory, &dialer, &nodes);
    let departure = leaving_members(loaded, &nodes)?;
    let members = match departure
        .as_ref()
        .map(|(access, leaving)| members_that_stay(inventory, &dialer, access, leaving))
    {
        None => Vec::new(),
        Some(Ok(list)) => list,
        Some(Err(why)) => {
            for node in departure.iter().flat_map(|(_, leaving)| leaving) {
                kept.insert(node.name.clone(), why.clone());
                problems.push(member_stays(&node.name, why.clone()));
            }
            Vec::new()
        }
    };
    let cluster = GoingOn::of(loaded, &nodes);
    let api = match cluster.as_ref().map(|c| &c.access) {
        Some(Err(why)) => {
            say(&format!("the API server cannot be asked to drain nodes: {why}"));
            None
        }
        Some(Ok(access)) => Some(access),
        None => None,
    };
    let plan = plan::reset::plan(&Leaving {
        inventory,
        nodes: &nodes,
        kept: &kept,
        drain: cluster.as_ref().map(|_| how.drain),
        members: &members,
        data: how.data.unwrap_or(EtcdData::Keep),
    });
    let execution = Execution {
        etcd: departure.as_ref().map(|(access, _)| access),
        api,
        ..Execution::without_contents(&plan, inventory, &dialer, &journal, sink, say)
    };
    let mut report = execute(&execution, Sessions::new()).map_err(records::stop)?;
    report.problems.splice(0..0, problems);
    records::finish(journal, report)
}

/// A cluster that goes on without the nodes that are reset.
struct GoingOn {
    /// How the control planes that stay are asked, or what the key store lacks for it.
    access: Result<ApiAccess, String>,
}

impl GoingOn {
    /// `None` where all control planes are reset, or this program has never made a cluster.
    fn of(loaded: &Loaded, leaving: &[&Node]) -> Option<Self> {
        let inventory = &loaded.inventory;
        let stays = |name: &NodeName| !leaving.iter().any(|l| l.name == *name);
        if !inventory.with_role(Role::ControlPlane).any(|n| stays(&n.name))
            || inventory.kubernetes.source == SoftwareSource::None
        {
            return None;
        }
        let material = keys::open(loaded).and_then(|store| keys::material(loaded, store));
        let access = material
            .map_err(|stop| {
                let said = stop.problems.iter().map(|p| p.what.as_str()).collect::<Vec<_>>();
                format!("the key store cannot be used: {}", said.join("; "))
            })
            .and_then(|material| {
                objects::access(inventory, &material)
                    .ok_or_else(|| "the key store has no administrator certificate".to_owned())
            })
            .map(|mut access| {
                access.servers.retain(|(name, _)| stays(name));
                access
            });
        Some(Self { access })
    }
}

/// etcd's members, by one that stays, while all of those are healthy.
///
/// # Errors
/// The first that is not, or why nobody could tell.
fn members_that_stay(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    access: &EtcdAccess,
    leaving: &[&Node],
) -> Result<Vec<Listed>, String> {
    let mut list = Err("no member would remain".to_owned());
    for node in inventory.etcd_members() {
        if leaving.iter().any(|l| l.name == node.name) {
            continue;
        }
        let at = |why: String| format!("{}: {why}", node.name);
        let mut session =
            dialer.connect(&inventory.ssh.for_node(node)).map_err(|e| at(chain(&e)))?;
        let ip = node.internal_ip();
        gate::member_health(session.as_mut(), ip, access).map_err(at)?;
        if list.is_err() {
            list = etcd::list(session.as_mut(), ip, access).map_err(at);
        }
    }
    list
}

/// Control planes and etcd members that are not among some nodes.
pub(super) fn left_out<'i>(inventory: &'i Inventory, nodes: &[&Node]) -> Vec<&'i str> {
    let all = inventory.nodes.iter().filter(|n| inventory.serves(n));
    all.filter(|n| !nodes.iter().any(|c| c.name == n.name)).map(|n| n.name.as_str()).collect()
}

/// Nodes that are something else than the inventory says, or whose cluster others made, and why they stay. A node that cannot be
/// reached now is asked again when it is reset.
fn not_to_be_reset(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    nodes: &[&Node],
) -> (BTreeMap<NodeName, String>, Vec<Problem>) {
    let looks = fleet::each(nodes.to_vec(), fleet::WINDOW, |node: &Node| {
        let session = dialer.connect(&inventory.ssh.for_node(node)).ok();
        let taken_for = TakenFor::of(inventory, node);
        let look = session.map_or(Ok(()), |mut s| may_be_reset(s.as_mut(), taken_for));
        (node.name.clone(), look)
    });
    let kept: BTreeMap<NodeName, String> =
        looks.into_iter().filter_map(|(name, look)| Some((name, look.err()?))).collect();
    let problem = |(name, why): (&NodeName, &String)| {
        Problem::new("the node cannot be reset")
            .at(name.to_string())
            .because(why.clone())
            .left("nothing of it was changed, and its pods were not evicted")
    };
    let problems = kept.iter().map(problem).collect();
    (kept, problems)
}

/// A cluster that goes on needs an API server and a member of etcd.
fn refuse_partial_removal(inventory: &Inventory, nodes: &[&Node]) -> Result<(), CommandError> {
    let left = left_out(inventory, nodes);
    if left.is_empty() || !nodes.iter().any(|n| inventory.serves(n)) {
        return Ok(());
    }
    let stays = |n: &Node| left.contains(&n.name.as_str());
    let planes = inventory.with_role(Role::ControlPlane).any(stays);
    let members = inventory.etcd_members().any(stays);
    if planes && members {
        return Ok(());
    }
    let problem =
        Problem::new("the last control planes and etcd members can only be reset together")
            .because(format!(
                "{} would remain without the other nodes that a cluster needs",
                left.join(", ")
            ))
            .left("nothing was changed")
            .hint("name fewer nodes, or all control planes and etcd members");
    Err(CommandError::one(Exit::InvalidInput, problem.at("--nodes")))
}

/// etcd members that leave while others stay, with access to etcd.
fn leaving_members<'l>(
    loaded: &'l Loaded,
    nodes: &[&'l Node],
) -> Result<Option<(EtcdAccess, Vec<&'l Node>)>, CommandError> {
    let inventory = &loaded.inventory;
    let leaving: Vec<&Node> =
        nodes.iter().copied().filter(|n| inventory.is_etcd_member(n)).collect();
    if leaving.is_empty() || leaving.len() == inventory.etcd_members().count() {
        return Ok(None);
    }
    let material = keys::material(loaded, keys::open(loaded)?)?;
    Ok(etcd_members::etcd_access(inventory, &material).map(|access| (access, leaving)))
}

fn member_stays(node: &NodeName, why: String) -> Problem {
    Problem::new("its etcd member was not removed")
        .at(node.to_string())
        .because(why)
        .left("it was not reset")
        .hint("a member is removed only while all others are healthy")
}

/// Whether there is no data on the nodes about which something would have to be said.
fn without_data(inventory: &Inventory, nodes: &[&Node]) -> Result<(), CommandError> {
    let members = nodes.iter().filter(|n| inventory.is_etcd_member(n));
    let names: Vec<&str> = members.map(|n| n.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let problem = Problem::new("etcd's data needs a decision: --delete-etcd-data or --keep-etcd-data")
        .at(names.join(", "))
        .because("etcd's data is the entire state of the cluster, with every Secret")
        .left("nothing was changed")
        .hint(
            "use --delete-etcd-data to delete it for good, or --keep-etcd-data to keep it in /var/lib/etcd",
        );
    Err(CommandError::one(Exit::InvalidInput, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    #[test]
    fn the_last_control_plane_and_the_last_member_go_with_all_others() {
        let pick = |inventory: &Inventory, names: &[&str]| -> Result<(), String> {
            let all = inventory.nodes.iter();
            let nodes: Vec<&Node> = all.filter(|n| names.contains(&n.name.as_str())).collect();
            refuse_partial_removal(inventory, &nodes).map_err(|stop| stop.problems[0].to_string())
        };
        let planes = ["a", "b"].map(|name| (name, Role::ControlPlane));
        let stacked = testing::of_nodes(planes.into_iter().chain([("w", Role::Worker)]));
        for names in [&["w"][..], &["a", "b"], &["a", "w"], &["a", "b", "w"]] {
            assert_eq!(pick(&stacked, names), Ok(()), "{names:?}");
        }
        let nodes: Vec<&Node> = stacked.nodes.iter().collect();
        assert!(without_data(&stacked, &nodes[2..]).is_ok());
        let stop = without_data(&stacked, &nodes).unwrap_err();
        assert!(stop.problems[0].to_string().contains("error: a, b: etcd's data needs a decision"));
        let apart = testing::with(
            "etcd: {placement: dedicated}\nnodes:\n\
             - {name: a, addresses: [10.0.0.1], roles: [control-plane]}\n\
             - {name: b, addresses: [10.0.0.2], roles: [control-plane]}\n\
             - {name: e, addresses: [10.0.0.3], roles: [etcd]}\n",
        );
        assert_eq!(pick(&apart, &["a"]), Ok(()));
        assert_eq!(pick(&apart, &["a", "b", "e"]), Ok(()));
        for (names, stays) in [(&["e"][..], "a, b would remain"), (&["a", "b"], "e would remain")] {
            let said = pick(&apart, names).unwrap_err();
            assert!(said.contains(stays), "{said}");
        }
    }
}
