//! The inventory: everything that is wrong, at once, with its place.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kubastion::clock::Clock;
use kubastion::controls::ids;
use kubastion::inventory::{Diagnostic, LoadContext, LoadError, Loaded, load, load_bytes, schema};
use proptest::prelude::*;
use time::macros::datetime;

macro_rules! signer {
    () => {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    };
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

mod commands;
mod mistakes;

fn context() -> LoadContext<'static> {
    LoadContext {
        clock: Clock::Fixed(datetime!(2026-01-15 12:00 UTC)),
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
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

/// What this thread has computed so far: the time of a clock would count what others do meanwhile.
fn computed() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Eight times the nodes may take eight times as long; quadratic work would take 64 times.
#[test]
fn checking_grows_with_the_number_of_nodes_and_not_its_square() {
    let fastest = |text: &str| -> Duration {
        let run = || {
            let before = computed();
            read(text).unwrap();
            computed() - before
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
