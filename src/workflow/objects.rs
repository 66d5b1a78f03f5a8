//! What a plan, an apply and the checks do with the objects of the cluster's API, over the nodes that
//! [`super::observe`] has looked at.

use std::time::{Duration, Instant};

use super::observe::Fleet;
use crate::api::bundled::{self, Compared};
use crate::api::readiness::{self, Expected};
use crate::api::{ApiAccess, Client};
use crate::error::{Problem, chain};
use crate::event::{Reminder, Sink, with_reminders};
use crate::facts::cluster::{BundledFact, ClusterFacts, ObjectKind};
use crate::inventory::{BundledObject, Inventory, Loaded, Role};
use crate::pki::{self, Ca, Material};
use crate::plan::api_change::ApiChange;
use crate::plan::cluster as cluster_plan;
use crate::plan::{self, Answered, FleetFacts, NodePlan, Plan};
use crate::transport::Dialer;

/// How API servers are asked.
pub fn access(inventory: &Inventory, material: &Material) -> Option<ApiAccess> {
    let servers: Vec<_> = inventory
        .with_role(Role::ControlPlane)
        .map(|n| (n.name.clone(), n.internal_ip()))
        .collect();
    let pair = material.operator(pki::CertificateKind::Admin)?;
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
    loaded: &Loaded,
    fleet: &mut Fleet,
    access: &ApiAccess,
) -> Option<Result<ClusterFacts, Problem>> {
    let Loaded { inventory, files, .. } = loaded;
    let kinds = ObjectKind::for_a_plan(inventory.cluster.kubernetes.minor);
    let mut last: Option<Problem> = None;
    for (name, address) in &access.servers {
        if !fleet.facts.answered.get(name).is_some_and(Answered::is_member) {
            continue;
        }
        let Some(through) = fleet.sessions.get_mut(name) else { continue };
        let mut client = Client::new(through.as_mut(), *address, access);
        let mut facts = client.facts(&kinds);
        if facts.unread.is_empty() {
            compare_bundled(&mut client, &files.bundled, &mut facts);
        }
        match facts.unread.values().next() {
            None => return Some(Ok(facts)),
            Some(why) => {
                last = Some(
                    Problem::new("the cluster's objects cannot be read")
                        .at(name.to_string())
                        .because(why.clone())
                        .left("nothing was changed"),
                );
            }
        }
    }
    last.map(Err)
}

/// Looks which objects of the bundle's manifests are there, and in what they would change.
fn compare_bundled(client: &mut Client<'_>, bundled: &[BundledObject], facts: &mut ClusterFacts) {
    let objects: Vec<_> = bundled.iter().map(|a| &a.object).collect();
    match bundled::compare_all(client, &objects) {
        Err(e) => facts.unread_bundled = Some(e.to_string()),
        Ok(seen) => {
            let fact = |(a, seen): (&BundledObject, Option<Compared>)| BundledFact {
                file: a.file.clone(),
                object: a.object.clone(),
                seen: seen.map(|s| (s.is, s.would_be)),
            };
            facts.bundled = bundled.iter().zip(seen).map(fact).collect();
        }
    }
}

/// Of a bundle's manifests alone, which must not hold up everything else: an admission webhook of one of them may be down.
fn not_compared(facts: &ClusterFacts) -> Option<Problem> {
    let why = facts.unread_bundled.as_ref()?;
    Some(
        Problem::new("the objects of the bundle's manifests cannot be compared")
            .at("cluster")
            .because(why.clone())
            .left("none of them is changed")
            .hint("fix the cause and run `kubastion plan` again"),
    )
}

/// Reads objects of every kind for checks, over the first control plane whose API server answers. Kinds
/// that cannot be read are said so in the facts. `None` where no node of the fleet is part of a cluster.
///
/// # Errors
/// Why nobody could be asked.
pub fn read(
    fleet: &mut Fleet,
    access: Result<&ApiAccess, String>,
    loaded: &Loaded,
) -> Option<Result<ClusterFacts, String>> {
    if !fleet.facts.answered.values().any(|s| s.is_member()) {
        return None;
    }
    let access = match access {
        Ok(access) => access,
        Err(why) => return Some(Err(why)),
    };
    let kinds = ObjectKind::for_checks(loaded.inventory.cluster.kubernetes.minor);
    let asked =
        |name| fleet.facts.answered.contains_key(name) || fleet.facts.failed.contains_key(name);
    let mut why = match access.servers.iter().any(|(name, _)| asked(name)) {
        true => "no control plane answered",
        false => "--nodes includes no control plane; run without --nodes",
    }
    .to_owned();
    for (name, address) in &access.servers {
        if !fleet.facts.answered.get(name).is_some_and(Answered::is_member) {
            continue;
        }
        let Some(through) = fleet.sessions.get_mut(name) else { continue };
        let mut client = Client::new(through.as_mut(), *address, access);
        let mut facts = client.facts(&kinds);
        match facts.unread.values().next() {
            Some(said) if facts.objects.is_empty() => {
                why = format!("{name}: {said}");
                continue;
            }
            _ => compare_bundled(&mut client, &loaded.files.bundled, &mut facts),
        }
        return Some(Ok(ClusterFacts { server: Some(name.clone()), ..facts }));
    }
    Some(Err(why))
}

