//! A cluster whose Secrets are encrypted by a KMS v2 plugin that runs on its control plane.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle of the cluster, as for `e2e`.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use kubastion::lab::Lab;

use cluster::{Cluster, given, say, text};

#[path = "support/cluster.rs"]
#[allow(dead_code)] // the other tests need more of it
mod cluster;

/// The plugin of tests/kms/plugin.rs, built by the cargo that built this test.
fn plugin() -> File {
    let mut build = Command::new(env!("CARGO"));
    // With the whole workspace, as `make test` builds it: other features would have everything compiled anew.
    build
        .args(["build", "--locked", "--workspace", "--example", "kms-plugin"])
        .args(["--message-format", "json"]);
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    let program = said.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(str::to_owned)
    });
    File::open(program.unwrap()).unwrap()
}

/// The plugin's unit, in front of the kubelet as its documentation wants it.
const INSTALL: &str = r#"
set -eu
cat >/usr/local/sbin/kms-plugin
chmod 0755 /usr/local/sbin/kms-plugin
(umask 077 && head -c 32 /dev/urandom >/etc/kms-plugin.key)
cat >/etc/systemd/system/kms-plugin.service <<'END'
[Unit]
Before=kubelet.service
[Service]
ExecStart=/usr/local/sbin/kms-plugin /run/kms/plugin.sock /etc/kms-plugin.key
RuntimeDirectory=kms
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
ExecStartPre=/usr/bin/rm -f /run/kms/plugin.sock
ExecStopPost=/usr/bin/rm -f /run/kms/plugin.sock
Restart=always
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now kms-plugin.service
n=0
while [ ! -S /run/kms/plugin.sock ]; do
    n=$((n + 1))
    [ "$n" -lt 50 ]
    sleep 0.1
done
"#;

#[test]
fn secrets_are_encrypted_by_a_plugin_and_its_silence_is_no_pass() {
    let Some((bundle, dir)) = given("kms") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--control-planes", "1", "--workers", "0", "--dir", "."];
    c.ends(0, &[&up[..], &["--bundle", &bundle]].concat());
    let path = c.dir.join("inventory.yaml");
    let inventory = std::fs::read_to_string(&path).unwrap();
    assert!(!inventory.contains("\nencryption:"), "{inventory}");
    let with = |encryption: &str| {
        std::fs::write(&path, format!("{inventory}encryption: {encryption}\n")).unwrap();
    };
    let kms = "{provider: kms, kms_endpoint: 'unix:///run/kms/plugin.sock'}";
    with(kms);
    c.ends(0, &["pki", "ensure"]);
    let refused = cluster::kubastion(&c.dir, &["plan"]).output().unwrap();
    assert!(text(&refused).contains("/run/kms/plugin.sock is missing"), "{}", text(&refused));
    assert_ne!(refused.status.code(), Some(0));

    let lab = Lab::open(&c.dir).unwrap();
    let mut install = lab.command("cp1", &["sh", "-c", INSTALL]).unwrap();
    let installed = install.stdin(Stdio::from(plugin())).output().unwrap();
    assert!(installed.status.success(), "{}", text(&installed));
    c.ends(0, &["apply", "--yes"]);
    c.ends(0, &["plan", "--exit-code"]);
    say(began, "the cluster is up");

    // verify writes a Secret of its own, reads it raw out of etcd, and asks for it back.
    let proven = c.ends(0, &["verify", "--verbose"]);
    assert!(proven.contains("etcd holds k8s:enc:kms:v2:kubastion"), "{proven}");
    let secret = "create secret generic kept --from-literal=word=planted-in-a-secret";
    assert!(c.kubectl("cp1", secret).status.success());
    let is_read = || {
        let read = c.kubectl("cp1", "get secret kept -o jsonpath={.data.word}");
        // "planted-in-a-secret" in base64.
        text(&read).contains("cGxhbnRlZC1pbi1hLXNlY3JldA==")
    };
    assert!(is_read());
    say(began, "what is in etcd is the plugin's");

    // A plugin that was started anew makes its socket anew: the API server has its directory and not the file.
    let again = "systemctl restart kms-plugin.service";
    assert!(c.inside("cp1", again).status.success());
    let write = "create secret generic later --from-literal=word=x";
    c.until("a Secret to be written by way of the new socket", 30, || {
        c.kubectl("cp1", write).status.success()
    });
    assert!(is_read());
    // The API server that is started anew asks the plugin for the keys of all that is stored.
    let restart = "old=$(pidof kube-apiserver) && kill $old && n=0 && \
         until new=$(pidof kube-apiserver) && [ \"$new\" != \"$old\" ]; do \
         n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done";
    let restarted = c.inside("cp1", restart);
    assert!(restarted.status.success(), "{}", text(&restarted));
    c.until("the Secret to be read by a new API server", 90, is_read);
    say(began, "the plugin and the API server were started anew, and the Secret can be read");

    // Without the plugin nothing of it is proven, and nothing is begun.
    assert!(c.inside("cp1", "systemctl stop kms-plugin.service").status.success());
    // The API server goes on with the keys that it has in memory, asks for the plugin's health once a minute, and is not
    // ready without it.
    c.until("verify to notice that the plugin is silent", 150, || {
        let said = cluster::kubastion(&c.dir, &["verify"]).output().unwrap();
        said.status.code() == Some(5) && text(&said).contains("GET /readyz")
    });
    let refused = cluster::kubastion(&c.dir, &["plan"]).output().unwrap();
    assert!(text(&refused).contains("/run/kms/plugin.sock is missing"), "{}", text(&refused));
    assert!(c.inside("cp1", "systemctl start kms-plugin.service").status.success());
    c.until("verify to pass again", 90, || {
        cluster::kubastion(&c.dir, &["verify"]).output().unwrap().status.success()
    });
    say(began, "its silence was no pass");

    // What the plugin encrypted, secretbox could not read.
    with("{provider: secretbox}");
    for (verb, code) in [(&["pki", "ensure"][..], 3), (&["plan"], 4), (&["apply", "--yes"], 3)] {
        let refused = cluster::kubastion(&c.dir, verb).output().unwrap();
        assert_eq!(refused.status.code(), Some(code), "{verb:?}: {}", text(&refused));
    }
    let refused = cluster::kubastion(&c.dir, &["pki", "ensure"]).output().unwrap();
    assert!(text(&refused).contains("keep `encryption.provider: kms`"), "{}", text(&refused));
    with(kms);
    c.ends(0, &["plan", "--exit-code"]);
    say(began, "another provider is refused");
}
