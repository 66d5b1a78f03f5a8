//! What the control plane is configured from: staged for kubeadm, and the files its flags name.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use super::collector::Collector;
use super::context::{Context, Source};
use super::encryption;
use super::error::ResolveError;
use super::etcd_pod;
use super::kubeadm::{self, Anonymous, BY_ABSENCE};
use super::kubelet;
use super::model::{Access, Content, FileCheck, ItemKind};
use super::order;
use super::places::{AUDIT_DIR, CONFIG_DIR, PATCHES};
use super::platform::Platform;
use super::shared::Shared;
use crate::controls::{Config, Daemon};
use crate::facts::NodeFacts;
use crate::inventory::{AuditPolicy, Files, Inventory, Node, Probe, Profile};
use crate::pki::kubeconfig::API_PORT;
use crate::pki::{Ca, Material};
use crate::plain::hex;
use crate::render::input::kubernetes::{
    Admission, ApiserverExecProbes, ApiserverProbes, ControlPlaneComponent, PodSecurityMode,
    ReadAtStart, SecurityContext,
};
use crate::render::{self, Text};

const AUX: &str = "files-apiserver-aux-configs";
/// Namespaces that Pod Security leaves alone.
pub(super) const EXEMPT: &[&str] = &["kube-system"];
const WORKLOADS: &[&str] = &["policy-system-workload-hardening"];

/// Directory of programs of ours on a node.
const LIBRARY: &str = "/usr/local/lib/kubastion";
/// What the kubelet runs to ask the API server for its health.
pub(crate) const APISERVER_PROBE: &str = "/usr/local/lib/kubastion/probe";
const PROBES: &[&str] = &["apiserver-authenticated-probes"];

/// Static pods that kubeadm writes; etcd's where somebody else built the cluster.
const MANIFESTS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.is_control_plane() {
        return;
    }
    let manifests = "/etc/kubernetes/manifests";
    collector.directory(&["files-static-pod-manifests"], manifests, Access::root(0o700));
    for &name in MANIFESTS {
        let path = format!("{manifests}/{name}.yaml");
        collector.permissions(&["files-static-pod-manifests"], &path, 0o600);
    }
    if context.inventory.has_stacked_etcd() {
        etcd_pod::items(context, collector);
    }
    staged(context, collector);
    patches(context, collector);
    collector.directory(&[AUX], CONFIG_DIR, Access::root(0o700));
    audit_log(collector);
    if context.on("apiserver-encryption-config") {
        encryption::items(context, collector);
    }
    if context.facts().is_some() {
        notes(context, collector);
    }
}

/// kubeadm's file of a control plane.
pub const INIT: &str = "/etc/kubernetes/kubastion/kubeadm-init.yaml";

/// kubeadm's patch that names what the API server reads when it starts.
pub(super) const READ_AT_START: &str =
    "/etc/kubernetes/kubastion/patches/kube-apiserver2+strategic.yaml";

/// Files that the API server reads when it starts, and never again. They belong to the transaction that
/// starts it: with a file that it cannot start with, only both together lead back.
pub(super) fn read_at_start(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.is_control_plane() {
        return;
    }
    let before = collector.items.len();
    audit_policy(context, collector);
    if kubeadm::has_admission_config(context) {
        let controls = [AUX, "apiserver-admission-eventratelimit", "policy-pod-security"];
        collector.template(&controls, &format!("{CONFIG_DIR}/admission.yaml"), |_| {
            Ok(Admission {
                event_rate_limit: context.on("apiserver-admission-eventratelimit"),
                pod_security: match context.on("policy-pod-security") {
                    true => PodSecurityMode::Enforce,
                    false => PodSecurityMode::Off,
                },
                exempt_namespaces: Text::all(EXEMPT),
            })
        });
    }
    let path = format!("{CONFIG_DIR}/authentication.yaml");
    if kubeadm::anonymous(context) == Anonymous::HealthOnly {
        let controls = [AUX, "apiserver-anonymous-auth"];
        collector.fixed(&controls, &path, "apiserver/authentication.yaml");
    } else {
        collector.gone(&path);
    }
    let mut all = Sha256::new();
    for item in &collector.items[before..] {
        if let ItemKind::File { path, content, .. } = &item.kind {
            all.update(format!("{path} {}\n", content.sha256()));
        }
    }
    // The CAs of etcd and kubelets too (storage/storagebackend/factory/etcd3.go; pkg/kubelet/client, before 1.36). One that
    // issues alone is never another one: without accepted ones, the patch says what it always said.
    let read_once = [("ca.crt", Ca::Cluster), ("etcd/ca.crt", Ca::Etcd)];
    if let Some(source) = context.source.filter(|_| context.accepts(&read_once.map(|(_, ca)| ca))) {
        for (file, ca) in read_once {
            let bundle = Sha256::digest(source.material.trust(ca).bundle());
            all.update(format!("{file} {}\n", hex(&bundle)));
        }
    }
    // On the way to encryption, so that an API server is known to have read each form. Without a way, the patch says what it
    // always said.
    for (resource, form) in context.shared.forms(&context.node.name).into_iter().flatten() {
        all.update(format!("encryption {resource} {form:?}\n"));
    }
    let digest = Text::of(hex(&all.finalize()));
    collector.template(&[], READ_AT_START, |_| Ok(ReadAtStart { digest }));
}

