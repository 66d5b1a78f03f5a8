//! `txn.sh` on this machine, in a directory of its own: what a full disk, a power cut or a second
//! controller makes of a transaction. Nodes are not needed; systemd's part is tested on real ones.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::reset::SCRIPT as RESET_SCRIPT;
use super::{CALL_SCRIPT, TXN_SCRIPT};

pub(super) struct Txn {
    _dir: tempfile::TempDir,
    pub(super) base: PathBuf,
    pub(super) path: PathBuf,
}

impl Txn {
    /// A staged transaction that replaces `target`, and whatever `steps` adds.
    pub(super) fn staged(id: &str, steps: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().to_owned();
        let txn = Self { path: base.join("txn").join(id), base, _dir: dir };
        std::fs::create_dir_all(txn.base.join("target")).unwrap();
        std::fs::write(txn.base.join("target/a.conf"), "old\n").unwrap();
        txn.stage(id, steps);
        txn
    }

    fn stage(&self, id: &str, steps: &str) {
        let path = self.base.join("txn").join(id);
        let target = self.base.join("target");
        bring(&path, 0, &target.join("a.conf"), "new\n");
        let steps = format!("files|0|{}\n{steps}", target.display());
        for (name, text) in [
            ("steps", steps.as_str()),
            ("checks", ""),
            ("expect", ""),
            ("absent", ""),
            ("final", ""),
            ("state", "staged\n"),
            ("txn.sh", TXN_SCRIPT),
        ] {
            std::fs::write(path.join(name), text).unwrap();
        }
    }

    pub(super) fn other(&self, id: &str) -> Self {
        let path = self.base.join("txn").join(id);
        self.stage(id, "");
        Self { _dir: tempfile::tempdir().unwrap(), base: self.base.clone(), path }
    }

    pub(super) fn run(&self, verb: &str) -> String {
        text(
            &Command::new("sh")
                .arg(self.path.join("txn.sh"))
                .args(verb.split(' '))
                .output()
                .unwrap(),
        )
    }

    /// The program with a line put in after another one.
    pub(super) fn run_with(&self, after: &str, insert: &str, verb: &str) -> String {
        let broken = TXN_SCRIPT.replacen(after, &format!("{after}\n{insert}\n"), 1);
        assert_ne!(broken, TXN_SCRIPT, "{after}");
        std::fs::write(self.path.join("txn.sh"), broken).unwrap();
        let said = self.run(verb);
        std::fs::write(self.path.join("txn.sh"), TXN_SCRIPT).unwrap();
        said
    }

    /// Switched as an armed transaction is, without systemd or a timer.
    pub(super) fn switched(self) -> Self {
        assert!(self.run("prepare").contains("@prepared"));
        self.set("armed", "");
        let id = self.path.file_name().unwrap().to_str().unwrap();
        std::fs::write(self.base.join("armed"), format!("{id}\n")).unwrap();
        let said = self.run("switch -");
        assert!(said.contains("@state switched"), "{said}");
        assert_eq!(self.target(), "new\n");
        self
    }

    pub(super) fn set(&self, name: &str, text: &str) {
        std::fs::write(self.path.join(name), text).unwrap();
    }

    pub(super) fn state(&self) -> String {
        std::fs::read_to_string(self.path.join("state")).unwrap().trim().to_owned()
    }

    pub(super) fn target(&self) -> String {
        std::fs::read_to_string(self.base.join("target/a.conf")).unwrap()
    }
}

/// Stages a file of a group.
pub(super) fn bring(txn: &std::path::Path, group: usize, target: &std::path::Path, text: &str) {
    let staged = txn.join(format!("files/{group}{}", target.display()));
    std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
    std::fs::write(staged, text).unwrap();
}

/// What a program says that is told a line.
fn told(program: &mut Command, line: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    text(&child.wait_with_output().unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn switched(id: &str) -> Txn {
    Txn::staged(id, "").switched()
}

/// The mark, and below it what kubeadm made, is the old one again where the file is.
#[test]
fn what_is_noted_of_a_daemon_goes_back_with_its_file() {
    let txn = Txn::staged("1-a-host", "stale|kubernetes\n");
    let mark = txn.base.join("units/kubernetes");
    std::fs::create_dir(txn.base.join("units")).unwrap();
    std::fs::write(&mark, "digest\nab  /a\ncd  /b\n").unwrap();
    let said = txn.run("begin");
    assert!(said.contains("@state committed"), "{said}");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "changed\n");
    let said = txn.run("undo");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "digest\nab  /a\ncd  /b\n");
}

#[test]
fn a_confirm_that_was_cut_off_is_finished_by_the_next_run() {
    let txn = switched("1-a-host");
    txn.run_with(
        "if decide confirm || [ \"$(decided)\" = confirm ]; then",
        "kill -9 $$",
        "confirm",
    );
    assert_eq!(txn.state(), "switched");
    let said = txn.run("revert left-open");
    assert!(said.contains("@state committed"), "{said}");
    assert_eq!((txn.state().as_str(), txn.target().as_str()), ("committed", "new\n"));
    assert!(!txn.base.join("armed").exists());
}

