//! Single values that something depends on.

use proptest::prelude::*;

use super::{INVENTORY, SMALL, desired, desired_with, facts, file, load, node, text, with_probe};
use crate::desired::Shared;
use crate::desired::{ItemKind, NodeDesired, Phase, ResolveError, resolve};
use crate::facts::{FileFacts, UnitFacts};
use crate::inventory::{AuditPolicy, Files, FirewallMode, SoftwareSource, Switch, elf};
use crate::pki::Material;

const INIT: &str = "/etc/kubernetes/kubastion/kubeadm-init.yaml";

fn small(change: impl FnOnce(&mut crate::inventory::Inventory)) -> NodeDesired {
    let mut inventory = load(SMALL);
    change(&mut inventory);
    desired(&inventory, "a", &facts("a", "debian 13", None))
}

fn has(desired: &NodeDesired, wanted: &str) -> bool {
    desired.items.iter().any(|i| match &i.kind {
        ItemKind::File { path, .. } | ItemKind::Directory { path, .. } => path == wanted,
        ItemKind::Unit { name, .. } | ItemKind::Package { name } => name == wanted,
        ItemKind::Sysctl { key, .. } => key == wanted,
        _ => false,
    })
}

#[test]
fn settings_of_the_lab_stay_in_the_lab() {
    let plain = text(&small(|_| {}), INIT);
    assert!(plain.contains("failCgroupV1: true") && plain.contains("cgroupDriver: systemd"));
    assert!(!plain.contains("SystemVerification") && !plain.contains("conntrack"));
    let lab = small(|i| i.host.lab = true);
    let init = text(&lab, INIT);
    assert!(init.contains("failCgroupV1: false") && init.contains("SystemVerification"));
    assert!(init.contains("evictionHard") && !plain.contains("evictionHard"));
    let config = "/etc/containerd/config.toml";
    assert!(text(&lab, config).contains("restrict_oom_score_adj = true"));
    assert!(text(&small(|_| {}), config).contains("restrict_oom_score_adj = false"));
}

#[test]
fn a_container_leaves_the_kernel_to_its_host() {
    let inventory = load(SMALL);
    let inside = desired(&inventory, "a", &facts("a", "debian 12", Some("systemd-nspawn")));
    assert!(!has(&inside, "vm.overcommit_memory") && has(&inside, "net.ipv4.ip_forward"));
    let file = text(&inside, "/etc/sysctl.d/90-kubastion.conf");
    assert!(!file.contains("kernel.") && !file.contains("vm.") && !file.contains("fs."), "{file}");
    assert!(
        !inside.items.iter().any(|i| matches!(i.kind, ItemKind::SwapOff | ItemKind::Module { .. }))
    );
    assert!(inside.notes.iter().any(|n| n.contains("container")));
    assert!(text(&inside, INIT).contains("protectKernelDefaults: false"));
    assert!(text(&small(|_| {}), INIT).contains("protectKernelDefaults: true"));
}

#[test]
fn etcd_gets_a_tls_floor_where_it_knows_one() {
    let inventory = load(SMALL);
    let unit = |os: &str, version: Option<&str>| {
        let mut facts = facts("a", os, None);
        if let Some(v) = version {
            facts.packages.insert("etcd-server".into(), v.into());
        }
        text(&desired(&inventory, "a", &facts), "/etc/systemd/system/etcd.service")
    };
    let floor = "--tls-min-version=TLS1.2";
    for (os, version, knows) in [
        ("debian 12", None, false),
        ("debian 13", None, true),
        ("debian 12", Some("3.4.23-4+b4"), false),
        ("debian 12", Some("3.4.25-1"), true),
        ("debian 12", Some("3.5.7-1"), false),
        ("debian 12", Some("3.5.30-1"), true),
        ("rocky 9.4", None, false),
    ] {
        assert_eq!(unit(os, version).contains(floor), knows, "{os} {version:?}");
    }
    // A built one says its own version.
    let mut facts = facts("a", "rocky 9.4", None);
    facts.versions.insert("etcd".into(), "etcd Version: 3.6.8".into());
    let own = text(&desired(&inventory, "a", &facts), "/etc/systemd/system/etcd.service");
    assert!(own.contains(floor));
    // A new member changes what members start from, and restarts none of them.
    assert!(!own.contains("--initial-cluster"), "{own}");
}

