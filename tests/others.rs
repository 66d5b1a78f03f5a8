//! Hosts as others have set them up, with the programs that they have: a firewall of their own, fish, a socket for sshd, a
//! sudo that keeps its input, another time daemon, another resolver, a package manager at work.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::skip::skipped;
use kubastion::lab::{Lab, Spec, preflight, quiet};

/// Longer than any verb that only looks takes on three nodes, and shorter than what waits for a shell that says nothing.
const ORDINARY: Duration = Duration::from_secs(12);

struct Hosts<'l> {
    lab: &'l Lab,
}

#[test]
fn hosts_of_others_are_taken_as_they_are() {
    let missing: Vec<String> = preflight().iter().map(|m| format!("{m:?}")).collect();
    if !missing.is_empty() {
        return skipped("hosts_of_others_are_taken_as_they_are", &missing.join("; "));
    }
    let dir = tempfile::Builder::new().prefix("kubastion-others-").tempdir_in("/var/tmp").unwrap();
    let lab = Lab::up(&Spec::new(dir.path().join("lab"), 3, 0), &quiet).unwrap();
    let result = std::panic::catch_unwind(|| {
        let hosts = Hosts { lab: &lab };
        hosts.made();
        hosts.nothing_is_sent_where_it_would_be_kept_or_taken();
        hosts.what_is_there_is_named();
        hosts.apply_waits_for_the_package_manager();
        hosts.what_was_there_stays();
        hosts.what_has_gone_is_not_named();
        hosts.all_of_it_is_taken_back();
    });
    lab.down(&quiet).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

impl Hosts<'_> {
    /// A shell program in a node, past SSH. Only its end is awaited: what it starts may go on.
    fn inside(&self, node: &str, script: &str) -> String {
        let mut command = self.lab.command(node, &["sh", "-ec", script]).unwrap();
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{node}: {script}\n{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a verb says, which has to end with a code, and within a time where it has one.
    fn ends(&self, code: i32, within: Option<Duration>, args: &[&str]) -> String {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
        let output =
            command.current_dir(self.lab.dir()).args(args).stdin(Stdio::null()).output().unwrap();
        let (took, said) = (began.elapsed(), text(&output));
        assert_eq!(output.status.code(), Some(code), "{args:?} after {took:?}\n{said}");
        assert!(within.is_none_or(|w| took < w), "{args:?} took {took:?}\n{said}");
        said
    }

    /// The ways to log in that a node's sshd offers to a new connection.
    fn logins_at(&self, node: &str) -> String {
        let inventory = std::fs::read_to_string(self.lab.inventory()).unwrap();
        let inventory: kubastion::yaml::Value = kubastion::yaml::from_text(&inventory).unwrap();
        let nodes = inventory["nodes"].as_sequence().unwrap();
        let found = nodes.iter().find(|n| n["name"] == node).unwrap();
        let options = "BatchMode=yes PreferredAuthentications=none StrictHostKeyChecking=no \
             UserKnownHostsFile=/dev/null LogLevel=ERROR";
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none"]);
        ssh.args(options.split_whitespace().flat_map(|o| ["-o", o]));
        let output = ssh.arg(format!("root@{}", found["addresses"][0].as_str().unwrap())).output();
        text(&output.unwrap()).trim().to_owned()
    }

    /// By hand, each node as somebody else might have it.
    fn made(&self) {
        let by_hand = [
            ("cp1", "apt-get install -y -qq firewalld systemd-timesyncd"),
            (
                "cp2",
                "apt-get install -y -qq systemd-resolved
                systemctl disable --now ssh.service; systemctl enable --now ssh.socket",
            ),
            (
                "cp3",
                "apt-get install -y -qq fish ufw; chsh -s /usr/bin/fish ops
                for p in 22 2379 2380; do ufw allow $p/tcp; done; ufw --force enable
                sed -i '1i imports = [\"/etc/containerd/conf.d/*.toml\"]' /etc/containerd/config.toml
                cat >>/etc/containerd/config.toml <<'END'
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]
runtime_type = \"io.containerd.kata.v2\"
[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"r.example\".auth]
password = \"poison\"
END
                echo 'Defaults log_input' >/etc/sudoers.d/kept
                d=/root/slow/DEBIAN; mkdir -p $d
                printf '%s\\n' 'Package: slow' 'Version: 1' 'Architecture: all' \\
                    'Maintainer: a test <a@example.org>' 'Description: takes its time' >$d/control
                printf '#!/bin/sh\\ntouch /run/slow\\nsleep 20\\n' >$d/postinst; chmod 0755 $d/postinst
                dpkg-deb -b /root/slow /root/slow.deb",
            ),
        ];
        std::thread::scope(|s| {
            for (node, script) in by_hand {
                s.spawn(move || self.inside(node, &format!("apt-get update -qq; {script}")));
            }
        });
        // Another login user there, by way of sudo.
        let inventory = std::fs::read_to_string(self.lab.inventory()).unwrap();
        let (before, after) = inventory.split_once("  - name: cp3\n").unwrap();
        let after = after.replacen(
            "    ssh:\n",
            "    ssh:\n      user: ops\n      sudo: passwordless\n",
            1,
        );
        std::fs::write(self.lab.inventory(), format!("{before}  - name: cp3\n{after}")).unwrap();
        self.ends(0, None, &["pki", "ensure"]);
    }

    fn nothing_is_sent_where_it_would_be_kept_or_taken(&self) {
        // A start-up file that reads takes what was meant for the program.
        self.inside("cp1", "echo 'read x' >/root/.bashrc");
        let said = self.ends(6, Some(ORDINARY), &["apply", "--yes", "--nodes", "cp1"]);
        assert!(said.contains("a start-up file of the shell read the program's input"), "{said}");
        assert!(said.contains("check whether a start-up file of the login shell"), "{said}");
        self.inside("cp1", "[ ! -e /var/lib/kubastion ]; rm /root/.bashrc");

        let said = self.ends(3, Some(ORDINARY), &["apply", "--yes", "--nodes", "cp3"]);
        assert!(said.contains("sudo records its input (`log_input`)"), "{said}");
        assert!(said.contains("Defaults:ops !log_input"), "{said}");
        let said = self.ends(6, Some(ORDINARY), &["doctor", "--nodes", "cp3"]);
        assert!(said.contains("sudo records its input"), "{said}");
        // It did keep it, and that was no more than what asks for facts.
        self.inside(
            "cp3",
            "[ -n \"$(find /var/log/sudo-io -name stdin)\" ]; [ ! -e /var/lib/kubastion ]",
        );
        // As the hint has it. What sudo writes down of the output is nobody's secret.
        self.inside(
            "cp3",
            "printf '%s\\n' 'Defaults:ops !log_input' 'Defaults:ops log_output' >/etc/sudoers.d/not-kept",
        );
        let said = self.ends(0, Some(ORDINARY), &["doctor", "--nodes", "cp3"]);
        assert!(!said.contains("sudo records"), "{said}");
        self.inside("cp3", "rm /etc/sudoers.d/kept /etc/sudoers.d/not-kept");
    }

    fn what_is_there_is_named(&self) {
        let plan = self.ends(0, Some(ORDINARY), &["plan"]);
        for named in [
            "cp1: firewalld is active alongside kubastion's firewall",
            "cp1: systemd-timesyncd is kept as the time service",
            "cp2: ssh.socket starts sshd",
            "cp3: another firewall drops by default (`ip filter` forward",
            "`ip filter` input",
            // There, kubastion comes as another user, and root's way in is shut.
            "cp3: login `root` from",
            "cp3: /etc/containerd/config.toml is replaced, which removes: `imports`",
            "runtime `kata`",
            "logins of registry `r.example`",
        ] {
            assert!(plan.contains(named), "{named}\n{plan}");
        }
        assert!(!plan.contains("install chrony") && !plan.contains("poison"), "{plan}");
    }

    fn apply_waits_for_the_package_manager(&self) {
        assert!(
            self.logins_at("cp2").contains("(publickey,password)"),
            "{}",
            self.logins_at("cp2")
        );
        self.inside(
            "cp3",
            "systemd-run -q dpkg -i /root/slow.deb; until [ -e /run/slow ]; do sleep 0.1; done",
        );
        let said = self.ends(0, None, &["apply", "--yes"]);
        assert!(said.contains("cp3: waiting for another package manager"), "{said}");
        self.inside(
            "cp3",
            "dpkg -s slow ethtool | grep -c 'Status: install ok installed' | grep -x 2",
        );
    }

    fn what_was_there_stays(&self) {
        let said = self.ends(0, Some(ORDINARY), &["plan", "--exit-code"]);
        assert!(said.contains("0 of 3 nodes change"), "{said}");
        // Nobody reaches etcd on cp1 past firewalld: that is not a pass.
        let said = self.ends(5, None, &["verify"]);
        let unknown = said.split("UNKNOWN").nth(1).unwrap_or_else(|| panic!("{said}"));
        let client = unknown.split("etcd-client-cert-auth").nth(1).unwrap();
        assert!(client.lines().nth(1).is_some_and(|l| l.trim() == "cp1"), "{said}");
        assert!(
            !said.contains("\nFAILED\n") && unknown.contains("no connection for the request"),
            "{said}"
        );
        // The settings are in force for whoever comes now, and the socket still starts sshd.
        assert!(self.logins_at("cp2").contains("(publickey)"), "{}", self.logins_at("cp2"));
        self.inside("cp2", "systemctl is-active ssh.socket; ! systemctl is-enabled ssh.service");
        self.inside("cp1", "systemctl is-active firewalld; systemctl is-enabled systemd-timesyncd");
        self.inside("cp1", "! dpkg -s chrony 2>/dev/null | grep -x 'Status: install ok installed'");
        self.inside("cp3", "ufw status | grep -x 'Status: active'");
        // Each kubelet has the name servers of its own node.
        for (node, file) in [
            ("cp1", "/etc/resolv.conf"),
            ("cp2", "/run/systemd/resolve/resolv.conf"),
            ("cp3", "/etc/resolv.conf"),
        ] {
            let patch = "/etc/kubernetes/kubastion/patches/kubeletconfiguration0+json.yaml";
            let wanted = format!(
                "grep -A 1 'path: /resolvConf' {patch} | grep -F '\"{file}\"'; [ -s {file} ]"
            );
            self.inside(node, &wanted);
        }
    }

    fn what_has_gone_is_not_named(&self) {
        let named = |said: &str| ["firewalld", "another firewall"].map(|w| said.contains(w));
        for verb in [&["plan", "--verbose"][..], &["doctor"]] {
            assert_eq!(named(&self.ends(0, Some(ORDINARY), verb)), [true, true], "{verb:?}");
        }
        self.inside("cp1", "systemctl disable --now firewalld");
        self.inside("cp3", "ufw disable");
        for verb in [&["plan", "--verbose"][..], &["doctor"]] {
            assert_eq!(named(&self.ends(0, Some(ORDINARY), verb)), [false, false], "{verb:?}");
        }
        self.ends(0, None, &["verify"]);
    }

    fn all_of_it_is_taken_back(&self) {
        self.ends(0, None, &["rollback", "--yes"]);
        assert!(
            self.logins_at("cp2").contains("(publickey,password)"),
            "{}",
            self.logins_at("cp2")
        );
        self.inside("cp2", "systemctl is-active ssh.socket");
        self.inside("cp3", "grep '^imports' /etc/containerd/config.toml");
    }
}
