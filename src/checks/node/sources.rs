//! Which of a node's answers each check is judged from: a table, exhaustive over the kinds of checks. A test takes away
//! each answer that a check does not name here, and wants the same verdict.

use std::borrow::Cow;

use crate::checks::attempt::attempt_words;
use crate::checks::basis::{Basis, flag_values};
use crate::checks::node::access::{STATIC_POD_DIR, of_all_interfaces};
use crate::checks::node::certificates::{
    CERTIFICATES, CLUSTER_CA, ETCD_CAS, FRONT_PROXY_CA, KUBECONFIGS, KUBELET_ROTATED,
    KUBELET_SERVING,
};
use crate::checks::node::host::{
    CONTAINERD_CONFIG, FORWARDERS, READ_AS_A_WHOLE, SSH_UNITS, UPDATE_TIMERS,
};
use crate::checks::node::kubernetes::{
    ADMISSION, AUDIT_POLICY, AUTHENTICATION, CNI_DIR, ENCRYPTION, KUBELET_DROP_INS, KUBELET_UNITS,
    MANIFEST, anonymous_off,
};
use crate::checks::node::staged::STAGED_FILES;
use crate::checks::observed::{ETCD_UNIT, FIREWALL_FILE, Origin, SSHD_DROP_IN};
use crate::checks::source::{Source, SourceKind, Sources};
use crate::controls::{Check, Config, Daemon, DaemonRow, NodeRule};
use crate::desired::APISERVER_PROBE;
use crate::digest::Digest;
use crate::facts::FileFacts;
use crate::facts::answers::{Part, Program};
use crate::facts::cluster::Kind;

/// What a check of a node was judged from. `staged` says that it has a word about files that wait for a daemon.
pub(in crate::checks) fn of(check: &Check, on: &Basis<'_>, staged: bool) -> Sources {
    if let Check::Manual(why) = check {
        return Source::without_answer(SourceKind::People, *why).into();
    }
    if on.seen.origin == Origin::Rendered {
        return Source::rendered().into();
    }
    let mut looks = Looks { on, parts: Vec::new(), others: Vec::new() };
    looks.add(check);
    if staged {
        looks.staged();
    }
    looks.into_sources()
}

/// What is looked at, in the order of the table.
struct Looks<'a> {
    on: &'a Basis<'a>,
    /// Parts of the node's answers, and what each was asked about.
    parts: Vec<(Part, Vec<&'a str>)>,
    others: Vec<Source>,
}

