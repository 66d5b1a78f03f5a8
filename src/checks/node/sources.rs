//! Which of a node's answers each check is judged from: a table, exhaustive over the kinds of checks. What nodes are asked
//! follows from it. A test takes away each answer that a check does not name here, and wants the same verdict.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::checks::attempt::attempt_words;
use crate::checks::basis::{Basis, flag_values};
use crate::checks::node::access::{STATIC_POD_DIR, of_all_interfaces};
use crate::checks::node::certificates::{
    CERTIFICATES, CLUSTER_CA, ETCD_CAS, FRONT_PROXY_CA, KUBECONFIGS, KUBELET_ROTATED,
    KUBELET_SERVING,
};
use crate::checks::node::host::{CONTAINERD_CONFIG, FORWARDERS, READ_AS_A_WHOLE, SSH_UNITS};
use crate::checks::node::kubernetes::{
    ADMISSION, AUDIT_POLICY, AUTHENTICATION, CNI_DIR, ENCRYPTION, KUBELET_DROP_INS, KUBELET_UNITS,
    MANIFEST, anonymous_off,
};
use crate::checks::node::staged::STAGED_FILES;
use crate::checks::node::updates::{LISTS_TIMER, UNATTENDED, UPDATE_TIMERS};
use crate::checks::observed::{
    CONTAINERD_PACKAGES, ETCD_UNIT, FIREWALL_FILE, Observed, Origin, SSHD_DROP_IN,
};
use crate::checks::source::{Source, SourceKind, Sources};
use crate::controls::{Check, Config, Daemon, DaemonRow, NodeRule};
use crate::desired::APISERVER_PROBE;
use crate::digest::Digest;
use crate::facts::answers::{Part, Program};
use crate::facts::cluster::ObjectKind;
use crate::facts::{Extra, FileFacts, WatchList};

/// What a check of a node was judged from. `staged` says that it has a word about files that wait for a daemon.
pub(in crate::checks) fn of(check: &Check, on: &Basis<'_>, staged: bool) -> Sources {
    if let Check::Manual(why) = check {
        return Source::without_answer(SourceKind::People, *why).into();
    }
    if on.seen.origin == Origin::Rendered {
        return Source::rendered().into();
    }
    let mut looks = Looks::at(Some(on.seen));
    looks.add(check);
    if staged {
        looks.staged();
    }
    looks.into_sources(on.seen)
}

/// What a node has to be asked so that checks can be judged, whatever it will answer.
pub(in crate::checks) fn watch<'c>(checks: impl Iterator<Item = &'c Check>) -> WatchList {
    let mut looks = Looks::at(None);
    checks.for_each(|check| looks.add(check));
    // Also where a daemon of theirs does not run yet.
    looks.staged();
    looks.into_watch()
}

/// What is looked at, in the order of the table.
struct Looks<'a> {
    /// What a node answered; `None` where it is yet to be asked.
    seen: Option<&'a Observed>,
    /// Parts of the node's answers, and what each was asked about.
    parts: Vec<(Part, Vec<&'a str>)>,
    /// Files whose text is read.
    texts: Vec<&'a str>,
    /// Settings of the kernel.
    settings: Vec<&'a str>,
    others: Vec<Source>,
}

impl<'a> Looks<'a> {
    fn at(seen: Option<&'a Observed>) -> Self {
        let (parts, texts, settings, others) = Default::default();
        Self { seen, parts, texts, settings, others }
    }

