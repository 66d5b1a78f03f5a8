//! Answers of the real program on this machine, answers that are cut off or mangled, and what never leaves a node.

use super::*;

fn watch(items: &[(&str, &str)]) -> WatchList {
    let mut w = WatchList::default();
    for (kind, item) in items {
        match *kind {
            "F" => w.files.insert((*item).to_owned()),
            "U" => w.units.insert((*item).to_owned()),
            "S" => w.sysctls.insert((*item).to_owned()),
            _ => w.packages.insert((*item).to_owned()),
        };
    }
    w
}

fn this_machine(w: &WatchList) -> Vec<u8> {
    use std::io::Write;
    let mut child = std::process::Command::new("sh")
        .args(["-c", super::super::SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(super::super::batch::request_lines(w).as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().stdout
}

fn name() -> NodeName {
    "n1".parse().unwrap()
}

#[test]
fn the_real_program_on_this_machine_parses() {
    let w = watch(&[
        ("F", "/etc/passwd"),
        ("F", "/etc"),
        ("F", "/no/such"),
        ("F", "/proc/self"),
        ("F", "/dev/null"),
        ("S", "net.ipv4.ip_forward"),
    ]);
    let f = facts(&name(), &w, &this_machine(&w)).unwrap();
    assert!(matches!(f.files["/etc/passwd"], FileFacts::File { mode: 0o644, .. }));
    assert!(matches!(f.files["/etc"], FileFacts::Directory { mode: 0o755, .. }));
    assert_eq!(f.files["/no/such"], FileFacts::Absent);
    assert!(matches!(f.files["/proc/self"], FileFacts::Symlink { .. }));
    assert!(matches!(f.files["/dev/null"], FileFacts::Other { .. }));
    assert!(["0", "1"].contains(&f.sysctls["net.ipv4.ip_forward"].as_str()));
    assert!(f.memory_bytes > 0 && f.cpus > 0 && f.var_free_bytes > 0 && !f.os.id.is_empty());
    assert!(f.disks["/var/lib"].free_bytes > 0);
}

/// What the program says and nobody asks for would be empty where it is not said.
#[test]
fn every_section_of_the_program_is_asked_for() {
    let said = super::super::SCRIPT.lines().filter_map(|l| l.trim().strip_prefix("echo @"));
    let said: Vec<&str> = said.filter(|s| !OF_FILES.contains(s)).collect();
    assert_eq!(said, SECTIONS);
}

#[test]
fn disks_are_told_apart_by_their_id() {
    let lines = ["/var/lib 1f 10 4096", "/var/lib/a b 2c 0 4096"];
    let found = disks(&lines).unwrap();
    assert_eq!(found["/var/lib"], Disk { id: "1f".into(), free_bytes: 40960 });
    assert_eq!(found["/var/lib/a b"].free_bytes, 0);
    for bad in ["/var/lib 1f 10", "/var/lib 1f many 4096", ""] {
        assert!(disks(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn addresses_have_their_interface_and_length() {
    let lines = [
        "2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever",
        "3: veth1@if5    inet6 fd00::1/64 scope global",
        "4: ppp0    inet 10.0.0.1 peer 10.0.0.2/32 scope global ppp0",
        "5: odd    inet nonsense",
        "6: short",
    ];
    let found: Vec<String> =
        addresses(&lines).iter().map(|a| format!("{} {}", a.interface, a.network)).collect();
    assert_eq!(found, ["eth0 192.0.2.11/24", "veth1 fd00::1/64"]);
}

#[test]
fn settings_below_match_lines_are_known_or_nothing_is() {
    let line = "/etc/ssh/sshd_config\tpasswordauthentication\tyes";
    let found = sshd_matches(&[line, "ok"]).unwrap();
    assert_eq!(found[0].file, "/etc/ssh/sshd_config");
    assert_eq!((found[0].key.as_str(), found[0].value.as_str()), ("passwordauthentication", "yes"));
    assert_eq!(sshd_matches(&["ok"]), Some(Vec::new()));
    for cut in [&[][..], &[line], &["nonsense", "ok"]] {
        assert_eq!(sshd_matches(cut), None);
    }
}

#[test]
fn every_process_of_a_watched_name_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("kubelet");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut running: Vec<_> =
        (0..2).map(|_| std::process::Command::new(&program).arg("600").spawn().unwrap()).collect();
    let f = facts(&name(), &WatchList::default(), &this_machine(&WatchList::default()));
    for child in &mut running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let found = &f.unwrap().processes["kubelet"];
    for child in &running {
        let one = found.iter().find(|p| p.pid == child.id()).unwrap();
        assert_eq!(one.argv, [program.to_str().unwrap(), "600"]);
    }
}

#[test]
fn texts_and_trees_of_this_machine_parse_and_keys_stay_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config =
        "keys:\n  - name: k1\n    secret: c2VjcmV0\nclient-key-data: QUJD\ntoken: x\n@stat\n";
    std::fs::write(path("config"), config).unwrap();
    std::fs::write(path("json"), "{\"secret\":\"c2VjcmV0\"}").unwrap();
    std::fs::write(path("evil\n@stat\nname"), "").unwrap();
    let mut w = WatchList::default();
    for name in ["config", "json", "gone"] {
        w.files.insert(path(name));
        w.texts.insert(path(name));
    }
    w.trees.insert(path("").trim_end_matches('/').to_owned());
    w.extras.extend([Extra::Lsm, Extra::Time, Extra::Audit, Extra::Apt]);
    let answer = this_machine(&w);
    assert!(!String::from_utf8_lossy(&answer).contains("c2VjcmV0"));
    assert!(!String::from_utf8_lossy(&answer).contains("QUJD"));
    let f = facts(&name(), &w, &answer).unwrap();
    let text = f.texts[&path("config")].as_deref().unwrap();
    assert!(text.contains("name: k1") && text.ends_with("@stat\n"), "{text}");
    assert!(serde_yaml::from_str::<serde_yaml::Value>(text.trim_end_matches("@stat\n")).is_ok());
    assert!(!f.texts.contains_key(&path("gone")));
    let tree = f.trees.values().next().unwrap();
    assert!(!tree.complete && tree.entries.contains_key(&path("config")));
    assert!(f.lsm.is_some() && f.time.is_some());
    assert_eq!(f.apt_periodic.is_some(), f.commands.contains("apt-get"));
}

/// Files as people and other programs leave them, with what may not leave the node in them and what
/// is to stay.
const WITH_SECRETS: [(&str, &str, &[&str]); 9] = [
    (
        "config.toml",
        r#"version = 3
[plugins.'io.containerd.cri.v1.images'.registry.configs."r.example".auth]
  username = "robot"
  password = "pois\"on"
  auth = 'cG9pc29u poison'
    identitytoken = "poison" # poison-free
  registrytoken = """
poison
  poison"""
  tokens = [
    "poison",
  ]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
  client_cert_auth = true
"#,
        &["username = \"robot\"", "SystemdCgroup = true", "client_cert_auth = true"],
    ),
    (
        "keepalived.conf",
        "vrrp_instance a {\n  authentication {\n    auth_type PASS\n    auth_pass poison\n  }\n  \
             # auth_pass poison\n  priority 100\n}\n",
        &["auth_type PASS", "priority 100"],
    ),
    (
        "haproxy.cfg",
        "userlist u\n  user admin password $6$poison groups g\n  user b insecure-password poison\nlisten s\n  \
             stats auth admin:poison\n  #stats auth a:poison\n  # user c insecure-password poison groups g,h or none\n  http-request set-header Authorization \"Basic poison\"\n  \
             stats uri /s\n  # the token of each of them is here\n",
        &["user admin password", "stats uri /s", "token of each of them is here"],
    ),
    (
        "hosts.toml",
        "server = \"https://robot:poison@r.example\"\n[host.\"https://r.example\".header]\n  \
             Authorization = [\"Basic poison\", \"poison\"]\n  x-api-key = \"poison\"\n",
        &["server = \"https://", "@r.example\""],
    ),
    (
        "docker.json",
        r#"{"auths":{"r.example":{"auth":"poison","email":"a@b"}},"credsStore":"x","secret": "poison"}"#,
        &["\"r.example\"", "a@b"],
    ),
    (
        "manifest.yaml",
        "spec:\n  - --token=poison --v=2\n  - --enable-bootstrap-token-auth=true\n  automountServiceAccountToken: false\n\
             authorization:\n  mode: Webhook\nstringData:\n  password: |\n    poison\n    poison\n  next: here\n\
             apiToken:\n  poison\nbootstrapTokens:\n- token: poison\n  ttl: 1h\ntokens:\n  - poison\n\
             quotedToken: \"poison\n  x: poison\"\nend: here\n",
        &[
            "--v=2",
            "auth=true",
            "Token: false",
            "mode: Webhook",
            "next: here",
            "ttl: 1h",
            "end: here",
        ],
    ),
    (
        "unit.service",
        "Environment=\"HTTPS_PROXY=http://a:poison@p.example:3128\"\nEnvironment=DB_PASSWORD=poison\nUser=root\n",
        &["p.example:3128", "User=root"],
    ),
    (
        "both.pem",
        "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\npoison\n\
             -----END EC PRIVATE KEY-----\nlast\n",
        &["QUJD\n-----END CERTIFICATE-----", "last"],
    ),
    (
        "inline.yaml",
        "key: \"-----BEGIN PRIVATE KEY-----\\npoison\\n-----END PRIVATE KEY-----\\n\"\nnext: here\n\
             cut: |\n  -----BEGIN PRIVATE KEY-----\n  poison\n",
        &["next: here"],
    ),
];

#[test]
fn no_secret_of_a_file_that_others_wrote_leaves_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut w = WatchList::default();
    for (name, text, _) in WITH_SECRETS {
        std::fs::write(path(name), text).unwrap();
        w.files.insert(path(name));
        w.texts.insert(path(name));
    }
    let f = facts(&name(), &w, &this_machine(&w)).unwrap();
    for (name, was, kept) in WITH_SECRETS {
        let text = f.texts[&path(name)].as_deref().unwrap();
        assert!(!text.replace("poison-free", "").contains("poison"), "{text}");
        for part in kept {
            assert!(text.contains(part), "{part} is gone:\n{text}");
        }
        assert_eq!(text.lines().count(), was.lines().count(), "{text}");
    }
    let config = f.texts[&path("config.toml")].as_deref().unwrap();
    assert!(config.parse::<toml::Table>().is_ok(), "{config}");
}

#[test]
fn what_others_may_not_read_is_shown_only_if_kubastion_wrote_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let ours = "# Made by kubastion.\nlevel = 1\n";
    let mut w = WatchList::default();
    for (name, mode, text) in [
        ("open", 0o644, "level = 1\n"),
        ("closed", 0o600, "poison = 1\n"),
        ("group", 0o640, "poison = 1\n"),
        ("ours", 0o600, ours),
        ("10-kubastion.conflist", 0o600, "{}\n"),
    ] {
        std::fs::write(path(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path(name), mode).unwrap();
        w.files.insert(path(name));
        w.shown.insert(path(name));
    }
    std::os::unix::fs::symlink(path("closed"), path("link")).unwrap();
    w.files.insert(path("link"));
    w.shown.insert(path("link"));
    let answer = this_machine(&w);
    assert!(!String::from_utf8_lossy(&answer).contains("poison"));
    let f = facts(&name(), &w, &answer).unwrap();
    assert_eq!(f.texts[&path("open")].as_deref(), Some("level = 1\n"));
    assert_eq!(f.texts[&path("ours")].as_deref(), Some(ours));
    assert_eq!(f.texts[&path("10-kubastion.conflist")].as_deref(), Some("{}\n"));
    assert!(f.texts[&path("closed")].is_none() && f.texts[&path("group")].is_none());
    // What checks ask for they get: they keep no text.
    let checks = WatchList { texts: w.shown.clone(), shown: Default::default(), ..w };
    let f = facts(&name(), &checks, &this_machine(&checks)).unwrap();
    assert_eq!(f.texts[&path("closed")].as_deref(), Some("poison = 1\n"));
}

/// A diff that showed them as changed would be no help.
#[test]
fn what_kubastion_writes_without_secrets_is_shown_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = WatchList::default();
    let mut written = BTreeMap::new();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for node in walk(&golden) {
        let items = std::fs::read_to_string(&node).unwrap();
        // Each item is a paragraph; the lines of its text have a mark.
        for item in items.split("\n\n") {
            let text: String = item
                .lines()
                .filter_map(|l| l.strip_prefix("  | ").or_else(|| l.strip_prefix("  |")))
                .flat_map(|l| [l, "\n"])
                .collect();
            if !text.is_empty() {
                let path = dir.path().join(written.len().to_string()).display().to_string();
                std::fs::write(&path, &text).unwrap();
                w.files.insert(path.clone());
                w.texts.insert(path.clone());
                written.insert(path, text);
            }
        }
    }
    assert!(written.len() > 100, "{} texts", written.len());
    let f = facts(&name(), &w, &this_machine(&w)).unwrap();
    for (path, text) in written {
        assert_eq!(f.texts[&path].as_deref(), Some(text.as_str()));
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.file_name().is_some_and(|n| n == "items.txt") {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_answer_cut_off_anywhere_is_an_error() {
    let w = watch(&[("F", "/etc/passwd"), ("F", "/etc/group")]);
    let whole = this_machine(&w);
    assert!(facts(&name(), &w, &whole).is_ok());
    for cut in (0..whole.len() - 5).step_by(7) {
        assert!(facts(&name(), &w, &whole[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_path_that_cannot_be_read_is_not_absent() {
    let w = watch(&[("F", "/a"), ("F", "/b")]);
    let answer = |said: &str| {
        let text = String::from_utf8(this_machine(&WatchList::default())).unwrap();
        text.replace(
            "@stat\n",
            &format!(
                "@stat\nstat: cannot statx '/a': No such file or directory\n{said}@links\n@sha256\n"
            ),
        )
    };
    let io = answer("stat: cannot statx '/b': Input/output error\n");
    let e = facts(&name(), &w, io.as_bytes()).unwrap_err();
    assert!(e.to_string().contains("/b") && e.to_string().contains("Input/output"), "{e}");
    let unread = answer("81a4 root root 5 /b\n");
    assert!(matches!(facts(&name(), &w, unread.as_bytes()), Err(ParseError::Path { .. })));
    let silent = answer("");
    assert!(matches!(facts(&name(), &w, silent.as_bytes()), Err(ParseError::Path { .. })));
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        let _ = facts(&name(), &watch(&[("F", "/a"), ("U", "x.service")]), &bytes);
    }

    #[test]
    fn no_mangled_answer_panics(at in 0usize..4000, byte in proptest::num::u8::ANY) {
        let w = watch(&[("F", "/etc/passwd")]);
        let mut answer = this_machine(&w);
        let at = at % answer.len();
        answer[at] = byte;
        let _ = facts(&name(), &w, &answer);
    }
}
