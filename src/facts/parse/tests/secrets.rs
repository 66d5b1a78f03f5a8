//! What never leaves a node with the texts of its files, and what does.

use super::*;

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
    w.extras.extend([Extra::Lsm, Extra::Time, Extra::Audit]);
    let answer = this_machine(&w);
    assert!(!String::from_utf8_lossy(&answer).contains("c2VjcmV0"));
    assert!(!String::from_utf8_lossy(&answer).contains("QUJD"));
    let f = facts(&name(), &w, WORD, &answer).unwrap();
    let text = f.texts[&path("config")].as_deref().unwrap();
    assert!(text.contains("name: k1") && text.ends_with("@stat\n"), "{text}");
    assert!(crate::yaml::parse(text.trim_end_matches("@stat\n")).is_ok());
    assert!(!f.texts.contains_key(&path("gone")));
    let tree = f.trees.values().next().unwrap();
    assert!(tree.complete && tree.entries.contains_key(&path("config")));
    assert!(tree.entries.contains_key(&path("evil\u{fffd}@stat\u{fffd}name")));
    assert!(f.lsm.is_some() && f.time.is_some());
}

/// Files as people and other programs leave them, with what may not leave the node in them and what
/// is to stay.
const WITH_SECRETS: &[(&str, &str, &[&str])] = &[
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
    for &(name, text, _) in WITH_SECRETS {
        std::fs::write(path(name), text).unwrap();
        w.files.insert(path(name));
        w.texts.insert(path(name));
    }
    let f = facts(&name(), &w, WORD, &this_machine(&w)).unwrap();
    for &(name, was, kept) in WITH_SECRETS {
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
    let f = facts(&name(), &w, WORD, &answer).unwrap();
    assert_eq!(f.texts[&path("open")].as_deref(), Some("level = 1\n"));
    assert_eq!(f.texts[&path("ours")].as_deref(), Some(ours));
    assert_eq!(f.texts[&path("10-kubastion.conflist")].as_deref(), Some("{}\n"));
    assert!(f.texts[&path("closed")].is_none() && f.texts[&path("group")].is_none());
    // What checks ask for they get: they keep no text.
    let checks = WatchList { texts: w.shown.clone(), shown: Default::default(), ..w };
    let f = facts(&name(), &checks, WORD, &this_machine(&checks)).unwrap();
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
    let f = facts(&name(), &w, WORD, &this_machine(&w)).unwrap();
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
