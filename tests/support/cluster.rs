//! A cluster in a lab, from a bundle: what the tests on real clusters share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kubastion::lab::{Lab, preflight};

/// A cluster in a lab, taken down at the end also when a step fails.
pub struct Cluster {
    pub dir: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("KUBASTION_E2E_KEEP").is_some() {
            eprintln!("the lab stays up in {}", self.dir.display());
            return;
        }
        let _ = kubastion(&self.dir, &["lab", "down", "--dir", "."]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub fn kubastion(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}[{:?}]",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code()
    )
}

/// A line of progress, with the time since the beginning.
pub fn say(began: Instant, what: &str) {
    eprintln!("{:>4} s: {what}", began.elapsed().as_secs());
}

impl Cluster {
    pub fn ends(&self, code: i32, args: &[&str]) -> String {
        let output = kubastion(&self.dir, args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A shell program in a node, past SSH.
    pub fn inside(&self, node: &str, script: &str) -> Output {
        let lab = Lab::open(&self.dir).unwrap();
        lab.command(node, &["sh", "-c", script]).unwrap().stdin(Stdio::null()).output().unwrap()
    }

    /// kubectl as an administrator has it, on the first control plane that runs it.
    pub fn kubectl(&self, on: &str, args: &str) -> Output {
        let script = format!(
            "PATH=/usr/local/bin:$PATH kubectl --cache-dir /tmp/kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=10s {args}"
        );
        self.inside(on, &script)
    }

    /// Everything on a node's disk, with type, mode, owner and what it holds. Left out: what package
    /// managers and the system write for themselves (packages stay installed after a reset).
    pub fn tree(&self, node: &str) -> BTreeSet<String> {
        let script = "for d in /etc /opt /root /srv /usr /var/lib /var/lib/containerd /var/lib/etcd \
             /var/lib/kubelet; do find $d -xdev -printf '%y %m %u:%g %p %l\\n'; done; \
             find /etc /usr/local /root -xdev -type f -exec sha256sum {} +; nft list tables";
        let out = self.inside(node, script);
        assert!(out.status.success(), "{}", text(&out));
        let left_out = |line: &str| LEFT_OUT.iter().any(|p| line.contains(p));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().filter(|l| !left_out(l)).map(str::to_owned).collect()
    }

    /// Waits until something holds, and says what it waited for: three times as long as it takes at most, since other tests may
    /// share the cores, and only a failure costs more.
    pub fn until(&self, what: &str, within_s: u64, holds: impl Fn() -> bool) {
        let within_s = 3 * within_s;
        let deadline = Instant::now() + Duration::from_secs(within_s);
        while !holds() {
            assert!(Instant::now() < deadline, "not within {within_s} s: {what}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub fn all_ready(&self, on: &str, nodes: usize) -> bool {
        let out = self.kubectl(on, "get nodes --no-headers");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        out.status.success()
            && text.lines().filter(|l| l.split_whitespace().nth(1) == Some("Ready")).count()
                == nodes
    }
}

/// See [`Cluster::tree`].
const LEFT_OUT: &[&str] = &[
    // What useradd and userdel keep of the state before; their modes are compared.
    "  /etc/group-",
    "  /etc/gshadow-",
    "  /etc/passwd-",
    "  /etc/shadow-",
    "  /etc/subgid-",
    "  /etc/subuid-",
    // systemd makes it as a mount point for haproxy's packaged unit.
    " /var/lib/haproxy/dev/log",
    " /var/lib/apt",
    " /var/lib/chrony",
    " /var/lib/dpkg",
    " /var/lib/logrotate",
    " /var/lib/systemd",
    " /var/lib/private",
    " /var/lib/dbus",
    " /var/lib/containerd",
    "/etc/ld.so.cache",
    "/etc/.updated",
    "/etc/resolv.conf",
    "/etc/mtab",
    "ethtool",
    "/etc/network/if-",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
];

/// The bundle and a place for a lab, or why there is none.
pub fn given(test: &str) -> Option<(String, PathBuf)> {
    let Some(bundle) = std::env::var("KUBASTION_E2E_BUNDLE").ok().filter(|b| !b.is_empty()) else {
        eprintln!("SKIPPED {test}: no bundle is named (KUBASTION_E2E_BUNDLE)");
        return None;
    };
    let missing: Vec<String> = preflight().iter().map(|m| format!("{m:?}")).collect();
    if !missing.is_empty() {
        let why = format!("this machine cannot run a lab: {}", missing.join("; "));
        assert!(std::env::var_os("KUBASTION_REQUIRE_LAB").is_none(), "{why}");
        eprintln!("SKIPPED {test}: {why}");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("kubastion-e2e-").tempdir_in("/var/tmp").unwrap();
    Some((bundle, dir.keep()))
}
