//! Whether security updates are installed by themselves: timers, services, settings of apt and its sources.

use crate::checks::basis::Basis;
use crate::checks::model::{Verdict, verdict};
use crate::checks::node::planted::not_read;
use crate::checks::observed::Origin;
use crate::checks::rule::{plain_path, shown};
use crate::facts::live::LiveFacts;
use crate::inventory::Switch;

/// Our file that switches unattended upgrades on. Others, read later, can switch them off.
const APT_UPDATES: &str = "/etc/apt/apt.conf.d/52kubastion-updates";
/// Timers that install updates, by distribution.
pub(in crate::checks) const UPDATE_TIMERS: &[&str] =
    &["apt-daily-upgrade.timer", "dnf-automatic.timer", "dnf-automatic-install.timer"];
/// The timer without whose work there is nothing to install on Debian.
pub(in crate::checks) const LISTS_TIMER: &str = "apt-daily.timer";
/// The package that installs updates on the Debian family.
pub(in crate::checks) const UNATTENDED: &str = "unattended-upgrades";

/// Units that have to be those of the distribution's packages, without a drop-in, by their package manager: when they start and
/// what they do is known of these alone.
pub(in crate::checks) const APT_UNITS: &[&str] =
    &["apt-daily.service", "apt-daily.timer", "apt-daily-upgrade.service", UPDATE_TIMERS[0]];
/// The same of dnf: the timer that is active, and its service.
pub(in crate::checks) const DNF_UNITS: &[&str] = &[
    "dnf-automatic-install.service",
    "dnf-automatic-install.timer",
    "dnf-automatic.service",
    "dnf-automatic.timer",
];

pub(in crate::checks) fn security_updates(on: &Basis<'_>) -> Verdict {
    if on.inventory.host.security_updates == Switch::Off {
        return Verdict::not_applicable("switched off in the inventory (host.security_updates)");
    }
    let expected = "a timer that installs security updates";
    let timer = UPDATE_TIMERS
        .iter()
        .copied()
        .find(|t| on.seen.units.get(*t).is_some_and(|u| u.active == "active"));
    let Some(timer) = timer else {
        if UPDATE_TIMERS.iter().all(|t| !on.seen.units.contains_key(*t)) {
            return on.seen.blind("timers were not checked");
        }
        return Verdict::fail(expected, "no such timer is active");
    };
    if !timer.starts_with("apt") {
        return with_dnf(timer, expected, on);
    }
    if !on.seen.packages.contains_key(UNATTENDED) {
        return Verdict::fail("package unattended-upgrades", "not installed");
    }
    if on.seen.origin == Origin::Rendered {
        let text = on.seen.texts.get(APT_UPDATES).and_then(Option::as_deref).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("APT::Periodic::Unattended-Upgrade "));
        return match line.map(|l| l.trim_matches(['"', ';'])) {
            Some("1") => Verdict::pass(format!("{timer}, unattended-upgrades")),
            value => Verdict::fail("APT::Periodic::Unattended-Upgrade \"1\"", shown(value)),
        };
    }
    if on.seen.units.get(LISTS_TIMER).is_none_or(|u| u.active != "active") {
        return Verdict::fail(
            expected,
            format!("{LISTS_TIMER}, which refreshes the package lists, is not active"),
        );
    }
    let Some(live) = &on.seen.live else {
        return Verdict::unknown("the live state was not read");
    };
    let mut wrong: Vec<String> = APT_UNITS.iter().filter_map(|name| altered(name, live)).collect();
    wrong.extend(held_back(live));
    wrong.extend(live.apt.as_deref().map(not_updated).unwrap_or_default());
    wrong.extend(live.apt_sources.iter().flat_map(|(path, text)| lax_options(path, text)));
    // What has a lower priority is never taken for an upgrade (apt_preferences(5)).
    if live.sources.as_ref().is_some_and(|all| !all.iter().any(|p| *p >= 100)) {
        wrong.push("apt has no package source for upgrades".to_owned());
    }
    // What is known to be wrong is, whatever else was not read.
    if wrong.is_empty()
        && let Some(verdict) = not_told(live)
    {
        return verdict;
    }
    verdict(expected, wrong, || format!("{timer}, unattended-upgrades"))
}

