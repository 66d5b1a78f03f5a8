//! The inventory: everything that is wrong, at once, with its place.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kubastion::clock::Clock;
use kubastion::controls::ids;
use kubastion::inventory::{Diagnostic, LoadContext, LoadError, Loaded, load, load_bytes, schema};
use proptest::prelude::*;
use time::macros::datetime;

fn context() -> LoadContext<'static> {
    LoadContext {
        clock: Clock::Fixed(datetime!(2026-01-15 12:00 UTC)),
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        home: Some("/home/op".into()),
        host_keys_optional: false,
    }
}

fn read(text: &str) -> Result<Loaded, LoadError> {
    load_bytes(text.as_bytes(), Path::new("test.yaml"), Path::new("/base"), &context())
}

fn problems(text: &str) -> Vec<Diagnostic> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(e) => e.problems,
    }
}

fn examples() -> impl Iterator<Item = std::path::PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory");
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.extension().is_some_and(|e| e == "yaml"))
}

const BASE: &str = r#"version: kubastion/v1
cluster:
  name: lab
  kubernetes: 1.36.2
  endpoint: api.example:6443
  pod_networks: [10.244.0.0/16]
  service_networks: [10.96.0.0/12]
hardening:
  exceptions:
    - control: host-auditd
      nodes: [cp-1]
      reason: a reason
      owner: ops
      expires: 2026-01-15
ssh:
  key_file: keys/id
  known_hosts: known_hosts
firewall:
  admin_networks: [192.0.2.0/24]
  extra_rules:
    - { name: metrics, protocol: tcp, ports: [9100] }
nodes:
  - name: cp-1
    addresses: [192.0.2.11]
    roles: [control-plane]
  - name: w-1
    addresses: [192.0.2.21]
    roles: [worker]
    labels: { zone: a }
    taints: ["dedicated=x:NoSchedule"]
    ssh:
      port: 2222
      jump: [{ host: bastion.example, key_file: jump.key }]
"#;

#[test]
fn the_base_of_these_tests_is_valid() {
    let loaded = read(BASE).unwrap();
    assert_eq!(loaded.warnings, []);
    let names: Vec<&str> = loaded.inventory.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["cp-1", "w-1"]);
}

#[test]
fn examples_are_valid_and_sorted() {
    assert!(examples().count() >= 3);
    for file in examples() {
        let loaded = load(&file, &context()).unwrap_or_else(|e| panic!("{:#?}", e.problems));
        assert_eq!(loaded.warnings, [], "{}", file.display());
        assert!(loaded.inventory.nodes.is_sorted_by_key(|n| &n.name));
        assert_eq!(loaded.sha256.len(), 64);
    }
}

/// An inventory is what stands in its file, and defaults: what it refers to is read again from there.
#[test]
fn a_loaded_inventory_that_is_written_loads_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n";
    std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    std::fs::write(dir.path().join("key.asc"), key).unwrap();
    let referring = format!(
        "{BASE}audit: {{policy: custom, file: policy.yaml}}\n\
         kubernetes: {{source: packages, packages: {{signing_key: key.asc}}}}\n"
    );
    let own = dir.path().join("own.yaml");
    std::fs::write(&own, referring).unwrap();
    let written = dir.path().join("elsewhere/written.yaml");
    std::fs::create_dir(written.parent().unwrap()).unwrap();
    for file in examples().chain([own.clone()]) {
        let first = load(&file, &context()).unwrap_or_else(|e| panic!("{:#?}", e.problems));
        std::fs::write(&written, kubastion::yaml::to_text(&first.inventory)).unwrap();
        let again = load(&written, &context()).unwrap_or_else(|e| panic!("{:#?}", e.problems));
        assert_eq!(first.inventory, again.inventory, "{}", file.display());
        assert_eq!(first.files, again.files);
        if file == own {
            assert_eq!(again.files.audit_policy.as_deref(), Some(policy));
            assert_eq!(again.files.signing_key.as_deref(), Some(key));
        }
    }
}

#[test]
fn the_schema_file_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/inventory/schema.json");
    let pinned: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(pinned == schema(), "run: kubastion inventory schema > inventory/schema.json");
}

#[test]
fn the_reference_is_the_schemas() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inventory.md");
    let pinned = std::fs::read_to_string(file).unwrap();
    let schema = schema();
    let reference = kubastion::inventory::reference(&schema);
    assert!(pinned == reference, "run: kubastion inventory reference > docs/inventory.md");
    // Every object with keys has its section, and each of its keys a line.
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let Some(keys) = definition.get("properties").and_then(|p| p.as_object()) else { continue };
        assert!(reference.contains(&format!("\n## {name}\n")), "{name}");
        for key in keys.keys() {
            assert!(reference.contains(&format!("\n| `{key}` | ")), "{name}.{key}");
        }
    }
}

