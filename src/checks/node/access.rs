//! Who can replace judged files and what root runs, and what others added beside our files.

use crate::checks::basis::live;
use std::collections::BTreeSet;

use crate::checks::basis::Basis;
use crate::checks::model::Verdict;
use crate::checks::model::verdict;
use crate::checks::node::certificates::{self, CLUSTER_CA, ETCD_CAS, FRONT_PROXY_CA};
use crate::checks::node::in_effect::{mounts_since, not_ours, replaced};
use crate::checks::node::planted::not_read;
use crate::checks::node::updates::{APT_UNITS, DNF_UNITS};
use crate::checks::observed::Origin;
use crate::checks::rule::plain_path;
use crate::controls::daemons::DAEMONS;
use crate::controls::paths::{GUARDED, LOCAL_DIRECTORIES, LOGS, PROGRAMS, STARTED_BY_NAME};
use crate::controls::{KERNEL_SETTINGS, KernelSetting, of_interfaces};
use crate::facts::live::{LiveFacts, LiveProcess, LiveRequest, LiveUnit, PathAccess, PathKind};
use crate::inventory::{Inventory, Node, Role, SoftwareSource};

/// Directories whose owner is a service's user, and that user.
const SERVICES: &[(&str, &str)] = &[("/var/lib/etcd", "etcd")];

/// Units whose start is judged beside those of daemons.
const UNITS: &[&str] = &[
    "auditd.service",
    "chrony.service",
    "chronyd.service",
    "kubastion-audit.service",
    "kubastion-firewall.service",
    "kubastion-guard.service",
    "kubastion-pod-routes.service",
    "ssh.service",
    "ssh.socket",
    "sshd.service",
    "sshd.socket",
];

/// Drop-ins of ours: `desired` writes them.
const OUR_DROP_INS: &[&str] = &[
    "/etc/systemd/system/haproxy.service.d/kubastion.conf",
    "/etc/systemd/system/keepalived.service.d/kubastion.conf",
    "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
];