/// What nobody knows of apt on this node, if so.
fn not_told(live: &LiveFacts) -> Option<Verdict> {
    let too_long = live.apt_sources.iter().find(|(_, text)| text.len() > MAX_SOURCE);
    not_read(live, &["/etc/apt/"])
        .or_else(|| {
            let (path, _) = too_long?;
            let why = format!("{} is over 64 KiB and was not read", plain_path(path));
            Some(Verdict::unknown(why))
        })
        .or_else(|| live.apt.is_none().then(|| Verdict::unknown("apt-config printed no settings")))
        .or_else(|| {
            live.sources.is_none().then(|| Verdict::unknown("apt-cache listed no package sources"))
        })
}

/// What `live.sh` reads of a file of sources, in bytes.
const MAX_SOURCE: usize = 65536;

fn with_dnf(timer: &str, expected: &str, on: &Basis<'_>) -> Verdict {
    if on.seen.origin == Origin::Rendered {
        return Verdict::pass(timer.to_owned());
    }
    let Some(live) = &on.seen.live else {
        return Verdict::unknown("the live state was not read");
    };
    if live.apt.is_some() {
        return Verdict::fail(
            expected,
            format!("{timer} is active, and {} is not", UPDATE_TIMERS[0]),
        );
    }
    let service = timer.replace(".timer", ".service");
    let wrong = [timer, &service].iter().filter_map(|name| altered(name, live)).collect();
    verdict(expected, wrong, || timer.to_owned())
}

/// How a unit differs from the one of its package, as systemd has read it: it is none, is masked, comes from elsewhere, or has a
/// drop-in, which may start it in a hundred years.
fn altered(name: &str, live: &LiveFacts) -> Option<String> {
    let Some(unit) = live.units.get(name) else {
        return Some(format!("systemd did not report {name}"));
    };
    let is_packaged = ["/lib/systemd/system/", "/usr/lib/systemd/system/"]
        .iter()
        .any(|dir| unit.fragment == format!("{dir}{name}"));
    match (unit.load.as_str(), is_packaged, unit.drop_ins.first()) {
        ("loaded", true, None) if unit.needs_reload => Some(format!(
            "systemd has not reloaded the changed files of {name} (run `systemctl daemon-reload`)"
        )),
        ("loaded", true, None) => None,
        ("loaded", true, Some(first)) => {
            let first = plain_path(first);
            Some(format!("{first} changes {name} (run `rm {first}` and `systemctl daemon-reload`)"))
        }
        ("loaded", false, _) => Some(format!("{name} comes from {}", plain_path(&unit.fragment))),
        (state, ..) => Some(format!("{name} is {}", shown(Some(state)))),
    }
}

/// Packages that are held (apt-mark(8)).
fn held_back(live: &LiveFacts) -> Vec<String> {
    let is_wanted = |held: &str| {
        let name = held.split(':').next().unwrap_or_default();
        UPDATED.contains(&name) || name.starts_with("linux-image") || name.starts_with("libssl")
    };
    let held = live.held.iter().filter(|h| is_wanted(h));
    held.map(|h| format!("{} is held", plain_path(h))).collect()
}

/// Packages of which security updates are wanted whatever is held back.
const UPDATED: &[&str] = &[
    "bash",
    "libc6",
    "libssl3",
    "linux-image-amd64",
    "nftables",
    "openssh-server",
    "sudo",
    "systemd",
];

/// What a setting of apt has to be where it is given.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// A word for no. apt takes several (apt.conf(5)); what is neither yes nor no counts as the worse.
    No,
    /// A word for yes.
    Yes,
    /// Nothing but an empty text.
    Nothing,
    /// 0.
    Zero,
    /// One of these, slashes at the end aside.
    OneOf(&'static [&'static str]),
    /// A program of the distribution.
    Program,
    /// None of these beginnings.
    NoneOf(&'static [&'static str]),
}

