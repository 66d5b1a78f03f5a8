use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;
use time::macros::datetime;

use super::{Detail, json, summary, text};
use crate::checks::{
    Asked, Attempt, Evidence, ExceptionGrant, Finding, Machine, Source, SourceKind, Subject, Tried,
    Verdict, Verification, Witness,
};
use crate::controls::{Attack, find};
use crate::digest::Digest;
use crate::inventory::testing;

fn asked(what: &str) -> Asked {
    Asked { what: what.into(), check: what.into(), expected: "what should be".into() }
}

/// A file that was read on a machine.
fn file() -> Source {
    Source {
        kind: SourceKind::File,
        what: "/etc/x".into(),
        sha256: Some(Digest::of("x")),
        read: Some(datetime!(2026-02-01 12:00:00.5 UTC)),
        machine: Some(Arc::new(Machine { host_key: "SHA256:k".into(), boot_id: "b".into() })),
    }
}

#[test]
fn each_piece_of_evidence_says_what_was_read_when_and_where() {
    let inventory = testing::two_and_two();
    let node = inventory.nodes[0].name.clone();
    let control = find("host-firewall-control-plane").unwrap();
    let of = |verdict: Verdict, sources: Vec<Source>| {
        let sources = crate::checks::Sources::of(sources).unwrap();
        let evidence = vec![Evidence::new(asked("w"), verdict, sources)];
        let found = vec![Finding::new(control, Subject::Node(node.clone()), evidence)];
        let now = OffsetDateTime::UNIX_EPOCH;
        let report = Verification::new(&inventory, now, found, Vec::new(), BTreeMap::new());
        serde_json::to_value(json(&report)).unwrap()
    };
    let whole = of(Verdict::pass("seen"), vec![file()]);
    assert_eq!(whole["format"], "kubastion-verification/v1");
    let finding = &whole["findings"][0];
    assert_eq!(finding["node"], node.as_str());
    assert_eq!(finding["subject"], serde_json::json!({"type": "node", "name": node.as_str()}));
    for judged in [finding, &finding["evidence"][0]] {
        assert_eq!(judged["verdict"], "pass");
        assert_eq!(judged["expected"], "what should be");
        assert_eq!((&judged["observed"], &judged["actual"]), (&"seen".into(), &"seen".into()));
    }
    assert_eq!(
        finding["evidence"][0]["sources"],
        serde_json::json!([{
            "kind": "file", "what": "/etc/x", "sha256": Digest::of("x").to_string(),
            "read": "2026-02-01T12:00:00Z", "host_key": "SHA256:k", "boot_id": "b",
        }])
    );
    // What a failure wants is said in its own words, and once.
    let failed = of(Verdict::fail("this", "that"), vec![file()]);
    assert_eq!(failed["findings"][0]["evidence"][0]["expected"], "this");
    // One answer that is not there is enough.
    let nothing = Source::without_answer(SourceKind::Command, "sshd -T");
    let blind = of(Verdict::pass("seen"), vec![file(), nothing]);
    let evidence = &blind["findings"][0]["evidence"][0];
    assert_eq!(evidence["verdict"], "unknown");
    assert!(evidence["why"].as_str().unwrap().contains("evidence is missing"), "{evidence}");
    assert_eq!(evidence["sources"][1], serde_json::json!({"kind": "command", "what": "sshd -T"}));
    assert_eq!(blind["summary"]["pass"], 0);
}

#[test]
fn an_attempt_that_failed_by_an_exception_says_so() {
    let inventory = testing::two_and_two();
    let target = inventory.nodes[0].name.clone();
    let tried = Tried {
        target: target.clone(),
        attack: Attack::EffectiveSetting,
        from: "operator".into(),
        what: "kubelet protectKernelDefaults in effect".into(),
    };
    let verdict = Verdict::fail("true", "false");
    let attempt = Attempt::new(tried, verdict, Some(Digest::of("false")), Witness::default());
    let said = |judged: bool, excepted: bool| {
        let what = if judged { attempt.evidence() } else { "something else".to_owned() };
        let source = attempt.source().clone();
        let evidence = Evidence::new(asked(&what), attempt.verdict().clone(), source.into());
        let control = find("kubelet-protect-kernel-defaults").unwrap();
        let mut finding = Finding::new(control, Subject::Node(target.clone()), vec![evidence]);
        finding.exception = excepted.then(|| ExceptionGrant {
            reason: "r".into(),
            owner: "o".into(),
            expires: "2999-01-01".into(),
        });
        let now = OffsetDateTime::UNIX_EPOCH;
        let attempts = vec![attempt.clone()];
        let report = Verification::new(&inventory, now, vec![finding], attempts, BTreeMap::new());
        summary(&report)
    };
    assert!(said(true, false).contains(": NOT as expected (once)\n"), "{}", said(true, false));
    assert!(
        said(true, true).contains("NOT as expected (once) with an exception"),
        "{}",
        said(true, true)
    );
    assert!(
        said(false, true)
            .contains("NOT as expected (once), but no enabled control fails because of it")
    );
    let one = said(true, true);
    assert!(one.contains("Cluster c: 1 node, 1 control to check."), "{one}");
    assert!(one.contains("(1 attempt)") && one.contains("   1 fails with an exception"), "{one}");
}