#[test]
fn containerd_gets_the_format_it_reads() {
    let inventory = load(SMALL);
    let config = |package: &str, version: &str| {
        let mut facts = facts("a", "debian 13", None);
        facts.packages.insert(package.into(), version.into());
        text(&desired(&inventory, "a", &facts), "/etc/containerd/config.toml")
    };
    assert!(config("containerd", "1.6.20~ds1-1").contains("version = 2"));
    assert!(config("containerd", "1.7.24~ds1-6").contains("version = 2"));
    let v20 = config("containerd.io", "2.0.5-1");
    assert!(v20.contains("version = 3") && v20.contains("bin_dir =") && !v20.contains("bin_dirs"));
    let v21 = config("containerd.io", "2.1.9-1");
    assert!(v21.contains("bin_dirs = [") && !v21.contains("bin_dir ="));
}

#[test]
fn a_program_from_elsewhere_is_not_replaced_by_a_package() {
    let inventory = load(SMALL);
    let mut facts = facts("a", "debian 13", None);
    assert!(has(&desired(&inventory, "a", &facts), "containerd"));
    facts.commands.extend(["containerd".to_owned(), "etcd".to_owned()]);
    facts.packages.insert("containerd.io".into(), "2.1.9-1".into());
    let wanted = desired(&inventory, "a", &facts);
    assert!(!has(&wanted, "containerd") && !has(&wanted, "runc") && !has(&wanted, "etcd-server"));
}

#[test]
fn switches_take_settings_out() {
    let off = |control: &str| {
        small(|i| {
            i.hardening.controls.insert(control.into(), Switch::Off.into());
        })
    };
    assert!(!has(&off("host-ssh-hardening"), "/etc/ssh/sshd_config.d/00-kubastion.conf"));
    assert!(!has(&off("host-sysctls"), "net.ipv4.tcp_syncookies"));
    assert!(!text(&off("apiserver-profiling-off"), INIT).contains("apiserver-profiling"));
    let init = text(&off("apiserver-anonymous-auth"), INIT);
    assert!(!init.contains("anonymous-auth") && !init.contains("authentication-config"));
    // The key files stay, whoever judges their modes.
    let modes = off("files-pki-key-mode");
    assert!(has(&modes, "/etc/kubernetes/pki/apiserver.key"));
    // Without patched probes, anonymous requests are answered on the health paths only.
    let health = off("apiserver-authenticated-probes");
    let init = text(&health, INIT);
    assert!(init.contains("authentication-config") && !init.contains("\"anonymous-auth\""));
    assert!(has(&health, "/etc/kubernetes/config/authentication.yaml"));
    assert!(!has(&health, "/etc/kubernetes/kubastion/patches/kube-apiserver0+json.yaml"));
    assert!(has(&small(|_| {}), "/etc/kubernetes/kubastion/patches/kube-apiserver0+json.yaml"));
}