/// Settings that keep updates from being installed, take packages from whoever answers, or read something else than what is judged
/// here. Each is meant with what stands below its name, where `*` is any part.
const APT_SETTINGS: &[(&str, Wanted)] = &[
    // Without a signature, or an old list with one (apt-secure(8), apt-transport-https(1)).
    ("APT::Get::AllowUnauthenticated", Wanted::No),
    ("Acquire::AllowInsecureRepositories", Wanted::No),
    ("Acquire::AllowDowngradeToInsecureRepositories", Wanted::No),
    ("Acquire::AllowWeakRepositories", Wanted::No),
    ("Acquire::Check-Date", Wanted::Yes),
    ("Acquire::Check-Valid-Until", Wanted::Yes),
    ("Acquire::Min-ValidTime", Wanted::Zero),
    ("Acquire::https::Verify-Host", Wanted::Yes),
    ("Acquire::https::Verify-Peer", Wanted::Yes),
    ("Acquire::https::*::Verify-Host", Wanted::Yes),
    ("Acquire::https::*::Verify-Peer", Wanted::Yes),
    ("Acquire::gpgv::Options", Wanted::Nothing),
    ("APT::Hashes::*::Untrusted", Wanted::Yes),
    ("APT::Hashes::*::Weak", Wanted::Yes),
    ("APT::Key::gpgvcommand", Wanted::Nothing),
    // Some days, at shutdown, or some packages (unattended-upgrade(8)). All seven days are judged apart.
    ("Unattended-Upgrade::InstallOnShutdown", Wanted::No),
    ("Unattended-Upgrade::Package-Whitelist", Wanted::Nothing),
    // A hook that fails ends the update before it begins.
    ("APT::Update::Pre-Invoke", Wanted::OneOf(HOOKS)),
    ("DPkg::Pre-Invoke", Wanted::OneOf(HOOKS)),
    // Nothing is done, or in another place.
    ("Debug::pkgDPkgPM", Wanted::No),
    (
        "DPkg::Options",
        Wanted::NoneOf(&[
            "--admindir",
            "--dry-run",
            "--instdir",
            "--no-act",
            "--root",
            "--simulate",
        ]),
    ),
    ("DPkg::Chroot-Directory", Wanted::OneOf(&["/"])),
    ("RootDir", Wanted::Nothing),
    ("Dir::Bin", Wanted::Program),
    ("Dir::State::lists", Wanted::OneOf(&["lists", "/var/lib/apt/lists"])),
    ("Dir::State::status", Wanted::OneOf(&["/var/lib/dpkg/status"])),
    ("Dir::Etc::sourcelist", Wanted::OneOf(&["sources.list", "/etc/apt/sources.list"])),
    ("Dir::Etc::sourceparts", Wanted::OneOf(&["sources.list.d", "/etc/apt/sources.list.d"])),
    ("Dir::Etc::trusted", Wanted::OneOf(&["trusted.gpg", "/etc/apt/trusted.gpg"])),
    ("Dir::Etc::trustedparts", Wanted::OneOf(&["trusted.gpg.d", "/etc/apt/trusted.gpg.d"])),
];

/// Directories that have to be these, without what stands below their names.
const APT_DIRECTORIES: &[(&str, &[&str])] = &[
    ("Dir", &[""]),
    ("Dir::Etc", &["etc/apt", "/etc/apt"]),
    ("Dir::State", &["var/lib/apt", "/var/lib/apt"]),
];

/// Hooks of packages: etckeeper's.
const HOOKS: &[&str] = &["", "if [ -x /usr/bin/etckeeper ]; then etckeeper pre-install; fi"];

