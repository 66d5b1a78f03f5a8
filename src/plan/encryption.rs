//! How a cluster that stores objects in plain text comes to store them encrypted: rung by rung, each found from facts alone.
//!
//! ```text
//! read      every control plane can read what is encrypted; all still write plain text
//! promote   every control plane encrypts what it writes, and reads both
//! rewrite   every object is written again, by the API, until etcd holds none in plain text
//! drop      no control plane reads plain text any more
//! ```
//!
//! Control planes of one rung and of the next understand each other, so that a run may end anywhere. What goes before a rung is
//! proven: that an API server reads a file, by its having been started since the file was changed; that nothing is stored in
//! plain text, by what values in etcd begin with. Each resource is on a rung of its own: one that is added to
//! `encryption.resources` goes the same progress.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use super::climb::{Climb, Rung};
use super::fleet::{Answered, FleetFacts};
use super::stored_data::{APISERVER_POD, ENCRYPTION, Entry, Safe, entries, is_member};
use crate::controls;
use crate::desired::forms::{Form, Forms, FormsByNode, wanted_keys};
use crate::facts::NodeFacts;
use crate::facts::stored::Stored;
use crate::inventory::{EncryptionProvider, Inventory, Node, NodeName, Role, SoftwareSource};
use crate::pki::Material;
use crate::plain::hex;

/// The control that is about it.
const CONTROL: &str = "apiserver-encryption-config";
/// The flag of the API server that names the file.
const FLAG: &str = "--encryption-provider-config=";

/// What the file of a control plane has its API server do with the objects of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It knows no key, and writes plain text.
    Plain,
    /// See [`Form::Reader`].
    Reader,
    /// See [`Form::Promoted`].
    Promoted,
    /// See [`Form::Final`].
    Final,
}

impl Level {
    fn form(self) -> Option<Form> {
        match self {
            Level::Plain => None,
            Level::Reader => Some(Form::Reader),
            Level::Promoted => Some(Form::Promoted),
            Level::Final => Some(Form::Final),
        }
    }
}

/// What is known of one control plane about one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// It was not looked at.
    Unseen,
    /// It is part of no cluster yet.
    Outside,
    /// No rung explains what it has.
    Strange,
    /// It is part of the cluster.
    Runs {
        /// What its file says; [`Level::Plain`] where its API server is told of no file.
        level: Level,
        /// Whether its API server is known to run with that.
        in_effect: bool,
    },
}

/// What etcd holds of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It could not be counted.
    Unknown,
    /// Some in plain text.
    Plain,
    /// Some that no wanted key can decrypt.
    Other,
    /// All encrypted with wanted keys.
    Encrypted,
}

/// Why no rung can be climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A control plane was not looked at.
    Unseen,
    /// A control plane has what no rung explains.
    Strange,
    /// What is stored could not be counted.
    NotCounted,
    /// Something stored is encrypted with a key that is not wanted.
    OtherKey,
}

/// The rung of a resource, by what its control planes show and, once all of them encrypt, by what is stored. `None` where
/// nothing is to be done.
///
/// # Errors
/// Why its rung cannot be climbed, or is not known.
pub fn next(planes: &[Plane], held: Held) -> Result<Option<Rung>, Stop> {
    let members = || {
        planes.iter().filter_map(|plane| match plane {
            Plane::Runs { level, in_effect } => Some((*level, *in_effect)),
            _ => None,
        })
    };
    if planes.contains(&Plane::Strange) {
        return Err(Stop::Strange);
    }
    if members().all(|(level, _)| level == Level::Final) {
        return Ok(None);
    }
    if members().any(|(level, in_effect)| level == Level::Plain || !in_effect) {
        return Ok(Some(Rung::Read));
    }
    if planes.contains(&Plane::Unseen) {
        return Err(Stop::Unseen);
    }
    if members().any(|(level, _)| level == Level::Reader) {
        return Ok(Some(Rung::Promote));
    }
    match held {
        Held::Unknown => Err(Stop::NotCounted),
        Held::Other => Err(Stop::OtherKey),
        // One that reads no plain text any more cannot read these.
        Held::Plain if members().any(|(level, _)| level == Level::Final) => Ok(Some(Rung::Promote)),
        Held::Plain => Ok(Some(Rung::Rewrite)),
        Held::Encrypted => Ok(Some(Rung::Drop)),
    }
}

