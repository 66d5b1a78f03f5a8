//! Checks of certificates that lie on a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::yaml::Value;
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

use crate::checks::basis::{Basis, Judged, needs};
use crate::checks::model::{Verdict, verdict};
use crate::checks::observed::Origin;
use crate::controls::Daemon;
use crate::facts::live::LiveFacts;
use crate::inventory::Inventory;

/// The cluster CA on a node.
pub(in crate::checks) const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
/// The etcd CA, for the API server and for etcd.
pub(in crate::checks) const ETCD_CAS: &[&str] =
    &["/etc/kubernetes/pki/etcd/ca.crt", "/etc/etcd/pki/ca.crt"];
/// The CA of the aggregation layer.
pub(in crate::checks) const FRONT_PROXY_CA: &str = "/etc/kubernetes/pki/front-proxy-ca.crt";
/// What etcd serves clients and members with, as a service.
const ETCD_SERVER: &str = "/etc/etcd/pki/server.crt";
/// What etcd speaks to other members with, as a service.
const ETCD_PEER: &str = "/etc/etcd/pki/peer.crt";
/// The same as a static pod.
const ETCD_POD_SERVER: &str = "/etc/kubernetes/pki/etcd/server.crt";
const ETCD_POD_PEER: &str = "/etc/kubernetes/pki/etcd/peer.crt";

/// What a member serves clients and other members with, and what it speaks to those with.
pub fn of_member(inventory: &Inventory) -> [&'static str; 2] {
    match inventory.has_stacked_etcd() {
        true => [ETCD_POD_SERVER, ETCD_POD_PEER],
        false => [ETCD_SERVER, ETCD_PEER],
    }
}
/// What the kubelet serves with.
pub(in crate::checks) const KUBELET_SERVING: &str = "/var/lib/kubelet/pki/serving.crt";
/// What it serves with once it has rotated. The file holds the key too and is never read.
pub(in crate::checks) const KUBELET_ROTATED: &str =
    "/var/lib/kubelet/pki/kubelet-server-current.pem";
/// Kubeconfigs whose client certificates are looked at.
pub(in crate::checks) const KUBECONFIGS: &[&str] = &[
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/scheduler.conf",
];
/// All certificates whose keys and dates are judged.
pub(in crate::checks) const CERTIFICATES: &[&str] = &[
    CLUSTER_CA,
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "/etc/kubernetes/pki/apiserver-probe.crt",
    "/etc/kubernetes/pki/etcd/ca.crt",
    FRONT_PROXY_CA,
    "/etc/kubernetes/pki/front-proxy-client.crt",
    "/etc/etcd/pki/ca.crt",
    ETCD_SERVER,
    ETCD_PEER,
    "/etc/etcd/pki/healthcheck-client.crt",
    ETCD_POD_SERVER,
    ETCD_POD_PEER,
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "/var/lib/kubelet/pki/serving.crt",
];

/// Days a certificate has to be good for.
const MIN_DAYS_LEFT: i64 = 30;
/// Longest life of a leaf and of a CA, in days.
const MAX_DAYS: (i64, i64) = (825, 3700);

/// The first certificate of a PEM text, as DER.
pub(crate) fn der(pem_text: &str) -> Option<Vec<u8>> {
    let blocks = pem::parse_many(pem_text).ok()?;
    blocks.into_iter().find(|p| p.tag() == "CERTIFICATE").map(pem::Pem::into_contents)
}

/// Every certificate of a PEM text, as DER; `None` if it holds anything else, or none.
pub(crate) fn all(pem_text: &str) -> Option<Vec<Vec<u8>>> {
    crate::pki::certificates(pem_text).filter(|all| !all.is_empty())
}

/// The subject of a certificate, DER.
pub(crate) fn subject(der: &[u8]) -> Option<Vec<u8>> {
    with(der, |c| c.subject().as_raw().to_vec())
}

fn with<T>(der: &[u8], read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(read(&certificate))
}

