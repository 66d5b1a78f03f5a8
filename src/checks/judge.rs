//! Evaluates checks. One arm for each kind; what takes more than one value is in `host`,
//! `kubernetes` and `certificates`.

use crate::checks::basis::Basis;
use crate::checks::basis::Judged;
use crate::checks::basis::flag_values;
use crate::checks::basis::needs;
use crate::checks::basis::needs_api;
use crate::checks::basis::running;
use crate::yaml::Value;

use crate::checks::model::{Asked, Evidence, Verdict};
use crate::checks::node::access;
use crate::checks::node::certificates;
use crate::checks::node::foreign_rules;
use crate::checks::node::health;
use crate::checks::node::host;
use crate::checks::node::in_effect;
use crate::checks::node::kubernetes;
use crate::checks::node::planted;
use crate::checks::node::root_access;
use crate::checks::node::sources;
use crate::checks::node::ssh;
use crate::checks::node::staged::scalar;
use crate::checks::node::updates;
use crate::checks::rule;
use crate::controls::{Check, Config, Daemon, IfMissing, NodeRule, PathRule, Rule, TreeRule};
use crate::facts::{EntryKind, FileFacts};

/// Evaluates a check. Attacks yield nothing here: they are made elsewhere.
pub fn judge(check: &Check, on: &Basis<'_>) -> Option<Evidence> {
    let judged: Judged = match check {
        Check::Path(rule) => path(rule, on).into(),
        Check::Tree(rule) => tree(rule, on).into(),
        Check::Gone(path) => gone(path, on).into(),
        Check::Sysctl(setting) => host::sysctl(setting, on).into(),
        Check::Sshd(key, rule) => ssh::setting(key, rule, on).into(),
        Check::Flag(daemon, name, rule, _) => flag(*daemon, name, rule, on),
        Check::RunsAs(daemon, user) => runs_as(*daemon, user, on).into(),
        Check::InEffect(daemon) => in_effect::daemon(*daemon, on),
        Check::Setting(config, path, rule, over, _) => setting(*config, path, rule, *over, on),
        Check::LoopbackOnly(daemon, port) => loopback_only(*daemon, *port, on).into(),
        Check::Node(fact) => special(*fact, on),
        Check::Attack(_) => return None,
        // Objects are judged once for the cluster: see `findings::of_cluster`.
        Check::Api(_) => needs_api().into(),
        Check::Manual(why) => {
            Verdict::not_applicable(format!("needs a manual check: {why}")).into()
        }
    };
    let sources = sources::of(check, on, judged.staged.is_some());
    let evidence = Evidence::new(asked(check, words(check)), judged.verdict, sources);
    Some(evidence.with_staged(judged.staged))
}

/// What a check is called where this was looked at or tried for it.
pub(super) fn asked(check: &Check, what: String) -> Asked {
    Asked { what, check: words(check), expected: expected(check) }
}

/// What a check expects, in words that stand for themselves.
fn expected(check: &Check) -> String {
    match check {
        Check::Node(fact) => fact_expected(*fact).unwrap_or(fact_words(*fact)).to_owned(),
        other => check_expectation(other).unwrap_or_else(|| words(other)),
    }
}

/// What a fact is to be, where its words only say what is looked at.
fn fact_expected(fact: NodeRule) -> Option<&'static str> {
    Some(match fact {
        NodeRule::OnlyPods => "only containers of pods",
        NodeRule::AuditPolicy => "rules that log what is sensitive, and no contents of Secrets",
        NodeRule::SeparateCas => "a separate key for each CA",
        NodeRule::CertificateLifetimes => {
            "keys of ECDSA with 256 bits or RSA with 3072 or more, 30 days left or more, and a lifetime of at \
             most 825 days, for CAs 3700"
        }
        NodeRule::KubeletServingFiles => "a serving certificate with every address of the node",
        NodeRule::KubeletUnits => "unit files of root:root with mode 0600 or tighter",
        NodeRule::SshdSettings => "the settings of kubastion's file, or stricter ones",
        NodeRule::SshdInEffect => "one sshd, with the settings of its files",
        NodeRule::SysctlsAtBoot => "the same settings after the next boot",
        NodeRule::StaticPods => "no static pods but the control plane's",
        NodeRule::EtcdCorruptionCheck => "InitialCorruptCheck is on",
        _ => return None,
    })
}