/// Whether what is stored decides about the rung.
pub fn depends_on_stored(planes: &[Plane]) -> bool {
    next(planes, Held::Unknown) == Err(Stop::NotCounted)
}

/// What a control plane is to have on a rung. `others` are the rest of them.
///
/// Never does one begin to encrypt before all others are known to read it, and never does one stop to read plain text but on the last rung.
pub fn target(rung: Rung, level: Level, in_effect: bool, others: &[Plane]) -> Level {
    match rung {
        Rung::Rewrite => level,
        Rung::Promote => Level::Promoted,
        Rung::Drop => Level::Final,
        Rung::Read => {
            let writes = |level: Level| level >= Level::Promoted;
            let others_write = others.iter().all(|p| match p {
                Plane::Runs { level, .. } => writes(*level),
                Plane::Outside => true,
                Plane::Unseen | Plane::Strange => false,
            });
            let others_read = others.iter().all(|p| match p {
                Plane::Runs { level, in_effect } => *in_effect && *level >= Level::Reader,
                Plane::Outside => true,
                Plane::Unseen | Plane::Strange => false,
            });
            match level {
                Level::Plain | Level::Reader => Level::Reader,
                // Its API server has only to be started again.
                level if others_write => level,
                _ if in_effect || others_read => Level::Promoted,
                _ => Level::Reader,
            }
        }
    }
}

/// How far the encryption of stored objects is, and what its control planes need next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncryptionProgress {
    /// The rung to climb, if any.
    pub climb: Option<Climb>,
    /// Why the next rung cannot be climbed, if there is one.
    pub stop: Option<String>,
    /// What control planes are to have.
    pub forms: FormsByNode,
    /// Control planes whose API server is to be started again though its file stays.
    pub restart: BTreeSet<NodeName>,
}

impl EncryptionProgress {
    /// What a control plane may do that would lose data without it.
    pub fn safe(&self, node: &NodeName) -> Safe {
        let drop = self.climb.as_ref().filter(|c| c.rung == Rung::Drop);
        Safe {
            begins: self.forms.get(node).into_iter().flat_map(Forms::keys).cloned().collect(),
            drops: drop.into_iter().flat_map(|c| c.resources.iter().cloned()).collect(),
            waits_for: self.stop.clone(),
        }
    }
}

/// Whether the inventory wants encryption that its plans can bring about step by step.
fn is_wanted(inventory: &Inventory) -> bool {
    let row = controls::find(CONTROL).expect("a test checks the id of every item");
    row.wanted(inventory)
        && !inventory.observes()
        && inventory.kubernetes.source != SoftwareSource::None
}

/// Resources whose stored objects have to be counted before it is known what is next.
pub fn to_be_counted(
    inventory: &Inventory,
    fleet: &FleetFacts,
    material: &Material,
) -> Vec<String> {
    if !is_wanted(inventory) {
        return Vec::new();
    }
    let control_planes = ControlPlanes { inventory, fleet, material };
    let resources = inventory.encryption.resources.iter();
    resources.filter(|r| depends_on_stored(&control_planes.planes(r))).cloned().collect()
}

