use super::marks::CHANGED;
use super::*;
use crate::desired::{Access, Content, FileCheck, Item, KubeadmAction, OnChange, Start};
use crate::facts::{FileFacts, Login, LostLogin};
use crate::plan::step::Step;

/// What is to be done with a node that runs with this mark, and has this kubelet configuration.
fn kubeadm_action(mark: Option<&str>, configured: bool) -> Option<KubeadmAction> {
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    facts.unit_marks.extend(mark.map(|m| (CLUSTER_MARK.to_owned(), m.to_owned())));
    let (mode, owner, group) = (0o600, "root".to_owned(), "root".to_owned());
    let file = FileFacts::File { mode, owner, group, size: 0, sha256: String::new() };
    let found = if configured { file } else { FileFacts::Absent };
    facts.files.insert(KUBELET_CONFIG.to_owned(), found);
    let kind = ItemKind::Kubeadm { action: KubeadmAction::Join, watches: Vec::new() };
    let item = Item { phase: Phase::Kubernetes, controls: Vec::new(), kind };
    let mut pending = Pending::default();
    let desired = NodeDesired { items: vec![item], notes: vec![] };
    add(&mut pending, &desired.items[0], &Known::of(&desired, &facts)).unwrap();
    match pending.kubeadm.as_slice() {
        [] => None,
        [Action { step: Step::Kubeadm { action, .. }, .. }] => Some(*action),
        other => panic!("{other:?}"),
    }
}

/// A file of a later phase lies where an earlier one makes the directory.
#[test]
fn a_missing_directory_is_made_as_it_is_wanted() {
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    for path in ["/a", "/a/b", "/a/b/f"] {
        facts.files.insert(path.to_owned(), FileFacts::Absent);
    }
    let item = |phase, kind| Item { phase, controls: Vec::new(), kind };
    let directory = ItemKind::Directory { path: "/a/b".to_owned(), access: Access::root(0o700) };
    let file = ItemKind::File {
        path: "/a/b/f".to_owned(),
        content: Content::Text("".into()),
        access: Access::root(0o600),
        check: FileCheck::None,
    };
    let items = vec![item(Phase::Host, directory), item(Phase::Kubernetes, file)];
    let plan = node_plan(&NodeDesired { items, notes: vec![] }, &facts, "").unwrap();
    for transaction in &plan.transactions {
        let modes: Vec<(&str, u32)> = transaction
            .steps
            .iter()
            .filter_map(|a| match &a.step {
                Step::Directory { path, access } => Some((path.as_str(), access.mode)),
                _ => None,
            })
            .collect();
        assert_eq!(modes, [("/a", 0o755), ("/a/b", 0o700)], "{:?}", transaction.phase);
    }
    assert_eq!(plan.transactions.len(), 2);
}

#[test]
fn a_member_is_configured_and_never_joined_again() {
    let current = config_digest(&[], &BTreeMap::new());
    assert_eq!(kubeadm_action(None, false), Some(KubeadmAction::Join));
    assert_eq!(
        kubeadm_action(None, true),
        Some(KubeadmAction::Configure),
        "somebody else's member"
    );
    assert_eq!(kubeadm_action(Some("older"), true), Some(KubeadmAction::Configure));
    assert_eq!(kubeadm_action(Some("older"), false), Some(KubeadmAction::Configure));
    assert_eq!(kubeadm_action(Some(&current), true), None);
    assert_eq!(
        kubeadm_action(Some(CHANGED), true),
        Some(KubeadmAction::Configure),
        "its static pods"
    );
}

