//! A real cluster from a bundle: brought up on bare nodes on a bad day, attacked, hurt, and brought back.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle; `make e2e` and `make test` set it where they find one.
//! Without it nothing is tried, and that is said.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::Instant;

use kubastion::lab::Lab;

use cluster::{Cluster, given, kubastion, say, text};

#[path = "support/bad_days.rs"]
mod bad_days;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/intruder.rs"]
mod intruder;
#[path = "support/tenant.rs"]
mod tenant;

/// The control planes of the lab, which share the endpoint's address.
const PLANES: &[&str] = &["cp1", "cp2", "cp3"];

impl Cluster {
    /// The control plane that has the endpoint's address.
    fn holder(&self) -> Option<&'static str> {
        let script = "a=$(sed -n 's,.*server: .*https://\\([0-9.]*\\):.*,\\1,p' /etc/kubernetes/admin.conf) && \
             ip -4 -o addr show up | grep -qF \" $a/\"";
        PLANES.iter().copied().find(|n| self.inside(n, script).status.success())
    }

    /// Whether a worker gets an answer at the endpoint, as its kubelet would, within 2 s.
    fn endpoint_answers(&self, worker: &str) -> bool {
        let script = "cd /var/lib/kubelet/pki && \
             curl -sSf -m 2 --cacert /etc/kubernetes/pki/ca.crt --cert client.crt --key client.key \
             $(sed -n 's/.*server: \"\\(.*\\)\"/\\1/p' /etc/kubernetes/kubelet.conf)/version";
        text(&self.inside(worker, script)).contains("gitVersion")
    }

    /// Whether the API server of a control plane is ready, by its own word.
    fn serves(&self, plane: &str) -> bool {
        let args = "get --raw /readyz --server https://$(hostname -I | cut -d' ' -f1):6443";
        self.kubectl(plane, args).status.success()
    }

    fn all_run(&self, on: &str) -> bool {
        let out = self.kubectl(on, "get pods -A --no-headers");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        // NAMESPACE NAME READY STATUS
        let good = |l: &str| {
            let words: Vec<&str> = l.split_whitespace().collect();
            words.get(2).and_then(|r| r.split_once('/')).is_some_and(|(a, b)| a == b)
                && words.get(3) == Some(&"Running")
        };
        out.status.success() && text.lines().count() > 0 && text.lines().all(good)
    }
}

