//! Transactions on real nodes: what is applied, what is undone, and what survives a killed
//! controller or a reboot.

use std::time::{Duration, Instant};

use kubastion::apply::protocol::{self, TxnState, Verb};
use kubastion::apply::{TXN_SCRIPT, payload};
use kubastion::desired::{Access, Content, FileCheck, Item, ItemKind, OnChange, Phase, Start};
use kubastion::plan::{Step, diff, preflight};
use kubastion::runs::record::Outcome;
use kubastion::transport::Dialer;

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
fn a_firewall_that_cuts_nodes_from_the_api_server_is_undone() {
    let test = "a_firewall_that_cuts_nodes_from_the_api_server";
    let Some(_worker) = borrow(test, "w1") else { return };
    let Some(node) = borrow(test, "cp1") else { return };
    // Whatever listens; that the worker reaches it is all that counts.
    node.sh("/usr/sbin/sshd -p 6443 -o PidFile=/run/api.pid");
    let tree = node.tree(PLACES);
    let outcome = outcome(&node, with(guard(), firewall(true)));
    node.sh("kill $(cat /run/api.pid)");
    assert!(
        matches!(&outcome, Outcome::Reverted { why } if why.contains("w1 does not reach its port 6443")),
        "{outcome:?}"
    );
    assert_eq!(node.tree(PLACES), tree);
    assert!(!node.sh("nft list tables").contains("kubastion"));
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

/// The lock-out with a short window, so that a test can wait for it.
fn lock_out(node: &Lent, within_s: u32) -> String {
    let (mut plan, desired) = node.plan(with(guard(), firewall(false)));
    let transaction = &mut plan.nodes.get_mut(&node.name).unwrap().transactions[0];
    for action in &mut transaction.steps {
        if let Step::Arm { within_s: s } = &mut action.step {
            *s = within_s;
        }
    }
    let id = new_id();
    let payload = payload::build(transaction, &desired.nodes[&node.name], 1_700_000_000).unwrap();
    let mut session = node.connect();
    protocol::stage(session.as_mut(), &id, &payload).unwrap();
    let switched = protocol::call(session.as_mut(), &id, Verb::Switch, "-", &mut |_| {}).unwrap();
    assert_eq!(switched.state, Some(TxnState::Switched), "{switched:?}");
    id
}

fn locked_out(node: &Lent) -> bool {
    let mut target = node.inventory.ssh.for_node(node.node());
    target.connect_timeout_s = 2;
    node.dialer.connect(&target).is_err()
}

#[test]
fn a_locked_out_node_comes_back_by_itself_when_nobody_confirms() {
    let Some(node) = borrow("a_locked_out_node_comes_back", "w2") else { return };
    node.sh("nft add table inet foreign; nft add chain inet foreign c '{ type filter hook input priority 5; }'; nft add rule inet foreign c counter");
    let before = (node.tree(PLACES), node.sh("nft -s list ruleset"));
    let id = lock_out(&node, 5);
    // The controller is gone: nothing but the node itself can help.
    assert!(locked_out(&node), "the test's firewall does not lock anybody out");
    wait_for_state(&node, &id, "reverted", Duration::from_secs(30));
    assert_eq!((node.tree(PLACES), node.sh("nft -s list ruleset")), before);
}

#[test]
fn a_locked_out_node_that_reboots_inside_the_window_comes_up_as_before() {
    let Some(node) = borrow("a_locked_out_node_that_reboots", "w2") else { return };
    let before = node.tree(PLACES);
    // An hour: only the boot guard can be what brings it back.
    let id = lock_out(&node, 3600);
    assert!(locked_out(&node), "the test's firewall does not lock anybody out");
    let name = node.name.as_str();
    let boot = node.lab.boot_id(name).unwrap();
    node.lab.reboot(name).unwrap();
    node.lab.wait_for_ssh(name, Duration::from_secs(60)).unwrap();
    assert_ne!(node.lab.boot_id(name).unwrap(), boot);
    assert_eq!(state_of(&node, &id), "reverted");
    assert_eq!(node.tree(PLACES), before);
    assert!(!node.sh("nft list tables").contains("kubastion"));
}

fn sshd(setting: &str) -> Vec<Item> {
    with(
        guard(),
        vec![
            item(ItemKind::File {
                path: "/etc/ssh/sshd_config.d/00-test.conf".into(),
                content: Content::Text(format!("{setting}\n").into()),
                access: Access::root(0o600),
                check: FileCheck::Sshd,
            }),
            item(ItemKind::Unit {
                name: "ssh.service".into(),
                enabled: true,
                active: true,
                on_change: OnChange::Reload,
                watches: vec!["/etc/ssh/sshd_config.d/00-test.conf".into()],
                start: Start::Wait,
            }),
        ],
    )
}

#[test]
fn an_sshd_setting_that_locks_the_operator_out_is_undone() {
    let Some(node) = borrow("an_sshd_setting_that_locks_out", "w2") else { return };
    let before = node.tree(PLACES);
    for (setting, wanted) in [
        // Valid, and nobody gets in any more.
        ("AllowUsers nobody", "no new connection"),
        ("Port 2022", "no new connection"),
        // Not valid: found before sshd is told.
        ("NoSuchSetting yes", "test sshd's configuration"),
    ] {
        match outcome(&node, sshd(setting)) {
            Outcome::Reverted { why } => assert!(why.contains(wanted), "{setting}: {why}"),
            other => panic!("{setting}: {other:?}"),
        }
        assert_eq!(node.tree(PLACES), before, "{setting}");
        assert!(!node.sh("sshd -T").contains("allowusers"), "{setting}");
    }
    assert_eq!(outcome(&node, sshd("MaxAuthTries 3")), Outcome::Committed);
}

#[test]
fn an_sshd_that_takes_its_time_neither_confirms_with_the_settings_of_before_nor_is_left_away() {
    let Some(node) = borrow("an_sshd_that_takes_its_time", "w2") else { return };
    // Told to take up its files, it goes on for two seconds with those of before.
    node.sh(
        "mkdir -p /run/systemd/system/ssh.service.d; cat >/run/systemd/system/ssh.service.d/slow.conf <<'END'
[Service]
ExecReload=
ExecReload=/bin/sh -c '(sleep 2; kill -HUP $MAINPID) >/dev/null 2>&1 &'
END
systemctl daemon-reload",
    );
    let before = node.tree(PLACES);
    let locked_out = outcome(&node, sshd("AllowUsers nobody"));
    // Refused if the node said that it is back while nobody listens.
    let after = node.dialer.connect(&node.inventory.ssh.for_node(node.node())).map(drop);
    wait_for_login(&node);
    let tree = node.tree(PLACES);
    let committed = outcome(&node, sshd("MaxAuthTries 3"));
    let effective = node.sh("sshd -T | grep -i maxauthtries");
    node.sh("rm -r /run/systemd/system/ssh.service.d; systemctl daemon-reload");
    assert!(
        matches!(&locked_out, Outcome::Reverted { why } if why.contains("no new connection")),
        "{locked_out:?}"
    );
    assert!(after.is_ok(), "{after:?}");
    assert_eq!(tree, before);
    assert_eq!(committed, Outcome::Committed);
    assert_eq!(effective, "maxauthtries 3\n");
}

fn wait_for_login(node: &Lent) {
    node.lab.wait_for_ssh(node.name.as_str(), Duration::from_secs(30)).unwrap();
}

#[test]
fn a_running_sshd_with_a_broken_file_survives_going_back() {
    let Some(node) = borrow("a_running_sshd_with_a_broken_file", "w2") else { return };
    node.sh("echo 'NoSuchSetting yes' >>/etc/ssh/sshd_config");
    let before = node.tree(PLACES);
    let outcome = outcome(&node, sshd("MaxAuthTries 3"));
    // From inside, since it may be locked out.
    let inside = |script: &str| {
        let command = node.lab.command(node.name.as_str(), &["sh", "-c", script]);
        String::from_utf8(command.unwrap().output().unwrap().stdout).unwrap()
    };
    let active = inside("systemctl is-active ssh.service");
    inside(
        "sed -i '/^NoSuchSetting/d' /etc/ssh/sshd_config; systemctl reset-failed ssh.service; systemctl start ssh.service",
    );
    assert_eq!(active, "active\n", "{outcome:?}");
    assert!(
        matches!(&outcome, Outcome::Reverted { why } if why.contains("NoSuchSetting")),
        "{outcome:?}"
    );
    node.sh("echo 'NoSuchSetting yes' >>/etc/ssh/sshd_config");
    assert_eq!(node.tree(PLACES), before);
    node.sh("sed -i '/^NoSuchSetting/d' /etc/ssh/sshd_config");
}

/// People who log in otherwise than the operator does.
const OTHERS: &str = "
useradd -m -s /bin/bash carol; useradd -m -s /bin/bash dave
echo 'carol:x1-y2-z3' | chpasswd; echo 'dave:x1-y2-z3' | chpasswd
mkdir -p /home/carol/.ssh; cp /root/.ssh/authorized_keys /home/carol/.ssh/
cat >/etc/ssh/sshd_config.d/50-others.conf <<'END'
PasswordAuthentication yes
KbdInteractiveAuthentication yes
Match User carol
    AuthenticationMethods publickey,keyboard-interactive
END
systemctl reload ssh.service";
const NO_OTHERS: &str = "rm -f /etc/ssh/sshd_config.d/50-others.conf; systemctl reload ssh.service; \
     for u in carol dave; do ! id $u >/dev/null 2>&1 || userdel -r $u 2>/dev/null; done; true";

#[test]
fn a_login_that_a_match_block_shuts_out_is_named_and_its_change_taken_back() {
    let Some(node) = borrow("a_login_that_a_match_block_shuts_out", "w2") else { return };
    // Between two reloads sshd is away for a moment.
    let reloading = |script: &str| {
        node.sh(script);
        std::thread::sleep(Duration::from_millis(500));
        wait_for_login(&node);
    };
    reloading(NO_OTHERS);
    let before = node.tree("/etc/ssh");
    let items = || sshd("KbdInteractiveAuthentication no\nPasswordAuthentication no");
    // They came after the plan was read, which so names neither.
    let (unaware, desired) = node.plan(items());
    reloading(OTHERS);
    let with_others = node.tree(PLACES);
    let outcome = node.apply(&unaware, &desired).remove(0).1;
    let tree = node.tree(PLACES);
    let (plan, desired) = node.plan(items());
    let notes = plan.nodes[&node.name].notes.join("\n");
    let named = node.apply(&plan, &desired).remove(0).1;
    // One that can do without is not shut out.
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    node.sh("sed -i 's/publickey,keyboard-interactive/publickey publickey,keyboard-interactive/' /etc/ssh/sshd_config.d/50-others.conf; usermod -L dave");
    let (harmless, desired) = node.plan(items());
    let others = node.apply(&harmless, &desired).remove(0).1;
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    reloading(NO_OTHERS);
    assert!(
        matches!(&outcome, Outcome::Reverted { why } if why.contains("carol") && why.contains("dave")),
        "{outcome:?}"
    );
    assert_eq!(tree, with_others);
    assert!(notes.contains("`carol`") && notes.contains("keyboard-interactive"), "{notes}");
    assert!(notes.contains("`dave`") && !notes.contains("`root`"), "{notes}");
    assert_eq!(named, Outcome::Committed);
    let notes = harmless.nodes[&node.name].notes.join("\n");
    assert!(!notes.contains("carol") && !notes.contains("dave"), "{notes}");
    assert_eq!(others, Outcome::Committed);
    assert_eq!(node.tree("/etc/ssh"), before);
}

/// Not over SSH: a test that fails has locked itself out.
fn inside(node: &Lent, script: &str) {
    node.lab.command(node.name.as_str(), &["sh", "-c", script]).unwrap().output().unwrap();
}

/// A window that a test can wait for.
fn within(plan: &mut kubastion::plan::Plan, node: &Lent, seconds: u32) {
    let transaction = &mut plan.nodes.get_mut(&node.name).unwrap().transactions[0];
    transaction.confirm_within_s = Some(seconds);
    for action in &mut transaction.steps {
        if let Step::Arm { within_s } = &mut action.step {
            *within_s = seconds;
        }
    }
}

#[test]
fn a_way_in_that_rides_on_a_tunnel_is_no_proof() {
    let Some(mut node) = borrow("a_way_in_that_rides_on_a_tunnel", "w2") else { return };
    // What ends on the node and carries connections inside: many channels, one flow.
    node.sh(
        "/usr/sbin/sshd -p 2222 -o PidFile=/run/tunnel.pid; until ss -Hlnt | grep -q ':2222 '; do sleep 0.1; done",
    );
    let address = node.node().internal_ip();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let key = node.inventory.ssh.key_file.clone().unwrap();
    let mut tunnel = std::process::Command::new("ssh")
        .args(["-N", "-p", "2222", "-o", "StrictHostKeyChecking=no", "-o"])
        .args(["UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-L"])
        .arg(format!("127.0.0.1:{port}:{address}:22"))
        .arg("-i")
        .arg(key)
        .arg(format!("root@{address}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "no tunnel");
        std::thread::sleep(Duration::from_millis(100));
    }
    let name = node.name.clone();
    let own = node.inventory.nodes.iter_mut().find(|n| n.name == name).unwrap();
    let direct = own.ssh.clone();
    (own.ssh.host, own.ssh.port) = (Some("127.0.0.1".parse().unwrap()), Some(port));
    // sshd is open to everybody inside; nothing of the tunnel is.
    let apply = |rules: &str| {
        let (mut plan, desired) = node.plan(with(guard(), firewall_with(rules)));
        within(&mut plan, &node, 25);
        node.apply(&plan, &desired).remove(0).1
    };
    let closed = apply(&format!("ip saddr {address} tcp dport 22 accept"));
    let after = node.sh("nft list tables");
    let open = apply("tcp dport 2222 accept");
    let tables = node.sh("nft list tables");
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    tunnel.kill().unwrap();
    tunnel.wait().unwrap();
    node.inventory.nodes.iter_mut().find(|n| n.name == name).unwrap().ssh = direct;
    inside(&node, "nft delete table inet kubastion; kill $(cat /run/tunnel.pid)");
    assert!(
        matches!(&closed, Outcome::Reverted { why } if why.contains("no new connection")),
        "{closed:?}"
    );
    assert!(!after.contains("kubastion"), "{after}");
    // By a rule of its own it is a way in like any other.
    assert_eq!(open, Outcome::Committed);
    assert_eq!(tables.matches("kubastion").count(), 1, "{tables}");
}

#[test]
fn a_tunnel_of_datagrams_through_a_jump_host_is_no_proof_either() {
    let test = "a_tunnel_of_datagrams";
    let Some(other) = borrow(test, "w1") else { return };
    let Some(mut node) = borrow(test, "w2") else { return };
    let [here, there] = [&node, &other].map(|n| n.node().internal_ip());
    // One flow for all that is inside, as WireGuard has it.
    let tunnel = |own, peer, inside: &str| {
        format!(
            "ip link add kt0 type vxlan id 7 local {own} remote {peer} dstport 7777 srcport 7777 7778 && \
             ip addr add {inside}/24 dev kt0 && ip link set kt0 up"
        )
    };
    node.sh(&tunnel(here, there, "10.99.7.2"));
    other.sh(&tunnel(there, here, "10.99.7.1"));
    // The kernel follows connections already, as on every node with containers.
    node.sh("nft 'add table inet foreign; add chain inet foreign c { type filter hook input priority 5; }; add rule inet foreign c ct state established counter'");
    let name = node.name.clone();
    let jump = kubastion::inventory::JumpHost {
        host: there.to_string().parse().unwrap(),
        port: 22,
        user: None,
        key_file: None,
        host_keys: other.node().ssh.host_keys.clone(),
    };
    let own = node.inventory.nodes.iter_mut().find(|n| n.name == name).unwrap();
    let direct = own.ssh.clone();
    (own.ssh.host, own.ssh.jump) = (Some("10.99.7.2".parse().unwrap()), Some(vec![jump]));
    // sshd is open to the jump host, by either way; the tunnel is not.
    let closed = {
        let rules = format!("ip saddr {{ 10.99.7.1, {there} }} tcp dport 22 accept");
        let (mut plan, desired) = node.plan(with(guard(), firewall_with(&rules)));
        within(&mut plan, &node, 25);
        node.apply(&plan, &desired).remove(0).1
    };
    let (mut plan, desired) = node.plan(with(
        guard(),
        firewall_with(&format!(
            "udp dport 7777 accept\n    ip saddr {{ 10.99.7.1, {there} }} tcp dport 22 accept"
        )),
    ));
    within(&mut plan, &node, 25);
    let open = node.apply(&plan, &desired).remove(0).1;
    node.sh("cd /var/lib/kubastion/txn && sh $(ls -1t | head -1)/txn.sh undo");
    node.inventory.nodes.iter_mut().find(|n| n.name == name).unwrap().ssh = direct;
    inside(
        &node,
        "nft delete table inet kubastion; nft delete table inet foreign; ip link del kt0",
    );
    other.sh("ip link del kt0");
    assert!(
        matches!(&closed, Outcome::Reverted { why } if why.contains("no new connection")),
        "{closed:?}"
    );
    assert_eq!(open, Outcome::Committed);
}

/// Our firewall with the unit that loads it at boot, as on a real node.
fn firewall_at_boot(ssh: &str) -> Vec<Item> {
    let unit = "/etc/systemd/system/kubastion-firewall.service";
    with(
        with(guard(), firewall_with(ssh)),
        vec![
            file(
                "/var/lib/kubastion/firewall.sh",
                include_str!("../templates/host/firewall.sh"),
                0o600,
            ),
            file(unit, include_str!("../templates/host/kubastion-firewall.service"), 0o644),
            item(ItemKind::Unit {
                name: "kubastion-firewall.service".into(),
                enabled: true,
                active: true,
                on_change: OnChange::Nothing,
                watches: Vec::new(),
                start: Start::Wait,
            }),
        ],
    )
}

#[test]
fn rules_that_a_boot_would_not_load_are_taken_back() {
    let Some(node) = borrow("rules_that_a_boot_would_not_load", "w1") else { return };
    assert_eq!(outcome(&node, firewall_at_boot("tcp dport 22 accept")), Outcome::Committed);
    let rules = "nft -s list ruleset";
    let loaded = node.sh(rules);
    // Another unit loads rules of its own at boot, behind ours or before.
    let company = |after: &str, nft: &str| {
        node.sh(&format!(
            "printf '%b\\n' '{nft}' >/etc/company.nft; cat >/etc/systemd/system/company-rules.service <<'END'\n\
             [Unit]\n{after}=kubastion-firewall.service\n[Service]\nType=oneshot\nExecStart=/usr/sbin/nft -f /etc/company.nft\n\
             [Install]\nWantedBy=multi-user.target\nEND\nsystemctl daemon-reload; systemctl enable company-rules.service 2>&1"
        ));
    };
    let again =
        |n: u16| outcome(&node, firewall_at_boot(&format!("tcp dport {{ 22, {n} }} accept")));
    company("After", "flush ruleset");
    let flushed = again(7001);
    let after_flush = node.sh(rules);
    company(
        "Before",
        "table inet company {\\n chain input {\\n type filter hook input priority 10; policy drop;\\n }\\n}",
    );
    let dropped = again(7002);
    // What drops nothing is no reason.
    company(
        "Before",
        "table inet company {\\n chain input {\\n type filter hook input priority 10;\\n }\\n}",
    );
    let harmless = again(7003);
    node.sh("systemctl disable company-rules.service 2>&1; rm -f /etc/company.nft /etc/systemd/system/company-rules.service; systemctl daemon-reload");
    assert!(
        matches!(&flushed, Outcome::Reverted { why } if why.contains("company-rules.service") && why.contains("inet kubastion")),
        "{flushed:?}"
    );
    assert_eq!(after_flush, loaded);
    assert!(
        matches!(&dropped, Outcome::Reverted { why } if why.contains("table inet company drops packets") && why.contains("company-rules.service")),
        "{dropped:?}"
    );
    assert_eq!(harmless, Outcome::Committed);
    // Nobody starts ours at boot.
    let (plan, desired) = node.plan(firewall_at_boot("tcp dport { 22, 7004 } accept"));
    node.sh("systemctl disable kubastion-firewall.service 2>&1");
    let not_enabled = node.apply(&plan, &desired).remove(0).1;
    assert!(
        matches!(&not_enabled, Outcome::Reverted { why } if why.contains("kubastion-firewall.service is not enabled")),
        "{not_enabled:?}"
    );
}

/// As the host's items have it: interfaces that are there before the file is read do not go by `default`.
const NO_REDIRECTS: &str =
    "net.ipv4.conf.all.send_redirects = 0\nnet.ipv4.conf.*.send_redirects = 0\n";

#[test]
fn settings_that_a_boot_would_not_make_are_taken_back() {
    let Some(node) = borrow("settings_that_a_boot_would_not_make", "w1") else { return };
    let key = "net.ipv4.conf.all.send_redirects";
    let read = format!("cat /proc/sys/{}", key.replace('.', "/"));
    let items = || {
        with(
            guard(),
            vec![
                file("/etc/sysctl.d/90-kubastion.conf", NO_REDIRECTS, 0o644),
                item(ItemKind::Sysctl { key: key.into(), value: "0".into() }),
            ],
        )
    };
    node.sh(&format!("echo 1 >/proc/sys/{}", key.replace('.', "/")));
    node.sh("mkdir -p /etc/sysctl.d; echo 'net/ipv4/conf/all/send_redirects=1' >/etc/sysctl.d/99-company.conf");
    let overridden = outcome(&node, items());
    let after = node.sh(&read);
    node.sh("rm /etc/sysctl.d/99-company.conf");
    let alone = outcome(&node, items());
    assert!(
        matches!(&overridden, Outcome::Reverted { why } if why.contains(key) && why.contains("/etc/sysctl.d/99-company.conf")),
        "{overridden:?}"
    );
    assert_eq!(after, "1\n");
    assert_eq!(alone, Outcome::Committed);
    assert_eq!(node.sh(&read), "0\n");
}

#[test]
fn confirm_and_revert_race_for_one_decision() {
    let Some(node) = borrow("confirm_and_revert_race", "w2") else { return };
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
    let Some(node) = borrow("a_fault_or_kill_at_every_step", "w1") else { return };
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
    let Some(node) = borrow("an_undo_that_cannot_be_done", "w1") else { return };
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
    let Some(node) = borrow("the_user_of_a_service", "w1") else { return };
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
    let Some(node) = borrow("a_group_that_was_there", "w1") else { return };
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
    let Some(node) = borrow("a_node_that_changed", "w1") else { return };
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
    let Some(node) = borrow("two_runs_at_once", "w1") else { return };
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
