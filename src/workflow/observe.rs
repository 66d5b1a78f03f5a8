//! Looks at nodes: which are chosen, how they are reached, and what they answer. What the cluster's API holds is read in
//! [`super::objects`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::apply::etcd;
use crate::apply::execution::Sessions;
use crate::apply::gate::EtcdAccess;
use crate::apply::protocol::TxnState;
use crate::apply::settle;
use crate::desired;
use crate::error::Problem;
use crate::facts::etcd::Roster;
use crate::facts::{FactsError, FileFacts, NodeFacts, WatchList, collect};
use crate::inventory::diagnostic::nearest;
use crate::inventory::{Files, Inventory, Node, NodeName, Sudo};
use crate::pki::Store;
use crate::plan::diff::{KUBELET_CONFIG, MEMBER_MARK};
use crate::plan::stored_data;
use crate::secret::Secret;
use crate::transport::ssh::SshDialer;
use crate::transport::{Credentials, Dialer, Transport, fleet};
use crate::workflow::command_error::{CommandError, Exit};

/// How nodes are chosen and reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reach {
    /// Only these nodes; all if absent.
    #[arg(long, value_delimiter = ',', value_name = "NODE,...")]
    pub nodes: Vec<NodeName>,
    /// File with the sudo password, mode 0600, for use without a terminal.
    #[arg(long, value_name = "FILE")]
    pub sudo_password_file: Option<std::path::PathBuf>,
}

/// A node that answered.
pub struct Seen {
    /// The open connection. In a large fleet most nodes have none: see [`KEPT`].
    pub session: Option<Box<dyn Transport>>,
    /// The fingerprint of the host key that was accepted.
    pub host_key: String,
    /// What it answered.
    pub facts: NodeFacts,
}

/// Connections that are kept for what comes after the look. One costs 80 kB here and a process on the node;
/// a thousand that wait for somebody to read a plan are no use. Whoever needs one that was closed opens it
/// anew. Those of control planes and etcd members, and of nodes with something open, are always kept.
pub const KEPT: usize = 512;

impl Seen {
    /// The open connection, or a new one.
    ///
    /// # Errors
    /// If a new one cannot be opened.
    pub fn session(
        &mut self,
        inventory: &Inventory,
        node: &Node,
        dialer: &dyn Dialer,
    ) -> Result<&mut dyn Transport, Problem> {
        let open = match self.session.take() {
            Some(open) => open,
            None => connect(inventory, node, dialer)?,
        };
        Ok(self.session.insert(open).as_mut())
    }

    /// Whether the node is part of a cluster.
    pub fn is_member(&self) -> bool {
        self.facts.unit_marks.contains_key(MEMBER_MARK)
            || self.facts.processes.contains_key("kube-apiserver")
    }
}

impl Seen {
    /// Whether a kubeadm, whosever, has configured a kubelet here.
    pub(super) fn has_kubelet_config(&self) -> bool {
        matches!(self.facts.files.get(KUBELET_CONFIG), Some(FileFacts::File { .. }))
    }
}

/// All nodes after the facts were read.
#[derive(Default)]
pub struct Fleet {
    /// Those that answered.
    pub seen: BTreeMap<NodeName, Seen>,
    /// Those that did not, and why.
    pub lost: BTreeMap<NodeName, Problem>,
    /// Those that answered and are part of no cluster, also where something else is wrong with them.
    pub bare: BTreeSet<NodeName>,
    /// Those that answered and hold no data of the cluster's etcd, also where something else is wrong with them.
    pub no_data: BTreeSet<NodeName>,
    /// etcd's member list and alarms, or why they could not be read. `None` before etcd is asked, or if none runs.
    pub etcd: Option<Result<Roster, String>>,
}

/// What an earlier run had left open on a node, and what it came to.
pub struct Settled {
    /// The node.
    pub node: NodeName,
    /// Transaction id.
    pub id: String,
    /// How it ended.
    pub state: TxnState,
}

