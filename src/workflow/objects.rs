//! What a plan, an apply and the checks do with the objects of the cluster's API, over the nodes that
//! [`super::observe`] has looked at.

use std::time::{Duration, Instant};

use super::observe::{Fleet, Seen};
use crate::api::readiness::wait_for_workloads;
use crate::api::{ApiAccess, Client};
use crate::apply;
use crate::checks::{Cluster, Reference, Verdict, judge_objects};
use crate::clock::Clock;
use crate::controls::ApiRule;
use crate::desired;
use crate::error::{Problem, chain};
use crate::facts::{
    self,
    cluster::{ClusterFacts, Kind},
};
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role};
use crate::pki::{self, Ca, Material};
use crate::plan::api_change::ApiChange;
use crate::plan::cluster::{self, Wanted};
use crate::plan::{NodePlan, Plan};

/// How API servers are asked.
pub fn access(inventory: &Inventory, material: &Material) -> Option<ApiAccess> {
    let servers: Vec<_> = inventory
        .with_role(Role::ControlPlane)
        .map(|n| (n.name.clone(), n.internal_ip()))
        .collect();
    let pair = material.operator(pki::Kind::Admin)?;
    Some(ApiAccess {
        servers,
        ca_pem: material.ca_cert(Ca::Cluster).to_owned(),
        certificate_pem: pair.cert_pem.clone(),
        key_pem: pair.key_pem.clone(),
    })
}

/// Reads what a plan needs over the first control plane that can read all of it: a plan made from less
/// would leave changes out. `None` where no node of the fleet is part of a cluster.
fn read_for_a_plan(
    inventory: &Inventory,
    fleet: &mut Fleet,
    access: &ApiAccess,
) -> Option<Result<ClusterFacts, Problem>> {
    let kinds = Kind::for_a_plan(inventory.cluster.kubernetes.minor);
    let mut last: Option<Problem> = None;
    for (name, address) in &access.servers {
        let member = fleet.seen.get_mut(name).filter(|s| s.is_member());
        let Some(through) = member.and_then(|s| s.session.as_deref_mut()) else { continue };
        let facts = Client::new(through, *address, access).facts(&kinds);
        match facts.unread.iter().next() {
            None => return Some(Ok(facts)),
            Some((_, why)) => {
                last = Some(
                    Problem::new("objects of the cluster cannot be read")
                        .at(name.to_string())
                        .because(why.clone())
                        .left("nothing was changed"),
                );
            }
        }
    }
    last.map(Err)
}

/// Reads objects of every kind for checks, over the first control plane whose API server answers. Kinds
/// that cannot be read are said so in the facts. `None` where no node of the fleet is part of a cluster.
///
/// # Errors
/// Why nobody could be asked.
pub fn read(
    fleet: &mut Fleet,
    access: Option<&ApiAccess>,
    minor: u16,
) -> Option<Result<ClusterFacts, String>> {
    if !fleet.seen.values().any(|s| s.is_member()) {
        return None;
    }
    let Some(access) = access else {
        return Some(Err("the key store gave no administrator's certificate".into()));
    };
    let kinds = Kind::for_checks(minor);
    let asked = |name| fleet.seen.contains_key(name) || fleet.lost.contains_key(name);
    let mut why = match access.servers.iter().any(|(name, _)| asked(name)) {
        true => "no control plane answered",
        false => "no control plane is among the chosen nodes; run without --nodes",
    }
    .to_owned();
    for (name, address) in &access.servers {
        let member = fleet.seen.get_mut(name).filter(|s| s.is_member());
        let Some(through) = member.and_then(|s| s.session.as_deref_mut()) else { continue };
        let facts = Client::new(through, *address, access).facts(&kinds);
        match facts.unread.values().next() {
            Some(said) if facts.objects.is_empty() => why = format!("{name}: {said}"),
            _ => return Some(Ok(ClusterFacts { server: Some(name.clone()), ..facts })),
        }
    }
    Some(Err(why))
}

/// Adds the changes of API objects to a plan, for the running cluster or the one that the plan starts. Returns the problem
/// if the cluster does not answer.
pub fn plan(
    loaded: &Loaded,
    plan: Plan,
    fleet: &mut Fleet,
    access: &ApiAccess,
    material: &Material,
) -> (Plan, Option<Problem>) {
    let inventory = &loaded.inventory;
    let read = read_for_a_plan(inventory, fleet, access);
    // No control plane was read: only what joining nodes need is known.
    let joins_alone = read.is_none() && !plan.nodes.values().any(NodePlan::founds);
    let mut facts = match read {
        None => cluster::just_started(inventory.cluster.kubernetes.minor),
        Some(Err(problem)) => return (plan, Some(problem)),
        Some(Ok(facts)) => facts,
    };
    // Nodes that the plan joins will exist by then.
    let nodes = facts.objects.entry(Kind::Nodes).or_default();
    for (node, _) in plan.nodes.iter().filter(|(_, n)| n.is_about_membership()) {
        if !nodes.iter().any(|n| facts::cluster::name(n) == node.as_str()) {
            nodes.push(serde_json::json!({"metadata": {"name": node.as_str()}}));
        }
    }
    let mut changes = cluster::changes(inventory, &facts, Wanted::of(inventory));
    if joins_alone {
        changes.retain(ApiChange::is_about_a_node);
    } else if !configures_a_control_plane(inventory, &plan)
        && is_configuration_stale(loaded, &facts, fleet, material)
    {
        changes.push(ApiChange::UploadConfiguration);
    }
    (plan.with_api(changes), None)
}

