//! The transactions of a group, with the gates of its stage around them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use super::access_paths::{self, AccessPath, Which};
use super::execution::{Execution, Sessions, with_session};
use super::flows::{self, Flow};
use super::gate;
use super::members;
use super::transaction::{self, SwitchResult};
use crate::api::readiness::wait_for_node;
use crate::api::{ApiAccess, Client};
use crate::error::chain;
use crate::event::with_reminders;
use crate::inventory::{Node, NodeName};
use crate::plan::{Gate, Step, Task, Transaction};
use crate::runs::record::{Outcome, RecordError};
use crate::transport::fleet;

/// How long a node that has joined may take to be Ready.
const READY: Duration = Duration::from_secs(120);

/// A task of a plan with the transaction that it carries out.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub task: &'a Task,
    pub node: &'a Node,
    pub transaction: &'a Transaction,
}

/// What is known about a node before its transaction.
struct Before {
    open: BTreeSet<Flow>,
    paths: Vec<AccessPath>,
}

/// Carries the transactions of a group out, all at the same time, and says how each ended. `stage` is their number in the
/// run.
///
/// # Errors
/// If they cannot be recorded.
pub(super) fn carry_out<'a>(
    c: &Execution<'_>,
    gates: &[Gate],
    stage: u32,
    work: Vec<Work<'a>>,
    sessions: &Mutex<Sessions>,
) -> Result<Vec<(&'a Task, Outcome)>, RecordError> {
    if work.is_empty() {
        return Ok(Vec::new());
    }
    if let [Work { task: task @ Task::JoinEtcd { peer_url, .. }, node, transaction }] = work[..] {
        let outcome = join_etcd(c, node, transaction, peer_url, stage, sessions)?;
        return Ok(vec![(task, outcome)]);
    }
    if gates.contains(&Gate::EtcdQuorum)
        && let Some(why) =
            others_healthy(c, &work.iter().map(|w| w.node).collect::<Vec<_>>(), sessions)
    {
        let refused = |w: Work<'a>| (w.task, Outcome::Refused { why: why.clone() });
        return Ok(work.into_iter().map(refused).collect());
    }
    let alone = work.len() == 1;
    let switch = |w: Work<'a>| -> (Work<'a>, Before, SwitchResult) {
        let before = look_before(c, gates, w, alone, sessions);
        let switched = transaction::switch(c, w.node, w.transaction, stage, sessions);
        (w, before, switched)
    };
    let decide = |(w, before, switched): (Work<'a>, Before, SwitchResult)| {
        let outcome = match switched? {
            Err(outcome) => outcome,
            Ok(None) if gates.contains(&Gate::NodesReady) => joined(c, w.node),
            Ok(None) => Outcome::Committed,
            Ok(Some(s)) => match fault(c, gates, w.node, &before, sessions) {
                Some(why) => transaction::roll_back(c, w.node, &s, sessions, &why),
                None => transaction::confirm(c, w.node, &s, sessions),
            },
        };
        Ok((w.task, outcome))
    };
    // Members of etcd are healthy together or not at all: all of them switch before anybody looks. Else each node is
    // decided on as soon as it has switched: its time to be confirmed is running, and a slow one must not use up the others'.
    let results = match gates.iter().any(|g| matches!(g, Gate::EtcdForms | Gate::EtcdQuorum)) {
        true => fleet::each(fleet::each(work, fleet::WINDOW, switch), fleet::WINDOW, decide),
        false => fleet::each(work, fleet::WINDOW, |w| decide(switch(w))),
    };
    results.into_iter().collect()
}