    /// Whether something is looked at that depends on what a node answered; yes if that is not known yet.
    fn may(&self, depends: impl FnOnce(&'a Observed) -> bool) -> bool {
        self.seen.is_none_or(depends)
    }

    fn add(&mut self, check: &Check) {
        match check {
            Check::Path(rule) => self.about(Part::Stat, &[rule.path]),
            Check::Tree(rule) => self.about(Part::Trees, &[rule.dir]),
            Check::Gone(path) => self.about(Part::Stat, &[*path]),
            Check::Sysctl(setting) => {
                self.settings.push(setting.key);
                if of_all_interfaces(setting.key).is_some() {
                    self.about(Part::Interfaces, &[setting.key]);
                }
            }
            Check::Sshd(..) => self.all(&[Part::Sshd, Part::SshdMatches]),
            Check::Flag(..) | Check::RunsAs(..) => self.all(&[Part::Processes]),
            Check::InEffect(daemon) => self.in_effect(*daemon),
            Check::Setting(config, _, _, over, _) => {
                self.all(&[Part::Processes]);
                if self.may(|seen| !is_given(seen, config.daemon(), *over)) {
                    self.config(*config);
                }
            }
            Check::LoopbackOnly(..) => self.all(&[Part::Listeners, Part::Processes]),
            Check::Node(fact) => self.fact(*fact),
            Check::Attack(attack) => self
                .others
                .push(Source::without_answer(SourceKind::Attempt, attempt_words(*attack))),
            // Only nodes without a cluster are asked for these here: see `findings::of_cluster`.
            Check::Api(_) => {
                self.others.push(Source::without_answer(SourceKind::Request, "GET /api"));
            }
            Check::Manual(why) => {
                self.others.push(Source::without_answer(SourceKind::People, *why));
            }
        }
    }

    fn fact(&mut self, fact: NodeRule) {
        match fact {
            NodeRule::Firewall => {
                self.texts(&[FIREWALL_FILE]);
                self.all(&[Part::Nft, Part::Rules, Part::FileRules]);
            }
            NodeRule::MetadataBlocked => {
                self.texts(&[FIREWALL_FILE]);
                self.all(&[Part::Rules]);
            }
            NodeRule::ForeignRules => self.all(&[Part::ForeignRules, Part::LegacyRules]),
            NodeRule::NoSwap => self.all(&[Part::Swaps]),
            NodeRule::MandatoryAccessControl => self.all(&[Part::Machine, Part::SecurityModules]),
            NodeRule::TimeSync => self.all(&[Part::Machine, Part::Time]),
            NodeRule::AuditRules => self.all(&[Part::Machine, Part::AuditRules]),
            NodeRule::SecurityUpdates => self.security_updates(),
            NodeRule::ContainerdNoTcp => self.texts(&[CONTAINERD_CONFIG]),
            NodeRule::ContainerdRelease => {
                self.all(&[Part::Versions]);
                self.about(Part::Packages, CONTAINERD_PACKAGES);
            }
            NodeRule::ContainerdRuntime => {
                self.texts(&[CONTAINERD_CONFIG]);
                self.all(&[Part::Processes, Part::Machine]);
            }
            NodeRule::ForeignFiles => self.about(Part::Trees, READ_AS_A_WHOLE),
            NodeRule::OnlyPods => self.all(&[Part::Containers]),
            NodeRule::LogForwarding => {
                self.about(Part::Units, &FORWARDERS.iter().map(|f| f.unit).collect::<Vec<_>>());
                for &forwarder in FORWARDERS {
                    if self.may(|seen| is_active(seen, forwarder.unit)) {
                        self.texts_there(&[forwarder.file]);
                    }
                }
            }
            NodeRule::NoSshd => self.about(Part::Units, SSH_UNITS),
            NodeRule::AuditPolicy => self.apiserver_file(AUDIT_POLICY),
            NodeRule::EncryptedSecrets | NodeRule::EncryptionProvider => {
                self.apiserver_file(ENCRYPTION)
            }
            NodeRule::EventRateLimit => {
                self.apiserver_file(ADMISSION);
                self.texts_there(&["/etc/kubernetes/config/eventratelimit.yaml"]);
            }
            NodeRule::PodSecurity => {
                self.apiserver_file(ADMISSION);
                self.texts_there(&["/etc/kubernetes/config/podsecurity.yaml"]);
            }
            NodeRule::AuthenticatedProbes => {
                self.apiserver_file(MANIFEST);
                self.about(Part::Stat, &[APISERVER_PROBE]);
            }
            NodeRule::AnonymousRequests => {
                self.all(&[Part::Processes]);
                if self.may(|seen| {
                    let running = seen.running(Daemon::Apiserver).unwrap_or_default();
                    let argv: Vec<&[String]> = running.iter().map(|p| p.argv.as_slice()).collect();
                    argv.is_empty() || !anonymous_off(&argv)
                }) {
                    self.texts(&[AUTHENTICATION]);
                }
            }
            NodeRule::UserAuthentication => self.apiserver_file(AUTHENTICATION),
            NodeRule::KubeletUnits => {
                self.about(Part::Stat, KUBELET_UNITS);
                self.about(Part::Trees, KUBELET_DROP_INS);
            }
            NodeRule::CniConfig => {
                self.about(Part::Trees, &[CNI_DIR]);
                self.all(&[Part::Processes]);
            }
            NodeRule::NoAlpha => {
                self.all(&[Part::Processes]);
                if self.may(|seen| seen.runs(Daemon::Kubelet)) {
                    self.config(Config::Kubelet);
                }
            }
            NodeRule::NoMasters => {
                self.texts(KUBECONFIGS);
                self.all(&[Part::Kubeconfigs]);
            }
            NodeRule::SeparateCas => {
                self.texts(ETCD_CAS);
                self.texts(&[CLUSTER_CA, FRONT_PROXY_CA]);
            }
            NodeRule::CertificateLifetimes => self.texts(CERTIFICATES),
            NodeRule::KubeletServingFiles => {
                self.texts(&[KUBELET_SERVING]);
                self.about(Part::Stat, &[KUBELET_ROTATED]);
                self.all(&[Part::Processes]);
            }
            NodeRule::EtcdOwnCa => {
                self.texts(ETCD_CAS);
                self.texts(&[CLUSTER_CA]);
            }
            NodeRule::OneCaPerFile => {
                self.texts(&[CLUSTER_CA, FRONT_PROXY_CA]);
                self.texts(ETCD_CAS);
            }
            NodeRule::RootOwnedPaths => self.all(&[Part::Paths, Part::LiveTrees]),
            NodeRule::ProgramsNotShadowed => {
                self.all(&[Part::Paths, Part::Shadows, Part::Libraries]);
            }
            NodeRule::Accounts => self.all(&[Part::Accounts]),
            NodeRule::SecretsUnreadable => self.all(&[Part::Paths, Part::LiveTrees, Part::Acls]),
            NodeRule::SshdSettings => {
                self.texts(&[SSHD_DROP_IN]);
                self.all(&[Part::Sshd, Part::SshdMatches]);
            }
            NodeRule::SshdInEffect => {
                self.about(Part::LiveUnits, SSH_UNITS);
                self.all(&[Part::LiveProcesses, Part::LiveSockets, Part::Paths, Part::LiveTrees]);
                // An sshd that its socket starts for each connection reads its files then, whatever was mounted.
                self.if_answered(Part::Mounts);
            }
            NodeRule::SysctlsAtBoot => self.all(&[Part::SysctlFiles, Part::Irregular]),
            NodeRule::RegularFiles => self.all(&[Part::Irregular]),
            NodeRule::NothingPreloaded => {
                self.all(&[Part::LiveProcesses, Part::LiveUnits, Part::Manager, Part::Owned]);
            }
            NodeRule::PackagedFiles => self.all(&[Part::Owned, Part::Verified]),
            NodeRule::PrivilegedPrograms => self.all(&[Part::SetId, Part::Capabilities]),
            NodeRule::KeysUnreadable => self.all(&[Part::Keys]),
            NodeRule::UnitsAsWritten => self.all(&[Part::LiveUnits, Part::LiveTrees]),
            NodeRule::StaticPods => {
                self.about(Part::LiveTrees, &[STATIC_POD_DIR]);
                self.about(Part::Stat, &[STATIC_POD_DIR]);
            }
            // A plan is made of all of it.
            NodeRule::NoPendingChange => self.all(&[Part::Everything]),
            NodeRule::EtcdCorruptionCheck => self.all(&[Part::Processes]),
            NodeRule::NoRebootDue => self.all(&[Part::Reboot, Part::Apt]),
        }
    }

    fn in_effect(&mut self, daemon: Daemon) {
        let row = DaemonRow::of(daemon);
        self.all(&[
            Part::LiveProcesses,
            Part::LiveSockets,
            // One that covers a file of the daemon is in a namespace that the node's own files do not show.
            Part::FilesInside,
        ]);
        if !(row.reads_at_start.is_empty() && row.reads_on_reload.is_empty()) {
            self.all(&[Part::Paths, Part::LiveTrees]);
        }
        if let Some(unit) = row.unit {
            self.about(Part::LiveUnits, &[unit]);
            self.all(&[Part::Mounts]);
        }
        match daemon {
            Daemon::Etcd => {
                self.texts(&[ETCD_UNIT]);
                // A static pod's are in kubeadm's file.
                if self.seen.is_some_and(|seen| seen.staged.argv(daemon).is_some()) {
                    self.staged();
                }
            }
            _ if self.may(|seen| seen.staged.argv(daemon).is_some()) => self.staged(),
            _ => {}
        }
    }

    fn security_updates(&mut self) {
        self.about(Part::Units, UPDATE_TIMERS);
        if self.may(|seen| {
            let active = UPDATE_TIMERS.iter().copied().find(|timer| is_active(seen, timer));
            active.is_none_or(|timer| timer.starts_with("apt"))
        }) {
            self.about(Part::Units, &[LISTS_TIMER]);
            self.about(Part::Packages, &[UNATTENDED]);
            self.all(&[Part::Apt, Part::AptSources, Part::Held, Part::Irregular]);
            self.all(&[Part::PackageSources, Part::LiveUnits]);
        }
    }

    /// What kubeadm was given.
    fn staged(&mut self) {
        self.texts_there(STAGED_FILES);
    }

    /// A file that the API server is told of on its command line.
    fn apiserver_file(&mut self, path: &'a str) {
        self.all(&[Part::Processes]);
        self.texts(&[path]);
    }

    fn config(&mut self, config: Config) {
        match (config.path(), self.seen) {
            (Some(path), _) => self.texts(&[path]),
            // Before there is a cluster, its file on the node is all there is, which is among those that are staged.
            (None, Some(seen))
                if seen.proxy_config.is_none() && seen.staged.document(config).is_some() => {}
            (None, Some(seen)) => self.others.push(seen.lists.source(ObjectKind::ConfigMaps)),
            // The cluster's API is asked apart.
            (None, None) => {}
        }
    }

    fn all(&mut self, parts: &[Part]) {
        parts.iter().for_each(|part| self.about(*part, &[]));
    }

    fn if_answered(&mut self, part: Part) {
        if self.may(|seen| seen.digest(part).is_some()) {
            self.about(part, &[]);
        }
    }

    fn about(&mut self, part: Part, items: &[&'a str]) {
        let at = self.parts.iter().position(|(p, _)| *p == part).unwrap_or_else(|| {
            self.parts.push((part, Vec::new()));
            self.parts.len() - 1
        });
        let of = &mut self.parts[at].1;
        for &item in items {
            if !of.contains(&item) {
                of.push(item);
            }
        }
    }

    fn texts(&mut self, paths: &[&'a str]) {
        for &path in paths {
            match self.seen.map(|seen| seen.files.get(path)) {
                // That it is no file with a text was told by stat.
                Some(Some(facts)) if !matches!(facts, FileFacts::File { .. }) => {
                    self.about(Part::Stat, &[path]);
                }
                _ => self.texts.push(path),
            }
        }
    }

    /// Those that are there: a check that does without the others does not say that they are missing.
    fn texts_there(&mut self, paths: &[&'a str]) {
        for &path in paths {
            if self.may(|seen| seen.exists(path)) {
                self.texts(&[path]);
            }
        }
    }

    fn into_sources(self, seen: &Observed) -> Sources {
        let parts = self.parts.iter().map(|(part, about)| of_part(seen, *part, about));
        let settings = self.settings.iter().map(|key| of_setting(seen, key));
        let texts = self.texts.iter().map(|path| seen.file(path));
        let all: Vec<Source> =
            parts.chain(settings).chain(texts).chain(self.others.iter().cloned()).collect();
        // Of a check that looks at files alone, of which none is there.
        let none = || Source::without_answer(SourceKind::File, "none of its files exists").into();
        Sources::of(all).unwrap_or_else(none)
    }

    fn into_watch(self) -> WatchList {
        let owned = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        let mut watch = WatchList { sysctls: owned(self.settings), ..WatchList::default() };
        watch.texts = owned(self.texts);
        watch.files = watch.texts.clone();
        for (part, about) in self.parts {
            match part {
                Part::Stat => watch.files.extend(owned(about)),
                Part::Trees => watch.trees.extend(owned(about)),
                Part::Units => watch.units.extend(owned(about)),
                Part::Packages => watch.packages.extend(owned(about)),
                _ => watch.extras.extend(extra(part)),
            }
        }
        watch
    }
}

/// What has to be asked for apart, for a part.
fn extra(part: Part) -> Option<Extra> {
    match part {
        Part::SecurityModules => Some(Extra::Lsm),
        Part::Time => Some(Extra::Time),
        Part::AuditRules => Some(Extra::Audit),
        Part::SshdMatches => Some(Extra::SshdMatches),
        _ => None,
    }
}

fn is_active(seen: &Observed, unit: &str) -> bool {
    seen.units.get(unit).is_some_and(|u| u.active == "active")
}

/// Whether every process of a daemon has a flag that goes before its file.
fn is_given(seen: &Observed, daemon: Daemon, flag: Option<&str>) -> bool {
    let processes = seen.running(daemon).unwrap_or_default();
    flag.is_some_and(|name| {
        !processes.is_empty()
            && processes.iter().all(|p| !flag_values(&p.argv, name, true).is_empty())
    })
}

fn of_setting(seen: &Observed, key: &str) -> Source {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let sha256 = seen.answers.setting(key);
    match sha256 {
        Some(_) => read(seen, SourceKind::File, path, sha256),
        // A kernel without the key has no file of it, which the others of the same answer show.
        None => of_part(seen, Part::Settings, &[&path]),
    }
}

/// Something of the answer to the facts.
fn read(
    seen: &Observed,
    kind: SourceKind,
    what: impl Into<Cow<'static, str>>,
    sha256: Option<Digest>,
) -> Source {
    let (what, machine) = (what.into(), seen.machine.clone());
    Source { kind, what, sha256, read: seen.answers.read, machine }
}

fn of_part(seen: &Observed, part: Part, about: &[&str]) -> Source {
    let what: Cow<'static, str> = match about {
        [] => part.command().into(),
        items => format!("{} {}", part.command(), items.join(" ")).into(),
    };
    let when = match part.program() {
        Program::Collect => seen.answers.read,
        Program::Live => seen.live.as_ref().and_then(|l| l.answers.read),
    };
    let sha256 = seen.digest(part);
    let source = read(seen, SourceKind::Command, what, sha256);
    Source { read: when.filter(|_| sha256.is_some()), ..source }
}
