//! A lab from `up` to `down`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use time::format_description::well_known::Rfc3339;

use super::command::run;
use super::error::{Error, NodeError};
use super::inventory::{self, INVENTORY_FILE};
use super::node::{self, HostKey, Identity, NodeDir};
use super::preflight::{is_root, preflight};
use super::rootfs::{self, make_private_dir, write, write_with_mode};
use super::spec::{Spec, Stock};
use super::state::{NodeState, Phase, STATE_FILE, State, Version};
use super::status::NodeStatus;
use super::{cgroup, network};
use crate::clock::{Clock, random_bytes};
use crate::file_lock::FileLock;
use crate::secret::Secret;

/// How long a node may take from its start until sshd answers and systemd has started everything.
const UP_DEADLINE: Duration = Duration::from_secs(90);

/// How long a node may take to power off before it is killed.
const POWER_OFF_DEADLINE: Duration = Duration::from_secs(15);

/// One step of making or removing a lab, for a line of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node it concerns; the whole lab if absent.
    pub node: Option<String>,
    /// What happened or begins, as a phrase.
    pub what: String,
}

/// Takes steps and shows nothing.
pub fn quiet(_: &Step) {}

pub(super) fn step(what: impl Into<String>) -> Step {
    Step { node: None, what: what.into() }
}

/// inotify instances that a lab of any size can do with. Each systemd needs about ten, all nodes
/// share the kernel's count for root, and the default of 128 is used up by a dozen nodes, whose
/// services then fail one by one.
const INOTIFY_INSTANCES: u32 = 8192;

/// Raises the limit if it is lower. Where that is not allowed, small labs work all the same.
fn raise_inotify_limit(progress: &(dyn Fn(&Step) + Sync)) {
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let now = std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u32>().ok());
    if now.is_some_and(|n| n < INOTIFY_INSTANCES) {
        let how = match std::fs::write(path, INOTIFY_INSTANCES.to_string()) {
            Ok(()) => format!("raised fs.inotify.max_user_instances to {INOTIFY_INSTANCES}"),
            Err(e) => format!("fs.inotify.max_user_instances could not be raised: {e}"),
        };
        progress(&step(how));
    }
}

/// A lab that exists, in whichever state.
#[derive(Debug, Clone)]
pub struct Lab {
    dir: PathBuf,
    state: State,
}

impl Lab {
    /// Makes a lab and waits until every node's sshd answers and its init is done. If `spec.dir` holds the same lab
    /// already and its nodes run, that one is returned. Where a stock cluster is asked for, the nodes are bare and the
    /// lab is in [`Phase::Making`] until `stock::make` is done.
    ///
    /// # Errors
    /// [`Error::Preflight`] with everything this machine lacks; [`Error::Occupied`] if the
    /// directory holds another lab; [`Error::Nodes`] with every node that failed. What was made
    /// until then stays for a look, and [`Lab::down`] removes it.
    pub fn up(spec: &Spec, progress: &(dyn Fn(&Step) + Sync)) -> Result<Self, Error> {
        spec.check()?;
        let dir = absolute(&spec.dir)?;
        let cache = absolute(&spec.cache)?;
        let lacking = preflight();
        if !lacking.is_empty() {
            return Err(Error::Preflight(lacking));
        }
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        let _lock = lock(&dir)?;
        if dir.join(STATE_FILE).exists() {
            let lab = Self::open(&dir)?;
            lab.must_be(spec)?;
            progress(&step("already up"));
            return Ok(lab);
        }
        if dir.join(INVENTORY_FILE).exists() {
            return Err(Error::Spec(format!(
                "{} exists and was not created by a lab; use another directory",
                dir.join(INVENTORY_FILE).display()
            )));
        }
        raise_inotify_limit(progress);
        let codename = rootfs::codename()?;
        let rootfs = rootfs::ensure(&cache, codename, || {
            progress(&step(format!(
                "building a Debian {codename} root filesystem (about a minute, only once)"
            )));
        })?;

        let mut lab = Self { state: new_state(spec, rootfs), dir };
        network::claim(&mut lab.state, |state| {
            let mut state = state.clone();
            name_nodes(&mut state, spec);
            state.write(&lab.dir)
        })?;
        name_nodes(&mut lab.state, spec);
        progress(&step(format!(
            "network {} with bridge namespace {}",
            super::address::network(lab.state.slot),
            lab.state.switch()
        )));
        let identity = lab.make_identity()?;
        lab.for_each(|node| {
            let say = |what: &str| {
                progress(&Step { node: Some(node.node.name.clone()), what: what.to_owned() });
            };
            let failed =
                |source| NodeError::Step { node: node.node.name.clone(), source: Box::new(source) };
            let begun = Instant::now();
            node.prepare(&identity).map_err(failed)?;
            say("root filesystem ready");
            node.start().map_err(failed)?;
            node.wait_until_up(UP_DEADLINE)?;
            say(&format!(
                "up at {} after {:.1} s",
                node.node.address,
                begun.elapsed().as_secs_f32()
            ));
            Ok(())
        })?;
        lab.write_inventory()?;
        if spec.stock.is_none() {
            lab.finish()?;
        }
        progress(&step(format!("inventory at {}", lab.inventory().display())));
        Ok(lab)
    }

