//! Where the subjects put their items.

use super::context::{Context, Source};
use super::error::ResolveError;
use super::model::{
    Access, Content, FileCheck, Item, ItemKind, NodeDesired, OnChange, Phase, Start,
};
use super::shared::Shared;
use crate::facts::FileFacts;
use crate::render::{self, Input, TEMPLATES};

/// Collects items, notes and errors of one node.
pub(super) struct Collector<'a> {
    context: &'a Context<'a>,
    phase: Phase,
    purpose: Purpose,
    pub items: Vec<Item>,
    pub notes: Vec<String>,
    pub errors: Vec<ResolveError>,
}

/// What becomes of an item when all its controls are switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It was there for the controls only, and goes.
    Hardening,
    /// The cluster needs it anyway, and it stays. Modes and removals go.
    Cluster,
}

/// A systemd unit, as the subjects name it.
pub(super) struct Unit<'a> {
    pub name: &'a str,
    pub enabled: bool,
    pub active: bool,
    pub on_change: OnChange,
    pub watches: Vec<String>,
    pub start: Start,
}

impl<'a> Unit<'a> {
    /// Enabled and running; left alone when files change.
    pub fn running(name: &'a str) -> Self {
        Self {
            name,
            enabled: true,
            active: true,
            on_change: OnChange::Nothing,
            watches: Vec::new(),
            start: Start::Wait,
        }
    }
}

impl<'a> Collector<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            phase: Phase::Packages,
            purpose: Purpose::Hardening,
            items: Vec::new(),
            notes: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// What is computed once for all nodes.
    pub fn shared(&self) -> &'a Shared {
        self.context.shared
    }

    /// Items from here on belong to this phase.
    pub fn phase(&mut self, phase: Phase, purpose: Purpose) {
        self.phase = phase;
        self.purpose = purpose;
    }

    /// An item. Whether one whose controls are all switched off stays is its [`Purpose`]'s to say; one
    /// without controls stays.
    pub fn push(&mut self, controls: &[&'static str], kind: ItemKind) {
        let on: Vec<_> = controls.iter().copied().filter(|c| self.context.on(c)).collect();
        let only_hardens = self.purpose == Purpose::Hardening
            || matches!(kind, ItemKind::Permissions { .. } | ItemKind::Absent { .. });
        if controls.is_empty() || !on.is_empty() || !only_hardens {
            self.items.push(Item { phase: self.phase, controls: on, kind });
        }
    }

    pub fn directory(&mut self, controls: &[&'static str], path: &str, access: Access) {
        self.push(controls, ItemKind::Directory { path: path.to_owned(), access });
    }

    /// Whether an earlier subject wants a directory too.
    pub fn has_directory(&self, path: &str) -> bool {
        self.items
            .iter()
            .any(|i| matches!(&i.kind, ItemKind::Directory { path: p, .. } if p == path))
    }

    /// Owner and mode of something that others make.
    pub fn permissions(&mut self, controls: &[&'static str], path: &str, mode: u32) {
        let kind = ItemKind::Permissions { path: path.to_owned(), access: Access::root(mode) };
        self.push(controls, kind);
    }

    /// A file of ours that another inventory would have put there.
    pub fn gone(&mut self, path: &str) {
        self.push(&[], ItemKind::Absent { path: path.to_owned() });
    }

    /// A file with content of its own making.
    pub fn content(
        &mut self,
        controls: &[&'static str],
        path: &str,
        access: Access,
        check: FileCheck,
        content: impl FnOnce(Source<'a>) -> Result<Content, ResolveError>,
    ) {
        let content = match self.context.source.map(content) {
            // Only the path is asked for.
            None => Content::Text("".into()),
            Some(Ok(content)) => content,
            Some(Err(e)) => return self.errors.push(e),
        };
        let path = path.to_owned();
        self.push(controls, ItemKind::File { path, content, access, check });
    }

    /// A file from a template.
    pub fn template<I: Input>(
        &mut self,
        controls: &[&'static str],
        path: &str,
        input: impl FnOnce(Source<'a>) -> Result<I, ResolveError>,
    ) {
        self.checked_template(controls, path, FileCheck::None, input);
    }

    /// A file from a template that the node tests before it is switched in.
    pub fn checked_template<I: Input>(
        &mut self,
        controls: &[&'static str],
        path: &str,
        check: FileCheck,
        input: impl FnOnce(Source<'a>) -> Result<I, ResolveError>,
    ) {
        let (access, shared) = (Access::root(mode(I::TEMPLATE)), self.shared());
        self.content(controls, path, access, check, |source| {
            Ok(Content::Text(shared.rendered(path, &input(source)?)?))
        });
    }

    /// A file that takes no input.
    pub fn fixed(&mut self, controls: &[&'static str], path: &str, template: &'static str) {
        let (access, shared) = (Access::root(mode(template)), self.shared());
        self.content(controls, path, access, FileCheck::None, |_| {
            Ok(Content::Text(shared.text(render::fixed(template))))
        });
    }

    pub fn unit(&mut self, controls: &[&'static str], unit: Unit<'_>) {
        self.push(
            controls,
            ItemKind::Unit {
                name: unit.name.to_owned(),
                enabled: unit.enabled,
                active: unit.active,
                on_change: unit.on_change,
                watches: unit.watches,
                start: unit.start,
            },
        );
    }

    /// A unit of a package that may not be there: without the unit, a note takes its place.
    pub fn packaged_unit(&mut self, controls: &[&'static str], package: &str, unit: Unit<'_>) {
        if let Some(facts) = self.context.facts() {
            let loaded = facts.units.get(unit.name).is_some_and(|u| u.load == "loaded");
            let coming = self
                .items
                .iter()
                .any(|i| matches!(&i.kind, ItemKind::Package { name } if name == package));
            if !loaded && !coming {
                let name = unit.name;
                self.note(format!("there is no {name}, and nothing in the plan installs it"));
                return;
            }
        }
        self.unit(controls, unit);
    }

    /// Something the operator should know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn finish(self) -> Result<NodeDesired, Vec<ResolveError>> {
        if self.errors.is_empty() {
            Ok(NodeDesired { items: self.items, notes: self.notes })
        } else {
            Err(self.errors)
        }
    }
}

/// Mode of a template's file on a node.
pub(super) fn mode(template: &str) -> u32 {
    let row = TEMPLATES.iter().find(|t| t.path == template);
    row.expect("every template in use has a row; a test walks them").mode
}

/// Whether something is at a watched path.
pub(super) fn exists(context: &Context<'_>, path: &str) -> bool {
    let found = context.facts().and_then(|f| f.files.get(path));
    !matches!(found, None | Some(FileFacts::Absent))
}
