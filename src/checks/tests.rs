//! The same rows judge what is rendered and what a node holds: a hardened node passes them all, and
//! one thing broken fails exactly the controls that are about it.

use crate::checks::node::access::UPDATE_SERVICES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use time::OffsetDateTime;
use time::macros::datetime;

use crate::checks::Basis;
use crate::checks::Finding;
use crate::checks::Outcome;
use crate::checks::Verdict;
use crate::checks::findings::of_node;
use crate::checks::observed::{ETCD_UNIT, FIREWALL_FILE, Observed, Origin, SSHD_DROP_IN};
use crate::checks::of_rendered;
use crate::checks::{Attempt, Lists, Machine, Tried, Witness};
use crate::clock::Clock;
use crate::controls::daemons::DAEMONS;
use crate::controls::{CATALOGUE, Check, Config, Daemon, DaemonRow, KERNEL_SETTINGS, Probe};
use crate::desired;
use crate::digest::Digest;
use crate::facts::answers::Answers;
use crate::facts::cluster::Kind;
use crate::facts::live::{
    Accounts, HomeKubeconfig, LiveFacts, LiveProcess, LiveSocket, LiveUnit, MountChange,
    PathAccess, PathKind, StateChange,
};
use crate::facts::{
    EntryKind, FileFacts, Listener, LsmFacts, NftFacts, NftRecord, NodeFacts, ProcessFacts,
    SshdMatch, TimeFacts, TreeEntry, TreeFacts,
};
use crate::inventory::{Files, Inventory, LoadContext, load_bytes};
use crate::pki;

pub(super) const NOW: OffsetDateTime = datetime!(2026-02-01 12:00 UTC);

/// One machine for everything, with a registry, so that every node-level row is about it.
const INVENTORY: &str = r#"
version: kubastion/v1
cluster: { name: small, kubernetes: 1.36.2, endpoint: "192.0.2.11:6443" }
ssh: { agent: true, known_hosts: kh }
runtime: { registry_mirrors: { registry.k8s.io: ["https://mirror.example"] }, cni: none }
nodes:
  - { name: a, addresses: [192.0.2.11], roles: [control-plane] }
  - { name: b, addresses: [192.0.2.21], roles: [worker] }
"#;

pub(super) fn inventory(change: &dyn Fn(&str) -> String) -> Inventory {
    let context = LoadContext {
        clock: Clock::Fixed(NOW),
        known_controls: &crate::controls::ids::ALL,
        critical_controls: &crate::controls::ids::CRITICAL,
        home: None,
        host_keys_optional: false,
    };
    let text = change(INVENTORY);
    let dir = std::path::Path::new("/i");
    load_bytes(text.as_bytes(), std::path::Path::new("i.yaml"), dir, &context).unwrap().inventory
}

fn facts(node: &str) -> NodeFacts {
    let mut facts = NodeFacts::bare(node);
    facts.packages = [
        ("containerd", "2.1.9-1"),
        ("etcd-server", "3.5.30-1"),
        ("chrony", "4"),
        ("auditd", "4"),
        ("unattended-upgrades", "2.12"),
        ("nftables", "1.1"),
    ]
    .map(|(name, version)| (name.to_owned(), version.to_owned()))
    .into();
    facts.sshd.clear();
    facts
}

/// What is rendered for a node, with real certificates.
pub(super) fn rendered(inventory: &Inventory, name: &str) -> Observed {
    rendered_with(inventory, &Files::default(), name)
}

pub(super) fn rendered_with(inventory: &Inventory, files: &Files, name: &str) -> Observed {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = inventory.clone();
    inventory.pki.dir = dir.path().join("pki");
    let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase in this test"));
    let mut store = pki::Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
    let (material, _) = pki::ensure(&inventory, &mut store, ask, Clock::Fixed(NOW)).unwrap();
    let facts = facts(name);
    let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
    let wanted =
        desired::resolve(&inventory, files, node, &facts, &material, &desired::Shared::default())
            .unwrap_or_else(|e| panic!("{e:?}"));
    Observed::from_desired(&wanted, &facts)
}

pub(super) fn judged(
    inventory: &Inventory,
    name: &str,
    seen: &Observed,
    attempts: &[Attempt],
) -> Vec<Finding> {
    let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
    let on = Basis { inventory, software: None, node, seen, now: NOW };
    match seen.origin {
        Origin::Rendered => of_rendered(&on),
        Origin::Node => of_node(&on, attempts),
    }
}

fn ids(findings: &[Finding], outcome: Outcome) -> BTreeSet<&'static str> {
    findings.iter().filter(|f| f.outcome() == outcome).map(|f| f.control).collect()
}

#[test]
fn what_is_rendered_holds_in_every_profile_and_release() {
    for profile in ["nsa", "cis", "stig"] {
        for minor in crate::inventory::KubernetesVersion::SUPPORTED_MINORS {
            let release = format!("1.{minor}.1");
            let inventory = inventory(&|t| {
                let t = t.replace("1.36.2", &release);
                format!("{t}hardening: {{ profile: {profile} }}\n")
            });
            for node in ["a", "b"] {
                let findings = judged(&inventory, node, &rendered(&inventory, node), &[]);
                for f in &findings {
                    let bad = |v: &Verdict| matches!(v.outcome(), Outcome::Fail | Outcome::Unknown);
                    assert!(!bad(&f.verdict), "{profile} {release} {node}: {f:#?}");
                    assert!(
                        !f.staged.as_ref().is_some_and(bad),
                        "{profile} {release} {node}: {f:#?}"
                    );
                }
                let passed = ids(&findings, Outcome::Pass);
                for id in ["host-ssh-hardening", "host-sysctls", "containerd-config-permissions"] {
                    assert!(passed.contains(id), "{id} was not judged on {node}: {passed:?}");
                }
                if node == "a" {
                    assert!(passed.contains("etcd-client-cert-auth"), "{passed:?}");
                    let staged = findings.iter().filter(|f| f.staged.is_some()).count();
                    assert!(staged > 50, "only {staged} controls were judged on staged files");
                }
            }
        }
    }
}

/// A control-plane node after everything was applied, Kubernetes included.
pub(super) fn hardened() -> &'static (Inventory, Observed) {
    static NODE: OnceLock<(Inventory, Observed)> = OnceLock::new();
    NODE.get_or_init(|| {
        let inventory = inventory(&|t| t.to_owned());
        let seen = running(rendered(&inventory, "a"));
        (inventory, seen)
    })
}

/// Starts, on paper, what was rendered.
pub(super) fn running(mut seen: Observed) -> Observed {
    let staged = seen.staged.clone();
    seen.origin = Origin::Node;
    let mut processes: BTreeMap<String, Vec<ProcessFacts>> = seen.processes.unwrap_or_default();
    let mut start = |daemon: Daemon, argv: Vec<String>| {
        let process = ProcessFacts { pid: 7, user: "root".into(), argv };
        processes.insert(daemon.comm().to_owned(), vec![process]);
    };
    for daemon in [Daemon::Apiserver, Daemon::ControllerManager, Daemon::Scheduler] {
        start(daemon, staged.argv(daemon).unwrap().to_vec());
    }
    start(
        Daemon::Kubelet,
        vec!["/usr/bin/kubelet".into(), "--config=/var/lib/kubelet/config.yaml".into()],
    );
    start(
        Daemon::KubeProxy,
        vec!["kube-proxy".into(), "--metrics-bind-address=127.0.0.1:10249".into()],
    );
    start(Daemon::Containerd, vec!["/usr/bin/containerd".into()]);
    seen.processes = Some(processes);

    let file = |mode| FileFacts::File {
        mode,
        owner: "root".into(),
        group: "root".into(),
        size: 9,
        sha256: "0".repeat(64),
    };
    let kubelet = crate::yaml::to_text(staged.document(Config::Kubelet).unwrap());
    let probes = "spec:\n  containers:\n  - livenessProbe: { tcpSocket: { port: 6443 } }\n";
    for (path, text) in [
        ("/var/lib/kubelet/config.yaml", kubelet.as_str()),
        ("/etc/kubernetes/manifests/kube-apiserver.yaml", probes),
    ] {
        seen.files.insert(path.into(), file(0o600));
        seen.texts.insert(path.into(), Some(text.to_owned()));
    }
    for path in [
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/kubernetes/super-admin.conf",
        "/etc/kubernetes/proxy.conf",
        "/var/lib/kubelet/instance-config.yaml",
        "/var/lib/kubelet/kubeadm-flags.env",
        "/var/lib/kubelet/pki/kubelet-server-current.pem",
    ] {
        seen.files.entry(path.into()).or_insert(FileFacts::Absent);
    }
    seen.files.insert("/usr/lib/systemd/system/kubelet.service".into(), file(0o600));
    seen.files.insert("/var/log/kubernetes/audit/audit.log".into(), file(0o600));
    seen.files.insert(
        "/run/containerd/containerd.sock".into(),
        FileFacts::Other { mode: 0o660, owner: "root".into(), group: "root".into() },
    );
    seen.files.insert(
        "/var/lib/etcd/member".into(),
        FileFacts::Directory { mode: 0o700, owner: "etcd".into(), group: "etcd".into() },
    );
    seen.files.insert("/etc/cni/net.d/10-calico.conflist".into(), file(0o600));
    seen.files.insert("/etc/ld.so.preload".into(), FileFacts::Absent);
    seen.trees = Some(trees(&seen.files));

    let sum = match &seen.files[FIREWALL_FILE] {
        FileFacts::File { sha256, .. } => sha256.clone(),
        other => panic!("{other:?}"),
    };
    seen.wanted_firewall_sha256 = Some(sum.clone());
    let held = |(path, _)| {
        let text = seen.texts.get(path).cloned().flatten().unwrap_or_default();
        (path, crate::pki::certificates(&text).unwrap_or_default())
    };
    seen.trusted_cas = Some(desired::CA_FILES.into_iter().map(held).collect());
    seen.nft = Some(NftFacts {
        usable: true,
        own_listing_sha256: Some("l".into()),
        recorded: Some(NftRecord { file_sha256: sum, listing_sha256: "l".into() }),
        ..NftFacts::default()
    });
    let listen =
        |address: &str, port| Listener { protocol: "tcp".into(), address: address.into(), port };
    seen.listeners = Some(vec![
        listen("0.0.0.0", 22),
        listen("127.0.0.1", 2381),
        listen("127.0.0.1", 10248),
        listen("::", 10250),
        listen("127.0.0.1", 10257),
        listen("127.0.0.1", 10259),
        listen("::", 6443),
    ]);
    let sshd = seen.sshd.as_mut().unwrap();
    sshd.insert("port".into(), vec!["22".into()]);
    sshd.insert("authorizedkeysfile".into(), vec![".ssh/authorized_keys".into()]);
    // What OpenSSH 9.2 of Debian 12 makes of our lists.
    for (key, value) in [
        (
            "ciphers",
            "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com",
        ),
        (
            "macs",
            "umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com",
        ),
        (
            "kexalgorithms",
            "sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256",
        ),
    ] {
        sshd.insert(key.into(), vec![value.into()]);
    }
    seen.sshd_matches = Some(Vec::new());
    seen.lsm = Some(LsmFacts {
        active: vec!["apparmor".into()],
        apparmor: Some(true),
        selinux_enforcing: None,
    });
    seen.time = Some(TimeFacts { synchronized: Some(true), chrony: Some("Normal".into()) });
    let timer = seen.units["apt-daily-upgrade.timer"].clone();
    seen.units.insert("apt-daily.timer".into(), timer);
    seen.audit_enabled = Some(1);
    let rules =
        seen.texts.iter().find(|(p, _)| p.starts_with("/etc/audit/rules.d/")).unwrap().1.clone();
    seen.proxy_config = Some(Ok(staged.document(Config::KubeProxy).unwrap().clone()));
    seen.live = Some(live(&seen));
    seen.pending = Some(Ok(Vec::new()));
    answered(&mut seen);
    seen.audit_rules =
        Some(rules.unwrap().lines().filter(|l| l.starts_with('-')).map(str::to_owned).collect());
    seen
}

