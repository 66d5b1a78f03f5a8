//! `kubastion reset`: nodes back to what they were before the first run.

use super::apply::{ask, finish, record_stop};
use super::args::Global;
use super::exit::Exit;
use super::objects;
use super::pipeline::{self, PkiUse, Reach};
use super::run::Stop;
use crate::apply::record::{Journal, Line, Outcomes};
use crate::apply::reset::{Data, reset};
use crate::apply::{Outcome, gate::chain};
use crate::clock::Clock;
use crate::desired::Phase;
use crate::error::Problem;
use crate::event::Event;
use crate::event::Sink as _;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role, SoftwareSource};
use crate::report::Monitor;
use crate::transport::{Dialer, fleet};

/// Arguments of `reset`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Delete etcd's data: the cluster's whole state. Without it, a member's data stays.
    #[arg(long)]
    pub delete_etcd_data: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

const HELP: &str =
    "Takes a node out of its cluster and takes back every run on it, newest first, from the images
that the node itself keeps. Packages stay installed, and so do logs of the system. The key store
here is not touched: the same cluster can be made again.

A control plane or an etcd member is reset only together with all others: taking one out of a
running cluster is another task, and a wrong order costs the quorum.

Examples:
  kubastion reset --nodes w2
  kubastion reset --delete-etcd-data --yes";

/// Runs `kubastion reset`.
///
/// # Errors
/// Problems of the inventory, and nodes that must not be reset alone.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Stop> {
    let loaded = super::inventory::load(global)?;
    let inventory = &loaded.inventory;
    let nodes = pipeline::chosen(inventory, &args.reach)?;
    only_together(inventory, &nodes)?;
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let etcd = if args.delete_etcd_data { ", with etcd's data" } else { "" };
    eprintln!("{} will be taken back to what they were{etcd}", names.join(", "));
    if !args.yes {
        ask("say --yes")?;
    }
    let dialer = pipeline::dialer(inventory, &nodes, &args.reach)?;
    let cluster = inventory.cluster.name.to_string();
    let journal = Journal::begin(&loaded.base_dir, "reset", None, &cluster, Clock::System)
        .map_err(record_stop)?;
    let monitor = match global.format {
        super::args::Format::Text => Monitor::for_people(),
        super::args::Format::Json => Monitor::for_machines(),
    };
    let data = if args.delete_etcd_data { Data::Delete } else { Data::Keep };
    let results = fleet::each(nodes, fleet::WINDOW, |node: &Node| {
        let name = node.name.clone();
        monitor.send(Event::Begin { node: name.clone(), what: "reset".into(), steps: 0 });
        let outcome = match dialer.connect(&inventory.ssh.for_node(node)) {
            Ok(mut session) => reset(session.as_mut(), &name, data, &monitor),
            Err(e) => Outcome::Unreachable { why: chain(&e) },
        };
        let good = outcome.is_good();
        monitor.send(Event::End {
            node: name.clone(),
            how: if good { "as it was".into() } else { format!("{outcome:?}") },
            good,
        });
        (name, outcome)
    });
    let mut outcomes = Outcomes::new();
    for (node, outcome) in results {
        // The phase that is undone last says how the whole ended.
        let phase = Phase::Software;
        journal
            .write(&Line::Result { node: node.clone(), phase, outcome: outcome.clone() })
            .map_err(record_stop)?;
        outcomes.entry(node).or_default().insert(phase, outcome);
    }
    drop(monitor);
    let gone: Vec<&NodeName> =
        outcomes.iter().filter(|(_, p)| p.values().all(Outcome::is_good)).map(|(n, _)| n).collect();
    let problems = forget(&loaded, &dialer, &gone);
    finish(global, &journal, &outcomes, problems)
}

/// Deletes the Node objects of nodes that have left a cluster that goes on: a node of the same name
/// could not join again, and pods would be thought to run there. Where all control planes were reset,
/// there is nobody to tell.
fn forget(loaded: &Loaded, dialer: &dyn Dialer, gone: &[&NodeName]) -> Vec<Problem> {
    let inventory = &loaded.inventory;
    let planes: Vec<&Node> =
        inventory.with_role(Role::ControlPlane).filter(|n| !gone.contains(&&n.name)).collect();
    let never = inventory.kubernetes.source == SoftwareSource::None;
    if planes.is_empty() || gone.is_empty() || never {
        return Vec::new();
    }
    let stays = |why: String| {
        let names: Vec<&str> = gone.iter().map(|n| n.as_str()).collect();
        let problem = Problem::new("the cluster was not told that nodes have left it");
        let hint = format!("`kubectl delete node {}`", names.join(" "));
        problem.at("cluster").because(why).left("the nodes are reset").hint(hint)
    };
    let access = pipeline::material(loaded, PkiUse::ReadOnly)
        .ok()
        .and_then(|material| objects::access(inventory, &material));
    let Some(access) = access else {
        return vec![stays("the key store has no certificate for it".into())];
    };
    let mut last = String::new();
    for plane in planes {
        let mut session = match dialer.connect(&inventory.ssh.for_node(plane)) {
            Ok(session) => session,
            Err(e) => {
                last = format!("{}: {}", plane.name, chain(&e));
                continue;
            }
        };
        let mut ask = |node: &NodeName| {
            let path = format!("/api/v1/nodes/{node}");
            access.ask(session.as_mut(), plane.internal_ip(), "DELETE", &path, None).and_then(|a| {
                // 404: it never was part of it.
                if matches!(a.status, 200 | 202 | 404) { Ok(()) } else { Err(a.status.to_string()) }
            })
        };
        match gone.iter().try_for_each(|node| ask(node)) {
            Ok(()) => return Vec::new(),
            Err(why) => last = format!("{}: {why}", plane.name),
        }
    }
    vec![stays(last)]
}

/// Control planes and etcd members only all at once.
fn only_together(inventory: &Inventory, nodes: &[&Node]) -> Result<(), Stop> {
    let serves = |n: &Node| n.has_role(Role::ControlPlane) || inventory.is_etcd_member(n);
    let left: Vec<&str> = inventory
        .nodes
        .iter()
        .filter(|n| serves(n) && !nodes.iter().any(|c| c.name == n.name))
        .map(|n| n.name.as_str())
        .collect();
    if left.is_empty() || !nodes.iter().any(|n| serves(n)) {
        return Ok(());
    }
    let problem = Problem::new("control planes and etcd members are reset only all together")
        .because(format!("{} would stay, short of members", left.join(", ")))
        .left("nothing was changed")
        .hint("name workers alone, or all control planes and members");
    Err(Stop::one(Exit::InvalidInput, problem.at("--nodes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Role, testing};

    #[test]
    fn a_control_plane_is_not_reset_alone() {
        let planes = ["a", "b"].map(|name| (name, Role::ControlPlane));
        let inventory = testing::of_nodes(planes.into_iter().chain([("w", Role::Worker)]));
        let pick = |names: &[&str]| -> Vec<&Node> {
            inventory.nodes.iter().filter(|n| names.contains(&n.name.as_str())).collect()
        };
        assert!(only_together(&inventory, &pick(&["w"])).is_ok());
        assert!(only_together(&inventory, &pick(&["a", "b"])).is_ok());
        let stop = only_together(&inventory, &pick(&["a", "w"])).unwrap_err();
        assert!(stop.problems[0].to_string().contains("b would stay"), "{}", stop.problems[0]);
    }
}
