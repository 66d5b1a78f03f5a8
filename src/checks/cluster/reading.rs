//! What rules about objects are judged on, and how they read it.

use crate::checks::rule::shown;
use crate::facts::cluster::is_of_a_probe;
use serde_json::Value;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::checks::model::Verdict;
use crate::checks::source::Source;
use crate::facts::cluster::{ClusterFacts, ObjectKind, PROXY_CONFIG, name, namespace, text};
use crate::inventory::{AllowedKind, Inventory, Software};

/// What rules about objects are judged on.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'c> {
    /// What the API answered.
    pub facts: &'c ClusterFacts,
    /// Which nodes there should be, and what is granted.
    pub inventory: &'c Inventory,
    /// What neither of them tells.
    pub reference: &'c Reference,
    /// The day on which grants are judged, in UTC.
    pub today: Date,
    /// When the cluster was read, by the reader's clock.
    pub now: OffsetDateTime,
}

/// What objects are compared with that neither the inventory nor the API tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    /// Certificate of the cluster CA, from the key store.
    pub ca_pem: Option<String>,
    /// Certificate of the front-proxy CA, from the key store.
    pub front_proxy_ca_pem: Option<String>,
    /// kubeadm's files of the control planes, as they lie on them. A plan compares them with the inventory.
    pub kubeadm: Vec<String>,
    /// Where these were read.
    pub kubeadm_sources: Vec<Source>,
    /// What a plan made now would do to objects; `None` if none was made.
    pub pending: Option<Vec<String>>,
    /// What the bundle holds, where there is one.
    pub software: Option<Software>,
}

impl Cluster<'_> {
    /// Whether something that was granted until a day still is.
    pub(in crate::checks) fn lasts(&self, expires: &str) -> bool {
        let format = format_description!("[year]-[month]-[day]");
        Date::parse(expires, format).is_ok_and(|last| self.today <= last)
    }
}

/// The KubeProxyConfiguration of a kubeadm cluster, which lies in a ConfigMap.
///
/// # Errors
/// Why there is none to judge.
pub fn proxy_configuration(facts: &ClusterFacts) -> Result<crate::yaml::Value, Verdict> {
    let maps = of(facts, ObjectKind::ConfigMaps)?;
    let found = maps.iter().find(|m| full_name(m) == PROXY_CONFIG);
    let Some(data) = found.and_then(|m| m.pointer("/data")?.get("config.conf")?.as_str()) else {
        return Err(Verdict::unknown(format!(
            "there is no config.conf in ConfigMap {PROXY_CONFIG}"
        )));
    };
    crate::yaml::parse(data).map_err(|e| {
        Verdict::unknown(format!("ConfigMap {PROXY_CONFIG} cannot be read as YAML: {e}"))
    })
}

pub(in crate::checks) fn of(facts: &ClusterFacts, kind: ObjectKind) -> Result<&[Value], Verdict> {
    facts.of(kind).map_err(|why| Verdict::unknown(format!("{kind:?} cannot be read: {why}")))
}

/// The verdict on what was found wrong; a pass says what was looked at.
pub(in crate::checks) fn none_of(
    expected: &str,
    mut wrong: Vec<String>,
    looked_at: String,
) -> Verdict {
    // As many as a report can name: what is left out is where the next one hides.
    const SHOWN: usize = 20;
    if wrong.is_empty() {
        return Verdict::pass(looked_at);
    }
    wrong.sort();
    wrong.dedup();
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    // Names of RBAC objects may hold almost anything.
    // What an item itself quotes stays quoted.
    let bare = |quoted: String| match quoted.strip_prefix('`').and_then(|q| q.strip_suffix('`')) {
        Some(bare) => bare.to_owned(),
        None => quoted,
    };
    let wrong: Vec<String> = wrong.iter().map(|w| bare(shown(Some(w)))).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Verdict::fail(expected, format!("{}{more}", wrong.join(", ")))
}

/// `namespace/name`, or the name alone.
pub(in crate::checks) fn full_name(object: &Value) -> String {
    match namespace(object) {
        "" => name(object).to_owned(),
        space => format!("{space}/{}", name(object)),
    }
}

/// Namespaces that Kubernetes makes, but for `default`.
const SYSTEM: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

/// Namespaces that are not Kubernetes' own; those on their way out are nobody's any more.
pub(in crate::checks) fn user_namespaces(facts: &ClusterFacts) -> Result<Vec<&str>, Verdict> {
    let all = of(facts, ObjectKind::Namespaces)?;
    if !all.iter().any(|n| name(n) == "default") {
        return Err(Verdict::unknown("the list of namespaces lacks `default`"));
    }
    Ok(all.iter().filter(|n| is_steady(n)).map(name).filter(|n| !SYSTEM.contains(n)).collect())
}

/// Not on its way out, and not one in which an attempt of ours was made: of those, the next run of
/// `verify` deletes what the last left behind.
pub(in crate::checks) fn is_steady(space: &Value) -> bool {
    text(space, "/status/phase") != "Terminating" && !is_of_a_probe(space)
}

/// Whether the inventory grants an object.
pub(in crate::checks) fn is_allowed(on: &Cluster<'_>, kind: AllowedKind, called: &str) -> bool {
    let all = &on.inventory.hardening.allowed_objects;
    all.iter().any(|o| o.kind == kind && o.name == called && on.lasts(&o.expires))
}

/// Grants that are over, whether or not the object is there still.
pub(in crate::checks) fn over(on: &Cluster<'_>, kind: AllowedKind) -> Vec<String> {
    let all = on.inventory.hardening.allowed_objects.iter();
    let over = all.filter(|o| o.kind == kind && !on.lasts(&o.expires));
    over.map(|o| format!("the entry for {kind} {} expired on {}", o.name, o.expires)).collect()
}
