//! Transactions on real nodes: what is applied, what is undone, and what survives a killed
//! controller or a reboot.

use kubastion::apply::TXN_SCRIPT;
use kubastion::apply::record::Outcome;
use kubastion::desired::{Access, Content, FileCheck, Item, ItemKind, OnChange, Phase, Start};

use crate::support::fleet::{Lent, borrow};

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
    let ssh = if accept_ssh { "tcp dport 22 accept" } else { "" };
    let rules = format!(
        "table inet kubastion\ndelete table inet kubastion\ntable inet kubastion {{\n  chain input {{\n    \
         type filter hook input priority 0; policy drop;\n    ct state established,related accept\n    \
         iif lo accept\n    {ssh}\n  }}\n}}\n"
    );
    vec![
        item(ItemKind::File {
            path: "/etc/kubastion/firewall.nft".into(),
            content: Content::Text(rules),
            access: Access::root(0o600),
            check: FileCheck::Nft,
        }),
        item(ItemKind::Firewall { path: "/etc/kubastion/firewall.nft".into() }),
    ]
}

fn guard() -> Vec<Item> {
    vec![
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
    let Some(node) = borrow("files_land", "w1") else { return };
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

#[test]
fn a_firewall_that_locks_the_operator_out_is_undone() {
    let Some(node) = borrow("a_firewall_that_locks_out", "w1") else { return };
    node.sh("nft add table inet foreign; nft add chain inet foreign c '{ type filter hook input priority 5; }'; nft add rule inet foreign c counter");
    let foreign = node.sh("nft -s list table inet foreign");
    assert_eq!(outcome(&node, with(guard(), firewall(true))), Outcome::Committed);
    let good = node.sh("nft -s list table inet kubastion");
    let tree = node.tree(PLACES);
    let why = match outcome(&node, with(guard(), firewall(false))) {
        Outcome::Reverted { why } => why,
        other => panic!("{other:?}"),
    };
    assert!(why.contains("no new connection"), "{why}");
    assert_eq!(node.sh("nft -s list table inet kubastion"), good);
    assert_eq!(node.tree(PLACES), tree);
    assert_eq!(node.sh("nft -s list table inet foreign"), foreign);
    let (again, _) = node.plan(with(guard(), firewall(true)));
    assert!(again.is_empty(), "{again:#?}");
}

#[test]
fn the_transaction_program_is_plain_posix() {
    for shell in ["dash", "bash"] {
        let checked =
            std::process::Command::new(shell).args(["-n", "-c", TXN_SCRIPT]).output().unwrap();
        assert!(checked.status.success(), "{shell}: {checked:?}");
    }
}