/// Derives the progress from the facts.
pub fn progress(
    inventory: &Inventory,
    fleet: &FleetFacts,
    material: &Material,
) -> EncryptionProgress {
    if !is_wanted(inventory) {
        return EncryptionProgress::default();
    }
    let control_planes = ControlPlanes { inventory, fleet, material };
    let resources: BTreeMap<&String, Vec<Plane>> =
        inventory.encryption.resources.iter().map(|r| (r, control_planes.planes(r))).collect();
    let rungs: BTreeMap<&String, Result<Option<Rung>, Stop>> = resources
        .iter()
        .map(|(r, planes)| (*r, next(planes, held(fleet.stored.get(*r)))))
        .collect();
    let rung = rungs.values().filter_map(|r| r.ok().flatten()).min();
    let is_on = |r: &String| rung.is_some() && rungs[r] == Ok(rung);
    let mut progress = EncryptionProgress {
        climb: rung.map(|rung| Climb {
            rung,
            resources: inventory
                .encryption
                .resources
                .iter()
                .filter(|r| is_on(r))
                .cloned()
                .collect(),
        }),
        ..EncryptionProgress::default()
    };
    let nodes: Vec<&Node> = inventory.with_role(Role::ControlPlane).collect();
    // Resources that one without a cluster gets in the form of those that are there.
    let mut lowest: BTreeMap<&String, Form> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut forms = Forms::new();
        for (resource, planes) in &resources {
            let Plane::Runs { level, in_effect } = planes[at] else { continue };
            let mut others = planes.clone();
            others.remove(at);
            let goal = match rung.filter(|_| is_on(resource)) {
                Some(rung) => target(rung, level, in_effect, &others),
                None => level,
            };
            let restarts = rung == Some(Rung::Read) && is_on(resource);
            if restarts && !in_effect && goal == level {
                progress.restart.insert(node.name.clone());
            }
            // One in plain text that nothing is done about is refused, as it always was.
            let Some(form) = goal.form() else { continue };
            let least = lowest.entry(resource).or_insert(form);
            *least = form.min(*least);
            if form != Form::Final {
                forms.insert((*resource).clone(), form);
            }
        }
        if !forms.is_empty() {
            progress.forms.insert(node.name.clone(), forms);
        }
    }
    let lowest: Forms = lowest
        .into_iter()
        .filter(|(_, form)| *form != Form::Final)
        .map(|(r, form)| (r.clone(), form))
        .collect();
    for (at, node) in nodes.iter().enumerate() {
        let is_outside = resources.values().any(|planes| planes[at] == Plane::Outside);
        if is_outside && !lowest.is_empty() {
            progress.forms.insert(node.name.clone(), lowest.clone());
        }
    }
    if !progress.forms.values().all(|forms| can_be_written(inventory, forms)) {
        return EncryptionProgress {
            stop: Some(KMS_TWICE.to_owned()),
            ..EncryptionProgress::default()
        };
    }
    let stops = || rungs.iter().filter_map(|(r, rung)| Some((*r, rung.err()?)));
    progress.stop = stops().next().map(|(resource, stop)| {
        let same = stops().filter(|(_, other)| *other == stop).map(|(r, _)| format!("`{r}`"));
        let what = format!(
            "encryption of stored {} cannot continue",
            same.collect::<Vec<_>>().join(" and ")
        );
        format!("{what}: {}", control_planes.words(resource, &resources[resource], stop))
    });
    progress
}

/// An API server takes a plugin under one name once (k8s.io/apiserver, validation of EncryptionConfiguration).
const KMS_TWICE: &str = "with a KMS plugin, resources cannot be encrypted one at a time";

fn can_be_written(inventory: &Inventory, forms: &Forms) -> bool {
    let form = |r: &String| forms.get(r).copied().unwrap_or_default();
    let all: BTreeSet<Form> = inventory.encryption.resources.iter().map(form).collect();
    inventory.encryption.provider != EncryptionProvider::Kms || all.len() == 1
}

fn held(stored: Option<&Result<Stored, String>>) -> Held {
    match stored {
        None | Some(Err(_)) => Held::Unknown,
        Some(Ok(stored)) if !stored.other.is_empty() => Held::Other,
        Some(Ok(stored)) if stored.plain > 0 => Held::Plain,
        Some(Ok(_)) => Held::Encrypted,
    }
}

/// The facts about all control planes.
struct ControlPlanes<'a> {
    inventory: &'a Inventory,
    fleet: &'a FleetFacts,
    material: &'a Material,
}

