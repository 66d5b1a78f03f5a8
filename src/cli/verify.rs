//! `kubastion verify`: judge every control, and attack. Changes nothing on nodes; some attempts write to the
//! cluster's API, in a namespace of their own.

use std::collections::BTreeMap;

use super::args::{Format, Global};
use super::output::{note, pretty, print};
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::desired;
use crate::facts::cluster::ClusterFacts;
use crate::facts::live::{LiveFacts, collect_live};
use crate::facts::{NodeFacts, WatchList};
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role};
use crate::pki::{Ca, Kind, Material, Store};
use crate::report::findings::{Detail, summary, text};
use crate::transport::{Transport, fleet};
use crate::verify::findings::Api;
use crate::verify::probes::{self, ApiKeys, Field, Keys, Ports, Writes};
use crate::verify::{self, Observed, Reference, Subject, Verification, findings};
use crate::workflow::keys;
use crate::workflow::objects;
use crate::workflow::observe::{self, Reach};
use crate::workflow::planner;
use crate::workflow::software;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes, and how they are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Show every control with all evidence.
    #[arg(short, long, conflicts_with = "summary")]
    pub verbose: bool,
    /// Create nothing in the cluster or on the nodes. What only such an attempt can show is unknown.
    #[arg(long)]
    pub read_only: bool,
    /// Say in plain words what was proven and what was not.
    #[arg(long)]
    pub summary: bool,
}

const HELP: &str =
    "Reads the nodes, then attacks them over the network, from this machine and from other nodes.
Some attempts create a namespace, `kubastion-probe-...`, and one a network namespace on each
node; both are deleted again, and --read-only skips them. Nothing else is changed. A control holds
only if it was seen to hold: what cannot be checked is unknown, and unknown counts as a failure.

Exit code 5: a control failed or could not be judged. 6: a node did not answer.

Examples:
  kubastion verify
  kubastion verify --summary
  kubastion --format json verify |
      jq '.findings[] | select(.verdict == \"fail\")'";

/// Runs `kubastion verify`.
///
/// # Errors
/// Every problem of the inventory and of nodes that did not answer. What the others showed is
/// printed all the same.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let mut loaded = super::inventory::load(global)?;
    software::bundle(&mut loaded)?;
    let inventory = &loaded.inventory;
    let nodes = observe::chosen(inventory, &args.reach)?;
    let dialer = observe::dialer(inventory, &nodes, &args.reach)?;
    let material = material(&loaded, global.format);
    let mut fleet = observe::look_at(inventory, &nodes, &dialer, everything, usize::MAX);
    let now = Clock::System.now();
    let live = live(inventory, &nodes, &mut fleet);
    let access = material.as_ref().and_then(|m| objects::access(inventory, m));
    let objects =
        objects::read(&mut fleet, access.as_ref(), loaded.inventory.cluster.kubernetes.minor);
    let pending = pending(&loaded, &mut fleet, material.as_ref());
    let mut facts: BTreeMap<NodeName, NodeFacts> = BTreeMap::new();
    let mut sessions: BTreeMap<NodeName, Box<dyn Transport>> = BTreeMap::new();
    for (name, seen) in fleet.seen {
        facts.insert(name.clone(), seen.facts);
        sessions.extend(seen.session.map(|s| (name, s)));
    }
    let mut seen: BTreeMap<NodeName, Observed> =
        facts.iter().map(|(n, f)| (n.clone(), Observed::from_facts(f))).collect();
    for node in &nodes {
        if let (Some(seen), Some(facts)) = (seen.get_mut(&node.name), facts.get(&node.name)) {
            seen.wanted_firewall_sha256 = desired::firewall_sha256(inventory, node, facts);
        }
    }
    for (name, seen) in &mut seen {
        seen.live = live.get(name).cloned();
        seen.pending = pending.get(name).cloned();
    }
    if let Some(Ok(objects)) = &objects {
        seen.iter_mut().for_each(|(name, s)| s.add_objects(name, objects));
    }
    let keys = material.as_ref().and_then(|m| keys(inventory, m));
    let api_keys = material.as_ref().and_then(|m| api_keys(inventory, m));
    let field = Field {
        inventory,
        seen: &seen,
        keys: keys.as_ref(),
        api: api_keys.as_ref(),
        writes: if args.read_only { Writes::Forbidden } else { Writes::Allowed },
        now,
        ports: Ports::default(),
    };
    let attempts = probes::run(&field, sessions);

    let mut found = Vec::new();
    for node in &nodes {
        match seen.get(&node.name) {
            Some(seen) => {
                let subject = Subject { inventory, node, seen, now };
                found.extend(verify::of_node(&subject, &attempts));
            }
            None => {
                let why = fleet.lost.get(&node.name).map(|p| p.why.join(": ")).unwrap_or_default();
                found.extend(verify::unreachable(inventory, node, &why));
            }
        }
    }
    let api = cluster_api(&nodes, &seen, &objects);
    let reference = Reference {
        ca_pem: material.as_ref().map(|m| m.ca_cert(Ca::Cluster).to_owned()),
        front_proxy_ca_pem: material.as_ref().map(|m| m.ca_cert(Ca::FrontProxy).to_owned()),
        kubeadm: seen.values().filter_map(Observed::kubeadm_init).map(str::to_owned).collect(),
    };
    found.extend(findings::of_cluster(inventory, &api, &reference, now));
    let lost = fleet.lost.iter().map(|(n, p)| (n.clone(), p.why.join(": "))).collect();
    let report = Verification::new(inventory, now, found, attempts, lost);

    match global.format {
        Format::Json => print(&pretty(&report))?,
        Format::Text if args.summary => print(&summary(&report))?,
        Format::Text => {
            let detail = if args.verbose { Detail::Everything } else { Detail::Short };
            print(&text(&report, detail))?
        }
    };
    if !fleet.lost.is_empty() {
        let problems = fleet.lost.into_values().collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    Ok(if report.is_bad() { Exit::Findings } else { Exit::Done })
}