/// An endpoint that is managed, with more settings of it.
macro_rules! managed {
    ($endpoint:literal) => {
        managed!($endpoint, "")
    };
    ($endpoint:literal, $more:literal) => {
        concat!($endpoint, "\n  load_balancer: { mode: managed", $more, " }")
    };
}

macro_rules! signer {
    () => {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    };
}
const BUNDLE_WITHOUT_PATH: &str =
    concat!("kubernetes: { source: bundle, bundle: { signers: [", signer!(), "] } }\nhardening:\n");
const BUNDLE_WITHOUT_SIGNER: &str =
    "kubernetes: { source: bundle, bundle: { path: b } }\nhardening:\n";
const BUNDLE_SIGNER_MALFORMED: &str =
    "kubernetes: { bundle: { path: b, signers: [ssh-ed25519 AAAA] } }\nhardening:\n";
const BUNDLE_SIGNER_TWICE: &str = concat!(
    "kubernetes: { bundle: { path: b, signers: [",
    signer!(),
    ", ",
    signer!(),
    " ops] } }\nhardening:\n"
);

#[test]
fn the_path_of_a_bundle_starts_at_the_inventory() {
    let bundle = concat!(
        "kubernetes: { source: bundle, bundle: { path: b, signers: [",
        signer!(),
        " ops] } }\nhardening:\n"
    );
    let loaded = read(&BASE.replacen("hardening:\n", bundle, 1)).unwrap();
    let bundle = loaded.inventory.kubernetes.bundle;
    assert_eq!(bundle.path.as_deref(), Some(Path::new("/base/b")));
    assert_eq!(bundle.signers.len(), 1);
}

/// A namespace that is exempt from Pod Security.
macro_rules! exempt {
    ($namespace:literal, $level:literal) => {
        exempt!($namespace, $level, "a, expires: 2026-01-15")
    };
    ($namespace:literal, $level:literal, $owner:literal) => {
        concat!(
            "hardening:\n  pod_security: { exemptions: [{ namespace: ",
            $namespace,
            ", level: ",
            $level,
            ", reason: a, owner: ",
            $owner,
            " }] }\n"
        )
    };
}
const EXEMPT_NAME: &str = "hardening.pod_security.exemptions[0].namespace";
const EXEMPT_LEVEL: &str = "hardening.pod_security.exemptions[0].level";

/// A critical control with a state and what follows.
macro_rules! off {
    ($rest:literal) => {
        concat!("hardening:\n  controls: { etcd-client-cert-auth: { state: ", $rest, " } }\n")
    };
}
const CRITICAL_OFF: &str = "hardening.controls.etcd-client-cert-auth";
const CRITICAL_EXPIRES: &str = "hardening.controls.etcd-client-cert-auth.expires";

/// An object that is allowed.
macro_rules! allow {
    ($kind:literal, $name:literal, $expires:literal) => {
        concat!(
            "hardening:\n  allowed_objects: [{ kind: ",
            $kind,
            ", name: ",
            $name,
            ", reason: a, owner: a, expires: ",
            $expires,
            " }]\n"
        )
    };
}

