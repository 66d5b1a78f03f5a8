//! Namespaces and pods as they are, against the level of Pod Security that the inventory wants of them.
//!
//! What a namespace of our own refuses says nothing of the others: a label of theirs overrides the default of the
//! API server, and what runs already is asked nothing.

use crate::checks::cluster::owners::MAKERS;
use serde_json::Value;

use crate::checks::cluster::owners::{Owners, is_as_described};
use crate::checks::cluster::pod_standard::broken;
use crate::checks::cluster::reading::{Cluster, full_name, none_of, of};
use crate::checks::cluster::reading::{is_allowed, over};
use crate::checks::model::Verdict;
use crate::controls;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::{AllowedKind, Inventory, PodLevel, PodSecurityExemption, Role};

/// The namespace of Kubernetes' own pods, which the admission configuration leaves out.
const SYSTEM: &str = "kube-system";
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// What the inventory lets a namespace do.
fn exempt<'c>(on: &Cluster<'c>, space: &str) -> Option<&'c PodSecurityExemption> {
    let all = on.inventory.hardening.pod_security.exemptions.iter();
    all.into_iter().find(|e| e.namespace == space && on.lasts(&e.expires))
}

/// What the inventory wants of a namespace.
fn wanted(on: &Cluster<'_>, space: &str) -> PodLevel {
    exempt(on, space).map_or(PodLevel::Restricted, |e| e.level)
}

/// What the inventory wants of a pod, or of what makes pods: an exemption may be for some of a namespace.
fn wanted_of(
    on: &Cluster<'_>,
    owners: &Owners<'_>,
    kind: &'static str,
    object: &Value,
) -> PodLevel {
    let Some(exempt) = exempt(on, namespace(object)) else { return PodLevel::Restricted };
    let (of, top) = owners.top(object).unwrap_or((kind, object));
    let is_named = || exempt.workloads.contains(&format!("{of}/{}", name(top)));
    // Whoever creates a pod writes whose it is.
    if exempt.workloads.is_empty() || is_named() && is_its_makers(kind, object, owners) {
        exempt.level
    } else {
        PodLevel::Restricted
    }
}

/// The pod that an object describes.
fn template<'v>(kind: &str, object: &'v Value) -> Option<&'v Value> {
    let (.., at) = MAKERS.iter().find(|(_, called, _)| *called == kind)?;
    object.pointer(at)
}

/// Whether a pod, or what makes pods, is what the topmost of its makers describes. What runs nothing any more may be of an
/// earlier description: ReplicaSets of earlier revisions, and Jobs that are over.
fn is_its_makers(kind: &str, object: &Value, owners: &Owners<'_>) -> bool {
    let Some((of, top)) = owners.top(object) else { return true };
    let Some(wanted) = template(of, top) else { return false };
    let runs_nothing = || {
        object.pointer("/spec/replicas").and_then(Value::as_u64) == Some(0)
            || object.pointer("/status/completionTime").is_some()
    };
    match template(kind, object) {
        None => is_as_described(object, wanted),
        Some(own) => runs_nothing() || is_as_described(own, wanted),
    }
}

/// Namespaces that the admission configuration may leave out: Kubernetes' own, and those that the inventory exempts
/// from everything.
pub(in crate::checks) fn may_be_left_out(inventory: &Inventory, space: &str) -> bool {
    let exempt = &inventory.hardening.pod_security.exemptions;
    let named = |e: &&crate::inventory::PodSecurityExemption| {
        e.namespace == space && e.level == PodLevel::Privileged
    };
    space == SYSTEM || exempt.iter().any(|e| named(&e))
}

/// What the API server enforces in a namespace: its label, else the default of the admission configuration.
pub(in crate::checks) fn enforced(on: &Cluster<'_>, space: &Value) -> PodLevel {
    if may_be_left_out(on.inventory, name(space)) {
        return PodLevel::Privileged;
    }
    match label(space, ENFORCE) {
        Some("restricted") => PodLevel::Restricted,
        Some("baseline") => PodLevel::Baseline,
        // No other value is one of the standard's; what the API server makes of it is nobody's promise.
        Some(_) => PodLevel::Privileged,
        None if has_default(on.inventory) => PodLevel::Restricted,
        None => PodLevel::Privileged,
    }
}

/// The level that the default of the admission configuration sets for a namespace; `None` where its own label decides.
pub(crate) fn level_by_default(on: &Cluster<'_>, space: &Value) -> Option<PodLevel> {
    label(space, ENFORCE).is_none().then(|| enforced(on, space))
}