/// Gives the node an answer to everything, also that nothing is at a path that was asked for and is not there.
fn answered(seen: &mut Observed) {
    let inventory = inventory(&|t| t.to_owned());
    for path in crate::checks::watch(&inventory, &inventory.nodes[0]).files {
        seen.files.entry(path).or_insert(FileFacts::Absent);
    }
    seen.machine =
        Some(Machine { host_key: "SHA256:played".to_owned(), boot_id: "b".to_owned() }.into());
    seen.answers = Answers::played(seen.sysctls.keys().cloned());
    seen.live.as_mut().unwrap().answers = Answers::played([]);
    let lists = [Kind::ConfigMaps].map(|kind| (kind, Digest::of("list")));
    seen.lists = Lists::played(lists);
}

/// What `nft -j` says of the rules of node a, loaded.
const LOADED_RULES: &str = include_str!("../../tests/fixtures/loaded-rules.json");

/// The rules in the kernel are judged in the words of a real nft, and of the rules that are rendered now.
#[test]
fn the_loaded_rules_are_those_that_are_rendered() {
    let seen = rendered(&inventory(&|t| t.to_owned()), "a");
    let text = seen.texts[FIREWALL_FILE].clone().unwrap();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let file = dir.join("loaded-rules.nft");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        // Until they are loaded: the two files are of one moment.
        let new = dir.join("loaded-rules.new");
        std::fs::write(&new, &text).unwrap();
        // As root; a network namespace has rules of its own.
        let script = "nft -f loaded-rules.new && nft -j list table inet kubastion";
        let mut command = std::process::Command::new("unshare");
        let output = command.args(["-n", "sh", "-c", script]).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let listing = serde_json::to_string_pretty(&listing).unwrap() + "\n";
        std::fs::write(dir.join("loaded-rules.json"), listing).unwrap();
        std::fs::rename(&new, &file).unwrap();
    }
    let loaded = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        text, loaded,
        "UPDATE_GOLDEN=1 cargo test --lib the_loaded_rules loads them anew, as root"
    );
}

/// When everything on paper was started, and, earlier, written.
const BEGAN_S: f64 = 2000.0;
const WRITTEN_S: f64 = 1000.0;

/// What is in effect on a node on which nobody changed anything.
fn live(seen: &Observed) -> LiveFacts {
    let mut facts = LiveFacts::default();
    let of_daemons = seen.processes.as_ref().unwrap().values().flatten();
    let sshd = ProcessFacts {
        pid: 0,
        user: "root".into(),
        argv: vec!["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups".into()],
    };
    for (pid, process) in (101..).zip(of_daemons.chain([&sshd])) {
        let name = process.argv[0].rsplit('/').next().unwrap().split(' ').next().unwrap();
        let row = DAEMONS.iter().find(|d| d.daemon.program() == name);
        let program = match row {
            Some(row) => {
                row.programs.first().map_or(format!("/usr/local/bin/{name}"), |p| (*p).into())
            }
            None => "/usr/sbin/sshd".to_owned(),
        };
        facts.processes.push(LiveProcess {
            pid,
            parent: 1,
            began_s: BEGAN_S,
            comm: row.map_or("sshd", |r| r.daemon.comm()).to_owned(),
            user: process.user.clone(),
            program,
            on_node: true,
            argv: process.argv.clone(),
            environment: BTreeSet::from(["PATH".to_owned()]),
            path: vec!["/usr/local/sbin".to_owned(), "/usr/bin".to_owned()],
        });
        if row.is_some_and(|r| r.unit.is_none()) {
            let seen =
                row.unwrap().reads_at_start.iter().map(|p| ((*p).to_owned(), "1".repeat(64)));
            facts.files.extend(seen.clone());
            facts.inside.insert(pid, seen.collect());
        }
        let unit = match row {
            Some(row) => row.unit,
            None => Some("ssh.service"),
        };
        if let Some(unit) = unit {
            let running = LiveUnit {
                load: "loaded".into(),
                active: "active".into(),
                fragment: format!("/etc/systemd/system/{unit}"),
                drop_ins: Vec::new(),
                needs_reload: false,
                main_pid: pid,
                changed_s: Some(StateChange(BEGAN_S as i64 * 1_000_000)),
            };
            facts.units.insert(unit.to_owned(), running);
        }
    }
    let own = |kind, mode| PathAccess {
        kind,
        mode,
        uid: 0,
        owner: "root".into(),
        changed_s: WRITTEN_S,
        target: String::new(),
    };
    facts.paths.insert("/".into(), own(PathKind::Directory, 0o755));
    for path in DAEMONS.iter().flat_map(|d| d.reads_at_start).chain(&["/etc/ssh/sshd_config"]) {
        facts.paths.insert((*path).to_owned(), own(PathKind::File, 0o600));
    }
    facts.rules = Some(serde_json::from_str(LOADED_RULES).unwrap());
    facts.file_rules.clone_from(&facts.rules);
    facts.kubeconfigs = Some(Vec::new());
    facts.acls = Some(Vec::new());
    facts.shadowed_libraries = Some(Vec::new());
    facts.sources = Some(vec![500]);
    for name in UPDATE_SERVICES {
        let unit = LiveUnit {
            load: "loaded".into(),
            fragment: format!("/lib/systemd/system/{name}"),
            ..LiveUnit::default()
        };
        facts.units.insert(name.into(), unit);
    }
    facts.other_containers = Some(Vec::new());
    facts.shadows = Some(Vec::new());
    // Before the start, and elsewhere.
    facts.mounts = Some(vec![
        MountChange { path: "/etc/ssh".into(), at_s: BEGAN_S - 1.0 },
        MountChange { path: "/etc/sshd".into(), at_s: BEGAN_S + 1.0 },
    ]);
    facts.foreign_rules = Some(vec![serde_json::json!({"nftables": []})]);
    facts.accounts = Some(Accounts { root: vec!["root".to_owned()], ..Accounts::default() });
    facts.trees.insert("/etc/kubernetes/manifests".into(), own(PathKind::Directory, 0o700));
    facts.sockets = Some(Vec::new());
    for setting in KERNEL_SETTINGS {
        let Some((family, key)) = crate::checks::node::access::of_all_interfaces(setting.key)
        else {
            continue;
        };
        let values =
            ["all", "default", "lo", "eth0"].map(|i| (i.to_owned(), setting.value.to_owned()));
        facts.interfaces.insert((family.to_owned(), key.to_owned()), values.into());
    }
    facts.apt = Some(
        [
            ("APT::Periodic::Update-Package-Lists", "1"),
            ("APT::Periodic::Unattended-Upgrade", "1"),
            ("Unattended-Upgrade::Origins-Pattern", ""),
            ("Unattended-Upgrade::Origins-Pattern", "origin=Debian,label=Debian-Security"),
            ("Unattended-Upgrade::Package-Blacklist", "kubelet"),
            ("Acquire::AllowInsecureRepositories", "0"),
            ("Acquire::AllowWeakRepositories", "no"),
            ("Acquire::https::Verify-Peer", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    );
    let text: String =
        KERNEL_SETTINGS.iter().map(|s| format!("{} = {}\n", s.key, s.value)).collect();
    facts.sysctl_files.push(("/etc/sysctl.d/90-kubastion.conf".into(), text));
    facts
}

fn accounts(seen: &mut Observed) -> &mut Accounts {
    seen.live.as_mut().unwrap().accounts.as_mut().unwrap()
}

/// A rule of our table that its file does not have, whatever the record says.
fn rule_added(seen: &mut Observed) {
    let rule = serde_json::json!({"rule": {"family": "inet", "table": "kubastion", "chain": "input", "handle": 99, "expr": [
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "203.0.113.77"}},
        {"accept": null},
    ]}});
    let rules = seen.live.as_mut().unwrap().rules.as_mut().unwrap();
    rules["nftables"].as_array_mut().unwrap().push(rule);
}

/// A mount that went after the daemons had started.
fn unmounted(seen: &mut Observed, path: &str) {
    let gone = MountChange { path: path.to_owned(), at_s: BEGAN_S + 1.0 };
    seen.live.as_mut().unwrap().mounts.as_mut().unwrap().push(gone);
}

/// A rule of another table with one statement.
fn foreign_rule(seen: &mut Observed, statement: &str) {
    let rule = serde_json::json!({"nftables": [{"rule": {
        "family": "ip", "table": "other", "chain": "pre", "expr": [{statement: null}],
    }}]});
    seen.live.as_mut().unwrap().foreign_rules.as_mut().unwrap().push(rule);
}

/// A file that everybody can read, and only root write.
fn left(seen: &mut Observed, path: &str) {
    let live = seen.live.as_mut().unwrap();
    let like = live.paths["/etc/ssh/sshd_config"].clone();
    live.trees.insert(path.to_owned(), PathAccess { mode: 0o644, ..like });
}