/// What is replaced in BASE, by what, and the problem that must follow: its field and message.
/// One replacement, one problem: everything else in the list would be a false alarm.
const SINGLE: &[(&str, &str, &str, &str)] = &[
    // shape
    ("version: kubastion/v1\n", "", "version", "required key is missing"),
    ("kubastion/v1", "kubastion/v2", "version", "no such value"),
    ("  name: lab", "  nmae: x\n  name: lab", "cluster.nmae", "unknown key"),
    ("  name: lab", "  name: lab\n  name: lab", "cluster.name", "this key stands here twice"),
    ("  name: lab", "  name: Lab", "cluster.name", "malformed value"),
    ("1.36.2", "1.33.0", "cluster.kubernetes", "malformed value"),
    ("1.36.2", "1.38.0", "cluster.kubernetes", "malformed value"),
    ("api.example:6443", "api.example", "cluster.endpoint", "malformed value"),
    ("port: 2222", "port: 70000", "nodes[1].ssh.port", "out of range"),
    ("port: 2222", "port: \"22\"", "nodes[1].ssh.port", "wrong type"),
    ("port: 2222", "port: [22]", "nodes[1].ssh.port", "wrong type"),
    ("port: 2222", "agent: yes", "nodes[1].ssh.agent", "wrong type"),
    ("port: 2222", "sudo: paswordless", "nodes[1].ssh.sudo", "no such value"),
    ("labels: { zone: a }", "labels:", "nodes[1].labels", "wrong type"),
    ("labels: { zone: a }", "labels: { zone: a, zone: b }", "nodes[1].labels.zone", "twice"),
    ("[192.0.2.0/24]", "[192.0.2.0]", "firewall.admin_networks[0]", "malformed value"),
    ("[192.0.2.0/24]", "[10.244.7.0/24]", "firewall.admin_networks[0]", "lies inside cluster.pod"),
    ("[192.0.2.0/24]", "[10.96.0.0/12]", "firewall.admin_networks[0]", "lies inside cluster.serv"),
    ("[192.0.2.21]", "[192.0.2.300]", "nodes[1].addresses[0]", "malformed value"),
    ("name: w-1", "nmae: w-1", "nodes[1].nmae", "unknown key"),
    // software
    (
        "hardening:\n",
        "kubernetes: { source: bundel }\nhardening:\n",
        "kubernetes.source",
        "no such",
    ),
    ("hardening:\n", BUNDLE_WITHOUT_PATH, "kubernetes.bundle.path", "without a place"),
    ("hardening:\n", BUNDLE_WITHOUT_SIGNER, "kubernetes.bundle.signers", "no signature"),
    ("hardening:\n", BUNDLE_SIGNER_MALFORMED, "kubernetes.bundle.signers[0]", "malformed value"),
    ("hardening:\n", BUNDLE_SIGNER_TWICE, "kubernetes.bundle.signers[1]", "is listed twice"),
    // networks and endpoint
    ("10.244.0.0/16", "10.244.1.0/16", "cluster.pod_networks[0]", "host bits"),
    ("10.244.0.0/16", "10.97.0.0/16", "cluster.service_networks[0]", "overlaps"),
    ("[10.96.0.0/12]", "[10.96.0.0/12, 10.0.0.0/16]", "cluster.service_networks", "number"),
    ("[10.96.0.0/12]", "[\"fd00::/112\"]", "cluster.service_networks", "families differ"),
    ("10.96.0.0/12", "11.0.0.0/8", "cluster.service_networks[0]", "unusable size"),
    ("[192.0.2.21]", "[10.244.3.3]", "nodes[1].addresses[0]", "lies in cluster.pod_networks"),
    ("api.example:6443", "10.96.0.1:6443", "cluster.endpoint", "lies in cluster.service_networks"),
    ("api.example:6443", "192.0.2.21:6443", "cluster.endpoint", "runs no API server"),
    ("api.example:6443", "w-1:6443", "cluster.endpoint", "runs no API server"),
    ("api.example:6443", managed!("api.example:8443"), "cluster.endpoint", "is an address"),
    ("api.example:6443", managed!("192.0.2.11:8443"), "cluster.endpoint", "address of node cp-1"),
    ("api.example:6443", managed!("192.0.2.21:8443"), "cluster.endpoint", "runs no API server"),
    ("api.example:6443", managed!("224.0.0.18:8443"), "cluster.endpoint", "not the address of"),
    ("api.example:6443", managed!("'[fd00::5]:8443'"), "cluster.endpoint", "has no IPv6 address"),
    ("api.example:6443", managed!("192.0.2.5:6443"), "cluster.endpoint", "port 6443 has another"),
    ("api.example:6443", managed!("192.0.2.5:22"), "cluster.endpoint", "port 22 has another"),
    ("api.example:6443", managed!("192.0.2.5:31000"), "cluster.endpoint", "port 31000 has another"),
    (
        "api.example:6443",
        managed!("192.0.2.5:8443", ", virtual_router_id: 0"),
        "cluster.load_balancer.virtual_router_id",
        "no such router id",
    ),
    (
        "api.example:6443",
        managed!("192.0.2.5:8443", ", interface: 'eth0 {'"),
        "cluster.load_balancer.interface",
        "malformed interface",
    ),
    (
        "  name: lab",
        "  name: lab\n  load_balancer: { interface: eth0 }",
        "cluster.load_balancer.interface",
        "would not be used",
    ),
    // machines
    ("- name: w-1", "- name: cp-1", "nodes[1].name", "nodes[0] has this name"),
    ("[192.0.2.21]", "[192.0.2.11]", "nodes[1].addresses[0]", "nodes[0] has this address"),
    ("[192.0.2.21]", "[]", "nodes[1].addresses", "wrong number of addresses"),
    ("[192.0.2.21]", "[192.0.2.21, 192.0.2.22]", "nodes[1].addresses", "wrong number"),
    ("[192.0.2.21]", "[224.0.0.1]", "nodes[1].addresses[0]", "not the address of a machine"),
    ("[192.0.2.21]", "[\"fd00:1::1\"]", "nodes[1].addresses[0]", "first family"),
    ("[worker]", "[]", "nodes[1].roles", "without a role"),
    ("[worker]", "[worker, worker]", "nodes[1].roles", "twice"),
    ("[worker]", "[etcd]", "nodes[1].roles", "etcd runs on the control-plane nodes"),
    ("[worker]", "[control-plane]", "nodes", "an even number of etcd members"),
    ("[control-plane]", "[worker]", "nodes", "no control-plane node"),
    ("nodes:\n", "etcd: { placement: dedicated }\nnodes:\n", "nodes", "no node has role etcd"),
    ("zone: a", "\"-zone\": a", "nodes[1].labels.-zone", "malformed label key"),
    ("zone: a", "\"a/b/c\": a", "nodes[1].labels[\"a/b/c\"]", "malformed label key"),
    ("zone: a", "zone: \"a b\"", "nodes[1].labels.zone", "malformed label value"),
    ("x:NoSchedule", "x:NoSchedul", "nodes[1].taints[0]", "no such taint effect"),
    ("dedicated=x:NoSchedule", "dedicated", "nodes[1].taints[0]", "malformed taint"),
    ("NoSchedule\"", "NoSchedule\", \"dedicated:NoSchedule\"", "nodes[1].taints[1]", "twice"),
    // the way there
    ("  key_file: keys/id", "  port: 22", "nodes[0].ssh", "no way to log in"),
    ("  key_file: keys/id", "  agent: true\n  user: op", "nodes[0].ssh", "no way to root"),
    (
        "port: 2222
      jump: [{ host: bastion.example, key_file: jump.key }]",
        "host: 192.0.2.11",
        "nodes[1].ssh",
        "nodes[0] is reached there",
    ),
    ("port: 2222", "port: 0", "nodes[1].ssh.port", "no such port"),
    (
        "jump: [{ host: bastion.example",
        "jump: [{ host: 192.0.2.21, port: 2222",
        "nodes[1].ssh",
        "itself",
    ),
    // settings
    ("host-auditd", "host-audit", "hardening.exceptions[0].control", "no such control"),
    ("nodes: [cp-1]", "nodes: [w-2]", "hardening.exceptions[0].nodes[0]", "no such node"),
    ("2026-01-15", "2026-01-14", "hardening.exceptions[0].expires", "has expired"),
    ("2026-01-15", "2026-02-30", "hardening.exceptions[0].expires", "not a date"),
    ("reason: a reason", "reason: \" \"", "hardening.exceptions[0].reason", "is empty"),
    ("owner: ops", "owner: \"\"", "hardening.exceptions[0].owner", "is empty"),
    ("hardening:\n", exempt!("shop_a", "baseline"), EXEMPT_NAME, "not the name of a namespace"),
    ("hardening:\n", exempt!("shop", "restricted"), EXEMPT_LEVEL, "exempts from nothing"),
    ("hardening:\n", exempt!("shop", "relaxed"), EXEMPT_LEVEL, "no such value"),
    (
        "hardening:\n",
        exempt!("shop", "baseline", "'', expires: 2026-01-15"),
        "hardening.pod_security.exemptions[0].owner",
        "is empty",
    ),
    (
        "hardening:\n",
        exempt!("shop", "baseline", "a, expires: 2026-01-14"),
        "hardening.pod_security.exemptions[0].expires",
        "the exemption has expired",
    ),
    (
        "hardening:\n",
        allow!("MutatingWebhookConfiguration", "m", "2026-01-14"),
        "hardening.allowed_objects[0].expires",
        "the grant has expired",
    ),
    (
        "hardening:\n",
        allow!("ClusterRole", "m", "2026-01-15"),
        "hardening.allowed_objects[0].kind",
        "no such value",
    ),
    (
        "hardening:\n",
        allow!("RoleBinding", "m", "2026-01-15"),
        "hardening.allowed_objects[0].name",
        "names no namespace",
    ),
    (
        "hardening:\n",
        exempt!("shop", "baseline", "a, expires: 2026-01-15, workloads: [agent]"),
        "hardening.pod_security.exemptions[0].workloads[0]",
        "is not a workload",
    ),
    (
        "hardening:\n",
        allow!("APIService", "''", "2026-01-15"),
        "hardening.allowed_objects[0].name",
        "is empty",
    ),
    (
        "hardening:\n",
        "hardening:\n  controls: { etcd-client-cert-auth: off }\n",
        CRITICAL_OFF,
        "a critical control is switched off",
    ),
    ("hardening:\n", off!("off, reason: a, owner: a"), CRITICAL_EXPIRES, "required key"),
    (
        "hardening:\n",
        off!("off, reason: a, owner: a, expires: 2026-01-14"),
        CRITICAL_EXPIRES,
        "the grant has expired",
    ),
    (
        "hardening:\n",
        off!("off, reason: '', owner: a, expires: 2026-01-15"),
        "hardening.controls.etcd-client-cert-auth.reason",
        "is empty",
    ),
    (
        "hardening:\n",
        off!("on, reason: a, owner: a, expires: 2026-01-15"),
        "hardening.controls.etcd-client-cert-auth.state",
        "takes no reason, owner or last day",
    ),
    (
        "hardening:\n",
        "hardening:\n  controls: { etcd-client-cert-auth: no }\n",
        CRITICAL_OFF,
        "no such value",
    ),
    (
        "hardening:\n",
        "hardening:\n  controls: { etcd-client-cert-auth: [] }\n",
        CRITICAL_OFF,
        "type",
    ),
    (
        "hardening:\n",
        "hardening:\n  controls: { etcd-datadir: off }\n",
        "hardening.controls.etcd-datadir",
        "no such control",
    ),
    ("ports: [9100]", "ports: []", "firewall.extra_rules[0].ports", "without ports"),
    ("ports: [9100]", "ports: [0]", "firewall.extra_rules[0].ports[0]", "no such port"),
    ("name: metrics", "name: 'a\"; drop'", "firewall.extra_rules[0].name", "malformed rule name"),
    ("nodes:\n", "audit: { policy: custom }\nnodes:\n", "audit.policy", "needs a file"),
    ("nodes:\n", "audit: { file: a.yaml }\nnodes:\n", "audit.file", "would not be used"),
    ("nodes:\n", "audit: { max_size_mb: 0 }\nnodes:\n", "audit.max_size_mb", "rotation off"),
    ("nodes:\n", "encryption: { provider: kms }\nnodes:\n", "encryption.provider", "endpoint"),
    (
        "nodes:\n",
        "encryption: { kms_endpoint: 'unix:///a' }\nnodes:\n",
        "encryption.kms_endpoint",
        "would not be used",
    ),
    (
        "nodes:\n",
        "encryption: { provider: kms, kms_endpoint: /a }\nnodes:\n",
        "encryption.kms_endpoint",
        "malformed",
    ),
    (
        "nodes:\n",
        "encryption: { resources: [configmaps] }\nnodes:\n",
        "encryption.resources",
        "would not be",
    ),
    (
        "nodes:\n",
        "pki: { leaf_days: 0, renew_before_days: 0 }\nnodes:\n",
        "pki.leaf_days",
        "out of range",
    ),
    (
        "nodes:\n",
        "pki: { renew_before_days: 365 }\nnodes:\n",
        "pki.renew_before_days",
        "due for renewal",
    ),
    ("nodes:\n", "pki: { ca_days: 300 }\nnodes:\n", "pki.leaf_days", "outlive"),
    (
        "nodes:\n",
        "pki: { store: { recipients: [age1] } }\nnodes:\n",
        "pki.store.recipients",
        "would not be used",
    ),
    (
        "nodes:\n",
        "pki: { store: { passphrase_file: p } }\nnodes:\n",
        "pki.store.passphrase_file",
        "would not be used",
    ),
    (
        "nodes:\n",
        "runtime: { registry_mirrors: { r.k8s.io: [mirror] } }\nnodes:\n",
        "runtime.registry_mirrors[\"r.k8s.io\"][0]",
        "malformed mirror",
    ),
];

