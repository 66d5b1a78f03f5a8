//! The answer of `live.sh`. Input is hostile: a node may send anything.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::fields::{Fields, shown, shown_line};
use super::model::{
    Accounts, FileDigests, HomeKubeconfig, InterfaceSettings, LiveFacts, LiveProcess, LiveSocket,
    LiveUnit, MountChange, PathAccess, PathKind, StateChange,
};
use super::planted;
use crate::digest::Digest;
use crate::facts::answers::Answers;
use crate::facts::parse::{ParseError, value_error};
use crate::plain::plain;

/// What every answer has once.
const ONCE: &[&str] = &["clock", "paths", "trees", "interfaces"];

/// What it means that a record is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::facts) enum Without {
    /// The node did not answer.
    Unanswered,
    /// There is nothing of that kind: `live.sh` writes one for each that is there, and has come to its end.
    Nothing,
}

/// Every record, with how many fields it has.
pub(in crate::facts) const RECORDS: &[(&str, usize, Without)] = {
    use Without::{Nothing, Unanswered};
    &[
        ("clock", 1, Unanswered),
        ("sockets", 1, Unanswered),
        ("process", 8, Nothing),
        // Only where a process is in a mount namespace of its own.
        ("inside", 2, Nothing),
        ("files", 1, Nothing),
        ("unit", 2, Unanswered),
        ("mounts", 1, Unanswered),
        ("journal", 4, Unanswered),
        ("irregular", 1, Unanswered),
        ("manager", 1, Unanswered),
        ("manager-file", 2, Nothing),
        ("modules", 1, Unanswered),
        ("owned", 2, Unanswered),
        ("verified", 1, Unanswered),
        ("setid", 1, Unanswered),
        ("capable", 2, Nothing),
        ("capables", 1, Unanswered),
        ("keys", 1, Unanswered),
        ("paths", 1, Unanswered),
        ("trees", 1, Unanswered),
        ("acls", 1, Unanswered),
        ("interfaces", 1, Unanswered),
        ("shadows", 1, Unanswered),
        ("sysctl", 2, Nothing),
        ("rules", 1, Unanswered),
        ("file-rules", 1, Unanswered),
        ("foreign", 1, Unanswered),
        ("legacy", 1, Nothing),
        ("containers", 1, Unanswered),
        ("apt", 1, Unanswered),
        ("apt-source", 2, Nothing),
        ("held", 1, Nothing),
        ("sources", 1, Unanswered),
        ("accounts", 1, Unanswered),
        ("libraries", 1, Unanswered),
        ("reboot", 1, Nothing),
        ("kubeconfig", 4, Nothing),
        ("kubeconfigs", 1, Unanswered),
    ]
};

/// Digests of the records: of what a program printed, where a record is one field that is there once, and else of
/// all lines of that name as they came.
fn answers(answer: &[u8], records: &BTreeMap<&str, Vec<Fields>>) -> Answers {
    let mut lines: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for line in answer.split_inclusive(|b| *b == b'\n') {
        let name = line.strip_prefix(b"@").and_then(|l| l.split(|b| *b == b' ').next());
        lines.entry(name.unwrap_or_default()).or_default().push(line);
    }
    let mut named = BTreeMap::new();
    for &(name, _, without) in RECORDS {
        let digest = match records.get(name).map(Vec::as_slice) {
            Some([only]) if only.len() == 1 => Digest::of(&only[0]),
            Some(_) => Digest::of_pieces(lines.remove(name.as_bytes()).unwrap_or_default()),
            None if without == Without::Nothing => Digest::of([]),
            None => continue,
        };
        named.insert(name, digest);
    }
    // They count only where the search came to its end.
    if !named.contains_key("kubeconfigs") {
        named.remove("kubeconfig");
    }
    Answers::new(answer, named, BTreeMap::new())
}

