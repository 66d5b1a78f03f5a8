//! Adds and removes etcd members of a running cluster: one at a time, and only while all other members are healthy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::etcd;
use super::execution::{Execution, Sessions, with_session};
use super::gate::{self, EtcdAccess};
use crate::error::Problem;
use crate::event::Event;
use crate::facts::etcd::Listed;
use crate::inventory::{Node, NodeName};
use crate::plan::EtcdChange;
use crate::runs::record::{Line, RecordError};
use crate::transport::Transport;

/// How long the others may take to become healthy after a removal: an election takes a second or two.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a learner may take to catch up: 8 GB over a slow network. The node's own deadline undoes the change if it
/// ends first.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Pause between two checks.
const POLL: Duration = Duration::from_millis(500);

fn id_of(hex: &str) -> Result<u64, String> {
    u64::from_str_radix(hex, 16).map_err(|_| format!("{hex} is not a member id"))
}

/// Asks the members in turn, each through its own node, until one succeeds.
fn any<R>(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    of: &[(NodeName, IpAddr)],
    question: impl Fn(&mut dyn Transport, IpAddr, &EtcdAccess) -> Result<R, String>,
) -> Result<R, String> {
    let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
    let mut last = String::from("no member is reachable");
    for (name, ip) in of {
        let Some(node) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        match with_session(c, node, sessions, |s| question(s, *ip, access)) {
            Ok(answer) => return Ok(answer),
            Err(why) => last = format!("{name}: {why}"),
        }
    }
    Err(last)
}

/// Nodes of the inventory that are members now, by the list and their peer URLs.
pub(super) fn voting(access: &EtcdAccess, list: &[Listed]) -> Vec<(NodeName, IpAddr)> {
    let is = |ip: &IpAddr| {
        let url = crate::desired::peer_url(*ip);
        list.iter().any(|m| !m.learner && m.peer_urls.contains(&url))
    };
    access.members.iter().filter(|(_, ip)| is(ip)).cloned().collect()
}

/// Retries a change that etcd refuses as `unhealthy cluster`: it does so until every member has been connected to all others
/// for five seconds (`HealthInterval` of its server), for example after an earlier change.
fn patiently<R>(mut change: impl FnMut() -> Result<R, String>) -> Result<R, String> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match change() {
            Err(why) if why.contains("unhealthy cluster") && Instant::now() < deadline => {
                std::thread::sleep(POLL);
            }
            other => return other,
        }
    }
}

/// The member list of the first member that answers.
pub(super) fn list(c: &Execution<'_>, sessions: &Mutex<Sessions>) -> Result<Vec<Listed>, String> {
    let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
    any(c, sessions, &access.members, etcd::list)
}

/// Waits until all given members are healthy.
fn all_healthy(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    of: &[(NodeName, IpAddr)],
    within: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        let sick = of
            .iter()
            .find_map(|one| any(c, sessions, std::slice::from_ref(one), gate::member_health).err());
        match sick {
            None => return Ok(()),
            Some(why) if Instant::now() >= deadline => return Err(why),
            Some(_) => std::thread::sleep(POLL),
        }
    }
}

/// Makes a planned change that is not part of a node's transaction. A member is removed only while the remaining ones, which
/// are those that the plan does not remove, are healthy before and after.
///
/// # Errors
/// Why it was not made.
pub(super) fn change(
    c: &Execution<'_>,
    change: &EtcdChange,
    sessions: &Mutex<Sessions>,
) -> Result<(), String> {
    match change {
        EtcdChange::Remove { node, id, .. } => {
            if let Some(node) = node {
                let what = "its etcd member to be removed".to_owned();
                c.sink.send(Event::Waiting { node: node.clone(), what });
            }
            let removed = c.plan.etcd().filter_map(|change| match change {
                EtcdChange::Remove { id, .. } => Some(id),
                _ => None,
            });
            let removed: BTreeSet<String> = removed.collect();
            let list = list(c, sessions)?;
            let stay: Vec<Listed> =
                list.into_iter().filter(|m| !removed.contains(&m.hex())).collect();
            let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
            remove_member(c, sessions, &voting(access, &stay), id_of(id)?)
        }
        EtcdChange::Promote { node: name, id } => {
            let node = c.inventory.nodes.iter().find(|n| n.name == *name);
            let node = node.ok_or_else(|| format!("the inventory has no node {name}"))?;
            promote(c, sessions, node, id_of(id)?)
        }
        EtcdChange::Add { .. } => Err("a member is added with its node's transaction".into()),
    }
}

