//! The parts of an answer that only some verbs ask for: texts, directory trees, security modules,
//! clock and audit rules. Input is hostile here too: file names and texts are the node's.

use std::collections::BTreeMap;

use super::model::{EntryKind, FileFacts, LsmFacts, TimeFacts, TreeEntry, TreeFacts, WatchList};

/// Lines at which `collect.sh` stops reading a file.
const MAX_LINES: usize = 5000;

/// `path:line` for each line of each file. A file that is there and gave nothing was not readable,
/// unless it is empty.
pub(super) fn texts(
    watch: &WatchList,
    files: &BTreeMap<String, FileFacts>,
    lines: &[&str],
) -> BTreeMap<String, Option<String>> {
    let mut found: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for (path, line) in lines.iter().filter_map(|l| l.split_once(':')) {
        let (text, count) = found.entry(path).or_default();
        text.push_str(line);
        text.push('\n');
        *count += 1;
    }
    watch
        .texts
        .union(&watch.shown)
        .filter_map(|path| {
            let Some(FileFacts::File { size, .. }) = files.get(path) else { return None };
            let text = match found.remove(path.as_str()) {
                Some((_, count)) if count >= MAX_LINES => None,
                Some((text, _)) => Some(text),
                None if *size == 0 => Some(String::new()),
                None => None,
            };
            Some((path.clone(), text))
        })
        .collect()
}

/// `=TYPE MODE OWNER GROUP SIZE PATH`, as find(1) prints them, and at the end `=status 0` if the listing is whole.
pub(super) fn trees(watch: &WatchList, lines: &[&str]) -> BTreeMap<String, TreeFacts> {
    let whole = lines.last() == Some(&"=status 0");
    let body = if whole { &lines[..lines.len() - 1] } else { lines };
    let mut trees: BTreeMap<String, TreeFacts> = BTreeMap::new();
    // A line that makes no sense may belong to any tree.
    let mut sense = whole;
    for line in body {
        let Some((path, entry)) = entry(line) else {
            sense = false;
            continue;
        };
        let mut inside = false;
        for dir in &watch.trees {
            if path.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/')) {
                let tree = trees.entry(dir.clone()).or_default();
                // Two names may differ in what a terminal must not be sent.
                sense &= tree.entries.insert(path.to_owned(), entry.clone()).is_none();
                inside = true;
            }
        }
        sense &= inside;
    }
    for (dir, tree) in &mut trees {
        tree.complete = sense && tree.entries.contains_key(dir);
    }
    if !sense {
        // A directory of which nothing was said may be there all the same.
        for dir in &watch.trees {
            trees.entry(dir.clone()).or_default();
        }
    }
    trees
}

fn entry(line: &str) -> Option<(&str, TreeEntry)> {
    let mut f = line.strip_prefix('=')?.splitn(6, ' ');
    let (kind, mode, owner, group) = (f.next()?, f.next()?, f.next()?, f.next()?);
    let (_, path) = (f.next()?, f.next()?);
    let kind = match kind {
        "f" => EntryKind::File,
        "d" => EntryKind::Directory,
        "l" => EntryKind::Symlink,
        "b" | "c" | "p" | "s" | "D" => EntryKind::Other,
        _ => return None,
    };
    let mode = u32::from_str_radix(mode, 8).ok().filter(|m| *m <= 0o7777)?;
    let entry = TreeEntry { kind, mode, owner: owner.to_owned(), group: group.to_owned() };
    path.starts_with('/').then_some((path, entry))
}

/// `path:value` lines of files in /sys.
pub(super) fn lsm(lines: &[&str]) -> LsmFacts {
    let value = |path: &str| lines.iter().find_map(|l| l.strip_prefix(path)?.strip_prefix(':'));
    let active = value("/sys/kernel/security/lsm").unwrap_or_default();
    LsmFacts {
        active: active.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
        apparmor: value("/sys/module/apparmor/parameters/enabled").map(|v| v == "Y"),
        selinux_enforcing: value("/sys/fs/selinux/enforce").map(|v| v == "1"),
    }
}