/// Parses a whole answer.
///
/// # Errors
/// A [`ParseError`] for the first thing that is not as `live.sh` writes it.
pub fn live(answer: &[u8]) -> Result<LiveFacts, ParseError> {
    let text = std::str::from_utf8(answer).map_err(|_| value_error("answer", "not text"))?;
    let mut lines = text.lines();
    if lines.next_back() != Some("@end") {
        return Err(ParseError::CutOff);
    }
    let mut records: BTreeMap<&str, Vec<Fields>> = BTreeMap::new();
    for line in lines {
        let (name, fields) = record(line)?;
        records.entry(name).or_default().push(fields);
    }
    for &name in ONCE {
        if records.get(name).map(Vec::len) != Some(1) {
            return Err(ParseError::Section(name));
        }
    }
    let one = |name: &str| records.get(name).and_then(|r| r.first()?.first()).map(Vec::as_slice);
    let all = |name: &str| records.get(name).map(Vec::as_slice).unwrap_or_default();
    let clock = Clock::parse(one("clock").unwrap_or_default())?;
    Ok(LiveFacts {
        answers: answers(answer, &records),
        now_s: clock.now_s,
        journal: all("journal").first().and_then(planted::journal),
        irregular: one("irregular").and_then(planted::irregular),
        manager: one("manager").and_then(planted::lines),
        manager_files: all("manager-file").iter().map(planted::manager_file).collect(),
        openssl_modules: one("modules").map(planted::modules),
        unowned: all("owned").first().and_then(planted::unowned),
        changed_files: one("verified").and_then(planted::verified),
        set_id: one("setid").and_then(planted::set_id),
        capable: one("capables").map(|_| all("capable").iter().map(planted::capable).collect()),
        readable_keys: one("keys").map(planted::paths),
        apt_sources: all("apt-source").iter().map(|f| (shown_line(&f[0]), shown(&f[1]))).collect(),
        processes: all("process").iter().map(|f| process(f, &clock)).collect::<Result<_, _>>()?,
        files: one("files").map(digests).transpose()?.unwrap_or_default(),
        inside: all("inside").iter().map(inside).collect::<Result<_, _>>()?,
        sockets: one("sockets").map(sockets).transpose()?,
        units: all("unit").iter().map(|f| unit(f, &clock)).collect::<Result<_, _>>()?,
        paths: paths(one("paths").unwrap_or_default())?,
        trees: paths(one("trees").unwrap_or_default())?,
        acls: one("acls").and_then(acls),
        mounts: one("mounts").and_then(mounts),
        shadows: one("shadows").and_then(shadows),
        interfaces: interfaces(one("interfaces").unwrap_or_default())?,
        sysctl_files: all("sysctl")
            .iter()
            .map(|f| Ok((shown(&f[0]), shown(&f[1]))))
            .collect::<Result<_, _>>()?,
        rules: one("rules").and_then(|r| serde_json::from_slice(r).ok()),
        foreign_rules: one("foreign").and_then(documents),
        legacy_rules: one("legacy").map(|r| shown(r).lines().map(str::to_owned).collect()),
        other_containers: one("containers").and_then(containers),
        accounts: one("accounts").and_then(accounts),
        apt: one("apt").map(|r| settings(&shown(r))),
        held: one("held")
            .map(|r| shown(r).lines().map(str::to_owned).collect())
            .unwrap_or_default(),
        sources: one("sources").and_then(sources),
        kubeconfigs: one("kubeconfigs").map(|_| all("kubeconfig").iter().map(kubeconfig).collect()),
        file_rules: one("file-rules").and_then(|r| serde_json::from_slice(r).ok()),
        shadowed_libraries: one("libraries").and_then(shadowed_libraries),
        reboot_required: one("reboot")
            .map(|r| shown(r).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()),
    })
}

/// `@NAME FIELD...`, with as many fields as that record has.
fn record(line: &str) -> Result<(&str, Fields), ParseError> {
    let mut words = line.split(' ');
    let name = words.next().and_then(|w| w.strip_prefix('@')).unwrap_or_default();
    let Some((_, count, _)) = RECORDS.iter().find(|r| r.0 == name) else {
        return Err(value_error("record", line));
    };
    let fields: Result<Fields, _> = words.map(|w| BASE64_STANDARD.decode(w)).collect();
    match fields {
        Ok(fields) if fields.len() == *count => Ok((name, fields)),
        _ => Err(value_error("record", line)),
    }
}