#[test]
fn a_rollback_that_was_cut_off_can_be_taken_up_again() {
    for verb in ["revert left-open", "undo"] {
        let txn = switched("1-a-host");
        assert!(txn.run("confirm").contains("@state committed"));
        txn.run_with("restore() {", "kill -9 $$", "undo");
        assert_eq!((txn.state().as_str(), txn.target().as_str()), ("reverting", "new\n"));
        let said = txn.run(verb);
        assert!(said.contains("@state reverted"), "{verb}: {said}");
        assert_eq!((txn.state().as_str(), txn.target().as_str()), ("reverted", "old\n"));
    }
}

#[test]
fn a_decision_lost_in_a_power_cut_leads_back() {
    // ext4 and XFS may leave files empty that were not synced, and keep their names.
    let txn = switched("1-a-host");
    txn.run_with("finish_revert() { # reason", "kill -9 $$", "revert timeout");
    for name in ["state", "decision", "decision/what"] {
        if txn.path.join(name).is_file() {
            txn.set(name, "");
        }
    }
    let said = txn.run("revert boot");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!(txn.target(), "old\n");
}

#[test]
fn a_full_disk_does_not_keep_a_node_from_going_back() {
    let txn = Txn::staged("1-a-host", "");
    // On a file system of 1536 KiB of its own, filled to the last byte when the change is made.
    let script = "set -e; mount -t tmpfs -o size=1536k none \"$1/mnt\"; cp -a \"$1/txn\" \"$1/target\" \"$1/mnt\"; \
        T=$1/mnt/txn/1-a-host; sed -i \"s|$1/target|$1/mnt/target|\" \"$T/steps\"; \
        mkdir \"$T/files/0$1/mnt\"; mv \"$T/files/0$1/target\" \"$T/files/0$1/mnt/\"; \
        sh \"$T/txn.sh\" prepare; : >\"$T/armed\"; sh \"$T/txn.sh\" switch -; cat \"$1/mnt/target/a.conf\"; \
        cat /dev/zero >\"$1/mnt/fill\" 2>/dev/null || true; sh \"$T/txn.sh\" revert timeout 2>/dev/null || true; \
        cat \"$T/state\" \"$1/mnt/target/a.conf\"";
    std::fs::create_dir(txn.base.join("mnt")).unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh"]).arg(&txn.base).output()
    };
    if !unshare("mount -t tmpfs none \"$1/mnt\"").is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED a_full_disk_does_not_keep_a_node_from_going_back: no user namespaces");
        return;
    }
    let said = text(&unshare(script).unwrap());
    assert!(said.contains("@state switched\nnew\n"), "{said}");
    assert!(said.ends_with("reverted\nold\n"), "{said}");
}

#[test]
fn images_taken_before_another_change_are_not_used() {
    let first = Txn::staged("1-a-host", "");
    assert!(first.run("prepare").contains("@prepared"));
    let second = first.other("2-b-host");
    assert!(second.run("prepare").contains("@prepared"));
    assert!(second.run("switch -").contains("@state committed"));
    let said = first.run("switch -");
    assert!(said.contains("@refused another run"), "{said}");
    assert_eq!(first.state(), "prepared");
}

/// What is younger says the count, also where its file was lost or damaged.
#[test]
fn a_count_is_never_given_twice() {
    for damage in [None, Some(&b""[..]), Some(b"\0\0garbage"), Some(b"00"), Some(b"99999999999\n")]
    {
        let first = Txn::staged("1-a-host", "");
        assert!(first.run("prepare").contains("@prepared"));
        let file = first.base.join("sequence");
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        let second = first.other("2-b-host");
        assert!(second.run("prepare").contains("@prepared"));
        let counts =
            [&first, &second].map(|t| std::fs::read_to_string(t.path.join("sequence")).unwrap());
        assert_eq!(counts, ["1\n", "2\n"], "{damage:?}");
        assert!(second.run("switch -").contains("@state committed"), "{damage:?}");
    }
}

#[test]
fn nothing_is_prepared_on_top_of_a_change_that_waits_for_its_confirmation() {
    let first = switched("1-a-host");
    let second = first.other("2-b-host");
    let said = second.run("prepare");
    assert!(said.contains("@busy 1-a-host"), "{said}");
    // Nor does giving up take the first one's mark for the boot guard away.
    second.run("revert refused");
    assert!(first.base.join("armed").exists());
    assert!(first.run("confirm").contains("@state committed"));
    assert!(!first.base.join("armed").exists());
}

#[test]
fn what_is_still_at_work_is_not_killed_by_another_run() {
    let txn = Txn::staged("1-a-host", "");
    assert!(txn.run("prepare").contains("@prepared"));
    let slow =
        TXN_SCRIPT.replacen("run_step() {", "run_step() {\n    echo >\"$T/begun\"; sleep 2", 1);
    txn.set("txn.sh", &slow);
    let mut switch =
        Command::new("sh").arg(txn.path.join("txn.sh")).args(["switch", "-"]).spawn().unwrap();
    while !txn.path.join("begun").exists() {
        std::thread::yield_now();
    }
    let said = txn.run("revert left-open");
    assert!(switch.wait().unwrap().success());
    assert!(said.contains("@state committed"), "{said}");
}

