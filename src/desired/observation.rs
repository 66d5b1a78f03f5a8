//! What nodes of a cluster that others built get while it is observed (`hardening.stage: observe`): a firewall that records whom it
//! would turn away, and API servers that record requests and warn of pods. Nothing else is touched.
//!
//! The API server's manifest is the one that runs, with what is missing added: no flag of it is known here, so none is changed.
//! kubeadm's own configuration is left alone. It makes the manifest anew once the cluster is hardened.

use sha2::{Digest, Sha256};

use super::apiserver;
use super::collector::{Collector, Purpose};
use super::context::Context;
use super::error::ResolveError;
use super::firewall;
use super::host;
use super::model::{Access, Content, FileCheck, ItemKind, Phase};
use super::places::{AUDIT_DIR, CONFIG_DIR};
use crate::facts::{CLUSTER_MARK, FileFacts, NodeFacts};
use crate::inventory::Inventory;
use crate::plain::hex;
use crate::render::Text;
use crate::render::input::kubernetes::{Admission, PodSecurityMode};
use crate::yaml::{self, Mapping, Value};

/// The API server's manifest.
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// What a kubelet that is part of a cluster runs by.
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
/// Says in the manifest which files the API server has read: it reads them once.
const ANNOTATION: &str = "kubastion/observed";

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if let Some(facts) = context.facts() {
        collector.errors.extend(unfit(context, facts));
    }
    collector.phase(Phase::Host, Purpose::Hardening);
    host::guard(collector);
    firewall::items(context, collector);
    if context.is_control_plane() {
        collector.phase(Phase::Kubernetes, Purpose::Hardening);
        api_server(context, collector);
    }
}

/// Why a node cannot be observed.
fn unfit(context: &Context<'_>, facts: &NodeFacts) -> Option<ResolveError> {
    let is_member = matches!(facts.files.get(KUBELET), Some(FileFacts::File { .. }));
    if facts.unit_marks.contains_key(CLUSTER_MARK) {
        Some(ResolveError::Hardened)
    } else if context.has_kubelet() && !is_member {
        Some(ResolveError::NothingToObserve)
    } else {
        None
    }
}

fn api_server(context: &Context<'_>, collector: &mut Collector<'_>) {
    let before = collector.items.len();
    collector.directory(&[], CONFIG_DIR, Access::root(0o700));
    apiserver::audit_log(collector);
    apiserver::audit_policy(context, collector);
    let admission = format!("{CONFIG_DIR}/admission.yaml");
    let is_on = context.on("policy-pod-security");
    if is_on {
        collector.template(&["policy-pod-security"], &admission, |_| {
            Ok(Admission {
                event_rate_limit: false,
                pod_security: PodSecurityMode::Warn,
                exempt_namespaces: Text::all(apiserver::EXEMPT),
            })
        });
    }
    let mut read = Sha256::new();
    for item in &collector.items[before..] {
        if let ItemKind::File { path, content, .. } = &item.kind {
            read.update(format!("{path} {}\n", content.sha256()));
        }
    }
    let additions = Additions {
        audit: context.on("apiserver-audit-policy").then(|| audit_flags(context.inventory)),
        admission: is_on,
        read: hex(&read.finalize()),
    };
    let found = context.facts().map(|facts| (facts, running(facts)));
    if let Some((_, Ok(manifest))) = &found {
        collector.notes.extend(additions.left_alone(manifest));
    }
    let access = match context.facts().and_then(|f| f.files.get(MANIFEST)) {
        Some(FileFacts::File { mode, owner, group, .. }) => {
            Access { owner: owner.clone(), group: group.clone(), mode: *mode }
        }
        _ => Access::root(0o600),
    };
    let controls = ["apiserver-audit-policy", "policy-pod-security"];
    collector.content(&controls, MANIFEST, access, FileCheck::None, |source| {
        let text = additions.put_into(running(source.facts)?)?;
        Ok(Content::Text(text.into()))
    });
    let component = "kube-apiserver".to_owned();
    collector.push(&controls, ItemKind::StaticPod { component, manifest: MANIFEST.to_owned() });
}

/// The manifest that runs.
///
/// # Errors
/// It was not read as it is: a line that looks like a secret stays on the node.
fn running(facts: &NodeFacts) -> Result<Value, ResolveError> {
    let unreadable = |why: &'static str| ResolveError::Manifest { path: MANIFEST, why };
    let text = facts.texts.get(MANIFEST).and_then(Option::as_deref);
    let text = text.ok_or(unreadable("it cannot be read"))?;
    let is_whole = match facts.files.get(MANIFEST) {
        Some(FileFacts::File { sha256, .. }) => *sha256 == hex(&Sha256::digest(text.as_bytes())),
        _ => false,
    };
    if !is_whole {
        return Err(unreadable(
            "lines in it look like secrets and are not read, or it does not end with a line break",
        ));
    }
    yaml::parse(text)
        .map_err(|_| unreadable("it is not valid YAML, or has anchors, aliases or tags"))
}