/// What is set now and what is set at boot are one list, whatever is switched off: a kubelet that insists on
/// its kernel settings would not start after a reboot without the file.
#[test]
fn kernel_settings_and_their_file_are_one_list() {
    const FILE: &str = "/etc/sysctl.d/90-kubastion.conf";
    let kubelets = ["kernel.panic", "vm.overcommit_memory", "kernel.keys.root_maxkeys"];
    let needed = ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"];
    let every = crate::controls::ids::ALL;
    let mut cases: Vec<Vec<&str>> = every.iter().map(|c| vec![*c]).collect();
    cases.extend([vec![], every.to_vec()]);
    for off in cases {
        for (node, container) in
            [("cp-1", None), ("e-1", None), ("w-1", None), ("w-1", Some("lxc"))]
        {
            let mut inventory = load(INVENTORY);
            inventory.hardening.controls =
                off.iter().map(|c| ((*c).to_owned(), Switch::Off.into())).collect();
            let wanted = desired(&inventory, node, &facts(node, "debian 13", container));
            let what = format!("{node} {container:?} without {off:?}");
            let set: Vec<String> = wanted
                .items
                .iter()
                .filter_map(|i| match &i.kind {
                    ItemKind::Sysctl { key, value } => Some(format!("{key} = {value}")),
                    _ => None,
                })
                .collect();
            let kept: Vec<String> = if has(&wanted, FILE) {
                let lines = text(&wanted, FILE);
                lines.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
            } else {
                Vec::new()
            };
            // What is about all interfaces stands there for each of them, too.
            let (each, kept): (Vec<String>, Vec<String>) =
                kept.into_iter().partition(|l| l.contains(".conf.*."));
            assert_eq!(set, kept, "{what}");
            let all = set.iter().filter(|l| l.contains(".conf.all.") && !l.contains("forwarding"));
            let all: Vec<String> = all.map(|l| l.replace(".all.", ".*.")).collect();
            assert_eq!(each, all, "{what}");
            if node == "e-1" {
                continue;
            }
            assert!(needed.iter().all(|k| has(&wanted, k)), "{what}");
            assert!(has(&wanted, "net.ipv6.conf.all.forwarding"), "{what}");
            if container.is_some() {
                continue;
            }
            let modules = "/etc/modules-load.d/kubastion.conf";
            assert_eq!(
                text(&wanted, modules).lines().skip(1).collect::<Vec<_>>(),
                ["br_netfilter", "overlay"],
                "{what}"
            );
            let loaded = |i: &&crate::desired::Item| matches!(i.kind, ItemKind::Module { .. });
            assert_eq!(wanted.items.iter().filter(loaded).count(), 2, "{what}");
            let insists = !off.contains(&"kubelet-protect-kernel-defaults");
            assert!(!insists || kubelets.iter().all(|k| has(&wanted, k)), "{what}");
        }
    }
}

/// Programs are no hardening: a cluster needs them whatever is switched off.
#[test]
fn programs_of_the_cluster_are_installed_whatever_is_switched_off() {
    let mut inventory = load(INVENTORY);
    inventory.hardening.controls =
        crate::controls::ids::ALL.iter().map(|c| ((*c).to_owned(), Switch::Off.into())).collect();
    let programs = ["containerd", "runc", "containernetworking-plugins", "conntrack"];
    let members = ["etcd-server", "etcd-client"];
    for (node, wanted) in [("cp-1", &programs[..]), ("w-1", &programs[..]), ("e-1", &members[..])] {
        let installed = desired(&inventory, node, &facts(node, "debian 13", None));
        for name in wanted {
            assert!(has(&installed, name), "{node}: {name}");
        }
        assert!(!has(&installed, "auditd") && !has(&installed, "chrony"), "{node}");
    }
}

#[test]
fn a_node_gets_the_probe_that_it_can_run() {
    let patch = "/etc/kubernetes/kubastion/patches/kube-apiserver0+json.yaml";
    let program = "/usr/local/lib/kubastion/probe";
    let noted = |d: &NodeDesired, what: &str| {
        d.notes.iter().any(|n| n.contains("only open a TCP connection") && n.contains(what))
    };
    let none = small(|_| {});
    assert!(noted(&none, "without `kubastion-probe`") && !has(&none, program));
    let with = |machine| {
        let facts = facts("a", "debian 13", None);
        desired_with(&load(SMALL), &with_probe(machine), "a", &facts)
    };
    let fitting = with(62);
    assert!(!noted(&fitting, "") && text(&fitting, patch).contains("- /readyz"));
    assert!(!text(&fitting, patch).contains("tcpSocket"));
    assert_eq!(file(&fitting, program).bytes(), elf(62, &[1]));
    let foreign = with(183);
    assert!(noted(&foreign, "is for aarch64, the node is x86_64") && !has(&foreign, program));
    assert!(text(&foreign, patch).contains("tcpSocket"));
}

