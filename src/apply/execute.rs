//! The executor: the only code that changes nodes. It takes a plan and no options.

use crate::apply::execution::Execution;
use crate::apply::execution::Sessions;
use crate::apply::execution::with_session;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use super::access_paths::{self, Which};
use super::gate::{self};
use super::members;
use super::record::{Line, Outcome, Outcomes, RecordError};
use super::transaction;
use super::ways::{self, Way};
use crate::api::Client;
use crate::api::readiness::wait_for_node;
use crate::desired::{Phase, Way as Join};
use crate::error::chain;
use crate::event::Event;
use crate::inventory::{Node, NodeName, Role};
use crate::plan::{Gate, NodePlan, Stage, Step, Transaction};
use crate::transport::fleet;

/// How long a node that has joined may take to be Ready.
const READY: Duration = Duration::from_secs(120);

/// Carries a plan out.
///
/// A failing node is undone and left alone; the others go on, except where the order protects
/// something: after a failed canary nothing else of the stage begins, and after a failed member of a
/// serial group no further serial group does.
///
/// # Errors
/// If the run's record cannot be written. What was begun then goes back by itself or is named in
/// the record.
pub fn execute(c: &Execution<'_>, sessions: Sessions) -> Result<Outcomes, RecordError> {
    let sessions = Mutex::new(sessions);
    let mut outcomes = Outcomes::new();
    let mut out: BTreeMap<NodeName, String> = BTreeMap::new();
    let mut promoted = false;
    // Before anything else: the new firewall of the remaining nodes no longer lets these members in.
    if let Err(why) = members::remove_planned(c, &sessions)? {
        out.extend(c.plan.nodes.keys().map(|n| (n.clone(), why.clone())));
        if c.plan.stages.is_empty() {
            for node in c.plan.nodes.keys() {
                let outcome = Outcome::Refused { why: why.clone() };
                finish(c, &mut outcomes, node, Phase::Etcd, &outcome)?;
            }
        }
    }
    for stage in &c.plan.stages {
        if stage.phase > Phase::Etcd && !std::mem::replace(&mut promoted, true) {
            promote_those_left(c, &sessions, &mut outcomes, &mut out)?;
        }
        // After a failed canary nothing else begins; after a failed serial group no further one.
        let mut stop_all: Option<String> = None;
        let mut stop_serial: Option<String> = None;
        for (number, group) in stage.groups.iter().enumerate() {
            let serial = group.len() == 1;
            if stage.phase == Phase::Kubernetes && stop_all.is_none() {
                stop_all = out_of_date(c, group, &out);
            }
            let stopped = stop_all.clone().or_else(|| stop_serial.clone().filter(|_| serial));
            let (run, skip): (Vec<&NodeName>, Vec<&NodeName>) =
                group.iter().partition(|n| !out.contains_key(*n) && stopped.is_none());
            for name in skip {
                let why = out.get(name).or(stopped.as_ref()).cloned().unwrap_or_default();
                let outcome = Outcome::Skipped { why };
                finish(c, &mut outcomes, name, stage.phase, &outcome)?;
                out.entry(name.clone()).or_insert_with(|| "an earlier stage was left out".into());
            }
            for (name, outcome) in run_group(c, stage, &run, &sessions)? {
                finish(c, &mut outcomes, &name, stage.phase, &outcome)?;
                if outcome.is_good() {
                    continue;
                }
                let why = format!("{} failed on {name}", stage.phase.name());
                // A canary that cannot be reached says nothing about the change.
                let unreachable = matches!(outcome, Outcome::Unreachable { .. });
                if serial && number == 0 && stage.groups.len() > 1 && !unreachable {
                    stop_all = Some(why.clone());
                } else if serial && (!unreachable || stage.gate == Gate::EtcdQuorum) {
                    stop_serial = Some(why.clone());
                }
                out.insert(name, why);
            }
            // Without it there is nothing to join, and every node would find that out after minutes.
            let founder = group.iter().find(|n| c.plan.nodes.get(*n).is_some_and(NodePlan::founds));
            if stage.phase == Phase::Kubernetes
                && let Some(name) = founder.filter(|n| out.contains_key(*n))
            {
                stop_all = Some(format!("{name} did not start the cluster"));
            }
        }
    }
    if !promoted {
        promote_those_left(c, &sessions, &mut outcomes, &mut out)?;
    }
    Ok(outcomes)
}

