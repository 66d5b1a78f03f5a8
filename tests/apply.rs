//! Transactions on real nodes: what is applied, what is undone, and what survives a killed
//! controller or a reboot.

mod access;
mod boot;

use std::time::{Duration, Instant};

use kubastion::apply::protocol::{self, TxnState, Verb};
use kubastion::apply::{TXN_SCRIPT, payload};
use kubastion::desired::{Access, Content, FileCheck, Item, ItemKind, OnChange, Phase, Start};
use kubastion::plan::{Step, diff, preflight};
use kubastion::runs::record::Outcome;
use kubastion::transport::Dialer;

use crate::support::fleet::{Lent, borrow, borrow_any};

pub fn file(path: &str, text: &str, mode: u32) -> Item {
    item(ItemKind::File {
        path: path.into(),
        content: Content::Text(text.into()),
        access: Access::root(mode),
        check: FileCheck::None,
    })
}

fn item(kind: ItemKind) -> Item {
    Item { phase: Phase::Host, controls: Vec::new(), kind }
}

/// Our firewall with one rule set; `ssh` says whether sshd stays reachable.
fn firewall(accept_ssh: bool) -> Vec<Item> {
    firewall_with(if accept_ssh { "tcp dport 22 accept" } else { "" })
}

fn firewall_with(ssh: &str) -> Vec<Item> {
    let rules = format!(
        "table inet kubastion\ndelete table inet kubastion\ntable inet kubastion {{\n  chain input {{\n    \
         type filter hook input priority 0; policy drop;\n    ct state established,related accept\n    \
         iif lo accept\n    {ssh}\n  }}\n}}\n"
    );
    vec![
        item(ItemKind::File {
            path: "/etc/kubastion/firewall.nft".into(),
            content: Content::Text(rules.into()),
            access: Access::root(0o600),
            check: FileCheck::Nft,
        }),
        item(ItemKind::Firewall { path: "/etc/kubastion/firewall.nft".into() }),
    ]
}

fn guard() -> Vec<Item> {
    vec![
        item(ItemKind::Directory {
            path: "/var/lib/kubastion".into(),
            access: Access::root(0o700),
        }),
        file("/var/lib/kubastion/guard.sh", kubastion::apply::GUARD_SCRIPT, 0o600),
        file(
            "/etc/systemd/system/kubastion-guard.service",
            "[Unit]\nDescription=Undo an unconfirmed change\nDefaultDependencies=no\nAfter=local-fs.target\n\
             Before=sysinit.target systemd-sysctl.service\nConditionPathExists=/var/lib/kubastion/armed\n\
             [Service]\nType=oneshot\nExecStart=/bin/sh /var/lib/kubastion/guard.sh\n[Install]\nWantedBy=sysinit.target\n",
            0o644,
        ),
        item(ItemKind::Unit {
            name: "kubastion-guard.service".into(),
            enabled: true,
            active: false,
            on_change: OnChange::Nothing,
            watches: Vec::new(),
            start: Start::Wait,
        }),
    ]
}

/// A change that can cut access, and does not: it waits for a confirmation. Another one for each number.
pub fn guarded(number: usize) -> Vec<Item> {
    with(guard(), firewall_with(&format!("tcp dport {{ 22, {} }} accept", 7000 + number)))
}

fn with(mut a: Vec<Item>, b: Vec<Item>) -> Vec<Item> {
    a.extend(b);
    a
}

const PLACES: &str = "/etc /usr/local /var/lib/kubelet";

fn outcome(node: &Lent, items: Vec<Item>) -> Outcome {
    let (plan, desired) = node.plan(items);
    let mut outcomes = node.apply(&plan, &desired);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0).1
}

