//! What somebody put on a node: code in running daemons, changed programs, programs with more rights than their caller, keys that
//! everybody can read, and pipes in the place of files.

use std::collections::BTreeSet;

use crate::checks::basis::{Basis, live};
use crate::checks::model::{Verdict, verdict};
use crate::checks::rule::plain_path;
use crate::controls::daemons::ANY_PROGRAM;
use crate::controls::paths::{CAPABLE, SET_ID};
use crate::facts::live::{LiveFacts, LiveProcess};

/// Where programs read whatever files they find, there are files.
pub(in crate::checks) fn regular_files(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(irregular) = &live.irregular else {
        return Verdict::unknown("no directory was searched for FIFOs, sockets and devices");
    };
    let wrong = irregular.iter().map(|found| {
        let path = plain_path(&found.path);
        format!("{path} is {} (run `rm {path}`)", found.kind)
    });
    verdict(
        "only regular files below /etc and in configuration directories",
        wrong.collect(),
        || "no FIFO, socket or device".to_owned(),
    )
}

/// Why what is in some directories was not read as a whole, if so: there is something that is no regular file.
pub(in crate::checks) fn not_read(live: &LiveFacts, dirs: &[&str]) -> Option<Verdict> {
    let Some(irregular) = &live.irregular else {
        return Some(Verdict::unknown("no directory was searched for FIFOs, sockets and devices"));
    };
    let found = irregular.iter().find(|i| dirs.iter().any(|d| i.path.starts_with(d)))?;
    Some(Verdict::unknown(format!(
        "{} was not read: expected a regular file, found {}",
        plain_path(&found.path),
        found.kind
    )))
}

/// Whether a program goes by a variable of this name.
fn steers(name: &str) -> bool {
    ANY_PROGRAM.iter().any(|prefix| name.starts_with(prefix))
}

/// No daemon runs code that neither a package nor the bundle brought, and systemd gives none to those that it will start.
pub(in crate::checks) fn nothing_preloaded(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(names) = &live.manager else {
        return Verdict::unknown("systemd did not print its environment");
    };
    let Some(unowned) = &live.unowned else {
        return Verdict::unknown("no package manager listed its files");
    };
    if live.units.is_empty() {
        return Verdict::unknown("systemd did not report its units");
    }
    let mut wrong: Vec<String> = names
        .iter()
        .filter(|name| steers(name))
        .map(|name| {
            let name = plain_path(name);
            format!("systemd passes {name} to everything it starts (run `systemctl unset-environment {name}`)")
        })
        .collect();
    for (path, names) in &live.manager_files {
        let names: Vec<String> =
            names.iter().filter(|n| steers(n)).map(|n| plain_path(n)).collect();
        if !names.is_empty() {
            wrong.push(format!("{} sets {} for all units", plain_path(path), names.join(", ")));
        }
    }
    let mut judged = 0;
    for process in live.processes.iter().filter(|p| is_of_a_unit(p, live)) {
        judged += 1;
        if process.mapped.is_empty() {
            return Verdict::unknown(format!(
                "the kernel did not report the program of process {} ({})",
                process.pid,
                plain_path(&process.comm)
            ));
        }
        wrong.extend(foreign_code(process, unowned));
    }
    verdict("daemons that run only code from packages and the bundle", wrong, || {
        format!("{judged} processes")
    })
}

/// Whether a unit that was asked for started a process or its parent.
fn is_of_a_unit(process: &LiveProcess, live: &LiveFacts) -> bool {
    let main: BTreeSet<u32> = live.units.values().map(|u| u.main_pid).filter(|p| *p != 0).collect();
    main.contains(&process.pid) || main.contains(&process.parent)
}

fn foreign_code<'a>(
    process: &'a LiveProcess,
    unowned: &'a BTreeSet<String>,
) -> impl Iterator<Item = String> + 'a {
    let own = process.program.trim_end_matches(" (deleted)");
    let others = process.mapped.iter().filter(move |m| m.trim_end_matches(" (deleted)") != own);
    others.filter_map(move |mapped| {
        let who = format!("process {} ({})", process.pid, plain_path(&process.comm));
        let path = mapped.trim_end_matches(" (deleted)");
        if unowned.contains(path) {
            return Some(format!(
                "{who} runs code from {}, which belongs to no package",
                plain_path(mapped)
            ));
        }
        (path != mapped).then(|| {
            format!(
                "{who} runs code from {}, which was replaced after the start: restart the daemon",
                plain_path(path)
            )
        })
    })
}

/// What answers for names, what OpenSSL loads, and programs and libraries of packages are as they came.
pub(in crate::checks) fn packaged_files(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(unowned) = &live.unowned else {
        return Verdict::unknown("no package manager listed its files");
    };
    let Some(modules) = &live.openssl_modules else {
        return Verdict::unknown("OpenSSL's configuration was not read");
    };
    let Some(changed) = &live.changed_files else {
        return Verdict::unknown("no package manager verified its files");
    };
    let is_service = |path: &str| path.rsplit('/').next().is_some_and(|n| n.starts_with("libnss_"));
    let services = unowned.iter().filter(|p| is_service(p)).map(|p| {
        format!("{} resolves names (/etc/nsswitch.conf), and belongs to no package", plain_path(p))
    });
    let loaded = modules.iter().filter(|(_, m)| unowned.contains(m) || !m.starts_with('/'));
    let loaded = loaded.map(|(file, module)| {
        format!("{} loads {}, which belongs to no package", plain_path(file), plain_path(module))
    });
    const PROGRAMS: &[&str] = &[
        "/bin/",
        "/lib/",
        "/lib64/",
        "/sbin/",
        "/usr/bin/",
        "/usr/lib/",
        "/usr/lib64/",
        "/usr/libexec/",
        "/usr/sbin/",
    ];
    // Where the bits of a mode were changed, other checks say so.
    let differs = |letters: &str| letters == "missing" || letters.contains('5');
    let changed = changed
        .iter()
        .filter(|(l, path)| differs(l) && PROGRAMS.iter().any(|d| path.starts_with(d)))
        .map(|(letters, path)| {
            let how = if letters == "missing" { "is missing" } else { "differs from its package" };
            format!("{} {how} (reinstall the package)", plain_path(path))
        });
    let wrong = services.chain(loaded).chain(changed).collect();
    verdict("files as in their packages", wrong, || "as in their packages".to_owned())
}

