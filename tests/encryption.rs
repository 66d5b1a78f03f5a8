//! A cluster that stores objects in plain text, and is told to encrypt them while somebody works with it.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle of the cluster, as for `e2e`.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use cluster::{Cluster, given, kubastion, say, text};

#[path = "support/cluster.rs"]
#[allow(dead_code)] // the other tests need more of it
mod cluster;

const SECRETS: usize = 400;
/// In every Secret; base64 of it is what etcd and the API would show.
const PLANTED: &str = "planted-in-a-secret";

/// Switches encryption off, as somebody may who built the cluster.
const OFF: &str = "  controls:
    apiserver-encryption-config: {state: off, reason: a test, owner: tests, expires: 2999-01-01}
    apiserver-encryption-provider: {state: off, reason: a test, owner: tests, expires: 2999-01-01}
";

/// Many Secrets in one request.
fn plant(c: &Cluster) {
    let script = format!(
        "n=0; {{ echo 'apiVersion: v1'; echo 'kind: List'; echo 'items:'
        while [ $n -lt {SECRETS} ]; do
            n=$((n + 1))
            echo '- {{apiVersion: v1, kind: Secret, metadata: {{name: s-'$n', namespace: default}}, stringData: {{word: {PLANTED}-'$n'}}}}'
        done; }} >/run/many.yaml
        export PATH=/usr/local/bin:$PATH KUBECONFIG=/etc/kubernetes/admin.conf
        kubectl create -f /run/many.yaml >/dev/null; rm /run/many.yaml"
    );
    let out = c.inside("cp1", &script);
    assert!(out.status.success(), "{}", text(&out));
}

/// Writes a Secret again and again, each time from what it read. What was acknowledged and is not read back is lost.
const WRITER: &str = r#"
export PATH=/usr/local/bin:$PATH KUBECONFIG=/etc/kubernetes/admin.conf
kubectl -n default create secret generic counter --from-literal=n=0
n=0
while [ ! -e /run/stop ]; do
    is=$(kubectl --request-timeout=5s -n default get secret counter -o 'jsonpath={.data.n}' 2>/dev/null | base64 -d) || continue
    [ -n "$is" ] || continue
    # A write that was not acknowledged may have been made.
    [ "$is" = "$n" ] || [ "$is" = "$((n + 1))" ] || echo "read $is, wrote $n"
    n=$((is + 1))
    kubectl --request-timeout=5s -n default patch secret counter -p "{\"stringData\":{\"n\":\"$n\"}}" >/dev/null 2>&1 || n=$is
done
echo "wrote $n"
"#;

/// The uid of every Secret and ConfigMap that nobody but people writes.
fn uids(c: &Cluster) -> BTreeMap<String, String> {
    let path = "'jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}'";
    let out = c.kubectl("cp1", &format!("get secrets,configmaps,serviceaccounts -A -o {path}"));
    assert!(out.status.success(), "{}", text(&out));
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    lines
        .lines()
        .filter_map(|l| l.rsplit_once(' '))
        .map(|(name, uid)| (name.to_owned(), uid.to_owned()))
        .collect()
}

/// What the values of a resource begin with in etcd, and how many of them.
fn heads(c: &Cluster, resource: &str) -> BTreeMap<String, usize> {
    let script = format!(
        "cd /etc/kubernetes/pki && curl -sS --cacert /etc/etcd/pki/ca.crt \
         --cert apiserver-etcd-client.crt --key apiserver-etcd-client.key \
         -d \"{{\\\"key\\\":\\\"$(printf /registry/{resource}/ | base64)\\\",\\\"range_end\\\":\\\"$(printf /registry/{resource}0 | base64)\\\"}}\" \
         https://127.0.0.1:2379/v3/kv/range"
    );
    let out = c.inside("cp1", &script);
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&out).chars().take(500).collect::<String>()));
    let mut heads = BTreeMap::new();
    for pair in answer["kvs"].as_array().into_iter().flatten() {
        let value = pair["value"].as_str().unwrap();
        // "k8s:enc:" in base64, and "k8s\0" of the API's own form.
        let head = match value {
            v if v.starts_with("azhzOmVuYzpzZWNyZXRib3g6djE6") => "secretbox",
            v if v.starts_with("azhzA") => "plain",
            _ => "other",
        };
        *heads.entry(head.to_owned()).or_default() += 1;
    }
    heads
}

fn only(heads: &BTreeMap<String, usize>) -> Vec<&str> {
    heads.keys().map(String::as_str).collect()
}