/// Static pods of a control plane.
const STATIC_PODS: &[&str] = &["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
pub(in crate::checks) const STATIC_POD_DIR: &str = "/etc/kubernetes/manifests";

/// What is asked of a node for the checks of this module and of `in_effect`. `judged` are the paths that other checks
/// look at and that a plan is made of.
pub fn live_request(
    inventory: &Inventory,
    node: &Node,
    judged: impl IntoIterator<Item = String>,
) -> LiveRequest {
    let mut request = LiveRequest::default();
    request.programs.extend(DAEMONS.iter().map(|d| d.daemon.program().to_owned()));
    request.programs.insert("sshd".to_owned());
    request.units.extend(UNITS.iter().copied().map(str::to_owned));
    request.units.extend(DAEMONS.iter().filter_map(|d| d.unit).map(str::to_owned));
    request.units.extend(APT_UNITS.iter().chain(DNF_UNITS).copied().map(str::to_owned));
    let run = DAEMONS
        .iter()
        .flat_map(|d| d.programs.iter().chain(d.reads_at_start).chain(d.reads_on_reload));
    let run = run.chain(GUARDED).chain(PROGRAMS);
    let local = STARTED_BY_NAME
        .iter()
        .flat_map(|name| LOCAL_DIRECTORIES.iter().map(move |dir| format!("{dir}/{name}")));
    let all = judged.into_iter().chain(run.map(|p| (*p).to_owned())).chain(local);
    for path in all {
        request.paths.extend(crate::facts::ancestors(&path).map(str::to_owned));
        request.paths.insert(path);
    }
    for setting in KERNEL_SETTINGS.iter().filter(|s| s.is_for(inventory, node)) {
        if let Some((family, key)) = of_all_interfaces(setting.key) {
            request.interface_keys.insert((family.to_owned(), key.to_owned()));
        }
    }
    request.homes.extend(["/root", "/home"].map(str::to_owned));
    request
}

/// Family and last part of a key that is about all interfaces.
pub(in crate::checks) fn of_all_interfaces(key: &str) -> Option<(&str, &str)> {
    of_interfaces(key)?;
    let (family, rest) = key.strip_prefix("net.")?.split_once(".conf.all.")?;
    Some((family, rest))
}

pub(in crate::checks) fn root_owned_paths(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if !live.paths.contains_key("/") {
        return Verdict::unknown("the node did not report its root directory");
    }
    let all = live.paths.iter().chain(&live.trees);
    let wrong: BTreeSet<String> = all
        .filter_map(|(path, access)| {
            let why = replaceable(path, access, live)?;
            Some(format!("{} {why}", plain_path(path)))
        })
        .collect();
    verdict("owned by root, and writable only by root", wrong.into_iter().collect(), || {
        format!("{} paths up to the root directory", live.paths.len() + live.trees.len())
    })
}

/// A copy of a key under another name is a key: below these directories everything but a certificate is one.
const OF_SECRETS: &[&str] = &["/etc/kubernetes/", "/etc/etcd/"];

pub(in crate::checks) fn secrets_unreadable(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if !live.paths.contains_key("/") {
        return Verdict::unknown("the node did not report its root directory");
    }
    let is_secret = |path: &str| {
        let public = path.ends_with(".crt") || path.ends_with(".pub");
        path == "/etc/shadow" || !public && OF_SECRETS.iter().any(|dir| path.starts_with(dir))
    };
    let all: std::collections::BTreeMap<_, _> = live.paths.iter().chain(&live.trees).collect();
    let files = all.into_iter().filter(|(p, a)| a.kind == PathKind::File && is_secret(p));
    let (mut judged, mut wrong) = (0, Vec::new());
    for (path, access) in files {
        judged += 1;
        if access.mode & 0o007 != 0 {
            wrong.push(format!("{} has mode {:04o}", plain_path(path), access.mode));
        }
    }
    let Some(acls) = &live.acls else {
        return Verdict::unknown("access control lists were not checked");
    };
    wrong.extend(acls.iter().map(|p| {
        let path = plain_path(p);
        format!("{path} has an access control list (run `setfacl -b {path}`)")
    }));
    verdict("no access for others", wrong, || format!("{judged} files"))
}

/// How somebody else than root could put something in the place of a path, or into it.
fn replaceable(path: &str, access: &PathAccess, live: &LiveFacts) -> Option<String> {
    let below =
        |dir: &str| path.strip_prefix(dir).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let service = SERVICES.iter().find(|(dir, _)| below(dir));
    let is_owner = access.uid == 0 || service.is_some_and(|(_, user)| access.owner == *user);
    if !is_owner {
        return Some(format!("belongs to {}", plain_path(&access.owner)));
    }
    match access.kind {
        // Its own bits say nothing; where it leads was looked at with the rest, or is not known.
        PathKind::Link => {
            let leads_to = resolve(path, live);
            let known = live.paths.contains_key(&leads_to)
                || live.trees.contains_key(&leads_to)
                || ROOTS_OF_LINKS.iter().any(|d| leads_to.starts_with(d));
            (!known).then(|| format!("links to {}, which was not checked", plain_path(&leads_to)))
        }
        PathKind::Other if access.mode & 0o002 == 0 => None,
        PathKind::Directory if path == LOGS && access.mode & 0o002 == 0 => None,
        _ if access.mode & 0o022 != 0 => {
            Some(format!("has mode {:04o}: others can write it", access.mode))
        }
        _ => None,
    }
}

/// Where links may lead that nobody asked about: units that a distribution ships, and what masks one.
const ROOTS_OF_LINKS: &[&str] =
    &["/usr/lib/systemd/", "/lib/systemd/", "/etc/systemd/", "/dev/null"];

/// Where a path leads, by the links that the node told of. What it did not tell of is taken for no link: it is looked
/// for among what was judged.
fn resolve(path: &str, live: &LiveFacts) -> String {
    let mut rest: Vec<String> =
        path.split('/').filter(|p| !p.is_empty()).rev().map(str::to_owned).collect();
    let mut at = String::new();
    // As many links as the kernel follows (path_resolution(7)).
    let mut links = 40;
    while let Some(part) = rest.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = format!("{at}/{part}");
        let found = live.paths.get(&next).or_else(|| live.trees.get(&next));
        match found.filter(|a| a.kind == PathKind::Link) {
            Some(link) if links > 0 => {
                links -= 1;
                if link.target.starts_with('/') {
                    at.clear();
                }
                rest.extend(
                    link.target.split('/').filter(|p| !p.is_empty()).rev().map(str::to_owned),
                );
            }
            _ => at = next,
        }
    }
    if at.is_empty() { "/".to_owned() } else { at }
}

