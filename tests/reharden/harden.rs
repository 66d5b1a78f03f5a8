//! The cluster is hardened where it runs, and taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kubastion::lab::Lab;
use serde_json::Value;

use crate::cluster::{kubastion, say, text};
use crate::observe::{acknowledgements, connect_from_w1, it_is_observed, named};
use crate::stock::Stock;

/// What a lab cannot give, and what of others' is not kubastion's to change: the only controls that fail afterwards.
const STAYS_WEAK: &[&str] = &[
    // The network's files are others', and its program writes them.
    "files-cni",
    // A lab has the programs of packages, and those of the bundle before them.
    "host-no-shadowed-programs",
    // kubeadm's CAs have RSA keys of 2048 bits.
    "pki-key-algorithm-and-lifetime",
    // Requests of nodes that joined with a token: the controller manager deletes them after an hour.
    "policy-rbac-minimal",
    // The audit log stays where they have it: the conflict was decided so.
    "apiserver-audit-log-permissions",
    "apiserver-audit-policy",
    "host-secrets-unreadable",
];

/// Hardened in place, and taken back to what it was: it stays the same cluster all the time.
pub fn it_is_hardened_where_it_runs(s: &Stock, kept: &str, began: Instant) {
    let c = &s.c;
    let file = c.dir.join(kept);
    let lab = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let part = |from: &str, to: &str| {
        let at = lab.find(from).unwrap();
        lab[at..at + lab[at..].find(to).unwrap()].to_owned()
    };
    let imported = std::fs::read_to_string(&file).unwrap();
    // Their audit policy leaves out what the control wants in the log, for which no plan is made: the profile's takes its place.
    let at = imported.find("audit:\n").unwrap();
    let end = at + imported[at..].find("\n\n").unwrap();
    let imported = format!("{}{}", &imported[..at], &imported[end..]);
    let (exceptions, off) = ("  exceptions:\n", "  controls:\n");
    assert!(imported.contains(exceptions) && imported.contains(off), "{imported}");
    let of_lab = part("    - control: kubelet-protect-kernel-defaults", "nodes:\n");
    let of_lab: String = of_lab.lines().map(|l| format!("{}\n", &l[2..])).collect();
    let inventory = imported.replace(exceptions, &format!("{exceptions}{of_lab}"))
        + &part("firewall:", "host:")
        + "host:\n  lab: true\n";
    let plain = "{state: off, reason: later, owner: ops, expires: 2999-01-01}";
    let days = (time::OffsetDateTime::now_utc() + time::Duration::days(30)).date();
    let plain = plain.replace("2999-01-01", &days.to_string());
    let unencrypted = inventory.replace(
        off,
        &format!(
            "{off}    apiserver-encryption-config: {plain}\n    apiserver-encryption-provider: {plain}\n"
        ),
    );
    let stage = "  stage: observe\n";
    assert!(unencrypted.contains(stage), "{unencrypted}");
    let observed = unencrypted.replace(stage, &format!("{stage}  observe_minutes: 1\n"));
    std::fs::write(&file, &observed).unwrap();
    let uids = || -> BTreeMap<String, String> {
        let all = s.objects().into_iter();
        // Pods, what ends by itself, and what hardening deletes.
        let stays = |name: &String| {
            ![
                "/pods ",
                "events",
                "endpointslices",
                "certificatesigningrequests",
                "bootstrap",
                "replicasets",
            ]
            .iter()
            .any(|w| name.contains(w))
        };
        all.filter(|(name, _)| stays(name))
            .map(|(name, object)| (name, object["metadata"]["uid"].to_string()))
            .collect()
    };
    let etcdctl = |args: &str| {
        let pki = "/etc/kubernetes/pki";
        let script = format!(
            "etcdctl --endpoints https://127.0.0.1:2379 --cacert {pki}/etcd/ca.crt --cert {pki}/apiserver-etcd-client.crt \
             --key {pki}/apiserver-etcd-client.key {args}"
        );
        let out = c.inside("cp1", &format!("PATH=/usr/local/bin:$PATH; {script}"));
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let cluster = || -> (Value, Value) {
        let status: Value = serde_json::from_str(&etcdctl("endpoint status -w json")).unwrap();
        let header = &status[0]["Status"]["header"];
        (header["cluster_id"].clone(), header["member_id"].clone())
    };
    let (was, members, disks) = (uids(), cluster(), [s.disk("cp1"), s.disk("w1")]);
    let same = |when: &str| {
        let now = uids();
        let changed: Vec<&String> = was
            .iter()
            .filter(|(n, uid)| now.get(*n).is_some_and(|u| u != *uid))
            .map(|(n, _)| n)
            .collect();
        assert!(changed.is_empty(), "{when}: {changed:#?}");
        assert_eq!(cluster(), members, "{when}");
    };
    let failing = || -> BTreeSet<String> {
        let args = ["-i", kept, "--format", "json", "verify"];
        let said = kubastion(&c.dir, &args).output().unwrap();
        assert_eq!(said.status.code(), Some(5), "{}", text(&said));
        let verified: Value = serde_json::from_slice(&said.stdout).unwrap();
        let findings = verified["findings"].as_array().unwrap().iter();
        let weak = findings.filter(|f| f["verdict"] != "pass" && f["verdict"] != "not-applicable");
        let weak = weak.filter(|f| f["exception"].is_null());
        weak.map(|f| f["control"].as_str().unwrap().to_owned()).collect()
    };

    it_is_observed(s, kept);
    same("observed");
    say(began, "it is observed, and nothing else of it has changed");
    let client = connect_from_w1(s);
    let acknowledged = named(s, kept);
    of_an_odd_cluster(&acknowledged, &client);
    let enforced = unencrypted.replace(
        stage,
        &format!("  stage: enforce\n{}", acknowledgements(&acknowledged, &days.to_string())),
    );
    // One of them is not acknowledged: nothing is begun.
    let all_but_one = acknowledgements(&acknowledged[1..], &days.to_string());
    let text_without_one = unencrypted.replace(stage, &format!("  stage: enforce\n{all_but_one}"));
    std::fs::write(&file, text_without_one).unwrap();
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let said = kubastion(&c.dir, &[&["-i", kept], verb].concat()).output().unwrap();
        assert_eq!(said.status.code(), Some(3), "{}", text(&said));
        let why = format!("not acknowledged: {}", acknowledged[0]);
        assert!(text(&said).contains(&why), "{}", text(&said));
    }
    say(began, "it is not hardened while somebody would notice");

    std::fs::write(&file, &enforced).unwrap();
    // How often nobody answers at the one endpoint is said before, and no more often does a client notice.
    let planned = kubastion(&c.dir, &["-i", kept, "plan", "--exit-code"]).output().unwrap();
    assert_eq!(planned.status.code(), Some(4), "{}", text(&planned));
    let once = "the API is unreachable while its API server restarts, once";
    assert!(text(&planned).contains(once), "{}", text(&planned));
    let outages = outages_while(s, || drop(c.ends(0, &["-i", kept, "apply", "--yes"])));
    assert_eq!(outages, 1);
    c.ends(0, &["-i", kept, "plan", "--exit-code"]);
    same("hardened");
    let weak = failing();
    let unencrypted = BTreeSet::from(["files-apiserver-aux-configs".to_owned()]);
    let stays: BTreeSet<String> = STAYS_WEAK.iter().map(|c| (*c).to_owned()).collect();
    assert_eq!(weak, stays.union(&unencrypted).cloned().collect());
    let argv = c.inside("cp1", "tr '\\0' '\\n' </proc/$(pidof etcd)/cmdline");
    assert!(text(&argv).contains("--cipher-suites="), "{}", text(&argv));
    kubeadm_goes_on_with_it(s);
    c.ends(0, &["-i", kept, "plan", "--exit-code"]);
    same("upgraded with kubeadm");
    let refused =
        kubastion(&c.dir, &["-i", kept, "reset", "--yes", "--keep-etcd-data"]).output().unwrap();
    assert_ne!(refused.status.code(), Some(0));
    assert!(
        text(&refused).contains("it was part of a cluster before kubastion"),
        "{}",
        text(&refused)
    );
    assert!(c.all_ready("cp1", 2), "a reset that was refused has changed something");
    say(began, "it is hardened in place, and the same cluster");

    // Once it is hardened, observing it would not take that back.
    std::fs::write(&file, &observed).unwrap();
    let refused = kubastion(&c.dir, &["-i", kept, "plan"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(text(&refused).contains("run `kubastion rollback`"), "{}", text(&refused));

    // First to a cluster that is observed, then to what it was.
    c.ends(0, &["-i", kept, "rollback", "--yes"]);
    c.until("all nodes to be Ready as they were observed", 120, || c.all_ready("cp1", 2));
    c.ends(0, &["-i", kept, "plan", "--exit-code"]);
    say(began, "it is taken back to a cluster that is observed");
    c.ends(0, &["-i", kept, "rollback", "--yes"]);
    c.until("all nodes to be Ready as they were", 120, || c.all_ready("cp1", 2));
    same("taken back");
    for (node, before) in ["cp1", "w1"].iter().zip(&disks) {
        let now = s.disk(node);
        // Pods, their networks and package lists go on; what nodes are configured by is below /etc.
        let left = |l: &&String| l.contains(" /etc/") && !GIVEN_UP.iter().any(|g| l.contains(g));
        let changed: Vec<_> = before.symmetric_difference(&now).filter(left).collect();
        assert!(changed.is_empty(), "{node}: {changed:#?}");
    }
    say(began, "files of the nodes are what they were");
}

/// kubeadm reads it, and upgrades it to the release that runs, as the manual says.
fn kubeadm_goes_on_with_it(s: &Stock) {
    let c = &s.c;
    let kubeadm = |node: &str, args: &str| {
        let out = c.inside(node, &format!("export PATH=/usr/local/bin:$PATH; kubeadm {args}"));
        assert!(out.status.success(), "{node}: {args}: {}", text(&out));
        text(&out)
    };
    let expiry = kubeadm("cp1", "certs check-expiration");
    assert!(expiry.contains("etcd-server"), "{expiry}");
    let release = "$(kubeadm version -o short)";
    kubeadm("cp1", &format!("upgrade plan {release}"));
    let with =
        "--config /etc/kubernetes/kubastion/kubeadm-upgrade.yaml && systemctl restart kubelet";
    // What a static pod has besides kubeadm's configuration is in the patches: none of them starts anew.
    for upgrade in [&format!("upgrade apply {release} --yes"), "upgrade node"] {
        let said = kubeadm("cp1", &format!("{upgrade} {with}"));
        for pod in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let same = format!("Current and new manifests of {pod} are equal");
            assert!(said.contains(&same), "{said}");
        }
    }
    kubeadm("w1", &format!("upgrade node {with}"));
    c.until("all nodes to be Ready as they were upgraded", 60, || c.all_ready("cp1", 2));
}

/// How often a client that connects ten times a second finds nobody at the endpoint, for however long each time.
fn outages_while(s: &Stock, work: impl FnOnce()) -> usize {
    let address = Lab::open(&s.c.dir).unwrap().address("cp1").unwrap();
    let to = SocketAddr::new(address.into(), 6443);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut outages, mut was_up) = (0, true);
            while !is_over.load(Ordering::Relaxed) {
                let is_up = TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok();
                outages += usize::from(was_up && !is_up);
                was_up = is_up;
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(was_up, "the endpoint is away for good");
            outages
        });
        // Also if it fails, so that the client ends.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let outages = client.join().unwrap();
        worked.unwrap();
        outages
    })
}

/// What is not as it was: keys that are removed for good with their images, what runs and writes, and records of what was done.
const GIVEN_UP: &[&str] = &[
    // Where `kubeadm upgrade` keeps what it replaced.
    "/etc/kubernetes/tmp",
    "/var/lib/kubastion",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/super-admin.conf",
];

/// Exactly whoever was planted is listed, what its own audit policy leaves out, and what kubeadm leaves.
fn of_an_odd_cluster(named: &[String], client: &str) {
    let of = |row: &str| -> Vec<&String> {
        named.iter().filter(|n| n.starts_with(&format!("{row}/"))).collect()
    };
    assert_eq!(of("flows"), [&format!("flows/cp1/tcp/9999/{client}")], "{named:#?}");
    for row in ["anonymous-requests", "refused-pods", "stale-tokens"] {
        assert_eq!(of(row), [&format!("{row}/cp1/incomplete")], "{named:#?}");
    }
    assert_eq!(named.len(), 4 + of("join-tokens").len(), "{named:#?}");
}
