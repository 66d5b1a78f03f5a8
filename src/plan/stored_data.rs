//! Refuses changes that would make stored data unreadable, mix it with another cluster's, or change the release of a running
//! cluster.

use std::collections::BTreeSet;

use crate::yaml::Value;
use sha2::{Digest, Sha256};

use crate::desired::{Content, ETCD_POD, EtcdPod, ItemKind, NodeDesired, UPGRADE, Version};
use crate::error::Problem;
use crate::facts::{FileFacts, NodeFacts};
use crate::inventory::{Inventory, Node, Role};
use crate::plain::hex;
use crate::plan::diff::CLUSTER_MARK;

/// The API server's encryption configuration.
pub const ENCRYPTION: &str = "/etc/kubernetes/enc/encryption.yaml";
/// The static pod of the API server, which names the release that runs.
pub const APISERVER_POD: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// The static pod of the controller manager.
pub const CONTROLLER_MANAGER_POD: &str = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
/// Where etcd keeps a member's data.
pub const ETCD_MEMBER: &str = "/var/lib/etcd/member";
/// Written before our etcd starts without data: what is there later is its own.
pub const ETCD_DATA_MARK: &str = "/var/lib/kubastion/etcd-data";

/// The mark of etcd's unit on a member that kubastion set up.
const ETCD_UNIT: &str = "etcd.service";

/// State that prevents a plan: etcd data of another cluster, or another release than the inventory's.
pub fn found(inventory: &Inventory, node: &Node, facts: &NodeFacts) -> Vec<Problem> {
    let release = is_member(facts).then(|| release(inventory, facts)).flatten();
    let all = foreign_etcd(inventory, node, facts).into_iter().chain(release);
    all.map(|p| p.at(node.name.to_string())).collect()
}

/// Planned changes that would make stored data unreadable. `of_others` is what another control plane encrypts with, if one
/// was checked: it speaks for a node that has no file. `safe` is what the facts of all of them allow.
pub fn endangered(
    node: &Node,
    facts: &NodeFacts,
    wanted: &NodeDesired,
    of_others: Option<&str>,
    safe: &Safe,
) -> Vec<Problem> {
    if !node.has_role(Role::ControlPlane) {
        return Vec::new();
    }
    let problems = encryption(facts, wanted, of_others, safe);
    problems.into_iter().map(|p| p.at(node.name.to_string())).collect()
}

/// Changes of a control plane's encryption that lose nothing, by what all control planes and etcd show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Safe {
    /// Resources that it begins to read encrypted.
    pub begins: BTreeSet<String>,
    /// Resources that it ceases to read in plain text.
    pub drops: BTreeSet<String>,
    /// Why others have to wait.
    pub waits_for: Option<String>,
}

/// Whether the node is part of a cluster, whoever made it one.
pub(crate) fn is_member(facts: &NodeFacts) -> bool {
    facts.unit_marks.contains_key(CLUSTER_MARK) || is_file(facts, APISERVER_POD)
}

fn is_file(facts: &NodeFacts, path: &str) -> bool {
    matches!(facts.files.get(path), Some(FileFacts::File { .. }))
}

/// Whether a member's data lies on the node.
fn has_etcd_data(facts: &NodeFacts) -> bool {
    !matches!(facts.files.get(ETCD_MEMBER), None | Some(FileFacts::Absent))
}

/// Whether an etcd set up by kubastion wrote it, or a static pod of this node does: a node whose CAs are not the key store's gets
/// no plan, so that it is one of this cluster.
pub fn has_our_etcd_data(facts: &NodeFacts) -> bool {
    let ours = facts.unit_marks.contains_key(ETCD_UNIT) || is_file(facts, ETCD_DATA_MARK);
    has_etcd_data(facts) && (ours || EtcdPod::of(facts).is_some_and(|p| p.keeps_data_in_place()))
}

