//! What is the same on many nodes, and is worked out once for a cluster: a text that names each of a thousand nodes is a
//! thousand lines long, and rendering it for each of them would take a million.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::error::{ResolveError, rendering};
use super::forms::{Forms, FormsByNode};
use super::model::FileText;
use crate::inventory::{Inventory, NodeName, Role};
use crate::render::input::host::Firewall;
use crate::render::{self, Input};

/// What the rules of a node depend on beside the inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub roles: Vec<Role>,
    pub is_member: bool,
    pub ssh_ports: Vec<u16>,
}

/// The rules of a class of nodes.
pub(super) struct Table {
    pub rules: Firewall,
    pub text: FileText,
}

/// The pods of all nodes: which networks they have, and the file of routes, which is the same on every node.
pub(super) struct PodRoutes {
    /// Parts of the pod networks by node.
    pub subnets: BTreeMap<NodeName, Vec<ipnet::IpNet>>,
    pub text: FileText,
}

/// Texts by what they are made from. One for all nodes of an inventory; another inventory takes another.
#[derive(Default)]
pub struct Shared {
    tables: Mutex<BTreeMap<Class, Arc<Table>>>,
    routes: Mutex<Option<Arc<PodRoutes>>>,
    texts: Mutex<HashMap<Source, FileText>>,
    jump_hosts: OnceLock<BTreeSet<String>>,
    forms: FormsByNode,
}

/// The template that a text is made with, and the SHA-256 of what goes into it.
type Source = (&'static str, [u8; 32]);

impl Shared {
    /// With what control planes do with encrypted resources on the way to encryption.
    pub fn with_encryption_forms(forms: FormsByNode) -> Self {
        Self { forms, ..Self::default() }
    }

    /// What a control plane does with encrypted resources, if it is on the way to encryption.
    pub fn forms(&self, node: &NodeName) -> Option<&Forms> {
        self.forms.get(node).filter(|forms| !forms.is_empty())
    }

    /// The firewall table of a class of nodes.
    pub(super) fn table(
        &self,
        class: Class,
        make: impl FnOnce() -> Result<Table, ResolveError>,
    ) -> Result<Arc<Table>, ResolveError> {
        let mut tables = lock(&self.tables);
        if let Some(table) = tables.get(&class) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(make()?);
        tables.insert(class, Arc::clone(&table));
        Ok(table)
    }

    /// The routes to the pods of all nodes.
    pub(super) fn pod_routes(
        &self,
        make: impl FnOnce() -> Result<PodRoutes, ResolveError>,
    ) -> Result<Arc<PodRoutes>, ResolveError> {
        let mut routes = lock(&self.routes);
        if let Some(made) = routes.as_ref() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make()?);
        *routes = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Names and addresses by which nodes are reached through others.
    pub(super) fn jump_hosts(&self, inventory: &Inventory) -> &BTreeSet<String> {
        self.jump_hosts.get_or_init(|| {
            let jumps = |node| inventory.ssh.for_node(node).jump;
            inventory.nodes.iter().flat_map(jumps).map(|j| j.host.as_str().to_owned()).collect()
        })
    }

    /// The text of a file from a template.
    pub(super) fn rendered<I: Input>(
        &self,
        path: &str,
        input: &I,
    ) -> Result<FileText, ResolveError> {
        // What is no JSON is refused by the renderer, with its reason.
        let source = serde_json::to_vec(input).unwrap_or_default();
        self.made(I::TEMPLATE, &[&source], || render::render(input).map_err(|e| rendering(path, e)))
    }

    /// YAML documents as one file.
    pub(super) fn joined(&self, documents: &[FileText]) -> Result<FileText, ResolveError> {
        let digests: Vec<&[u8]> = documents.iter().map(|d| d.sha256().as_bytes()).collect();
        self.made("---", &digests, || {
            let texts: Vec<&str> = documents.iter().map(|d| &**d).collect();
            Ok(texts.join("---\n"))
        })
    }

    /// A text that is there already.
    pub(super) fn text(&self, text: &str) -> FileText {
        let made = self.made("", &[text.as_bytes()], || Ok(text.to_owned()));
        made.unwrap_or_else(|_| text.into())
    }

    fn made(
        &self,
        template: &'static str,
        source: &[&[u8]],
        make: impl FnOnce() -> Result<String, ResolveError>,
    ) -> Result<FileText, ResolveError> {
        let mut digest = Sha256::new();
        source.iter().for_each(|part| digest.update(part));
        let source: Source = (template, digest.finalize().into());
        if let Some(text) = lock(&self.texts).get(&source) {
            return Ok(text.clone());
        }
        let text = FileText::from(make()?);
        lock(&self.texts).insert(source, text.clone());
        Ok(text)
    }

    /// How many firewall tables were made.
    #[cfg(test)]
    pub(super) fn tables(&self) -> usize {
        lock(&self.tables).len()
    }

    /// How many texts were made.
    #[cfg(test)]
    pub(super) fn texts(&self) -> usize {
        lock(&self.texts).len()
    }
}

/// What a thread that panicked left is whole: values are only put in.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
