//! Daemons that do something else than their files say.

use super::*;

/// Ways in which a daemon may do something else than its files say; each of them has to be noticed.
pub(super) fn ways_to_be_false(daemon: Daemon) -> Vec<Way> {
    let row = DaemonRow::of(daemon);
    let mut ways: Vec<Way> = vec![
        // A second one beside it, also under another name.
        Box::new(move |s| {
            let mut other = process(s, daemon).clone();
            (other.pid, other.comm) = (999, "x".into());
            other.program = format!("/tmp/{}", daemon.program());
            s.live.as_mut().unwrap().processes.push(other);
        }),
        Box::new(move |s| process(s, daemon).argv.push("--nobody-wants=this".into())),
        Box::new(move |s| {
            process(s, daemon).environment.insert("LD_PRELOAD".into());
        }),
        Box::new(move |s| process(s, daemon).program.push_str(" (deleted)")),
        Box::new(move |s| {
            let owners = [process(s, daemon).pid].into();
            let socket = LiveSocket {
                protocol: "tcp".into(),
                address: "0.0.0.0".into(),
                port: 4001,
                owners,
            };
            s.live.as_mut().unwrap().sockets.as_mut().unwrap().push(socket);
        }),
    ];
    if let Some(unit) = row.unit {
        ways.push(Box::new(move |s| {
            s.live.as_mut().unwrap().units.get_mut(unit).unwrap().main_pid = 1;
        }));
        ways.push(Box::new(move |s| process(s, daemon).program = "/tmp/other".into()));
        ways.push(Box::new(move |s| process(s, daemon).path.insert(0, "/tmp/bin".into())));
    }
    // Something was mounted over its files while it started, and is gone.
    if let (Some(_), Some(first)) = (row.unit, row.reads_at_start.first()) {
        for path in [(*first).to_owned(), format!("{first}/x"), "/etc".to_owned(), "/".to_owned()] {
            if path != "/etc" || first.starts_with("/etc") {
                ways.push(Box::new(move |s| unmounted(s, &path)));
            }
        }
    }
    // Something is mounted over a file that it read, wherever it runs, and a pod does not see one.
    ways.push(Box::new(move |s| {
        let pid = process(s, daemon).pid;
        let live = s.live.as_mut().unwrap();
        let path = "/etc/kubernetes/config/audit-policy.yaml".to_owned();
        live.files.insert(path.clone(), "1".repeat(64));
        live.inside.entry(pid).or_default().insert(path, "2".repeat(64));
    }));
    if let (None, Some(first)) = (row.unit, row.reads_at_start.first()) {
        ways.push(Box::new(move |s| {
            let pid = process(s, daemon).pid;
            s.live.as_mut().unwrap().inside.get_mut(&pid).unwrap().remove(*first);
        }));
    }
    for path in row.reads_at_start {
        ways.push(Box::new(move |s| {
            s.live.as_mut().unwrap().paths.get_mut(*path).unwrap().changed_s = BEGAN_S + 1.0;
        }));
    }
    if let Some(unit) = row.unit {
        for path in row.reads_on_reload {
            ways.push(Box::new(move |s| {
                s.live.as_mut().unwrap().paths.get_mut(*path).unwrap().changed_s = BEGAN_S + 1.0;
            }));
            ways.push(Box::new(move |s| unmounted(s, path)));
        }
        if !row.reads_on_reload.is_empty() {
            ways.push(Box::new(move |s| live_unit(s, unit).changed_s = None));
        }
    }
    if row.forks {
        // A process that it started, of another program.
        ways.push(Box::new(move |s| {
            let mut child = process(s, daemon).clone();
            (child.pid, child.parent) = (998, child.pid);
            child.program.push_str(" (deleted)");
            s.live.as_mut().unwrap().processes.push(child);
        }));
    }
    if !row.values_apart {
        ways.push(Box::new(move |s| process(s, daemon).argv.push("word".into())));
    }
    if let Some(dir) = row.reads_on_reload.iter().find(|p| p.ends_with(".d")) {
        // A directory that its unit may read as a whole.
        ways.push(Box::new(move |s| {
            process(s, daemon).argv.extend(["-f".to_owned(), (*dir).to_owned()]);
            left(s, &format!("{dir}/other.cfg"));
        }));
    }
    for name in
        ["HTTPS_PROXY", "http_proxy", "ALL_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"]
    {
        ways.push(Box::new(move |s| {
            process(s, daemon).environment.insert(name.to_owned());
        }));
    }
    for prefix in row.environment {
        ways.push(Box::new(move |s| {
            process(s, daemon).environment.insert(format!("{prefix}CONFIG_FILE"));
        }));
    }
    ways
}

