//! The key store, for verbs that need what is in it.

use std::collections::BTreeMap;

use super::observe::{self, Fleet, Reach};
use crate::clock::Clock;
use crate::desired::held_cas;
use crate::error::Problem;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Pki, StoreEncryption};
use crate::pki::{
    self, Ask, Assessment, Ca, Contents, Entry, Issued, Material, PkiError, Prepared, Store,
};
use crate::plain::counted;
use crate::plan::Answered;
use crate::secret::{self, Secret};
use crate::transport::ssh::SshDialer;
use crate::workflow::command_error::{CommandError, Exit};

/// Whether the key store may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PkiUse {
    /// Issue what is due.
    Ensure,
    /// Only read; what is due is a problem.
    ReadOnly,
}

fn stop(e: PkiError) -> CommandError {
    CommandError::from(&e)
}

/// The passphrase of the store: from its file, else from the terminal.
///
/// # Errors
/// If there is neither, or the two entries for a new store differ.
pub(super) fn ask_passphrase(pki: &Pki, ask: Ask) -> std::io::Result<Secret<String>> {
    if let Some(file) = &pki.store.passphrase_file {
        return Store::read_passphrase_file(file).map_err(std::io::Error::other);
    }
    let prompt = |text: &str| rpassword::prompt_password(text).map(Secret::new);
    let place = pki.dir.display();
    let first = match ask {
        Ask::Open => return prompt(&format!("Passphrase of the key store {place}: ")),
        Ask::New => prompt(&format!("Passphrase for the new key store {place}: "))?,
    };
    let again = prompt("Repeat the passphrase: ")?;
    if first.expose().is_empty() {
        return Err(std::io::Error::other("the passphrase is empty"));
    }
    if !secret::equal(first.expose().as_bytes(), again.expose().as_bytes()) {
        return Err(std::io::Error::other("the two entries differ"));
    }
    Ok(first)
}

/// Opens the key store.
///
/// # Errors
/// A store that cannot be used.
pub fn open(loaded: &Loaded) -> Result<Store, CommandError> {
    let inventory = &loaded.inventory;
    let ask = |ask| ask_passphrase(&inventory.pki, ask);
    Store::open(&inventory.pki, &inventory.cluster.name, &ask).map_err(stop)
}

/// How everything in the store stands.
///
/// # Errors
/// A store that cannot be used.
pub fn assess(loaded: &Loaded) -> Result<Vec<Assessment>, CommandError> {
    let contents = open(loaded)?.contents().map_err(stop)?;
    Ok(pki::assess(&loaded.inventory, &contents, Clock::System.now()))
}

/// Issues what is due, into the store.
///
/// # Errors
/// What cannot be issued or written.
pub fn issue_due(loaded: &Loaded, store: &mut Store) -> Result<Vec<Issued>, CommandError> {
    let inventory = &loaded.inventory;
    let ask = |ask| ask_passphrase(&inventory.pki, ask);
    let (_, issued) = pki::ensure(inventory, store, &ask, Clock::System).map_err(stop)?;
    Ok(issued)
}

/// Takes out of the store what the nodes need.
///
/// # Errors
/// Anything that is missing or due.
pub fn material(loaded: &Loaded, store: Store) -> Result<Material, CommandError> {
    let inventory = &loaded.inventory;
    let contents = store.contents().map_err(stop)?;
    let due = pki::assess(inventory, &contents, Clock::System.now());
    pki::refuse_imported(inventory, &due).map_err(stop)?;
    let due = due.iter().filter(|a| a.is_to_be_issued()).count();
    if due > 0 {
        let show =
            "run `kubastion pki status` to see them, and `kubastion pki ensure` to issue them";
        let hint = match store.has_cas() {
            true => show.to_owned(),
            false => format!("{show}; if the cluster already exists, {RESTORE}"),
        };
        let problem = Problem::new(format!(
            "{} to be issued first",
            counted(due, "certificate or key is/certificates or keys are")
        ))
        .at(inventory.pki.dir.display().to_string())
        .hint(hint);
        return Err(CommandError::one(Exit::Pending, problem));
    }
    Material::from_contents(inventory, &contents).map_err(stop)
}

