//! The program on this machine, with files of others in the place of the machine's.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::request::lines;
use super::{LIVE_SCRIPT, LiveFacts, LiveRequest, live};

const PLACES: &str = "places=/$nl";
const MOUNTS: &str = "done </proc/mounts";
const KEYS: &str = "/root /home /opt /etc /srv /tmp /var/tmp /mnt";

/// What the program tells, with some of its words replaced: each of them has to be there.
fn told(request: &LiveRequest, replaced: &[(&str, &str)]) -> LiveFacts {
    let mut script = LIVE_SCRIPT.to_owned();
    for (word, with) in replaced {
        assert!(script.contains(word), "{word}");
        script = script.replace(word, with);
    }
    // What would be looked through as a whole may be large here.
    for (word, with) in
        [(PLACES, "places=/nonexistent$nl"), (MOUNTS, "done </dev/null"), (KEYS, "")]
    {
        let is_replaced = replaced.iter().any(|(w, _)| w.contains(word));
        assert!(is_replaced || script.contains(word), "{word}");
        script = script.replace(word, with);
    }
    let mut child = Command::new("timeout")
        // Only a failure takes so long: beside others' work it may be slow.
        .args(["300", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut request = request.clone();
    request.paths.insert("/".to_owned());
    stdin.write_all(lines(&request).as_bytes()).unwrap();
    drop(stdin);
    live(&child.wait_with_output().unwrap().stdout).unwrap()
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_number_that_may_be_read_as_0_is_root_and_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let passwd = file(
        dir.path(),
        "passwd",
        "root:x:0:0::/root:/bin/sh\nopen:x:1001:1001::/:/bin/sh\na:x:+0:1::/:/bin/sh\n\
         b:x:1002:+0::/:/bin/sh\nc:x:1003: 0::/:/bin/sh\nd:x:1004:-0::/:\ne:x:1005:00::/:/tmp/false\n\
         f:x:1006:0::/:/usr/sbin/nologin\n",
    );
    let group = file(
        dir.path(),
        "group",
        "root:x:0:\nops:x:+0:g\nmore:x: 00:h,i\nother:x:10:open\nnone:x::k\n",
    );
    let shadow = file(dir.path(), "shadow", "root:*:1::::::\n");
    let found = told(
        &LiveRequest::default(),
        &[("/etc/passwd", &passwd), ("/etc/group", &group), ("/etc/shadow", &shadow)],
    );
    let accounts = found.accounts.unwrap();
    assert_eq!(accounts.root, ["root", "a"]);
    assert_eq!(accounts.of_root_group, ["b", "c", "d", "e", "g", "h", "i", "k"]);
}

/// A pipe that nobody writes to, under each name that the program reads.
#[test]
fn nothing_waits_for_a_pipe_in_the_place_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    let names = [
        "apt/apt.conf.d/x",
        "apt/sources.list",
        "apt/sources.list.d/x.sources",
        "group",
        "kubastion/firewall.nft",
        "nsswitch.conf",
        "passwd",
        "shadow",
        "ssl/openssl.cnf",
        "sysctl.d/x.conf",
        "systemd/system.conf",
        "systemd/system.conf.d/x.conf",
    ];
    for name in names {
        let path = etc.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
    // A link counts as what it leads to, and one to /dev/null is none.
    std::os::unix::fs::symlink(etc.join("group"), etc.join("link")).unwrap();
    std::os::unix::fs::symlink("/dev/null", etc.join("masked")).unwrap();
    let etc = etc.to_str().unwrap().to_owned();
    let found = told(
        &LiveRequest::default(),
        &[("/etc/", &format!("{etc}/")), ("9:/etc", &format!("9:{etc}"))],
    );
    let named: Vec<String> = found.irregular.unwrap().into_iter().map(|i| i.path).collect();
    for name in names.iter().copied().chain(["link"]) {
        let path = format!("{etc}/{name}");
        assert!(named.contains(&path), "{path} {named:?}");
    }
    assert_eq!(named.len(), names.len() + 1, "{named:?}");
    assert_eq!((found.accounts, found.apt), (None, None));
    assert!(found.apt_sources.is_empty() && found.manager_files.is_empty());
}

#[test]
fn programs_that_run_as_others_and_keys_that_all_can_read_are_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(dir.path().to_str().unwrap(), 0o755);
    let program = file(dir.path(), "program", "#!/bin/sh\n");
    mode(&program, 0o4755);
    let key = format!("users:\n- user: {{ client-key-data: {} }}\n", "QUFB".repeat(20));
    let copy = file(dir.path(), "admin.conf", &key);
    mode(&copy, 0o644);
    mode(&file(dir.path(), "private.conf", &key), 0o600);
    mode(&file(dir.path(), "words.txt", "client-key-data: it is in there\n"), 0o644);
    std::fs::create_dir(dir.path().join("closed")).unwrap();
    let pem = "-----BEGIN EC PRIVATE KEY-----\nx\n";
    let closed = dir.path().join("closed");
    mode(&file(&closed, "key.pem", pem), 0o644);
    mode(closed.to_str().unwrap(), 0o700);
    let open = file(dir.path(), "key.pem", pem);
    mode(&open, 0o604);
    let at = dir.path().to_str().unwrap();
    let found = told(&LiveRequest::default(), &[(PLACES, &format!("places={at}$nl")), (KEYS, at)]);
    let set_id = found.set_id.unwrap();
    assert_eq!(set_id.len(), 1, "{set_id:?}");
    assert_eq!((set_id[0].path.as_str(), set_id[0].mode), (program.as_str(), 0o4755));
    let mut keys = found.readable_keys.unwrap();
    keys.sort();
    assert_eq!(keys, [copy, open]);
    assert_eq!(found.capable, Some(Vec::new()));
}
