//! Compares etcd's members with the inventory: the changes that a plan makes, and the problems that prevent a plan.
//!
//! A member has an id for life. If it was removed or lost its data, it is added again under a new id, as a learner until it
//! has caught up (etcd documentation, "Learner").

use crate::controls::IdList;
use std::collections::{BTreeMap, BTreeSet};

use super::model::{NodePlan, Transaction};
use super::stage::EtcdChange;
use super::step::{Action, Step};
use super::why::{HeldBack, Why};
use crate::desired::Phase;
use crate::error::Problem;
use crate::facts::etcd::{Listed, Roster};
use crate::inventory::NodeName;
use crate::plan::diff::CONFIRM_ETCD_S;

/// A member as the inventory wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedMember {
    /// Node.
    pub name: NodeName,
    /// Where its peers reach it.
    pub peer_url: String,
    /// What was found on the node; `None` if it was not checked.
    pub found: Option<Found>,
}

/// The state of etcd on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// It has a member's data.
    pub data: bool,
    /// An etcd runs.
    pub runs: bool,
}

/// The changes that the membership needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipChanges {
    /// Members to be removed for good before anything else.
    pub remove: Vec<EtcdChange>,
    /// Nodes that become members, and the id of what they were before.
    pub join: BTreeMap<NodeName, Option<EtcdChange>>,
    /// Learners of an earlier run, to be promoted.
    pub promote: Vec<EtcdChange>,
    /// Peer URLs of the members that stay.
    pub stay: BTreeMap<String, String>,
    /// Problems that prevent a plan.
    pub blocked: Vec<Problem>,
}

/// Share of the quota above which no plan is made: applying it would write more.
const FULL_PERCENT: u64 = 95;

/// Alarms and a full database: problems that prevent any plan.
pub fn health_problems(roster: &Roster, wanted: &[WantedMember]) -> Vec<Problem> {
    let named = |id: u64| {
        let member = roster.members.iter().find(|m| m.id == id);
        let ours = member.and_then(|m| wanted.iter().find(|w| m.peer_urls == [w.peer_url.clone()]));
        ours.map_or_else(|| format!("member {id:x}"), |w| w.name.to_string())
    };
    let mut problems: Vec<Problem> = roster
        .alarms
        .iter()
        .map(|alarm| {
            let (why, hint) = match alarm.kind.as_str() {
                "NOSPACE" => (
                    "etcd is read-only until the alarm is disarmed, so nothing in the cluster can be changed",
                    "run `etcdctl compact`, `etcdctl defrag` on each member, then `etcdctl alarm disarm`; docs/recovery.md has \
                     the commands",
                ),
                "CORRUPT" => (
                    "its data differs from the other members', and it serves no requests",
                    "replace that member (docs/recovery.md, \"A lost node\")",
                ),
                _ => ("kubastion does not know this alarm", "run `etcdctl alarm list` on a member"),
            };
            let kind = &alarm.kind;
            Problem::new(format!("etcd has raised the alarm {kind} for {}", named(alarm.member)))
                .because(why)
                .left("no plan was made")
                .hint(hint)
        })
        .collect();
    let (used, quota) = (roster.db_bytes, roster.quota_bytes);
    if problems.is_empty() && quota > 0 && used / 100 * 100 > quota / 100 * FULL_PERCENT {
        let (used, quota) = (used >> 20, quota >> 20);
        problems.push(
            Problem::new(format!("etcd's database uses {used} MB of its {quota} MB quota"))
                .because("once it is full, etcd raises the alarm NOSPACE and refuses writes")
                .left("no plan was made")
                .hint(
                    "run `etcdctl compact` and `etcdctl defrag`; docs/recovery.md has the commands",
                ),
        );
    }
    problems
}