/// The node's clocks, read next to each other.
struct Clock {
    now_s: f64,
    uptime_s: f64,
    ticks: f64,
}

impl Clock {
    fn parse(raw: &[u8]) -> Result<Self, ParseError> {
        let text = shown(raw);
        let mut lines = text.lines().map(|l| l.split(' ').next()?.parse::<f64>().ok());
        let mut next = || lines.next().flatten().filter(|n| n.is_finite() && *n > 0.0);
        match (next(), next(), next()) {
            (Some(now_s), Some(uptime_s), Some(ticks)) => Ok(Self { now_s, uptime_s, ticks }),
            _ => Err(value_error("clocks", &text)),
        }
    }

    /// A moment that is so long after the boot.
    fn after_boot(&self, seconds: f64) -> f64 {
        self.now_s - self.uptime_s + seconds
    }
}

/// Words that end with a NUL each.
fn words(raw: &[u8]) -> Vec<String> {
    let mut words: Vec<String> = raw.split(|b| *b == 0).map(shown).collect();
    if words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

fn process(fields: &Fields, clock: &Clock) -> Result<LiveProcess, ParseError> {
    let [pid, stat, user, program, place, argv, environment, mapped] = fields.as_slice() else {
        return Err(value_error("process", "fields"));
    };
    let stat = shown(stat);
    let bad = || value_error("process", &stat);
    // proc(5): the name is in brackets, and may hold some itself.
    let (open, close) = (stat.find('(').ok_or_else(bad)?, stat.rfind(')').ok_or_else(bad)?);
    let rest: Vec<&str> = stat[close + 1..].split_whitespace().collect();
    let number = |at: usize| rest.get(at).and_then(|w| w.parse::<u64>().ok()).ok_or_else(bad);
    let variables = words(environment);
    let path = variables.iter().find_map(|v| v.strip_prefix("PATH="));
    Ok(LiveProcess {
        pid: shown(pid).parse().map_err(|_| bad())?,
        parent: u32::try_from(number(1)?).map_err(|_| bad())?,
        began_s: clock.after_boot(number(19)? as f64 / clock.ticks),
        comm: stat[open + 1..close].to_owned(),
        user: shown(user).trim().to_owned(),
        program: shown(program),
        on_node: place == b"node",
        argv: words(argv),
        mapped: shown(mapped).lines().map(str::to_owned).collect(),
        path: path.map(|p| p.split(':').map(str::to_owned).collect()).unwrap_or_default(),
        environment: variables
            .iter()
            .filter_map(|v| v.split('=').next())
            .map(str::to_owned)
            .collect(),
    })
}

/// One JSON document after the other.
fn documents(raw: &[u8]) -> Option<Vec<serde_json::Value>> {
    let all = serde_json::Deserializer::from_slice(raw).into_iter();
    all.collect::<Result<Vec<_>, _>>().ok().filter(|d| !d.is_empty())
}

/// `root NAME` and `open NAME`, and `ok` at the end if both files were read.
fn accounts(raw: &[u8]) -> Option<Accounts> {
    let text = shown(raw);
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.pop() != Some("ok") {
        return None;
    }
    let of = |word: &str| -> Vec<String> {
        let names = lines.iter().filter_map(|l| l.strip_prefix(word)?.strip_prefix(' '));
        names.map(str::to_owned).collect()
    };
    let members = of("members");
    let members = members.iter().flat_map(|m| m.split(',')).map(str::to_owned);
    let mut of_root_group: Vec<String> = of("group").into_iter().chain(members).collect();
    of_root_group.retain(|name| name != "root" && !name.is_empty());
    Some(Accounts { root: of("root"), without_password: of("open"), of_root_group })
}

/// Directories of the distribution's libraries (ldconfig(8), hier(7)).
const LIBRARY_DIRECTORIES: &[&str] =
    &["/lib/", "/lib32/", "/lib64/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/"];

/// `ldconfig -p`: `NAME (KIND) => PATH`, of which the first of a name and kind is the one that programs get.
fn shadowed_libraries(raw: &[u8]) -> Option<Vec<String>> {
    let text = shown(raw);
    let lines = text.lines().filter_map(|l| l.trim().split_once(" => "));
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, path) in lines {
        by_name.entry(name).or_default().push(path);
    }
    let ships = |path: &&str| LIBRARY_DIRECTORIES.iter().any(|d| path.starts_with(d));
    let shadows = by_name.values().filter_map(|paths| {
        let first = paths.first().filter(|p| !ships(p))?;
        paths.iter().any(ships).then(|| (*first).to_owned())
    });
    (!by_name.is_empty()).then(|| shadows.collect())
}

