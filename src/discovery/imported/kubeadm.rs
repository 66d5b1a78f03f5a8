//! What kubeadm was told: ConfigMap kube-system/kubeadm-config, of API v1beta3 and v1beta4.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::defaults::{Default, FLAGS};
use super::reading::{Reading, Setting, Stated};
use crate::facts::cluster::{ClusterFacts, KUBEADM_CONFIG, ObjectKind, name, namespace};
use crate::inventory::{
    AuditPolicy, Component, ExtraVolume, Host, Inventory, KeyAlgorithm, PathType,
};
use crate::yaml::Value;

/// Its parts that are daemons of the control plane.
const PARTS: &[(&str, Component)] = &[
    ("apiServer", Component::ApiServer),
    ("controllerManager", Component::ControllerManager),
    ("scheduler", Component::Scheduler),
];

/// What is known by itself, or read elsewhere (`discovery::kubeadm`).
const READ_ELSEWHERE: &[&str] = &[
    "apiVersion",
    "clusterName",
    "controlPlaneEndpoint",
    "kind",
    "kubernetesVersion",
    "networking.dnsDomain",
    "networking.podSubnet",
    "networking.serviceSubnet",
];

/// Values that kubeadm writes where nothing was said.
const DEFAULTS: &[(&str, &str)] = &[
    ("caCertificateValidityPeriod", "87600h0m0s"),
    ("certificateValidityPeriod", "8760h0m0s"),
    ("certificatesDir", "/etc/kubernetes/pki"),
    ("encryptionAlgorithm", "RSA-2048"),
    ("etcd.local.dataDir", "/var/lib/etcd"),
    ("imageRepository", "registry.k8s.io"),
    ("apiServer.timeoutForControlPlane", "4m0s"),
    ("dns.type", "CoreDNS"),
];

/// A document of a ConfigMap of kube-system.
pub(super) fn document(objects: &ClusterFacts, map: &str, key: &str) -> Option<Value> {
    let maps = objects.of(ObjectKind::ConfigMaps).ok()?;
    let map = maps.iter().find(|m| format!("{}/{}", namespace(m), name(m)) == map)?;
    crate::yaml::parse(map.get("data")?.get(key)?.as_str()?).ok()
}

pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(s) => Some(s.clone()),
        _ => None,
    }
}

pub(super) fn shown(value: &Value) -> String {
    word(value).unwrap_or_else(|| serde_json::to_string(value).unwrap_or_default())
}

/// Reads its ClusterConfiguration.
pub(super) fn read(objects: &ClusterFacts, inventory: &mut Inventory, reading: &mut Reading) {
    let at = format!("ConfigMap {KUBEADM_CONFIG}");
    let Some(document) = document(objects, KUBEADM_CONFIG, "ClusterConfiguration") else {
        reading.not_taken_over("ClusterConfiguration", "", &at, "not found or not readable");
        return;
    };
    for (part, component) in PARTS {
        let Some(Value::Mapping(fields)) = document.get(*part) else { continue };
        for (key, value) in fields {
            let place = format!("{at}, {part}");
            match key.as_str().unwrap_or_default() {
                "extraArgs" => {
                    for (name, values) in arguments(value) {
                        let setting = Setting::Flag(*component, name, values);
                        reading.stated.push(Stated { setting, at: format!("{place}.extraArgs") });
                    }
                }
                "extraVolumes" => {
                    for entry in value.as_sequence().into_iter().flatten() {
                        volume(*component, entry, &format!("{place}.extraVolumes"), reading);
                    }
                }
                "certSANs" if *component == Component::ApiServer => {
                    names(value, &format!("{place}.certSANs"), inventory, reading);
                }
                _ => rest(&format!("{part}.{}", shown(key)), value, &at, reading),
            }
        }
    }
    let Value::Mapping(fields) = &document else { return };
    for (key, value) in fields {
        let key = key.as_str().unwrap_or_default();
        if PARTS.iter().any(|(part, _)| *part == key) || takes(key, value, &at, inventory, reading)
        {
            continue;
        }
        rest(key, value, &at, reading);
    }
}

/// Keys of the inventory that say the same.
fn takes(
    key: &str,
    value: &Value,
    at: &str,
    inventory: &mut Inventory,
    reading: &mut Reading,
) -> bool {
    let said = shown(value);
    let days = |text: &str| {
        let hours: u32 = text.strip_suffix("h0m0s").or(text.strip_suffix('h'))?.parse().ok()?;
        (hours > 0 && hours.is_multiple_of(24)).then_some(hours / 24)
    };
    let key_of = match (key, days(&said)) {
        ("caCertificateValidityPeriod", Some(days)) if days != inventory.pki.ca_days => {
            inventory.pki.ca_days = days;
            "pki.ca_days"
        }
        ("certificateValidityPeriod", Some(days)) if days != inventory.pki.leaf_days => {
            inventory.pki.leaf_days = days;
            "pki.leaf_days"
        }
        ("encryptionAlgorithm", _) => {
            inventory.pki.algorithm = match said.as_str() {
                "ECDSA-P256" => KeyAlgorithm::EcdsaP256,
                "ECDSA-P384" => KeyAlgorithm::EcdsaP384,
                "RSA-3072" => KeyAlgorithm::Rsa3072,
                "RSA-4096" => KeyAlgorithm::Rsa4096,
                _ => return false,
            };
            "pki.algorithm"
        }
        _ => return false,
    };
    reading.taken_over(key, said, at, key_of);
    true
}