/// What a check looks at, for a report.
pub fn words(check: &Check) -> String {
    match check {
        Check::Path(r) => {
            format!("{} is {}'s with mode {:04o} or tighter", r.path, r.owner, r.mode)
        }
        Check::Tree(r) => format!("everything{} below {}", suffix_words(r), r.dir),
        Check::Gone(path) => format!("nothing at {path}"),
        Check::Sysctl(setting) => format!("sysctl {}", setting.key),
        Check::Sshd(key, _) => format!("sshd {key}"),
        Check::Flag(daemon, name, ..) => format!("{} --{name}", daemon.program()),
        Check::RunsAs(daemon, _) => format!("user of {}", daemon.program()),
        Check::InEffect(daemon) => format!("{} as it runs", daemon.program()),
        Check::Setting(config, path, ..) => format!("{} {}", config.kind(), path.join(".")),
        Check::LoopbackOnly(_, port) => format!("TCP port {port} on loopback only"),
        Check::Node(fact) => fact_words(*fact).to_owned(),
        Check::Attack(attack) => format!("attempt to {}", super::attempt::attempt_words(*attack)),
        Check::Api(rule) => rule.words().to_owned(),
        Check::Manual(_) => "by people".to_owned(),
    }
}

/// What a check expects, where its words do not say it already.
pub fn check_expectation(check: &Check) -> Option<String> {
    match check {
        Check::Sysctl(setting) => Some(setting.value.to_owned()),
        Check::Sshd(_, rule) | Check::Flag(_, _, rule, _) | Check::Setting(_, _, rule, ..) => {
            Some(rule::expectation(rule))
        }
        Check::RunsAs(_, user) => Some((*user).to_owned()),
        Check::Tree(r) => Some(tree_expectation(r)),
        Check::Manual(why) => Some((*why).to_owned()),
        Check::Path(_)
        | Check::InEffect(_)
        | Check::Gone(_)
        | Check::LoopbackOnly(..)
        | Check::Node(_)
        | Check::Attack(_)
        | Check::Api(_) => None,
    }
}

/// Owner and modes; a mode that allows everything is left out.
fn tree_expectation(rule: &TreeRule) -> String {
    let modes: Vec<String> = [("files", rule.file_mode), ("directories", rule.dir_mode)]
        .into_iter()
        .filter(|(_, mode)| *mode != 0o7777)
        .map(|(what, mode)| format!("{what} {mode:04o}"))
        .collect();
    let owner = format!("{}:{}", rule.owner, rule.group);
    match modes.is_empty() {
        true => owner,
        false => format!("{owner}, {} or tighter", modes.join(" and ")),
    }
}

fn suffix_words(rule: &TreeRule) -> String {
    if rule.suffix.is_empty() { String::new() } else { format!(" that ends in {}", rule.suffix) }
}

