//! A node back to what it was before the first run.

use std::time::Duration;

use crate::event::{Event, Sink};
use crate::inventory::NodeName;
use crate::transport::{Request, Transport, tail};

use super::gate::chain;
use super::record::Outcome;

/// The program that does it.
const SCRIPT: &str = include_str!("node/reset.sh");

/// Pods that end slowly, and packages' services that start again.
const DEADLINE: Duration = Duration::from_secs(600);

/// Whether etcd's data is deleted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// It stays where it is.
    Keep,
    /// It is gone for good.
    Delete,
}

/// Takes back every transaction of a node, newest first.
pub fn reset(
    transport: &mut dyn Transport,
    node: &NodeName,
    data: Data,
    sink: &dyn Sink,
) -> Outcome {
    let line = match data {
        Data::Keep => "keep-data\n",
        Data::Delete => "delete-data\n",
    };
    let mut clean = false;
    let mut said = Vec::new();
    let mut refused = None;
    let request = Request {
        script: SCRIPT,
        input: &mut line.as_bytes(),
        deadline: DEADLINE,
        max_output: 1024 * 1024,
    };
    let output = transport.run(request, &mut |line| match line.split_once(' ') {
        Some(("@state", "clean")) => clean = true,
        Some(("@step", id)) => {
            let what = format!("{} to be taken back", tail(id.as_bytes()));
            sink.send(Event::Waiting { node: node.clone(), what });
        }
        Some(("@refused", why)) => refused = Some(tail(why.as_bytes())),
        Some(("@said" | "@busy" | "@state", why)) if said.len() < 20 => {
            said.push(tail(why.as_bytes()));
        }
        _ => {}
    });
    match output {
        Err(e) => Outcome::Incomplete { why: format!("{}; a second reset goes on", chain(&e)) },
        Ok(_) if clean => Outcome::Committed,
        Ok(_) if refused.is_some() && said.is_empty() => {
            Outcome::Refused { why: refused.unwrap_or_default() }
        }
        Ok(o) => {
            said.extend(refused);
            said.push(format!("status {}: {}", o.status, tail(&o.stderr)));
            Outcome::Incomplete { why: format!("{}; a second reset goes on", said.join("; ")) }
        }
    }
}