/// The level that a namespace's own label enforces, if the inventory wants a stricter one.
pub(crate) fn weaker_label(on: &Cluster<'_>, space: &Value) -> Option<PodLevel> {
    label(space, ENFORCE)?;
    let level = enforced(on, space);
    (name(space) != SYSTEM && level < wanted(on, name(space))).then_some(level)
}

/// Whether an admission configuration says what holds where no label does. Whether the API server goes by it is
/// judged with its other files.
fn has_default(inventory: &Inventory) -> bool {
    controls::find("policy-pod-security").is_some_and(|c| c.wanted(inventory))
}

fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// Minor release of a version of the standards; the newest for `latest`.
fn minor(version: &str) -> Option<u16> {
    match version {
        "latest" => Some(u16::MAX),
        other => other.strip_prefix("v1.")?.parse().ok(),
    }
}

pub(in crate::checks) fn namespace_levels(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let spaces = of(on.facts, ObjectKind::Namespaces)?;
    if !spaces.iter().any(|n| name(n) == "default") {
        return Err(Verdict::unknown("the list of namespaces lacks `default`"));
    }
    let mut wrong = Vec::new();
    for space in spaces.iter().filter(|n| name(n) != SYSTEM) {
        let (called, wanted) = (name(space), wanted(on, name(space)));
        let level = match label(space, ENFORCE) {
            None if !has_default(on.inventory) => {
                wrong.push(format!("{called} has no label, and there is no default"));
                continue;
            }
            _ => enforced(on, space),
        };
        if level < wanted {
            wrong.push(format!("{called} enforces {level}"));
        } else if let Some(version) = label(space, VERSION)
            && wanted > PodLevel::Privileged
            && minor(version).is_none_or(|m| m < on.inventory.cluster.kubernetes.minor)
        {
            wrong.push(format!("{called} enforces {level} as of {version}"));
        }
    }
    let exemptions = &on.inventory.hardening.pod_security.exemptions;
    let over = exemptions.iter().filter(|e| !on.lasts(&e.expires));
    wrong
        .extend(over.map(|e| format!("the exemption of {} expired on {}", e.namespace, e.expires)));
    let expected = "restricted, or the level that the inventory sets";
    Ok(none_of(expected, wrong, format!("levels of {} namespaces", spaces.len())))
}

/// What pods of Kubernetes' own may break of the standard, by who made them.
struct Known {
    /// What describes them.
    by: By,
    /// Its only container. A second one beside it is somebody else's.
    container: &'static str,
    /// Rules of the baseline standard that they may break. What is only restricted is a matter of
    /// `policy-system-workload-hardening`.
    may: &'static [&'static str],
    /// Paths of the node that it may mount; all for a static pod, whose manifest a plan compares.
    paths: Option<&'static [&'static str]>,
    /// Variables of its environment, which name the node; all for a static pod.
    env: Option<&'static [&'static str]>,
}

/// What describes a pod.
#[derive(Clone, Copy)]
enum By {
    /// A manifest on a control plane: the pod is called as its container, and after the node.
    Manifest,
    /// An object of kube-system: its kind and name.
    Object(&'static str, &'static str),
}

/// A static pod runs beside its node's daemons, with their files; it is asked for its health at loopback.
const STATIC: &[&str] = &["host-network", "host-path", "host-ports", "host-probes"];

const fn static_pod(container: &'static str) -> Known {
    Known { by: By::Manifest, container, may: STATIC, paths: None, env: None }
}

/// etcd is a pod only where the inventory says so.
const ETCD: &str = "etcd";

const KNOWN: &[Known] = &[
    static_pod(ETCD),
    static_pod("kube-apiserver"),
    static_pod("kube-controller-manager"),
    static_pod("kube-scheduler"),
    // kubeadm 1.34 to 1.37: cmd/kubeadm/app/phases/addons/proxy/manifests.go.
    Known {
        by: By::Object("DaemonSet", "kube-proxy"),
        container: "kube-proxy",
        may: &["capabilities", "host-network", "host-path", "privileged"],
        paths: Some(&["/run/xtables.lock", "/lib/modules"]),
        env: Some(&["NODE_NAME"]),
    },
    Known {
        by: By::Object("Deployment", "coredns"),
        container: "coredns",
        may: &[],
        paths: Some(&[]),
        env: Some(&[]),
    },
];

/// Whether a kubelet shows with it a pod that it takes from a file. The API server adds the annotation to no pod that exists,
/// and takes it from none; a kubelet runs no pod that has it, and deletes one that no file of its is behind.
fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").is_some_and(|a| {
        a.get("kubernetes.io/config.mirror").is_some_and(|hash| hash != "")
            && a.get("kubernetes.io/config.source").is_some_and(|s| s == "file")
    })
}

