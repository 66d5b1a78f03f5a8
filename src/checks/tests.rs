//! The same rows judge what is rendered and what a node holds: a hardened node passes them all, and
//! one thing broken fails exactly the controls that are about it.

mod blind;
mod breaks;
mod change;
mod granted;
mod hardened;
mod harmless;
mod in_effect;
mod kernel;

use crate::checks::node::updates::APT_UNITS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use time::OffsetDateTime;
use time::macros::datetime;

use crate::checks::Basis;
use crate::checks::Finding;
use crate::checks::Outcome;
use crate::checks::Verdict;
use crate::checks::findings::of_node;
use crate::checks::observed::{ETCD_UNIT, FIREWALL_FILE, Observed, Origin, SSHD_DROP_IN};
use crate::checks::of_rendered;
use crate::checks::{Attempt, Lists, Machine, Tried, Witness};
use crate::clock::Clock;
use crate::controls::daemons::DAEMONS;
use crate::controls::{Attack, CATALOGUE, Check, Config, Daemon, DaemonRow, KERNEL_SETTINGS};
use crate::desired;
use crate::digest::Digest;
use crate::facts::answers::Answers;
use crate::facts::cluster::ObjectKind;
use crate::facts::live::{
    Accounts, HomeKubeconfig, Irregular, Journal, LiveFacts, LiveProcess, LiveSocket, LiveUnit,
    MountChange, PathAccess, PathKind, SetId, StateChange,
};
use crate::facts::{
    EntryKind, FileFacts, Listener, LsmFacts, NftFacts, NftRecord, NodeFacts, ProcessFacts,
    SshdMatch, TimeFacts, TreeEntry, TreeFacts, UnitFacts,
};
use crate::inventory::{Files, Inventory, LoadContext, load_bytes};
use crate::pki;
use breaks::Way;
use change::*;
use hardened::{BEGAN_S, WRITTEN_S, trees};
pub(super) use hardened::{attempts, hardened, made, running};
use in_effect::ways_to_be_false;

pub(super) const NOW: OffsetDateTime = datetime!(2026-02-01 12:00 UTC);

/// One machine for everything, with a registry, so that every node-level row is about it.
const INVENTORY: &str = r#"
version: kubastion/v1
cluster: { name: small, kubernetes: 1.36.2, endpoint: "192.0.2.10:8443", load_balancer: { mode: managed, interface: eth0 } }
ssh: { agent: true, known_hosts: kh }
runtime: { registry_mirrors: { registry.k8s.io: ["https://mirror.example"] }, cni: none }
nodes:
  - { name: a, addresses: [192.0.2.11], roles: [control-plane] }
  - { name: b, addresses: [192.0.2.21], roles: [worker] }
"#;

pub(super) fn inventory(change: &dyn Fn(&str) -> String) -> Inventory {
    let context = LoadContext {
        clock: Clock::Fixed(NOW),
        known_controls: &crate::controls::ids::ALL,
        critical_controls: &crate::controls::ids::CRITICAL,
        impact_rows: crate::impact::IDS,
        conflicts: crate::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    let text = change(INVENTORY);
    let dir = std::path::Path::new("/i");
    load_bytes(text.as_bytes(), std::path::Path::new("i.yaml"), dir, &context).unwrap().inventory
}

fn facts(node: &str) -> NodeFacts {
    let mut facts = NodeFacts::bare(node);
    facts.packages = [
        ("containerd", "2.1.9-1"),
        ("etcd-server", "3.5.30-1"),
        ("chrony", "4"),
        ("auditd", "4"),
        ("unattended-upgrades", "2.12"),
        ("nftables", "1.1"),
    ]
    .map(|(name, version)| (name.to_owned(), version.to_owned()))
    .into();
    facts.sshd.clear();
    facts
}

/// What is rendered for a node, with real certificates.
pub(super) fn rendered(inventory: &Inventory, name: &str) -> Observed {
    rendered_with(inventory, &Files::default(), name)
}

pub(super) fn rendered_with(inventory: &Inventory, files: &Files, name: &str) -> Observed {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = inventory.clone();
    inventory.pki.dir = dir.path().join("pki");
    let ask: pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("no passphrase in this test"));
    let mut store = pki::Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
    let (material, _) = pki::ensure(&inventory, &mut store, ask, Clock::Fixed(NOW)).unwrap();
    let facts = facts(name);
    let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
    let wanted =
        desired::resolve(&inventory, files, node, &facts, &material, &desired::Shared::default())
            .unwrap_or_else(|e| panic!("{e:?}"));
    Observed::from_desired(&wanted, &facts)
}