/// What must still work afterwards.
fn look_before(
    c: &Execution<'_>,
    gates: &[Gate],
    w: Work<'_>,
    alone: bool,
    sessions: &Mutex<Sessions>,
) -> Before {
    let mut before = Before { open: BTreeSet::new(), paths: Vec::new() };
    if !gates.contains(&Gate::Reachable) {
        return before;
    }
    // Canaries, control planes and etcd members go alone; workers do as the canary did.
    let filters = w.transaction.steps.iter().any(|a| matches!(a.step, Step::Firewall { .. }));
    if alone && filters {
        before.open = open_flows(c, w.node, sessions);
    }
    // A change without a confirmation cannot cut access.
    if w.transaction.confirm_within_s.is_some() {
        let which = if alone { Which::AndThrough } else { Which::Own };
        before.paths =
            access_paths::working(c.dialer, access_paths::of(c.inventory, w.node, which));
    }
    before
}

/// Why a node that has switched cannot be confirmed.
fn fault(
    c: &Execution<'_>,
    gates: &[Gate],
    node: &Node,
    before: &Before,
    sessions: &Mutex<Sessions>,
) -> Option<String> {
    gates.iter().find_map(|gate| match gate {
        Gate::Reachable => closed_flow(c, node, &before.open, sessions)
            .or_else(|| access_paths::lost(c.dialer, &before.paths)),
        Gate::EtcdForms | Gate::EtcdQuorum => etcd_health(c, node, sessions).err(),
        Gate::NodesReady => None,
    })
}

/// Makes a node an etcd member: adds it as a learner, starts it with the current members, and promotes it once it has
/// caught up. On any failure it is removed again.
fn join_etcd(
    c: &Execution<'_>,
    node: &Node,
    transaction: &Transaction,
    peer_url: &str,
    stage: u32,
    sessions: &Mutex<Sessions>,
) -> Result<Outcome, RecordError> {
    let list = transaction.steps.iter().find_map(|a| match &a.step {
        Step::EtcdJoin { members } => Some(members.as_str()),
        _ => None,
    });
    let id = match members::add_learner(c, sessions, node, peer_url, list.unwrap_or_default()) {
        Ok(id) => id,
        Err(why) => {
            members::record_addition(c, &node.name, peer_url, &Err(why.clone()))?;
            return Ok(Outcome::Refused { why });
        }
    };
    let outcome = match transaction::switch(c, node, transaction, stage, sessions)? {
        Err(outcome) => outcome,
        // It is guarded, so it would have to be confirmed.
        Ok(None) => Outcome::Committed,
        Ok(Some(s)) => {
            let ready = members::promote(c, sessions, node, id)
                .and_then(|()| etcd_health(c, node, sessions));
            match ready {
                Ok(()) => transaction::confirm(c, node, &s, sessions),
                Err(why) => transaction::roll_back(c, node, &s, sessions, &why),
            }
        }
    };
    let result = match &outcome {
        Outcome::Committed => Ok(()),
        _ => Err(members::remove_after_failure(c, sessions, node, id)
            .unwrap_or_else(|| "it was removed from etcd again".to_owned())),
    };
    members::record_addition(c, &node.name, peer_url, &result)?;
    Ok(outcome)
}

/// The flows to a node that are open now.
fn open_flows(c: &Execution<'_>, node: &Node, sessions: &Mutex<Sessions>) -> BTreeSet<Flow> {
    let mut open = flows::to(c.inventory, node);
    open.retain(|flow| is_open(c, node, flow, sessions));
    open
}

/// The first flow that was open and is not any more.
fn closed_flow(
    c: &Execution<'_>,
    node: &Node,
    before: &BTreeSet<Flow>,
    sessions: &Mutex<Sessions>,
) -> Option<String> {
    let closed = before.iter().find(|flow| !is_open(c, node, flow, sessions))?;
    Some(format!("{} no longer reaches its port {}", closed.from, closed.port))
}

fn is_open(c: &Execution<'_>, node: &Node, flow: &Flow, sessions: &Mutex<Sessions>) -> bool {
    let Some(from) = c.inventory.nodes.iter().find(|n| n.name == flow.from) else { return false };
    with_session(c, from, sessions, |s| Ok(flows::is_open(s, node, flow.port))) == Ok(true)
}

