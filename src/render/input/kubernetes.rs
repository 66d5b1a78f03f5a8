//! Inputs of templates/kubeadm, templates/kubelet and templates/apiserver.

use serde::Serialize;

use super::etcd::Flag;
use super::host::input;
use crate::render::{Input, Text};

/// kubeadm's InitConfiguration.
#[derive(Debug, Clone, Serialize)]
pub struct KubeadmInit {
    /// Address of this API server.
    pub advertise_address: Text,
    /// Port of this API server.
    pub bind_port: u16,
    /// The node.
    pub node: Registration,
    /// Directory of kubeadm patches.
    pub patches: Text,
}
input!(KubeadmInit, "kubeadm/init.yaml");

/// kubeadm's JoinConfiguration.
#[derive(Debug, Clone, Serialize)]
pub struct KubeadmJoin {
    /// What the node joins as.
    pub kind: JoinKind,
    /// Kubeconfig that says where the cluster is.
    pub discovery: Text,
    /// Address of this API server, on a control plane.
    pub advertise_address: Text,
    /// Port of this API server, on a control plane.
    pub bind_port: u16,
    /// The node.
    pub node: Registration,
    /// Directory of kubeadm patches.
    pub patches: Text,
}
input!(KubeadmJoin, "kubeadm/join.yaml");

/// As much of kubeadm's ClusterConfiguration as the kubelet of a member needs: what the control plane
/// is started with is no business of it, and a change there no reason to restart it.
#[derive(Debug, Clone, Serialize)]
pub struct KubeadmMember {
    /// With the leading `v`.
    pub kubernetes_version: Text,
    /// A directory that is not there.
    pub no_certificates: Text,
}
input!(KubeadmMember, "kubeadm/member.yaml");

/// kubeadm's UpgradeConfiguration.
#[derive(Debug, Clone, Serialize)]
pub struct KubeadmUpgrade {
    /// Directory of kubeadm patches.
    pub patches: Text,
    /// Preflight checks of kubeadm whose findings are known and meant.
    pub ignored_preflight: Vec<Text>,
}
input!(KubeadmUpgrade, "kubeadm/upgrade.yaml");

/// kubeadm patch of the API server's static pod.
#[derive(Debug, Clone, Serialize)]
pub struct ReadAtStart {
    /// Digest of what the files hold, hexadecimal.
    pub digest: Text,
}
input!(ReadAtStart, "kubeadm/read-at-start.yaml");

/// What a node joins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinKind {
    /// With an API server of its own.
    ControlPlane,
    /// Without.
    Worker,
}

/// How a node registers itself.
#[derive(Debug, Clone, Serialize)]
pub struct Registration {
    /// Node name.
    pub name: Text,
    /// Taints; none means none, not kubeadm's default.
    pub taints: Vec<Taint>,
    /// Flags of the kubelet.
    pub kubelet_args: Vec<Flag>,
    /// Preflight checks of kubeadm whose findings are known and meant.
    pub ignored_preflight: Vec<Text>,
}

/// A taint.
#[derive(Debug, Clone, Serialize)]
pub struct Taint {
    /// Key.
    pub key: Text,
    /// Value, may be empty.
    pub value: Text,
    /// Effect.
    pub effect: Text,
}

/// kubeadm's ClusterConfiguration.
#[derive(Debug, Clone, Serialize)]
pub struct KubeadmCluster {
    /// Name.
    pub cluster_name: Text,
    /// `v1.MINOR.PATCH`.
    pub kubernetes_version: Text,
    /// Endpoint of all API servers, `host:port`.
    pub endpoint: Text,
    /// For certificates that kubeadm itself issues.
    pub algorithm: KubeadmAlgorithm,
    /// Hours.
    pub leaf_hours: u32,
    /// Hours.
    pub ca_hours: u32,
    /// DNS domain.
    pub domain: Text,
    /// Pod networks with commas.
    pub pod_subnets: Text,
    /// Service networks with commas.
    pub service_subnets: Text,
    /// Where etcd runs.
    pub etcd: EtcdTopology,
    /// Names in the API server's certificate beside kubeadm's own.
    pub cert_sans: Vec<Text>,
    /// Flags.
    pub apiserver_args: Vec<Flag>,
    /// Directories that the API server sees.
    pub apiserver_volumes: Vec<Volume>,
    /// Flags.
    pub controller_manager_args: Vec<Flag>,
    /// Files and directories that the controller manager sees.
    pub controller_manager_volumes: Vec<Volume>,
    /// Flags.
    pub scheduler_args: Vec<Flag>,
    /// Files that the scheduler sees.
    pub scheduler_volumes: Vec<Volume>,
}
input!(KubeadmCluster, "kubeadm/cluster.yaml");

