//! etcd's members: by the inventory, as they were found, and what has to change between the two.

use std::collections::BTreeMap;

use super::fleet::{Answered, FleetFacts};
use super::members::{self, Found, WantedMember};
use super::model::NodePlan;
use super::stacked;
use super::stage::EtcdChange;
use super::stored_data;
use crate::desired::{self, Phase};
use crate::error::Problem;
use crate::inventory::{Inventory, NodeName};

/// etcd's members by the inventory, with what was found of them.
pub fn wanted_members(inventory: &Inventory, fleet: &FleetFacts) -> Vec<WantedMember> {
    let found = |s: &Answered| Found {
        data: stored_data::has_our_etcd_data(&s.facts),
        runs: s.facts.runs_etcd(),
    };
    let wanted = inventory.etcd_members().map(|n| WantedMember {
        name: n.name.clone(),
        peer_url: desired::peer_url(n.internal_ip()),
        found: match fleet.answered.get(&n.name) {
            Some(node) => Some(found(node)),
            // It was checked, but is excluded for another reason.
            None => fleet
                .without_etcd_data
                .contains(&n.name)
                .then_some(Found { data: false, runs: false }),
        },
    });
    wanted.collect()
}

/// The membership changes of etcd, with the join steps added to the nodes' plans; or the problem that prevents a plan.
pub(super) fn membership(
    inventory: &Inventory,
    fleet: &FleetFacts,
    plans: &mut BTreeMap<NodeName, NodePlan>,
) -> (Vec<EtcdChange>, Option<Problem>) {
    let wanted = wanted_members(inventory, fleet);
    let unasked = match &fleet.etcd {
        Some(Ok(roster)) => {
            let to = members::compare(roster, &wanted);
            let mut stop = members::health_problems(roster, &wanted)
                .into_iter()
                .chain(to.blocked.clone())
                .chain(stacked::refused(inventory, &to));
            return match stop.next() {
                Some(problem) => {
                    (Vec::new(), Some(stop.fold(problem, |p, more| p.because(more.what))))
                }
                None => (members::joins(&to, &wanted, plans), None),
            };
        }
        Some(Err(why)) => {
            // Members are still repaired one by one, but the plan must not hide an alarm.
            for (_, plan) in plans.iter_mut().filter(|(n, _)| wanted.iter().any(|w| w.name == **n))
            {
                plan.notes.push(format!("etcd's members and alarms could not be listed: {why}"));
            }
            why
        }
        None => "no etcd runs on the nodes that were checked",
    };
    if let Some((names, why)) = members::must_wait(&wanted, unasked) {
        for (_, plan) in plans.iter_mut().filter(|(name, _)| names.contains(name)) {
            plan.hold_back(&[Phase::Etcd, Phase::Kubernetes], why.clone());
        }
    }
    (Vec::new(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    /// A member that was not checked may hold the cluster's data, so no second cluster is started beside it.
    #[test]
    fn a_member_that_is_left_out_is_known_by_what_was_seen_of_it() {
        let inventory = testing::two_and_two();
        let member = inventory.etcd_members().next().unwrap();
        let mut fleet = FleetFacts::default();
        let found = |fleet: &FleetFacts| {
            wanted_members(&inventory, fleet).into_iter().find(|w| w.name == member.name).unwrap()
        };
        assert!(found(&fleet).found.is_none());
        fleet.without_etcd_data.insert(member.name.clone());
        let known = found(&fleet).found.unwrap();
        assert!(!known.data && !known.runs);
    }
}
