//! Everything that was found of a cluster, as one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::kubeadm::{ClusterConfiguration, cluster_configuration};
use super::nodes::FoundNode;
use super::places::{CNI, STACKED_ETCD};
use super::recognition::{Recognized, recognize};
use crate::facts::cluster::ClusterFacts;
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::{
    ClusterName, DnsDomain, Endpoint, Host, IpNetText, KubernetesVersion, NodeName, Role,
};

/// Port of an API server where nobody says another one.
const API_PORT: u16 = crate::pki::kubeconfig::API_PORT;

/// A cluster as it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub name: ClusterName,
    /// Its release as it says it.
    pub release: String,
    /// The release that it is judged as: the nearest one that this program knows.
    pub judged_as: KubernetesVersion,
    /// Where clients reach the API servers.
    pub endpoint: Endpoint,
    /// Who answers there.
    pub answered_by: AnsweredBy,
    /// Networks of pods.
    pub pod_networks: Vec<IpNetText>,
    /// Networks of Services.
    pub service_networks: Vec<IpNetText>,
    /// DNS domain of Services.
    pub domain: DnsDomain,
    /// Where etcd runs.
    pub etcd: EtcdPlace,
    /// Names of the CNI configurations on nodes; the runtime takes the first.
    pub cni: Vec<String>,
    /// Whose cluster it is.
    pub recognized: Recognized,
    /// Its nodes, and the etcd members that were named, by name.
    pub nodes: Vec<FoundNode>,
    /// What was assumed, or is left out.
    pub notes: Vec<String>,
}

/// Who answers at the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnsweredBy {
    /// One node, whose own address it is: while it is down, nobody answers.
    Node(NodeName),
    /// A node that has the address now, beside its own: it moves between nodes.
    Floating(NodeName),
    /// A machine that is none of the nodes, or a name.
    Outside,
}

/// Where etcd runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdPlace {
    /// As static pods of the control planes.
    Stacked,
    /// As a service of the control planes.
    OnControlPlanes,
    /// On dedicated machines, which were named.
    Dedicated,
    /// On machines that were not named: etcd is not assessed.
    Outside(Vec<String>),
    /// Not found on any node.
    Unseen,
}

/// Puts together what the API holds, the nodes, and what those that answered show.
pub fn describe(
    objects: &ClusterFacts,
    mut nodes: Vec<FoundNode>,
    mut notes: Vec<String>,
    facts: &BTreeMap<NodeName, NodeFacts>,
    asked_at: &Endpoint,
) -> Found {
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let told = cluster_configuration(objects).unwrap_or_else(|| {
        notes.push("ConfigMap kubeadm-config is missing: names, networks and release come from the running daemons or from kubeadm's defaults".into());
        ClusterConfiguration::default()
    });
    let planes: Vec<&FoundNode> = nodes.iter().filter(|n| n.role == Role::ControlPlane).collect();
    if planes.is_empty() {
        notes.push("no control plane is known: control plane controls are not judged".into());
    }
    let release = told
        .version
        .clone()
        .or_else(|| planes.first().or(nodes.first().as_ref()).map(|n| n.kubelet.clone()))
        .unwrap_or_default();
    let judged_as = nearest(&release, &mut notes);
    let endpoint = told.endpoint.as_deref().and_then(endpoint_of);
    let endpoint = endpoint.unwrap_or_else(|| asked_at.clone());
    let flag = |program: &str, name: &str| flag(facts, program, name);
    let networks = |said: &Option<String>, name: &str, default: &str, notes: &mut Vec<String>| {
        let said = said.clone().or_else(|| flag("kube-controller", name));
        let all = said.as_deref().map(networks_of).unwrap_or_default();
        if all.is_empty() {
            notes.push(format!("--{name} is unknown: assuming {default}"));
            return networks_of(default);
        }
        all
    };
    let pod_networks = networks(&told.pods, "cluster-cidr", "10.244.0.0/16", &mut notes);
    let service_networks =
        networks(&told.services, "service-cluster-ip-range", "10.96.0.0/12", &mut notes);
    let port = flag("kube-apiserver", "secure-port").unwrap_or_default();
    if !port.is_empty() && port != API_PORT.to_string() {
        notes.push(format!(
            "API servers listen on port {port}: attempts connect to {API_PORT}, so their controls are unknown"
        ));
    }
    let etcd = etcd(&told, &nodes, facts);
    match &etcd {
        EtcdPlace::Outside(at) => notes.push(format!(
            "etcd runs at {}, on machines that were not named: name them too to assess etcd",
            at.join(", ")
        )),
        EtcdPlace::Unseen => {
            notes.push(
                "no etcd was found on the nodes that answered: etcd controls are not judged".into(),
            );
        }
        _ => {}
    }
    Found {
        name: told
            .name
            .as_deref()
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| "kubernetes".parse().expect("`kubernetes` is a name")),
        release,
        judged_as,
        answered_by: answered_by(&endpoint, &nodes, facts),
        endpoint,
        pod_networks,
        service_networks,
        domain: told
            .domain
            .as_deref()
            .and_then(|d| d.parse().ok())
            .unwrap_or_else(|| "cluster.local".parse().expect("`cluster.local` is a domain")),
        etcd,
        cni: cni(facts),
        recognized: recognize(&nodes, facts.values()),
        nodes,
        notes,
    }
}

