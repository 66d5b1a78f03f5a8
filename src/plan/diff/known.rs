//! What is on the node, and what an item has to know of others, whatever their phase.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{Access, ItemKind, NodeDesired, Phase};
use crate::facts::{FileFacts, NodeFacts};
use crate::plan::why::Why;

/// What is on the node, and what an item has to know of others, whatever their phase.
pub(super) struct Known<'d> {
    pub(super) facts: &'d NodeFacts,
    /// Digests of what files will hold.
    pub(super) contents: BTreeMap<&'d str, String>,
    /// When they are put in place.
    pub(super) phases: BTreeMap<&'d str, Phase>,
    pub(super) directories: BTreeMap<&'d str, &'d Access>,
    /// Who may read and write files.
    pub(super) access: BTreeMap<&'d str, &'d Access>,
}

impl<'d> Known<'d> {
    pub(super) fn of(desired: &'d NodeDesired, facts: &'d NodeFacts) -> Self {
        let mut known = Self {
            facts,
            contents: BTreeMap::new(),
            phases: BTreeMap::new(),
            directories: BTreeMap::new(),
            access: BTreeMap::new(),
        };
        for item in &desired.items {
            match &item.kind {
                ItemKind::File { path, content, access, .. } => {
                    known.access.insert(path, access);
                    known.contents.insert(path, content.sha256());
                    known.phases.insert(path, item.phase);
                }
                ItemKind::Program { path, blob, access } => {
                    known.access.insert(path, access);
                    known.contents.insert(path, blob.sha256.clone());
                    known.phases.insert(path, item.phase);
                }
                ItemKind::Directory { path, access } => {
                    known.directories.insert(path, access);
                }
                _ => {}
            }
        }
        known
    }

    /// Whether a watched file is not what it should be: whoever changed it may have started the daemon
    /// with it, and putting the file right would not reach that. The same goes for one that others could write.
    pub(super) fn is_changed(&self, watches: &[String]) -> bool {
        self.changed(watches).next().is_some()
    }

    pub(super) fn changed<'a>(&'a self, watches: &'a [String]) -> impl Iterator<Item = &'a str> {
        watches.iter().map(String::as_str).filter(|path| {
            self.contents.get(path).is_some_and(|wanted| match self.facts.files.get(*path) {
                Some(FileFacts::File { sha256, mode, owner, group, .. }) => {
                    let access = self.access.get(path);
                    let differs = access.and_then(|a| access_differs(a, *mode, owner, group));
                    sha256 != wanted || differs.is_some()
                }
                _ => true,
            })
        })
    }

    /// The earlier phases that fix files which items of a later phase watch. If the later phase did not run, or failed, the file
    /// would no longer show the change.
    pub(super) fn fixed_before(&self, phase: Phase, watches: &[String]) -> BTreeSet<Phase> {
        let phases = self.changed(watches).filter_map(|path| self.phases.get(path).copied());
        phases.filter(|p| *p < phase).collect()
    }
}

/// How owner and mode differ from those that are wanted, if they do.
pub(super) fn access_differs(wanted: &Access, mode: u32, owner: &str, group: &str) -> Option<Why> {
    (wanted.mode != mode || wanted.owner != owner || wanted.group != group)
        .then(|| Why::Is(format!("{mode:04o} {owner}:{group}")))
}
