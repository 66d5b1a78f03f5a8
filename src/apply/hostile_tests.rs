//! `txn.sh` on a file system and among programs that are somebody else's: what they hold and say is data.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::txn_tests::{Txn, bring, call};

/// After this line of the program, another meaning of something that it uses may be put in.
const AFTER: &str = "have_systemd() { [ -d /run/systemd/system ]; }";

/// Everything below a directory but the transactions' own: access, and content or target.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            Vec::new()
        } else {
            std::fs::read(&path).unwrap()
        };
        found.insert(path, (meta.mode(), meta.uid(), meta.gid(), what));
    }
    found
}

/// A transaction that replaces files of these names beside `a.conf`.
fn replaces(names: &[&str]) -> Txn {
    let txn = Txn::staged("1-a-host", "");
    for name in names {
        bring(&txn.path, 0, &txn.base.join("target").join(name), "new\n");
    }
    txn
}

#[test]
fn the_target_of_a_link_that_etcds_user_made_is_carried_out_by_nobody() {
    let txn = replaces(&["server.crt"]);
    let (precious, cron) = (txn.base.join("precious"), txn.base.join("cron.d"));
    std::fs::write(&precious, "precious\n").unwrap();
    std::fs::create_dir(&cron).unwrap();
    let evil = cron.join("evil");
    // Lines that look like records: one removes a path, one makes a link, one a directory.
    let target = format!(
        "nowhere\nabsent|{}\nlink|{}|/etc/passwd\nlink|{}|1\ndir|{}/d|777|0|0\n",
        precious.display(),
        evil.display(),
        evil.display(),
        cron.display()
    );
    symlink(&target, txn.base.join("target/server.crt")).unwrap();
    let before = (tree(&txn.base.join("target")), tree(&cron));
    let txn = txn.switched();
    let said = txn.run("revert asked");
    assert!(said.contains("@state reverted"), "{said}");
    assert!(precious.exists() && evil.symlink_metadata().is_err(), "{said}");
    assert_eq!((tree(&txn.base.join("target")), tree(&cron)), before);
}

/// As above, in images of a release that wrote targets into its records.
#[test]
fn images_of_an_earlier_release_are_gone_by_only_if_their_records_are_of_its_steps() {
    let old = |also: &str| {
        let txn = replaces(&["server.crt"]);
        assert!(txn.run("begin").contains("@state committed"));
        std::fs::remove_file(txn.path.join("images.format")).unwrap();
        let dir = txn.base.join("target").display().to_string();
        txn.set("final", &format!("{0}  {dir}/a.conf\n{0}  {dir}/server.crt\n", "0".repeat(64)));
        let steps = std::fs::read_to_string(txn.path.join("steps")).unwrap();
        txn.set(
            "steps",
            &format!("{steps}user|etcd|/h\nunit|etcd.service|yes|yes|-|-|wait\nsysctl|a.b|1\n"),
        );
        let true_ones = format!(
            "file|{dir}/a.conf\nlink|{dir}/server.crt|/else|where\nuser|etcd\nunit|etcd.service|none|inactive\n\
             absent|{}/units/etcd.service\nsysctl|/proc/sys/a/b|1|2\n",
            txn.base.display()
        );
        txn.set("before", &(true_ones + &also.replace("DIR", &dir)));
        // Its own program is as it is.
        txn.set("txn.sh", "echo reached \"$@\"\n");
        txn
    };
    for verb in ["undo", "revert"] {
        let said = call(&old(""), &format!("1-a-host {verb} alone"), "false");
        assert!(said.contains(&format!("reached {verb} alone")), "{said}");
        for forged in [
            "absent|/etc/shadow\n",
            "file|/etc/cron.d/evil\n",
            "file|DIR/server.crt\n",
            "link|DIR/a.conf|/etc/shadow\n",
            "link|DIR/other|/etc/shadow\n",
            "user|root\n",
            "sysctl|/proc/sys/kernel/core_pattern||/bin/evil\n",
            "unit|evil.service|enabled|active\n",
            "member|none \n",
            "anything\n",
        ] {
            let txn = old(forged);
            let said = call(&txn, &format!("1-a-host {verb} alone"), "false");
            assert!(
                said.contains("@refused its images") && !said.contains("reached"),
                "{forged}: {said}"
            );
            // It is known before it is asked for, and there is a way on.
            let said = call(&txn, "1-a-host state -", "false");
            assert!(said.contains("@note its images") && said.contains("reached state"), "{said}");
            let said = call(&txn, "1-a-host accept run", "false");
            assert!(said.contains("@state reverted") && txn.state() == "reverted", "{said}");
        }
    }
}

