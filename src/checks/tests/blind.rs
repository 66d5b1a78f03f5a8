//! What could not be looked at holds nothing.

use super::*;

/// What could not be looked at, and some controls that are unknown then.
#[rustfmt::skip]
pub(super) const BLIND: &[(Break, &[&str])] = &[
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
    (|s| s.live.as_mut().unwrap().journal = None, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| journal(s).ended_s = BEGAN_S - 1.0, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| s.live.as_mut().unwrap().now_s = BEGAN_S + 4000.0, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| journal(s).began_s = BEGAN_S + 1.0, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| journal(s).has_mounts = false, &["host-ssh-in-effect", "containerd-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
    (|s| irregular(s, "/etc/sysctl.d/x.conf"), &["host-sysctls-at-boot"]),
    (|s| irregular(s, "/etc/apt/apt.conf.d/x"), &["host-updates"]),
    (|s| source(s, "/etc/apt/sources.list", &"#".repeat(65537)), &["host-updates"]),
    (|s| s.live.as_mut().unwrap().manager = None, &["host-no-preload"]),
    (|s| s.live.as_mut().unwrap().unowned = None, &["host-no-preload", "host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().processes.last_mut().unwrap().mapped.clear(), &["host-no-preload"]),
    (|s| s.live.as_mut().unwrap().changed_files = None, &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().set_id = None, &["host-privileged-programs"]),
    (|s| s.live.as_mut().unwrap().capable = None, &["host-privileged-programs"]),
    (|s| s.live.as_mut().unwrap().readable_keys = None, &["host-secrets-unreadable"]),
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

/// What kube-proxy will run with is read from a file of the node, and no API is asked for it.
#[test]
fn what_is_staged_for_kube_proxy_holds_before_there_is_a_cluster() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    seen.processes.as_mut().unwrap().remove(Daemon::KubeProxy.comm());
    (seen.registered, seen.proxy_config) = (false, None);
    seen.lists = Lists::default();
    let findings = judged(inventory, "a", &seen, &attempts());
    let staged: Vec<_> = findings
        .iter()
        .filter(|f| f.control.starts_with("kube-proxy-"))
        .filter_map(|f| Some((f.control, f.staged.as_ref()?.outcome())))
        .collect();
    assert!(staged.len() >= 2, "{staged:?}");
    assert!(staged.iter().all(|(_, outcome)| *outcome == Outcome::Pass), "{staged:?}");
}

#[test]
fn without_kubernetes_nothing_about_it_passes() {
    let (inventory, _) = hardened();
    let mut bare = Observed::from_facts(&facts("a"), "SHA256:played");
    for node in &inventory.nodes {
        for path in crate::checks::watch::of_checks(inventory, node).files {
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