/// Why no node may join: every control plane that was to update the configuration kept in the cluster has failed, so
/// joining nodes would get the old one, and the next plan would not notice.
fn out_of_date(
    c: &Execution<'_>,
    group: &[NodeName],
    out: &BTreeMap<NodeName, String>,
) -> Option<String> {
    let is = |name: &NodeName, wanted: Join| {
        let node = c.plan.nodes.get(name);
        let mut steps = node.iter().flat_map(|n| &n.transactions).flat_map(|t| &t.steps);
        steps.any(|a| matches!(a.step, Step::Member { way, .. } if way == wanted))
    };
    let planes = c.inventory.with_role(Role::ControlPlane).map(|n| &n.name);
    let keepers: Vec<&NodeName> = planes.filter(|n| is(n, Join::Configure)).collect();
    let joins = group.iter().any(|n| is(n, Join::Join));
    let failed = !keepers.is_empty() && keepers.iter().all(|n| out.contains_key(*n));
    (joins && failed)
        .then(|| format!("{} did not update the configuration that joining nodes get", keepers[0]))
}

fn promote_those_left(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    outcomes: &mut Outcomes,
    out: &mut BTreeMap<NodeName, String>,
) -> Result<(), RecordError> {
    for (node, why) in members::promote_those_left(c, sessions, |n| out.contains_key(n))? {
        finish(c, outcomes, &node, Phase::Etcd, &Outcome::Unready { why: why.clone() })?;
        out.insert(node, why);
    }
    Ok(())
}

fn finish(
    c: &Execution<'_>,
    outcomes: &mut Outcomes,
    node: &NodeName,
    phase: Phase,
    outcome: &Outcome,
) -> Result<(), RecordError> {
    c.journal.write(&Line::Result { node: node.clone(), phase, outcome: outcome.clone() })?;
    let how = match outcome {
        Outcome::Committed => format!("{} done", phase.name()),
        Outcome::Reverted { why } => format!("{} undone: {why}", phase.name()),
        Outcome::Refused { why } => format!("{} refused: {why}", phase.name()),
        Outcome::Unreachable { why } => format!("unreachable: {why}"),
        Outcome::Skipped { why } => format!("{} left out: {why}", phase.name()),
        Outcome::Incomplete { why } => format!("{} INCOMPLETE: {why}", phase.name()),
        Outcome::Unready { why } => format!("{} done, but {why}", phase.name()),
    };
    c.sink.send(Event::End { node: node.clone(), how, good: outcome.is_good() });
    outcomes.entry(node.clone()).or_default().insert(phase, outcome.clone());
    Ok(())
}