#[test]
fn files_land_with_owner_and_mode_and_a_second_plan_is_empty() {
    let Some(node) = borrow_any("files_land") else { return };
    let items = || {
        vec![
            file("/etc/kubastion-test/deep/er/a.conf", "a = 1\n", 0o600),
            file("/etc/kubastion-test/b.conf", "b\n", 0o644),
            item(ItemKind::Directory {
                path: "/etc/kubastion-test/deep".into(),
                access: Access::root(0o750),
            }),
            item(ItemKind::File {
                path: "/etc/kubastion-test/c.key".into(),
                content: Content::Secret(kubastion::secret::Secret::new(b"top secret".to_vec())),
                access: Access { owner: "etcd".into(), group: "etcd".into(), mode: 0o400 },
                check: FileCheck::None,
            }),
        ]
    };
    let before = node.tree(PLACES);
    assert_eq!(outcome(&node, items()), Outcome::Committed);
    let listing = node.sh("cd /etc/kubastion-test; stat -c '%a %U:%G %n' deep deep/er/a.conf b.conf c.key; cat deep/er/a.conf");
    assert_eq!(
        listing,
        "750 root:root deep\n600 root:root deep/er/a.conf\n644 root:root b.conf\n400 etcd:etcd c.key\na = 1\n"
    );
    let (again, _) = node.plan(items());
    assert!(again.is_empty(), "{again:#?}");
    // Rollback: the same tree, to the digest, owner and mode.
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    assert_eq!(node.tree(PLACES), before);
}

/// A transaction id as a run makes it.
fn new_id() -> String {
    let random = kubastion::clock::random_bytes::<3>();
    format!("20260101t000000z-{}-host", kubastion::plain::hex(&random))
}

/// Carries a transaction out up to the point where a controller would confirm, and goes away.
fn switch_and_vanish(node: &Lent, items: Vec<Item>) -> String {
    let (plan, desired) = node.plan(items);
    let transaction = &plan.nodes[&node.name].transactions[0];
    let id = new_id();
    let payload = payload::build(transaction, &desired.nodes[&node.name], 1_700_000_000).unwrap();
    let mut session = node.connect();
    let staged = protocol::stage(session.as_mut(), &id, &payload).unwrap();
    assert_eq!(staged.state, Some(TxnState::Prepared), "{staged:?}");
    let switched = protocol::call(session.as_mut(), &id, Verb::Switch, "-", &mut |_| {}).unwrap();
    assert_eq!(switched.state, Some(TxnState::Switched), "{switched:?}");
    assert!(switched.armed);
    id
}

