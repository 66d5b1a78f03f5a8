//! Nodes are judged and attacked: what they show, what is in effect, what a plan would change, and what attempts come to.

use std::collections::BTreeMap;

use super::etcd_members::etcd_access;
use super::keys;
use super::objects;
use super::observe::{self, Fleet, Reach};
use crate::api::ApiAccess;
use crate::checks::findings::{self, Api};
use crate::checks::{self, Basis, Finding, Lists, Observed, Reference, Verification};
use crate::clock::Clock;
use crate::desired::{self, objects::Wanted};
use crate::error::{Problem, chain};
use crate::facts::cluster::ClusterFacts;
use crate::facts::live::{LiveFacts, collect_live};
use crate::facts::{FactsError, NodeFacts};
use crate::inventory::{Files, Inventory, Loaded, Node, NodeName, Role};
use crate::pki::{self, Ca, CertificateKind, Material, Store};
use crate::plan::planner::{self, Planned};
use crate::plan::{self, EtcdChange, FleetFacts, api_change::ApiChange};
use crate::transport::{Dialer, fleet};
use crate::verify::{self, ApiKeys, Field, Keys, Ports, Writes};
use crate::workflow::command_error::CommandError;

/// What was found, and nodes that did not answer.
pub struct Judged {
    /// Every finding, also that nothing is known of a node that did not answer.
    pub report: Verification,
    /// Why they did not.
    pub unreachable: BTreeMap<NodeName, Problem>,
}

/// Judges every control on the chosen nodes. `say` hears what stays unknown for want of keys.
///
/// # Errors
/// A node that is not in the inventory, or a password that cannot be asked for.
pub fn judge(
    loaded: &Loaded,
    reach: &Reach,
    writes: Writes,
    say: &dyn Fn(&str),
) -> Result<Judged, CommandError> {
    let inventory = &loaded.inventory;
    let nodes = observe::chosen(inventory, reach)?;
    let dialer = observe::dialer(inventory, &nodes, reach)?;
    let material = material(loaded, say);
    let baseline = Baseline::of_store(inventory, material.as_ref());
    Ok(judge_on(loaded, &nodes, &dialer, writes, &baseline))
}

/// What nodes and objects are compared with, and the credentials for daemons: from the key store, or from an existing cluster.
pub(super) struct Baseline<'m> {
    /// How API servers are asked, or why they cannot be.
    pub access: Result<ApiAccess, String>,
    /// What files of CAs on nodes should hold, if somebody knows.
    pub trusted_cas: Option<BTreeMap<&'static str, Vec<Vec<u8>>>>,
    /// What etcd and the daemons are attacked with.
    pub keys: Option<Keys>,
    /// Whom the cluster's API is tried as.
    pub api_keys: Option<ApiKeys>,
    /// Certificate of the cluster CA.
    pub ca_pem: Option<String>,
    /// Certificate of the front-proxy CA.
    pub front_proxy_ca_pem: Option<String>,
    /// What plans are made with, or why none can be made.
    pub plans: Result<&'m Material, &'static str>,
}

impl<'m> Baseline<'m> {
    fn of_store(inventory: &Inventory, material: Option<&'m Material>) -> Self {
        let access = material.and_then(|m| objects::access(inventory, m));
        let ca = |ca| material.map(|m| m.trust(ca).bundle().to_owned());
        Self {
            access: access.ok_or_else(|| "the key store has no administrator certificate".into()),
            trusted_cas: material.map(trusted_cas),
            keys: material.and_then(|m| keys(inventory, m)),
            api_keys: material.and_then(|m| api_keys(inventory, m)),
            ca_pem: ca(Ca::Cluster),
            front_proxy_ca_pem: ca(Ca::FrontProxy),
            plans: material.ok_or("the key store cannot be used"),
        }
    }
}