/// The problem for a removal that was not made.
pub(super) fn not_changed(change: &EtcdChange, why: String) -> Problem {
    match change {
        EtcdChange::Remove { node: Some(node), .. } => {
            Problem::new("its etcd member was not removed")
                .at(node.to_string())
                .because(why)
                .left("it was not reset")
                .hint(
                    "a member is removed only while all others are healthy; run `kubectl uncordon` to                      schedule pods on the node again",
                )
        }
        change => Problem::new(format!("cannot {change}"))
            .at("etcd")
            .because(why)
            .left("the changes that depend on it were not started")
            .hint("run `kubastion plan` to see the remaining changes"),
    }
}

fn remove_member(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    stay: &[(NodeName, IpAddr)],
    id: u64,
) -> Result<(), String> {
    if stay.is_empty() {
        return Err("no member of the inventory would remain".into());
    }
    all_healthy(c, sessions, stay, Duration::ZERO)
        .map_err(|why| format!("a remaining member is unhealthy: {why}"))?;
    patiently(|| any(c, sessions, stay, |s, ip, access| etcd::remove(s, ip, access, id)))?;
    all_healthy(c, sessions, stay, SETTLE).map_err(|why| {
        format!("the member was removed, but another member is now unhealthy: {why}")
    })
}

/// Adds a member that is about to start. Returns its id.
///
/// # Errors
/// An unhealthy member, or a member list that differs from the plan.
pub(super) fn add_learner(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    node: &Node,
    peer_url: &str,
    members: &str,
) -> Result<u64, String> {
    let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
    let list = list(c, sessions)?;
    // The new member starts with exactly these members, or not at all.
    let planned: BTreeSet<&str> =
        members.split(',').filter_map(|m| Some(m.split_once('=')?.1)).collect();
    let mut found: BTreeSet<&str> =
        list.iter().flat_map(|m| &m.peer_urls).map(String::as_str).collect();
    found.insert(peer_url);
    if planned != found || list.iter().any(|m| m.peer_urls.iter().any(|u| u == peer_url)) {
        return Err("etcd's members have changed since the plan was made".into());
    }
    let stay = voting(access, &list);
    all_healthy(c, sessions, &stay, SETTLE)
        .map_err(|why| format!("another member is unhealthy: {why}"))?;
    c.sink.send(Event::Waiting {
        node: node.name.clone(),
        what: "etcd to add it as a learner".into(),
    });
    let added = patiently(|| {
        any(c, sessions, &stay, |s, ip, access| etcd::add_learner(s, ip, access, peer_url))
    });
    added.or_else(|why| {
        // The answer may have been lost: it was not there before.
        let list = self::list(c, sessions).map_err(|_| why.clone())?;
        let it = list.iter().find(|m| m.learner && m.peer_urls == [peer_url]);
        it.map(|m| m.id).ok_or(why)
    })
}

/// Promotes a learner once it has caught up.
///
/// # Errors
/// The last answer, and the last words of its log.
pub(super) fn promote(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    node: &Node,
    id: u64,
) -> Result<(), String> {
    let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
    let others: Vec<(NodeName, IpAddr)> =
        access.members.iter().filter(|(name, _)| *name != node.name).cloned().collect();
    let voters = list(c, sessions).map(|list| voting(access, &list))?;
    let others = if voters.is_empty() { others } else { voters };
    c.sink.send(Event::Waiting {
        node: node.name.clone(),
        what: "the new etcd member to catch up".into(),
    });
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let asked = any(c, sessions, &others, |s, ip, access| etcd::promote(s, ip, access, id));
        let Err(why) = asked else { return Ok(()) };
        let words = with_session(c, node, sessions, |s| Ok(gate::last_words(s)));
        let (restarts, words) = words.unwrap_or_default();
        if restarts >= gate::RESTARTS || Instant::now() >= deadline {
            return Err(format!("the member could not be promoted: {why}\n{words}"));
        }
        std::thread::sleep(POLL);
    }
}

/// Removes a member that was added for a node whose transaction failed. Returns the message if that fails.
pub(super) fn remove_after_failure(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    node: &Node,
    id: u64,
) -> Option<String> {
    let access = c.etcd?;
    let others: Vec<(NodeName, IpAddr)> =
        access.members.iter().filter(|(name, _)| *name != node.name).cloned().collect();
    let remove = || any(c, sessions, &others, |s, ip, access| etcd::remove(s, ip, access, id));
    let why = patiently(remove).err()?;
    Some(format!("it is still listed as etcd member {id:x}, which the next plan removes: {why}"))
}

/// Records the result of an addition.
pub(super) fn record_addition(
    c: &Execution<'_>,
    node: &NodeName,
    peer_url: &str,
    result: &Result<(), String>,
) -> Result<(), RecordError> {
    let change = EtcdChange::Add { node: node.clone(), peer_url: peer_url.to_owned() };
    let problem = result.as_ref().err().cloned();
    c.sink.send(Event::Object { what: change.to_string(), problem: problem.clone() });
    let change = serde_json::to_value(change).unwrap_or_default();
    c.journal.write(&Line::Etcd { change, problem })
}
