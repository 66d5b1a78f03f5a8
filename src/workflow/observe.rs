//! Looks at nodes: which are chosen, how they are reached, and what they answer. What the cluster's API holds is read in
//! [`super::objects`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::apply::etcd;
use crate::apply::execution::Sessions;
use crate::apply::gate::EtcdAccess;
use crate::desired;
use crate::error::Problem;
use crate::facts::{FactsError, NodeFacts, WatchList, collect};
use crate::inventory::diagnostic::nearest;
use crate::inventory::{Files, Inventory, Node, NodeName, Sudo};
use crate::pki::Store;
use crate::plan::{Answered, FleetFacts, stored_data};
use crate::secret::Secret;
use crate::transport::ssh::SshDialer;
use crate::transport::{Credentials, Dialer, Transport, fleet};
use crate::workflow::command_error::{CommandError, Exit};

/// How nodes are chosen and reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reach {
    /// Only these nodes. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "NODE,...")]
    pub nodes: Vec<NodeName>,
    /// File with the sudo password, mode 0600, for use without a terminal.
    #[arg(long, value_name = "FILE")]
    pub sudo_password_file: Option<std::path::PathBuf>,
}

/// Connections that are kept for what comes after the look. One costs 80 kB here and a process on the node;
/// a thousand that wait for somebody to read a plan are no use. Whoever needs one that was closed opens it
/// anew. Those of control planes and etcd members, and of nodes with something open, are always kept.
pub const KEPT: usize = 512;

/// The nodes as they answered, and the connections to them.
#[derive(Default)]
pub struct Fleet {
    /// What they answered.
    pub facts: FleetFacts,
    /// The open connections. In a large fleet most nodes have none: see [`KEPT`].
    pub sessions: Sessions,
}

/// The chosen nodes.
///
/// # Errors
/// If a name is not in the inventory.
pub fn chosen<'i>(inventory: &'i Inventory, reach: &Reach) -> Result<Vec<&'i Node>, CommandError> {
    let unknown: Vec<Problem> = reach
        .nodes
        .iter()
        .filter(|name| !inventory.nodes.iter().any(|n| n.name == **name))
        .map(|name| {
            let all: Vec<&str> = inventory.nodes.iter().map(|n| n.name.as_str()).collect();
            let hint = match nearest(name.as_str(), all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "run `kubastion inventory show` to list the nodes".into(),
            };
            let what = format!("the inventory has no node `{name}`");
            Problem::new(what).at("--nodes").left("nothing was changed").hint(hint)
        })
        .collect();
    if !unknown.is_empty() {
        return Err(CommandError { exit: Exit::Usage, problems: unknown });
    }
    let all = reach.nodes.is_empty();
    Ok(inventory.nodes.iter().filter(|n| all || reach.nodes.contains(&n.name)).collect())
}

/// What opens connections, with the sudo password if one is needed.
///
/// # Errors
/// If a password is needed and can neither be read nor asked for.
pub fn dialer(
    inventory: &Inventory,
    nodes: &[&Node],
    reach: &Reach,
) -> Result<SshDialer, CommandError> {
    let needed = nodes.iter().any(|n| inventory.ssh.for_node(n).sudo == Sudo::Password);
    let sudo_password = match (&reach.sudo_password_file, needed) {
        (_, false) => None,
        (Some(file), true) => Some(
            Store::read_passphrase_file(file)
                .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?,
        ),
        (None, true) => {
            let typed =
                rpassword::prompt_password("sudo password for the nodes: ").map_err(|e| {
                    let problem =
                        Problem::from_error("the sudo password cannot be prompted for", &e)
                            .hint("without a terminal, set --sudo-password-file");
                    CommandError::one(Exit::InvalidInput, problem)
                })?;
            Some(Secret::new(typed))
        }
    };
    Ok(SshDialer { credentials: Credentials { sudo_password } })
}

/// Nodes worked on at once. Through a jump host fewer: sshd refuses logins beyond MaxStartups
/// (10:30:100 by default).
fn window(inventory: &Inventory, nodes: &[&Node]) -> usize {
    let jumps = nodes.iter().any(|n| !inventory.ssh.for_node(n).jump.is_empty());
    if jumps { 8 } else { fleet::WINDOW }
}

/// What is asked of a node.
pub type Watch = fn(&Inventory, &Files, &Node) -> WatchList;

/// Connects to the nodes and reads what a plan needs; one connection and one exec a node.
pub fn read_nodes(
    inventory: &Inventory,
    files: &Files,
    nodes: &[&Node],
    dialer: &dyn Dialer,
) -> Fleet {
    read_nodes_for(inventory, files, nodes, dialer, desired::watch, KEPT)
}

fn connect(
    inventory: &Inventory,
    node: &Node,
    dialer: &dyn Dialer,
) -> Result<Box<dyn Transport>, Problem> {
    dialer.connect(&inventory.ssh.for_node(node)).map_err(|e| {
        let mut problem = Problem::from_error("the node cannot be reached", &e)
            .at(node.name.to_string())
            .left("nothing was changed on it");
        problem.hint = e.hint();
        problem
    })
}