fn fact_words(fact: NodeRule) -> &'static str {
    match fact {
        NodeRule::Firewall => "our nftables table is loaded as recorded and drops by default",
        NodeRule::MetadataBlocked => "the rules drop pods' packets to metadata services",
        NodeRule::ForeignRules => "no other table rewrites packets before the firewall",
        NodeRule::NoSwap => "no swap area is active",
        NodeRule::MandatoryAccessControl => "AppArmor or SELinux enforces",
        NodeRule::TimeSync => "the clock is synchronized",
        NodeRule::AuditRules => "audit rules watch Kubernetes' files",
        NodeRule::SecurityUpdates => "security updates are installed unattended",
        NodeRule::ContainerdNoTcp => "containerd has no TCP listener off loopback",
        NodeRule::ContainerdRelease => "containerd is of a supported release",
        NodeRule::ContainerdRuntime => "containerd runs, with cgroups managed by systemd",
        NodeRule::ForeignFiles => {
            "no other registry hosts and CNI networks than those of the inventory, no NRI plugins and CDI files"
        }
        NodeRule::OnlyPods => "containers that belong to no pod",
        NodeRule::AuditPolicy => "the audit policy",
        NodeRule::EncryptedSecrets => "Secrets are among the encrypted resources",
        NodeRule::EncryptionProvider => "the first provider of each list encrypts",
        NodeRule::EventRateLimit => "the admission configuration limits events",
        NodeRule::PodSecurity => "the admission configuration enforces a Pod Security level",
        NodeRule::AuthenticatedProbes => "probes in the static pod need no anonymous access",
        NodeRule::AnonymousRequests => "anonymous requests are off",
        NodeRule::NoMasters => {
            "no certificate of system:masters in a kubeconfig, and none of the cluster's own in home directories"
        }
        NodeRule::SeparateCas => "CA certificates with keys of their own",
        NodeRule::CertificateLifetimes => "keys and dates of certificates on the node",
        NodeRule::KubeletServingFiles => "the kubelet's serving certificate",
        NodeRule::KubeletUnits => "unit files of the kubelet",
        NodeRule::CniConfig => "a CNI with network policies is configured",
        NodeRule::UserAuthentication => "the authentication configuration names issuers of tokens",
        NodeRule::LogForwarding => "a log forwarder runs, and sends to another machine",
        NodeRule::NoSshd => "no sshd runs",
        NodeRule::NoAlpha => "no AllAlpha feature gate",
        NodeRule::EtcdOwnCa => "the etcd CA is not the cluster CA",
        NodeRule::OneCaPerFile => {
            "each CA file holds one certificate, or those that the key store accepts"
        }
        NodeRule::RootOwnedPaths => "only root can write the paths, up to the root directory",
        NodeRule::ProgramsNotShadowed => {
            "no program in /usr/local/bin or /usr/local/sbin shadows one that daemons start or packages have"
        }
        NodeRule::Accounts => "only root has user id 0, and no account has an empty password",
        NodeRule::SecretsUnreadable => {
            "others cannot read keys, kubeconfigs, their copies and password hashes"
        }
        NodeRule::SshdSettings => "sshd's effective settings, against our file",
        NodeRule::SshdInEffect => "sshd as it runs",
        NodeRule::SysctlsAtBoot => "kernel settings after the next boot",
        NodeRule::UnitsAsWritten => "units without foreign drop-ins",
        NodeRule::StaticPods => "the directory of static pods",
        NodeRule::NoPendingChange => "a plan made now is empty",
        NodeRule::EtcdCorruptionCheck => "etcd's initial corruption check",
        NodeRule::NoRebootDue => "no reboot is due",
        NodeRule::RegularFiles => "only regular files in directories of configuration",
        NodeRule::NothingPreloaded => {
            "code that daemons run, and variables that systemd gives them"
        }
        NodeRule::PackagedFiles => "programs, name services and OpenSSL modules of packages",
        NodeRule::PrivilegedPrograms => "set-id programs and file capabilities",
        NodeRule::KeysUnreadable => {
            "no private key that everybody can read in home, temporary and configuration directories"
        }
    }
}

fn special(fact: NodeRule, on: &Basis<'_>) -> Judged {
    match fact {
        NodeRule::Firewall => host::firewall(on).into(),
        NodeRule::MetadataBlocked => host::metadata_blocked(on).into(),
        NodeRule::ForeignRules => foreign_rules::judge(on).into(),
        NodeRule::NoSwap => host::no_swap(on).into(),
        NodeRule::MandatoryAccessControl => host::mandatory_access_control(on).into(),
        NodeRule::TimeSync => host::time_sync(on).into(),
        NodeRule::AuditRules => host::audit_rules(on).into(),
        NodeRule::SecurityUpdates => updates::security_updates(on).into(),
        NodeRule::ContainerdNoTcp => host::containerd_no_tcp(on).into(),
        NodeRule::ContainerdRelease => host::containerd_release(on).into(),
        NodeRule::ContainerdRuntime => host::containerd_runtime(on).into(),
        NodeRule::ForeignFiles => host::foreign_files(on).into(),
        NodeRule::OnlyPods => host::only_pods(on).into(),
        NodeRule::LogForwarding => host::log_forwarding(on).into(),
        NodeRule::NoSshd => host::no_sshd(on).into(),
        NodeRule::AuditPolicy => kubernetes::audit_policy(on),
        NodeRule::EncryptedSecrets => kubernetes::encrypted_secrets(on),
        NodeRule::EncryptionProvider => kubernetes::encryption_provider(on),
        NodeRule::EventRateLimit => kubernetes::event_rate_limit(on),
        NodeRule::PodSecurity => kubernetes::pod_security(on),
        NodeRule::AuthenticatedProbes => health::authenticated_probes(on),
        NodeRule::AnonymousRequests => kubernetes::anonymous_requests(on),
        NodeRule::KubeletUnits => kubernetes::kubelet_units(on).into(),
        NodeRule::UserAuthentication => kubernetes::user_authentication(on),
        NodeRule::CniConfig => kubernetes::cni_config(on),
        NodeRule::NoAlpha => kubernetes::no_alpha(on),
        NodeRule::NoMasters => certificates::no_masters(on).into(),
        NodeRule::SeparateCas => certificates::separate_cas(on).into(),
        NodeRule::CertificateLifetimes => certificates::lifetimes(on).into(),
        NodeRule::KubeletServingFiles => certificates::kubelet_serving(on),
        NodeRule::EtcdOwnCa => certificates::etcd_own_ca(on).into(),
        NodeRule::OneCaPerFile => access::one_ca_per_file(on).into(),
        NodeRule::RootOwnedPaths => access::root_owned_paths(on).into(),
        NodeRule::ProgramsNotShadowed => root_access::programs(on).into(),
        NodeRule::Accounts => root_access::accounts(on).into(),
        NodeRule::SecretsUnreadable => access::secrets_unreadable(on).into(),
        NodeRule::SshdSettings => ssh::settings(on).into(),
        NodeRule::SshdInEffect => access::ssh_in_effect(on).into(),
        NodeRule::SysctlsAtBoot => access::sysctls_at_boot(on).into(),
        NodeRule::UnitsAsWritten => access::units_as_written(on).into(),
        NodeRule::StaticPods => access::static_pods(on).into(),
        NodeRule::NoPendingChange => pending(on).into(),
        NodeRule::EtcdCorruptionCheck => corruption_check(on).into(),
        NodeRule::NoRebootDue => host::no_reboot_due(on).into(),
        NodeRule::RegularFiles => planted::regular_files(on).into(),
        NodeRule::NothingPreloaded => planted::nothing_preloaded(on).into(),
        NodeRule::PackagedFiles => planted::packaged_files(on).into(),
        NodeRule::PrivilegedPrograms => planted::privileged_programs(on).into(),
        NodeRule::KeysUnreadable => planted::keys_unreadable(on).into(),
    }
}