/// A release as `v1.36.2`, `v1.36.2+k3s1` or `v1.31.4-eks-1a2b`; one that is not supported is judged as its neighbour.
fn nearest(release: &str, notes: &mut Vec<String>) -> KubernetesVersion {
    let core = release.trim_start_matches('v').split(['+', '-']).next().unwrap_or_default();
    let mut parts = core.split('.').skip(1).map(str::parse::<u16>);
    let supported = KubernetesVersion::SUPPORTED_MINORS;
    let (Some(Ok(minor)), Some(Ok(patch))) = (parts.next(), parts.next()) else {
        let default = KubernetesVersion::DEFAULT;
        notes.push(format!("release {release:?} cannot be parsed: judging as {default}"));
        return default;
    };
    let near = minor.clamp(*supported.start(), *supported.end());
    if near != minor {
        notes.push(format!(
            "Kubernetes 1.{minor} is not supported (1.{} to 1.{} are): judging as 1.{near}",
            supported.start(),
            supported.end()
        ));
    }
    KubernetesVersion { minor: near, patch: if near == minor { patch } else { 0 } }
}

/// kubeadm takes a host without a port, too.
fn endpoint_of(said: &str) -> Option<Endpoint> {
    let bare = || Some(Endpoint { host: said.parse::<Host>().ok()?, port: API_PORT });
    said.parse().ok().or_else(bare)
}

fn networks_of(said: &str) -> Vec<IpNetText> {
    said.split(',').filter_map(|n| n.trim().parse().ok()).collect()
}

/// A flag of a daemon that runs on a node that answered.
fn flag(facts: &BTreeMap<NodeName, NodeFacts>, program: &str, name: &str) -> Option<String> {
    let begin = format!("--{name}=");
    let mut words = facts
        .values()
        .flat_map(|f| f.processes.get(program).into_iter().flatten())
        .flat_map(|p| &p.argv);
    words.find_map(|w| w.strip_prefix(&begin)).filter(|v| !v.is_empty()).map(str::to_owned)
}

fn answered_by(
    endpoint: &Endpoint,
    nodes: &[FoundNode],
    facts: &BTreeMap<NodeName, NodeFacts>,
) -> AnsweredBy {
    let Ok(address) = endpoint.host.as_str().parse::<IpAddr>() else {
        return AnsweredBy::Outside;
    };
    if let Some(node) = nodes.iter().find(|n| n.addresses.contains(&address)) {
        return AnsweredBy::Node(node.name.clone());
    }
    let has = |f: &NodeFacts| f.addresses.iter().any(|a| a.network.addr() == address);
    match facts.iter().find(|(_, f)| has(f)) {
        Some((name, _)) => AnsweredBy::Floating(name.clone()),
        None => AnsweredBy::Outside,
    }
}

