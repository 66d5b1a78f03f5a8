//! What was read of a cluster, before it is settled what becomes of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::inventory::{Component, ExtraVolume, Inventory};

/// A setting, and where it was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Line {
    /// What, as in `--event-ttl` or `maxPods`.
    pub what: String,
    /// Its value.
    pub value: String,
    /// Where it was found.
    pub at: String,
    /// The key of the inventory that has it now, or why there is none.
    pub now: String,
}

/// A setting that the inventory has no key of its own for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Setting {
    /// A flag, by component and name, with its values.
    Flag(Component, String, Vec<String>),
    /// A field of a configuration, by component and the way to it.
    Field(Component, Vec<String>, Value),
}

/// A setting and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stated {
    pub setting: Setting,
    pub at: String,
}

/// What was read of a cluster, sorted by what becomes of it.
#[derive(Default)]
pub(super) struct Reading {
    /// Keys of the inventory.
    pub taken_over: Vec<Line>,
    /// What is to be passed through, if nothing is in the way.
    pub stated: Vec<Stated>,
    /// Volumes of static pods.
    pub volumes: Vec<(Component, ExtraVolume, String)>,
    /// What cannot be held.
    pub not_taken_over: Vec<Line>,
}

impl Reading {
    pub fn not_taken_over(
        &mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        at: &str,
        why: &str,
    ) {
        let (what, value) = (what.into(), value.into());
        self.not_taken_over.push(Line { what, value, at: at.to_owned(), now: why.to_owned() });
    }

    pub fn taken_over(
        &mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        at: &str,
        key: &str,
    ) {
        let (what, value) = (what.into(), value.into());
        self.taken_over.push(Line { what, value, at: at.to_owned(), now: key.to_owned() });
    }
}

/// An inventory in the making: conflicts are open.
pub struct Draft {
    /// The inventory, without what is in conflict.
    pub inventory: Inventory,
    /// Files beside it, by name.
    pub files: BTreeMap<String, String>,
    pub(super) reading: Reading,
}

/// A component as people know it.
pub(super) fn program(component: Component) -> &'static str {
    crate::controls::daemon(component).program()
}
