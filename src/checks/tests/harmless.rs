//! What looks like a fault and is none.

use super::*;

/// Node `a` with something changed on it, judged.
fn judged_with(change: impl FnOnce(&mut Observed)) -> Vec<Finding> {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    change(&mut seen);
    judged(inventory, "a", &seen, &attempts())
}

#[track_caller]
fn holds(control: &str, change: impl FnOnce(&mut Observed)) {
    let findings = judged_with(change);
    assert!(ids(&findings, Outcome::Pass).contains(control), "{findings:#?}");
}

#[test]
fn drop_ins_that_packages_bring_break_nothing() {
    let (inventory, good) = hardened();
    let mut seen = good.clone();
    drop_in(&mut seen, "ssh.service", "/usr/lib/systemd/system/ssh.service.d/x.conf");
    drop_in(&mut seen, "haproxy.service", "/etc/systemd/system/haproxy.service.d/kubastion.conf");
    let of_kubeadm = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";
    drop_in(&mut seen, "kubelet.service", of_kubeadm);
    let passes = |inventory: &Inventory| {
        let findings = judged(inventory, "a", &seen, &attempts());
        ids(&findings, Outcome::Pass).contains("host-units-as-written")
    };
    assert!(passes(inventory));
    let mut of_a_bundle = inventory.clone();
    of_a_bundle.kubernetes.source = crate::inventory::SoftwareSource::Bundle;
    assert!(!passes(&of_a_bundle), "a bundle brings it to /etc");
}

#[test]
fn a_persons_kubeconfig_in_a_home_directory_breaks_nothing() {
    holds("pki-super-admin-removed", |seen| left_behind(seen, "developers", "eve"));
}

#[test]
fn audit_rules_that_leave_out_something_else_break_nothing() {
    let rules = [
        "-a never,exit -F arch=b64 -S adjtimex",
        "-a never,exit -F dir=/etc/kubernetes -F exe=/usr/bin/kubelet",
        "-a never,exclude -F msgtype=CWD",
        "-a never,exit -S all -F dir=/etc/kubernetes-other",
        "-a always,exit -S all -F dir=/etc/kubernetes -F perm=wa -F key=never",
    ];
    holds("host-auditd", |seen| {
        seen.audit_enabled = Some(2);
        seen.audit_rules.as_mut().unwrap().extend(rules.map(str::to_owned));
    });
}

#[test]
fn what_sshd_sets_for_some_connections_and_is_no_weaker_breaks_nothing() {
    let stricter = |seen: &mut Observed| {
        for (key, value) in
            [("chrootdirectory", "/srv"), ("passwordauthentication", "NO"), ("maxauthtries", "2")]
        {
            for_some(seen, key, value);
        }
    };
    holds("host-ssh-hardening", stricter);
    let findings = judged_with(|seen| {
        stricter(seen);
        for_some(seen, "passwordauthentication", "yes");
    });
    let finding = findings.iter().find(|f| f.control == "host-ssh-hardening").unwrap();
    let said = format!("{:?}", finding.verdict);
    assert!(said.contains("/etc/ssh/sshd_config.d/50-some.conf"), "{said}");
}

#[test]
fn what_sshd_does_more_strictly_than_our_file_breaks_nothing() {
    holds("host-ssh-hardening", |seen| {
        for (key, value) in [
            ("permitrootlogin", "no"),
            ("maxsessions", "2"),
            ("logingracetime", "20"),
            ("ciphers", "aes256-gcm@openssh.com"),
            ("loglevel", "Verbose"),
            ("acceptenv", "LANG LC_* COLORTERM"),
        ] {
            effective(seen, key, value);
        }
        seen.sshd.as_mut().unwrap().remove("kbdinteractiveauthentication");
    });
}

#[test]
fn a_cni_controller_is_no_controller_manager() {
    let calico = ProcessFacts {
        pid: 9,
        user: "root".into(),
        argv: vec!["/usr/bin/kube-controllers".into()],
    };
    let findings = judged_with(|seen| {
        let all = seen.processes.as_mut().unwrap();
        all.get_mut("kube-controller").unwrap().push(calico);
    });
    assert!(ids(&findings, Outcome::Fail).is_empty());
}

#[test]
fn a_journal_whose_old_files_were_put_aside_breaks_nothing() {
    holds("kubelet-in-effect", |seen| {
        let journal = journal(seen);
        (journal.began_s, journal.was_rotated) = (BEGAN_S + 1.0, true);
    });
}

#[test]
fn what_packages_of_others_and_a_plain_apt_bring_breaks_nothing() {
    holds("host-updates", |seen| {
        for (name, value) in [
            ("Dir", "/"),
            ("Dir::Etc", "etc/apt/"),
            ("Dir::Etc::sourceparts", "sources.list.d/"),
            ("Dir::Bin::methods", "/usr/lib/apt/methods/"),
            ("Dir::Bin::solvers", "/usr/lib/apt/solvers"),
            ("DPkg::Options", "--force-confold"),
            ("Acquire::Check-Valid-Until", "1"),
        ] {
            apt(seen, name, value);
        }
        for day in ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] {
            apt(seen, "Unattended-Upgrade::Update-Days", day);
        }
        source(seen, "/etc/apt/sources.list", "deb [signed-by=/k.gpg] https://x y z");
    });
}