/// Certificates of a list that are on the node, as DER.
///
/// # Errors
/// The verdict, where one is there and cannot be read.
fn present(
    on: &Basis<'_>,
    paths: &[&'static str],
) -> Result<BTreeMap<&'static str, Vec<u8>>, Verdict> {
    let mut found = BTreeMap::new();
    for path in paths {
        if !on.seen.exists(path) {
            continue;
        }
        let der = der(on.seen.text(path)?)
            .ok_or_else(|| Verdict::unknown(format!("{path} is not a certificate")))?;
        found.insert(*path, der);
    }
    Ok(found)
}

/// The same of files that may hold several: CAs that are accepted stand beside the one that issues.
///
/// # Errors
/// The verdict, where one is there and cannot be read.
fn present_cas(
    on: &Basis<'_>,
    paths: &[&'static str],
) -> Result<BTreeMap<&'static str, Vec<Vec<u8>>>, Verdict> {
    let mut found = BTreeMap::new();
    for path in paths {
        if !on.seen.exists(path) {
            continue;
        }
        let ders = all(on.seen.text(path)?)
            .ok_or_else(|| Verdict::unknown(format!("{path} is not a certificate")))?;
        found.insert(*path, ders);
    }
    Ok(found)
}

fn key_of(der: &[u8]) -> Option<[u8; 32]> {
    with(der, |c| Sha256::digest(c.public_key().raw).into())
}

pub(in crate::checks) fn separate_cas(on: &Basis<'_>) -> Verdict {
    // etcd's CA may be in two places, one for API servers.
    fn whose(path: &str) -> &str {
        if ETCD_CAS.contains(&path) { ETCD_CAS[0] } else { path }
    }
    let paths = [&[CLUSTER_CA], ETCD_CAS, &[FRONT_PROXY_CA]].concat();
    let cas = match present_cas(on, &paths) {
        Ok(cas) => cas,
        Err(verdict) => return verdict,
    };
    if cas.keys().map(|path| whose(path)).collect::<BTreeSet<_>>().len() < 2 {
        return Verdict::needs_kubernetes("its CAs are not on this node yet");
    }
    let mut holders: BTreeMap<[u8; 32], BTreeSet<&str>> = BTreeMap::new();
    for (path, ders) in &cas {
        for der in ders {
            let Some(key) = key_of(der) else {
                return Verdict::unknown(format!("{path} is not a certificate"));
            };
            // In one file, a CA may stand with an older certificate too.
            holders.entry(key).or_default().insert(path);
        }
    }
    let is_shared = |paths: &&BTreeSet<&str>| {
        paths.iter().map(|path| whose(path)).collect::<BTreeSet<_>>().len() > 1
    };
    let shared: Vec<String> = holders
        .values()
        .filter(is_shared)
        .map(|paths| format!("{} share one", paths.iter().copied().collect::<Vec<_>>().join(", ")))
        .collect();
    verdict("a separate key for each CA", shared, || {
        format!("{} CAs, {} keys", cas.len(), holders.len())
    })
}

pub(in crate::checks) fn etcd_own_ca(on: &Basis<'_>) -> Verdict {
    let etcd = match present_cas(on, ETCD_CAS) {
        Ok(etcd) => etcd,
        Err(verdict) => return verdict,
    };
    let cluster = match present_cas(on, &[CLUSTER_CA]) {
        Ok(cluster) => cluster,
        Err(verdict) => return verdict,
    };
    let Some(cluster) = cluster.get(CLUSTER_CA) else {
        return Verdict::not_applicable("the cluster CA is not on this node");
    };
    if etcd.is_empty() {
        return on.seen.blind("the etcd CA is not at the expected path");
    }
    let keys: Vec<_> = cluster.iter().map(|der| key_of(der)).collect();
    match etcd.iter().find(|(_, ders)| ders.iter().any(|der| keys.contains(&key_of(der)))) {
        Some((path, _)) => {
            Verdict::fail("a key other than the cluster CA's", format!("{path} has the same"))
        }
        None => Verdict::pass("a key other than the cluster CA's"),
    }
}

