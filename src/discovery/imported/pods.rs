//! What daemons run with on nodes, where it is more than kubeadm was told: static pods, flags of kubelets, drop-ins of their unit.

use std::collections::{BTreeMap, BTreeSet};

use super::defaults::FLAGS;
use super::kubeadm::word;
use super::reading::{Reading, Setting, Stated, program};
use crate::discovery::places::{KUBELET_DROP_INS, MANIFESTS};
use crate::facts::NodeFacts;
use crate::inventory::{Component, Inventory, KUBEADM_VOLUMES, NodeName, Role};
use crate::yaml::{self, Value};

/// Static pods that kubeadm writes, and the daemon in each; what runs in etcd's is none of these.
const PODS: &[(&str, Option<Component>)] = &[
    ("etcd.yaml", None),
    ("kube-apiserver.yaml", Some(Component::ApiServer)),
    ("kube-controller-manager.yaml", Some(Component::ControllerManager)),
    ("kube-scheduler.yaml", Some(Component::Scheduler)),
];

/// Images as kubeadm names them.
const REGISTRY: &str = "registry.k8s.io/";

/// What differs from the values of others, by component and flag: nodes that have it.
type Flags = BTreeMap<(Component, String), BTreeMap<Vec<String>, BTreeSet<NodeName>>>;

/// Reads them.
pub(super) fn read(
    inventory: &Inventory,
    facts: &BTreeMap<NodeName, NodeFacts>,
    reading: &mut Reading,
) {
    let issuer = format!("https://kubernetes.default.svc.{}", inventory.cluster.domain);
    let mut flags = Flags::new();
    let mut with: BTreeMap<Component, BTreeSet<NodeName>> = BTreeMap::new();
    for (node, facts) in facts {
        let plane =
            inventory.nodes.iter().any(|n| n.name == *node && n.has_role(Role::ControlPlane));
        for (file, component) in PODS {
            let path = format!("{MANIFESTS}/{file}");
            let (Some(component), true) = (component, plane) else { continue };
            match facts.texts.get(&path) {
                Some(Some(text)) => {
                    let at = format!("{path} on {node}");
                    if let Some(argv) = pod(*component, text, &at, reading) {
                        with.entry(*component).or_default().insert(node.clone());
                        add(&mut flags, *component, &argv, node, &issuer);
                    }
                }
                _ => reading.not_taken_over(
                    program(*component),
                    "",
                    &format!("{path} on {node}"),
                    "it could not be read",
                ),
            }
        }
        if let [kubelet] = facts.processes.get("kubelet").map(Vec::as_slice).unwrap_or_default() {
            with.entry(Component::Kubelet).or_default().insert(node.clone());
            add(&mut flags, Component::Kubelet, &kubelet.argv, node, &issuer);
        }
        beside(facts, node, plane, reading);
    }
    for ((component, name), by_value) in flags {
        state(component, name, by_value, &with, reading);
    }
}

/// Flags of a command line that are not defaults.
fn add(flags: &mut Flags, component: Component, argv: &[String], node: &NodeName, issuer: &str) {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut words = argv.iter().skip(1).peekable();
    while let Some(flag) = words.next() {
        let Some(flag) = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match words.next_if(|w| !w.starts_with('-')) {
                Some(value) => (flag, value.clone()),
                None => (flag, "true".to_owned()),
            },
        };
        all.entry(name.replace('_', "-")).or_default().push(value);
    }
    for (name, values) in all {
        let joined = values.join(",");
        // By default tokens are issued by the API's own name.
        if name == "service-account-issuer" && joined == issuer {
            continue;
        }
        let is_default = |(c, n, d): &(Component, &str, super::defaults::Default)| {
            *c == component && *n == name && d.fits(&joined)
        };
        if !FLAGS.iter().any(is_default) {
            flags
                .entry((component, name))
                .or_default()
                .entry(values)
                .or_default()
                .insert(node.clone());
        }
    }
}

