//! Documents that kubeadm keeps in ConfigMaps, against those that it was given.

use crate::yaml::{self, Value as Yaml};

use super::reading::{Cluster, full_name, of, proxy_configuration};
use crate::checks::model::Verdict;
use crate::facts::cluster::{KUBEADM_CONFIG, KUBELET_CONFIG, ObjectKind};

/// A ConfigMap, its key and the document of kubeadm's file that it was made of.
pub(in crate::checks) const KEPT: &[(&str, &str, &str)] = &[
    (KUBEADM_CONFIG, "ClusterConfiguration", "ClusterConfiguration"),
    (KUBELET_CONFIG, "kubelet", "KubeletConfiguration"),
];

/// What kubeadm writes beside what it was told, where it is not empty (`config print init-defaults`, kubeadm 1.34 to 1.36).
pub(in crate::checks) const BY_KUBEADM: &[(&str, &[&str])] = &[
    ("imageRepository", &["registry.k8s.io"]),
    ("staticPodPath", &["/etc/kubernetes/manifests"]),
    ("resolvConf", &["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]),
    ("containerRuntimeEndpoint", &["unix:///run/containerd/containerd.sock"]),
    ("bindAddress", &["0.0.0.0", "::"]),
    ("clientConnection.kubeconfig", &["/var/lib/kube-proxy/kubeconfig.conf"]),
];

pub(in crate::checks) fn data<'v>(
    on: &'v Cluster<'_>,
    map: &str,
    key: &str,
) -> Result<Option<&'v str>, Verdict> {
    let maps = of(on.facts, ObjectKind::ConfigMaps)?;
    if maps.is_empty() {
        return Err(Verdict::unknown("the list of ConfigMaps is empty"));
    }
    let found = maps.iter().find(|m| full_name(m) == map);
    Ok(found.and_then(|m| m.pointer("/data")?.get(key)?.as_str()))
}

/// Where a document differs from what kubeadm was told. Control planes may differ in what their own kernel has.
pub(in crate::checks) fn least_differences(
    on: &Cluster<'_>,
    kind: &str,
    said: &Yaml,
) -> Result<Vec<String>, Verdict> {
    let wanted: Vec<Yaml> =
        on.reference.kubeadm.iter().filter_map(|text| document(text, kind)).collect();
    if wanted.is_empty() {
        return Err(Verdict::unknown("no control plane's kubeadm-init.yaml was read"));
    }
    let differences = wanted.iter().map(|wanted| {
        let mut found = Vec::new();
        differ(wanted, said, "", &mut found);
        found
    });
    Ok(differences.min_by_key(Vec::len).unwrap_or_default())
}

pub(in crate::checks) fn document(text: &str, kind: &str) -> Option<Yaml> {
    yaml::documents(text)
        .unwrap_or_default()
        .into_iter()
        .find(|d| d.get("kind").and_then(Yaml::as_str) == Some(kind))
}

/// Whether an object says nothing there.
pub(in crate::checks) fn is_nothing(value: &serde_json::Value) -> bool {
    matches!(value.to_string().as_str(), "null" | "[]" | "{}" | "false" | r#""""#)
}

/// Whether Go leaves a value out, or writes it where nothing was said.
pub(in crate::checks) fn is_zero(value: &Yaml) -> bool {
    match value {
        Yaml::Null | Yaml::Bool(false) => true,
        Yaml::Number(n) => n.as_f64() == Some(0.0),
        Yaml::String(text) => matches!(text.as_str(), "" | "0" | "0s"),
        Yaml::Sequence(items) => items.iter().all(is_zero),
        Yaml::Mapping(fields) => fields.values().all(is_zero),
        Yaml::Bool(true) | Yaml::Tagged(_) => false,
    }
}

/// Whether kubeadm writes something below a key that was not given.
pub(in crate::checks) fn is_filled_in(at: &str) -> bool {
    BY_KUBEADM.iter().any(|(key, _)| key.strip_prefix(at).is_some_and(|rest| rest.starts_with('.')))
}

/// Where a document says something else than another: a key or a list as a whole.
pub(in crate::checks) fn differ(wanted: &Yaml, said: &Yaml, at: &str, found: &mut Vec<String>) {
    let (want, have) = match (wanted, said) {
        (Yaml::Mapping(want), Yaml::Mapping(have)) => (want, have),
        (Yaml::Sequence(want), Yaml::Sequence(have)) if want.len() == have.len() => {
            let mut inside = Vec::new();
            want.iter().zip(have).for_each(|(w, h)| differ(w, h, "", &mut inside));
            if !inside.is_empty() {
                found.push(at.to_owned());
            }
            return;
        }
        (one, other) => {
            if one != other && !(is_zero(one) && is_zero(other)) {
                found.push(at.to_owned());
            }
            return;
        }
    };
    let mut keys: Vec<&Yaml> = want.keys().chain(have.keys()).collect();
    keys.sort_by_key(|k| k.as_str().unwrap_or_default());
    keys.dedup();
    for key in keys {
        let word = key.as_str().unwrap_or_default();
        let below = if at.is_empty() { word.to_owned() } else { format!("{at}.{word}") };
        match (want.get(key), have.get(key)) {
            (Some(want), Some(have)) => differ(want, have, &below, found),
            (Some(one), None) | (None, Some(one)) if is_zero(one) => {}
            // kubeadm 1.36 asks etcd for its health there.
            (None, Some(http)) if below == "etcd.external.httpEndpoints" => {
                if want.get("endpoints") != Some(http) {
                    found.push(below);
                }
            }
            (None, Some(have @ Yaml::Mapping(_))) if is_filled_in(&below) => {
                differ(&Yaml::Mapping(crate::yaml::Mapping::new()), have, &below, found);
            }
            (None, Some(have)) => {
                let own = BY_KUBEADM.iter().find(|(key, _)| *key == below);
                if !own
                    .is_some_and(|(_, values)| have.as_str().is_some_and(|v| values.contains(&v)))
                {
                    found.push(below);
                }
            }
            _ => found.push(below),
        }
    }
}

/// Where kube-proxy's configuration is not what apply has kubeadm put there; its kubeconfig is judged by itself.
pub(in crate::checks) fn differences_of_proxy(on: &Cluster<'_>) -> Result<Vec<String>, Verdict> {
    let said = proxy_configuration(on.facts)?;
    let mut found = least_differences(on, "KubeProxyConfiguration", &said)?;
    found.retain(|at| at != "clientConnection.kubeconfig");
    Ok(found)
}
