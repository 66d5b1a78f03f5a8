//! A few values by hand. All others come from the rows that are also judged by: a wrong row would be wrong in both.

use super::{INVENTORY, desired, facts, load, text};
use crate::desired::ItemKind;

const INIT: &str = "/etc/kubernetes/kubastion/kubeadm-init.yaml";

/// Parts of kubeadm's file, flags with the value that follows, and how often they stand there: once for each daemon that has
/// the flag.
const FLAGS: &[(&str, &str, usize)] = &[
    ("anonymous-auth", "false", 1),
    ("authorization-mode", "Node,RBAC", 1),
    ("profiling", "false", 3),
    ("bind-address", "127.0.0.1", 2),
    ("tls-min-version", "VersionTLS12", 3),
    ("client-ca-file", "/etc/kubernetes/pki/ca.crt", 2),
    ("encryption-provider-config", "/etc/kubernetes/enc/encryption.yaml", 1),
    ("audit-policy-file", "/etc/kubernetes/config/audit-policy.yaml", 1),
    ("service-account-extend-token-expiration", "false", 1),
    ("enable-bootstrap-token-auth", "false", 1),
    ("use-service-account-credentials", "true", 1),
    ("kubelet-certificate-authority", "/etc/kubernetes/pki/ca.crt", 1),
];

const SETTINGS: &[&str] = &[
    "\nauthentication:\n  anonymous:\n    enabled: false\n  webhook:\n    enabled: true\n",
    "\nauthorization:\n  mode: Webhook\n",
    "    clientCAFile: /etc/kubernetes/pki/ca.crt\n",
    "\nserverTLSBootstrap: ",
    "\nprotectKernelDefaults: true\n",
    "\nseccompDefault: true\n",
    "\npodPidsLimit: 4096\n",
    "\ntlsCipherSuites:\n- \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"\n",
];

const ETCD: &[&str] = &[
    "--client-cert-auth=true",
    "--peer-client-cert-auth=true",
    "--auto-tls=false",
    "--peer-auto-tls=false",
    "--trusted-ca-file=/etc/etcd/pki/ca.crt",
    "--listen-metrics-urls=http://127.0.0.1:2381",
];

#[test]
fn values_that_matter_most_are_what_they_were() {
    let inventory = load(INVENTORY);
    let wanted = desired(&inventory, "cp-1", &facts("cp-1", "debian 13", None));
    let init = text(&wanted, INIT);
    for (name, value, times) in FLAGS {
        let flag = format!("- name: \"{name}\"\n    value: \"{value}\"\n");
        assert_eq!(init.matches(&flag).count(), *times, "{flag}");
    }
    for setting in SETTINGS {
        assert!(init.contains(setting), "{setting}");
    }
    for flag in ["insecure-port", "token-auth-file", "AlwaysAdmit", "hostname-override"] {
        assert!(!init.contains(flag), "{flag}");
    }
    let member = desired(&inventory, "e-1", &facts("e-1", "debian 13", None));
    let unit = text(&member, "/etc/systemd/system/etcd.service");
    for flag in ETCD {
        assert!(unit.split_whitespace().any(|w| w == *flag), "{flag}");
    }
}

/// Rows name files that others write. One that is not there is an API server that does not start.
#[test]
fn every_file_of_ours_that_a_flag_names_is_written() {
    let ours = ["/etc/kubernetes/config/", "/etc/kubernetes/enc/", "/etc/etcd/pki/"];
    for (probes, node) in [("on", "cp-1"), ("off", "cp-1"), ("on", "e-1")] {
        let switch =
            format!("hardening: {{ controls: {{ apiserver-authenticated-probes: {probes} }} }}");
        let inventory = load(&format!("{INVENTORY}{switch}\n"));
        let wanted = desired(&inventory, node, &facts(node, "debian 13", None));
        let file = if node == "e-1" { "/etc/systemd/system/etcd.service" } else { INIT };
        let text = text(&wanted, file);
        let words = text.split(|c: char| c.is_whitespace() || "\"=,".contains(c));
        let named: Vec<&str> =
            words.filter(|w| ours.iter().any(|dir| w.starts_with(dir))).collect();
        assert!(named.len() > 2, "{node}: {named:?}");
        for path in named {
            let written = wanted.items.iter().any(|i| match &i.kind {
                ItemKind::File { path: p, .. } => p == path,
                _ => false,
            });
            assert!(written, "{node} with probes {probes}: {path}");
        }
    }
}

/// Keys that most inventories leave at their default.
#[test]
fn the_domain_and_the_lifetime_of_tokens_come_from_the_inventory() {
    let mut inventory = load(INVENTORY);
    inventory.cluster.domain = "k8s.example".parse().unwrap();
    inventory.hardening.service_account_token_hours = 48;
    let init = text(&desired(&inventory, "cp-1", &facts("cp-1", "debian 13", None)), INIT);
    assert!(init.contains("\nclusterDomain: \"k8s.example\"\n"), "{init}");
    assert!(init.contains("  dnsDomain: \"k8s.example\"\n"), "{init}");
    let flag = "- name: \"service-account-max-token-expiration\"\n    value: \"48h0m0s\"\n";
    assert!(init.contains(flag), "{init}");
}