/// Connects to the nodes and reads what `watch` names; one connection and one exec a node. About `kept`
/// connections stay open, see [`KEPT`].
pub fn read_nodes_for(
    inventory: &Inventory,
    files: &Files,
    nodes: &[&Node],
    dialer: &dyn Dialer,
    watch: Watch,
    kept: usize,
) -> Fleet {
    let open = AtomicUsize::new(0);
    let results = fleet::each(nodes.to_vec(), window(inventory, nodes), |node| {
        let mut session = connect(inventory, node, dialer)?;
        let facts = read(session.as_mut(), node, &watch(inventory, files, node))?;
        let host_key = session.host_key().to_owned();
        let always = inventory.serves(node) || !facts.open_transactions.is_empty();
        let keep = always || open.fetch_add(1, Ordering::Relaxed) < kept;
        Ok((keep.then_some(session), Answered { host_key, facts }))
    });
    let mut fleet = Fleet::default();
    for (node, result) in nodes.iter().zip(results) {
        match result {
            Ok((session, answered)) => {
                fleet.sessions.extend(session.map(|s| (node.name.clone(), s)));
                fleet.facts.insert(node.name.clone(), answered);
            }
            Err(problem) => {
                fleet.facts.failed.insert(node.name.clone(), problem);
            }
        }
    }
    fleet
}

fn read(session: &mut dyn Transport, node: &Node, watch: &WatchList) -> Result<NodeFacts, Problem> {
    collect(session, &node.name, watch).map_err(|e| {
        let mut problem = Problem::from_error("the node's facts cannot be read", &e)
            .at(node.name.to_string())
            .left("nothing was changed on it");
        if let FactsError::Transport(t) = &e {
            problem.hint = t.hint();
        }
        problem
    })
}

/// The present texts of some files of a node. Asked for apart from the facts, and only where
/// somebody wants to see them.
///
/// # Errors
/// If the node cannot be asked.
pub fn texts(
    session: &mut dyn Transport,
    node: &NodeName,
    paths: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<String>>, Problem> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let watch = WatchList { files: paths.clone(), shown: paths, ..WatchList::default() };
    collect(session, node, &watch).map(|facts| facts.texts).map_err(|e| {
        Problem::from_error("the present content of its files cannot be read", &e)
            .at(node.to_string())
    })
}

impl Fleet {
    /// The open connection of a node, or a new one.
    ///
    /// # Errors
    /// If a new one cannot be opened.
    pub fn session(
        &mut self,
        inventory: &Inventory,
        node: &Node,
        dialer: &dyn Dialer,
    ) -> Result<&mut dyn Transport, Problem> {
        if !self.sessions.contains_key(&node.name) {
            let session = connect(inventory, node, dialer)?;
            self.sessions.insert(node.name.clone(), session);
        }
        let session = self.sessions.get_mut(&node.name);
        Ok(session.expect("it was inserted where it was missing").as_mut())
    }

    /// Reads the facts of some nodes again, on which something was done.
    pub fn look_again(
        &mut self,
        inventory: &Inventory,
        files: &Files,
        nodes: &[&Node],
        dialer: &dyn Dialer,
    ) {
        let again = read_nodes(inventory, files, nodes, dialer);
        for (name, problem) in again.facts.failed {
            self.sessions.remove(&name);
            self.facts.forget(name, problem);
        }
        for (name, answered) in again.facts.answered {
            self.facts.insert(name, answered);
        }
        self.sessions.extend(again.sessions);
    }

    /// Asks etcd for its members and alarms, through the first node that has one that answers.
    pub fn ask_etcd(&mut self, inventory: &Inventory, access: Option<&EtcdAccess>) {
        let Some(access) = access.filter(|_| self.facts.etcd.is_none()) else { return };
        for node in inventory.etcd_members() {
            let Some(answered) = self.facts.answered.get(&node.name) else { continue };
            let facts = &answered.facts;
            if !facts.runs_etcd() || !stored_data::has_our_etcd_data(facts) {
                continue;
            }
            let Some(session) = self.sessions.get_mut(&node.name) else { continue };
            let asked = etcd::roster(session.as_mut(), node.internal_ip(), access);
            let is_answer = asked.is_ok();
            self.facts.etcd = Some(asked.map_err(|why| format!("{}: {why}", node.name)));
            if is_answer {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing;
    use crate::transport::played::{Played, this_machine};

    /// This machine plays every node.
    const HERE: Played = Played(&|_, script, input| this_machine(script, input));

    #[test]
    fn a_large_fleet_keeps_some_connections_and_those_of_its_servers() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let open = |kept| {
            let fleet = read_nodes_for(
                &inventory,
                &Files::default(),
                &nodes,
                &HERE,
                |_, _, _| WatchList::default(),
                kept,
            );
            let facts = &fleet.facts;
            assert!(facts.failed.is_empty() && facts.answered.len() == 4, "{:?}", facts.failed);
            assert!(facts.answered.values().all(|n| n.host_key == "SHA256:played"));
            fleet.sessions.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(open(usize::MAX), ["cp1", "cp2", "w1", "w2"]);
        assert_eq!(open(1).len(), 3);
        assert_eq!(open(0), ["cp1", "cp2"]);
        // Who needs one that was closed has it.
        let mut fleet = read_nodes_for(
            &inventory,
            &Files::default(),
            &nodes,
            &HERE,
            |_, _, _| WatchList::default(),
            0,
        );
        assert!(fleet.session(&inventory, nodes[3], &HERE).is_ok());
        assert!(fleet.sessions.contains_key(&nodes[3].name));
    }
}
