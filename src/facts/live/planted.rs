//! What `planted.sh` and its like answer: each is data of a node, which may say anything.

use super::fields::{Fields, shown, shown_line};
use super::model::{Irregular, Journal, SetId};

/// A text in which `%` and a number stand for a byte.
pub(super) fn without_percent(text: &str) -> String {
    let mut found = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..2).and_then(|n| std::str::from_utf8(n).ok());
        let byte = number.and_then(|n| u8::from_str_radix(n, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                found.push(byte);
                rest = &after[2..];
            }
            None => {
                found.push(*first);
                rest = after;
            }
        }
    }
    shown(&found)
}

/// Lines, and `ok` at the end if all were told.
pub(super) fn lines(raw: &[u8]) -> Option<Vec<String>> {
    let text = shown(raw);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    (lines.pop().as_deref() == Some("ok")).then_some(lines)
}

/// A path and a NUL each.
pub(super) fn paths(raw: &[u8]) -> Vec<String> {
    raw.split(|b| *b == 0).filter(|p| !p.is_empty()).map(shown_line).collect()
}

/// `TYPE PATH`, NUL, and `ok` at the end if all were told; types are those of `find -printf %Y`.
pub(super) fn irregular(raw: &[u8]) -> Option<Vec<Irregular>> {
    let mut parts: Vec<&[u8]> = raw.split(|b| *b == 0).collect();
    (parts.pop() == Some(b"ok\n")).then_some(())?;
    let one = |part: &&[u8]| {
        let line = shown_line(part);
        let (kind, path) = line.split_once(' ')?;
        let kind = match kind {
            "p" => "a FIFO",
            "s" => "a socket",
            "b" | "c" => "a device",
            _ => "no regular file",
        };
        Some(Irregular { kind, path: path.to_owned() })
    };
    parts.iter().map(one).collect()
}

/// A path, and names a line each.
pub(super) fn manager_file(fields: &Fields) -> (String, Vec<String>) {
    (shown_line(&fields[0]), shown(&fields[1]).lines().map(str::to_owned).collect())
}

/// `FILE MODULE` lines.
pub(super) fn modules(raw: &[u8]) -> Vec<(String, String)> {
    let text = shown(raw);
    let pairs = text.lines().filter_map(|l| l.split_once(' '));
    pairs.map(|(file, module)| (file.to_owned(), module.to_owned())).collect()
}

/// Paths that were asked for, and those of them that a package has, under either name of a directory that was merged into /usr.
pub(super) fn unowned(fields: &Fields) -> Option<std::collections::BTreeSet<String>> {
    let owned = lines(&fields[1])?;
    let owned: std::collections::BTreeSet<&str> = owned.iter().map(String::as_str).collect();
    let is_owned = |path: &str| {
        let shorter = path.strip_prefix("/usr").unwrap_or(path);
        owned.contains(path) || owned.contains(shorter) || owned.contains(&*format!("/usr{path}"))
    };
    let asked = shown(&fields[0]);
    Some(asked.lines().filter(|p| !is_owned(p)).map(str::to_owned).collect())
}

/// `dpkg --verify` and `rpm -V`: letters or `missing`, for configuration a `c`, and the path; `ok` at the end.
pub(super) fn verified(raw: &[u8]) -> Option<Vec<(String, String)>> {
    let lines = lines(raw)?;
    let file = |line: &String| {
        let (letters, rest) = line.trim_start().split_once(' ')?;
        let rest = rest.trim_start();
        // Of documentation, configuration and the like, which others may change.
        rest.starts_with('/').then(|| (letters.to_owned(), rest.to_owned()))
    };
    Some(lines.iter().filter_map(file).collect())
}

/// `MODE UID OWNER GROUP PATH`, NUL.
pub(super) fn set_id(raw: &[u8]) -> Option<Vec<SetId>> {
    let one = |part: &[u8]| {
        let line = shown_line(part);
        let mut words = line.splitn(5, ' ');
        let mut next = || words.next().map(str::to_owned);
        let (mode, _, owner, group, path) = (next()?, next()?, next()?, next()?, next()?);
        Some(SetId { mode: u32::from_str_radix(&mode, 8).ok()?, owner, group, path })
    };
    raw.split(|b| *b == 0).filter(|p| !p.is_empty()).map(one).collect()
}