/// `apt-cache policy`: a line that begins with a priority for each source, and `ok` at the end.
fn sources(raw: &[u8]) -> Option<Vec<i64>> {
    let text = shown(raw);
    let lines = text.strip_suffix("ok\n")?.lines().map(str::trim);
    let line = |l: &str| {
        let (priority, what) = l.split_once(' ')?;
        let installed = what.trim().starts_with("/var/lib/dpkg/status");
        priority.parse().ok().filter(|_| !installed)
    };
    Some(lines.filter_map(line).collect())
}

/// A container a line, and `ok` at the end if all were listed.
fn containers(raw: &[u8]) -> Option<Vec<String>> {
    let text = shown(raw);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    (lines.pop().as_deref() == Some("ok")).then_some(lines)
}

/// `ls -ldbn --time-style=+%s`: six fields before the path; `ok` at the end.
fn acls(raw: &[u8]) -> Option<Vec<String>> {
    let text = shown(raw);
    let lines = text.strip_suffix("ok\n")?.lines();
    let path = |line: &str| {
        let mut rest = line;
        for _ in 0..6 {
            rest = rest.trim_start().split_once(' ')?.1;
        }
        Some(rest.trim_start().to_owned())
    };
    lines.map(path).collect()
}

/// Entries of the journal about mount units, as JSON, one a line, and `ok` at the end.
fn mounts(raw: &[u8]) -> Option<Vec<MountChange>> {
    let text = std::str::from_utf8(raw).ok()?;
    let lines = text.strip_suffix("ok\n")?.lines();
    let entry = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let us: u64 = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        let path = mount_point(entry.get("UNIT")?.as_str()?)?;
        Some(MountChange { path: plain(&path), at_s: us as f64 / 1e6 })
    };
    lines.map(entry).collect()
}

/// Where a mount unit mounts (systemd.unit(5), "String escaping for inclusion in unit names"): `etc-ssh.mount` is `/etc/ssh`.
fn mount_point(unit: &str) -> Option<String> {
    let name = unit.strip_suffix(".mount")?.replace('-', "/");
    let mut path = vec![b'/'];
    let mut rest = name.as_str();
    while let Some(at) = rest.find("\\x") {
        path.extend_from_slice(&rest.as_bytes()[..at]);
        path.push(u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?);
        rest = &rest[at + 4..];
    }
    path.extend_from_slice(rest.as_bytes());
    String::from_utf8(path).ok()
}

/// A path and a NUL each, and `ok` at the end if all were told.
fn shadows(raw: &[u8]) -> Option<Vec<String>> {
    let mut parts: Vec<&[u8]> = raw.split(|b| *b == 0).collect();
    (parts.pop() == Some(b"ok\n")).then(|| parts.into_iter().map(shown_line).collect())
}

fn inside(fields: &Fields) -> Result<(u32, FileDigests), ParseError> {
    let pid = shown(&fields[0]);
    let pid = pid.parse().map_err(|_| value_error("process id", &pid))?;
    Ok((pid, digests(&fields[1])?))
}