/// Where kubeadm finds etcd, or how it runs it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EtcdTopology {
    /// It is somebody else's business.
    External {
        /// Clients' URLs.
        endpoints: Vec<Text>,
    },
    /// As a static pod beside each API server.
    Local {
        /// Directory of the data.
        data_dir: Text,
        /// Its image.
        image: EtcdImage,
        /// Flags.
        args: Vec<Flag>,
    },
}

/// The image of a static pod of etcd.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EtcdImage {
    /// What the release of kubeadm takes.
    OfKubeadm,
    /// What runs.
    Named {
        /// Without the image's own name.
        repository: Text,
        /// Tag.
        tag: Text,
    },
}

/// `encryptionAlgorithm` of kubeadm v1beta4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum KubeadmAlgorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    /// RSA with 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA with 4096 bits.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

/// A directory or file of the host in a static pod.
#[derive(Debug, Clone, Serialize)]
pub struct Volume {
    /// Name.
    pub name: Text,
    /// Path on the host.
    pub path: Text,
    /// Path in the pod. Of what is ours it is the same: scanners open a flag's path on the host.
    pub mount: Text,
    /// Read only.
    pub read_only: bool,
    /// `pathType`.
    pub kind: VolumeKind,
}

/// Type of a hostPath volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum VolumeKind {
    /// A directory that must be there.
    Directory,
    /// A directory that is made if it is not there.
    DirectoryOrCreate,
    /// A file that must be there.
    File,
    /// A file that is made if it is not there.
    FileOrCreate,
    /// A socket that must be there.
    Socket,
    /// Whatever is there.
    Unset,
}

/// The configuration of a component that kubeadm hands on to every node.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentConfig {
    /// Which one.
    pub kind: ComponentKind,
    /// Its lines, those of a section after the section's own.
    pub settings: Vec<Setting>,
    /// Whether the nodes are containers of a lab.
    pub lab: bool,
}
input!(ComponentConfig, "kubeadm/component.yaml");

/// A kind of component configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(clippy::enum_variant_names)] // as Kubernetes calls them
pub enum ComponentKind {
    /// The kubelet's.
    KubeletConfiguration,
    /// kube-proxy's.
    KubeProxyConfiguration,
}

/// A line of a document of settings.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// How many sections it is in; two at most.
    pub depth: usize,
    /// Its key.
    pub key: Text,
    /// Its value.
    #[serde(flatten)]
    pub shape: Shape,
}

/// A value of a setting.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "shape", content = "value", rename_all = "kebab-case")]
pub enum Shape {
    /// None of its own: what it holds follows.
    Section,
    /// A truth value.
    Switch(bool),
    /// A number.
    Number(i64),
    /// A string of ours, that needs no quotes.
    Word(Text),
    /// Any string.
    Quoted(Text),
    /// Strings of ours, that need no quotes.
    Words(Vec<Text>),
    /// Any strings.
    List(Vec<Text>),
    /// Anything, on one line.
    Flow(Vec<FlowPart>),
}

/// A part of a value on one line, which is JSON and so YAML too.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "part", content = "value", rename_all = "kebab-case")]
pub enum FlowPart {
    /// What stands between values.
    Mark(FlowMark),
    /// Any string.
    Text(Text),
    /// A truth value.
    Switch(bool),
    /// A number.
    Number(serde_json::Number),
}

/// What stands between the values on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowMark {
    /// Nothing.
    Null,
    /// A list begins.
    ListBegins,
    /// A list ends.
    ListEnds,
    /// A mapping begins.
    MappingBegins,
    /// A mapping ends.
    MappingEnds,
    /// Between a key and its value.
    Is,
    /// Between two values.
    Next,
}

