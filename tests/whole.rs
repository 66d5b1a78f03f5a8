//! The whole line from the command line, on a lab of three control planes and a worker: what a user
//! does in the first hour, and what can go wrong meanwhile.

use crate::support::skip::skipped;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kubastion::lab::{Lab, Spec, preflight, quiet};

struct Whole {
    lab: Lab,
    /// Everything that the program printed so far.
    printed: std::cell::RefCell<String>,
}

/// Begins what one command printed, where it is kept.
const COMMAND: &str = "\n=== ";

/// Where a node may be changed. The key store's own places come and go with the tests.
const PLACES: &str = "/etc /usr/local /var/lib/kubelet /root";

impl Whole {
    fn up(dir: &Path) -> Self {
        let lab = Lab::up(&Spec::new(dir, 3, 1), &quiet).unwrap();
        Self { lab, printed: Default::default() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
        command.current_dir(self.lab.dir()).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        let text = format!(
            "{}$ kubastion {}\n{}{}[exit {:?}]\n",
            COMMAND,
            args.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code()
        );
        self.printed.borrow_mut().push_str(&text);
        output
    }

    /// Runs the program and checks its exit code; returns standard output and error.
    fn ends(&self, code: i32, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (out, err)
    }

    /// Runs a shell program in a node, past SSH.
    fn inside(&self, node: &str, script: &str) -> String {
        let output = self.lab.command(node, &["sh", "-c", script]).unwrap().output().unwrap();
        assert!(output.status.success(), "{node}: {script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Type, mode, owner, target and digest of everything below the places, on every node, and what
    /// the kernel holds.
    fn trees(&self) -> BTreeMap<String, String> {
        let script = format!(
            "find {PLACES} -xdev \\( -type f -o -type l -o -type d \\) -printf '%y %m %U:%G %p %l\\n' | sort; \
             find {PLACES} -xdev -type f -print0 | sort -z | xargs -0 -r sha256sum; \
             nft list tables | sort; nft -s list table ip theirs; nft -s list table inet kubastion 2>/dev/null; \
             cat /proc/sys/net/ipv4/conf/all/send_redirects /proc/sys/net/ipv4/ip_forward"
        );
        let nodes = self.lab.node_names();
        nodes.into_iter().map(|n| (n.to_owned(), self.inside(n, &script))).collect()
    }

    /// What verify and plan must not touch either. Not counted: what the bus starts to answer a
    /// question and ends by itself (timedated).
    fn mutable_state(&self) -> BTreeMap<String, String> {
        let script = "find /etc /usr /var /root /home /opt /srv /tmp -xdev -type f -newermt @0 \
                      ! -path '/var/log/*' ! -path '/var/lib/etcd/*' ! -path '/var/lib/chrony/*' \
                      ! -path '/var/lib/systemd/*' ! -path '/var/lib/containerd/*' \
                      -printf '%p %m %U %G %s %T@ %C@\\n' | sort; \
                      systemctl list-units --all --plain --no-legend --type=service,socket,timer | \
                      grep -v -E 'session-|user@|user-runtime|ssh@|timedated|hostnamed' | awk '{print $1, $3, $4}' | sort; \
                      nft -s list ruleset; cat /etc/passwd";
        let nodes = self.lab.node_names();
        nodes.into_iter().map(|n| (n.to_owned(), self.inside(n, script))).collect()
    }

    /// For whoever has to find out why a story broke off, perhaps from the end of a log alone: what each command ended
    /// with, what nodes keep of transactions that did not end well, and the end of the last command.
    fn say_how_it_stands(&self) {
        let printed = self.printed.borrow();
        let commands: Vec<&str> = printed.split(COMMAND).skip(1).collect();
        for command in &commands {
            let (first, last) = (command.lines().next(), command.trim_end().lines().last());
            eprintln!("{} {}", first.unwrap_or_default(), last.unwrap_or_default());
        }
        let script = "cd /var/lib/kubastion/txn && for d in *; do state=$(cat $d/state); \
             case $state in committed | reverted) continue ;; esac; \
             echo \"$d: $state, $(cat $d/reason)\"; tail -n 4 $d/journal; tail -n 8 $d/step.out $d/restore.out; \
             fuser -v $d/decision.lock; done 2>&1; \
             systemctl list-units --failed --plain --no-legend; systemctl list-jobs --plain --no-legend; \
             pidof etcd && journalctl -u etcd -o cat -n 4 | cut -c 1-250; \
             cut -d' ' -f1-3 /proc/loadavg";
        for node in self.lab.node_names() {
            let output = self.lab.command(node, &["sh", "-c", script]).map(|mut c| c.output());
            eprintln!("--- {node}");
            match output {
                Ok(Ok(o)) => eprint!("{}", String::from_utf8_lossy(&o.stdout)),
                other => eprintln!("{other:?}"),
            }
        }
        let last: Vec<&str> = commands.last().unwrap_or(&"").lines().collect();
        eprintln!("--- the last command\n{}", last[last.len().saturating_sub(30)..].join("\n"));
    }

    fn edit_inventory(&self, from: &str, to: &str) {
        let path = self.lab.inventory();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }
}

/// A firewall table that is somebody else's.
const THEIRS: &str = "nft add table ip theirs; \
    nft add chain ip theirs c '{ type filter hook input priority 7; }'; nft add rule ip theirs c counter";

fn assert_same(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, what: &str) {
    for (node, before) in a {
        let after = &b[node];
        if before != after {
            let old: std::collections::BTreeSet<&str> = before.lines().collect();
            let new: std::collections::BTreeSet<&str> = after.lines().collect();
            panic!(
                "{what}: {node} differs\n- {}\n+ {}",
                old.difference(&new).copied().collect::<Vec<_>>().join("\n- "),
                new.difference(&old).copied().collect::<Vec<_>>().join("\n+ ")
            );
        }
    }
}

#[test]
fn from_bare_nodes_to_proven_ones_and_back() {
    let missing = preflight();
    if !missing.is_empty() {
        let why: Vec<String> = missing.iter().map(|m| m.problem().to_string()).collect();
        return skipped("from_bare_nodes_to_proven_ones_and_back", &why.join("; "));
    }
    let temporary =
        tempfile::Builder::new().prefix("kubastion-whole-").tempdir_in("/var/tmp").unwrap();
    let whole = Whole::up(&temporary.path().join("lab"));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(&whole)));
    if result.is_err() {
        whole.say_how_it_stands();
    }
    whole.lab.clone().down(&quiet).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn story(w: &Whole) {
    // A table that is somebody else's.
    for node in w.lab.node_names() {
        w.inside(node, THEIRS);
    }
    plan_only_looks(w);
    let bare = w.trees();
    a_saved_plan_is_bound_to_what_it_saw(w);
    apply_while_watching_for_secrets(w);
    let (out, _) = w.ends(0, &["plan", "--exit-code"]);
    assert!(out.contains("0 of 4 nodes change"), "{out}");
    let hardened = w.trees();
    verify_only_looks(w);
    verify_finds_what_is_broken(w);
    the_operator_locks_himself_out(w, &hardened);
    the_controller_is_killed(w, &hardened, Then::Wait);
    the_controller_is_killed(w, &hardened, Then::Reboot);
    a_lost_node_does_not_stop_the_others(w);
    etcd_members_go_one_at_a_time(w);
    everything_survives_a_reboot(w);
    let (out, _) = w.ends(0, &["plan", "--exit-code"]);
    assert!(out.contains("0 of 4 nodes change"), "{out}");
    rollback_leads_back(w, &bare);
}

fn plan_only_looks(w: &Whole) {
    w.ends(4, &["plan"]);
    w.ends(0, &["pki", "ensure"]);
    let before = w.mutable_state();
    let (out, _) = w.ends(4, &["plan", "--exit-code"]);
    assert!(out.contains("4 of 4 nodes change"), "{out}");
    let json: serde_json::Value =
        serde_json::from_str(&w.ends(0, &["plan", "--format", "json"]).0).unwrap();
    assert_eq!(json["nodes"].as_object().unwrap().len(), 4);
    assert_same(&before, &w.mutable_state(), "plan changed something");
}

fn a_saved_plan_is_bound_to_what_it_saw(w: &Whole) {
    w.ends(0, &["plan", "--out", "saved.plan"]);
    let before = w.trees();
    w.inside(
        "cp2",
        "mkdir -p /etc/audit/rules.d; echo '# theirs' > /etc/audit/rules.d/90-kubastion.rules",
    );
    let changed = w.trees();
    let (_, err) = w.ends(3, &["apply", "saved.plan"]);
    assert!(
        err.contains("cp2") && err.contains("the plan is out of date; nothing was changed"),
        "{err}"
    );
    assert_same(&changed, &w.trees(), "a refused plan changed something");
    w.inside("cp2", "rm /etc/audit/rules.d/90-kubastion.rules");
    assert_same(&before, &w.trees(), "the test cleans up");
    let text = std::fs::read_to_string(w.lab.dir().join("saved.plan")).unwrap();
    std::fs::write(w.lab.dir().join("forged.plan"), text.replace("ssh.service", "etcd.service"))
        .unwrap();
    let (_, err) = w.ends(3, &["apply", "forged.plan"]);
    assert!(err.contains("changed since it was saved"), "{err}");
}

/// Every secret of the run: lines of private keys, encryption keys, the operator's key.
fn secrets(w: &Whole) -> Vec<String> {
    let mut found = Vec::new();
    let mut stack: Vec<PathBuf> = vec![w.lab.dir().join("pki"), w.lab.dir().join("ssh")];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if name.ends_with(".key") || name == "id_ed25519" {
            // A line in the middle of a PEM body is unique.
            found.extend(text.lines().nth(2).filter(|l| l.len() > 20).map(str::to_owned));
        } else if name == "keys.json" {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            found.extend(json.to_string().split('"').filter(|s| s.len() >= 40).map(str::to_owned));
        } else if name.ends_with(".password") {
            found.push(text.trim().to_owned());
        }
    }
    assert!(found.len() > 20, "secrets were found to look for: {}", found.len());
    found
}

fn apply_while_watching_for_secrets(w: &Whole) {
    // What processes of the operator and of the nodes show while it runs.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let seen = std::sync::Mutex::new(String::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
                    for file in ["cmdline", "environ"] {
                        if let Ok(bytes) = std::fs::read(entry.path().join(file)) {
                            let mut seen = seen.lock().unwrap();
                            let text = String::from_utf8_lossy(&bytes).into_owned();
                            if !seen.contains(&text) {
                                seen.push_str(&text);
                                seen.push('\n');
                            }
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        w.ends(0, &["plan", "--out", "saved.plan"]);
        w.ends(0, &["apply", "saved.plan"]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    w.ends(0, &["plan", "--verbose"]);
    w.ends(0, &["runs"]);
    let mut places: Vec<(String, String)> = vec![
        ("argv or environment".into(), seen.into_inner().unwrap()),
        ("output".into(), w.printed.borrow().clone()),
        ("plan".into(), std::fs::read_to_string(w.lab.dir().join("saved.plan")).unwrap()),
    ];
    for entry in std::fs::read_dir(w.lab.dir().join(".kubastion/runs")).unwrap() {
        places.push(("record".into(), std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    for node in w.lab.node_names() {
        let script = "journalctl --no-pager -o cat; find /tmp /var/tmp /run /var/log /var/lib/kubastion -xdev -type f -size -2000k -exec cat {} + 2>/dev/null | tr -d '\\0'";
        places.push((format!("{node}: journal, logs, temporary files"), w.inside(node, script)));
    }
    let secrets = secrets(w);
    // The search finds them where they belong.
    let home =
        w.inside("cp1", "cat /etc/etcd/pki/*.key /etc/kubernetes/pki/*.key 2>/dev/null; true");
    assert!(secrets.iter().any(|s| home.contains(s.as_str())), "the search finds nothing at all");
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty: nothing was searched");
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {place}");
        }
    }
}

fn verify_only_looks(w: &Whole) {
    let before = w.mutable_state();
    let (out, err) = w.ends(0, &["verify", "--summary"]);
    assert!(out.contains("read etcd without a certificate: refused 3 times"), "{out}\n{err}");
    let json: serde_json::Value =
        serde_json::from_str(&w.ends(0, &["verify", "--format", "json"]).0).unwrap();
    // What needs Kubernetes is said so, and is no pass.
    let findings = json["findings"].as_array().unwrap();
    let api: Vec<_> =
        findings.iter().filter(|f| f["control"] == "apiserver-anonymous-auth").collect();
    assert_eq!(api.len(), 3);
    assert!(
        api.iter().all(|f| f["verdict"] == "not-applicable" && f["staged"]["verdict"] == "pass")
    );
    // What holds, holds by answers.
    let evidence = findings.iter().flat_map(|f| f["evidence"].as_array().unwrap());
    let held: Vec<_> = evidence.filter(|e| e["verdict"] == "pass").collect();
    assert!(held.len() > 100, "{}", held.len());
    for e in held {
        let sources = e["sources"].as_array().unwrap();
        assert!(!sources.is_empty() && sources.iter().all(|s| s["sha256"].is_string()), "{e}");
    }
    assert_same(&before, &w.mutable_state(), "verify changed something");
}

fn verify_finds_what_is_broken(w: &Whole) {
    let (name, breaks, mends, control) = (
        "cp1",
        "nft insert rule inet kubastion input tcp dport 2379 accept",
        "systemctl restart kubastion-firewall",
        "host-firewall-control-plane",
    );
    w.inside(name, breaks);
    let (out, _) = w.ends(5, &["verify"]);
    assert!(out.contains(control), "{out}");
    w.inside(name, mends);
    // Somebody's own rule, in the file and loaded from it: all on the node fits together.
    let file = "/etc/kubastion/firewall.nft";
    w.inside("w1", &format!("cp -p {file} /root/rules; sed -i 's/policy drop;/& tcp dport 3000-9000 accept;/' {file}; {mends}; nft list table inet kubastion | grep -q 3000-9000"));
    let (out, _) = w.ends(5, &["verify"]);
    assert!(
        out.contains("host-firewall-worker") && out.contains("the rules of the inventory"),
        "{out}"
    );
    w.inside("w1", &format!("mv /root/rules {file}; {mends}"));
    w.inside("w1", "chmod 666 /etc/ssh/sshd_config.d/00-kubastion.conf; echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-a.conf; systemctl reload ssh");
    listens_again(w, "w1");
    let (out, _) = w.ends(5, &["verify"]);
    assert!(out.contains("host-ssh-hardening"), "{out}");
    w.inside("w1", "chmod 600 /etc/ssh/sshd_config.d/00-kubastion.conf; rm /etc/ssh/sshd_config.d/00-a.conf; systemctl reload ssh");
    listens_again(w, "w1");
    w.ends(0, &["verify"]);
}

/// A reload ends before sshd has closed its port, and opened it anew.
fn listens_again(w: &Whole, name: &str) {
    std::thread::sleep(Duration::from_secs(1));
    w.lab.wait_for_ssh(name, Duration::from_secs(60)).unwrap();
}

fn the_operator_locks_himself_out(w: &Whole, hardened: &BTreeMap<String, String>) {
    let text = std::fs::read_to_string(w.lab.inventory()).unwrap();
    let admin = text.lines().find(|l| l.contains("admin_networks")).unwrap().to_owned();
    w.edit_inventory(&admin, "  admin_networks: [192.0.2.0/24]");
    let (out, err) = w.ends(6, &["apply", "--yes"]);
    assert!(
        out.contains("rolled back") && out.contains("skipped"),
        "the canary went back, the others were spared\n{out}\n{err}"
    );
    w.edit_inventory("  admin_networks: [192.0.2.0/24]", &admin);
    assert_same(hardened, &w.trees(), "after the lock-out");
    w.ends(0, &["plan", "--exit-code"]);
}

/// What happens to the node after the controller was killed in its confirm window.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Wait,
    Reboot,
}

fn the_controller_is_killed(w: &Whole, hardened: &BTreeMap<String, String>, then: Then) {
    let text = std::fs::read_to_string(w.lab.inventory()).unwrap();
    let admin = text.lines().find(|l| l.contains("admin_networks")).unwrap().to_owned();
    w.edit_inventory(&admin, "  admin_networks: [192.0.2.0/24]");
    let mut child =
        w.command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let armed =
        || w.inside("w1", "cat /var/lib/kubastion/armed 2>/dev/null; true").trim().to_owned();
    let locked = || w.inside("w1", "nft list table inet kubastion").contains("192.0.2.0");
    let deadline = Instant::now() + Duration::from_secs(30);
    while armed().is_empty() || !locked() {
        assert!(Instant::now() < deadline, "w1 was never armed and switched");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SIGKILL: nothing can be tidied up.
    child.kill().unwrap();
    child.wait().unwrap();
    w.edit_inventory("  admin_networks: [192.0.2.0/24]", &admin);
    match then {
        Then::Wait => {
            let deadline = Instant::now() + Duration::from_secs(90);
            while !armed().is_empty() {
                assert!(Instant::now() < deadline, "w1 did not go back by itself");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Then::Reboot => {
            let boot = w.lab.boot_id("w1").unwrap();
            w.lab.reboot("w1").unwrap();
            w.lab.wait_for_next_boot("w1", &boot, Duration::from_secs(60)).unwrap();
            w.lab.wait_for_ssh("w1", Duration::from_secs(60)).unwrap();
            assert_eq!(armed(), "");
            w.inside("w1", THEIRS);
        }
    }
    assert_same(hardened, &w.trees(), "after a killed controller");
    let (out, _) = w.ends(0, &["runs"]);
    assert!(out.contains("interrupted"), "{out}");
    w.ends(0, &["apply", "--yes"]);
    w.ends(0, &["plan", "--exit-code"]);
}

fn a_lost_node_does_not_stop_the_others(w: &Whole) {
    w.lab.freeze("w1").unwrap();
    w.inside(
        "cp1",
        "chmod 644 /etc/sysctl.d/90-kubastion.conf; chmod 666 /etc/sysctl.d/90-kubastion.conf",
    );
    let (out, err) = w.ends(6, &["apply", "--yes"]);
    w.lab.thaw("w1").unwrap();
    assert!(err.contains("w1") && err.contains("cannot be reached"), "{err}");
    assert!(out.contains("cp1: host committed"), "{out}");
    w.ends(0, &["plan", "--exit-code"]);
}

fn etcd_members_go_one_at_a_time(w: &Whole) {
    let member = w.inside("cp2", "cat /proc/$(pidof etcd)/stat | cut -d' ' -f22");
    // A drifted file of one member: its service restarts, and no other does.
    w.inside("cp1", "echo '# drift' >> /etc/systemd/system/etcd.service");
    let (out, _) = w.ends(4, &["plan", "--exit-code"]);
    assert!(out.contains("1 of 4 nodes change"), "{out}");
    w.ends(0, &["apply", "--yes"]);
    assert_eq!(w.inside("cp2", "cat /proc/$(pidof etcd)/stat | cut -d' ' -f22"), member);
    // With one member gone, stopping another would cost the quorum: refused.
    w.inside("cp3", "systemctl stop etcd");
    w.inside("cp1", "echo '# drift' >> /etc/systemd/system/etcd.service");
    let (out, _) = w.ends(6, &["apply", "--yes", "--nodes", "cp1"]);
    assert!(out.contains("quorum"), "{out}");
    w.inside("cp3", "systemctl start etcd");
    w.ends(0, &["apply", "--yes"]);
    w.ends(0, &["plan", "--exit-code"]);
}

fn everything_survives_a_reboot(w: &Whole) {
    for node in ["cp1", "w1"] {
        let boot = w.lab.boot_id(node).unwrap();
        w.lab.reboot(node).unwrap();
        w.lab.wait_for_next_boot(node, &boot, Duration::from_secs(60)).unwrap();
        w.lab.wait_for_ssh(node, Duration::from_secs(60)).unwrap();
        assert!(w.inside(node, "nft list table inet kubastion").contains("policy drop"));
        // The table came before sshd.
        let order = w.inside(
            node,
            "systemctl show -p ActiveEnterTimestampMonotonic --value kubastion-firewall.service ssh.service | grep .",
        );
        let times: Vec<u64> = order.lines().map(|l| l.parse().unwrap()).collect();
        assert!(times[0] <= times[1], "{node}: the firewall came after sshd: {times:?}");
        // Somebody else's table was not saved by its owner.
        w.inside(node, THEIRS);
    }
}

fn rollback_leads_back(w: &Whole, bare: &BTreeMap<String, String>) {
    let runs: serde_json::Value =
        serde_json::from_str(&w.ends(0, &["runs", "--format", "json"]).0).unwrap();
    let mut ids: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["kind"] == "apply")
        .filter(|r| {
            r["transactions"]
                .as_array()
                .is_some_and(|t| t.iter().any(|t| t["outcome"]["outcome"] == "committed"))
        })
        .map(|r| r["run"].as_str().unwrap())
        .collect();
    assert!(ids.len() >= 3, "{ids:?}");
    // The first one cannot go while others stand on it.
    let (out, _) = w.ends(6, &["rollback", ids[0], "--yes"]);
    assert!(out.contains("builds on it: roll back"), "{out}");
    while let Some(id) = ids.pop() {
        w.ends(0, &["rollback", id, "--yes"]);
    }
    // Packages stay, as the help of rollback says; so do etcd's data.
    assert_same(&without_ethtool(bare), &without_ethtool(&w.trees()), "rollback");
    assert_eq!(w.inside("cp1", "pidof etcd; true"), "");
}

fn without_ethtool(trees: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let keep = |l: &&str| !l.contains("ethtool") && !l.contains("/etc/network");
    trees
        .iter()
        .map(|(n, t)| (n.clone(), t.lines().filter(keep).collect::<Vec<_>>().join("\n")))
        .collect()
}