/// What checks look at, and what a plan is made of.
fn everything(inventory: &Inventory, node: &Node) -> WatchList {
    let mut watch = desired::watch(inventory, node);
    watch.extend(verify::watch(inventory, node));
    watch
}

/// What is in effect on each node, beside what its files say. A node that does not tell has none.
fn live(
    inventory: &Inventory,
    nodes: &[&Node],
    fleet: &mut observe::Fleet,
) -> BTreeMap<NodeName, LiveFacts> {
    let request = |node: &Node| {
        let watch = everything(inventory, node);
        let paths = watch.files.into_iter().chain(watch.trees);
        verify::live_request(inventory, node, paths)
    };
    let sessions: Vec<_> = fleet
        .seen
        .iter_mut()
        .filter_map(|(name, seen)| {
            let node = nodes.iter().find(|n| n.name == *name)?;
            Some((name.clone(), *node, seen.session.as_deref_mut()?))
        })
        .collect();
    let read = fleet::each(sessions, fleet::WINDOW, |(name, node, session)| {
        (name, collect_live(session, &request(node)).ok())
    });
    read.into_iter().filter_map(|(name, live)| Some((name, live?))).collect()
}

/// What a plan that is made now would do on each node, or why none can be made.
fn pending(
    loaded: &Loaded,
    fleet: &mut observe::Fleet,
    material: Option<&Material>,
) -> BTreeMap<NodeName, Result<Vec<String>, String>> {
    let Some(material) = material else {
        let why = || Err("the key store cannot be used".to_owned());
        return fleet.seen.keys().map(|name| (name.clone(), why())).collect();
    };
    let (plan, lost) = planner::plan_to_compare(loaded, fleet, material);
    // Members that come or go are no step of a node of their own.
    let teller = loaded.inventory.etcd_members().find(|n| plan.nodes.contains_key(&n.name));
    let etcd = |name: &NodeName| {
        let all = teller.filter(|n| n.name == *name).map(|_| plan.etcd.iter());
        all.into_iter().flatten().map(ToString::to_string)
    };
    let steps = |name: &NodeName| match (plan.nodes.get(name), lost.get(name)) {
        (Some(node), _) => Ok(node
            .transactions
            .iter()
            .flat_map(|t| &t.steps)
            .filter(|a| !a.why.is_empty())
            .map(|a| format!("{} (now: {})", a.step, a.why))
            .chain(node.held_back.iter().cloned())
            .chain(etcd(name))
            .collect()),
        (None, Some(problem)) => Err(format!("{}: {}", problem.what, problem.why.join("; "))),
        (None, None) => Err("the node was left out".to_owned()),
    };
    fleet.seen.keys().map(|name| (name.clone(), steps(name))).collect()
}