/// A node with a plan that is not empty does not pass: something was changed, or was never applied.
fn pending(on: &Basis<'_>) -> Verdict {
    match &on.seen.pending {
        None => on.seen.blind("no plan was made"),
        Some(Err(why)) => Verdict::unknown(format!("no plan was made: {why}")),
        Some(Ok(steps)) => crate::checks::model::verdict(
            "an empty plan (run `kubastion plan --verbose`, then `kubastion apply`)",
            steps.clone(),
            || "a plan made now is empty".into(),
        ),
    }
}

/// A feature gate since etcd 3.6, a flag before (<https://etcd.io/docs/v3.6/op-guide/data_corruption/>).
fn corruption_check(on: &Basis<'_>) -> Verdict {
    let processes = match running(Daemon::Etcd, on) {
        Ok(processes) => processes,
        Err(verdict) => return verdict,
    };
    let given = |argv: &[String]| {
        let gates = flag_values(argv, "feature-gates", false).join(",");
        let old = flag_values(argv, "experimental-initial-corrupt-check", true);
        gates.split(',').any(|g| g == "InitialCorruptCheck=true") || old == ["true"]
    };
    match processes.into_iter().all(given) {
        true => Verdict::pass("given"),
        false => Verdict::fail("InitialCorruptCheck", "not set"),
    }
}

/// The verdict for something that is not there.
fn missing(missing: IfMissing, what: &str, on: &Basis<'_>) -> Verdict {
    match missing {
        IfMissing::Fails => Verdict::fail(format!("{what} exists"), "it does not exist"),
        IfMissing::Fine => Verdict::not_applicable(format!("{what} does not exist")),
        IfMissing::NotYet if on.seen.kubernetes_is_set_up() => Verdict::fail(
            format!("{what} exists"),
            "it does not exist, though Kubernetes is set up",
        ),
        IfMissing::NotYet => Verdict::needs_kubernetes(format!("{what} does not exist yet")),
    }
}

fn mode_verdict(
    path: &str,
    mode: u32,
    owner: &str,
    group: &str,
    max: u32,
    wanted: &str,
) -> Verdict {
    let actual = format!("{path} {owner}:{group} {mode:04o}");
    if mode & !max == 0 && owner == wanted && group == wanted {
        Verdict::pass(actual)
    } else {
        Verdict::fail(format!("{wanted}:{wanted} {max:04o} or tighter"), actual)
    }
}