fn run_group(
    c: &Execution<'_>,
    stage: &Stage,
    names: &[&NodeName],
    sessions: &Mutex<Sessions>,
) -> Result<Vec<(NodeName, Outcome)>, RecordError> {
    let work: Vec<(&Node, &Transaction)> = names
        .iter()
        .filter_map(|name| {
            let node = c.inventory.nodes.iter().find(|n| n.name == **name)?;
            let plan = c.plan.nodes.get(*name)?;
            Some((node, plan.transactions.iter().find(|t| t.phase == stage.phase)?))
        })
        .collect();
    if stage.gate == Gate::EtcdQuorum
        && let [(node, transaction)] = work[..]
        && let Some(peer_url) = members::addition(c.plan, &node.name)
    {
        return Ok(vec![(node.name.clone(), join_etcd(c, node, transaction, peer_url, sessions)?)]);
    }
    if stage.gate == Gate::EtcdQuorum
        && let Some(problem) = others_healthy(c, &work, sessions)
    {
        let refused = |node: &Node| (node.name.clone(), Outcome::Refused { why: problem.clone() });
        return Ok(work.iter().map(|(node, _)| refused(node)).collect());
    }
    if stage.gate == Gate::NodesReady {
        let results = fleet::each(work, fleet::WINDOW, |(node, transaction)| {
            let outcome = match transaction::switch(c, node, transaction, sessions)? {
                Err(outcome) => outcome,
                Ok(None) => joined(c, node),
                Ok(Some(s)) => transaction::confirm(c, node, &s, sessions),
            };
            Ok((node.name.clone(), outcome))
        });
        return results.into_iter().collect();
    }
    if stage.gate == Gate::Reachable {
        // Each node is confirmed as soon as it has switched: its time to be confirmed is running, and
        // a slow one must not use up the others'.
        let alone = work.len() == 1;
        let results = fleet::each(work, fleet::WINDOW, |(node, transaction)| {
            // Canaries, control planes and etcd members go alone; workers do as the canary did.
            let filters = transaction.steps.iter().any(|a| matches!(a.step, Step::Firewall { .. }));
            let before =
                if alone && filters { open_ways(c, node, sessions) } else { BTreeSet::new() };
            // A change without a confirmation cannot cut access.
            let paths = if transaction.confirm_within_s.is_some() {
                let which = if alone { Which::AndThrough } else { Which::Own };
                access_paths::working(c.dialer, access_paths::of(c.inventory, node, which))
            } else {
                Vec::new()
            };
            let outcome = match transaction::switch(c, node, transaction, sessions)? {
                Err(outcome) => outcome,
                Ok(None) => Outcome::Committed,
                Ok(Some(s)) => match closed_way(c, node, &before, sessions)
                    .or_else(|| access_paths::lost(c.dialer, &paths))
                {
                    Some(why) => transaction::take_back(c, node, &s, sessions, &why),
                    None => transaction::confirm(c, node, &s, sessions),
                },
            };
            Ok((node.name.clone(), outcome))
        });
        return results.into_iter().collect();
    }
    // All nodes of the group switch; only then does the gate look; only then is anything confirmed.
    let switched = fleet::each(work.clone(), fleet::WINDOW, |(node, transaction)| {
        transaction::switch(c, node, transaction, sessions)
    });
    let mut verdicts: BTreeMap<&NodeName, Result<(), String>> = BTreeMap::new();
    let alive: Vec<&Node> = work
        .iter()
        .zip(&switched)
        .filter(|(_, s)| matches!(s, Ok(Ok(_))))
        .map(|((n, _), _)| *n)
        .collect();
    for (node, verdict) in etcd_verdicts(c, &alive, sessions) {
        verdicts.insert(node, verdict);
    }
    let pairs: Vec<_> = work.into_iter().zip(switched).collect();
    let results = fleet::each(pairs, fleet::WINDOW, |((node, _), switched)| {
        let outcome = match switched {
            Err(e) => return Err(e),
            Ok(Err(outcome)) => outcome,
            Ok(Ok(None)) => Outcome::Committed,
            Ok(Ok(Some(s))) => match verdicts.get(&node.name) {
                Some(Err(why)) => transaction::take_back(c, node, &s, sessions, why),
                _ => transaction::confirm(c, node, &s, sessions),
            },
        };
        Ok((node.name.clone(), outcome))
    });
    results.into_iter().collect()
}

