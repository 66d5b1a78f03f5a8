//! The bad days of a cluster's making, on real nodes: what can be found before anything is begun is
//! found there, what cannot is said with the component's own last words, the other nodes are finished,
//! and the same command once more completes it.
//!
//! Not made for real here, since the nodes share their kernel with this machine: swap
//! (`swap_that_is_on_is_switched_off` of src/plan/diff.rs) and cgroup v1 outside a lab
//! (`a_node_that_is_not_what_the_inventory_says_is_not_begun_with` of src/plan/preflight.rs). They share
//! the clock too: another `date`, which is what the facts read, says that it is ten minutes later. There
//! are no tokens that could expire; what plays their part are certificates, and tests/pki.rs has what
//! happens when they or their CA are over (`what_has_expired_is_said_before_a_node_is_asked`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use kubastion::bundle::{ArtifactKind, Manifest};
use kubastion::lab::Lab;

use crate::cluster::{Cluster, kubastion, text};

const NODES: &[&str] = &["cp1", "cp2", "cp3", "w1", "w2"];

impl Cluster {
    /// Runs the program to a bad end and returns all that it said.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = kubastion(&self.dir, args).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{said}");
        said
    }

    /// A shell program in a node that has to work.
    fn does(&self, node: &str, script: &str) -> String {
        let out = self.inside(node, script);
        assert!(out.status.success(), "{node}: {script}\n{}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn holds(&self, node: &str, condition: &str) -> bool {
        self.inside(node, condition).status.success()
    }

    /// Nothing of ours is on these nodes.
    fn untouched(&self, nodes: &[&str]) {
        for node in nodes {
            let there =
                "ls -d /var/lib/kubastion /etc/kubernetes /etc/etcd /etc/kubastion 2>/dev/null";
            let found = self.inside(node, there);
            assert!(found.stdout.is_empty(), "{node}: {}", text(&found));
        }
    }

    pub fn trees(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        std::thread::scope(|scope| {
            let trees: Vec<_> =
                NODES.iter().map(|&n| (n, scope.spawn(move || self.tree(n)))).collect();
            trees.into_iter().map(|(n, t)| (n, t.join().unwrap())).collect()
        })
    }
}

/// The problem that is said of a place, down to its hint.
fn problem<'s>(said: &'s str, place: &str) -> &'s str {
    let start = format!("error: {place}: ");
    let at = said.find(&start).unwrap_or_else(|| panic!("nothing is said of {place}:\n{said}"));
    let rest = &said[at..];
    let end = rest[1..].find("\nerror: ").map_or(rest.len(), |e| e + 1);
    &rest[..end]
}

/// Fails unless all of it is in a text.
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "it does not say {part:?}:\n{text}");
    }
}

fn sh(script: &str, args: &[&Path]) {
    let out = Command::new("sh").args(["-euc", script, "sh"]).args(args).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", text(&out));
}

/// A bundle with what is in another one, and room to change it.
fn copy(bundle: &Path, to: &Path) {
    sh(
        "cp -al \"$1\" \"$2\" 2>/dev/null || { rm -rf \"$2\"; cp -a \"$1\" \"$2\"; }",
        &[bundle, to],
    );
}

/// Another content for a file that may share its own with the true bundle.
fn replace(file: &Path, content: &[u8]) {
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, content).unwrap();
    sh("chmod 0644 \"$1\"", &[file]);
}

