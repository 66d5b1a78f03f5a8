//! A cluster from bare nodes, and of it the phase in which nodes become members, against the kubeadm
//! commands alone, typed one after another on the same nodes with everything else in place already; and a changed
//! setting of its API servers against their bare restarts.
//!
//! `make bench-cluster` runs it where there is a bundle (root on Debian). What is measured is in
//! docs/benchmarks.md.

// A bench is test code: what fails is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kubastion::lab::{Lab, quiet};

fn main() {
    // `cargo test --benches` builds and starts benches too; there is nothing to test here.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let bundle = std::env::var("KUBASTION_BUNDLE")
        .unwrap_or_else(|_| kubastion::bundle::DEFAULT_DIR.to_owned());
    if !Path::new(&bundle).join("manifest.json").exists() {
        println!("bench-cluster: SKIPPED (no bundle in {bundle})");
        return;
    }
    println!(
        "| nodes | bare to Ready | of it, Kubernetes | kubeadm commands alone | ratio | no-op plan | verify |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut settings = Vec::new();
    for (control_planes, workers) in [(1, 1), (3, 2)] {
        settings.push(measure(&bundle, control_planes, workers));
    }
    println!();
    println!(
        "| control planes | a changed setting of the API server | the same servers restarted bare | ratio |"
    );
    println!("|---|---|---|---|");
    for row in settings {
        println!("{row}");
    }
}

fn kubastion(dir: &Path, args: &[&str]) -> Duration {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_kubastion"))
        .current_dir(dir)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let taken = began.elapsed();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy);
    assert!(output.status.success(), "{args:?}: {}", said.concat());
    taken
}

/// An apply from beginning to end, and from where the first node begins to become a member to where the
/// last one has.
fn apply(dir: &Path) -> (Duration, Duration) {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubastion"))
        .current_dir(dir)
        .args(["apply", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut first, mut last) = (None, None);
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        if line.contains(": kubernetes (") {
            first.get_or_insert_with(Instant::now);
        }
        if line.ends_with(": kubernetes done") {
            last = Some(Instant::now());
        }
    }
    assert!(child.wait().unwrap().success());
    (began.elapsed(), last.unwrap() - first.unwrap())
}

/// Prints what a cluster took, and gives the row of the changed setting.
fn measure(bundle: &str, control_planes: usize, workers: usize) -> String {
    let dir = Path::new("/var/tmp/kubastion-bench-cluster");
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    let (planes, others) = (control_planes.to_string(), workers.to_string());
    let up = ["lab", "up", "--control-planes", &planes, "--workers", &others, "--dir", "."];
    kubastion(dir, &[&up[..], &["--bundle", bundle]].concat());
    let lab = Lab::open(dir).unwrap();
    let result = std::panic::catch_unwind(|| {
        let (ours, members) = apply(dir);
        let plan = kubastion(dir, &["plan", "--exit-code"]);
        let verify = kubastion(dir, &["verify"]);
        let setting = change_setting(dir);
        let bare = restart_bare(&lab, control_planes);
        let theirs = by_hand(&lab, control_planes, workers);
        println!(
            "| {control_planes} + {workers} | {:.1} s | {:.1} s | {:.1} s | {:.2} | {:.2} s | {:.1} s |",
            ours.as_secs_f64(),
            members.as_secs_f64(),
            theirs.as_secs_f64(),
            members.as_secs_f64() / theirs.as_secs_f64(),
            plan.as_secs_f64(),
            verify.as_secs_f64(),
        );
        format!(
            "| {control_planes} | {:.1} s | {:.1} s | {:.2} |",
            setting.as_secs_f64(),
            bare.as_secs_f64(),
            setting.as_secs_f64() / bare.as_secs_f64(),
        )
    });
    lab.down(&quiet).unwrap();
    let _ = std::fs::remove_dir_all(dir);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A flag of every API server, one after another, until `apply` calls it done.
fn change_setting(dir: &Path) -> Duration {
    let path = dir.join("inventory.yaml");
    let inventory = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{inventory}audit: {{ max_age_days: 60 }}\n")).unwrap();
    let taken = kubastion(dir, &["apply", "--yes"]);
    kubastion(dir, &["plan", "--exit-code"]);
    taken
}

/// What the kubelet does at least for a changed manifest: it ends the API server and starts it, and the node's
/// scheduler and controller manager, which ask it, are healthy. One node after another.
fn restart_bare(lab: &Lab, control_planes: usize) -> Duration {
    const RESTART: &str = r#"
        manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
        old=$(pidof kube-apiserver)
        sed 's/^  labels:$/  labels:\n    bench: "1"/' "$manifest" >/root/manifest
        cmp -s /root/manifest "$manifest" && exit 1
        mv /root/manifest "$manifest"
        ask() { [ "$(curl -s -o /dev/null -w '%{http_code}' -k "$@")" = 200 ]; }
        server() {
            ask --cert /etc/kubernetes/pki/apiserver-kubelet-client.crt \
                --key /etc/kubernetes/pki/apiserver-kubelet-client.key https://127.0.0.1:6443/readyz
        }
        n=0
        until new=$(pidof kube-apiserver) && [ "$new" != "$old" ] && server &&
            ask https://127.0.0.1:10257/healthz && ask https://127.0.0.1:10259/healthz; do
            n=$((n + 1))
            [ "$n" -lt 600 ] || exit 1
            sleep 0.2
        done
    "#;
    let began = Instant::now();
    for n in 1..=control_planes {
        inside(lab, &format!("cp{n}"), RESTART);
    }
    began.elapsed()
}

fn inside(lab: &Lab, node: &str, script: &str) {
    let output = lab.command(node, &["sh", "-c", script]).unwrap().output().unwrap();
    assert!(output.status.success(), "{node}: {script}: {output:?}");
}

/// The same nodes leave the cluster; programs, images, configuration and etcd stay. Then the commands
/// that a person would type, one after another, until every node is Ready.
fn by_hand(lab: &Lab, control_planes: usize, workers: usize) -> Duration {
    let names: Vec<String> = (1..=control_planes)
        .map(|n| format!("cp{n}"))
        .chain((1..=workers).map(|n| format!("w{n}")))
        .collect();
    for name in &names {
        inside(
            lab,
            name,
            "base=/var/lib/kubastion; T=$(ls -d $base/txn/*-kubernetes | tail -n 1); say() { :; }; \
             mark_unit() { :; }; . $T/member.sh; leave_cluster; systemctl enable kubelet; \
             mkdir -p -m 0700 /etc/kubernetes/manifests",
        );
    }
    inside(
        lab,
        "cp1",
        "PATH=/usr/local/bin:$PATH; etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt \
         --cert /etc/kubernetes/pki/apiserver-etcd-client.crt \
         --key /etc/kubernetes/pki/apiserver-etcd-client.key del --prefix /registry >/dev/null",
    );
    let staged = "/etc/kubernetes/kubastion";
    let began = Instant::now();
    for (n, name) in names.iter().enumerate() {
        let (verb, file) = if n == 0 { ("init", "kubeadm-init") } else { ("join", "kubeadm-join") };
        let script = format!(
            "umask 077; PATH=/usr/local/bin:$PATH kubeadm {verb} --config {staged}/{file}.yaml"
        );
        inside(lab, name, &script);
    }
    inside(
        lab,
        "cp1",
        "PATH=/usr/local/bin:$PATH kubectl --kubeconfig /etc/kubernetes/admin.conf wait --for=condition=Ready \
         node --all --timeout=120s",
    );
    began.elapsed()
}