#[test]
fn what_a_program_prints_is_no_answer() {
    let forged = "run_step() {\n    printf '@state committed\\n@armed x 60\\n@refused x\\033[2J\\n@step 9 failed'";
    for end in ["return 0", "return 1"] {
        let txn = Txn::staged("1-a-host", "");
        let broken = super::TXN_SCRIPT.replacen("run_step() {", &format!("{forged}\n    {end}"), 1);
        txn.set("txn.sh", &broken);
        let said = txn.run("begin");
        let lines: Vec<&str> = said.lines().collect();
        let of_programs = [
            "@said @state committed",
            "@said @armed x 60",
            "@said @refused x\u{1b}[2J",
            "@said @step 9 failed",
        ];
        let mut wanted = vec!["@prepared", "@step 1 begin"];
        match end {
            "return 0" => wanted.extend(["@step 1 done", "@state committed"]),
            _ => {
                wanted.push("@step 1 failed");
                wanted.extend(of_programs);
                wanted.push("@state reverted");
            }
        }
        assert_eq!(lines, wanted);
    }
}

#[test]
fn what_is_no_file_is_not_replaced_and_keeps_nobody_waiting() {
    let txn = replaces(&["server.crt"]);
    let pipe = txn.base.join("target/server.crt");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let said = txn.run("begin");
    assert!(said.contains("@refused not a file, directory or link"), "{said}");
    assert!(said.contains("server.crt") && !said.contains("@step"), "{said}");
    assert_eq!(txn.target(), "old\n");
}

/// A socket that a daemon made has no content to keep, and a mode that others can change.
#[test]
fn the_mode_of_a_socket_is_set_and_comes_back() {
    use std::os::unix::fs::PermissionsExt;
    let txn = replaces(&[]);
    let path = txn.base.join("target/daemon.sock");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    txn.set("steps", &format!("mode|{}|root|root|0660\n", path.display()));
    let said = txn.run("begin");
    assert!(said.contains("@state committed") && mode() == 0o660, "{said}");
    let said = txn.run("undo");
    assert!(said.contains("@state reverted") && mode() == 0o666, "{said}");
    // Its daemon ended meanwhile.
    let txn = replaces(&[]);
    let path = txn.base.join("target/daemon.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    txn.set("steps", &format!("mode|{}|root|root|0660\n", path.display()));
    assert!(txn.run("begin").contains("@state committed"));
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    assert!(txn.run("undo").contains("@state reverted") && !path.exists());
}

/// `systemctl` and the programs that make users, as they are told in files beside the transactions; what they are asked
/// for is written down.
const PROGRAMS: &str = r#"
have_systemd() { return 0; }
systemctl() {
    printf 'systemctl %s\n' "$*" >>"$base/calls"
    case $1 in
    is-enabled) cat "$base/enabled" ;;
    is-active) cat "$base/active" ;;
    -q) [ "$(cat "$base/active")" = active ] ;;
    restart | --no-block) [ ! -e "$base/does-not-start" ] ;;
    esac
}
id() { grep -qx "$1" "$base/users"; }
group_id() { sed -n "s/^$1 //p" "$base/groups"; }
useradd() {
    printf 'useradd %s\n' "$*" >>"$base/calls"
    [ ! -e "$base/immutable" ] || return 1
    case "$*" in
    *--gid=etcd*) ;;
    *) ! grep -q '^etcd ' "$base/groups" || return 9; echo 'etcd 990' >>"$base/groups" ;;
    esac
    echo etcd >>"$base/users"
}
userdel() {
    [ ! -e "$base/immutable" ] || return 1
    grep -qx "$1" "$base/users" || return 6
    : >"$base/users"
    : >"$base/groups"
}
groupdel() { : >"$base/groups"; }
groupadd() { echo "$4 $3" >"$base/groups"; }
"#;

