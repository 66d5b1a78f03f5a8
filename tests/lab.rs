//! A lab of one node, from up to down. Needs root on Debian 12 or 13.

use crate::support::skip::skipped;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use kubastion::lab::{Error, Lab, RunState, Spec, preflight, quiet};

const DEADLINE: Duration = Duration::from_secs(60);

fn kubastion(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubastion"));
    command.args(&args[..2]).arg("--dir").arg(dir).args(&args[2..]);
    command.output().expect("the binary under test starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What of a lab the kernel still knows: lines of the mount table, links and cgroups with its id
/// or directory in their names.
fn traces(id: &str, dir: &Path) -> Vec<String> {
    let dir = dir.to_str().expect("a test directory has a plain name");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> =
        mounts.lines().filter(|l| l.contains(id) || l.contains(dir)).map(str::to_owned).collect();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok);
    let mut places: Vec<_> =
        hierarchies.map(|h| h.path().join("kubastion-lab")).filter(|p| p.is_dir()).collect();
    for place in ["/sys/class/net", "/run/netns", "/sys/fs/cgroup/kubastion-lab"] {
        places.push(place.into());
    }
    for place in places {
        let entries = std::fs::read_dir(place).into_iter().flatten().filter_map(Result::ok);
        let paths = entries.map(|e| e.path().display().to_string());
        found.extend(paths.filter(|p| p.contains(id)));
    }
    found
}

#[test]
fn one_node_from_up_to_down() {
    let missing = preflight();
    if !missing.is_empty() {
        let why: Vec<String> = missing.iter().map(|m| m.problem().to_string()).collect();
        return skipped("one_node_from_up_to_down", &why.join("; "));
    }
    let temporary = tempfile::Builder::new().prefix("kubastion-lab-").tempdir_in("/var/tmp");
    let temporary = temporary.unwrap();
    let dir = temporary.path().join("lab");
    let lab = match Lab::up(&Spec::new(&dir, 1, 0), &quiet) {
        Ok(lab) => lab,
        Err(e) => {
            for problem in e.problems() {
                eprintln!("{problem}");
            }
            if let Ok(lab) = Lab::open(&dir) {
                lab.down(&quiet).unwrap();
            }
            panic!("lab up: {e}");
        }
    };
    // Whatever fails below, the lab goes.
    let outcome = std::panic::catch_unwind(|| look_at(&lab, &dir));
    let id = lab.switch_netns().trim_start_matches("kb").to_owned();
    // The search must be able to find something, or its silence at the end proves nothing.
    let before = traces(&id, &dir);
    let password = std::fs::read_to_string(lab.password_file()).unwrap();
    lab.down(&quiet).unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(before.iter().any(|t| t.contains("overlay")), "{before:#?}");
    for part in ["/sys/class/net/", "/run/netns/", "/sys/fs/cgroup/"] {
        assert!(before.iter().any(|t| t.contains(part)), "{part} not in {before:#?}");
    }
    assert_eq!(traces(&id, &dir), Vec::<String>::new());
    assert!(!dir.exists());
    assert_eq!(password.len(), 32);
    assert!(matches!(Lab::open(&dir), Err(Error::NoLab(_))));
}

fn look_at(lab: &Lab, dir: &Path) {
    // Exit codes are the program's own; a node that is not there is an input error.
    assert!(kubastion(dir, &["lab", "exec", "cp1", "--", "true"]).status.success());
    let seven = kubastion(dir, &["lab", "exec", "cp1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(seven.status.code(), Some(7));
    assert_eq!(kubastion(dir, &["lab", "exec", "cp9", "--", "true"]).status.code(), Some(3));
    let again = kubastion(dir, &["lab", "up", "--control-planes", "1", "--workers", "0"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already up"), "{again:?}");
    let other = kubastion(dir, &["lab", "up", "--control-planes", "3"]);
    assert_eq!(other.status.code(), Some(3), "{other:?}");

    // The operator's key logs in with exactly the host key that the inventory promises.
    let address = lab.address("cp1").unwrap().to_string();
    for (user, command, expected) in
        [("root", "id -u", "0"), ("ops", "sudo -n id -u", "0"), ("opspw", "id -un", "opspw")]
    {
        let output = ssh(lab, &format!("{user}@{address}"), command);
        assert_eq!(stdout(&output), expected, "{output:?}");
    }
    let refused = ssh(lab, &format!("opspw@{address}"), "sudo -n id -u");
    assert!(!refused.status.success(), "opspw needs a password: {refused:?}");

    // A program that the shutdown stops before it kills it: what runs it here ends too, and so does the node.
    let stops = ["sh", "-c", "kill -STOP $$"];
    let mut stopped = lab.command("cp1", &stops).unwrap().spawn().unwrap();
    // A soft reboot from inside: the node comes back by itself with nothing but its files.
    let first = lab.boot_id("cp1").unwrap();
    let rules = ["nft", "add table inet before_reboot"];
    assert!(lab.command("cp1", &rules).unwrap().status().unwrap().success());
    assert!(lab.command("cp1", &["touch", "/etc/kept"]).unwrap().status().unwrap().success());
    assert!(lab.command("cp1", &["systemctl", "reboot"]).unwrap().status().unwrap().success());
    lab.wait_for_next_boot("cp1", &first, DEADLINE).unwrap();
    assert!(!stopped.wait().unwrap().success());
    let second = lab.boot_id("cp1").unwrap();
    assert_ne!(first, second);
    assert!(lab.root("cp1").unwrap().join("etc/kept").exists());
    let rules = lab.command("cp1", &["nft", "list", "ruleset"]).unwrap().output().unwrap();
    assert_eq!(stdout(&rules), "", "rules do not survive a reboot");

    // A hard one.
    lab.reboot("cp1").unwrap();
    assert_ne!(lab.boot_id("cp1").unwrap(), second);

    // A frozen node accepts connections and shows no banner; thawed, it does.
    lab.freeze("cp1").unwrap();
    assert!(lab.wait_for_ssh("cp1", Duration::from_secs(2)).is_err());
    lab.thaw("cp1").unwrap();
    lab.wait_for_ssh("cp1", DEADLINE).unwrap();

    // Off is off.
    lab.kill("cp1").unwrap();
    assert_eq!(lab.status()[0].state, RunState::Stopped);
    let gone = kubastion(dir, &["lab", "exec", "cp1", "--", "true"]);
    assert_eq!(gone.status.code(), Some(6), "{gone:?}");
    lab.start("cp1").unwrap();
}

fn ssh(lab: &Lab, target: &str, command: &str) -> Output {
    Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", lab.known_hosts().display()))
        .arg("-i")
        .arg(lab.key_file())
        .args([target, command])
        .output()
        .expect("ssh starts")
}