pub(in crate::checks) fn lifetimes(on: &Basis<'_>) -> Verdict {
    let found = match present(on, CERTIFICATES) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    if found.is_empty() {
        return Verdict::not_applicable("no certificates are on this node");
    }
    let mut verdict = Verdict::pass(format!("{} certificates", found.len()));
    for (path, der) in &found {
        let one = with(der, |c| judge_certificate(path, c, on.now));
        verdict = verdict
            .and(one.unwrap_or_else(|| Verdict::unknown(format!("{path} is not a certificate"))));
    }
    // Accepted CAs stand behind the first certificate. Their end is near by their nature; that of their keys' strength is not.
    for path in found.keys().filter(|p| is_of_cas(p)) {
        let accepted = on.seen.text(path).ok().and_then(all).unwrap_or_default();
        for der in accepted.iter().skip(1) {
            let one = with(der, |c| strength(path, c));
            verdict = verdict.and(
                one.unwrap_or_else(|| Verdict::unknown(format!("{path} is not a certificate"))),
            );
        }
    }
    verdict
}

fn is_of_cas(path: &str) -> bool {
    path == CLUSTER_CA || path == FRONT_PROXY_CA || ETCD_CAS.contains(&path)
}

fn judge_certificate(path: &str, c: &X509Certificate<'_>, now: OffsetDateTime) -> Verdict {
    let strong = strength(path, c);
    if matches!(strong, Verdict::Fail { .. }) {
        return strong;
    }
    let (from, to) = (c.validity().not_before.to_datetime(), c.validity().not_after.to_datetime());
    let left = (to - now).whole_days();
    if left < MIN_DAYS_LEFT {
        return Verdict::fail(
            format!("{MIN_DAYS_LEFT} days left or more"),
            format!("{path}: {left}"),
        );
    }
    let max = if c.is_ca() { MAX_DAYS.1 } else { MAX_DAYS.0 };
    if to - from > Duration::days(max) {
        return Verdict::fail(
            format!("{max} days from first to last"),
            format!("{path}: {}", (to - from).whole_days()),
        );
    }
    Verdict::pass(format!("{path}: {left} days left"))
}

fn strength(path: &str, c: &X509Certificate<'_>) -> Verdict {
    let strong = match c.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() >= 3072,
        Ok(PublicKey::EC(point)) => point.key_size() >= 256,
        // Ed25519 and the like have no parsed form here; Kubernetes cannot use them anyway.
        _ => false,
    };
    match strong {
        true => Verdict::pass(format!("{path}: a strong key")),
        false => Verdict::fail(
            "ECDSA of 256 bits or RSA of 3072 or more",
            format!("{path}: a weaker key"),
        ),
    }
}

/// The group that no authorizer can stop.
const MASTERS: &str = "system:masters";

pub(in crate::checks) fn no_masters(on: &Basis<'_>) -> Verdict {
    let mut judged = 0;
    for &path in KUBECONFIGS {
        if !on.seen.exists(path) {
            continue;
        }
        let users = match on.seen.text(path).map(crate::yaml::parse) {
            Ok(Ok(v)) => v.get("users").and_then(Value::as_sequence).cloned().unwrap_or_default(),
            Ok(Err(_)) => return Verdict::unknown(format!("{path} is not YAML")),
            Err(verdict) => return verdict,
        };
        for user in users {
            let data = user.get("user").and_then(|u| u.get("client-certificate-data"));
            let Some(data) = data.and_then(Value::as_str) else { continue };
            judged += 1;
            let pem = BASE64_STANDARD.decode(data).ok().and_then(|b| String::from_utf8(b).ok());
            match pem.as_deref().and_then(groups) {
                None => return Verdict::unknown(format!("{path} has no readable certificate")),
                Some(groups) if groups.iter().any(|g| g == MASTERS) => {
                    return Verdict::fail("no group system:masters", format!("in {path}"));
                }
                Some(_) => {}
            }
        }
    }
    let nothing_left_behind = |l: &LiveFacts| l.kubeconfigs.as_ref().is_some_and(Vec::is_empty);
    if judged == 0 && on.seen.live.as_ref().is_none_or(nothing_left_behind) {
        return Verdict::needs_kubernetes("no kubeconfig contains a certificate yet");
    }
    let Some(live) = &on.seen.live else {
        // Before apply nobody has left anything there.
        return match on.seen.origin {
            Origin::Rendered => Verdict::pass(format!("{judged} client certificates")),
            Origin::Node => Verdict::unknown("home directories were not searched for kubeconfigs"),
        };
    };
    let Some(kubeconfigs) = &live.kubeconfigs else {
        return Verdict::unknown(
            "home directories could not be searched for kubeconfigs: over 300 files name a client certificate, or the search took over 20 s",
        );
    };
    let left = kubeconfigs.iter().filter_map(|k| {
        let whose = k.certificates.iter().find_map(|c| powerful(c));
        // A text that only mentions the key is nobody's credential.
        let is_one = !k.certificates.is_empty();
        let open = is_one && k.mode.is_none_or(|m| m & 0o004 != 0);
        let open = open.then(|| "others can read it".to_owned());
        Some(format!("{} ({})", crate::checks::rule::plain_path(&k.path), whose.or(open)?))
    });
    let expected =
        "no group system:masters, and none of the cluster's own kubeconfigs in home directories";
    crate::checks::model::verdict(expected, left.collect(), || {
        format!("{} client certificates", judged + kubeconfigs.len())
    })
}