/// The node's word on a transaction, without SSH: it may be locked out.
fn state_of(node: &Lent, id: &str) -> String {
    let path = format!("/var/lib/kubastion/txn/{id}/state");
    let output = node.lab.command(node.name.as_str(), &["cat", &path]).unwrap().output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn wait_for_state(node: &Lent, id: &str, wanted: &str, within: Duration) {
    let deadline = Instant::now() + within;
    while state_of(node, id) != wanted {
        assert!(Instant::now() < deadline, "{id} is {} and not {wanted}", state_of(node, id));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Not over SSH: a test that fails has locked itself out.
fn inside(node: &Lent, script: &str) {
    node.lab.command(node.name.as_str(), &["sh", "-c", script]).unwrap().output().unwrap();
}

/// As the host's items have it: interfaces that are there before the file is read do not go by `default`.
const NO_REDIRECTS: &str =
    "net.ipv4.conf.all.send_redirects = 0\nnet.ipv4.conf.*.send_redirects = 0\n";

#[test]
fn confirm_and_revert_race_for_one_decision() {
    let Some(node) = borrow_any("confirm_and_revert_race") else { return };
    for _ in 0..5 {
        let id = switch_and_vanish(&node, with(guard(), firewall(true)));
        let answers = node.sh(&format!(
            "cd /var/lib/kubastion/txn/{id}; sh txn.sh confirm >/tmp/c & sh txn.sh revert race >/tmp/r & wait; \
             tail -n 1 /tmp/c; tail -n 1 /tmp/r; cat state"
        ));
        let lines: Vec<&str> = answers.lines().collect();
        let state = lines[2];
        assert!(["committed", "reverted"].contains(&state), "{answers}");
        let loaded = node.sh("nft list tables").contains("kubastion");
        assert_eq!(loaded, state == "committed", "{answers}");
        if state == "committed" {
            node.sh(&format!("sh /var/lib/kubastion/txn/{id}/txn.sh undo"));
        }
    }
}

/// Files in several places, a permission, a kernel setting, a unit and the firewall: every kind of
/// step that can be tried here.
fn mixed() -> Vec<Item> {
    let mut items = with(guard(), firewall(true));
    items.extend([
        file("/etc/kubastion-test/new/a.conf", "new\n", 0o600),
        file("/etc/motd", "hardened\n", 0o644),
        file("/etc/sysctl.d/90-kubastion.conf", NO_REDIRECTS, 0o644),
        item(ItemKind::Permissions { path: "/etc/crontab".into(), access: Access::root(0o600) }),
        item(ItemKind::Absent { path: "/etc/issue.net".into() }),
        item(ItemKind::Sysctl {
            key: "net.ipv4.conf.all.send_redirects".into(),
            value: "0".into(),
        }),
        file(
            "/etc/systemd/system/kubastion-test.service",
            "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
            0o644,
        ),
        item(ItemKind::Unit {
            name: "kubastion-test.service".into(),
            enabled: true,
            active: true,
            on_change: OnChange::Restart,
            watches: vec!["/etc/systemd/system/kubastion-test.service".into()],
            start: Start::Wait,
        }),
    ]);
    items
}

/// What a node holds that a transaction may change.
fn whole_state(node: &Lent) -> String {
    // The network namespace of a lab node starts with the kernel's default.
    node.tree(PLACES)
        + &node.sh(
            "nft -s list ruleset; cat /proc/sys/net/ipv4/conf/all/send_redirects; \
             systemctl is-active kubastion-test.service; systemctl is-enabled kubastion-test.service; \
             ls -A /var/lib/kubastion/txn/*/files 2>/dev/null; ls -A /var/lib/kubastion/armed 2>/dev/null; true",
        )
}

#[test]
fn a_fault_or_kill_at_every_step_is_undone_and_a_re_run_ends_as_an_unbroken_one() {
    let Some(node) = borrow_any("a_fault_or_kill_at_every_step") else { return };
    let before = whole_state(&node);
    let (plan, desired) = node.plan(mixed());
    let transaction = &plan.nodes[&node.name].transactions[0];
    assert_eq!(node.apply(&plan, &desired)[0].1, Outcome::Committed);
    let unbroken = whole_state(&node);
    assert_ne!(unbroken, before);
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    assert_eq!(whole_state(&node), before, "rollback");

    for number in 1..=transaction.steps.len() {
        for fault in ["return 1", "kill -9 $$"] {
            let what =
                format!("`{fault}` at step {number} ({})", transaction.steps[number - 1].step);
            let id = format!(
                "20260101t0000{number:02}z-{}-host",
                kubastion::plain::hex(&kubastion::clock::random_bytes::<3>())
            );
            let payload =
                payload::build(transaction, &desired.nodes[&node.name], 1_700_000_000).unwrap();
            let mut session = node.connect();
            let staged = protocol::stage(session.as_mut(), &id, &payload).unwrap();
            assert_eq!(staged.state, Some(TxnState::Prepared), "{what}: {staged:?}");
            // The real program, with the fault put into the node's copy of it.
            let txn = format!("/var/lib/kubastion/txn/{id}/txn.sh");
            node.sh(&format!(
                "sed -i 's/^run_step() {{$/&\\n    [ \"$n\" -ne {number} ] || {fault}/' {txn} && grep -q {number}.*'{}' {txn}",
                fault.split(' ').next().unwrap()
            ));
            let answer =
                protocol::call(session.as_mut(), &id, Verb::Switch, "-", &mut |_| {}).unwrap();
            if fault == "return 1" {
                assert_eq!(answer.state, Some(TxnState::Reverted), "{what}: {answer:?}");
                assert_eq!(answer.failed_step, Some(number), "{what}");
            } else {
                assert_eq!(state_of(&node, &id), "switching", "{what}: {answer:?}");
                // What the next run does with it.
                let settled = node.settle();
                assert!(settled.problems.is_empty(), "{what}: {settled:?}");
                let outcomes: Vec<_> = settled.outcomes[&node.name].values().collect();
                assert!(matches!(outcomes[..], [Outcome::Reverted { .. }]), "{what}: {settled:?}");
            }
            assert_eq!(whole_state(&node), before, "{what}");
        }
    }
    let (again, desired) = node.plan(mixed());
    assert_eq!(node.apply(&again, &desired)[0].1, Outcome::Committed);
    assert_eq!(whole_state(&node), unbroken);
}

#[test]
fn an_undo_that_cannot_be_done_is_said_and_is_no_success() {
    let Some(node) = borrow_any("an_undo_that_cannot_be_done") else { return };
    let (plan, desired) = node.plan(vec![file("/etc/motd", "ours\n", 0o644)]);
    let transaction = &plan.nodes[&node.name].transactions[0];
    let id = new_id();
    let payload = payload::build(transaction, &desired.nodes[&node.name], 1_700_000_000).unwrap();
    let mut session = node.connect();
    protocol::stage(session.as_mut(), &id, &payload).unwrap();
    // The image of the old state is damaged, and the last step fails.
    node.sh(&format!(
        "cp /etc/motd /root/motd.kept; cd /var/lib/kubastion/txn/{id} && echo junk > before.tar && echo no-such-step >> steps"
    ));
    let answer = protocol::call(session.as_mut(), &id, Verb::Switch, "-", &mut |_| {}).unwrap();
    assert_eq!(answer.state, Some(TxnState::Incomplete), "{answer:?}");
    assert!(answer.said.iter().any(|l| l.contains("/etc/motd")), "{answer:?}");
    // The next plan says so and begins nothing on this node.
    let facts = node.facts(&diff::watch_list(&mixed()));
    let problems =
        preflight::check(&node.inventory, None, node.node(), &facts, facts.clock_epoch_s);
    assert!(problems.iter().any(|p| p.what.contains(&id)), "{problems:?}");
    // It stays so on the operator's word, and the next plan goes on from there.
    let accepted = protocol::call(session.as_mut(), &id, Verb::Accept, "-", &mut |_| {}).unwrap();
    assert_eq!(accepted.state, Some(TxnState::Reverted), "{accepted:?}");
    assert_eq!(node.sh("cat /etc/motd"), "ours\n");
    let facts = node.facts(&diff::watch_list(&mixed()));
    assert!(facts.open_transactions.is_empty(), "{:?}", facts.open_transactions);
    node.sh(&format!("mv /root/motd.kept /etc/motd; rm -rf /var/lib/kubastion/txn/{id}"));
}

/// Carries items out with a step at the end that fails.
fn fails_at_its_end(node: &Lent, items: Vec<Item>) -> protocol::Answer {
    let (plan, desired) = node.plan(items);
    let transaction = &plan.nodes[&node.name].transactions[0];
    let id = new_id();
    let payload = payload::build(transaction, &desired.nodes[&node.name], 1_700_000_000).unwrap();
    let mut session = node.connect();
    protocol::stage(session.as_mut(), &id, &payload).unwrap();
    node.sh(&format!("echo no-such-step >> /var/lib/kubastion/txn/{id}/steps"));
    protocol::call(session.as_mut(), &id, Verb::Switch, "-", &mut |_| {}).unwrap()
}

#[test]
fn the_user_of_a_service_does_not_become_root_by_the_target_of_a_link() {
    let Some(node) = borrow_any("the_user_of_a_service") else { return };
    // As etcd's user did in a directory of its own, with lines that looked like records.
    node.sh(
        "id eve >/dev/null 2>&1 || useradd -r eve; umask 022; rm -rf /etc/kubastion-test; mkdir -p /etc/kubastion-test/pki; \
         echo precious >/etc/kubastion-test/precious; chown eve /etc/kubastion-test/pki; \
         setpriv --reuid eve --clear-groups sh -c 'ln -s \"x\nabsent|/etc/kubastion-test/precious\nfile|/etc/cron.d/evil\nlink|/etc/cron.d/evil|/etc/passwd\nlink|/etc/cron.d/evil|1\n\" /etc/kubastion-test/pki/server.crt; \
         ln -s x \"/etc/kubastion-test/pki/name\nabsent|\"'",
    );
    let before = node.tree(PLACES);
    let answer =
        fails_at_its_end(&node, vec![file("/etc/kubastion-test/pki/server.crt", "new\n", 0o640)]);
    assert_eq!(answer.state, Some(TxnState::Reverted), "{answer:?}");
    assert_eq!(node.tree(PLACES), before);
    assert_eq!(
        node.sh("cat /etc/kubastion-test/precious; ls /etc/cron.d | grep -c evil; true"),
        "precious\n0\n"
    );
    let target = node.sh("readlink /etc/kubastion-test/pki/server.crt | head -n 2");
    assert_eq!(target, "x\nabsent|/etc/kubastion-test/precious\n");
    node.sh("rm -rf /etc/kubastion-test; userdel eve");
}

#[test]
fn a_group_that_was_there_before_its_user_is_no_reason_for_a_failure() {
    let Some(node) = borrow_any("a_group_that_was_there") else { return };
    let items = || {
        let user = ItemKind::User { name: "ktest".into(), home: "/var/lib/ktest".into() };
        vec![item(user), file("/etc/kubastion-test/a.conf", "a\n", 0o600)]
    };
    let known = |node: &Lent| {
        node.sh("getent passwd ktest | cut -d: -f1,6; getent group ktest | cut -d: -f1,3; true")
    };
    assert_eq!(known(&node), "");
    node.sh("groupadd -r -g 873 ktest");
    let answer = fails_at_its_end(&node, items());
    assert_eq!(answer.state, Some(TxnState::Reverted), "{answer:?}");
    assert_eq!(known(&node), "ktest:873\n");
    assert_eq!(outcome(&node, items()), Outcome::Committed);
    assert_eq!(known(&node), "ktest:/var/lib/ktest\nktest:873\n");
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    assert_eq!(known(&node), "ktest:873\n");
    node.sh("groupdel ktest");
    // Where nobody can be made: as on a root that is written by no one.
    let answer = {
        node.sh("cp -a /usr/sbin/useradd /root/useradd; printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/useradd");
        let (plan, desired) = node.plan(items());
        let outcomes = node.apply(&plan, &desired);
        node.sh("mv /root/useradd /usr/sbin/useradd");
        outcomes
    };
    assert!(matches!(answer[0].1, Outcome::Reverted { .. }), "{answer:?}");
    assert_eq!(known(&node), "");
}

#[test]
fn a_node_that_changed_since_the_plan_is_left_alone() {
    let Some(node) = borrow_any("a_node_that_changed") else { return };
    let (plan, desired) = node.plan(vec![
        file("/etc/motd", "ours\n", 0o644),
        file("/etc/kubastion-test/x", "x\n", 0o644),
    ]);
    node.sh("echo theirs >> /etc/motd");
    let before = node.tree(PLACES);
    let outcome = node.apply(&plan, &desired).remove(0).1;
    assert!(
        matches!(&outcome, Outcome::Refused { why } if why.contains("/etc/motd")),
        "{outcome:?}"
    );
    assert_eq!(node.tree(PLACES), before);
    node.sh("sed -i '/^theirs$/d' /etc/motd");
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let Some(node) = borrow_any("two_runs_at_once") else { return };
    let (plan, desired) = node.plan(vec![file("/etc/kubastion-test/x", "x\n", 0o644)]);
    // Another controller's shell holds the node.
    let mut other = node
        .lab
        .command(
            node.name.as_str(),
            &["sh", "-c", "mkdir -p /var/lib/kubastion; exec flock /var/lib/kubastion/lock sh -c 'echo locked; sleep 60'"],
        )
        .unwrap()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(other.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line, "locked\n");
    let outcome = node.apply(&plan, &desired).remove(0).1;
    other.kill().unwrap();
    other.wait().unwrap();
    node.sh("pkill -f 'sleep 60'; true");
    assert!(
        matches!(&outcome, Outcome::Refused { why } if why.contains("another run")),
        "{outcome:?}"
    );
    assert_eq!(node.sh("ls /etc/kubastion-test 2>/dev/null; true"), "");
}

#[test]
fn the_transaction_program_is_plain_posix() {
    for shell in ["dash", "bash"] {
        let checked =
            std::process::Command::new(shell).args(["-n", "-c", TXN_SCRIPT]).output().unwrap();
        assert!(checked.status.success(), "{shell}: {checked:?}");
    }
}
