//! Tries to reach pods and Services through a node, from an address in no network of the inventory (a stranger).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Field, Writes};
use crate::apply::gate::chain;
use crate::controls::{Daemon, Probe};
use crate::inventory::{Inventory, Node};
use crate::transport::{Request, Transport};
use crate::verify::{Observed, Verdict};

/// The program that tries it.
pub const STRANGER_SCRIPT: &str = include_str!("stranger.sh");

/// The node's and the stranger's end of the link, from documentation networks that are never routed (RFC 5737, RFC 3849).
/// A network that the inventory names is left out.
const ENDS: [(&str, &str); 6] = [
    ("198.51.100.1", "198.51.100.2"),
    ("203.0.113.1", "203.0.113.2"),
    ("192.0.2.1", "192.0.2.2"),
    ("2001:db8:6b62:1::1", "2001:db8:6b62:1::2"),
    ("2001:db8:6b62:2::1", "2001:db8:6b62:2::2"),
    ("2001:db8:6b62:3::1", "2001:db8:6b62:3::2"),
];

/// An address of a pod or a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inner {
    /// What answers there, as in `Service default/kubernetes`.
    pub what: String,
    /// Its address.
    pub address: IpAddr,
    /// A TCP port of it.
    pub port: u16,
}

type Made = Vec<(Probe, String, Verdict)>;

fn unknown(why: impl Into<String>) -> Made {
    let probe = Probe::ForwardedToStranger;
    vec![(probe, super::probe_words(probe).to_owned(), Verdict::unknown(why))]
}

/// The first pair of a family that lies in no network of the inventory.
fn ends(inventory: &Inventory, v4: bool) -> Option<(IpAddr, IpAddr)> {
    let (cluster, firewall) = (&inventory.cluster, &inventory.firewall);
    let lists = [
        &cluster.pod_networks,
        &cluster.service_networks,
        &firewall.admin_networks,
        &firewall.service_clients,
    ];
    let named =
        lists.into_iter().flatten().chain(firewall.extra_rules.iter().flat_map(|r| &r.from));
    // 0.0.0.0/0 and ::/0 name no one in particular.
    let named: Vec<_> = named.filter(|n| n.0.prefix_len() > 0).collect();
    let used = |a: &IpAddr| {
        named.iter().any(|n| n.0.contains(a))
            || inventory.nodes.iter().any(|n| n.addresses.contains(a))
    };
    let parsed =
        ENDS.iter().filter_map(|(here, there)| Some((here.parse().ok()?, there.parse().ok()?)));
    parsed
        .filter(|(here, _): &(IpAddr, IpAddr)| here.is_ipv4() == v4)
        .find(|(h, t)| !used(h) && !used(t))
}

/// An address outside every network of the inventory, if there is one.
pub(in crate::verify) fn stranger(inventory: &Inventory, v4: bool) -> Option<IpAddr> {
    if inventory.firewall.service_clients.iter().any(|n| n.0.prefix_len() == 0) {
        return None;
    }
    ends(inventory, v4).map(|(_, there)| there)
}

/// Tries a node, by its own forwarding.
pub(super) fn attempts(
    field: &Field<'_>,
    target: &Node,
    seen: &Observed,
    through: &mut dyn Transport,
) -> Made {
    if !seen.runs(Daemon::Kubelet) {
        // What is said of it then is in `peers::nobody_kept_out`.
        return Vec::new();
    }
    if field.writes == Writes::Forbidden {
        return unknown(
            "not tried: it needs a network namespace on the node, which --read-only rules out",
        );
    }
    let inventory = field.inventory;
    if inventory.firewall.service_clients.iter().any(|n| n.0.prefix_len() == 0) {
        return unknown(
            "`firewall.service_clients` names every address: there is no unknown one to try from",
        );
    }
    let aims = seen.inner.clone();
    if aims.is_empty() {
        return unknown("no pod and no Service is known: the cluster's API was not read");
    }
    let families: BTreeSet<bool> = aims.iter().map(|a| a.address.is_ipv4()).collect();
    let mut input = String::new();
    let mut from = Vec::new();
    for v4 in [true, false] {
        match ends(inventory, v4).filter(|_| families.contains(&v4)) {
            Some((here, there)) => {
                input += &format!("{here} {there}\n");
                from.push(there);
            }
            None => input += "- -\n",
        }
    }
    for aim in &aims {
        input += &format!("{} {}\n", aim.address, aim.port);
    }
    let output = through.run(
        Request {
            script: STRANGER_SCRIPT,
            input: &mut input.as_bytes(),
            deadline: Duration::from_secs(30),
            max_output: 1 << 16,
            stays: false,
        },
        &mut |_| {},
    );
    let text = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(e) => return unknown(chain(&e)),
    };
    let name = target.name.as_str();
    match judge(&text, &aims) {
        Err(why) => unknown(why),
        Ok(verdicts) => verdicts
            .into_iter()
            .map(|(aim, verdict)| {
                let source = from.iter().find(|f| f.is_ipv4() == aim.address.is_ipv4());
                let source = source.map_or_else(|| "a stranger".to_owned(), ToString::to_string);
                let to = crate::transport::address(&aim.address.to_string(), aim.port);
                let what = format!("connect from {source} to {} ({to}) through {name}", aim.what);
                (Probe::ForwardedToStranger, what, verdict)
            })
            .collect(),
    }
}

