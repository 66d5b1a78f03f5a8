//! What would be noticed, row by row.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::checks::{Basis, Cluster, Finding, Observed, Owners, Reference, Verdict, of_node};
use crate::desired::objects::Wanted;
use crate::desired::{Doors, Shared};
use crate::discovery::{Changes, Found};
use crate::facts::cluster::{ClusterFacts, ObjectKind};
use crate::inventory::{Files, Inventory, NodeName, Profile};
use crate::plan::Answered;
use crate::plan::api_change::ApiChange;
use crate::plan::cluster::changes;

/// What rows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Pods, and what makes pods.
    Workloads,
    /// Ports that others connect to.
    Ports,
    /// Who asks the API, and as whom.
    Clients,
    /// Programs that the API servers ask.
    Webhooks,
    /// What is stored.
    Storage,
}

/// A kind of thing that somebody would notice.
pub struct Row {
    /// Its name, for machines.
    pub id: &'static str,
    /// What it is about.
    pub section: Section,
    /// What is listed.
    pub title: &'static str,
    /// What hardening does about it.
    pub hardening: &'static str,
    /// Who notices that.
    pub noticed_by: &'static str,
    /// How it is found.
    pub found_by: &'static str,
    /// Whether each of them that is not Kubernetes' own has to be acknowledged before the cluster is hardened. What nobody
    /// notices by hardening alone has not, and neither have ports, of which observation says who uses them.
    pub needs_acknowledgement: bool,
    /// Whether nodes have to record it first, while the cluster is observed.
    pub is_recorded: bool,
    /// Finds all of them, or says why they are not known.
    pub(super) find: fn(&Seen<'_>) -> Result<Vec<Item>, String>,
}

/// One thing that is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its kind, as manifests have it.
    pub kind: &'static str,
    /// Its namespace; empty for one without.
    pub namespace: String,
    /// Its name; empty where all of a kind are counted.
    pub name: String,
    /// What it does now, if it is not at work: `scaled to zero`, `suspended`.
    pub state: Option<&'static str>,
    /// What was seen of it: of what, and what.
    pub seen: Vec<(String, String)>,
    /// How many there are of something, and of what.
    pub count: Option<(usize, &'static str)>,
    /// Kubernetes or kubeadm made it.
    pub of_kubernetes: bool,
}

impl Item {
    /// Its name among all that is listed, by which it is acknowledged.
    pub fn id(&self, row: &Row) -> String {
        let kind = if self.name.contains('/') { "" } else { self.kind };
        let parts = [row.id, self.namespace.as_str(), kind, self.name.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        parts.join("/")
    }

    /// One that nothing was seen of yet.
    pub(super) fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { kind, namespace, name, ..Self::default() }
    }

    /// With something that was seen of it.
    #[must_use]
    pub(super) fn saying(mut self, what: impl Into<String>, said: impl Into<String>) -> Self {
        self.seen.push((what.into(), said.into()));
        self
    }
}

/// A row, and what was found of it.
pub struct Listed {
    /// The row.
    pub row: &'static Row,
    /// All of them, or why they are not known.
    pub found: Result<Vec<Item>, String>,
}

/// What reading cannot show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSeen {
    /// What.
    pub what: String,
    /// Why, or what it takes to see it.
    pub why: String,
}

/// The cluster that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its release, as it says itself or as the inventory does.
    pub release: String,
    /// What made it, and whether it may be changed; nothing where the inventory says what it is.
    pub made_by: Option<(&'static str, Changes)>,
    /// Its nodes.
    pub nodes: Vec<NodeName>,
    /// What had to be assumed of it.
    pub notes: Vec<String>,
}

impl From<&Found> for Subject {
    fn from(found: &Found) -> Self {
        let row = found.recognized.distribution;
        Self {
            name: found.name.to_string(),
            release: found.release.clone(),
            made_by: Some((row.name, row.changes)),
            nodes: found.nodes.iter().map(|n| n.name.clone()).collect(),
            notes: found.notes.clone(),
        }
    }
}

impl From<&Inventory> for Subject {
    fn from(inventory: &Inventory) -> Self {
        Self {
            name: inventory.cluster.name.to_string(),
            release: format!("v{}", inventory.cluster.kubernetes),
            made_by: None,
            nodes: inventory.nodes.iter().map(|n| n.name.clone()).collect(),
            notes: Vec::new(),
        }
    }
}

