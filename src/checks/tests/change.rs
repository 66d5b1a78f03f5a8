//! What somebody changes on a node, in a word each.

use super::*;

pub(super) fn accounts(seen: &mut Observed) -> &mut Accounts {
    seen.live.as_mut().unwrap().accounts.as_mut().unwrap()
}

/// A file of apt's sources.
pub(super) fn source(seen: &mut Observed, path: &str, text: &str) {
    seen.live.as_mut().unwrap().apt_sources.push((path.to_owned(), text.to_owned()));
}

/// A pipe where a file should be.
pub(super) fn irregular(seen: &mut Observed, path: &str) {
    let found = Irregular { kind: "a FIFO", path: path.to_owned() };
    seen.live.as_mut().unwrap().irregular.as_mut().unwrap().push(found);
}

/// A library that sshd has loaded, which no package has if it is `foreign`.
pub(super) fn runs_code_of(seen: &mut Observed, path: &str, foreign: bool) {
    let live = seen.live.as_mut().unwrap();
    live.processes.last_mut().unwrap().mapped.push(path.to_owned());
    if foreign {
        let path = path.trim_end_matches(" (deleted)").to_owned();
        live.unowned.as_mut().unwrap().insert(path);
    }
}

/// A program that runs as root, or as root's group.
pub(super) fn set_id(seen: &mut Observed, mode: u32, path: &str) {
    let (owner, group, path) = ("root".to_owned(), "root".to_owned(), path.to_owned());
    let found = SetId { mode, owner, group, path };
    seen.live.as_mut().unwrap().set_id.as_mut().unwrap().push(found);
}

/// A program with file capabilities.
pub(super) fn capable(seen: &mut Observed, path: &str, held: Option<u64>) {
    seen.live.as_mut().unwrap().capable.as_mut().unwrap().push((path.to_owned(), held));
}

/// The journal of the node.
pub(super) fn journal(seen: &mut Observed) -> &mut Journal {
    seen.live.as_mut().unwrap().journal.as_mut().unwrap()
}

/// A rule of our table that its file does not have, whatever the record says.
pub(super) fn rule_added(seen: &mut Observed) {
    let rule = serde_json::json!({"rule": {"family": "inet", "table": "kubastion", "chain": "input", "handle": 99, "expr": [
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "203.0.113.77"}},
        {"accept": null},
    ]}});
    let rules = seen.live.as_mut().unwrap().rules.as_mut().unwrap();
    rules["nftables"].as_array_mut().unwrap().push(rule);
}

/// A mount that went after the daemons had started.
pub(super) fn unmounted(seen: &mut Observed, path: &str) {
    let gone = MountChange { path: path.to_owned(), at_s: BEGAN_S + 1.0 };
    seen.live.as_mut().unwrap().mounts.as_mut().unwrap().push(gone);
}

/// A rule of another table with one statement.
pub(super) fn foreign_rule(seen: &mut Observed, statement: &str) {
    let rule = serde_json::json!({"nftables": [{"rule": {
        "family": "ip", "table": "other", "chain": "pre", "expr": [{statement: null}],
    }}]});
    seen.live.as_mut().unwrap().foreign_rules.as_mut().unwrap().push(rule);
}

/// A unit as systemd has read it.
pub(super) fn live_unit<'s>(seen: &'s mut Observed, name: &str) -> &'s mut LiveUnit {
    seen.live.as_mut().unwrap().units.entry(name.to_owned()).or_default()
}

/// A file of root's that nobody else can read.
pub(super) fn left_privately(seen: &mut Observed, path: &str) {
    let live = seen.live.as_mut().unwrap();
    let like = live.paths["/etc/ssh/sshd_config"].clone();
    live.trees.insert(path.to_owned(), like);
}

/// A file that everybody can read, and only root write.
pub(super) fn left(seen: &mut Observed, path: &str) {
    let live = seen.live.as_mut().unwrap();
    let like = live.paths["/etc/ssh/sshd_config"].clone();
    live.trees.insert(path.to_owned(), PathAccess { mode: 0o644, ..like });
}

pub(super) type Break = fn(&mut Observed);

pub(super) fn argv(seen: &mut Observed, daemon: Daemon) -> &mut Vec<String> {
    &mut seen.processes.as_mut().unwrap().get_mut(daemon.comm()).unwrap()[0].argv
}

pub(super) fn flag(seen: &mut Observed, daemon: Daemon, name: &str, value: Option<&str>) {
    let prefix = format!("--{name}=");
    let argv = argv(seen, daemon);
    argv.retain(|a| !a.starts_with(&prefix));
    argv.extend(value.map(|v| format!("{prefix}{v}")));
}