pub(in crate::checks) fn units_as_written(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if live.units.is_empty() {
        return Verdict::unknown("systemd did not report its units");
    }
    if !live.trees.contains_key("/etc/systemd/system") {
        return Verdict::unknown("the node did not report /etc/systemd/system");
    }
    let mut wrong = before_ours(live);
    let mut judged = 0;
    for (name, unit) in &live.units {
        if unit.load != "loaded" {
            wrong.extend(not_loaded(name, unit, on));
            continue;
        }
        judged += 1;
        wrong.extend(drop_ins(name, unit, on.inventory.kubernetes.source));
        if unit.needs_reload {
            wrong.push(format!(
                "{name}: systemd has not reloaded its changed files (run `systemctl daemon-reload`)"
            ));
        }
        if !["/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"]
            .iter()
            .any(|d| unit.fragment.starts_with(d))
        {
            wrong.push(format!("{name} comes from {}", plain_path(&unit.fragment)));
        }
    }
    verdict("units without foreign drop-ins, as systemd has read them", wrong, || {
        format!("{judged} units")
    })
}

/// Directories that systemd reads before /etc/systemd/system (systemd.unit(5), "Unit File Load Path"): what is there hides a unit
/// of its name, or what a target wants, and systemd need not have read it yet. Transient and generated units are left out: they come
/// and go with containers, and are gone with the boot.
const BEFORE_OURS: &[&str] = &["/etc/systemd/system.control/", "/run/systemd/system.control/"];

fn before_ours(live: &LiveFacts) -> Vec<String> {
    let is_named = |path: &str| {
        path.rsplit('/').next().is_some_and(|name| live.units.contains_key(name))
            && BEFORE_OURS.iter().any(|dir| path.starts_with(dir))
    };
    let found = live.trees.keys().filter(|path| is_named(path));
    found.map(|path| format!("{} hides the unit of that name", plain_path(path))).collect()
}

/// Why a unit should have been loaded. Those that a distribution does not have are not found, and one that nobody uses may be
/// masked.
fn not_loaded(name: &str, unit: &LiveUnit, on: &Basis<'_>) -> Option<String> {
    let mut daemons = DAEMONS.iter().filter(|d| not_ours(d.daemon, on).is_none());
    let is_ours = name.starts_with("kubastion-") || daemons.any(|d| d.unit == Some(name));
    let file = on.seen.units.get(name).map_or("", |u| u.file.as_str());
    let is_used = unit.active == "active" || file.starts_with("enabled");
    let is_wrong = match unit.load.as_str() {
        // Its file is there.
        "not-found" => is_used || is_ours && !file.is_empty(),
        "masked" => is_used || is_ours,
        _ => true,
    };
    is_wrong.then(|| format!("systemd reports {name} as {}", plain_path(&unit.load)))
}

fn drop_ins(name: &str, unit: &LiveUnit, source: SoftwareSource) -> Option<String> {
    let others: Vec<String> = unit
        .drop_ins
        .iter()
        .filter(|p| !OUR_DROP_INS.contains(&p.as_str()) && !is_packaged(name, p, source))
        .map(|p| plain_path(p))
        .collect();
    (!others.is_empty()).then(|| format!("{name} is changed by {}", others.join(", ")))
}