fn foreign_etcd(inventory: &Inventory, node: &Node, facts: &NodeFacts) -> Option<Problem> {
    if inventory.is_etcd_member(node)
        && EtcdPod::of(facts).is_some_and(|pod| !pod.keeps_data_in_place())
    {
        return Some(
            Problem::new("etcd's static pod keeps its data elsewhere, or cannot be read")
                .because(format!("{ETCD_POD} does not keep its data in /var/lib/etcd"))
                .left("nothing was changed")
                .hint("`--data-dir` and the pod's volume must both be /var/lib/etcd"),
        );
    }
    let foreign = has_etcd_data(facts) && !has_our_etcd_data(facts);
    (inventory.is_etcd_member(node) && foreign).then(|| {
        Problem::new(format!("{ETCD_MEMBER} contains data that this cluster's etcd did not write"))
            .because("etcd would serve it, with the objects, RBAC rules and peers of the cluster it comes from")
            .left("nothing was changed")
            .hint(format!(
                "if it is not needed, run `kubastion reset --nodes {} --delete-etcd-data`; otherwise move it elsewhere",
                node.name
            ))
    })
}

/// The release that runs, as the node shows it: the API server's static pod, else the kubelet's program or package.
pub(crate) fn running_release(facts: &NodeFacts) -> Option<Version> {
    let pod = facts.texts.get(APISERVER_POD).and_then(Option::as_deref);
    let image = pod.and_then(|text| {
        let line =
            text.lines().find_map(|l| l.trim().trim_start_matches("- ").strip_prefix("image:"))?;
        Version::in_text(line.trim().trim_matches('"').rsplit_once(':')?.1)
    });
    let program = || Version::in_text(facts.versions.get("kubelet")?);
    let package = || Version::of_package(facts.packages.get("kubelet")?);
    image.or_else(program).or_else(package)
}

fn release(inventory: &Inventory, facts: &NodeFacts) -> Option<Problem> {
    let wanted = &inventory.cluster.kubernetes;
    let runs = running_release(facts)?;
    let same = runs == Version(1, wanted.minor, wanted.patch);
    (!same).then(|| {
        Problem::new(format!("the node runs Kubernetes {runs}, but the inventory says {wanted}"))
            .because(format!(
                "apply does not upgrade a running cluster: use `kubeadm upgrade` with `--config {UPGRADE}`, one control \
                 plane at a time, with drained nodes and an etcd snapshot",
            ))
            .left("nothing was changed")
            .hint(format!("set `cluster.kubernetes: {runs}`, and use the bundle of that release"))
    })
}

/// One entry of an EncryptionConfiguration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) resources: BTreeSet<String>,
    /// Kind and name of key, in the order in which they are tried; the first one writes.
    pub(super) keys: Vec<(String, String)>,
}

impl Entry {
    /// Its keys; plain text needs none.
    pub(super) fn without_identity(&self) -> Vec<(String, String)> {
        self.keys.iter().filter(|(kind, _)| kind != IDENTITY).cloned().collect()
    }
}

/// The provider that leaves objects as they are.
const IDENTITY: &str = "identity";

/// The entries of an EncryptionConfiguration
/// (<https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>), or `None` if it is none.
pub(super) fn entries(text: &str) -> Option<Vec<Entry>> {
    let document: Value = crate::yaml::parse(text).ok()?;
    let list = |v: &Value, key: &str| v.get(key).and_then(Value::as_sequence).cloned();
    let entry = |entry: &Value| {
        let resources = list(entry, "resources")?;
        let resources = resources.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut keys = Vec::new();
        for provider in list(entry, "providers")? {
            let (kind, body) = provider.as_mapping()?.iter().next()?;
            let kind = kind.as_str()?.to_owned();
            let name =
                |v: &Value| v.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            match list(body, "keys") {
                Some(named) => keys.extend(named.iter().map(|k| (kind.clone(), name(k)))),
                None => keys.push((kind, name(body))),
            }
        }
        Some(Entry { resources, keys })
    };
    list(&document, "resources")?.iter().map(entry).collect()
}

