//! Restores a node to its state before the first run.

use std::time::Duration;

use crate::event::{Event, Sink};
use crate::inventory::NodeName;
use crate::transport::{Output, Request, Transport, TransportError, tail};

use super::execution::Execution;
use crate::error::chain;
use crate::plan::{EtcdData, TakenFor};
use crate::runs::outcome::{Outcome, Reset};

/// The program that does it.
pub(super) const SCRIPT: &str =
    concat!(include_str!("node/old-images.sh"), include_str!("node/reset.sh"));

/// Pods that end slowly, and packages' services that start again.
const DEADLINE: Duration = Duration::from_secs(600);
/// Deadline of a check without a reset.
const LOOK: Duration = Duration::from_secs(30);

/// What the node's program is told that it must be.
fn word(taken_for: TakenFor) -> &'static str {
    match taken_for {
        TakenFor::Worker => "worker",
        TakenFor::Member => "member",
    }
}

/// Carries the task out, over a connection of its own.
pub(super) fn carry_out(
    c: &Execution<'_>,
    node: &NodeName,
    taken_for: TakenFor,
    data: EtcdData,
) -> Reset {
    c.sink.send(Event::Begin { node: node.clone(), what: "reset".into(), steps: 0 });
    let left = |outcome| Reset { outcome, taken_back: Vec::new() };
    let reset = match c.inventory.nodes.iter().find(|n| n.name == *node) {
        None => left(Outcome::Refused { why: "the inventory does not have this node".into() }),
        Some(of) => match c.dialer.connect(&c.inventory.ssh.for_node(of)) {
            Ok(mut session) => reset(session.as_mut(), node, taken_for, data, c.sink),
            Err(e) => left(Outcome::Unreachable { why: chain(&e) }),
        },
    };
    let how = match &reset.outcome {
        Outcome::Committed => "original state restored".to_owned(),
        Outcome::Refused { why } => format!("not reset: {why}"),
        Outcome::Unreachable { why } => format!("unreachable: {why}"),
        Outcome::Incomplete { why } => format!("INCOMPLETE: {why}"),
        Outcome::Reverted { why } | Outcome::Skipped { why } | Outcome::Unready { why } => {
            why.clone()
        }
    };
    c.sink.send(Event::End { node: node.clone(), how, good: reset.outcome.is_good() });
    reset
}

fn run(
    transport: &mut dyn Transport,
    line: &str,
    deadline: Duration,
    on_line: &mut dyn FnMut(&str),
) -> Result<Output, TransportError> {
    let input = &mut line.as_bytes();
    transport.run(
        Request { script: SCRIPT, input, deadline, max_output: 1024 * 1024, stays: false },
        on_line,
    )
}

/// Whether a node is what it is taken for. Changes nothing.
///
/// # Errors
/// What it is instead, or why it could not be asked.
pub fn may_be_reset(transport: &mut dyn Transport, taken_for: TakenFor) -> Result<(), String> {
    let line = format!("look {}\n", word(taken_for));
    let mut answer = Err(String::new());
    let output = run(transport, &line, LOOK, &mut |line| match line.split_once(' ') {
        Some(("@state", "clean")) => answer = Ok(()),
        Some(("@refused", why)) => answer = Err(tail(why.as_bytes())),
        _ => {}
    });
    let output = output.map_err(|e| chain(&e))?;
    answer.map_err(|why| match why.as_str() {
        "" => format!("status {}: {}", output.status, tail(&output.stderr)),
        _ => why,
    })
}

/// Takes back every transaction of a node, newest first.
fn reset(
    transport: &mut dyn Transport,
    node: &NodeName,
    taken_for: TakenFor,
    data: EtcdData,
    sink: &dyn Sink,
) -> Reset {
    let data = match data {
        EtcdData::Keep => "keep-data",
        EtcdData::Delete => "delete-data",
    };
    let line = format!("{data} {}\n", word(taken_for));
    let mut clean = false;
    let mut said = Vec::new();
    let mut refused = None;
    let mut taken_back = Vec::new();
    let output = run(transport, &line, DEADLINE, &mut |line| match line.split_once(' ') {
        Some(("@state", "clean")) => clean = true,
        Some(("@undone", id)) if taken_back.len() < 1000 => taken_back.push(tail(id.as_bytes())),
        Some(("@step", id)) => {
            let what = format!("{} to be rolled back", tail(id.as_bytes()));
            sink.send(Event::Waiting { node: node.clone(), what });
        }
        Some(("@refused", why)) => refused = Some(tail(why.as_bytes())),
        Some(("@said" | "@busy" | "@state", why)) if said.len() < 20 => {
            said.push(tail(why.as_bytes()));
        }
        _ => {}
    });
    let outcome = match output {
        Err(e) => {
            Outcome::Incomplete { why: format!("{}; run the reset again to continue", chain(&e)) }
        }
        Ok(_) if clean => Outcome::Committed,
        Ok(_) if refused.is_some() && said.is_empty() => {
            Outcome::Refused { why: refused.unwrap_or_default() }
        }
        Ok(o) => {
            said.extend(refused);
            said.push(format!("status {}: {}", o.status, tail(&o.stderr)));
            Outcome::Incomplete {
                why: format!("{}; run the reset again to continue", said.join("; ")),
            }
        }
    };
    Reset { outcome, taken_back }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::inventory::testing;
    use crate::transport::Dialer as _;
    use crate::transport::played::Played;

    #[test]
    fn what_a_node_took_back_is_known_also_where_it_could_not_take_back_all() {
        assert!(SCRIPT.contains("echo \"@undone ${txn##*/}\""), "what is asked for below");
        let inventory = testing::two_and_two();
        let node = &inventory.nodes[0];
        let half = Played(&|_, _, _| {
            "@step 2-b-host\n@undone 2-b-host\n@step 1-a-host\n@said no room\n@state incomplete 1-a-host\n".into()
        });
        let mut session = half.connect(&inventory.ssh.for_node(node)).unwrap();
        let found = reset(session.as_mut(), &node.name, TakenFor::Member, EtcdData::Keep, &Silent);
        assert_eq!(found.taken_back, ["2-b-host"]);
        let Outcome::Incomplete { why } = found.outcome else { panic!("{found:?}") };
        assert!(
            why.contains("no room") && why.contains("run the reset again to continue"),
            "{why}"
        );
    }
}
