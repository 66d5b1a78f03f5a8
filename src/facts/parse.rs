//! The answer of `collect.sh` as typed facts. Input is hostile: a node may send anything.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::Answers;
use super::extras;
use super::model::{
    Disk, Extra, FileFacts, InputKept, InterfaceAddress, Listener, Login, LostLogin, NftFacts,
    NftRecord, NodeFacts, OpenTransaction, Os, ProcessFacts, SshdMatch, UnitFacts, UserFacts,
    WatchList,
};
use super::observation;
use crate::digest::Digest;
use crate::inventory::NodeName;

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The end mark is missing: the answer was cut off.
    #[error("the answer was cut off")]
    CutOff,
    /// A section is missing or twice there.
    #[error("section {0} is missing or duplicated")]
    Section(&'static str),
    /// A section that nobody asked for, or text before the first one.
    #[error("unexpected section in the answer: {0:?}")]
    Unasked(String),
    /// A value that every node has is missing or malformed.
    #[error("{what} is missing or malformed: {found:?}")]
    Value {
        /// Which value.
        what: &'static str,
        /// What was found, shortened.
        found: String,
    },
    /// A watched path was not answered for.
    #[error("the answer does not cover {path}{detail}")]
    Path {
        /// The path.
        path: String,
        /// What was said instead, if anything.
        detail: String,
    },
}

pub(super) fn value_error(what: &'static str, found: impl AsRef<str>) -> ParseError {
    ParseError::Value { what, found: found.as_ref().chars().take(80).collect() }
}

type Sections<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// What every answer has, in the order of `collect.sh`: only a section that is asked for here can be missing.
pub(super) const SECTIONS: &[&str] = &[
    "node",
    "disks",
    "commands",
    "versions",
    "swaps",
    "modules",
    "read",
    "packages",
    "units",
    "listeners",
    "addresses",
    "sshd",
    "matches",
    "logins",
    "nft",
    "marks",
    "transactions",
    "processes",
    "images",
    "extras",
    "trees",
    "texts",
    "stat",
    "end",
];

/// Sections that are there if any path is asked about; without one, the path has no answer.
const OF_FILES: &[&str] = &["links", "sha256"];

/// Sections in which a node that can tell always tells something: an empty one is no answer.
const SAYS_SOMETHING: &[&str] =
    &["node", "read", "packages", "units", "listeners", "sshd", "matches", "nft"];