/// Compares the member list with the inventory, by name and peer URL.
pub fn compare(roster: &Roster, wanted: &[WantedMember]) -> MembershipChanges {
    let mut to = MembershipChanges::default();
    let mut known: BTreeSet<u64> = BTreeSet::new();
    let removal = |m: &Listed, why: &str| EtcdChange::Remove {
        node: None,
        name: m.name.clone(),
        id: m.hex(),
        peer_urls: m.peer_urls.clone(),
        why: why.to_owned(),
    };
    let is_ours = |m: &Listed| wanted.iter().any(|w| m.peer_urls == [w.peer_url.clone()]);
    let mut lost = 0;
    for w in wanted {
        let listed = roster.members.iter().find(|m| m.peer_urls == [w.peer_url.clone()]);
        if let Some(m) = listed {
            known.insert(m.id);
        }
        // Known only by its name: the same machine at a new address, or another machine.
        let elsewhere =
            roster.members.iter().find(|m| m.started && m.name == w.name.as_str() && !is_ours(m));
        match (listed, elsewhere, w.found) {
            (None, Some(m), found) if found.is_none_or(|f| f.data) => {
                known.insert(m.id);
                to.blocked.push(other_url(w, m));
            }
            (None, Some(m), _) => {
                known.insert(m.id);
                lost += usize::from(!m.learner);
                let why = "its node has a new address and no etcd data";
                to.join.insert(w.name.clone(), Some(removal(m, why)));
            }
            (None, None, None) => {}
            (None, None, Some(Found { data: true, runs: true })) => to.blocked.push(
                Problem::new("an etcd that is not a member of the cluster runs here")
                    .at(w.name.to_string())
                    .because("kubastion cannot tell which of the two holds the cluster's data")
                    .left("no plan was made")
                    .hint("run `etcdctl member list` against both, and stop the etcd that you do not need"),
            ),
            (None, None, Some(_)) => {
                to.join.insert(w.name.clone(), None);
            }
            // A founding member that has not started yet: it may still do so.
            (Some(m), _, Some(Found { data: false, .. }))
                if !m.started && !m.learner && m.name == w.name.as_str() => {}
            (Some(m), _, Some(Found { data: false, .. })) => {
                lost += usize::from(!m.learner && m.started);
                to.join.insert(w.name.clone(), Some(removal(m, "its data on the node is missing")));
            }
            (Some(m), _, Some(Found { runs: false, .. })) if !m.started => {
                let why = "it was added but never started, and the data on its node is older";
                to.join.insert(w.name.clone(), Some(removal(m, why)));
            }
            (Some(m), _, Some(_)) if m.learner && m.started => {
                to.promote.push(EtcdChange::Promote { node: w.name.clone(), id: m.hex() });
            }
            // Not checked, or running: no reason for a change.
            (Some(_), ..) => {}
        }
        if listed.is_some() && !to.join.contains_key(&w.name) {
            to.stay.insert(w.peer_url.clone(), w.name.to_string());
        }
    }
    // Members that do not count for the quorum first.
    let mut strangers: Vec<&Listed> =
        roster.members.iter().filter(|m| !known.contains(&m.id)).collect();
    strangers.sort_by_key(|m| (m.started && !m.learner, m.id));
    to.remove = strangers.iter().map(|m| removal(m, "it is not in the inventory")).collect();
    let votes = roster.members.iter().filter(|m| !m.learner).count();
    if lost > 0 && votes - lost < votes / 2 + 1 {
        to.blocked.push(
            Problem::new(format!("{lost} of {votes} etcd members have lost their data"))
                .because("the remaining members have no quorum, and cannot remove or add a member")
                .left("no plan was made")
                .hint("restore etcd from a snapshot; kubastion takes none by itself"),
        );
    }
    if to.stay.is_empty() && to.blocked.is_empty() {
        to.blocked.push(
            Problem::new("no etcd member with the data would remain")
                .because("none of the current members is in the inventory")
                .left("no plan was made")
                .hint("move in two steps: add the new members and apply, then remove the old ones"),
        );
    }
    to
}

fn other_url(w: &WantedMember, m: &Listed) -> Problem {
    let (urls, wanted) = (m.peer_urls.join(", "), &w.peer_url);
    Problem::new(format!("etcd lists this member at {urls}, but the inventory says {wanted}"))
        .at(w.name.to_string())
        .because("its peers could not reach it, and the firewall would block it")
        .left("no plan was made")
        .hint(format!(
            "if the node has a new address, run `etcdctl member update {} --peer-urls={wanted}`; otherwise correct \
             the inventory",
            m.hex()
        ))
}