/// `sha256sum -z` in the root directory: `DIGEST  PATH` and a NUL each.
fn digests(raw: &[u8]) -> Result<FileDigests, ParseError> {
    let digest = |line: &String| {
        let (digest, path) = line.split_once("  ")?;
        let is_hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| (format!("/{path}"), digest.to_owned()))
    };
    let lines = words(raw);
    lines.iter().map(|l| digest(l).ok_or_else(|| value_error("digest", l))).collect()
}

/// `ss -Hlntup`: the last column names those who hold it, as `users:(("sshd",pid=7,fd=3))`.
fn sockets(raw: &[u8]) -> Result<Vec<LiveSocket>, ParseError> {
    let text = shown(raw);
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(4)?.rsplit_once(':')?;
        let address = address.split('%').next()?.trim_matches(['[', ']']);
        let owners =
            line.split("pid=").skip(1).filter_map(|r| r.split([',', ')']).next()?.parse().ok());
        Some(LiveSocket {
            protocol: (*words.first()?).to_owned(),
            address: if address == "*" { "::".to_owned() } else { address.to_owned() },
            port: port.parse().ok()?,
            owners: owners.collect(),
        })
    };
    text.lines().map(|l| socket(l).ok_or_else(|| value_error("listening socket", l))).collect()
}

/// `Key=value` lines. A key that is there twice is none of systemd's.
fn unit(fields: &Fields, clock: &Clock) -> Result<(String, LiveUnit), ParseError> {
    let name = shown(&fields[0]);
    let text = shown(&fields[1]);
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|l| l.split_once('=')) {
        if values.insert(key, value).is_some() {
            return Err(value_error("unit", &name));
        }
    }
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    if value("LoadState").is_empty() {
        return Err(value_error("unit", &name));
    }
    let changed = value("StateChangeTimestampMonotonic").parse::<f64>().ok().filter(|us| *us > 0.0);
    let unit = LiveUnit {
        load: value("LoadState").to_owned(),
        active: value("ActiveState").to_owned(),
        fragment: value("FragmentPath").to_owned(),
        drop_ins: value("DropInPaths").split_whitespace().map(str::to_owned).collect(),
        needs_reload: value("NeedDaemonReload") != "no",
        main_pid: value("MainPID").parse().unwrap_or(0),
        changed_s: changed.map(|us| StateChange((clock.after_boot(us / 1e6) * 1e6) as i64)),
    };
    Ok((name, unit))
}