/// The lines of a section.
fn section<'s, 'a>(sections: &'s Sections<'a>, name: &str) -> &'s [&'a str] {
    debug_assert!(SECTIONS.contains(&name) || OF_FILES.contains(&name), "{name} is not asked for");
    sections.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// Lines of `PATH ID BLOCKS SIZE`, as stat(1) prints them.
fn disks(lines: &[&str]) -> Result<BTreeMap<String, Disk>, ParseError> {
    let disk = |line: &&str| {
        let mut words = line.rsplitn(4, ' ');
        let (size, blocks) = (words.next()?.parse::<u64>().ok()?, words.next()?.parse().ok()?);
        let id = words.next()?.to_owned();
        Some((words.next()?.to_owned(), Disk { id, free_bytes: size.saturating_mul(blocks) }))
    };
    lines.iter().map(|l| disk(l).ok_or_else(|| value_error("disks", l))).collect()
}

/// Parses a whole answer, whose sections begin with `word`. The node learns the word when it is asked: what is in its
/// files and names cannot begin a section.
///
/// # Errors
/// A [`ParseError`] for the first thing that is not as `collect.sh` writes it.
pub fn facts(
    node: &NodeName,
    watch: &WatchList,
    word: &str,
    answer: &[u8],
) -> Result<NodeFacts, ParseError> {
    // Whatever a node says may end up on a terminal: nothing in it may steer one.
    let text = crate::plain::plain(&String::from_utf8_lossy(answer));
    let sections = split(&text, word)?;
    let lines = |name| section(&sections, name);
    let about: BTreeMap<&str, &str> =
        lines("node").iter().filter_map(|l| l.split_once('=')).collect();
    let about = |key: &'static str| about.get(key).copied();
    let needed = |key: &'static str| {
        about(key).filter(|v| !v.is_empty()).ok_or_else(|| value_error(key, ""))
    };
    let read = |path| read(lines("read"), path);
    let mut sysctls = sysctls(lines("read"));
    let mut kernel = |key: &'static str| sysctls.remove(key).ok_or_else(|| value_error(key, ""));
    let hostname = kernel("kernel.hostname")?;
    let advertised = advertised(lines("addresses"));
    let release = kernel("kernel.osrelease")?;
    let boot_id = kernel("kernel.random.boot_id")?;
    let arch = kernel("kernel.arch").or_else(|_| needed("arch").map(str::to_owned))?;
    let container = about("container").map(str::to_owned);
    let number = |what, text: &str| text.trim().parse::<u64>().map_err(|_| value_error(what, text));

    for (interface, value) in &advertised {
        sysctls.insert(accept_ra(interface), value.to_string());
    }

    let files = files(watch, &sections)?;
    let disks = disks(lines("disks"))?;
    let extra = |extra: Extra| watch.extras.contains(&extra).then(|| lines("extras"));

    Ok(NodeFacts {
        node: node.clone(),
        answers: answers(word, answer),
        texts: extras::texts(watch, &files, lines("texts")),
        trees: extras::trees(watch, lines("trees")),
        observation: extra(Extra::Observation).map(observation::parse),
        lsm: extra(Extra::Lsm).map(extras::lsm),
        time: extra(Extra::Time).map(extras::time),
        audit_rules: extra(Extra::Audit).and_then(extras::audit_rules),
        encryption_keys_sha256: extra(Extra::EncryptionKeys).and_then(|lines| {
            lines.iter().find_map(|l| l.strip_prefix("encryption=")).map(str::to_owned)
        }),
        encryption_in_effect: extra(Extra::EncryptionKeys).and_then(|lines| {
            let said = lines.iter().filter_map(|l| l.strip_prefix("encryption_in_effect="));
            said.map(|v| v == "yes").reduce(|all, one| all && one)
        }),
        hostname,
        os: os(&match read("/etc/os-release") {
            lines if lines.is_empty() => read("/usr/lib/os-release"),
            lines => lines,
        })?,
        arch,
        kernel: release,
        boot_id,
        clock_epoch_s: i64::try_from(number("clock", needed("clock")?)?)
            .map_err(|_| value_error("clock", ""))?,
        systemd: needed("init")? == "systemd",
        cgroup_version: if needed("cgroup")? == "2" { 2 } else { 1 },
        audit_usable: match needed("audit")? {
            "yes" => true,
            "no" => false,
            // Without auditctl nothing can be asked; a container shares its host's one subsystem.
            _ => container.is_none(),
        },
        audit_enabled: about("audit_enabled").and_then(|v| v.parse().ok()),
        container,
        input_kept: match about("input_kept") {
            None | Some("no") => InputKept::No,
            Some("yes") => InputKept::Yes,
            Some(_) => InputKept::Unknown,
        },
        var_free_bytes: disks
            .get("/var/lib")
            .ok_or_else(|| value_error("room below /var/lib", ""))?
            .free_bytes,
        disks,
        memory_bytes: number("memory_kib", needed("memory_kib")?)?.saturating_mul(1024),
        cpus: cpus(&read("/proc/self/status"), &read("/sys/devices/system/cpu/online"))?,
        commands: lines("commands").iter().map(|l| (*l).to_owned()).collect(),
        versions: pairs(lines("versions")),
        packages: packages(lines("packages"))?,
        units: units(watch, lines("units"))?,
        modules: modules(watch, lines("modules"), &read("/proc/filesystems")),
        sysctls,
        swaps: lines("swaps").iter().map(|l| (*l).to_owned()).collect(),
        files,
        users: users(watch, &read("/etc/passwd")),
        listeners: listeners(lines("listeners"))?,
        addresses: addresses(lines("addresses")),
        advertised,
        sshd: sshd(lines("sshd")),
        sshd_matches: watch
            .extras
            .contains(&Extra::SshdMatches)
            .then(|| sshd_matches(lines("matches")))
            .flatten(),
        logins: logins(lines("logins")),
        nft: nft(lines("nft")),
        unit_marks: pairs(lines("marks")),
        processes: processes(lines("processes")),
        images: watch
            .images
            .iter()
            .filter(|i| lines("images").contains(&i.as_str()))
            .cloned()
            .collect(),
        open_transactions: pairs(lines("transactions"))
            .into_iter()
            .map(|(id, state)| OpenTransaction { id, state })
            .collect(),
    })
}