/// Trees as `find` would list them, of the files that are there.
fn trees(files: &BTreeMap<String, FileFacts>) -> BTreeMap<String, TreeFacts> {
    let mut trees: BTreeMap<String, TreeFacts> = BTreeMap::new();
    let mut watch = crate::facts::WatchList::default();
    let inventory = inventory(&|t| t.to_owned());
    for node in &inventory.nodes {
        watch.extend(crate::checks::watch(&inventory, node));
    }
    for dir in &watch.trees {
        for (path, facts) in files {
            let inside =
                path.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
            let (kind, mode, owner, group) = match facts {
                FileFacts::File { mode, owner, group, .. } => (EntryKind::File, mode, owner, group),
                FileFacts::Directory { mode, owner, group } => {
                    (EntryKind::Directory, mode, owner, group)
                }
                _ => continue,
            };
            if inside {
                let tree = trees.entry(dir.clone()).or_default();
                tree.complete = true;
                let entry =
                    TreeEntry { kind, mode: *mode, owner: owner.clone(), group: group.clone() };
                tree.entries.insert(path.clone(), entry);
            }
        }
    }
    trees
}

/// An attempt of node b on node a, and what came of it.
pub(super) fn made(probe: Probe, what: &str, verdict: Verdict) -> Attempt {
    let tried = Tried { target: "a".parse().unwrap(), probe, from: "b".into(), what: what.into() };
    Attempt::new(tried, verdict, Some(Digest::of("x")), Witness::default())
}

/// Every attempt that a row asks for, made with success.
pub(super) fn attempts() -> Vec<Attempt> {
    let probes: BTreeSet<Probe> = CATALOGUE
        .iter()
        .flat_map(|c| c.checks)
        .filter_map(|c| if let Check::Probe(p) = c { Some(*p) } else { None })
        .collect();
    let attempt = |probe| made(probe, "x", Verdict::pass("refused"));
    probes.into_iter().map(attempt).collect()
}

/// The name of a file enforces nothing, and nobody tries.
const UNTRIED: &str = "network-cni-with-policies";

/// Controls that a node-level look cannot pass here, with the outcome they have.
const NOT_PASSED: [(&str, Outcome); 5] = [
    (UNTRIED, Outcome::Unknown),
    // Its subject is not there, or it is not part of the profile.
    ("apiserver-request-timeout", Outcome::NotApplicable),
    ("apiserver-user-authn", Outcome::NotApplicable),
    ("host-log-forwarding", Outcome::NotApplicable),
    ("files-proxy-kubeconfig", Outcome::NotApplicable),
];

#[test]
fn a_hardened_node_passes_everything() {
    let (inventory, seen) = hardened();
    for f in judged(inventory, "a", seen, &attempts()) {
        let wanted =
            NOT_PASSED.iter().find(|(id, _)| *id == f.control).map_or(Outcome::Pass, |r| r.1);
        assert_eq!(f.outcome(), wanted, "{f:#?}");
    }
}

type Break = fn(&mut Observed);

fn argv(seen: &mut Observed, daemon: Daemon) -> &mut Vec<String> {
    &mut seen.processes.as_mut().unwrap().get_mut(daemon.comm()).unwrap()[0].argv
}

fn flag(seen: &mut Observed, daemon: Daemon, name: &str, value: Option<&str>) {
    let prefix = format!("--{name}=");
    let argv = argv(seen, daemon);
    argv.retain(|a| !a.starts_with(&prefix));
    argv.extend(value.map(|v| format!("{prefix}{v}")));
}

/// A setting below a `Match` line of sshd.
fn for_some(seen: &mut Observed, key: &str, value: &str) {
    let file = "/etc/ssh/sshd_config.d/50-some.conf".to_owned();
    let setting = SshdMatch { file, key: key.into(), value: value.into() };
    seen.sshd_matches.as_mut().unwrap().push(setting);
}

fn setting(seen: &mut Observed, key: &str, value: &str) {
    let text = seen.texts.get_mut("/var/lib/kubelet/config.yaml").unwrap().as_mut().unwrap();
    let mut document: crate::yaml::Value = crate::yaml::from_text(text).unwrap();
    let mut at = &mut document;
    for part in key.split('.') {
        at = &mut at[part];
    }
    *at = crate::yaml::from_text(value).unwrap();
    *text = crate::yaml::to_text(&document);
}

fn owner(seen: &mut Observed, path: &str, mode: u32, owner: &str) {
    let facts = FileFacts::File {
        mode,
        owner: owner.into(),
        group: "root".into(),
        size: 9,
        sha256: "0".repeat(64),
    };
    seen.files.insert(path.into(), facts);
    seen.trees = Some(trees(&seen.files));
}

/// One more of apt's settings, which counts as the last of its name.
fn apt(seen: &mut Observed, name: &str, value: &str) {
    seen.live.as_mut().unwrap().apt.as_mut().unwrap().push((name.into(), value.into()));
}

/// One more drop-in of a unit that runs.
fn drop_in(seen: &mut Observed, unit: &str, path: &str) {
    let units = &mut seen.live.as_mut().unwrap().units;
    let like = units["ssh.service"].clone();
    units.entry(unit.to_owned()).or_insert(like).drop_ins.push(path.to_owned());
}

/// What `sshd -T` says of a keyword.
fn effective(seen: &mut Observed, key: &str, value: &str) {
    seen.sshd.as_mut().unwrap().insert(key.into(), vec![value.into()]);
}

/// A kubeconfig of a group in somebody's home directory.
fn left_behind(seen: &mut Observed, group: &str, user: &str) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let path = "/home/eve/.kube/config".to_owned();
    let found = HomeKubeconfig { path, certificates: vec![certificate], mode: Some(0o600) };
    seen.live.as_mut().unwrap().kubeconfigs.as_mut().unwrap().push(found);
}

/// Who may write a path, as the node tells it.
fn access(seen: &mut Observed, path: &str, mode: u32, owner: &str) {
    let access = PathAccess {
        kind: PathKind::Directory,
        mode,
        uid: if owner == "root" { 0 } else { 1000 },
        owner: owner.into(),
        changed_s: WRITTEN_S,
        target: String::new(),
    };
    seen.live.as_mut().unwrap().paths.insert(path.into(), access);
}

/// Puts a link in the place of what is there, and of all below it.
fn link(seen: &mut Observed, path: &str) {
    let entry = TreeEntry {
        kind: EntryKind::Symlink,
        mode: 0o777,
        owner: "root".into(),
        group: "root".into(),
    };
    for (dir, tree) in seen.trees.as_mut().unwrap() {
        if path == dir {
            tree.entries.clear();
        }
        if path.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/')) {
            tree.entries.insert(path.to_owned(), entry.clone());
        }
    }
}

fn text(seen: &mut Observed, path: &str, from: &str, to: &str) {
    let text = seen.texts.get_mut(path).unwrap().as_mut().unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    *text = text.replace(from, to);
}

/// A certificate for longer than a leaf may live.
fn long_lived() -> String {
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) = (NOW, NOW + time::Duration::days(3000));
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// Changes the rules in the kernel, in the words of `nft -j`.
fn rules(seen: &mut Observed, from: &str, to: &str) {
    let live = seen.live.as_mut().unwrap();
    let text = live.rules.take().unwrap().to_string();
    let changed = text.replace(from, to);
    assert_ne!(text, changed, "{from}");
    live.rules = Some(serde_json::from_str(&changed).unwrap());
}

