//! Who made a pod: its owners as they are in the cluster. Whoever creates a pod writes what it says of them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::cluster::reading::{Cluster, of};
use crate::checks::model::Verdict;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};

/// Who makes pods, and where the pod is described that it makes.
pub(crate) const MAKERS: &[(ObjectKind, &str, &str)] = &[
    (ObjectKind::DaemonSets, "DaemonSet", "/spec/template"),
    (ObjectKind::Deployments, "Deployment", "/spec/template"),
    (ObjectKind::StatefulSets, "StatefulSet", "/spec/template"),
    (ObjectKind::ReplicaSets, "ReplicaSet", "/spec/template"),
    (ObjectKind::ReplicationControllers, "ReplicationController", "/spec/template"),
    (ObjectKind::Jobs, "Job", "/spec/template"),
    (ObjectKind::CronJobs, "CronJob", "/spec/jobTemplate/spec/template"),
];

/// An object, after its kind.
pub(crate) type Owner<'c> = (&'static str, &'c Value);

/// Nodes, and all that makes pods.
pub(crate) struct Owners<'c> {
    by_uid: BTreeMap<&'c str, Owner<'c>>,
}

impl<'c> Owners<'c> {
    pub(crate) fn in_(on: &Cluster<'c>) -> Result<Self, Verdict> {
        let mut by_uid = BTreeMap::new();
        let kinds = MAKERS.iter().map(|&(kind, called, _)| (kind, called));
        for (kind, called) in kinds.chain([(ObjectKind::Nodes, "Node")]) {
            let all = of(on.facts, kind)?.iter();
            by_uid.extend(all.map(|o| (text(o, "/metadata/uid"), (called, o))));
        }
        by_uid.remove("");
        Ok(Self { by_uid })
    }

    /// What controls an object, if it is there under the uid that the object names.
    pub(crate) fn controller(&self, object: &Value) -> Option<Owner<'c>> {
        let named = list(object, "/metadata/ownerReferences").iter();
        let mut named = named.filter(|o| o.get("controller") == Some(&Value::Bool(true)));
        let owner = named.next()?;
        let (kind, found) = *self.by_uid.get(text(owner, "/uid"))?;
        let is_it = (kind, name(found)) == (text(owner, "/kind"), text(owner, "/name"));
        // A Deployment makes ReplicaSets and a CronJob Jobs. A pod that names one of them was made by somebody else.
        let is_pod = object.pointer("/spec/containers").is_some();
        let makes_pods = !matches!(kind, "Deployment" | "CronJob");
        let has_template = object.pointer("/spec/template").is_some();
        let is_made = if is_pod { makes_pods } else { !makes_pods && has_template };
        (is_it && is_made && (kind == "Node" || namespace(found) == namespace(object)))
            .then_some((kind, found))
    }

    /// The last one of those that control each other.
    pub(crate) fn top(&self, object: &Value) -> Option<Owner<'c>> {
        let first = self.controller(object)?;
        // A Deployment's ReplicaSet, or a CronJob's Job.
        Some(self.controller(first.1).unwrap_or(first))
    }

    /// Whether an object was made by one of kube-system, through whatever is between them.
    pub(in crate::checks) fn is_of(&self, object: &Value, kind: &str, called: &str) -> bool {
        namespace(object) == "kube-system"
            && self.top(object).is_some_and(|(k, o)| k == kind && name(o) == called)
    }
}

/// Whether a pod is what its maker describes: what runs in it, as whom, and with what of others. Kubernetes adds the account's
/// token.
pub(in crate::checks) fn is_as_described(pod: &Value, template: &Value) -> bool {
    const OF_POD: &[&str] = &[
        "activeDeadlineSeconds",
        "dnsConfig",
        "dnsPolicy",
        "hostAliases",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "runtimeClassName",
        "securityContext",
        "serviceAccountName",
        "shareProcessNamespace",
    ];
    const OF_CONTAINER: &[&str] = &[
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "lifecycle",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "securityContext",
        "startupProbe",
    ];
    let same = |one: &Value, other: &Value, keys: &[&str]| {
        keys.iter().all(|key| said(one, key) == said(other, key))
    };
    let (Some(have), Some(want)) = (pod.get("spec"), template.get("spec")) else { return false };
    let containers = (list(have, "/containers"), list(want, "/containers"));
    let mounts = |c: &Value| -> Vec<Value> {
        let all = list(c, "/volumeMounts").iter();
        all.filter(|m| text(m, "/mountPath") != ACCOUNT).cloned().collect()
    };
    let volumes = |spec: &Value| -> Vec<Value> {
        list(spec, "/volumes").iter().filter(|v| !is_of_the_account(v)).cloned().collect()
    };
    same(have, want, OF_POD)
        && volumes(have) == volumes(want)
        && containers.0.len() == containers.1.len()
        && containers
            .0
            .iter()
            .zip(containers.1)
            .all(|(h, w)| same(h, w, OF_CONTAINER) && mounts(h) == mounts(w))
}

/// Where a pod finds the token of its ServiceAccount.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn said<'v>(object: &'v Value, key: &str) -> Option<&'v Value> {
    object.get(key).filter(|v| !v.is_null())
}

/// The volume that the API server adds: the account's token, the cluster's CA and the namespace.
fn is_of_the_account(volume: &Value) -> bool {
    let sources = list(volume, "/projected/sources");
    let known = |s: &Value| {
        s.get("serviceAccountToken").is_some()
            || s.get("downwardAPI").is_some()
            || text(s, "/configMap/name") == "kube-root-ca.crt"
    };
    text(volume, "/name").starts_with("kube-api-access-")
        && !sources.is_empty()
        && sources.iter().all(|s| known(s) && s.get("secret").is_none())
}
