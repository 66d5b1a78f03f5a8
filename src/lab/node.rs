//! One node: its files, its supervisor and its processes.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;

use super::cgroup;
use super::command::{run, run_with_input, tail};
use super::error::{Error, NodeError};
use super::network;
use super::process::{self, Process};
use super::rootfs::{self, USERS, make_private_dir, write, write_with_mode};
use super::state::{NodeState, State};
use super::status::{NodeStatus, RunState};
use crate::clock::random_bytes;
use crate::inventory::HostKeyFingerprint;
use crate::secret::Secret;

const SUPERVISE: &str = include_str!("sh/supervise.sh");
const LAB_CGROUPS: &str = include_str!("sh/lab-cgroups.service");

/// Directories of a node that are plain directories of the host: each holds file systems or
/// databases that do not work on overlayfs (containerd's snapshots are overlayfs themselves).
const PLAIN: &[(&str, &str)] = &[
    ("containerd", "/var/lib/containerd"),
    ("kubelet", "/var/lib/kubelet"),
    ("etcd", "/var/lib/etcd"),
];

/// System calls that systemd-nspawn blocks and a container runtime needs.
const SYSTEM_CALLS: &str = "add_key keyctl bpf @mount @privileged @raw-io @module";

/// What a node gets from its lab.
pub(super) struct Identity {
    /// Public key of the operator, one line.
    pub operator_key: String,
    /// sudo password of `opspw`.
    pub password: Secret<String>,
    /// `/etc/hosts`, the same on all nodes.
    pub hosts: String,
}

/// One node of a lab, by the directory that holds its data.
pub(super) struct NodeDir<'a> {
    pub dir: PathBuf,
    pub state: &'a State,
    pub node: &'a NodeState,
}

impl<'a> NodeDir<'a> {
    pub(super) fn new(lab: &Path, state: &'a State, node: &'a NodeState) -> Self {
        Self { dir: lab.join("nodes").join(&node.name), state, node }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.dir.join(part)
    }

    /// The node's root filesystem as this machine sees it; without what is mounted inside the node.
    pub(super) fn root(&self) -> PathBuf {
        self.path("root")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.path("console.log")
    }

