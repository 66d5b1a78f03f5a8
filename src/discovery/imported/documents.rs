//! What kubelets and kube-proxy are configured with: ConfigMaps of kubeadm, and the files of nodes.

use std::collections::BTreeMap;

use super::defaults::{FIELDS, ZERO_IS_NOTHING, ZERO_IS_SAID};
use super::kubeadm::document;
use super::reading::{Reading, Setting, Stated};
use crate::facts::NodeFacts;
use crate::facts::cluster::{ClusterFacts, KUBELET_CONFIG};
use crate::inventory::{Component, NodeName};
use crate::yaml;

/// A kubelet's own file.
pub(super) const KUBELET_FILE: &str = "/var/lib/kubelet/config.yaml";

const KUBE_PROXY: &str = "kube-system/kube-proxy";

type Fields = BTreeMap<Vec<String>, serde_json::Value>;

/// Reads them.
pub(super) fn read(
    objects: &ClusterFacts,
    facts: &BTreeMap<NodeName, NodeFacts>,
    reading: &mut Reading,
) {
    let kubelet = document(objects, KUBELET_CONFIG, "kubelet");
    let mut of_all = kubelet.as_ref().map(|d| fields(Component::Kubelet, d)).unwrap_or_default();
    let at = format!("ConfigMap {KUBELET_CONFIG}");
    // What kubelets are given on such nodes anyway.
    let driver = vec!["cgroupDriver".to_owned()];
    let by_node = !facts.is_empty() && facts.values().all(|f| f.cgroup_version == 1);
    if by_node && of_all.get(&driver).is_some_and(|d| d == "cgroupfs") {
        of_all.remove(&driver);
        reading.taken_over(
            "cgroupDriver",
            "cgroupfs",
            &at,
            "automatic, since all nodes use cgroup v1",
        );
    }
    state(Component::Kubelet, &of_all, &at, reading);
    if kubelet.is_none() {
        reading.not_taken_over("KubeletConfiguration", "", &at, "not found or not readable");
    }
    for (node, facts) in facts {
        let Some(Some(text)) = facts.texts.get(KUBELET_FILE) else { continue };
        let at = format!("{KUBELET_FILE} on {node}");
        match yaml::parse(text) {
            Ok(own) => {
                let mut own = fields(Component::Kubelet, &own);
                own.retain(|way, value| *way != driver || !by_node || value != "cgroupfs");
                differences(&of_all, &own, &at, reading);
            }
            Err(_) => reading.not_taken_over("KubeletConfiguration", "", &at, "cannot be read"),
        }
    }
    match document(objects, KUBE_PROXY, "config.conf") {
        Some(proxy) => {
            let at = format!("ConfigMap {KUBE_PROXY}");
            state(Component::KubeProxy, &fields(Component::KubeProxy, &proxy), &at, reading);
        }
        None => reading.not_taken_over(
            "KubeProxyConfiguration",
            "",
            &format!("ConfigMap {KUBE_PROXY}"),
            "not found or not readable: another program may replace kube-proxy",
        ),
    }
}

/// What a node's own file says otherwise than the ConfigMap: the inventory has one KubeletConfiguration for all.
fn differences(of_all: &Fields, own: &Fields, at: &str, reading: &mut Reading) {
    const WHY: &str = "differs from the ConfigMap; `kubelet.extra` applies to all nodes";
    for (way, value) in own {
        if of_all.get(way) != Some(value) {
            reading.not_taken_over(way.join("."), text(value), at, WHY);
        }
    }
    for way in of_all.keys().filter(|way| !own.contains_key(*way)) {
        reading.not_taken_over(way.join("."), "not set", at, WHY);
    }
}

fn state(component: Component, all: &Fields, at: &str, reading: &mut Reading) {
    for (way, value) in all {
        let setting = Setting::Field(component, way.clone(), value.clone());
        reading.stated.push(Stated { setting, at: at.to_owned() });
    }
}

pub(super) fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Fields that are neither kubeadm's values nor the zero values that Go writes.
fn fields(component: Component, document: &yaml::Value) -> Fields {
    let mut all = Fields::new();
    let json = serde_json::to_value(document).unwrap_or_default();
    walk(&mut Vec::new(), &json, &mut |way, value| {
        let name = way.join(".");
        let listed =
            |table: &[(Component, &str)]| table.iter().any(|(c, n)| *c == component && *n == name);
        let is_default = FIELDS
            .iter()
            .any(|(c, n, default)| *c == component && *n == name && default.fits(&text(value)));
        let is_zero = match component {
            Component::KubeProxy => value.is_null() || (is_zero(value) && !listed(ZERO_IS_SAID)),
            _ => is_blank(value) || (is_zero(value) && listed(ZERO_IS_NOTHING)),
        };
        if !is_default && !is_zero {
            all.insert(way.to_vec(), value.clone());
        }
    });
    all
}

/// The zero values that Go writes for durations, texts and structures.
fn is_blank(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty() || text == "0s",
        serde_json::Value::Array(all) => all.is_empty(),
        serde_json::Value::Object(all) => all.is_empty(),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
    }
}

fn is_zero(value: &serde_json::Value) -> bool {
    let is_number = |n: &serde_json::Number| n.as_f64() == Some(0.0);
    is_blank(value)
        || value == &serde_json::Value::Bool(false)
        || value.as_str() == Some("0")
        || value.as_number().is_some_and(is_number)
}

fn walk(
    way: &mut Vec<String>,
    value: &serde_json::Value,
    hear: &mut dyn FnMut(&[String], &serde_json::Value),
) {
    match value.as_object().filter(|o| !o.is_empty()) {
        None => hear(way, value),
        Some(object) => {
            for (key, value) in object {
                way.push(key.clone());
                walk(way, value, hear);
                way.pop();
            }
        }
    }
}