fn etcd(
    told: &ClusterConfiguration,
    nodes: &[FoundNode],
    facts: &BTreeMap<NodeName, NodeFacts>,
) -> EtcdPlace {
    let planes = || nodes.iter().filter(|n| n.role == Role::ControlPlane);
    if !told.external_etcd.is_empty() {
        let host = |url: &String| {
            let place = url.trim_start_matches("https://").trim_end_matches('/');
            Some(endpoint_of(place)?.host.as_str().to_owned())
        };
        let hosts: Vec<String> = told.external_etcd.iter().filter_map(host).collect();
        let is_on = |nodes: Vec<&FoundNode>| {
            hosts.iter().all(|h| {
                nodes.iter().any(|n| {
                    n.name.as_str() == h || n.addresses.iter().any(|a| a.to_string() == *h)
                })
            })
        };
        if is_on(planes().collect()) {
            return EtcdPlace::OnControlPlanes;
        }
        if is_on(nodes.iter().filter(|n| n.role == Role::Etcd).collect()) {
            return EtcdPlace::Dedicated;
        }
        return EtcdPlace::Outside(hosts);
    }
    let shown =
        |show: &dyn Fn(&NodeFacts) -> bool| planes().filter_map(|n| facts.get(&n.name)).any(show);
    let has_manifest =
        |f: &NodeFacts| !matches!(f.files.get(STACKED_ETCD), None | Some(FileFacts::Absent));
    if shown(&has_manifest) {
        return EtcdPlace::Stacked;
    }
    if nodes.iter().any(|n| n.role == Role::Etcd) {
        return EtcdPlace::Dedicated;
    }
    if shown(&NodeFacts::runs_etcd) { EtcdPlace::OnControlPlanes } else { EtcdPlace::Unseen }
}

/// The names of CNI configurations that the runtime reads, of all nodes.
fn cni(facts: &BTreeMap<NodeName, NodeFacts>) -> Vec<String> {
    let mut all: Vec<String> = facts
        .values()
        .filter_map(|f| f.trees.get(CNI))
        .flat_map(|tree| tree.entries.keys())
        .filter_map(|path| path.strip_prefix(CNI)?.strip_prefix('/'))
        .filter(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)))
        .map(str::to_owned)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// A named machine that is not a Node: an etcd member, or a machine of a cluster whose API cannot be read.
pub fn beside(facts: &NodeFacts, address: Option<IpAddr>) -> Option<FoundNode> {
    let own = facts.addresses.iter().map(|a| a.network.addr()).find(|a| !a.is_loopback());
    let runs = |program: &str| facts.processes.get(program).is_some_and(|p| !p.is_empty());
    let role = match (runs("kube-apiserver"), runs("kubelet"), facts.runs_etcd()) {
        (true, _, _) => Role::ControlPlane,
        (false, true, _) => Role::Worker,
        (false, false, true) => Role::Etcd,
        (false, false, false) => return None,
    };
    Some(FoundNode {
        name: facts.hostname.parse().ok()?,
        addresses: vec![address.or(own)?],
        role,
        kubelet: facts
            .versions
            .get("kubelet")
            .and_then(|v| v.rsplit(' ').next())
            .unwrap_or_default()
            .to_owned(),
        runtime: String::new(),
        os: facts.os.pretty.clone(),
        provider: String::new(),
        labels: BTreeMap::new(),
    })
}