fn path(rule: &PathRule, on: &Basis<'_>) -> Verdict {
    match on.seen.files.get(rule.path) {
        None => on.seen.blind(&format!("{} was not checked", rule.path)),
        Some(FileFacts::Absent) => missing(rule.missing, rule.path, on),
        Some(FileFacts::Symlink { target }) => Verdict::fail(
            format!("{} itself", rule.path),
            format!("a symbolic link to {}", rule::shown(Some(target))),
        ),
        Some(
            FileFacts::File { mode, owner, group, .. }
            | FileFacts::Directory { mode, owner, group }
            | FileFacts::Other { mode, owner, group },
        ) => mode_verdict(rule.path, *mode, owner, group, rule.mode, rule.owner),
    }
}

fn tree(rule: &TreeRule, on: &Basis<'_>) -> Verdict {
    let expected = tree_expectation(rule);
    let Some(trees) = &on.seen.trees else { return rendered_tree(rule, &expected, on) };
    let Some(tree) = trees.get(rule.dir) else { return missing(rule.missing, rule.dir, on) };
    let (mut judged, mut files) = (0, 0);
    let mut wrong = Vec::new();
    for (path, e) in &tree.entries {
        let shown = || rule::shown(Some(path)).trim_matches('`').to_owned();
        let (is_link, is_dir) = (e.kind == EntryKind::Symlink, e.kind == EntryKind::Directory);
        let of_interest = rule.suffix.is_empty() || path.ends_with(rule.suffix);
        // Nothing below a link was listed.
        if is_link && (of_interest || path == rule.dir) {
            wrong.push(format!("{} is a symbolic link, which is not followed", shown()));
            continue;
        }
        if !of_interest || (is_dir && !rule.suffix.is_empty()) {
            continue;
        }
        judged += 1;
        files += usize::from(!is_dir);
        let max = if is_dir { rule.dir_mode } else { rule.file_mode };
        if e.mode & !max != 0 || e.owner != rule.owner || e.group != rule.group {
            wrong.push(format!("{} {}:{} {:04o}", shown(), e.owner, e.group, e.mode));
        }
    }
    if let Some(first) = wrong.first() {
        let more =
            if wrong.len() > 1 { format!(" and {} more", wrong.len() - 1) } else { String::new() };
        return Verdict::fail(expected, format!("{first}{more}"));
    }
    if !tree.complete {
        return Verdict::unknown(format!("{} could not be listed completely", rule.dir));
    }
    // An empty directory is ready for what is to come, and says nothing about it.
    if judged == 0 || files == 0 && rule.missing == IfMissing::NotYet {
        return missing(
            rule.missing,
            &format!("file{} below {}", suffix_words(rule), rule.dir),
            on,
        );
    }
    Verdict::pass(format!("{judged} paths below {}", rule.dir))
}

/// Before apply, the tree is what will be put there.
fn rendered_tree(rule: &TreeRule, expected: &str, on: &Basis<'_>) -> Verdict {
    let mut judged = 0;
    for (path, facts) in &on.seen.files {
        let inside =
            path.strip_prefix(rule.dir).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let (max, mode, owner, group) = match facts {
            FileFacts::File { mode, owner, group, .. } => (rule.file_mode, mode, owner, group),
            FileFacts::Directory { mode, owner, group } => (rule.dir_mode, mode, owner, group),
            _ => continue,
        };
        let is_file = matches!(facts, FileFacts::File { .. });
        let of_interest = rule.suffix.is_empty() || (is_file && path.ends_with(rule.suffix));
        if !inside || !of_interest {
            continue;
        }
        judged += 1;
        if mode & !max != 0 || *owner != rule.owner || *group != rule.group {
            return Verdict::fail(expected, format!("{path} {owner}:{group} {mode:04o}"));
        }
    }
    if judged == 0 {
        return Verdict::not_applicable(format!("nothing is installed below {}", rule.dir));
    }
    Verdict::pass(format!("{judged} paths below {}", rule.dir))
}

fn gone(path: &str, on: &Basis<'_>) -> Verdict {
    match on.seen.files.get(path) {
        // Kubernetes puts it there; before, its absence proves nothing.
        Some(FileFacts::Absent) if !on.seen.kubernetes_is_set_up() => {
            Verdict::needs_kubernetes("nothing could have created it yet")
        }
        Some(FileFacts::Absent) => Verdict::pass("it does not exist"),
        Some(_) => Verdict::fail(format!("nothing at {path}"), "it exists"),
        None => on.seen.blind(&format!("{path} was not checked")),
    }
}