/// One thing broken, and exactly the controls that fail.
#[rustfmt::skip]
const BREAKS: &[(Break, &[&str])] = &[
    (|s| flag(s, Daemon::Apiserver, "anonymous-auth", Some("true")), &["apiserver-anonymous-auth"]),
    (|s| flag(s, Daemon::Apiserver, "anonymous-auth", None), &["apiserver-anonymous-auth"]),
    (|s| flag(s, Daemon::Apiserver, "token-auth-file", Some("/t")), &["apiserver-no-static-credentials"]),
    (|s| flag(s, Daemon::Apiserver, "authorization-mode", Some("AlwaysAllow,Node,RBAC")), &["apiserver-authorization-node-rbac"]),
    (|s| flag(s, Daemon::Apiserver, "kubelet-certificate-authority", None), &["apiserver-kubelet-ca"]),
    (|s| flag(s, Daemon::Apiserver, "profiling", Some("true")), &["apiserver-profiling-off"]),
    (|s| flag(s, Daemon::Apiserver, "audit-log-maxage", Some("7")), &["apiserver-audit-log-rotation"]),
    (|s| flag(s, Daemon::Apiserver, "etcd-servers", Some("http://127.0.0.1:2379")), &["apiserver-etcd-mtls"]),
    (|s| flag(s, Daemon::Apiserver, "tls-cipher-suites", Some("TLS_RSA_WITH_AES_128_CBC_SHA")), &["apiserver-tls-ciphers"]),
    (|s| flag(s, Daemon::Apiserver, "tls-min-version", Some("VersionTLS10")), &["apiserver-tls-min-version"]),
    (|s| flag(s, Daemon::Apiserver, "disable-admission-plugins", Some("ServiceAccount")), &["apiserver-admission-serviceaccount"]),
    (|s| flag(s, Daemon::Apiserver, "feature-gates", Some("AllAlpha=true")), &["apiserver-no-alpha-features"]),
    (|s| argv(s, Daemon::Apiserver).push("--profiling".into()), &["apiserver-profiling-off"]),
    // A second process of a daemon is judged too.
    (|s| {
        let all = s.processes.as_mut().unwrap().get_mut("kube-apiserver").unwrap();
        let mut other = all[0].clone();
        other.argv.retain(|a| !a.starts_with("--profiling"));
        all.push(other);
    }, &["apiserver-profiling-off"]),
    (|s| flag(s, Daemon::ControllerManager, "use-service-account-credentials", None), &["kcm-sa-credentials"]),
    (|s| flag(s, Daemon::ControllerManager, "bind-address", Some("0.0.0.0")), &["kcm-bind-localhost"]),
    (|s| flag(s, Daemon::Scheduler, "profiling", None), &["scheduler-profiling-off"]),
    (|s| flag(s, Daemon::Etcd, "client-cert-auth", Some("false")), &["etcd-client-cert-auth"]),
    (|s| flag(s, Daemon::Etcd, "peer-client-cert-auth", None), &["etcd-peer-client-cert-auth"]),
    (|s| flag(s, Daemon::Etcd, "auto-tls", Some("true")), &["etcd-no-auto-tls"]),
    (|s| flag(s, Daemon::Etcd, "listen-client-urls", Some("https://a:2379,http://127.0.0.1:2379")), &["etcd-server-tls"]),
    (|s| flag(s, Daemon::Etcd, "listen-metrics-urls", Some("http://0.0.0.0:2381")), &["etcd-listen-local"]),
    (|s| s.processes.as_mut().unwrap().get_mut("etcd").unwrap()[0].user = "root".into(), &["etcd-run-as-user"]),
    (|s| { s.files.insert("/var/lib/etcd".into(), FileFacts::Directory { mode: 0o755, owner: "etcd".into(), group: "etcd".into() }); }, &["etcd-data-dir"]),
    (|s| owner(s, "/etc/kubernetes/admin.conf", 0o644, "root"), &["files-admin-kubeconfigs"]),
    (|s| owner(s, "/etc/kubernetes/pki/apiserver.key", 0o640, "root"), &["files-pki-key-mode"]),
    (|s| owner(s, "/etc/kubernetes/pki/stray.crt", 0o600, "eve"), &["files-pki-ownership", "files-pki-cert-mode"]),
    (|s| owner(s, "/etc/kubernetes/manifests/kube-apiserver.yaml~", 0o644, "root"), &["files-static-pod-manifests"]),
    (|s| owner(s, "/etc/kubernetes/super-admin.conf", 0o600, "root"), &["pki-super-admin-removed"]),
    (|s| owner(s, "/etc/kubernetes/enc/encryption.yaml", 0o644, "root"), &["files-apiserver-aux-configs"]),
    (|s| owner(s, "/etc/containerd/config.toml", 0o644, "root"), &["containerd-config-permissions"]),
    (|s| owner(s, "/usr/lib/systemd/system/kubelet.service", 0o644, "root"), &["files-kubelet-service"]),
    (|s| owner(s, "/etc/cni/net.d/99-x.conf", 0o644, "root"), &["files-cni"]),
    (|s| setting(s, "authentication.anonymous.enabled", "true"), &["kubelet-anonymous-auth"]),
    (|s| setting(s, "authorization.mode", "AlwaysAllow"), &["kubelet-authorization-webhook"]),
    (|s| setting(s, "readOnlyPort", "10255"), &["kubelet-read-only-port"]),
    (|s| setting(s, "streamingConnectionIdleTimeout", "0s"), &["kubelet-streaming-timeout"]),
    (|s| setting(s, "podPidsLimit", "-1"), &["kubelet-pod-pids-limit"]),
    (|s| setting(s, "seccompDefault", "false"), &["kubelet-seccomp-default"]),
    // A flag beats the file.
    (|s| argv(s, Daemon::Kubelet).push("--anonymous-auth".into()), &["kubelet-anonymous-auth"]),
    (|s| argv(s, Daemon::Kubelet).push("--hostname-override=x".into()), &["kubelet-no-hostname-override"]),
    (|s| s.listeners.as_mut().unwrap().push(Listener { protocol: "tcp".into(), address: "::".into(), port: 10255 }), &["kubelet-read-only-port"]),
    (|s| s.listeners.as_mut().unwrap().push(Listener { protocol: "tcp".into(), address: "192.0.2.11".into(), port: 10257 }), &["kcm-bind-localhost"]),
    // What a link leads to was not looked at.
    (|s| link(s, "/etc/kubernetes/pki"), &["files-pki-cert-mode", "files-pki-key-mode", "files-pki-ownership"]),
    (|s| link(s, "/etc/kubernetes/pki/ca.key"), &["files-pki-key-mode", "files-pki-ownership"]),
    (|s| link(s, "/etc/cni/net.d"), &["files-cni", "network-cni-with-policies"]),
    (|s| { s.sysctls.insert("kernel.panic".into(), "0".into()); }, &["host-sysctls"]),
    (|s| s.swaps = Some(vec!["/swap".into()]), &["host-sysctls"]),
    (|s| { s.sshd.as_mut().unwrap().insert("passwordauthentication".into(), vec!["yes".into()]); }, &["host-ssh-hardening"]),
    (|s| { s.sshd.as_mut().unwrap().insert("permitrootlogin".into(), vec!["yes".into()]); }, &["host-ssh-hardening"]),
    (|s| for_some(s, "passwordauthentication", "yes"), &["host-ssh-hardening"]),
    (|s| for_some(s, "challengeresponseauthentication", "yes"), &["host-ssh-hardening"]),
    (|s| for_some(s, "permitrootlogin", "yes"), &["host-ssh-hardening"]),
    (|s| effective(s, "maxsessions", "0x7f"), &["host-ssh-hardening"]),
    (|s| effective(s, "loglevel", "QUIET"), &["host-ssh-hardening"]),
    (|s| effective(s, "logingracetime", "0"), &["host-ssh-hardening"]),
    (|s| effective(s, "clientaliveinterval", "0"), &["host-ssh-hardening"]),
    (|s| effective(s, "allowtcpforwarding", "yes"), &["host-ssh-hardening"]),
    (|s| effective(s, "allowagentforwarding", "yes"), &["host-ssh-hardening"]),
    (|s| effective(s, "gatewayports", "clientspecified"), &["host-ssh-hardening"]),
    (|s| effective(s, "permittunnel", "yes"), &["host-ssh-hardening"]),
    (|s| effective(s, "permituserenvironment", "LANG"), &["host-ssh-hardening"]),
    (|s| effective(s, "strictmodes", "no"), &["host-ssh-hardening"]),
    (|s| effective(s, "ignorerhosts", "shosts-only"), &["host-ssh-hardening"]),
    (|s| effective(s, "hostbasedauthentication", "yes"), &["host-ssh-hardening"]),
    (|s| effective(s, "ciphers", "chacha20-poly1305@openssh.com,aes128-cbc"), &["host-ssh-hardening"]),
    (|s| effective(s, "macs", "hmac-sha2-512-etm@openssh.com,hmac-sha1"), &["host-ssh-hardening"]),
    (|s| effective(s, "kexalgorithms", "ecdh-sha2-nistp256"), &["host-ssh-hardening"]),
    (|s| for_some(s, "strictmodes", "no"), &["host-ssh-hardening"]),
    (|s| for_some(s, "allowtcpforwarding", "yes"), &["host-ssh-hardening"]),
    // Whatever the file says by now.
    (|s| { text(s, SSHD_DROP_IN, "StrictModes yes", "StrictModes no"); effective(s, "strictmodes", "no"); }, &["host-ssh-hardening"]),
    (|s| s.nft.as_mut().unwrap().own_listing_sha256 = None, &["host-firewall-control-plane"]),
    (|s| s.nft.as_mut().unwrap().own_listing_sha256 = Some("changed".into()), &["host-firewall-control-plane"]),
    (|s| s.nft.as_mut().unwrap().recorded.as_mut().unwrap().file_sha256 = "old".into(), &["host-firewall-control-plane"]),
    (|s| s.wanted_firewall_sha256 = Some("another".into()), &["host-firewall-control-plane"]),
    (|s| text(s, FIREWALL_FILE, "hook input priority filter; policy drop", "hook input priority filter; policy accept"), &["host-firewall-control-plane"]),
    (|s| text(s, FIREWALL_FILE, "169.254.169.254", "169.254.169.253"), &["host-metadata-api-block"]),
    (|s| text(s, FIREWALL_FILE, "168.63.129.16 counter drop", "168.63.129.16 log prefix \"would drop \""), &["host-metadata-api-block"]),
    // What the kernel does, whatever the file says.
    (|s| rules(s, "100.100.100.200", "100.100.100.201"), &["host-firewall-control-plane", "host-metadata-api-block"]),
    (|s| rules(s, r#""drop":null"#, r#""log":{"prefix":"kubastion would drop: "}"#), &["host-firewall-control-plane", "host-metadata-api-block"]),
    (|s| rules(s, r#""right":"@cluster_v4""#, r#""right":"@nodes_v4""#), &["host-firewall-control-plane"]),
    (|s| s.lsm.as_mut().unwrap().apparmor = Some(false), &["host-mandatory-access-control"]),
    (|s| s.time = Some(TimeFacts { synchronized: Some(false), chrony: Some("Not synchronised".into()) }), &["host-time-sync"]),
    (|s| s.audit_rules.as_mut().unwrap().retain(|r| !r.contains("/etc/kubernetes")), &["host-auditd"]),
    (|s| s.audit_enabled = Some(0), &["host-auditd"]),
    (|s| { let rules = s.audit_rules.as_mut().unwrap(); rules.retain(|r| !r.contains("/etc/kubernetes")); rules.push("-a never,exit -F dir=/etc/kubernetes".into()); }, &["host-auditd"]),
    (|s| s.audit_rules.as_mut().unwrap().insert(0, "-a exit,never -S all -F dir=/etc -F perm=wa".into()), &["host-auditd"]),
    (|s| s.audit_rules.as_mut().unwrap().insert(0, "-a never,task".into()), &["host-auditd"]),
    (|s| { s.packages.remove("unattended-upgrades"); }, &["host-updates"]),
    (|s| apt(s, "APT::Periodic::Unattended-Upgrade", "0"), &["host-updates"]),
    (|s| apt(s, "APT::Periodic::Update-Package-Lists", "0"), &["host-updates"]),
    (|s| apt(s, "APT::Periodic::Enable", "0"), &["host-updates"]),
    (|s| apt(s, "Unattended-Upgrade::Package-Blacklist", ".*"), &["host-updates"]),
    (|s| apt(s, "Unattended-Upgrade::Package-Blacklist", "open"), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().apt.as_mut().unwrap().retain(|(n, _)| !n.contains("Origins")), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().apt = Some(Vec::new()), &["host-updates"]),
    (|s| apt(s, "apt::periodic::enable", "0"), &["host-updates"]),
    (|s| apt(s, "APT::Get::AllowUnauthenticated", "true"), &["host-updates"]),
    (|s| apt(s, "acquire::allowinsecurerepositories", "1"), &["host-updates"]),
    (|s| apt(s, "Acquire::AllowDowngradeToInsecureRepositories", "yes"), &["host-updates"]),
    (|s| apt(s, "Acquire::AllowWeakRepositories", "on"), &["host-updates"]),
    (|s| apt(s, "Acquire::https::Verify-Peer", "false"), &["host-updates"]),
    (|s| apt(s, "Acquire::https::deb.example::Verify-Host", "0"), &["host-updates"]),
    (|s| s.units.get_mut("apt-daily.timer").unwrap().active = "inactive".into(), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().reboot_required = Some(vec!["linux-image-amd64".into()]), &["host-no-reboot-due"]),
    (|s| { flag(s, Daemon::Etcd, "experimental-initial-corrupt-check", None); flag(s, Daemon::Etcd, "feature-gates", None); }, &["etcd-corruption-check"]),
    (|s| left_behind(s, "system:masters", "eve"), &["pki-super-admin-removed"]),
    (|s| left_behind(s, "kubeadm:cluster-admins", "eve"), &["pki-super-admin-removed"]),
    (|s| left_behind(s, "x", "system:kube-controller-manager"), &["pki-super-admin-removed"]),
    (|s| left_behind(s, "x", "system:kube-scheduler"), &["pki-super-admin-removed"]),
    (|s| left_behind(s, "x", "system:node:b"), &["pki-super-admin-removed"]),
    (|s| left_behind(s, "system:nodes", "x"), &["pki-super-admin-removed"]),
    (|s| { left_behind(s, "x", "eve"); s.live.as_mut().unwrap().kubeconfigs.as_mut().unwrap()[0].mode = Some(0o644); }, &["pki-super-admin-removed"]),
    (|s| { s.packages.insert("containerd".into(), "1.6.20~ds1".into()); }, &["containerd-runtime-hardening"]),
    (|s| text(s, "/etc/containerd/config.toml", "SystemdCgroup = true", "SystemdCgroup = false"), &["containerd-runtime-hardening"]),
    (|s| owner(s, "/etc/containerd/certs.d/other.example/hosts.toml", 0o600, "root"), &["containerd-files-known"]),
    (|s| owner(s, "/etc/docker/certs.d/_default/hosts.toml", 0o600, "root"), &["containerd-files-known"]),
    (|s| text(s, "/etc/containerd/config.toml", "disable_tcp_service = true", "disable_tcp_service = false"), &["containerd-config-permissions"]),
    (|s| text(s, "/etc/kubernetes/config/audit-policy.yaml", "level: Metadata", "level: RequestResponse"), &["apiserver-audit-policy"]),
    (|s| text(s, "/etc/kubernetes/enc/encryption.yaml", "- secretbox", "- aesgcm"), &["apiserver-encryption-provider"]),
    (|s| text(s, "/etc/kubernetes/enc/encryption.yaml", "- \"secrets\"", "- \"events\""), &["apiserver-encryption-config"]),
    (|s| text(s, "/etc/kubernetes/config/admission.yaml", "enforce: restricted", "enforce: privileged"), &["policy-pod-security"]),
    (|s| text(s, "/etc/kubernetes/config/admission.yaml", "usernames: []", "usernames: [alice]"), &["policy-pod-security"]),
    (|s| text(s, "/etc/kubernetes/config/admission.yaml", "runtimeClasses: []", "runtimeClasses: [kata]"), &["policy-pod-security"]),
    (|s| text(s, "/etc/kubernetes/config/audit-policy.yaml", "rules:\n", "rules:\n- level: None\n  userGroups: [\"system:serviceaccounts\"]\n"), &["apiserver-audit-policy"]),
    (|s| text(s, "/etc/kubernetes/config/admission.yaml", "EventRateLimit", "Other"), &["apiserver-admission-eventratelimit"]),
    (|s| text(s, "/etc/kubernetes/manifests/kube-apiserver.yaml", "tcpSocket", "httpGet"), &["apiserver-authenticated-probes"]),
    (|s| { s.files.remove("/etc/cni/net.d/10-calico.conflist"); owner(s, "/etc/cni/net.d/10-bridge.conflist", 0o600, "root"); }, &["network-cni-with-policies"]),
    (|s| { let ca = s.texts["/etc/kubernetes/pki/ca.crt"].clone(); s.texts.insert("/var/lib/kubelet/pki/serving.crt".into(), ca); }, &["kubelet-serving-cert"]),
    (|s| { s.texts.insert("/etc/kubernetes/pki/apiserver.crt".into(), Some(long_lived())); }, &["pki-key-algorithm-and-lifetime"]),
    (|s| { let path = "/etc/kubernetes/pki/ca.crt"; let ca = s.texts[path].clone().unwrap(); s.texts.insert(path.into(), Some(format!("{ca}{ca}"))); }, &["pki-one-ca-per-file"]),
    (|s| owner(s, "/opt/nri/plugins/10-x", 0o755, "root"), &["containerd-files-known"]),
    (|s| owner(s, "/etc/cdi/x.yaml", 0o644, "root"), &["containerd-files-known"]),
    (|s| s.live.as_mut().unwrap().other_containers.as_mut().unwrap().push("moby/x".into()), &["containerd-only-pods"]),
    (|s| access(s, "/usr/local/sbin/runc", 0o755, "root"), &["host-no-shadowed-programs"]),
    (|s| access(s, "/usr/local/bin/iptables", 0o755, "root"), &["host-no-shadowed-programs"]),
    (|s| access(s, "/usr/local/bin/igzip", 0o755, "root"), &["host-no-shadowed-programs"]),
    (|s| access(s, "/usr/local/sbin/criu", 0o755, "root"), &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().shadows = Some(vec!["/usr/local/bin/tar".into()]), &["host-no-shadowed-programs"]),
    (|s| accounts(s).root.push("toor".into()), &["host-accounts"]),
    (|s| accounts(s).root.clear(), &["host-accounts"]),
    (|s| accounts(s).without_password.push("eve".into()), &["host-accounts"]),
    (|s| foreign_rule(s, "redirect"), &["host-firewall-control-plane"]),
    (|s| foreign_rule(s, "notrack"), &["host-firewall-control-plane"]),
    (|s| access(s, "/etc/systemd/system", 0o777, "root"), &["host-root-owned-paths"]),
    (|s| left(s, "/etc/kubernetes/pki/ca.key.old"), &["host-secrets-unreadable"]),
    (|s| left(s, "/etc/etcd/snapshot.db"), &["host-secrets-unreadable"]),
    (|s| access(s, "/etc/etcd", 0o775, "root"), &["host-root-owned-paths"]),
    (|s| access(s, "/usr/bin/etcd", 0o755, "eve"), &["host-root-owned-paths"]),
    (|s| { access(s, "/usr/bin/nft", 0o777, "root"); let nft = s.live.as_mut().unwrap().paths.get_mut("/usr/bin/nft").unwrap(); (nft.kind, nft.target) = (PathKind::Link, "/home/eve/nft".into()); }, &["host-root-owned-paths"]),
    (|s| { let ssh = s.live.as_mut().unwrap().processes.last_mut().unwrap(); ssh.argv[0] = "sshd: /usr/sbin/sshd -D -o PermitRootLogin=yes [listener] 0 of 9".into(); }, &["host-ssh-in-effect"]),
    (|s| { let mut other = s.live.as_ref().unwrap().processes.last().unwrap().clone(); other.pid = 998; s.live.as_mut().unwrap().processes.push(other); }, &["host-ssh-in-effect"]),
    (|s| s.live.as_mut().unwrap().paths.get_mut("/etc/ssh/sshd_config").unwrap().changed_s = BEGAN_S + 1.0, &["host-ssh-in-effect"]),
    (|s| unmounted(s, "/etc/ssh/sshd_config"), &["host-ssh-in-effect"]),
    (|s| { s.sshd.as_mut().unwrap().insert("setenv".into(), vec!["LD_PRELOAD=/tmp/x.so".into()]); }, &["host-ssh-hardening"]),
    (|s| for_some(s, "setenv", "LD_PRELOAD=/tmp/x.so"), &["host-ssh-hardening"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("apt-daily-upgrade.service").unwrap().load = "masked".into(), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("apt-daily.service").unwrap().drop_ins.push("/etc/systemd/system/apt-daily.service.d/x.conf".into()), &["host-units-as-written", "host-updates"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("apt-daily.service").unwrap().fragment = "/etc/systemd/system/apt-daily.service".into(), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().held.push("openssh-server".into()), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().sources = Some(vec![-1, 1]), &["host-updates"]),
    (|s| accounts(s).of_root_group.push("eve".into()), &["host-accounts"]),
    (|s| s.live.as_mut().unwrap().acls.as_mut().unwrap().push("/etc/etcd/pki/server.key".into()), &["host-secrets-unreadable"]),
    (|s| s.live.as_mut().unwrap().shadowed_libraries = Some(vec!["/opt/x/libcrypto.so.3".into()]), &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().sysctl_files.push(("/etc/sysctl.d/99-x.conf".into(), "net.ipv4.conf.*.send_redirects=1".into())), &["host-sysctls-at-boot"]),
    (|s| rule_added(s), &["host-firewall-control-plane"]),
    (|s| unmounted(s, "/etc"), &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| s.live.as_mut().unwrap().sysctl_files.push(("/etc/sysctl.d/99-company.conf".into(), "net.ipv4.ip_forward=0\n".into())), &["host-sysctls-at-boot"]),
    (|s| { let key = ("ipv4".to_owned(), "send_redirects".to_owned()); s.live.as_mut().unwrap().interfaces.get_mut(&key).unwrap().insert("eth0".into(), "1".into()); }, &["host-sysctls"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("ssh.service").unwrap().drop_ins.push("/etc/systemd/system/ssh.service.d/x.conf".into()), &["host-units-as-written"]),
    (|s| drop_in(s, "etcd.service", "/usr/lib/systemd/system/etcd.service.d/10-x.conf"), &["host-units-as-written"]),
    (|s| drop_in(s, "containerd.service", "/lib/systemd/system/containerd.service.d/10-x.conf"), &["host-units-as-written"]),
    (|s| drop_in(s, "kubelet.service", "/usr/lib/systemd/system/kubelet.service.d/20-x.conf"), &["host-units-as-written"]),
    (|s| drop_in(s, "kubelet.service", "/usr/lib/systemd/system/service.d/10-x.conf"), &["host-units-as-written"]),
    (|s| drop_in(s, "kubastion-firewall.service", "/usr/lib/systemd/system/kubastion-firewall.service.d/x.conf"), &["host-units-as-written"]),
    (|s| drop_in(s, "ssh.service", "/run/systemd/system/ssh.service.d/x.conf"), &["host-units-as-written"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("etcd.service").unwrap().needs_reload = true, &["host-units-as-written"]),
    (|s| s.live.as_mut().unwrap().units.get_mut("etcd.service").unwrap().fragment = "/run/systemd/system/etcd.service".into(), &["host-units-as-written"]),
    (|s| { let there = s.live.as_ref().unwrap().trees["/etc/kubernetes/manifests"].clone(); s.live.as_mut().unwrap().trees.insert("/etc/kubernetes/manifests/x.yaml".into(), there); }, &["files-static-pods-known"]),
    (|s| s.pending = Some(Ok(vec!["write /etc/x".into()])), &["host-no-pending-change"]),
    (|s| { let ca = s.texts["/etc/kubernetes/pki/ca.crt"].clone(); s.texts.insert("/etc/kubernetes/pki/etcd/ca.crt".into(), ca); }, &["pki-separate-cas", "etcd-unique-ca"]),
];

#[test]
fn one_thing_broken_fails_exactly_its_controls() {
    let (inventory, good) = hardened();
    for (index, (broken, wanted)) in BREAKS.iter().enumerate() {
        let mut seen = good.clone();
        broken(&mut seen);
        let findings = judged(inventory, "a", &seen, &attempts());
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        assert_eq!(ids(&findings, Outcome::Fail), wanted, "break {index}");
        let unknown = ids(&findings, Outcome::Unknown);
        assert!(unknown.is_subset(&BTreeSet::from([UNTRIED])), "break {index}: {unknown:?}");
    }
}

#[test]
fn an_exception_has_to_name_one_of_the_checks_of_its_control() {
    let problems = |check: &str| -> Vec<String> {
        let inventory = inventory(&|t| {
            format!(
                "{t}hardening: {{ exceptions: [{{ control: host-ssh-hardening, {check} reason: r, owner: o, \
                 expires: 2026-12-31 }}] }}\n"
            )
        });
        let all = super::exceptions_without_a_check(&inventory);
        all.iter().map(ToString::to_string).collect()
    };
    assert!(problems("check: sshd passwordauthentication,").is_empty());
    for (check, words) in [
        ("", "the exception names no check"),
        ("check: sshd passwordauthenticatio,", "did you mean `sshd passwordauthentication`?"),
        ("check: foo,", "no such check"),
    ] {
        let said = problems(check);
        assert!(said.len() == 1 && said[0].contains(words), "{check}: {said:?}");
        assert!(said[0].contains("hardening.exceptions[0].check"), "{said:?}");
    }
}

type Way = Box<dyn Fn(&mut Observed)>;

/// Values of which one is wrong for every flag and setting.
const VALUES: [&str; 11] = [
    "",
    "true",
    "false",
    "0",
    "broken",
    "http://192.0.2.9:1",
    "0.0.0.0",
    "AlwaysAllow",
    "AlwaysAdmit",
    "NamespaceLifecycle,ServiceAccount,ValidatingAdmissionWebhook",
    "RotateKubeletServerCertificate=false",
];

/// Ways to make what a check looks at wrong; of a check that takes more than one value to judge there are
/// none, and a row of [`BREAKS`] has to be about its control.
fn ways_to_break(check: &Check) -> Vec<Way> {
    match *check {
        Check::InEffect(daemon) => ways_to_be_false(daemon),
        Check::Path(r) => vec![Box::new(move |s| owner(s, r.path, 0o777, "eve"))],
        Check::Tree(r) => {
            vec![Box::new(move |s| owner(s, &format!("{}/zz{}", r.dir, r.suffix), 0o777, "eve"))]
        }
        Check::Gone(path) => vec![Box::new(move |s| owner(s, path, 0o600, "root"))],
        Check::Sysctl(setting) => vec![Box::new(move |s| {
            s.sysctls.insert(setting.key.into(), "99".into());
        })],
        Check::Sshd(key, _) => VALUES
            .map(|v| -> Way {
                Box::new(move |s| {
                    s.sshd.as_mut().unwrap().insert(key.into(), vec![v.into()]);
                })
            })
            .into(),
        Check::Flag(daemon, name, ..) => std::iter::once(None)
            .chain(VALUES.map(Some))
            .map(|value| -> Way { Box::new(move |s| flag(s, daemon, name, value)) })
            .collect(),
        Check::RunsAs(daemon, _) => vec![Box::new(move |s| {
            let all = s.processes.as_mut().unwrap().get_mut(daemon.comm()).unwrap();
            all[0].user = "eve".into();
        })],
        Check::Setting(config, path, _, over, _) => VALUES
            .map(|v| -> Way {
                Box::new(move |s| {
                    // A flag beats the file.
                    if let Some(name) = over {
                        flag(s, config.daemon(), name, None);
                    }
                    match config {
                        Config::Kubelet => setting(s, &path.join("."), v),
                        Config::KubeProxy => {
                            let mut at = s.proxy_config.as_mut().unwrap().as_mut().unwrap();
                            for part in path {
                                at = &mut at[*part];
                            }
                            *at = crate::yaml::from_text(v).unwrap();
                        }
                    }
                })
            })
            .into(),
        Check::LoopbackOnly(_, port) => vec![Box::new(move |s| {
            let listener = Listener { protocol: "tcp".into(), address: "0.0.0.0".into(), port };
            s.listeners.as_mut().unwrap().push(listener);
        })],
        Check::Node(_) | Check::Probe(_) | Check::Api(_) | Check::Manual(_) => Vec::new(),
    }
}

/// The process of a daemon that is in effect.
fn process(seen: &mut Observed, daemon: Daemon) -> &mut LiveProcess {
    let all = &mut seen.live.as_mut().unwrap().processes;
    all.iter_mut().find(|p| p.comm == daemon.comm()).unwrap()
}

/// Ways in which a daemon may do something else than its files say; each of them has to be noticed.
fn ways_to_be_false(daemon: Daemon) -> Vec<Way> {
    let row = DaemonRow::of(daemon);
    let mut ways: Vec<Way> = vec![
        // A second one beside it, also under another name.
        Box::new(move |s| {
            let mut other = process(s, daemon).clone();
            (other.pid, other.comm) = (999, "x".into());
            other.program = format!("/tmp/{}", daemon.program());
            s.live.as_mut().unwrap().processes.push(other);
        }),
        Box::new(move |s| process(s, daemon).argv.push("--nobody-wants=this".into())),
        Box::new(move |s| {
            process(s, daemon).environment.insert("LD_PRELOAD".into());
        }),
        Box::new(move |s| process(s, daemon).program.push_str(" (deleted)")),
        Box::new(move |s| {
            let owners = [process(s, daemon).pid].into();
            let socket = LiveSocket {
                protocol: "tcp".into(),
                address: "0.0.0.0".into(),
                port: 4001,
                owners,
            };
            s.live.as_mut().unwrap().sockets.as_mut().unwrap().push(socket);
        }),
    ];
    if let Some(unit) = row.unit {
        ways.push(Box::new(move |s| {
            s.live.as_mut().unwrap().units.get_mut(unit).unwrap().main_pid = 1;
        }));
        ways.push(Box::new(move |s| process(s, daemon).program = "/tmp/other".into()));
        ways.push(Box::new(move |s| process(s, daemon).path.insert(0, "/tmp/bin".into())));
    }
    // Something was mounted over its files while it started, and is gone.
    if let (Some(_), Some(first)) = (row.unit, row.reads_at_start.first()) {
        for path in [(*first).to_owned(), format!("{first}/x"), "/etc".to_owned(), "/".to_owned()] {
            if path != "/etc" || first.starts_with("/etc") {
                ways.push(Box::new(move |s| unmounted(s, &path)));
            }
        }
    }
    // Something is mounted over a file that it read, wherever it runs, and a pod does not see one.
    ways.push(Box::new(move |s| {
        let pid = process(s, daemon).pid;
        let live = s.live.as_mut().unwrap();
        let path = "/etc/kubernetes/config/audit-policy.yaml".to_owned();
        live.files.insert(path.clone(), "1".repeat(64));
        live.inside.entry(pid).or_default().insert(path, "2".repeat(64));
    }));
    if let (None, Some(first)) = (row.unit, row.reads_at_start.first()) {
        ways.push(Box::new(move |s| {
            let pid = process(s, daemon).pid;
            s.live.as_mut().unwrap().inside.get_mut(&pid).unwrap().remove(*first);
        }));
    }
    for path in row.reads_at_start {
        ways.push(Box::new(move |s| {
            s.live.as_mut().unwrap().paths.get_mut(*path).unwrap().changed_s = BEGAN_S + 1.0;
        }));
    }
    for name in
        ["HTTPS_PROXY", "http_proxy", "ALL_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"]
    {
        ways.push(Box::new(move |s| {
            process(s, daemon).environment.insert(name.to_owned());
        }));
    }
    for prefix in row.environment {
        ways.push(Box::new(move |s| {
            process(s, daemon).environment.insert(format!("{prefix}CONFIG_FILE"));
        }));
    }
    ways
}

#[test]
fn a_daemon_in_effect_fails_in_each_way_to_be_false() {
    let (inventory, good) = hardened();
    for control in CATALOGUE {
        for check in control.checks {
            let Check::InEffect(daemon) = check else { continue };
            for (index, way) in ways_to_be_false(*daemon).iter().enumerate() {
                let mut seen = good.clone();
                way(&mut seen);
                let failed = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail);
                assert!(failed.contains(control.id), "{daemon:?}, way {index}: {failed:?}");
            }
            let mut seen = good.clone();
            seen.live = None;
            let unknown = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Unknown);
            assert!(unknown.contains(control.id), "{daemon:?}: {unknown:?}");
        }
    }
}

/// A check that nothing could make fail would be worth nothing, and a new one comes without a test.
#[test]
fn every_check_of_a_node_can_fail() {
    let (inventory, good) = hardened();
    let by_hand: BTreeSet<&str> = BREAKS.iter().flat_map(|(_, ids)| *ids).copied().collect();
    let node = &inventory.nodes[0];
    let not_here: BTreeSet<&str> = NOT_PASSED.iter().map(|(id, _)| *id).collect();
    let mut wrong = Vec::new();
    for control in CATALOGUE.iter().filter(|c| c.scope.holds(inventory, node)) {
        if not_here.contains(control.id) {
            continue;
        }
        for check in control.checks.iter().filter(|c| c.is_for(inventory, node)) {
            let fails = |way: &dyn Fn(&mut Observed)| {
                let mut seen = good.clone();
                way(&mut seen);
                ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail).contains(control.id)
            };
            let can_fail = match check {
                Check::Probe(_) | Check::Api(_) | Check::Manual(_) => continue,
                Check::Node(_) => by_hand.contains(control.id),
                // In the file, and by the flag that beats it.
                Check::Setting(config, _, _, Some(name), _) => {
                    let by_flag = |value: &'static str| {
                        fails(&|s: &mut Observed| flag(s, config.daemon(), name, Some(value)))
                    };
                    ways_to_break(check).iter().any(|way| fails(way))
                        && VALUES.into_iter().any(by_flag)
                }
                _ => ways_to_break(check).iter().any(|way| fails(way)),
            };
            if !can_fail {
                wrong.push(format!("{}: {}", control.id, crate::checks::judge::words(check)));
            }
        }
    }
    assert!(wrong.is_empty(), "nothing makes these fail:\n{}", wrong.join("\n"));
}

/// On every kind of node: what is set is judged, with the value that is set, and nothing else is.
#[test]
fn every_kernel_setting_is_judged_where_it_is_set() {
    let inventory = inventory(&|t| {
        let t = t.replace("runtime:", "etcd: { placement: dedicated }\nruntime:");
        let t = t.replace("endpoint: \"192.0.2.11:6443\" }", "endpoint: \"192.0.2.11:6443\", pod_networks: [10.244.0.0/16, \"fd00:10:244::/56\"], service_networks: [10.96.0.0/16, \"fd00:10:96::/112\"] }");
        format!("{t}  - {{ name: c, addresses: [192.0.2.31], roles: [etcd] }}\n")
    });
    for (name, at_least) in [("a", 31), ("b", 31), ("c", 21)] {
        let good = rendered(&inventory, name);
        let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
        let rows = KERNEL_SETTINGS.iter().filter(|s| s.is_for(&inventory, node)).count();
        assert_eq!(good.sysctls.len(), rows, "{name}");
        assert!(rows >= at_least, "{name}: {rows}");
        let of = |seen: &Observed| {
            let mut findings = judged(&inventory, name, seen, &[]);
            findings.retain(|f| f.control == "host-sysctls");
            findings.remove(0)
        };
        let finding = of(&good);
        assert_eq!(finding.outcome(), Outcome::Pass, "{name}: {finding:#?}");
        let looked_at = finding.evidence.iter().filter_map(|e| e.what().strip_prefix("sysctl "));
        let looked_at: BTreeSet<&str> = looked_at.collect();
        let set: BTreeSet<&str> = good.sysctls.keys().map(String::as_str).collect();
        assert_eq!(looked_at, set, "{name}");
        let watched = crate::checks::watch(&inventory, node).sysctls;
        assert!(watched.iter().map(String::as_str).eq(set.iter().copied()), "{name}: {watched:?}");
        for (origin, key) in set.iter().flat_map(|k| [(Origin::Rendered, k), (Origin::Node, k)]) {
            let mut seen = good.clone();
            seen.origin = origin;
            if origin == Origin::Node {
                seen.swaps = Some(Vec::new());
            }
            seen.sysctls.insert((*key).to_owned(), "99".into());
            assert_eq!(of(&seen).outcome(), Outcome::Fail, "{name}: {key}");
        }
    }
}

/// Of a container's kernel settings those of its network are its own, and nothing about the rest is unknown.
#[test]
fn a_container_is_judged_by_the_settings_of_its_network() {
    let (inventory, good) = hardened();
    let of = |change: &dyn Fn(&mut Observed)| {
        let mut seen = good.clone();
        seen.container = Some("systemd-nspawn".into());
        seen.sysctls.retain(|k, _| k.starts_with("net.") && !k.starts_with("net.bridge."));
        seen.swaps = Some(vec!["/swap".into()]);
        change(&mut seen);
        let mut findings = judged(inventory, "a", &seen, &attempts());
        findings.retain(|f| f.control == "host-sysctls");
        findings.remove(0).outcome()
    };
    let set = |key: &'static str| {
        move |s: &mut Observed| {
            s.sysctls.insert(key.into(), "99".into());
        }
    };
    assert_eq!(of(&|_| {}), Outcome::Pass);
    assert_eq!(of(&set("vm.overcommit_memory")), Outcome::Pass);
    assert_eq!(of(&set("net.ipv4.tcp_syncookies")), Outcome::Fail);
    assert_eq!(of(&set("net.bridge.bridge-nf-call-iptables")), Outcome::Fail);
    let forget =
        |what: &'static str| move |s: &mut Observed| s.sysctls.retain(|k, _| !k.starts_with(what));
    assert_eq!(of(&forget("net.ipv4.tcp_syncookies")), Outcome::Unknown);
    // A kernel without IPv6 has none of its settings, and one that was not asked has none at all.
    assert_eq!(of(&forget("net.ipv6.")), Outcome::Pass);
    assert_eq!(of(&forget("net.ipv6.conf.all.accept_redirects")), Outcome::Unknown);
    assert_eq!(of(&forget("net.")), Outcome::Unknown);
}

#[test]
fn what_links_lead_to_passes_in_no_tree() {
    let (inventory, good) = hardened();
    let node = &inventory.nodes[0];
    for control in CATALOGUE.iter().filter(|c| c.scope.holds(inventory, node)) {
        for check in control.checks {
            let Check::Tree(rule) = check else { continue };
            for path in [rule.dir.to_owned(), format!("{}/zz{}", rule.dir, rule.suffix)] {
                let mut seen = good.clone();
                seen.trees.as_mut().unwrap().entry(rule.dir.into()).or_default().complete = true;
                link(&mut seen, &path);
                let failed = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail);
                assert!(failed.contains(control.id), "{}: {path} {failed:?}", control.id);
            }
        }
    }
}

/// What could not be looked at, and some controls that are unknown then.
#[rustfmt::skip]
const BLIND: &[(Break, &[&str])] = &[
    (|s| s.listeners = None, &["kubelet-read-only-port", "kcm-bind-localhost", "etcd-listen-local"]),
    (|s| s.sshd = None, &["host-ssh-hardening"]),
    (|s| { s.texts.remove(SSHD_DROP_IN); s.files.remove(SSHD_DROP_IN); }, &["host-ssh-hardening"]),
    (|s| { s.texts.insert(SSHD_DROP_IN.into(), None); }, &["host-ssh-hardening"]),
    (|s| { s.sshd.as_mut().unwrap().remove("loglevel"); }, &["host-ssh-hardening"]),
    (|s| s.live.as_mut().unwrap().trees.clear(), &["files-static-pods-known"]),
    (|s| s.sshd_matches = None, &["host-ssh-hardening"]),
    (|s| for_some(s, "include", "/etc/ssh/more.conf"), &["host-ssh-hardening"]),
    (|s| s.processes = None, &["apiserver-profiling-off", "etcd-client-cert-auth", "etcd-run-as-user", "kubelet-anonymous-auth"]),
    (|s| s.processes.as_mut().unwrap().clear(), &["apiserver-profiling-off", "etcd-client-cert-auth", "etcd-run-as-user"]),
    (|s| s.nft.as_mut().unwrap().usable = false, &["host-firewall-control-plane"]),
    (|s| s.wanted_firewall_sha256 = None, &["host-firewall-control-plane"]),
    (|s| s.nft.as_mut().unwrap().recorded = None, &["host-firewall-control-plane"]),
    (|s| s.live.as_mut().unwrap().rules = None, &["host-firewall-control-plane", "host-metadata-api-block"]),
    (|s| { s.texts.insert(FIREWALL_FILE.into(), None); }, &["host-firewall-control-plane", "host-metadata-api-block"]),
    (|s| { s.texts.insert("/var/lib/kubelet/config.yaml".into(), Some("a: [".into())); }, &["kubelet-anonymous-auth", "kubelet-seccomp-default"]),
    (|s| { s.files.remove("/etc/kubernetes/admin.conf"); s.texts.remove("/etc/kubernetes/admin.conf"); }, &["files-admin-kubeconfigs"]),
    (|s| { for t in s.trees.as_mut().unwrap().values_mut() { t.complete = false; } }, &["files-pki-ownership", "files-pki-key-mode", "files-cni", "containerd-files-known"]),
    (|s| s.lsm = None, &["host-mandatory-access-control"]),
    (|s| s.live = None, &["host-root-owned-paths", "host-ssh-in-effect", "host-sysctls-at-boot", "host-units-as-written", "files-static-pods-known", "host-sysctls"]),
    (|s| s.live.as_mut().unwrap().foreign_rules = None, &["host-firewall-control-plane"]),
    (|s| s.live.as_mut().unwrap().other_containers = None, &["containerd-only-pods"]),
    (|s| s.live.as_mut().unwrap().accounts = None, &["host-accounts"]),
    (|s| s.live.as_mut().unwrap().shadows = None, &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().file_rules = None, &["host-firewall-control-plane"]),
    (|s| s.live.as_mut().unwrap().acls = None, &["host-secrets-unreadable"]),
    (|s| s.live.as_mut().unwrap().kubeconfigs = None, &["pki-super-admin-removed"]),
    (|s| s.live.as_mut().unwrap().shadowed_libraries = None, &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().sources = None, &["host-updates"]),
    (|s| s.live.as_mut().unwrap().sysctl_files.push(("/etc/sysctl.d/99-x.conf".into(), "#".repeat(65537))), &["host-sysctls-at-boot"]),
    (|s| s.live.as_mut().unwrap().mounts = None, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| s.live.as_mut().unwrap().inside.clear(), &["apiserver-in-effect", "kcm-in-effect", "scheduler-in-effect", "kube-proxy-in-effect"]),
    (|s| s.live.as_mut().unwrap().sockets = None, &["host-ssh-in-effect", "etcd-in-effect"]),
    (|s| s.live.as_mut().unwrap().paths.clear(), &["host-root-owned-paths", "host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().units.clear(), &["host-units-as-written"]),
    (|s| s.pending = None, &["host-no-pending-change"]),
    (|s| s.pending = Some(Err("x".into())), &["host-no-pending-change"]),
    (|s| s.time = Some(TimeFacts::default()), &["host-time-sync"]),
    (|s| s.audit_rules = None, &["host-auditd"]),
    (|s| s.audit_enabled = None, &["host-auditd"]),
    (|s| s.live.as_mut().unwrap().apt = None, &["host-updates"]),
    (|s| s.swaps = None, &["host-sysctls"]),
    (|s| { s.sysctls.remove("kernel.panic"); }, &["host-sysctls"]),
    (|s| argv(s, Daemon::Etcd).push("--config-file=/x".into()), &["etcd-client-cert-auth", "etcd-no-auto-tls"]),
    (|s| argv(s, Daemon::Kubelet).push("--config-dir=/x".into()), &["kubelet-anonymous-auth"]),
    (|s| { flag(s, Daemon::Kubelet, "config", Some("/other")); }, &["kubelet-anonymous-auth"]),
];

#[test]
fn what_could_not_be_looked_at_is_unknown_and_never_a_pass() {
    let (inventory, good) = hardened();
    for (index, (blind, wanted)) in BLIND.iter().enumerate() {
        let mut seen = good.clone();
        blind(&mut seen);
        let findings = judged(inventory, "a", &seen, &attempts());
        for id in *wanted {
            assert!(
                ids(&findings, Outcome::Unknown).contains(id),
                "blind {index}: {id} {findings:#?}"
            );
        }
    }
}

#[test]
fn drop_ins_that_packages_bring_break_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    drop_in(&mut seen, "ssh.service", "/usr/lib/systemd/system/ssh.service.d/x.conf");
    drop_in(&mut seen, "haproxy.service", "/etc/systemd/system/haproxy.service.d/kubastion.conf");
    let of_kubeadm = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";
    drop_in(&mut seen, "kubelet.service", of_kubeadm);
    let passes = |inventory: &Inventory| {
        let findings = judged(inventory, "a", &seen, &attempts());
        ids(&findings, Outcome::Pass).contains("host-units-as-written")
    };
    assert!(passes(inventory));
    let mut of_a_bundle = inventory.clone();
    of_a_bundle.kubernetes.source = crate::inventory::SoftwareSource::Bundle;
    assert!(!passes(&of_a_bundle), "a bundle brings it to /etc");
}

#[test]
fn a_persons_kubeconfig_in_a_home_directory_breaks_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    left_behind(&mut seen, "developers", "eve");
    let findings = judged(inventory, "a", &seen, &attempts());
    assert!(ids(&findings, Outcome::Pass).contains("pki-super-admin-removed"), "{findings:#?}");
}

#[test]
fn audit_rules_that_leave_out_something_else_break_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    seen.audit_enabled = Some(2);
    seen.audit_rules.as_mut().unwrap().extend(
        [
            "-a never,exit -F arch=b64 -S adjtimex",
            "-a never,exit -F dir=/etc/kubernetes -F exe=/usr/bin/kubelet",
            "-a never,exclude -F msgtype=CWD",
            "-a never,exit -S all -F dir=/etc/kubernetes-other",
            "-a always,exit -S all -F dir=/etc/kubernetes -F perm=wa -F key=never",
        ]
        .map(str::to_owned),
    );
    let findings = judged(inventory, "a", &seen, &attempts());
    assert!(ids(&findings, Outcome::Pass).contains("host-auditd"), "{findings:#?}");
}

#[test]
fn what_sshd_sets_for_some_connections_and_is_no_weaker_breaks_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    for (key, value) in
        [("chrootdirectory", "/srv"), ("passwordauthentication", "NO"), ("maxauthtries", "2")]
    {
        for_some(&mut seen, key, value);
    }
    let findings = judged(inventory, "a", &seen, &attempts());
    assert!(ids(&findings, Outcome::Pass).contains("host-ssh-hardening"), "{findings:#?}");
    for_some(&mut seen, "passwordauthentication", "yes");
    let findings = judged(inventory, "a", &seen, &attempts());
    let finding = findings.iter().find(|f| f.control == "host-ssh-hardening").unwrap();
    let said = format!("{:?}", finding.verdict);
    assert!(said.contains("/etc/ssh/sshd_config.d/50-some.conf"), "{said}");
}

