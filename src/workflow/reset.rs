//! Nodes leave their cluster, and go back to what they were before the first run.

use std::collections::BTreeMap;

use super::drain::{Drain, Staying, drain_all, forget};
use super::etcd_members;
use super::keys;
use super::observe::{self, Reach};
use super::records::{self, Finished};
use crate::apply::Outcome;
use crate::apply::gate::EtcdAccess;
use crate::apply::members::Remaining;
use crate::apply::record::{Journal, Line, RecordError, Reset, RunKind};
use crate::apply::reset::{As, Data, may_be_reset, reset};
use crate::clock::Clock;
use crate::error::Problem;
use crate::error::chain;
use crate::event::{Event, Sink};
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role};
use crate::transport::{Dialer, fleet};
use crate::workflow::command_error::{CommandError, Exit};

/// How nodes are reset.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// How their pods leave them.
    pub drain: Drain,
    /// What becomes of etcd's data. `None` will do where there is none.
    pub data: Option<Data>,
}

/// The chosen nodes, which can be reset together.
///
/// # Errors
/// If too few nodes would stay for a cluster, or it was not said what becomes of etcd's data.
pub fn chosen<'i>(
    inventory: &'i Inventory,
    reach: &Reach,
    data: Option<Data>,
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
) -> Result<Finished<BTreeMap<NodeName, Reset>>, CommandError> {
    let inventory = &loaded.inventory;
    let dialer = observe::dialer(inventory, &nodes, reach)?;
    let cluster = inventory.cluster.name.to_string();
    let journal = Journal::begin(&loaded.base_dir, RunKind::Reset, None, &cluster, Clock::System)
        .map_err(records::stop)?;
    let stays = Staying::of(loaded, &nodes);
    // Before anybody's pods are moved.
    let (workers, members): (Vec<&Node>, _) = nodes.iter().partition(|n| !inventory.serves(n));
    let (kept, problems) = misjudged(inventory, &dialer, &workers);
    let departure = leaving_members(loaded, &nodes)?;
    let mut leaving = Leaving { inventory, dialer: &dialer, sink, kept, problems };
    let remaining = departure.as_ref().map(|(access, leaving)| Remaining {
        inventory,
        dialer: &dialer,
        access,
        leaving: leaving.iter().map(|n| &n.name).collect(),
    });
    let etcd_leaving: Vec<&Node> = departure.iter().flat_map(|(_, l)| l.iter().copied()).collect();
    if let Some(Err(why)) = remaining.as_ref().map(Remaining::are_healthy) {
        etcd_leaving.iter().for_each(|node| leaving.keep_member(node, why.clone()));
    }
    if let Some(cluster) = &stays {
        let nodes: Vec<&Node> = workers.into_iter().chain(members).collect();
        leaving.drain(cluster, nodes, how.drain);
    }
    if let Some(remaining) = &remaining {
        leaving.remove_members(remaining, &etcd_leaving);
    }
    let data = how.data.unwrap_or(Data::Keep);
    let nodes =
        recorded(&journal, nodes, |node| leaving.reset(node, data)).map_err(records::stop)?;
    let mut problems = leaving.problems;
    let gone: Vec<&NodeName> =
        nodes.iter().filter(|(_, r)| r.outcome.is_good()).map(|(n, _)| n).collect();
    if let Some(cluster) = stays.filter(|_| !gone.is_empty()) {
        problems.extend(forget(&cluster, &dialer, &gone));
    }
    records::finish_reset(journal, nodes, problems)
}

/// Nodes on their way out.
struct Leaving<'a> {
    inventory: &'a Inventory,
    dialer: &'a dyn Dialer,
    sink: &'a dyn Sink,
    /// Those that stay as they are, and why.
    kept: BTreeMap<NodeName, String>,
    problems: Vec<Problem>,
}

impl Leaving<'_> {
    fn keep_member(&mut self, node: &Node, why: String) {
        self.kept.insert(node.name.clone(), why.clone());
        self.problems.push(member_stays(&node.name, why));
    }

    fn drain(&mut self, cluster: &Staying<'_>, mut nodes: Vec<&Node>, how: Drain) {
        nodes.retain(|n| !self.kept.contains_key(&n.name));
        let (undrained, more) = drain_all(cluster, self.dialer, &nodes, how, self.sink);
        self.kept.extend(undrained);
        self.problems.extend(more);
    }

    /// One after the other, while all that stay are healthy.
    fn remove_members(&mut self, remaining: &Remaining<'_>, members: &[&Node]) {
        for node in members {
            if self.kept.contains_key(&node.name) {
                continue;
            }
            let what = "its etcd member to be removed".to_owned();
            self.sink.send(Event::Waiting { node: node.name.clone(), what });
            if let Err(why) = remaining.remove(node) {
                self.keep_member(node, why);
            }
        }
    }

    fn reset(&self, node: &Node, data: Data) -> Reset {
        let name = &node.name;
        self.sink.send(Event::Begin { node: name.clone(), what: "reset".into(), steps: 0 });
        let left = |outcome| Reset { outcome, taken_back: Vec::new() };
        let reset = match self.kept.get(name) {
            Some(why) => left(Outcome::Refused { why: why.clone() }),
            None => match self.dialer.connect(&self.inventory.ssh.for_node(node)) {
                Ok(mut session) => {
                    let taken_for =
                        if self.inventory.serves(node) { As::Member } else { As::Worker };
                    reset(session.as_mut(), name, taken_for, data, self.sink)
                }
                Err(e) => left(Outcome::Unreachable { why: chain(&e) }),
            },
        };
        let how = match &reset.outcome {
            Outcome::Committed => "as it was".to_owned(),
            Outcome::Refused { why } => format!("left as it is: {why}"),
            Outcome::Unreachable { why } => format!("unreachable: {why}"),
            Outcome::Incomplete { why } => format!("INCOMPLETE: {why}"),
            Outcome::Reverted { why } | Outcome::Skipped { why } | Outcome::Unready { why } => {
                why.clone()
            }
        };
        self.sink.send(Event::End { node: name.clone(), how, good: reset.outcome.is_good() });
        reset
    }
}