#[test]
fn each_mistake_is_reported_with_its_field() {
    for (from, to, field, message) in SINGLE {
        assert!(BASE.contains(from), "{from:?} is not in the base");
        let found = problems(&BASE.replacen(from, to, 1));
        let hit = found.iter().any(|d| d.field == *field && d.message.contains(message));
        assert!(hit, "{from:?} -> {to:?}: expected {field}: {message}, got {found:#?}");
        assert!(found.iter().all(|d| d.line.is_some()), "{found:#?}");
    }
}

#[test]
fn a_critical_control_that_is_off_is_warned_of() {
    let of = |switch: &str| {
        let text = BASE.replacen("hardening:\n", switch, 1);
        read(&text).unwrap_or_else(|e| panic!("{:#?}", e.problems)).warnings
    };
    let warnings = of(off!("off, reason: a, owner: ops, expires: 2026-01-15"));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0].field, CRITICAL_OFF);
    assert!(warnings[0].message.contains("off until 2026-01-15 by ops"), "{warnings:#?}");
    assert_eq!((warnings[0].line, warnings[0].column), (Some(9), Some(15)));
    // Others may be off without a word, or with one.
    for switch in ["off", "{ state: off, reason: a, owner: a, expires: 2026-01-15 }", "on"] {
        let text = format!("hardening:\n  controls: {{ kubelet-pod-pids-limit: {switch} }}\n");
        assert_eq!(of(&text), [], "{switch}");
    }
}

