//! The root filesystem that all nodes share: made once with mmdebstrap, then cached.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::apt_sources;
use super::command::run;
use super::error::Error;
use super::error::Prerequisite;
use super::packages::{self, NOT_ENABLED, NOT_IN_A_CONTAINER, Placement};
use crate::file_lock::FileLock;

/// Raise it when [`finish`] changes: cached root filesystems of another recipe are not used.
const RECIPE: u32 = 1;

const KEEP_OUT: &str = include_str!("sh/keep-out.sh");

/// Where the packages that are kept out wait, inside a node.
const REPOSITORY: &str = "opt/lab-repository";

/// A login user of every node beside root.
pub(super) struct LabUser {
    pub name: &'static str,
    /// User and group id.
    pub id: u32,
    /// Its line in sudoers(5).
    sudoers: &'static str,
}

/// `ops` uses sudo without a password, `opspw` with one.
pub(super) const USERS: &[LabUser] = &[
    LabUser { name: "ops", id: 1000, sudoers: "ops ALL=(ALL:ALL) NOPASSWD: ALL\n" },
    LabUser { name: "opspw", id: 1001, sudoers: "opspw ALL=(ALL:ALL) ALL\n" },
];

/// The cached root filesystem for this machine's release, made now if there is none.
///
/// `making` is called once if it has to be made.
pub(super) fn ensure(
    cache: &Path,
    codename: &str,
    making: impl FnOnce(),
) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(cache).map_err(Error::io("make", cache))?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io("open", &lock_path))?;
    let _lock = FileLock::wait_exclusive(lock).map_err(Error::io("lock", &lock_path))?;

    let key = key(codename);
    let done = cache.join(&key);
    let rootfs = done.join("rootfs");
    if rootfs.exists() {
        return Ok(rootfs);
    }
    making();
    let partial = cache.join(format!("{key}.partial"));
    remove_dir(&partial)?;
    // 0700: the tree holds set-uid programs that only nodes should offer.
    make_private_dir(&partial)?;
    let sources = partial.join("apt.sources");
    write(&sources, &apt_sources::of_host(Path::new("/etc/apt"), codename)?)?;
    let hook = partial.join("keep-out.sh");
    write_with_mode(&hook, KEEP_OUT, 0o755)?;
    let new = partial.join("rootfs");
    run(Command::new("mmdebstrap")
        .arg("--mode=root")
        .arg("--variant=minbase")
        .arg("--format=directory")
        .arg(format!("--include={}", packages::names(Placement::Installed).join(",")))
        // Nobody reads manuals in a node; kept are licences.
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        .arg("--dpkgopt=force-unsafe-io")
        .arg({
            let mut option = std::ffi::OsString::from("--customize-hook=");
            option.push(&hook);
            option
        })
        .arg(codename)
        .arg(&new)
        .arg(&sources)
        .env("KUBASTION_LAB_KEPT_OUT", packages::names(Placement::KeptOut).join(" ")))?;
    finish(&new)?;
    std::fs::rename(&partial, &done).map_err(Error::io("rename", &partial))?;
    Ok(rootfs)
}

/// Code name of the host's release, or the preflight problem.
pub(super) fn codename() -> Result<&'static str, Error> {
    super::preflight::release_of_host().map_err(|m: Prerequisite| Error::Preflight(vec![m]))
}

/// Names a root filesystem by everything that decides what is in it, except what the mirror holds
/// on the day.
fn key(codename: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("recipe {RECIPE}\n{codename}\n{}\n", std::env::consts::ARCH));
    for &package in packages::PACKAGES {
        digest.update(format!("{package:?}\n"));
    }
    for (unit, why) in NOT_IN_A_CONTAINER {
        digest.update(format!("{unit} {why}\n"));
    }
    digest.update(NOT_ENABLED.join("\n"));
    digest.update(KEEP_OUT);
    let hex: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{codename}-{hex}")
}

/// What every node has in common beyond packages.
fn finish(root: &Path) -> Result<(), Error> {
    // Keys that all nodes would share are worse than none; each node gets its own.
    for kind in ["rsa", "ecdsa", "ed25519"] {
        for suffix in ["", ".pub"] {
            let path = root.join(format!("etc/ssh/ssh_host_{kind}_key{suffix}"));
            if path.exists() {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    for (unit, why) in NOT_IN_A_CONTAINER {
        let dir = root.join(format!("usr/lib/systemd/system/{unit}.d"));
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        let text = format!("# {why}\n[Unit]\nConditionVirtualization=!container\n");
        write(&dir.join("50-lab.conf"), &text)?;
    }
    for unit in NOT_ENABLED {
        in_root(root, &["systemctl", "disable", "--quiet", unit])?;
    }
    for user in USERS {
        // `*` is no password but, other than `!`, no lock either: sshd refuses locked accounts
        // where PAM is off.
        let id = user.id.to_string();
        in_root(
            root,
            &["useradd", "-m", "-U", "-u", &id, "-s", "/bin/bash", "-p", "*", user.name],
        )?;
        let path = root.join("etc/sudoers.d").join(user.name);
        write_with_mode(&path, user.sudoers, 0o440)?;
    }
    // A node shares the host's clock: chronyd runs, but does not steer it (-x).
    write(&root.join("etc/default/chrony"), "DAEMON_OPTS=\"-F 1 -x\"\n")?;
    write(&root.join("etc/default/locale"), "LANG=C.UTF-8\n")?;
    // No uplink, no resolver: lookups fail at once instead of timing out.
    write(&root.join("etc/resolv.conf"), "# A lab node has no uplink.\n")?;
    make_repository(root)
}

/// Makes the node's own repository the only one it knows, and an index for it.
fn make_repository(root: &Path) -> Result<(), Error> {
    let parts = root.join("etc/apt/sources.list.d");
    remove_dir(&parts)?;
    std::fs::create_dir_all(&parts).map_err(Error::io("make", &parts))?;
    let list = root.join("etc/apt/sources.list");
    write(&list, &format!("deb [trusted=yes] file:/{REPOSITORY} ./\n"))?;
    let dir = root.join(REPOSITORY);
    let mut index = String::new();
    let mut packages: Vec<PathBuf> = std::fs::read_dir(&dir)
        .map_err(Error::io("read", &dir))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .collect();
    packages.sort();
    for path in &packages {
        let control = run(Command::new("dpkg-deb").arg("--field").arg(path))?;
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        index.push_str(String::from_utf8_lossy(&control).trim_end());
        index.push_str(&format!(
            "\nFilename: ./{name}\nSize: {}\nSHA256: {digest}\n\n",
            bytes.len()
        ));
    }
    write(&dir.join("Packages"), &index)
}

fn in_root(root: &Path, argv: &[&str]) -> Result<Vec<u8>, Error> {
    run(Command::new("chroot").arg(root).args(argv).env("LC_ALL", "C.UTF-8"))
}

/// Writes a file that everybody may read.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io("write", path))
}

/// Writes a file that has its mode before it has its content.
pub(super) fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(Error::io("make", path))?;
    // The mode at creation is cut by the umask.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(Error::io("write", path))
}

/// Makes a directory, and those above it, that only root may enter.
pub(super) fn make_private_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path).map_err(Error::io("make", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::io("set the mode of", path))
}

/// Removes a directory with everything in it; that there is none is no error.
pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_root_filesystem_of_its_own() {
        assert_ne!(key("bookworm"), key("trixie"));
        assert_eq!(key("trixie"), key("trixie"));
        assert!(key("trixie").starts_with("trixie-"));
    }
}
