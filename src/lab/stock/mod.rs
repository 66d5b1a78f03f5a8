//! A cluster as kubeadm makes it by itself, on the nodes of a lab: what others have, and what re-hardening is tried out on.
//!
//! Everything is kubeadm's default but for what nodes need that are containers, and what a variant is about.

mod configuration;
mod etcd;
mod etcd_image;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use serde_json::json;

use super::command::{run, run_with_file, run_with_input};
use super::error::{Error, NodeError};
use super::handle::{Lab, Step, lock, step};
use super::node::NodeDir;
use super::rootfs::write;
use super::spec::{Stock, StockEtcd, StockVariant};
use super::state::NodeState;
use crate::clock::random_bytes;
use crate::inventory::Role;
use crate::plain::{counted, hex};
use crate::secret::Secret;
use configuration::{AUDIT_DIR, Entrance, init_configuration, join_configuration};

const PROGRAM: &str = include_str!("../sh/stock.sh");

/// How long the controller manager may take until every node has its pod network.
const NETWORKS_DEADLINE: Duration = Duration::from_secs(120);

/// How long nodes and pods each may take until they are ready, in seconds: many share two cores.
const READY_SECONDS: &str = "300";

/// One that an operator wrote: who changed what, and nothing of who read.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - level: Metadata
    verbs: [create, update, patch, delete]
  - level: None
";

/// Programs without which there is no cluster, as a bundle names them.
pub const PROGRAMS: &[&str] = &[
    "kubeadm",
    "kubelet",
    "kubectl",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "etcd",
];

/// Plugins that the pods' network is made with.
pub const PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "portmap"];

/// The software of a cluster, in files that were compared with what was signed while they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Holds `bin`, `cni` and `images`; only root may enter. See [`Lab::software`].
    pub dir: PathBuf,
    /// Release of Kubernetes, as in `1.36.2`.
    pub kubernetes: String,
    /// References of all images.
    pub images: BTreeSet<String>,
}

/// Makes the cluster on nodes that are up and bare.
///
/// # Errors
/// A step that failed, with what the component said last. The nodes stay up.
pub fn make(
    lab: &mut Lab,
    software: &Software,
    progress: &(dyn Fn(&Step) + Sync),
) -> Result<(), Error> {
    let _lock = lock(lab.dir())?;
    let making = Making { lab, software, progress };
    making.software()?;
    let entrance = Entrance {
        token: {
            let text = hex(&random_bytes::<11>());
            Secret::new(format!("{}.{}", &text[..6], &text[6..]))
        },
        certificate_key: Secret::new(hex(&random_bytes::<32>())),
    };
    let stock = lab.stock().unwrap_or_default();
    match stock.variant {
        StockVariant::Plain => {}
        StockVariant::Odd => making.audit_policy()?,
        StockVariant::SingleCa => {
            making.step_once(&making.first()?, &["single-ca"], run)?;
        }
    }
    if stock.etcd == StockEtcd::External {
        making.external_etcd()?;
    }
    making.init(&entrance, stock)?;
    making.join(&entrance)?;
    making.networks()?;
    making.wait()?;
    lab.finish()
}

struct Making<'a> {
    lab: &'a Lab,
    software: &'a Software,
    progress: &'a (dyn Fn(&Step) + Sync),
}