/// Flags of the audit log, as the inventory wants it kept.
fn audit_flags(inventory: &Inventory) -> Vec<(&'static str, String)> {
    let audit = &inventory.audit;
    vec![
        (AUDIT_POLICY, format!("{CONFIG_DIR}/audit-policy.yaml")),
        ("--audit-log-path", format!("{AUDIT_DIR}/audit.log")),
        ("--audit-log-maxage", audit.max_age_days.to_string()),
        ("--audit-log-maxbackup", audit.max_backups.to_string()),
        ("--audit-log-maxsize", audit.max_size_mb.to_string()),
    ]
}

const AUDIT_POLICY: &str = "--audit-policy-file";
const ADMISSION: &str = "--admission-control-config-file";

/// What an API server gets beside what it has.
struct Additions {
    /// Flags of the audit log, if it is to be kept.
    audit: Option<Vec<(&'static str, String)>>,
    /// Whether it warns of pods.
    admission: bool,
    /// Digest of the files that it reads when it starts.
    read: String,
}

impl Additions {
    /// Whether the API server has a setting that is not ours: it stays.
    fn has_own(command: &[Value], flag: &str) -> bool {
        let ours = format!("{flag}={CONFIG_DIR}/");
        let mut given = command.iter().filter_map(Value::as_str);
        given.any(|a| {
            a.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')) && !a.starts_with(&ours)
        })
    }

    /// What stays as others have it, and what that means.
    fn left_alone(&self, manifest: &Value) -> Vec<String> {
        let command = manifest["spec"]["containers"][0]["command"].as_sequence();
        let command = command.map(Vec::as_slice).unwrap_or_default();
        let mut notes = Vec::new();
        if self.audit.is_some() && Self::has_own(command, AUDIT_POLICY) {
            notes.push(format!(
                "kube-apiserver keeps its own audit policy (`{AUDIT_POLICY}`): requests that it omits are not observed"
            ));
        }
        if self.admission && Self::has_own(command, ADMISSION) {
            notes.push(format!(
                "kube-apiserver keeps its own admission configuration (`{ADMISSION}`): it does not warn about pods"
            ));
        }
        notes
    }

