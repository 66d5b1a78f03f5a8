//! Every key of the inventory, and what another value of it does to a cluster that runs.
//!
//! Whoever adds a key is asked for its row here, and so for what it would do to stored data, to the checks that know the
//! value before, and to running pods.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Schema;

use crate::clock::Clock;
use crate::controls::ids;
use crate::desired::tests::facts as bare_facts;
use crate::desired::{self, ItemKind, NodeDesired, Shared};
use crate::facts::{FileFacts, InterfaceAddress, NodeFacts};
use crate::inventory::{
    Acknowledged, AllowedKind, AllowedObject, AnyValue, ArgumentValues, AuditPolicy, CaCustody,
    CaOrigin, Cni, ControlSwitch, EncryptionProvider, EtcdPlacement, Exception, ExtraVolume, Files,
    FirewallMode, FirewallProtocol, FirewallRule, Inventory, JumpHost, KeyAlgorithm,
    LoadBalancerMode, LoadContext, Loaded, PathType, Pki, PkiStore, PodLevel, PodSecurityExemption,
    Profile, Role, SoftwareSource, Stage, StoreEncryption, Sudo, Switch, SwitchedOff, load_bytes,
    schema,
};
use crate::pki::{self, Material, PkiError};
use crate::plan::diff::{CLUSTER_MARK, KUBELET_CONFIG};
use crate::plan::stored_data::{
    APISERVER_POD, CONTROLLER_MANAGER_POD, ENCRYPTION, ETCD_DATA_MARK, ETCD_MEMBER,
};
use crate::plan::{Answered, FleetFacts, planner};

/// What another value does to a running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The next plan changes nodes.
    Planned,
    /// No plan is made for some nodes: it would lose data, or move what runs.
    Refused,
    /// Nodes get what they had. Why.
    NotOnNodes(&'static str),
}
use Effect::{NotOnNodes, Planned, Refused};

/// How a key gets another value.
type Change = fn(&mut Inventory);

const WAY_IN: &str = "how the operator gets to the node";
const JUDGED: &str = "what is judged, and how";
const GRANT: &str = "who may deviate, until when; read by checks and reports";
const GATE: &str = "when a cluster is hardened that is only observed (`impact::gate_tests`)";
const KEYS_OF_THE_OPERATOR: &str = "how keys lie on the operator's disk";
const OF_A_BUNDLE: &str =
    "which bundle is read; what is in it is what nodes get (`desired::tests::bundled`)";

/// A cluster with something of everything.
const RUNNING: &str = r#"
version: kubastion/v1
cluster:
  name: keys
  kubernetes: 1.36.2
  endpoint: api.example:6443
  pod_networks: [10.244.0.0/16]
  service_networks: [10.96.0.0/16]
kubernetes: { source: preinstalled }
hardening:
  stage: enforce
  acknowledged:
    - { item: flows/a, reason: a reason, owner: ops, expires: 2026-02-15 }
  exceptions:
    - { control: host-auditd, nodes: [cp-1], reason: a reason, owner: ops, expires: 2026-02-15 }
  allowed_objects:
    - { kind: CSIDriver, name: csi.example, reason: a reason, owner: ops, expires: 2026-02-15 }
  pod_security:
    exemptions:
      - { namespace: storage, level: baseline, reason: a reason, owner: ops, expires: 2026-02-15 }
  controls:
    kubelet-pod-pids-limit: { state: off, reason: a reason, owner: ops, expires: 2026-02-15 }
ssh: { user: ops, sudo: passwordless, agent: true, known_hosts: kh, jump: [{ host: bastion.example }] }
firewall:
  admin_networks: [192.0.2.0/24]
  extra_rules: [{ name: metrics, roles: [worker], protocol: tcp, ports: [9100], from: [192.0.2.9/32] }]
etcd: { placement: dedicated }
runtime: { cni: bridge }
api_server: { extra_volumes: [{ name: oidc, host_path: /etc/oidc }] }
host: { ntp_servers: [ntp.example] }
nodes:
  - { name: cp-1, addresses: [192.0.2.11], roles: [control-plane] }
  - { name: e-1, addresses: [192.0.2.31], roles: [etcd] }
  - { name: w-1, addresses: [192.0.2.21], roles: [worker] }
"#;

