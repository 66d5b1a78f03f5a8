//! The kinds of checks that a control is made of, as data. `checks::judge` evaluates them.

use super::kernel::KernelSetting;
use super::scope::Scope;
use super::set::Set;
use crate::inventory::{Inventory, Node};

/// One check.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Owner and mode of one path.
    Path(PathRule),
    /// Owner and mode of everything below a directory.
    Tree(TreeRule),
    /// Nothing is at this path.
    Gone(&'static str),
    /// A kernel setting has its value, on the nodes that get it.
    Sysctl(&'static KernelSetting),
    /// An effective setting of sshd, as `sshd -T` prints it: key and accepted values.
    Sshd(&'static str, Rule),
    /// A command-line flag of a daemon, on every running process of it, and how it is set.
    Flag(Daemon, &'static str, Rule, Set),
    /// The user that every process of a daemon runs as.
    RunsAs(Daemon, &'static str),
    /// A daemon runs once, by its own unit, with what its files say now and nothing beside it: see
    /// [`super::daemons::DaemonRow`].
    InEffect(Daemon),
    /// A value in a configuration file: its path, the daemon's flag that would override it, and how it is set.
    Setting(Config, &'static [&'static str], Rule, Option<&'static str>, Set),
    /// TCP sockets on this port are bound to loopback addresses only.
    LoopbackOnly(Daemon, u16),
    /// Something that takes more than one value to judge.
    Node(NodeRule),
    /// An attempt over the network, made while verifying.
    Attack(Attack),
    /// Objects of the Kubernetes API.
    Api(ApiRule),
    /// No program can judge it; why, in words.
    Manual(&'static str),
}

/// Where a member of etcd that is a service has its certificates.
pub(super) const ETCD_PKI: &str = "/etc/etcd/pki";

impl Check {
    /// Whether it is about a node, out of those that its control is judged on.
    pub fn is_for(&self, inventory: &Inventory, node: &Node) -> bool {
        match self {
            Check::Sysctl(setting) => setting.is_for(inventory, node),
            // A static pod has its certificates where the API server's are.
            Check::Tree(tree) => !(inventory.has_stacked_etcd() && tree.dir == ETCD_PKI),
            // Only a kubelet minds.
            Check::Node(NodeRule::NoSwap) => Scope::Kubelet.holds(inventory, node),
            _ => true,
        }
    }
}

/// Owner and mode of one path.
#[derive(Debug, Clone, Copy)]
pub struct PathRule {
    /// Absolute path.
    pub path: &'static str,
    /// No permission bit beside these may be set.
    pub mode: u32,
    /// Owner and group.
    pub owner: &'static str,
    /// What it means that nothing is there.
    pub missing: IfMissing,
}

/// Owner and mode of everything below a directory, itself included.
#[derive(Debug, Clone, Copy)]
pub struct TreeRule {
    /// Absolute path of the directory.
    pub dir: &'static str,
    /// Only regular files with this ending; everything if empty.
    pub suffix: &'static str,
    /// No permission bit of a regular file beside these may be set; 0o7777 for any.
    pub file_mode: u32,
    /// The same for directories.
    pub dir_mode: u32,
    /// Owner of everything.
    pub owner: &'static str,
    /// Its group.
    pub group: &'static str,
    /// What it means that the directory does not exist.
    pub missing: IfMissing,
}

/// What it means that a path is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// The control does not hold.
    Fails,
    /// Kubernetes or the tool behind it is not installed yet; with Kubernetes running, it fails.
    NotYet,
    /// There is nothing to protect.
    Fine,
}

/// A daemon whose processes are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// etcd.
    Etcd,
    /// kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
    /// containerd.
    Containerd,
    /// haproxy of the managed endpoint.
    Haproxy,
    /// keepalived of the managed endpoint.
    Keepalived,
}

impl Daemon {
    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Daemon::Apiserver => "kube-apiserver",
            Daemon::ControllerManager => "kube-controller-manager",
            Daemon::Scheduler => "kube-scheduler",
            Daemon::Etcd => "etcd",
            Daemon::Kubelet => "kubelet",
            Daemon::KubeProxy => "kube-proxy",
            Daemon::Containerd => "containerd",
            Daemon::Haproxy => "haproxy",
            Daemon::Keepalived => "keepalived",
        }
    }

    /// Name of its process: the kernel keeps 15 characters (proc(5), `/proc/pid/comm`).
    pub fn comm(self) -> &'static str {
        let program = self.program();
        &program[..program.len().min(15)]
    }
}