/// Runs `apply` and kills it as soon as it says something. Returns what it said until then.
fn killed_at(c: &Cluster, words: &str) -> String {
    let mut command = kubastion(&c.dir, &["apply", "--yes"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
        if said.contains(words) {
            child.kill().unwrap();
            child.wait().unwrap();
            return said;
        }
    }
    panic!("it ended with {:?} before it said {words:?}:\n{said}", child.wait());
}

#[test]
fn plain_secrets_are_encrypted_rung_by_rung_wherever_a_run_is_killed() {
    let Some((bundle, dir)) = given("encryption") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--control-planes", "1", "--workers", "0", "--dir", "."];
    c.ends(0, &[&up[..], &["--bundle", &bundle]].concat());
    let path = c.dir.join("inventory.yaml");
    let inventory = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, inventory.replacen("hardening:\n", &format!("hardening:\n{OFF}"), 1))
        .unwrap();
    c.ends(0, &["pki", "ensure"]);
    c.ends(0, &["apply", "--yes"]);
    plant(&c);
    let before = uids(&c);
    assert_eq!(only(&heads(&c, "secrets")), ["plain"]);
    say(began, "a cluster with plain Secrets");

    std::fs::write(&path, &inventory).unwrap();
    let planned = c.ends(4, &["plan", "--exit-code", "--out", "saved.plan"]);
    for words in
        ["now   secrets, configmaps: read:", "then  promote:", "then  rewrite:", "then  drop:"]
    {
        assert!(planned.contains(words), "{words}: {planned}");
    }
    let key = std::fs::read_to_string(c.dir.join("pki/enc/keys.json")).unwrap();
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let secret = key["keys"][0]["secret"].as_str().unwrap();
    assert!(secret.len() > 40, "{}", secret.len());
    let mut all = std::fs::read_to_string(c.dir.join("saved.plan")).unwrap();
    assert!(all.contains("\"rung\": \"read\""));

    std::thread::scope(|scope| {
        let writer = scope.spawn(|| c.inside("cp1", WRITER));
        all.push_str(&killed_at(&c, "encryption of stored objects: secrets, configmaps: promote"));
        say(began, "killed as it promotes");
        let said = c.ends(4, &["plan", "--exit-code"]);
        assert!(said.contains("now   secrets, configmaps: "), "{said}");
        all.push_str(&killed_at(&c, "`secrets` to be rewritten"));
        say(began, "killed as it rewrites");
        let done = kubastion(&c.dir, &["apply", "--yes"]).output().unwrap();
        all.push_str(&text(&done));
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
        assert!(c.inside("cp1", "touch /run/stop").status.success());
        let wrote = text(&writer.join().unwrap());
        let lines: Vec<&str> = wrote.lines().filter(|l| l.starts_with("read ")).collect();
        assert!(lines.is_empty() && wrote.contains("wrote "), "{wrote}");
        let count: usize = wrote
            .rsplit("wrote ")
            .next()
            .unwrap()
            .split('[')
            .next()
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(count > 20, "{wrote}");
        let is = c.kubectl("cp1", "-n default get secret counter -o jsonpath={.data.n}");
        let last = c.inside("cp1", &format!("printf %s {count} | base64"));
        assert_eq!(
            String::from_utf8_lossy(&is.stdout).trim(),
            String::from_utf8_lossy(&last.stdout).trim()
        );
    });
    say(began, "all rungs");

    assert_eq!(only(&heads(&c, "secrets")), ["secretbox"]);
    assert_eq!(only(&heads(&c, "configmaps")), ["secretbox"]);
    let after = uids(&c);
    for (name, uid) in &before {
        assert_eq!(after.get(name), Some(uid), "{name}");
    }
    let words = c.kubectl("cp1", "-n default get secrets -o 'jsonpath={.items[*].data.word}'");
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert_eq!(words.split_whitespace().count(), SECRETS);
    c.ends(0, &["plan", "--exit-code"]);
    let runs: Vec<_> = std::fs::read_dir(c.dir.join(".kubastion/runs")).unwrap().collect();
    for run in runs {
        all.push_str(&std::fs::read_to_string(run.unwrap().path()).unwrap());
    }
    assert!(all.contains("rewrite"), "the records are not among what is searched");
    for hidden in [secret, PLANTED, "cGxhbnRlZC1pbi1hLXNlY3JldC"] {
        assert!(!all.contains(hidden), "a secret is in what was said, planned or recorded");
    }
    let back = kubastion(&c.dir, &["rollback", "--yes"]).output().unwrap();
    assert_eq!(back.status.code(), Some(3), "{}", text(&back));
    assert!(text(&back).contains("started to encrypt stored objects"), "{}", text(&back));
    say(began, "nothing is stored in plain text, nothing was lost, and there is no way back");

    // One more resource goes the same way, while the others stay encrypted.
    std::fs::write(
        &path,
        format!("{inventory}encryption: {{resources: [secrets, configmaps, serviceaccounts]}}\n"),
    )
    .unwrap();
    assert_eq!(only(&heads(&c, "serviceaccounts")), ["plain"]);
    c.ends(0, &["apply", "--yes"]);
    assert_eq!(only(&heads(&c, "serviceaccounts")), ["secretbox"]);
    c.ends(0, &["plan", "--exit-code"]);
    c.ends(0, &["verify"]);
    assert_eq!(uids(&c).keys().filter(|k| before.contains_key(*k)).count(), before.len());
    say(began, "another resource was added");

    // What is encrypted stays so.
    std::fs::write(&path, inventory.replacen("hardening:\n", &format!("hardening:\n{OFF}"), 1))
        .unwrap();
    let refused = kubastion(&c.dir, &["plan"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(text(&refused).contains("would be switched off"), "{}", text(&refused));
}