impl ControlPlanes<'_> {
    /// What is known of each control plane, in the order of the inventory.
    fn planes(&self, resource: &str) -> Vec<Plane> {
        let planes = self.inventory.with_role(Role::ControlPlane);
        planes.map(|node| self.plane(&node.name, resource)).collect()
    }

    fn plane(&self, node: &NodeName, resource: &str) -> Plane {
        let Some(Answered { facts, .. }) = self.fleet.answered.get(node) else {
            return match self.fleet.outside.contains(node) {
                true => Plane::Outside,
                false => Plane::Unseen,
            };
        };
        let servers = facts.processes.get("kube-apiserver");
        if !is_member(facts) && servers.is_none() {
            return Plane::Outside;
        }
        let argv: Vec<&str> =
            servers.into_iter().flatten().flat_map(|p| &p.argv).map(String::as_str).collect();
        let pod = facts.texts.get(APISERVER_POD).and_then(Option::as_deref).unwrap_or_default();
        let runs_with = argv.iter().find_map(|a| a.strip_prefix(FLAG));
        let is_told = runs_with.is_some() || pod.contains(FLAG);
        // What a wildcard stands for cannot be counted.
        let plain = match resource.contains('*') {
            true => Plane::Strange,
            false => Plane::Runs { level: Level::Plain, in_effect: true },
        };
        if !is_told {
            return plain;
        }
        match self.level(facts, resource) {
            None => Plane::Strange,
            Some(Level::Plain) => plain,
            Some(level) => {
                let is_ours = runs_with == Some(ENCRYPTION);
                Plane::Runs {
                    level,
                    in_effect: is_ours && facts.encryption_in_effect == Some(true),
                }
            }
        }
    }

    /// What the file of a control plane says of a resource; `None` if no rung explains it.
    fn level(&self, facts: &NodeFacts, resource: &str) -> Option<Level> {
        let all = entries(facts.texts.get(ENCRYPTION)?.as_deref()?)?;
        let wanted = wanted_keys(self.inventory, self.material);
        if !self.has_our_secrets(facts, &all, &wanted) {
            return None;
        }
        let Some(entry) = all.iter().find(|e| e.resources.contains(resource)) else {
            let is_wild = |e: &Entry| e.resources.iter().any(|r| r.contains('*'));
            return (!all.iter().any(is_wild)).then_some(Level::Plain);
        };
        let identity = [("identity".to_owned(), String::new())];
        let is = |parts: [&[(String, String)]; 2]| entry.keys == parts.concat();
        [
            (is([&identity, &[]]), Level::Plain),
            (is([&identity, &wanted]), Level::Reader),
            (is([&wanted, &identity]), Level::Promoted),
            (is([&wanted, &[]]), Level::Final),
        ]
        .into_iter()
        .find_map(|(is, level)| is.then_some(level))
    }

    /// Whether the keys of a file are the key store's, and not others of the same names, as far as all its entries name those.
    fn has_our_secrets(
        &self,
        facts: &NodeFacts,
        all: &[Entry],
        wanted: &[(String, String)],
    ) -> bool {
        let names = |e: &Entry| e.without_identity() == wanted;
        let with_keys = all.iter().filter(|e| !e.without_identity().is_empty());
        let (ours, others): (Vec<&Entry>, Vec<&Entry>) = with_keys.partition(|e| names(e));
        if !others.is_empty() || ours.is_empty() {
            return others.is_empty();
        }
        let keys = self.material.encryption_keys();
        let lines = |_: &&Entry| {
            let line = |k: &crate::pki::EncryptionKey| {
                format!("{}\n", BASE64_STANDARD.encode(k.secret.expose()))
            };
            keys.iter().map(line).collect::<String>()
        };
        let mut digest = Sha256::new();
        ours.iter().map(lines).for_each(|text| digest.update(text));
        facts.encryption_keys_sha256.as_ref().is_none_or(|d| *d == hex(&digest.finalize()))
    }

    fn words(&self, resource: &str, planes: &[Plane], stop: Stop) -> String {
        let those = |wanted: Plane| {
            let nodes = self.inventory.with_role(Role::ControlPlane).zip(planes);
            let names = nodes.filter(|(_, p)| **p == wanted).map(|(n, _)| n.name.to_string());
            names.collect::<Vec<_>>().join(", ")
        };
        match stop {
            Stop::Unseen => format!(
                "{} was not checked, and may not be able to read what the others write",
                those(Plane::Unseen)
            ),
            Stop::Strange => {
                format!(
                    "{ENCRYPTION} on {} matches no step of the encryption",
                    those(Plane::Strange)
                )
            }
            Stop::NotCounted => {
                let why = match self.fleet.stored.get(resource) {
                    Some(Err(why)) => why.as_str(),
                    _ => "etcd was not queried",
                };
                format!("stored objects cannot be counted: {why}")
            }
            Stop::OtherKey => {
                let stored = self.fleet.stored.get(resource).and_then(|s| s.as_ref().ok());
                let other: Vec<&str> =
                    stored.into_iter().flat_map(|s| &s.other).map(String::as_str).collect();
                format!(
                    "some are encrypted with a key that the key store does not have: {}",
                    other.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "encryption_tests.rs"]
mod tests;