/// Adds the join step to the plans of new members, one after the other in the order of their names: each starts with the
/// members of that moment. Nodes without a plan are skipped.
pub fn joins(
    to: &MembershipChanges,
    wanted: &[WantedMember],
    plans: &mut BTreeMap<NodeName, NodePlan>,
) -> Vec<EtcdChange> {
    let mut changes = to.remove.clone();
    let able: Vec<(&NodeName, &Option<EtcdChange>)> =
        to.join.iter().filter(|(name, _)| plans.contains_key(*name)).collect();
    changes.extend(able.iter().filter_map(|(_, before)| (*before).clone()));
    let mut cluster = to.stay.clone();
    for (name, _) in &able {
        let Some(w) = wanted.iter().find(|w| w.name == **name) else { continue };
        cluster.insert(w.peer_url.clone(), w.name.to_string());
        let list: Vec<String> = cluster.iter().map(|(url, name)| format!("{name}={url}")).collect();
        let aside = w.found.is_some_and(|f| f.data);
        if let Some(plan) = plans.get_mut(*name) {
            join(plan, list.join(","), aside);
        }
        changes.push(EtcdChange::Add { node: w.name.clone(), peer_url: w.peer_url.clone() });
    }
    let there = |c: &&EtcdChange| match c {
        EtcdChange::Promote { node, .. } => plans.contains_key(node),
        _ => true,
    };
    changes.extend(to.promote.iter().filter(there).cloned());
    changes
}

/// Puts the step into the transaction of the phase, before the units.
fn join(plan: &mut NodePlan, members: String, aside: bool) {
    let step = Step::EtcdJoin { members };
    let why = vec![Why::NotInEtcd { has_data: aside }];
    let action = Action { step, controls: IdList::default(), why };
    let plain = |step| Action { step, controls: IdList::default(), why: Vec::new() };
    let arm = || plain(Step::Arm { within_s: CONFIRM_ETCD_S });
    match plan.transactions.iter_mut().find(|t| t.phase == Phase::Etcd) {
        Some(t) => {
            let at =
                t.steps.iter().position(|a| matches!(a.step, Step::Unit { .. } | Step::Verify));
            t.steps.insert(at.unwrap_or(t.steps.len()), action);
            if t.confirm_within_s.is_none() {
                t.confirm_within_s = Some(CONFIRM_ETCD_S);
                t.steps.insert(0, arm());
            }
        }
        None => {
            let transaction = Transaction {
                phase: Phase::Etcd,
                confirm_within_s: Some(CONFIRM_ETCD_S),
                steps: vec![arm(), action],
                expect: BTreeMap::new(),
            };
            let at = plan.transactions.iter().position(|t| t.phase > Phase::Etcd);
            plan.transactions.insert(at.unwrap_or(plan.transactions.len()), transaction);
        }
    }
}