/// Every key, in the order of the schema.
#[rustfmt::skip]
const KEYS: &[(&str, Effect, Change)] = &[
    ("version", NotOnNodes("there is one"), |_| ()),
    ("cluster.name", Refused, |i| i.cluster.name = "other".parse().unwrap()),
    ("cluster.kubernetes", Refused, |i| i.cluster.kubernetes.patch = 3),
    ("cluster.endpoint", Planned, |i| i.cluster.endpoint = "other.example:6443".parse().unwrap()),
    ("cluster.load_balancer.mode", Planned, managed),
    ("cluster.load_balancer.virtual_router_id", Planned, |i| { managed(i); i.cluster.load_balancer.virtual_router_id = Some(9); }),
    ("cluster.load_balancer.interface", Planned, |i| { managed(i); i.cluster.load_balancer.interface = Some("ens9".into()); }),
    ("cluster.extra_sans", Planned, |i| i.cluster.extra_sans = vec!["203.0.113.7".parse().unwrap()]),
    ("cluster.pod_networks", Refused, |i| i.cluster.pod_networks = vec![net("10.200.0.0/16")]),
    ("cluster.service_networks", Refused, |i| i.cluster.service_networks = vec![net("10.97.0.0/16")]),
    ("cluster.domain", Refused, |i| i.cluster.domain = "other.local".parse().unwrap()),
    ("kubernetes.source", Planned, |i| i.kubernetes.source = SoftwareSource::None),
    ("kubernetes.bundle.path", NotOnNodes(OF_A_BUNDLE), |i| i.kubernetes.bundle.path = Some("rel/b".into())),
    ("kubernetes.bundle.signers", NotOnNodes(OF_A_BUNDLE), |_| ()),
    ("kubernetes.bundle.manifest_sha256", NotOnNodes(OF_A_BUNDLE), |i| i.kubernetes.bundle.manifest_sha256 = Some("a".repeat(64))),
    ("kubernetes.packages.repository", Planned, |i| { packages(i); i.kubernetes.packages.repository = Some("https://other.example/".into()); }),
    ("kubernetes.packages.signing_key", Planned, packages),
    ("hardening.profile", Planned, |i| i.hardening.profile = Profile::Stig),
    ("hardening.controls.*.state", Planned, |i| *off(i) = Switch::On.into()),
    ("hardening.controls.*.reason", NotOnNodes(GRANT), |i| granted(i).reason = "another".into()),
    ("hardening.controls.*.owner", NotOnNodes(GRANT), |i| granted(i).owner = "another".into()),
    ("hardening.controls.*.expires", NotOnNodes(GRANT), |i| granted(i).expires = "2026-02-16".into()),
    ("hardening.exceptions[].control", NotOnNodes(JUDGED), |i| exception(i).control = "host-time-sync".into()),
    ("hardening.exceptions[].check", NotOnNodes(JUDGED), |i| exception(i).check = None),
    ("hardening.exceptions[].nodes", NotOnNodes(JUDGED), |i| exception(i).nodes = vec!["e-1".parse().unwrap()]),
    ("hardening.exceptions[].reason", NotOnNodes(GRANT), |i| exception(i).reason = "another".into()),
    ("hardening.exceptions[].owner", NotOnNodes(GRANT), |i| exception(i).owner = "another".into()),
    ("hardening.exceptions[].expires", NotOnNodes(GRANT), |i| exception(i).expires = "2026-02-16".into()),
    ("hardening.stage", Refused, |i| i.hardening.stage = Some(Stage::Observe)),
    ("hardening.observe_minutes", NotOnNodes(GATE), |i| i.hardening.observe_minutes = 7),
    ("hardening.acknowledged[].item", NotOnNodes(GATE), |i| acknowledged(i).item = "flows/b".into()),
    ("hardening.acknowledged[].reason", NotOnNodes(GRANT), |i| acknowledged(i).reason = "another".into()),
    ("hardening.acknowledged[].owner", NotOnNodes(GRANT), |i| acknowledged(i).owner = "another".into()),
    ("hardening.acknowledged[].expires", NotOnNodes(GRANT), |i| acknowledged(i).expires = "2026-02-16".into()),
    ("hardening.pod_security.exemptions[].namespace", NotOnNodes(JUDGED), |i| exemption(i).namespace = "other".into()),
    ("hardening.pod_security.exemptions[].level", NotOnNodes(JUDGED), |i| exemption(i).level = PodLevel::Privileged),
    ("hardening.pod_security.exemptions[].workloads", NotOnNodes(JUDGED), |i| exemption(i).workloads = vec!["DaemonSet/a".into()]),
    ("hardening.pod_security.exemptions[].reason", NotOnNodes(GRANT), |i| exemption(i).reason = "another".into()),
    ("hardening.pod_security.exemptions[].owner", NotOnNodes(GRANT), |i| exemption(i).owner = "another".into()),
    ("hardening.pod_security.exemptions[].expires", NotOnNodes(GRANT), |i| exemption(i).expires = "2026-02-16".into()),
    ("hardening.allowed_objects[].kind", NotOnNodes(JUDGED), |i| allowed(i).kind = AllowedKind::FlowSchema),
    ("hardening.allowed_objects[].name", NotOnNodes(JUDGED), |i| allowed(i).name = "other".into()),
    ("hardening.allowed_objects[].reason", NotOnNodes(GRANT), |i| allowed(i).reason = "another".into()),
    ("hardening.allowed_objects[].owner", NotOnNodes(GRANT), |i| allowed(i).owner = "another".into()),
    ("hardening.allowed_objects[].expires", NotOnNodes(GRANT), |i| allowed(i).expires = "2026-02-16".into()),
    ("hardening.service_account_token_hours", Planned, |i| i.hardening.service_account_token_hours = 48),
    ("ssh.user", Planned, |i| { i.ssh.user = "root".parse().unwrap(); i.ssh.sudo = Sudo::None; }),
    ("ssh.port", Planned, |i| i.ssh.port = 2222),
    ("ssh.key_file", NotOnNodes(WAY_IN), |i| i.ssh.key_file = Some("rel/id".into())),
    ("ssh.agent", NotOnNodes(WAY_IN), |i| { i.ssh.agent = false; i.ssh.key_file = Some("rel/id".into()); }),
    ("ssh.sudo", NotOnNodes(WAY_IN), |i| i.ssh.sudo = Sudo::Password),
    ("ssh.jump[].host", NotOnNodes(WAY_IN), |i| i.ssh.jump[0].host = "other.example".parse().unwrap()),
    ("ssh.jump[].port", NotOnNodes(WAY_IN), |i| i.ssh.jump[0].port = 2222),
    ("ssh.jump[].user", NotOnNodes(WAY_IN), |i| i.ssh.jump[0].user = Some("jumper".parse().unwrap())),
    ("ssh.jump[].key_file", NotOnNodes(WAY_IN), |i| i.ssh.jump[0].key_file = Some("rel/jump".into())),
    ("ssh.jump[].host_keys", NotOnNodes(WAY_IN), |i| i.ssh.jump[0].host_keys = vec![host_key()]),
    ("ssh.known_hosts", NotOnNodes(WAY_IN), |i| i.ssh.known_hosts = Some("rel/kh".into())),
    ("ssh.connect_timeout_s", NotOnNodes(WAY_IN), |i| i.ssh.connect_timeout_s = 3),
    ("nodes[].name", Refused, |i| i.nodes[2].name = "w-9".parse().unwrap()),
    ("nodes[].addresses", Refused, |i| i.nodes[2].addresses = vec!["192.0.2.99".parse().unwrap()]),
    ("nodes[].roles", Refused, |i| i.nodes[2].roles.push(Role::ControlPlane)),
    ("nodes[].labels", Planned, |i| { i.nodes[2].labels.insert("zone".into(), "b".into()); }),
    ("nodes[].taints", Planned, |i| i.nodes[2].taints = vec!["dedicated=x:NoSchedule".into()]),
    ("nodes[].ssh.host", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.host = Some("w.example".parse().unwrap())),
    ("nodes[].ssh.user", Planned, |i| { i.nodes[2].ssh.user = Some("root".parse().unwrap()); i.nodes[2].ssh.sudo = Some(Sudo::None); }),
    ("nodes[].ssh.port", Planned, |i| i.nodes[2].ssh.port = Some(2222)),
    ("nodes[].ssh.key_file", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.key_file = Some("rel/w".into())),
    ("nodes[].ssh.agent", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.agent = Some(true)),
    ("nodes[].ssh.sudo", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.sudo = Some(Sudo::Password)),
    ("nodes[].ssh.jump[].host", NotOnNodes(WAY_IN), |i| own_jump(i).host = "other.example".parse().unwrap()),
    ("nodes[].ssh.jump[].port", NotOnNodes(WAY_IN), |i| own_jump(i).port = 2222),
    ("nodes[].ssh.jump[].user", NotOnNodes(WAY_IN), |i| own_jump(i).user = Some("jumper".parse().unwrap())),
    ("nodes[].ssh.jump[].key_file", NotOnNodes(WAY_IN), |i| own_jump(i).key_file = Some("rel/jump".into())),
    ("nodes[].ssh.jump[].host_keys", NotOnNodes(WAY_IN), |i| own_jump(i).host_keys = vec![host_key()]),
    ("nodes[].ssh.host_keys", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.host_keys = vec![host_key()]),
    ("nodes[].ssh.known_hosts", NotOnNodes(WAY_IN), |i| i.nodes[2].ssh.known_hosts = Some("rel/kh".into())),
    ("firewall.mode", Refused, |i| i.firewall.mode = FirewallMode::LogOnly),
    ("firewall.admin_networks", Planned, |i| i.firewall.admin_networks = vec![net("198.51.100.0/24")]),
    ("firewall.service_clients", Planned, |i| i.firewall.service_clients = vec![net("198.51.100.0/24")]),
    ("firewall.extra_rules[].name", Planned, |i| rule(i).name = "other".into()),
    ("firewall.extra_rules[].roles", Planned, |i| rule(i).roles = vec![Role::ControlPlane]),
    ("firewall.extra_rules[].protocol", Planned, |i| rule(i).protocol = FirewallProtocol::Udp),
    ("firewall.extra_rules[].ports", Planned, |i| rule(i).ports = vec![9101]),
    ("firewall.extra_rules[].from", Planned, |i| rule(i).from = Vec::new()),
    ("etcd.placement", Refused, |i| { i.etcd.placement = EtcdPlacement::ControlPlane; i.nodes[1].roles = vec![Role::Worker]; }),
    ("audit.policy", Planned, |i| i.audit.policy = AuditPolicy::Stig),
    ("audit.file", Planned, |i| { i.audit.policy = AuditPolicy::Custom; i.audit.file = Some("rel/policy.yaml".into()); }),
    ("audit.max_age_days", Planned, |i| i.audit.max_age_days = 60),
    ("audit.max_backups", Planned, |i| i.audit.max_backups = 20),
    ("audit.max_size_mb", Planned, |i| i.audit.max_size_mb = 200),
    ("encryption.provider", Refused, |i| i.encryption.provider = EncryptionProvider::Aescbc),
    ("encryption.resources", Planned, |i| i.encryption.resources.push("events".into())),
    ("encryption.kms_endpoint", Refused, |i| { i.encryption.provider = EncryptionProvider::Kms; i.encryption.kms_endpoint = Some("unix:///run/kms/s".into()); }),
    ("pki.dir", NotOnNodes("where the operator keeps the keys; other keys are refused (`a_node_of_another_cluster_is_refused`)"), |i| i.pki.dir = "rel/pki".into()),
    ("pki.algorithm", Planned, |i| i.pki.algorithm = KeyAlgorithm::EcdsaP384),
    ("pki.ca_days", Planned, |i| i.pki.ca_days = 3000),
    ("pki.leaf_days", Planned, |i| i.pki.leaf_days = 200),
    ("pki.renew_before_days", NotOnNodes("when the key store issues anew (`pki::ensure`)"), |i| i.pki.renew_before_days = 30),
    ("pki.ca_custody", Planned, |i| i.pki.ca_custody = CaCustody::Operator),
    ("pki.cas", NotOnNodes("whether the key store creates what it lacks (`pki::ensure`)"), |i| i.pki.cas = CaOrigin::Imported),
    ("pki.store.encryption", NotOnNodes(KEYS_OF_THE_OPERATOR), |i| i.pki.store.encryption = StoreEncryption::AgePassphrase),
    ("pki.store.recipients", NotOnNodes(KEYS_OF_THE_OPERATOR), |_| ()),
    ("pki.store.identity_file", NotOnNodes(KEYS_OF_THE_OPERATOR), |i| { recipients(i); i.pki.store.identity_file = Some("rel/age".into()); }),
    ("pki.store.passphrase_file", NotOnNodes(KEYS_OF_THE_OPERATOR), |i| { i.pki.store.encryption = StoreEncryption::AgePassphrase; i.pki.store.passphrase_file = Some("rel/pass".into()); }),
    ("runtime.registry_mirrors", Planned, |i| { i.runtime.registry_mirrors.insert("registry.k8s.io".into(), vec!["https://mirror.example".into()]); }),
    ("runtime.cni", Planned, |i| i.runtime.cni = Cni::None),
    ("api_server.extra_args", Planned, |i| { i.api_server.extra_args.insert("event-ttl".into(), ArgumentValues(vec!["3h".into()])); }),
    ("api_server.extra_volumes[].name", Planned, |i| volume(i).name = "other".into()),
    ("api_server.extra_volumes[].host_path", Planned, |i| volume(i).host_path = "/etc/other".into()),
    ("api_server.extra_volumes[].mount_path", Planned, |i| volume(i).mount_path = Some("/etc/other".into())),
    ("api_server.extra_volumes[].read_only", Planned, |i| volume(i).read_only = false),
    ("api_server.extra_volumes[].path_type", Planned, |i| volume(i).path_type = Some(PathType::File)),
    ("controller_manager.extra_args", Planned, |i| { i.controller_manager.extra_args.insert("v".into(), ArgumentValues(vec!["4".into()])); }),
    ("controller_manager.extra_volumes[].name", Planned, |i| i.controller_manager.extra_volumes = vec![added()]),
    ("controller_manager.extra_volumes[].host_path", Planned, |i| i.controller_manager.extra_volumes = vec![added()]),
    ("controller_manager.extra_volumes[].mount_path", Planned, |i| i.controller_manager.extra_volumes = vec![added()]),
    ("controller_manager.extra_volumes[].read_only", Planned, |i| i.controller_manager.extra_volumes = vec![added()]),
    ("controller_manager.extra_volumes[].path_type", Planned, |i| i.controller_manager.extra_volumes = vec![added()]),
    ("scheduler.extra_args", Planned, |i| { i.scheduler.extra_args.insert("v".into(), ArgumentValues(vec!["4".into()])); }),
    ("scheduler.extra_volumes[].name", Planned, |i| i.scheduler.extra_volumes = vec![added()]),
    ("scheduler.extra_volumes[].host_path", Planned, |i| i.scheduler.extra_volumes = vec![added()]),
    ("scheduler.extra_volumes[].mount_path", Planned, |i| i.scheduler.extra_volumes = vec![added()]),
    ("scheduler.extra_volumes[].read_only", Planned, |i| i.scheduler.extra_volumes = vec![added()]),
    ("scheduler.extra_volumes[].path_type", Planned, |i| i.scheduler.extra_volumes = vec![added()]),
    ("kubelet.extra", Planned, |i| { i.kubelet.extra.insert("maxPods".into(), AnyValue(60.into())); }),
    ("kubelet.extra_args", Planned, |i| { i.kubelet.extra_args.insert("v".into(), ArgumentValues(vec!["4".into()])); }),
    ("kube_proxy.extra", Planned, |i| { i.kube_proxy.extra.insert("mode".into(), AnyValue("nftables".into())); }),
    ("host.packages", Planned, |i| i.host.packages = Switch::Off),
    ("host.ntp_servers", Planned, |i| i.host.ntp_servers = vec!["other.example".parse().unwrap()]),
    ("host.security_updates", Planned, |i| i.host.security_updates = Switch::Off),
    ("host.lab", Planned, |i| i.host.lab = true),
];