/// A false alarm beside the true one sends the reader to the wrong line.
#[test]
fn one_mistake_is_one_problem() {
    // Two by nature: a default that two nodes use.
    const TWO: [&str; 2] = ["  port: 22", "  agent: true\n  user: op"];
    for (from, to, field, _) in SINGLE {
        let found = problems(&BASE.replacen(from, to, 1));
        let expected = if TWO.contains(to) { 2 } else { 1 };
        assert_eq!(found.len(), expected, "{from:?} -> {to:?} ({field}): {found:#?}");
    }
}

#[test]
fn problems_of_every_kind_come_at_once_with_their_places() {
    let text = BASE
        .replace("  name: lab", "  name: lab\n  nmae: lab")
        .replace("1.36.2", "1.33.0")
        .replace("port: 2222", "port: none")
        .replace("- name: cp-1", "- name: cp-1\n    adresses: []")
        .replace("[192.0.2.0/24]", "[192.0.2.7/24]")
        .replace("2026-01-15", "2025-01-15")
        .replace("metrics, protocol: tcp", "metrics, protocol: tpc");
    let found = problems(&text);
    let seen: Vec<(usize, usize, &str)> =
        found.iter().map(|d| (d.line.unwrap(), d.column.unwrap(), d.field.as_str())).collect();
    assert_eq!(
        seen,
        [
            (4, 3, "cluster.nmae"),
            (5, 15, "cluster.kubernetes"),
            (15, 16, "hardening.exceptions[0].expires"),
            (20, 20, "firewall.admin_networks[0]"),
            (22, 34, "firewall.extra_rules[0].protocol"),
            (25, 5, "nodes[0].adresses"),
            (34, 13, "nodes[1].ssh.port"),
        ]
    );
    assert_eq!(found[0].nearest.as_deref(), Some("name"));
    assert_eq!(found[4].nearest.as_deref(), Some("tcp"));
    assert_eq!(found[5].nearest.as_deref(), Some("addresses"));
}