impl std::fmt::Display for Settled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, id, state) = (&self.node, &self.id, self.state.words());
        write!(f, "{node}: transaction {id} was left open by an earlier run; it is {state} now")
    }
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
                None => "`kubastion inventory show` lists them".into(),
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
                rpassword::prompt_password("sudo password on the nodes: ").map_err(|e| {
                    let problem = Problem::from_error("the sudo password cannot be asked for", &e)
                        .hint("without a terminal, name a file with --sudo-password-file");
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
pub fn look(inventory: &Inventory, files: &Files, nodes: &[&Node], dialer: &dyn Dialer) -> Fleet {
    look_at(inventory, files, nodes, dialer, desired::watch, KEPT)
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
pub fn look_at(
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
        Ok(Seen { session: keep.then_some(session), host_key, facts })
    });
    let mut fleet = Fleet::default();
    for (node, result) in nodes.iter().zip(results) {
        match result {
            Ok(seen) => {
                if !seen.is_member() {
                    fleet.bare.insert(node.name.clone());
                }
                if !stored_data::has_our_etcd_data(&seen.facts) {
                    fleet.no_data.insert(node.name.clone());
                }
                fleet.seen.insert(node.name.clone(), seen);
            }
            Err(problem) => {
                fleet.lost.insert(node.name.clone(), problem);
            }
        }
    }
    fleet
}

fn read(session: &mut dyn Transport, node: &Node, watch: &WatchList) -> Result<NodeFacts, Problem> {
    collect(session, &node.name, watch).map_err(|e| {
        let mut problem = Problem::from_error("its facts cannot be read", &e)
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
        Problem::from_error("the present texts of its files cannot be read", &e)
            .at(node.to_string())
    })
}

impl Fleet {
    /// Undoes what earlier runs left open, and reads the facts of those nodes again. Returns what
    /// was done.
    pub fn settle(&mut self, inventory: &Inventory, files: &Files) -> Vec<Settled> {
        let said = Mutex::new(Vec::new());
        let open: Vec<(NodeName, Seen)> = self
            .seen
            .extract_if(.., |_, s| s.facts.open_transactions.iter().any(|t| !t.needs_hands()))
            .collect();
        let results = fleet::each(open, fleet::WINDOW, |(name, mut seen)| {
            let node = inventory.nodes.iter().find(|n| n.name == name);
            let node = node.expect("only nodes of the inventory are looked at");
            let session =
                seen.session.as_mut().expect("it is kept where something is open").as_mut();
            let mut done = Vec::new();
            let result = settle(session, &seen.facts, &mut done);
            let done =
                done.into_iter().map(|(id, state)| Settled { node: name.clone(), id, state });
            said.lock().expect("no thread panics while holding it").extend(done);
            let result = result
                .map_err(|why| {
                    Problem::new("what an earlier run left open cannot be undone")
                        .at(name.to_string())
                        .because(why)
                })
                .and_then(|()| read(session, node, &desired::watch(inventory, files, node)));
            (name, result.map(|facts| Seen { facts, ..seen }))
        });
        for (name, result) in results {
            match result {
                Ok(seen) => {
                    if !seen.is_member() {
                        self.bare.insert(name.clone());
                    }
                    if !stored_data::has_our_etcd_data(&seen.facts) {
                        self.no_data.insert(name.clone());
                    }
                    self.seen.insert(name, seen);
                }
                Err(problem) => {
                    self.bare.remove(&name);
                    self.no_data.remove(&name);
                    self.lost.insert(name, problem);
                }
            }
        }
        let mut said = said.into_inner().expect("all threads have ended");
        said.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        said
    }

    /// Asks etcd for its members and alarms, through the first node that has one that answers.
    pub fn ask_etcd(&mut self, inventory: &Inventory, access: Option<&EtcdAccess>) {
        let Some(access) = access.filter(|_| self.etcd.is_none()) else { return };
        for node in inventory.etcd_members() {
            let Some(seen) = self.seen.get_mut(&node.name) else { continue };
            if !seen.facts.runs_etcd() || !stored_data::has_our_etcd_data(&seen.facts) {
                continue;
            }
            let Some(session) = seen.session.as_deref_mut() else { continue };
            let asked = etcd::roster(session, node.internal_ip(), access);
            let answered = asked.is_ok();
            self.etcd = Some(asked.map_err(|why| format!("{}: {why}", node.name)));
            if answered {
                break;
            }
        }
    }

    /// The open connections.
    pub fn into_sessions(self) -> Sessions {
        self.seen.into_iter().filter_map(|(name, s)| Some((name, s.session?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::CALL_SCRIPT;
    use crate::facts::OpenTransaction;
    use crate::inventory::testing;
    use crate::transport::played::{Played, this_machine};

    /// This machine plays every node.
    const HERE: Played = Played(&|_, script, input| this_machine(script, input));

    #[test]
    fn a_large_fleet_keeps_some_connections_and_those_of_its_servers() {
        let inventory = testing::two_and_two();
        let nodes: Vec<&Node> = inventory.nodes.iter().collect();
        let open = |kept| {
            let fleet = look_at(
                &inventory,
                &Files::default(),
                &nodes,
                &HERE,
                |_, _, _| WatchList::default(),
                kept,
            );
            assert!(fleet.lost.is_empty() && fleet.seen.len() == 4, "{:?}", fleet.lost);
            assert!(fleet.seen.values().all(|s| s.host_key == "SHA256:played"));
            let open = fleet.seen.iter().filter(|(_, s)| s.session.is_some());
            open.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(open(usize::MAX), ["cp1", "cp2", "w1", "w2"]);
        assert_eq!(open(1).len(), 3);
        assert_eq!(open(0), ["cp1", "cp2"]);
        // Who needs one that was closed has it.
        let mut fleet = look_at(
            &inventory,
            &Files::default(),
            &nodes,
            &HERE,
            |_, _, _| WatchList::default(),
            0,
        );
        let worker = fleet.seen.get_mut(&nodes[3].name).unwrap();
        assert!(worker.session(&inventory, nodes[3], &HERE).is_ok() && worker.session.is_some());
    }

    #[test]
    fn what_was_settled_is_known_also_of_a_node_where_not_all_was() {
        let inventory = testing::two_and_two();
        let answers = Played(&|_, script, input| match (script, input) {
            (CALL_SCRIPT, b"1-a-host revert left-open\n") => "@state reverted\n".into(),
            (CALL_SCRIPT, b"2-b-host revert left-open\n") => {
                "@said no room\n@state incomplete\n".into()
            }
            (CALL_SCRIPT, other) => panic!("{}", String::from_utf8_lossy(other)),
            _ => this_machine(script, input),
        });
        let open = |id: &str, state: &str| OpenTransaction { id: id.into(), state: state.into() };
        let seen = |node: &Node, open: Vec<OpenTransaction>| {
            let facts =
                NodeFacts { open_transactions: open, ..NodeFacts::bare(node.name.as_str()) };
            let session = Some(connect(&inventory, node, &answers).unwrap());
            (node.name.clone(), Seen { session, host_key: String::new(), facts })
        };
        let [cp1, cp2, w1, _] = &inventory.nodes[..] else { panic!() };
        let mut fleet = Fleet {
            seen: [
                seen(cp1, vec![open("1-a-host", "switched"), open("2-b-host", "switching")]),
                seen(cp2, vec![open("1-a-host", "switched")]),
                // Nothing is done about that one, which needs manual repair.
                seen(w1, vec![open("3-c-host", "incomplete")]),
            ]
            .into(),
            lost: BTreeMap::new(),
            bare: [&cp1.name, &cp2.name, &w1.name].map(NodeName::clone).into(),
            no_data: BTreeSet::new(),
            etcd: None,
        };
        let settled = fleet.settle(&inventory, &Files::default());
        let done: Vec<_> =
            settled.iter().map(|s| (s.node.as_str(), s.id.as_str(), s.state)).collect();
        let reverted = TxnState::Reverted;
        assert_eq!(done, [("cp1", "1-a-host", reverted), ("cp2", "1-a-host", reverted)]);
        let problem = fleet.lost[&cp1.name].to_string();
        for words in ["left open cannot be undone", "2-b-host was left switching", "no room"] {
            assert!(problem.contains(words), "{words}: {problem}");
        }
        assert!(!fleet.bare.contains(&cp1.name) && !fleet.seen.contains_key(&cp1.name));
        assert!(fleet.seen.contains_key(&w1.name) && fleet.lost.len() == 1, "{:?}", fleet.lost);
        // It was looked at again: this machine has nothing open.
        assert!(fleet.seen[&cp2.name].facts.open_transactions.is_empty());
    }
}