/// Whether a pod is what describes it.
fn is_by_its_maker(pod: &Value, owners: &Owners<'_>) -> bool {
    let template = owners.top(pod).and_then(|(_, maker)| maker.pointer("/spec/template"));
    template.is_some_and(|template| is_as_described(pod, template))
}

impl Known {
    fn is(&self, pod: &Value, owners: &Owners<'_>, inventory: &Inventory) -> bool {
        if !self.is_alone(pod) {
            return false;
        }
        match self.by {
            By::Manifest => {
                let Some(("Node", node)) = owners.controller(pod) else { return false };
                let mut planes = inventory.with_role(Role::ControlPlane);
                is_mirror(pod)
                    && (self.container != ETCD || inventory.has_stacked_etcd())
                    && name(pod) == format!("{}-{}", self.container, name(node))
                    && text(pod, "/spec/nodeName") == name(node)
                    && planes.any(|n| n.name.as_str() == name(node))
            }
            By::Object(kind, called) => {
                owners.is_of(pod, kind, called) && is_by_its_maker(pod, owners)
            }
        }
    }

    /// Whether a pod belongs to the object and is something else than that describes.
    fn is_another(&self, pod: &Value, owners: &Owners<'_>) -> bool {
        let By::Object(kind, called) = self.by else { return false };
        owners.is_of(pod, kind, called) && !is_by_its_maker(pod, owners)
    }

    /// Whether its container is the only one, with no other paths of the node than its own.
    fn is_alone(&self, pod: &Value) -> bool {
        let [container] = list(pod, "/spec/containers") else { return false };
        let path =
            |v: &Value| v.pointer("/hostPath/path").and_then(Value::as_str).map(str::to_owned);
        let mut mounted = list(pod, "/spec/volumes").iter().filter_map(path);
        text(container, "/name") == self.container
            && list(pod, "/spec/initContainers").is_empty()
            && list(pod, "/spec/ephemeralContainers").is_empty()
            && self.paths.is_none_or(|own| mounted.all(|p| own.contains(&p.as_str())))
    }

    /// What runs in its containers beside their program, or steers it: hooks, commands of probes, the environment.
    /// Those of static pods are in manifests, which plans compare whole: the API server's probes are commands of ours.
    fn extras(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let Some(own) = self.env else { return Vec::new() };
        let mut found = Vec::new();
        for container in list(pod, "/spec/containers") {
            let mut add = |what: String| {
                found
                    .push(("extras", format!("container {} has {what}", text(container, "/name"))));
            };
            if container.get("lifecycle").is_some_and(|l| !l.is_null()) {
                add("lifecycle hooks".to_owned());
            }
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(probe).and_then(|p| p.get("exec")).is_some_and(|e| !e.is_null()) {
                    add(format!("{probe} exec"));
                }
            }
            if !list(container, "/envFrom").is_empty() {
                add("envFrom".to_owned());
            }
            for variable in list(container, "/env") {
                let is_the_node =
                    text(variable, "/valueFrom/fieldRef/fieldPath") == "spec.nodeName";
                if !is_the_node || !own.contains(&text(variable, "/name")) {
                    add(format!("env {}", text(variable, "/name")));
                }
            }
        }
        found
    }

    /// The same of what makes such pods.
    fn makes(&self, kind: &str, object: &Value, template: &Value, owners: &Owners<'_>) -> bool {
        let By::Object(by, called) = self.by else { return false };
        let is_it = (kind, name(object)) == (by, called) || owners.is_of(object, by, called);
        is_it && self.is_alone(template)
    }
}

/// Whether a pod is one of Kubernetes' own: of the control plane, with an etcd beside it, of kube-proxy, or of CoreDNS.
pub(crate) fn is_of_kubernetes(pod: &Value, owners: &Owners<'_>, inventory: &Inventory) -> bool {
    let etcd = static_pod("etcd");
    let mut known = KNOWN.iter().chain([&etcd]);
    namespace(pod) == SYSTEM && known.any(|k| k.is(pod, owners, inventory))
}

/// Whether something makes such pods.
pub(crate) fn makes_of_kubernetes(
    kind: &str,
    object: &Value,
    template: &Value,
    owners: &Owners<'_>,
) -> bool {
    namespace(object) == SYSTEM && KNOWN.iter().any(|k| k.makes(kind, object, template, owners))
}

