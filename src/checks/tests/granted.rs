//! What the inventory grants, and for how long.

use super::*;

#[test]
fn exceptions_cover_failures_until_their_day_and_nothing_unknown() {
    let grant = "hardening: { exceptions: [{ control: host-time-sync, nodes: [a], reason: r, owner: o, expires: 2026-02-01 }] }\n";
    let inventory = inventory(&|t| format!("{t}{grant}"));
    let mut seen = hardened().1.clone();
    let find = |seen: &Observed, now| {
        let on =
            Basis { inventory: &inventory, software: None, node: &inventory.nodes[0], seen, now };
        of_node(&on, &attempts()).into_iter().find(|f| f.control == "host-time-sync").unwrap()
    };
    assert!(find(&seen, NOW).exception.is_none(), "what holds needs none");
    seen.time = Some(TimeFacts { synchronized: Some(false), chrony: None });
    let f = find(&seen, NOW);
    assert!(f.outcome() == Outcome::Fail && f.exception.is_some() && !f.is_bad());
    assert!(find(&seen, NOW + time::Duration::days(1)).is_bad(), "the day has passed");
    seen.time = Some(TimeFacts::default());
    let f = find(&seen, NOW);
    assert!(f.outcome() == Outcome::Unknown && f.exception.is_none() && f.is_bad());
}

#[test]
fn what_is_switched_off_is_not_applicable_and_says_so() {
    let off = "hardening: { controls: { host-time-sync: off } }\n";
    let inventory = inventory(&|t| format!("{t}{off}"));
    let mut seen = hardened().1.clone();
    seen.time = None;
    let findings = judged(&inventory, "a", &seen, &attempts());
    let f = findings.iter().find(|f| f.control == "host-time-sync").unwrap();
    assert_eq!(f.verdict, Verdict::not_applicable("switched off in the inventory"));
}

#[test]
fn accepted_cas_are_those_of_the_key_store_and_no_others() {
    use crate::pki::{Anchor, certificates, made};
    let (inventory, good) = hardened();
    let (path, id) = ("/etc/kubernetes/pki/ca.crt", "pki-one-ca-per-file");
    let own = good.texts[path].clone().unwrap();
    let (old, stranger) = (made("old"), made("stranger"));
    let with = |more: &[&Anchor]| {
        more.iter().fold(own.clone(), |text, anchor| format!("{text}{}", anchor.pem))
    };
    let stand = |held: &str, trusted: Option<&str>| {
        let mut seen = good.clone();
        seen.texts.insert(path.into(), Some(held.to_owned()));
        match trusted {
            Some(text) => {
                let all = seen.trusted_cas.as_mut().unwrap();
                all.insert(path, certificates(text).unwrap());
            }
            None => seen.trusted_cas = None,
        }
        let found = judged(inventory, "a", &seen, &attempts());
        let of = |control| {
            let mut all = found.iter().filter(|f| f.control == control);
            all.next().map(Finding::outcome)
        };
        (of(id), of("pki-separate-cas"), of("pki-key-algorithm-and-lifetime"))
    };
    let accepted = with(&[&old]);
    let pass = Some(Outcome::Pass);
    assert_eq!(stand(&accepted, Some(&accepted)), (pass, pass, pass));
    assert_eq!(stand(&own, None).0, pass, "one alone, as ever");
    let fail = Some(Outcome::Fail);
    assert_eq!(stand(&with(&[&old, &stranger]), Some(&accepted)).0, fail);
    assert_eq!(stand(&with(&[&stranger]), Some(&accepted)).0, fail);
    assert_eq!(stand(&with(&[&old]), Some(&own)).0, fail, "it is accepted no more");
    assert_eq!(stand(&with(&[&old, &old]), Some(&accepted)).0, fail, "twice");
    assert_eq!(stand(&accepted, None).0, Some(Outcome::Unknown), "nobody knows whose it is");
    // A client of the etcd CA would be one of the cluster's.
    let etcd = good.texts["/etc/kubernetes/pki/etcd/ca.crt"].clone().unwrap();
    let shared = format!("{own}{etcd}");
    assert_eq!(stand(&shared, Some(&shared)).1, fail);
}