#[test]
fn places_survive_a_node_that_is_left_out() {
    let text = BASE.replace("name: cp-1\n    addresses: [192.0.2.11]", "name: cp-1")
        + "  - { name: w-1, addresses: [192.0.2.22], roles: [worker] }\n";
    let found = problems(&text);
    let fields: Vec<&str> = found.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["nodes[0].addresses", "nodes[2].name"]);
}

#[test]
fn nothing_to_verify_a_host_key_with_is_an_error_for_nodes_and_jump_hosts() {
    let found = problems(&BASE.replace("  known_hosts: known_hosts\n", ""));
    let fields: Vec<&str> = found.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["nodes[0].ssh", "nodes[1].ssh", "nodes[1].ssh.jump[0]"]);
}

#[test]
fn relative_paths_start_at_the_inventory_and_home_is_resolved() {
    let inventory = read(&BASE.replace("jump.key", "~/jump.key")).unwrap().inventory;
    assert_eq!(inventory.ssh.key_file.as_deref(), Some(Path::new("/base/keys/id")));
    assert_eq!(inventory.ssh.known_hosts.as_deref(), Some(Path::new("/base/known_hosts")));
    assert_eq!(inventory.pki.dir, Path::new("/base/pki"));
    let jump = &inventory.nodes[1].ssh.jump.as_ref().unwrap()[0];
    assert_eq!(jump.key_file.as_deref(), Some(Path::new("/home/op/jump.key")));
}

