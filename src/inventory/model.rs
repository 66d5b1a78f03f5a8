//! The inventory as typed data: what the operator may write, with its defaults.
//!
//! What other files hold stands beside it, in [`Files`](super::Files). Every struct refuses unknown keys. The JSON schema of `kubastion inventory schema`
//! is derived from these types, so a field's doc comment is its reference text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::granted::Switch;
use super::hardening::{Hardening, Stage};
use super::names::{
    ClusterName, DnsDomain, Endpoint, Host, IpNetText, KubernetesVersion, NodeName, SignerKey,
};
use super::passthrough::{ComponentExtras, KubeProxyExtras, KubeletExtras};
use super::ssh::{NodeSsh, SshDefaults, SshTarget};

/// A whole inventory file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Format of this file; the only value is `kubastion/v1`.
    pub version: FormatVersion,
    /// The cluster that the nodes form.
    pub cluster: Cluster,
    /// Where the Kubernetes software comes from.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// Which controls are wanted.
    #[serde(default)]
    pub hardening: Hardening,
    /// How nodes are reached, unless a node says otherwise.
    #[serde(default)]
    pub ssh: SshDefaults,
    /// The nodes. Sorted by name after loading.
    pub nodes: Vec<Node>,
    /// Host firewall.
    #[serde(default)]
    pub firewall: Firewall,
    /// Where etcd runs.
    #[serde(default)]
    pub etcd: Etcd,
    /// API server audit log.
    #[serde(default)]
    pub audit: Audit,
    /// Encryption of Secrets at rest.
    #[serde(default)]
    pub encryption: Encryption,
    /// Keys and certificates.
    #[serde(default)]
    pub pki: Pki,
    /// Container runtime and CNI.
    #[serde(default)]
    pub runtime: Runtime,
    /// Additional settings of API servers, beyond those of controls and other keys.
    #[serde(default)]
    pub api_server: ComponentExtras,
    /// Additional settings of controller managers, beyond those of controls and other keys.
    #[serde(default)]
    pub controller_manager: ComponentExtras,
    /// Additional settings of schedulers, beyond those of controls and other keys.
    #[serde(default)]
    pub scheduler: ComponentExtras,
    /// Additional settings of kubelets, beyond those of controls and other keys.
    #[serde(default)]
    pub kubelet: KubeletExtras,
    /// Additional settings of kube-proxy, beyond those of controls and other keys.
    #[serde(default)]
    pub kube_proxy: KubeProxyExtras,
    /// Host settings outside Kubernetes.
    #[serde(default)]
    pub host: HostSettings,
}

/// Format of the inventory file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FormatVersion {
    /// The first format.
    #[serde(rename = "kubastion/v1")]
    V1,
}

/// The cluster that the nodes form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster; part of certificate subjects and kubeconfig contexts.
    pub name: ClusterName,
    /// Kubernetes release.
    pub kubernetes: KubernetesVersion,
    /// Address under which every client reaches the API servers.
    pub endpoint: Endpoint,
    /// The load balancer at the endpoint, which forwards connections to the API servers.
    #[serde(default)]
    pub load_balancer: LoadBalancer,
    /// Additional names and addresses for the API server certificate.
    #[serde(default)]
    pub extra_sans: Vec<Host>,
    /// Pod networks; one, or one IPv4 and one IPv6.
    /// With `runtime.cni: bridge`, nodes get their subnets in the order of `nodes`: add nodes at the end.
    #[serde(default = "default_pod_networks")]
    pub pod_networks: Vec<IpNetText>,
    /// Service networks, with the same address families in the same order as `pod_networks`.
    #[serde(default = "default_service_networks")]
    pub service_networks: Vec<IpNetText>,
    /// DNS domain of Services.
    #[serde(default = "default_domain")]
    pub domain: DnsDomain,
}

/// The load balancer at the endpoint, which forwards connections to the API servers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// Who runs the load balancer.
    pub mode: LoadBalancerMode,
    /// VRRP router id, 1 to 255, for `mode: managed`; it must be unique among the VRRP instances of the
    /// network. If absent, the last byte of the endpoint's address, or 51 if that is 0.
    #[schemars(range(min = 1))]
    pub virtual_router_id: Option<u8>,
    /// Interface of all control planes that gets the endpoint's address, for `mode: managed`. If
    /// absent, the interface with the node's address.
    pub interface: Option<String>,
}

/// Who runs the load balancer at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancerMode {
    /// Not kubastion: the endpoint is an external load balancer or a control plane.
    #[default]
    External,
    /// haproxy on every control plane, and keepalived, which keeps the endpoint's address on one of
    /// them. The endpoint is a free address of the nodes' network, with a port other than 6443.
    Managed,
}