    /// The lab in a directory, whether it runs or not.
    ///
    /// # Errors
    /// [`Error::NoLab`] if there is none; [`Error::Preflight`] for anybody but root, to whom every
    /// node would look as if it were off.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        is_root().map_err(|m| Error::Preflight(vec![m]))?;
        let dir = absolute(dir.as_ref())?;
        let state = State::read(&dir)?;
        Ok(Self { dir, state })
    }

    /// Powers the nodes off, kills what is left after 15 s, and removes every mount, namespace,
    /// link, cgroup and file that the lab made. Works on a half-made lab and after this machine
    /// was rebooted. Files in the lab directory that others put there stay.
    ///
    /// # Errors
    /// The first thing that could not be removed; the state file is removed last, so that `down`
    /// can be called again.
    pub fn down(self, progress: &(dyn Fn(&Step) + Sync)) -> Result<(), Error> {
        let _lock = lock(&self.dir)?;
        self.for_each(|node| {
            if node.is_alive() {
                // A frozen node cannot power off.
                let _ = cgroup::freeze(&self.state.id, &node.node.name, cgroup::Freeze::Off);
                node.ask_to_power_off();
                let end = Instant::now() + POWER_OFF_DEADLINE;
                while node.is_alive() && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            let how = if node.is_alive() { "killed" } else { "off" };
            node.kill().map_err(|source| NodeError::Step {
                node: node.node.name.clone(),
                source: Box::new(source),
            })?;
            progress(&Step { node: Some(node.node.name.clone()), what: how.to_owned() });
            Ok(())
        })?;
        network::remove(&self.state)?;
        cgroup::remove(&self.state.id)?;
        node::remove_all(&self.dir)?;
        for node in &self.state.nodes {
            // systemd-nspawn leaves an empty directory per machine where /run is no tmpfs.
            let left =
                Path::new("/run/systemd/nspawn/propagate").join(self.state.netns(&node.name));
            let _ = std::fs::remove_dir(left);
        }
        rootfs::remove_dir(&self.dir.join("ssh"))?;
        rootfs::remove_dir(&self.software())?;
        for file in [INVENTORY_FILE, STATE_FILE, LOCK_FILE] {
            let path = self.dir.join(file);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(e));
                }
                _ => {}
            }
        }
        // Stays if somebody else's files are in it.
        let _ = std::fs::remove_dir(&self.dir);
        progress(&step("removed"));
        Ok(())
    }

    /// How every node is.
    pub fn status(&self) -> Vec<NodeStatus> {
        let nodes = self.nodes();
        std::thread::scope(|scope| {
            let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.status())).collect();
            asked.into_iter().filter_map(|t| t.join().ok()).collect()
        })
    }

    /// How far the lab came.
    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// The lab directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The inventory file; it exists once the lab is up.
    pub fn inventory(&self) -> PathBuf {
        self.dir.join(INVENTORY_FILE)
    }

    /// The operator's private key, which logs in as `root`, `ops` and `opspw`.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("ssh/id_ed25519")
    }

    /// The file with the sudo password of `opspw`, mode 0600.
    pub fn password_file(&self) -> PathBuf {
        self.dir.join("ssh/opspw.password")
    }

    /// An OpenSSH known_hosts file with every node.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("ssh/known_hosts")
    }

    /// Where the software of a stock cluster is while it is made. [`Lab::down`] removes it.
    pub fn software(&self) -> PathBuf {
        self.dir.join("software")
    }

    /// Which stock cluster was asked for.
    pub fn stock(&self) -> Option<Stock> {
        self.state.stock
    }

    /// Everything that was asked for is there.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.state.phase = Phase::Up;
        self.state.write(&self.dir)
    }

    /// Names of the nodes, control planes first.
    pub fn node_names(&self) -> Vec<&str> {
        self.state.nodes.iter().map(|n| n.name.as_str()).collect()
    }

    /// A node's address on the lab's network.
    ///
    /// # Errors
    /// [`Error::UnknownNode`], as in every function that takes a node.
    pub fn address(&self, node: &str) -> Result<std::net::Ipv4Addr, Error> {
        Ok(self.node(node)?.node.address)
    }

    /// A node's root filesystem as this machine sees it. `/run`, `/tmp` and the directories of
    /// containerd, kubelet and etcd are mounted inside the node and not seen here.
    ///
    /// # Errors
    /// [`Error::UnknownNode`].
    pub fn root(&self, node: &str) -> Result<PathBuf, Error> {
        Ok(self.node(node)?.root())
    }

    /// A node's console log of all boots.
    ///
    /// # Errors
    /// [`Error::UnknownNode`].
    pub fn console(&self, node: &str) -> Result<PathBuf, Error> {
        Ok(self.node(node)?.console())
    }

    /// Name of a node's network namespace. It is made anew with every boot.
    ///
    /// # Errors
    /// [`Error::UnknownNode`].
    pub fn netns(&self, node: &str) -> Result<String, Error> {
        Ok(self.node(node)?.netns())
    }

    /// Name of the namespace with the bridge `br0`; a node's port there has the node's name.
    pub fn switch_netns(&self) -> String {
        self.state.switch()
    }

    /// A command that runs a program *inside* a node, as root, without sshd.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if the node has no init.
    pub fn command<S: AsRef<OsStr>>(&self, node: &str, argv: &[S]) -> Result<Command, Error> {
        let argv: Vec<OsString> = argv.iter().map(|a| a.as_ref().to_owned()).collect();
        self.node(node)?.command(&argv)
    }

    /// A command that runs a program *of this machine* in a node's network namespace: what it sends
    /// comes from that node.
    ///
    /// # Errors
    /// [`Error::UnknownNode`].
    pub fn command_in_netns(
        &self,
        node: &str,
        program: impl AsRef<OsStr>,
    ) -> Result<Command, Error> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns(node)?]).arg(program);
        Ok(command)
    }

    /// The id of a node's current boot; changes with every boot.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if it has no init.
    pub fn boot_id(&self, node: &str) -> Result<String, Error> {
        self.node(node)?.boot_id()
    }

    /// Waits until a node runs another boot than `old`, its sshd shows its banner and its init is
    /// done.
    ///
    /// # Errors
    /// [`Error::Nodes`] with the end of its console.
    pub fn wait_for_next_boot(
        &self,
        node: &str,
        old: &str,
        deadline: Duration,
    ) -> Result<(), Error> {
        let waited = self.node(node)?.wait_for_next_boot(old, deadline);
        waited.map_err(|e| Error::Nodes(vec![e]))
    }

    /// Ends a node at once, like pulling its plug. It stays off.
    ///
    /// # Errors
    /// If a process survives SIGKILL for 10 s.
    pub fn kill(&self, node: &str) -> Result<(), Error> {
        self.node(node)?.kill()
    }

    /// Starts a node that is off and waits until it is up, 90 s at most.
    ///
    /// # Errors
    /// [`Error::Nodes`] with the end of its console.
    pub fn start(&self, node: &str) -> Result<(), Error> {
        let node = self.node(node)?;
        if !node.is_alive() {
            node.start()?;
        }
        node.wait_until_up(UP_DEADLINE).map_err(|e| Error::Nodes(vec![e]))
    }

    /// A hard reboot: [`Lab::kill`], then [`Lab::start`].
    ///
    /// # Errors
    /// As those two.
    pub fn reboot(&self, node: &str) -> Result<(), Error> {
        self.kill(node)?;
        self.start(node)
    }

    /// Waits until a node's sshd shows its banner.
    ///
    /// # Errors
    /// [`Error::Nodes`] with the end of its console.
    pub fn wait_for_ssh(&self, node: &str, deadline: Duration) -> Result<(), Error> {
        self.node(node)?.wait_for_ssh(deadline).map_err(|e| Error::Nodes(vec![e]))
    }

    /// Stops every process of a node where it stands: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn freeze(&self, node: &str) -> Result<(), Error> {
        cgroup::freeze(&self.state.id, &self.node(node)?.node.name, cgroup::Freeze::On)
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn thaw(&self, node: &str) -> Result<(), Error> {
        cgroup::freeze(&self.state.id, &self.node(node)?.node.name, cgroup::Freeze::Off)
    }

    fn node(&self, name: &str) -> Result<NodeDir<'_>, Error> {
        let node = self.state.nodes.iter().find(|n| n.name == name);
        let node = node.ok_or_else(|| Error::UnknownNode {
            name: name.to_owned(),
            known: self.node_names().join(", "),
        })?;
        Ok(NodeDir::new(&self.dir, &self.state, node))
    }

    /// All nodes, control planes first.
    pub(super) fn nodes(&self) -> Vec<NodeDir<'_>> {
        let nodes = self.state.nodes.iter();
        nodes.map(|n| NodeDir::new(&self.dir, &self.state, n)).collect()
    }

    /// Does something to all nodes at the same time and reports every failure.
    pub(super) fn for_each(
        &self,
        act: impl Fn(&NodeDir<'_>) -> Result<(), NodeError> + Sync,
    ) -> Result<(), Error> {
        let nodes = self.nodes();
        let failed: Vec<NodeError> = std::thread::scope(|scope| {
            let act = &act;
            let started: Vec<_> = nodes.iter().map(|n| scope.spawn(move || act(n))).collect();
            let ended = started.into_iter().map(|t| {
                // A panic is a bug of ours; hiding it behind a node's error would bury it.
                t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.filter_map(Result::err).collect()
        });
        if failed.is_empty() { Ok(()) } else { Err(Error::Nodes(failed)) }
    }

    /// The operator's key and the password of `opspw`.
    fn make_identity(&self) -> Result<Identity, Error> {
        let ssh = self.dir.join("ssh");
        make_private_dir(&ssh)?;
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "kubastion-lab", "-f"])
            .arg(self.key_file()))?;
        let public = self.dir.join("ssh/id_ed25519.pub");
        let operator_key = std::fs::read_to_string(&public).map_err(Error::io("read", &public))?;
        let bytes = random_bytes::<16>();
        let password = Secret::new(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        write_with_mode(&self.password_file(), password.expose(), 0o600)?;
        let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for node in &self.state.nodes {
            hosts.push_str(&format!("{} {}\n", node.address, node.name));
        }
        Ok(Identity { operator_key, password, hosts })
    }

    fn write_inventory(&self) -> Result<(), Error> {
        let keys: Vec<HostKey> =
            self.nodes().iter().map(NodeDir::host_key).collect::<Result<_, _>>()?;
        let known: String = (self.state.nodes.iter().zip(&keys))
            .map(|(node, key)| format!("{} {}\n", node.address, key.line))
            .collect();
        write(&self.known_hosts(), &known)?;
        let fingerprints: Vec<_> = keys.into_iter().map(|k| k.fingerprint).collect();
        write(&self.inventory(), &inventory::text(&self.state, &fingerprints))
    }

    /// Whether this lab is the one that was asked for, and runs.
    fn must_be(&self, spec: &Spec) -> Result<(), Error> {
        let occupied = |why: String| Error::Occupied { dir: self.dir.clone(), why };
        if self.state.phase != Phase::Up {
            return Err(occupied("its creation did not finish".into()));
        }
        if self.state.stock != spec.stock {
            return Err(occupied(match self.state.stock {
                None => "its nodes were created without a stock cluster".to_owned(),
                Some(stock) => format!("it has a stock cluster with {stock}"),
            }));
        }
        let wanted: Vec<String> = spec.places().into_iter().map(|p| p.name).collect();
        if wanted != self.node_names() {
            return Err(occupied(format!("it has {}", self.node_names().join(", "))));
        }
        let off: Vec<_> =
            self.nodes().iter().filter(|n| !n.is_alive()).map(|n| n.node.name.clone()).collect();
        if off.is_empty() {
            Ok(())
        } else {
            Err(occupied(format!("some of its nodes are off: {}", off.join(", "))))
        }
    }
}