/// A silence counts only where the node itself got an answer, and the stranger was linked to it.
fn judge<'a>(text: &str, aims: &'a [Inner]) -> Result<Vec<(&'a Inner, Verdict)>, String> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(what) = lines.iter().find_map(|l| l.strip_prefix("lacks ")) {
        return Err(format!("the node lacks what the attempt needs: {what}"));
    }
    if lines.last() != Some(&"end") {
        return Err("the attempts were interrupted".to_owned());
    }
    let how = |who: &str, aim: &Inner| {
        let begin = format!("{who} {} {} ", aim.address, aim.port);
        lines.iter().find_map(|l| l.strip_prefix(begin.as_str()))
    };
    let mut made = Vec::new();
    for aim in aims {
        // What does not even answer the node, by a policy or because it is down, shows nothing.
        if how("direct", aim) != Some("open") {
            continue;
        }
        let linked = if aim.address.is_ipv4() { "linked 4" } else { "linked 6" };
        let verdict = match how("stranger", aim) {
            Some("open") => Verdict::fail("kept out", "the connection was accepted"),
            Some(_) if !lines.contains(&linked) => {
                Verdict::unknown("the test link to the node did not work")
            }
            Some("timeout") => Verdict::pass("no answer"),
            Some("refused") => Verdict::pass("refused"),
            other => {
                Verdict::unknown(format!("unexpected result: {}", other.unwrap_or("not tried")))
            }
        };
        made.push((aim, verdict));
    }
    if made.is_empty() {
        return Err(
            "the node itself reaches none of the pods and Services that were tried".to_owned()
        );
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Outcome;

    fn aims() -> Vec<Inner> {
        ["10.96.0.1", "10.96.0.10", "fd00:96::1"]
            .map(|a| Inner { what: "Service".into(), address: a.parse().unwrap(), port: 443 })
            .into()
    }

    #[test]
    fn only_a_silence_beside_an_answer_is_one() {
        let all = aims();
        let judged = |text: &str| {
            judge(text, &all)
                .map(|made| made.into_iter().map(|(_, v)| v.outcome()).collect::<Vec<_>>())
        };
        let open = "direct 10.96.0.1 443 open\nstranger 10.96.0.1 443 open\nlinked 4\nend\n";
        assert_eq!(judged(open), Ok(vec![Outcome::Fail]));
        assert_eq!(
            judged(&open.replace("stranger 10.96.0.1 443 open", "stranger 10.96.0.1 443 timeout")),
            Ok(vec![Outcome::Pass])
        );
        // No link, no word from the node itself, no end, nothing to try with.
        let silent = open.replace("stranger 10.96.0.1 443 open", "stranger 10.96.0.1 443 timeout");
        assert_eq!(judged(&silent.replace("linked 4", "linked 6")), Ok(vec![Outcome::Unknown]));
        assert!(
            judged(&silent.replace("direct 10.96.0.1 443 open", "direct 10.96.0.1 443 timeout"))
                .is_err()
        );
        assert!(judged(&silent.replace("end\n", "")).is_err());
        assert!(judged("lacks unshare\n").is_err());
        // Another address begins with the same figures.
        assert!(
            judged(
                "direct 10.96.0.10 4430 open\nstranger 10.96.0.10 4430 timeout\nlinked 4\nend\n"
            )
            .is_err()
        );
        let six = "direct fd00:96::1 443 open\nstranger fd00:96::1 443 timeout\nlinked 6\nend\n";
        assert_eq!(judged(six), Ok(vec![Outcome::Pass]));
    }

    #[test]
    fn a_stranger_has_an_address_that_the_inventory_does_not_name() {
        let text = include_str!("../../../inventory/minimal.yaml");
        let inventory = |admins: &str| {
            let mut inventory: Inventory = serde_yaml::from_str(text).unwrap();
            inventory.firewall.admin_networks =
                admins.split(' ').filter(|a| !a.is_empty()).map(|a| a.parse().unwrap()).collect();
            inventory
        };
        let there = |admins: &str, v4| ends(&inventory(admins), v4).map(|e| e.1.to_string());
        assert_eq!(there("0.0.0.0/0", true).as_deref(), Some("198.51.100.2"));
        assert_eq!(there("198.51.100.0/24", true).as_deref(), Some("203.0.113.2"));
        assert_eq!(there("198.51.100.0/24 203.0.113.0/24 192.0.2.0/24", true), None);
        assert_eq!(there("", false).as_deref(), Some("2001:db8:6b62:1::2"));
    }
}