/// Values of keys that a control does not accept, and the plan says so.
const WEAKER: &[(&str, &str)] = &[("pki.ca_custody", "kubelet-rotate-server-certs")];

fn net(text: &str) -> crate::inventory::IpNetText {
    crate::inventory::IpNetText(text.parse().unwrap())
}

fn host_key() -> crate::inventory::HostKeyFingerprint {
    "SHA256:8DGrk4ABxkvQicgzmvk+gLNZLa18r+RwLy0YuENi2ac".to_owned().try_into().unwrap()
}

fn own_jump(i: &mut Inventory) -> &mut JumpHost {
    let jump = i.ssh.jump.clone();
    &mut i.nodes[2].ssh.jump.insert(jump)[0]
}

fn managed(i: &mut Inventory) {
    i.cluster.endpoint = "192.0.2.5:8443".parse().unwrap();
    i.cluster.load_balancer.mode = LoadBalancerMode::Managed;
}

fn packages(i: &mut Inventory) {
    i.kubernetes.source = SoftwareSource::Packages;
    i.kubernetes.packages.signing_key = Some("rel/key.asc".into());
}

fn recipients(i: &mut Inventory) {
    i.pki.store.encryption = StoreEncryption::AgeRecipients;
    i.pki.store.recipients =
        vec!["age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg".into()];
}