#[test]
fn the_firewall_follows_its_mode() {
    let rules = "/etc/kubastion/firewall.nft";
    let enforced = text(&small(|_| {}), rules);
    assert!(enforced.contains("hook input priority filter; policy drop;"));
    let logged = text(&small(|i| i.firewall.mode = FirewallMode::LogOnly), rules);
    assert!(logged.contains("hook input priority filter; policy accept;"));
    assert!(!logged.contains(" drop\n") && !logged.contains("policy drop"), "{logged}");
    assert!(!has(&small(|i| i.firewall.mode = FirewallMode::Off), rules));
    // Behind a port forwarding sshd listens elsewhere.
    let mut inventory = load(SMALL);
    inventory.ssh.port = 2222;
    let both = text(&desired(&inventory, "a", &facts("a", "debian 13", None)), rules);
    assert!(both.contains("tcp dport { 22, 2222 } accept comment \"SSH\""), "{both}");
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let inventory = load(SMALL);
    let facts = facts("a", "debian 13", None);
    let foreign = FileFacts::File {
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        size: 1,
        sha256: "0".repeat(64),
    };
    let material = Material::fixture(&inventory);
    for path in ["/etc/kubernetes/pki/ca.crt", "/etc/etcd/pki/ca.crt"] {
        let linked = FileFacts::Symlink { target: "/srv/pki/ca.crt".into() };
        for held in [foreign.clone(), linked] {
            let mut facts = facts.clone();
            facts.files.insert(path.into(), held);
            let a = node(&inventory, "a");
            let errors =
                resolve(&inventory, &Files::default(), a, &facts, &material, &Shared::default())
                    .err()
                    .unwrap();
            assert!(matches!(errors[..], [ResolveError::ForeignCa { .. }]), "{path}: {errors:?}");
        }
    }
}

#[test]
fn a_custom_audit_policy_is_judged() {
    let with = |text: Option<&str>| {
        let mut inventory = load(SMALL);
        inventory.audit.policy = AuditPolicy::Custom;
        let files = Files { audit_policy: text.map(str::to_owned), ..Files::default() };
        let material = Material::fixture(&inventory);
        let facts = facts("a", "debian 13", None);
        resolve(&inventory, &files, node(&inventory, "a"), &facts, &material, &Shared::default())
    };
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    let anchored = format!("{head}rules: &all [{{ level: None }}]\n");
    let merged = format!("{head}rules: [{{ level: None }}]\n<<: {{ omitStages: [Panic] }}\n");
    for bad in [None, Some(""), Some("a: ["), Some(head), Some(&anchored), Some(&merged)] {
        let errors = with(bad).err().unwrap();
        assert!(matches!(errors[..], [ResolveError::AuditPolicy(_)]), "{bad:?} {errors:?}");
    }
    let good = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{ level: None }]\n";
    let wanted = with(Some(good)).unwrap();
    assert_eq!(text(&wanted, "/etc/kubernetes/config/audit-policy.yaml"), good);
}

/// The API server reads its audit policy once: what starts it has to follow, and both go back together.
#[test]
fn another_audit_policy_is_another_api_server() {
    const POLICY: &str = "/etc/kubernetes/config/audit-policy.yaml";
    const PATCH: &str = "/etc/kubernetes/kubastion/patches/kube-apiserver2+strategic.yaml";
    let with = |policy, source| {
        small(|i| {
            i.audit.policy = policy;
            i.kubernetes.source = source;
        })
    };
    for (source, phase) in
        [(SoftwareSource::Preinstalled, Phase::Kubernetes), (SoftwareSource::None, Phase::Host)]
    {
        let before = with(AuditPolicy::Balanced, source);
        let after = with(AuditPolicy::Stig, source);
        assert_ne!(text(&before, POLICY), text(&after, POLICY));
        assert_ne!(text(&before, PATCH), text(&after, PATCH));
        assert_eq!(text(&before, INIT), text(&after, INIT), "or the test shows nothing");
        for path in [POLICY, PATCH] {
            let of = |i: &&crate::desired::Item| matches!(&i.kind, ItemKind::File { path: p, .. } if p == path);
            assert_eq!(before.items.iter().find(of).map(|i| i.phase), Some(phase), "{path}");
        }
    }
    let brought_up = with(AuditPolicy::Balanced, SoftwareSource::Preinstalled);
    let watched = |i: &crate::desired::Item| matches!(&i.kind, ItemKind::Kubeadm { watches, .. } if watches.contains(&PATCH.to_owned()));
    assert!(brought_up.items.iter().any(watched));
}