impl Wanted {
    fn holds(self, value: &str) -> bool {
        let word = value.to_ascii_lowercase();
        match self {
            Wanted::No => is_one_of(&word, &["", "0", "no", "false", "without", "off", "disable"]),
            Wanted::Yes => is_one_of(&word, &["", "1", "yes", "true", "with", "on", "enable"]),
            Wanted::Nothing => value.is_empty(),
            Wanted::Zero => is_one_of(value, &["", "0"]),
            Wanted::OneOf(known) => {
                value.is_empty() || known.contains(&value.trim_end_matches('/'))
            }
            Wanted::Program => {
                let ours = ["/usr/bin/", "/bin/", "/usr/lib/apt/", "/usr/sbin/", "/sbin/"];
                value.is_empty()
                    || ours.iter().any(|dir| value.starts_with(dir)) && !value.contains("..")
            }
            Wanted::NoneOf(beginnings) => !beginnings.iter().any(|b| value.starts_with(b)),
        }
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.contains(&word)
}

/// Whether a setting is one of a row, or stands below it. Names are in any case.
fn is_below(name: &str, row: &str) -> bool {
    let mut parts = name.split("::");
    row.split("::").all(|wanted| {
        parts.next().is_some_and(|part| wanted == "*" || part.eq_ignore_ascii_case(wanted))
    })
}

/// What keeps security updates from being installed, by apt's settings as they are in effect, whatever files they come
/// from (unattended-upgrade(8), /usr/lib/apt/apt.systemd.daily).
fn not_updated(apt: &[(String, String)]) -> Vec<String> {
    // Names in any case.
    let is = |given: &str, name: &str| given.eq_ignore_ascii_case(name);
    let value = |name: &str| apt.iter().rev().find(|(n, _)| is(n, name)).map(|(_, v)| v.as_str());
    let all = |name: &'static str| apt.iter().filter(move |(n, v)| is(n, name) && !v.is_empty());
    let is_wrong = |name: &str, value: &str| {
        let below = APT_SETTINGS.iter().any(|(row, w)| is_below(name, row) && !w.holds(value));
        below
            || APT_DIRECTORIES
                .iter()
                .any(|(row, known)| is(name, row) && !known.contains(&value.trim_end_matches('/')))
    };
    let mut wrong: Vec<String> = apt
        .iter()
        .filter(|(name, value)| is_wrong(name, value))
        .map(|(name, value)| format!("{} is {}", plain_path(name), shown(Some(value))))
        .collect();
    if value("APT::Periodic::Enable") == Some("0") {
        wrong.push("APT::Periodic::Enable is 0".to_owned());
    }
    for name in ["APT::Periodic::Update-Package-Lists", "APT::Periodic::Unattended-Upgrade"] {
        if !matches!(value(name), Some("1" | "always")) {
            wrong.push(format!("{name} is {}", shown(value(name))));
        }
    }
    let days: Vec<&str> =
        all("Unattended-Upgrade::Update-Days").map(|(_, day)| day.as_str()).collect();
    if !days.is_empty() && !is_every_day(&days) {
        wrong.push(format!(
            "Unattended-Upgrade::Update-Days has only {}",
            shown(Some(&days.join(", ")))
        ));
    }
    let origins = all("Unattended-Upgrade::Origins-Pattern")
        .chain(all("Unattended-Upgrade::Allowed-Origins"));
    if !origins.into_iter().any(|(_, v)| v.to_ascii_lowercase().contains("security")) {
        wrong.push(
            "no security updates are allowed (Unattended-Upgrade::Origins-Pattern)".to_owned(),
        );
    }
    // Each is a pattern for the beginning of a name.
    let holds = |pattern: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-+._".contains(c);
        let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
        !pattern.chars().all(plain)
            || pattern.starts_with('.')
            || UPDATED.iter().any(|p| p.starts_with(pattern))
    };
    for (_, pattern) in all("Unattended-Upgrade::Package-Blacklist").filter(|(_, v)| holds(v)) {
        wrong.push(format!(
            "Unattended-Upgrade::Package-Blacklist holds back {}",
            shown(Some(pattern))
        ));
    }
    wrong
}

/// Whether these are all days of the week, by their English names or numbers.
fn is_every_day(given: &[&str]) -> bool {
    const DAYS: &[(&str, &str, &str)] = &[
        ("0", "Sun", "Sunday"),
        ("1", "Mon", "Monday"),
        ("2", "Tue", "Tuesday"),
        ("3", "Wed", "Wednesday"),
        ("4", "Thu", "Thursday"),
        ("5", "Fri", "Friday"),
        ("6", "Sat", "Saturday"),
    ];
    DAYS.iter().all(|(number, short, long)| {
        given.contains(number) || given.contains(short) || given.contains(long)
    })
}

/// Options of a source of packages that take them unsigned, signed too weakly or too long ago (sources.list(5)), in either form of
/// such a file.
const SOURCE_OPTIONS: &[(&str, Wanted)] = &[
    ("allow-downgrade-to-insecure", Wanted::No),
    ("allow-insecure", Wanted::No),
    ("allow-weak", Wanted::No),
    ("check-date", Wanted::Yes),
    ("check-valid-until", Wanted::Yes),
    ("trusted", Wanted::No),
    ("valid-until-min", Wanted::Zero),
];

