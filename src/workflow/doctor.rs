//! What stands in the way of a plan, before there is one.
//!
//! The operator's machine first, since nothing else can be looked at without it; then every node, over
//! the same connection and with the same facts as a plan. Nothing is changed anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::etcd_members;
use super::keys;
use super::observe::{self, Fleet, Reach};
use super::software;
use crate::apply::gate::EtcdAccess;
use crate::clock::Clock;
use crate::desired::{HeldCas, held_cas, other_firewalls};
use crate::error::Problem;
use crate::facts::NodeFacts;
use crate::inventory::{Inventory, Loaded, Node, SoftwareSource};
use crate::pki::{self, Ca, Material, PkiError, Reason, State, Store, Trust};
use crate::plain::counted;
use crate::plan::{immutable, preflight};
use crate::plan::{members, membership};
use crate::report::doctor::{Finding, Level};
use crate::workflow::command_error::{CommandError, Exit};

/// The machine that kubastion runs on.
const HERE: &str = "operator";

/// What stands in the way of a plan, as far as it was looked at.
#[derive(Default)]
pub struct Examination {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// What is wrong with an inventory that cannot be loaded, after which nothing else can be looked at.
    pub fn without_inventory(problems: Vec<Problem>) -> Self {
        Self { findings: problems.into_iter().map(|p| Finding::of(HERE, p)).collect() }
    }

    /// Looks at this machine, and at the nodes if they are to be. `say` hears what is being looked at.
    ///
    /// # Errors
    /// A node that is not in the inventory, or a password that cannot be asked for.
    pub fn of(
        file: &Path,
        mut loaded: Loaded,
        reach: &Reach,
        nodes: Nodes,
        say: &dyn Fn(&str),
    ) -> Result<Self, CommandError> {
        let mut findings = Vec::new();
        let chosen = observe::chosen(&loaded.inventory, reach)?.len();
        let chosen = counted(chosen, "node");
        let what = format!("{}: checking {chosen}", file.display());
        findings.push(Finding::new(HERE, Level::Ok, what));
        let keys = operator(file, &mut loaded, &mut findings);
        if nodes == Nodes::LeftAlone {
            findings.push(Finding::new(HERE, Level::Note, "no node was checked (--offline)"));
            return Ok(Self { findings });
        }
        let (inventory, files) = (&loaded.inventory, &loaded.files);
        let mut nodes = observe::chosen(inventory, reach)?;
        // It is said above; asked all the same, they would say it once more.
        nodes.retain(|n| inventory.ssh.for_node(n).has_host_key());
        let dialer = observe::dialer(inventory, &nodes, reach)?;
        say(&format!("checking {}", counted(nodes.len(), "node")));
        let mut fleet = observe::read_nodes(inventory, files, &nodes, &dialer);
        fleet.ask_etcd(inventory, keys.as_ref().and_then(|k| k.etcd.as_ref()));
        of_nodes(&loaded, &nodes, &fleet, keys.as_ref().map(|k| &k.cas), &mut findings);
        of_etcd(inventory, &fleet, &mut findings);
        Ok(Self { findings })
    }

    /// What the findings amount to: what is wrong here outweighs what is wrong with nodes.
    pub fn exit(&self) -> Exit {
        let bad = |here: bool| {
            let mut all = self.findings.iter();
            all.any(|f| f.level == Level::Problem && (f.place == HERE) == here)
        };
        match (bad(true), bad(false)) {
            (true, _) => Exit::InvalidInput,
            (false, true) => Exit::NodeFailed,
            (false, false) => Exit::Done,
        }
    }
}

/// Whether nodes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// They are.
    LookedAt,
    /// No node is connected to.
    LeftAlone,
}

/// Whom a key store believes, by CA.
type Trusts = BTreeMap<Ca, Trust>;

/// What the key store has.
#[derive(Default)]
struct Keys {
    cas: Trusts,
    /// How etcd is asked, where all keys are there.
    etcd: Option<EtcdAccess>,
}

/// Looks at this machine. Returns what the key store has, if it could be read.
fn operator(file: &Path, loaded: &mut Loaded, findings: &mut Vec<Finding>) -> Option<Keys> {
    findings.extend(inventory_file(file));
    findings.extend(software_for_nodes(loaded));
    let inventory = &loaded.inventory;
    findings.extend(ssh_keys(inventory));
    findings.extend(ssh_agent(inventory));
    findings.extend(unknown_host_keys(inventory));
    let (finding, keys) = key_store(inventory);
    findings.push(finding);
    keys
}