/// Digests of the sections as they came, and of what each file below /proc/sys held.
fn answers(word: &str, answer: &[u8]) -> Answers {
    let mark = format!("@{word} ");
    let mut named = BTreeMap::new();
    let mut settings = BTreeMap::new();
    // The section that is being read, and where it begins.
    let mut current: Option<(&'static str, usize)> = None;
    let mut at = 0;
    for line in answer.split_inclusive(|b| *b == b'\n') {
        if let Some(name) = line.strip_prefix(mark.as_bytes()) {
            if let Some((name, from)) = current
                && (from < at || !SAYS_SOMETHING.contains(&name))
            {
                named.insert(name, Digest::of(&answer[from..at]));
            }
            let name = name.strip_suffix(b"\n").unwrap_or(name);
            let known = SECTIONS.iter().chain(OF_FILES).copied().find(|s| s.as_bytes() == name);
            current = known.map(|name| (name, at + line.len()));
        } else if matches!(current, Some(("read", _)))
            && let Some(rest) = line.strip_prefix(b"/proc/sys/")
            && let Some(colon) = rest.iter().position(|b| *b == b':')
        {
            let key = String::from_utf8_lossy(&rest[..colon]).replace('/', ".");
            // A value is one line, here and where it is parsed. A pattern for the interface may name a file again.
            settings.insert(key, Digest::of(&rest[colon + 1..]));
        }
        at += line.len();
    }
    Answers::new(answer, named, settings)
}

fn split<'a>(text: &'a str, word: &str) -> Result<Sections<'a>, ParseError> {
    let mut sections: Sections<'_> = BTreeMap::new();
    let mut current: Option<&str> = None;
    let name_of = |line: &'a str| line.strip_prefix('@')?.strip_prefix(word)?.strip_prefix(' ');
    let unasked = |line: &str| ParseError::Unasked(line.chars().take(80).collect());
    for line in text.split('\n') {
        if let Some(name) = name_of(line) {
            if !SECTIONS.contains(&name) && !OF_FILES.contains(&name) {
                return Err(unasked(line));
            }
            if sections.insert(name, Vec::new()).is_some() {
                return Err(ParseError::Section("(repeated)"));
            }
            current = Some(name);
        } else if let Some(lines) = current.and_then(|name| sections.get_mut(name)) {
            lines.push(line);
        } else if !line.is_empty() {
            return Err(unasked(line));
        }
    }
    match sections.get("end") {
        Some(rest) if rest.iter().all(|l| l.is_empty()) => {}
        _ => return Err(ParseError::CutOff),
    }
    for &name in SECTIONS {
        if !sections.contains_key(name) {
            return Err(ParseError::Section(name));
        }
    }
    for lines in sections.values_mut() {
        lines.retain(|l| !l.is_empty());
    }
    Ok(sections)
}

/// The lines of one of the files that were read whole.
fn read<'a>(lines: &[&'a str], path: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|l| l.strip_prefix(path)?.strip_prefix(':')).collect()
}

/// How many processors may be used: those of `Cpus_allowed_list:` (proc(5), of a process's status) that are online.
/// Where nobody narrowed the list, it names all that there might be, a hypervisor's slots for more among them. Where the
/// two have nothing in common (a container may be shown another list), what is allowed counts.
fn cpus(status: &[&str], online: &[&str]) -> Result<u64, ParseError> {
    let allowed = status.iter().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    let allowed = cpu_ranges(allowed.unwrap_or_default())?;
    let online = cpu_ranges(online.first().unwrap_or(&"")).unwrap_or_default();
    let mut count = 0u64;
    for (first, last) in &allowed {
        for (from, to) in &online {
            // At most 2^32 of each of at most 1,000 ranges.
            count += (last.min(to) + 1).saturating_sub(*first.max(from));
        }
    }
    Ok(if count == 0 { allowed.iter().map(|(first, last)| last - first + 1).sum() } else { count })
}

/// `0-3,6`, as the kernel lists processors.
fn cpu_ranges(list: &str) -> Result<Vec<(u64, u64)>, ParseError> {
    let range = |text: &str| -> Option<(u64, u64)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then(|| (first.into(), last.into()))
    };
    let ranges: Option<Vec<_>> = list.trim().split(',').map(range).collect();
    ranges.filter(|r| r.len() <= 1000).ok_or_else(|| value_error("processors", list))
}

