//! `pod-routes.sh` with an `ip` that only notes what it is told.

use std::process::Command;

const PROGRAM: &str = include_str!("../../../templates/runtime/pod-routes.sh");

/// Runs it with a list and with routes that are there; hands back what `ip` was told and how it ended.
fn run(list: &str, there: &str, arguments: &[&str], batch_ends_with: u8) -> (String, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    std::fs::write(&path, list).unwrap();
    let own = format!("list={}\n", path.display());
    let program = PROGRAM.replace("list=/etc/kubastion/pod-routes\n", &own);
    assert_ne!(program, PROGRAM);
    let ip = format!(
        "ip() {{
    case \"$*\" in
    *-batch*) while read -r line; do echo \"$line\"; done <\"$3\"; return {batch_ends_with} ;;
    '-4 route show'*) printf '%s' '{there}' ;;
    '-6 route show'*) ;;
    *) echo \"$*\" ;;
    esac
}}\n"
    );
    let output =
        Command::new("sh").args(["-c", &(ip + &program), "sh"]).args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

const LIST: &str = "# Made by kubastion\n10.0.0.0/24 192.0.2.1\nfd00::/64 fd00:1::1\n10.0.1.0/24 192.0.2.2\n10.0.2.7/32 192.0.2.3\n";

#[test]
fn the_pods_of_other_nodes_get_routes_and_the_nodes_own_get_none() {
    let (said, code) = run(LIST, "", &["start", "10.0.0.0/24", "fd00::/64"], 0);
    let wanted = "route replace 10.0.1.0/24 via 192.0.2.2 protocol 107
route replace 10.0.2.7/32 via 192.0.2.3 protocol 107\n";
    assert_eq!((said.as_str(), code), (wanted, Some(0)));
}

#[test]
fn routes_to_nodes_that_left_are_removed() {
    // 10.0.0.0/24 was another node's and is this node's now; an address stands without its length.
    let there = "10.0.0.0/24 via 192.0.2.9 dev eth0\n10.0.1.0/24 via 192.0.2.2 dev eth0\n10.0.2.7 via 192.0.2.3 dev eth0\n10.0.9.0/24 via 192.0.2.9 dev eth0\n";
    let (said, code) = run(LIST, there, &["start", "10.0.0.0/24", "fd00::/64"], 0);
    let removed: Vec<_> = said.lines().filter(|l| l.starts_with("route del")).collect();
    let wanted = ["route del 10.0.0.0/24 protocol 107", "route del 10.0.9.0/24 protocol 107"];
    assert_eq!((removed.as_slice(), code), (wanted.as_slice(), Some(0)));
    // With no list at all nothing is known of any route, and none is touched.
    let (said, code) = run("", there, &["start"], 1);
    assert_eq!((said.as_str(), code), ("", Some(1)));
}

#[test]
fn stopping_removes_them_all() {
    let (said, code) = run(LIST, "", &["stop"], 0);
    let wanted = "-4 route flush protocol 107\n-6 route flush protocol 107\n";
    assert_eq!((said.as_str(), code), (wanted, Some(0)));
}