#[test]
fn what_sshd_does_more_strictly_than_our_file_breaks_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    for (key, value) in [
        ("permitrootlogin", "no"),
        ("maxsessions", "2"),
        ("logingracetime", "20"),
        ("ciphers", "aes256-gcm@openssh.com"),
        ("loglevel", "Verbose"),
    ] {
        effective(&mut seen, key, value);
    }
    seen.sshd.as_mut().unwrap().remove("kbdinteractiveauthentication");
    let findings = judged(inventory, "a", &seen, &attempts());
    assert!(ids(&findings, Outcome::Pass).contains("host-ssh-hardening"), "{findings:#?}");
}

#[test]
fn an_attempt_that_succeeded_or_was_not_made_fails_its_controls() {
    let (inventory, good) = hardened();
    for a in attempts() {
        let probe = a.tried().probe;
        let owners: BTreeSet<&str> = CATALOGUE
            .iter()
            .filter(|c| c.checks.iter().any(|k| matches!(k, Check::Probe(p) if *p == probe)))
            .filter(|c| c.scope.holds(inventory, &inventory.nodes[0]))
            .map(|c| c.id)
            .collect();
        assert!(!owners.is_empty(), "{probe:?}");
        let mut tried = attempts();
        tried
            .iter_mut()
            .filter(|m| m.tried().probe == probe)
            .for_each(|m| *m = made(probe, "x", Verdict::fail("a", "b")));
        assert_eq!(ids(&judged(inventory, "a", good, &tried), Outcome::Fail), owners, "{probe:?}");
        tried.retain(|m| m.tried().probe != probe);
        let mut unknown = ids(&judged(inventory, "a", good, &tried), Outcome::Unknown);
        assert!(unknown.remove(UNTRIED));
        assert_eq!(unknown, owners, "{probe:?}");
    }
}