#[test]
fn an_sshd_that_does_not_read_drop_ins_is_noted() {
    let inventory = load(SMALL);
    let mut facts = facts("a", "debian 13", None);
    facts.sshd.insert("passwordauthentication".into(), vec!["yes".into()]);
    let noted = |facts: &crate::facts::NodeFacts| {
        desired(&inventory, "a", facts).notes.iter().any(|n| n.contains("Include"))
    };
    assert!(!noted(&facts), "before the first apply there is nothing to follow");
    let path = "/etc/ssh/sshd_config.d/00-kubastion.conf";
    let there = |sha256: String| FileFacts::File {
        mode: 0o600,
        owner: "root".into(),
        group: "root".into(),
        size: 1,
        sha256,
    };
    facts.files.insert(path.into(), there("0".repeat(64)));
    assert!(!noted(&facts), "somebody changed it, and sshd may well follow that");
    let ours = file(&desired(&inventory, "a", &facts), path).sha256();
    facts.files.insert(path.into(), there(ours));
    assert!(noted(&facts));
}

#[test]
fn an_ssh_socket_keeps_its_service_as_it_is() {
    let inventory = load(SMALL);
    let enabled = |socket: &str| {
        let mut facts = facts("a", "ubuntu 24.04", None);
        let unit = UnitFacts { file: socket.into(), ..UnitFacts::default() };
        facts.units.insert("ssh.socket".into(), unit);
        let items = desired(&inventory, "a", &facts).items;
        items.into_iter().find_map(|i| match i.kind {
            ItemKind::Unit { name, enabled, .. } if name == "ssh.service" => Some(enabled),
            _ => None,
        })
    };
    assert_eq!(enabled("enabled"), Some(false));
    assert_eq!(enabled("disabled"), Some(true));
}

/// What a plan says before a firewall closes something, or beside another one that does.
#[test]
fn what_the_firewall_closes_is_named() {
    use crate::facts::{InterfaceAddress, Listener, NftRecord, NodeFacts};
    let inventory = load(SMALL);
    let mut facts = facts("a", "debian 12", None);
    let listen = |protocol: &str, address: &str, port| Listener {
        protocol: protocol.into(),
        address: address.into(),
        port,
    };
    facts.listeners = Some(vec![
        listen("tcp", "0.0.0.0", 22),
        listen("tcp", "*", 9100),
        listen("tcp", "192.0.2.11", 8080),
        listen("tcp", "127.0.0.1", 5432),
        listen("udp", "127.0.0.53%lo", 53),
        listen("tcp", "[::1]", 6010),
        listen("udp", "0.0.0.0", 68),
        listen("udp", "0.0.0.0", 1194),
        listen("tcp", "::", 10250),
    ]);
    let network = "10.8.0.1/24".parse().unwrap();
    facts.addresses.push(InterfaceAddress { interface: "tun0".into(), network });
    facts.nft.foreign_drops.insert(("input".into(), "ip filter".into()));
    facts.nft.foreign_tables = vec!["inet firewalld".into()];
    let notes = |facts: &NodeFacts| desired(&inventory, "a", facts).notes.join("\n");
    let said = notes(&facts);
    let closed = "the firewall will close 1194/udp, 8080/tcp, 9100/tcp";
    assert!(said.contains(closed), "{said}");
    assert!(said.contains("the node is a tunnel endpoint (tun0)"), "{said}");
    assert!(said.contains("another firewall drops by default (`ip filter` input): "), "{said}");
    assert!(said.contains("firewalld is active alongside kubastion's firewall"), "{said}");
    // What is loaded already closes nothing anew.
    let sha = crate::desired::firewall_sha256(
        &inventory,
        &Files::default(),
        &inventory.nodes[0],
        &facts,
        &Shared::default(),
    )
    .unwrap();
    facts.nft.own_listing_sha256 = Some("l".into());
    facts.nft.recorded = Some(NftRecord { file_sha256: sha, listing_sha256: "l".into() });
    let said = notes(&facts);
    assert!(!said.contains("the firewall will close"));
    // Others may have come after it.
    assert!(
        said.contains("firewalld is active alongside kubastion's firewall")
            && said.contains("`ip filter`"),
        "{said}"
    );
}