/// Units for which no package ships drop-ins: ours, and those whose daemons come in a package without one.
const WITHOUT_DROP_INS: &[&str] = &["containerd.service", "etcd.service", "kubelet.service"];

/// Whether a drop-in may come from a package.
fn is_packaged(unit: &str, path: &str, source: SoftwareSource) -> bool {
    let below = ["/usr/lib/systemd/system/", "/lib/systemd/system/"];
    let Some(name) = below.iter().find_map(|dir| path.strip_prefix(dir)) else { return false };
    if unit.starts_with("kubastion-") || WITHOUT_DROP_INS.contains(&unit) {
        // The package kubeadm brings it; a bundle's is below /etc.
        return name == "kubelet.service.d/10-kubeadm.conf" && source != SoftwareSource::Bundle;
    }
    true
}

pub(in crate::checks) fn ssh_in_effect(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(sockets) = &live.sockets else {
        return Verdict::unknown("ss listed no listening sockets");
    };
    let unit = ["ssh.service", "sshd.service"]
        .into_iter()
        .filter_map(|name| Some((name, live.units.get(name)?)))
        .find(|(_, u)| u.active == "active" && u.main_pid != 0);
    let main = unit.map(|(_, u)| u.main_pid);
    let daemons: Vec<&LiveProcess> = live.processes.iter().filter(|p| is_sshd(p)).collect();
    let mut wrong = Vec::new();
    for process in &daemons {
        let listens: Vec<String> = sockets
            .iter()
            .filter(|s| s.owners.contains(&process.pid))
            .map(|s| crate::transport::address(&s.address, s.port))
            .collect();
        if Some(process.pid) == main {
            if let Some(options) = sshd_options(process) {
                wrong.push(format!("its command line sets {options}, which its files do not"));
            }
            // Its title stands where its environment was: nobody can read that any more.
            wrong.extend(replaced(process));
        } else if !listens.is_empty() && !is_session(process) {
            wrong.push(format!(
                "another sshd, process {}, listens on {}",
                process.pid,
                listens.join(", ")
            ));
        } else if !is_session(process) && process.parent == 1 {
            wrong.push(format!("another sshd runs, process {}", process.pid));
        }
    }
    let Some((name, unit)) = unit else {
        let is_active = |name: &str| live.units.get(name).is_some_and(|u| u.active == "active");
        if is_active("ssh.socket") || is_active("sshd.socket") {
            // Each connection has an sshd of its own, which reads the files.
            return verdict("sshd started only by its socket", wrong, || {
                "started for each connection".into()
            });
        }
        if daemons.is_empty() {
            return Verdict::not_applicable("no sshd runs on this node");
        }
        wrong.push("it was not started by a systemd unit".into());
        return verdict("one sshd, started by its unit", wrong, String::new);
    };
    match unit.changed_s {
        None => wrong.push(format!("systemd did not report when {name} was started or reloaded")),
        Some(read) => {
            let read = read.0 as f64 / 1e6;
            let files = live.paths.iter().chain(&live.trees).filter(|(p, _)| is_of_sshd(p));
            let later: BTreeSet<&String> =
                files.filter(|(_, a)| a.changed_s > read - READ_MARGIN_S).map(|(p, _)| p).collect();
            wrong.extend(later.into_iter().map(|p| {
                format!(
                    "{} changed after it was read (run `systemctl reload {name}`)",
                    plain_path(p)
                )
            }));
            match mounts_since(read, &["/etc/ssh", "/etc/default/ssh"], live) {
                Ok(paths) => wrong.extend(paths.into_iter().map(|p| {
                    format!("a mount over {p} was made after it was read (run `systemctl reload {name}`)")
                })),
                Err(verdict) => return verdict,
            }
        }
    }
    verdict("one sshd, with the settings of its files", wrong, || {
        format!("process {}, by {name}", unit.main_pid)
    })
}