/// Which of the nodes a named machine is: by its addresses, which only the machine itself can tell, and by its host name.
pub fn is_node(facts: &NodeFacts, node: &FoundNode) -> bool {
    let has = |address: &IpAddr| facts.addresses.iter().any(|a| a.network.addr() == *address);
    match facts.addresses.is_empty() {
        true => facts.hostname == node.name.as_str(),
        false => node.addresses.iter().any(has),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::nodes::tests::node;
    use super::*;
    use crate::facts::cluster::ObjectKind;
    use crate::facts::{InterfaceAddress, ProcessFacts, TreeFacts};

    pub(crate) const STOCK: &str = "
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: kubernetes
kubernetesVersion: v1.36.2
controlPlaneEndpoint: 192.0.2.11:6443
networking:
  dnsDomain: cluster.local
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/12
etcd:
  local:
    dataDir: /var/lib/etcd
";

    fn cp1() -> NodeName {
        "cp1".parse().unwrap()
    }

    pub(crate) fn objects(configuration: &str) -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let plane = json!({"node-role.kubernetes.io/control-plane": ""});
        facts.objects.insert(
            ObjectKind::Nodes,
            vec![node("cp1", "192.0.2.11", plane), node("w1", "192.0.2.21", json!({}))],
        );
        let map = json!({
            "metadata": {"namespace": "kube-system", "name": "kubeadm-config"},
            "data": {"ClusterConfiguration": configuration},
        });
        facts.objects.insert(ObjectKind::ConfigMaps, vec![map]);
        facts
    }

    fn played(name: &str, addresses: &[&str]) -> (NodeName, NodeFacts) {
        let mut facts = NodeFacts::bare(name);
        let of =
            |a: &&str| InterfaceAddress { interface: "eth0".into(), network: a.parse().unwrap() };
        facts.addresses = addresses.iter().map(of).collect();
        facts.files.clear();
        (facts.node.clone(), facts)
    }

    pub(crate) fn stacked() -> BTreeMap<NodeName, NodeFacts> {
        let (name, mut cp) = played("cp1", &["127.0.0.1/8", "192.0.2.11/24"]);
        let (owner, group) = ("root".into(), "root".into());
        let manifest = FileFacts::Directory { mode: 0o600, owner, group };
        cp.files.insert(STACKED_ETCD.into(), manifest);
        let mut tree = TreeFacts { complete: true, ..TreeFacts::default() };
        let entry = crate::facts::TreeEntry {
            kind: crate::facts::EntryKind::File,
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
        };
        for file in ["", "/10-bridge.conflist", "/README"] {
            tree.entries.insert(format!("{CNI}{file}"), entry.clone());
        }
        cp.trees.insert(CNI.into(), tree);
        [(name, cp), played("w1", &["192.0.2.21/24"])].into()
    }

    pub(crate) fn found(configuration: &str, facts: &BTreeMap<NodeName, NodeFacts>) -> Found {
        let objects = objects(configuration);
        let (nodes, _) = super::super::nodes::found(&objects).unwrap();
        let asked = "192.0.2.99:6443".parse().unwrap();
        describe(&objects, nodes, Vec::new(), facts, &asked)
    }

    #[test]
    fn a_stock_cluster_is_found_as_it_is() {
        let found = found(STOCK, &stacked());
        assert_eq!(found.name.as_str(), "kubernetes");
        assert_eq!(
            (found.release.as_str(), found.judged_as.to_string()),
            ("v1.36.2", "1.36.2".into())
        );
        assert_eq!(found.endpoint.to_string(), "192.0.2.11:6443");
        assert_eq!(found.answered_by, AnsweredBy::Node("cp1".parse().unwrap()));
        assert_eq!((found.pod_networks.len(), found.service_networks.len()), (1, 1));
        assert_eq!(networks_of("10.244.0.0/16, fd00:10:244::/56,x").len(), 2);
        assert_eq!(found.etcd, EtcdPlace::Stacked);
        assert_eq!(found.cni, ["10-bridge.conflist"]);
        assert!(found.notes.is_empty(), "{:?}", found.notes);
    }

    #[test]
    fn an_endpoint_is_a_node_an_address_that_moves_or_somebody_else() {
        let of = |endpoint: &str| {
            let mut facts = stacked();
            let moved = InterfaceAddress {
                interface: "eth0".into(),
                network: "192.0.2.5/32".parse().unwrap(),
            };
            facts.get_mut(&cp1()).unwrap().addresses.push(moved);
            found(&STOCK.replace("192.0.2.11:6443", endpoint), &facts)
        };
        assert_eq!(of("192.0.2.5:8443").answered_by, AnsweredBy::Floating("cp1".parse().unwrap()));
        assert_eq!(of("192.0.2.6").answered_by, AnsweredBy::Outside);
        assert_eq!(of("192.0.2.6").endpoint.to_string(), "192.0.2.6:6443");
        assert_eq!(of("api.example:443").answered_by, AnsweredBy::Outside);
        // Where kubeadm was told none, the one that was asked.
        assert_eq!(of("\"\"").endpoint.to_string(), "192.0.2.99:6443");
    }

    #[test]
    fn an_etcd_elsewhere_is_said_and_not_assessed() {
        let external = |at: &str| {
            let other = format!("etcd:\n  external:\n    endpoints: [\"https://{at}:2379\"]\n");
            let begin = STOCK.split_once("etcd:").unwrap().0;
            let mut facts = stacked();
            facts.get_mut(&cp1()).unwrap().files.clear();
            found(&format!("{begin}{other}"), &facts)
        };
        assert_eq!(external("192.0.2.11").etcd, EtcdPlace::OnControlPlanes);
        let outside = external("192.0.2.31");
        assert_eq!(outside.etcd, EtcdPlace::Outside(vec!["192.0.2.31".into()]));
        assert!(outside.notes[0].contains("192.0.2.31"), "{:?}", outside.notes);
        let mut none = stacked();
        none.get_mut(&cp1()).unwrap().files.clear();
        assert_eq!(found(STOCK, &none).etcd, EtcdPlace::Unseen);
    }

    #[test]
    fn a_release_that_nobody_knows_is_judged_as_its_neighbour_and_said() {
        let of = |release: &str| {
            let found = found(&STOCK.replace("v1.36.2", release), &stacked());
            (found.judged_as.to_string(), found.notes.len())
        };
        assert_eq!(of("v1.35.7+k3s1"), ("1.35.7".into(), 0));
        assert_eq!(of("v1.31.4-eks-1a2b"), ("1.34.0".into(), 1));
        assert_eq!(of("v1.99.0"), ("1.37.0".into(), 1));
        assert_eq!(of("latest").1, 1);
    }

    #[test]
    fn without_a_word_of_kubeadm_daemons_tell_the_networks() {
        let mut facts = stacked();
        let argv = ["kube-controller-manager", "--cluster-cidr=10.7.0.0/16"].map(str::to_owned);
        let process = ProcessFacts { pid: 1, user: "root".into(), argv: argv.into() };
        facts.get_mut(&cp1()).unwrap().processes.insert("kube-controller".into(), vec![process]);
        let mut objects = objects("");
        objects.objects.remove(&ObjectKind::ConfigMaps);
        let (nodes, _) = super::super::nodes::found(&objects).unwrap();
        let asked = "192.0.2.11:6443".parse().unwrap();
        let found = describe(&objects, nodes, Vec::new(), &facts, &asked);
        assert_eq!(found.pod_networks[0].to_string(), "10.7.0.0/16");
        assert_eq!(found.service_networks[0].to_string(), "10.96.0.0/12");
        assert_eq!(found.release, "v1.36.2");
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    }

    #[test]
    fn a_machine_is_the_node_whose_address_it_has() {
        let nodes = super::super::nodes::found(&objects(STOCK)).unwrap().0;
        let (_, other) = played("w1", &["192.0.2.11/24"]);
        assert!(is_node(&other, &nodes[0]) && !is_node(&other, &nodes[1]));
        let (_, silent) = played("w1", &[]);
        assert!(is_node(&silent, &nodes[1]) && !is_node(&silent, &nodes[0]));
    }

    #[test]
    fn a_machine_that_is_no_node_is_what_runs_on_it() {
        let of = |programs: &[&str]| {
            let (_, mut facts) = played("e1", &["127.0.0.1/8", "192.0.2.31/24"]);
            for program in programs {
                let argv = vec![(*program).to_owned()];
                let process = ProcessFacts { pid: 1, user: "root".into(), argv };
                facts.processes.insert((*program).to_owned(), vec![process]);
            }
            beside(&facts, None)
        };
        assert_eq!(of(&["etcd"]).unwrap().role, Role::Etcd);
        assert_eq!(of(&["kubelet", "etcd"]).unwrap().role, Role::Worker);
        assert_eq!(of(&["kubelet", "kube-apiserver"]).unwrap().role, Role::ControlPlane);
        assert_eq!(of(&["etcd"]).unwrap().addresses[0].to_string(), "192.0.2.31");
        assert!(of(&[]).is_none());
    }
}
