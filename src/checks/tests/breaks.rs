//! Every check can fail, and exactly the controls fail that something breaks.

use super::*;

/// One thing broken, and exactly the controls that fail.
#[rustfmt::skip]
pub(super) const BREAKS: &[(Break, &[&str])] = &[
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
    (|s| apt(s, "Unattended-Upgrade::Update-Days", "Mon"), &["host-updates"]),
    (|s| apt(s, "Unattended-Upgrade::InstallOnShutdown", "true"), &["host-updates"]),
    (|s| apt(s, "Unattended-Upgrade::Package-Whitelist", "less"), &["host-updates"]),
    (|s| apt(s, "Acquire::Check-Valid-Until", "false"), &["host-updates"]),
    (|s| apt(s, "acquire::check-date", "no"), &["host-updates"]),
    (|s| apt(s, "Acquire::Min-ValidTime::Debian", "999999999"), &["host-updates"]),
    (|s| apt(s, "APT::Hashes::SHA1::Untrusted", "no"), &["host-updates"]),
    (|s| apt(s, "APT::Update::Pre-Invoke", "exit 1"), &["host-updates"]),
    (|s| apt(s, "DPkg::Options", "--dry-run"), &["host-updates"]),
    (|s| apt(s, "Dir::Etc::sourceparts", "/dev/null"), &["host-updates"]),
    (|s| apt(s, "Dir", "/tmp/root/"), &["host-updates"]),
    (|s| apt(s, "Dir::Bin::dpkg", "/usr/local/bin/dpkg"), &["host-updates"]),
    (|s| source(s, "/etc/apt/sources.list", "deb [trusted=yes] http://x y z"), &["host-updates"]),
    (|s| source(s, "/etc/apt/sources.list.d/x.sources", "Types: deb\nAllow-Insecure: yes\n"), &["host-updates"]),
    (|s| drop_in(s, "apt-daily-upgrade.timer", "/etc/systemd/system/apt-daily-upgrade.timer.d/x.conf"), &["host-units-as-written", "host-updates"]),
    (|s| drop_in(s, "apt-daily.timer", "/usr/lib/systemd/system/apt-daily.timer.d/x.conf"), &["host-updates"]),
    (|s| live_unit(s, "apt-daily.timer").fragment = "/etc/systemd/system/apt-daily.timer".into(), &["host-updates"]),
    (|s| live_unit(s, "apt-daily.timer").needs_reload = true, &["host-units-as-written", "host-updates"]),
    // A timer of another distribution, which runs nothing here.
    (|s| { let timer = s.units.remove("apt-daily-upgrade.timer").unwrap(); s.units.insert("dnf-automatic.timer".into(), timer); }, &["host-updates"]),
    (|s| irregular(s, "/etc/sudoers.d/x"), &["host-regular-files"]),
    (|s| s.live.as_mut().unwrap().manager.as_mut().unwrap().push("LD_PRELOAD".into()), &["host-no-preload"]),
    (|s| s.live.as_mut().unwrap().manager_files.push(("/etc/systemd/system.conf.d/x.conf".into(), vec!["LD_AUDIT".into()])), &["host-no-preload"]),
    (|s| runs_code_of(s, "/usr/lib/x86_64-linux-gnu/libevil.so", true), &["host-no-preload"]),
    (|s| runs_code_of(s, "/tmp/x.so (deleted)", true), &["host-no-preload"]),
    (|s| runs_code_of(s, "/usr/lib/x86_64-linux-gnu/libcrypto.so.3 (deleted)", false), &["host-no-preload"]),
    (|s| { s.live.as_mut().unwrap().unowned.as_mut().unwrap().insert("/usr/lib/x86_64-linux-gnu/libnss_evil.so.2".into()); }, &["host-no-shadowed-programs"]),
    (|s| { let live = s.live.as_mut().unwrap(); live.unowned.as_mut().unwrap().insert("/opt/x.so".into()); live.openssl_modules = Some(vec![("/etc/ssl/openssl.cnf".into(), "/opt/x.so".into())]); }, &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().changed_files = Some(vec![("??5??????".into(), "/usr/sbin/sshd".into())]), &["host-no-shadowed-programs"]),
    (|s| s.live.as_mut().unwrap().changed_files = Some(vec![("missing".into(), "/usr/bin/sudo".into())]), &["host-no-shadowed-programs"]),
    (|s| set_id(s, 0o4755, "/usr/local/bin/x"), &["host-privileged-programs"]),
    (|s| set_id(s, 0o2755, "/usr/bin/find"), &["host-privileged-programs"]),
    (|s| capable(s, "/usr/local/bin/kubectl", Some(1 << 7)), &["host-privileged-programs"]),
    (|s| capable(s, "/usr/bin/ping", Some(1 << 13 | 1 << 7)), &["host-privileged-programs"]),
    (|s| capable(s, "/usr/bin/ping", None), &["host-privileged-programs"]),
    (|s| s.live.as_mut().unwrap().readable_keys.as_mut().unwrap().push("/opt/admin.conf".into()), &["host-secrets-unreadable"]),
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
    (|s| s.live.as_mut().unwrap().processes.last_mut().unwrap().program.push_str(" (deleted)"), &["host-ssh-in-effect"]),
    (|s| { s.sshd.as_mut().unwrap().insert("setenv".into(), vec!["LD_PRELOAD=/tmp/x.so".into()]); }, &["host-ssh-hardening"]),
    (|s| effective(s, "acceptenv", "*"), &["host-ssh-hardening"]),
    (|s| effective(s, "acceptenv", "LANG LC_* BASH_ENV"), &["host-ssh-hardening"]),
    (|s| for_some(s, "acceptenv", "*"), &["host-ssh-hardening"]),
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
    (|s| unmounted(s, "/etc"), &["host-ssh-in-effect", "containerd-in-effect", "endpoint-haproxy-in-effect", "endpoint-keepalived-in-effect", "etcd-in-effect", "kubelet-in-effect"]),
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
    (|s| live_unit(s, "etcd.service").load = "masked".into(), &["host-units-as-written"]),
    (|s| live_unit(s, "ssh.service").load = "masked".into(), &["host-units-as-written"]),
    (|s| live_unit(s, "ssh.service").load = "bad-setting".into(), &["host-units-as-written"]),
    (|s| { live_unit(s, "kubastion-audit.service").load = "not-found".into(); s.units.insert("kubastion-audit.service".into(), UnitFacts { file: "enabled".into(), ..UnitFacts::default() }); }, &["host-units-as-written"]),
    (|s| left_privately(s, "/etc/systemd/system.control/etcd.service"), &["host-units-as-written"]),
    (|s| left_privately(s, "/run/systemd/system.control/sysinit.target.wants/ssh.service"), &["host-units-as-written"]),
    (|s| { let there = s.live.as_ref().unwrap().trees["/etc/kubernetes/manifests"].clone(); s.live.as_mut().unwrap().trees.insert("/etc/kubernetes/manifests/x.yaml".into(), there); }, &["files-static-pods-known"]),
    (|s| s.pending = Some(Ok(vec!["write /etc/x".into()])), &["host-no-pending-change"]),
    (|s| { let ca = s.texts["/etc/kubernetes/pki/ca.crt"].clone(); s.texts.insert("/etc/kubernetes/pki/etcd/ca.crt".into(), ca); }, &["pki-separate-cas", "etcd-unique-ca"]),
    (|s| { let ca = s.texts["/etc/kubernetes/pki/front-proxy-ca.crt"].clone(); s.texts.insert("/etc/etcd/pki/ca.crt".into(), ca); }, &["pki-separate-cas"]),
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
        let all = crate::checks::exceptions_without_a_check(&inventory);
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

pub(super) type Way = Box<dyn Fn(&mut Observed)>;

/// Values of which one is wrong for every flag and setting.
pub(super) const VALUES: &[&str] = &[
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
pub(super) fn ways_to_break(check: &Check) -> Vec<Way> {
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
            .iter()
            .map(|&v| -> Way {
                Box::new(move |s| {
                    s.sshd.as_mut().unwrap().insert(key.into(), vec![v.into()]);
                })
            })
            .collect(),
        Check::Flag(daemon, name, ..) => std::iter::once(None)
            .chain(VALUES.iter().copied().map(Some))
            .map(|value| -> Way { Box::new(move |s| flag(s, daemon, name, value)) })
            .collect(),
        Check::RunsAs(daemon, _) => vec![Box::new(move |s| {
            let all = s.processes.as_mut().unwrap().get_mut(daemon.comm()).unwrap();
            all[0].user = "eve".into();
        })],
        Check::Setting(config, path, _, over, _) => VALUES
            .iter()
            .map(|&v| -> Way {
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
            .collect(),
        Check::LoopbackOnly(_, port) => vec![Box::new(move |s| {
            let listener = Listener { protocol: "tcp".into(), address: "0.0.0.0".into(), port };
            s.listeners.as_mut().unwrap().push(listener);
        })],
        Check::Node(_) | Check::Attack(_) | Check::Api(_) | Check::Manual(_) => Vec::new(),
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
                Check::Attack(_) | Check::Api(_) | Check::Manual(_) => continue,
                Check::Node(_) => by_hand.contains(control.id),
                // In the file, and by the flag that beats it.
                Check::Setting(config, _, _, Some(name), _) => {
                    let by_flag = |value: &'static str| {
                        fails(&|s: &mut Observed| flag(s, config.daemon(), name, Some(value)))
                    };
                    ways_to_break(check).iter().any(|way| fails(way))
                        && VALUES.iter().copied().any(by_flag)
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