/// A change so short a time before sshd had read its files counts as one after it, in seconds: the node's clock of starts goes by
/// hundredths. A change that is followed by a reload is older, since sshd tests its files first.
const READ_MARGIN_S: f64 = 0.015;

/// Files that sshd reads when it starts or is told to. Those of who may log in are read each time.
fn is_of_sshd(path: &str) -> bool {
    path == "/etc/ssh/sshd_config"
        || path.starts_with("/etc/ssh/sshd_config.d/")
        || path == "/etc/default/ssh"
}

fn is_sshd(process: &LiveProcess) -> bool {
    let program = process.program.trim_end_matches(" (deleted)");
    process.on_node && (program.ends_with("/sshd") || process.comm == "sshd")
}

/// The child of a connection: its title says whose it is.
fn is_session(process: &LiveProcess) -> bool {
    let title = process.argv.join(" ");
    title.starts_with("sshd: ") && !title.contains("[listener]")
}

/// Options on the command line of an sshd beside `-D`, which keeps it in the foreground. It replaces its command line by
/// a title that holds it.
fn sshd_options(process: &LiveProcess) -> Option<String> {
    let title = process.argv.join(" ");
    let words = title.split(" [listener]").next().unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().collect();
    let options: Vec<&str> = words
        .into_iter()
        .filter(|w| !w.ends_with("/sshd") && !matches!(*w, "sshd:" | "sshd" | "-D"))
        .collect();
    (!options.is_empty()).then(|| plain_path(&options.join(" ")))
}

/// What `live.sh` reads of one, in bytes.
const MAX_SYSCTL_FILE: usize = 65536;

pub(in crate::checks) fn sysctls_at_boot(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if let Some((path, _)) = live.sysctl_files.iter().find(|(_, text)| text.len() > MAX_SYSCTL_FILE)
    {
        return Verdict::unknown(format!("{} is over 64 KiB and was not read", plain_path(path)));
    }
    const DIRECTORIES: &[&str] =
        &["/usr/lib/sysctl.d/", "/usr/local/lib/sysctl.d/", "/run/sysctl.d/", "/etc/sysctl.d/"];
    if let Some(verdict) = not_read(live, DIRECTORIES) {
        return verdict;
    }
    let mut wrong = Vec::new();
    let mut judged = 0;
    for setting in KERNEL_SETTINGS.iter().filter(|s| s.is_for(on.inventory, on.node)) {
        for (key, value, file) in of_single_interfaces(&live.sysctl_files, setting) {
            let (key, value) = (plain_path(&key), plain_path(&value));
            wrong.push(format!("{} sets {key} = {value}", plain_path(&file)));
        }
        let Some((value, file)) = at_boot(&live.sysctl_files, setting.key) else { continue };
        judged += 1;
        if value != setting.value {
            wrong.push(format!(
                "{} sets {} = {}",
                plain_path(&file),
                setting.key,
                plain_path(&value)
            ));
        }
    }
    if judged == 0 && wrong.is_empty() {
        return Verdict::fail("files that set them", "no sysctl.d file sets any of them");
    }
    verdict("the same settings after the next boot", wrong, || format!("{judged} settings"))
}

/// What the next boot sets a key to, and which file does (sysctl.d(5)): files go by their names whatever their
/// directory, one in /etc hides its namesakes, the last assignment counts, and one with a pattern counts for less.
fn at_boot(files: &[(String, String)], key: &str) -> Option<(String, String)> {
    let (mut exact, mut pattern) = (None, None);
    for (path, text) in in_force(files) {
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
            let Some((k, v)) = line.split_once('=') else { continue };
            let k = k.trim().trim_start_matches('-').replace('/', ".");
            let found = Some((v.split_whitespace().collect::<Vec<_>>().join(" "), path.clone()));
            if k == key {
                exact = found;
            } else if k.contains('*') && matches(&k, key) {
                pattern = found;
            }
        }
    }
    exact.or(pattern)
}