/// The process group of a shell.
#[derive(Clone, Copy, PartialEq)]
enum Group {
    Own,
    Another,
}

/// A shell in the middle of its first step, which takes a second, before one that deletes a file.
fn at_work(also: &str, group: Group) -> (Txn, std::process::Child) {
    use std::os::unix::process::CommandExt as _;
    let txn = Txn::staged("1-a-host", "");
    let gone = txn.base.join("target/gone.conf");
    std::fs::write(&gone, "theirs\n").unwrap();
    let steps = std::fs::read_to_string(txn.path.join("steps")).unwrap();
    txn.set("steps", &format!("stale|a.service\nremove|{}\n{steps}", gone.display()));
    std::fs::create_dir(txn.base.join("units")).unwrap();
    let slow = TXN_SCRIPT.replacen(
        "run_step() {",
        &format!("{also}\nrun_step() {{\n    echo >\"$T/begun\"; sleep 1"),
        1,
    );
    txn.set("txn.sh", &slow);
    // As a controller starts it. It leads a process group, as under sshd, or is in another's, as under sudo.
    let mut command = Command::new("sh");
    command.arg(txn.path.join("txn.sh")).arg("begin");
    if group == Group::Own {
        command.process_group(0);
    }
    let shell = command.spawn().unwrap();
    while !txn.path.join("begun").exists() {
        std::thread::yield_now();
    }
    (txn, shell)
}

#[test]
fn what_is_undone_while_it_is_carried_out_stays_undone() {
    // Killed, and where that is not possible.
    for (kill, group) in
        [("", Group::Own), ("", Group::Another), ("kill() { return 1; }", Group::Own)]
    {
        let (txn, mut shell) = at_work(kill, group);
        let said = txn.run("revert timeout");
        assert!(said.contains("@state reverted"), "{kill}: {said}");
        shell.wait().unwrap();
        assert_eq!((txn.state().as_str(), txn.target().as_str()), ("reverted", "old\n"), "{kill}");
        assert!(txn.base.join("target/gone.conf").exists(), "{kill}");
    }
}

#[test]
fn a_disk_that_is_full_before_the_first_step_is_said_and_nothing_is_changed() {
    let txn = Txn::staged("1-a-host", "");
    let full =
        "set_state() { [ \"$1\" != switching ] || return 1; printf '%s\\n' \"$1\" >\"$T/state\"; }";
    let said = txn.run_with("have_systemd() { [ -d /run/systemd/system ]; }", full, "begin");
    assert!(said.contains("@refused") && said.contains("disk full?"), "{said}");
    assert_eq!((txn.state().as_str(), txn.target().as_str()), ("staged", "old\n"));
}

#[test]
fn what_lies_under_the_name_of_a_file_of_ours_is_said_and_nothing_is_changed() {
    for name in ["lock", "touched", "sequence", "armed"] {
        let txn = Txn::staged("1-a-host", "");
        let path = txn.base.join(name);
        std::fs::create_dir(&path).unwrap();
        let said = txn.run("begin");
        let wanted = format!("@refused {} is not a regular file (directory)", path.display());
        assert!(said.contains(&wanted), "{said}");
        assert!(!said.contains("@step"), "{said}");
    }
}

#[test]
fn a_row_of_directories_is_made_at_once_and_each_step_speaks_for_itself() {
    let row = |txn: &Txn, paths: &[&str]| -> String {
        let paths: Vec<String> =
            paths.iter().map(|p| format!("{}/target/{p}", txn.base.display())).collect();
        let mut ends = vec![format!("|{}", paths.join(" "))];
        ends.resize(paths.len(), String::new());
        let steps = paths.iter().zip(ends);
        let steps: String =
            steps.map(|(p, end)| format!("dir|{p}|root|root|0710{end}\n")).collect();
        std::fs::read_to_string(txn.path.join("steps")).unwrap() + &steps
    };
    let mode = |txn: &Txn, path: &str| {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(txn.base.join("target").join(path));
        meta.map(|m| m.permissions().mode() & 0o7777).unwrap_or_default()
    };
    let txn = Txn::staged("1-a-host", "");
    txn.set("steps", &row(&txn, &["x", "x/y", "z"]));
    let counting = "mkdir() { echo >>\"$T/mkdirs\"; command mkdir \"$@\"; }";
    let said = txn.run_with("have_systemd() { [ -d /run/systemd/system ]; }", counting, "begin");
    let calls = std::fs::read_to_string(txn.path.join("mkdirs")).unwrap();
    assert_eq!(calls.lines().count(), 1);
    assert!(said.contains("@step 4 done\n@state committed"), "{said}");
    assert_eq!(["x", "x/y", "z"].map(|p| mode(&txn, p)), [0o710; 3]);
    // The order of the way back is there before anything is done: later the disk may be full.
    let records = |name| std::fs::read_to_string(txn.path.join(name)).unwrap();
    let (before, reverse) = (records("before"), records("before.reverse"));
    assert!(before.lines().count() >= 4, "{before}");
    assert_eq!(before.lines().rev().collect::<Vec<_>>(), reverse.lines().collect::<Vec<_>>());
    assert!(txn.run("undo").contains("@state reverted"));
    assert_eq!(["x", "x/y", "z"].map(|p| mode(&txn, p)), [0; 3]);

    // Of three, the middle one cannot be made: what is below a file.
    let txn = Txn::staged("1-a-host", "");
    txn.set("steps", &row(&txn, &["x", "a.conf/y", "z"]));
    let said = txn.run("begin");
    assert!(said.contains("@step 2 done\n@step 3 begin\n@step 3 failed\n@said mkdir: "), "{said}");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!(["x", "z"].map(|p| mode(&txn, p)), [0; 2]);
    assert_eq!(txn.target(), "old\n");
}