/// The keys of a run. Due ones are generated with the plan, and written to the store after the operator confirms.
pub enum Keys {
    /// The store's own.
    Stored(Material),
    /// With some that are not in the store yet.
    Due(Box<Prepared>, Store),
}

impl Keys {
    /// Those of a run that was planned before: it gets exactly those that it was planned with.
    ///
    /// # Errors
    /// Anything that is missing or due.
    pub fn of_a_saved_plan(loaded: &Loaded, store: Store) -> Result<Self, CommandError> {
        material(loaded, store).map(Self::Stored)
    }

    /// With what is due.
    ///
    /// # Errors
    /// What cannot be issued.
    pub fn with_those_due(loaded: &Loaded, store: Store) -> Result<Self, CommandError> {
        let prepared = pki::prepare(&loaded.inventory, &store, Clock::System).map_err(stop)?;
        Ok(Self::Due(Box::new(prepared), store))
    }

    /// The keys and certificates.
    pub fn material(&self) -> &Material {
        match self {
            Self::Stored(material) => material,
            Self::Due(prepared, _) => prepared.material(),
        }
    }

    /// What will be issued, in words; `None` if nothing will.
    pub fn due(&self) -> Option<String> {
        let Self::Due(prepared, _) = self else { return None };
        let count = prepared.issued().len();
        (count > 0).then(|| counted(count, "certificate or key/certificates and keys"))
    }

    /// Writes what is due into the store. Returns what the operator should know of it.
    ///
    /// # Errors
    /// A store that cannot be written, or was written by somebody else meanwhile.
    pub fn keep(&mut self, loaded: &Loaded) -> Result<Vec<String>, CommandError> {
        let due = self.due();
        let Self::Due(prepared, store) = self else { return Ok(Vec::new()) };
        let ask = |ask| ask_passphrase(&loaded.inventory.pki, ask);
        prepared.keep(store, &ask).map_err(stop)?;
        let issued = due.map(|due| format!("pki: {due} issued"));
        Ok(issued.into_iter().chain(new_cas(&loaded.inventory, prepared.issued())).collect())
    }
}

/// Where CAs were made that the cluster will stand on, and who can read them, in words; `None` if none was made.
pub fn new_cas(inventory: &Inventory, issued: &[Issued]) -> Option<String> {
    if !issued.iter().any(|i| matches!(i.entry, Entry::Ca(_))) {
        return None;
    }
    let keys = match inventory.pki.store.encryption {
        StoreEncryption::None => {
            "the store's private keys are NOT encrypted (set `pki.store.encryption` before the first `pki ensure`)"
        }
        StoreEncryption::AgeRecipients => {
            "the store's private keys are encrypted to its recipients"
        }
        StoreEncryption::AgePassphrase => {
            "the store's private keys are encrypted with its passphrase"
        }
    };
    Some(format!(
        "pki: new CAs were created in {}: {keys}. Back up this directory: without it, the cluster cannot be administered",
        inventory.pki.dir.display()
    ))
}

/// Reads keys and looks at nodes. Keys come first where the store has all CAs, so that expired ones are reported
/// before any node is contacted; where CAs are missing, the nodes decide first whether new ones may be created.
///
/// # Errors
/// Those of `read_keys`, and if CAs are missing that nodes hold or may hold.
pub(super) fn read_and_look<T>(
    loaded: &Loaded,
    nodes: &[&Node],
    reach: &Reach,
    pki_use: PkiUse,
    read_keys: impl Fn(Store) -> Result<T, CommandError>,
) -> Result<(T, SshDialer, Fleet), CommandError> {
    let store = open(loaded)?;
    if !store.has_cas() {
        let none = pki::assess(&loaded.inventory, &Contents::default(), Clock::System.now());
        pki::refuse_imported(&loaded.inventory, &none).map_err(stop)?;
    }
    let early = match store.missing_cas().is_empty() {
        true => Ok(read_keys(store)?),
        false => Err(store),
    };
    let dialer = observe::dialer(&loaded.inventory, nodes, reach)?;
    let fleet = observe::read_nodes(&loaded.inventory, &loaded.files, nodes, &dialer);
    let keys = match early {
        Ok(keys) => keys,
        Err(store) => {
            refuse_second_cas(loaded, &store, &fleet, &dialer, reach, pki_use)?;
            read_keys(store)?
        }
    };
    Ok((keys, dialer, fleet))
}