/// A configuration file whose values are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Config {
    /// KubeletConfiguration.
    Kubelet,
    /// KubeProxyConfiguration; on a kubeadm cluster it lives in a ConfigMap only.
    KubeProxy,
}

impl Config {
    /// Where it is on a node, if it is a file there.
    pub fn path(self) -> Option<&'static str> {
        match self {
            Config::Kubelet => Some("/var/lib/kubelet/config.yaml"),
            Config::KubeProxy => None,
        }
    }

    /// Its `kind`.
    pub fn kind(self) -> &'static str {
        match self {
            Config::Kubelet => "KubeletConfiguration",
            Config::KubeProxy => "KubeProxyConfiguration",
        }
    }

    /// Who reads it.
    pub fn daemon(self) -> Daemon {
        match self {
            Config::Kubelet => Daemon::Kubelet,
            Config::KubeProxy => Daemon::KubeProxy,
        }
    }
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Given, and exactly this.
    Is(&'static str),
    /// Given, and one of these.
    OneOf(&'static [&'static str]),
    /// Not given, or one of these.
    OneOfOrAbsent(&'static [&'static str]),
    /// Not given, or exactly this.
    IsOrAbsent(&'static str),
    /// Not given.
    Absent,
    /// Given and not empty.
    Given,
    /// A comma-separated list that holds this.
    Has(&'static str),
    /// Not given, or a comma-separated list without this.
    Lacks(&'static str),
    /// A comma-separated list that is not empty and holds nothing else.
    Within(&'static [&'static str]),
    /// A whole number, this or more.
    AtLeast(i64),
    /// A Go duration (`5m0s`) between these, in seconds.
    Seconds(u64, u64),
    /// URLs separated by commas, all `https://`.
    Https,
    /// URLs separated by commas, all on loopback addresses.
    LoopbackUrls,
    /// An address with an optional port, on loopback.
    Loopback,
}

/// Something that takes more than one value to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeRule {
    /// Our nftables table is loaded, as recorded, from a file that drops by default.
    Firewall,
    /// No rule of our table lets pods reach the cloud metadata addresses.
    MetadataBlocked,
    /// No other nftables table rewrites packets before ours sees them, or keeps them from connection tracking.
    ForeignRules,
    /// No swap area is active.
    NoSwap,
    /// AppArmor or SELinux enforces.
    MandatoryAccessControl,
    /// The clock is synchronized.
    TimeSync,
    /// The kernel's audit rules watch what Kubernetes keeps on the node.
    AuditRules,
    /// Security updates are installed without being asked for.
    SecurityUpdates,
    /// containerd's CRI service has no TCP listener.
    ContainerdNoTcp,
    /// containerd is of a release that Kubernetes supports.
    ContainerdRelease,
    /// containerd runs, with cgroups managed by systemd.
    ContainerdRuntime,
    /// Directories of which containerd reads every file hold those that the inventory makes, and no others.
    ForeignFiles,
    /// containerd runs no containers but those of pods.
    OnlyPods,
    /// The API server's audit policy covers what is sensitive.
    AuditPolicy,
    /// Secrets are among the encrypted resources.
    EncryptedSecrets,
    /// Each list of encryption providers starts with one that encrypts well.
    EncryptionProvider,
    /// The admission configuration limits events.
    EventRateLimit,
    /// The admission configuration enforces a Pod Security level.
    PodSecurity,
    /// API server probes need no anonymous access.
    AuthenticatedProbes,
    /// Anonymous requests are off, or only for the three health paths.
    AnonymousRequests,
    /// No client certificate in a kubeconfig on the node belongs to `system:masters`.
    NoMasters,
    /// The CAs on the node have different keys.
    SeparateCas,
    /// Certificates on the node are strong and far from their end.
    CertificateLifetimes,
    /// The kubelet's own files for serving are there, and their certificate names the node.
    KubeletServingFiles,
    /// The unit files of the kubelet are root's alone.
    KubeletUnits,
    /// The authentication configuration names who vouches for people.
    UserAuthentication,
    /// A CNI configuration that enforces network policies is installed.
    CniConfig,
    /// Logs are sent to another machine.
    LogForwarding,
    /// No sshd runs.
    NoSshd,
    /// No umbrella of alpha features is on.
    NoAlpha,
    /// The directory of kube-apiserver's etcd client files differs from the cluster CA's trust.
    EtcdOwnCa,
    /// Each CA file holds one certificate, or those that the key store accepts: daemons take all.
    OneCaPerFile,
    /// Every judged path and everything root runs, with all parent directories, is writable only by root.
    RootOwnedPaths,
    /// No program stands before one of the same name that daemons start.
    ProgramsNotShadowed,
    /// Root alone has user id 0, and no account an empty password.
    Accounts,
    /// Whatever their names, files beside keys and kubeconfigs can be read by nobody else.
    SecretsUnreadable,
    /// Each setting of our file for sshd is in effect, or a stricter one.
    SshdSettings,
    /// sshd runs once, with no settings on its command line, and has read its files since they were changed.
    SshdInEffect,
    /// No file that the next boot reads sets a kernel setting to something else.
    SysctlsAtBoot,
    /// Units of ours have no drop-ins of others, and systemd has read their files.
    UnitsAsWritten,
    /// The directory of static pods holds those of the control plane alone.
    StaticPods,
    /// A plan that is made now would change nothing on the node.
    NoPendingChange,
    /// etcd is told to compare its data with its peers' when it starts.
    EtcdCorruptionCheck,
    /// The distribution says of no installed package that it wants a reboot.
    NoRebootDue,
    /// Programs find files alone where they read all that they find.
    RegularFiles,
    /// Daemons run code of packages and of the bundle alone.
    NothingPreloaded,
    /// What answers for names, what OpenSSL loads and programs of packages are as the packages brought them.
    PackagedFiles,
    /// No program runs as somebody else than who starts it, but for those of packages.
    PrivilegedPrograms,
    /// No private key lies in a file that everybody can read.
    KeysUnreadable,
}

