//! Removes write permission for others from what root runs or reads.

use std::collections::BTreeSet;

use super::collector::Collector;
use super::context::Context;
use super::model::{Access, Item, ItemKind};
use crate::controls::paths::{GUARDED, LOGS};
use crate::facts::FileFacts;
use crate::facts::ancestors;

const CONTROLS: &[&str] = &["host-root-owned-paths"];

/// The last subject: of the others' items, the directories above are guarded, too.
pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    let Some(facts) = context.facts() else { return };
    let own: BTreeSet<&str> = collector.items.iter().filter_map(path).collect();
    let above = own.iter().flat_map(|p| ancestors(p));
    let guarded: BTreeSet<&str> =
        above.chain(GUARDED.iter().copied()).filter(|p| *p != LOGS && !own.contains(p)).collect();
    let mended: Vec<ItemKind> = guarded
        .into_iter()
        .filter_map(|path| {
            let (FileFacts::File { mode, owner, group, .. }
            | FileFacts::Directory { mode, owner, group }) = facts.files.get(path)?
            else {
                return None;
            };
            let writable = mode & 0o022 != 0 || owner != "root";
            let access =
                Access { owner: "root".to_owned(), group: group.clone(), mode: mode & !0o022 };
            writable.then(|| ItemKind::Permissions { path: path.to_owned(), access })
        })
        .collect();
    for kind in mended {
        collector.push(CONTROLS, kind);
    }
}

/// The path that an item is about.
fn path(item: &Item) -> Option<&str> {
    match &item.kind {
        ItemKind::File { path, .. }
        | ItemKind::Program { path, .. }
        | ItemKind::Directory { path, .. }
        | ItemKind::Permissions { path, .. }
        | ItemKind::Absent { path } => Some(path),
        _ => None,
    }
}
