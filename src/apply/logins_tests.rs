//! Who gets in by what sshd says, on this machine: `logins.sh` with an sshd that is told what to say.

use std::process::Command;

const LOGINS: &str = include_str!("node/logins.sh");

/// Runs the functions with a program of the test behind them.
fn run(script: &str, arguments: &[&str]) -> String {
    let program = format!("set -u\nnl='\n'\n{LOGINS}\n{script}");
    let mut command = Command::new("sh");
    let output = command.args(["-c", &program, "sh"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The verdict on a login: whether it has a key, its uid, the first sign of its password's hash, what sshd says.
fn verdict(key: bool, uid: &str, hash: &str, settings: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    if key {
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let line = "# a comment\nssh-ed25519 AAAA a\n";
        std::fs::write(home.path().join(".ssh/authorized_keys"), line).unwrap();
    }
    let script = "settings=$(printf '%s' \"$4\" | tr ';' '\\n')
judge_login root \"$1\" \"$2\" \"$3\" 192.0.2.9 \"$settings\"
echo \"$verdict $because\"";
    let base = "pubkeyauthentication yes;passwordauthentication no;kbdinteractiveauthentication no;usepam yes;\
                permitrootlogin prohibit-password;authorizedkeysfile %h/.ssh/authorized_keys none";
    let settings = format!("{base};{settings}");
    run(script, &[home.path().to_str().unwrap(), uid, hash, &settings])
}

fn gets_in(key: bool, uid: &str, hash: &str, settings: &str) -> bool {
    verdict(key, uid, hash, settings).starts_with("in ")
}

#[test]
fn whoever_has_a_way_that_is_on_gets_in() {
    let on = "passwordauthentication yes";
    assert!(gets_in(true, "1000", "!", ""));
    assert!(!gets_in(false, "1000", "!", ""), "neither key nor password");
    assert!(!gets_in(false, "1000", "$", ""), "a password, and passwords are off");
    assert!(gets_in(false, "1000", "$", on));
    assert!(!gets_in(false, "1000", "*", on), "no password would be right");
    assert!(!gets_in(false, "1000", "", on), "nor is an empty one");
    assert!(gets_in(false, "1000", "", "passwordauthentication yes;permitemptypasswords yes"));
    assert!(gets_in(false, "1000", "directory", on), "a directory may know more than it shows");
    assert!(gets_in(false, "1000", "$", "kbdinteractiveauthentication yes"));
    assert!(gets_in(false, "1000", "$", "challengeresponseauthentication yes"), "its older name");
    assert!(!gets_in(false, "1000", "$", "kbdinteractiveauthentication yes;usepam no"));
    assert!(!gets_in(true, "1000", "$", "pubkeyauthentication no"));
    assert!(!gets_in(true, "1000", "!", "usepam no"), "sshd takes it for a locked account");
    assert!(gets_in(false, "1000", "!", "trustedusercakeys /etc/ssh/ca.pub"));
    assert!(gets_in(false, "1000", "!", "authorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys"));
    assert!(!gets_in(true, "1000", "!", "authorizedkeysfile /etc/ssh/keys/%u"));
}

#[test]
fn root_gets_in_as_far_as_it_is_let() {
    let on = "passwordauthentication yes";
    assert!(gets_in(true, "0", "$", on));
    assert!(!gets_in(false, "0", "$", on), "prohibit-password");
    assert!(gets_in(false, "0", "$", "passwordauthentication yes;permitrootlogin yes"));
    assert!(!gets_in(true, "0", "$", "permitrootlogin forced-commands-only"), "a key without one");
    assert!(verdict(true, "0", "$", "permitrootlogin no").contains("PermitRootLogin no"));
}

#[test]
fn all_methods_of_a_list_have_to_be_on() {
    let with = |methods: &str, more: &str| {
        verdict(true, "1000", "$", &format!("authenticationmethods {methods};{more}"))
    };
    let both = "publickey,keyboard-interactive:pam";
    assert_eq!(with(both, ""), format!("out AuthenticationMethods {both}"));
    assert!(with(both, "kbdinteractiveauthentication yes").starts_with("in "));
    assert!(with("publickey,password publickey", "").starts_with("in "), "either list will do");
    assert!(with("publickey,password", "").starts_with("out "));
    assert!(with("any", "").starts_with("in "));
    // A second factor is not always a password.
    let factor =
        "authenticationmethods publickey,keyboard-interactive;kbdinteractiveauthentication yes";
    assert!(gets_in(true, "1000", "!", factor));
}

#[test]
fn lists_of_users_and_groups_go_by_patterns() {
    let allowed = |line: &str| gets_in(true, "0", "$", line);
    // The login of these tests is root, whose group is root everywhere.
    for line in [
        "allowusers ro?t",
        "allowusers a;allowusers root",
        "allowusers root@192.0.2.*",
        "allowgroups r*",
    ] {
        assert!(allowed(line), "{line}");
    }
    for line in [
        "allowusers roo",
        "allowusers root@198.51.100.*",
        "allowgroups a b",
        "denyusers *",
        "denygroups root",
    ] {
        assert!(!allowed(line), "{line}");
    }
    // A network by its length is not worked out: it neither lets in nor keeps out by itself.
    assert!(allowed("allowusers root@192.0.2.0/24") && allowed("denyusers root@192.0.2.0/24"));
    assert!(!allowed("allowusers root;denyusers root"));
}

#[test]
fn an_sshd_that_writes_its_keys_in_mixed_case_says_the_same() {
    let script = "to=::1 to_port=22
timeout() { shift; \"$@\"; }
sshd() { printf 'Port 22\\nPasswordAuthentication Yes\\nAuthorizedKeysFile %%h/.ssh/Keys\\nForceCommand none\\n'; }
asked_of_sshd a ::1";
    assert_eq!(
        run(script, &[]),
        "passwordauthentication Yes\nauthorizedkeysfile %h/.ssh/Keys\nforcecommand none"
    );
}

#[test]
fn an_sshd_that_says_nothing_is_no_answer() {
    let script = "to=::1 to_port=22\ntimeout() { shift; \"$@\"; }\nsshd() { echo 'no such user'; }\nasked_of_sshd a ::1 || echo failed";
    assert_eq!(run(script, &[]), "failed");
}

#[test]
fn a_pipe_in_the_place_of_keys_keeps_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    let pipe = home.path().join("keys");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let script = "has_key a \"$1\" 1 keys '^[^#]' && echo found || echo none";
    assert_eq!(run(script, &[home.path().to_str().unwrap()]), "none");
}

/// What a user may be called, or have as a home, is never a part of what is done.
#[test]
fn names_of_the_node_are_no_instructions() {
    let script = "from=192.0.2.9 to=::1 to_port=22 visits=
own_connection() { :; }
last_visits() { :; }
accounts() {
    printf '%s\\n' 'good:x:1000:1000::/home/good:/bin/sh' 'a,addr=1:x:1001:1001::/h:/bin/sh' '-T:x:1002:1:::/bin/sh' \\
        '$(touch x):x:1003:1::/h:/bin/sh' 'no:x:1004:1::/h:/usr/sbin/nologin' '*:x:1005:1::/h:/bin/sh'
}
seen() { echo \"$1 $2 $4\"; }
each_login";
    assert_eq!(run(script, &[]), "good 192.0.2.9 1000");
}