/// Whether a node that has joined is Ready, by the word of an API server.
fn joined(c: &Execution<'_>, node: &Node) -> Outcome {
    let Some(access) = c.api else { return Outcome::Committed };
    with_reminders(c.sink, &node.name, |reminder| {
        reminder.waits_for("the node to be Ready");
        is_ready(c, node, access)
    })
}

fn is_ready(c: &Execution<'_>, node: &Node, access: &ApiAccess) -> Outcome {
    let own = access.servers.iter().find(|(name, _)| *name == node.name);
    let mut last = String::from("there is no control plane");
    // Its own API server, else any that answers.
    for (name, ip) in own.map_or_else(|| access.servers.iter().collect(), |s| vec![s]) {
        let Some(server) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        // A connection of its own: those of the sessions are at work for other nodes.
        let asked =
            c.dialer.connect(&c.inventory.ssh.for_node(server)).map_err(|e| chain(&e)).and_then(
                |mut s| {
                    let mut client = Client::new(s.as_mut(), *ip, access);
                    wait_for_node(&mut client, &node.name, READY).map_err(|e| chain(&e))
                },
            );
        match asked {
            Ok(()) => return Outcome::Committed,
            Err(why) => last = format!("by {name}: {why}"),
        }
    }
    Outcome::Unready { why: last }
}

/// `Some(problem)` if a member is about to stop whose quorum might be lost by it. Disruption one that
/// is stopped can only help.
pub(super) fn others_healthy(
    c: &Execution<'_>,
    changed: &[&Node],
    sessions: &Mutex<Sessions>,
) -> Option<String> {
    let access = c.etcd?;
    let health =
        |node: &Node, ip| with_session(c, node, sessions, |s| gate::member_health(s, ip, access));
    let own: Vec<(&Node, Result<(), String>)> =
        changed.iter().map(|node| (*node, health(node, node.internal_ip()))).collect();
    let stopped = |node: &Node| {
        with_session(c, node, sessions, |s| Ok(gate::is_stopped(s, node.internal_ip()))) == Ok(true)
    };
    let healthy = own.iter().any(|(_, h)| h.is_ok());
    if !healthy && own.iter().all(|(node, _)| stopped(node)) {
        return None;
    }
    let changing: BTreeSet<&NodeName> = changed.iter().map(|node| &node.name).collect();
    let mut problems = Vec::new();
    let mut healthy_others = 0;
    // A wanted member that is not one yet does not count for the quorum. If the list cannot be read, all count.
    let members = members::list(c, sessions)
        .map_or_else(|_| access.members.clone(), |l| members::voting(access, &l));
    for (name, ip) in members.iter().filter(|(n, _)| !changing.contains(n)) {
        let Some(node) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        match health(node, *ip) {
            Ok(()) => healthy_others += 1,
            Err(why) => problems.push(format!("{name}: {why}")),
        }
    }
    if !healthy {
        if !gate::is_needed(members.len(), healthy_others) {
            return None;
        }
        problems.extend(
            own.iter().filter_map(|(node, h)| {
                Some(format!("{} itself: {}", node.name, h.as_ref().err()?))
            }),
        );
    }
    (!problems.is_empty())
        .then(|| format!("stopping a member now could lose quorum: {}", problems.join("; ")))
}

/// Waits until the member on a node is healthy.
pub(super) fn etcd_health(
    c: &Execution<'_>,
    node: &Node,
    sessions: &Mutex<Sessions>,
) -> Result<(), String> {
    // A change that could not be checked is not confirmed.
    let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
    let within = Duration::from_secs(u64::from(crate::plan::diff::CONFIRM_ETCD_S) - 120);
    with_reminders(c.sink, &node.name, |reminder| {
        reminder.waits_for("etcd to be healthy");
        with_session(c, node, sessions, |s| {
            gate::wait_for_member(s, node.internal_ip(), access, within)
        })
    })
    .map_err(|why| format!("etcd on {}: {why}", node.name))
}
