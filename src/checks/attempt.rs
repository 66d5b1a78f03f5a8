//! Attempts over the network as evidence: what was tried, and what came of it. [`crate::verify`] makes them.

use std::sync::Arc;

use time::OffsetDateTime;

use super::model::Verdict;
use super::source::{Machine, Source, SourceKind, Sources};
use crate::controls::{Config, Daemon, Probe};
use crate::digest::Digest;
use crate::inventory::NodeName;

/// An attempt, before anybody says what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The node that was tried.
    pub target: NodeName,
    /// What was tried, for machines.
    pub probe: Probe,
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
        let verdict = verdict.borne_by(&Sources::from(source.clone()));
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

    /// By node, then probe: the order of reports.
    pub fn sort(attempts: &mut [Self]) {
        attempts.sort_by(|a, b| {
            let (a, b) = (&a.tried, &b.tried);
            (&a.target, a.probe, &a.from, &a.what).cmp(&(&b.target, b.probe, &b.from, &b.what))
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

/// A probe in plain words, for people who have never heard of it.
pub fn attempt_words(probe: Probe) -> &'static str {
    match probe {
        Probe::EtcdWithoutCertificate => "read etcd without a certificate",
        Probe::EtcdForeignCertificate => "read etcd with a certificate of another CA",
        Probe::EtcdPlainHttp => "speak plain HTTP to etcd",
        Probe::EtcdHealthy => "ask etcd for its health with the right certificate",
        Probe::EtcdAcceptedCas => "ask etcd which CAs it accepts",
        Probe::EtcdPeerAcceptedCas => "ask etcd's peer port which CAs it accepts",
        Probe::KubeletAcceptedCas => "ask the kubelet which CAs it accepts",
        Probe::ApiserverAcceptedCas => "ask the API server which CAs it accepts",
        Probe::EtcdServedCertificate => "compare etcd's certificate with the files and the store",
        Probe::EtcdPeerWithoutCertificate => "join etcd's members without a certificate",
        Probe::EtcdPeerPlainHttp => "speak plain HTTP to etcd's peer port",
        Probe::EtcdPeerServedCertificate => {
            "compare etcd's peer certificate with the files and the store"
        }
        Probe::EtcdOldTls => "speak TLS 1.1 to etcd",
        Probe::EtcdWeakCiphers => "speak CBC or static RSA suites to etcd",
        Probe::ClosedToPeers => "reach closed ports from another node",
        Probe::ClosedToOperator => "reach closed ports from the operator's machine",
        Probe::ForwardedToStranger => "reach pods and Services from an unknown address",
        Probe::DefaultDrop => "reach a port that nothing listens on",
        Probe::SshPassword => "log in over SSH with a password",
        Probe::ApiserverAnonymous => "ask the API server without credentials",
        Probe::ApiserverPlainHttp => "speak plain HTTP to the API server",
        Probe::ApiserverOldTls => "speak TLS 1.1 to the API server",
        Probe::ApiserverWeakCiphers => "speak CBC or static RSA suites to the API server",
        Probe::KubeletAnonymous => "ask the kubelet without credentials",
        Probe::KubeletWeakCiphers => "speak CBC or static RSA suites to the kubelet",
        Probe::KubeletWithoutRights => "ask the kubelet with a certificate that has no rights",
        Probe::ApiserverHealthCertificate => "misuse the certificate of the health probes",
        Probe::ApiserverProfiling => "read profiles of the API server",
        Probe::ControllerManagerProfiling => "read profiles of the controller manager",
        Probe::SchedulerProfiling => "read profiles of the scheduler",
        Probe::AuditEvent => "do something that the audit log has to tell of",
        Probe::PodLogs => "read logs of pods through the API server",
        Probe::PodExec => "run a program in a pod through the API server",
        Probe::PodSecurity => "create pods that break the restricted standard",
        Probe::MissingServiceAccount => "create a pod with a service account that is not there",
        Probe::MissingNamespace => "create an object in a namespace that is not there",
        Probe::ExternalIps => "claim an external address for a Service",
        Probe::PullPolicy => "create a pod that uses an image without the right to pull it",
        Probe::EventRateLimit => "create an event past the plugin that limits their rate",
        Probe::NodeRestriction => "change Nodes as a kubelet",
        Probe::NodeAuthorizer => "read Secrets as a kubelet",
        Probe::ServiceAccountRights => "do what a service account has no right to",
        Probe::ServiceAccountToken => "use a forged token and one whose account is gone",
        Probe::SecretAtRest => "read a Secret raw from etcd",
        Probe::EffectiveSetting => "ask a daemon for its settings in effect",
    }
}
