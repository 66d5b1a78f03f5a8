//! Parts of `member.sh` on this machine, with directories and programs of their own.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::MEMBER_SCRIPT;

/// What a shell says that has read `member.sh` and `setup`, with `dir` for /etc/kubernetes and `T`. It ends
/// nothing: this machine may have an API server that is no test's.
fn said(dir: &Path, setup: &str, call: &str) -> String {
    let script = MEMBER_SCRIPT.replace("/etc/kubernetes", dir.to_str().unwrap());
    let program = format!(
        "set -u\nT={}\n{script}\nkill() {{ echo \"kill $*\"; }}\n{setup}\n{call}\necho \"ended $?\"",
        dir.display()
    );
    let out = Command::new("sh").args(["-c", &program]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A process that is called kube-apiserver, and ends with the test.
struct Apiserver(Child);

impl Apiserver {
    fn start(dir: &Path, uid: Option<u32>) -> Self {
        Self::called("kube-apiserver", dir, uid)
    }

    fn called(name: &str, dir: &Path, uid: Option<u32>) -> Self {
        let program = dir.join(name);
        if !program.exists() {
            std::fs::copy("/bin/sleep", &program).unwrap();
        }
        let mut command = Command::new(program);
        command.arg("600").stdin(Stdio::null());
        if let Some(uid) = uid {
            command.uid(uid);
        }
        Self(command.spawn().unwrap())
    }

    fn is_ended_by(&self, said: &str) -> bool {
        said.lines().any(|l| l == format!("kill {}", self.0.id()))
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_api_server_that_runs_with_what_was_mended_since_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let policy = dir.path().join("config/audit-policy.yaml");
    std::fs::write(&policy, "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let server = Apiserver::start(dir.path(), None);
    let stale = end_stale("kube-apiserver", dir.path());
    let before = said(dir.path(), "", &stale);
    assert!(before.ends_with("ended 0\n") && !server.is_ended_by(&before), "{before}");
    std::fs::write(&policy, "mended").unwrap();
    // Neither belongs to what every distribution has; one that ends meanwhile is not known to ps.
    let none = "ps() { return 1; }\npidof() { return 1; }";
    let after = said(dir.path(), none, &stale);
    assert!(after.ends_with("ended 0\n") && server.is_ended_by(&after), "{after}");
}

/// A call for the files below `config` in a directory.
fn end_stale(component: &str, dir: &Path) -> String {
    format!("end_stale {component} {}/config/*.yaml", dir.display())
}

/// The kernel keeps 15 characters of a name.
#[test]
fn a_component_with_a_long_name_is_ended_as_well() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let manager = Apiserver::called("kube-controller-manager", dir.path(), None);
    std::fs::write(dir.path().join("config/sa.yaml"), "changed").unwrap();
    let said_of = |component| said(dir.path(), "", &end_stale(component, dir.path()));
    assert!(manager.is_ended_by(&said_of("kube-controller-manager")));
    assert!(!manager.is_ended_by(&said_of("kube-scheduler")));
}

/// An arithmetic error ends dash, and with it the transaction.
#[test]
fn an_api_server_that_ends_at_the_wrong_moment_ends_no_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let gone = "pidof() { echo 999999999; }\nis_component() { return 0; }\ncat() { return 1; }";
    let stale = end_stale("kube-apiserver", dir.path());
    assert!(said(dir.path(), gone, &stale).contains("ended 0\n"));
}

#[test]
fn a_user_who_calls_a_process_kube_apiserver_stands_in_for_nothing() {
    // To start a process as somebody else takes root.
    if !Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0\n") {
        eprintln!(
            "SKIPPED a_user_who_calls_a_process_kube_apiserver_stands_in_for_nothing: needs root"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let ours = Apiserver::start(dir.path(), None);
    // The later one has the greater number, which is what pidof names first.
    let theirs = Apiserver::start(dir.path(), Some(65_534));
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/audit-policy.yaml"), "mended").unwrap();
    let said = said(dir.path(), "", &end_stale("kube-apiserver", dir.path()));
    assert!(ours.is_ended_by(&said) && !theirs.is_ended_by(&said), "{said}");
}

#[test]
fn a_cluster_without_kube_proxy_gets_none_because_of_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let told = |answer: &str| {
        let setup = format!("run_kubeadm() {{ echo kubeadm \"$@\"; }}\nkubectl() {{ {answer}; }}");
        said(dir.path(), &setup, "tell_cluster")
    };
    let warned =
        told("echo 'memcache.go: metrics.k8s.io/v1beta1: unable to handle the request' >&2");
    assert!(warned.ends_with("ended 0\n") && !warned.contains("addon"), "{warned}");
    assert!(told("echo daemonset.apps/kube-proxy").contains("addon kube-proxy"));
    let refused = told("echo 'connection refused' >&2; return 1");
    assert!(refused.contains("connection refused") && refused.ends_with("ended 1\n"), "{refused}");
}

/// Without its digests, a mark says of nothing that it was changed.
#[test]
fn a_mark_that_finds_no_room_is_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("manifests")).unwrap();
    std::fs::create_dir_all(dir.path().join("base/units")).unwrap();
    std::fs::write(dir.path().join("manifests/kube-apiserver.yaml"), "spec: {}\n").unwrap();
    let made = |digests: &str| {
        let setup = format!(
            "base=$T/base\nis_member() {{ return 0; }}\nconfigure_member() {{ return 0; }}\n\
             mark_unit() {{ echo \"$2\" >\"$base/units/$1\"; }}\nsha256sum() {{ {digests}; }}"
        );
        said(dir.path(), &setup, "become_member configure digest")
    };
    assert!(made("command sha256sum \"$@\"").ends_with("ended 0\n"));
    let mark = std::fs::read_to_string(dir.path().join("base/units/kubernetes")).unwrap();
    assert!(mark.starts_with("digest\n") && mark.contains("kube-apiserver.yaml\n"), "{mark}");
    assert!(made("return 1").ends_with("ended 1\n"));
}