/// Held while a lab is made or removed.
const LOCK_FILE: &str = ".lab.lock";

pub(super) fn lock(dir: &Path) -> Result<FileLock, Error> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(Error::io("open", &path))?;
    FileLock::try_exclusive(file).map_err(|_| {
        Error::Spec(format!("another `kubastion lab` is running in {}", dir.display()))
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("find", path))
}

fn new_state(spec: &Spec, rootfs: PathBuf) -> State {
    let id: String = random_bytes::<3>().iter().map(|b| format!("{b:02x}")).collect();
    let created = Clock::System.now().replace_nanosecond(0).unwrap_or(Clock::System.now());
    let mut state = State {
        version: Version::V1,
        id,
        created: created.format(&Rfc3339).unwrap_or_default(),
        phase: Phase::Making,
        slot: 0,
        rootfs,
        nodes: Vec::new(),
        bundle: spec.bundle.clone(),
        stock: spec.stock,
    };
    name_nodes(&mut state, spec);
    state
}

/// The nodes' addresses follow from the slot.
fn name_nodes(state: &mut State, spec: &Spec) {
    let slot = state.slot;
    let places = spec.places().into_iter();
    state.nodes = places
        .map(|p| NodeState { address: p.address(slot), name: p.name, roles: p.roles })
        .collect();
}