impl Making<'_> {
    fn say(&self, node: &NodeState, what: impl Into<String>) {
        (self.progress)(&Step { node: Some(node.name.clone()), what: what.into() });
    }

    /// The first control plane, whose address is the endpoint.
    fn first(&self) -> Result<NodeDir<'_>, Error> {
        let mut nodes = self.lab.nodes().into_iter();
        nodes
            .next()
            .ok_or_else(|| Error::Spec("a lab needs at least one control-plane node".into()))
    }

    /// Runs a step of the program in a node.
    fn step(
        &self,
        node: &NodeDir<'_>,
        words: &[&str],
        ask: impl FnOnce(&mut Command) -> Result<Vec<u8>, Error>,
    ) -> Result<String, NodeError> {
        let name = &node.node.name;
        let failed = |e: Error| NodeError::Step { node: name.clone(), source: Box::new(e) };
        let argv = ["sh", "-c", PROGRAM, "stock.sh"].iter().chain(words).map(OsString::from);
        let argv: Vec<OsString> = argv.collect();
        let mut command = node.command(&argv).map_err(failed)?;
        match ask(&mut command) {
            Ok(said) => Ok(String::from_utf8_lossy(&said).into_owned()),
            Err(Error::Command { status, said, .. }) => Err(NodeError::Stock {
                node: name.clone(),
                dir: self.lab.dir().to_owned(),
                step: words.first().map(|w| (*w).to_owned()).unwrap_or_default(),
                status,
                said,
            }),
            Err(other) => Err(failed(other)),
        }
    }

    fn step_once(
        &self,
        node: &NodeDir<'_>,
        words: &[&str],
        ask: impl FnOnce(&mut Command) -> Result<Vec<u8>, Error>,
    ) -> Result<String, Error> {
        self.step(node, words, ask).map_err(|e| Error::Nodes(vec![e]))
    }

    /// Programs, units and images on every node.
    fn software(&self) -> Result<(), Error> {
        let kubernetes = &self.software.kubernetes;
        self.lab.for_each(|node| {
            let install = || -> Result<(), Error> {
                copy_all(&self.software.dir.join("bin"), &node.root().join("usr/local/bin"))?;
                copy_all(&self.software.dir.join("cni"), &node.root().join("opt/cni/bin"))
            };
            install().map_err(|e| NodeError::Step {
                node: node.node.name.clone(),
                source: Box::new(e),
            })?;
            self.step(node, &["configure", kubernetes], run)?;
            self.say(node.node, "programs installed");
            Ok(())
        })?;
        self.complete_images()?;
        let archives = files(&self.software.dir.join("images"))?;
        self.lab.for_each(|node| {
            let begun = Instant::now();
            for archive in &archives {
                let file = File::open(archive).map_err(|e| NodeError::Step {
                    node: node.node.name.clone(),
                    source: Box::new(Error::io("open", archive)(e)),
                })?;
                self.step(node, &["import"], |c| run_with_file(c, file))?;
            }
            let count = counted(archives.len(), "image archive");
            self.say(node.node, format!("{count} imported after {}", seconds(begun)));
            Ok(())
        })
    }

    /// Makes the image of etcd if the bundle has none; any other that kubeadm asks for has to be there.
    fn complete_images(&self) -> Result<(), Error> {
        let asked = self.step_once(&self.first()?, &["images", &self.software.kubernetes], run)?;
        let wanted: Vec<&str> = asked.split_whitespace().collect();
        let lacking = wanted.into_iter().filter(|image| !self.software.images.contains(*image));
        let (etcd, others): (Vec<&str>, Vec<&str>) =
            lacking.partition(|image| image.contains("/etcd:"));
        if !others.is_empty() {
            let images = others.into_iter().map(str::to_owned).collect();
            return Err(Error::LackingImages(images));
        }
        for reference in etcd {
            let bin = self.software.dir.join("bin");
            let programs = ["etcd", "etcdctl"].map(|name| bin.join(name));
            let programs: Vec<&Path> =
                programs.iter().map(PathBuf::as_path).filter(|p| p.exists()).collect();
            let archive = self.software.dir.join("images/lab-etcd.tar");
            etcd_image::write(&archive, reference, &programs)?;
            (self.progress)(&step(format!("{reference} built from the bundle's etcd")));
        }
        Ok(())
    }

    /// The file that an API server with odd settings reads.
    fn audit_policy(&self) -> Result<(), Error> {
        for node in self.lab.nodes().iter().filter(|n| is_control_plane(n.node)) {
            let dir = node.root().join(AUDIT_DIR.trim_start_matches('/'));
            std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
            write(&dir.join("policy.yaml"), AUDIT_POLICY)?;
        }
        Ok(())
    }

    fn init(&self, entrance: &Entrance, stock: Stock) -> Result<(), Error> {
        let first = self.first()?;
        let begun = Instant::now();
        self.say(first.node, "running kubeadm init");
        let kubernetes = &self.software.kubernetes;
        let nodes: Vec<NodeState> = self.lab.nodes().iter().map(|n| n.node.clone()).collect();
        let configuration = init_configuration(&nodes, kubernetes, entrance, stock);
        self.step_once(&first, &["init"], |c| {
            run_with_input(c, configuration.expose().as_bytes())
        })?;
        self.say(first.node, format!("kubeadm init done after {}", seconds(begun)));
        Ok(())
    }

    /// Control planes one after the other, since each becomes a member of etcd; then all workers.
    fn join(&self, entrance: &Entrance) -> Result<(), Error> {
        let first = self.first()?;
        if self.lab.nodes().len() == 1 {
            return Ok(());
        }
        let pin = self.step_once(&first, &["pin"], run)?;
        let join = |node: &NodeDir<'_>| -> Result<(), NodeError> {
            let begun = Instant::now();
            let configuration =
                join_configuration(first.node.address, pin.trim(), node.node, entrance);
            self.step(node, &["join"], |c| run_with_input(c, configuration.expose().as_bytes()))?;
            let role = if is_control_plane(node.node) { "control plane" } else { "worker" };
            self.say(node.node, format!("joined as a {role} after {}", seconds(begun)));
            Ok(())
        };
        for node in self.lab.nodes().iter().skip(1).filter(|n| is_control_plane(n.node)) {
            join(node).map_err(|e| Error::Nodes(vec![e]))?;
        }
        self.lab.for_each(|node| if is_control_plane(node.node) { Ok(()) } else { join(node) })
    }

    /// Gives each node a bridge with the network that Kubernetes chose for its pods, and routes to the others.
    fn networks(&self) -> Result<(), Error> {
        let first = self.first()?;
        let end = Instant::now() + NETWORKS_DEADLINE;
        let networks = loop {
            let said = self.step_once(&first, &["networks"], run)?;
            if let Some(networks) = pod_networks(&said, &self.lab.nodes()) {
                break networks;
            }
            if Instant::now() >= end {
                return Err(Error::Nodes(vec![NodeError::NoPodNetwork {
                    node: first.node.name.clone(),
                    waited_s: NETWORKS_DEADLINE.as_secs(),
                    said,
                }]));
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        self.lab.for_each(|node| {
            let own = networks.iter().find(|(n, _)| n.name == node.node.name);
            let Some((_, own)) = own else { return Ok(()) };
            let routes = networks.iter().filter(|(n, _)| n.name != node.node.name);
            let routes: Vec<String> =
                routes.map(|(n, net)| format!("{net}={}", n.address)).collect();
            let words: Vec<&str> =
                std::iter::once("network").chain(routes.iter().map(String::as_str)).collect();
            let bridge = bridge(*own).to_string();
            self.step(node, &words, |c| run_with_input(c, bridge.as_bytes()))?;
            self.say(node.node, format!("pod network {own}"));
            Ok(())
        })
    }

    fn wait(&self) -> Result<(), Error> {
        let begun = Instant::now();
        (self.progress)(&step("waiting for nodes and system pods to be ready"));
        let first = self.first()?;
        self.step_once(&first, &["wait", READY_SECONDS], run)?;
        let nodes = counted(self.lab.nodes().len(), "node");
        (self.progress)(&step(format!(
            "{nodes} and all system pods ready after {}",
            seconds(begun)
        )));
        (self.progress)(&step(format!(
            "the API endpoint is {}:6443, the address of {}: the API is unreachable while that node is down",
            first.node.address, first.node.name
        )));
        Ok(())
    }
}

fn is_control_plane(node: &NodeState) -> bool {
    node.roles.contains(&Role::ControlPlane)
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f32())
}