/// A setting below a `Match` line of sshd.
pub(super) fn for_some(seen: &mut Observed, key: &str, value: &str) {
    let file = "/etc/ssh/sshd_config.d/50-some.conf".to_owned();
    let setting = SshdMatch { file, key: key.into(), value: value.into() };
    seen.sshd_matches.as_mut().unwrap().push(setting);
}

pub(super) fn setting(seen: &mut Observed, key: &str, value: &str) {
    let text = seen.texts.get_mut("/var/lib/kubelet/config.yaml").unwrap().as_mut().unwrap();
    let mut document: crate::yaml::Value = crate::yaml::from_text(text).unwrap();
    let mut at = &mut document;
    for part in key.split('.') {
        at = &mut at[part];
    }
    *at = crate::yaml::from_text(value).unwrap();
    *text = crate::yaml::to_text(&document);
}

pub(super) fn owner(seen: &mut Observed, path: &str, mode: u32, owner: &str) {
    let facts = FileFacts::File {
        mode,
        owner: owner.into(),
        group: "root".into(),
        size: 9,
        sha256: "0".repeat(64),
    };
    seen.files.insert(path.into(), facts);
    seen.trees = Some(trees(&seen.files));
}

/// One more of apt's settings, which counts as the last of its name.
pub(super) fn apt(seen: &mut Observed, name: &str, value: &str) {
    seen.live.as_mut().unwrap().apt.as_mut().unwrap().push((name.into(), value.into()));
}

/// One more drop-in of a unit that runs.
pub(super) fn drop_in(seen: &mut Observed, unit: &str, path: &str) {
    let units = &mut seen.live.as_mut().unwrap().units;
    let like = units["ssh.service"].clone();
    units.entry(unit.to_owned()).or_insert(like).drop_ins.push(path.to_owned());
}

/// What `sshd -T` says of a keyword.
pub(super) fn effective(seen: &mut Observed, key: &str, value: &str) {
    seen.sshd.as_mut().unwrap().insert(key.into(), vec![value.into()]);
}

/// A kubeconfig of a group in somebody's home directory.
pub(super) fn left_behind(seen: &mut Observed, group: &str, user: &str) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let path = "/home/eve/.kube/config".to_owned();
    let found = HomeKubeconfig { path, certificates: vec![certificate], mode: Some(0o600) };
    seen.live.as_mut().unwrap().kubeconfigs.as_mut().unwrap().push(found);
}

/// Who may write a path, as the node tells it.
pub(super) fn access(seen: &mut Observed, path: &str, mode: u32, owner: &str) {
    let access = PathAccess {
        kind: PathKind::Directory,
        mode,
        uid: if owner == "root" { 0 } else { 1000 },
        owner: owner.into(),
        changed_s: WRITTEN_S,
        target: String::new(),
    };
    seen.live.as_mut().unwrap().paths.insert(path.into(), access);
}

/// Puts a link in the place of what is there, and of all below it.
pub(super) fn link(seen: &mut Observed, path: &str) {
    let entry = TreeEntry {
        kind: EntryKind::Symlink,
        mode: 0o777,
        owner: "root".into(),
        group: "root".into(),
    };
    for (dir, tree) in seen.trees.as_mut().unwrap() {
        if path == dir {
            tree.entries.clear();
        }
        if path.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/')) {
            tree.entries.insert(path.to_owned(), entry.clone());
        }
    }
}

pub(super) fn text(seen: &mut Observed, path: &str, from: &str, to: &str) {
    let text = seen.texts.get_mut(path).unwrap().as_mut().unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    *text = text.replace(from, to);
}

/// A certificate for longer than a leaf may live.
pub(super) fn long_lived() -> String {
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) = (NOW, NOW + time::Duration::days(3000));
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// Changes the rules in the kernel, in the words of `nft -j`.
pub(super) fn rules(seen: &mut Observed, from: &str, to: &str) {
    let live = seen.live.as_mut().unwrap();
    let text = live.rules.take().unwrap().to_string();
    let changed = text.replace(from, to);
    assert_ne!(text, changed, "{from}");
    live.rules = Some(serde_json::from_str(&changed).unwrap());
}

/// The process of a daemon that is in effect.
pub(super) fn process(seen: &mut Observed, daemon: Daemon) -> &mut LiveProcess {
    let all = &mut seen.live.as_mut().unwrap().processes;
    all.iter_mut().find(|p| p.comm == daemon.comm()).unwrap()
}
