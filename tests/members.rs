//! Members of etcd come, go and are replaced on a real cluster, while somebody writes into it: from one to three, four
//! ways to a replaced one, out by a reset, and back to one. What was acknowledged is there at the end.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle; `make e2e` and `make test` set it where they find one.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::Instant;

use kubastion::lab::Lab;

use cluster::{Cluster, given, kubastion, say, text};

// Not all of what is shared is of use here.
#[allow(dead_code)]
#[path = "support/cluster.rs"]
mod cluster;

/// etcd's own client on a member, with the API server's certificate.
const CTL: &str = "PATH=/usr/local/bin:$PATH; pki=/etc/kubernetes/pki; \
     ctl() { etcdctl --endpoints https://127.0.0.1:2379 --command-timeout=10s --cacert /etc/etcd/pki/ca.crt \
         --cert $pki/apiserver-etcd-client.crt --key $pki/apiserver-etcd-client.key \"$@\"; }; ";

impl Cluster {
    /// A shell program in a node that has to work.
    fn does(&self, node: &str, script: &str) -> String {
        let out = self.inside(node, script);
        assert!(out.status.success(), "{node}: {script}\n{}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// The same of one that may be between two boots.
    fn holds(&self, node: &str, script: &str) -> bool {
        let lab = Lab::open(&self.dir).unwrap();
        let command = lab.command(node, &["sh", "-c", script]).ok();
        command.and_then(|mut c| c.output().ok()).is_some_and(|out| out.status.success())
    }

    fn ctl(&self, node: &str, args: &str) -> String {
        self.does(node, &format!("{CTL} ctl {args}"))
    }

    /// Names of the members that have a vote, by etcd.
    fn voters(&self) -> BTreeSet<String> {
        let list = self.ctl("cp1", "member list");
        let rows = list.lines().map(|l| l.split(", ").map(str::to_owned).collect::<Vec<_>>());
        rows.filter(|r| r.get(5).is_some_and(|learner| learner == "false"))
            .map(|r| r[2].clone())
            .collect()
    }

    fn are_members(&self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(self.voters(), wanted, "{}", self.ctl("cp1", "member list"));
        let ends: Vec<String> =
            names.iter().map(|n| format!("https://10.213.{}:2379", self.address(n))).collect();
        let health = format!("{CTL} ctl --endpoints {} endpoint health --cluster", ends.join(","));
        let out = self.inside("cp1", &health);
        assert!(out.status.success(), "{}", text(&out));
    }

    /// The last two numbers of a node's address.
    fn address(&self, node: &str) -> String {
        let inventory = std::fs::read_to_string(self.dir.join("whole.yaml")).unwrap();
        let at = inventory.find(&format!("name: {node}\n")).unwrap();
        let rest = &inventory[at..];
        let from = rest.find("addresses: [10.213.").unwrap() + "addresses: [10.213.".len();
        rest[from..].split(']').next().unwrap().to_owned()
    }

    fn id_of(&self, node: &str) -> String {
        let list = self.ctl("cp1", "member list");
        let row = list.lines().find(|l| l.contains(&format!(", {node}, "))).unwrap();
        row.split(", ").next().unwrap().to_owned()
    }

    /// Applies, and finds nothing more to do.
    fn settles(&self) -> String {
        self.ends(0, &["pki", "ensure"]);
        let plan = self.ends(0, &["plan"]);
        self.ends(0, &["apply", "--yes"]);
        self.ends(0, &["plan", "--exit-code"]);
        plan
    }

    /// Runs the program to a bad end and returns all that it said.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = kubastion(&self.dir, args).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{said}");
        said
    }

    fn inventory(&self, nodes: &[&str]) {
        let whole = std::fs::read_to_string(self.dir.join("whole.yaml")).unwrap();
        let (head, list) = whole.split_once("nodes:\n").unwrap();
        let blocks: Vec<&str> = list.split("  - name: ").skip(1).collect();
        let mut text = format!("{head}nodes:\n");
        for node in nodes {
            let block = blocks.iter().find(|b| b.starts_with(&format!("{node}\n"))).unwrap();
            text.push_str(&format!("  - name: {block}"));
        }
        std::fs::write(self.dir.join("inventory.yaml"), text).unwrap();
    }

    /// Somebody who writes into etcd itself and into the API, all the time, and notes what was acknowledged.
    fn write_all_the_time(&self) {
        let script = format!(
            "cat >/root/writer.sh <<'EOF'\n{CTL}\ni=0\nwhile :; do i=$((i + 1)); \
             ctl put /writer/$i $i >/dev/null 2>&1 && echo $i >>/root/acked; \
             [ $((i % 20)) -ne 0 ] || {{ kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=10s \
                 create configmap written-$i >/dev/null 2>&1 && echo $i >>/root/acked-api; }}; \
             sleep 0.05; done\nEOF\nsystemd-run -q --unit writer sh /root/writer.sh"
        );
        self.does("cp1", &script);
    }

    /// What was acknowledged and is there; fails if any of it is not.
    fn nothing_is_lost(&self) -> (usize, usize) {
        self.does("cp1", "systemctl stop writer");
        let numbers = |text: String, strip: &str| -> BTreeSet<u64> {
            text.lines().filter_map(|l| l.trim().strip_prefix(strip)?.parse().ok()).collect()
        };
        let acked = numbers(self.does("cp1", "cat /root/acked"), "");
        let there = numbers(self.ctl("cp1", "get /writer/ --prefix --keys-only"), "/writer/");
        let lost: Vec<&u64> = acked.difference(&there).collect();
        assert!(!acked.is_empty() && lost.is_empty(), "lost of {}: {lost:?}", acked.len());
        let acked_api = numbers(self.does("cp1", "cat /root/acked-api"), "");
        let maps = self.kubectl("cp1", "get configmaps -o name");
        let maps =
            numbers(String::from_utf8_lossy(&maps.stdout).into_owned(), "configmap/written-");
        let lost: Vec<&u64> = acked_api.difference(&maps).collect();
        assert!(!acked_api.is_empty() && lost.is_empty(), "lost by the API: {lost:?}");
        (acked.len(), acked_api.len())
    }
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "it does not say {part:?}:\n{text}");
    }
}