/// kubeadm's files. Every control plane has both: which one starts the cluster is not a matter of
/// what it holds.
fn staged(context: &Context<'_>, collector: &mut Collector<'_>) {
    let mut controls: Vec<&'static str> = BY_ABSENCE.to_vec();
    for daemon in [Daemon::Apiserver, Daemon::ControllerManager, Daemon::Scheduler] {
        controls.extend(kubeadm::flags(context, daemon).controls);
    }
    controls.extend([Config::Kubelet, Config::KubeProxy].into_iter().flat_map(order::of_settings));
    // A zero that kubeadm leaves out of the kubelet's document: a patch adds it on each node.
    controls.push("kubelet-read-only-port");
    controls.sort_unstable();
    controls.dedup();
    let (path, shared) = (INIT, context.shared);
    let access = Access::root(0o600);
    collector.content(&controls, path, access, FileCheck::None, |source| {
        let init = kubeadm::init(context);
        let documents = [
            shared.rendered(path, &init)?,
            shared.rendered(path, &kubeadm::cluster(context))?,
            shared.rendered(path, &kubelet::config(context, source.facts))?,
            shared.rendered(path, &kubeadm::kube_proxy(context))?,
        ];
        Ok(Content::Text(shared.joined(&documents)?))
    });
}

/// kubeadm's file of a control plane; `None` if it cannot be worked out, or the node is none.
pub fn kubeadm_init(
    inventory: &Inventory,
    files: &Files,
    node: &Node,
    facts: &NodeFacts,
    material: &Material,
) -> Option<String> {
    let platform = Platform::of(facts).ok()?;
    let (shared, source) = (&Shared::default(), Some(Source { facts, material }));
    let context = Context { inventory, files, node, platform, shared, source };
    if !context.is_control_plane() {
        return None;
    }
    let mut collector = Collector::new(&context);
    staged(&context, &mut collector);
    let texts = collector.items.into_iter().filter_map(|i| match i.kind {
        ItemKind::File { path, content: Content::Text(text), .. } if path == INIT => {
            Some(text.to_string())
        }
        _ => None,
    });
    texts.into_iter().next()
}

/// Patches of kubeadm's static pods and add-ons
/// (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/control-plane-flags/#patches>).
fn patches(context: &Context<'_>, collector: &mut Collector<'_>) {
    let path = format!("{PATCHES}/kube-apiserver0+json.yaml");
    let server = context.node.internal_ip();
    if kubeadm::anonymous(context) != Anonymous::Refused {
        collector.gone(&path);
    } else if let Some(probe) = probe(context) {
        // Never taken away again: a static pod that mounts it could not be started.
        collector.directory(PROBES, LIBRARY, Access::root(0o755));
        collector.content(PROBES, APISERVER_PROBE, Access::root(0o755), FileCheck::None, |_| {
            Ok(Content::Bytes(probe.bytes.clone()))
        });
        collector.template(PROBES, &path, |_| {
            let server = Text::of(SocketAddr::new(server, API_PORT));
            Ok(ApiserverExecProbes { program: Text::of(APISERVER_PROBE), server })
        });
    } else {
        collector.template(PROBES, &path, |_| {
            Ok(ApiserverProbes { host: Text::of(server), port: API_PORT })
        });
    }
    let mut components = vec![
        ("kube-apiserver", ControlPlaneComponent::KubeApiserver),
        ("kube-controller-manager", ControlPlaneComponent::KubeControllerManager),
        ("kube-scheduler", ControlPlaneComponent::KubeScheduler),
    ];
    if context.inventory.has_stacked_etcd() {
        components.push(("etcd", ControlPlaneComponent::Etcd));
    }
    let wanted = context.on(WORKLOADS[0]);
    for (name, component) in components {
        let path = format!("{PATCHES}/{name}1+strategic.yaml");
        if wanted {
            collector.template(WORKLOADS, &path, |_| Ok(SecurityContext { component }));
        } else {
            collector.gone(&path);
        }
    }
    let path = format!("{PATCHES}/corednsdeployment1+strategic.yaml");
    if !wanted {
        return collector.gone(&path);
    }
    collector.fixed(WORKLOADS, &path, "kubeadm/coredns.yaml");
}

