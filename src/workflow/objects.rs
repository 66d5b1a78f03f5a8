//! What a plan, an apply and the checks do with the objects of the cluster's API, over the nodes that
//! [`super::observe`] has looked at.

use std::time::{Duration, Instant};

use super::observe::Fleet;
use crate::api::readiness::wait_for_workloads;
use crate::api::{ApiAccess, Client};
use crate::error::{Problem, chain};
use crate::facts::cluster::{ClusterFacts, Kind};
use crate::inventory::{Inventory, Loaded, NodeName, Role};
use crate::pki::{self, Ca, Material};
use crate::plan::api_change::ApiChange;
use crate::plan::cluster as cluster_plan;
use crate::plan::{Answered, FleetFacts, NodePlan, Plan};
use crate::transport::Dialer;

/// How API servers are asked.
pub fn access(inventory: &Inventory, material: &Material) -> Option<ApiAccess> {
    let servers: Vec<_> = inventory
        .with_role(Role::ControlPlane)
        .map(|n| (n.name.clone(), n.internal_ip()))
        .collect();
    let pair = material.operator(pki::Kind::Admin)?;
    Some(ApiAccess {
        servers,
        ca_pem: material.trust(Ca::Cluster).bundle().to_owned(),
        front_proxy_ca_pem: material.trust(Ca::FrontProxy).bundle().to_owned(),
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
        if !fleet.facts.answered.get(name).is_some_and(Answered::is_member) {
            continue;
        }
        let Some(through) = fleet.sessions.get_mut(name) else { continue };
        let facts = Client::new(through.as_mut(), *address, access).facts(&kinds);
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
    if !fleet.facts.answered.values().any(|s| s.is_member()) {
        return None;
    }
    let Some(access) = access else {
        return Some(Err("the key store gave no administrator's certificate".into()));
    };
    let kinds = Kind::for_checks(minor);
    let asked =
        |name| fleet.facts.answered.contains_key(name) || fleet.facts.failed.contains_key(name);
    let mut why = match access.servers.iter().any(|(name, _)| asked(name)) {
        true => "no control plane answered",
        false => "no control plane is among the chosen nodes; run without --nodes",
    }
    .to_owned();
    for (name, address) in &access.servers {
        if !fleet.facts.answered.get(name).is_some_and(Answered::is_member) {
            continue;
        }
        let Some(through) = fleet.sessions.get_mut(name) else { continue };
        let facts = Client::new(through.as_mut(), *address, access).facts(&kinds);
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
    let facts = match read_for_a_plan(&loaded.inventory, fleet, access) {
        None => None,
        Some(Ok(facts)) => Some(facts),
        Some(Err(problem)) => return (plan, Some(problem)),
    };
    (cluster_plan::with_objects(loaded, plan, &fleet.facts, facts, material), None)
}

/// Plans the changes of API objects that are still due, after the nodes are done, of those that were `shown`. Also returns
/// due changes that were not.
///
/// # Errors
/// If no API server answers. `Ok(None)` where no node of the fleet is part of a cluster.
pub fn plan_rest(
    loaded: &Loaded,
    shown: &Plan,
    fleet: &mut Fleet,
    access: &ApiAccess,
    material: &Material,
) -> Result<Option<(Plan, Vec<ApiChange>)>, Problem> {
    let inventory = &loaded.inventory;
    // An API server whose manifest was just changed is started again, and answers nobody for a moment.
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let facts = loop {
        match read_for_a_plan(inventory, fleet, access) {
            None => return Ok(None),
            Some(Ok(facts)) => break facts,
            Some(Err(_)) if Instant::now() < deadline => std::thread::sleep(AGAIN),
            Some(Err(problem)) => {
                return Err(problem
                    .left("the nodes are done; nothing was changed in the cluster's objects")
                    .hint("run `kubastion apply` again"));
            }
        }
    };
    let changes = cluster_plan::due(loaded, &facts, &fleet.facts, material);
    let starts = shown.nodes.values().any(NodePlan::starts_cluster);
    let configured = |n: &_| shown.nodes.get(n).is_some_and(NodePlan::is_about_membership);
    let planned: Vec<ApiChange> = shown.api().cloned().collect();
    let (due, unplanned): (Vec<ApiChange>, Vec<ApiChange>) =
        changes.into_iter().partition(|c| c.is_in(&planned, starts, configured));
    let (cluster, inventory) = (shown.cluster.clone(), shown.inventory_sha256.clone());
    let rest = Plan::new(cluster, inventory, Default::default(), Vec::new()).with_api(due);
    Ok(Some((rest, unplanned)))
}

/// How long an API server may take to answer after the nodes are done.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// Pause between two attempts to read objects.
const AGAIN: Duration = Duration::from_secs(2);

/// How long DNS and kube-proxy may take after the last node has joined.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Waits until what every cluster needs is ready, by the first control plane that is part of it.
pub fn wait_until_ready(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    fleet: &FleetFacts,
    access: &ApiAccess,
    said: &mut dyn FnMut(&NodeName, &str),
) -> Option<Problem> {
    let is_server = |name| fleet.answered.get(name).is_some_and(Answered::is_member);
    let (name, address) = access.servers.iter().find(|(name, _)| is_server(name))?;
    let node = inventory.nodes.iter().find(|n| n.name == *name)?;
    let mut heard = |what: &str| said(name, &format!("the cluster to be ready ({what})"));
    let waited = dialer.connect(&inventory.ssh.for_node(node)).map_err(|e| chain(&e));
    let waited = waited.and_then(|mut through| {
        let mut client = Client::new(through.as_mut(), *address, access);
        wait_for_workloads(&mut client, READY_WITHIN, &mut heard).map_err(|why| why.to_string())
    });
    waited.err().map(|why| {
        Problem::new("the nodes are done, but the cluster is not ready yet")
            .at("cluster")
            .because(why)
            .left("the nodes stay as they are now")
            .hint("run `kubectl -n kube-system get pods,events`")
    })
}