fn off(i: &mut Inventory) -> &mut ControlSwitch {
    i.hardening.controls.get_mut("kubelet-pod-pids-limit").unwrap()
}

fn granted(i: &mut Inventory) -> &mut SwitchedOff {
    off(i).granted.as_mut().unwrap()
}

fn exception(i: &mut Inventory) -> &mut Exception {
    &mut i.hardening.exceptions[0]
}

fn exemption(i: &mut Inventory) -> &mut PodSecurityExemption {
    &mut i.hardening.pod_security.exemptions[0]
}

fn acknowledged(i: &mut Inventory) -> &mut Acknowledged {
    &mut i.hardening.acknowledged[0]
}

fn allowed(i: &mut Inventory) -> &mut AllowedObject {
    &mut i.hardening.allowed_objects[0]
}

fn volume(i: &mut Inventory) -> &mut ExtraVolume {
    &mut i.api_server.extra_volumes[0]
}

fn added() -> ExtraVolume {
    ExtraVolume {
        name: "added".into(),
        host_path: "/etc/added".into(),
        mount_path: Some("/added".into()),
        read_only: false,
        path_type: Some(PathType::DirectoryOrCreate),
    }
}

fn rule(i: &mut Inventory) -> &mut FirewallRule {
    &mut i.firewall.extra_rules[0]
}