pub(super) fn judged(
    inventory: &Inventory,
    name: &str,
    seen: &Observed,
    attempts: &[Attempt],
) -> Vec<Finding> {
    let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
    let on = Basis { inventory, software: None, node, seen, now: NOW };
    match seen.origin {
        Origin::Rendered => of_rendered(&on),
        Origin::Node => of_node(&on, attempts),
    }
}

fn ids(findings: &[Finding], outcome: Outcome) -> BTreeSet<&'static str> {
    findings.iter().filter(|f| f.outcome() == outcome).map(|f| f.control).collect()
}

#[test]
fn what_is_rendered_holds_in_every_profile_and_release() {
    for profile in ["nsa", "cis", "stig"] {
        for minor in crate::inventory::KubernetesVersion::SUPPORTED_MINORS {
            let release = format!("1.{minor}.1");
            let inventory = inventory(&|t| {
                let t = t.replace("1.36.2", &release);
                format!("{t}hardening: {{ profile: {profile} }}\n")
            });
            for node in ["a", "b"] {
                let findings = judged(&inventory, node, &rendered(&inventory, node), &[]);
                for f in &findings {
                    let bad = |v: &Verdict| matches!(v.outcome(), Outcome::Fail | Outcome::Unknown);
                    assert!(!bad(&f.verdict), "{profile} {release} {node}: {f:#?}");
                    assert!(
                        !f.staged.as_ref().is_some_and(bad),
                        "{profile} {release} {node}: {f:#?}"
                    );
                }
                let passed = ids(&findings, Outcome::Pass);
                for id in ["host-ssh-hardening", "host-sysctls", "containerd-config-permissions"] {
                    assert!(passed.contains(id), "{id} was not judged on {node}: {passed:?}");
                }
                if node == "a" {
                    assert!(passed.contains("etcd-client-cert-auth"), "{passed:?}");
                    let staged = findings.iter().filter(|f| f.staged.is_some()).count();
                    assert!(staged > 50, "only {staged} controls were judged on staged files");
                }
            }
        }
    }
}

/// The name of a file enforces nothing, and nobody tries.
const UNTRIED: &str = "network-cni-with-policies";

/// Controls that a node-level look cannot pass here, with the outcome they have.
const NOT_PASSED: &[(&str, Outcome)] = &[
    (UNTRIED, Outcome::Unknown),
    // Its subject is not there, or it is not part of the profile.
    ("apiserver-request-timeout", Outcome::NotApplicable),
    ("apiserver-user-authn", Outcome::NotApplicable),
    ("host-log-forwarding", Outcome::NotApplicable),
    ("files-proxy-kubeconfig", Outcome::NotApplicable),
];

#[test]
fn a_hardened_node_passes_everything() {
    let (inventory, seen) = hardened();
    for f in judged(inventory, "a", seen, &attempts()) {
        let wanted =
            NOT_PASSED.iter().find(|(id, _)| *id == f.control).map_or(Outcome::Pass, |r| r.1);
        assert_eq!(f.outcome(), wanted, "{f:#?}");
    }
}

#[test]
fn an_attempt_that_succeeded_or_was_not_made_fails_its_controls() {
    let (inventory, good) = hardened();
    for a in attempts() {
        let attack = a.tried().attack;
        let owners: BTreeSet<&str> = CATALOGUE
            .iter()
            .filter(|c| c.checks.iter().any(|k| matches!(k, Check::Attack(p) if *p == attack)))
            .filter(|c| c.scope.holds(inventory, &inventory.nodes[0]))
            .map(|c| c.id)
            .collect();
        assert!(!owners.is_empty(), "{attack:?}");
        let mut tried = attempts();
        tried
            .iter_mut()
            .filter(|m| m.tried().attack == attack)
            .for_each(|m| *m = made(attack, "x", Verdict::fail("a", "b")));
        assert_eq!(ids(&judged(inventory, "a", good, &tried), Outcome::Fail), owners, "{attack:?}");
        tried.retain(|m| m.tried().attack != attack);
        let mut unknown = ids(&judged(inventory, "a", good, &tried), Outcome::Unknown);
        assert!(unknown.remove(UNTRIED));
        assert_eq!(unknown, owners, "{attack:?}");
    }
}

#[test]
fn the_unit_file_of_etcd_is_where_it_is_looked_for() {
    assert!(hardened().1.texts.contains_key(ETCD_UNIT));
}
