//! Reads the CAs and keys of an existing cluster. They are the output of a program over SSH; no part of them is printed, logged or
//! written anywhere except into the key store.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::execution::Sessions;
use crate::discovery::Found;
use crate::facts::{Held, NodeFacts, read_credentials};
use crate::inventory::{NodeName, Role};
use crate::pki::{Ca, FoundCa, FoundEncryption, FoundKeys, found_encryption};
use crate::secret::Secret;

/// Where kubeadm keeps them, for daemons whose command line does not say.
const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/ca.crt";
const FRONT_PROXY_CA: &str = "/etc/kubernetes/pki/front-proxy-ca.crt";
const SERVICE_ACCOUNT: &str = "/etc/kubernetes/pki/sa.key";

/// What was found, and which nodes could not be read, with the reason.
pub(super) struct Collected {
    pub keys: FoundKeys,
    pub unread: Vec<(NodeName, String)>,
}

/// Where one node has them.
struct Places {
    /// A CA, its certificates, and where its key may be.
    cas: Vec<(Ca, String, Vec<String>)>,
    service_account: Option<String>,
    /// None if no API server was seen, or the configuration's path if it has one.
    encryption: Option<Option<String>>,
}

/// Reads control planes and etcd members.
pub(super) fn collect(
    found: &Found,
    facts: &BTreeMap<NodeName, NodeFacts>,
    sessions: &mut Sessions,
) -> Collected {
    let mut cas: BTreeMap<Ca, FoundCa> =
        Ca::ALL.iter().map(|ca| (*ca, FoundCa::default())).collect();
    let mut service_account = Vec::new();
    let mut unread = Vec::new();
    let mut configurations: Vec<Option<Secret<Vec<u8>>>> = Vec::new();
    let mut unseen = None;
    for node in &found.nodes {
        let Some(known) = facts.get(&node.name) else { continue };
        let places = places(node.role, known);
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        for (_, certificates, keys) in &places.cas {
            paths.insert(certificates);
            paths.extend(keys.iter().map(String::as_str));
        }
        paths.extend(places.service_account.as_deref());
        paths.extend(places.encryption.iter().flatten().map(String::as_str));
        if paths.is_empty() {
            continue;
        }
        let Some(session) = sessions.get_mut(&node.name) else { continue };
        let paths: Vec<&str> = paths.into_iter().collect();
        let held: Held = match read_credentials(session.as_mut(), &paths) {
            Ok(held) => held,
            Err(e) => {
                unread.push((node.name.clone(), e.to_string()));
                Held::default()
            }
        };
        for (ca, certificates, keys) in &places.cas {
            let found = cas.get_mut(ca).expect("there is one of each");
            found.certificates.extend(held.file(certificates).map(|c| c.expose().clone()));
            found.keys.extend(keys.iter().filter_map(|k| held.file(k).cloned()));
        }
        service_account
            .extend(places.service_account.as_deref().and_then(|p| held.file(p)).cloned());
        if node.role == Role::ControlPlane {
            match places.encryption {
                None => unseen = Some(format!("no API server was found on {}", node.name)),
                Some(None) => configurations.push(None),
                Some(Some(path)) => match held.file(&path) {
                    Some(file) => configurations.push(Some(file.clone())),
                    None => unseen = Some(format!("{path} on {} cannot be read", node.name)),
                },
            }
        }
    }
    let encryption = match unseen {
        Some(why) => FoundEncryption::Other(why),
        None => encryption(&configurations),
    };
    let keys = FoundKeys { cas: cas.into_iter().collect(), service_account, encryption };
    Collected { keys, unread }
}

/// What all API servers encrypt with.
fn encryption(all: &[Option<Secret<Vec<u8>>>]) -> FoundEncryption {
    let Some(first) = all.first() else {
        return FoundEncryption::Other("no API server was found".to_owned());
    };
    let same = |other: &Option<Secret<Vec<u8>>>| match (first, other) {
        (None, None) => true,
        (Some(a), Some(b)) => crate::secret::equal(a.expose(), b.expose()),
        _ => false,
    };
    if !all.iter().all(same) {
        return FoundEncryption::Other("API servers have different configurations".to_owned());
    }
    first.as_ref().map_or(FoundEncryption::None, found_encryption)
}

fn places(role: Role, facts: &NodeFacts) -> Places {
    let flag = |process: &str, name: &str| {
        let all = facts.processes.get(process).into_iter().flatten().flat_map(|p| &p.argv);
        all.filter_map(|word| word.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
            .find(|path| is_path(path))
            .map(str::to_owned)
    };
    let of = |process: &str, name: &str, default: &str| {
        flag(process, name).unwrap_or_else(|| default.to_owned())
    };
    let server = "kube-apiserver";
    let mut cas = Vec::new();
    if role == Role::ControlPlane {
        let cluster = of(server, "client-ca-file", CLUSTER_CA);
        let mut keys = beside(&cluster);
        keys.extend(flag("kube-controller-manager", "cluster-signing-key-file"));
        cas.push((Ca::Cluster, cluster, keys));
        let etcd = of(server, "etcd-cafile", ETCD_CA);
        let keys = beside(&etcd);
        cas.push((Ca::Etcd, etcd, keys));
        let front = of(server, "requestheader-client-ca-file", FRONT_PROXY_CA);
        let keys = beside(&front);
        cas.push((Ca::FrontProxy, front, keys));
    }
    if let Some(trusted) = flag("etcd", "trusted-ca-file") {
        let keys = beside(&trusted);
        cas.push((Ca::Etcd, trusted, keys));
    }
    let is_plane = role == Role::ControlPlane;
    let seen = facts.processes.get(server).is_some_and(|all| !all.is_empty());
    Places {
        cas,
        service_account: is_plane
            .then(|| of(server, "service-account-signing-key-file", SERVICE_ACCOUNT)),
        encryption: (is_plane && seen).then(|| flag(server, "encryption-provider-config")),
    }
}

/// A path that can be asked for.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Where the key of a CA's certificate is by custom.
fn beside(certificate: &str) -> Vec<String> {
    let stem = certificate.rsplit_once('.').map_or(certificate, |(stem, _)| stem);
    vec![format!("{stem}.key"), format!("{stem}-key.pem")]
}
