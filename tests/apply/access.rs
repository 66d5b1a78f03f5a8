//! The operator's ways in: a firewall, an sshd setting or a login that would be lost is taken back, also without a controller
//! and over a reboot.

use std::time::Duration;

use super::*;

#[test]
fn a_firewall_that_locks_the_operator_out_is_undone() {
    let Some(node) = borrow_any("a_firewall_that_locks_out") else { return };
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
        matches!(&outcome, Outcome::Reverted { why } if why.contains("w1 no longer reaches its port 6443")),
        "{outcome:?}"
    );
    assert_eq!(node.tree(PLACES), tree);
    assert!(!node.sh("nft list tables").contains("kubastion"));
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
    let Some(node) = borrow_any("a_locked_out_node_comes_back") else { return };
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
    let Some(node) = borrow_any("a_locked_out_node_that_reboots") else { return };
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
    let Some(node) = borrow_any("an_sshd_setting_that_locks_out") else { return };
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
    let Some(node) = borrow_any("an_sshd_that_takes_its_time") else { return };
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
    let Some(node) = borrow_any("a_running_sshd_with_a_broken_file") else { return };
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
    let Some(node) = borrow_any("a_login_that_a_match_block_shuts_out") else { return };
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
    let Some(mut node) = borrow_any("a_way_in_that_rides_on_a_tunnel") else { return };
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
        // A machine with much to do takes longer to find out that no new connection comes.
        within(&mut plan, &node, 45);
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