/// os-release(5): `NAME=value`, quoted as in sh.
fn os(lines: &[&str]) -> Result<Os, ParseError> {
    let fields: BTreeMap<&str, String> = lines
        .iter()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k, v.trim().trim_matches(['"', '\'']).to_owned()))
        .collect();
    let field = |key: &str| fields.get(key).cloned().unwrap_or_default();
    let os = Os {
        id: field("ID"),
        like: field("ID_LIKE").split_whitespace().map(str::to_owned).collect(),
        version: field("VERSION_ID"),
        pretty: field("PRETTY_NAME"),
    };
    if os.id.is_empty() { Err(value_error("ID of os-release", "")) } else { Ok(os) }
}

fn sysctls(lines: &[&str]) -> BTreeMap<String, String> {
    lines
        .iter()
        .filter_map(|l| l.strip_prefix("/proc/sys/")?.split_once(':'))
        .map(|(path, v)| {
            (path.replace('/', "."), v.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

fn packages(lines: &[&str]) -> Result<BTreeMap<String, String>, ParseError> {
    let Some((manager, rest)) = lines.split_first() else {
        return Err(value_error("package manager", "neither dpkg-query nor rpm"));
    };
    if !manager.starts_with("manager=") {
        return Err(value_error("package manager", manager));
    }
    Ok(rest
        .iter()
        .filter_map(|l| {
            let mut words = l.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some(name), Some("installed"), Some(version)) => {
                    Some((name.to_owned(), version.to_owned()))
                }
                _ => None,
            }
        })
        .collect())
}

/// `file UNIT STATE [TARGET]` for each unit file, `UNIT LOAD ACTIVE SUB ...` for each loaded unit, and
/// `ok` if systemd answered.
fn units(watch: &WatchList, lines: &[&str]) -> Result<BTreeMap<String, UnitFacts>, ParseError> {
    // Without systemd nothing is answered; preflight says that in better words.
    if lines.last() != Some(&"ok") {
        return Ok(BTreeMap::new());
    }
    let mut files = BTreeMap::new();
    let mut loaded = BTreeMap::new();
    for line in &lines[..lines.len() - 1] {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["file", unit, state] => {
                files.insert(*unit, (*state, *unit));
            }
            ["file", unit, "alias", target] => {
                files.insert(*unit, ("alias", *target));
            }
            // Some versions mark failed units with a bullet, though they are asked for plain lines.
            [unit, load, active, sub, ..] | [_, unit, load, active, sub, ..]
                if unit.contains('.')
                    // Neither answer would count for more.
                    && loaded.insert(*unit, (*load, *active, *sub)).is_none() => {}
            _ => return Err(value_error("unit states", line)),
        }
    }
    let of = |name: &String| {
        let (file, target) = files.get(name.as_str()).copied().unwrap_or(("", name));
        let (load, active, sub) = loaded.get(target).copied().unwrap_or(match file {
            "" => ("not-found", "inactive", "dead"),
            "masked" => ("masked", "inactive", "dead"),
            _ => ("loaded", "inactive", "dead"),
        });
        UnitFacts {
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            file: file.to_owned(),
        }
    };
    Ok(watch.units.iter().map(|name| (name.clone(), of(name))).collect())
}

fn modules(watch: &WatchList, loaded: &[&str], filesystems: &[&str]) -> BTreeSet<String> {
    let filesystems: BTreeSet<&str> =
        filesystems.iter().filter_map(|l| l.split_whitespace().last()).collect();
    watch
        .modules
        .iter()
        .filter(|m| loaded.contains(&m.as_str()) || filesystems.contains(m.as_str()))
        .cloned()
        .collect()
}

fn users(watch: &WatchList, lines: &[&str]) -> BTreeMap<String, UserFacts> {
    lines
        .iter()
        .filter_map(|l| {
            let mut f = l.split(':');
            let (name, _, uid, gid) = (f.next()?, f.next()?, f.next()?, f.next()?);
            let facts = UserFacts { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
            watch.users.contains(name).then(|| (name.to_owned(), facts))
        })
        .collect()
}

/// `ss -Hlntu`. Nothing, if it did not run to its end.
fn listeners(lines: &[&str]) -> Result<Option<Vec<Listener>>, ParseError> {
    let Some(("ok", lines)) = lines.split_last().map(|(l, rest)| (*l, rest)) else {
        return Ok(None);
    };
    let mut found = BTreeSet::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(protocol), Some(local)) = (words.first(), words.get(4)) else {
            return Err(value_error("listening socket", line));
        };
        let (address, port) =
            local.rsplit_once(':').ok_or_else(|| value_error("listening socket", line))?;
        // `127.0.0.1%lo` and `[::1]`
        let address = address.split('%').next().unwrap_or_default().trim_matches(['[', ']']);
        found.insert(Listener {
            protocol: (*protocol).to_owned(),
            address: if address == "*" { "::".to_owned() } else { address.to_owned() },
            port: port.parse().map_err(|_| value_error("listening socket", line))?,
        });
    }
    Ok(Some(found.into_iter().collect()))
}