/// Adds the changes of API objects to a plan, for the running cluster or the one that the plan starts. Returns the problem
/// if the cluster does not answer, or not about all of them.
pub fn plan(
    loaded: &Loaded,
    plan: Plan,
    fleet: &mut Fleet,
    access: &ApiAccess,
    material: &Material,
) -> (Plan, Option<Problem>) {
    if loaded.inventory.observes() {
        return (plan, None);
    }
    let facts = match read_for_a_plan(loaded, fleet, access) {
        None => None,
        Some(Ok(facts)) => Some(facts),
        Some(Err(problem)) => return (plan, Some(problem)),
    };
    let problem = facts.as_ref().and_then(not_compared);
    (cluster_plan::with_objects(loaded, plan, &fleet.facts, facts, material), problem)
}

/// What is left to do with the objects of a cluster whose nodes are done.
pub struct Rest {
    /// Due changes that were shown.
    pub plan: Plan,
    /// Due changes that were not.
    pub unplanned: Vec<ApiChange>,
    /// Why nothing is known of some of them.
    pub problem: Option<Problem>,
}

/// Plans the changes of API objects that are still due, after the nodes are done, of those that were `shown`.
///
/// # Errors
/// If no API server answers. `Ok(None)` where no node of the fleet is part of a cluster.
pub fn plan_rest(
    loaded: &Loaded,
    shown: &Plan,
    fleet: &mut Fleet,
    access: &ApiAccess,
    material: &Material,
    sink: &dyn Sink,
) -> Result<Option<Rest>, Problem> {
    if loaded.inventory.observes() {
        return Ok(None);
    }
    // An API server whose manifest was just changed is started again, and answers nobody for a moment.
    let Some((first, _)) = access.servers.first() else { return Ok(None) };
    let read = with_reminders(sink, first, |reminder| {
        read_once_it_answers(loaded, fleet, access, reminder)
    });
    let Some(facts) = read? else { return Ok(None) };
    let changes = cluster_plan::due(loaded, &facts, &fleet.facts, material);
    let starts = shown.nodes.values().any(NodePlan::starts_cluster);
    let configured = |n: &_| shown.nodes.get(n).is_some_and(NodePlan::is_about_membership);
    let planned: Vec<ApiChange> = shown.api().cloned().collect();
    let (due, unplanned): (Vec<ApiChange>, Vec<ApiChange>) =
        changes.into_iter().partition(|c| c.is_in(&planned, starts, configured));
    let (cluster, inventory) = (shown.cluster.clone(), shown.inventory_sha256.clone());
    let rest = Plan::new(cluster, inventory, Default::default(), Vec::new()).with_api(due);
    Ok(Some(Rest { plan: rest, unplanned, problem: not_compared(&facts) }))
}

/// Reads what a plan needs, as soon as an API server answers all of it.
fn read_once_it_answers(
    loaded: &Loaded,
    fleet: &mut Fleet,
    access: &ApiAccess,
    reminder: &Reminder,
) -> Result<Option<ClusterFacts>, Problem> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let why = match read_for_a_plan(loaded, fleet, access) {
            None => return Ok(None),
            Some(Ok(facts)) => match facts.unread_bundled.clone() {
                Some(why) if Instant::now() < deadline => why,
                _ => return Ok(Some(facts)),
            },
            Some(Err(problem)) if Instant::now() < deadline => problem.why.join(": "),
            Some(Err(problem)) => {
                return Err(problem
                    .left("the nodes are done; no object of the cluster was changed")
                    .hint("run `kubastion apply` again"));
            }
        };
        reminder.waits_for(&format!("the API server to answer ({why})"));
        std::thread::sleep(AGAIN);
    }
}

