//! Inputs of templates/host.

use serde::Serialize;

use crate::render::{Input, Text};

macro_rules! input {
    ($type:ty, $path:literal) => {
        impl Input for $type {
            const TEMPLATE: &'static str = $path;
            const NAME: &'static str = stringify!($type);
        }
    };
}
pub(super) use input;

/// sysctl.d(5).
#[derive(Debug, Clone, Serialize)]
pub struct Sysctl {
    /// In the order of the file.
    pub settings: Vec<SysctlSetting>,
}
input!(Sysctl, "host/sysctl.conf");

/// A kernel setting.
#[derive(Debug, Clone, Serialize)]
pub struct SysctlSetting {
    /// Dotted key.
    pub key: Text,
    /// Value.
    pub value: Text,
}

/// modules-load.d(5).
#[derive(Debug, Clone, Serialize)]
pub struct Modules {
    /// Module names.
    pub modules: Vec<Text>,
}
input!(Modules, "host/modules.conf");

/// The nftables table.
#[derive(Debug, Clone, Serialize)]
pub struct Firewall {
    /// Whether traffic is dropped; logged and let through otherwise.
    pub enforce: bool,
    /// Policy of the input chain.
    pub policy: Policy,
    /// Named address sets; none is empty.
    pub sets: Vec<AddressSet>,
    /// What is let in, beside what every host needs.
    pub input: Vec<Rule>,
    /// Whether the node has a kubelet, and so node ports.
    pub kubernetes: bool,
    /// Single node ports that are open by a rule of the inventory.
    pub nodeports: Vec<Rule>,
    /// Who may reach all node ports.
    pub nodeport_sources: Vec<Source>,
    /// Those of them who are not of the cluster.
    pub nodeport_clients: Vec<Source>,
    /// Who may reach pods and Services through the node: pods, nodes, and whom the inventory names.
    pub inside: Vec<Source>,
    /// Networks of pods and Services.
    pub cluster: Vec<Source>,
    /// Networks of pods.
    pub pods: Vec<Source>,
    /// Networks of Services.
    pub services: Vec<Source>,
    /// Ports of the node that are open by a rule of the inventory, also where a pod answers at them.
    pub forwarded: Vec<Rule>,
    /// Metadata services that pods may not reach.
    pub metadata: Vec<Blocked>,
}
input!(Firewall, "host/firewall.nft");

/// Policy of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Let through.
    Accept,
    /// Drop.
    Drop,
}

/// A named set of addresses and networks of one family.
#[derive(Debug, Clone, Serialize)]
pub struct AddressSet {
    /// Its name.
    pub name: Text,
    /// Its family.
    pub kind: AddressKind,
    /// Sorted addresses and networks.
    pub elements: Vec<Text>,
    /// The same, for whoever asks who is in it.
    #[serde(skip)]
    pub networks: Vec<ipnet::IpNet>,
}

/// Family of an address set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressKind {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A rule that lets new connections in.
#[derive(Debug, Clone, Serialize)]
pub struct Rule {
    /// From where.
    pub from: Source,
    /// Transport protocol, or an IP protocol without ports.
    pub protocol: Protocol,
    /// Destination ports; none for a protocol without ports.
    pub ports: Vec<u16>,
    /// What for.
    pub comment: Text,
}

/// Protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// IP in IP (protocol 4), as some CNIs use between nodes.
    #[serde(rename = "4")]
    IpIp,
    /// VRRP (protocol 112, RFC 9568), by which control planes agree on who has the endpoint.
    #[serde(rename = "112")]
    Vrrp,
}

/// Source of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Whether a set is named, and of which family.
    pub kind: SourceKind,
    /// Name of the set; empty for any source.
    pub set: Text,
}

impl Source {
    /// Any source.
    pub fn any() -> Self {
        Self { kind: SourceKind::Any, set: Text::default() }
    }
}