/// Reasons to refuse a change of the encryption at rest.
fn encryption(
    facts: &NodeFacts,
    wanted: &NodeDesired,
    of_others: Option<&str>,
    safe: &Safe,
) -> Vec<Problem> {
    let refused = |what: String| {
        Problem::new(what)
            .because(safe.waits_for.as_deref().unwrap_or(
                "all stored objects would have to be rewritten first, which apply does not do for this change",
            ))
            .left("nothing was changed")
            .hint("set `encryption` in the inventory back to what the cluster uses, then run `kubastion plan`")
    };
    let new = wanted.items.iter().find_map(|i| match &i.kind {
        ItemKind::File { path, content: Content::Secret(bytes), .. } if path == ENCRYPTION => {
            std::str::from_utf8(bytes.expose()).ok().map(|text| (text, i))
        }
        _ => None,
    });
    let runs = is_file(facts, APISERVER_POD);
    // Before a node is part of a cluster, nothing is stored with what is staged there.
    let own = (is_member(facts) && is_file(facts, ENCRYPTION))
        .then(|| facts.texts.get(ENCRYPTION).and_then(Option::as_deref));
    let (text, wanted_text) = match (own.or(of_others.map(Some)), new) {
        (None, None) => return Vec::new(),
        (None, Some(_)) if !runs => return Vec::new(),
        (None, Some((text, _))) if !uses_encryption(facts) => {
            let new = entries(text).unwrap_or_default();
            let begins = |r: &String| safe.begins.contains(r);
            if !new.is_empty() && new.iter().flat_map(|e| &e.resources).all(begins) {
                return Vec::new();
            }
            return vec![refused(
                "encryption at rest would be switched on in a cluster that already stores objects in plain text".into(),
            )];
        }
        // What the inventory says now may not be what stored objects are encrypted with.
        (None, Some(_)) => {
            return vec![
                Problem::new(format!(
                    "{ENCRYPTION} is missing, and no other control plane was checked that has it"
                ))
                .because("what stored objects are encrypted with cannot be determined")
                .left("nothing was changed")
                .hint("restore the file from another control plane or from a backup"),
            ];
        }
        (Some(_), None) => {
            return vec![refused(
                "encryption at rest would be switched off, but stored objects are encrypted".into(),
            )];
        }
        (Some(text), Some((wanted, _))) => (text, wanted),
    };
    let Some(new) = entries(wanted_text) else { return Vec::new() };
    let Some(old) = text.and_then(entries) else {
        return vec![
            Problem::new(format!("{ENCRYPTION} cannot be read as an EncryptionConfiguration"))
                .because("the keys that decrypt stored objects cannot be determined")
                .left("nothing was changed")
                .hint("restore the file from another control plane or from a backup"),
        ];
    };
    if runs && same_names(&old, &new) && other_secrets(facts, wanted_text, &old, &new) {
        return vec![
            Problem::new("the encryption keys on the node differ from the key store's keys of the same names")
                .because("stored objects could not be decrypted with the key store's keys")
                .left("nothing was changed")
                .hint("restore the key store of this cluster (`pki.dir`), or the node's file if it was changed"),
        ];
    }
    data_loss(&old, &new, safe).into_iter().map(refused).collect()
}

/// Whether the API server that is set up reads an encryption configuration.
fn uses_encryption(facts: &NodeFacts) -> bool {
    let pod = facts.texts.get(APISERVER_POD).and_then(Option::as_deref).unwrap_or_default();
    pod.contains("--encryption-provider-config=")
}

/// Whether all entries of both name the same keys.
fn same_names(old: &[Entry], new: &[Entry]) -> bool {
    let all: BTreeSet<Vec<(String, String)>> =
        old.iter().chain(new).map(Entry::without_identity).collect();
    all.len() == 1
}

/// Whether the secrets on the node are others than the store's, by their digest. Each entry has all of them.
fn other_secrets(facts: &NodeFacts, wanted: &str, old: &[Entry], new: &[Entry]) -> bool {
    let secrets = wanted.lines().filter_map(|l| l.trim_start().strip_prefix("secret:"));
    let mut secrets: Vec<&str> = secrets.map(|s| s.trim().trim_matches('"')).collect();
    secrets.truncate(secrets.len() / new.len().max(1));
    let mut digest = Sha256::new();
    for secret in old.iter().flat_map(|_| &secrets) {
        digest.update(format!("{secret}\n"));
    }
    facts.encryption_keys_sha256.as_ref().is_some_and(|d| *d != hex(&digest.finalize()))
}