/// Judges every control on some nodes, from what they are compared with.
pub(super) fn judge_on(
    loaded: &Loaded,
    nodes: &[&Node],
    dialer: &dyn Dialer,
    writes: Writes,
    baseline: &Baseline<'_>,
) -> Judged {
    let (inventory, files) = (&loaded.inventory, &loaded.files);
    let mut fleet =
        observe::read_nodes_for(inventory, files, nodes, dialer, checks::watch, usize::MAX);
    let now = Clock::System.now();
    let mut live = live(inventory, files, nodes, &mut fleet);
    let access = baseline.access.as_ref().map_err(Clone::clone);
    let objects = objects::read(&mut fleet, access, loaded);
    let pending = pending(loaded, &mut fleet, baseline.plans);
    let mut seen = observed(inventory, files, nodes, &fleet.facts);
    let lists = match &objects {
        Some(Ok(facts)) => {
            let server = facts.server.as_ref().and_then(|name| seen.get(name));
            Lists::new(facts, server.and_then(|s| s.machine.clone()))
        }
        _ => Lists::default(),
    };
    for (name, seen) in &mut seen {
        match live.remove(name) {
            Some(Ok(facts)) => seen.live = Some(facts),
            Some(Err(why)) => seen.live_error = Some(chain(&why)),
            None => {}
        }
        seen.pending = pending.get(name).cloned();
        seen.trusted_cas = baseline.trusted_cas.clone();
    }
    if let Some(Ok(objects)) = &objects {
        seen.iter_mut().for_each(|(name, s)| s.add_objects(name, objects, &lists));
    }
    let field = Field {
        inventory,
        seen: &seen,
        keys: baseline.keys.as_ref(),
        api: baseline.api_keys.as_ref(),
        writes,
        now,
        ports: Ports::default(),
    };
    // A firewall that records would record them as clients, and an audit log too.
    let records = |facts: &NodeFacts| facts.observation.as_ref().is_some_and(|o| o.flows.is_some());
    let attempts = match fleet.facts.answered.values().any(|n| records(&n.facts)) {
        true => Vec::new(),
        false => verify::run(&field, std::mem::take(&mut fleet.sessions)),
    };
    let why = |p: &Problem| p.why.join(": ");
    let mut found: Vec<Finding> = Vec::new();
    for node in nodes {
        match seen.get(&node.name) {
            Some(seen) => {
                let basis = Basis { inventory, software: files.software.as_ref(), node, seen, now };
                found.extend(checks::of_node(&basis, &attempts));
            }
            None => {
                let why = fleet.facts.failed.get(&node.name).map(why).unwrap_or_default();
                found.extend(checks::unreachable(inventory, node, &why));
            }
        }
    }
    let api = cluster_api(nodes, &seen, &objects, &lists);
    let read = objects.as_ref().and_then(|read| read.as_ref().ok());
    let reference = reference(inventory, baseline, files, &seen, read);
    found.extend(findings::of_cluster(inventory, &api, &reference, now));
    let unreachable = fleet.facts.failed.iter().map(|(n, p)| (n.clone(), why(p))).collect();
    let report = Verification::new(inventory, now, found, attempts, unreachable);
    Judged { report, unreachable: fleet.facts.failed }
}

/// What files of CAs on nodes should hold.
fn trusted_cas(material: &Material) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let of =
        |(path, ca)| (path, pki::certificates(material.trust(ca).bundle()).unwrap_or_default());
    desired::CA_FILES.iter().copied().map(of).collect()
}

/// What each node shows.
fn observed(
    inventory: &Inventory,
    files: &Files,
    nodes: &[&Node],
    fleet: &FleetFacts,
) -> BTreeMap<NodeName, Observed> {
    let mut seen = BTreeMap::new();
    let shared = desired::Shared::default();
    for (name, answer) in &fleet.answered {
        let mut observed = Observed::from_facts(&answer.facts, &answer.host_key);
        if let Some(node) = nodes.iter().find(|n| n.name == *name) {
            observed.wanted_firewall_sha256 =
                desired::firewall_sha256(inventory, files, node, &answer.facts, &shared);
        }
        seen.insert(name.clone(), observed);
    }
    seen
}

/// What is in effect on each node, beside what its files say, or why a node did not tell.
fn live(
    inventory: &Inventory,
    files: &Files,
    nodes: &[&Node],
    fleet: &mut Fleet,
) -> BTreeMap<NodeName, Result<LiveFacts, FactsError>> {
    let request = |node: &Node| {
        let watch = checks::watch(inventory, files, node);
        let paths = watch.files.into_iter().chain(watch.trees);
        checks::live_request(inventory, node, paths)
    };
    let sessions: Vec<_> = fleet
        .sessions
        .iter_mut()
        .filter_map(|(name, session)| {
            let node = nodes.iter().find(|n| n.name == *name)?;
            Some((name.clone(), *node, session.as_mut()))
        })
        .collect();
    let read = fleet::each(sessions, fleet::WINDOW, |(name, node, session)| {
        (name, collect_live(session, &request(node)))
    });
    read.into_iter().collect()
}