#[test]
fn exceptions_cover_failures_until_their_day_and_nothing_unknown() {
    let grant = "hardening: { exceptions: [{ control: host-time-sync, nodes: [a], reason: r, owner: o, expires: 2026-02-01 }] }\n";
    let inventory = inventory(&|t| format!("{t}{grant}"));
    let mut seen = hardened().1.clone();
    let find = |seen: &Observed, now| {
        let on =
            Basis { inventory: &inventory, software: None, node: &inventory.nodes[0], seen, now };
        of_node(&on, &attempts()).into_iter().find(|f| f.control == "host-time-sync").unwrap()
    };
    assert!(find(&seen, NOW).exception.is_none(), "what holds needs none");
    seen.time = Some(TimeFacts { synchronized: Some(false), chrony: None });
    let f = find(&seen, NOW);
    assert!(f.outcome() == Outcome::Fail && f.exception.is_some() && !f.is_bad());
    assert!(find(&seen, NOW + time::Duration::days(1)).is_bad(), "the day has passed");
    seen.time = Some(TimeFacts::default());
    let f = find(&seen, NOW);
    assert!(f.outcome() == Outcome::Unknown && f.exception.is_none() && f.is_bad());
}

#[test]
fn what_is_switched_off_is_not_applicable_and_says_so() {
    let off = "hardening: { controls: { host-time-sync: off } }\n";
    let inventory = inventory(&|t| format!("{t}{off}"));
    let mut seen = hardened().1.clone();
    seen.time = None;
    let findings = judged(&inventory, "a", &seen, &attempts());
    let f = findings.iter().find(|f| f.control == "host-time-sync").unwrap();
    assert_eq!(f.verdict, Verdict::not_applicable("switched off by the inventory"));
}