/// The probe, if it runs on this node. Without facts, whether there is one at all.
fn probe<'a>(context: &Context<'a>) -> Option<&'a Probe> {
    let probe = context.files.probe.as_ref()?;
    context.facts().is_none_or(|f| f.arch == probe.architecture).then_some(probe)
}

pub(super) fn audit_log(collector: &mut Collector<'_>) {
    let controls = ["apiserver-audit-log-permissions", "apiserver-audit-log-path"];
    collector.directory(&[], "/var/log/kubernetes", Access::root(0o755));
    collector.directory(&controls, AUDIT_DIR, Access::root(0o700));
    let log = format!("{AUDIT_DIR}/audit.log");
    collector.permissions(&["apiserver-audit-log-permissions"], &log, 0o600);
}

pub(super) fn audit_policy(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.on("apiserver-audit-policy") {
        return;
    }
    let controls = [AUX, "apiserver-audit-policy"];
    let path = format!("{CONFIG_DIR}/audit-policy.yaml");
    let access = Access::root(0o600);
    collector.content(&controls, &path, access, FileCheck::None, |_| {
        let fixed = match policy(context) {
            AuditPolicy::Custom => {
                let text = custom_policy(context)?;
                return Ok(Content::Text(context.shared.text(&text)));
            }
            AuditPolicy::Stig => "apiserver/audit-stig.yaml",
            AuditPolicy::Profile | AuditPolicy::Balanced => "apiserver/audit-balanced.yaml",
        };
        Ok(Content::Text(context.shared.text(render::fixed(fixed))))
    });
}

/// The policy that the inventory or else the profile chooses.
fn policy(context: &Context<'_>) -> AuditPolicy {
    match (context.inventory.audit.policy, context.inventory.hardening.profile) {
        (AuditPolicy::Profile, Profile::Stig) => AuditPolicy::Stig,
        (AuditPolicy::Profile, Profile::Nsa | Profile::Cis) => AuditPolicy::Balanced,
        (chosen, _) => chosen,
    }
}

/// What is wrong with a policy that is not accepted as YAML.
const NO_YAML: &str =
    "it is not valid YAML, or has anchors, aliases, tags, merge keys or duplicate keys";

/// The operator's own policy, if it is one.
fn custom_policy(context: &Context<'_>) -> Result<String, ResolveError> {
    let text = context.files.audit_policy.as_ref();
    let text = text.ok_or(ResolveError::AuditPolicy("the file was not read"))?;
    let parsed: crate::yaml::Value =
        crate::yaml::parse(text).map_err(|_| ResolveError::AuditPolicy(NO_YAML))?;
    let is = |key, value| parsed.get(key).and_then(|v| v.as_str()) == Some(value);
    let has_rules =
        parsed.get("rules").and_then(|r| r.as_sequence()).is_some_and(|r| !r.is_empty());
    if is("apiVersion", "audit.k8s.io/v1") && is("kind", "Policy") && has_rules {
        Ok(text.clone())
    } else {
        Err(ResolveError::AuditPolicy("it is not a Policy of audit.k8s.io/v1 with rules"))
    }
}

fn notes(context: &Context<'_>, collector: &mut Collector<'_>) {
    if kubeadm::anonymous(context) == Anonymous::Refused
        && probe(context).is_none()
        && let Some(facts) = context.facts()
    {
        let why = match &context.files.probe {
            None => "this `kubastion` was built without `kubastion-probe`".to_owned(),
            Some(probe) => {
                format!(
                    "`kubastion-probe` is for {}, the node is {}",
                    probe.architecture, facts.arch
                )
            }
        };
        collector.note(format!("the API server's probes only open a TCP connection, so a server that hangs goes unnoticed: {why}"));
    }
    let named = context.inventory.hardening.controls.contains_key(kubeadm::ALWAYS_PULL);
    if !named && !context.on(kubeadm::ALWAYS_PULL) {
        collector.note("AlwaysPullImages stays off: the inventory has no registry mirror, so every pod start would depend on external registries");
    }
    if policy(context) == AuditPolicy::Stig && context.on("apiserver-audit-policy") {
        collector.note("the STIG audit policy writes the content of Secrets to the audit log");
    }
}
