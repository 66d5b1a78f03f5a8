//! The others: bare OpenSSH, pyinfra and Ansible, each with what makes it fast, and no more checking than
//! it does by itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{CHANGED, FILES, State, path};
use crate::world::{Way, World, sh};

/// Nodes worked on at once, by everybody.
pub const WINDOW: usize = kubastion::transport::fleet::WINDOW;

/// From PyPI, into a virtual environment of their own.
const VERSIONS: &[&str] = &["ansible-core==2.19.14", "pyinfra==3.10.0"];
const CACHE: &str = "/var/cache/kubastion/bench";

/// What pip and ssh may be told by the caller's environment is kept; what would change the contenders is not.
fn command(program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env_remove("ANSIBLE_CONFIG").env_remove("SSH_AUTH_SOCK");
    command
}

/// The work of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing of it is there yet.
    First,
    /// All of it is there.
    NoOp,
    /// One of the files has another content.
    OneChanged,
}

impl Work {
    pub const ALL: &[Self] = &[Self::First, Self::NoOp, Self::OneChanged];

    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first apply",
            Self::NoOp => "no-op check",
            Self::OneChanged => "one changed file",
        }
    }
}

/// One `ssh` a node: `tar` over the pipe straight into place, and one check of all digests. No staging, no
/// way back, no record: the least that can be called an apply. Of one changed file it is told which.
pub fn openssh(world: &World, way: &Way, work: Work, state: State, dir: &Path) -> Command {
    state.write(&dir.join("files"));
    let sent = match work {
        Work::First | Work::NoOp => "files".to_owned(),
        Work::OneChanged => format!("files/{}", path(CHANGED)),
    };
    sh(&format!(
        "cd {} && find files -type f | sort | xargs sha256sum > SUMS && tar -cf all.tar SUMS {sent}",
        dir.display()
    ));
    let place = "/etc/openssh-bench";
    let (remote, input) = match work {
        Work::NoOp => (format!("cd {place} && sha256sum -c SUMS >/dev/null"), "/dev/null"),
        _ => (
            format!("mkdir -p {place} && cd {place} && tar -xf - && sha256sum -c SUMS >/dev/null"),
            "all.tar",
        ),
    };
    let hosts = way.addresses.iter().fold(String::new(), |mut text, a| {
        writeln!(text, "{} {}", a.port(), a.ip()).unwrap();
        text
    });
    std::fs::write(dir.join("hosts"), hosts).unwrap();
    let ssh = format!(
        "exec ssh -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o BatchMode=yes \
         -p \"$1\" \"root@$2\" '{remote}' <{input}",
        world.key_file().display(),
        world.known_hosts().display()
    );
    let mut command = command("xargs", dir);
    command.args([
        "--arg-file=hosts",
        "-P",
        &WINDOW.to_string(),
        "-n",
        "2",
        "sh",
        "-c",
        &ssh,
        "ssh",
    ]);
    command
}

/// The virtual environment, or why there is none.
pub fn python() -> Result<PathBuf, String> {
    let name = VERSIONS.join("-").replace("==", "-");
    let dir = Path::new(CACHE).join(name);
    let whole = dir.join("complete");
    if whole.exists() {
        return Ok(dir);
    }
    std::fs::create_dir_all(CACHE).map_err(|e| format!("{CACHE}: {e}"))?;
    // Programs of a virtual environment name its place: it is made where it stays.
    let script = format!(
        "/usr/bin/python3 -m venv --clear {0} && {0}/bin/python -m pip install --quiet {1} && : >{0}/complete",
        dir.display(),
        VERSIONS.join(" ")
    );
    let made = Command::new("sh").args(["-c", &script]).output().map_err(|e| e.to_string())?;
    if made.status.success() {
        return Ok(dir);
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(format!("{} cannot be installed: {}", VERSIONS.join(" and "), said.trim()))
}

/// `files.put` for each file, all hosts at once.
pub fn pyinfra(python: &Path, world: &World, way: &Way, state: State, dir: &Path) -> Command {
    state.write(&dir.join("files"));
    let hosts = way.addresses.iter().fold(String::new(), |mut text, a| {
        writeln!(text, "    (\"{}\", {{\"ssh_port\": {}}}),", a.ip(), a.port()).unwrap();
        text
    });
    let inventory = format!(
        "bench = ([\n{hosts}], {{\n    \"ssh_user\": \"root\",\n    \"ssh_key\": \"{}\",\n    \
         \"ssh_known_hosts_file\": \"{}\",\n    \"ssh_strict_host_key_checking\": \"yes\",\n}})\n",
        world.key_file().display(),
        world.known_hosts().display()
    );
    std::fs::write(dir.join("inventory.py"), inventory).unwrap();
    let mut deploy = String::from("from pyinfra.operations import files\n\n");
    for number in 0..FILES {
        let path = path(number);
        writeln!(
            deploy,
            "files.put(src=\"files/{path}\", dest=\"/etc/pyinfra-bench/{path}\", mode=\"600\", user=\"root\", \
             group=\"root\")"
        )
        .unwrap();
    }
    std::fs::write(dir.join("deploy.py"), deploy).unwrap();
    let mut command = command(python.join("bin/pyinfra"), dir);
    command.args(["-y", "--parallel", &WINDOW.to_string(), "inventory.py", "deploy.py"]);
    command
}

/// `copy` of the directory, with pipelining, connections that are kept, and no facts.
pub fn ansible(python: &Path, world: &World, way: &Way, state: State, dir: &Path) -> Command {
    state.write(&dir.join("files"));
    let config = format!(
        "[defaults]\nforks = {WINDOW}\ngathering = explicit\ninventory = hosts\nhost_key_checking = True\n\
         interpreter_python = /usr/bin/python3\nremote_user = root\nprivate_key_file = {}\nretry_files_enabled = False\n\
         local_tmp = {dir}/tmp\n[ssh_connection]\npipelining = True\ncontrol_path_dir = {dir}/cp\n\
         ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s -o IdentitiesOnly=yes -o UserKnownHostsFile={}\n",
        world.key_file().display(),
        world.known_hosts().display(),
        dir = dir.display(),
    );
    std::fs::write(dir.join("ansible.cfg"), config).unwrap();
    let hosts = way.addresses.iter().fold(String::new(), |mut text, a| {
        writeln!(text, "{} ansible_port={}", a.ip(), a.port()).unwrap();
        text
    });
    std::fs::write(dir.join("hosts"), hosts).unwrap();
    let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy:\n        \
                    src: files/\n        dest: /etc/ansible-bench/\n        mode: \"0600\"\n        \
                    directory_mode: \"0755\"\n        owner: root\n        group: root\n";
    std::fs::write(dir.join("site.yaml"), playbook).unwrap();
    let mut command = command(python.join("bin/ansible-playbook"), dir);
    command.arg("site.yaml").env("LC_ALL", "C.UTF-8");
    command
}

/// Ends the connections that Ansible keeps.
pub fn end_kept_connections(dir: &Path) {
    let Ok(sockets) = std::fs::read_dir(dir.join("cp")) else { return };
    for socket in sockets.filter_map(Result::ok) {
        let mut path = std::ffi::OsString::from("ControlPath=");
        path.push(socket.path());
        // One that has ended by itself is as good.
        let _ = Command::new("ssh")
            .args(["-F", "none", "-O", "exit", "-o"])
            .arg(path)
            .arg("x")
            .output();
    }
}
