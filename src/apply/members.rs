//! Adds and removes etcd members of a running cluster: one at a time, and only while all other members are healthy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::etcd;
use super::execution::{Execution, Sessions, with_session};
use super::gate::{self, EtcdAccess};
use super::record::{Line, RecordError};
use crate::error::chain;
use crate::event::Event;
use crate::facts::etcd::Listed;
use crate::inventory::{Inventory, Node, NodeName};
use crate::plan::{EtcdChange, Plan};
use crate::transport::{Dialer, Transport};

/// How long the others may take to become healthy after a removal: an election takes a second or two.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a learner may take to catch up: 8 GB over a slow network. The node's own deadline undoes the change if it
/// ends first.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Pause between two checks.
const POLL: Duration = Duration::from_millis(500);

/// The peer URL under which the plan adds this node to etcd, if it does.
pub(super) fn addition<'p>(plan: &'p Plan, node: &NodeName) -> Option<&'p str> {
    plan.etcd.iter().find_map(|c| match c {
        EtcdChange::Add { node: of, peer_url } if of == node => Some(peer_url.as_str()),
        _ => None,
    })
}

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

/// Waits until all of some members are healthy.
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

fn record_change(
    c: &Execution<'_>,
    change: &EtcdChange,
    result: &Result<(), String>,
) -> Result<(), RecordError> {
    let problem = result.as_ref().err().cloned();
    c.sink.send(Event::Object { what: change.to_string(), problem: problem.clone() });
    c.journal.write(&Line::Etcd { change: change.clone(), problem })
}

/// Removes the members that the plan removes, one at a time, and only while the remaining ones are healthy before and after.
/// The inner error is why it stopped.
pub(super) fn remove_planned(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
) -> Result<Result<(), String>, RecordError> {
    let removed: BTreeSet<&str> = c
        .plan
        .etcd
        .iter()
        .filter_map(|change| match change {
            EtcdChange::Remove { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    for change in &c.plan.etcd {
        let EtcdChange::Remove { id, .. } = change else { continue };
        let result = list(c, sessions).and_then(|list| {
            let stay: Vec<Listed> =
                list.into_iter().filter(|m| !removed.contains(m.hex().as_str())).collect();
            let access = c.etcd.ok_or("the key store has no client certificate for etcd")?;
            remove_member(c, sessions, &voting(access, &stay), id_of(id)?)
        });
        record_change(c, change, &result)?;
        if let Err(why) = result {
            return Ok(Err(format!("etcd member {id} was not removed: {why}")));
        }
    }
    Ok(Ok(()))
}

fn remove_member(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    stay: &[(NodeName, IpAddr)],
    id: u64,
) -> Result<(), String> {
    if stay.is_empty() {
        return Err("no member that is in the inventory would be left".into());
    }
    all_healthy(c, sessions, stay, Duration::ZERO)
        .map_err(|why| format!("a remaining member is unhealthy: {why}"))?;
    patiently(|| any(c, sessions, stay, |s, ip, access| etcd::remove(s, ip, access, id)))?;
    all_healthy(c, sessions, stay, SETTLE)
        .map_err(|why| format!("it was removed, but another member is unhealthy now: {why}"))
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
    // It starts with exactly these, or not at all.
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
            return Err(format!("it could not be promoted: {why}\n{words}"));
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

/// Promotes learners of an earlier run that have caught up by now. Returns what failed, by node.
pub(super) fn promote_those_left(
    c: &Execution<'_>,
    sessions: &Mutex<Sessions>,
    out: impl Fn(&NodeName) -> bool,
) -> Result<Vec<(NodeName, String)>, RecordError> {
    let mut failed = Vec::new();
    for change in &c.plan.etcd {
        let EtcdChange::Promote { node: name, id } = change else { continue };
        let Some(node) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        if out(name) {
            continue;
        }
        let result = id_of(id).and_then(|id| promote(c, sessions, node, id));
        record_change(c, change, &result)?;
        failed.extend(result.err().map(|why| (name.clone(), why)));
    }
    Ok(failed)
}

/// The members that stay during a reset, which has no plan, and how to reach them.
pub struct Remaining<'a> {
    /// The inventory.
    pub inventory: &'a Inventory,
    /// Opens connections to them.
    pub dialer: &'a dyn Dialer,
    /// How they are asked.
    pub access: &'a EtcdAccess,
    /// Those that leave.
    pub leaving: BTreeSet<&'a NodeName>,
}

impl Remaining<'_> {
    fn each<R>(
        &self,
        mut question: impl FnMut(&mut dyn Transport, IpAddr) -> Result<R, String>,
    ) -> Vec<Result<R, String>> {
        let stay = self.access.members.iter().filter(|(name, _)| !self.leaving.contains(name));
        let ask = |(name, ip): &(NodeName, IpAddr)| {
            let node = self.inventory.nodes.iter().find(|n| n.name == *name);
            let node = node.ok_or_else(|| format!("{name} is not in the inventory"))?;
            let target = self.inventory.ssh.for_node(node);
            let mut session =
                self.dialer.connect(&target).map_err(|e| format!("{name}: {}", chain(&e)))?;
            question(session.as_mut(), *ip).map_err(|why| format!("{name}: {why}"))
        };
        stay.map(ask).collect()
    }

    /// Whether all that stay are healthy.
    ///
    /// # Errors
    /// The first that is not.
    pub fn are_healthy(&self) -> Result<(), String> {
        let asked = self.each(|s, ip| gate::member_health(s, ip, self.access));
        if asked.is_empty() {
            return Err("no member would be left".into());
        }
        asked.into_iter().collect()
    }

    /// Removes a node's member, if it has one, while all others are healthy.
    ///
    /// # Errors
    /// Why it is still a member, or which of the others is unhealthy now.
    pub fn remove(&self, node: &Node) -> Result<(), String> {
        self.are_healthy()?;
        let url = crate::desired::peer_url(node.internal_ip());
        let lists = self.each(|s, ip| etcd::list(s, ip, self.access));
        let list =
            lists.into_iter().find_map(Result::ok).ok_or("etcd's members cannot be listed")?;
        let Some(id) = list.iter().find(|m| m.peer_urls.contains(&url)).map(|m| m.id) else {
            return Ok(());
        };
        patiently(|| {
            let mut done = false;
            let mut asked = self.each(|s, ip| {
                if !done {
                    etcd::remove(s, ip, self.access, id)?;
                    done = true;
                }
                Ok(())
            });
            if done { Ok(()) } else { asked.pop().unwrap_or(Ok(())) }
        })?;
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.are_healthy() {
                Err(why) if Instant::now() >= deadline => return Err(why),
                Err(_) => std::thread::sleep(POLL),
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// Records the result of an addition.
pub(super) fn record_addition(
    c: &Execution<'_>,
    node: &NodeName,
    peer_url: &str,
    result: &Result<(), String>,
) -> Result<(), RecordError> {
    let change = EtcdChange::Add { node: node.clone(), peer_url: peer_url.to_owned() };
    record_change(c, &change, result)
}
