//! The key store, for verbs that need what is in it. The verb that is about it is in [`super::pki`].

use std::collections::BTreeMap;

use super::exit::Exit;
use super::pipeline::{self, Fleet, Seen};
use super::run::Stop;
use crate::clock::Clock;
use crate::desired::held_cas;
use crate::error::Problem;
use crate::inventory::{Inventory, Loaded, Node, NodeName, Role, StoreEncryption};
use crate::pki::{self, Entry, Issued, Material, PkiError, Store};
use crate::plain::counted;
use crate::transport::Dialer;

/// Whether the key store may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PkiUse {
    /// Issue what is due.
    Ensure,
    /// Only read; what is due is a problem.
    ReadOnly,
}

fn stop(e: PkiError) -> Stop {
    super::pki::stop(&e)
}

/// Opens the key store.
///
/// # Errors
/// A store that cannot be used.
pub fn open(loaded: &Loaded) -> Result<Store, Stop> {
    let inventory = &loaded.inventory;
    let ask = |ask| super::pki::ask_passphrase(&inventory.pki, ask);
    Store::open(&inventory.pki, &inventory.cluster.name, &ask).map_err(stop)
}

/// Takes out of the store what the nodes need.
///
/// # Errors
/// With [`PkiUse::Ensure`], what cannot be issued; with [`PkiUse::ReadOnly`], anything that is missing or
/// expired.
pub fn material(loaded: &Loaded, mut store: Store, pki_use: PkiUse) -> Result<Material, Stop> {
    let inventory = &loaded.inventory;
    if pki_use == PkiUse::Ensure {
        let ask = |ask| super::pki::ask_passphrase(&inventory.pki, ask);
        let (material, issued) =
            pki::ensure(inventory, &mut store, &ask, Clock::System).map_err(stop)?;
        if !issued.is_empty() {
            let what = "certificate or key/certificates and keys";
            eprintln!("pki: {} issued", counted(issued.len(), what));
        }
        say_if_new(inventory, &issued);
        return Ok(material);
    }
    let contents = store.contents().map_err(stop)?;
    let due = pki::assess(inventory, &contents, Clock::System.now())
        .iter()
        .filter(|a| a.is_to_be_issued())
        .count();
    if due > 0 {
        let show = "`kubastion pki status` shows them, `kubastion pki ensure` issues them";
        let hint = match store.has_cas() {
            true => show.to_owned(),
            false => format!("{show}; where the cluster is there already, {RESTORE}"),
        };
        let problem = Problem::new(format!(
            "{} to be issued first",
            counted(due, "certificate or key is/certificates or keys are")
        ))
        .at(inventory.pki.dir.display().to_string())
        .hint(hint);
        return Err(Stop::one(Exit::Pending, problem));
    }
    Material::from_contents(inventory, &contents).map_err(stop)
}

/// Says where CAs were made that the cluster will stand on, and who can read them.
pub fn say_if_new(inventory: &Inventory, issued: &[Issued]) {
    if !issued.iter().any(|i| matches!(i.entry, Entry::Ca(_))) {
        return;
    }
    let keys = match inventory.pki.store.encryption {
        StoreEncryption::None => {
            "its private keys are NOT encrypted (`pki.store.encryption`; only a new store can be)"
        }
        StoreEncryption::AgeRecipients => "its private keys are encrypted to its recipients",
        StoreEncryption::AgePassphrase => "its private keys are encrypted with its passphrase",
    };
    eprintln!(
        "pki: new CAs were made in {}: {keys}. Back it up: without it the cluster cannot be administered",
        inventory.pki.dir.display()
    );
}

/// How to come to the store of a cluster that is there.
const RESTORE: &str = "name its store under `pki.dir` or restore it from a backup";

/// Refuses to go on without CAs where nodes hold some: new ones would be those of another cluster.
/// Control planes are asked also if they were not chosen.
///
/// # Errors
/// If there are no CAs here, and a node holds some or is part of a cluster.
pub fn refuse_second_cas(
    loaded: &Loaded,
    store: &Store,
    fleet: &Fleet,
    dialer: &dyn Dialer,
) -> Result<(), Stop> {
    if store.has_cas() {
        return Ok(());
    }
    let inventory = &loaded.inventory;
    let asked = |n: &NodeName| fleet.seen.contains_key(n) || fleet.lost.contains_key(n);
    let others: Vec<&Node> =
        inventory.with_role(Role::ControlPlane).filter(|n| !asked(&n.name)).collect();
    let others = pipeline::look(inventory, &others, dialer);
    let all = fleet.seen.iter().chain(&others.seen);
    match second_cas(inventory, all) {
        None => Ok(()),
        Some(problem) => Err(Stop::one(Exit::InvalidInput, problem)),
    }
}

fn second_cas<'s>(
    inventory: &Inventory,
    nodes: impl Iterator<Item = (&'s NodeName, &'s Seen)>,
) -> Option<Problem> {
    let mut held: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, seen) in nodes {
        let paths: Vec<&str> = held_cas(&seen.facts).map(|(path, ..)| path).collect();
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
    let problem = Problem::new("there are no CAs in the key store, and nodes have some already")
        .at(inventory.pki.dir.display().to_string());
    let because = |p: Problem, (what, names): (&String, &Vec<&str>)| {
        p.because(format!("found {what}: {}", names.join(", ")))
    };
    Some(
        held.iter()
            .fold(problem, because)
            .left("no CA was made, and nothing was changed on a node")
            .hint(format!(
                "is this the inventory's own directory? Otherwise {RESTORE}; nodes that shall begin anew \
                 are taken back by `kubastion reset`"
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{FileFacts, NodeFacts};
    use crate::inventory::testing;
    use crate::plan::diff::MEMBER_MARK;

    #[test]
    fn no_second_cas_are_made_for_nodes_that_have_some() {
        let inventory = testing::two_and_two();
        let said = |change: &dyn Fn(&mut NodeFacts)| {
            let mut facts = NodeFacts::bare("w1");
            change(&mut facts);
            let seen = Seen { session: None, host_key: String::new(), facts };
            second_cas(&inventory, [(&inventory.nodes[2].name, &seen)].into_iter())
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
            for words in [path, ": w1", "no CA was made", "`pki.dir`", "kubastion reset"] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
        let member = |f: &mut NodeFacts| {
            f.unit_marks.insert(MEMBER_MARK.into(), "m".into());
        };
        assert!(said(&member).contains("as part of a cluster: w1"), "{}", said(&member));
    }
}