#[test]
fn a_kms_plugin_is_named_and_its_socket_mounted() {
    let with_plugin = small(|i| {
        i.encryption.provider = crate::inventory::EncryptionProvider::Kms;
        i.encryption.kms_endpoint = Some("unix:///run/kms/plugin.sock".into());
    });
    let config = text(&with_plugin, "/etc/kubernetes/enc/encryption.yaml");
    assert!(config.contains("apiVersion: v2"), "{config}");
    assert!(config.contains("endpoint: \"unix:///run/kms/plugin.sock\""), "{config}");
    assert!(!config.contains("secret:"), "{config}");
    let init = text(&with_plugin, "/etc/kubernetes/kubastion/kubeadm-init.yaml");
    assert!(init.contains("kubastion-kms") && init.contains("/run/kms"), "{init}");
    let without = text(&small(|_| ()), "/etc/kubernetes/kubastion/kubeadm-init.yaml");
    assert!(!without.contains("kubastion-kms"), "{without}");
}

/// Switching forwarding on takes the default route away that a router's advertisement brought.
#[test]
fn a_way_out_that_a_router_told_is_kept() {
    const FILE: &str = "/etc/sysctl.d/90-kubastion.conf";
    let networks = "pod_networks: [10.244.0.0/16, \"fd00:10:244::/56\"], \
         service_networks: [10.96.0.0/16, \"fd00:10:96::/112\"], endpoint:";
    let dual = SMALL
        .replace("endpoint:", networks)
        .replace("[192.0.2.11]", "[192.0.2.11, \"fd00:1::11\"]");
    let mut facts = facts("a", "debian 12", None);
    facts.advertised = [("eth0".to_owned(), 1), ("eth0.7".to_owned(), 1)].into();
    let wanted = desired(&load(&dual), "a", &facts);
    let keys: Vec<(&str, &str)> = wanted
        .items
        .iter()
        .filter_map(|i| match &i.kind {
            ItemKind::Sysctl { key, value } => Some((key.as_str(), value.as_str())),
            _ => None,
        })
        .collect();
    let at = |key: &str| keys.iter().position(|k| k.0 == key).unwrap_or_else(|| panic!("{keys:?}"));
    assert!(at("net.ipv6.conf.eth0.accept_ra") < at("net.ipv6.conf.all.forwarding"));
    assert_eq!(keys[at("net.ipv6.conf.eth0.accept_ra")].1, "2");
    let conf = text(&wanted, FILE);
    let (ra, forwarding) = (conf.find("eth0.accept_ra = 2"), conf.find("all.forwarding = 1"));
    assert!(ra.is_some() && ra < forwarding, "{conf}");
    // Pods without IPv6: nothing forwards it.
    assert!(!text(&desired(&load(SMALL), "a", &facts), FILE).contains("accept_ra"));
}

/// A second factor that is switched off with passwords locks its people out.
#[test]
fn people_with_a_second_factor_of_a_password_are_named() {
    use crate::facts::{NodeFacts, SshdMatch};
    let inventory = load(SMALL);
    let mut facts = facts("a", "debian 12", None);
    let set = |key: &str, value: &str| SshdMatch {
        file: "/etc/ssh/sshd_config".into(),
        key: key.into(),
        value: value.into(),
    };
    let said = |facts: &NodeFacts| {
        let notes = desired(&inventory, "a", facts).notes;
        notes.iter().filter(|n| n.contains("are locked out")).count()
    };
    let methods = "authenticationmethods";
    facts.sshd_matches = Some(vec![set(methods, "publickey,keyboard-interactive:pam")]);
    assert_eq!(said(&facts), 1);
    // A key alone is enough, too; or it is switched on there.
    facts.sshd_matches = Some(vec![set(methods, "publickey publickey,password")]);
    assert_eq!(said(&facts), 0);
    facts.sshd_matches = Some(vec![
        set(methods, "publickey,keyboard-interactive"),
        set("kbdinteractiveauthentication", "yes"),
    ]);
    assert_eq!(said(&facts), 0);
    facts.sshd_matches = None;
    facts.sshd.insert(methods.into(), vec!["publickey,password".into()]);
    assert_eq!(said(&facts), 1);
}