#[test]
fn warnings_stand_apart_from_errors() {
    let loaded = read(&BASE.replace("[192.0.2.0/24]", "[]")).unwrap();
    let fields: Vec<&str> = loaded.warnings.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["firewall.admin_networks"]);
}

#[test]
fn a_managed_endpoint_that_several_control_planes_share_raises_no_warning() {
    let two = BASE.replace("roles: [worker]", "roles: [worker, control-plane]");
    let two = two + "  - { name: cp-3, addresses: [192.0.2.13], roles: [control-plane] }\n";
    let alone = read(&two.replace("api.example:6443", "192.0.2.11:6443")).unwrap();
    assert_eq!(alone.warnings[0].field, "cluster.endpoint");
    let managed = two.replace("api.example:6443", managed!("192.0.2.5:8443"));
    let loaded = read(&managed).unwrap();
    assert_eq!(loaded.warnings, []);
    let endpoint = loaded.inventory.cluster.virtual_address().unwrap();
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.port), ("192.0.2.5", 8443));
    assert_eq!(endpoint.router_id, 5);
    assert_eq!(read(BASE).unwrap().inventory.cluster.virtual_address(), None);
}

#[test]
fn yaml_beyond_plain_values_is_refused() {
    for (text, message) in [
        ("a: &x 1\nb: *x\n", "alias"),
        (&BASE.replace("name: lab", "name: &n lab"), "anchor"),
        (&BASE.replace("name: lab", "name: !!str lab"), "tag"),
        (&format!("{BASE}---\n{BASE}"), "second YAML document"),
        ("? [a]\n: b\n", "as a key"),
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("a: [1, 2", "not YAML"),
        ("- 1\n", "wrong type"),
        (&"[".repeat(40), "nested too deeply"),
        (&"[".repeat(100_000), "recursion limit"),
        (&"- ".repeat(100_000), "nested too deeply"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|d| d.message.contains(message)), "{message}: {found:#?}");
    }
    let found = load_bytes(b"a: \xff\n", Path::new("x"), Path::new("/"), &context()).unwrap_err();
    assert_eq!((found.problems[0].line, found.problems[0].column), (Some(1), Some(4)));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let e = load(Path::new("/nonexistent/i.yaml"), &context()).unwrap_err();
    assert!(e.problems[0].message.contains("No such file"), "{e:?}");
}

#[test]
fn huge_scalars_are_cut_in_messages() {
    let found = problems(&BASE.replace("name: lab", &format!("name: {}", "x".repeat(1 << 20))));
    assert_eq!(found.len(), 1);
    assert!(found[0].found.as_ref().unwrap().len() < 200);
}

fn with_nodes(n: usize) -> String {
    let mut text = BASE.replace("10.244.0.0/16", "11.0.0.0/8");
    for i in 0..n {
        let (a, b) = (i / 250, i % 250);
        text.push_str(&format!(
            "  - name: w-{i}x\n    addresses: [172.16.{a}.{b}]\n    roles: [worker]\n    labels: {{ a: b }}\n"
        ));
    }
    text
}

/// Eight times the nodes may take eight times as long; quadratic work would take 64 times.
#[test]
fn checking_grows_with_the_number_of_nodes_and_not_its_square() {
    let fastest = |text: &str| -> Duration {
        let run = || {
            let start = Instant::now();
            read(text).unwrap();
            start.elapsed()
        };
        (0..5).map(|_| run()).min().unwrap()
    };
    let (small, large) = (with_nodes(600), with_nodes(4_800));
    let ratio = fastest(&large).as_secs_f64() / fastest(&small).as_secs_f64();
    assert!(ratio < 24.0, "8 times the nodes took {ratio:.1} times as long");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = load_bytes(&bytes, Path::new("x"), Path::new("/"), &context());
    }

    #[test]
    fn damaged_inventories_never_panic(
        at in 0..BASE.len(),
        len in 0..40usize,
        junk in "[-\\[\\]{}:,&*!|>'\"%@`#?a-z0-9 \n\t\u{0}\u{feff}é]{0,12}",
    ) {
        let end = (at + len).min(BASE.len());
        let text = format!("{}{junk}{}", &BASE[..at], &BASE[end..]);
        if let Err(e) = read(&text) {
            prop_assert!(!e.problems.is_empty());
            prop_assert!(e.problems.iter().all(|d| d.line.is_some_and(|l| l > 0)));
        }
    }
}

fn kubastion(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_kubastion")).args(args).output().unwrap()
}

