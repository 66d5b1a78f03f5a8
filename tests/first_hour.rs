//! What somebody meets who has never used kubastion: no network, no node, no root.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn kubastion(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const INIT: &[&str] =
    &["inventory", "init", "--control-plane", "cp1=192.0.2.11", "--worker", "w1=192.0.2.21"];

#[test]
fn the_doctor_says_what_is_missing_and_how_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = kubastion(dir.path(), &["doctor", "--offline"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(out(&nothing).contains("inventory.yaml"), "{}", out(&nothing));
    assert!(kubastion(dir.path(), INIT).status.success());

    let said = kubastion(dir.path(), &["doctor", "--offline", "--format", "json"]);
    assert_eq!(said.status.code(), Some(3), "{}", err(&said));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout).unwrap();
    let problems: Vec<&serde_json::Value> =
        findings.iter().filter(|f| f["level"] == "problem").collect();
    for words in ["the host key of cp1", "the host key of w1", "no ssh-agent"] {
        let found = problems.iter().find(|f| f["what"].as_str().unwrap().contains(words));
        let found = found.unwrap_or_else(|| panic!("{words}: {problems:?}"));
        assert!(found["hint"].is_string(), "{found}");
    }

    // Mended one by one.
    let inventory = dir.path().join("inventory.yaml");
    std::fs::write(dir.path().join("key"), "x").unwrap();
    let text = std::fs::read_to_string(&inventory).unwrap();
    let mut mended = String::new();
    for line in text.lines().filter(|l| !l.contains("host_keys")) {
        mended += &format!("{line}\n");
    }
    let key = format!("SHA256:{}", "A".repeat(43));
    let mut value: kubastion::yaml::Value = kubastion::yaml::from_text(&mended).unwrap();
    for node in value["nodes"].as_sequence_mut().unwrap() {
        node["ssh"] = kubastion::yaml::from_text(&format!("host_keys: ['{key}']")).unwrap();
    }
    value["ssh"] = kubastion::yaml::from_text("{user: root, key_file: key}").unwrap();
    std::fs::write(&inventory, kubastion::yaml::to_text(&value)).unwrap();
    let loose = kubastion(dir.path(), &["doctor", "--offline"]);
    assert!(out(&loose).contains("others can read the SSH key"), "{}", out(&loose));
    assert_eq!(loose.status.code(), Some(3));
    let mode = |m| std::os::unix::fs::PermissionsExt::from_mode(m);
    std::fs::set_permissions(dir.path().join("key"), mode(0o600)).unwrap();
    let good = kubastion(dir.path(), &["doctor", "--offline"]);
    assert_eq!(good.status.code(), Some(0), "{}{}", out(&good), err(&good));
    assert!(out(&good).contains("0 problems"));
    // A key store that is there is looked into.
    assert!(kubastion(dir.path(), &["pki", "ensure"]).status.success());
    let good = kubastion(dir.path(), &["doctor", "--offline"]);
    assert!(out(&good).contains("is complete, the first expires in"), "{}", out(&good));
    std::fs::set_permissions(&inventory, mode(0o666)).unwrap();
    let open = kubastion(dir.path(), &["doctor", "--offline"]);
    assert!(out(&open).contains("others can write the inventory"), "{}", out(&open));
}