/// kubeadm would give every node what holds on the first control plane.
#[test]
fn pods_are_given_the_name_servers_of_their_own_node() {
    let inventory = load(SMALL);
    let of = |active: &str| {
        let mut facts = facts("a", "debian 12", None);
        let unit = UnitFacts { active: active.into(), ..UnitFacts::default() };
        facts.units.insert("systemd-resolved.service".into(), unit);
        let patch = "/etc/kubernetes/kubastion/patches/kubeletconfiguration0+json.yaml";
        text(&desired(&inventory, "a", &facts), patch)
    };
    let ends = |file: &str| format!("- op: add\n  path: /resolvConf\n  value: \"{file}\"\n");
    assert!(of("active").ends_with(&ends("/run/systemd/resolve/resolv.conf")), "{}", of("active"));
    assert!(of("inactive").ends_with(&ends("/etc/resolv.conf")), "{}", of("inactive"));
}

/// Before the first apply the node is asked who would not get in any more, with what the file will say.
#[test]
fn sshd_is_asked_with_what_it_is_to_be_told() {
    let path = "/etc/ssh/sshd_config.d/00-kubastion.conf";
    for (user, root) in [("root", "prohibit-password"), ("ops", "no")] {
        let mut inventory = load(SMALL);
        inventory.ssh.user = user.parse().unwrap();
        let asked = crate::desired::watch(&inventory, &Files::default(), &inventory.nodes[0]).sshd;
        assert!(asked.contains(&format!("PermitRootLogin {root}")), "{asked:?}");
        assert!(asked.contains("PasswordAuthentication no"), "{asked:?}");
        let wanted = desired(&inventory, "a", &facts("a", "debian 12", None));
        let files: Vec<&String> = asked.iter().filter(|l| l.starts_with('=')).collect();
        assert_eq!(files, [&format!("={} {path}", file(&wanted, path).sha256())]);
    }
}

/// Packages of time daemons exclude each other: one more would take the node's own away, silently.
#[test]
fn a_time_daemon_that_the_node_has_stays() {
    let with = "host: {ntp_servers: [ntp.example, 192.0.2.9]}\ncluster:";
    let inventories = [load(SMALL), load(&SMALL.replacen("cluster:", with, 1))];
    let of = |inventory: &crate::inventory::Inventory, unit: &str, file: &str, chrony: bool| {
        let mut facts = facts("a", "debian 12", None);
        facts.packages.remove("chrony");
        if chrony {
            facts.packages.insert("chrony".into(), "4".into());
        }
        let chrony = facts.units.entry("chrony.service".into()).or_default();
        chrony.load = "loaded".into();
        let found = UnitFacts { load: "loaded".into(), file: file.into(), ..UnitFacts::default() };
        facts.units.insert(unit.into(), found);
        desired(inventory, "a", &facts)
    };
    let timesyncd = "systemd-timesyncd.service";
    for inventory in &inventories {
        let wanted = of(inventory, timesyncd, "enabled", false);
        assert!(!has(&wanted, "chrony"));
        assert!(has(&wanted, timesyncd) && !has(&wanted, "chrony.service"));
        assert!(
            wanted
                .notes
                .iter()
                .any(|n| n.contains("systemd-timesyncd is kept as the time service"))
        );
        // Given up, or chrony is there already.
        for (file, chrony) in [("disabled", false), ("masked", false), ("enabled", true)] {
            let wanted = of(inventory, timesyncd, file, chrony);
            assert!(has(&wanted, "chrony"), "{file}");
            assert!(has(&wanted, "chrony.service") && !has(&wanted, timesyncd), "{file}");
        }
        let wanted = of(inventory, "ntpsec.service", "enabled", false);
        assert!(!has(&wanted, "chrony") && !has(&wanted, "chrony.service"));
        assert!(
            wanted.notes.iter().any(|n| n.contains("ntpsec.service is kept as the time service"))
        );
    }
    let wanted = of(&inventories[1], timesyncd, "enabled", false);
    let conf = text(&wanted, "/etc/systemd/timesyncd.conf.d/kubastion.conf");
    assert!(conf.ends_with("[Time]\nNTP=\nNTP=ntp.example\nNTP=192.0.2.9\n"), "{conf}");
}