/// How long an API server may take to answer after the nodes are done.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// Pause between two attempts to read objects.
const AGAIN: Duration = Duration::from_secs(2);

/// How long the workloads of a cluster may take after the last change.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// What is to be ready after a plan: DNS and kube-proxy, which it may have restarted, and what it sent of a bundle's
/// manifests. `None` where nothing of it concerns pods.
pub fn expected(plan: &Plan, bundled: &[BundledObject]) -> Option<Expected> {
    let mut expected = Expected::of_every_cluster();
    let mut concerns_pods = plan.has_members();
    for change in plan.api() {
        match change {
            // It restarts kube-proxy, if that is told something else.
            ApiChange::UploadConfiguration => concerns_pods = true,
            ApiChange::Bundled { kind, namespace, .. }
                if matches!(kind.as_str(), "DaemonSet" | "Deployment") =>
            {
                concerns_pods = true;
                let space = if namespace.is_empty() { "default" } else { namespace };
                expected.namespaces.insert(space.to_owned());
            }
            _ => {}
        }
    }
    expected.network = plan::bundled::brings_network(bundled);
    concerns_pods.then_some(expected)
}

/// Waits until what is expected of the cluster is ready, by the first control plane that is part of it.
pub fn wait_until_ready(
    inventory: &Inventory,
    dialer: &dyn Dialer,
    fleet: &FleetFacts,
    access: &ApiAccess,
    expected: &Expected,
    sink: &dyn Sink,
) -> Option<Problem> {
    let is_server = |name| fleet.answered.get(name).is_some_and(Answered::is_member);
    let (name, address) = access.servers.iter().find(|(name, _)| is_server(name))?;
    let node = inventory.nodes.iter().find(|n| n.name == *name)?;
    let waited = with_reminders(sink, name, |reminder| {
        let mut heard =
            |what: &str| reminder.waits_for(&format!("the cluster to be ready ({what})"));
        let mut through = dialer.connect(&inventory.ssh.for_node(node)).map_err(|e| chain(&e))?;
        let mut client = Client::new(through.as_mut(), *address, access);
        readiness::wait_until_ready(&mut client, expected, READY_WITHIN, &mut heard)
            .map_err(|why| why.to_string())
    });
    waited.err().map(|why: String| {
        Problem::new("the nodes are done, but the cluster is not ready yet")
            .at("cluster")
            .because(why)
            .left("the nodes keep their present state")
            .hint("run `kubectl get pods,events -A` to see why, and `kubastion verify` once they are ready")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::plan::api_change::Action;

    #[test]
    fn a_cluster_is_waited_for_where_pods_are_restarted() {
        let of = |changes: Vec<ApiChange>| {
            let plan = Plan::new("c".into(), String::new(), BTreeMap::new(), Vec::new());
            expected(&plan.with_api(changes), &[]).map(|e| e.namespaces.into_iter().collect())
        };
        let spaces = |all: &[&str]| Some(all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![ApiChange::DeleteToken { name: "t".into() }]), None);
        assert_eq!(of(vec![ApiChange::UploadConfiguration]), spaces(&["kube-system"]));
        let bundled = |kind: &str, namespace: &str| ApiChange::Bundled {
            action: Action::Create,
            file: "net.yaml".into(),
            api_version: "apps/v1".into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: "a".into(),
            sha256: String::new(),
            differs: Vec::new(),
        };
        assert_eq!(of(vec![bundled("ConfigMap", "net")]), None);
        assert_eq!(of(vec![bundled("DaemonSet", "net")]), spaces(&["kube-system", "net"]));
        assert_eq!(of(vec![bundled("Deployment", "")]), spaces(&["default", "kube-system"]));
    }

    #[test]
    fn a_network_is_a_daemonset_that_writes_its_configuration_to_nodes() {
        let set = |path: &str| {
            let volumes = json!([{"name": "v", "hostPath": {"path": path}}]);
            let spec = json!({"template": {"spec": {"volumes": volumes}}});
            let object = json!({"kind": "DaemonSet", "spec": spec});
            [BundledObject { file: "net.yaml".into(), object }]
        };
        assert!(plan::bundled::brings_network(&set("/etc/cni/net.d")));
        assert!(plan::bundled::brings_network(&set("/etc/cni/net.d/")));
        assert!(!plan::bundled::brings_network(&set("/var/log")));
    }
}