impl<'a> Looks<'a> {
    fn add(&mut self, check: &Check) {
        match check {
            Check::Path(rule) => self.about(Part::Stat, [rule.path]),
            Check::Tree(rule) => self.about(Part::Trees, [rule.dir]),
            Check::Gone(path) => self.about(Part::Stat, [*path]),
            Check::Sysctl(setting) => {
                self.setting(setting.key);
                if of_all_interfaces(setting.key).is_some() {
                    self.about(Part::Interfaces, [setting.key]);
                }
            }
            Check::Sshd(..) => self.all([Part::Sshd, Part::SshdMatches]),
            Check::Flag(..) | Check::RunsAs(..) => self.all([Part::Processes]),
            Check::InEffect(daemon) => self.in_effect(*daemon),
            Check::Setting(config, _, _, over, _) => {
                self.all([Part::Processes]);
                if !self.is_given(config.daemon(), *over) {
                    self.config(*config);
                }
            }
            Check::LoopbackOnly(..) => self.all([Part::Listeners, Part::Processes]),
            Check::Node(fact) => self.fact(*fact),
            Check::Probe(probe) => {
                self.others.push(Source::without_answer(SourceKind::Attempt, attempt_words(*probe)))
            }
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
                self.texts([FIREWALL_FILE]);
                self.all([Part::Nft, Part::Rules, Part::FileRules]);
            }
            NodeRule::MetadataBlocked => {
                self.texts([FIREWALL_FILE]);
                self.all([Part::Rules]);
            }
            NodeRule::ForeignRules => self.all([Part::ForeignRules, Part::LegacyRules]),
            NodeRule::NoSwap => self.all([Part::Swaps]),
            NodeRule::MandatoryAccessControl => self.all([Part::Machine, Part::SecurityModules]),
            NodeRule::TimeSync => self.all([Part::Machine, Part::Time]),
            NodeRule::AuditRules => self.all([Part::Machine, Part::AuditRules]),
            NodeRule::SecurityUpdates => self.security_updates(),
            NodeRule::ContainerdNoTcp => self.texts([CONTAINERD_CONFIG]),
            NodeRule::ContainerdRelease => self.all([Part::Versions, Part::Packages]),
            NodeRule::ContainerdRuntime => {
                self.texts([CONTAINERD_CONFIG]);
                self.all([Part::Processes, Part::Machine]);
            }
            NodeRule::ForeignFiles => self.about(Part::Trees, READ_AS_A_WHOLE),
            NodeRule::OnlyPods => self.all([Part::Containers]),
            NodeRule::LogForwarding => {
                self.about(Part::Units, FORWARDERS.map(|f| f.unit));
                let units = &self.on.seen.units;
                let is_active = |unit| units.get(unit).is_some_and(|u| u.active == "active");
                let active = FORWARDERS.into_iter().filter(|f| is_active(f.unit));
                self.texts_there(active.map(|f| f.file));
            }
            NodeRule::NoSshd => self.about(Part::Units, SSH_UNITS),
            NodeRule::AuditPolicy => self.apiserver_file(AUDIT_POLICY),
            NodeRule::EncryptedSecrets | NodeRule::EncryptionProvider => {
                self.apiserver_file(ENCRYPTION)
            }
            NodeRule::EventRateLimit => {
                self.apiserver_file(ADMISSION);
                self.texts_there(["/etc/kubernetes/config/eventratelimit.yaml"]);
            }
            NodeRule::PodSecurity => {
                self.apiserver_file(ADMISSION);
                self.texts_there(["/etc/kubernetes/config/podsecurity.yaml"]);
            }
            NodeRule::AuthenticatedProbes => {
                self.apiserver_file(MANIFEST);
                self.about(Part::Stat, [APISERVER_PROBE]);
            }
            NodeRule::AnonymousRequests => {
                self.all([Part::Processes]);
                let running = self.on.seen.running(Daemon::Apiserver).unwrap_or_default();
                let argv: Vec<&[String]> = running.iter().map(|p| p.argv.as_slice()).collect();
                if argv.is_empty() || !anonymous_off(&argv) {
                    self.texts([AUTHENTICATION]);
                }
            }
            NodeRule::UserAuthentication => self.apiserver_file(AUTHENTICATION),
            NodeRule::KubeletUnits => {
                self.about(Part::Stat, KUBELET_UNITS);
                self.about(Part::Trees, KUBELET_DROP_INS);
            }
            NodeRule::CniConfig => {
                self.about(Part::Trees, [CNI_DIR]);
                self.all([Part::Processes]);
            }
            NodeRule::NoAlpha => {
                self.all([Part::Processes]);
                if self.on.seen.runs(Daemon::Kubelet) {
                    self.config(Config::Kubelet);
                }
            }
            NodeRule::NoMasters => {
                self.texts(KUBECONFIGS);
                self.all([Part::Kubeconfigs]);
            }
            NodeRule::SeparateCas => self.texts([CLUSTER_CA, ETCD_CAS[0], FRONT_PROXY_CA]),
            NodeRule::CertificateLifetimes => self.texts(CERTIFICATES),
            NodeRule::KubeletServingFiles => {
                self.texts([KUBELET_SERVING]);
                self.about(Part::Stat, [KUBELET_ROTATED]);
                self.all([Part::Processes]);
            }
            NodeRule::EtcdOwnCa => {
                self.texts(ETCD_CAS);
                self.texts([CLUSTER_CA]);
            }
            NodeRule::OneCaPerFile => {
                self.texts([CLUSTER_CA, FRONT_PROXY_CA]);
                self.texts(ETCD_CAS);
            }
            NodeRule::RootOwnedPaths => self.all([Part::Paths, Part::LiveTrees]),
            NodeRule::ProgramsNotShadowed => {
                self.all([Part::Paths, Part::Shadows, Part::Libraries]);
            }
            NodeRule::Accounts => self.all([Part::Accounts]),
            NodeRule::SecretsUnreadable => self.all([Part::Paths, Part::LiveTrees, Part::Acls]),
            NodeRule::SshdSettings => {
                self.texts([SSHD_DROP_IN]);
                self.all([Part::Sshd, Part::SshdMatches]);
            }
            NodeRule::SshdInEffect => {
                self.about(Part::LiveUnits, SSH_UNITS);
                self.all([Part::LiveProcesses, Part::LiveSockets, Part::Paths, Part::LiveTrees]);
                // An sshd that its socket starts for each connection reads its files then, whatever was mounted.
                self.if_answered(Part::Mounts);
            }
            NodeRule::SysctlsAtBoot => self.all([Part::SysctlFiles]),
            NodeRule::UnitsAsWritten => self.all([Part::LiveUnits]),
            NodeRule::StaticPods => {
                self.about(Part::LiveTrees, [STATIC_POD_DIR]);
                self.about(Part::Stat, [STATIC_POD_DIR]);
            }
            // A plan is made of all of it.
            NodeRule::NoPendingChange => self.all([Part::Everything]),
            NodeRule::EtcdCorruptionCheck => self.all([Part::Processes]),
            NodeRule::NoRebootDue => self.all([Part::Reboot, Part::Apt]),
        }
    }

    fn in_effect(&mut self, daemon: Daemon) {
        let row = DaemonRow::of(daemon);
        self.all([
            Part::LiveProcesses,
            Part::LiveSockets,
            // One that covers a file of the daemon is in a namespace that the node's own files do not show.
            Part::FilesInside,
        ]);
        if !row.reads_at_start.is_empty() {
            self.all([Part::Paths, Part::LiveTrees]);
        }
        if let Some(unit) = row.unit {
            self.about(Part::LiveUnits, [unit]);
            self.all([Part::Mounts]);
        }
        match daemon {
            Daemon::Etcd => self.texts([ETCD_UNIT]),
            _ if self.on.seen.staged.argv(daemon).is_some() => self.staged(),
            _ => {}
        }
    }

    fn security_updates(&mut self) {
        self.about(Part::Units, UPDATE_TIMERS);
        let active = UPDATE_TIMERS
            .into_iter()
            .find(|t| self.on.seen.units.get(*t).is_some_and(|u| u.active == "active"));
        if active.is_none_or(|timer| timer.starts_with("apt")) {
            self.all([
                Part::Packages,
                Part::Apt,
                Part::Held,
                Part::PackageSources,
                Part::LiveUnits,
            ]);
        }
    }

    /// What kubeadm was given.
    fn staged(&mut self) {
        self.texts_there(STAGED_FILES);
    }

    /// A file that the API server is told of on its command line.
    fn apiserver_file(&mut self, path: &'a str) {
        self.all([Part::Processes]);
        self.texts([path]);
    }

    fn config(&mut self, config: Config) {
        match config.path() {
            Some(path) => self.texts([path]),
            None => self.others.push(self.on.seen.lists.source(Kind::ConfigMaps)),
        }
    }

    /// Whether every process of a daemon has a flag that goes before its file.
    fn is_given(&self, daemon: Daemon, flag: Option<&str>) -> bool {
        let processes = self.on.seen.running(daemon).unwrap_or_default();
        flag.is_some_and(|name| {
            !processes.is_empty()
                && processes.iter().all(|p| !flag_values(&p.argv, name, true).is_empty())
        })
    }

    fn all(&mut self, parts: impl IntoIterator<Item = Part>) {
        parts.into_iter().for_each(|part| self.about(part, []));
    }

    fn if_answered(&mut self, part: Part) {
        if self.on.seen.digest(part).is_some() {
            self.about(part, []);
        }
    }

    fn about(&mut self, part: Part, items: impl IntoIterator<Item = &'a str>) {
        let at = self.parts.iter().position(|(p, _)| *p == part).unwrap_or_else(|| {
            self.parts.push((part, Vec::new()));
            self.parts.len() - 1
        });
        let of = &mut self.parts[at].1;
        for item in items {
            if !of.contains(&item) {
                of.push(item);
            }
        }
    }

    fn texts(&mut self, paths: impl IntoIterator<Item = &'a str>) {
        for path in paths {
            match self.on.seen.files.get(path) {
                None | Some(FileFacts::File { .. }) => self.others.push(self.on.seen.file(path)),
                // That it is no file with a text was told by stat.
                Some(_) => self.about(Part::Stat, [path]),
            }
        }
    }

    /// Those that are there: a check that does without the others does not say that they are missing.
    fn texts_there(&mut self, paths: impl IntoIterator<Item = &'a str>) {
        for path in paths {
            if self.on.seen.exists(path) {
                self.texts([path]);
            }
        }
    }

    fn setting(&mut self, key: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let sha256 = self.on.seen.answers.setting(key);
        self.others.push(match sha256 {
            Some(_) => self.read(SourceKind::File, path, sha256),
            // A kernel without the key has no file of it, which the others of the same answer show.
            None => self.part(Part::Settings, &[&path]),
        });
    }

    /// Something of the answer to the facts.
    fn read(
        &self,
        kind: SourceKind,
        what: impl Into<Cow<'static, str>>,
        sha256: Option<Digest>,
    ) -> Source {
        let seen = self.on.seen;
        Source {
            kind,
            what: what.into(),
            sha256,
            read: seen.answers.read,
            machine: seen.machine.clone(),
        }
    }

    fn part(&self, part: Part, about: &[&str]) -> Source {
        let seen = self.on.seen;
        let what: Cow<'static, str> = match about {
            [] => part.command().into(),
            items => format!("{} {}", part.command(), items.join(" ")).into(),
        };
        let read = match part.program() {
            Program::Collect => seen.answers.read,
            Program::Live => seen.live.as_ref().and_then(|l| l.answers.read),
        };
        let sha256 = seen.digest(part);
        Source {
            read: read.filter(|_| sha256.is_some()),
            ..self.read(SourceKind::Command, what, sha256)
        }
    }

    fn into_sources(self) -> Sources {
        let parts = self.parts.iter().map(|(part, about)| self.part(*part, about));
        let all: Vec<Source> = parts.chain(self.others.iter().cloned()).collect();
        // Of a check that looks at files alone, of which none is there.
        let none = || Source::without_answer(SourceKind::File, "none of its files is there").into();
        Sources::of(all).unwrap_or_else(none)
    }
}
