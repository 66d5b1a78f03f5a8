//! The stock cluster of a test: how it is asked, and what its nodes and its API hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use kubastion::facts::cluster::ObjectKind;
use serde_json::Value;

use crate::cluster::{Cluster, kubastion, text};

pub struct Stock {
    pub c: Cluster,
    /// Address and host key of each node, by name.
    pub nodes: BTreeMap<String, (String, String)>,
}

impl Stock {
    /// `assess`, by the control plane, with host keys of some nodes.
    pub fn assess(&self, known: &[&str], more: &[&str]) -> Output {
        self.run("assess", known, more)
    }

    /// A verb that finds the cluster by the control plane, with host keys of some nodes.
    pub fn run(&self, verb: &str, known: &[&str], more: &[&str]) -> Output {
        let (address, _) = &self.nodes["cp1"];
        let mut args = vec!["--format".to_owned(), "json".to_owned(), verb.to_owned()];
        args.push(format!("ssh://root@{address}"));
        args.extend(["--identity", "ssh/id_ed25519"].map(str::to_owned));
        for name in known {
            let (address, key) = &self.nodes[*name];
            args.extend(["--host-key".to_owned(), format!("{address}={key}")]);
        }
        args.extend(more.iter().map(|m| (*m).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        kubastion(&self.c.dir, &args).output().unwrap()
    }

    /// Everything on a node's disk but for what runs writes there all the time: data of etcd and containerd, volumes of pods, and
    /// what a login leaves.
    pub fn disk(&self, node: &str) -> BTreeSet<String> {
        const VOLATILE: &[&str] = &[
            " /var/lib/etcd",
            " /var/lib/kubelet/pods",
            " /var/lib/containerd",
            " /var/lib/kubelet/device-plugins",
        ];
        let mut all = self.c.tree(node);
        all.retain(|line| !VOLATILE.iter().any(|v| line.contains(v)));
        let script = "find /var/cache /var/tmp /home /opt /var/spool -xdev -printf '%y %m %u:%g %s %p\\n'
            find /opt /var/cache /var/lib/kubelet -xdev -path /var/lib/kubelet/pods -prune -o -type f -exec sha256sum {} +
            ip netns list; nft list ruleset | grep -v counter";
        let out = self.c.inside(node, script);
        assert!(out.status.success(), "{}", text(&out));
        // systemd starts timedated for whoever asks for the time's state, and ends it by itself.
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        all.extend(
            lines.lines().filter(|l| !l.contains("-systemd-timedated.service-")).map(str::to_owned),
        );
        all
    }

    /// Every object of the API, but for what the cluster itself writes all the time.
    pub fn objects(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let mut paths: Vec<String> =
            ObjectKind::ALL.iter().map(|(_, path)| (*path).to_owned()).collect();
        paths.push("/api/v1/secrets".to_owned());
        for path in paths.iter().filter(|p| !p.contains("leases")) {
            let out = self.c.kubectl("cp1", &format!("get --raw '{path}'"));
            assert!(out.status.success(), "{path}: {}", text(&out));
            let list: Value = serde_json::from_slice(&out.stdout).unwrap();
            for mut object in list["items"].as_array().unwrap().clone() {
                let metadata = object["metadata"].as_object_mut().unwrap();
                metadata.remove("resourceVersion");
                metadata.remove("managedFields");
                let called = format!(
                    "{path} {} {}",
                    metadata.get("namespace").unwrap_or(&Value::Null),
                    metadata["name"]
                );
                // Nodes say every few minutes that they are there.
                for condition in object
                    .pointer_mut("/status/conditions")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    condition.as_object_mut().unwrap().remove("lastHeartbeatTime");
                }
                // Kubelets read them out of control groups, and find a limit or none there.
                if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
                    status.remove("resources");
                    for container in status.get_mut("containerStatuses").into_iter().flat_map(|c| {
                        c.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
                    }) {
                        container.remove("resources");
                    }
                }
                all.insert(called, object);
            }
        }
        assert!(all.len() > 150, "{}", all.len());
        all
    }

    /// Waits until three looks at the API in a row are alike: a young cluster still writes what it finds out of its pods.
    pub fn rests(&self) {
        let last = RefCell::new((self.objects(), 0));
        self.c.until("the cluster to be at rest", 120, || {
            let (now, mut last) = (self.objects(), last.borrow_mut());
            let alike = if now == last.0 { last.1 + 1 } else { 0 };
            *last = (now, alike);
            alike == 3
        });
    }

    /// The disks of its two nodes, and the objects of its API.
    pub fn state(&self) -> State {
        ([self.disk("cp1"), self.disk("w1")], self.objects())
    }
}

/// Disks of two nodes, and objects by name.
pub type State = ([BTreeSet<String>; 2], BTreeMap<String, Value>);

/// Fails with what differs.
pub fn assert_same(before: &State, after: &State) {
    for (before, after) in before.0.iter().zip(&after.0) {
        let difference: Vec<_> = before.symmetric_difference(after).collect();
        assert!(difference.is_empty(), "{difference:#?}");
    }
    for (name, object) in &before.1 {
        assert_eq!(after.1.get(name), Some(object), "{name}");
    }
    assert_eq!(before.1.len(), after.1.len());
}