/// The endpoint's address and port, where kubastion keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address that moves between control planes.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// VRRP router id (RFC 9568, 5.2.3).
    pub router_id: u8,
}

impl Cluster {
    /// The managed endpoint; none where somebody else runs it.
    pub fn virtual_address(&self) -> Option<VirtualAddress> {
        if self.load_balancer.mode != LoadBalancerMode::Managed {
            return None;
        }
        // A name is refused when the file is loaded.
        let address: IpAddr = self.endpoint.host.as_str().parse().ok()?;
        let last = match address {
            IpAddr::V4(a) => a.octets()[3],
            IpAddr::V6(a) => a.octets()[15],
        };
        let derived = if last == 0 { 51 } else { last };
        let router_id = self.load_balancer.virtual_router_id.unwrap_or(derived);
        Some(VirtualAddress { address, port: self.endpoint.port, router_id })
    }
}

/// Where the Kubernetes software comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Source of the kubelet, etcd, the container runtime and the images.
    pub source: SoftwareSource,
    /// The bundle, for `source: bundle`.
    pub bundle: BundleSource,
    /// The repository, for `source: packages`.
    pub packages: PackageSource,
}

/// Source of the Kubernetes software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoftwareSource {
    /// Nothing is installed: everything else is staged, and Kubernetes is not started.
    #[default]
    None,
    /// A signed bundle on the operator's machine; the nodes need no network.
    Bundle,
    /// The distribution's package manager, from the Kubernetes project's repositories.
    Packages,
    /// It is already on the nodes.
    Preinstalled,
}

/// A bundle and its trusted signing keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BundleSource {
    /// Directory of the bundle. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub path: Option<PathBuf>,
    /// Keys that are trusted to sign bundles; one signature is enough.
    pub signers: Vec<SignerKey>,
    /// SHA-256 of the bundle's `manifest.json`, hexadecimal. Pins one bundle: an older one signed with the
    /// same key is refused.
    pub manifest_sha256: Option<String>,
}

/// A repository of packages and the key that signs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PackageSource {
    /// URL of the repository. Default: the Kubernetes project's own for the release and the distribution
    /// (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm/>).
    pub repository: Option<String>,
    /// File with the signing key of the repository, ASCII-armored OpenPGP. Nodes refuse packages
    /// signed by any other key.
    #[schemars(extend("format" = "path"))]
    pub signing_key: Option<PathBuf>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Host name and Kubernetes node name.
    pub name: NodeName,
    /// Addresses inside the cluster; the first is the node's internal IP. One, or one per family.
    pub addresses: Vec<IpAddr>,
    /// Roles of the node.
    pub roles: Vec<Role>,
    /// Kubernetes labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints, `key=value:Effect`.
    #[serde(default)]
    pub taints: Vec<String>,
    /// Overrides of the top-level `ssh`.
    #[serde(default)]
    pub ssh: NodeSsh,
}

impl Node {
    /// Whether the node has a role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The node's internal IP.
    ///
    /// # Panics
    /// Never after validation, which refuses a node without an address.
    pub fn internal_ip(&self) -> IpAddr {
        *self.addresses.first().expect("validation refuses a node without an address")
    }
}

/// Role of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// API server, controller manager, scheduler.
    ControlPlane,
    /// A member of the etcd cluster.
    Etcd,
    /// Runs workloads.
    Worker,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Role::ControlPlane => "control-plane",
            Role::Etcd => "etcd",
            Role::Worker => "worker",
        })
    }
}

/// Host firewall: one nftables table of kubastion per node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// Whether the table drops, only logs, or is absent.
    pub mode: FirewallMode,
    /// Networks that may reach sshd and the API server. Empty: any, which `check` warns about.
    pub admin_networks: Vec<IpNetText>,
    /// Networks outside the cluster that may reach pod and Service addresses through a node. Empty: none. Node ports, host
    /// ports and load balancer addresses are opened by `extra_rules`.
    pub service_clients: Vec<IpNetText>,
    /// Rules in addition to those that follow from the roles.
    pub extra_rules: Vec<FirewallRule>,
}

/// What the firewall does with traffic that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirewallMode {
    /// Drops it.
    #[default]
    Enforce,
    /// Logs and counts it, but accepts it.
    LogOnly,
    /// No table.
    Off,
}

/// A rule that allows new connections to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// A name for comments and reports.
    pub name: String,
    /// Roles whose nodes get the rule; empty means all nodes.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Transport protocol.
    pub protocol: FirewallProtocol,
    /// Destination ports.
    pub ports: Vec<u16>,
    /// Source networks; empty means any.
    #[serde(default)]
    pub from: Vec<IpNetText>,
}