#[test]
fn without_kubernetes_nothing_about_it_passes() {
    let (inventory, _) = hardened();
    let mut bare = Observed::from_facts(&facts("a"), "SHA256:played");
    for node in &inventory.nodes {
        for path in crate::checks::watch(inventory, node).files {
            bare.files.insert(path, FileFacts::Absent);
        }
    }
    for f in judged(inventory, "a", &bare, &attempts()) {
        let control = crate::controls::find(f.control).unwrap();
        if control.needs == crate::controls::Needs::Kubernetes {
            assert_eq!(f.outcome(), Outcome::NotApplicable, "{f:#?}");
        }
        if f.component == crate::controls::Component::Etcd {
            assert_ne!(f.outcome(), Outcome::Pass, "{f:#?}");
        }
    }
}

#[test]
fn a_cni_controller_is_no_controller_manager() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    let calico = ProcessFacts {
        pid: 9,
        user: "root".into(),
        argv: vec!["/usr/bin/kube-controllers".into()],
    };
    seen.processes.as_mut().unwrap().get_mut("kube-controller").unwrap().push(calico);
    assert!(ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail).is_empty());
}

#[test]
fn the_unit_file_of_etcd_is_where_it_is_looked_for() {
    assert!(hardened().1.texts.contains_key(ETCD_UNIT));
}