/// What is known of the cluster's API. That Kubernetes does not run is known only where every control plane that was
/// asked has answered.
fn cluster_api<'o>(
    nodes: &[&Node],
    seen: &BTreeMap<NodeName, Observed>,
    objects: &'o Option<Result<ClusterFacts, String>>,
) -> Api<'o> {
    let silent = |n: &&Node| n.has_role(Role::ControlPlane) && !seen.contains_key(&n.name);
    let unread = |why: &str| Api::Unread(why.to_owned());
    match objects {
        Some(Ok(facts)) => Api::Read(facts),
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

/// What the store holds, due for renewal or not. Without a store, what needs keys is unknown.
fn material(loaded: &Loaded, format: Format) -> Option<Material> {
    let inventory = &loaded.inventory;
    let ask = |ask| keys::ask_passphrase(&inventory.pki, ask);
    let read = Store::open(&inventory.pki, &inventory.cluster.name, &ask)
        .and_then(|store| store.contents())
        .and_then(|contents| Material::from_contents(inventory, &contents));
    match read {
        Ok(material) => Some(material),
        Err(e) => {
            let why = crate::apply::gate::chain(&e);
            let what = "the key store cannot be used, so that what needs keys stays unknown";
            note(format, &format!("{what}: {why}"));
            None
        }
    }
}

/// The identities that attempts on the cluster's API use.
fn api_keys(inventory: &Inventory, material: &Material) -> Option<ApiKeys> {
    let of = |kind| -> BTreeMap<NodeName, probes::Identity> {
        let pair = |n: &crate::inventory::Node| {
            let pair = material.node(kind, &n.name)?;
            Some((n.name.clone(), (pair.cert_pem.clone(), pair.key_pem.clone())))
        };
        inventory.nodes.iter().filter_map(pair).collect()
    };
    let admin = material.operator(Kind::Admin)?;
    Some(ApiKeys {
        ca: material.ca_cert(Ca::Cluster).to_owned(),
        admin: (admin.cert_pem.clone(), admin.key_pem.clone()),
        probes: of(Kind::ApiserverProbe),
        kubelets: of(Kind::KubeletClient),
    })
}

/// The keys that attempts on etcd use.
fn keys(inventory: &Inventory, material: &Material) -> Option<Keys> {
    let first = inventory.etcd_members().next()?;
    let health = material.node(Kind::EtcdHealthcheckClient, &first.name)?;
    let stranger = inventory
        .nodes
        .iter()
        .find_map(|n| material.node(Kind::KubeletClient, &n.name))
        .or_else(|| material.operator(Kind::Admin))?;
    let served = inventory.etcd_members().filter_map(|n| {
        let server = material.node(Kind::EtcdServer, &n.name)?;
        let peer = material.node(Kind::EtcdPeer, &n.name)?;
        Some((n.name.clone(), (server.cert_pem.clone(), peer.cert_pem.clone())))
    });
    let ca = |ca| material.ca_cert(ca).to_owned();
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
                .map(|n| (n.name.clone(), Observed::from_facts(&NodeFacts::bare(n.name.as_str()))))
                .collect()
        };
        let of =
            |seen: &BTreeMap<NodeName, Observed>, objects| match cluster_api(&nodes, seen, objects)
            {
                Api::Absent => "absent".to_owned(),
                Api::Unread(why) => why,
                Api::Read(_) => "read".to_owned(),
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
