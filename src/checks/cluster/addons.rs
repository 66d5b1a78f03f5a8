//! kube-proxy and CoreDNS, as kubeadm puts them into every cluster. What their pods say is what runs: with the right
//! ConfigMap mounted elsewhere, the right file is read by nobody.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::checks::cluster::documents::{differences_of_proxy, is_nothing};
use crate::checks::cluster::rbac;
use crate::checks::cluster::reading::{Cluster, full_name, none_of, of};
use crate::checks::model::Verdict;
use crate::checks::node::staged::KUBEADM_INIT;
use crate::checks::rule::shown;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::SoftwareKind;

/// What kubeadm 1.34 to 1.37 makes of an add-on (cmd/kubeadm/app/phases/addons).
pub(in crate::checks) struct AddOn {
    kind: ObjectKind,
    /// Its kind in words.
    word: &'static str,
    /// Its name, and that of its account, its container, its ConfigMap and the last part of its image.
    name: &'static str,
    repository: &'static str,
    /// Whether its image has the cluster's version.
    is_of_release: bool,
    command: &'static [&'static str],
    args: &'static [&'static str],
    /// The only key of the ConfigMap that it may leave others out for.
    item: Option<&'static str>,
    /// Where the ConfigMap is mounted.
    at: &'static str,
    /// Paths of the node.
    paths: &'static [&'static str],
    host_network: bool,
    /// By another policy, its own resolver is another than the node's.
    dns_policy: Option<&'static str>,
}

impl AddOn {
    /// The command that makes what is missing of it: a plan writes none of kubeadm's own objects.
    pub(in crate::checks) fn remade(&self) -> String {
        let name = self.name;
        format!("run `kubeadm init phase addon {name} --config {KUBEADM_INIT}` on a control plane")
    }
}

const PROXY: AddOn = AddOn {
    kind: ObjectKind::DaemonSets,
    word: "DaemonSet",
    name: "kube-proxy",
    repository: "registry.k8s.io/kube-proxy",
    is_of_release: true,
    command: &[
        "/usr/local/bin/kube-proxy",
        "--config=/var/lib/kube-proxy/config.conf",
        "--hostname-override=$(NODE_NAME)",
    ],
    args: &[],
    item: None,
    at: "/var/lib/kube-proxy",
    paths: &["/run/xtables.lock", "/lib/modules"],
    host_network: true,
    dns_policy: None,
};

pub(in crate::checks) const DNS: AddOn = AddOn {
    kind: ObjectKind::Deployments,
    word: "Deployment",
    name: "coredns",
    repository: "registry.k8s.io/coredns/coredns",
    is_of_release: false,
    command: &[],
    args: &["-conf", "/etc/coredns/Corefile"],
    item: Some("Corefile"),
    at: "/etc/coredns",
    paths: &[],
    host_network: false,
    dns_policy: Some("Default"),
};

/// Parts of a pod by which nothing else runs, or is answered: where it is placed, and how it ends. All others are judged, or
/// may not be there.
const PLACING: &[&str] = &[
    "affinity",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "restartPolicy",
    "securityContext",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];
const JUDGED: &[&str] = &[
    "containers",
    "dnsPolicy",
    "hostNetwork",
    "hostUsers",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "volumes",
];
/// Parts of a container of which another rule judges what matters (`policy-pod-security-in-force`: what its hooks and probes
/// run, and its variables), or nothing does.
const OF_CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