#[test]
fn accepted_cas_are_those_of_the_key_store_and_no_others() {
    use crate::pki::{Anchor, certificates, made};
    let (inventory, good) = hardened();
    let (path, id) = ("/etc/kubernetes/pki/ca.crt", "pki-one-ca-per-file");
    let own = good.texts[path].clone().unwrap();
    let (old, stranger) = (made("old"), made("stranger"));
    let with = |more: &[&Anchor]| {
        more.iter().fold(own.clone(), |text, anchor| format!("{text}{}", anchor.pem))
    };
    let stand = |held: &str, trusted: Option<&str>| {
        let mut seen = good.clone();
        seen.texts.insert(path.into(), Some(held.to_owned()));
        match trusted {
            Some(text) => {
                let all = seen.trusted_cas.as_mut().unwrap();
                all.insert(path, certificates(text).unwrap());
            }
            None => seen.trusted_cas = None,
        }
        let found = judged(inventory, "a", &seen, &attempts());
        let of = |control| {
            let mut all = found.iter().filter(|f| f.control == control);
            all.next().map(Finding::outcome)
        };
        (of(id), of("pki-separate-cas"), of("pki-key-algorithm-and-lifetime"))
    };
    let accepted = with(&[&old]);
    let pass = Some(Outcome::Pass);
    assert_eq!(stand(&accepted, Some(&accepted)), (pass, pass, pass));
    assert_eq!(stand(&own, None).0, pass, "one alone, as ever");
    let fail = Some(Outcome::Fail);
    assert_eq!(stand(&with(&[&old, &stranger]), Some(&accepted)).0, fail);
    assert_eq!(stand(&with(&[&stranger]), Some(&accepted)).0, fail);
    assert_eq!(stand(&with(&[&old]), Some(&own)).0, fail, "it is accepted no more");
    assert_eq!(stand(&with(&[&old, &old]), Some(&accepted)).0, fail, "twice");
    assert_eq!(stand(&accepted, None).0, Some(Outcome::Unknown), "nobody knows whose it is");
    // A client of the etcd CA would be one of the cluster's.
    let etcd = good.texts["/etc/kubernetes/pki/etcd/ca.crt"].clone().unwrap();
    let shared = format!("{own}{etcd}");
    assert_eq!(stand(&shared, Some(&shared)).1, fail);
}
