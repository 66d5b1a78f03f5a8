//! Settings of the kernel, and whose they are in a container.

use super::*;

/// On every kind of node: what is set is judged, with the value that is set, and nothing else is.
#[test]
fn every_kernel_setting_is_judged_where_it_is_set() {
    let inventory = inventory(&|t| {
        let t = t.replace("runtime:", "etcd: { placement: dedicated }\nruntime:");
        let t = t.replace("interface: eth0 } }", "interface: eth0 }, pod_networks: [10.244.0.0/16, \"fd00:10:244::/56\"], service_networks: [10.96.0.0/16, \"fd00:10:96::/112\"] }");
        format!("{t}  - {{ name: c, addresses: [192.0.2.31], roles: [etcd] }}\n")
    });
    for (name, at_least) in [("a", 31), ("b", 31), ("c", 21)] {
        let good = rendered(&inventory, name);
        let node = inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
        let rows = KERNEL_SETTINGS.iter().filter(|s| s.is_for(&inventory, node)).count();
        assert_eq!(good.sysctls.len(), rows, "{name}");
        assert!(rows >= at_least, "{name}: {rows}");
        let of = |seen: &Observed| {
            let mut findings = judged(&inventory, name, seen, &[]);
            findings.retain(|f| f.control == "host-sysctls");
            findings.remove(0)
        };
        let finding = of(&good);
        assert_eq!(finding.outcome(), Outcome::Pass, "{name}: {finding:#?}");
        let looked_at = finding.evidence.iter().filter_map(|e| e.what().strip_prefix("sysctl "));
        let looked_at: BTreeSet<&str> = looked_at.collect();
        let set: BTreeSet<&str> = good.sysctls.keys().map(String::as_str).collect();
        assert_eq!(looked_at, set, "{name}");
        let watched = crate::checks::watch::of_checks(&inventory, node).sysctls;
        assert!(watched.iter().map(String::as_str).eq(set.iter().copied()), "{name}: {watched:?}");
        for (origin, key) in set.iter().flat_map(|k| [(Origin::Rendered, k), (Origin::Node, k)]) {
            let mut seen = good.clone();
            seen.origin = origin;
            if origin == Origin::Node {
                seen.swaps = Some(Vec::new());
            }
            seen.sysctls.insert((*key).to_owned(), "99".into());
            assert_eq!(of(&seen).outcome(), Outcome::Fail, "{name}: {key}");
        }
    }
}

/// Node `a` as a container, with something changed in it, judged.
fn judged_in_a_container(change: impl FnOnce(&mut Observed)) -> Vec<Finding> {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    seen.container = Some("systemd-nspawn".into());
    seen.sysctls.retain(|k, _| k.starts_with("net.") && !k.starts_with("net.bridge."));
    change(&mut seen);
    judged(inventory, "a", &seen, &attempts())
}

/// Of a container's kernel settings those of its network are its own, and nothing about the rest is unknown.
#[test]
fn a_container_is_judged_by_the_settings_of_its_network() {
    let of = |change: &dyn Fn(&mut Observed)| {
        let mut findings = judged_in_a_container(|seen| {
            seen.swaps = Some(vec!["/swap".into()]);
            change(seen);
        });
        findings.retain(|f| f.control == "host-sysctls");
        findings.remove(0).outcome()
    };
    let set = |key: &'static str| {
        move |s: &mut Observed| {
            s.sysctls.insert(key.into(), "99".into());
        }
    };
    assert_eq!(of(&|_| {}), Outcome::Pass);
    assert_eq!(of(&set("vm.overcommit_memory")), Outcome::Pass);
    assert_eq!(of(&set("net.ipv4.tcp_syncookies")), Outcome::Fail);
    assert_eq!(of(&set("net.bridge.bridge-nf-call-iptables")), Outcome::Fail);
    let forget =
        |what: &'static str| move |s: &mut Observed| s.sysctls.retain(|k, _| !k.starts_with(what));
    assert_eq!(of(&forget("net.ipv4.tcp_syncookies")), Outcome::Unknown);
    // A kernel without IPv6 has none of its settings, and one that was not asked has none at all.
    assert_eq!(of(&forget("net.ipv6.")), Outcome::Pass);
    assert_eq!(of(&forget("net.ipv6.conf.all.accept_redirects")), Outcome::Unknown);
    assert_eq!(of(&forget("net.")), Outcome::Unknown);
}

/// The kernel of a container is its host's: nobody can mend there what the host decides, and what cannot be seen is no gap.
#[test]
fn a_container_is_not_judged_by_what_its_host_decides() {
    let found = |kernel: &dyn Fn(&mut Observed)| {
        let findings = judged_in_a_container(kernel);
        let of = |outcome| ids(&findings, outcome);
        (of(Outcome::Fail), of(Outcome::Unknown))
    };
    let unseen = found(&|seen| {
        (seen.lsm, seen.time) = (None, None);
        (seen.audit_rules, seen.audit_enabled, seen.audit_usable) = (None, None, false);
    });
    assert_eq!(unseen, ([].into(), [UNTRIED].into()));
    let weak = found(&|seen| {
        seen.lsm =
            Some(LsmFacts { active: vec![], apparmor: Some(false), selinux_enforcing: None });
        seen.time = Some(TimeFacts { synchronized: Some(false), chrony: None });
        seen.swaps = Some(vec!["/swap".into()]);
        (seen.audit_rules, seen.audit_enabled) = (Some(Vec::new()), Some(0));
        seen.audit_usable = false;
    });
    assert_eq!(weak, ([].into(), [UNTRIED].into()));
}