/// `NTPSynchronized=yes` and chrony's CSV line, whose last field is the leap status.
pub(super) fn time(lines: &[&str]) -> TimeFacts {
    let value = |key: &str| lines.iter().find_map(|l| l.strip_prefix(key));
    TimeFacts {
        synchronized: value("NTPSynchronized=").map(|v| v == "yes"),
        chrony: value("chrony=")
            .and_then(|v| v.rsplit(',').next())
            .filter(|v| !v.is_empty())
            .map(str::to_owned),
    }
}

/// Lines of `auditctl -l`, closed by `ok`.
pub(super) fn audit_rules(lines: &[&str]) -> Option<Vec<String>> {
    let mut rules: Vec<&str> = lines.iter().filter_map(|l| l.strip_prefix("audit=")).collect();
    (rules.pop() == Some("ok"))
        .then(|| rules.into_iter().filter(|r| r.starts_with('-')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> WatchList {
        let mut w = WatchList::default();
        w.trees.extend(["/a".to_owned(), "/b".to_owned()]);
        w
    }

    #[test]
    fn a_file_name_with_a_line_break_hides_nothing() {
        // A file called "x\n@stat" and one called "y\n=status 0".
        let lines = ["=d 700 root root 9 /a", "=f 644 eve eve 1 /a/x", "=@stat", "=status 0"];
        let t = trees(&watch(), &lines);
        assert!(!t["/a"].complete && t["/a"].entries["/a/x"].owner == "eve");
        let cut = ["=d 700 root root 9 /a", "=f 644 eve eve 1 /a/y", "=status 0", "=status 1"];
        assert!(!trees(&watch(), &cut)["/a"].complete);
    }

    #[test]
    fn a_tree_is_complete_only_with_its_end_mark() {
        let lines = ["=d 700 root root 9 /a", "=f 600 root root 1 /a/k", "=status 0"];
        let t = trees(&watch(), &lines);
        assert!(t["/a"].complete && t["/a"].entries.len() == 2);
        assert!(!t.contains_key("/b"), "a directory that is not there has no entry");
        let cut = trees(&watch(), &lines[..2]);
        assert!(!cut["/a"].complete && !cut["/b"].complete);
    }

    #[test]
    fn a_text_that_gave_nothing_is_unread_and_not_empty() {
        let mut w = WatchList::default();
        w.texts.extend(["/e", "/f", "/g", "/gone"].map(str::to_owned));
        let file = |size| FileFacts::File {
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size,
            sha256: String::new(),
        };
        let files =
            [("/e", file(0)), ("/f", file(3)), ("/g", file(9)), ("/gone", FileFacts::Absent)];
        let files = files.into_iter().map(|(p, f)| (p.to_owned(), f)).collect();
        let t = texts(&w, &files, &["/f:a: b", "/f:c"]);
        assert_eq!(t["/f"].as_deref(), Some("a: b\nc\n"));
        assert_eq!(t["/e"].as_deref(), Some(""));
        assert_eq!(t["/g"], None);
        assert!(!t.contains_key("/gone"));
    }

    #[test]
    fn extras_say_unknown_when_nothing_came() {
        assert_eq!(time(&[]), TimeFacts::default());
        assert_eq!(lsm(&[]), LsmFacts::default());
        assert_eq!(audit_rules(&["audit=-w /etc -p wa"]), None);
        assert_eq!(audit_rules(&["audit=-w /etc -p wa", "audit=ok"]).unwrap(), ["-w /etc -p wa"]);
        let t = time(&["NTPSynchronized=no", "chrony=A,1.2.3.4,2,0.1,Not synchronised"]);
        assert_eq!(t.synchronized, Some(false));
        assert_eq!(t.chrony.as_deref(), Some("Not synchronised"));
    }
}