/// How to come to the store of a cluster that is there.
const RESTORE: &str =
    "set `pki.dir` to the cluster's key store, or restore the store from a backup";

/// Refuses to go on without CAs where nodes hold some: new ones would be those of another cluster. All control
/// planes and etcd members are asked, also if they were not chosen; where one cannot be looked at, it may hold some.
///
/// # Errors
/// If CAs are missing here, and a node holds them, or is part of a cluster, or did not answer.
fn refuse_second_cas(
    loaded: &Loaded,
    store: &Store,
    fleet: &Fleet,
    dialer: &SshDialer,
    reach: &Reach,
    pki_use: PkiUse,
) -> Result<(), CommandError> {
    let missing = store.missing_cas();
    if missing.is_empty() {
        return Ok(());
    }
    let inventory = &loaded.inventory;
    let holds = |n: &&Node| inventory.serves(n);
    let asked =
        |n: &NodeName| fleet.facts.answered.contains_key(n) || fleet.facts.failed.contains_key(n);
    let others: Vec<&Node> =
        inventory.nodes.iter().filter(holds).filter(|n| !asked(&n.name)).collect();
    // They may want a password for sudo where the chosen ones want none.
    let own = match &dialer.credentials.sudo_password {
        // Nothing is made without them, and nobody need be asked for a password.
        None if !others.is_empty() && pki_use == PkiUse::Ensure => {
            Some(observe::dialer(inventory, &others, reach)?)
        }
        _ => None,
    };
    let others =
        observe::read_nodes(inventory, &loaded.files, &others, own.as_ref().unwrap_or(dialer));
    let all = fleet.facts.answered.iter().chain(&others.facts.answered);
    if let Some(problem) = second_cas(inventory, &missing, all) {
        return Err(CommandError::one(Exit::InvalidInput, problem));
    }
    // Nothing is made then, and what is missing is said.
    if pki_use == PkiUse::ReadOnly {
        return Ok(());
    }
    let lost = fleet.facts.failed.iter().chain(&others.facts.failed);
    let lost =
        lost.filter(|(name, _)| inventory.nodes.iter().any(|n| n.name == **name && holds(&n)));
    let mut problems: Vec<Problem> = lost.map(|(_, problem)| problem.clone()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    problems.push(
        Problem::new("CAs are missing in the key store, and nodes may already have some")
            .at(inventory.pki.dir.display().to_string())
            .because("a control plane or an etcd member could not be checked")
            .left("no CA was created, and no node was changed")
            .hint(format!(
                "if the cluster already exists, {RESTORE}; for a new cluster, run `kubastion pki ensure` to \
                 create the CAs"
            )),
    );
    Err(CommandError { exit: Exit::NodeFailed, problems })
}

fn second_cas<'s>(
    inventory: &Inventory,
    missing: &[Ca],
    nodes: impl Iterator<Item = (&'s NodeName, &'s Answered)>,
) -> Option<Problem> {
    let mut held: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, seen) in nodes {
        let paths: Vec<&str> = held_cas(&seen.facts)
            .filter(|held| missing.contains(&held.ca))
            .map(|held| held.path)
            .collect();
        let what = match paths.is_empty() {
            false => format!("with the CA certificates {}", paths.join(", ")),
            true if seen.is_member() => "as part of a cluster".to_owned(),
            true => continue,
        };
        held.entry(what).or_default().push(name.as_str());
    }
    if held.is_empty() {
        return None;
    }
    let what = match missing.len() == Ca::ALL.len() {
        true => "the key store has no CAs, but nodes already have some".to_owned(),
        false => {
            let names: Vec<&str> = missing.iter().map(|ca| ca.common_name()).collect();
            let names = names.join(", ");
            format!(
                "{names} is not in the key store, but nodes have it or are already part of a cluster"
            )
        }
    };
    let problem = Problem::new(what).at(inventory.pki.dir.display().to_string());
    let because = |p: Problem, (what, names): (&String, &Vec<&str>)| {
        p.because(format!("found {what}: {}", names.join(", ")))
    };
    Some(
        held.iter()
            .fold(problem, because)
            .left("no CA was created, and no node was changed")
            .hint(format!(
                "is this the right directory for the inventory? If not, {RESTORE}. To start over, run `kubastion \
                 reset` for nodes that kubastion set up, or `kubeadm reset` and the like for nodes that another \
                 tool set up"
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{FileFacts, NodeFacts};
    use crate::inventory::testing;
    use crate::plan::diff::CLUSTER_MARK;

    #[test]
    fn no_second_cas_are_made_for_nodes_that_have_some() {
        let inventory = testing::two_and_two();
        let said = |change: &dyn Fn(&mut NodeFacts)| {
            let mut facts = NodeFacts::bare("w1");
            change(&mut facts);
            let seen = Answered { host_key: String::new(), facts };
            second_cas(&inventory, Ca::ALL, [(&inventory.nodes[2].name, &seen)].into_iter())
                .map(|p| p.to_string())
                .unwrap_or_default()
        };
        assert_eq!(said(&|_| {}), "", "a new node");
        let absent = |f: &mut NodeFacts| {
            f.files.insert("/etc/kubernetes/pki/ca.crt".into(), FileFacts::Absent);
        };
        assert_eq!(said(&absent), "");
        for path in ["/etc/kubernetes/pki/ca.crt", "/etc/etcd/pki/ca.crt"] {
            let held = |f: &mut NodeFacts| {
                let (owner, group) = ("root".to_owned(), "root".to_owned());
                let file =
                    FileFacts::File { mode: 0o644, owner, group, size: 1, sha256: "0".repeat(64) };
                f.files.insert(path.into(), file);
            };
            let said = said(&held);
            for words in [path, ": w1", "no CA was created", "`pki.dir`", "kubastion reset"] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
        let linked = |f: &mut NodeFacts| {
            let target = "/srv/pki/ca.crt".to_owned();
            f.files.insert("/etc/kubernetes/pki/ca.crt".into(), FileFacts::Symlink { target });
        };
        assert!(said(&linked).contains("/etc/kubernetes/pki/ca.crt: w1"), "{}", said(&linked));
        let member = |f: &mut NodeFacts| {
            f.unit_marks.insert(CLUSTER_MARK.into(), "m".into());
        };
        assert!(said(&member).contains("as part of a cluster: w1"), "{}", said(&member));
    }

    #[test]
    fn a_store_that_lacks_one_ca_gets_no_other_one_for_nodes_that_hold_it() {
        let inventory = testing::two_and_two();
        let mut facts = NodeFacts::bare("cp1");
        let (owner, group) = ("root".to_owned(), "root".to_owned());
        let file = FileFacts::File { mode: 0o644, owner, group, size: 1, sha256: "0".repeat(64) };
        facts.files.insert("/etc/etcd/pki/ca.crt".into(), file);
        let seen = Answered { host_key: String::new(), facts };
        let said = |missing: &[Ca]| {
            second_cas(&inventory, missing, [(&inventory.nodes[0].name, &seen)].into_iter())
                .map(|p| p.to_string())
                .unwrap_or_default()
        };
        assert!(
            said(&[Ca::Etcd]).contains("etcd-ca is not in the key store"),
            "{}",
            said(&[Ca::Etcd])
        );
        assert_eq!(said(&[Ca::Cluster]), "", "that one is nowhere");
    }
}
