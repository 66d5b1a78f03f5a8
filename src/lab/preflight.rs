//! Whether this machine can carry a lab: everything that is missing, at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{SBIN, run};
use super::error::Prerequisite;

/// Programs that a lab starts, and the Debian package of each.
pub(super) const PROGRAMS: &[(&str, &str)] = &[
    ("chpasswd", "passwd"),
    ("chroot", "coreutils"),
    ("dpkg-deb", "dpkg"),
    ("find", "findutils"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("ssh-keygen", "openssh-client"),
    ("systemd-nspawn", "systemd-container"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
];

/// Debian releases whose packages are known to carry a lab, with their code names.
const RELEASES: &[(&str, &str)] = &[("12", "bookworm"), ("13", "trixie")];

/// CAP_SYS_ADMIN in a capability mask (linux/capability.h).
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Everything that this machine lacks for a lab; empty if it can carry one.
///
/// It starts short-lived processes in namespaces of their own to try what the kernel can do, and
/// changes nothing. Not checked: free disk space, and whether the mirror answers.
pub fn preflight() -> Vec<Prerequisite> {
    let mut missing = Vec::new();
    if let Err(m) = release_of_host() {
        missing.push(m);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let absent: Vec<_> = PROGRAMS.iter().filter(|(name, _)| !is_in(&dirs, name)).collect();
    for (name, package) in &absent {
        missing.push(Prerequisite::new(
            format!("`{name}` is missing"),
            format!("apt-get install {package}"),
        ));
    }
    if let Err(m) = is_root() {
        missing.push(m);
    } else if !has_sys_admin() {
        missing.push(Prerequisite::new(
            "CAP_SYS_ADMIN is missing, so no namespace or mount can be created",
            "in a container, start the container privileged",
        ));
    } else if absent.is_empty() {
        missing.extend(kernel_features());
    }
    missing
}

/// Whether this is root, whom everything in a lab belongs to.
pub(super) fn is_root() -> Result<(), Prerequisite> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Prerequisite::new(
        "a lab creates network namespaces, mounts and containers, which needs root",
        "run it with sudo, or as root",
    ))
}

/// The code name of this machine's Debian release.
pub(super) fn release_of_host() -> Result<&'static str, Prerequisite> {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    parse_release(&text)
}

fn parse_release(os_release: &str) -> Result<&'static str, Prerequisite> {
    let fields: BTreeMap<&str, &str> = os_release
        .lines()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k, v.trim_matches(['"', '\''])))
        .collect();
    let get = |k: &str| fields.get(k).copied().unwrap_or_default();
    let known = RELEASES.iter().find(|(version, _)| *version == get("VERSION_ID"));
    match known {
        Some((_, codename)) if get("ID") == "debian" => Ok(codename),
        _ => {
            let found = match get("PRETTY_NAME") {
                "" => "a system without /etc/os-release",
                name => name,
            };
            Err(Prerequisite::new(
                format!("a lab needs Debian 12 or 13; this is {found}"),
                "use a Debian 12 or 13 machine, or the Vagrant scenarios",
            ))
        }
    }
}

fn is_in(dirs: &[PathBuf], program: &str) -> bool {
    let more = SBIN.iter().map(Path::new);
    dirs.iter().map(PathBuf::as_path).chain(more).any(|d| d.join(program).is_file())
}

fn has_sys_admin() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .is_some_and(|mask| mask & CAP_SYS_ADMIN != 0)
}

/// Tries each kernel feature itself: asking for a module's name fails where it is built in.
fn kernel_features() -> Vec<Prerequisite> {
    let tries: [(&str, &[&str], &str); 4] = [
        (
            "no overlayfs",
            // A lower layer only: that needs no writable directory.
            &["-m", "mount", "-t", "overlay", "overlay", "-o", "lowerdir=/usr:/etc", "/mnt"],
            "modprobe overlay",
        ),
        ("no nf_tables", &["-n", "nft", "list", "ruleset"], "modprobe nf_tables"),
        (
            "no veth network links",
            &["-n", "ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1"],
            "modprobe veth",
        ),
        (
            "no network bridges",
            &["-n", "ip", "link", "add", "lab0", "type", "bridge"],
            "modprobe bridge",
        ),
    ];
    let mut missing = Vec::new();
    for (what, args, hint) in tries {
        if let Err(e) = run(Command::new("unshare").args(args)) {
            let why = e.problems().into_iter().flat_map(|p| p.why).next();
            missing.push(Prerequisite { why, ..Prerequisite::new(what, hint) });
        }
    }
    if !Path::new("/sys/fs/cgroup").exists() {
        missing.push(Prerequisite::new("no cgroups at /sys/fs/cgroup", "mount cgroup2 there"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_12_and_13_carry_a_lab() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n";
        assert_eq!(parse_release(text), Ok("trixie"));
        let other = parse_release("PRETTY_NAME='Ubuntu 24.04'\nVERSION_ID=12\nID=ubuntu\n");
        assert!(other.unwrap_err().what.contains("Ubuntu 24.04"));
        assert!(parse_release("").is_err());
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let dirs = [PathBuf::from("/nowhere")];
        assert!(!is_in(&dirs, "no-such-program"));
        for (name, package) in PROGRAMS {
            assert!(!name.is_empty() && !package.is_empty());
        }
    }
}
