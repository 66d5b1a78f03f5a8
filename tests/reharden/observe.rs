//! The first stage: a cluster is observed. Nobody notices it, and whoever would notice the next one is named.

use serde_json::Value;

use crate::cluster::{kubastion, text};
use crate::stock::Stock;

/// Daemons that `hardening.stage: observe` does not start anew, by when they were started. The controller manager and the scheduler
/// end by themselves where the one API server is away for longer than their lease.
fn started(s: &Stock, node: &str) -> String {
    let script = "for d in kubelet containerd etcd kube-proxy; do
        for p in $(grep -lx \"$d\" /proc/[0-9]*/comm 2>/dev/null); do echo \"$d $(cut -d' ' -f22 <\"${p%/comm}/stat\")\"; done; done | sort
        sha256sum /etc/kubernetes/manifests/etcd.yaml /var/lib/kubelet/config.yaml 2>/dev/null";
    let out = s.c.inside(node, script);
    let said = text(&out);
    assert!(said.contains("kubelet ") && said.contains("containerd "), "{said}");
    said
}

/// The first stage: only API servers are started anew, and the firewall lets everything through.
pub fn it_is_observed(s: &Stock, kept: &str) {
    let c = &s.c;
    let before = ["cp1", "w1"].map(|n| started(s, n));
    let objects = s.objects();
    c.ends(4, &["-i", kept, "plan", "--exit-code"]);
    c.ends(0, &["-i", kept, "apply", "--yes"]);
    c.ends(0, &["-i", kept, "plan", "--exit-code"]);
    assert_eq!(["cp1", "w1"].map(|n| started(s, n)), before);
    // No object is another one; the API server's own pod is.
    let ours = |name: &String| !name.contains("/pods ") && !name.contains("/events ");
    let (now, uid) = (s.objects(), |o: &Value| o["metadata"]["uid"].clone());
    for (name, object) in objects.iter().filter(|(name, _)| ours(name)) {
        assert_eq!(now.get(name).map(uid), Some(uid(object)), "{name}");
    }
    let secret = "get --raw /api/v1/namespaces/kube-system/configmaps/kubeadm-config";
    assert!(!text(&c.kubectl("cp1", secret)).contains("audit-policy.yaml\\\""));
    // It is no hardened cluster.
    let verified = kubastion(&c.dir, &["-i", kept, "verify"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(5), "{}", text(&verified));
}

/// Somebody on w1 connects to a port of cp1 that no rule opens, and gets an answer; its address.
pub fn connect_from_w1(s: &Stock) -> String {
    let c = &s.c;
    let address = |node: &str| {
        let out = c.inside(node, "hostname -I");
        text(&out).split_whitespace().next().unwrap().to_owned()
    };
    let listens = "systemd-run -q --unit listener perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 9999, Listen => 5, ReuseAddr => 1); while (my $c = $s->accept) { print $c \"hello\\n\"; close $c }'";
    assert!(c.inside("cp1", listens).status.success());
    let asks = format!(
        "perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => \"{}\", PeerPort => 9999, Timeout => 5) or die; print scalar <$s>'",
        address("cp1")
    );
    c.until("an answer at a port of cp1", 30, || text(&c.inside("w1", &asks)).contains("hello"));
    assert!(c.inside("cp1", "systemctl stop listener").status.success());
    address("w1")
}

/// What is to be acknowledged, once the cluster was observed for as long as the inventory says.
pub fn named(s: &Stock, kept: &str) -> Vec<String> {
    let c = &s.c;
    let impact = || -> Value {
        let said = kubastion(&c.dir, &["-i", kept, "--format", "json", "impact"]).output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", text(&said));
        serde_json::from_slice(&said.stdout).unwrap()
    };
    c.until("the cluster to be observed for a minute", 120, || {
        impact()["before_enforce"]["unobserved"].as_array().unwrap().is_empty()
    });
    let named = impact()["before_enforce"]["unacknowledged"].clone();
    named.as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// As the inventory has them.
pub fn acknowledgements(names: &[String], last: &str) -> String {
    let each = names
        .iter()
        .map(|n| format!("  - {{item: {n:?}, reason: a test, owner: ops, expires: {last}}}\n"));
    format!("  observe_minutes: 1\n  acknowledged:\n{}", each.collect::<String>())
}

/// Whoever asks without credentials, and whoever makes a pod that would be refused, is named. And all of it is taken back.
pub fn who_asks_is_recorded(s: &Stock) {
    let c = &s.c;
    let (address, _) = &s.nodes["cp1"];
    let login = format!("ssh://root@{address}");
    let by = ["--identity", "ssh/id_ed25519", "--known-hosts", "ssh/known_hosts"];
    let import = [&["import", &login], &by[..], &["--out", "observed", "--conflicts", "harden"]];
    c.ends(0, &import.concat());
    let kept = "observed/inventory.yaml";
    let file = c.dir.join(kept);
    let imported = std::fs::read_to_string(&file).unwrap();
    let minute = imported.replace("  stage: observe\n", "  stage: observe\n  observe_minutes: 1\n");
    assert_ne!(minute, imported);
    std::fs::write(&file, minute + "host:\n  lab: true\n").unwrap();
    c.ends(0, &["-i", kept, "pki", "ensure"]);
    let before = [s.disk("cp1"), s.disk("w1")];
    it_is_observed(s, kept);
    let planted = |named: &[String], row: &str| -> Vec<String> {
        named.iter().filter(|n| n.starts_with(&format!("{row}/"))).cloned().collect()
    };
    let at_first = named(s, kept);
    for row in ["flows", "anonymous-requests", "stale-tokens", "refused-pods"] {
        assert!(planted(&at_first, row).is_empty(), "{at_first:#?}");
    }
    let pod = r#"cat >/run/pod.yaml <<'END'
apiVersion: v1
kind: Pod
metadata: {name: short-lived, namespace: default}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  containers: [{name: c, image: "registry.example/none:1"}]
END"#;
    assert!(c.inside("cp1", pod).status.success());
    let made = c.kubectl("cp1", "apply -f /run/pod.yaml");
    // It is made, and whoever makes it is warned.
    assert!(
        made.status.success() && text(&made).contains("would violate PodSecurity"),
        "{}",
        text(&made)
    );
    let gone = c.kubectl("cp1", "delete pod short-lived --now; rm /run/pod.yaml");
    assert!(gone.status.success(), "{}", text(&gone));
    let client = connect_from_w1(s);
    let then = named(s, kept);
    assert_eq!(planted(&then, "flows"), [format!("flows/cp1/tcp/9999/{client}")]);
    assert_eq!(planted(&then, "refused-pods"), ["refused-pods/default/pods/kubernetes-admin"]);
    assert!(planted(&then, "anonymous-requests").is_empty(), "{then:#?}");
    // It tries what anybody may.
    assert_eq!(s.assess(&["cp1", "w1"], &[]).status.code(), Some(5));
    let then = planted(&named(s, kept), "anonymous-requests");
    assert!(then.contains(&format!("anonymous-requests/{address}/api")), "{then:#?}");

    c.ends(0, &["-i", kept, "rollback", "--yes"]);
    c.until("all nodes to be Ready as they were", 120, || c.all_ready("cp1", 2));
    for (node, before) in ["cp1", "w1"].iter().zip(&before) {
        let now = s.disk(node);
        let changed: Vec<_> =
            before.symmetric_difference(&now).filter(|l| l.contains(" /etc/")).collect();
        assert!(changed.is_empty(), "{node}: {changed:#?}");
        let rules = c.inside(node, "nft list tables");
        assert!(!text(&rules).contains("inet kubastion"), "{}", text(&rules));
    }
}