/// All keys of a schema, as `audit.file`, `ssh.jump[].host` and `hardening.controls.*`, with the schema of each.
fn keys_of(schema: &Schema) -> Vec<(String, Schema)> {
    fn walk(root: &Schema, schema: &Schema, at: &str, all: &mut Vec<(String, Schema)>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            return walk(root, &root["$defs"][name], at, all);
        }
        for choice in ["anyOf", "allOf"].iter().flat_map(|c| schema[c].as_array()).flatten() {
            walk(root, choice, at, all);
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            let before = all.len();
            walk(root, inner, &at, all);
            // An object is its keys.
            if all.len() == before {
                all.push((at, inner.clone()));
            }
        }
        if schema["items"].is_object() {
            walk(root, &schema["items"], &format!("{at}[]"), all);
        }
        if schema["additionalProperties"].is_object() {
            let at = format!("{at}.*");
            walk(root, &schema["additionalProperties"], &at, all);
        }
    }
    let mut all = Vec::new();
    walk(schema, schema, "", &mut all);
    all
}

fn load(text: &str) -> Loaded {
    let context = LoadContext {
        clock: Clock::Fixed(time::macros::datetime!(2026-02-01 12:00 UTC)),
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: crate::impact::IDS,
        conflicts: crate::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    let (file, base) = (Path::new("i.yaml"), Path::new("/base"));
    load_bytes(text.as_bytes(), file, base, &context).unwrap_or_else(|e| panic!("{:?}", e.problems))
}

/// [`RUNNING`] with another value of a key, as if it had been written so.
fn changed(change: Change) -> Loaded {
    let mut inventory = load(RUNNING).inventory;
    change(&mut inventory);
    let mut loaded = load(&crate::yaml::to_text(&inventory));
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{ level: Metadata }]\n";
    loaded.files = Files {
        audit_policy: loaded.inventory.audit.file.is_some().then(|| policy.to_owned()),
        signing_key: loaded
            .inventory
            .kubernetes
            .packages
            .signing_key
            .is_some()
            .then(|| "a key\n".to_owned()),
        ..Files::default()
    };
    loaded
}

