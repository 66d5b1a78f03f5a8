//! Writes the inventory of an existing cluster. Writes nothing on its nodes or in its API.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::finding::{Confirm, FoundCluster, Search, find};
use super::import_keys::{self, Collected};
use super::inventory::write_new;
use super::keys::ask_passphrase;
use super::observe::Reach;
use crate::apply::execution::Sessions;
use crate::discovery::imported::{
    self, Decision, Draft, Grant, Line, OpenConflict, Settled, Source,
};
use crate::discovery::{Changes, Found};
use crate::error::Problem;
use crate::facts::{NodeFacts, read_credentials};
use crate::inventory::{CaCustody, Comments, NodeName, Pki, Profile, Role, text};
use crate::pki::{self, Ca, FoundEncryption, Store, TakenOver};
use crate::workflow::command_error::{CommandError, Exit};

/// Name of the inventory in the directory that is written.
pub const FILE: &str = "inventory.yaml";

/// Directory of the key store beside it, as the inventory names it.
const KEYS: &str = "pki";

/// What somebody asks for.
pub struct ImportRequest {
    /// The cluster.
    pub search: Search,
    /// Which controls are wanted.
    pub profile: Profile,
    /// How nodes are reached; all of them.
    pub reach: Reach,
    /// The directory that is written.
    pub out: PathBuf,
    /// Who answers for controls that are switched off, and until when.
    pub grant: Grant,
}

/// Somebody who decides about conflicts.
pub trait Judge {
    /// Hears all of them before the first is decided.
    ///
    /// # Errors
    /// If there is nobody to decide.
    fn begin(&mut self, all: &[OpenConflict]) -> Result<(), CommandError>;

    /// Decides one.
    ///
    /// # Errors
    /// If nobody answers.
    fn decide(&mut self, conflict: &OpenConflict) -> Result<Decision, CommandError>;
}

/// What was imported.
pub struct Imported {
    /// The cluster as it was found.
    pub found: Found,
    /// What became of each setting.
    pub settled: Settled,
    /// The inventory's file.
    pub file: PathBuf,
}