/// `TYPE MODE UID OWNER CHANGED PATH`, NUL, where a link leads, NUL.
fn paths(raw: &[u8]) -> Result<BTreeMap<String, PathAccess>, ParseError> {
    let parts: Vec<&[u8]> = raw.split(|b| *b == 0).collect();
    let mut found = BTreeMap::new();
    for pair in parts.chunks(2) {
        let [line, target] = pair else { break };
        let line = shown_line(line);
        let mut words = line.splitn(6, ' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        let (kind, mode, uid, owner, changed, path) =
            (next(), next(), next(), next(), next(), next());
        let bad = || value_error("path", &line);
        let access = PathAccess {
            kind: match kind.as_str() {
                "f" => PathKind::File,
                "d" => PathKind::Directory,
                "l" => PathKind::Link,
                _ => PathKind::Other,
            },
            mode: u32::from_str_radix(&mode, 8).map_err(|_| bad())?,
            uid: uid.parse().map_err(|_| bad())?,
            owner,
            changed_s: changed.parse().map_err(|_| bad())?,
            target: shown_line(target),
        };
        if !path.starts_with('/') {
            return Err(bad());
        }
        found.insert(path, access);
    }
    Ok(found)
}

/// `/proc/sys/net/FAMILY/conf/INTERFACE/KEY:VALUE`.
fn interfaces(raw: &[u8]) -> Result<InterfaceSettings, ParseError> {
    let mut found = InterfaceSettings::new();
    for line in shown(raw).lines() {
        let setting = || {
            let (path, value) = line.strip_prefix("/proc/sys/net/")?.split_once(':')?;
            let mut parts = path.split('/');
            let (family, _, name) = (parts.next()?, parts.next()?, parts.next()?);
            Some((family.to_owned(), parts.next()?.to_owned(), name.to_owned(), value.to_owned()))
        };
        let (family, key, name, value) = setting().ok_or_else(|| value_error("interface", line))?;
        found.entry((family, key)).or_default().insert(name, value);
    }
    Ok(found)
}

/// `NAME=value` lines, where a byte of a value may be written as `%` and its number.
fn settings(text: &str) -> Vec<(String, String)> {
    let pair = |(name, value): (&str, &str)| {
        (name.trim_end_matches("::").to_owned(), planted::without_percent(value))
    };
    text.lines().filter_map(|l| l.split_once('=')).map(pair).collect()
}

fn kubeconfig(fields: &Fields) -> HomeKubeconfig {
    let embedded = shown(&fields[1]);
    // What cannot be decoded is a certificate that cannot be read.
    let embedded = embedded.lines().map(|l| {
        let raw = BASE64_STANDARD.decode(l.trim()).unwrap_or_default();
        String::from_utf8(raw).unwrap_or_default()
    });
    let mut certificates: Vec<String> = embedded.collect();
    // Each is somebody's: a file may name several.
    const END: &str = "-----END CERTIFICATE-----";
    let named = shown(&fields[2]);
    let blocks = named.split_inclusive(END).filter(|block| block.contains("-----BEGIN"));
    certificates.extend(blocks.map(str::to_owned));
    let mode = u32::from_str_radix(shown(&fields[3]).trim(), 8).ok();
    HomeKubeconfig { path: shown_line(&fields[0]), certificates, mode }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::facts::answers::Part;

    fn encoded(records: &[(&str, &[&[u8]])]) -> Vec<u8> {
        let mut text = String::new();
        for (name, fields) in records {
            text.push('@');
            text.push_str(name);
            for field in *fields {
                text.push(' ');
                text.push_str(&BASE64_STANDARD.encode(field));
            }
            text.push('\n');
        }
        text.push_str("@end\n");
        text.into_bytes()
    }

    const CLOCK: &[u8] = b"1000000.5\n500.25 900.0\n100\n";

    fn with(more: &[(&str, &[&[u8]])]) -> Result<LiveFacts, ParseError> {
        let mut records: Vec<(&str, &[&[u8]])> =
            vec![("clock", &[CLOCK]), ("paths", &[b""]), ("trees", &[b""]), ("interfaces", &[b""])];
        records.extend(more);
        live(&encoded(&records))
    }

    #[test]
    fn a_process_is_taken_apart_whatever_it_is_called() {
        let stat = format!(
            "7 (a) b (c) S 1 {} 0",
            (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(" ") + " 20000"
        );
        let found = with(&[(
            "process",
            &[
                b"7",
                stat.as_bytes(),
                b"etcd",
                b"/usr/bin/etcd (deleted)",
                b"node",
                b"etcd\0--a=b\n@end\0",
                b"ETCD_X\0PATH\0",
                b"/usr/bin/etcd\n",
            ],
        )])
        .unwrap();
        let p = &found.processes[0];
        assert_eq!((p.pid, p.parent, p.comm.as_str()), (7, 1, "a) b (c"));
        assert_eq!(p.argv.len(), 2);
        assert!(p.on_node && p.environment.contains("ETCD_X"));
        assert!((p.began_s - (1_000_000.5 - 500.25 + 200.0)).abs() < 0.01, "{}", p.began_s);
    }

    #[test]
    fn each_record_has_the_digest_of_what_was_said() {
        let process: &[&[u8]] = &[
            b"7",
            b"7 (a) S 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 20000",
            b"r",
            b"/a",
            b"node",
            b"a",
            b"",
            b"",
        ];
        let found = with(&[
            ("apt", &[b"APT::Periodic::Enable=1\n"]),
            ("rules", &[b"{}"]),
            ("process", process),
        ])
        .unwrap()
        .answers;
        // A program's output is told as it was.
        assert_eq!(found.of(Part::Apt), Some(Digest::of("APT::Periodic::Enable=1\n")));
        assert_eq!(found.of(Part::Rules), Some(Digest::of("{}")));
        let lines = encoded(&[("process", process)]);
        let lines = lines.strip_suffix(b"@end\n").unwrap();
        assert_eq!(found.of(Part::LiveProcesses), Some(Digest::of(lines)));
        // What is told only where there is something was answered all the same.
        for nothing in [Part::Reboot, Part::LegacyRules, Part::SysctlFiles, Part::Held] {
            assert_eq!(found.of(nothing), Some(Digest::of("")), "{nothing:?}");
        }
        for unanswered in [Part::Accounts, Part::LiveSockets, Part::LiveUnits, Part::Kubeconfigs] {
            assert_eq!(found.of(unanswered), None, "{unanswered:?}");
        }
        let searched = with(&[("kubeconfigs", &[b"ok"])]).unwrap().answers;
        assert_eq!(searched.of(Part::Kubeconfigs), Some(Digest::of("")));
    }

    #[test]
    fn a_path_with_a_line_break_is_one_path() {
        let raw = b"f 644 0 root 12.5 /a\nf 777 0 root 1 /b\0\0l 777 0 root 1 /l\0/x\n@end\0";
        let found = with(&[])
            .and_then(|_| {
                live(&encoded(&[
                    ("clock", &[CLOCK]),
                    ("paths", &[raw]),
                    ("trees", &[b""]),
                    ("interfaces", &[b""]),
                ]))
            })
            .unwrap();
        assert_eq!(found.paths.len(), 2, "{:?}", found.paths);
        assert!(!found.paths.contains_key("/b"));
    }

    #[test]
    fn a_mount_has_the_place_that_its_unit_is_named_for() {
        let line = br#"{"UNIT":"etc-ssh-sshd_config.d-50\\x2dcloud.conf.mount","__REALTIME_TIMESTAMP":"1500000"}
ok
"#;
        let found = with(&[("mounts", &[line])]).unwrap().mounts.unwrap();
        assert_eq!(found[0].path, "/etc/ssh/sshd_config.d/50-cloud.conf");
        assert!((found[0].at_s - 1.5).abs() < 1e-9);
        assert_eq!(with(&[("mounts", &[b"ok\n"])]).unwrap().mounts, Some(Vec::new()));
        for broken in [&b""[..], b"{}\nok\n", b"x\nok\n"] {
            assert_eq!(with(&[("mounts", &[broken])]).unwrap().mounts, None);
        }
        assert_eq!(mount_point("a\\x2.mount"), None);
    }

    #[test]
    fn paths_with_an_acl_are_those_behind_six_fields() {
        let raw = b"-rw-r-----+ 1 0 103   241 1796000000 /etc/etcd/pki/server.key\n\
            drwxr-x---+ 2 0 103 4096 1796000000 /etc/etcd/p\\ ki\nok\n";
        let found = with(&[("acls", &[raw])]).unwrap().acls.unwrap();
        assert_eq!(found, ["/etc/etcd/pki/server.key", "/etc/etcd/p\\ ki"]);
        assert_eq!(with(&[("acls", &[b"ok\n"])]).unwrap().acls, Some(Vec::new()));
        assert_eq!(with(&[("acls", &[b"x\nok\n"])]).unwrap().acls, None);
    }

    #[test]
    fn libraries_count_that_stand_before_the_distributions() {
        let raw = b"3 libs found in cache `/etc/ld.so.cache'\n\
            \tlibcrypto.so.3 (libc6,x86-64) => /opt/evil/libcrypto.so.3\n\
            \tlibcrypto.so.3 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcrypto.so.3\n\
            \tlibcuda.so.1 (libc6,x86-64) => /opt/cuda/libcuda.so.1\n\
            \tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1\n\
            \tlibz.so.1 (libc6,x86-64) => /opt/own/libz.so.1\n";
        let found = with(&[("libraries", &[raw])]).unwrap().shadowed_libraries;
        assert_eq!(found, Some(vec!["/opt/evil/libcrypto.so.3".to_owned()]));
        assert_eq!(with(&[("libraries", &[b""])]).unwrap().shadowed_libraries, None);
    }

    #[test]
    fn a_source_has_a_priority_and_what_is_installed_is_none() {
        let raw = b"Package files:\n 100 /var/lib/dpkg/status\n     release a=now\n \
            500 http://mirror.example/debian stable/main amd64 Packages\n  -1 http://x y\nPinned packages:\nok\n";
        assert_eq!(with(&[("sources", &[raw])]).unwrap().sources, Some(vec![500, -1]));
        assert_eq!(with(&[("sources", &[b"x"])]).unwrap().sources, None);
    }

    #[test]
    fn programs_that_shadow_others_are_told_whole_or_not_at_all() {
        let of = |raw: &[u8]| with(&[("shadows", &[raw])]).unwrap().shadows;
        assert_eq!(of(b"ok\n"), Some(Vec::new()));
        assert_eq!(of(b"/usr/local/bin/tar\0ok\n"), Some(vec!["/usr/local/bin/tar".to_owned()]));
        assert_eq!(of(b"/usr/local/bin/tar\0"), None);
        assert_eq!(with(&[]).unwrap().shadows, None);
    }

    #[test]
    fn a_kubeconfig_has_all_certificates_that_it_names() {
        let two = b"-----BEGIN CERTIFICATE-----\na\n-----END CERTIFICATE-----\n\
            -----BEGIN CERTIFICATE-----\nb\n-----END CERTIFICATE-----\n";
        let done: (&str, &[&[u8]]) = ("kubeconfigs", &[b"ok"]);
        let found = with(&[done, ("kubeconfig", &[b"/root/k", b"YQ==\n", two, b"640\n"])]).unwrap();
        let found = &found.kubeconfigs.unwrap()[0];
        assert_eq!(found.certificates.len(), 3, "{found:?}");
        assert_eq!(found.mode, Some(0o640));
    }

    #[test]
    fn what_no_program_of_ours_writes_is_refused() {
        assert_eq!(live(b"@clock x\n"), Err(ParseError::CutOff));
        assert!(live(b"@end\n").is_err(), "nothing at all");
        assert!(with(&[("other", &[b"x"])]).is_err());
        assert!(with(&[("unit", &[b"x"])]).is_err(), "a field too few");
        assert!(with(&[("clock", &[CLOCK])]).is_err(), "twice");
        assert!(with(&[("unit", &[b"a", b"LoadState=loaded\nMainPID=1\nMainPID=2\n"])]).is_err());
        assert!(with(&[("unit", &[b"a", b""])]).is_err(), "systemd said nothing");
    }

    #[test]
    fn sockets_name_their_owners() {
        let raw = b"tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=9,fd=3),(\"sshd\",pid=8,fd=3))\n\
            udp UNCONN 0 0 [::1]:323 [::]:*\n";
        let found = with(&[("sockets", &[raw])]).unwrap().sockets.unwrap();
        assert_eq!(found[0].owners, BTreeSet::from([8, 9]));
        assert_eq!((found[1].address.as_str(), found[1].port), ("::1", 323));
    }

    #[test]
    fn settings_of_interfaces_and_of_apt() {
        let raw = b"/proc/sys/net/ipv4/conf/all/send_redirects:0\n/proc/sys/net/ipv4/conf/eth0.7/send_redirects:1\n";
        let records: [(&str, &[&[u8]]); 5] = [
            ("clock", &[CLOCK]),
            ("paths", &[b""]),
            ("trees", &[b""]),
            ("interfaces", &[raw]),
            ("apt", &[b"APT::Periodic::Enable=1\nUnattended-Upgrade::Package-Blacklist::=.*\n"]),
        ];
        let found = live(&encoded(&records)).unwrap();
        assert_eq!(found.interfaces[&("ipv4".into(), "send_redirects".into())]["eth0.7"], "1");
        let apt = found.apt.unwrap();
        assert_eq!(apt[1], ("Unattended-Upgrade::Package-Blacklist".to_owned(), ".*".to_owned()));
    }
}