/// The nodes of [`RUNNING`] as they are once everything was applied, in its order.
fn running(loaded: &Loaded, material: &Material) -> Vec<NodeFacts> {
    let Loaded { inventory, files, .. } = loaded;
    let of = |node: &crate::inventory::Node| {
        let mut facts = bare_facts(node.name.as_str(), "debian 13", None);
        facts.hostname = node.name.to_string();
        facts.commands = crate::facts::COMMANDS.iter().map(|c| (*c).to_owned()).collect();
        facts.commands.extend(["kubeadm", "kubelet", "etcd"].map(str::to_owned));
        facts.var_free_bytes = 1 << 40;
        (facts.cpus, facts.memory_bytes) = (4, 8 << 30);
        let network = format!("{}/24", node.internal_ip()).parse().unwrap();
        facts.addresses = vec![InterfaceAddress { interface: "ens3".into(), network }];
        let shared = Shared::default();
        let wanted = desired::resolve(inventory, files, node, &facts, material, &shared).unwrap();
        add_files(&mut facts, &wanted);
        let file = |text: &str| FileFacts::File {
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            size: text.len() as u64,
            sha256: "0".repeat(64),
        };
        let data = FileFacts::Directory { mode: 0o700, owner: "etcd".into(), group: "etcd".into() };
        if inventory.is_etcd_member(node) {
            facts.unit_marks.insert("etcd.service".into(), "m".into());
            facts.files.insert(ETCD_MEMBER.into(), data);
            facts.files.insert(ETCD_DATA_MARK.into(), file(""));
        } else {
            facts.unit_marks.insert(CLUSTER_MARK.into(), "m".into());
            facts.files.insert(KUBELET_CONFIG.into(), file(""));
        }
        if node.has_role(Role::ControlPlane) {
            let cluster = &inventory.cluster;
            let apiserver = format!(
                "image: registry.k8s.io/kube-apiserver:v{}\n- --encryption-provider-config=x\n\
                 - --service-cluster-ip-range={}\n\
                 - --service-account-issuer=https://kubernetes.default.svc.{}\n",
                cluster.kubernetes, cluster.service_networks[0], cluster.domain
            );
            let manager = format!("- --cluster-cidr={}\n", cluster.pod_networks[0]);
            for (path, pod) in [(APISERVER_POD, apiserver), (CONTROLLER_MANAGER_POD, manager)] {
                facts.files.insert(path.into(), file(&pod));
                facts.texts.insert(path.into(), Some(pod));
            }
        }
        facts
    };
    inventory.nodes.iter().map(of).collect()
}