/// What a plan that is made now would do on each node, or why none can be made.
fn pending(
    loaded: &Loaded,
    fleet: &mut Fleet,
    plans: Result<&Material, &'static str>,
) -> BTreeMap<NodeName, Result<Vec<String>, String>> {
    let material = match plans {
        Ok(material) => material,
        Err(why) => {
            let of = |name: &NodeName| (name.clone(), Err(why.to_owned()));
            return fleet.facts.answered.keys().map(of).collect();
        }
    };
    let inventory = &loaded.inventory;
    fleet.ask_etcd(inventory, etcd_access(inventory, material).as_ref());
    let Planned { plan, failed, .. } = planner::plan(loaded, &fleet.facts, material);
    // Members that come or go are no step of a node of their own.
    let teller = loaded.inventory.etcd_members().find(|n| plan.nodes.contains_key(&n.name));
    let etcd = |name: &NodeName| {
        let all = teller.filter(|n| n.name == *name).map(|_| plan.etcd());
        all.into_iter().flatten().map(|change: EtcdChange| change.to_string())
    };
    let steps = |name: &NodeName| match (plan.nodes.get(name), failed.get(name)) {
        (Some(node), _) => Ok(node
            .transactions
            .iter()
            .flat_map(|t| &t.steps)
            .filter(|a| !a.why.is_empty())
            .map(|a| format!("{} (now: {})", a.step, a.why_text()))
            .chain(node.held_back.iter().map(ToString::to_string))
            .chain(etcd(name))
            .collect()),
        (None, Some(problem)) => Err(format!("{}: {}", problem.what, problem.why.join("; "))),
        (None, None) => Err("the node was not selected".to_owned()),
    };
    fleet.facts.answered.keys().map(|name| (name.clone(), steps(name))).collect()
}

/// What is known of the cluster's API. That Kubernetes does not run is known only where every control plane that was
/// asked has answered.
fn cluster_api<'o>(
    nodes: &[&Node],
    seen: &BTreeMap<NodeName, Observed>,
    objects: &'o Option<Result<ClusterFacts, String>>,
    lists: &'o Lists,
) -> Api<'o> {
    let silent = |n: &&Node| n.has_role(Role::ControlPlane) && !seen.contains_key(&n.name);
    let unread = |why: &str| Api::Unread(why.to_owned());
    match objects {
        Some(Ok(facts)) => Api::Read(facts, lists),
        Some(Err(why)) => unread(why),
        None if nodes.iter().any(silent) => {
            unread("a control plane did not answer, and no node that did runs an API server")
        }
        None if seen.values().any(Observed::kubernetes_is_set_up) => {
            unread("no API server runs on a node that answered")
        }
        None => Api::Absent,
    }
}

/// What objects and files are compared with: CAs, what kubeadm was told, and what the bundle brings.
fn reference(
    inventory: &Inventory,
    baseline: &Baseline<'_>,
    files: &Files,
    seen: &BTreeMap<NodeName, Observed>,
    objects: Option<&ClusterFacts>,
) -> Reference {
    let pending = |facts| {
        let mut changes = plan::cluster::changes(inventory, facts, Wanted::of(inventory));
        changes.extend(baseline.plans.map(|m| plan::cluster::cas(facts, m)).into_iter().flatten());
        changes
    };
    let words = |changes: Vec<ApiChange>| changes.iter().map(ToString::to_string).collect();
    let kubeadm = seen.values().filter_map(Observed::kubeadm_init);
    Reference {
        // Of what could not be read, nobody knows what is due.
        pending: objects.filter(|o| o.unread_bundled.is_none()).map(pending).map(words),
        ca_pem: baseline.ca_pem.clone(),
        front_proxy_ca_pem: baseline.front_proxy_ca_pem.clone(),
        kubeadm: kubeadm.clone().map(|(text, _)| text.to_owned()).collect(),
        kubeadm_sources: kubeadm.map(|(_, source)| source).collect(),
        software: files.software.clone(),
    }
}

