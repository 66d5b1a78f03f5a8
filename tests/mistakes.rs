//! The likeliest mistakes, as somebody meets them on the command line: what is said, how it can be mended,
//! and with which code the program ends.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::fleet::{Lent, borrow};

/// A directory with an inventory, to make a mistake in.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// An inventory whose nodes are nowhere.
    fn alone() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        desk.write("inventory.yaml", ALONE);
        desk.write("known_hosts", "");
        desk.write("key", "");
        desk.mode("key", 0o600);
        desk
    }

    /// The lab's inventory, with a key store.
    fn of(node: &Lent) -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        let text = std::fs::read_to_string(node.lab.inventory()).unwrap();
        desk.write("inventory.yaml", &text);
        let key = node.lab.key_file();
        desk.replace("ssh/id_ed25519", key.to_str().unwrap());
        assert!(desk.run(&["pki", "ensure"]).status.success());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    /// Another text in the inventory, which has to be there.
    fn replace(&self, what: &str, with: &str) {
        let text = std::fs::read_to_string(self.path("inventory.yaml")).unwrap();
        assert!(text.contains(what), "{what}: {text}");
        self.write("inventory.yaml", &text.replace(what, with));
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env_remove("SSH_AUTH_SOCK").output().unwrap()
    }
}

const ALONE: &str = "version: kubastion/v1
cluster: {name: c, kubernetes: 1.36.2, endpoint: '192.0.2.11:6443'}
ssh: {user: root, key_file: key, known_hosts: known_hosts}
firewall: {admin_networks: [192.0.2.0/24]}
nodes:
- {name: cp1, addresses: [192.0.2.11], roles: [control-plane], ssh: {host: 127.0.0.1, port: 1}}
- {name: w1, addresses: [192.0.2.21], roles: [worker], ssh: {host: 127.0.0.1, port: 2}}
";