/// Judges a flag on one command line. A list adds up; any other flag has to be right every time.
fn flag_on(argv: &[String], name: &str, rule: &Rule) -> Verdict {
    let values = flag_values(argv, name, rule::is_bool(rule));
    if values.is_empty() {
        return rule::judge(rule, None);
    }
    if rule::is_list(rule) {
        return rule::judge(rule, Some(&values.join(",")));
    }
    values
        .iter()
        .map(|v| rule::judge(rule, Some(v)))
        .reduce(Verdict::and)
        .unwrap_or_else(|| rule::judge(rule, None))
}

fn flag(daemon: Daemon, name: &str, rule: &Rule, on: &Basis<'_>) -> Judged {
    let staged = on.seen.staged.argv(daemon).map(|argv| flag_on(argv, name, rule));
    let processes = match running(daemon, on) {
        Ok(processes) => processes,
        Err(verdict) => return Judged { verdict, staged },
    };
    // A daemon that runs twice is judged twice.
    let verdict = processes
        .iter()
        .map(|argv| {
            // etcd passes over its flags when it has a configuration file.
            if daemon == Daemon::Etcd && !flag_values(argv, "config-file", false).is_empty() {
                return Verdict::unknown("etcd takes its settings from --config-file");
            }
            flag_on(argv, name, rule)
        })
        .reduce(Verdict::and);
    verdict.unwrap_or_else(|| needs(daemon)).into()
}

fn runs_as(daemon: Daemon, user: &str, on: &Basis<'_>) -> Verdict {
    let Some(processes) = on.seen.running(daemon) else {
        return on.seen.blind("processes were not checked");
    };
    if processes.is_empty() {
        return running(daemon, on).err().unwrap_or_else(|| needs(daemon));
    }
    let others: Vec<&str> =
        processes.iter().map(|p| p.user.as_str()).filter(|u| *u != user).collect();
    if others.is_empty() {
        Verdict::pass(format!("runs as {user}"))
    } else {
        Verdict::fail(format!("runs as {user}"), format!("runs as {}", others.join(", ")))
    }
}

fn at<'v>(document: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(document, |value, key| value.get(key))
}

fn setting(
    config: Config,
    path: &[&str],
    rule: &Rule,
    over: Option<&str>,
    on: &Basis<'_>,
) -> Judged {
    let in_document = |d: &Value| rule::judge(rule, at(d, path).and_then(scalar).as_deref());
    let staged = on.seen.staged.document(config).map(in_document);
    let processes = match running(config.daemon(), on) {
        Ok(processes) => processes,
        Err(verdict) => return Judged { verdict, staged },
    };
    let verdicts = processes.iter().map(|argv| {
        let given = |name: &str| flag_values(argv, name, rule::is_bool(rule));
        if let Some(name) = over
            && !given(name).is_empty()
        {
            return flag_on(argv, name, rule);
        }
        let Some(file) = config.path() else {
            return match &on.seen.proxy_config {
                Some(Ok(document)) => in_document(document),
                Some(Err(verdict)) => verdict.clone(),
                None => Verdict::unknown(format!("the API was not asked for {}", config.kind())),
            };
        };
        if let Some(dir) = given("config-dir").first() {
            return Verdict::unknown(format!("{} also reads {dir}", config.daemon().program()));
        }
        if given("config").last().is_some_and(|p| p != file) {
            return Verdict::unknown(format!(
                "{} reads a file other than {file}",
                config.daemon().program()
            ));
        }
        match on.seen.text(file).map(crate::yaml::parse) {
            Ok(Ok(document)) => in_document(&document),
            Ok(Err(e)) => Verdict::unknown(format!("{file} cannot be read as YAML: {e}")),
            Err(verdict) => verdict,
        }
    });
    verdicts.reduce(Verdict::and).unwrap_or_else(|| needs(config.daemon())).into()
}

fn loopback_only(daemon: Daemon, port: u16, on: &Basis<'_>) -> Verdict {
    let Some(listeners) = &on.seen.listeners else {
        return on.seen.blind("ss listed no listening sockets");
    };
    let open: Vec<String> = listeners
        .iter()
        .filter(|l| l.protocol == "tcp" && l.port == port && !rule::loopback(&l.address))
        .map(|l| crate::transport::address(&l.address, l.port))
        .collect();
    if !open.is_empty() {
        return Verdict::fail(format!("{port} on loopback only"), open.join(", "));
    }
    if on.seen.runs(daemon) {
        return Verdict::pass(format!("no socket on {port} off loopback"));
    }
    running(daemon, on).err().unwrap_or_else(|| needs(daemon))
}
