//! What changes inside files, for people: a unified diff of texts, and for secrets only that they
//! change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use similar::TextDiff;

use super::model::NodePlan;
use super::step::Step;
use crate::desired::{Content, ItemKind, NodeDesired};

/// Lines of a file that is new or wholly different, shown at most.
const MAX_LINES: usize = 120;

/// The paths whose present text [`render`] wants: files that are replaced by text that may be shown.
pub fn replaced(plan: &NodePlan, desired: &NodeDesired) -> BTreeSet<String> {
    let contents = contents(desired);
    let mut paths = BTreeSet::new();
    for action in plan.transactions.iter().flat_map(|t| &t.steps) {
        let Step::Files { directory, files } = &action.step else { continue };
        let replaced = files.iter().filter(|(_, f)| f.replaces && !f.secret);
        let path = |name| format!("{}/{name}", directory.trim_end_matches('/'));
        paths.extend(
            replaced
                .map(|(name, _)| path(name))
                .filter(|path| matches!(contents.get(path.as_str()), Some(Content::Text(_)))),
        );
    }
    paths
}

fn contents(desired: &NodeDesired) -> BTreeMap<&str, &Content> {
    let files = desired.items.iter().filter_map(|i| match &i.kind {
        ItemKind::File { path, content, .. } => Some((path.as_str(), content)),
        _ => None,
    });
    files.collect()
}

/// The changes of one node. `old` holds the present texts by path; a path that is missing there, or
/// `None`, could not be read as text.
pub fn render(
    plan: &NodePlan,
    desired: &NodeDesired,
    old: &BTreeMap<String, Option<String>>,
) -> String {
    let contents = contents(desired);
    let mut out = String::new();
    for action in plan.transactions.iter().flat_map(|t| &t.steps) {
        let Step::Files { directory, files } = &action.step else { continue };
        for (name, file) in files {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            let was = if file.replaces { "replaced" } else { "new" };
            match contents.get(path.as_str()) {
                Some(Content::Text(new)) => {
                    let before = if file.replaces {
                        match old.get(&path) {
                            Some(Some(text)) => text.as_str(),
                            _ => {
                                let _ = writeln!(
                                    out,
                                    "--- {path}: the present content is not shown: it is not text, or others cannot read it and kubastion did not write it"
                                );
                                ""
                            }
                        }
                    } else {
                        ""
                    };
                    out.push_str(&unified(&path, before, new));
                }
                Some(Content::Bytes(_)) if !file.secret => {
                    let _ = writeln!(
                        out,
                        "--- {path}\n+++ {path}\n@@ not text, {was}: {} bytes @@",
                        file.size
                    );
                }
                // Also where the plan and the state disagree: what cannot be told apart is a secret.
                _ => {
                    let _ = writeln!(
                        out,
                        "--- {path}\n+++ {path}\n@@ secret, {was}: {} bytes @@",
                        file.size
                    );
                }
            }
        }
    }
    out
}

fn unified(path: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(path, path).to_string();
    let total = text.lines().count();
    if total <= MAX_LINES {
        return text;
    }
    let mut cut: String = text.lines().take(MAX_LINES).flat_map(|l| [l, "\n"]).collect();
    let _ = writeln!(cut, "... {} more lines", total - MAX_LINES);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Access, FileCheck, Item, Phase};
    use crate::plan::{Action, NewFile, Transaction};
    use crate::secret::Secret;

    #[test]
    fn texts_are_compared_and_secrets_are_not_shown() {
        let text = Content::Text("a\nB\nc\n".into());
        let secret = Content::Secret(Secret::new(b"poison-marker".to_vec()));
        let file = |content: &Content| NewFile {
            sha256: content.sha256(),
            size: content.bytes().len() as u64,
            access: Access::root(0o600),
            secret: matches!(content, Content::Secret(_)),
            replaces: true,
        };
        let program = Content::Bytes(b"\x7fELF".as_slice().into());
        let files = [("t", file(&text)), ("s", file(&secret)), ("p", file(&program))]
            .map(|(n, f)| (n.to_owned(), f));
        let plan = NodePlan {
            transactions: vec![Transaction {
                phase: Phase::Host,
                confirm_within_s: None,
                steps: vec![Action {
                    step: Step::Files { directory: "/etc/x".into(), files: files.into() },
                    controls: Default::default(),
                    why: Vec::new(),
                }],
                expect: BTreeMap::new(),
            }],
            ..NodePlan::default()
        };
        let item = |path: &str, content: Content| Item {
            phase: Phase::Host,
            controls: vec![],
            kind: ItemKind::File {
                path: path.into(),
                content,
                access: Access::root(0o600),
                check: FileCheck::None,
            },
        };
        let desired = NodeDesired {
            items: vec![
                item("/etc/x/t", text),
                item("/etc/x/s", secret),
                item("/etc/x/p", program),
            ],
            notes: vec![],
        };
        assert_eq!(replaced(&plan, &desired), ["/etc/x/t".to_owned()].into());
        let old = [("/etc/x/t".to_owned(), Some("a\nb\nc\n".to_owned()))].into();
        let out = render(&plan, &desired, &old);
        assert!(out.contains("-b\n+B\n"), "{out}");
        assert!(out.contains("secret, replaced: 13 bytes") && !out.contains("poison"), "{out}");
        assert!(out.contains("@@ not text, replaced: 4 bytes @@") && !out.contains("ELF"), "{out}");
    }
}