/// What objects of the Kubernetes API have to be like. User namespaces are all but those that
/// Kubernetes makes: a name that begins with `kube-` is anybody's to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiRule {
    /// No binding names `system:anonymous` or `system:unauthenticated`.
    NoAnonymousBindings,
    /// No join token is left, and nothing is signed with one.
    NoJoinTokens,
    /// No binding lets the holder of a bootstrap token become a node.
    NoBootstrapBindings,
    /// Default ServiceAccounts mount no token.
    DefaultAccountsMountNothing,
    /// An admission policy sees to those of namespaces to come.
    NewAccountsMountNothing,
    /// Each user namespace has a NetworkPolicy that selects all pods and lets nothing through, and none that
    /// lets everything through.
    DefaultDeny,
    /// Images of pods in `kube-*` namespaces name a version or a digest.
    ImagesPinned,
    /// `default`, `kube-public` and `kube-node-lease` hold what Kubernetes puts there.
    NamespacesClean,
    /// No dashboard and no ingress-nginx, which is retired.
    NoRetiredAddOns,
    /// Who holds rights that amount to the whole cluster is known.
    MinimalRbac,
    /// Each user namespace has a ResourceQuota and a LimitRange.
    QuotasAndLimits,
    /// A ValidatingAdmissionPolicy on Secrets in environment variables is in force for all pods.
    SecretsNotInEnvironment,
    /// Pods of the control plane and of DNS give up what they do not need.
    SystemPodsHardened,
    /// No namespace enforces a lower level than the inventory sets.
    NamespaceLevels,
    /// No pod runs that its namespace should have refused.
    PodsWithinStandard,
    /// Every webhook and mutating policy is in the inventory.
    WebhooksKnown,
    /// Every aggregated API is in the inventory.
    AggregatedApisKnown,
    /// Every Node is in the inventory and Ready.
    NodesKnown,
    /// No Secret holds a token of a ServiceAccount, which would never end.
    NoLastingTokens,
    /// A plan that is made now would change no object.
    NoPendingChange,
    /// kubeadm's ConfigMaps say what its files on the control planes say.
    KubeadmConfiguration,
    /// kube-public/cluster-info holds the cluster CA and the endpoint.
    ClusterInfo,
    /// kube-proxy's kubeconfig leads to the endpoint, with the CA and the token of its pod.
    ProxyKubeconfig,
    /// kube-proxy's DaemonSet and configuration are what kubeadm and apply make of them.
    ProxyConfiguration,
    /// extension-apiserver-authentication holds the cluster CA and the front-proxy CA alone.
    ExtensionCas,
    /// CoreDNS answers by what kubeadm writes.
    DnsConfiguration,
    /// The controller manager and the scheduler that lead are a control plane's, and work.
    ControllersLead,
    /// RuntimeClasses lead to the handler that containerd has.
    RuntimeClassesKnown,
    /// Requests of nobody but administrators and kubelets' probes are exempt from waiting.
    FlowControlKnown,
    /// Services lead to pods and API servers of the cluster, and take no address of others.
    ServiceEndpointsKnown,
}