#[test]
fn only_empty_tables_that_were_not_there_before_go_with_a_member() {
    let dir = tempfile::tempdir().unwrap();
    // What `nft list table` prints (nftables 1.0.6) of tables that iptables made.
    let table = |name: &str, body: &str| {
        let text = format!("table {name} {{\n{body}}}\n");
        std::fs::write(dir.path().join(name.replace(' ', ".")), text).unwrap();
    };
    let chain = |name: &str, policy: &str, more: &str| {
        format!(
            "\tchain {name} {{\n\t\ttype filter hook input priority filter; policy {policy};\n{more}\t}}\n"
        )
    };
    let nft = format!(
        "nft() {{ f={}/$3.$4; case $1 in list) cat \"$f\" 2>/dev/null ;; delete) echo \"deleted $3 $4\" ;; esac; }}",
        dir.path().display()
    );
    let gone = |before: &str| {
        std::fs::write(dir.path().join("before"), before).unwrap();
        let said = said(dir.path(), &nft, "leave_no_empty_tables");
        said.lines()
            .filter_map(|l| l.strip_prefix("deleted "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let empty = chain("INPUT", "accept", "") + "\n" + &chain("FORWARD", "accept", "");
    table("ip filter", &empty);
    table("ip nat", "");
    table("ip6 nat", &empty);
    let then = "member|none\ntables|then table inet kubastion table ip6 nat \n";
    assert_eq!(gone(then), ["ip filter", "ip nat"], "ip6 nat was there before");
    assert!(gone("member|none\n").is_empty(), "an older record does not say");
    for kept in [
        chain("INPUT", "drop", ""),
        chain("INPUT", "accept", "\t\tcounter packets 0 bytes 0 accept\n"),
        "\tchain DOCKER {\n\t}\n".to_owned(),
        "\tset blocked {\n\t\ttype ipv4_addr\n\t}\n".to_owned(),
        "\tflags dormant\n".to_owned(),
    ] {
        table("ip filter", &(empty.clone() + &kept));
        assert_eq!(gone(then), ["ip nat"], "{kept}");
    }
}