#[test]
fn a_cluster_comes_up_hardened_and_survives_what_happens_to_it() {
    let Some((bundle, dir)) = given("e2e") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--control-planes", "3", "--workers", "2", "--dir", "."];
    c.ends(0, &[&up[..], &["--bundle", &bundle]].concat());
    say(began, "five bare nodes");

    let bare = c.trees();
    bad_days::wrong_bundles(&c, Path::new(&bundle));
    say(began, "two wrong bundles reached no node");
    bad_days::before_anything_is_begun(&c);
    say(began, "clock, host name, ports and disks were found");
    bad_days::while_it_is_made(&c);
    say(began, "a member with unknown data was left out, and a worker died in its join");

    c.ends(0, &["apply", "--yes"]);
    say(began, "the same command once more completed it: the cluster is up");
    assert!(c.all_ready("cp1", 5), "{}", text(&c.kubectl("cp1", "get nodes")));
    c.ends(0, &["plan", "--exit-code"]);
    assert!(c.kubectl("cp1", "delete namespace of-two").status.success());
    c.until("all pods to run", 120, || c.all_run("cp1"));
    say(began, "all pods run, and a second plan is empty");

    c.ends(0, &["verify"]);
    say(began, "verify holds");

    tenant::is_named(&c, "cp1");
    c.until("the tenant's namespace to be gone", 60, || {
        !c.kubectl("cp1", "get namespace open").status.success()
    });
    // kube-proxy's DaemonSet has made one for the Node that never was.
    let strays = "get pods -A --field-selector spec.nodeName=stranger --no-headers";
    c.until("no pod to be on the tenant's Node", 90, || {
        let out = c.kubectl("cp1", strays);
        out.status.success() && out.stdout.is_empty()
    });
    c.ends(0, &["verify"]);
    say(began, "what a hostile tenant planted is named, and verify holds again without it");

    intruder::is_named(&c);
    // The image that has another's name is taken in anew.
    c.ends(0, &["apply", "--yes"]);
    c.ends(0, &["plan", "--exit-code"]);
    c.ends(0, &["verify"]);
    say(began, "what an intruder left on nodes is named, and verify holds again without it");

    // What an administrator does every day, through the kubelet's verified serving certificate.
    let logs = c.kubectl("cp1", "-n kube-system logs -l k8s-app=kube-proxy --tail=1");
    assert!(logs.status.success(), "{}", text(&logs));
    let pod = c.kubectl("cp1", "-n kube-system get pod -l k8s-app=kube-proxy -o name");
    let pod = String::from_utf8_lossy(&pod.stdout).lines().next().unwrap().to_owned();
    let exec = c.kubectl("cp1", &format!("-n kube-system exec {pod} -- kube-proxy --version"));
    assert!(text(&exec).contains("Kubernetes v1."), "{}", text(&exec));
    // CoreDNS answers /health on this port of its pod and nowhere else.
    let forwarded = c.inside(
        "cp1",
        "PATH=/usr/local/bin:$PATH; out=$(mktemp); \
         kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system port-forward deployment/coredns \
             18080:8080 >$out 2>&1 & p=$!; \
         for i in $(seq 40); do grep -q Forwarding $out && break; sleep 0.25; done; \
         curl -sS -m 5 http://127.0.0.1:18080/health; kill $p; cat $out; rm $out",
    );
    assert!(text(&forwarded).starts_with("OK"), "{}", text(&forwarded));
    // Also in a namespace of which no apply knows yet, from its first second.
    assert!(c.kubectl("cp1", "create namespace shop").status.success());
    let account = "-n shop get serviceaccount default -o jsonpath={.automountServiceAccountToken}";
    c.until("the default account of a new namespace", 20, || {
        c.kubectl("cp1", account).status.success()
    });
    let mounts = c.kubectl("cp1", account);
    assert_eq!(String::from_utf8_lossy(&mounts.stdout), "false", "{}", text(&mounts));
    assert!(c.kubectl("cp1", "delete namespace shop").status.success());
    c.ends(0, &["kubeconfig", "--out", "admin.conf"]);
    say(began, "logs, exec and port-forward work");

    // The control plane that has the endpoint's address is gone from the network, with its etcd member:
    // another one takes the address over, and the API goes on under it.
    let gone = c.holder().unwrap();
    let [one, other] = PLANES.iter().copied().filter(|p| *p != gone).collect::<Vec<_>>()[..] else {
        panic!("{gone} is not one of three control planes")
    };
    let lost = Instant::now();
    c.inside(gone, "ip link set eth0 down");
    c.until("the endpoint to answer w1 without the one that had it", 30, || {
        c.endpoint_answers("w1")
    });
    let away = lost.elapsed().as_millis();
    assert_ne!(c.holder(), Some(gone));
    // API servers notice a member that says nothing any more by their keepalive, after 30 to 40 s.
    c.until("the API to take a change without it", 90, || {
        text(&c.kubectl(one, "create namespace without-it")).contains("created")
    });
    let dns = "-n kube-system get pods -l k8s-app=kube-dns --no-headers";
    // Until then, the scheduler may put a pod where nobody will ever start it.
    c.until("the cluster to believe that it is away", 90, || {
        text(&c.kubectl(other, &format!("get node {gone} --no-headers"))).contains("NotReady")
    });
    // Each API server notices for itself.
    c.until("every API server to take a change without it", 90, || {
        let args = "-n kube-system delete pods -l k8s-app=kube-dns --wait=false";
        c.kubectl(other, args).status.success()
    });
    c.until("new pods to be scheduled and run without it", 120, || {
        text(&c.kubectl(other, dns))
            .lines()
            .filter(|l| l.contains(" 1/1 ") && l.contains(" Running "))
            .count()
            >= 2
    });
    c.inside(gone, "ip link set eth0 up && ip route replace default via $(ip -4 -o addr show eth0 | awk '{print $4}' | sed 's/[0-9]*\\/24/1/')");
    c.until("it to be back", 120, || c.all_ready(gone, 5));
    assert!(c.kubectl(gone, "delete namespace without-it --wait=false").status.success());
    say(began, &format!("{gone} was away; the endpoint answered after {away} ms"));

    // Neither its load balancer nor its API server alone takes the endpoint along.
    let holder = c.holder().unwrap();
    c.inside(holder, "systemctl stop haproxy");
    c.until("the endpoint to answer without its haproxy", 30, || c.endpoint_answers("w1"));
    assert_ne!(c.holder(), Some(holder));
    c.inside(holder, "systemctl start haproxy");
    let holder = c.holder().unwrap();
    c.inside(holder, "mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/");
    c.until("the API server to end", 60, || {
        !c.inside(holder, "pidof kube-apiserver").status.success()
    });
    c.until("the endpoint to answer without the API server beside it", 30, || {
        c.endpoint_answers("w1")
    });
    assert_eq!(c.holder(), Some(holder), "the address has no reason to move");
    c.inside(holder, "mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/");
    // Through the endpoint, the others answer: the word of this one counts.
    c.until("the API server to be back", 120, || c.serves(holder));
    c.until("all nodes to be Ready", 120, || c.all_ready(holder, 5));
    say(began, "a haproxy and an API server were away");

    // A reboot of a control plane and of a worker: both come back hardened by themselves.
    for node in ["cp3", "w1"] {
        let boot = |c: &Cluster| {
            // Between two boots there is nothing to enter.
            let lab = Lab::open(&c.dir).unwrap();
            let out =
                lab.command(node, &["cut", "-d ", "-f22", "/proc/1/stat"]).ok()?.output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let before = boot(&c);
        assert!(before.is_some());
        c.inside(node, "systemctl reboot");
        c.until("the node to go down and come back", 90, || {
            let now = boot(&c);
            now.is_some() && now != before
        });
        // The API believes in a node that went down for 40 s more: its own word counts.
        c.until("its services to run", 90, || {
            let up = "systemctl -q is-active ssh containerd kubelet kubastion-firewall";
            let lab = Lab::open(&c.dir).unwrap();
            let command = lab.command(node, &["sh", "-c", up]).ok();
            command.and_then(|mut c| c.output().ok()).is_some_and(|o| o.status.success())
        });
    }
    c.until("every API server to be ready", 180, || PLANES.iter().all(|p| c.serves(p)));
    c.until("all nodes to be Ready again", 180, || c.all_ready("cp1", 5));
    c.until("all pods to run again", 180, || c.all_run("cp3"));
    c.ends(0, &["plan", "--exit-code"]);
    c.ends(0, &["verify"]);
    say(began, "two nodes have rebooted; the plan is empty and verify holds");

    // Another setting of the API server and of the kubelets, on a cluster that runs.
    let inventory = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let audit = "audit: { max_age_days: 60, policy: stig }\nhardening:\n";
    let other = inventory.replace("hardening:\n", audit);
    let other =
        other.replace("hardening:\n", "hardening:\n  controls: { kubelet-pod-pids-limit: off }\n");
    assert_ne!(inventory, other);
    // What only the new policy asks for. The API server reads it once.
    let whole_answers = "cat /var/log/kubernetes/audit/audit*.log | \
         grep -c '\"level\":\"RequestResponse\".*\"resource\":\"namespaces\"'";
    let answers = |c: &Cluster| {
        let output = c.inside("cp3", whole_answers);
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().expect("a number of lines")
    };
    assert_eq!(answers(&c), 0);
    std::fs::write(c.dir.join("inventory.yaml"), other).unwrap();
    c.ends(0, &["apply", "--yes"]);
    let cluster =
        c.kubectl("cp2", "-n kube-system get configmap kubeadm-config kubelet-config -o yaml");
    let argv = c.inside("cp3", "tr '\\0' '\\n' </proc/$(pidof kube-apiserver)/cmdline");
    assert!(text(&argv).contains("--audit-log-maxage=60"), "{}", text(&argv));
    assert!(c.kubectl("cp3", "create namespace audited").status.success());
    assert!(c.kubectl("cp3", "delete namespace audited --wait=false").status.success());
    c.until("the new audit policy to be in effect", 30, || answers(&c) > 0);
    // The next join and the next upgrade go by what the cluster keeps.
    assert!(text(&cluster).contains("value: \"60\""), "{}", text(&cluster));
    for node in ["cp1", "w1"] {
        let limit = c.inside(node, "grep podPidsLimit /var/lib/kubelet/config.yaml");
        assert!(text(&limit).contains("podPidsLimit: -1"), "{node}: {}", text(&limit));
    }
    c.until("all nodes to be Ready with the new settings", 120, || c.all_ready("cp1", 5));
    c.ends(0, &["plan", "--exit-code"]);
    c.ends(0, &["verify"]);
    say(began, "settings were changed on the running cluster");

    // What the cluster keeps of kubeadm's configuration is another one, as after a rollback.
    let other = "export KUBECONFIG=/etc/kubernetes/admin.conf PATH=/usr/local/bin:$PATH; \
         kubectl -n kube-system get configmap kubeadm-config -o yaml | sed 's/value: \"60\"/value: \"61\"/' | \
         kubectl replace -f -";
    assert!(c.inside("cp1", other).status.success());
    assert!(c.ends(0, &["plan"]).contains("update kubeadm's ConfigMaps in kube-system"));
    c.ends(0, &["apply", "--yes"]);
    c.ends(0, &["plan", "--exit-code"]);
    c.ends(0, &["verify"]);
    say(began, "kubeadm's ConfigMaps are what they were");

    // One worker back to what it was, and once more into the cluster.
    let output = kubastion(&c.dir, &["reset", "--nodes", "cp1", "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    // Nor by a rollback of the run that brought the cluster up, which can be asked for by name.
    let runs = c.ends(0, &["runs"]);
    // The one before it left nobody in a cluster.
    let mut applies = runs.lines().filter(|l| !l.starts_with(' '));
    let first =
        applies.nth(1).and_then(|l| l.split_whitespace().next()).expect("there was an apply");
    let output = kubastion(&c.dir, &["rollback", first, "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("kubastion reset"));
    assert!(c.all_ready("cp1", 5), "the rollback took something away");
    let said = c.ends(0, &["reset", "--nodes", "w2", "--yes", "--format", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let of_w2 = &said["outcomes"]["w2"];
    assert_eq!(of_w2["outcome"], "committed", "{said}");
    // Newest first, by the node's own word.
    let taken_back: Vec<&str> =
        of_w2["taken_back"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(taken_back.len() >= 4 && taken_back[0].ends_with("-kubernetes"), "{said}");
    let now = c.tree("w2");
    let changed: Vec<&String> = bare["w2"].symmetric_difference(&now).collect();
    assert!(changed.is_empty(), "left by the reset: {changed:#?}");
    say(began, "w2 is what it was");
    c.ends(0, &["apply", "--yes", "--nodes", "w2"]);
    c.until("w2 to be back", 120, || c.all_ready("cp1", 5));
    c.ends(0, &["plan", "--exit-code"]);
    say(began, "and part of the cluster again");

    bad_days::after_somebody_was_there(&c);
    say(began, "what somebody had changed by hand is as it was, and so is what ran with it");
    assert!(c.kubectl("cp1", "create namespace of-two").status.success());
    // What kubectl keeps of this test's own questions.
    for plane in PLANES {
        assert!(c.inside(plane, "rm -rf /root/.kube").status.success());
    }
    bad_days::back_to_bare(&c, &bare);
    say(began, "all nodes are what they were");
    c.ends(0, &["apply", "--yes"]);
    c.until("all nodes to be Ready again", 120, || c.all_ready("cp1", 5));
    assert!(!text(&c.kubectl("cp1", "get namespaces")).contains("of-two"), "it is a new cluster");
    say(began, "and a cluster again");
}