/// Imports a cluster. `say` hears what is going on.
///
/// # Errors
/// An inventory that is there already, a machine that does not answer, a cluster that may not be changed, conflicts that nobody
/// decides, and an inventory that cannot be written.
pub fn import(
    request: ImportRequest,
    confirm: Confirm<'_>,
    judge: &mut dyn Judge,
    say: &dyn Fn(&str),
) -> Result<Imported, CommandError> {
    let ImportRequest { mut search, profile, reach, out, grant } = request;
    let file = out.join(FILE);
    if file.symlink_metadata().is_ok() {
        let problem = Problem::new("the inventory already exists")
            .at(file.display().to_string())
            .left("it is unchanged, and no machine was contacted")
            .hint("set --out to another directory");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let keys = out.join(KEYS);
    if keys.symlink_metadata().is_ok() {
        let problem = Problem::new("the key store already exists")
            .at(keys.display().to_string())
            .left("it is unchanged, and no machine was contacted")
            .hint("set --out to another directory");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    // The inventory may be elsewhere than the command line was.
    let access = &mut search.access;
    for path in [&mut access.key_file, &mut access.known_hosts].into_iter().flatten() {
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let met = find(search, &reach, confirm, say)?;
    let FoundCluster {
        found,
        access,
        named,
        objects,
        facts,
        host_keys,
        unreachable,
        mut sessions,
        ..
    } = met;
    if !unreachable.is_empty() {
        let problems = unreachable.into_values().map(|p| p.left("nothing was written")).collect();
        return Err(CommandError { exit: Exit::NodeFailed, problems });
    }
    let distribution = found.recognized.distribution;
    if distribution.changes == Changes::Refused {
        let problem = Problem::new(format!("{} clusters cannot be imported", distribution.name))
            .because("another program manages its settings, or its control plane cannot be reached")
            .left("nothing was written")
            .hint("run `kubastion assess` to judge what can be judged");
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    let texts = audit_policies(&found, &facts, &mut sessions);
    let Collected { keys, unread } = import_keys::collect(&found, &facts, &mut sessions);
    drop(sessions);
    let over = pki::take_over(&keys).map_err(|e| CommandError::from(&e))?;
    let source = Source {
        found: &found,
        objects: &objects,
        facts: &facts,
        host_keys: &host_keys,
        access: &access,
        named: &named,
        profile,
        texts: &texts,
    };
    let mut draft: Draft = imported::import(&source);
    judge.begin(&draft.conflicts())?;
    if let FoundEncryption::Keys(provider, _) = &keys.encryption {
        draft.inventory.encryption.provider = *provider;
    }
    if keys.cas.iter().any(|(ca, found)| *ca == Ca::Cluster && found.keys.is_empty()) {
        draft.inventory.pki.ca_custody = CaCustody::Operator;
    }
    let mut settled = imported::settle(draft, &grant, &mut |conflict| judge.decide(conflict))?;
    tell(&over, unread, &mut settled);

    std::fs::create_dir_all(&out).map_err(|e| unwritten(&out, &e))?;
    write_new(&file, &text(&settled.inventory, &comments(&found, &settled)))?;
    for (name, text) in &settled.files {
        let path = out.join(name);
        let written = std::fs::File::create_new(&path).and_then(|mut f| {
            f.write_all(text.as_bytes())?;
            f.sync_all()
        });
        written.map_err(|e| unwritten(&path, &e))?;
    }
    let place = Pki { dir: out.join(KEYS), ..settled.inventory.pki.clone() };
    let ask = |ask| ask_passphrase(&place, ask);
    Store::open(&place, &settled.inventory.cluster.name, &ask)
        .and_then(|mut store| over.keep(&mut store, &ask))
        .map_err(|e| CommandError::from(&e))?;
    Ok(Imported { found, settled, file })
}

/// Lists what the key store has taken over from the cluster, and what it lacks.
fn tell(over: &TakenOver, unread: Vec<(NodeName, String)>, settled: &mut Settled) {
    let line = |what: String, value: Option<&String>, now: &str| Line {
        what,
        value: value.cloned().unwrap_or_default(),
        at: "control planes and etcd members".to_owned(),
        now: now.to_owned(),
    };
    for one in &over.taken {
        let what = one.entry.to_string();
        match &one.lacks {
            None => settled.taken_over.push(line(what, one.sha256.as_ref(), "the key store")),
            Some(why) if one.sha256.is_some() => {
                settled.taken_over.push(line(what.clone(), one.sha256.as_ref(), "the key store"));
                settled.not_taken_over.push(line(format!("key of the {what}"), None, why));
            }
            Some(why) => settled.not_taken_over.push(line(what, None, why)),
        }
    }
    let unread = unread.into_iter().map(|(node, why)| Line {
        at: node.to_string(),
        ..line("keys on the node".to_owned(), None, &why)
    });
    settled.not_taken_over.extend(unread);
}

fn unwritten(path: &Path, e: &std::io::Error) -> CommandError {
    let problem = Problem::from_error("the import cannot be written", e);
    CommandError::one(Exit::InvalidInput, problem.at(path.display().to_string()))
}

/// Audit policies that API servers run with, by path, where all control planes have the same.
fn audit_policies(
    found: &Found,
    facts: &BTreeMap<NodeName, NodeFacts>,
    sessions: &mut Sessions,
) -> BTreeMap<String, String> {
    const FLAG: &str = "--audit-policy-file=";
    let planes: Vec<&NodeName> =
        found.nodes.iter().filter(|n| n.role == Role::ControlPlane).map(|n| &n.name).collect();
    let argv = planes
        .iter()
        .filter_map(|n| facts.get(*n)?.processes.get("kube-apiserver"))
        .flatten()
        .flat_map(|p| &p.argv);
    let paths: BTreeSet<&str> = argv.filter_map(|w| w.strip_prefix(FLAG)).collect();
    let mut texts = BTreeMap::new();
    for path in paths {
        let mut seen: BTreeSet<Option<String>> = BTreeSet::new();
        for plane in &planes {
            let held = sessions
                .get_mut(*plane)
                .and_then(|session| read_credentials(session.as_mut(), &[path]).ok());
            seen.insert(held.and_then(|held| held.text(path)).filter(|text| is_policy(text)));
        }
        if let (1, Some(Some(text))) = (seen.len(), seen.into_iter().next()) {
            texts.insert(path.to_owned(), text);
        }
    }
    texts
}

/// Whether a text is a policy that an inventory can name.
fn is_policy(text: &str) -> bool {
    let Ok(document) = crate::yaml::parse(text) else { return false };
    let is = |key: &str, value: &str| document.get(key).and_then(|v| v.as_str()) == Some(value);
    is("apiVersion", "audit.k8s.io/v1") && is("kind", "Policy")
}

/// Comments for whoever reads the file.
fn comments(found: &Found, settled: &Settled) -> Comments {
    let mut all = Comments::new();
    let mut head = vec![
        format!("Imported from a running cluster ({}).", found.release),
        "Every key: kubastion inventory reference. Effective values: kubastion inventory show."
            .to_owned(),
    ];
    if !settled.not_taken_over.is_empty() {
        head.push("\nNot taken over; decide on each:".to_owned());
        let line = |l: &Line| {
            let value = if l.value.is_empty() { String::new() } else { format!(" {}", l.value) };
            let said = format!("- {}{value} ({}): {}", l.what, l.at, l.now);
            crate::plain::plain_line(&said).to_string()
        };
        head.extend(settled.not_taken_over.iter().map(line));
    }
    all.insert("", head);
    let mut hardening = vec![
        "The cluster is observed first: apply this, and `kubastion impact` lists who would notice the hardening. Fix or"
            .to_owned(),
        "acknowledge each item, then set `stage: enforce`.".to_owned(),
    ];
    if settled.conflicts.iter().any(|c| c.decision == "keep") {
        hardening.push(
            "These controls are off to keep the cluster's settings: decide on each before it expires.".to_owned(),
        );
    }
    all.insert("hardening", hardening);
    all.insert(
        "firewall",
        vec![
            "`admin_networks`: who may reach sshd and the API server. Until it is set, everyone."
                .into(),
            "`extra_rules`: the node ports and host ports that clients use.".into(),
        ],
    );
    all.insert("runtime", vec!["Another tool installed the pod network.".to_owned()]);
    if settled.inventory.etcd.placement == crate::inventory::EtcdPlacement::Stacked {
        all.insert(
            "etcd",
            vec![
                "etcd keeps running as static pods, as root. Set `control-plane` to turn the members into systemd services of their own"
                    .into(),
                "user, one at a time and with their data. This needs etcd from a bundle or from packages."
                    .into(),
            ],
        );
    }
    all
}