/// `ip -o addr show`: `2: eth0    inet 192.0.2.1/24 ...`. Lines of other address families are passed over.
fn addresses(lines: &[&str]) -> Vec<InterfaceAddress> {
    let mut found: Vec<InterfaceAddress> = lines
        .iter()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (_, interface, family) = (words.next()?, words.next()?, words.next()?);
            let network = words.next().filter(|_| matches!(family, "inet" | "inet6"))?;
            // `eth0@if5` is eth0.
            let interface = interface.split('@').next().unwrap_or_default().to_owned();
            Some(InterfaceAddress { interface, network: network.parse().ok()? })
        })
        .collect();
    found.sort();
    found
}

/// The setting by which an interface takes routers' advertisements.
pub(crate) fn accept_ra(interface: &str) -> String {
    format!("net.ipv6.conf.{interface}.accept_ra")
}

/// Lines of `ra INTERFACE VALUE`.
fn advertised(lines: &[&str]) -> BTreeMap<String, u8> {
    let of = |line: &&str| {
        let (interface, value) = line.strip_prefix("ra ")?.rsplit_once(' ')?;
        Some((interface.to_owned(), value.parse().ok()?))
    };
    lines.iter().filter_map(of).collect()
}

/// `sshd -T`: `key value`, some keys several times. Empty if it did not run to its end. Keys are in lower case, whatever
/// sshd writes: from 10.4 on it is `PasswordAuthentication`, which is the same to it.
fn sshd(lines: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if lines.last() != Some(&"ok") {
        return settings;
    }
    for line in &lines[..lines.len() - 1] {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        settings.entry(key.to_ascii_lowercase()).or_default().push(value.to_owned());
    }
    settings
}

/// `FILE KEY VALUE` with tabs between them. Nothing, if not all files could be read.
fn sshd_matches(lines: &[&str]) -> Option<Vec<SshdMatch>> {
    let (last, lines) = lines.split_last()?;
    let setting = |line: &&str| {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        Some(SshdMatch { file: parts.next()?, key: parts.next()?, value: parts.next()? })
    };
    if *last == "ok" { lines.iter().map(setting).collect() } else { None }
}

/// What `logins.sh` says of a login: see `because` there.
fn lost_login(why: String) -> LostLogin {
    let of_methods = ["AuthenticationMethods ", "no enabled method"];
    match of_methods.iter().any(|words| why.starts_with(words)) {
        true => LostLogin::Method(why),
        false => LostLogin::Other(why),
    }
}

/// `NAME ADDRESS HOW` with tabs between them, HOW empty for who gets in by the new settings, too. Nothing, if somebody could
/// not be asked about.
fn logins(lines: &[&str]) -> Option<Vec<Login>> {
    let (last, lines) = lines.split_last()?;
    let login = |line: &&str| {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        let (name, address) = (parts.next()?, parts.next()?);
        let lost = parts.next().filter(|why| !why.is_empty()).map(lost_login);
        Some(Login { name, address, lost })
    };
    if *last == "ok" { lines.iter().map(login).collect() } else { None }
}

fn nft(lines: &[&str]) -> NftFacts {
    let mut facts = NftFacts::default();
    for line in lines {
        match line.split_once(' ') {
            None if *line == "usable" => facts.usable = true,
            Some(("table", name)) if name != "inet kubastion" => {
                facts.foreign_tables.push(name.to_owned());
            }
            Some(("drops", rest)) => {
                let drop = rest.split_once(' ').map(|(hook, t)| (hook.to_owned(), t.to_owned()));
                facts.foreign_drops.extend(drop);
            }
            Some(("listing", sum)) => facts.own_listing_sha256 = Some(sum.to_owned()),
            Some(("recorded", sums)) => {
                facts.recorded = sums.split_once(' ').map(|(file, listing)| NftRecord {
                    file_sha256: file.to_owned(),
                    listing_sha256: listing.to_owned(),
                });
            }
            _ => {}
        }
    }
    facts
}

