//! What a change leaves behind has to hold after the next boot as well.

use super::*;

/// Our firewall with the unit that loads it at boot, as on a real node.
fn firewall_at_boot(ssh: &str) -> Vec<Item> {
    let unit = "/etc/systemd/system/kubastion-firewall.service";
    with(
        with(guard(), firewall_with(ssh)),
        vec![
            file(
                "/var/lib/kubastion/firewall.sh",
                include_str!("../../templates/host/firewall.sh"),
                0o600,
            ),
            file(unit, include_str!("../../templates/host/kubastion-firewall.service"), 0o644),
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
    let Some(node) = borrow_any("rules_that_a_boot_would_not_load") else { return };
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

#[test]
fn settings_that_a_boot_would_not_make_are_taken_back() {
    let Some(node) = borrow_any("settings_that_a_boot_would_not_make") else { return };
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