#[test]
fn counts_stand_below_their_heads() {
    let inventory = testing::two_and_two();
    let node = inventory.nodes[0].name.clone();
    let finding = |id: &str, verdict: Verdict| {
        let evidence = vec![Evidence::new(asked("w"), verdict, file().into())];
        Finding::new(find(id).unwrap(), Subject::Node(node.clone()), evidence)
    };
    let found = vec![
        finding("kcm-profiling-off", Verdict::pass("x")),
        finding("etcd-client-cert-auth", Verdict::fail("x", "y")),
    ];
    let now = OffsetDateTime::UNIX_EPOCH;
    let report = Verification::new(&inventory, now, found, Vec::new(), BTreeMap::new());
    let said = text(&report, Detail::Short);
    let counts = "
                       holds  fails  unknown  excepted   n/a
  controller-manager       1      0        0         0     0
  etcd                     0      1        0         0     0
  all                      1      1        0         0     0
";
    assert!(said.contains(counts), "{said}");
}

#[test]
fn what_is_switched_off_is_said_with_who_says_so() {
    let inventory = testing::with(
        "hardening: {controls: {kubelet-pod-pids-limit: off, policy-secrets-not-in-env: on, \
             etcd-client-cert-auth: {state: off, reason: a migration, owner: ops, \
             expires: 2999-01-01}}}\n",
    );
    let now = OffsetDateTime::UNIX_EPOCH;
    let report = Verification::new(&inventory, now, Vec::new(), Vec::new(), BTreeMap::new());
    for said in [summary(&report), text(&report, Detail::Short)] {
        let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
        // The worst first.
        assert!(at("etcd-client-cert-auth  critical") < at("kubelet-pod-pids-limit  "));
        at("until 2999-01-01 by ops: a migration");
        assert!(!said.contains("policy-secrets-not-in-env"), "{said}");
    }
    let json = serde_json::to_value(json(&report)).unwrap();
    assert_eq!(json["switched_off"][0]["control"], "etcd-client-cert-auth");
    assert_eq!(json["switched_off"][0]["granted"]["owner"], "ops");
    assert!(json["switched_off"][1].get("granted").is_none());
}

#[test]
fn of_a_node_that_did_not_answer_nothing_is_called_judged_or_tried() {
    let inventory = testing::two_and_two();
    let (cp, worker) = (&inventory.nodes[0], inventory.nodes.last().unwrap());
    let now = OffsetDateTime::UNIX_EPOCH;
    let mut found = crate::checks::unreachable(&inventory, worker, "no route");
    let lost = [(worker.name.clone(), "no route".to_owned())].into();
    let report = Verification::new(&inventory, now, found.clone(), Vec::new(), lost);
    let said = summary(&report);
    assert!(said.contains("1 node did not answer; its state is unknown:"), "{said}");
    assert!(said.contains(&format!("  {}: no route", worker.name)), "{said}");
    assert!(
        said.contains("No attack could be attempted") && !said.contains("(0 attempts)"),
        "{said}"
    );
    assert!(said.contains("   0 controls hold\n"), "{said}");
    let unknown = report.summary.unknown;
    assert!(unknown > 0 && said.contains(&format!("{unknown} could not be checked: ")), "{said}");

    let control = find("host-firewall-control-plane").unwrap();
    let failed = Verdict::fail("policy drop", "accept");
    let evidence = vec![Evidence::new(asked("w"), failed, file().into())];
    found.push(Finding::new(control, Subject::Node(cp.name.clone()), evidence));
    let report = Verification::new(&inventory, now, found, Vec::new(), BTreeMap::new());
    let named = format!("1 fails: host-firewall-control-plane ({})", cp.name);
    assert!(summary(&report).contains(&named), "{}", summary(&report));
}