fn inventory_file(file: &Path) -> Option<Finding> {
    mode_of(file).filter(|mode| mode & 0o022 != 0).map(|_| {
        Finding::new(HERE, Level::Problem, "others can write the inventory")
            .hint(format!("run `chmod go-w {}`", file.display()))
    })
}

/// The bundle, and the health-check program.
fn software_for_nodes(loaded: &mut Loaded) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |finding| findings.push(finding);
    match software::bundle(loaded) {
        Ok(None) if loaded.inventory.kubernetes.source == SoftwareSource::None => {
            let what = "the inventory has no Kubernetes source: hosts and etcd are hardened, the rest is staged";
            say(Finding::new(HERE, Level::Note, what)
                .hint("set `kubernetes.source`; see `kubastion bundle --help`"));
        }
        Ok(None) => {}
        Ok(Some(bundle)) => {
            let kubernetes = &bundle.manifest().kubernetes;
            let what =
                format!("the bundle is signed by a key of the inventory: Kubernetes {kubernetes}");
            say(Finding::new(HERE, Level::Ok, what));
        }
        Err(stop) => stop.problems.into_iter().for_each(|p| say(Finding::of(HERE, p))),
    }
    if loaded.files.probe.is_none() {
        let what =
            "this kubastion was built without kubastion-probe: API servers only get TCP probes";
        say(Finding::new(HERE, Level::Note, what)
            .hint("set KUBASTION_PROBE to a static build of it"));
    }
    findings
}

/// Each file once, however many nodes are reached with it.
fn ssh_keys(inventory: &Inventory) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for target in inventory.nodes.iter().map(|n| inventory.ssh.for_node(n)) {
        let Some(file) = &target.key_file else { continue };
        let what = match mode_of(file) {
            None => format!("the SSH key {} cannot be read", file.display()),
            Some(mode) if mode & 0o077 != 0 => {
                format!("others can read the SSH key {} (mode {mode:04o})", file.display())
            }
            Some(_) => continue,
        };
        if !findings.iter().any(|f| f.what == what) {
            findings.push(
                Finding::new(HERE, Level::Problem, what)
                    .hint("create the key file with mode 0600, or correct `ssh.key_file`"),
            );
        }
    }
    findings
}

fn ssh_agent(inventory: &Inventory) -> Option<Finding> {
    let agent = |n: &Node| inventory.ssh.for_node(n).agent;
    let without_file = |n: &Node| inventory.ssh.for_node(n).key_file.is_none();
    if !inventory.nodes.iter().any(agent) || std::env::var_os("SSH_AUTH_SOCK").is_some() {
        return None;
    }
    let level = if inventory.nodes.iter().any(without_file) { Level::Problem } else { Level::Note };
    let finding = Finding::new(HERE, level, "no ssh-agent runs (SSH_AUTH_SOCK is not set)");
    Some(finding.hint("start an ssh-agent and add your key, or set `ssh.key_file`"))
}

fn unknown_host_keys(inventory: &Inventory) -> impl Iterator<Item = Finding> {
    let unknown = inventory.nodes.iter().filter(|n| !inventory.ssh.for_node(n).has_host_key());
    unknown.map(|node| {
        Finding::new(HERE, Level::Problem, format!("the host key of {} is not known", node.name))
            .hint("run `kubastion trust`, compare the key on the machine's console, then add it to `ssh.host_keys`")
    })
}