/// Three new directories' files; the last directory may be a link to one.
fn row_of_files(link: bool) -> Txn {
    let txn = Txn::staged("1-a-host", "");
    let dir = |name: &str| txn.base.join("target").join(name);
    for name in ["x", "x/y", "elsewhere"] {
        std::fs::create_dir(dir(name)).unwrap();
    }
    match link {
        true => std::os::unix::fs::symlink("elsewhere", dir("z")).unwrap(),
        false => std::fs::create_dir(dir("z")).unwrap(),
    }
    let names = ["x", "x/y", "z"];
    for (i, name) in names.iter().enumerate() {
        bring(&txn.path, i + 1, &dir(name).join("n.conf"), name);
    }
    let row: Vec<String> =
        (1..).zip(names).map(|(i, n)| format!("{i}={}", dir(n).display())).collect();
    let mut end = format!("|{}", row.join(" "));
    let mut steps = std::fs::read_to_string(txn.path.join("steps")).unwrap();
    for (i, name) in (1..).zip(names) {
        steps += &format!("files|{i}|{}{}\n", dir(name).display(), std::mem::take(&mut end));
    }
    txn.set("steps", &steps);
    txn
}

#[test]
fn new_files_of_a_row_are_placed_at_once_and_each_step_speaks_for_itself() {
    use std::os::unix::fs::MetadataExt;
    let read = |txn: &Txn| {
        ["x", "x/y", "z"].map(|n| {
            std::fs::read_to_string(txn.base.join(format!("target/{n}/n.conf"))).unwrap_or_default()
        })
    };
    let counting = "mv() { case $* in *conf*) echo >>\"$T/moves\" ;; esac; command mv \"$@\"; }";
    let after = "have_systemd() { [ -d /run/systemd/system ]; }";
    let moves = |txn: &Txn| {
        std::fs::read_to_string(txn.path.join("moves")).unwrap_or_default().lines().count()
    };
    let placed = ["x", "x/y", "z"].map(String::from);

    // The file of the first step is there already, and is replaced by a rename.
    let txn = row_of_files(false);
    let said = txn.run_with(after, counting, "begin");
    assert!(said.contains("@step 4 done\n@state committed"), "{said}");
    assert_eq!((read(&txn), moves(&txn), txn.target().as_str()), (placed.clone(), 1, "new\n"));
    let meta = std::fs::metadata(txn.base.join("target/x/n.conf")).unwrap();
    assert_eq!(meta.nlink(), 1, "the staged name is gone");
    assert!(txn.run("undo").contains("@state reverted"));
    assert_eq!((read(&txn), txn.target().as_str()), (Default::default(), "old\n"));

    // One is there, or a directory is a link: each step for itself, with the same end.
    for case in ["there", "link", "no room"] {
        let txn = row_of_files(case == "link");
        let mut insert = counting.to_owned();
        match case {
            "there" => {
                std::fs::write(txn.base.join("target/x/y/n.conf"), "theirs").unwrap();
            }
            "no room" => insert += "\ncp() { command cp -rl \"$T/files/1/.\" /; return 1; }",
            _ => {}
        }
        let before = read(&txn);
        let said = txn.run_with(after, &insert, "begin");
        assert!(said.contains("@step 4 done\n@state committed"), "{case}: {said}");
        assert_eq!((read(&txn), moves(&txn)), (placed.clone(), 4), "{case}");
        assert!(txn.run("undo").contains("@state reverted"), "{case}");
        assert_eq!(read(&txn), before, "{case}");
        assert_eq!(txn.base.join("target/z").is_symlink(), case == "link");
    }
}

#[test]
fn staging_that_is_gone_costs_nothing_that_is_there() {
    let txn = row_of_files(false);
    let theirs = txn.base.join("target/x/y/theirs.conf");
    std::fs::write(&theirs, "theirs").unwrap();
    let gone = format!("rm -r \"$T/files/2{}/target/x/y\"", txn.base.display());
    let said = txn.run_with("    exec 8>&-\n    n=0", &gone, "begin");
    assert!(said.contains("@step 3 failed") && said.contains("@state reverted"), "{said}");
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "theirs");
    assert!(!txn.base.join("target/x/n.conf").exists());
}