/// Transport protocol of a firewall rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirewallProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How etcd runs: as a systemd service of user `etcd`, or in the static pods of an imported cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Etcd {
    /// Which nodes are etcd members.
    pub placement: EtcdPlacement,
}

/// Which nodes are etcd members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdPlacement {
    /// The control-plane nodes.
    #[default]
    ControlPlane,
    /// The nodes with role `etcd`, which must not be control-plane nodes.
    Dedicated,
    /// The control-plane nodes, as static pods that kubeadm made: clusters that others built. They stay static pods, hardened as far
    /// as these can be: etcd runs as root.
    Stacked,
}

/// API server audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Which policy is loaded.
    pub policy: AuditPolicy,
    /// The policy file for `policy: custom`. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub file: Option<PathBuf>,
    /// Days a rotated file is kept (`--audit-log-maxage`); CIS 1.2.17 requires 30 or more.
    pub max_age_days: u32,
    /// Rotated files kept (`--audit-log-maxbackup`); CIS 1.2.18 requires 10 or more.
    pub max_backups: u32,
    /// Size in MB at which the log is rotated (`--audit-log-maxsize`); CIS 1.2.19 requires 100 or more. kube-apiserver
    /// takes 0 as never, and the log would fill the disk.
    #[schemars(range(min = 1))]
    pub max_size_mb: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            policy: AuditPolicy::Profile,
            file: None,
            max_age_days: 30,
            max_backups: 10,
            max_size_mb: 100,
        }
    }
}

/// Which audit policy is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditPolicy {
    /// `stig` under the `stig` profile, `balanced` under the others.
    #[default]
    Profile,
    /// Metadata for everything, bodies for changes to workloads and RBAC, never bodies of Secrets.
    Balanced,
    /// One RequestResponse rule. Writes Secret contents to the log.
    Stig,
    /// The file named by `file`.
    Custom,
}

/// Encryption of API objects at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Encryption {
    /// Provider that encrypts new data.
    pub provider: EncryptionProvider,
    /// Resources that are encrypted.
    pub resources: Vec<String>,
    /// Socket of the KMS plugin, `unix:///path`, for `provider: kms`. Its directory is mounted into the API server, so it must
    /// survive a restart of the plugin (in a systemd unit: `RuntimeDirectoryPreserve=yes`).
    pub kms_endpoint: Option<String>,
}

impl Encryption {
    /// The path of the KMS plugin's socket.
    pub fn kms_socket(&self) -> Option<&str> {
        self.kms_endpoint.as_deref()?.strip_prefix("unix://")
    }

    /// The directory of the KMS plugin's socket.
    pub fn kms_directory(&self) -> Option<&str> {
        let (directory, _) = self.kms_socket()?.rsplit_once('/')?;
        Some(directory).filter(|d| !d.is_empty())
    }
}

impl Default for Encryption {
    fn default() -> Self {
        Self {
            provider: EncryptionProvider::Secretbox,
            resources: vec!["secrets".into(), "configmaps".into()],
            kms_endpoint: None,
        }
    }
}

/// Encryption provider of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncryptionProvider {
    /// XSalsa20-Poly1305 with a 32-byte key.
    #[default]
    Secretbox,
    /// AES-CBC with a 32-byte key, where FIPS wording matters.
    Aescbc,
    /// A KMS v2 plugin.
    Kms,
}

/// Keys and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pki {
    /// Directory of the key store. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub dir: PathBuf,
    /// Key algorithm.
    pub algorithm: KeyAlgorithm,
    /// Lifetime of a CA certificate, in days. X.509 parsers disagree on dates more than a century away.
    #[schemars(range(min = 1, max = 36500))]
    pub ca_days: u32,
    /// Lifetime of a leaf certificate, in days.
    #[schemars(range(min = 1, max = 36500))]
    pub leaf_days: u32,
    /// A leaf certificate with fewer days left is reissued.
    pub renew_before_days: u32,
    /// Where the Kubernetes CA key is kept. The etcd and front-proxy CA keys never reach a node.
    pub ca_custody: CaCustody,
    /// Where the CAs come from.
    pub cas: CaOrigin,
    /// How the store is encrypted on the operator's disk.
    pub store: PkiStore,
}

impl Default for Pki {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("pki"),
            algorithm: KeyAlgorithm::EcdsaP256,
            ca_days: 3650,
            leaf_days: 365,
            renew_before_days: 60,
            ca_custody: CaCustody::ControlPlane,
            cas: CaOrigin::Created,
            store: PkiStore::default(),
        }
    }
}

