//! A control-plane node on paper, on which everything was applied and runs.

use super::*;

/// A control-plane node after everything was applied, Kubernetes included.
pub(in crate::checks) fn hardened() -> &'static (Inventory, Observed) {
    static NODE: OnceLock<(Inventory, Observed)> = OnceLock::new();
    NODE.get_or_init(|| {
        let inventory = inventory(&|t| t.to_owned());
        let seen = running(rendered(&inventory, "a"));
        (inventory, seen)
    })
}

/// Starts, on paper, what was rendered.
pub(in crate::checks) fn running(mut seen: Observed) -> Observed {
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
    let haproxy = "/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid -S /run/haproxy-master.sock";
    start(Daemon::Haproxy, haproxy.split(' ').map(str::to_owned).collect());
    start(Daemon::Keepalived, vec!["/usr/sbin/keepalived".into(), "--dont-fork".into()]);
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
    seen.trusted_cas = Some(desired::CA_FILES.iter().copied().map(held).collect());
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
pub(super) fn answered(seen: &mut Observed) {
    let inventory = inventory(&|t| t.to_owned());
    for path in crate::checks::watch::of_checks(&inventory, &inventory.nodes[0]).files {
        seen.files.entry(path).or_insert(FileFacts::Absent);
    }
    seen.machine =
        Some(Machine { host_key: "SHA256:played".to_owned(), boot_id: "b".to_owned() }.into());
    seen.answers = Answers::played(seen.sysctls.keys().cloned());
    seen.live.as_mut().unwrap().answers = Answers::played([]);
    let lists = [ObjectKind::ConfigMaps].map(|kind| (kind, Digest::of("list")));
    seen.lists = Lists::played(lists);
}

/// What `nft -j` says of the rules of node a, loaded.
pub(super) const LOADED_RULES: &str = include_str!("../../../tests/fixtures/loaded-rules.json");

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
pub(super) const BEGAN_S: f64 = 2000.0;

pub(super) const WRITTEN_S: f64 = 1000.0;

/// What is in effect on a node on which nobody changed anything.
pub(super) fn live(seen: &Observed) -> LiveFacts {
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
            mapped: vec!["/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned()],
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
    let read = DAEMONS.iter().flat_map(|d| d.reads_at_start.iter().chain(d.reads_on_reload));
    for path in read.chain(&["/etc/ssh/sshd_config"]) {
        facts.paths.insert((*path).to_owned(), own(PathKind::File, 0o600));
    }
    facts.rules = Some(serde_json::from_str(LOADED_RULES).unwrap());
    facts.file_rules.clone_from(&facts.rules);
    facts.kubeconfigs = Some(Vec::new());
    facts.irregular = Some(Vec::new());
    facts.manager = Some(vec!["LANG".to_owned(), "PATH".to_owned()]);
    facts.unowned = Some(BTreeSet::new());
    facts.openssl_modules = Some(Vec::new());
    facts.changed_files = Some(Vec::new());
    facts.set_id = Some(vec![SetId {
        mode: 0o4755,
        owner: "root".into(),
        group: "root".into(),
        path: "/usr/bin/sudo".into(),
    }]);
    facts.capable = Some(vec![("/usr/bin/ping".to_owned(), Some(1 << 13))]);
    facts.readable_keys = Some(Vec::new());
    facts.now_s = BEGAN_S + 100.0;
    facts.journal = Some(Journal {
        began_s: WRITTEN_S,
        ended_s: BEGAN_S + 99.0,
        was_rotated: false,
        has_mounts: true,
    });
    facts.acls = Some(Vec::new());
    facts.shadowed_libraries = Some(Vec::new());
    facts.sources = Some(vec![500]);
    for &name in APT_UNITS {
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
    facts.trees.insert("/etc/systemd/system".into(), own(PathKind::Directory, 0o755));
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

/// Trees as `find` would list them, of the files that are there.
pub(super) fn trees(files: &BTreeMap<String, FileFacts>) -> BTreeMap<String, TreeFacts> {
    let mut trees: BTreeMap<String, TreeFacts> = BTreeMap::new();
    let mut watch = crate::facts::WatchList::default();
    let inventory = inventory(&|t| t.to_owned());
    for node in &inventory.nodes {
        watch.extend(crate::checks::watch::of_checks(&inventory, node));
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
pub(in crate::checks) fn made(attack: Attack, what: &str, verdict: Verdict) -> Attempt {
    let tried = Tried { target: "a".parse().unwrap(), attack, from: "b".into(), what: what.into() };
    Attempt::new(tried, verdict, Some(Digest::of("x")), Witness::default())
}

/// Every attempt that a row asks for, made with success.
pub(in crate::checks) fn attempts() -> Vec<Attempt> {
    let attacks: BTreeSet<Attack> = CATALOGUE
        .iter()
        .flat_map(|c| c.checks)
        .filter_map(|c| if let Check::Attack(p) = c { Some(*p) } else { None })
        .collect();
    let attempt = |attack| made(attack, "x", Verdict::pass("refused"));
    attacks.into_iter().map(attempt).collect()
}