/// The files that a boot reads, in its order: by their names, and of namesakes the last one.
fn in_force(files: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut by_name = std::collections::BTreeMap::new();
    // /usr/lib comes first and /etc last.
    for file in files {
        by_name.insert(name(&file.0), file);
    }
    by_name.into_values()
}

/// What files set for one interface of a setting of all, and otherwise.
fn of_single_interfaces(
    files: &[(String, String)],
    setting: &KernelSetting,
) -> Vec<(String, String, String)> {
    let Some((family, last)) = of_all_interfaces(setting.key) else { return Vec::new() };
    let prefix = format!("net.{family}.conf.");
    let is_single = |key: &str| {
        let interface =
            key.strip_prefix(&prefix).and_then(|k| k.strip_suffix(last)?.strip_suffix('.'));
        interface.is_some_and(|i| !matches!(i, "all" | "lo"))
    };
    let mut found = Vec::new();
    for (path, text) in in_force(files) {
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim().trim_start_matches('-').replace('/', ".");
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            if is_single(&key) && value != setting.value {
                found.push((key, value, path.clone()));
            }
        }
    }
    found
}

/// glob(7) with `*` alone, which stands for one part of a key.
fn matches(pattern: &str, key: &str) -> bool {
    let (p, k): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), key.split('.').collect());
    p.len() == k.len() && p.iter().zip(&k).all(|(p, k)| *p == "*" || p == k)
}

/// The verdict on a setting of all interfaces, by what each of them has: for some keys the kernel goes by either value
/// (Documentation/networking/ip-sysctl.rst), and IPv6 by that of the interface alone.
pub(in crate::checks) fn each_interface(
    setting: &KernelSetting,
    on: &Basis<'_>,
) -> Option<Verdict> {
    let (family, key) = of_all_interfaces(setting.key)?;
    if on.seen.origin == Origin::Rendered {
        return None;
    }
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return Some(verdict),
    };
    let Some(values) = live.interfaces.get(&(family.to_owned(), key.to_owned())) else {
        return Some(Verdict::unknown(format!(
            "the kernel did not report {key} for each interface"
        )));
    };
    let wrong: Vec<String> = values
        .iter()
        .filter(|(name, value)| {
            !matches!(name.as_str(), "lo" | "default") && value.as_str() != setting.value
        })
        .map(|(name, value)| {
            format!("net.{family}.conf.{}.{key} = {}", plain_path(name), plain_path(value))
        })
        .collect();
    (!wrong.is_empty())
        .then(|| verdict(&format!("{} on each interface", setting.value), wrong, String::new))
}

pub(in crate::checks) fn static_pods(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    if !live.trees.contains_key(STATIC_POD_DIR)
        && on.seen.files.get(STATIC_POD_DIR) != Some(&crate::facts::FileFacts::Absent)
    {
        return Verdict::unknown(format!("{STATIC_POD_DIR} was not listed"));
    }
    let plane = on.node.has_role(Role::ControlPlane);
    let etcd = on.inventory.has_stacked_etcd().then_some(&"etcd");
    let known =
        |name: &str| plane && STATIC_PODS.iter().chain(etcd).any(|p| name == format!("{p}.yaml"));
    let below = live.trees.keys().filter_map(|p| p.strip_prefix(STATIC_POD_DIR)?.strip_prefix('/'));
    // The kubelet passes over hidden files.
    let mut wrong: Vec<String> = below
        .filter(|n| !known(n) && !n.starts_with('.'))
        .map(|n| format!("{STATIC_POD_DIR}/{}", plain_path(n)))
        .collect();
    wrong.sort();
    verdict("no static pods but the control plane's", wrong, || {
        format!("{STATIC_POD_DIR} contains no other files")
    })
}