fn mode_of(path: &Path) -> Option<u32> {
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

fn key_store(inventory: &Inventory) -> (Finding, Option<Keys>) {
    let dir = inventory.pki.dir.display();
    if !inventory.pki.dir.exists() {
        let none = Finding::new(HERE, Level::Note, format!("there is no key store in {dir} yet"))
            .hint("for a new cluster, run `kubastion pki ensure`, or let the first apply create it; for an existing key store, set `pki.dir`");
        return (none, Some(Keys::default()));
    }
    let ask = |ask| keys::ask_passphrase(&inventory.pki, ask);
    let read = || -> Result<_, PkiError> {
        let contents = Store::open(&inventory.pki, &inventory.cluster.name, &ask)?.contents()?;
        let cas = pki::trusts(&inventory.pki.dir, &contents)?;
        Ok((contents, cas))
    };
    let (contents, cas) = match read() {
        Ok(read) => read,
        Err(e) => {
            let problem = e.problems().into_iter().next();
            let problem = problem.unwrap_or_else(|| Problem::new("the key store cannot be read"));
            return (Finding::of(HERE, problem), None);
        }
    };
    let all = pki::assess(inventory, &contents, Clock::System.now());
    let count = |state| all.iter().filter(|a| a.state == state).count();
    let soonest = all.iter().filter_map(|a| a.days_left).min();
    let (level, what) = match all.iter().map(|a| a.state).max() {
        Some(State::Expired) => {
            let n = counted(count(State::Expired), "certificate has/certificates have");
            (Level::Problem, format!("{n} expired"))
        }
        Some(State::Expiring | State::Mismatch | State::Missing) => {
            let due = all.iter().filter(|a| a.is_to_be_issued()).count();
            let over = all.iter().filter(|a| a.reasons == [Reason::RemovalDue]).count();
            let over = (over > 0)
                .then(|| format!("{} expired", counted(over, "accepted CA has/accepted CAs have")));
            let due = match (due, &over) {
                (0, Some(_)) => None,
                (n, _) => {
                    let due = counted(n, "certificate or key is/certificates or keys are");
                    Some(format!("{due} due to be issued"))
                }
            };
            (Level::Note, due.into_iter().chain(over).collect::<Vec<_>>().join(", "))
        }
        _ => {
            let days = soonest
                .and_then(|d| usize::try_from(d).ok())
                .map(|d| format!(", the first expires in {}", counted(d, "day")))
                .unwrap_or_default();
            (Level::Ok, format!("the key store in {dir} is complete{days}"))
        }
    };
    let mut finding = Finding::new(HERE, level, what);
    if level != Level::Ok {
        finding = finding.hint(
            "run `kubastion pki status` to see them, and `kubastion pki ensure` to issue them",
        );
    }
    let material = Material::from_contents(inventory, &contents).ok();
    let etcd = material.and_then(|m| etcd_members::etcd_access(inventory, &m));
    (finding, Some(Keys { cas, etcd }))
}

/// Of the files of CA certificates that a node holds, those without any of the key store's.
fn foreign_cas(inventory: &Inventory, facts: &NodeFacts, store: &Trusts) -> Option<Problem> {
    let is_ours = |held: &HeldCas<'_>| store.get(&held.ca).is_some_and(|trust| held.is_of(trust));
    let foreign: Vec<String> = held_cas(facts)
        .filter(|held| !is_ours(held))
        .map(|held| format!("{} ({} CA)", held.path, held.ca.name()))
        .collect();
    if foreign.is_empty() {
        return None;
    }
    let dir = inventory.pki.dir.display();
    let what = match store.is_empty() {
        true => format!("the node has CA certificates, but the key store {dir} has none"),
        false => format!("the node's CA certificates are not those of the key store {dir}"),
    };
    Some(Problem::new(what).because(foreign.join(", ")).hint(
        "the node or the key store belongs to another cluster: set `pki.dir` to the right store, or restore the \
         store from a backup",
    ))
}

/// etcd's members and alarms: the same problems stop a plan.
fn of_etcd(inventory: &Inventory, fleet: &Fleet, findings: &mut Vec<Finding>) {
    let place = "etcd";
    match &fleet.facts.etcd {
        None => {}
        Some(Err(why)) => findings.push(
            Finding::new(place, Level::Problem, format!("cannot list etcd's members: {why}"))
                .hint("run `journalctl -u etcd` on the node"),
        ),
        Some(Ok(roster)) => {
            let wanted = membership::wanted_members(inventory, &fleet.facts);
            let mut problems = members::health_problems(roster, &wanted);
            problems.extend(members::compare(roster, &wanted).blocked);
            if problems.is_empty() {
                let count = counted(roster.members.len(), "member");
                findings.push(Finding::new(place, Level::Ok, format!("{count}, no alarm")));
            }
            findings.extend(problems.into_iter().map(|p| Finding::of(place, p)));
        }
    }
}

fn of_nodes(
    loaded: &Loaded,
    nodes: &[&Node],
    fleet: &Fleet,
    cas: Option<&Trusts>,
    findings: &mut Vec<Finding>,
) {
    let Loaded { inventory, files, .. } = loaded;
    let reference =
        preflight::median(fleet.facts.answered.values().map(|s| s.facts.clock_epoch_s).collect());
    let skew = Clock::System.now().unix_timestamp() - reference;
    if !fleet.facts.answered.is_empty() && skew.unsigned_abs() > MAX_OWN_SKEW.as_secs() {
        findings.push(
            Finding::new(
                HERE,
                Level::Problem,
                format!("this machine's clock is {skew} s off the nodes'"),
            )
            .hint(
                "synchronize the clock: certificates issued here would not be valid on the nodes",
            ),
        );
    }
    let answered =
        nodes.iter().filter_map(|n| Some((*n, &fleet.facts.answered.get(&n.name)?.facts)));
    let unchangeable = immutable::found(inventory, answered);
    for node in nodes {
        let name = node.name.as_str();
        if let Some(problem) = fleet.facts.failed.get(&node.name) {
            findings.push(Finding::of(name, problem.clone()));
            continue;
        }
        let Some(seen) = fleet.facts.answered.get(&node.name) else { continue };
        let mut problems =
            preflight::check(inventory, files.software.as_ref(), node, &seen.facts, reference);
        problems.extend(cas.and_then(|cas| foreign_cas(inventory, &seen.facts, cas)));
        problems.extend(unchangeable.iter().filter(|p| p.place.as_deref() == Some(name)).cloned());
        if problems.is_empty() {
            let facts = &seen.facts;
            let what = format!(
                "ready: {}, {}, kernel {}, {} GB free, host key and login work",
                facts.os.pretty,
                facts.arch,
                facts.kernel,
                facts.var_free_bytes >> 30
            );
            findings.push(Finding::new(name, Level::Ok, what));
        }
        let others = other_firewalls(&seen.facts).into_iter();
        findings.extend(others.map(|what| Finding::new(name, Level::Note, what)));
        findings.extend(problems.into_iter().map(|p| Finding::of(name, p)));
    }
}

/// How far this machine's clock may be from the nodes': certificates begin five minutes back.
const MAX_OWN_SKEW: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::facts::FileFacts;
    use crate::inventory::testing;
    use crate::pki::made;
    use crate::plain::hex;

    #[test]
    fn a_node_with_other_cas_than_the_store_is_found() {
        let inventory = testing::two_and_two();
        let old = made("old");
        let material = Material::fixture_accepting(&inventory, |ca| match ca {
            Ca::Cluster => vec![old.clone()],
            Ca::Etcd | Ca::FrontProxy => Vec::new(),
        });
        let mut facts = NodeFacts::bare("cp1");
        let mut hold = |path: &str, text: &str| {
            let (owner, group) = ("root".to_owned(), "root".to_owned());
            let sha256 = hex(&Sha256::digest(text));
            let file = FileFacts::File { mode: 0o600, owner, group, size: 1, sha256 };
            facts.files.insert(path.into(), file);
            facts.texts.insert(path.into(), Some(text.to_owned()));
            facts.clone()
        };
        let (cluster, etcd) = ("/etc/kubernetes/pki/ca.crt", "/etc/etcd/pki/ca.crt");
        let trusts = |cas: [(Ca, Ca); 2]| -> Trusts {
            cas.into_iter().map(|(of, like)| (of, material.trust(like).clone())).collect()
        };
        let own = trusts([(Ca::Cluster, Ca::Cluster), (Ca::Etcd, Ca::Etcd)]);
        let said = |facts: &NodeFacts, store: &Trusts| {
            foreign_cas(&inventory, facts, store).map(|p| p.to_string()).unwrap_or_default()
        };
        hold(cluster, material.trust(Ca::Cluster).issues());
        let facts = hold(etcd, material.trust(Ca::Etcd).bundle());
        assert_eq!(said(&facts, &own), "");
        let other = said(&facts, &trusts([(Ca::Cluster, Ca::Cluster), (Ca::Etcd, Ca::FrontProxy)]));
        assert!(other.contains("/etc/etcd/pki/ca.crt (etcd CA)"), "{other}");
        assert!(!other.contains("/etc/kubernetes") && other.contains("`pki.dir`"), "{other}");
        let none = said(&facts, &Trusts::new());
        assert!(none.contains("but the key store"), "{none}");
        assert!(none.contains("/etc/kubernetes/pki/ca.crt (cluster CA), /etc/etcd"), "{none}");
        // The CA of an imported cluster, one that was accepted until now, and an unknown one.
        assert_eq!(said(&hold(cluster, &old.pem), &own), "");
        let stranger = made("stranger").pem;
        assert_eq!(said(&hold(cluster, &format!("{}{stranger}", old.pem)), &own), "");
        let foreign = said(&hold(cluster, &stranger), &own);
        assert!(foreign.contains("/etc/kubernetes/pki/ca.crt (cluster CA)"), "{foreign}");
    }
}