/// The file is mended in one transaction, its daemon started again in a later one. If that one does
/// not come, the file is as it should be, and the mark has to tell.
#[test]
fn what_was_changed_is_not_forgotten_between_two_transactions() {
    let path = "/etc/x.conf".to_owned();
    let item = |phase, kind| Item { phase, controls: Vec::new(), kind };
    let file = ItemKind::File {
        path: path.clone(),
        content: Content::Text("ours\n".into()),
        access: Access::root(0o600),
        check: FileCheck::None,
    };
    let member = ItemKind::Kubeadm { action: KubeadmAction::Join, watches: vec![path.clone()] };
    let unit = ItemKind::Unit {
        name: "x.service".into(),
        enabled: true,
        active: true,
        on_change: OnChange::Restart,
        watches: vec![path.clone()],
        start: Start::Wait,
    };
    let items =
        vec![item(Phase::Host, file), item(Phase::Etcd, unit), item(Phase::Kubernetes, member)];
    let desired = NodeDesired { items, notes: vec![] };
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    let (mark, wanted) = {
        let known = Known::of(&desired, &facts);
        let digest = config_digest(std::slice::from_ref(&path), &known.contents);
        (digest, known.contents[path.as_str()].clone())
    };
    let found = |sha256: &str| FileFacts::File {
        mode: 0o600,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        size: 5,
        sha256: sha256.to_owned(),
    };
    facts.files.insert(path.clone(), found("theirs"));
    for name in ["x.service", CLUSTER_MARK] {
        facts.unit_marks.insert(name.into(), mark.clone());
    }
    let plan = node_plan(&desired, &facts, "").unwrap();
    let steps = &plan.transactions[0].steps;
    let noted: Vec<&str> = steps
        .iter()
        .filter_map(|a| match &a.step {
            Step::MarkStale { unit } => Some(unit.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((plan.transactions[0].phase, noted), (Phase::Host, vec!["x.service", "kubernetes"]));
    let at = |wanted: fn(&Step) -> bool| steps.iter().position(|a| wanted(&a.step)).unwrap();
    assert!(at(|s| matches!(s, Step::MarkStale { .. })) < at(|s| matches!(s, Step::Files { .. })));
    // The first transaction alone was made.
    facts.files.insert(path, found(&wanted));
    for mark in facts.unit_marks.values_mut() {
        *mark = CHANGED.to_owned();
    }
    let plan = node_plan(&desired, &facts, "").unwrap();
    let again: Vec<&[Why]> =
        plan.transactions.iter().flat_map(|t| &t.steps).map(|a| a.why.as_slice()).collect();
    let restarts = again.iter().filter(|why| why[..] == [Why::RunsChanged]).count();
    assert_eq!(restarts, 1, "{again:?}");
    assert!(again.iter().any(|why| why.last() == Some(&Why::RunsChanged)), "{again:?}");
    let phases: Vec<Phase> = plan.transactions.iter().map(|t| t.phase).collect();
    assert_eq!(phases, [Phase::Etcd, Phase::Kubernetes]);
}

/// Somebody changed a file and started the daemon with it: the file alone is not enough.
#[test]
fn what_runs_with_a_changed_file_is_started_again() {
    let path = "/etc/x.conf".to_owned();
    let file = ItemKind::File {
        path: path.clone(),
        content: Content::Text("ours\n".into()),
        access: Access::root(0o600),
        check: FileCheck::None,
    };
    let unit = ItemKind::Unit {
        name: "x.service".into(),
        enabled: true,
        active: true,
        on_change: OnChange::Restart,
        watches: vec![path.clone()],
        start: Start::Wait,
    };
    let member = ItemKind::Kubeadm { action: KubeadmAction::Join, watches: vec![path.clone()] };
    let items =
        [file, unit, member].map(|kind| Item { phase: Phase::Host, controls: Vec::new(), kind });
    let desired = NodeDesired { items: items.into(), notes: vec![] };
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    let known = Known::of(&desired, &facts);
    let (mark, wanted) = (
        config_digest(std::slice::from_ref(&path), &known.contents),
        known.contents[path.as_str()].clone(),
    );
    for name in ["x.service", CLUSTER_MARK] {
        facts.unit_marks.insert(name.into(), mark.clone());
    }
    let unit = crate::facts::UnitFacts {
        file: "enabled".into(),
        active: "active".into(),
        ..Default::default()
    };
    facts.units.insert("x.service".into(), unit);
    let mut started = |sha256: String| {
        let (owner, group) = ("root".to_owned(), "root".to_owned());
        let found = FileFacts::File { mode: 0o600, owner, group, size: 5, sha256 };
        facts.files.insert(path.clone(), found);
        let plan = node_plan(&desired, &facts, "").unwrap();
        let steps: Vec<Action> = plan.transactions.into_iter().flat_map(|t| t.steps).collect();
        let is_start = |s: &&Action| {
            matches!(
                &s.step,
                Step::Kubeadm { .. }
                    | Step::Unit { run: Some(true), change: OnChange::Restart, .. }
            )
        };
        steps.iter().filter(is_start).map(|s| s.why.clone()).collect::<Vec<_>>()
    };
    let changed = vec![Why::RunsChanged];
    assert_eq!(started("theirs".into()), [changed.clone(), changed]);
    assert!(started(wanted).is_empty());
}

#[test]
fn who_will_not_get_in_is_named_and_given_up_by_name() {
    let path = "/etc/ssh/sshd_config.d/00-a.conf".to_owned();
    let content = Content::Text("PasswordAuthentication no\n".into());
    let kind =
        ItemKind::File { path, content, access: Access::root(0o600), check: FileCheck::Sshd };
    let item = Item { phase: Phase::Host, controls: Vec::new(), kind };
    let desired = NodeDesired { items: vec![item], notes: Vec::new() };
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    let of = |facts: &NodeFacts| {
        let plan = node_plan(&desired, facts, "").unwrap();
        let steps: Vec<Step> =
            plan.transactions.into_iter().flat_map(|t| t.steps).map(|a| a.step).collect();
        let without = steps.iter().find_map(|s| match s {
            Step::CheckLogins { without } => Some(without.join(" ")),
            _ => None,
        });
        (plan.notes.join("\n"), without.unwrap())
    };
    assert!(of(&facts).0.contains("could not be determined"));
    let login = |name: &str, lost: Option<&str>| Login {
        name: name.into(),
        address: "192.0.2.9".into(),
        lost: lost.map(|why| LostLogin::Method(why.to_owned())),
    };
    facts.logins = Some(vec![login("a", None)]);
    assert_eq!(of(&facts), (String::new(), String::new()));
    // What cannot be part of a step is named, and its change taken back on the node.
    let why = Some("AuthenticationMethods publickey,password");
    facts.logins = Some(vec![login("b", why), login("c|d", why), login("a", None)]);
    let (notes, without) = of(&facts);
    assert!(notes.contains("login `b` from 192.0.2.9 will stop working"), "{notes}");
    assert!(notes.contains("`c|d`") && !notes.contains("`a`"), "{notes}");
    assert_eq!(without, "b");
}

#[test]
fn swap_that_is_on_is_switched_off() {
    let item = Item { phase: Phase::Host, controls: Vec::new(), kind: ItemKind::SwapOff };
    let desired = NodeDesired { items: vec![item], notes: Vec::new() };
    let mut facts = crate::desired::tests::facts("n", "debian 12", None);
    assert!(node_plan(&desired, &facts, "").unwrap().transactions.is_empty());
    facts.swaps = vec!["/swapfile".into()];
    let plan = node_plan(&desired, &facts, "").unwrap();
    let steps: Vec<&Action> = plan.transactions.iter().flat_map(|t| &t.steps).collect();
    assert!(matches!(steps[..], [Action { step: Step::SwapOff, .. }]), "{steps:?}");
    assert_eq!(steps[0].why_text(), "active: /swapfile");
}
