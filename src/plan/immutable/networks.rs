//! The networks and the DNS domain of a running cluster.

use crate::desired::{INIT, dns};
use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Component, Inventory, IpNetText, Node};
use crate::plan::diff::KUBELET_CONFIG;
use crate::plan::stored_data::{APISERVER_POD, CONTROLLER_MANAGER_POD};
use crate::yaml;

/// What kubeadm was last given by kubastion for the kubelet of any node.
const FOR_KUBELET: &str = "/etc/kubernetes/kubastion/kubeadm-kubelet.yaml";

/// A key of the inventory that holds for the whole life of a cluster, and one place on a node that shows what it runs with.
struct Place {
    key: &'static str,
    /// What a change would break.
    because: &'static str,
    /// What the node runs with, and where it says so.
    runs: fn(&NodeFacts) -> Option<(&'static str, String)>,
    /// What kubastion applied last; `None` on a cluster that somebody else made.
    applied: fn(&NodeFacts) -> Option<String>,
    /// Both as the inventory wants them.
    wanted: fn(&Inventory) -> (String, String),
    /// Whether the node's own word is enough: on clusters of others a kubelet may ask a cache on its node for names.
    by_itself: bool,
}

const OF_PODS: &str =
    "nodes keep their subnets of the old network, and the controller manager exits";
const OF_SERVICES: &str = "Services keep addresses of the old network, which no longer answer";
const OF_NAMES: &str =
    "pod tokens would have another issuer, and Service names would no longer resolve";

const PLACES: &[Place] = &[
    Place {
        key: "cluster.pod_networks",
        because: OF_PODS,
        runs: |f| flag(f, CONTROLLER_MANAGER_POD, "--cluster-cidr"),
        applied: |f| networking(f, "podSubnet"),
        wanted: |i| (list(&i.cluster.pod_networks), list(&i.cluster.pod_networks)),
        by_itself: true,
    },
    Place {
        key: "cluster.service_networks",
        because: OF_SERVICES,
        runs: |f| flag(f, APISERVER_POD, "--service-cluster-ip-range"),
        applied: |f| networking(f, "serviceSubnet"),
        wanted: |i| (list(&i.cluster.service_networks), list(&i.cluster.service_networks)),
        by_itself: true,
    },
    Place {
        key: "cluster.service_networks",
        because: OF_SERVICES,
        runs: |f| Some(("clusterDNS", kubelet(f, KUBELET_CONFIG, "clusterDNS")?)),
        applied: |f| kubelet(f, FOR_KUBELET, "clusterDNS"),
        wanted: |i| {
            let all: Vec<String> =
                i.cluster.service_networks.iter().map(|n| dns(n).to_string()).collect();
            (all.join(","), all.join(","))
        },
        by_itself: false,
    },
    Place {
        key: "cluster.domain",
        because: OF_NAMES,
        runs: |f| flag(f, APISERVER_POD, "--service-account-issuer"),
        applied: |f| networking(f, "dnsDomain"),
        wanted: |i| {
            let domain = i.cluster.domain.to_string();
            let issuer = i.extra_args(Component::ApiServer).get("service-account-issuer");
            let issuer = issuer.and_then(|values| values.0.first()).cloned();
            let default = || format!("https://kubernetes.default.svc.{domain}");
            (issuer.unwrap_or_else(default), domain)
        },
        by_itself: true,
    },
    Place {
        key: "cluster.domain",
        because: OF_NAMES,
        runs: |f| Some(("clusterDomain", kubelet(f, KUBELET_CONFIG, "clusterDomain")?)),
        applied: |f| kubelet(f, FOR_KUBELET, "clusterDomain"),
        wanted: |i| (i.cluster.domain.to_string(), i.cluster.domain.to_string()),
        by_itself: false,
    },
];

/// Networks and DNS domain, by the word of control planes; of kubelets, where no control plane was checked. As long as one
/// control plane runs with what the inventory says, files of others were changed by hand, and the next apply restores them.
pub(super) fn changed(inventory: &Inventory, nodes: &[(&Node, &NodeFacts)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for place in PLACES {
        let of_planes = |p: &&Place| p.key == place.key && p.by_itself;
        let says = |p: &Place| nodes.iter().any(|(_, facts)| (p.runs)(facts).is_some());
        if !place.by_itself && PLACES.iter().filter(of_planes).any(says) {
            continue;
        }
        let says = nodes.iter().filter(|(_, facts)| (place.runs)(facts).is_some());
        let shown: Vec<Option<Problem>> =
            says.map(|(node, facts)| place.problem(inventory, node, facts)).collect();
        if !shown.contains(&None) {
            problems.extend(shown.into_iter().flatten().next());
        }
    }
    problems
}

impl Place {
    /// What a node shows of a change.
    fn problem(&self, inventory: &Inventory, node: &Node, facts: &NodeFacts) -> Option<Problem> {
        let (runs, applied) = (self.wanted)(inventory);
        let (what, is) = (self.runs)(facts)?;
        let same = match (self.applied)(facts) {
            Some(was) => is == runs || was == applied,
            None => is == runs || !self.by_itself,
        };
        (!same).then(|| {
            Problem::new(format!("`{}` cannot change: the cluster runs with {what} {is}", self.key))
                .at(node.name.to_string())
                .because(self.because)
                .left("no plan was made")
                .hint(format!(
                    "set `{}` back to the value that the cluster was created with",
                    self.key
                ))
        })
    }
}

/// The value of a flag in a static pod's manifest.
fn flag(facts: &NodeFacts, pod: &str, name: &'static str) -> Option<(&'static str, String)> {
    let text = facts.texts.get(pod)?.as_deref()?;
    let mut lines = text.lines().map(|l| l.trim().trim_start_matches("- ").trim_matches('"'));
    let value = lines.find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
    Some((name, value.to_owned()))
}

/// A key below `networking` of what kubeadm was last given.
fn networking(facts: &NodeFacts, key: &str) -> Option<String> {
    let document = document(facts, INIT, "ClusterConfiguration")?;
    Some(document.get("networking")?.get(key)?.as_str()?.to_owned())
}

/// A key of a KubeletConfiguration; of a list, its entries with commas.
fn kubelet(facts: &NodeFacts, path: &str, key: &str) -> Option<String> {
    let document = document(facts, path, "KubeletConfiguration")?;
    match document.get(key)? {
        yaml::Value::Sequence(all) => {
            Some(all.iter().filter_map(yaml::Value::as_str).collect::<Vec<_>>().join(","))
        }
        one => one.as_str().map(str::to_owned),
    }
}

fn document(facts: &NodeFacts, path: &str, kind: &str) -> Option<yaml::Value> {
    let documents = yaml::documents(facts.texts.get(path)?.as_deref()?).ok()?;
    documents.into_iter().find(|d| d.get("kind").and_then(yaml::Value::as_str) == Some(kind))
}

fn list(networks: &[IpNetText]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;

    const NODES: &str = "nodes:\n- {name: n, addresses: [10.0.0.1], roles: [control-plane]}\n";

    fn facts(domain: &str, staged_domain: Option<&str>) -> NodeFacts {
        let mut facts = NodeFacts::bare("n");
        let pod = format!(
            "    - --service-account-issuer=https://kubernetes.default.svc.{domain}\n\
             \x20   - --service-cluster-ip-range=10.96.0.0/12\n"
        );
        facts.texts.insert(APISERVER_POD.into(), Some(pod));
        let pod = "    - --cluster-cidr=10.244.0.0/16\n";
        facts.texts.insert(CONTROLLER_MANAGER_POD.into(), Some(pod.into()));
        if let Some(domain) = staged_domain {
            let text = format!(
                "kind: InitConfiguration\n---\nkind: ClusterConfiguration\nnetworking:\n  dnsDomain: {domain}\n"
            );
            facts.texts.insert(INIT.into(), Some(text));
        }
        facts
    }

    fn said(more: &str, facts: &NodeFacts) -> String {
        let head = testing::HEAD.replace("'api:6443'}", &format!("'api:6443'{more}}}"));
        let inventory: Inventory = crate::yaml::from_text(&format!("{head}{NODES}")).unwrap();
        let found = changed(&inventory, &[(&inventory.nodes[0], facts)]);
        found.iter().map(|p| p.what.as_str()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_the_cluster_was_made_with_holds() {
        let runs = facts("cluster.local", Some("cluster.local"));
        assert_eq!(said("", &runs), "");
        assert!(said(", domain: other.local", &runs).starts_with("`cluster.domain` cannot change"));
        let other = said(", service_networks: [10.97.0.0/16]", &runs);
        assert!(other.contains("--service-cluster-ip-range 10.96.0.0/12"), "{other}");
        let other = said(", pod_networks: [10.200.0.0/16]", &runs);
        assert!(other.contains("--cluster-cidr 10.244.0.0/16"), "{other}");
        // Whoever made it.
        assert!(said(", domain: other.local", &facts("cluster.local", None)).contains("domain"));
    }

    #[test]
    fn a_static_pod_that_somebody_changed_is_mended() {
        assert_eq!(said("", &facts("evil.example", Some("cluster.local"))), "");
        assert!(said("", &facts("evil.example", None)).contains("cluster.domain"));
    }

    /// The issuer of tokens says nothing of the domain where the inventory has one of its own.
    #[test]
    fn an_issuer_that_is_passed_through_is_no_other_domain() {
        let mut runs = facts("cluster.local", None);
        let pod = "    - --service-account-issuer=https://issuer.example\n";
        runs.texts.insert(APISERVER_POD.into(), Some(pod.into()));
        let head = testing::HEAD;
        let passed =
            "api_server: {extra_args: {service-account-issuer: 'https://issuer.example'}}\n";
        for (more, problems) in [("", 1), (passed, 0)] {
            let text = format!("{head}{more}{NODES}");
            let inventory: Inventory = crate::yaml::from_text(&text).unwrap();
            assert_eq!(changed(&inventory, &[(&inventory.nodes[0], &runs)]).len(), problems);
        }
    }

    /// One control plane that says what the inventory says is enough: others were changed by hand.
    #[test]
    fn one_changed_control_plane_stops_nobody() {
        let inventory = testing::with(
            "nodes:\n- {name: a, addresses: [10.0.0.1], roles: [control-plane]}\n\
             - {name: b, addresses: [10.0.0.2], roles: [control-plane]}\n",
        );
        let (good, evil) = (facts("cluster.local", None), facts("evil.example", None));
        let found = |a: &NodeFacts, b: &NodeFacts| {
            changed(&inventory, &[(&inventory.nodes[0], a), (&inventory.nodes[1], b)]).len()
        };
        assert_eq!(found(&good, &evil), 0);
        assert_eq!(found(&evil, &evil), 1);
    }

    /// A worker alone, of which the kubelet shows it.
    #[test]
    fn a_kubelet_shows_what_kubastion_gave_it() {
        let config = |domain: &str, dns: &str| {
            let text = format!(
                "kind: KubeletConfiguration\nclusterDNS:\n- {dns}\nclusterDomain: {domain}\n"
            );
            Some(text)
        };
        let mut worker = NodeFacts::bare("n");
        assert_eq!(said(", domain: other.local", &worker), "");
        worker.texts.insert(KUBELET_CONFIG.into(), config("cluster.local", "10.96.0.10"));
        assert_eq!(said(", domain: other.local", &worker), "", "somebody else's kubelet");
        worker.texts.insert(FOR_KUBELET.into(), config("cluster.local", "10.96.0.10"));
        assert_eq!(said("", &worker), "");
        let other = said(", domain: other.local", &worker);
        assert!(other.contains("clusterDomain cluster.local"), "{other}");
        let other = said(", service_networks: [10.97.0.0/16]", &worker);
        assert!(other.contains("clusterDNS 10.96.0.10"), "{other}");
        // The API servers have the last word.
        let mut both = facts("other.local", Some("other.local"));
        both.texts.extend(worker.texts.clone());
        assert_eq!(said(", domain: other.local", &both), "");
        worker.texts.insert(KUBELET_CONFIG.into(), config("evil.example", "10.9.9.9"));
        assert_eq!(said("", &worker), "", "changed by hand");
    }
}