/// Whether a step of the plan writes kubeadm's ConfigMaps anyway.
fn configures_a_control_plane(inventory: &Inventory, plan: &Plan) -> bool {
    inventory
        .with_role(Role::ControlPlane)
        .any(|n| plan.nodes.get(&n.name).is_some_and(NodePlan::is_about_membership))
}

/// Whether kubeadm's ConfigMaps say something else than its files on control planes, by the rule that `verify` has: after a
/// rollback, or because somebody changed them. Where no control plane was looked at, nobody can tell.
fn is_configuration_stale(
    loaded: &Loaded,
    facts: &ClusterFacts,
    fleet: &Fleet,
    material: &Material,
) -> bool {
    let Loaded { inventory, files, .. } = loaded;
    let init = |node: &Node| {
        let seen = fleet.seen.get(&node.name).filter(|s| s.is_member())?;
        desired::kubeadm_init(inventory, files, node, &seen.facts, material)
    };
    let kubeadm: Vec<String> = inventory.with_role(Role::ControlPlane).filter_map(init).collect();
    if kubeadm.is_empty() {
        return false;
    }
    let reference = Reference { kubeadm, ..Reference::default() };
    let now = Clock::System.now();
    let cluster = Cluster { facts, inventory, reference: &reference, today: now.date(), now };
    matches!(judge_objects(ApiRule::KubeadmConfiguration, &cluster), Verdict::Fail { .. })
}

/// Makes the planned changes of API objects that are still due, after the nodes are done. Returns what failed, and due
/// changes that are not in the plan.
pub fn apply(
    loaded: &Loaded,
    plan: &Plan,
    fleet: &mut Fleet,
    access: &ApiAccess,
    material: &Material,
    said: &mut dyn FnMut(&ApiChange, &Result<(), String>),
) -> (Vec<Problem>, Vec<ApiChange>) {
    let inventory = &loaded.inventory;
    // An API server whose manifest was just changed is started again, and answers nobody for a moment.
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let facts = loop {
        match read_for_a_plan(inventory, fleet, access) {
            None => return (Vec::new(), Vec::new()),
            Some(Ok(facts)) => break facts,
            Some(Err(_)) if Instant::now() < deadline => std::thread::sleep(AGAIN),
            Some(Err(problem)) => {
                let problem = problem
                    .left("the nodes are done; nothing was changed in the cluster's objects")
                    .hint("run `kubastion apply` again");
                return (vec![problem], Vec::new());
            }
        }
    };
    let starts = plan.nodes.values().any(NodePlan::founds);
    let configured = |n: &_| plan.nodes.get(n).is_some_and(NodePlan::is_about_membership);
    let mut changes = cluster::changes(inventory, &facts, Wanted::of(inventory));
    if is_configuration_stale(loaded, &facts, fleet, material) {
        changes.push(ApiChange::UploadConfiguration);
    }
    let (due, unplanned): (Vec<ApiChange>, Vec<ApiChange>) =
        changes.into_iter().partition(|c| c.is_in(&plan.api, starts, configured));
    let mut problems = Vec::new();
    let is_server = |name| fleet.seen.get(name).is_some_and(|s: &Seen| s.is_member());
    let member = access.servers.iter().find(|(name, _)| is_server(name));
    let Some((name, address)) = member else { return (problems, unplanned) };
    let session = fleet.seen.get_mut(name).and_then(|s| s.session.as_deref_mut());
    let Some(through) = session else {
        let problem = Problem::new("the cluster's objects were not changed")
            .at(name.to_string())
            .because("there is no connection to it any more")
            .hint("run `kubastion apply` again");
        problems.push(problem);
        return (problems, unplanned);
    };
    let mut client = Client::new(through, *address, access);
    // Namespace and name of objects that are due and not sent.
    let mut failed: Vec<(&str, &str)> = unplanned.iter().filter_map(ApiChange::object).collect();
    for change in &due {
        let result = match change.after().filter(|first| failed.contains(first)) {
            Some((_, first)) => Err(format!("{first} has to be there before it, and was not sent")),
            None => apply::objects::change(&mut client, inventory, change).map_err(|e| chain(&e)),
        };
        said(change, &result);
        if let Err(why) = result {
            failed.extend(change.object());
            problems.push(
                Problem::new(format!("cannot {change}"))
                    .at("cluster")
                    .because(why)
                    .left("the nodes are done")
                    .hint("run `kubastion plan` to see what is left to do"),
            );
        }
    }
    (problems, unplanned)
}

/// How long an API server may take to answer after the nodes are done.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// Pause between two attempts to read objects.
const AGAIN: Duration = Duration::from_secs(2);

/// How long DNS and kube-proxy may take after the last node has joined.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Waits until what every cluster needs is ready, by the first control plane that answers.
pub fn wait_until_ready(
    fleet: &mut Fleet,
    access: &ApiAccess,
    said: &mut dyn FnMut(&NodeName, &str),
) -> Option<Problem> {
    let is_server = |name| fleet.seen.get(name).is_some_and(|s: &Seen| s.is_member());
    let (name, address) = access.servers.iter().find(|(name, _)| is_server(name))?;
    let through = fleet.seen.get_mut(name).and_then(|s| s.session.as_deref_mut())?;
    let mut heard = |what: &str| said(name, &format!("the cluster to be ready ({what})"));
    let mut client = Client::new(through, *address, access);
    let waited = wait_for_workloads(&mut client, READY_WITHIN, &mut heard);
    waited.err().map(|why| {
        Problem::new("the nodes are done, but the cluster is not ready yet")
            .at("cluster")
            .because(why.to_string())
            .left("the nodes stay as they are now")
            .hint("run `kubectl -n kube-system get pods,events`")
    })
}