/// A flag that nodes run with: what kubeadm was told says it already, all nodes agree on it, or only some have it.
fn state(
    component: Component,
    name: String,
    by_value: BTreeMap<Vec<String>, BTreeSet<NodeName>>,
    with: &BTreeMap<Component, BTreeSet<NodeName>>,
    reading: &mut Reading,
) {
    let what = match component {
        Component::Kubelet => "the command line of kubelets".to_owned(),
        other => format!("static pods of {}", program(other)),
    };
    let told = reading.stated.iter().find_map(|s| match &s.setting {
        Setting::Flag(c, n, values) if *c == component && *n == name => Some(values.clone()),
        _ => None,
    });
    let everywhere = with.get(&component).cloned().unwrap_or_default();
    for (values, nodes) in by_value {
        if told.as_ref() == Some(&values) {
            continue;
        }
        let on = nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
        let at = format!("{what} on {on}");
        if told.is_none() && nodes == everywhere {
            let setting = Setting::Flag(component, name.clone(), values);
            reading.stated.push(Stated { setting, at });
        } else {
            let why = match &told {
                Some(told) => format!("kubeadm-config has {}", told.join(",")),
                None => "not on all nodes; `extra_args` applies to all".to_owned(),
            };
            reading.not_taken_over(format!("--{name}"), values.join(","), &at, &why);
        }
    }
}

/// The command line of a static pod. What kubeadm does not write there is named.
fn pod(component: Component, text: &str, at: &str, reading: &mut Reading) -> Option<Vec<String>> {
    const NO_KEY: &str = "the inventory has no key for it";
    let Ok(pod) = yaml::parse(text) else {
        reading.not_taken_over(program(component), "", at, "the manifest cannot be read");
        return None;
    };
    let list = |of: &Value, key: &str| -> Vec<Value> {
        of.get(key).and_then(Value::as_sequence).cloned().unwrap_or_default()
    };
    let spec = pod.get("spec")?;
    let containers = list(spec, "containers");
    let is_main = |c: &&Value| c.get("name").and_then(Value::as_str) == Some(program(component));
    let main = containers.iter().find(is_main)?;
    for other in containers.iter().filter(|c| !is_main(c)).chain(&list(spec, "initContainers")) {
        let name = other.get("name").and_then(word).unwrap_or_default();
        reading.not_taken_over("container", name, at, NO_KEY);
    }
    for variable in list(main, "env") {
        let of = |key: &str| variable.get(key).and_then(word).unwrap_or_default();
        reading.not_taken_over(
            format!("environment variable {}", of("name")),
            of("value"),
            at,
            NO_KEY,
        );
    }
    let image = main.get("image").and_then(word).unwrap_or_default();
    if !image.starts_with(REGISTRY) {
        reading.not_taken_over("image", image, at, "images keep their upstream names");
    }
    for volume in list(spec, "volumes") {
        let name = volume.get("name").and_then(word).unwrap_or_default();
        let told = reading.volumes.iter().any(|(c, v, _)| *c == component && v.name == name);
        if told || KUBEADM_VOLUMES.contains(&name.as_str()) {
            continue;
        }
        let path = volume.get("hostPath").and_then(|p| p.get("path")).and_then(word);
        let why = "not in kubeadm-config: add it to `extra_volumes`";
        reading.not_taken_over(format!("volume {name}"), path.unwrap_or_default(), at, why);
    }
    Some(list(main, "command").iter().chain(&list(main, "args")).filter_map(word).collect())
}

/// Files beside those that kubeadm writes.
fn beside(facts: &NodeFacts, node: &NodeName, plane: bool, reading: &mut Reading) {
    let below = |dir: &str| -> Vec<String> {
        let entries = facts.trees.get(dir).into_iter().flat_map(|t| t.entries.keys());
        entries.filter_map(|p| Some(p.strip_prefix(dir)?.strip_prefix('/')?.to_owned())).collect()
    };
    for file in below(MANIFESTS) {
        if !(plane && PODS.iter().any(|(known, _)| *known == file)) {
            let at = format!("{MANIFESTS}/{file} on {node}");
            reading.not_taken_over(
                "static pod",
                "",
                &at,
                "control `files-static-pods-known` requires its removal",
            );
        }
    }
    for dir in KUBELET_DROP_INS {
        for file in
            below(dir).into_iter().filter(|f| f.ends_with(".conf") && f != "10-kubeadm.conf")
        {
            let at = format!("{dir}/{file} on {node}");
            reading.not_taken_over(
                "drop-in of the kubelet's unit",
                "",
                &at,
                "only the flags of the running kubelet are read, nothing else in the drop-in",
            );
        }
    }
}