/// Resets nodes, and records of each what came of it at once: another one may take minutes, and somebody may not wait
/// for it.
fn recorded(
    journal: &Journal,
    nodes: Vec<&Node>,
    one: impl Fn(&Node) -> Reset + Sync,
) -> Result<BTreeMap<NodeName, Reset>, RecordError> {
    let results = fleet::each(nodes, fleet::WINDOW, |node: &Node| {
        let (node, reset) = (node.name.clone(), one(node));
        journal.write(&Line::Reset { node: node.clone(), reset: reset.clone() })?;
        Ok((node, reset))
    });
    results.into_iter().collect()
}

/// Control planes and etcd members that are not among some nodes.
pub(super) fn left_out<'i>(inventory: &'i Inventory, nodes: &[&Node]) -> Vec<&'i str> {
    let all = inventory.nodes.iter().filter(|n| inventory.serves(n));
    all.filter(|n| !nodes.iter().any(|c| c.name == n.name)).map(|n| n.name.as_str()).collect()
}

/// Nodes that the inventory takes for workers and that are something else, and why they stay. A node that
/// cannot be reached now is asked again when it is reset.
fn misjudged(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    workers: &[&Node],
) -> (BTreeMap<NodeName, String>, Vec<Problem>) {
    let looks = fleet::each(workers.to_vec(), fleet::WINDOW, |node: &Node| {
        let session = dialer.connect(&inventory.ssh.for_node(node)).ok();
        let look = session.map_or(Ok(()), |mut s| may_be_reset(s.as_mut(), As::Worker));
        (node.name.clone(), look)
    });
    let kept: BTreeMap<NodeName, String> =
        looks.into_iter().filter_map(|(name, look)| Some((name, look.err()?))).collect();
    let problem = |(name, why): (&NodeName, &String)| {
        Problem::new("the node is not what the inventory says")
            .at(name.to_string())
            .because(why.clone())
            .left("it was not reset, and its pods were left alone")
            .hint("correct its role in the inventory: its etcd member has to be removed first")
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
                "{} would stay, without the other nodes that a cluster needs",
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
        .hint("a member is removed only while all others are healthy; run `kubectl uncordon` to schedule pods on the node again")
}

/// Whether there is no data on the nodes about which something would have to be said.
fn without_data(inventory: &Inventory, nodes: &[&Node]) -> Result<(), CommandError> {
    let members = nodes.iter().filter(|n| inventory.is_etcd_member(n));
    let names: Vec<&str> = members.map(|n| n.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let problem = Problem::new("etcd's data: choose --delete-etcd-data or --keep-etcd-data")
        .at(names.join(", "))
        .because("it is the cluster's whole state, with every Secret")
        .left("nothing was changed")
        .hint(
            "--delete-etcd-data deletes it for good, --keep-etcd-data leaves it in /var/lib/etcd",
        );
    Err(CommandError::one(Exit::InvalidInput, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::record::read_all;
    use crate::inventory::testing;
    use crate::report::runs;

    #[test]
    fn what_came_of_a_node_is_recorded_before_the_others_are_done() {
        let inventory = testing::two_and_two();
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(dir.path(), RunKind::Reset, None, "c", Clock::System).unwrap();
        let on_record = || read_all(dir.path()).unwrap().runs[0].reset.len();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let last = nodes[3].name.clone();
        let done = recorded(&journal, nodes, |node| {
            let mut tries = 0;
            while node.name == last && on_record() < 3 {
                std::thread::sleep(std::time::Duration::from_millis(10));
                tries += 1;
                assert!(tries < 1000, "nothing is recorded as long as one is not done");
            }
            Reset { outcome: Outcome::Committed, taken_back: vec!["1-host".into()] }
        });
        assert_eq!(done.unwrap().len(), 4);
        assert_eq!(on_record(), 4);
        let run = &read_all(dir.path()).unwrap().runs[0];
        assert!(run.reset.values().all(|r| r.taken_back == ["1-host"]));
        assert!(
            runs::list(std::slice::from_ref(run)).contains("4 nodes reset, others are not known")
        );
    }

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
        assert!(stop.problems[0].to_string().contains("error: a, b: etcd's data: choose"));
        let apart = testing::with(
            "etcd: {placement: dedicated}\nnodes:\n\
             - {name: a, addresses: [10.0.0.1], roles: [control-plane]}\n\
             - {name: b, addresses: [10.0.0.2], roles: [control-plane]}\n\
             - {name: e, addresses: [10.0.0.3], roles: [etcd]}\n",
        );
        assert_eq!(pick(&apart, &["a"]), Ok(()));
        assert_eq!(pick(&apart, &["a", "b", "e"]), Ok(()));
        for (names, stays) in [(&["e"][..], "a, b would stay"), (&["a", "b"], "e would stay")] {
            let said = pick(&apart, names).unwrap_err();
            assert!(said.contains(stays), "{said}");
        }
    }
}
