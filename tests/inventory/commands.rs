//! `kubastion inventory` as a program: exit codes, and what goes to standard output and standard error.

use super::*;

fn kubastion(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_kubastion")).args(args).output().unwrap()
}

#[test]
fn check_exits_3_and_writes_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    std::fs::write(&file, BASE.replace("port: 2222", "prot: 2222")).unwrap();
    let file = file.to_str().unwrap();
    let out = kubastion(&["-i", file, "--format", "json", "inventory", "check"]);
    assert_eq!(out.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let expired_too = report["problems"].as_array().unwrap();
    let typo = expired_too.iter().find(|p| p["field"] == "nodes[1].ssh.prot").unwrap();
    assert_eq!(typo["nearest"], "port");
    assert_eq!((&typo["line"], &typo["column"]), (&32.into(), &7.into()));

    let out = kubastion(&["-i", file, "inventory", "check"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(out.stdout.is_empty());
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains(&format!("{file}:32:7: nodes[1].ssh.prot: unknown key")), "{text}");
    assert!(text.contains("did you mean `port`?"), "{text}");
}

#[test]
fn init_writes_what_check_accepts_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    let file = file.to_str().unwrap();
    let nodes =
        ["--control-plane", "cp-1=10.0.0.11,fd00::11", "--worker", "w-1=10.0.0.21,fd00::21"];
    let init = |extra: &[&str]| {
        let mut args = vec!["-i", file, "inventory", "init"];
        args.extend(nodes);
        args.extend(extra);
        kubastion(&args)
    };
    let out = init(&["--worker", "w-2=10.0.0.21"]);
    assert_eq!(out.status.code(), Some(3), "a duplicate address");
    assert!(!Path::new(file).exists());

    let out = init(&["--known-hosts", "kh", "--ssh-user", "admin"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(kubastion(&["-i", file, "inventory", "check"]).status.code(), Some(0));

    let before = std::fs::read(file).unwrap();
    assert_eq!(init(&["--known-hosts", "kh"]).status.code(), Some(3));
    assert_eq!(std::fs::read(file).unwrap(), before);

    std::fs::remove_file(file).unwrap();
    let out = init(&[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&out.stderr).contains("ssh-keygen -lf"));
    let found = load(Path::new(file), &context()).unwrap_err().problems;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|d| d.message.contains("host key")), "{found:#?}");
}

#[test]
fn show_prints_an_inventory_that_loads_to_the_same() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/inventory/ha.yaml");
    let out = kubastion(&["-i", file, "inventory", "show"]);
    assert_eq!(out.status.code(), Some(0));
    let shown = read(std::str::from_utf8(&out.stdout).unwrap()).unwrap();
    assert_eq!(shown.inventory, load(Path::new(file), &context()).unwrap().inventory);
    let out = kubastion(&["-i", file, "--format", "json", "inventory", "show"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["audit"]["max_backups"], 10);
}

#[test]
fn what_logs_in_to_no_node_needs_no_host_keys() {
    let text = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n\
                ssh: {agent: true}\nnodes:\n- {name: a, addresses: [10.0.0.1], roles: [control-plane]}\n";
    assert!(read(text).is_err());
    let context = LoadContext { host_keys_optional: true, ..context() };
    load_bytes(text.as_bytes(), Path::new("test.yaml"), Path::new("/base"), &context).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("inventory.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (code, verb) in [
        (0, &["inventory", "show"][..]),
        (0, &["pki", "ensure"]),
        (0, &["pki", "status"]),
        (0, &["kubeconfig"]),
        (0, &["runs"]),
        (3, &["inventory", "check"]),
        (3, &["plan"]),
        (3, &["verify"]),
    ] {
        let out = kubastion(&[&["-i", file], verb].concat());
        assert_eq!(out.status.code(), Some(code), "{verb:?}: {out:?}");
    }
}

#[test]
fn what_goes_wrong_is_told_to_machines_an_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("inventory.yaml");
    let text = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: 'api:6443'}\n\
                ssh: {agent: true}\nnodes:\n- {name: a, addresses: [10.0.0.1, 10.0.0.1], roles: [boss]}\n";
    std::fs::write(&file, text).unwrap();
    let out = kubastion(&["-i", file.to_str().unwrap(), "--format", "json", "plan"]);
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8(out.stderr).unwrap();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|l| l["event"] == "problem"), "{said}");
    assert!(lines.iter().any(|l| l["what"].as_str().unwrap().contains("roles[0]")), "{said}");

    let file = dir.path().join("new.yaml");
    let named = ["--control-plane", "a=10.0.0.1", "--ssh-user", "u"];
    let verb =
        [&["-i", file.to_str().unwrap(), "--format", "json", "inventory", "init"], &named[..]];
    let out = kubastion(&verb.concat());
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    let notes = said.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    assert!(notes.map(|n| assert_eq!(n["event"], "note")).count() >= 2, "{said}");
}