#[test]
fn what_was_staged_is_gone_before_the_last_word() {
    let after = "have_systemd() { [ -d /run/systemd/system ]; }";
    let watch = "set_state() { case $1 in committed | reverted | incomplete) [ ! -e \"$T/files\" ] || say late ;; esac; \
                 printf '%s\\n' \"$1\" >\"$T/state\"; }";
    let txn = row_of_files(false);
    let said = txn.run_with(after, watch, "begin");
    assert!(said.contains("@state committed") && !said.contains("@late"), "{said}");
    let txn = switched("1-a-host");
    let said = txn.run_with(after, watch, "revert asked");
    assert!(said.contains("@state reverted") && !said.contains("@late"), "{said}");
}

#[test]
fn who_goes_back_before_the_first_step_is_not_overtaken_by_it() {
    let txn = Txn::staged("1-a-host", "");
    // Another connection asks for the way back just before the first step.
    let said = txn.run_with(
        "    trap '' HUP PIPE\n    echo $$ >\"$T/pid\"",
        "sh \"$T/txn.sh\" revert asked",
        "begin",
    );
    assert!(said.contains("@state reverted") && !said.contains("@step 1"), "{said}");
    assert_eq!((txn.state().as_str(), txn.target().as_str()), ("reverted", "old\n"));
}

#[test]
fn a_kernel_setting_goes_back_to_whatever_value_it_had() {
    let record = "\nfile|/etc/cron.d/evil";
    for was in ["|/usr/lib/systemd/systemd-coredump %P|%u", "core|", "||", "1", record] {
        let txn = Txn::staged("1-a-host", "");
        // As kernel.core_pattern may be; here a file plays /proc/sys.
        let setting = txn.base.join("core_pattern");
        std::fs::write(&setting, format!("{was}\n")).unwrap();
        // A step of that name, with the place of the file instead of /proc/sys.
        let name = setting.display().to_string();
        txn.set("steps", "sysctl|core_pattern|core\n");
        let here = TXN_SCRIPT.replace("/proc/sys/$(printf %s \"$a\" | tr . /)", &name);
        assert_eq!(here.matches(&name).count(), 2);
        txn.set("txn.sh", &here);
        assert!(txn.run("begin").contains("@state committed"));
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "core\n");
        assert!(txn.run("undo").contains("@state reverted"));
        assert_eq!(std::fs::read_to_string(setting).unwrap(), format!("{was}\n"));
    }
}

#[test]
fn a_file_that_comes_out_of_the_images_in_part_is_not_put_back() {
    let txn = Txn::staged("1-a-host", "");
    // Another name of the same file, which tar would keep as a link to the first.
    std::fs::hard_link(txn.base.join("target/a.conf"), txn.base.join("target/b.conf")).unwrap();
    bring(&txn.path, 0, &txn.base.join("target/b.conf"), "new\n");
    let txn = txn.switched();
    // A full disk, of which tar says so when a part is written.
    let full = "tar() { command tar \"$@\"; s=$?; case $* in *-xpf*) \
                : >\"$T/restore$base/target/a.conf\"; : >\"$T/restore$base/target/b.conf\"; return 2 ;; esac; return $s; }";
    let said = txn.run_with("have_systemd() { [ -d /run/systemd/system ]; }", full, "revert asked");
    assert!(said.contains("@state incomplete") && said.contains("could not restore"), "{said}");
    let other = || std::fs::read_to_string(txn.base.join("target/b.conf")).unwrap();
    assert_eq!((txn.target(), other()), ("new\n".into(), "new\n".into()), "no empty ones");
    // When there is room again, it is.
    assert!(txn.run("revert asked").contains("@state reverted"));
    assert_eq!((txn.target(), other()), ("old\n".into(), "old\n".into()));
}

#[test]
fn the_order_of_the_way_back_is_made_anew_where_it_is_lost() {
    for lost in ["gone", "cut", "made by nobody"] {
        let txn = switched("1-a-host");
        let order = txn.path.join("before.reverse");
        match lost {
            "gone" => std::fs::remove_file(&order).unwrap(),
            "cut" => std::fs::write(&order, "").unwrap(),
            // Nor can it be made anew.
            _ => {
                std::fs::remove_file(&order).unwrap();
                std::fs::create_dir(&order).unwrap();
            }
        }
        let said = txn.run("revert asked");
        match lost {
            "made by nobody" => assert!(said.contains("@state incomplete"), "{said}"),
            _ => {
                assert!(said.contains("@state reverted"), "{lost}: {said}");
                assert_eq!(txn.target(), "old\n", "{lost}");
            }
        }
    }
    let txn = switched("1-a-host");
    std::fs::remove_file(txn.path.join("before")).unwrap();
    assert!(txn.run("revert asked").contains("@state incomplete"));
}