#[test]
fn check_exits_3_and_writes_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    std::fs::write(&file, BASE.replace("port: 2222", "prot: 2222")).unwrap();
    let file = file.to_str().unwrap();
    let out = kubastion(&["-i", file, "--format", "json", "inventory", "check"]);
    assert_eq!(out.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let expired_too = report["problems"].as_array().unwrap();
    let typo = expired_too.iter().find(|p| p["field"] == "nodes[1].ssh.prot").unwrap();
    assert_eq!(typo["nearest"], "port");
    assert_eq!((&typo["line"], &typo["column"]), (&32.into(), &7.into()));

    let out = kubastion(&["-i", file, "inventory", "check"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(out.stdout.is_empty());
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains(&format!("{file}:32:7: nodes[1].ssh.prot: unknown key")), "{text}");
    assert!(text.contains("did you mean `port`?"), "{text}");
}

#[test]
fn init_writes_what_check_accepts_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    let file = file.to_str().unwrap();
    let nodes =
        ["--control-plane", "cp-1=10.0.0.11,fd00::11", "--worker", "w-1=10.0.0.21,fd00::21"];
    let init = |extra: &[&str]| {
        let mut args = vec!["-i", file, "inventory", "init"];
        args.extend(nodes);
        args.extend(extra);
        kubastion(&args)
    };
    let out = init(&["--worker", "w-2=10.0.0.21"]);
    assert_eq!(out.status.code(), Some(3), "a duplicate address");
    assert!(!Path::new(file).exists());

    let out = init(&["--known-hosts", "kh", "--ssh-user", "admin"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(kubastion(&["-i", file, "inventory", "check"]).status.code(), Some(0));

    let before = std::fs::read(file).unwrap();
    assert_eq!(init(&["--known-hosts", "kh"]).status.code(), Some(3));
    assert_eq!(std::fs::read(file).unwrap(), before);

    std::fs::remove_file(file).unwrap();
    let out = init(&[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&out.stderr).contains("ssh-keygen -lf"));
    let found = load(Path::new(file), &context()).unwrap_err().problems;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|d| d.message.contains("host key")), "{found:#?}");
}

#[test]
fn show_prints_an_inventory_that_loads_to_the_same() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/inventory/ha.yaml");
    let out = kubastion(&["-i", file, "inventory", "show"]);
    assert_eq!(out.status.code(), Some(0));
    let shown = read(std::str::from_utf8(&out.stdout).unwrap()).unwrap();
    assert_eq!(shown.inventory, load(Path::new(file), &context()).unwrap().inventory);
    let out = kubastion(&["-i", file, "--format", "json", "inventory", "show"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["audit"]["max_backups"], 10);
}

#[test]
fn what_logs_in_to_no_node_needs_no_host_keys() {
    let text = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n\
                ssh: {agent: true}\nnodes:\n- {name: a, addresses: [10.0.0.1], roles: [control-plane]}\n";
    assert!(read(text).is_err());
    let context = LoadContext { host_keys_optional: true, ..context() };
    load_bytes(text.as_bytes(), Path::new("test.yaml"), Path::new("/base"), &context).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("inventory.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (code, verb) in [
        (0, &["inventory", "show"][..]),
        (0, &["pki", "ensure"]),
        (0, &["pki", "status"]),
        (0, &["kubeconfig"]),
        (0, &["runs"]),
        (3, &["inventory", "check"]),
        (3, &["plan"]),
        (3, &["verify"]),
    ] {
        let out = kubastion(&[&["-i", file], verb].concat());
        assert_eq!(out.status.code(), Some(code), "{verb:?}: {out:?}");
    }
}

#[test]
fn what_goes_wrong_is_told_to_machines_an_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("inventory.yaml");
    let text = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n\
                ssh: {agent: true}\nnodes:\n- {name: a, addresses: [10.0.0.1, 10.0.0.1], roles: [boss]}\n";
    std::fs::write(&file, text).unwrap();
    let out = kubastion(&["-i", file.to_str().unwrap(), "--format", "json", "plan"]);
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8(out.stderr).unwrap();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|l| l["event"] == "problem"), "{said}");
    assert!(lines.iter().any(|l| l["what"].as_str().unwrap().contains("roles[0]")), "{said}");

    let file = dir.path().join("new.yaml");
    let named = ["--control-plane", "a=10.0.0.1", "--ssh-user", "u"];
    let verb =
        [&["-i", file.to_str().unwrap(), "--format", "json", "inventory", "init"], &named[..]];
    let out = kubastion(&verb.concat());
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    let notes = said.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    assert!(notes.map(|n| assert_eq!(n["event"], "note")).count() >= 2, "{said}");
}