/// Without a member list: the members without data that must not start, and why. They would found a second cluster if
/// another member has the data.
pub fn must_wait(wanted: &[WantedMember], unasked: &str) -> Option<(Vec<NodeName>, HeldBack)> {
    let data = |w: &&WantedMember| w.found.is_some_and(|f| f.data);
    let without: Vec<NodeName> = wanted
        .iter()
        .filter(|w| w.found.is_some_and(|f| !f.data))
        .map(|w| w.name.clone())
        .collect();
    if without.is_empty() {
        return None;
    }
    if let Some(holder) = wanted.iter().find(data) {
        let (holder, why) = (holder.name.clone(), unasked.to_owned());
        let why = HeldBack::EtcdNotListed { holder, why };
        return Some((without, why));
    }
    let away = wanted.iter().find(|w| w.found.is_none())?;
    let why = HeldBack::MemberUnchecked { node: away.name.clone() };
    Some((without, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::etcd::Alarm;

    fn url(n: u8) -> String {
        format!("https://10.0.0.{n}:2380")
    }

    const HAS: Option<Found> = Some(Found { data: true, runs: true });
    const STOPPED: Option<Found> = Some(Found { data: true, runs: false });
    const BARE: Option<Found> = Some(Found { data: false, runs: false });

    fn wanted(found: &[Option<Found>]) -> Vec<WantedMember> {
        let member = |(n, found): (usize, &Option<Found>)| WantedMember {
            name: format!("cp{}", n + 1).parse().unwrap(),
            peer_url: url(u8::try_from(n + 1).unwrap()),
            found: *found,
        };
        found.iter().enumerate().map(member).collect()
    }

    fn listed(n: u8) -> Listed {
        let name = format!("cp{n}");
        Listed { id: u64::from(n), name, peer_urls: vec![url(n)], started: true, learner: false }
    }

    fn roster(members: Vec<Listed>) -> Roster {
        Roster { members, ..Roster::default() }
    }

    fn three() -> Vec<Listed> {
        vec![listed(1), listed(2), listed(3)]
    }

    fn plans(names: &[&str]) -> BTreeMap<NodeName, NodePlan> {
        names.iter().map(|n| (n.parse().unwrap(), NodePlan::default())).collect()
    }

    fn said(changes: &[EtcdChange]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    fn starts_with(plan: &NodePlan) -> &str {
        let steps = plan.transactions.iter().flat_map(|t| &t.steps);
        let members = steps.filter_map(|a| match &a.step {
            Step::EtcdJoin { members } => Some(members.as_str()),
            _ => None,
        });
        members.collect::<Vec<_>>().first().copied().unwrap_or_default()
    }

    #[test]
    fn three_that_are_members_are_left_alone() {
        for found in [[HAS, HAS, HAS], [HAS, STOPPED, None]] {
            let to = compare(&roster(three()), &wanted(&found));
            let stay = to.stay.len();
            assert_eq!((stay, to.join.len(), to.remove.len(), to.promote.len()), (3, 0, 0, 0));
            assert!(to.blocked.is_empty());
        }
    }

    #[test]
    fn one_becomes_three_one_after_the_other() {
        let w = wanted(&[HAS, BARE, BARE]);
        let to = compare(&roster(vec![listed(1)]), &w);
        let mut plans = plans(&["cp1", "cp2", "cp3"]);
        let changes = joins(&to, &w, &mut plans);
        assert_eq!(
            said(&changes),
            [
                "add cp2 (https://10.0.0.2:2380) to etcd as a learner, and promote it once it has caught up",
                "add cp3 (https://10.0.0.3:2380) to etcd as a learner, and promote it once it has caught up"
            ]
        );
        let of = |n: &str| starts_with(&plans[&n.parse::<NodeName>().unwrap()]);
        assert_eq!(of("cp1"), "");
        assert_eq!(of("cp2"), format!("cp1={},cp2={}", url(1), url(2)));
        assert_eq!(of("cp3"), format!("cp1={},cp2={},cp3={}", url(1), url(2), url(3)));
    }

    #[test]
    fn a_node_that_is_not_ready_is_not_added_and_the_next_one_does_not_wait_for_it() {
        let w = wanted(&[HAS, BARE, BARE]);
        let to = compare(&roster(vec![listed(1)]), &w);
        let mut plans = plans(&["cp1", "cp3"]);
        assert_eq!(joins(&to, &w, &mut plans).len(), 1);
        let of = starts_with(&plans[&"cp3".parse::<NodeName>().unwrap()]);
        assert_eq!(of, format!("cp1={},cp3={}", url(1), url(3)));
    }

    #[test]
    fn four_ways_to_a_replaced_member() {
        let unstarted = Listed { name: String::new(), started: false, ..listed(2) };
        let all = |middle: Listed| vec![listed(1), middle, listed(3)];
        let two = vec![listed(1), listed(3)];
        for (found, list, removed) in [
            // Data lost, or a machine like new: the old member is still listed.
            (BARE, three(), true),
            // Removed by hand; what the node holds is never used again.
            (BARE, two.clone(), false),
            (STOPPED, two, false),
            // Added by hand, and not started.
            (BARE, all(unstarted.clone()), true),
            (STOPPED, all(unstarted), true),
        ] {
            let w = wanted(&[HAS, found, HAS]);
            let to = compare(&roster(list), &w);
            assert!(to.blocked.is_empty() && to.remove.is_empty(), "{to:?}");
            let mut plans = plans(&["cp1", "cp2", "cp3"]);
            let changes = joins(&to, &w, &mut plans);
            let first = matches!(&changes[0], EtcdChange::Remove { id, .. } if id == "2");
            assert_eq!((first, changes.len()), (removed, 1 + usize::from(removed)), "{changes:?}");
            let step = &plans[&"cp2".parse::<NodeName>().unwrap()].transactions[0].steps[1];
            assert!(matches!(step.step, Step::EtcdJoin { .. }));
            assert_eq!(step.why_text().contains("moved aside"), found == STOPPED);
        }
    }

    #[test]
    fn three_become_one_and_only_after_that_is_it_the_only_one() {
        let to = compare(&roster(three()), &wanted(&[HAS]));
        assert_eq!(to.remove.len(), 2);
        assert_eq!(to.stay.len(), 1);
        let text = to.remove[0].to_string();
        assert_eq!(
            text,
            "remove member 2 (cp2, https://10.0.0.2:2380) from etcd: it is not in the inventory"
        );
        // One that was never started costs nothing, and goes first.
        let mut list = three();
        list[2].started = false;
        let to = compare(&roster(list), &wanted(&[HAS]));
        assert!(matches!(&to.remove[0], EtcdChange::Remove { id, .. } if id == "3"));
    }

    #[test]
    fn a_learner_that_was_left_is_given_its_vote() {
        let mut list = three();
        list[2].learner = true;
        for found in [HAS, STOPPED] {
            let to = compare(&roster(list.clone()), &wanted(&[HAS, HAS, found]));
            assert_eq!(said(&to.promote), ["promote cp3 to a voting member of etcd"]);
            assert!(to.join.is_empty() && to.stay.len() == 3, "{to:?}");
        }
    }

    #[test]
    fn one_that_has_not_come_up_with_the_first_ones_starts_as_they_did() {
        let mut list = three();
        list[2].started = false;
        let to = compare(&roster(list), &wanted(&[HAS, HAS, BARE]));
        assert!(to.join.is_empty() && to.stay.len() == 3 && to.blocked.is_empty(), "{to:?}");
    }

    #[test]
    fn another_peer_url_is_no_member_of_ours() {
        for bad in ["http://10.0.0.2:2380", "https://10.0.0.9:2380"] {
            let mut list = three();
            list[1].peer_urls = vec![bad.into()];
            let to = compare(&roster(list.clone()), &wanted(&[HAS, HAS, HAS]));
            let problem = to.blocked[0].to_string();
            assert!(problem.contains(bad) && problem.contains("member update 2"), "{problem}");
            assert!(to.remove.is_empty());
            // Nobody looked: it may well have data.
            assert_eq!(compare(&roster(list.clone()), &wanted(&[HAS, None, HAS])).blocked.len(), 1);
            // Another machine under the old name.
            let to = compare(&roster(list), &wanted(&[HAS, BARE, HAS]));
            assert!(to.blocked.is_empty() && to.join.len() == 1 && to.remove.is_empty());
        }
        let mut list = three();
        list[1].peer_urls.push("https://10.0.0.9:2380".into());
        assert_eq!(compare(&roster(list), &wanted(&[HAS, HAS, HAS])).blocked.len(), 1);
    }

    #[test]
    fn what_would_cost_the_data_is_blocked() {
        // Two of three have none left.
        let to = compare(&roster(three()), &wanted(&[HAS, BARE, BARE]));
        assert!(to.blocked[0].to_string().contains("2 of 3 etcd members"), "{to:?}");
        // The only one has none left.
        assert!(!compare(&roster(vec![listed(1)]), &wanted(&[BARE])).blocked.is_empty());
        // All others than those that have the data.
        let to = compare(&roster(vec![listed(9)]), &wanted(&[BARE, BARE, BARE]));
        assert!(
            to.blocked[0].to_string().contains("no etcd member with the data would remain"),
            "{to:?}"
        );
        // A second cluster.
        let to = compare(&roster(vec![listed(1)]), &wanted(&[HAS, HAS, BARE]));
        assert!(to.blocked[0].to_string().contains("not a member of the cluster"), "{to:?}");
    }

    #[test]
    fn nobody_starts_a_second_cluster() {
        let none = "nobody runs";
        // One has data and is down, was not asked, or answers nothing.
        let (who, why) = must_wait(&wanted(&[STOPPED, BARE, BARE]), none).unwrap();
        assert_eq!(who.len(), 2);
        let holder = "cp1".parse().unwrap();
        assert_eq!(why, HeldBack::EtcdNotListed { holder, why: none.into() });
        let (who, why) = must_wait(&wanted(&[None, BARE, BARE]), none).unwrap();
        assert_eq!(who.len(), 2);
        assert_eq!(why, HeldBack::MemberUnchecked { node: "cp1".parse().unwrap() });
        assert_eq!(must_wait(&wanted(&[BARE, BARE, BARE]), none), None);
        assert_eq!(must_wait(&wanted(&[STOPPED, STOPPED, None]), none), None);
    }

    #[test]
    fn an_alarm_and_a_full_database_stop_a_plan() {
        let mut r = roster(three());
        assert!(health_problems(&r, &wanted(&[HAS])).is_empty());
        (r.db_bytes, r.quota_bytes) = (100 << 20, 100 << 20);
        assert!(health_problems(&r, &[])[0].to_string().contains("of its 100 MB quota"));
        r.db_bytes = 94 << 20;
        assert!(health_problems(&r, &[]).is_empty());
        for (kind, hint) in
            [("NOSPACE", "alarm disarm"), ("CORRUPT", "replace"), ("X", "alarm list")]
        {
            r.alarms = vec![Alarm { member: 2, kind: kind.into() }];
            let text = health_problems(&r, &wanted(&[HAS, HAS]))[0].to_string();
            assert!(
                text.contains(&format!("alarm {kind} for cp2")) && text.contains(hint),
                "{text}"
            );
        }
    }
}