/// What was done wrong, what is made of the desk, the command, its exit code, and what it has to say: every
/// fragment, in the order of error, why, state, hint.
type Mistake<At> =
    (&'static str, fn(&Desk, &At), &'static [&'static str], i32, &'static [&'static str]);

fn judge<At>(
    desk: &Desk,
    at: &At,
    (what, make, args, code, says): &Mistake<At>,
) -> Result<(), String> {
    make(desk, at);
    let out = desk.run(args);
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    let said = format!("{what}: exit {:?}, wanted {code}\n{err}", out.status.code());
    let mut rest = err.as_str();
    for fragment in *says {
        match rest.split_once(fragment) {
            Some((_, after)) => rest = after,
            None => return Err(format!("`{fragment}` is missing or not in its place\n{said}")),
        }
    }
    let is_good =
        out.status.code() == Some(*code) && err.contains("error: ") && !err.contains("panicked");
    if is_good { Ok(()) } else { Err(said) }
}

const NEEDS_NO_NODE: &[Mistake<()>] = &[
    (
        "no inventory",
        |d, ()| std::fs::remove_file(d.path("inventory.yaml")).unwrap(),
        &["plan"],
        3,
        &["./inventory.yaml: ", "cannot be read", "No such file", "hint:", "inventory init"],
    ),
    (
        "a tab in YAML",
        |d, ()| d.write("inventory.yaml", "cluster:\n\tname: c\n"),
        &["inventory", "check"],
        3,
        &["./inventory.yaml:2:2: ", "not YAML", "tabs"],
    ),
    (
        "a key that is misspelt",
        |d, ()| d.replace("firewall:", "firewal:"),
        &["inventory", "check"],
        3,
        &[":4:1: firewal: unknown key", "hint:  did you mean `firewall`?"],
    ),
    (
        "an address twice",
        |d, ()| d.replace("192.0.2.21", "192.0.2.11"),
        &["inventory", "check"],
        3,
        &[
            ":7:",
            "nodes[1].addresses[0]: nodes[0] has this address",
            "found 192.0.2.11",
            "allowed: each address once",
        ],
    ),
    (
        "a name twice",
        |d, ()| d.replace("name: w1", "name: cp1"),
        &["inventory", "check"],
        3,
        &[":7:", "nodes[1].name", "found"],
    ),
    (
        "a release that is not supported",
        |d, ()| d.replace("1.36.2", "1.20.1"),
        &["inventory", "check"],
        3,
        &[":2:", "cluster.kubernetes: malformed value", "found `1.20.1`", "from 34 to 37"],
    ),
    (
        "nothing to know the machines by",
        |d, ()| d.replace(", known_hosts: known_hosts", ""),
        &["inventory", "check"],
        3,
        &["the host key of cp1 cannot be verified", "hint:", "kubastion trust", "host key of w1"],
    ),
    (
        "no way to log in",
        |d, ()| d.replace("key_file: key, ", ""),
        &["inventory", "check"],
        3,
        &["no login method for cp1", "allowed: `key_file`, `agent: true`"],
    ),
    (
        "an exception that is over",
        |d, ()| {
            let over = "{control: host-audit-rules, reason: r, owner: o, expires: 2020-01-31}";
            d.replace("nodes:\n", &format!("hardening: {{exceptions: [{over}]}}\nnodes:\n"));
        },
        &["inventory", "check"],
        3,
        &["exceptions[0]", "2020-01-31"],
    ),
    (
        "a node that the inventory does not have",
        |_, ()| {},
        &["plan", "--nodes", "w11"],
        2,
        &[
            "--nodes: the inventory has no node `w11`",
            "state: nothing was changed",
            "hint:  did you mean `w1`?",
        ],
    ),
    (
        "no certificates yet",
        |_, ()| {},
        &["plan"],
        4,
        &["are to be issued first", "hint:", "pki ensure"],
    ),
    (
        "a file that is no plan",
        |d, ()| d.write("friday.plan", "{}"),
        &["apply", "friday.plan", "--yes"],
        3,
        &["friday.plan: this is not a plan", "hint:", "kubastion plan --out"],
    ),
    (
        "a plan over another file",
        |_, ()| {},
        &["plan", "--out", "inventory.yaml"],
        3,
        &[
            "inventory.yaml: the file already exists and is not a plan",
            "state: it is unchanged",
            "hint:",
        ],
    ),
    (
        "a key store that others can read",
        |d, ()| {
            assert!(d.run(&["pki", "ensure"]).status.success());
            d.mode("pki", 0o755);
        },
        &["plan"],
        3,
        &["pki", "0755", "hint:"],
    ),
    (
        "a lost CA key",
        |d, ()| {
            assert!(d.run(&["pki", "ensure"]).status.success());
            std::fs::remove_file(d.path("pki/ca.key")).unwrap();
        },
        &["apply", "--yes"],
        3,
        &["cluster CA is incomplete: its key is missing (ca.key in the store)", "hint:", "backup"],
    ),
    (
        "another directory than that of the key store, and no way to the nodes",
        |_, ()| {},
        &["apply", "--yes"],
        6,
        &[
            "cp1: the node cannot be reached",
            "pki: CAs are missing in the key store, and nodes may already have some",
            "state: no CA was created",
            "hint:",
            "`pki.dir`",
            "`kubastion pki ensure`",
        ],
    ),
    (
        "a bundle that is not there",
        |d, ()| {
            let signer =
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJU5vXvAJwOxYMYGhzTqHVOeSVBqGmBdpVC8Ur8lnsNe";
            let bundle = format!(
                "kubernetes: {{source: bundle, bundle: {{path: b, signers: ['{signer}']}}}}"
            );
            d.replace("nodes:\n", &format!("{bundle}\nnodes:\n"));
        },
        &["plan"],
        3,
        &["the directory does not exist", "hint:", "kubernetes.bundle.path"],
    ),
];

#[test]
fn mistakes_on_the_operators_machine_say_how_to_mend_them() {
    let results = NEEDS_NO_NODE.iter().map(|mistake| judge(&Desk::alone(), &(), mistake));
    let wrong: Vec<String> = results.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let twice = Desk::alone();
    assert!(twice.run(&["inventory", "check"]).status.success(), "the desk itself is in order");
}

const ON_NODES: &[Mistake<Lent>] = &[
    (
        "another key than the node knows",
        |d, _| {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(d.path("other"));
            assert!(keygen.status().unwrap().success());
            let known = std::fs::read_to_string(d.path("inventory.yaml")).unwrap();
            let line = known.lines().find(|l| l.contains("key_file:")).unwrap().to_owned();
            d.replace(&line, "  key_file: other");
        },
        &["plan", "--nodes", "w1"],
        6,
        &[
            "w1: the node cannot be reached",
            "login as root",
            "tried key",
            "other",
            "state: nothing was changed",
            "hint:",
            "ssh.key_file",
        ],
    ),
    (
        "a key file that is not there",
        |d, n| d.replace(n.lab.key_file().to_str().unwrap(), "gone"),
        &["plan", "--nodes", "w1"],
        6,
        &["cannot use", "gone", "No such file", "hint:", "ssh.key_file"],
    ),
    (
        "a user who is not there",
        |d, _| d.replace("user: root", "user: nobody-here\n  sudo: passwordless"),
        &["plan", "--nodes", "w1"],
        6,
        &["login as nobody-here", "refused", "hint:", "ssh.user"],
    ),
    (
        "a user without sudo",
        |d, n| {
            n.sh("useradd -m plain 2>/dev/null; install -d -m 700 -o plain /home/plain/.ssh; \
                  install -m 600 -o plain /root/.ssh/authorized_keys /home/plain/.ssh/");
            d.replace("user: root", "user: plain\n  sudo: passwordless");
        },
        &["plan", "--nodes", "w1"],
        6,
        &[
            "w1: the node's facts cannot be read",
            "plain cannot become root",
            "state: nothing was changed",
            "hint:",
            "ssh.sudo",
        ],
    ),
    (
        "another host key",
        |d, n| {
            let mine = n.node().ssh.host_keys[0].to_string();
            d.replace(&mine, &format!("SHA256:{}", "A".repeat(43)));
        },
        &["plan", "--nodes", "w1"],
        6,
        &[
            "host key of",
            "is not trusted: it presented SHA256:",
            "the inventory names",
            "state: nothing",
            "hint:  nothing was sent",
        ],
    ),
    (
        "another host key, looked at first",
        |d, n| {
            let mine = n.node().ssh.host_keys[0].to_string();
            d.replace(&mine, &format!("SHA256:{}", "A".repeat(43)));
        },
        &["trust", "--nodes", "w1"],
        6,
        &[
            "w1: the node presents no host key that the inventory names",
            "the inventory names SHA256:AAAA",
            "state: nothing was sent to it",
            "hint:  compare the fingerprint on its console",
        ],
    ),
    (
        "a closed port",
        |d, _| d.replace("user: root", "user: root\n  port: 1"),
        &["plan", "--nodes", "w1"],
        6,
        &[
            "cannot connect to",
            ":1",
            "Connection refused",
            "state: nothing",
            "hint:  check that sshd is running",
        ],
    ),
    (
        "a full disk",
        |_, n| {
            n.sh(
                "mkdir -p /var/lib/kubastion; mount -t tmpfs -o size=200k tmpfs /var/lib/kubastion",
            );
        },
        &["apply", "--yes", "--nodes", "w1"],
        3,
        &[
            "w1: ",
            "0 MB are free on the file system of /var/lib/kubastion",
            "state: nothing was changed",
            "hint:",
        ],
    ),
    (
        "a system that is not supported",
        |_, n| {
            n.sh("printf 'ID=plan9\\nPRETTY_NAME=\"Plan 9\"\\nVERSION_ID=4\\n' >/run/os-release; \
                  mount --bind /run/os-release /etc/os-release");
        },
        &["plan", "--nodes", "w1"],
        3,
        &[
            "w1: ",
            "Plan 9 is not supported",
            "state: nothing was changed",
            "hint:",
            "Debian and Red Hat",
        ],
    ),
    (
        "another name than the inventory's",
        |_, n| {
            n.sh("hostname somebody-else");
        },
        &["plan", "--nodes", "w1"],
        3,
        &["w1: ", "the host name is `somebody-else`", "state: nothing", "hint:", "equal"],
    ),
    (
        "nobody to ask whether to go on",
        |_, _| {},
        &["apply", "--nodes", "w1"],
        2,
        &[
            "no terminal to prompt on",
            "state: nothing was changed",
            "hint:  apply a saved plan, or use --yes",
        ],
    ),
    (
        "another directory than that of the key store",
        |d, n| {
            std::fs::remove_dir_all(d.path("pki")).unwrap();
            n.sh("mkdir -p /etc/kubernetes/pki; echo x >/etc/kubernetes/pki/ca.crt");
        },
        &["apply", "--yes", "--nodes", "w1"],
        3,
        &[
            "pki: the key store has no CAs, but nodes already have some",
            "found with the CA certificates /etc/kubernetes/pki/ca.crt: w1",
            "state: no CA was created",
            "hint:",
            "`pki.dir`",
        ],
    ),
    (
        "a plan of a node that changed since",
        |d, n| {
            let made = d.run(&["plan", "--out", "friday.plan", "--nodes", "w1"]);
            assert!(made.status.success(), "{made:?}");
            n.sh("mkdir -p /etc/sysctl.d; echo '# somebody' >/etc/sysctl.d/90-kubastion.conf");
        },
        &["apply", "friday.plan", "--yes"],
        3,
        &["the plan is out of date; nothing was changed", "w1", "hint:", "kubastion plan --out"],
    ),
];

/// Takes back what a row did to the node, whichever it was.
const MENDED: &str = "umount /var/lib/kubastion /etc/os-release 2>/dev/null; hostname w1; \
                      rm -f /run/os-release /etc/sysctl.d/90-kubastion.conf; userdel -r plain 2>/dev/null; \
                      rm -f /etc/kubernetes/pki/ca.crt; rmdir /etc/kubernetes/pki /etc/kubernetes 2>/dev/null; true";

#[test]
fn mistakes_about_nodes_say_how_to_mend_them() {
    let Some(node) = borrow("mistakes", "w1") else { return };
    let results = ON_NODES.iter().map(|mistake| {
        let result = judge(&Desk::of(&node), &node, mistake);
        node.sh(MENDED);
        result
    });
    let wrong: Vec<String> = results.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let good = Desk::of(&node).run(&["plan", "--nodes", "w1"]);
    assert!(good.status.success(), "the desk itself is in order: {good:?}");
}

/// No line of an error needs colour, and nothing
/// is coloured for who does not want it.
#[test]
fn errors_can_be_read_without_colour_and_in_narrow_terminals() {
    let desk = Desk::alone();
    desk.replace("firewall:", "firewal:");
    let plain = desk.run(&["inventory", "check"]);
    assert!(!plain.stderr.contains(&0x1b), "{plain:?}");
    for (width, colour) in [("20", "1"), ("400", "")] {
        let mut command = Command::new("script");
        let program = env!("CARGO_BIN_EXE_kubastion");
        let line = format!("stty cols {width}; {program} inventory check; {program} --help");
        command.args(["-qec", &line, "/dev/null"]).current_dir(desk.dir.path());
        let out = command.env("NO_COLOR", colour).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("did you mean `firewall`?") && text.contains("Usage"), "{text}");
        if colour.is_empty() {
            assert!(text.contains("\u{1b}["), "or the next line shows nothing: {text:?}");
        } else {
            assert!(
                !text.contains("\u{1b}[3") && !text.contains("\u{1b}[1m"),
                "NO_COLOR: {text:?}"
            );
        }
    }
}