/// Family of a source, as nftables names it in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// No restriction.
    Any,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A destination that pods may not reach, but for a name server there.
#[derive(Debug, Clone, Serialize)]
pub struct Blocked {
    /// The pods.
    pub from: Source,
    /// The destination.
    pub to: Text,
    /// Whether a name server answers there, too.
    pub names: bool,
}

/// Drop-in of sshd_config(5).
#[derive(Debug, Clone, Serialize)]
pub struct Sshd {
    /// Whether root may log in.
    pub root_login: RootLogin,
    /// Attempts per connection.
    pub max_auth_tries: u8,
    /// Seconds to log in.
    pub login_grace_s: u16,
    /// Whether connections may be forwarded.
    pub tcp_forwarding: TcpForwarding,
}
input!(Sshd, "host/sshd.conf");

/// `PermitRootLogin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootLogin {
    /// Not at all.
    No,
    /// With a key.
    ProhibitPassword,
}

/// `AllowTcpForwarding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpForwarding {
    /// Not at all.
    No,
    /// Towards other hosts, which a jump host has to.
    Local,
}

/// auditctl(8) rules.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRules {
    /// Watched paths.
    pub watches: Vec<AuditWatch>,
}
input!(AuditRules, "host/audit.rules");

/// A watched path.
#[derive(Debug, Clone, Serialize)]
pub struct AuditWatch {
    /// Absolute path.
    pub path: Text,
    /// Which accesses are recorded.
    pub permissions: AuditPermissions,
    /// Key for ausearch(8).
    pub key: Text,
}

/// Accesses that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditPermissions {
    /// Writing and changes of attributes.
    Wa,
    /// Changes of attributes.
    A,
    /// Execution.
    X,
}

/// Time servers as a drop-in of chrony.conf(5).
#[derive(Debug, Clone, Serialize)]
pub struct ChronyServers {
    /// Names or addresses.
    pub servers: Vec<Text>,
}
input!(ChronyServers, "host/chrony-servers.conf");

/// A whole chrony.conf(5).
#[derive(Debug, Clone, Serialize)]
pub struct ChronyWhole {
    /// Names or addresses.
    pub servers: Vec<Text>,
}
input!(ChronyWhole, "host/chrony-whole.conf");

/// Time servers as a drop-in of timesyncd.conf(5).
#[derive(Debug, Clone, Serialize)]
pub struct TimesyncdServers {
    /// Names or addresses.
    pub servers: Vec<Text>,
}
input!(TimesyncdServers, "host/timesyncd.conf");

/// Settings of unattended-upgrades.
#[derive(Debug, Clone, Serialize)]
pub struct AptUpdates {
    /// Packages that are not updated by themselves.
    pub held: Vec<Text>,
}
input!(AptUpdates, "host/apt-updates.conf");

/// Settings of dnf-automatic.
#[derive(Debug, Clone, Serialize)]
pub struct DnfAutomatic {
    /// Packages that are not updated by themselves.
    pub held: Vec<Text>,
}
input!(DnfAutomatic, "host/dnf-automatic.conf");

/// Version of Kubernetes' packages that apt keeps to.
#[derive(Debug, Clone, Serialize)]
pub struct KubernetesPin {
    /// As in `1.36.2`.
    pub version: Text,
}
input!(KubernetesPin, "host/kubernetes.pref");

/// apt's source of Kubernetes' packages.
#[derive(Debug, Clone, Serialize)]
pub struct KubernetesSources {
    /// URL.
    pub repository: Text,
    /// Path of the signing key on the node.
    pub key: Text,
}
input!(KubernetesSources, "host/kubernetes.sources");

/// dnf's source of Kubernetes' packages.
#[derive(Debug, Clone, Serialize)]
pub struct KubernetesRepo {
    /// URL.
    pub repository: Text,
    /// Path of the signing key on the node.
    pub key: Text,
}
input!(KubernetesRepo, "host/kubernetes.repo");