/// Where nodes keep what pods may have: what others mount there, and disks. Below all others is what the node runs by, and a
/// volume there gives a pod what its own standard forbids it to mount.
const FOR_VOLUMES: &[&str] = &[
    "/data",
    "/disks",
    "/export",
    "/local",
    "/media",
    "/mnt",
    "/opt/local-path-provisioner",
    "/srv",
    "/storage",
    "/var/lib/local-path-provisioner",
    "/var/lib/longhorn",
    "/var/lib/rook",
    "/var/local",
    "/var/openebs",
    "/volumes",
];

/// Whether a path is of none of those.
fn leads_to_the_node(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    // Also behind a link it would lead elsewhere.
    if !path.starts_with('/') || parts.contains(&"..") {
        return true;
    }
    let path = parts.join("/");
    let below = |place: &&str| {
        path.strip_prefix(&place[1..]).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // As many disks as there are: /data1, /mnt2.
    let numbered = |place: &&str| {
        let first = parts.first().map_or("", |p| p.trim_end_matches(|c: char| c.is_ascii_digit()));
        place[1..].split('/').eq([first])
    };
    !FOR_VOLUMES.iter().any(|place| below(place) || numbered(place))
}

pub(in crate::checks) fn pods_within_standard(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let pods = of(on.facts, ObjectKind::Pods)?;
    if pods.is_empty() {
        return Err(Verdict::unknown("the list of pods is empty"));
    }
    let owners = Owners::in_(on)?;
    let mut wrong = Vec::new();
    for pod in pods {
        let space = namespace(pod);
        let is_known = |k: &Known| k.is(pod, &owners, on.inventory);
        let mut reasons =
            reasons(pod, wanted_of(on, &owners, "Pod", pod), space == SYSTEM, is_known);
        let of = KNOWN.iter().find(|k| k.is_another(pod, &owners));
        // Also one that keeps within the standard: DNS answers all others.
        if let Some(Known { by: By::Object(kind, called), .. }) = of {
            reasons.insert(0, ("described", format!("differs from {kind} {called}")));
        }
        // What is behind it is on the node, and may be anything.
        if is_mirror(pod) && !(space == SYSTEM && KNOWN.iter().any(is_known)) {
            reasons.insert(0, ("static", "a static pod that is not Kubernetes' own".to_owned()));
        }
        if !reasons.is_empty() {
            wrong.push(format!("{} ({})", full_name(pod), few(reasons)));
        }
    }
    // What waits for its hour, or for somebody to scale it up.
    let mut makers = 0;
    for &(kind, called, at) in MAKERS {
        for object in of(on.facts, kind)? {
            let Some(template) = object.pointer(at) else { continue };
            makers += 1;
            let space = namespace(object);
            let wanted = wanted_of(on, &owners, called, object);
            let reasons = reasons(template, wanted, space == SYSTEM, |k| {
                k.makes(called, object, template, &owners)
            });
            if !reasons.is_empty() {
                wrong.push(format!("{called} {} ({})", full_name(object), few(reasons)));
            }
        }
    }
    for volume in of(on.facts, ObjectKind::PersistentVolumes)? {
        for at in ["/spec/hostPath/path", "/spec/local/path"] {
            let path = volume.pointer(at).and_then(Value::as_str);
            let allowed = is_allowed(on, AllowedKind::PersistentVolume, name(volume));
            if let Some(path) = path.filter(|p| !allowed && leads_to_the_node(p)) {
                wrong.push(format!("PersistentVolume {} is {path} of the node", name(volume)));
            }
        }
    }
    wrong.extend(over(on, AllowedKind::PersistentVolume));
    Ok(none_of(
        "pods within the standard of their namespace, and volumes of nodes below /mnt, /srv, /data or \
         the like, or named in `hardening.allowed_objects`",
        wrong,
        format!("{} pods, and {makers} objects that make pods", pods.len()),
    ))
}

/// What a pod breaks of the standard, but for what one of Kubernetes' own has to.
fn reasons(
    pod: &Value,
    wanted: PodLevel,
    system: bool,
    is: impl Fn(&Known) -> bool,
) -> Vec<(&'static str, String)> {
    let reasons = broken(pod, wanted);
    if system && let Some(known) = KNOWN.iter().find(|k| is(k)) {
        let mut found = broken(pod, PodLevel::Baseline);
        found.retain(|(id, _)| !known.may.contains(id));
        found.extend(known.extras(pod));
        return found;
    }
    reasons
}

/// A few of what is wrong with one pod: the first are those that lead to the node.
fn few(reasons: Vec<(&str, String)>) -> String {
    const SHOWN: usize = 4;
    let mut said: Vec<String> = reasons.into_iter().map(|(_, said)| said).collect();
    let more = said.len().saturating_sub(SHOWN);
    said.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", said.join(", "))
}