fn add_files(facts: &mut NodeFacts, wanted: &NodeDesired) {
    for item in &wanted.items {
        match &item.kind {
            ItemKind::File { path, content, access, .. } => {
                let (owner, group) = (access.owner.clone(), access.group.clone());
                let size = content.bytes().len() as u64;
                let (mode, sha256) = (access.mode, content.sha256());
                facts
                    .files
                    .insert(path.clone(), FileFacts::File { mode, owner, group, size, sha256 });
                if path == ENCRYPTION {
                    let text = String::from_utf8(content.bytes().to_vec()).unwrap();
                    facts.texts.insert(path.clone(), Some(text));
                }
            }
            ItemKind::Directory { path, access } => {
                let (owner, group) = (access.owner.clone(), access.group.clone());
                facts
                    .files
                    .insert(path.clone(), FileFacts::Directory { mode: access.mode, owner, group });
            }
            _ => {}
        }
    }
}

/// What the key store in a directory holds, after what is due was issued.
fn keys(inventory: &Inventory, dir: &Path) -> Result<Material, PkiError> {
    let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase"));
    // How it is encrypted is no matter of nodes.
    let place = Pki { dir: dir.to_owned(), store: PkiStore::default(), ..inventory.pki.clone() };
    let mut store = pki::Store::open(&place, &inventory.cluster.name, ask)?;
    Ok(pki::ensure(inventory, &mut store, ask, Clock::System)?.0)
}

/// A directory that is not there yet as a copy of another one, with its modes.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// What the planner says to the nodes of a running cluster: each node's plan in words, and refusals.
#[derive(Default)]
struct Said {
    nodes: BTreeMap<usize, String>,
    refused: Vec<String>,
    /// Controls that what is rendered for them would not fulfil.
    broken: BTreeSet<String>,
}

fn plan(loaded: &Loaded, facts: &[NodeFacts], material: &Material) -> Said {
    let mut fleet = FleetFacts::default();
    for (node, facts) in loaded.inventory.nodes.iter().zip(facts) {
        let facts = NodeFacts { node: node.name.clone(), ..facts.clone() };
        fleet.insert(node.name.clone(), Answered { host_key: "SHA256:h".into(), facts });
    }
    let planned = planner::plan(loaded, &fleet, material);
    let nodes = loaded.inventory.nodes.iter().enumerate();
    let nodes = nodes.filter_map(|(at, node)| {
        Some((at, format!("{:?}", planned.plan.nodes.get(&node.name)?.transactions)))
    });
    let notes = planned.plan.nodes.values().flat_map(|n| &n.notes);
    let broken = notes.filter_map(|n| Some(n.split_once(" will not hold")?.0.to_owned())).collect();
    let problems = planned.failed.values().map(|p| format!("{}: {}", p.what, p.why.join("; ")));
    Said { nodes: nodes.collect(), refused: problems.collect(), broken }
}

#[test]
fn every_key_of_the_inventory_is_in_the_table() {
    let schema = schema();
    let keys: BTreeSet<String> = keys_of(&schema).into_iter().map(|(key, _)| key).collect();
    let rows: Vec<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
    let known: BTreeSet<String> = rows.iter().map(|k| (*k).to_owned()).collect();
    assert_eq!(known.len(), rows.len(), "a key stands twice");
    assert!(keys.len() > 80, "{keys:?}");
    assert_eq!(keys.difference(&known).collect::<Vec<_>>(), [""; 0], "without a row in KEYS");
    assert_eq!(known.difference(&keys).collect::<Vec<_>>(), [""; 0], "in KEYS alone");
}