/// Makes a node an etcd member: adds it as a learner, starts it with the current members, and promotes it once it has
/// caught up. On any failure it is removed again.
fn join_etcd(
    c: &Execution<'_>,
    node: &Node,
    transaction: &Transaction,
    peer_url: &str,
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
    let outcome = match transaction::switch(c, node, transaction, sessions)? {
        Err(outcome) => outcome,
        // It is guarded, and would have to be asked.
        Ok(None) => Outcome::Committed,
        Ok(Some(s)) => {
            let ready = members::promote(c, sessions, node, id).and_then(|()| {
                let verdicts = etcd_verdicts(c, &[node], sessions);
                verdicts.into_iter().try_for_each(|(_, verdict)| verdict)
            });
            match ready {
                Ok(()) => transaction::confirm(c, node, &s, sessions),
                Err(why) => transaction::take_back(c, node, &s, sessions, &why),
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

/// The ways to a node that are open now.
fn open_ways(c: &Execution<'_>, node: &Node, sessions: &Mutex<Sessions>) -> BTreeSet<Way> {
    let mut open = ways::to(c.inventory, node);
    open.retain(|way| is_open(c, node, way, sessions));
    open
}

/// The first way that was open and is not any more.
fn closed_way(
    c: &Execution<'_>,
    node: &Node,
    before: &BTreeSet<Way>,
    sessions: &Mutex<Sessions>,
) -> Option<String> {
    let closed = before.iter().find(|way| !is_open(c, node, way, sessions))?;
    Some(format!("{} does not reach its port {} any more", closed.from, closed.port))
}

fn is_open(c: &Execution<'_>, node: &Node, way: &Way, sessions: &Mutex<Sessions>) -> bool {
    let Some(from) = c.inventory.nodes.iter().find(|n| n.name == way.from) else { return false };
    with_session(c, from, sessions, |s| Ok(ways::is_open(s, node, way.port))) == Ok(true)
}

/// Whether a node that has joined is Ready, by the word of an API server.
fn joined(c: &Execution<'_>, node: &Node) -> Outcome {
    let Some(access) = c.api else { return Outcome::Committed };
    c.sink.send(Event::Waiting { node: node.name.clone(), what: "the node to be Ready".into() });
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

/// `Some(problem)` if a member is about to stop whose quorum might be lost by it. Mending one that
/// is stopped can only help.
fn others_healthy(
    c: &Execution<'_>,
    work: &[(&Node, &Transaction)],
    sessions: &Mutex<Sessions>,
) -> Option<String> {
    let access = c.etcd?;
    let health =
        |node: &Node, ip| with_session(c, node, sessions, |s| gate::member_health(s, ip, access));
    let own: Vec<(&Node, Result<(), String>)> =
        work.iter().map(|(node, _)| (*node, health(node, node.internal_ip()))).collect();
    let stopped = |node: &Node| {
        with_session(c, node, sessions, |s| Ok(gate::is_stopped(s, node.internal_ip()))) == Ok(true)
    };
    let healthy = own.iter().any(|(_, h)| h.is_ok());
    if !healthy && own.iter().all(|(node, _)| stopped(node)) {
        return None;
    }
    let changing: BTreeSet<&NodeName> = work.iter().map(|(n, _)| &n.name).collect();
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
    (!problems.is_empty()).then(|| {
        format!("stopping a member now could cost the quorum, since {}", problems.join("; "))
    })
}

fn etcd_verdicts<'n>(
    c: &Execution<'_>,
    nodes: &[&'n Node],
    sessions: &Mutex<Sessions>,
) -> Vec<(&'n NodeName, Result<(), String>)> {
    let Some(access) = c.etcd else {
        // Nothing is confirmed that could not be checked.
        let why = || Err("the key store has no certificate to ask etcd with".to_owned());
        return nodes.iter().map(|node| (&node.name, why())).collect();
    };
    let within = Duration::from_secs(u64::from(crate::plan::diff::CONFIRM_ETCD_S) - 120);
    fleet::each(nodes.to_vec(), fleet::WINDOW, |node| {
        c.sink.send(Event::Waiting { node: node.name.clone(), what: "etcd to be healthy".into() });
        let verdict = with_session(c, node, sessions, |s| {
            gate::wait_for_member(s, node.internal_ip(), access, within)
        });
        (&node.name, verdict.map_err(|why| format!("etcd on {}: {why}", node.name)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;
    use crate::apply::record::Journal;
    use crate::apply::record::RunKind;
    use crate::apply::{CALL_SCRIPT, STAGE_SCRIPT};
    use crate::clock::Clock;
    use crate::desired::DesiredState;
    use crate::desired::NodeDesired;
    use crate::event::Silent;
    use crate::inventory::Inventory;
    use crate::inventory::{SshTarget, testing};
    use crate::plan::Action;
    use crate::plan::Plan;
    use crate::plan::order::{EtcdState, stages};
    use crate::transport::Dialer;
    use crate::transport::Transport;
    use crate::transport::TransportError;
    use crate::transport::played::Played;

    /// What becomes of a plan whose nodes a dialer plays.
    fn executed(inventory: &Inventory, plan: &Plan, dialer: &dyn Dialer) -> Outcomes {
        let empty = || NodeDesired { items: vec![], notes: vec![] };
        let nodes = inventory.nodes.iter().map(|n| (n.name.clone(), empty())).collect();
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(dir.path(), RunKind::Apply, None, "c", Clock::System).unwrap();
        let execution = Execution {
            plan,
            desired: &DesiredState { nodes },
            inventory,
            dialer,
            etcd: None,
            api: None,
            bundle: None,
            sink: &Silent,
            journal: &journal,
            clock: Clock::System,
        };
        execute(&execution, Sessions::new()).unwrap()
    }

    /// Whether the fast node was confirmed.
    static CONFIRMED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// Nodes that answer as `txn.sh` does; `slow` is done only once `fast` was confirmed.
    fn fast_and_slow(host: &str, script: &str, input: &[u8]) -> String {
        let line = String::from_utf8_lossy(input);
        let verb = line.split(' ').nth(1).unwrap_or_default();
        let (lock, changed) = &CONFIRMED;
        match (script, verb) {
            (STAGE_SCRIPT, verb) if verb.starts_with("switch\n") => {
                let begun = "@prepared\n@step 1 begin\n";
                if host.ends_with('2') {
                    let confirmed = lock.lock().unwrap();
                    let wait = Duration::from_secs(5);
                    let (confirmed, _) =
                        changed.wait_timeout_while(confirmed, wait, |c| !*c).unwrap();
                    if !*confirmed {
                        return format!("{begun}@state reverted\n");
                    }
                }
                format!("{begun}@armed x 60\n@state switched\n")
            }
            (CALL_SCRIPT, "confirm") => {
                *lock.lock().unwrap() = true;
                changed.notify_all();
                "@state committed\n".into()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Lets in until the change is made, and then by the first address alone.
    struct FirstAddressAlone;

    static SWITCHED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

    fn switches(_: &str, script: &str, input: &[u8]) -> String {
        let line = String::from_utf8_lossy(input);
        match (script, line.split(' ').nth(1).unwrap_or_default()) {
            (STAGE_SCRIPT, verb) if verb.starts_with("switch\n") => {
                SWITCHED.store(true, std::sync::atomic::Ordering::SeqCst);
                "@prepared\n@step 1 begin\n@armed x 60\n@state switched\n".into()
            }
            (CALL_SCRIPT, "confirm") => "@state committed\n".into(),
            (CALL_SCRIPT, "revert") => "@state reverted\n".into(),
            other => panic!("{other:?}"),
        }
    }

    impl Dialer for FirstAddressAlone {
        fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError> {
            let switched = SWITCHED.load(std::sync::atomic::Ordering::SeqCst);
            if switched && target.host.as_str().contains(':') {
                return Err(TransportError::Deadline { what: "connecting", timeout_s: 5 });
            }
            Played(&switches).connect(target)
        }
    }

    #[test]
    fn a_change_that_shuts_another_way_in_is_taken_back() {
        let inventory = testing::with(
            "nodes:\n- {name: n, addresses: [10.0.0.1, 'fd00::1'], roles: [worker]}\n",
        );
        let step = Action { step: Step::SwapOff, controls: BTreeSet::new(), why: String::new() };
        let transaction = Transaction {
            phase: Phase::Host,
            confirm_within_s: Some(60),
            steps: vec![step],
            expect: BTreeMap::new(),
        };
        let names: Vec<NodeName> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
        let node = NodePlan { transactions: vec![transaction], ..NodePlan::default() };
        let plans = names.iter().map(|n| (n.clone(), node.clone())).collect();
        let stage =
            Stage { phase: Phase::Host, groups: vec![names.clone()], gate: Gate::Reachable };
        let plan = Plan::new("c".into(), String::new(), plans, vec![stage]);
        let outcomes = executed(&inventory, &plan, &FirstAddressAlone);
        match &outcomes[&names[0]][&Phase::Host] {
            Outcome::Reverted { why } => {
                assert!(why.contains("no longer reaches n at fd00::1"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_node_does_not_use_up_the_time_of_the_others_to_be_confirmed() {
        let inventory = testing::of_nodes([("fast", Role::Worker), ("slow", Role::Worker)]);
        let step = Action { step: Step::SwapOff, controls: BTreeSet::new(), why: String::new() };
        let transaction = Transaction {
            phase: Phase::Host,
            confirm_within_s: Some(60),
            steps: vec![step],
            expect: BTreeMap::new(),
        };
        let names: Vec<NodeName> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
        let node = NodePlan { transactions: vec![transaction], ..NodePlan::default() };
        let plans = names.iter().map(|n| (n.clone(), node.clone())).collect();
        let stage =
            Stage { phase: Phase::Host, groups: vec![names.clone()], gate: Gate::Reachable };
        let plan = Plan::new("c".into(), String::new(), plans, vec![stage]);
        let outcomes = executed(&inventory, &plan, &Played(&fast_and_slow));
        assert!(outcomes.values().all(|p| p[&Phase::Host] == Outcome::Committed), "{outcomes:?}");
    }

    /// They would get the configuration of before, and no later plan would tell.
    #[test]
    fn nobody_joins_while_the_cluster_keeps_an_older_configuration() {
        let nodes = [("a", Role::ControlPlane), ("b", Role::ControlPlane), ("w", Role::Worker)];
        let inventory = testing::of_nodes(nodes);
        let plan_of = |way| {
            let step = Step::Member { way, mark: "m".into() };
            let action = Action { step, controls: BTreeSet::new(), why: String::new() };
            let transaction = Transaction {
                phase: Phase::Kubernetes,
                confirm_within_s: None,
                steps: vec![action],
                expect: BTreeMap::new(),
            };
            NodePlan { transactions: vec![transaction], ..NodePlan::default() }
        };
        let plans: BTreeMap<NodeName, NodePlan> =
            [("a", Join::Join), ("b", Join::Configure), ("w", Join::Join)]
                .map(|(n, way)| (n.parse().unwrap(), plan_of(way)))
                .into();
        let stages = stages(&inventory, &plans, EtcdState::Running);
        assert_eq!(stages[0].groups[0][0].as_str(), "b", "it tells the cluster first");
        let plan = Plan::new("c".into(), String::new(), plans, stages);
        let played = Played(&|host, _, _| match host {
            "10.0.0.2" => "@prepared\n@step 1 begin\n@state reverted\n".into(),
            other => panic!("{other} is to be left alone"),
        });
        let outcomes = executed(&inventory, &plan, &played);
        for joining in ["a", "w"] {
            let outcome = &outcomes[&joining.parse::<NodeName>().unwrap()][&Phase::Kubernetes];
            assert!(matches!(outcome, Outcome::Skipped { .. }), "{joining}: {outcome:?}");
        }
    }

    #[test]
    fn nobody_joins_a_cluster_that_was_not_started() {
        let nodes = [("a", Role::ControlPlane), ("b", Role::ControlPlane), ("w", Role::Worker)];
        let inventory = testing::of_nodes(nodes);
        /// The first node's machine is gone; nobody else is to be asked for anything.
        struct Gone;
        impl Dialer for Gone {
            fn connect(
                &self,
                target: &crate::inventory::SshTarget,
            ) -> Result<Box<dyn Transport>, TransportError> {
                assert_eq!(target.host.to_string(), "10.0.0.1");
                let source = std::io::ErrorKind::TimedOut.into();
                Err(TransportError::Connect { address: "10.0.0.1:22".into(), source })
            }
        }
        let plan_of = |way| {
            let step = Step::Member { way, mark: String::new() };
            let action = Action { step, controls: BTreeSet::new(), why: String::new() };
            let transaction = Transaction {
                phase: Phase::Kubernetes,
                confirm_within_s: None,
                steps: vec![action],
                expect: BTreeMap::new(),
            };
            NodePlan { transactions: vec![transaction], ..NodePlan::default() }
        };
        let name = |n: &str| n.parse::<NodeName>().unwrap();
        let plans: BTreeMap<NodeName, NodePlan> =
            [("a", Join::Init), ("b", Join::Join), ("w", Join::Join)]
                .map(|(n, way)| (name(n), plan_of(way)))
                .into();
        let stages = stages(&inventory, &plans, EtcdState::Running);
        let plan = Plan::new("c".into(), String::new(), plans, stages);
        let outcomes = executed(&inventory, &plan, &Gone);
        let of = |n: &str| &outcomes[&name(n)][&Phase::Kubernetes];
        assert!(matches!(of("a"), Outcome::Unreachable { .. }), "{outcomes:?}");
        for joining in ["b", "w"] {
            let wanted = Outcome::Skipped { why: "a did not start the cluster".into() };
            assert_eq!(*of(joining), wanted);
        }
    }
}