impl ApiRule {
    /// Every rule, with its words for reports.
    pub const ALL: &[(ApiRule, &str)] = &[
        (
            ApiRule::NoAnonymousBindings,
            "no binding names system:anonymous or system:unauthenticated",
        ),
        (
            ApiRule::NoJoinTokens,
            "no Secret of type bootstrap.kubernetes.io/token is left, and kube-public/cluster-info carries no signature",
        ),
        (
            ApiRule::NoBootstrapBindings,
            "no binding lets the holder of a bootstrap token become a node",
        ),
        (
            ApiRule::DefaultAccountsMountNothing,
            "every default ServiceAccount has automountServiceAccountToken false",
        ),
        (
            ApiRule::NewAccountsMountNothing,
            "an admission policy keeps future default ServiceAccounts from mounting a token",
        ),
        (
            ApiRule::DefaultDeny,
            "policies of every user namespace together deny ingress and egress by default",
        ),
        (ApiRule::ImagesPinned, "images of system pods are pinned by digest or version"),
        (
            ApiRule::NamespacesClean,
            "default, kube-public and kube-node-lease hold only built-in objects",
        ),
        (ApiRule::NoRetiredAddOns, "no pod of kubernetes-dashboard or ingress-nginx"),
        (ApiRule::MinimalRbac, "only the known defaults have cluster-wide rights"),
        (
            ApiRule::QuotasAndLimits,
            "every user namespace has a ResourceQuota that bounds pods, CPU and memory, and a LimitRange with defaults",
        ),
        (
            ApiRule::SecretsNotInEnvironment,
            "an admission policy looks at Secrets in environment variables",
        ),
        (
            ApiRule::SystemPodsHardened,
            "control-plane and DNS pods drop capabilities and write to no root filesystem",
        ),
        (
            ApiRule::NamespaceLevels,
            "every namespace enforces the Pod Security level that the inventory sets for it",
        ),
        (ApiRule::PodsWithinStandard, "every pod meets the Pod Security Standard of its namespace"),
        (ApiRule::WebhooksKnown, "all webhooks and mutating policies are named in the inventory"),
        (ApiRule::AggregatedApisKnown, "all aggregated APIs are named in the inventory"),
        (
            ApiRule::NodesKnown,
            "every Node is in the inventory and Ready, and control planes keep their taint",
        ),
        (
            ApiRule::NoLastingTokens,
            "no Secret of type kubernetes.io/service-account-token, whose token never expires",
        ),
        (ApiRule::NoPendingChange, "a plan made now would change no object in the cluster"),
        (
            ApiRule::KubeadmConfiguration,
            "ConfigMaps kubeadm-config and kubelet-config say what apply wrote",
        ),
        (ApiRule::ClusterInfo, "kube-public/cluster-info holds the cluster CA and the endpoint"),
        (
            ApiRule::ProxyKubeconfig,
            "kube-proxy's kubeconfig has the endpoint, and the CA and token of its ServiceAccount",
        ),
        (ApiRule::ProxyConfiguration, "kube-proxy is configured as kubeadm and apply configure it"),
        (
            ApiRule::ExtensionCas,
            "kube-system/extension-apiserver-authentication holds only the cluster's CAs",
        ),
        (ApiRule::DnsConfiguration, "CoreDNS is configured as kubeadm configures it"),
        (
            ApiRule::ControllersLead,
            "control planes hold and renew the Leases of the controller manager and the scheduler",
        ),
        (ApiRule::RuntimeClassesKnown, "every RuntimeClass has handler runc"),
        (
            ApiRule::FlowControlKnown,
            "priority and fairness of requests let nobody pass Kubernetes' own components",
        ),
        (
            ApiRule::ServiceEndpointsKnown,
            "Services have only endpoints inside the cluster and claim no foreign address",
        ),
    ];

    /// What has to hold, in words.
    pub fn words(self) -> &'static str {
        let row = Self::ALL.iter().find(|(rule, _)| *rule == self);
        row.expect("a test walks all rules").1
    }
}