/// A path, and the beginning of an archive with its file capabilities (capabilities(7), linux/capability.h): four bytes of magic,
/// then permitted and inheritable ones, 32 bits at a time.
pub(super) fn capable(fields: &Fields) -> (String, Option<u64>) {
    const KEY: &[u8] = b"SCHILY.xattr.security.capability=";
    let header = &fields[1];
    let held = || {
        let at = header.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
        let word = |n: usize| -> Option<u64> {
            let bytes = header.get(at + 4 * n..at + 4 * n + 4)?;
            Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
        };
        // The first revision has 32 of them, later ones 64.
        let is_long = word(0)? >> 24 >= 2;
        let low = word(1)? | word(2)?;
        Some(if is_long { low | (word(3)? | word(4)?) << 32 } else { low })
    };
    (shown_line(&fields[0]), held())
}

/// The first and the last entry as JSON, something if a file was put aside, and how much systemd writes.
pub(super) fn journal(fields: &Fields) -> Option<Journal> {
    let at = |raw: &[u8]| {
        let entry: serde_json::Value = serde_json::from_slice(raw).ok()?;
        let us: u64 = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        Some(us as f64 / 1e6)
    };
    let manager = shown(&fields[3]);
    let has = |line: &str| manager.lines().any(|l| l == line);
    let target = ["journal", "journal-or-kmsg", "auto", "syslog-or-kmsg"]
        .iter()
        .any(|t| has(&format!("LogTarget={t}")));
    Some(Journal {
        began_s: at(&fields[0])?,
        ended_s: at(&fields[1])?,
        was_rotated: !fields[2].is_empty(),
        has_mounts: target && (has("LogLevel=info") || has("LogLevel=debug")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &[u8]) -> Fields {
        let mut raw = b"57 SCHILY.xattr.security.capability=".to_vec();
        raw.extend_from_slice(value);
        vec![b"/usr/local/bin/kubectl".to_vec(), raw]
    }

    #[test]
    fn a_value_of_several_lines_is_one_value() {
        assert_eq!(without_percent("a%0aAPT::x=1"), "a\nAPT::x=1");
        assert_eq!(without_percent("50%"), "50%");
    }

    #[test]
    fn capabilities_are_those_of_the_header() {
        let setuid = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(capable(&header(&setuid)).1, Some(1 << 7));
        let late = [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(capable(&header(&late)).1, Some(1 << 39));
        assert_eq!(capable(&header(&[1, 0, 0])).1, None);
        assert_eq!(capable(&vec![b"/a".to_vec(), Vec::new()]).1, None);
    }

    #[test]
    fn a_package_files_under_either_name_of_a_directory() {
        let asked = b"/usr/lib/a.so\n/lib/b.so\n/opt/c.so".to_vec();
        let found = unowned(&vec![asked.clone(), b"/lib/a.so\n/usr/lib/b.so\nok\n".to_vec()]);
        assert_eq!(found.unwrap().into_iter().collect::<Vec<_>>(), ["/opt/c.so"]);
        assert_eq!(unowned(&vec![asked, b"/lib/a.so\n".to_vec()]), None);
    }

    #[test]
    fn configuration_of_packages_is_left_out_of_what_was_changed() {
        let said =
            b"??5?????? c /etc/sudoers\n??5??????   /usr/bin/sudo\nmissing     /usr/sbin/nft\nok\n";
        let found = verified(said).unwrap();
        let paths: Vec<&str> = found.iter().map(|f| f.1.as_str()).collect();
        assert_eq!(paths, ["/usr/bin/sudo", "/usr/sbin/nft"]);
        assert_eq!(verified(b"??5??????   /usr/bin/sudo\n"), None);
    }

    #[test]
    fn a_journal_without_entries_is_none() {
        let entry = br#"{"__REALTIME_TIMESTAMP":"1500000"}"#.to_vec();
        let manager = b"LogLevel=info\nLogTarget=journal-or-kmsg\n".to_vec();
        let all = vec![entry.clone(), entry.clone(), b"x".to_vec(), manager.clone()];
        let found = journal(&all).unwrap();
        assert!(found.was_rotated && found.has_mounts);
        assert_eq!(journal(&vec![Vec::new(), Vec::new(), Vec::new(), manager]), None);
        let silent = vec![entry.clone(), entry, Vec::new(), b"LogLevel=err\n".to_vec()];
        assert!(!journal(&silent).unwrap().has_mounts);
    }

    #[test]
    fn what_is_no_regular_file_has_a_word() {
        let found = irregular(b"p /etc/sysctl.d/x.conf\0c /etc/a\nb\0ok\n").unwrap();
        assert_eq!((found[0].kind, found[0].path.as_str()), ("a FIFO", "/etc/sysctl.d/x.conf"));
        assert_eq!(found.len(), 2);
        assert_eq!(irregular(b"p /etc/x\0"), None);
    }
}