#[test]
fn a_transaction_that_touches_nothing_is_no_first() {
    let txn = Txn::staged("1-a-packages", "");
    txn.set("steps", "");
    assert!(txn.run("begin").contains("@state committed"));
    assert!(!txn.path.join("first").exists());
}

#[test]
fn whoever_touches_what_went_back_is_the_first_again() {
    let first = Txn::staged("1-a-host", "");
    assert!(first.run("begin").contains("@state committed"));
    assert!(first.path.join("first").exists());
    assert!(first.run("undo").contains("@state reverted"));
    let second = first.other("2-b-host");
    assert!(second.run("begin").contains("@state committed"));
    // By this mark its images outlive the clearing away of old ones, and a reset finds them.
    assert!(second.path.join("first").exists());
    assert!(!first.path.join("first").exists());
}

/// Packages stay, whoever installed them: they are no reason to keep what was there before.
#[test]
fn a_later_change_that_leaves_nothing_to_undo_is_in_nobodys_way() {
    for (images, said) in
        [("", "@state reverted"), ("dir|/a\n", "@refused 2-b-packages builds on it")]
    {
        let first = Txn::staged("1-a-host", "");
        assert!(first.run("begin").contains("@state committed"));
        let second = first.other("2-b-packages");
        assert!(second.run("begin").contains("@state committed"));
        second.set("before", images);
        let undone = first.run("undo");
        assert!(undone.contains(said), "{undone}");
    }
    // Without the record nobody knows.
    let first = Txn::staged("1-a-host", "");
    assert!(first.run("begin").contains("@state committed"));
    let second = first.other("2-b-packages");
    assert!(second.run("begin").contains("@state committed"));
    std::fs::remove_file(second.path.join("before")).unwrap();
    assert!(first.run("undo").contains("@refused 2-b-packages builds on it"));
}

#[test]
fn nothing_is_rolled_back_below_a_change_that_waits_for_its_confirmation() {
    let first = Txn::staged("1-a-host", "");
    assert!(first.run("begin").contains("@state committed"));
    let second = first.other("2-b-host");
    assert!(second.run("prepare").contains("@prepared"));
    second.set("armed", "");
    std::fs::write(second.base.join("armed"), "2-b-host\n").unwrap();
    assert!(second.run("switch -").contains("@state switched"));
    assert!(first.run("undo").contains("@busy 2-b-host"));
    assert!(first.base.join("armed").exists(), "the boot guard goes by it");
    // Nor where that mark was lost.
    std::fs::remove_file(first.base.join("armed")).unwrap();
    assert!(first.run("undo").contains("@refused 2-b-host builds on it"));
}

/// What `reset.sh` says, with everything that it looks at or deletes below the transaction's directory.
fn reset(txn: &Txn, line: &str, before: &str) -> String {
    let root = txn.base.to_str().unwrap();
    let mut script = RESET_SCRIPT.replace("/var/lib/kubastion", &format!("{root}/"));
    for top in ["/var/lib/", "/var/log/", "/etc/", "/opt/", "/run/", "/usr/local/"] {
        script = script.replace(&format!(" {top}"), &format!(" {root}{top}"));
        script = script.replace(&format!(" '{top}"), &format!(" '{root}{top}"));
    }
    let script = script.replacen("export PATH\n", "export PATH\nsystemctl() { return 1; }\n", 1);
    // The target of these transactions lies there too.
    let (start, _) = script.split_once("# The transactions last").unwrap();
    let script =
        format!("{start}rm -rf \"$base/txn\"\nall_gone \"$base/txn\"\necho '@state clean'\n");
    let program = format!("{before}\n{script}");
    told(Command::new("unshare").args(["-rm", "sh", "-c", &program, "sh", root]), line)
}

/// Whether a user may have mounts of their own here.
fn has_namespaces(test: &str) -> bool {
    let has = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|s| s.success());
    if !has {
        eprintln!("SKIPPED {test}: no user namespaces");
    }
    has
}

#[test]
fn a_reset_passes_over_no_transaction() {
    if !has_namespaces("a_reset_passes_over_no_transaction") {
        return;
    }
    let txn = Txn::staged("1-a-host", "");
    assert!(txn.run("begin").contains("@state committed"));
    // As a power cut may leave it.
    txn.set("state", "");
    let said = reset(&txn, "keep-data member", "");
    assert!(
        said.contains("@refused") && said.contains("is neither confirmed nor undone yet"),
        "{said}"
    );
    assert!(!said.contains("@state clean"), "{said}");
    assert!(txn.path.join("before.tar").exists());
    txn.set("state", "committed\n");
    let said = reset(&txn, "keep-data member", "");
    assert!(said.contains("@state clean"), "{said}");
    assert_eq!(txn.target(), "old\n");
}

