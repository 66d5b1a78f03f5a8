//! `kubastion reset`: nodes back to what they were before the first run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::apply::{finish_with, record_stop};
use super::args::Global;
use super::ask::{Question, ask};
use super::output::note;
use crate::apply::gate::EtcdAccess;
use crate::apply::members::Remaining;
use crate::apply::record::{Journal, Line, RecordError, Reset, RunKind};
use crate::apply::reset::{As, Data, may_be_reset, reset};
use crate::apply::{Outcome, gate::chain};
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::error::Problem;
use crate::event::Event;
use crate::event::Sink as _;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role};
use crate::report::{Monitor, runs};
use crate::transport::{Dialer, fleet};
use crate::workflow::drain::{Drain, Staying, Undrained, drain_all, forget};
use crate::workflow::etcd_members;
use crate::workflow::keys;
use crate::workflow::observe::{self, Reach};

/// Arguments of `reset`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Delete etcd's data: the cluster's whole state.
    #[arg(long, conflicts_with = "keep_etcd_data")]
    pub delete_etcd_data: bool,
    /// Leave etcd's data where it is, with every Secret in it.
    #[arg(long)]
    pub keep_etcd_data: bool,
    /// How long the pods of a node may take to leave it, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub drain_timeout: u32,
    /// Reset a node also if its pods could not be evicted: the API does not answer, or time is over.
    #[arg(long)]
    pub undrained: bool,
    /// Do not ask. The question takes the word yes alone; after anything else, the exit code is 2.
    #[arg(short, long)]
    pub yes: bool,
}

impl Args {
    fn drain(&self) -> Drain {
        Drain {
            within: Duration::from_secs(u64::from(self.drain_timeout)),
            undrained: if self.undrained { Undrained::Leave } else { Undrained::Stay },
        }
    }
}

const HELP: &str =
    "Removes a node from its cluster and undoes every run on it, newest first, from the images that the
node keeps. Packages and what they create when they run, system logs and the API server's audit log
(/var/log/kubernetes), and useradd's copies (/etc/passwd- and the like) stay. The key store is not touched: the same cluster can be made again.

If the cluster goes on, the node is drained first: it is cordoned, and its pods are evicted as
PodDisruptionBudgets allow. Pods of DaemonSets and static pods end with the node. If pods are left
at the timeout, or the API does not answer, the node stays as it is and is uncordoned; with
--undrained it is reset anyway, and its pods are cut off.

A control plane leaves the same way; its etcd member is removed first, one at a time, and only while
all other members are healthy. The last control planes and members are reset together. Choose what
happens to etcd's data on a node: --delete-etcd-data or --keep-etcd-data. A removed member cannot use
its old data again.

Examples:
  kubastion reset --nodes w2
  kubastion reset --nodes w2 --drain-timeout 30 --undrained
  kubastion reset --delete-etcd-data --yes";

/// Runs `kubastion reset`.
///
/// # Errors
/// Problems of the inventory, and nodes that must not be reset alone.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load(global)?;
    let inventory = &loaded.inventory;
    let nodes = observe::chosen(inventory, &args.reach)?;
    refuse_partial_removal(inventory, &nodes)?;
    if !args.delete_etcd_data && !args.keep_etcd_data {
        without_data(inventory, &nodes)?;
    }
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let etcd = if args.delete_etcd_data { ", with etcd's data" } else { "" };
    let begins =
        format!("{} will be reset to the state before the first run{etcd}", names.join(", "));
    note(global.format, &begins);
    if !args.yes {
        ask(Question::ForGood, "use --yes")?;
    }
    let dialer = observe::dialer(inventory, &nodes, &args.reach)?;
    let cluster = inventory.cluster.name.to_string();
    let journal = Journal::begin(&loaded.base_dir, RunKind::Reset, None, &cluster, Clock::System)
        .map_err(record_stop)?;
    let monitor = match global.format {
        super::args::Format::Text => Monitor::for_people(),
        super::args::Format::Json => Monitor::for_machines(),
    };
    let data = if args.delete_etcd_data { Data::Delete } else { Data::Keep };
    let stays = Staying::of(&loaded, &nodes);
    // Before anybody's pods are moved.
    let (workers, members): (Vec<&Node>, _) = nodes.iter().partition(|n| !serves(inventory, n));
    let (mut kept, mut problems) = misjudged(inventory, &dialer, &workers);
    let departure = leaving_members(&loaded, &nodes)?;
    let remaining = departure.as_ref().map(|(access, leaving)| Remaining {
        inventory,
        dialer: &dialer,
        access,
        leaving: leaving.iter().map(|n| &n.name).collect(),
    });
    let etcd_leaving: Vec<&Node> = departure.iter().flat_map(|(_, l)| l.iter().copied()).collect();
    if let Some(Err(why)) = remaining.as_ref().map(Remaining::are_healthy) {
        for node in &etcd_leaving {
            kept.insert(node.name.clone(), why.clone());
            problems.push(member_stays(&node.name, why.clone()));
        }
    }
    let leaving: Vec<&Node> =
        workers.into_iter().chain(members).filter(|n| !kept.contains_key(&n.name)).collect();
    if let Some(cluster) = &stays {
        let (undrained, more) = drain_all(cluster, &dialer, &leaving, args.drain(), &monitor);
        kept.extend(undrained);
        problems.extend(more);
    }
    for node in etcd_leaving {
        let Some(remaining) = remaining.as_ref().filter(|_| !kept.contains_key(&node.name)) else {
            continue;
        };
        let what = "its etcd member to be removed".to_owned();
        monitor.send(Event::Waiting { node: node.name.clone(), what });
        if let Err(why) = remaining.remove(node) {
            kept.insert(node.name.clone(), why.clone());
            problems.push(member_stays(&node.name, why));
        }
    }
    let nodes = recorded(&journal, nodes, |node| {
        let name = &node.name;
        monitor.send(Event::Begin { node: name.clone(), what: "reset".into(), steps: 0 });
        let left = |outcome| Reset { outcome, taken_back: Vec::new() };
        let reset = match kept.get(name) {
            Some(why) => left(Outcome::Refused { why: why.clone() }),
            None => match dialer.connect(&inventory.ssh.for_node(node)) {
                Ok(mut session) => {
                    let taken_for = if serves(inventory, node) { As::Member } else { As::Worker };
                    reset(session.as_mut(), name, taken_for, data, &monitor)
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
        monitor.send(Event::End { node: name.clone(), how, good: reset.outcome.is_good() });
        reset
    });
    drop(monitor);
    let nodes = nodes.map_err(record_stop)?;
    let gone: Vec<&NodeName> =
        nodes.iter().filter(|(_, r)| r.outcome.is_good()).map(|(n, _)| n).collect();
    if let Some(cluster) = stays.filter(|_| !gone.is_empty()) {
        problems.extend(forget(&cluster, &dialer, &gone));
    }
    let outcomes = nodes.values().map(|r| &r.outcome);
    finish_with(global, &journal, outcomes, &nodes, &runs::reset(&nodes), problems)
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

/// Whether others count on a node, by the inventory.
fn serves(inventory: &Inventory, node: &Node) -> bool {
    node.has_role(Role::ControlPlane) || inventory.is_etcd_member(node)
}

/// Control planes and etcd members that are not among some nodes.
pub(super) fn left_out<'i>(inventory: &'i Inventory, nodes: &[&Node]) -> Vec<&'i str> {
    let all = inventory.nodes.iter().filter(|n| serves(inventory, n));
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
    if left.is_empty() || !nodes.iter().any(|n| serves(inventory, n)) {
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
    use crate::inventory::{Role, testing};

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
