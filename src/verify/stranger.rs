//! Tries to reach pods and Services through a node, from an address in no network of the inventory (a stranger).

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Field, Judged, Writes};
use crate::checks::{InnerAddress, Observed, Verdict, attempt_words, outside};
use crate::controls::{Attack, Daemon};
use crate::digest::Digest;
use crate::error::chain;
use crate::inventory::Node;
use crate::transport::{Request, Transport};

/// The program that tries it.
pub const STRANGER_SCRIPT: &str = include_str!("stranger.sh");

type Results = Vec<(Attack, String, Judged)>;

fn unknown(why: impl Into<String>) -> Results {
    let attack = Attack::ForwardedToStranger;
    vec![(attack, attempt_words(attack).to_owned(), Judged::unknown(why))]
}

/// Tries a node, by its own forwarding.
pub(super) fn attempts(
    field: &Field<'_>,
    target: &Node,
    seen: &Observed,
    through: &mut dyn Transport,
) -> Results {
    if !seen.runs(Daemon::Kubelet) {
        // What is said of it then is in `peers::nobody_kept_out`.
        return Vec::new();
    }
    if field.writes == Writes::Forbidden {
        return unknown(
            "not attempted: it needs a network namespace on the node, which --read-only does not allow",
        );
    }
    let inventory = field.inventory;
    if inventory.firewall.service_clients.iter().any(|n| n.0.prefix_len() == 0) {
        return unknown(
            "`firewall.service_clients` includes every address: no unknown address is left to try from",
        );
    }
    let aims = seen.inner.clone();
    if aims.is_empty() {
        return unknown("no pod or Service is known: the cluster's API was not read");
    }
    let families: BTreeSet<bool> = aims.iter().map(|a| a.address.is_ipv4()).collect();
    let mut input = String::new();
    let mut from = Vec::new();
    for v4 in [true, false] {
        match outside::link(inventory, v4).filter(|_| families.contains(&v4)) {
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
    let (heard, text) = match output {
        Ok(output) => {
            (Digest::of(&output.stdout), String::from_utf8_lossy(&output.stdout).into_owned())
        }
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
                (Attack::ForwardedToStranger, what, Judged::by(heard, verdict))
            })
            .collect(),
    }
}

/// A silence counts only where the node itself got an answer, and the stranger was linked to it.
fn judge<'a>(
    text: &str,
    aims: &'a [InnerAddress],
) -> Result<Vec<(&'a InnerAddress, Verdict)>, String> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(what) = lines.iter().find_map(|l| l.strip_prefix("lacks ")) {
        return Err(format!("the node lacks what the attempt needs: {what}"));
    }
    if lines.last() != Some(&"end") {
        return Err("the attempts were interrupted".to_owned());
    }
    let how = |who: &str, aim: &InnerAddress| {
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
                Verdict::unknown(format!("unexpected result: {}", other.unwrap_or("not attempted")))
            }
        };
        made.push((aim, verdict));
    }
    if made.is_empty() {
        return Err(
            "the node itself cannot reach any of the pods and Services that were tried".to_owned()
        );
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;

    fn aims() -> Vec<InnerAddress> {
        ["10.96.0.1", "10.96.0.10", "fd00:96::1"]
            .map(|a| InnerAddress {
                what: "Service".into(),
                address: a.parse().unwrap(),
                port: 443,
            })
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
}