fn among_programs(txn: &Txn, files: &[(&str, &str)]) {
    for (name, text) in
        [("calls", ""), ("users", ""), ("groups", ""), ("enabled", ""), ("active", "")]
    {
        std::fs::write(txn.base.join(name), text).unwrap();
    }
    for (name, text) in files {
        std::fs::write(txn.base.join(name), text).unwrap();
    }
    let program = super::TXN_SCRIPT.replacen(AFTER, PROGRAMS, 1);
    // Functions further down would take their places again.
    assert!(program.contains("\nuserdel() {"));
    txn.set("txn.sh", &program);
}

fn read(txn: &Txn, name: &str) -> String {
    std::fs::read_to_string(txn.base.join(name)).unwrap()
}

const FAILS: &str = "package-none\n";

#[test]
fn a_user_is_taken_away_by_whoever_made_it_and_its_group_is_as_it_was() {
    let user = "user|etcd|/var/lib/etcd\n";
    for (files, then_fails) in [
        // `groupadd -r etcd` before the first run.
        (vec![("groups", "etcd 123\n")], true),
        (vec![("groups", "etcd 123\n")], false),
        (vec![], true),
        (vec![], false),
        // There before: not ours.
        (vec![("users", "etcd\n"), ("groups", "etcd 123\n")], true),
        // /etc/passwd cannot be written: nothing is made, and nothing is to be taken away.
        (vec![("immutable", "")], true),
    ] {
        let steps = format!("{user}{}", if then_fails { FAILS } else { "" });
        let txn = Txn::staged("1-etcd", &steps);
        among_programs(&txn, &files);
        let before = (read(&txn, "users"), read(&txn, "groups"));
        let said = txn.run("begin");
        if then_fails {
            assert!(said.contains("@state reverted"), "{files:?}: {said}");
        } else {
            assert!(said.contains("@state committed"), "{files:?}: {said}");
            assert_eq!(read(&txn, "users"), "etcd\n");
            assert!(txn.run("undo").contains("@state reverted"));
        }
        assert_eq!((read(&txn, "users"), read(&txn, "groups")), before, "{files:?}: {said}");
        assert_eq!(txn.target(), "old\n");
    }
}

/// Made by somebody else while it ran.
#[test]
fn a_user_that_came_meanwhile_stays() {
    let txn = Txn::staged("1-etcd", &format!("user|etcd|/h\n{FAILS}"));
    among_programs(&txn, &[]);
    assert!(txn.run("prepare").contains("@prepared"));
    std::fs::write(txn.base.join("users"), "etcd\n").unwrap();
    assert!(txn.run("switch").contains("@state reverted"));
    assert_eq!(read(&txn, "users"), "etcd\n");
}

#[test]
fn a_service_that_did_not_run_before_keeps_no_way_back_from_its_end() {
    for state in ["failed", "activating", "inactive", "x\nmember|none\nuser|root"] {
        let txn =
            Txn::staged("1-containerd", &format!("unit|c.service|-|yes|restart|-|wait\n{FAILS}"));
        among_programs(
            &txn,
            &[("active", state), ("enabled", "bad\nabsent|/etc/shadow"), ("does-not-start", "")],
        );
        let said = txn.run("begin");
        assert!(said.contains("@state reverted"), "{state}: {said}");
        let records = std::fs::read_to_string(txn.path.join("before")).unwrap();
        let unit: Vec<&str> = records.lines().filter(|l| l.starts_with("unit|")).collect();
        let known = if state.starts_with('x') { "inactive" } else { state };
        assert_eq!(unit, [format!("unit|c.service|none|{known}")]);
        assert!(!records.contains("shadow") && !records.contains("root"), "{records}");
    }
    // One that ran, and does not come up again, is said: the node is not as it was.
    let txn = Txn::staged("1-containerd", &format!("unit|c.service|-|yes|restart|-|wait\n{FAILS}"));
    among_programs(&txn, &[("active", "active"), ("enabled", "enabled"), ("does-not-start", "")]);
    let said = txn.run("begin");
    assert!(said.contains("c.service ran before, but does not start\n@state incomplete"), "{said}");
}

/// It would be one that runs well and is not started again for nothing, or one that was broken before us.
#[test]
fn a_service_whose_step_was_not_come_to_is_left_alone() {
    let txn = Txn::staged("1-containerd", &format!("{FAILS}unit|c.service|-|yes|restart|-|wait\n"));
    among_programs(&txn, &[("active", "active"), ("enabled", "enabled"), ("does-not-start", "")]);
    let said = txn.run("begin");
    assert!(said.contains("@state reverted"), "{said}");
    let calls = read(&txn, "calls");
    assert!(!calls.contains("restart") && !calls.contains("stop"), "{calls}");
}