/// A file that was changed, and read by a reload, is no fault; nor is a process that a daemon started.
#[test]
fn a_daemon_may_be_reloaded_and_start_others() {
    let (inventory, good) = hardened();
    for row in DAEMONS.iter().filter(|r| !r.reads_on_reload.is_empty()) {
        let mut seen = good.clone();
        for path in row.reads_on_reload {
            seen.live.as_mut().unwrap().paths.get_mut(*path).unwrap().changed_s = BEGAN_S + 1.0;
        }
        live_unit(&mut seen, row.unit.unwrap()).changed_s =
            Some(StateChange((BEGAN_S as i64 + 2) * 1_000_000));
        let main = process(&mut seen, row.daemon).clone();
        // A worker, and what it is about to start a script with.
        for (pid, parent) in [(997, main.pid), (998, 997)] {
            let child = LiveProcess { pid, parent, ..main.clone() };
            seen.live.as_mut().unwrap().processes.push(child);
        }
        let failed = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail);
        assert!(failed.is_empty(), "{:?}: {failed:?}", row.daemon);
    }
    let mut seen = good.clone();
    process(&mut seen, Daemon::Haproxy)
        .argv
        .extend(["-sf", "12", "13", "-x", "sockpair@3"].map(str::to_owned));
    let failed = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail);
    assert!(failed.is_empty(), "{failed:?}");
}

/// A load balancer of others is not judged by what ours would be.
#[test]
fn a_load_balancer_of_others_is_not_judged() {
    let (_, good) = hardened();
    let inventory =
        inventory(&|t| t.replace(", load_balancer: { mode: managed, interface: eth0 }", ""));
    let mut seen = good.clone();
    process(&mut seen, Daemon::Haproxy).argv.push("--other".into());
    let failed = ids(&judged(&inventory, "a", &seen, &attempts()), Outcome::Fail);
    assert!(!failed.iter().any(|id| id.starts_with("endpoint-")), "{failed:?}");
}

#[test]
fn a_daemon_in_effect_fails_in_each_way_to_be_false() {
    let (inventory, good) = hardened();
    for control in CATALOGUE {
        for check in control.checks {
            let Check::InEffect(daemon) = check else { continue };
            for (index, way) in ways_to_be_false(*daemon).iter().enumerate() {
                let mut seen = good.clone();
                way(&mut seen);
                let failed = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Fail);
                assert!(failed.contains(control.id), "{daemon:?}, way {index}: {failed:?}");
            }
            let mut seen = good.clone();
            seen.live = None;
            let unknown = ids(&judged(inventory, "a", &seen, &attempts()), Outcome::Unknown);
            assert!(unknown.contains(control.id), "{daemon:?}: {unknown:?}");
        }
    }
}

/// Flags of a kubelet that the inventory passes through, with their values and no others.
#[test]
fn what_is_passed_through_to_a_kubelet_is_expected_with_its_value() {
    let (_, good) = hardened();
    let passed = inventory(&|t| format!("{t}kubelet: {{ extra_args: {{ v: 4 }} }}\n"));
    let with = |words: &[&str]| {
        let mut seen = good.clone();
        process(&mut seen, Daemon::Kubelet).argv.extend(words.iter().map(|w| (*w).to_owned()));
        ids(&judged(&passed, "a", &seen, &attempts()), Outcome::Fail)
            .iter()
            .any(|id| *id == "kubelet-in-effect")
    };
    assert!(!with(&["--v=4"]));
    for wrong in [&["--v=5"][..], &["--v=4", "--v=5"], &["--v=4", "--log-dir=/x"], &[]] {
        assert!(with(wrong), "{wrong:?}");
    }
}