    /// The manifest with them. Put into its own result, they change nothing.
    fn put_into(&self, mut manifest: Value) -> Result<String, ResolveError> {
        let odd = || ResolveError::Manifest {
            path: MANIFEST,
            why: "it is not a pod with one container and its command",
        };
        let pod = manifest.as_mapping_mut().ok_or_else(odd)?;
        let spec = pod.get_mut("spec").and_then(Value::as_mapping_mut).ok_or_else(odd)?;
        let containers = spec.get_mut("containers").and_then(Value::as_sequence_mut);
        let Some([container]) = containers.map(Vec::as_mut_slice) else { return Err(odd()) };
        let container = container.as_mapping_mut().ok_or_else(odd)?;
        let command = container.get_mut("command").and_then(Value::as_sequence_mut);
        let command = command.ok_or_else(odd)?;
        let mut mounts = Vec::new();
        if let Some(flags) = self.audit.as_ref().filter(|_| !Self::has_own(command, AUDIT_POLICY)) {
            flags.iter().for_each(|(flag, value)| set(command, flag, value));
            mounts.push(("kubastion-config", CONFIG_DIR, true));
            mounts.push(("kubastion-audit", AUDIT_DIR, false));
        }
        if self.admission && !Self::has_own(command, ADMISSION) {
            set(command, ADMISSION, &format!("{CONFIG_DIR}/admission.yaml"));
            mounts.push(("kubastion-config", CONFIG_DIR, true));
        }
        let mut volumes = Vec::new();
        for (name, path, read_only) in mounts {
            let mut mount = mapping(&[("name", name.into()), ("mountPath", path.into())]);
            if read_only {
                mount.insert("readOnly".into(), true.into());
            }
            named(container, "volumeMounts", name, Value::Mapping(mount)).ok_or_else(odd)?;
            let host = mapping(&[("path", path.into()), ("type", "Directory".into())]);
            let volume = mapping(&[("name", name.into()), ("hostPath", Value::Mapping(host))]);
            volumes.push((name, Value::Mapping(volume)));
        }
        for (name, volume) in volumes {
            named(spec, "volumes", name, volume).ok_or_else(odd)?;
        }
        let metadata = pod.entry("metadata".into()).or_insert_with(|| Mapping::new().into());
        let metadata = metadata.as_mapping_mut().ok_or_else(odd)?;
        let annotations =
            metadata.entry("annotations".into()).or_insert_with(|| Mapping::new().into());
        let annotations = annotations.as_mapping_mut().ok_or_else(odd)?;
        annotations.insert(ANNOTATION.into(), self.read.clone().into());
        Ok(yaml::to_text(&manifest))
    }
}

fn mapping(entries: &[(&str, Value)]) -> Mapping {
    entries.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect()
}

/// Gives a flag its value, in its place if it is there.
fn set(command: &mut Vec<Value>, flag: &str, value: &str) {
    let text = format!("{flag}={value}");
    let is_it = |a: &Value| a.as_str().is_some_and(|a| a.starts_with(&format!("{flag}=")));
    match command.iter_mut().find(|a| is_it(a)) {
        Some(there) => *there = text.into(),
        None => command.push(text.into()),
    }
}

/// Puts an entry into a list of named ones, in place of one of its name. None where there is something else than a list.
fn named(of: &mut Mapping, list: &str, name: &str, entry: Value) -> Option<()> {
    let list = of.entry(list.into()).or_insert_with(|| Value::Sequence(Vec::new()));
    let list = list.as_sequence_mut()?;
    let is_it = |e: &Value| e.get("name").and_then(Value::as_str) == Some(name);
    match list.iter_mut().find(|e| is_it(e)) {
        Some(there) => *there = entry,
        None => list.push(entry),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: &str = "\
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 192.0.2.11:6443
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=192.0.2.11
    - --profiling=false
    image: registry.k8s.io/kube-apiserver:v1.36.2
    name: kube-apiserver
    volumeMounts:
    - mountPath: /etc/ssl/certs
      name: ca-certs
      readOnly: true
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/ssl/certs
      type: DirectoryOrCreate
    name: ca-certs
";

    fn additions() -> Additions {
        let flag = |name, value: &str| (name, value.to_owned());
        Additions {
            audit: Some(vec![
                flag(AUDIT_POLICY, "/etc/kubernetes/config/audit-policy.yaml"),
                flag("--audit-log-path", "/var/log/kubernetes/audit/audit.log"),
            ]),
            admission: true,
            read: "abc".into(),
        }
    }

    fn put(additions: &Additions, text: &str) -> String {
        additions.put_into(yaml::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn a_manifest_keeps_everything_and_gets_what_is_missing_once() {
        let observed = put(&additions(), RUNS);
        let value = yaml::parse(&observed).unwrap();
        let command: Vec<&str> = value["spec"]["containers"][0]["command"]
            .as_sequence()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect();
        assert_eq!(
            command,
            [
                "kube-apiserver",
                "--advertise-address=192.0.2.11",
                "--profiling=false",
                "--audit-policy-file=/etc/kubernetes/config/audit-policy.yaml",
                "--audit-log-path=/var/log/kubernetes/audit/audit.log",
                "--admission-control-config-file=/etc/kubernetes/config/admission.yaml"
            ]
        );
        assert_eq!(value["metadata"]["annotations"][ANNOTATION].as_str(), Some("abc"));
        for list in [&value["spec"]["volumes"], &value["spec"]["containers"][0]["volumeMounts"]] {
            let names: Vec<_> =
                list.as_sequence().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["ca-certs", "kubastion-config", "kubastion-audit"]);
        }
        // Without them it is what it was.
        let mut without = value.clone();
        without["metadata"]["annotations"].as_mapping_mut().unwrap().remove(ANNOTATION);
        without["spec"]["volumes"].as_sequence_mut().unwrap().truncate(1);
        let container = &mut without["spec"]["containers"][0];
        container["volumeMounts"].as_sequence_mut().unwrap().truncate(1);
        container["command"].as_sequence_mut().unwrap().truncate(3);
        assert_eq!(without, yaml::parse(RUNS).unwrap());
        assert_eq!(put(&additions(), &observed), observed, "it changes with every apply");
        // Another policy: the API server has to read it.
        let newer = put(&Additions { read: "def".into(), ..additions() }, &observed);
        assert_eq!(newer, observed.replace("kubastion/observed: abc", "kubastion/observed: def"));
    }

    #[test]
    fn what_others_have_stays_and_is_said() {
        let own = RUNS.replace(
            "    - --profiling=false\n",
            "    - --audit-policy-file=/etc/audit/policy.yaml\n    - --audit-log-path=/var/log/audit.log\n",
        );
        let observed = put(&additions(), &own);
        assert!(observed.contains("--audit-policy-file=/etc/audit/policy.yaml"), "{observed}");
        assert!(!observed.contains("kubastion-audit"), "{observed}");
        let notes = additions().left_alone(&yaml::parse(&own).unwrap());
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("`--audit-policy-file`"), "{notes:?}");
        assert!(additions().left_alone(&yaml::parse(&observed).unwrap()).len() == 1);
        assert!(additions().left_alone(&yaml::parse(RUNS).unwrap()).is_empty());
        // Something that is no manifest of kubeadm's is not guessed at.
        for odd in [
            RUNS.replace("  - command:", "  - args:"),
            RUNS.replace("  volumes:\n", "  volumes: no\n  more:\n"),
            "kind: Pod\n".to_owned(),
        ] {
            assert!(additions().put_into(yaml::parse(&odd).unwrap()).is_err(), "{odd}");
        }
    }
}