pub(in crate::checks) fn one_ca_per_file(on: &Basis<'_>) -> Verdict {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for path in [CLUSTER_CA, FRONT_PROXY_CA].into_iter().chain(ETCD_CAS.iter().copied()) {
        if !on.seen.exists(path) {
            continue;
        }
        let text = match on.seen.text(path) {
            Ok(text) => text,
            Err(verdict) => return verdict,
        };
        judged += 1;
        let begun = text.matches("-----BEGIN").count();
        let held = certificates::all(text).unwrap_or_default();
        if held.len() == 1 {
            continue;
        }
        // More than one stands there if the key store accepts more than one. What is rendered is made from it.
        let wanted = match (on.seen.origin, &on.seen.trusted_cas) {
            (Origin::Rendered, _) => Some(held.iter().collect()),
            (Origin::Node, Some(trusted)) => trusted.get(path).map(|all| all.iter().collect()),
            (Origin::Node, None) if held.len() > 1 => {
                return Verdict::unknown(format!(
                    "{path} contains {begun}, but nothing says which are accepted"
                ));
            }
            (Origin::Node, None) => None,
        };
        let set: BTreeSet<&Vec<u8>> = held.iter().collect();
        if held.is_empty() || set.len() != held.len() || wanted != Some(set) {
            wrong.push(format!("{path} contains {begun}"));
        }
    }
    if judged == 0 {
        return Verdict::not_applicable("this node has no CA file yet");
    }
    verdict("one certificate in each CA file, or those that the key store accepts", wrong, || {
        format!("{judged} CA files")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> (String, String) {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn the_last_name_wins_and_etc_hides_its_namesakes() {
        let key = "net.ipv4.ip_forward";
        let files = [
            file("/usr/lib/sysctl.d/99-z.conf", "net.ipv4.ip_forward=2"),
            file("/etc/sysctl.d/90-kubastion.conf", "net.ipv4.ip_forward = 1\n"),
        ];
        assert_eq!(at_boot(&files, key).unwrap().0, "2");
        let hidden = [files.to_vec(), vec![file("/etc/sysctl.d/99-z.conf", "")]].concat();
        assert_eq!(at_boot(&hidden, key).unwrap().0, "1");
        let slashes = [file("/etc/sysctl.d/a.conf", "-net/ipv4/ip_forward= 0 # x")];
        assert_eq!(at_boot(&slashes, key).unwrap().0, "0 # x");
        assert!(at_boot(&files, "vm.panic_on_oom").is_none());
    }

    #[test]
    fn a_pattern_counts_for_less_than_a_name() {
        let files = [
            file("/etc/sysctl.d/a.conf", "net.ipv4.conf.all.send_redirects=0"),
            file("/etc/sysctl.d/b.conf", "net.ipv4.conf.*.send_redirects=1"),
        ];
        assert_eq!(at_boot(&files, "net.ipv4.conf.all.send_redirects").unwrap().0, "0");
        assert_eq!(at_boot(&files, "net.ipv4.conf.eth0.send_redirects").unwrap().0, "1");
    }

    #[test]
    fn what_sshd_is_started_with_shows_in_its_title() {
        let with = |title: &str| {
            let process = LiveProcess {
                pid: 1,
                parent: 1,
                began_s: 0.0,
                comm: "sshd".into(),
                user: "root".into(),
                program: "/usr/sbin/sshd".into(),
                on_node: true,
                argv: vec![title.into()],
                environment: Default::default(),
                path: Vec::new(),
                mapped: Vec::new(),
            };
            sshd_options(&process)
        };
        assert_eq!(with("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"), None);
        let said =
            with("sshd: /usr/sbin/sshd -D -o PermitRootLogin=yes [listener] 0 of 10").unwrap();
        assert_eq!(said, "-o PermitRootLogin=yes");
        assert!(with("/usr/sbin/sshd -D -f /tmp/x").is_some());
    }
}