/// A time daemon reads its servers once: taken out of the inventory, they have to be taken out of the daemon, too.
#[test]
fn a_time_daemon_is_started_again_without_its_servers() {
    let inventory = load(SMALL);
    let drop_in = "/etc/chrony/conf.d/kubastion.conf";
    let watched = |facts: &crate::facts::NodeFacts| {
        let items = desired(&inventory, "a", facts).items;
        items.into_iter().any(|i| match i.kind {
            ItemKind::Unit { name, watches, .. } => {
                name == "chrony.service" && watches == [drop_in]
            }
            _ => false,
        })
    };
    let mut facts = facts("a", "debian 12", None);
    assert!(!watched(&facts), "no restart of a daemon that never had any");
    let mut had = facts.clone();
    had.unit_marks.insert("chrony.service".into(), "m".into());
    assert!(watched(&had));
    let file = FileFacts::File {
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        size: 1,
        sha256: "0".repeat(64),
    };
    facts.files.insert(drop_in.into(), file);
    assert!(watched(&facts), "somebody put it there");
}

/// Debian 11 has a socket that starts an sshd for each connection, and conflicts with the service; those of Debian 12 and
/// Ubuntu start the service.
#[test]
fn an_ssh_socket_alone_is_left_to_itself() {
    let inventory = load(SMALL);
    let mut facts = facts("a", "debian 12", None);
    let unit = |active: &str, file: &str| UnitFacts {
        load: "loaded".into(),
        active: active.into(),
        file: file.into(),
        ..UnitFacts::default()
    };
    facts.units.insert("ssh.socket".into(), unit("active", "enabled"));
    facts.units.insert("ssh.service".into(), unit("inactive", "disabled"));
    let wanted = desired(&inventory, "a", &facts);
    let of_ssh: Vec<_> = wanted
        .items
        .iter()
        .filter_map(|i| match &i.kind {
            ItemKind::Unit { name, enabled, active, on_change, .. } if name.starts_with("ssh") => {
                Some((name.as_str(), *enabled, *active, *on_change))
            }
            _ => None,
        })
        .collect();
    assert_eq!(of_ssh, [("ssh.socket", true, true, crate::desired::OnChange::Nothing)]);
    assert!(wanted.notes.iter().any(|n| n.contains("for each connection")), "{:?}", wanted.notes);
    // The service runs, on a socket of systemd's: reloaded, it would find its port taken and end.
    facts.units.insert("ssh.service".into(), unit("active", "disabled"));
    let wanted = desired(&inventory, "a", &facts);
    assert!(wanted.items.iter().any(|i| matches!(&i.kind, ItemKind::Unit { name, on_change, .. }
        if name == "ssh.service" && *on_change == crate::desired::OnChange::Restart)));
}

#[test]
fn the_encryption_provider_stands_where_scanners_look() {
    let wanted = small(|_| {});
    let config = text(&wanted, "/etc/kubernetes/enc/encryption.yaml");
    let after = config.rsplit("providers:\n").next().unwrap();
    assert!(after.starts_with("  - secretbox:"), "{config}");
    assert!(!config.contains("identity"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every label that validation lets through arrives as it is.
    #[test]
    fn labels_and_taints_arrive(
        key in "[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?",
        value in "([A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?)?",
    ) {
        let mut inventory = load(INVENTORY);
        let worker = inventory.nodes.iter_mut().find(|n| n.name.as_str() == "w-1").unwrap();
        worker.labels = [(key.clone(), value.clone())].into();
        worker.taints = vec![format!("{key}={value}:NoExecute")];
        let wanted = desired(&inventory, "w-1", &facts("w-1", "debian 13", None));
        let join = text(&wanted, "/etc/kubernetes/kubastion/kubeadm-join.yaml");
        let parsed: crate::yaml::Value = crate::yaml::from_text(&join).unwrap();
        let registration = &parsed["nodeRegistration"];
        let label = format!("{key}={value}");
        prop_assert_eq!(registration["kubeletExtraArgs"][1]["value"].as_str(), Some(label.as_str()));
        prop_assert_eq!(registration["taints"][0]["key"].as_str(), Some(key.as_str()));
        prop_assert_eq!(registration["taints"][0]["value"].as_str(), Some(value.as_str()));
    }
}
