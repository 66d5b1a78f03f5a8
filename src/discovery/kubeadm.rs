//! What kubeadm was told when the cluster was made: ConfigMap kube-system/kubeadm-config
//! (<https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/>).

use crate::facts::cluster::{ClusterFacts, KUBEADM_CONFIG, ObjectKind, name, namespace};
use crate::yaml::Value;

/// Its ClusterConfiguration, as far as an inventory goes by it. What it does not say is `None`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ClusterConfiguration {
    /// `clusterName`.
    pub name: Option<String>,
    /// `kubernetesVersion`.
    pub version: Option<String>,
    /// `controlPlaneEndpoint`.
    pub endpoint: Option<String>,
    /// `networking.podSubnet`, both families with a comma between.
    pub pods: Option<String>,
    /// `networking.serviceSubnet`, the same.
    pub services: Option<String>,
    /// `networking.dnsDomain`.
    pub domain: Option<String>,
    /// `etcd.external.endpoints`.
    pub external_etcd: Vec<String>,
}

/// Reads it; nothing where there is none that can be read.
pub(super) fn cluster_configuration(facts: &ClusterFacts) -> Option<ClusterConfiguration> {
    let maps = facts.of(ObjectKind::ConfigMaps).ok()?;
    let map = maps.iter().find(|m| format!("{}/{}", namespace(m), name(m)) == KUBEADM_CONFIG)?;
    let text = map.pointer("/data/ClusterConfiguration")?.as_str()?;
    let all: Value = crate::yaml::parse(text).ok()?;
    let at = |path: &[&str]| path.iter().try_fold(&all, |v, key| v.get(*key));
    let word = |path: &[&str]| {
        at(path).and_then(Value::as_str).filter(|w| !w.is_empty()).map(str::to_owned)
    };
    let external = at(&["etcd", "external", "endpoints"]).and_then(Value::as_sequence);
    Some(ClusterConfiguration {
        name: word(&["clusterName"]),
        version: word(&["kubernetesVersion"]),
        endpoint: word(&["controlPlaneEndpoint"]),
        pods: word(&["networking", "podSubnet"]),
        services: word(&["networking", "serviceSubnet"]),
        domain: word(&["networking", "dnsDomain"]),
        external_etcd: external
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect(),
    })
}
