//! `kubastion trust`: the first contact with a machine.

use std::time::Duration;

use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print};
use super::pipeline::{self, Reach};
use super::run::Stop;
use crate::error::Problem;
use crate::transport::{fleet, reach, reach::Presented};

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Which nodes.
    #[command(flatten)]
    pub reach: Reach,
}

const HELP: &str =
    "Asks each node for its host keys, without logging in, and shows their fingerprints and whether
the inventory, or the known_hosts file that it names, has them. Whether they are the right ones only
the machine's own console or your provider can say: compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there,
then write them into the node's `ssh.host_keys`. Nothing here trusts anything by itself.

Examples:
  kubastion trust
  kubastion --format json trust --nodes w1";

/// Runs `kubastion trust`.
///
/// # Errors
/// Problems of the inventory, and every node that shows no key.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Stop> {
    let loaded = super::inventory::load_for_first_contact(global)?;
    let inventory = &loaded.inventory;
    let nodes = pipeline::chosen(inventory, &args.reach)?;
    let results = fleet::each(nodes.clone(), fleet::WINDOW, |node| {
        let target = inventory.ssh.for_node(node);
        let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
        reach::present_host_keys(&target, timeout)
    });
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for (node, result) in nodes.iter().zip(results) {
        match result {
            Ok(keys) => {
                let named = inventory.ssh.for_node(node).host_keys;
                if !named.is_empty() && !keys.iter().any(|k| k.is_trusted) {
                    let all: Vec<&str> = named.iter().map(|k| k.as_str()).collect();
                    let problem = Problem::new(
                        "none of its host keys is one that the inventory names",
                    )
                    .at(node.name.to_string())
                    .because(format!("the inventory names {}", all.join(", ")))
                    .left("nothing was sent to it")
                    .hint("compare with its console: it was rebuilt, or this is another machine");
                    problems.push(problem);
                }
                for Presented { kind, fingerprint, is_trusted } in keys {
                    let mark = if is_trusted { "trusted" } else { "NOT trusted" };
                    text.push_str(&format!("{:<16} {kind:<10} {fingerprint}  {mark}\n", node.name));
                    rows.push(serde_json::json!({
                        "node": node.name, "type": kind, "fingerprint": fingerprint,
                        "promised": is_trusted,
                    }));
                }
            }
            Err(e) => {
                let mut problem = Problem::from_error("it shows no host key", &e);
                problem.hint = e.hint();
                problems.push(problem.at(node.name.to_string()));
            }
        }
    }
    match global.format {
        Format::Json => print(&pretty(&rows))?,
        Format::Text => print(&text)?,
    };
    if problems.is_empty() {
        Ok(Exit::Done)
    } else {
        Err(Stop { exit: Exit::NodeFailed, problems })
    }
}
