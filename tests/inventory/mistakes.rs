//! One wrong value after another, and what is said of it: its field, its line, and nothing else.

use super::*;

macro_rules! age {
    () => {
        "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"
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
    // stages
    (
        "hardening:\n",
        "hardening:\n  acknowledged: [{ item: flows/a, reason: a, owner: o, expires: 2999-01-01 }]\n",
        "hardening.acknowledged",
        "has no effect without a stage",
    ),
    (
        "hardening:\n",
        "hardening:\n  stage: enforce\n  acknowledged: [{ item: nobody/a, reason: a, owner: o, expires: 2999-01-01 }]\n",
        "hardening.acknowledged[0].item",
        "is not a name that `kubastion impact` lists",
    ),
    // passed through
    (
        "nodes:\n",
        "api_server: { extra_args: { profiling: true } }\nnodes:\n",
        "api_server.extra_args.profiling",
        "--profiling conflicts with control apiserver-profiling-off",
    ),
    (
        "nodes:\n",
        "api_server: { extra_args: { --event-ttl: 2h } }\nnodes:\n",
        "api_server.extra_args.--event-ttl",
        "malformed name of a flag",
    ),
    (
        "nodes:\n",
        "api_server: { extra_args: { event-ttl: [] } }\nnodes:\n",
        "api_server.extra_args.event-ttl",
        "a flag without a value",
    ),
    (
        "nodes:\n",
        "scheduler: { extra_args: { v: \"a\\nb\" } }\nnodes:\n",
        "scheduler.extra_args.v",
        "a value with a control character",
    ),
    (
        "nodes:\n",
        "scheduler: { extra_args: { v: { a: b } } }\nnodes:\n",
        "scheduler.extra_args.v",
        "wrong type",
    ),
    (
        "nodes:\n",
        "controller_manager: { extra_args: { cluster-cidr: 10.0.0.0/8 } }\nnodes:\n",
        "controller_manager.extra_args.cluster-cidr",
        "--cluster-cidr is not passed through",
    ),
    (
        "nodes:\n",
        "kubelet: { extra: { authentication: { anonymous: { enabled: true } } } }\nnodes:\n",
        "kubelet.extra.authentication.anonymous.enabled",
        "authentication.anonymous.enabled conflicts with control kubelet-anonymous-auth",
    ),
    (
        "nodes:\n",
        "kubelet: { extra: { \"max pods\": 3 } }\nnodes:\n",
        "kubelet.extra[\"max pods\"]",
        "malformed name of a field",
    ),
    (
        "nodes:\n",
        "kubelet: { extra: { maxPods: } }\nnodes:\n",
        "kubelet.extra.maxPods",
        "wrong type",
    ),
    (
        "nodes:\n",
        "kubelet: { extra: { evictionHard: { a: 1, a: 2 } } }\nnodes:\n",
        "kubelet.extra.evictionHard",
        "the value cannot be read",
    ),
    (
        "nodes:\n",
        "kube_proxy: { extra: { clusterCIDR: 10.0.0.0/8 } }\nnodes:\n",
        "kube_proxy.extra.clusterCIDR",
        "clusterCIDR is not passed through",
    ),
    (
        "nodes:\n",
        "api_server: { extra_volumes: [{ name: A, host_path: /a }] }\nnodes:\n",
        "api_server.extra_volumes[0].name",
        "malformed name of a volume",
    ),
    (
        "nodes:\n",
        "api_server: { extra_volumes: [{ name: k8s-certs, host_path: /a }] }\nnodes:\n",
        "api_server.extra_volumes[0].name",
        "the name of another volume of the pod",
    ),
    (
        "nodes:\n",
        "scheduler: { extra_volumes: [{ name: a, host_path: /a }, { name: a, host_path: /b }] }\nnodes:\n",
        "scheduler.extra_volumes[1].name",
        "the name is listed twice",
    ),
    (
        "nodes:\n",
        "scheduler: { extra_volumes: [{ name: a, host_path: /a }, { name: b, host_path: /a }] }\nnodes:\n",
        "scheduler.extra_volumes[1]",
        "two volumes at the same path in the pod",
    ),
    (
        "nodes:\n",
        "scheduler: { extra_volumes: [{ name: a, host_path: ../a }] }\nnodes:\n",
        "scheduler.extra_volumes[0].host_path",
        "malformed path",
    ),
    // shape
    ("version: kubastion/v1\n", "", "version", "required key is missing"),
    ("kubastion/v1", "kubastion/v2", "version", "no such value"),
    ("  name: lab", "  nmae: x\n  name: lab", "cluster.nmae", "unknown key"),
    ("  name: lab", "  name: lab\n  name: lab", "cluster.name", "the key is listed twice"),
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
    ("hardening:\n", BUNDLE_WITHOUT_PATH, "kubernetes.bundle.path", "without a path"),
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
    ("api.example:6443", managed!("api.example:8443"), "cluster.endpoint", "must be an address"),
    ("api.example:6443", managed!("192.0.2.11:8443"), "cluster.endpoint", "address of node cp-1"),
    ("api.example:6443", managed!("192.0.2.21:8443"), "cluster.endpoint", "runs no API server"),
    ("api.example:6443", managed!("224.0.0.18:8443"), "cluster.endpoint", "not the address of"),
    ("api.example:6443", managed!("'[fd00::5]:8443'"), "cluster.endpoint", "has no IPv6 address"),
    (
        "api.example:6443",
        managed!("192.0.2.5:6443"),
        "cluster.endpoint",
        "port 6443 is already used",
    ),
    ("api.example:6443", managed!("192.0.2.5:22"), "cluster.endpoint", "port 22 is already used"),
    (
        "api.example:6443",
        managed!("192.0.2.5:31000"),
        "cluster.endpoint",
        "port 31000 is already used",
    ),
    (
        "api.example:6443",
        managed!("192.0.2.5:8443", ", virtual_router_id: 0"),
        "cluster.load_balancer.virtual_router_id",
        "out of range",
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
    ("  key_file: keys/id", "  port: 22", "nodes[0].ssh", "no login method"),
    ("  key_file: keys/id", "  agent: true\n  user: op", "nodes[0].ssh", "no way to become root"),
    (
        "port: 2222
      jump: [{ host: bastion.example, key_file: jump.key }]",
        "host: 192.0.2.11",
        "nodes[1].ssh",
        "nodes[0] is reached there",
    ),
    ("port: 2222", "port: 0", "nodes[1].ssh.port", "out of range"),
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
    ("hardening:\n", exempt!("shop", "restricted"), EXEMPT_LEVEL, "has no effect"),
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
        "takes no reason, owner or expiry date",
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
    (
        "nodes:\n  - name: cp-1\n    addresses: [192.0.2.11]\n    roles: [control-plane]",
        "etcd: { placement: dedicated }\nnodes:\n  - name: cp-1\n    addresses: [192.0.2.11]\n    roles: [control-plane, etcd]",
        "nodes[0].roles",
        "etcd is dedicated, but this is a control-plane node",
    ),
    (
        "  known_hosts: known_hosts\n",
        "  agent: true\n",
        "nodes[0].ssh",
        "the host key of cp-1 cannot be verified",
    ),
    (
        "  known_hosts: known_hosts\n",
        "  agent: false\n",
        "nodes[1].ssh.jump[0]",
        "the host key of bastion.example cannot be verified",
    ),
    (
        "key_file: jump.key }]",
        "key_file: jump.key }, { host: bastion.example }]",
        "nodes[1].ssh.jump[1]",
        "the chain of jump hosts has a loop",
    ),
    (
        "nodes:\n",
        "kubernetes: { source: packages }\nnodes:\n",
        "kubernetes.packages.signing_key",
        "the packages have no trusted signing key",
    ),
    (
        "nodes:\n",
        "kubernetes: { packages: { repository: \"ftp://a\" } }\nnodes:\n",
        "kubernetes.packages.repository",
        "not the URL of a repository",
    ),
    (
        "nodes:\n",
        "encryption: { resources: [secrets, \"A b\"] }\nnodes:\n",
        "encryption.resources[1]",
        "malformed resource",
    ),
    (
        "nodes:\n",
        concat!("pki: { store: { encryption: age-recipients, identity_file: a } }\n", "nodes:\n"),
        "pki.store.recipients",
        "nobody could decrypt the key store",
    ),
    (
        "nodes:\n",
        concat!(
            "pki: { store: { encryption: age-recipients, recipients: [",
            age!(),
            "] } }\nnodes:\n"
        ),
        "pki.store.identity_file",
        "could be written but not read",
    ),
    (
        "nodes:\n",
        "pki: { store: { encryption: age-recipients, identity_file: a, recipients: [age1x] } }\nnodes:\n",
        "pki.store.recipients[0]",
        "malformed recipient",
    ),
    (
        "nodes:\n",
        "runtime: { registry_mirrors: { \"a/b\": [\"https://m.example\"] } }\nnodes:\n",
        "runtime.registry_mirrors[\"a/b\"]",
        "malformed registry name",
    ),
    (
        "nodes:\n",
        "runtime: { registry_mirrors: { registry.k8s.io: [] } }\nnodes:\n",
        "runtime.registry_mirrors[\"registry.k8s.io\"]",
        "a registry without a mirror",
    ),
    ("ports: [9100]", "ports: []", "firewall.extra_rules[0].ports", "without ports"),
    ("ports: [9100]", "ports: [0]", "firewall.extra_rules[0].ports[0]", "no such port"),
    ("name: metrics", "name: 'a\"; drop'", "firewall.extra_rules[0].name", "malformed rule name"),
    ("nodes:\n", "audit: { policy: custom }\nnodes:\n", "audit.policy", "needs a file"),
    ("nodes:\n", "audit: { file: a.yaml }\nnodes:\n", "audit.file", "would not be used"),
    ("nodes:\n", "audit: { max_size_mb: 0 }\nnodes:\n", "audit.max_size_mb", "out of range"),
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

/// A rule that no wrong value breaks may not work at all: every message of every rule is one that [`SINGLE`] brings about.
#[test]
fn every_rule_is_broken_by_a_wrong_value() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inventory/validate");
    let sources = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut rules = Messages(Vec::new());
    for text in sources.map(|path| std::fs::read_to_string(path).unwrap()) {
        syn::visit::visit_file(&mut rules, &syn::parse_file(&text).unwrap());
    }
    let mut rules = rules.0;
    assert!(rules.len() > 50, "{rules:?}");
    let of = |(from, to, ..): &(&str, &str, &str, &str)| problems(&BASE.replacen(from, to, 1));
    let said: Vec<Diagnostic> = SINGLE.iter().flat_map(of).collect();
    rules.retain(|rule| !said.iter().any(|d| d.message.contains(rule.trim())));
    assert_eq!(rules, [""; 0], "no row of SINGLE brings these about");
}

/// The messages of a file's `error` calls; of a format, its longest part without a value.
struct Messages(Vec<String>);

impl<'s> syn::visit::Visit<'s> for Messages {
    fn visit_expr_method_call(&mut self, call: &'s syn::ExprMethodCall) {
        syn::visit::visit_expr_method_call(self, call);
        let message = match (call.method == "error", call.args.get(1)) {
            (true, Some(syn::Expr::Lit(literal))) => quote(&literal.lit),
            (true, Some(syn::Expr::Macro(format))) => format
                .mac
                .tokens
                .clone()
                .into_iter()
                .find_map(|token| syn::parse_str::<syn::Lit>(&token.to_string()).ok())
                .as_ref()
                .and_then(quote),
            _ => None,
        };
        let fixed = message.map(|m| {
            m.split(['{', '}']).step_by(2).max_by_key(|p| p.len()).unwrap_or_default().to_owned()
        });
        self.0.extend(fixed);
    }
}

fn quote(literal: &syn::Lit) -> Option<String> {
    match literal {
        syn::Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

/// A false alarm beside the true one sends the reader to the wrong line.
#[test]
fn one_mistake_is_one_problem() {
    // More by nature: a default that two nodes use, and their jump host.
    const MORE: &[(&str, usize)] = &[
        ("  port: 22", 2),
        ("  agent: true\n  user: op", 2),
        ("  agent: true\n", 3),
        ("  agent: false\n", 3),
    ];
    for (from, to, field, _) in SINGLE {
        let found = problems(&BASE.replacen(from, to, 1));
        let more = MORE.iter().find(|(text, _)| text == to);
        let expected = more.map_or(1, |m| m.1);
        assert_eq!(found.len(), expected, "{from:?} -> {to:?} ({field}): {found:#?}");
    }
}
