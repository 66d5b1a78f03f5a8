//! A stock cluster that cannot be made.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ONE_LAB;
use crate::cluster::{Cluster, given, kubastion, text};

/// A step that fails says what the component said last, and leaves the nodes up.
#[test]
fn a_stock_cluster_that_fails_says_why_and_leaves_its_nodes() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((bundle, dir)) = given("reharden") else { return };
    let c = Cluster { dir };
    // Somebody else has the API server's port as soon as the node is there.
    let up = ["lab", "up", "--stock", "--control-planes", "1", "--workers", "0", "--dir", "."];
    let up = [&up[..], &["--bundle", &bundle]].concat();
    let taken = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            let thief = "systemd-run -q --unit thief nc -lk 6443";
            let deadline = Instant::now() + Duration::from_secs(120);
            while Instant::now() < deadline && !taken.load(Ordering::Relaxed) {
                let exec = ["lab", "exec", "--dir", ".", "cp1", "--", "sh", "-c", thief];
                let done = kubastion(&c.dir, &exec).output().unwrap().status.success();
                taken.store(done, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        kubastion(&c.dir, &up).output().unwrap()
    });
    assert!(taken.into_inner(), "nobody took the port");
    assert_eq!(said.status.code(), Some(1), "{}", text(&said));
    let dir = c.dir.display();
    for words in [
        "error: cp1: the stock cluster could not be created: step `init`",
        "Port 6443 is in use",
        "kept for inspection",
        &format!("`kubastion lab exec --dir {dir} cp1 -- less /var/log/kubeadm.log`"),
        "lab down --dir .",
    ] {
        assert!(text(&said).contains(words), "{words}: {}", text(&said));
    }
    assert!(!c.dir.join("software").exists());
    assert!(c.inside("cp1", "grep -q 'Port 6443' /var/log/kubeadm.log").status.success());
    // What is half-made is not taken for a cluster.
    let again = kubastion(&c.dir, &up).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{}", text(&again));
    assert!(text(&again).contains("its creation did not finish"), "{}", text(&again));
}