/// What could not be decrypted any more, or would be written with a key that not every API server has.
fn data_loss(old: &[Entry], new: &[Entry], safe: &Safe) -> Vec<String> {
    let mut data_loss = Vec::new();
    for entry in old {
        for resource in &entry.resources {
            let Some(next) = new.iter().find(|n| n.resources.contains(resource)) else {
                data_loss.push(format!("`{resource}` could no longer be decrypted"));
                continue;
            };
            // Nothing is stored in plain text any more.
            let is_dropped =
                |(kind, _): &(String, String)| kind == IDENTITY && safe.drops.contains(resource);
            let gone = entry.keys.iter().filter(|k| !next.keys.contains(k));
            for key in gone.filter(|k| !is_dropped(k)) {
                data_loss.push(format!(
                    "`{resource}` encrypted with {} could no longer be read",
                    words(key)
                ));
            }
            let writes = next.keys.first();
            if let Some(key) = writes.filter(|k| !entry.keys.contains(k)) {
                data_loss.push(format!(
                    "`{resource}` would be written with {}, which the other API servers cannot read yet",
                    words(key)
                ));
            }
        }
    }
    let known: BTreeSet<&String> = old.iter().flat_map(|e| &e.resources).collect();
    for entry in new {
        for resource in entry.resources.iter().filter(|r| !known.contains(r)) {
            if !entry.keys.iter().any(|(kind, _)| kind == IDENTITY) {
                data_loss.push(format!(
                    "`{resource}` is stored in plain text, and could no longer be read"
                ));
            }
        }
    }
    data_loss.sort();
    data_loss.dedup();
    data_loss
}

fn words((kind, name): &(String, String)) -> String {
    if name.is_empty() { kind.clone() } else { format!("{kind} key `{name}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(resources: &str, providers: &str) -> Vec<Entry> {
        let text = format!(
            "kind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  providers: [{providers}]\n"
        );
        entries(&text).unwrap()
    }

    const BOX1: &str = "{secretbox: {keys: [{name: k1, secret: \"(redacted)\"}]}}";

    #[test]
    fn what_could_not_be_read_any_more_is_named() {
        let old = config("secrets, configmaps", BOX1);
        let lost_by = |resources: &str, providers: &str| {
            data_loss(&old, &config(resources, providers), &Safe::default()).join("; ")
        };
        assert_eq!(lost_by("secrets, configmaps", BOX1), "");
        let aes = "{aescbc: {keys: [{name: k1, secret: x}]}}";
        assert!(
            lost_by("secrets, configmaps", aes)
                .contains("`secrets` encrypted with secretbox key `k1`")
        );
        assert!(lost_by("secrets", BOX1).contains("`configmaps` could no longer be decrypted"));
        assert!(
            lost_by("secrets, configmaps, events", BOX1)
                .contains("`events` is stored in plain text")
        );
        let other = "{secretbox: {keys: [{name: k2, secret: x}]}}";
        assert!(lost_by("secrets, configmaps", other).contains("`k1`"));
    }

    #[test]
    fn a_reader_may_be_added_and_a_writer_not() {
        let old = config("secrets", BOX1);
        let both = |first: &str, second: &str| {
            let keys = format!(
                "{{secretbox: {{keys: [{{name: {first}, secret: x}}, {{name: {second}, secret: y}}]}}}}"
            );
            data_loss(&old, &config("secrets", &keys), &Safe::default()).join("; ")
        };
        assert_eq!(both("k1", "k2"), "");
        assert!(both("k2", "k1").contains("written with secretbox key `k2`"));
    }

    #[test]
    fn the_release_is_that_of_the_static_pod() {
        let mut facts = NodeFacts::bare("n");
        facts.versions.insert("kubelet".into(), "Kubernetes v1.35.6".into());
        assert_eq!(running_release(&facts), Some(Version(1, 35, 6)));
        let pod = "  containers:\n  - image: registry.k8s.io/kube-apiserver:v1.36.2\n";
        facts.texts.insert(APISERVER_POD.into(), Some(pod.into()));
        assert_eq!(running_release(&facts), Some(Version(1, 36, 2)));
    }
}