/// Who ends a run at once is told what becomes of the nodes.
#[test]
fn an_interrupted_apply_says_how_things_stand() {
    let dir = tempfile::tempdir().unwrap();
    // Somebody who takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    std::fs::write(dir.path().join("key"), "x").unwrap();
    let inventory = format!(
        "version: kubastion/v1\ncluster: {{name: c, kubernetes: 1.36.2, endpoint: '127.0.0.1:6443'}}\n\
         ssh: {{user: root, port: {port}, key_file: key}}\n\
         nodes:\n- {{name: n, addresses: [127.0.0.1], roles: [control-plane], ssh: {{host_keys: ['SHA256:{}']}}}}\n",
        "A".repeat(43)
    );
    std::fs::write(dir.path().join("inventory.yaml"), inventory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
    let command = command.current_dir(dir.path()).args(["apply", "--yes"]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    silent.set_nonblocking(true).unwrap();
    let within = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let _connection = loop {
        match silent.accept() {
            Ok(connection) => break connection,
            Err(e) => assert!(std::time::Instant::now() < within, "it never connected: {e}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(130), "{}", err(&said));
    for words in
        ["error: interrupted", "rolls back unconfirmed changes by itself", "`kubastion plan`"]
    {
        assert!(err(&said).contains(words), "{words}: {}", err(&said));
    }
}

/// What follows from one slip is not said beside it, and nothing far away is suggested.
#[test]
fn one_slip_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(kubastion(dir.path(), INIT).status.success());
    let inventory = dir.path().join("inventory.yaml");
    let text = std::fs::read_to_string(&inventory).unwrap();
    std::fs::write(&inventory, text.replacen("cluster:", "clutser:", 1)).unwrap();
    let slip = kubastion(dir.path(), &["inventory", "check"]);
    assert!(err(&slip).contains("did you mean `cluster`?"), "{}", err(&slip));
    assert!(!err(&slip).contains("required key is missing"), "{}", err(&slip));

    let far = kubastion(dir.path(), &["controls", "show", "nosuch"]);
    assert_eq!(far.status.code(), Some(2));
    assert!(!err(&far).contains("did you mean"), "{}", err(&far));
    assert!(err(&far).contains("kubastion controls list"), "{}", err(&far));
    let near = kubastion(dir.path(), &["controls", "show", "host-sysctl"]);
    assert!(err(&near).contains("did you mean `host-sysctls`?"), "{}", err(&near));

    let trust = out(&kubastion(dir.path(), &["trust", "--help"]));
    assert!(trust.contains("--nodes") && !trust.contains("sudo"), "{trust}");
}

/// A machine whose host key nobody has said is named once, and not connected to.
#[test]
fn the_doctor_counts_an_unknown_host_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: kubastion/v1\ncluster: {name: c, kubernetes: 1.36.2, endpoint: '127.0.0.1:6443'}\n\
                ssh: {user: root, agent: true}\nfirewall: {admin_networks: [192.0.2.0/24]}\n\
                nodes:\n- {name: n, addresses: [127.0.0.1], roles: [control-plane], ssh: {port: 1}}\n";
    std::fs::write(dir.path().join("inventory.yaml"), text).unwrap();
    let said = kubastion(dir.path(), &["doctor", "--format", "json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout).unwrap();
    let keys = findings.iter().filter(|f| f["what"].as_str().unwrap().contains("host key"));
    assert_eq!(keys.count(), 1, "{findings:?}");
    assert!(findings.iter().all(|f| f["place"] == "operator"), "{findings:?}");
}

/// A terminal is asked; nothing else is.
#[test]
fn init_asks_a_terminal_for_what_it_was_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = kubastion(dir.path(), &["inventory", "init"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(err(&nobody).contains("--control-plane NAME=ADDRESS"), "{}", err(&nobody));
    assert!(!dir.path().join("inventory.yaml").exists());

    let ask = |answers: &str| {
        let line = format!("{} inventory init", env!("CARGO_BIN_EXE_kubastion"));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(dir.path());
        let mut asked = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut asked.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        asked.wait_with_output().unwrap()
    };
    let gone = ask("cp1=192.0.2.11\n\u{4}");
    assert_eq!(gone.status.code(), Some(2), "{}", out(&gone));
    assert!(!dir.path().join("inventory.yaml").exists());
    // A slip is asked for again.
    let asked = ask("cp1=192.0.2.11 cp2\ncp1=192.0.2.11\nw1=192.0.2.21 w2=192.0.2.22\nadmin\n/k\n");
    let said = out(&asked);
    assert_eq!(asked.status.code(), Some(0), "{said}");
    assert!(said.contains("expected NAME=ADDRESS"), "{said}");
    let text = std::fs::read_to_string(dir.path().join("inventory.yaml")).unwrap();
    for line in ["name: \"w2\"", "user: \"admin\"", "key_file: \"/k\"", "sudo: passwordless"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn shells_and_readers_get_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let help = out(&kubastion(dir.path(), &["help"]));
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty())
        // A long description goes on below itself.
        .filter(|l| !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .filter(|v| *v != "help")
        .collect();
    assert!(verbs.len() > 12, "{verbs:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&kubastion(dir.path(), &["completions", shell]));
        for verb in &verbs {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    // Whether bash can read it, where there is one.
    let bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn();
    if let Ok(mut bash) = bash {
        let script = kubastion(dir.path(), &["completions", "bash"]).stdout;
        std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &script).unwrap();
        assert!(bash.wait().unwrap().success());
    }
    assert!(kubastion(dir.path(), &["man", "--out", "man"]).status.success());
    for verb in verbs {
        let page = std::fs::read_to_string(dir.path().join(format!("man/kubastion-{verb}.1")));
        assert!(page.unwrap().contains(".SH"), "{verb}");
    }
}