    /// Makes directories, mounts the root filesystem and writes what makes this node itself.
    pub(super) fn prepare(&self, identity: &Identity) -> Result<(), Error> {
        make_private_dir(&self.dir)?;
        for part in ["upper", "work", "root"] {
            let path = self.path(part);
            std::fs::create_dir_all(&path).map_err(Error::io("make", path))?;
        }
        for &(name, inside) in PLAIN {
            self.make_plain(name, inside)?;
        }
        self.mount()?;
        let root = self.root();
        write(&root.join("etc/hostname"), &format!("{}\n", self.node.name))?;
        write(&root.join("etc/hosts"), &identity.hosts)?;
        // No uplink, no resolver. Nobody listens there, so that lookups fail at once; CoreDNS does not
        // start without a name server to pass questions on to.
        write(
            &root.join("etc/resolv.conf"),
            &format!("# A lab node has no uplink.\nnameserver {}\n", self.state.gateway()),
        )?;
        let units = root.join("etc/systemd/system");
        write(&units.join("lab-cgroups.service"), LAB_CGROUPS)?;
        let wants = units.join("sysinit.target.wants");
        std::fs::create_dir_all(&wants).map_err(Error::io("make", &wants))?;
        let link = wants.join("lab-cgroups.service");
        if !link.is_symlink() {
            std::os::unix::fs::symlink("/etc/systemd/system/lab-cgroups.service", &link)
                .map_err(Error::io("make", &link))?;
        }
        // machine-id(5): 32 hexadecimal digits. Empty, it would change with every boot.
        let id: String = random_bytes::<16>().iter().map(|b| format!("{b:02x}")).collect();
        write(&root.join("etc/machine-id"), &format!("{id}\n"))?;
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("root@{}", self.node.name)])
            .arg("-f")
            .arg(root.join("etc/ssh/ssh_host_ed25519_key")))?;
        authorize(&root.join("root"), &identity.operator_key, 0)?;
        for user in USERS {
            authorize(&root.join("home").join(user.name), &identity.operator_key, user.id)?;
        }
        let line = Secret::new(format!("opspw:{}\n", identity.password.expose()));
        run_with_input(
            Command::new("chpasswd").args(["-c", "SHA512", "-R"]).arg(&root),
            line.expose().as_bytes(),
        )?;
        Ok(())
    }

    /// Owner and mode are those that the package gave the directory.
    fn make_plain(&self, name: &str, inside: &str) -> Result<(), Error> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).map_err(Error::io("make", &path))?;
        let model = self.state.rootfs.join(inside.trim_start_matches('/'));
        if let Ok(meta) = std::fs::metadata(model) {
            chown(&path, Some(meta.uid()), Some(meta.gid()))
                .and_then(|()| std::fs::set_permissions(&path, meta.permissions()))
                .map_err(Error::io("set the owner of", &path))?;
        }
        Ok(())
    }

    fn mount(&self) -> Result<(), Error> {
        let root = self.root();
        if mounts_below(&root)?.contains(&root) {
            return Ok(());
        }
        let mut options = OsString::from("lowerdir=");
        options.push(&self.state.rootfs);
        options.push(",upperdir=");
        options.push(self.path("upper"));
        options.push(",workdir=");
        options.push(self.path("work"));
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o"]).arg(options).arg(root))?;
        Ok(())
    }

    /// The node's host key as it stands in its root filesystem.
    pub(super) fn host_key(&self) -> Result<HostKey, Error> {
        let path = self.root().join("etc/ssh/ssh_host_ed25519_key.pub");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        HostKey::parse(&text).ok_or_else(|| {
            let e = std::io::Error::new(std::io::ErrorKind::InvalidData, "not a public key");
            Error::io("read", path)(e)
        })
    }

    /// Starts the node's supervisor. The node must not be running.
    pub(super) fn start(&self) -> Result<(), Error> {
        self.mount()?;
        let cgroups = cgroup::prepare(&self.state.id, &self.node.name)?;
        let list: String = cgroups.iter().map(|c| format!("{}\n", c.display())).collect();
        write(&self.path("cgroups"), &list)?;
        let script = self.path("supervise.sh");
        write(&script, SUPERVISE)?;
        let console_path = self.console();
        let console = File::options()
            .create(true)
            .append(true)
            .open(&console_path)
            .map_err(Error::io("open", &console_path))?;
        let same = console.try_clone().map_err(Error::io("open", &console_path))?;

        let mut command = Command::new("setsid");
        command.arg("sh").arg(&script).arg(&self.dir).args(self.supervisor_arguments());
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // Without it /proc/sys is read-only in the node and no sysctl can be applied.
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "yes")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(same);
        let mut child = command
            .spawn()
            .map_err(|source| Error::Spawn { command: "setsid sh supervise.sh".into(), source })?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let identity = Process::of(pid);
        // It outlives this program; if this program lives on (tests), somebody has to reap it.
        std::thread::spawn(move || child.wait());
        let text = serde_json::to_string(&identity)
            .map_err(|source| Error::State { path: self.path("supervisor.json"), source })?;
        write(&self.path("supervisor.json"), &text)
    }

    fn supervisor_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            self.state.switch().into(),
            self.netns().into(),
            self.node.name.clone().into(),
            self.state.mac(self.node).into(),
            format!("{}/24", self.node.address).into(),
            self.state.gateway().to_string().into(),
            "systemd-nspawn".into(),
            "--quiet".into(),
            "--directory".into(),
            self.root().into(),
            // Also the name of a directory in /run/systemd/nspawn, so it carries the lab's id.
            format!("--machine={}", self.netns()).into(),
            format!("--hostname={}", self.node.name).into(),
            "--register=no".into(),
            "--keep-unit".into(),
            format!("--network-namespace-path=/run/netns/{}", self.netns()).into(),
            "--capability=all".into(),
            format!("--system-call-filter={SYSTEM_CALLS}").into(),
            "--resolv-conf=off".into(),
            "--timezone=off".into(),
            "--link-journal=no".into(),
            "--bind=/dev/kmsg".into(),
        ];
        for &(name, inside) in PLAIN {
            let mut bind = OsString::from("--bind=");
            bind.push(self.path(name));
            bind.push(":");
            bind.push(inside);
            arguments.push(bind);
        }
        arguments.push("--boot".into());
        arguments
    }

    pub(super) fn netns(&self) -> String {
        self.state.netns(&self.node.name)
    }

    fn supervisor(&self) -> Option<Process> {
        let text = std::fs::read(self.path("supervisor.json")).ok()?;
        let process: Option<Process> = serde_json::from_slice(&text).ok()?;
        process.filter(Process::is_alive)
    }

    /// The running systemd-nspawn.
    fn nspawn(&self) -> Option<i32> {
        let supervisor = self.supervisor()?;
        process::children(supervisor.pid).into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("systemd-nspawn"))
        })
    }

    /// The node's first process, as this machine numbers it.
    pub(super) fn leader(&self) -> Option<i32> {
        let nspawn = self.nspawn()?;
        process::children(nspawn).into_iter().find(|&pid| process::is_init_of_namespace(pid))
    }

    /// Whether the node runs, boots or is between two boots.
    pub(super) fn is_alive(&self) -> bool {
        self.supervisor().is_some()
    }

    /// Asks the node's init to power off (systemd-nspawn passes SIGTERM on as SIGRTMIN+3).
    pub(super) fn ask_to_power_off(&self) {
        if let Some(pid) = self.nspawn() {
            process::terminate(pid);
        }
    }

    /// Ends the node at once, like pulling its plug.
    pub(super) fn kill(&self) -> Result<(), Error> {
        // First, or it would start what is killed next.
        if let Some(supervisor) = self.supervisor() {
            process::kill(supervisor.pid);
        }
        let left = cgroup::kill_all(&self.state.id, &self.node.name, Duration::from_secs(10))?;
        if left.is_empty() {
            return Ok(());
        }
        let pids = left.iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
        Err(Error::Nodes(vec![NodeError::Unkillable { node: self.node.name.clone(), pids }]))
    }

    /// A command that runs a program inside the node; its standard streams are the caller's.
    ///
    /// It enters the node's namespaces but not its cgroups, and needs no sshd.
    pub(super) fn command(&self, argv: &[OsString]) -> Result<Command, Error> {
        let leader = self.leader().ok_or_else(|| Error::NotRunning(self.node.name.clone()))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={leader}"))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"])
            .arg("--")
            .args(argv)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8");
        if let Some(term) = std::env::var_os("TERM") {
            command.env("TERM", term);
        }
        Ok(command)
    }

    /// The id of the current boot, if the node has an init that can be asked.
    pub(super) fn boot_id(&self) -> Result<String, Error> {
        let argv = ["cat", "/proc/sys/kernel/random/boot_id"].map(OsString::from);
        let output = run(&mut self.command(&argv)?)?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Waits until the node runs another boot than `old` and is up.
    pub(super) fn wait_for_next_boot(
        &self,
        old: &str,
        deadline: Duration,
    ) -> Result<(), NodeError> {
        let end = Instant::now() + deadline;
        // Between two boots there is no init to ask, which is not an error here.
        while self.is_alive() && self.boot_id().map_or(true, |id| id == old) {
            if Instant::now() >= end {
                return Err(self.no_answer(deadline));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.wait_until_up(end.saturating_duration_since(Instant::now()))
    }

    /// Waits until sshd shows its banner.
    pub(super) fn wait_for_ssh(&self, deadline: Duration) -> Result<(), NodeError> {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if self.shows_ssh_banner(Duration::from_millis(1500)) {
                return Ok(());
            }
            if !self.is_alive() {
                return Err(NodeError::Ended {
                    node: self.node.name.clone(),
                    console: self.console_tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(self.no_answer(deadline))
    }

    /// How the node is: asks its init, and its sshd for a banner.
    pub(super) fn status(&self) -> NodeStatus {
        let leader = self.leader();
        let systemd = leader.and_then(system_state);
        let state = match systemd.as_deref() {
            Some("running" | "degraded" | "maintenance") => RunState::Running,
            _ if self.is_alive() => RunState::Booting,
            _ => RunState::Stopped,
        };
        NodeStatus {
            name: self.node.name.clone(),
            roles: self.node.roles.clone(),
            address: self.node.address,
            state,
            systemd,
            ssh: state != RunState::Stopped && self.shows_ssh_banner(Duration::from_secs(2)),
            since: leader.and_then(process::started_at).and_then(|t| t.format(&Rfc3339).ok()),
        }
    }

    /// Waits for sshd and then until systemd has started everything. Until then PAM lets only root
    /// log in (pam_nologin), and services are found half-started.
    pub(super) fn wait_until_up(&self, deadline: Duration) -> Result<(), NodeError> {
        let end = Instant::now() + deadline;
        self.wait_for_ssh(deadline)?;
        loop {
            let now = self.status();
            match now.state {
                RunState::Running => return Ok(()),
                RunState::Stopped => {
                    return Err(NodeError::Ended { node: now.name, console: self.console_tail() });
                }
                RunState::Booting if Instant::now() >= end => {
                    return Err(NodeError::StillStarting {
                        node: now.name,
                        systemd: now.systemd.unwrap_or_default(),
                        waited_s: deadline.as_secs(),
                        console: self.console_tail(),
                    });
                }
                RunState::Booting => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn no_answer(&self, waited: Duration) -> NodeError {
        NodeError::NoAnswer {
            node: self.node.name.clone(),
            address: self.node.address,
            waited_s: waited.as_secs(),
            console: self.console_tail(),
        }
    }

    /// Whether a TCP connection to port 22 is answered with `SSH-` (RFC 4253, section 4.2).
    pub(super) fn shows_ssh_banner(&self, patience: Duration) -> bool {
        // Otherwise the packet would go wherever this machine's default route leads.
        if !network::is_plugged(self.state) {
            return false;
        }
        let target = SocketAddr::from((self.node.address, 22));
        let Ok(mut stream) = TcpStream::connect_timeout(&target, patience) else { return false };
        let mut start = [0u8; 4];
        stream.set_read_timeout(Some(patience)).is_ok()
            && stream.read_exact(&mut start).is_ok()
            && &start == b"SSH-"
    }

    fn console_tail(&self) -> String {
        let bytes = std::fs::read(self.console()).unwrap_or_default();
        tail(&String::from_utf8_lossy(&bytes), 20)
    }
}

/// An SSH host key.
pub(super) struct HostKey {
    /// `ssh-ed25519 BASE64`, as in known_hosts.
    pub line: String,
    /// `SHA256:...`.
    pub fingerprint: HostKeyFingerprint,
}

impl HostKey {
    /// Reads the one line of a `.pub` file. The fingerprint is the SHA-256 of the decoded key
    /// (RFC 4255 hashes the same bytes), in base64 without padding, as ssh-keygen prints it.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (kind, key) = (words.next()?, words.next()?);
        let blob = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
        let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(blob));
        let fingerprint = format!("SHA256:{digest}").parse().ok()?;
        Some(Self { line: format!("{kind} {key}"), fingerprint })
    }
}

/// Lets the operator's key log in as the owner of a home directory.
fn authorize(home: &Path, key: &str, id: u32) -> Result<(), Error> {
    let dir = home.join(".ssh");
    make_private_dir(&dir)?;
    let file = dir.join("authorized_keys");
    write_with_mode(&file, key, 0o600)?;
    for path in [&dir, &file] {
        chown(path, Some(id), Some(id)).map_err(Error::io("set the owner of", path))?;
    }
    Ok(())
}

/// Every mount point at or below a directory, in the order they were mounted.
pub(super) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    // Spaces are written as \040 (proc_pid_mountinfo(5)); other escapes cannot occur in a lab's
    // path, which the specification checks.
    let points = text.lines().filter_map(|l| l.split(' ').nth(4));
    let points = points.map(|p| PathBuf::from(p.replace("\\040", " ")));
    Ok(points.filter(|p| p.starts_with(dir)).collect())
}

/// Unmounts everything below a lab's directory of nodes, then removes that directory.
pub(super) fn remove_all(lab: &Path) -> Result<(), Error> {
    let nodes = lab.join("nodes");
    for point in mounts_below(&nodes)?.iter().rev() {
        // A namespace that is being torn down may hold it for a moment longer.
        if run(Command::new("umount").arg(point)).is_err() {
            run(Command::new("umount").arg("--lazy").arg(point))?;
        }
    }
    match mounts_below(&nodes)?.into_iter().next() {
        Some(point) => Err(Error::StillMounted(point)),
        None => rootfs::remove_dir(&nodes),
    }
}

/// What systemd says about itself. It exits non-zero for everything but `running`, so the text
/// counts, not the code; a frozen node does not answer, hence the deadline.
fn system_state(leader: i32) -> Option<String> {
    let script = "systemctl is-system-running || true";
    let output = run(Command::new("timeout")
        .args(["--kill-after=1", "5", "nsenter"])
        .arg(format!("--target={leader}"))
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"])
        .args(["--", "sh", "-c", script]));
    let text = String::from_utf8(output.ok()?).ok()?;
    let word = text.trim().to_owned();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_one_that_ssh_keygen_prints() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        let made =
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        made.unwrap();
        let public = key.with_extension("pub");
        let printed = run(Command::new("ssh-keygen").arg("-lf").arg(&public)).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let parsed = HostKey::parse(&std::fs::read_to_string(public).unwrap()).unwrap();
        assert_eq!(printed.split(' ').nth(1), Some(parsed.fingerprint.as_str()));
        assert!(HostKey::parse("ssh-ed25519").is_none());
    }
}