impl AddOn {
    /// The object, if it is there.
    pub(in crate::checks) fn object<'c>(
        &self,
        on: &Cluster<'c>,
    ) -> Result<Option<&'c Value>, Verdict> {
        let all = of(on.facts, self.kind)?;
        Ok(all.iter().find(|o| (namespace(o), name(o)) == ("kube-system", self.name)))
    }

    /// What its pods are that kubeadm does not make of them.
    pub(in crate::checks) fn deviations(&self, on: &Cluster<'_>, object: &Value) -> Vec<String> {
        let mut said = Vec::new();
        let empty = json!({});
        let pod = object.pointer("/spec/template/spec").unwrap_or(&empty);
        for (key, value) in parts(pod) {
            if !PLACING.contains(&key) && !JUDGED.contains(&key) && !is_nothing(value) {
                said.push(format!("has {key}"));
            }
        }
        for key in ["serviceAccountName", "serviceAccount"] {
            let account = pod.get(key).and_then(Value::as_str);
            if account.is_some_and(|a| a != self.name) {
                said.push(format!("runs as ServiceAccount {}", shown(account)));
            }
        }
        if text(pod, "/serviceAccountName").is_empty() {
            said.push("does not run as its own ServiceAccount".to_owned());
        }
        let host_network = pod.get("hostNetwork") == Some(&Value::Bool(true));
        if host_network != self.host_network {
            said.push(format!("has hostNetwork {host_network}"));
        }
        let policy = text(pod, "/dnsPolicy");
        if self.dns_policy.is_some_and(|wanted| policy != wanted) {
            said.push(format!("has dnsPolicy {policy}"));
        }
        let scheduler = text(pod, "/schedulerName");
        if !matches!(scheduler, "" | "default-scheduler") {
            said.push(format!("is placed by {scheduler}"));
        }
        for volume in list(pod, "/volumes").iter().filter(|v| !self.is_own(v)) {
            said.push(format!("mounts volume {}", text(volume, "/name")));
        }
        match list(pod, "/containers") {
            [container] => said.extend(self.of_container(on, pod, container)),
            all => said.push(format!("has {} containers", all.len())),
        }
        said.into_iter().map(|s| format!("{} {} {s}", self.word, self.name)).collect()
    }

    /// Its ConfigMap, or a path of the node that it has to change.
    fn is_own(&self, volume: &Value) -> bool {
        let kinds: Vec<&str> = parts(volume).map(|(key, _)| key).filter(|k| *k != "name").collect();
        match kinds[..] {
            ["hostPath"] => self.paths.contains(&text(volume, "/hostPath/path")),
            ["configMap"] => {
                let items = list(volume, "/configMap/items");
                let is_item = |i: &Value| {
                    self.item.is_some_and(|own| text(i, "/key") == own && text(i, "/path") == own)
                };
                text(volume, "/configMap/name") == self.name && items.iter().all(is_item)
            }
            _ => false,
        }
    }

    fn of_container(&self, on: &Cluster<'_>, pod: &Value, container: &Value) -> Vec<String> {
        let mut said = Vec::new();
        if text(container, "/name") != self.name {
            said.push(format!("runs container {}", text(container, "/name")));
        }
        for (key, value) in parts(container) {
            if !OF_CONTAINER.contains(&key) && !is_nothing(value) {
                said.push(format!("has {key}"));
            }
        }
        let words = |at: &str| -> Vec<&str> {
            list(container, at).iter().map(|a| a.as_str().unwrap_or_default()).collect()
        };
        let (command, args) = (words("/command"), words("/args"));
        if command != self.command || args != self.args {
            said.push(format!("runs {} {}", self.name, [command, args].concat().join(" ")));
        }
        let image = text(container, "/image");
        if !self.is_image(on, image) {
            said.push(format!("runs image {}", shown(Some(image))));
        }
        // Where the ConfigMap is not, the program reads what is in its image.
        let mut configured = false;
        for mount in list(container, "/volumeMounts") {
            let of = list(pod, "/volumes").iter();
            let mut of = of.filter(|v| text(v, "/name") == text(mount, "/name"));
            let volume = of.next().unwrap_or(&Value::Null);
            let path = text(mount, "/mountPath");
            let whole =
                ["subPath", "subPathExpr"].iter().all(|key| mount.get(*key).is_none_or(is_nothing));
            let is_map = volume.get("configMap").is_some() && path == self.at;
            let is_own = is_map || text(volume, "/hostPath/path") == path;
            if !(whole && is_own) {
                said.push(format!("mounts {} at {path}", text(mount, "/name")));
            }
            configured |= whole && is_map;
        }
        if !configured {
            said.push(format!("mounts no ConfigMap at {}", self.at));
        }
        said
    }

    /// Kubernetes' own image, or what the bundle brings under that name; of the cluster's release where it has that version.
    fn is_image(&self, on: &Cluster<'_>, image: &str) -> bool {
        let software = on.reference.software.as_ref();
        let brought = software.into_iter().flat_map(|s| s.of(SoftwareKind::Images));
        let last =
            |i: &str| i.rsplit('/').next().and_then(|l| l.split(':').next()) == Some(self.name);
        if brought.flat_map(|f| &f.images).any(|i| i == image && last(i)) {
            return true;
        }
        let (named, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
        let Some(tag) = named.strip_prefix(self.repository) else { return false };
        let is_tag = match tag.strip_prefix(':') {
            Some(tag) if self.is_of_release => {
                tag == format!("v{}", on.inventory.cluster.kubernetes)
            }
            Some(tag) => tag.starts_with('v'),
            None => tag.is_empty() && digest.is_some(),
        };
        is_tag && digest.is_none_or(|d| d.starts_with("sha256:"))
    }
}

/// What an object says.
fn parts(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// kube-proxy, by its DaemonSet and by what it reads.
pub(in crate::checks) fn proxy(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let expected = "DaemonSet and config.conf of kube-proxy as kubeadm and apply write them";
    let Some(object) = PROXY.object(on)? else {
        let what = format!("DaemonSet kube-system/kube-proxy is missing ({})", PROXY.remade());
        return Ok(Verdict::fail(expected, what));
    };
    let mut wrong = PROXY.deviations(on, object);
    wrong.extend(rbac::lacks_role(on, "kube-proxy", "system:node-proxier")?);
    let differing = differences_of_proxy(on)?;
    wrong.extend(differing.into_iter().map(|at| format!("config.conf differs in {at}")));
    Ok(none_of(expected, wrong, "DaemonSet kube-proxy and its config.conf".into()))
}

/// How long CoreDNS may take to start, or to come back on another node.
const STARTS_WITHIN: Duration = Duration::minutes(5);

/// Why CoreDNS answers nobody.
pub(in crate::checks) fn is_silent(on: &Cluster<'_>, deployment: &Value) -> Option<String> {
    let called = full_name(deployment);
    let count = |at: &str| deployment.pointer(at).and_then(Value::as_u64);
    if count("/spec/replicas") == Some(0) {
        return Some(format!("Deployment {called} is scaled to 0"));
    }
    if count("/status/readyReplicas").is_some_and(|ready| ready > 0) {
        return None;
    }
    let conditions = list(deployment, "/status/conditions").iter();
    let mut available = conditions.filter(|c| text(c, "/type") == "Available");
    let since = available.next().map_or_else(
        || text(deployment, "/metadata/creationTimestamp"),
        |c| text(c, "/lastTransitionTime"),
    );
    let starts = OffsetDateTime::parse(since, &Rfc3339)
        .is_ok_and(|since| (on.now - since).abs() <= STARTS_WITHIN);
    (!starts).then(|| format!("Deployment {called} has no ready pod"))
}