fn lax_options(path: &str, text: &str) -> Vec<String> {
    let options = if path.ends_with(".sources") { of_stanzas(text) } else { of_lines(text) };
    let is_lax = |(name, value): &&(String, String)| {
        SOURCE_OPTIONS
            .iter()
            .any(|(n, wanted)| name.eq_ignore_ascii_case(n) && !wanted.holds(value))
    };
    let lax = options.iter().filter(is_lax);
    lax.map(|(name, value)| {
        format!("{} has {} {}", plain_path(path), plain_path(name), shown(Some(value)))
    })
    .collect()
}

/// `deb [ name=value name=value ] URL SUITE...`, a line each.
fn of_lines(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default());
    let options = lines.filter_map(|l| l.split_once('[')?.1.split_once(']'));
    let inside = options.filter(|(_, rest)| !is_local(rest)).map(|(inside, _)| inside);
    // `name+=value` adds to it, `name-=value` takes away.
    let pair = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.trim_end_matches(['+', '-']).to_owned(), value.trim_matches('"').to_owned()))
    };
    inside.flat_map(str::split_whitespace).filter_map(pair).collect()
}

/// Whether a source is a directory of the node, which nobody else answers for.
fn is_local(uri: &str) -> bool {
    let uri = uri.trim_start().to_ascii_lowercase();
    ["cdrom:", "copy:", "file:"].iter().any(|scheme| uri.starts_with(scheme))
}

/// `Name: value` lines, in stanzas with an empty line between them.
fn of_stanzas(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let lines = stanza.lines().filter(|l| !l.starts_with(['#', ' ', '\t']));
        let pairs: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let is_off = pairs.iter().any(|(n, v)| {
            n.eq_ignore_ascii_case("enabled") && !v.is_empty() && Wanted::No.holds(v)
        });
        let uris = pairs.iter().filter(|(n, _)| n.eq_ignore_ascii_case("uris"));
        let uris: Vec<&str> = uris.flat_map(|(_, v)| v.split_whitespace()).collect();
        let is_here = !uris.is_empty() && uris.iter().all(|u| is_local(u));
        if !is_off && !is_here {
            found.extend(pairs);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_source_are_found_in_either_form() {
        let line = |text: &str| lax_options("/etc/apt/sources.list", text);
        for bad in [
            "deb [trusted=yes] http://x y z",
            "deb [ arch=amd64 Trusted=1 ] http://x y z",
            "deb [allow-insecure=yes] http://x y z",
            "deb [check-valid-until=no] http://x y z",
            "deb [valid-until-min=99999999] http://x y z",
        ] {
            assert_eq!(line(bad).len(), 1, "{bad}");
        }
        for good in [
            "deb [signed-by=/usr/share/keyrings/a.gpg trusted=no] http://x y z",
            "# deb [trusted=yes] http://x y z",
            "deb [trusted=yes] file:/opt/repository ./",
            "deb http://x y z",
        ] {
            assert_eq!(line(good), [""; 0], "{good}");
        }
        let stanza = |text: &str| lax_options("/etc/apt/sources.list.d/a.sources", text);
        assert_eq!(stanza("Types: deb\nURIs: http://x\nTrusted: yes\n").len(), 1);
        assert_eq!(stanza("Types: deb\ncheck-valid-until: No\n\nTypes: deb\n").len(), 1);
        assert_eq!(stanza("Types: deb\nEnabled: no\nTrusted: yes\n"), [""; 0]);
    }

    #[test]
    fn days_that_are_not_all_seven_are_some() {
        assert!(is_every_day(&["0", "1", "Tue", "Wednesday", "Thu", "Fri", "Sat"]));
        assert!(!is_every_day(&["Mon", "Fri"]));
    }

    #[test]
    fn settings_are_meant_with_what_stands_below() {
        assert!(is_below("acquire::check-valid-until", "Acquire::Check-Valid-Until"));
        assert!(is_below("Acquire::Min-ValidTime::Debian", "Acquire::Min-ValidTime"));
        assert!(is_below(
            "Acquire::https::a.example::Verify-Peer",
            "Acquire::https::*::Verify-Peer"
        ));
        assert!(!is_below("Acquire", "Acquire::Check-Date"));
    }
}