#[test]
fn members_come_and_go_and_no_write_is_lost() {
    let Some((bundle, dir)) = given("members") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--control-planes", "3", "--workers", "0", "--dir", "."];
    c.ends(0, &[&up[..], &["--bundle", &bundle]].concat());
    // They take pods as well: each node that is added is the last one, as the bridge network wants it.
    let inventory = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let both = inventory.replace("roles: [control-plane]", "roles: [control-plane, worker]");
    assert_ne!(inventory, both);
    std::fs::write(c.dir.join("whole.yaml"), both).unwrap();

    c.inventory(&["cp1"]);
    c.settles();
    c.are_members(&["cp1"]);
    c.write_all_the_time();
    say(began, "one member, and somebody who writes");

    // One to three.
    c.inventory(&["cp1", "cp2", "cp3"]);
    // Not without those that are there: they would be a cluster of their own.
    let said = c.fails(6, &["apply", "--yes", "--nodes", "cp2,cp3"]);
    says(&said, &["cp1 was not checked"]);
    assert!(!c.inside("cp2", "test -e /var/lib/etcd/member").status.success());
    let plan = c.settles();
    says(
        &plan,
        &[
            "add cp2 (https://",
            "add cp3 (https://",
            "as a learner, and promote it once it has caught up",
        ],
    );
    c.are_members(&["cp1", "cp2", "cp3"]);
    assert!(c.all_ready("cp2", 3), "{}", text(&c.kubectl("cp2", "get nodes")));
    for node in ["cp1", "cp2", "cp3"] {
        let servers =
            c.does(node, "grep -o etcd-servers=.* /etc/kubernetes/manifests/kube-apiserver.yaml");
        assert_eq!(servers.matches("https://").count(), 3, "{node}: {servers}");
    }
    say(began, "three members");

    // Its data is lost.
    let old = c.id_of("cp2");
    c.does("cp2", "systemctl stop etcd && rm -rf /var/lib/etcd/member");
    // It does not come back by itself, as the founder of a cluster that it would be alone in.
    c.inside("cp2", "systemctl start etcd");
    assert!(!c.inside("cp2", "systemctl -q is-active etcd").status.success());
    let plan = c.settles();
    says(
        &plan,
        &[&format!("remove member {old} (cp2"), "its data on the node is missing", "add cp2"],
    );
    c.are_members(&["cp1", "cp2", "cp3"]);
    assert_ne!(c.id_of("cp2"), old);
    say(began, "replaced after its data was lost");

    // Removed by hand: what its disk holds is never used again.
    let old = c.id_of("cp2");
    c.until("etcd to let it go", 30, || {
        c.inside("cp1", &format!("{CTL} ctl member remove {old}")).status.success()
    });
    c.until("the removed member to end", 60, || {
        !c.inside("cp2", "systemctl -q is-active etcd").status.success()
    });
    let plan = c.settles();
    says(&plan, &["add cp2"]);
    c.are_members(&["cp1", "cp2", "cp3"]);
    let aside = c.does("cp2", "ls -d /var/lib/etcd/removed-*Z");
    assert_eq!(aside.lines().count(), 1, "{aside}");
    say(began, "replaced after it was removed by hand");

    // Removed and added by hand, as documents tell.
    let url = format!("https://10.213.{}:2380", c.address("cp3"));
    let old = c.id_of("cp3");
    c.does("cp3", "systemctl stop etcd && rm -rf /var/lib/etcd/member");
    c.until("etcd to let it go", 30, || {
        c.inside("cp1", &format!("{CTL} ctl member remove {old}")).status.success()
    });
    c.until("the others to take one more", 30, || {
        c.inside("cp1", &format!("{CTL} ctl member add cp3 --peer-urls={url}")).status.success()
    });
    let plan = c.settles();
    says(&plan, &["never started", "add cp3"]);
    c.are_members(&["cp1", "cp2", "cp3"]);
    say(began, "replaced after it was added by hand");

    // A machine like new under the old name.
    c.does(
        "cp3",
        "systemctl disable --now kubelet etcd haproxy keepalived containerd kubastion-firewall; \
         rm -rf /etc/systemd/system/etcd.service* /etc/systemd/system/kubelet.service* /etc/kubernetes /etc/etcd \
             /etc/kubastion /var/lib/kubastion /var/lib/etcd; userdel etcd; systemctl reboot",
    );
    c.until("it to boot", 90, || {
        c.holds("cp3", "systemctl -q is-active ssh && ! pidof kube-apiserver etcd kubelet")
    });
    c.does("cp3", "rm -rf /var/lib/kubelet/* ; nft delete table inet kubastion 2>/dev/null; :");
    c.until("the cluster to believe that it is away", 90, || {
        text(&c.kubectl("cp1", "get node cp3 --no-headers")).contains("NotReady")
    });
    assert!(c.kubectl("cp1", "delete node cp3").status.success());
    c.settles();
    c.are_members(&["cp1", "cp2", "cp3"]);
    say(began, "a new machine in the place of an old one");

    // An alarm stops a plan at its beginning, and is gone when it is disarmed.
    c.does(
        "cp1",
        &format!(
            "{CTL} mkdir -p /run/systemd/system/etcd.service.d && \
             sed -n '/^ExecStart=/,/[^\\\\]$/p' /etc/systemd/system/etcd.service | \
                 sed 's/quota-backend-bytes=[0-9]*/quota-backend-bytes=4194304/' >/root/start && \
             {{ echo '[Service]'; echo ExecStart=; cat /root/start; }} >/run/systemd/system/etcd.service.d/small.conf && \
             systemctl daemon-reload && systemctl restart etcd && \
             for i in $(seq 1 100); do ctl put /full/$i \"$(head -c 100000 /dev/zero | tr '\\0' x)\" >/dev/null 2>&1 || break; done; \
             ctl alarm list"
        ),
    );
    let raised = c.ctl("cp1", "alarm list");
    says(&raised, &["NOSPACE"]);
    let quick = Instant::now();
    for (code, args) in [(3, &["plan"][..]), (3, &["apply", "--yes"]), (6, &["doctor"])] {
        let said = c.fails(code, args);
        says(&said, &["alarm NOSPACE for cp1"]);
    }
    assert!(quick.elapsed().as_secs() < 60, "it took {} s to say so", quick.elapsed().as_secs());
    c.does(
        "cp1",
        &format!(
            "{CTL} rm -rf /run/systemd/system/etcd.service.d && systemctl daemon-reload && systemctl restart etcd && \
             ctl del /full --prefix && ctl alarm disarm"
        ),
    );
    c.until("etcd to be well", 30, || !c.ctl("cp1", "alarm list").contains("NOSPACE"));
    // Controllers that could not renew their leases are started again, and a node is not ready meanwhile.
    c.until("a plan to be empty", 30, || {
        kubastion(&c.dir, &["plan", "--exit-code"]).output().unwrap().status.success()
    });
    say(began, "an alarm was raised, said and disarmed");

    // One of three leaves by a reset, and comes back.
    c.ends(0, &["reset", "--nodes", "cp3", "--delete-etcd-data", "--yes"]);
    c.are_members(&["cp1", "cp2"]);
    assert!(!c.inside("cp3", "ls /var/lib/etcd/member").status.success());
    c.settles();
    c.are_members(&["cp1", "cp2", "cp3"]);
    say(began, "one was reset and is back");

    // Three to one.
    c.inventory(&["cp1"]);
    let plan = c.settles();
    says(&plan, &["it is not in the inventory"]);
    assert_eq!(plan.matches("remove member").count(), 2, "{plan}");
    c.are_members(&["cp1"]);
    c.until("the API to answer from the only one", 60, || {
        c.kubectl("cp1", "get --raw /readyz").status.success()
    });
    let (writes, objects) = c.nothing_is_lost();
    say(began, &format!("one member again; {writes} writes and {objects} objects, none lost"));
}
