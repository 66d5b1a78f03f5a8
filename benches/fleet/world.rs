//! Many addresses, one sshd, separate roots: one lab node that looks like a fleet.
//!
//! Every address of a network that is all the node's own leads to the same sshd, which changes into the
//! root of that address: an overlay of the node's root, with its changes in memory. systemd, nftables and the
//! kernel are the node's, shared; `/etc` and `/var` are each root's. The roots are mounted in a mount
//! namespace beside the node's, or its systemd would make a unit of every mount.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use kubastion::lab::{Lab, Spec, quiet};

use crate::proxy::Proxy;

const DIR: &str = "/var/tmp/kubastion-bench-lab";
const NODE: &str = "cp1";
/// Port of the sshd of all roots; the lab's own keeps 22.
const PORT: u16 = 2200;

/// What Ansible needs on a node. It is only in this lab's node, taken from this machine, which runs the
/// same release.
const PYTHON: &str = "python3 python3-minimal python3.*-minimal libpython3*-stdlib libpython3.*-minimal \
                      python3.[0-9][0-9] libexpat1 libffi8";

pub struct World {
    lab: Lab,
    control: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Where the files of one run of the bench lie.
    pub dir: tempfile::TempDir,
    pub nodes: usize,
    host_key: String,
    pub fingerprint: String,
}

/// Where the nodes are reached: themselves, or through a proxy that delays.
pub struct Way {
    pub addresses: Vec<SocketAddr>,
    pub proxy: Option<Proxy>,
}

/// The bench's networks are those of RFC 2544 and of the loopback interface.
fn at(net: [u8; 2], i: usize) -> SocketAddr {
    let [a, b] = [i / 250, i % 250 + 1].map(|n| u8::try_from(n).unwrap());
    (IpAddr::from(Ipv4Addr::new(net[0], net[1], a, b)), PORT).into()
}

fn address(i: usize) -> SocketAddr {
    at([198, 18], i)
}

fn front(i: usize) -> SocketAddr {
    at([127, 18], i)
}

impl World {
    pub fn up(nodes: usize) -> Self {
        // A connection and a listener for each node, in this process too.
        raise_open_files();
        // One that a killed run left has an sshd with other roots.
        if let Ok(old) = Lab::open(DIR) {
            old.down(&quiet).unwrap();
        }
        let lab = Lab::up(&Spec::new(DIR, 1, 0), &quiet).unwrap();
        give_python(&lab.root(NODE).unwrap());
        let inside = lab.address(NODE).unwrap().to_string();
        sh(&format!("ip route replace 198.18.0.0/16 via {inside}"));
        let mut control = lab
            .command(NODE, &["unshare", "--mount", "--propagation", "private", "sh"])
            .unwrap()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = control.stdin.take().unwrap();
        let stdout = BufReader::new(control.stdout.take().unwrap());
        let known = std::fs::read_to_string(lab.known_hosts()).unwrap();
        let host_key = known.lines().next().unwrap().split_once(' ').unwrap().1.to_owned();
        let dir = tempfile::Builder::new().prefix("kubastion-bench-").tempdir().unwrap();
        let text = std::fs::read_to_string(lab.inventory()).unwrap();
        let fingerprint = text.split('"').find(|w| w.starts_with("SHA256:")).unwrap().to_owned();
        let mut world = Self { lab, control, stdin, stdout, dir, nodes, host_key, fingerprint };
        world.make_roots();
        std::fs::write(world.known_hosts(), world.known_hosts_text()).unwrap();
        world
    }

    pub fn down(mut self) {
        self.control.kill().unwrap();
        self.control.wait().unwrap();
        self.lab.down(&quiet).unwrap();
    }

    /// The process whose tree is the nodes' side.
    pub fn control(&self) -> u32 {
        self.control.id()
    }

    pub fn key_file(&self) -> PathBuf {
        self.lab.key_file()
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    fn known_hosts_text(&self) -> String {
        let all = (0..self.nodes).flat_map(|i| [address(i), front(i)]);
        all.fold(String::new(), |mut text, a| {
            writeln!(text, "[{}]:{} {}", a.ip(), a.port(), self.host_key).unwrap();
            text
        })
    }

    /// The way to the first nodes with so much added to every round trip.
    pub fn way(&self, nodes: usize, rtt: Duration) -> Way {
        let direct: Vec<SocketAddr> = (0..nodes).map(address).collect();
        if rtt.is_zero() {
            return Way { addresses: direct, proxy: None };
        }
        let ways: Vec<_> = direct.into_iter().enumerate().map(|(i, to)| (front(i), to)).collect();
        let proxy = Proxy::start(&ways, rtt);
        Way { addresses: proxy.fronts().to_vec(), proxy: Some(proxy) }
    }

    /// Takes away what any contender has put on the first nodes.
    pub fn clean(&mut self, nodes: usize) {
        let last = nodes - 1;
        self.inside(&format!(
            "for i in $(seq 0 {last}); do cd /mnt/$i/root && rm -rf etc/*-bench var/lib/kubastion root/.ansible; done; cd /"
        ));
    }

    /// Runs a shell program beside the roots.
    fn inside(&mut self, script: &str) {
        writeln!(self.stdin, "( set -e; {script} ) </dev/null >&2; echo \"status $?\"").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "status 0\n", "{script}");
    }

    fn make_roots(&mut self) {
        let mut config = format!(
            "Port {PORT}\nPidFile none\nHostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM yes\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PrintMotd no\nSubsystem sftp /usr/lib/openssh/sftp-server\nMaxStartups 2000\n\
             # Or systemctl would refuse to ask a systemd outside of its root.\n\
             SetEnv SYSTEMD_IGNORE_CHROOT=1\n"
        );
        for i in 0..self.nodes {
            writeln!(
                config,
                "Match LocalAddress {}\n    ChrootDirectory /mnt/{i}/root",
                address(i).ip()
            )
            .unwrap();
        }
        std::fs::write(self.lab.root(NODE).unwrap().join("etc/ssh/bench_config"), config).unwrap();
        let last = self.nodes - 1;
        self.inside(&format!(
            "ip route replace local 198.18.0.0/16 dev lo
             mount -t tmpfs -o mode=755,size=90% bench /mnt
             for i in $(seq 0 {last}); do
                 r=/mnt/$i
                 mkdir $r $r/upper $r/work $r/root
                 mount -t overlay -o lowerdir=/,upperdir=$r/upper,workdir=$r/work bench $r/root
                 for d in dev proc run sys; do mount --bind /$d $r/root/$d; done
             done
             mkdir -p /run/sshd
             /usr/sbin/sshd -f /etc/ssh/bench_config"
        ));
    }
}

fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn give_python(root: &Path) {
    if root.join("usr/bin/python3").exists() {
        return;
    }
    // Only below /usr: in the node, /lib is a link.
    sh(&format!(
        "cd /; dpkg-query -L $(dpkg-query -W -f '${{Package}}\\n' {PYTHON} 2>/dev/null | sort -u) | \
         sed 's,^/lib/,/usr/lib/,' | grep '^/usr/' | grep -v '^/usr/share/\\(doc\\|man\\|lintian\\)' | sort -u | \
         while read -r f; do [ -d \"$f\" ] && [ ! -L \"$f\" ] || printf '%s\\n' \"$f\"; done | \
         tar --create --files-from=- 2>/dev/null | tar --extract --directory={}",
        root.display()
    ));
}

pub fn sh(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}