/// Programs that run with other rights than their caller's are those that packages bring, with the rights that they bring.
pub(in crate::checks) fn privileged_programs(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(set_id) = &live.set_id else {
        return Verdict::unknown("not all programs were searched for set-id bits in time");
    };
    let Some(capable) = &live.capable else {
        return Verdict::unknown("not all programs were searched for file capabilities in time");
    };
    let mut wrong = Vec::new();
    for found in set_id {
        let of_group = found.mode & 0o4000 == 0;
        let is_known = is_packaged(&found.path, SET_ID.iter().map(|row| row.0));
        // The group alone is no danger if it is the one that everybody is in.
        if is_known && found.mode & 0o002 == 0 {
            continue;
        }
        let (whose, name) = if of_group { ("group", &found.group) } else { ("user", &found.owner) };
        let path = plain_path(&found.path);
        let name = plain_path(name);
        wrong.push(format!("{path} runs as {whose} {name} (run `chmod ug-s {path}`)"));
    }
    for (path, held) in capable {
        let known = CAPABLE.iter().filter(|row| is_packaged(path, [row.0].into_iter()));
        let allowed =
            known.fold(0, |all, row| all | row.1.iter().fold(0, |bits, bit| bits | 1 << bit));
        let shown = plain_path(path);
        match held {
            None => wrong.push(format!("{shown} has file capabilities that could not be read")),
            Some(held) if held & !allowed != 0 => wrong.push(format!(
                "{shown} has file capabilities {} (run `setcap -r {shown}`)",
                names(held & !allowed)
            )),
            Some(_) => {}
        }
    }
    verdict("only those that packages install", wrong, || {
        format!("{} set-id programs and {} with file capabilities", set_id.len(), capable.len())
    })
}

/// Whether a path is one of a table's, where `*` stands for one name (the triplet of an architecture), and a directory that was merged
/// into /usr has two.
fn is_packaged(path: &str, mut table: impl Iterator<Item = &'static str>) -> bool {
    let merged = if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") };
    table.any(|row| {
        let (mut parts, mut wanted) = (merged.split('/'), row.split('/'));
        loop {
            match (parts.next(), wanted.next()) {
                (None, None) => return true,
                (Some(part), Some(want)) if want == "*" || part == want => {}
                _ => return false,
            }
        }
    })
}

/// Names of capabilities (capabilities(7), linux/capability.h).
fn names(bits: u64) -> String {
    const NAMES: &[&str] = &[
        "chown",
        "dac_override",
        "dac_read_search",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "linux_immutable",
        "net_bind_service",
        "net_broadcast",
        "net_admin",
        "net_raw",
        "ipc_lock",
        "ipc_owner",
        "sys_module",
        "sys_rawio",
        "sys_chroot",
        "sys_ptrace",
        "sys_pacct",
        "sys_admin",
        "sys_boot",
        "sys_nice",
        "sys_resource",
        "sys_time",
        "sys_tty_config",
        "mknod",
        "lease",
        "audit_write",
        "audit_control",
        "setfcap",
        "mac_override",
        "mac_admin",
        "syslog",
        "wake_alarm",
        "block_suspend",
        "audit_read",
        "perfmon",
        "bpf",
        "checkpoint_restore",
    ];
    let name = |bit: usize| match NAMES.get(bit) {
        Some(name) => format!("cap_{name}"),
        None => format!("number {bit}"),
    };
    let all = (0..64).filter(|bit| bits & 1 << bit != 0).map(name);
    all.collect::<Vec<_>>().join(",")
}

/// No copy of a kubeconfig or of another private key lies where everybody can read it.
pub(in crate::checks) fn keys_unreadable(on: &Basis<'_>) -> Verdict {
    let live = match live(on) {
        Ok(live) => live,
        Err(verdict) => return verdict,
    };
    let Some(keys) = &live.readable_keys else {
        return Verdict::unknown("not all directories were searched for private keys in time");
    };
    let wrong = keys.iter().map(|path| {
        let path = plain_path(path);
        format!("{path} contains a private key that everyone can read (run `chmod o= {path}`)")
    });
    verdict("no private key in a world-readable file", wrong.collect(), || "none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_paths_of_every_architecture() {
        let table = || ["/usr/bin/ping", "/usr/lib/*/utempter/utempter"].into_iter();
        assert!(is_packaged("/bin/ping", table()));
        assert!(is_packaged("/usr/lib/aarch64-linux-gnu/utempter/utempter", table()));
        assert!(!is_packaged("/usr/lib/a/b/utempter/utempter", table()));
        assert!(!is_packaged("/usr/local/bin/ping", table()));
        assert!(!is_packaged("/usr/bin/ping/x", table()));
    }

    #[test]
    fn capabilities_have_their_names() {
        assert_eq!(names(1 << 7 | 1 << 13), "cap_setuid,cap_net_raw");
        assert_eq!(names(1 << 40 | 1 << 41), "cap_checkpoint_restore,number 41");
    }
}
