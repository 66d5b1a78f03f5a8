//! Whose cluster it is: by programs, units and files of its nodes, and by what its Node objects say. A row for each distribution.

use crate::facts::{FileFacts, NodeFacts, WatchList};

use super::nodes::FoundNode;
use super::places::{CNI, KUBELET_DROP_INS, MANIFESTS, STACKED_ETCD, TEXTS};

/// A way to make a cluster.
#[derive(Debug)]
pub struct Distribution {
    /// Its name.
    pub name: &'static str,
    /// Whether this program may change it.
    pub changes: Changes,
    /// What it is recognized by; one of them is enough.
    signs: &'static [Sign],
    /// What of it can be judged, for people.
    pub judged: &'static str,
}

/// Whether this program may change a cluster that it did not build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changes {
    /// It may.
    Possible,
    /// It refuses: another program owns the files, or nobody reaches the control plane.
    Refused,
}

/// What a distribution is recognized by.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// A systemd unit that is loaded on a node.
    Unit(&'static str),
    /// A path on a node.
    Path(&'static str),
    /// A part of the kubelet's version in a Node object.
    Version(&'static str),
    /// A beginning of the operating system's name in a Node object.
    Os(&'static str),
    /// A beginning of a label's name on a Node object.
    Label(&'static str),
}

/// The first row that fits is the one: what is made on top of kubeadm stands before it.
pub static DISTRIBUTIONS: &[Distribution] = &[
    Distribution {
        name: "Talos",
        changes: Changes::Refused,
        // https://www.talos.dev: no SSH and no shell.
        signs: &[Sign::Os("Talos (")],
        judged: "API objects; Talos nodes have no SSH and keep their settings in the machine configuration",
    },
    Distribution {
        name: "RKE2",
        changes: Changes::Refused,
        signs: &[
            Sign::Version("+rke2"),
            Sign::Unit("rke2-server.service"),
            Sign::Unit("rke2-agent.service"),
            Sign::Path("/etc/rancher/rke2"),
        ],
        judged: "hosts, API objects and network attempts; flags and files under /var/lib/rancher are unknown, or fail because of their path",
    },
    Distribution {
        name: "k3s",
        changes: Changes::Refused,
        signs: &[
            Sign::Version("+k3s"),
            Sign::Unit("k3s.service"),
            Sign::Unit("k3s-agent.service"),
            Sign::Path("/etc/rancher/k3s"),
        ],
        judged: "hosts, API objects and network attempts; all daemons run in one process, so their flags are unknown",
    },
    Distribution {
        name: "k0s",
        changes: Changes::Refused,
        signs: &[
            Sign::Version("+k0s"),
            Sign::Unit("k0scontroller.service"),
            Sign::Unit("k0sworker.service"),
            Sign::Path("/var/lib/k0s"),
        ],
        judged: "hosts, API objects, flags of running daemons and network attempts; files under /var/lib/k0s are unknown",
    },
    Distribution {
        name: "MicroK8s",
        changes: Changes::Refused,
        signs: &[
            Sign::Label("microk8s.io/"),
            Sign::Unit("snap.microk8s.daemon-kubelite.service"),
            Sign::Path("/var/snap/microk8s"),
        ],
        judged: "hosts and network attempts",
    },
    Distribution {
        name: "Amazon EKS",
        changes: Changes::Refused,
        signs: &[Sign::Version("-eks-"), Sign::Label("eks.amazonaws.com/"), Sign::Path("/etc/eks")],
        judged: "the workers that you name: hosts, kubelets and the container runtime; only Amazon can reach the control plane",
    },
    Distribution {
        name: "Azure AKS",
        changes: Changes::Refused,
        signs: &[Sign::Label("kubernetes.azure.com/"), Sign::Path("/etc/kubernetes/azure.json")],
        judged: "the workers that you name: hosts, kubelets and the container runtime; only Microsoft can reach the control plane",
    },
    Distribution {
        name: "Google GKE",
        changes: Changes::Refused,
        signs: &[
            Sign::Version("-gke."),
            Sign::Label("cloud.google.com/gke-"),
            Sign::Path("/home/kubernetes/kube-env"),
        ],
        judged: "the workers that you name: hosts, kubelets and the container runtime; only Google can reach the control plane",
    },
    Distribution {
        name: "OpenShift",
        changes: Changes::Refused,
        signs: &[Sign::Label("node.openshift.io/"), Sign::Os("Red Hat Enterprise Linux CoreOS")],
        judged: "hosts, API objects and network attempts; OpenShift's operators own the settings",
    },
    Distribution {
        name: "kubespray (kubeadm)",
        changes: Changes::Possible,
        signs: &[
            Sign::Path("/etc/kubernetes/kubeadm-images.yaml"),
            Sign::Path("/etc/kubernetes/kubelet.env"),
            Sign::Path("/etc/ssl/etcd/ssl"),
        ],
        judged: "everything; kubespray's own etcd keeps its files in other paths",
    },
    Distribution {
        name: "Cluster API (kubeadm)",
        changes: Changes::Possible,
        signs: &[
            Sign::Path("/run/cluster-api/bootstrap-success.complete"),
            Sign::Path("/run/kubeadm/kubeadm.yaml"),
        ],
        judged: "everything; Cluster API recreates a replaced machine from its template, without changes made here",
    },
    Distribution {
        name: "kubeadm",
        changes: Changes::Possible,
        signs: &[
            Sign::Path("/var/lib/kubelet/kubeadm-flags.env"),
            Sign::Path("/etc/kubernetes/manifests/kube-apiserver.yaml"),
        ],
        judged: "everything",
    },
];

/// Whose cluster something is of which nothing is known.
static UNKNOWN: Distribution = Distribution {
    name: "unknown",
    changes: Changes::Refused,
    signs: &[],
    judged: "hosts, API objects and network attempts",
};

/// A distribution, and by what it was recognized.
#[derive(Debug, Clone, Copy)]
pub struct Recognized {
    /// Which.
    pub distribution: &'static Distribution,
    /// In words; empty if nothing was recognized.
    sign: Option<Sign>,
}

impl Recognized {
    /// By what it was recognized.
    pub fn by(&self) -> String {
        match self.sign {
            None => "nothing that kubastion knows".to_owned(),
            Some(Sign::Unit(unit)) => format!("unit {unit}"),
            Some(Sign::Path(path)) => path.to_owned(),
            Some(Sign::Version(part)) => format!("the kubelet's version (`{part}`)"),
            Some(Sign::Os(name)) => format!("the operating system (`{name}`)"),
            Some(Sign::Label(name)) => format!("node label `{name}`"),
        }
    }
}

impl Sign {
    fn is_on<'f>(
        self,
        nodes: &[FoundNode],
        mut facts: impl Iterator<Item = &'f NodeFacts>,
    ) -> bool {
        match self {
            Sign::Unit(unit) => {
                facts.any(|f| f.units.get(unit).is_some_and(|u| u.load == "loaded"))
            }
            Sign::Path(path) => {
                facts.any(|f| !matches!(f.files.get(path), None | Some(FileFacts::Absent)))
            }
            Sign::Version(part) => nodes.iter().any(|n| n.kubelet.contains(part)),
            Sign::Os(name) => nodes.iter().any(|n| n.os.starts_with(name)),
            Sign::Label(name) => nodes.iter().any(|n| n.labels.keys().any(|l| l.starts_with(name))),
        }
    }
}

/// Recognizes a cluster by its Node objects and by the nodes that answered.
pub fn recognize<'f>(
    nodes: &[FoundNode],
    facts: impl Iterator<Item = &'f NodeFacts> + Clone,
) -> Recognized {
    for distribution in DISTRIBUTIONS {
        let mut signs = distribution.signs.iter().copied();
        if let Some(sign) = signs.find(|s| s.is_on(nodes, facts.clone())) {
            return Recognized { distribution, sign: Some(sign) };
        }
    }
    Recognized { distribution: &UNKNOWN, sign: None }
}

/// What nodes are asked for it, and for what else is to be found: where etcd runs.
pub fn watch() -> WatchList {
    let mut watch = WatchList::default();
    for sign in DISTRIBUTIONS.iter().flat_map(|d| d.signs) {
        match sign {
            Sign::Unit(unit) => _ = watch.units.insert((*unit).to_owned()),
            Sign::Path(path) => _ = watch.files.insert((*path).to_owned()),
            Sign::Version(_) | Sign::Os(_) | Sign::Label(_) => {}
        }
    }
    watch.trees.insert(CNI.to_owned());
    watch.files.insert(STACKED_ETCD.to_owned());
    watch
}

/// The same, and what an import is made from.
pub fn watch_settings() -> WatchList {
    let mut watch = watch();
    watch.trees.insert(MANIFESTS.to_owned());
    watch.trees.extend(KUBELET_DROP_INS.iter().map(|d| (*d).to_owned()));
    for path in TEXTS {
        watch.files.insert((*path).to_owned());
        watch.texts.insert((*path).to_owned());
    }
    watch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::nodes::tests::node;
    use super::*;
    use crate::facts::UnitFacts;
    use crate::facts::cluster::{ClusterFacts, ObjectKind};

    /// A node of a distribution that shows one sign and nothing else.
    fn with(sign: Sign) -> (Vec<FoundNode>, NodeFacts) {
        let mut facts = NodeFacts::bare("n");
        facts.files.clear();
        facts.units.clear();
        let mut object = node("n", "192.0.2.1", json!({}));
        match sign {
            Sign::Unit(unit) => {
                let unit_facts = UnitFacts { load: "loaded".into(), ..UnitFacts::default() };
                facts.units.insert(unit.to_owned(), unit_facts);
            }
            Sign::Path(path) => {
                let (owner, group) = ("root".into(), "root".into());
                facts
                    .files
                    .insert(path.to_owned(), FileFacts::Directory { mode: 0o755, owner, group });
            }
            Sign::Version(part) => {
                object["status"]["nodeInfo"]["kubeletVersion"] = format!("v1.36.2{part}1").into();
            }
            Sign::Os(name) => {
                object["status"]["nodeInfo"]["osImage"] = format!("{name}v1.11)").into();
            }
            Sign::Label(name) => {
                object["metadata"]["labels"] = json!({format!("{name}x"): "y"});
            }
        }
        let mut cluster = ClusterFacts::default();
        cluster.objects.insert(ObjectKind::Nodes, vec![object]);
        (super::super::nodes::found(&cluster).unwrap().0, facts)
    }

    #[test]
    fn every_sign_leads_to_its_distribution() {
        for row in DISTRIBUTIONS {
            assert!(!row.judged.is_empty() && !row.signs.is_empty(), "{}", row.name);
            for sign in row.signs {
                let (nodes, facts) = with(*sign);
                let found = recognize(&nodes, [&facts].into_iter());
                assert_eq!(found.distribution.name, row.name, "{sign:?}");
                assert!(!found.by().contains("nothing"), "{}", found.by());
            }
        }
    }

    #[test]
    fn what_others_own_is_not_changed() {
        for refused in ["k3s", "RKE2", "k0s", "Talos", "Amazon EKS", "Azure AKS", "Google GKE"] {
            let row = DISTRIBUTIONS.iter().find(|d| d.name == refused);
            assert_eq!(row.map(|d| d.changes), Some(Changes::Refused), "{refused}");
        }
        let possible: Vec<&str> = DISTRIBUTIONS
            .iter()
            .filter(|d| d.changes == Changes::Possible)
            .map(|d| d.name)
            .collect();
        assert!(possible.iter().all(|n| n.contains("kubeadm")), "{possible:?}");
        // What nobody knows is nobody's to change.
        let nothing = recognize(&[], [].iter());
        assert_eq!(nothing.distribution.changes, Changes::Refused);
        assert!(nothing.by().contains("nothing"));
    }

    #[test]
    fn a_kubeadm_node_of_a_cloud_is_no_managed_one() {
        let mut object = node("n", "192.0.2.1", json!({}));
        object["spec"]["providerID"] = "aws:///eu-central-1a/i-0".into();
        let mut cluster = ClusterFacts::default();
        cluster.objects.insert(ObjectKind::Nodes, vec![object]);
        let nodes = super::super::nodes::found(&cluster).unwrap().0;
        let (_, facts) = with(Sign::Path("/var/lib/kubelet/kubeadm-flags.env"));
        assert_eq!(recognize(&nodes, [&facts].into_iter()).distribution.name, "kubeadm");
        // A unit that is only named by another is not there.
        let mut masked = facts.clone();
        let unit = UnitFacts { load: "not-found".into(), ..UnitFacts::default() };
        masked.units.insert("k3s.service".into(), unit);
        assert_eq!(recognize(&nodes, [&masked].into_iter()).distribution.name, "kubeadm");
    }
}