/// kubeadm patch of the kubelet's configuration.
#[derive(Debug, Clone, Serialize)]
pub struct KubeletPatch {
    /// Whether the node runs no static pods.
    pub remove_static_pods: bool,
    /// Memory in MiB that pods leave to Kubernetes' daemons, and as much to the others.
    pub reserved_mib: u64,
    /// The node's own file with the name servers that pods are given.
    pub resolv_conf: Text,
}
input!(KubeletPatch, "kubelet/patch.yaml");

/// Drop-in of the kubelet's unit.
#[derive(Debug, Clone, Serialize)]
pub struct KubeletDropIn {
    /// The distribution's own file with variables of the unit.
    pub variables: Text,
    /// The kubelet.
    pub program: Text,
}
input!(KubeletDropIn, "kubelet/10-kubeadm.conf");

/// kubeadm patch of the API server's probes, with a program that has a client certificate.
#[derive(Debug, Clone, Serialize)]
pub struct ApiserverExecProbes {
    /// Path of the program on the node and in the container.
    pub program: Text,
    /// Address and port of the API server.
    pub server: Text,
}
input!(ApiserverExecProbes, "apiserver/probes-exec.yaml");

/// kubeadm patch of the API server's probes, where there is no program for the node.
#[derive(Debug, Clone, Serialize)]
pub struct ApiserverProbes {
    /// Address of the API server.
    pub host: Text,
    /// Port of the API server.
    pub port: u16,
}
input!(ApiserverProbes, "apiserver/probes.yaml");

/// kubeadm patch of a control-plane container.
#[derive(Debug, Clone, Serialize)]
pub struct SecurityContext {
    /// Which one.
    pub component: ControlPlaneComponent,
}
input!(SecurityContext, "kubeadm/security-context.yaml");

/// A control-plane component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlPlaneComponent {
    /// API server.
    KubeApiserver,
    /// Controller manager.
    KubeControllerManager,
    /// Scheduler.
    KubeScheduler,
    /// etcd, where it is a static pod.
    Etcd,
}

/// What is done with pods that are not of the restricted standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PodSecurityMode {
    /// They are refused.
    Enforce,
    /// Whoever makes one is warned, and it is recorded.
    Warn,
    /// Nothing.
    Off,
}

/// AdmissionConfiguration.
#[derive(Debug, Clone, Serialize)]
pub struct Admission {
    /// Control apiserver-admission-eventratelimit.
    pub event_rate_limit: bool,
    /// Control policy-pod-security.
    pub pod_security: PodSecurityMode,
    /// Namespaces that pod security leaves alone.
    pub exempt_namespaces: Vec<Text>,
}
input!(Admission, "apiserver/admission.yaml");

/// EncryptionConfiguration. The keys stand in it as names; see `render_secret`.
#[derive(Debug, Clone, Serialize)]
pub struct EncryptionConfig {
    /// Encrypted resources, those with the same providers together.
    pub entries: Vec<EncryptedResources>,
    /// Provider.
    pub provider: Provider,
    /// Name of the KMS plugin.
    pub kms_name: Text,
    /// Socket of the KMS plugin; empty without one.
    pub kms_endpoint: Text,
    /// Keys, the one that writes first.
    pub keys: Vec<NamedKey>,
}
input!(EncryptionConfig, "apiserver/encryption.yaml");

/// Resources with the same providers.
#[derive(Debug, Clone, Serialize)]
pub struct EncryptedResources {
    /// Their names.
    pub resources: Vec<Text>,
    /// Where plain text stands among the providers.
    pub identity: Identity,
}

/// Where plain text stands among the providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// It is not read.
    None,
    /// It is written, and read.
    First,
    /// It is read.
    Last,
}

/// Encryption provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// XSalsa20-Poly1305.
    Secretbox,
    /// AES-CBC.
    Aescbc,
    /// A KMS v2 plugin.
    Kms,
}

/// A key by name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedKey {
    /// Its name, part of every encrypted value.
    pub name: Text,
    /// What stands for the key.
    pub secret: Text,
}