fn pairs(lines: &[&str]) -> BTreeMap<String, String> {
    lines
        .iter()
        .filter_map(|l| l.split_once(' '))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn processes(lines: &[&str]) -> BTreeMap<String, Vec<ProcessFacts>> {
    let mut found: BTreeMap<String, Vec<ProcessFacts>> = BTreeMap::new();
    for line in lines {
        let mut fields = line.split('\t');
        let (Some(pid), Some(name), Some(user)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Ok(pid) = pid.parse() else { continue };
        let mut argv: Vec<String> = fields.map(str::to_owned).collect();
        // The argument vector ends with a NUL of its own.
        if argv.last().is_some_and(String::is_empty) {
            argv.pop();
        }
        if argv.is_empty() {
            continue;
        }
        let process = ProcessFacts { pid, user: user.to_owned(), argv };
        found.entry(name.to_owned()).or_default().push(process);
    }
    found
}

fn files(
    watch: &WatchList,
    sections: &Sections<'_>,
) -> Result<BTreeMap<String, FileFacts>, ParseError> {
    let lines = |name| section(sections, name);
    let mut stats: BTreeMap<&str, (&str, &str, &str, &str)> = BTreeMap::new();
    let mut complaints: Vec<&str> = Vec::new();
    for line in lines("stat") {
        let mut f = line.splitn(5, ' ');
        match (f.next(), f.next(), f.next(), f.next(), f.next()) {
            (Some(mode), Some(owner), Some(group), Some(size), Some(path))
                if !mode.ends_with(':') =>
            {
                if stats.insert(path, (mode, owner, group, size)).is_some() {
                    return Err(value_error("one answer for each path", line));
                }
            }
            _ => complaints.push(line),
        }
    }
    let links = once(lines("links"), |l| l.split_once('\t'))?;
    let sums = once(lines("sha256"), |l| l.split_once("  ").map(|(s, p)| (p, s)))?;

    let mut found = BTreeMap::new();
    for path in &watch.files {
        let facts = match stats.get(path.as_str()) {
            None => absent(path, &complaints)?,
            Some((mode, owner, group, size)) => {
                let raw = u32::from_str_radix(mode, 16).map_err(|_| value_error("mode", mode))?;
                let (owner, group) = ((*owner).to_owned(), (*group).to_owned());
                let mode = raw & 0o7777;
                match raw & 0o170_000 {
                    0o040_000 => FileFacts::Directory { mode, owner, group },
                    0o120_000 => FileFacts::Symlink {
                        target: links.get(path.as_str()).copied().unwrap_or_default().to_owned(),
                    },
                    0o100_000 => {
                        let sha256 = sums
                            .get(path.as_str())
                            .filter(|s| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()))
                            .ok_or_else(|| ParseError::Path {
                                path: path.clone(),
                                detail: " but its type: its content could not be read".into(),
                            })?;
                        FileFacts::File {
                            mode,
                            owner,
                            group,
                            size: size.parse().map_err(|_| value_error("size", size))?,
                            sha256: (*sha256).to_owned(),
                        }
                    }
                    _ => FileFacts::Other { mode, owner, group },
                }
            }
        };
        found.insert(path.clone(), facts);
    }
    Ok(found)
}

/// What is said of each path, which is said once. Lines of another shape are complaints.
fn once<'a>(
    lines: &[&'a str],
    pair: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> Result<BTreeMap<&'a str, &'a str>, ParseError> {
    let mut found = BTreeMap::new();
    for (path, said) in lines.iter().filter_map(|l| pair(l)) {
        if found.insert(path, said).is_some() {
            return Err(value_error("one answer for each path", path));
        }
    }
    Ok(found)
}

/// Only a plain "no such file" means absent; anything else is not known.
fn absent(path: &str, complaints: &[&str]) -> Result<FileFacts, ParseError> {
    let said = complaints.iter().find(|l| {
        l.starts_with("stat: ") && l.split(['\'', '"', '\u{2018}', '\u{2019}']).any(|w| w == path)
    });
    match said {
        Some(l) if l.ends_with("No such file or directory") || l.ends_with("Not a directory") => {
            Ok(FileFacts::Absent)
        }
        other => Err(ParseError::Path {
            path: path.to_owned(),
            detail: other
                .map(|l| format!(", but: {}", l.chars().take(120).collect::<String>()))
                .unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests;