/// Key algorithm of every key pair in the PKI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// Where the Kubernetes CA key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CaCustody {
    /// On the control-plane nodes, which CSR signing needs.
    #[default]
    ControlPlane,
    /// Only on the operator's machine; kubastion then renews the kubelet certificates.
    Operator,
}

/// Where the CAs come from, and with them the service-account key and the encryption keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CaOrigin {
    /// The first `pki ensure` or `apply` creates them.
    #[default]
    Created,
    /// The cluster had its own before: none is ever created in place of one that the key store lacks.
    Imported,
}

/// How the key store is encrypted on the operator's disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PkiStore {
    /// Encryption of private keys at rest.
    pub encryption: StoreEncryption,
    /// age recipients (`age1...`) for `encryption: age-recipients`.
    pub recipients: Vec<String>,
    /// age identity file that decrypts the store. Relative paths start at the inventory's directory.
    #[schemars(extend("format" = "path"))]
    pub identity_file: Option<PathBuf>,
    /// File with the passphrase, mode 0600, for use without a terminal.
    #[schemars(extend("format" = "path"))]
    pub passphrase_file: Option<PathBuf>,
}

/// Encryption of private keys at rest on the operator's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreEncryption {
    /// File modes only (0700 and 0600).
    #[default]
    None,
    /// age with recipients.
    AgeRecipients,
    /// age with a passphrase.
    AgePassphrase,
}

/// Container runtime and CNI.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Registry mirrors by registry name, as URLs.
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// CNI configuration.
    pub cni: Cni,
}

/// CNI configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// A bridge per node with host-local addresses; routes between nodes are added for labs.
    #[default]
    Bridge,
    /// Installed by another tool.
    None,
}

/// Host settings outside Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostSettings {
    /// Install missing packages with the distribution's package manager.
    pub packages: Switch,
    /// NTP servers, for chrony or the node's own systemd-timesyncd. If empty, the distribution's
    /// default is used.
    pub ntp_servers: Vec<Host>,
    /// Install security updates automatically.
    pub security_updates: Switch,
    /// The nodes are disposable containers of `kubastion lab`: settings that only such nodes need.
    pub lab: bool,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            packages: Switch::On,
            ntp_servers: Vec::new(),
            security_updates: Switch::On,
            lab: false,
        }
    }
}

fn default_domain() -> DnsDomain {
    "cluster.local".parse().expect("`cluster.local` is a domain")
}

fn default_pod_networks() -> Vec<IpNetText> {
    vec![IpNetText("10.244.0.0/16".parse().expect("a constant network"))]
}

fn default_service_networks() -> Vec<IpNetText> {
    vec![IpNetText("10.96.0.0/12".parse().expect("a constant network"))]
}

impl Inventory {
    /// The nodes with a role, sorted by name.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| n.has_role(role))
    }

    /// The etcd members, sorted by name: by placement the control-plane nodes or those with role `etcd`.
    pub fn etcd_members(&self) -> impl Iterator<Item = &Node> {
        let role = match self.etcd.placement {
            EtcdPlacement::ControlPlane | EtcdPlacement::Stacked => Role::ControlPlane,
            EtcdPlacement::Dedicated => Role::Etcd,
        };
        self.with_role(role)
    }

    /// Whether a node is an etcd member.
    pub fn is_etcd_member(&self, node: &Node) -> bool {
        self.etcd_members().any(|m| m.name == node.name)
    }

    /// Whether the cluster is only observed, and nothing of it is hardened yet.
    pub fn observes(&self) -> bool {
        self.hardening.stage == Some(Stage::Observe)
    }

    /// What the firewall does with what no rule lets in: as `firewall.mode` says, and no more than log it while the cluster is
    /// observed.
    pub fn firewall_mode(&self) -> FirewallMode {
        match self.firewall.mode {
            FirewallMode::Enforce if self.observes() => FirewallMode::LogOnly,
            mode => mode,
        }
    }

    /// Whether etcd's members are static pods of kubeadm's.
    pub fn has_stacked_etcd(&self) -> bool {
        self.etcd.placement == EtcdPlacement::Stacked
    }

    /// Whether others count on a node: it is a control plane or an etcd member.
    pub fn serves(&self, node: &Node) -> bool {
        node.has_role(Role::ControlPlane) || self.is_etcd_member(node)
    }
}

impl SshDefaults {
    /// What holds for one node: its overrides over these defaults.
    pub fn for_node(&self, node: &Node) -> SshTarget {
        self.with(&node.ssh, node.internal_ip())
    }
}
