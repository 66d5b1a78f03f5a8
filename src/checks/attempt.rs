//! Attempts over the network as evidence: what was tried, and what came of it. [`crate::verify`] makes them.

use std::sync::Arc;

use time::OffsetDateTime;

use super::model::Verdict;
use super::source::{Machine, Source, SourceKind, Sources};
use crate::controls::{Attack, Config, Daemon};
use crate::digest::Digest;
use crate::inventory::NodeName;

/// An attempt, before anybody says what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The node that was tried.
    pub target: NodeName,
    /// What was tried, for machines.
    pub attack: Attack,
    /// Where it was tried from: `operator` or a node.
    pub from: String,
    /// What was tried, for people.
    pub what: String,
}

impl Tried {
    /// What it is called among the evidence of a control.
    pub fn evidence(&self) -> String {
        format!("from {}: {}", self.from, self.what)
    }
}

/// An attempt and what came of it. None holds without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    tried: Tried,
    verdict: Verdict,
    source: Source,
}

/// Who saw the end of an attempt, and when.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// The machine it was made on; `None` for the operator's own.
    pub machine: Option<Arc<Machine>>,
    /// When.
    pub read: Option<OffsetDateTime>,
}

impl Attempt {
    /// What came of an attempt, by an answer with this digest. A pass without one is unknown.
    pub fn new(tried: Tried, verdict: Verdict, answer: Option<Digest>, seen: Witness) -> Self {
        let source = Source {
            kind: SourceKind::Attempt,
            what: tried.evidence().into(),
            sha256: answer,
            read: seen.read,
            machine: seen.machine,
        };
        let verdict = verdict.unknown_without_sources(&Sources::from(source.clone()));
        Self { tried, verdict, source }
    }

    /// What was tried.
    pub fn tried(&self) -> &Tried {
        &self.tried
    }

    /// What came of it.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What it was judged from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it is called among the evidence of a control.
    pub fn evidence(&self) -> String {
        self.tried.evidence()
    }

    /// By node, then attack: the order of reports.
    pub fn sort(attempts: &mut [Self]) {
        attempts.sort_by(|a, b| {
            let (a, b) = (&a.tried, &b.tried);
            (&a.target, a.attack, &a.from, &a.what).cmp(&(&b.target, b.attack, &b.from, &b.what))
        });
    }
}

/// What an attempt on a flag is called, by which it is found for the controls about that flag.
pub fn flag_words(daemon: Daemon, name: &str) -> String {
    format!("{} --{name} in effect", daemon.program())
}

/// The same for a setting of a configuration file.
pub fn setting_words(config: Config, path: &[&str]) -> String {
    format!("{} {} in effect", config.daemon().program(), path.join("."))
}

/// An attack in plain words, for people who have never heard of it.
pub fn attempt_words(attack: Attack) -> &'static str {
    match attack {
        Attack::EtcdWithoutCertificate => "read etcd without a certificate",
        Attack::EtcdForeignCertificate => "read etcd with a certificate of another CA",
        Attack::EtcdPlainHttp => "speak plain HTTP to etcd",
        Attack::EtcdHealthy => "ask etcd for its health with the right certificate",
        Attack::EtcdAcceptedCas => "ask etcd which CAs it accepts",
        Attack::EtcdPeerAcceptedCas => "ask etcd's peer port which CAs it accepts",
        Attack::KubeletAcceptedCas => "ask the kubelet which CAs it accepts",
        Attack::ApiserverAcceptedCas => "ask the API server which CAs it accepts",
        Attack::EtcdServedCertificate => "compare etcd's certificate with the files and the store",
        Attack::EtcdPeerWithoutCertificate => "join etcd's members without a certificate",
        Attack::EtcdPeerPlainHttp => "speak plain HTTP to etcd's peer port",
        Attack::EtcdPeerServedCertificate => {
            "compare etcd's peer certificate with the files and the store"
        }
        Attack::EtcdOldTls => "speak TLS 1.1 to etcd",
        Attack::EtcdWeakCiphers => "speak CBC or static RSA suites to etcd",
        Attack::ClosedToPeers => "reach closed ports from another node",
        Attack::ClosedToOperator => "reach closed ports from the operator's machine",
        Attack::ForwardedToStranger => "reach pods and Services from an unknown address",
        Attack::DefaultDrop => "reach a port that nothing listens on",
        Attack::SshPassword => "log in over SSH with a password",
        Attack::ApiserverAnonymous => "ask the API server without credentials",
        Attack::ApiserverPlainHttp => "speak plain HTTP to the API server",
        Attack::ApiserverOldTls => "speak TLS 1.1 to the API server",
        Attack::ApiserverWeakCiphers => "speak CBC or static RSA suites to the API server",
        Attack::KubeletAnonymous => "ask the kubelet without credentials",
        Attack::KubeletWeakCiphers => "speak CBC or static RSA suites to the kubelet",
        Attack::KubeletWithoutRights => "ask the kubelet with a certificate that has no rights",
        Attack::ApiserverHealthCertificate => "misuse the certificate of the health probes",
        Attack::ApiserverProfiling => "read profiles of the API server",
        Attack::ControllerManagerProfiling => "read profiles of the controller manager",
        Attack::SchedulerProfiling => "read profiles of the scheduler",
        Attack::AuditEvent => "do something that the audit log has to tell of",
        Attack::PodLogs => "read logs of pods through the API server",
        Attack::PodExec => "run a program in a pod through the API server",
        Attack::PodSecurity => "create pods that break the restricted standard",
        Attack::MissingServiceAccount => "create a pod with a service account that is not there",
        Attack::MissingNamespace => "create an object in a namespace that is not there",
        Attack::ExternalIps => "claim an external address for a Service",
        Attack::PullPolicy => "create a pod that uses an image without the right to pull it",
        Attack::EventRateLimit => "create an event past the plugin that limits their rate",
        Attack::NodeRestriction => "change Nodes as a kubelet",
        Attack::NodeAuthorizer => "read Secrets as a kubelet",
        Attack::ServiceAccountRights => "do what a service account has no right to",
        Attack::ServiceAccountToken => "use a forged token and one whose account is gone",
        Attack::SecretAtRest => "read a Secret raw from etcd",
        Attack::EffectiveSetting => "ask a daemon for its settings in effect",
    }
}