#[test]
fn another_value_does_what_the_table_says() {
    let base = load(RUNNING);
    let store = tempfile::tempdir().unwrap();
    let material = keys(&base.inventory, &store.path().join("pki")).unwrap();
    let facts = running(&base, &material);
    let before = plan(&base, &facts, &material);
    assert_eq!(before.refused, [""; 0]);
    let mut wrong = Vec::new();
    for (key, effect, change) in KEYS {
        let other = changed(*change);
        // The cluster's own key store, in which what is due is issued anew.
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("pki");
        copy(&store.path().join("pki"), &own);
        let after = match keys(&other.inventory, &own) {
            Ok(material) => plan(&other, &facts, &material),
            Err(e) => Said { refused: vec![e.to_string()], ..Said::default() },
        };
        let found = match (after.refused.is_empty(), after.nodes == before.nodes) {
            (false, _) => "Refused",
            (true, true) => "NotOnNodes",
            (true, false) => "Planned",
        };
        let wanted = match effect {
            Planned => "Planned",
            Refused => "Refused",
            NotOnNodes(_) => "NotOnNodes",
        };
        if found != wanted {
            wrong.push(format!("{key}: {wanted}, and was {found} {:?}", after.refused));
        }
        // One node that may not become another cluster's keeps all the others from it.
        let of_life = ["cluster.pod_networks", "cluster.service_networks", "cluster.domain"];
        if of_life.contains(key) && !after.nodes.is_empty() {
            wrong.push(format!("{key}: some nodes would change: {:?}", after.nodes.keys()));
        }
        let broken = after
            .broken
            .difference(&before.broken)
            .filter(|c| !WEAKER.contains(&(*key, c.as_str())));
        wrong.extend(broken.map(|control| format!("{key}: {control} would not hold")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A control plane whose file is gone gets one that its stored objects were written with, by the word of another one.
#[test]
fn a_missing_encryption_file_is_no_way_to_another_provider() {
    let base = load(RUNNING);
    let store = tempfile::tempdir().unwrap();
    let dir = store.path().join("pki");
    let material = keys(&base.inventory, &dir).unwrap();
    let mut facts = running(&base, &material);
    let text = facts[0].texts.remove(ENCRYPTION).unwrap();
    facts[0].files.insert(ENCRYPTION.into(), FileFacts::Absent);
    let other = changed(|i| i.encryption.provider = EncryptionProvider::Aescbc);
    let others = keys(&other.inventory, &dir).unwrap();
    let alone = plan(&base, &facts, &material).refused.join("; ");
    assert!(alone.contains("no other control plane was checked that has it"), "{alone}");
    // Another control plane's, as far as a plan looks.
    facts[2].texts.insert(ENCRYPTION.into(), text);
    assert_eq!(plan(&base, &facts, &material).refused, [""; 0]);
    let lost = plan(&other, &facts, &others).refused.join("; ");
    assert!(lost.contains("could no longer be read"), "{lost}");
    // Nor does one that is new get other keys than the rest.
    facts[0].files.insert(APISERVER_POD.into(), FileFacts::Absent);
    let joins = plan(&other, &facts, &others).refused.join("; ");
    assert!(joins.contains("could no longer be read"), "{joins}");
}

/// A path that stayed relative would be looked for wherever kubastion is started.
#[test]
fn every_path_of_the_inventory_starts_at_its_file() {
    let schema = schema();
    let paths: Vec<String> = keys_of(&schema)
        .into_iter()
        .filter(|(_, schema)| schema["format"] == "path")
        .map(|(key, _)| key)
        .collect();
    assert!(paths.len() >= 10, "{paths:?}");
    for key in &paths {
        let (.., change) = KEYS.iter().find(|(k, ..)| k == key).unwrap();
        let text = crate::yaml::to_text(&changed(*change).inventory);
        assert!(text.contains("/base/rel/"), "{key} names no file below rel/:\n{text}");
        assert!(!text.contains(" rel/"), "{key} is not in `paths` of load.rs:\n{text}");
    }
    // The schema tells paths from words, and says so of every one.
    let source = syn::parse_file(include_str!("../inventory/model.rs")).unwrap();
    let written = source.items.iter().filter_map(|item| match item {
        syn::Item::Struct(s) if quoted(&s.attrs).contains("JsonSchema") => Some(s),
        _ => None,
    });
    for field in written.flat_map(|s| &s.fields) {
        let is_path = quoted_type(&field.ty).contains("PathBuf");
        let name = field.ident.as_ref().unwrap();
        assert_eq!(is_path, quoted(&field.attrs).contains("\"path\""), "{name} lacks its format");
    }
}

fn quoted(attributes: &[syn::Attribute]) -> String {
    let words =
        attributes.iter().filter_map(|a| Some(a.meta.require_list().ok()?.tokens.to_string()));
    words.collect()
}

fn quoted_type(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => {
            let last = path.path.segments.last().unwrap();
            let inner = match &last.arguments {
                syn::PathArguments::AngleBracketed(all) => all
                    .args
                    .iter()
                    .map(|a| match a {
                        syn::GenericArgument::Type(t) => quoted_type(t),
                        _ => String::new(),
                    })
                    .collect(),
                _ => String::new(),
            };
            format!("{} {inner}", last.ident)
        }
        _ => String::new(),
    }
}