#[test]
fn a_reset_deletes_nothing_that_is_not_ours() {
    if !has_namespaces("a_reset_deletes_nothing_that_is_not_ours") {
        return;
    }
    let txn = Txn::staged("1-a-host", "");
    assert!(txn.run("begin").contains("@state committed"));
    let kubelet = txn.base.join("var/lib/kubelet");
    let (volume, served) = (kubelet.join("pods/volume"), txn.base.join("served"));
    for dir in [&volume, &served] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(kubelet.join("config.yaml"), "theirs\n").unwrap();
    std::fs::write(served.join("data"), "precious\n").unwrap();
    // The kubelet of a cluster that we did not make.
    let said = reset(&txn, "keep-data member", "");
    assert!(said.contains("@refused it was part of a cluster before kubastion"), "{said}");
    assert!(kubelet.join("config.yaml").exists());
    assert_eq!(std::fs::read_to_string(txn.path.join("state")).unwrap().trim(), "committed");

    // Ours, with a volume that somebody mounted by hand.
    let txn = txn.other("2-b-kubernetes");
    assert!(txn.run("begin").contains("@state committed"));
    std::fs::write(txn.base.join("reset.kubelet"), "").unwrap();
    let mount = "mount --bind \"$1/served\" \"$1/var/lib/kubelet/pods/volume\"";
    let said = reset(&txn, "keep-data member", mount);
    assert!(said.contains("@state incomplete") && said.contains("unmount it"), "{said}");
    assert!(served.join("data").exists());
    // What cannot be deleted is said, and the transactions stay for another reset.
    let read_only = "mount -t tmpfs x \"$1/var/lib/kubelet\"; touch \"$1/var/lib/kubelet/x\"; \
                     mount -o remount,ro \"$1/var/lib/kubelet\"";
    let said = reset(&txn, "keep-data member", read_only);
    assert!(said.contains("@state incomplete") && said.contains("could not be deleted"), "{said}");
    assert!(txn.base.join("txn").exists());
    // Data that moved to another disk is not called deleted.
    let member = txn.base.join("var/lib/etcd/member");
    std::fs::create_dir_all(member.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&served, &member).unwrap();
    let said = reset(&txn, "delete-data member", "");
    assert!(said.contains("@state incomplete") && said.contains("is a link"), "{said}");
    assert!(served.join("data").exists());
    std::fs::remove_file(&member).unwrap();
    // A disk of somebody's below the audit log's directory, and the log itself.
    let archive = txn.base.join("var/log/kubernetes/archive");
    let log = txn.base.join("var/log/kubernetes/audit/audit.log");
    for dir in [&archive, log.parent().unwrap()] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(&log, "{}\n").unwrap();
    let mount = "mount --bind \"$1/served\" \"$1/var/log/kubernetes/archive\"";
    let said = reset(&txn, "keep-data member", mount);
    assert!(said.contains("@state clean"), "{said}");
    assert!(!kubelet.exists() && served.join("data").exists() && log.exists());
}

/// A kubelet that somebody started by hand goes on when its unit and its program are gone.
#[test]
fn a_reset_is_not_complete_while_a_program_of_ours_runs() {
    if !has_namespaces("a_reset_is_not_complete_while_a_program_of_ours_runs") {
        return;
    }
    let txn = Txn::staged("1-a-host", "");
    assert!(txn.run("begin").contains("@state committed"));
    let program = txn.base.join("usr/local/bin/kubelet");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy("/bin/sleep", &program).unwrap();
    let start = "\"$1/usr/local/bin/kubelet\" 60 >/dev/null 2>&1 & \
                 until readlink /proc/$!/exe | grep -q kubelet; do :; done; rm \"$1/usr/local/bin/kubelet\"; sleep() { :; }";
    let said = reset(&txn, "keep-data member", start);
    assert!(said.contains("@state incomplete: process "), "{said}");
    assert!(said.contains("/usr/local/bin/kubelet, which was removed: run `kill "), "{said}");
    assert!(txn.base.join("txn").exists(), "another reset finds nothing");
    let command = said.split('`').nth(1).unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    let said = reset(&txn, "keep-data member", "");
    assert!(said.contains("@state clean"), "{said}");
}

#[test]
fn nothing_is_written_or_owned_through_a_link_that_a_service_put_there() {
    let txn = Txn::staged("1-a-host", "");
    let (target, victim) = (txn.base.join("target"), txn.base.join("victim"));
    std::fs::write(&victim, "victim\n").unwrap();
    assert!(txn.run("prepare").contains("@prepared"));
    assert!(txn.run("switch -").contains("@state committed"));
    std::os::unix::fs::symlink(&victim, target.join(".kubastion.restore")).unwrap();
    let said = txn.run("undo");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "victim\n", "{said}");
    assert_eq!(txn.target(), "old\n");

    let link = target.join("link");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let id = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(id.stdout).unwrap().trim().to_owned();
    let txn = Txn::staged("2-b-host", &format!("mode|{}|{user}|{user}|0777\n", link.display()));
    assert!(txn.run("prepare").contains("@prepared"));
    let said = txn.run("switch -");
    assert!(said.contains("@step 2 failed"), "{said}");
    use std::os::unix::fs::PermissionsExt;
    assert_ne!(std::fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o777);
}