/// What is neither a default nor known: each value by itself.
fn rest(key: &str, value: &Value, at: &str, reading: &mut Reading) {
    match value {
        Value::Null => {}
        // etcd.external is where etcd runs, and is read elsewhere.
        _ if READ_ELSEWHERE.contains(&key) || key == "etcd.external" => {}
        Value::Mapping(fields) => {
            for (inner, value) in fields {
                rest(&format!("{key}.{}", shown(inner)), value, at, reading);
            }
        }
        Value::Sequence(items) if items.is_empty() => {}
        _ => {
            let said = shown(value);
            let is_default = DEFAULTS.iter().any(|(k, v)| *k == key && *v == said);
            if is_default || matches!(said.as_str(), "" | "false" | "0" | "0s") {
                return;
            }
            let why = match key {
                "imageRepository" => {
                    "images keep their upstream names: set the registry in `runtime.registry_mirrors`"
                }
                "certificatesDir" => "kubastion keeps certificates in /etc/kubernetes/pki",
                key if key.starts_with("etcd.") => "the inventory has no key for etcd settings",
                _ => "the inventory has no key for it",
            };
            reading.not_taken_over(key, said, at, why);
        }
    }
}

/// A list of names and values (v1beta4), of which a name may stand several times, or a mapping (v1beta3).
fn arguments(value: &Value) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let pairs: Vec<(Option<String>, Option<String>)> = match value {
        Value::Sequence(items) => items
            .iter()
            .map(|i| (i.get("name").and_then(word), i.get("value").and_then(word)))
            .collect(),
        Value::Mapping(entries) => entries.iter().map(|(k, v)| (word(k), word(v))).collect(),
        _ => Vec::new(),
    };
    for (name, value) in pairs {
        let Some(name) = name else { continue };
        all.entry(name).or_default().push(value.unwrap_or_default());
    }
    all
}

fn volume(component: Component, entry: &Value, at: &str, reading: &mut Reading) {
    let text = |key: &str| entry.get(key).and_then(word).unwrap_or_default();
    let path_type = match text("pathType").as_str() {
        "" => None,
        "Directory" => Some(PathType::Directory),
        "DirectoryOrCreate" => Some(PathType::DirectoryOrCreate),
        "File" => Some(PathType::File),
        "FileOrCreate" => Some(PathType::FileOrCreate),
        "Socket" => Some(PathType::Socket),
        other => {
            let why = "the inventory does not support volumes of this type";
            return reading.not_taken_over(format!("volume {}", text("name")), other, at, why);
        }
    };
    let (host_path, mount_path) = (text("hostPath"), text("mountPath"));
    let volume = ExtraVolume {
        name: text("name"),
        mount_path: (mount_path != host_path).then_some(mount_path),
        host_path,
        read_only: text("readOnly") == "true",
        path_type,
    };
    reading.volumes.push((component, volume, at.to_owned()));
}

fn names(value: &Value, at: &str, inventory: &mut Inventory, reading: &mut Reading) {
    for san in value.as_sequence().into_iter().flatten().filter_map(word) {
        if san == inventory.cluster.endpoint.host.as_str() || san == "127.0.0.1" {
            continue;
        }
        match san.parse::<Host>() {
            Ok(host) => {
                inventory.cluster.extra_sans.push(host);
                reading.taken_over(
                    "name in the API server's certificate",
                    san,
                    at,
                    "cluster.extra_sans",
                );
            }
            Err(_) => reading.not_taken_over(
                "name in the API server's certificate",
                san,
                at,
                "`cluster.extra_sans` accepts only names and addresses",
            ),
        }
    }
}

/// Flags that are keys of the inventory: those of the audit log. Flags that kubeadm sets by default are left out.
pub(super) fn keys(
    texts: &BTreeMap<String, String>,
    inventory: &mut Inventory,
    files: &mut BTreeMap<String, String>,
    reading: &mut Reading,
) {
    let stated = std::mem::take(&mut reading.stated);
    for one in stated {
        let Setting::Flag(component, name, values) = &one.setting else {
            reading.stated.push(one);
            continue;
        };
        let value = values.join(",");
        let is_default = FLAGS.iter().any(|(c, n, default)| {
            c == component && n == name && *default != Default::Any && default.fits(&value)
        });
        if is_default {
            continue;
        }
        let number = || value.parse::<u32>().ok();
        let audit = &mut inventory.audit;
        let key = match (component, name.as_str(), number()) {
            (Component::ApiServer, "audit-log-maxage", Some(n)) if n >= 30 => {
                audit.max_age_days = n;
                "audit.max_age_days"
            }
            (Component::ApiServer, "audit-log-maxbackup", Some(n)) if n >= 10 => {
                audit.max_backups = n;
                "audit.max_backups"
            }
            (Component::ApiServer, "audit-log-maxsize", Some(n)) if n >= 100 => {
                audit.max_size_mb = n;
                "audit.max_size_mb"
            }
            (Component::ApiServer, "audit-policy-file", _) if texts.contains_key(&value) => {
                files.insert("audit-policy.yaml".to_owned(), texts[&value].clone());
                audit.policy = AuditPolicy::Custom;
                audit.file = Some(PathBuf::from("audit-policy.yaml"));
                "audit.file"
            }
            _ => {
                reading.stated.push(one);
                continue;
            }
        };
        reading.taken_over(format!("--{name}"), value, &one.at, key);
    }
}