/// An attempt over the network, made while verifying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// etcd's client port answers nobody without a certificate.
    EtcdWithoutCertificate,
    /// etcd's client port refuses a certificate of the cluster CA.
    EtcdForeignCertificate,
    /// etcd's client port speaks no plain HTTP.
    EtcdPlainHttp,
    /// Each member is healthy for the health-check certificate.
    EtcdHealthy,
    /// etcd's client port asks for certificates of the etcd CA alone.
    EtcdAcceptedCas,
    /// etcd's peer port asks for certificates of the etcd CA alone.
    EtcdPeerAcceptedCas,
    /// The API server asks for certificates of the cluster CA and the front-proxy CA alone.
    ApiserverAcceptedCas,
    /// The kubelet asks for certificates of the cluster CA alone.
    KubeletAcceptedCas,
    /// etcd's client port serves the certificate that the store and the node hold.
    EtcdServedCertificate,
    /// etcd's peer port answers nobody without a certificate.
    EtcdPeerWithoutCertificate,
    /// etcd's peer port speaks no plain HTTP.
    EtcdPeerPlainHttp,
    /// etcd's peer port serves the certificate that the store and the node hold.
    EtcdPeerServedCertificate,
    /// etcd refuses TLS 1.1.
    EtcdOldTls,
    /// etcd refuses CBC suites and static RSA key exchange.
    EtcdWeakCiphers,
    /// Ports of the control plane are closed to nodes that do not need them.
    ClosedToPeers,
    /// Ports of the node are closed to the operator's machine.
    ClosedToOperator,
    /// A node forwards nothing to pods and Services from an address that is in no network of the inventory.
    ForwardedToStranger,
    /// A connection to a port on which nothing listens is dropped, not answered.
    DefaultDrop,
    /// sshd offers no password to log in with.
    SshPassword,
    /// The API server answers 401 to requests without credentials.
    ApiserverAnonymous,
    /// The API server speaks no plain HTTP, and nothing listens on its old insecure port.
    ApiserverPlainHttp,
    /// The API server refuses TLS 1.1.
    ApiserverOldTls,
    /// The API server refuses CBC suites and static RSA key exchange.
    ApiserverWeakCiphers,
    /// The kubelet answers 401 to requests without credentials.
    KubeletAnonymous,
    /// The kubelet refuses CBC suites and static RSA key exchange.
    KubeletWeakCiphers,
    /// The kubelet answers 403 to a certificate that has no rights.
    KubeletWithoutRights,
    /// The certificate of the API server's health probes opens health paths alone.
    ApiserverHealthCertificate,
    /// The API server serves no profiling data, even to an administrator.
    ApiserverProfiling,
    /// The controller manager serves no profiling data.
    ControllerManagerProfiling,
    /// The scheduler serves no profiling data.
    SchedulerProfiling,
    /// A request is in the audit log, once and without the content of Secrets.
    AuditEvent,
    /// Logs of pods are read through the API server, which verifies kubelets.
    PodLogs,
    /// A program is run in a pod through the API server.
    PodExec,
    /// Pods that break the restricted standard are denied, one that fulfils it is not.
    PodSecurity,
    /// A pod with a service account that is not there is denied.
    MissingServiceAccount,
    /// Nothing is created in a namespace that is not there.
    MissingNamespace,
    /// A Service that claims external addresses is denied.
    ExternalIps,
    /// A pod that would use an image that the node has already is made to pull it.
    PullPolicy,
    /// Events pass through the plugin that limits their rate.
    EventRateLimit,
    /// A kubelet changes no other Node, and no reserved label of its own.
    NodeRestriction,
    /// A kubelet reads no Secret that its pods do not use.
    NodeAuthorizer,
    /// A service account can do no more than its roles say.
    ServiceAccountRights,
    /// Tokens that are forged, or whose service account is gone, are refused.
    ServiceAccountToken,
    /// A Secret written through the API is ciphertext in etcd.
    SecretAtRest,
    /// A flag or a setting that is in effect. Belongs to the controls that are about it.
    EffectiveSetting,
}

/// TLS 1.2 suites with forward secrecy and authenticated encryption, in the names of Kubernetes and
/// etcd. ChaCha20 has two spellings; CIS 4.2.12 knows the short one only.
pub const STRONG_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::CATALOGUE;

    #[test]
    fn every_rule_about_objects_is_in_a_row_and_has_words() {
        let mut said = std::collections::BTreeSet::new();
        for &(rule, _) in ApiRule::ALL {
            let words = rule.words();
            assert!(words.contains(' ') && !words.ends_with('.'), "{rule:?}: {words:?}");
            assert!(said.insert(words), "two rules are told in the same words: {words}");
            let used = CATALOGUE.iter().flat_map(|c| c.checks);
            let rows = used.filter(|c| matches!(c, Check::Api(r) if *r == rule)).count();
            assert_eq!(rows, 1, "{rule:?}");
        }
    }
}