/// The network of each node, once all have one. A line is what the API said: words that are no node's or no network count for none.
fn pod_networks<'a>(said: &str, nodes: &[NodeDir<'a>]) -> Option<Vec<(&'a NodeState, Ipv4Net)>> {
    let named: Vec<(&str, Ipv4Net)> = said
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(name, net)| Some((name, net.trim().parse().ok()?)))
        .collect();
    let of = |node: &NodeDir<'a>| {
        let (_, net) = named.iter().find(|(name, _)| *name == node.node.name)?;
        Some((node.node, *net))
    };
    nodes.iter().map(of).collect()
}

/// The configuration of the pods' network on a node (the CNI specification, and the pages of its reference plugins).
fn bridge(network: Ipv4Net) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The files of a directory, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
    let mut all = Vec::new();
    for entry in entries {
        all.push(entry.map_err(Error::io("read", dir))?.path());
    }
    all.sort();
    Ok(all)
}

/// Copies programs into a directory of a node.
fn copy_all(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(Error::io("make", to))?;
    for file in files(from)? {
        let target = to.join(file.file_name().unwrap_or_default());
        std::fs::copy(&file, &target).map_err(Error::io("write", &target))?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::io("set the mode of", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Spec;

    fn nodes() -> Vec<NodeState> {
        let places = Spec::new("/lab", 2, 1).places().into_iter();
        places.map(|p| NodeState { address: p.address(7), name: p.name, roles: p.roles }).collect()
    }

    #[test]
    fn pods_have_a_network_once_all_nodes_have_one() {
        let nodes = nodes();
        let state = crate::lab::state::State {
            version: crate::lab::state::Version::V1,
            id: "0a1b2c".into(),
            created: String::new(),
            phase: crate::lab::Phase::Making,
            slot: 7,
            rootfs: PathBuf::new(),
            nodes,
            bundle: None,
            stock: Some(Stock::default()),
        };
        let dirs: Vec<NodeDir<'_>> =
            state.nodes.iter().map(|n| NodeDir::new(Path::new("/lab"), &state, n)).collect();
        let all = "cp1 10.244.0.0/24\ncp2 10.244.1.0/24\nw1 10.244.2.0/24\n";
        let networks = pod_networks(all, &dirs).unwrap();
        let shown: Vec<String> =
            networks.iter().map(|(n, net)| format!("{} {net}", n.name)).collect();
        assert_eq!(shown.join("\n"), all.trim());
        for lacking in ["cp1 10.244.0.0/24\ncp2 \nw1 10.244.2.0/24", "", "cp1 x\ncp2 y\nw1 z"] {
            assert!(pod_networks(lacking, &dirs).is_none(), "{lacking}");
        }
    }
}