#[test]
fn a_clock_that_went_back_does_not_let_an_older_change_be_undone_alone() {
    let first = Txn::staged("2026-a-host", "");
    let second = first.other("2025-b-host");
    for txn in [&first, &second] {
        assert!(txn.run("prepare").contains("@prepared"));
        assert!(txn.run("switch -").contains("@state committed"));
    }
    let said = first.run("undo");
    assert!(said.contains("@refused 2025-b-host"), "{said}");
    assert!(second.run("undo").contains("@state reverted"));
    assert!(first.run("undo").contains("@state reverted"));
}

/// What a controller calls, with `systemctl` as given.
pub(super) fn call(txn: &Txn, line: &str, systemctl: &str) -> String {
    let script = CALL_SCRIPT.replace("/var/lib/kubastion", txn.base.to_str().unwrap()).replacen(
        "export PATH\n",
        &format!("export PATH\nsystemctl() {{ {systemctl}; }}\n"),
        1,
    );
    assert!(!script.contains("=/var/lib") && script.contains(systemctl));
    told(Command::new("sh").args(["-c", &script]), line)
}

#[test]
fn a_rollback_takes_nobody_out_of_a_cluster() {
    let txn = Txn::staged("1-kubernetes", "");
    txn.run("begin");
    assert_eq!(txn.state(), "committed");
    let was = std::fs::read_to_string(txn.path.join("before")).unwrap();
    txn.set("before", &format!("{was}member|none\n"));
    let mark = txn.base.join("units/kubernetes");
    std::fs::create_dir_all(mark.parent().unwrap()).unwrap();
    std::fs::write(&mark, "digest\n").unwrap();
    for how in ["alone", "together"] {
        let said = call(&txn, &format!("1-kubernetes undo {how}"), "false");
        assert!(said.contains("@refused it joined the node to the cluster"), "{how}: {said}");
        assert_eq!((txn.state().as_str(), txn.target().as_str()), ("committed", "new\n"));
    }
    // One that changed the settings of a member is taken back.
    txn.set("before", &was);
    assert!(call(&txn, "1-kubernetes undo alone", "false").contains("@state reverted"));
    assert_eq!(txn.target(), "old\n");
}

#[test]
fn a_rollback_keeps_what_somebody_changed_after_the_run() {
    let txn = Txn::staged("1-host", "");
    txn.run("begin");
    let target = txn.base.join("target/a.conf");
    let unchanged = txn.base.join("target/b.conf");
    std::fs::write(&unchanged, "same\n").unwrap();
    let sum = |text: &str| crate::plain::hex(&<sha2::Sha256 as sha2::Digest>::digest(text));
    let line = |text: &str, path: &std::path::Path| format!("{}  {}\n", sum(text), path.display());
    txn.set("final", &(line("new\n", &target) + &line("same\n", &unchanged)));
    std::fs::write(&target, "by hand\n").unwrap();
    let said = call(&txn, "1-host undo alone", "false");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!(txn.target(), "old\n");
    assert_eq!(said.matches("@note").count(), 1, "{said}");
    let kept = txn.path.join("replaced").join(target.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "by hand\n");
}

#[test]
fn a_rollback_of_one_node_stops_no_etcd_member_that_it_started() {
    let txn = Txn::staged("1-etcd", "");
    txn.run("begin");
    let was = std::fs::read_to_string(txn.path.join("before")).unwrap();
    // Lines of units are systemd's matter: where there is none, undoing passes over them.
    let runs = r#"[ "$*" = '-q is-active etcd.service' ]"#;
    txn.set("before", &format!("{was}unit|etcd.service|not-found|inactive\n"));
    let said = call(&txn, "1-etcd undo alone", runs);
    assert!(said.contains("@refused it started this etcd member"), "{said}");
    assert_eq!(txn.target(), "new\n");
    // A change of a member that ran before goes back, and so does the first one of all together. Units
    // are systemd's, and so this machine's: that the transaction would be asked is enough.
    txn.set("txn.sh", "echo reached \"$@\"\n");
    assert!(call(&txn, "1-etcd undo together", runs).contains("reached undo together"));
    assert!(call(&txn, "1-etcd undo alone", "false").contains("reached undo alone"));
    txn.set("before", &format!("{was}unit|etcd.service|enabled|active\n"));
    assert!(call(&txn, "1-etcd undo alone", runs).contains("reached undo alone"));
}

/// Somebody loaded other rules while a confirmation was waited for.
#[test]
fn nobody_confirms_when_the_rules_to_prove_it_by_are_gone() {
    let txn = switched("1-a-host");
    txn.set("proof", "");
    let said = txn.run("confirm");
    assert!(said.contains("@refused table inet kubastion-proof"), "{said}");
    assert_eq!(txn.state(), "switched");
    let said = txn.run("revert asked");
    assert!(said.contains("@state reverted"), "{said}");
    assert_eq!(txn.target(), "old\n");
    assert!(!txn.path.join("proof").exists());
}
