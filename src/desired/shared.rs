//! What is the same on many nodes, and is worked out once for a cluster: with a thousand nodes, a text that names each of them is
//! long, and a thousand of it would be a million lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::firewall::{Class, Table};
use super::resolve::ResolveError;

/// Texts by what they depend on. One for all nodes of an inventory; another inventory takes another.
#[derive(Default)]
pub struct Shared {
    tables: Mutex<BTreeMap<Class, Arc<Table>>>,
}

impl Shared {
    /// The firewall table of a class of nodes.
    pub(super) fn table(
        &self,
        class: Class,
        make: impl FnOnce() -> Result<Table, ResolveError>,
    ) -> Result<Arc<Table>, ResolveError> {
        let mut tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(table) = tables.get(&class) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(make()?);
        tables.insert(class, Arc::clone(&table));
        Ok(table)
    }

    /// How many firewall tables were made.
    #[cfg(test)]
    pub(super) fn tables(&self) -> usize {
        self.tables.lock().unwrap().len()
    }
}