/// The inventory of the lab with another bundle, and one more key that may have signed it.
fn inventory_with(c: &Cluster, bundle: &Path, signer: Option<&str>) -> String {
    let text = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match line.trim_start() {
            l if l.starts_with("path: ") => lines.push(format!("    path: {}", bundle.display())),
            "signers:" => {
                lines.push(line.to_owned());
                lines.extend(signer.map(|s| format!("      - {s}")));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let name = format!("{}.yaml", bundle.file_name().unwrap().to_string_lossy());
    std::fs::write(c.dir.join(&name), lines.join("\n") + "\n").unwrap();
    name
}

/// Whatever is wrong with a bundle is known before a node hears of it.
pub fn wrong_bundles(c: &Cluster, bundle: &Path) {
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
    let archive = |image: &str| {
        let holds = |f: &&kubastion::bundle::File| {
            f.kind == ArtifactKind::Image && f.images.iter().any(|i| i.contains(image))
        };
        manifest.files.iter().find(holds).unwrap()
    };
    let (pause, coredns) = (archive("/pause:"), archive("/coredns:"));
    let place = |b: &Path, f: &kubastion::bundle::File| b.join("files").join(f.path.as_str());
    let small = std::fs::read(place(bundle, pause)).unwrap();
    let keys = c.dir.join("keys");
    std::fs::create_dir(&keys).unwrap();
    sh("ssh-keygen -q -t ed25519 -N '' -C '' -f \"$1/key\"", &[&keys]);
    let signer = std::fs::read_to_string(keys.join("key.pub")).unwrap().trim().to_owned();

    // One byte of an archive is another one than when the bundle was signed.
    let flipped = c.dir.join("flipped");
    copy(bundle, &flipped);
    let mut bytes = small.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    replace(&place(&flipped, pause), &bytes);
    let name = inventory_with(c, &flipped, None);
    let file = format!("files/{}", pause.path);
    let said = c.fails(3, &["-i", &name, "apply", "--yes"]);
    says(&said, &[&file, "is not what was signed", "nothing was sent to a node"]);
    says(
        &c.fails(3, &["-i", &name, "bundle", "verify", "flipped"]),
        &[&file, "not what was signed"],
    );
    c.untouched(NODES);

    // Signed by the right key, and not what kubeadm will look for: the archive that is to hold CoreDNS
    // holds something else.
    let lying = c.dir.join("lying");
    copy(bundle, &lying);
    replace(&place(&lying, coredns), &small);
    let mut lie = manifest.clone();
    for f in lie.files.iter_mut().filter(|f| f.path == coredns.path) {
        f.size = pause.size;
        f.sha256 = pause.sha256.clone();
    }
    replace(&lying.join("manifest.json"), &lie.canonical());
    let sign = "rm -f \"$1/manifest.json.sig\"; \
         ssh-keygen -q -Y sign -f \"$2/key\" -n kubastion-bundle \"$1/manifest.json\" 2>/dev/null; \
         chmod 0644 \"$1/manifest.json.sig\"";
    sh(sign, &[&lying, &keys]);
    let name = inventory_with(c, &lying, Some(&signer));
    let file = format!("files/{}", coredns.path);
    let missing = ["contains other images than the manifest lists", &coredns.images[0]];
    let said = c.fails(3, &["-i", &name, "apply", "--yes"]);
    says(&said, &[&file, "nothing was sent to a node"]);
    says(&said, &missing);
    says(&c.fails(3, &["-i", &name, "bundle", "verify", "lying"]), &missing);
    c.untouched(NODES);

    // The same archive where a bundle is made of a directory.
    let input = c.dir.join("input");
    copy(&bundle.join("files"), &input);
    let versions: String =
        manifest.components.iter().map(|(n, c)| format!("{n}: {:?}\n", c.version)).collect();
    std::fs::write(input.join("versions.yaml"), versions).unwrap();
    replace(&input.join(coredns.path.as_str()), &small);
    let args = ["bundle", "import", "--from", "input", "--out", "made", "--key", "keys/key"];
    says(
        &c.fails(3, &args),
        &[&format!("{} is missing", coredns.images[0]), "no bundle was written"],
    );
    assert!(!c.dir.join("made").exists());
    for gone in [flipped, lying, input] {
        std::fs::remove_dir_all(gone).unwrap();
    }
}

const LISTEN: &str = "for p in 2379 6443 10250; do systemd-run -q --unit taken-$p perl -MIO::Socket::INET -e \
     \"my \\$s = IO::Socket::INET->new(LocalPort => $p, Listen => 1, ReuseAddr => 1) or die; sleep 3600\"; done";

const LATER: &str = "cat >/usr/sbin/date <<'END'\n#!/bin/sh\ncase \"$*\" in +%s) ;; *) exec /usr/bin/date \"$@\" ;; esac\n\
     echo $(($(/usr/bin/date +%s) + 600))\nEND\nchmod 755 /usr/sbin/date";

/// Nodes that are not as they should be, and a disk that gets full while files arrive.
pub fn before_anything_is_begun(c: &Cluster) {
    // A disk of its own for images, too small for them.
    c.does("w1", "mount -t tmpfs -o size=300m tmpfs /var/lib/containerd");
    let said = c.fails(3, &["apply", "--yes", "--nodes", "w1"]);
    let w1 = problem(&said, "w1");
    says(
        w1,
        &[
            "MB are free on the file system of /var/lib/containerd",
            "nothing was changed",
            "are needed",
        ],
    );
    c.untouched(&["w1"]);
    c.does("w1", "umount /var/lib/containerd");

    c.does("cp1", &format!("hostname elsewhere; {LATER}"));
    c.does("cp2", LISTEN);
    c.until("somebody to listen", 10, || c.does("cp2", "ss -lnt").contains(":10250"));
    // Enough for the bundle when it is looked at, and then somebody else fills it.
    c.does(
        "w1",
        "mkdir -p /var/lib/kubastion && mount -t tmpfs -o size=1500m tmpfs /var/lib/kubastion",
    );
    // At once, by taking the room away: writing it full takes as long as all the files.
    let fill = "end=$(($(date +%s) + 120)); cd /var/lib/kubastion; \
         until ls blobs/*.part >/dev/null 2>&1; do [ $(date +%s) -lt $end ] || exit 1; sleep 0.02; done; \
         until mount -o remount,size=$(($(stat -f -c '(%b - %f) * %S' .) + 1048576)) /var/lib/kubastion; do \
             [ $(date +%s) -lt $end ] || exit 1; done; \
         [ $(($(stat -f -c '%a * %S / 1000000' .))) -lt 40 ]";
    let (said, filled) = std::thread::scope(|scope| {
        let filled = scope.spawn(|| c.holds("w1", fill));
        (c.fails(6, &["apply", "--yes"]), filled.join().unwrap())
    });
    assert!(filled, "the disk was not filled in time\n{said}");
    let cp1 = problem(&said, "cp1");
    says(cp1, &["host name is `elsewhere`, and the inventory says `cp1`"]);
    // The nodes are not asked all in the same second.
    let off = cp1.split("the clock is ").nth(1).and_then(|rest| rest.split(" s off").next());
    let off: i64 = off.and_then(|s| s.parse().ok()).unwrap_or_default();
    assert!((590..=610).contains(&off), "{cp1}");
    says(cp1, &["state: nothing was changed", "hint: "]);
    let cp2 = problem(&said, "cp2");
    for port in ["2379", "6443", "10250"] {
        says(cp2, &[&format!("port {port} is in use")]);
    }
    says(cp2, &["state: nothing was changed", "hint: "]);
    c.untouched(&["cp1", "cp2"]);
    let w1 = problem(&said, "w1");
    says(
        w1,
        &[
            "software was not started",
            " MB left, but the file needs",
            "but the file needs",
            "this phase changed nothing",
            "hint: ",
        ],
    );
    assert!(!c.holds("w1", "ls /usr/local/bin/kube* /etc/kubernetes"), "{said}");
    // The one that is well is done as far as one alone can be: no member waits for a quorum, nobody
    // looks for a cluster.
    says(&said, &["neither etcd nor the cluster is started: 1 of 3 etcd members are ready"]);
    let done = "[ -x /usr/local/bin/kubelet ] && [ -e /etc/kubernetes/kubastion/kubeadm-join.yaml ] && \
         [ -n \"$(ls /var/lib/kubastion/images)\" ]";
    assert!(c.holds("cp3", done), "{said}");
    assert!(!c.holds("cp3", "pidof etcd kubeadm kubelet"), "{said}");

    c.does("cp1", "hostname cp1; rm /usr/sbin/date");
    c.does("cp2", "systemctl stop taken-2379 taken-6443 taken-10250");
    c.does("w1", "umount /var/lib/kubastion && rmdir /var/lib/kubastion");
}

/// A member with data of nobody knows whom, and a worker that loses its power while it joins.
pub fn while_it_is_made(c: &Cluster) {
    // Nobody knows what it is: the node is left out, and the other two are a quorum.
    c.does("cp3", "mkdir -p -m 700 /var/lib/etcd/member/snap /var/lib/etcd/member/wal && \
         echo garbage >/var/lib/etcd/member/snap/db && chown -R --reference /var/lib/etcd /var/lib/etcd/member");
    let lab = Lab::open(&c.dir).unwrap();
    let states = "cat /var/lib/kubastion/txn/*-kubernetes/state";
    let said = std::thread::scope(|scope| {
        let apply = scope.spawn(|| text(&kubastion(&c.dir, &["apply", "--yes"]).output().unwrap()));
        // Held there: it may be over before the power is.
        let joins = "p=$(pidof kubeadm) && [ -e /var/lib/kubelet/config.yaml ] && kill -STOP $p";
        c.until("w1 to be in the middle of its kubeadm join", 240, || {
            assert!(!apply.is_finished(), "it ended before w1 joined");
            c.holds("w1", joins)
        });
        assert_eq!(c.does("w1", states), "switching\n");
        // Its last packets too: a machine without power closes no connection.
        c.does("w1", "ip link set eth0 down");
        lab.kill("w1").unwrap();
        assert!(!apply.is_finished(), "the run has to notice by itself");
        lab.start("w1").unwrap();
        apply.join().unwrap()
    });
    says(&said, &["[Some(6)]"]);
    let w1 = problem(&said, "w1");
    says(w1, &["kubernetes failed", "the connection broke while waiting for the node's answer"]);
    says(
        w1,
        &["kubernetes is undone on this node", "fix the cause and run `kubastion apply` again"],
    );
    assert_eq!(c.does("w1", states), "reverted\n");
    assert!(!c.holds("w1", "pidof kubelet || ls /var/lib/kubelet/config.yaml"), "{said}");
    let cp3 = problem(&said, "cp3");
    says(cp3, &["contains data that this cluster's etcd did not write", "nothing was changed"]);
    assert!(!c.holds("cp3", "pidof etcd"), "{said}");
    // All others are a cluster, without either of them.
    c.until("the others to be Ready", 60, || c.all_ready("cp2", 3));
    assert!(c.kubectl("cp1", "create namespace of-two").status.success());

    c.does("cp3", "rm -rf /var/lib/etcd/member");
}

/// Somebody changes what daemons run with, and starts them with it: putting the files right is not enough.
pub fn after_somebody_was_there(c: &Cluster) {
    let policy = "/etc/kubernetes/config/audit-policy.yaml";
    c.does("cp2", &format!("printf 'apiVersion: audit.k8s.io/v1\\nkind: Policy\\nrules:\\n- level: None\\n' >{policy}; kill $(pidof kube-apiserver)"));
    c.does(
        "cp3",
        "sed -i 's/--profiling=false/--profiling=true/' /etc/kubernetes/manifests/kube-apiserver.yaml",
    );
    c.does(
        "w1",
        "sed -i '/^  anonymous:/,/enabled:/s/enabled: false/enabled: true/' /var/lib/kubelet/config.yaml; \
         echo '# theirs' >>/etc/containerd/config.toml; systemctl restart containerd kubelet",
    );
    let runs_with = |node: &str, flag: &str| {
        c.holds(
            node,
            &format!("tr '\\0' '\\n' </proc/$(pidof kube-apiserver)/cmdline | grep -qx -e {flag}"),
        )
    };
    c.until("cp3's API server to run with what was changed", 120, || {
        runs_with("cp3", "--profiling=true")
    });
    c.until("all nodes to be Ready with it", 120, || {
        c.all_ready("cp2", 5) && c.all_ready("cp3", 5)
    });
    // Of what this API server does, nothing is told. Its own address: behind the endpoint stand all three.
    let own = "--server $(sed -n 's/^ *server: *//p' /etc/kubernetes/controller-manager.conf | tr -d '\"')";
    let told = |name: &str| {
        let ask = |what: &str| {
            let out = c.kubectl("cp2", &format!("{own} {what}"));
            assert!(out.status.success(), "{what}: {}", text(&out));
        };
        ask(&format!("create namespace {name}"));
        ask(&format!("delete namespace {name} --wait=false"));
        c.holds(
            "cp2",
            &format!("sleep 1; grep -q '\"name\":\"{name}\"' /var/log/kubernetes/audit/audit.log"),
        )
    };
    c.until("cp2's own API server to answer", 120, || {
        c.kubectl("cp2", &format!("{own} get --raw /readyz")).status.success()
    });
    assert!(!told("untold"));
    let started = |unit: &str| c.does("w1", &format!("systemctl show -p InvocationID {unit}"));
    let before = ["containerd", "kubelet"].map(started);

    let plan = c.ends(4, &["plan", "--exit-code"]);
    says(&plan, &["3 of 5 nodes change"]);
    c.ends(0, &["apply", "--yes"]);
    c.ends(0, &["plan", "--exit-code"]);
    assert!(runs_with("cp3", "--profiling=false"));
    assert!(told("told"), "the API server goes on with the policy that somebody gave it");
    assert!(c.holds("w1", "grep -A1 '^  anonymous:' /var/lib/kubelet/config.yaml | grep -q false"));
    let after = ["containerd", "kubelet"].map(started);
    assert!(before.iter().zip(&after).all(|(b, a)| a != b), "{before:?} {after:?}");
}

/// All nodes back to what they were, and what may not be done by halves.
pub fn back_to_bare(c: &Cluster, bare: &BTreeMap<&'static str, BTreeSet<String>>) {
    let said = c.fails(3, &["reset", "--yes"]);
    says(
        &said,
        &[
            "etcd's data needs a decision: --delete-etcd-data or --keep-etcd-data",
            "--delete-etcd-data",
            "nothing was changed",
        ],
    );
    assert!(c.all_ready("cp3", 5), "a reset that was refused has changed something");
    assert!(c.kubectl("cp3", "delete namespace of-two --wait=false").status.success());

    c.ends(0, &["reset", "--yes", "--delete-etcd-data"]);
    let now = c.trees();
    let mut left = Vec::new();
    for &node in NODES {
        left.extend(bare[node].symmetric_difference(&now[node]).map(|l| format!("{node}: {l}")));
    }
    assert!(left.is_empty(), "left by the reset: {left:#?}");
    for &node in NODES {
        let daemons = "pidof etcd kubelet kube-apiserver kube-proxy containerd-shim-runc-v2";
        assert!(!c.holds(node, daemons), "{node}: {}", text(&c.inside(node, "ps ax")));
        let rules = "nft list ruleset | grep -i -e kube -e kubastion";
        assert!(!c.holds(node, rules), "{node}: {}", text(&c.inside(node, "nft list ruleset")));
    }
}