/// Whose a certificate is that has no place in a home directory: an administrator's of kubeadm, a component's, a node's.
fn powerful(pem: &str) -> Option<String> {
    const GROUPS: &[&str] = &[MASTERS, "kubeadm:cluster-admins", "system:nodes"];
    const USERS: &[&str] = &["system:kube-controller-manager", "system:kube-scheduler"];
    // One that cannot be read may be of anybody.
    let Some((groups, users)) = groups(pem).zip(users(pem)) else {
        return Some("its certificate cannot be read".to_owned());
    };
    let is_user = |u: &&String| USERS.contains(&u.as_str()) || u.starts_with("system:node:");
    let found = groups.iter().find(|g| GROUPS.contains(&g.as_str()));
    found.or_else(|| users.iter().find(is_user)).map(|name| crate::checks::rule::plain_path(name))
}

/// The names in a certificate's subject.
fn users(pem: &str) -> Option<Vec<String>> {
    with(&der(pem)?, |c| {
        let names = c.subject().iter_common_name();
        names.filter_map(|n| n.as_str().ok().map(str::to_owned)).collect()
    })
}

/// The groups that a client certificate puts its holder into
/// (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>).
fn groups(pem: &str) -> Option<Vec<String>> {
    with(&der(pem)?, |c| {
        let groups = c.subject().iter_organization();
        groups.filter_map(|o| o.as_str().ok().map(str::to_owned)).collect()
    })
}

pub(in crate::checks) fn kubelet_serving(on: &Basis<'_>) -> Judged {
    if on.seen.exists(KUBELET_ROTATED) {
        let why = format!("{KUBELET_ROTATED} is in use; it contains the key and is not read");
        return Verdict::unknown(why).into();
    }
    let found = match present(on, &[KUBELET_SERVING]) {
        Ok(found) => found,
        Err(verdict) => return verdict.into(),
    };
    let judge = |path: &str, der: &[u8]| {
        let names = with(der, |c| {
            let names = c.subject_alternative_name().ok().flatten();
            names.map(|n| n.value.general_names.iter().filter_map(address).collect::<Vec<_>>())
        });
        let names = names.flatten().unwrap_or_default();
        let missing: Vec<String> = on
            .node
            .addresses
            .iter()
            .filter(|a| !names.contains(a))
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() {
            Verdict::pass(format!("{path} names every address of the node"))
        } else {
            Verdict::fail(
                "every address of the node",
                format!("{path} lacks {}", missing.join(", ")),
            )
        }
    };
    let verdict = found.get(KUBELET_SERVING).map(|der| judge(KUBELET_SERVING, der));
    match verdict {
        Some(verdict) if on.seen.runs(Daemon::Kubelet) => verdict.into(),
        staged => {
            if on.seen.runs(Daemon::Kubelet) {
                return Verdict::fail("a serving certificate on the node", "none").into();
            }
            Judged { verdict: needs(Daemon::Kubelet), staged }
        }
    }
}

fn address(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(bytes) = name else { return None };
    match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
        (Ok(v4), _) => Some(v4.into()),
        (_, Ok(v6)) => Some(v6.into()),
        _ => None,
    }
}