/// Everything that would be noticed, and what nobody knows.
pub struct Impact {
    /// By what the cluster would be hardened.
    pub profile: Profile,
    /// When it was read, RFC 3339.
    pub time: String,
    /// Every row, also of which nothing was found.
    pub listed: Vec<Listed>,
    /// What reading cannot show.
    pub not_seen: Vec<NotSeen>,
}

impl Impact {
    /// Whether all that can be read was read. What nodes have to record first may be missing.
    pub fn is_whole(&self) -> bool {
        self.listed.iter().all(|l| l.found.is_ok() || l.row.is_recorded)
    }
}

/// What was read.
pub struct Reading<'r> {
    /// The cluster as it is to be.
    pub inventory: &'r Inventory,
    /// What its API holds, or why nobody knows.
    pub objects: Result<&'r ClusterFacts, &'r str>,
    /// What nodes show that answered.
    pub nodes: &'r BTreeMap<NodeName, Answered>,
    /// How many Secrets there are, or why nobody knows.
    pub secrets: Result<usize, String>,
    /// When.
    pub now: OffsetDateTime,
}

/// What was read, with what follows from it.
pub(super) struct Seen<'s> {
    pub inventory: &'s Inventory,
    pub nodes: &'s BTreeMap<NodeName, Answered>,
    pub secrets: Result<usize, String>,
    objects: Result<&'s ClusterFacts, String>,
    /// What checks of nodes come to, without attempts.
    pub findings: Vec<Finding>,
    /// Who may connect to each node afterwards; nothing where all may.
    pub doors: BTreeMap<NodeName, Result<Option<Doors>, String>>,
    /// What is done with objects of the API.
    pub changes: Vec<ApiChange>,
    reference: Reference,
    now: OffsetDateTime,
}

impl<'s> Seen<'s> {
    pub(super) fn of(reading: &Reading<'s>) -> Self {
        let Reading { inventory, objects, nodes, ref secrets, now } = *reading;
        let (files, shared) = (Files::default(), Shared::default());
        let (mut findings, mut doors) = (Vec::new(), BTreeMap::new());
        for node in &inventory.nodes {
            let Some(answered) = nodes.get(&node.name) else { continue };
            let seen = &Observed::from_facts(&answered.facts, &answered.host_key);
            findings.extend(of_node(&Basis { inventory, software: None, node, seen, now }, &[]));
            let own = Doors::of(inventory, &files, node, &answered.facts, &shared);
            doors.insert(node.name.clone(), own);
        }
        let objects = objects.map_err(str::to_owned);
        Self {
            inventory,
            nodes,
            secrets: secrets.clone(),
            changes: objects
                .as_ref()
                .map(|facts| changes(inventory, facts, Wanted::of(inventory)))
                .unwrap_or_default(),
            objects,
            findings,
            doors,
            reference: Reference::default(),
            now,
        }
    }

    /// Whether API servers are told to keep an audit log.
    pub(super) fn keeps_audit_log(&self) -> bool {
        crate::controls::find("apiserver-audit-policy").is_some_and(|c| c.wanted(self.inventory))
    }

    /// Whether hardening a node has begun.
    pub(super) fn is_hardened(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|n| super::hardened::is_hardened(&n.facts))
    }

    /// What the API holds.
    pub(super) fn objects(&self) -> Result<&'s ClusterFacts, String> {
        self.objects.clone()
    }

    /// The objects of a kind.
    pub(super) fn all(&self, kind: ObjectKind) -> Result<&'s [serde_json::Value], String> {
        self.objects()?.of(kind).map_err(|why| format!("{kind:?} cannot be read: {why}"))
    }

    /// What rules about objects are judged on.
    pub(super) fn cluster(&self) -> Result<Cluster<'_>, String> {
        let facts = self.objects()?;
        let (reference, today) = (&self.reference, self.now.date());
        Ok(Cluster { facts, inventory: self.inventory, reference, today, now: self.now })
    }

    /// Who made what.
    pub(super) fn owners(&self) -> Result<Owners<'_>, String> {
        Owners::in_(&self.cluster()?).map_err(|verdict| match verdict {
            Verdict::Unknown { why } => why,
            other => format!("{other:?}"),
        })
    }
}