/// What the store holds, due for renewal or not. Without a store, what needs keys is unknown.
fn material(loaded: &Loaded, say: &dyn Fn(&str)) -> Option<Material> {
    let inventory = &loaded.inventory;
    let ask = |ask| keys::ask_passphrase(&inventory.pki, ask);
    let read = Store::open(&inventory.pki, &inventory.cluster.name, &ask)
        .and_then(|store| store.contents())
        .and_then(|contents| Material::from_contents(inventory, &contents));
    match read {
        Ok(material) => Some(material),
        Err(e) => {
            let why = chain(&e);
            let what = "the key store cannot be used: checks that need keys stay unknown";
            say(&format!("{what}: {why}"));
            None
        }
    }
}

/// The identities that attempts on the cluster's API use.
fn api_keys(inventory: &Inventory, material: &Material) -> Option<ApiKeys> {
    let of = |kind| -> BTreeMap<NodeName, verify::Identity> {
        let pair = |n: &Node| {
            let pair = material.node(kind, &n.name)?;
            Some((n.name.clone(), (pair.cert_pem.clone(), pair.key_pem.clone())))
        };
        inventory.nodes.iter().filter_map(pair).collect()
    };
    let admin = material.operator(CertificateKind::Admin)?;
    Some(ApiKeys {
        ca: material.trust(Ca::Cluster).bundle().to_owned(),
        admin: (admin.cert_pem.clone(), admin.key_pem.clone()),
        probes: of(CertificateKind::ApiserverProbe),
        kubelets: of(CertificateKind::KubeletClient),
    })
}

/// The keys that attempts on etcd use.
fn keys(inventory: &Inventory, material: &Material) -> Option<Keys> {
    let first = inventory.etcd_members().next()?;
    let health = material.node(CertificateKind::EtcdHealthcheckClient, &first.name)?;
    let stranger = inventory
        .nodes
        .iter()
        .find_map(|n| material.node(CertificateKind::KubeletClient, &n.name))
        .or_else(|| material.operator(CertificateKind::Admin))?;
    let served = inventory.etcd_members().filter_map(|n| {
        let server = material.node(CertificateKind::EtcdServer, &n.name)?;
        let peer = material.node(CertificateKind::EtcdPeer, &n.name)?;
        Some((n.name.clone(), (server.cert_pem.clone(), peer.cert_pem.clone())))
    });
    let ca = |ca| material.trust(ca).bundle().to_owned();
    Some(Keys {
        etcd_ca: ca(Ca::Etcd),
        apiserver_cas: vec![ca(Ca::Cluster), ca(Ca::FrontProxy)],
        kubelet_cas: vec![ca(Ca::Cluster)],
        health: (health.cert_pem.clone(), health.key_pem.clone()),
        foreign: (stranger.cert_pem.clone(), stranger.key_pem.clone()),
        served: served.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::NodeFacts;
    use crate::inventory::testing;

    #[test]
    fn kubernetes_is_absent_only_where_every_control_plane_has_answered() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let planes = nodes.iter().filter(|n| n.has_role(Role::ControlPlane)).count();
        assert!(planes > 1 && planes < nodes.len());
        let answered = |names: &[&Node]| -> BTreeMap<NodeName, Observed> {
            names
                .iter()
                .map(|n| {
                    (
                        n.name.clone(),
                        Observed::from_facts(&NodeFacts::bare(n.name.as_str()), "SHA256:x"),
                    )
                })
                .collect()
        };
        let of = |seen: &BTreeMap<NodeName, Observed>, objects| match cluster_api(
            &nodes,
            seen,
            objects,
            &Lists::default(),
        ) {
            Api::Absent => "absent".to_owned(),
            Api::Unread(why) => why,
            Api::Read(..) => "read".to_owned(),
        };
        assert_eq!(of(&answered(&nodes), &None), "absent");
        let workers: Vec<&Node> =
            nodes.iter().copied().filter(|n| !n.has_role(Role::ControlPlane)).collect();
        assert!(of(&answered(&workers), &None).contains("a control plane did not answer"));
        assert!(of(&answered(&nodes[1..]), &None).contains("a control plane did not answer"));
        // Of a worker that was asked and is silent nothing follows for the API.
        assert_eq!(of(&answered(&nodes[..planes]), &None), "absent");
        assert_eq!(of(&answered(&nodes), &Some(Err("why".into()))), "why");
    }
}