#[test]
fn what_cannot_be_taken_back_may_stay_on_the_operators_word() {
    let txn = Txn::staged("1-a-host", "");
    assert!(txn.run("begin").contains("@state committed"));
    let refused = call(&txn, "1-a-host accept 1", "false");
    assert!(refused.contains("@refused its rollback was not started"), "{refused}");
    assert_eq!(txn.state(), "committed");
    let full = "restore() { echo 'no room'; return 1; }\nfinish_revert() { # reason";
    assert!(
        txn.run_with(
            "finish_revert() { # reason",
            "    restore() { echo 'no room'; return 1; }",
            "undo"
        )
        .contains("@state incomplete"),
        "{full}"
    );
    // Trying again is the other choice.
    let said = call(&txn, "1-a-host accept 20261121t101500z-1a2b3c", "false");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!((txn.state().as_str(), txn.target().as_str()), ("reverted", "new\n"));
    assert_eq!(
        std::fs::read_to_string(txn.path.join("accepted")).unwrap(),
        "20261121t101500z-1a2b3c\n"
    );
    // The next to touch it is the first, and takes the images of what is there.
    assert!(!txn.path.join("first").exists());
    let next = txn.other("2-b-host");
    assert!(next.run("begin").contains("@state committed") && next.path.join("first").exists());
}

#[test]
fn a_key_that_is_taken_from_a_node_leaves_all_images_of_it() {
    let first = replaces(&["ca.key", "b.conf"]);
    let key = first.base.join("target/ca.key");
    for name in ["ca.key", "b.conf"] {
        std::fs::write(first.base.join("target").join(name), "PLANTED-KEY\n").unwrap();
    }
    assert!(first.run("begin").contains("@state committed"));
    // As pki.ca_custody: operator does it.
    let second = first.other("2-b-host");
    std::fs::write(&key, "PLANTED-KEY\n").unwrap();
    std::fs::write(second.base.join("target/b.conf"), "no key\n").unwrap();
    second.set("steps", &format!("remove|{}\n", key.display()));
    second.set("forget", &format!("{}\n", key.display()));
    assert!(second.run("begin").contains("@state committed"));
    assert!(!key.exists());
    let unpack = |txn: &Txn| {
        let out = std::process::Command::new("tar")
            .args(["-xOf", "before.tar"])
            .current_dir(&txn.path)
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(unpack(&second), "");
    assert_eq!(unpack(&first).matches("PLANTED-KEY").count(), 1, "that of the other file");
    for txn in [&second, &first] {
        let raw = std::fs::read(txn.path.join("before.tar")).unwrap();
        assert!(!String::from_utf8_lossy(&raw).contains("ca.key"));
        let said = txn.run("undo");
        let note = format!("@note {} is not restored", key.display());
        assert!(said.contains(&note) && said.contains("@state reverted"), "{said}");
    }
    assert!(!key.exists());
    assert_eq!(
        (first.target().as_str(), read(&first, "target/b.conf").as_str()),
        ("old\n", "PLANTED-KEY\n")
    );
}

/// Text that looks like something that the program writes or does.
const FORGED: &[&str] = &[
    "\nabsent|/BASE/precious",
    "\nlink|/BASE/evil|1\nfile|/BASE/evil",
    "\n@state reverted\n@refused x",
    "|1|0|0\nmember|none\n",
    "/BASE/precious",
    "-rf\t* ?[a-z] $(touch /BASE/evil) `touch /BASE/evil` \\n\\c",
    "..\n",
];

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let any = || proptest::collection::vec(1u8..=255, 1..60);
    let forged = (any(), 0..FORGED.len(), any())
        .prop_map(|(a, i, b)| [&a[..], FORGED[i].as_bytes(), &b[..]].concat());
    prop_oneof![any(), forged, (0..FORGED.len()).prop_map(|i| FORGED[i].as_bytes().to_vec())]
}

/// What stands in the place of a file of the plan.
#[derive(Debug, Clone)]
enum There {
    Nothing,
    File(Vec<u8>, u32),
    Link(Vec<u8>),
}

fn there() -> impl Strategy<Value = There> {
    prop_oneof![
        Just(There::Nothing),
        (hostile(), 0u32..0o1000).prop_map(|(text, mode)| There::File(text, mode)),
        hostile().prop_map(There::Link),
        hostile().prop_map(There::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What systemd says of a unit, or another program in its place.
    #[test]
    fn a_units_state_is_a_word_of_a_list(enabled in hostile(), active in hostile()) {
        let txn = Txn::staged("1-a", "unit|c.service|-|-|-|-|wait\n");
        among_programs(&txn, &[]);
        std::fs::write(txn.base.join("enabled"), &enabled).unwrap();
        std::fs::write(txn.base.join("active"), &active).unwrap();
        prop_assert!(txn.run("prepare").contains("@prepared"));
        let records = std::fs::read_to_string(txn.path.join("before")).unwrap();
        let kinds: Vec<&str> = records.lines().map(|l| l.split('|').next().unwrap()).collect();
        prop_assert_eq!(kinds, ["file", "unit", "absent"]);
        let unit = records.lines().nth(1).unwrap();
        prop_assert_eq!(unit.split('|').count(), 4);
        prop_assert!(unit.bytes().all(|b| b.is_ascii_lowercase() || b"|.-".contains(&b)));
    }

    #[test]
    fn whatever_is_there_comes_back_as_it_was_and_nothing_else_moves(
        places in proptest::collection::vec(there(), 4),
        neighbours in proptest::collection::vec(hostile(), 3),
        uid in 0u32..70_000,
        fails in any::<bool>(),
    ) {
        let names = ["a.crt", "b.key", "c.d", "remove.me"];
        let txn = replaces(&names[..3]);
        let base = txn.base.display().to_string();
        let here = |bytes: &[u8]| {
            let mut out = Vec::new();
            let mut rest = bytes;
            while let Some(at) = rest.windows(5).position(|w| w == b"/BASE") {
                out.extend_from_slice(&rest[..at]);
                out.extend_from_slice(base.as_bytes());
                rest = &rest[at + 5..];
            }
            out.extend_from_slice(rest);
            out
        };
        let target = txn.base.join("target");
        for (name, place) in names.iter().zip(&places) {
            let path = target.join(name);
            match place {
                There::Nothing => {}
                There::File(text, mode) => {
                    use std::os::unix::fs::PermissionsExt as _;
                    std::fs::write(&path, here(text)).unwrap();
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode | 0o400)).unwrap();
                }
                There::Link(to) => symlink(OsStr::from_bytes(&here(to)), &path).unwrap(),
            }
            // Root alone may give a file to somebody.
            if path.symlink_metadata().is_ok() && rustix::process::getuid().is_root() {
                std::os::unix::fs::lchown(&path, Some(uid), Some(uid)).unwrap();
            }
        }
        for (i, name) in neighbours.iter().enumerate() {
            let mut name: Vec<u8> = name.iter().map(|b| if *b == b'/' { b'|' } else { *b }).collect();
            name.push(b'0' + u8::try_from(i).unwrap());
            std::fs::write(target.join(OsStr::from_bytes(&name)), "theirs").unwrap();
        }
        std::fs::write(txn.base.join("precious"), "precious").unwrap();
        let steps = std::fs::read_to_string(txn.path.join("steps")).unwrap();
        let step = if fails { FAILS } else { "" };
        txn.set("steps", &format!("{steps}remove|{}\n{step}", target.join("remove.me").display()));
        let before = tree(&target);
        let said = txn.run("begin");
        if fails {
            prop_assert!(said.ends_with("@state reverted\n"), "{said}");
        } else {
            prop_assert!(said.ends_with("@state committed\n"), "{said}");
            for name in &names[..3] {
                prop_assert_eq!(read(&txn, &format!("target/{name}")), "new\n");
            }
            prop_assert!(target.join("remove.me").symlink_metadata().is_err());
            let said = txn.run("undo");
            prop_assert!(said.ends_with("@state reverted\n"), "{said}");
        }
        prop_assert_eq!(tree(&target), before);
        prop_assert_eq!(read(&txn, "precious"), "precious");
        prop_assert!(txn.base.join("evil").symlink_metadata().is_err());
        let top: Vec<_> = std::fs::read_dir(&txn.base).unwrap().map(|e| e.unwrap().file_name()).collect();
        for name in top {
            prop_assert!(["target", "precious", "txn", "lock", "sequence", "touched", "touched.new"].iter().any(|n| name == *n), "{name:?}");
        }
    }
}
