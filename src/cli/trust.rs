//! `kubastion trust`: the first contact with a machine.

use std::time::Duration;

use super::args::{Format, Global};
use super::output::{pretty, print};
use crate::command_error::{CommandError, Exit};
use crate::error::Problem;
use crate::inventory::NodeName;
use crate::plain::plain_line;
use crate::transport::{fleet, reach, reach::Presented};
use crate::workflow::observe::{self, Reach};

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Only these nodes; all if absent.
    #[arg(long, value_delimiter = ',', value_name = "NODE,...")]
    pub nodes: Vec<NodeName>,
}

const HELP: &str =
    "Asks each node for its host keys, without logging in, and shows their fingerprints and whether
the inventory, or the known_hosts file that it names, has them. Compare them on the machine's
console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`) or with your provider, then add them
to the node's `ssh.host_keys`: YAML to copy follows for nodes without any. Nothing is trusted
automatically. The exit code is 6 if a node shows no key, or none that the inventory names.

Examples:
  kubastion trust
  kubastion --format json trust --nodes w1";

/// Runs `kubastion trust`.
///
/// # Errors
/// Problems of the inventory, and every node that shows no key.
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    let inventory = &loaded.inventory;
    let reach = Reach { nodes: args.nodes.clone(), ..Reach::default() };
    let nodes = observe::chosen(inventory, &reach)?;
    let results = fleet::each(nodes.clone(), fleet::WINDOW, |node| {
        let target = inventory.ssh.for_node(node);
        let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
        reach::present_host_keys(&target, timeout)
    });
    let mut text = String::new();
    let mut unnamed: Vec<(&NodeName, Vec<Presented>)> = Vec::new();
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
                for Presented { kind, fingerprint, is_trusted } in &keys {
                    let mark = if *is_trusted { "trusted" } else { "NOT trusted" };
                    text.push_str(&format!("{:<16} {kind:<10} {fingerprint}  {mark}\n", node.name));
                    rows.push(serde_json::json!({
                        "node": node.name, "type": kind, "fingerprint": fingerprint,
                        "promised": is_trusted,
                    }));
                }
                // Where the inventory names others, a paste would be the wrong answer.
                if named.is_empty() && !keys.iter().any(|k| k.is_trusted) {
                    unnamed.push((&node.name, keys));
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
        Format::Text => print(&(text + &snippet(&unnamed)))?,
    };
    if problems.is_empty() {
        Ok(Exit::Done)
    } else {
        Err(CommandError { exit: Exit::NodeFailed, problems })
    }
}

/// What to write into the inventory, as YAML, for nodes of which it says nothing yet.
fn snippet(unnamed: &[(&NodeName, Vec<Presented>)]) -> String {
    let mut yaml = String::new();
    for (name, keys) in unnamed {
        if yaml.is_empty() {
            yaml.push_str(
                "\n# Only after the fingerprints were compared with the machines' consoles: the `ssh` part of each\n\
                 # belongs to the node of that name in the inventory.\nnodes:\n",
            );
        }
        yaml.push_str(&format!("  - name: {name}\n    ssh:\n      host_keys:\n"));
        for key in keys {
            yaml.push_str(&format!(
                "        - \"{}\" # {}\n",
                key.fingerprint,
                plain_line(&key.kind)
            ));
        }
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snippet_is_yaml_for_the_inventory() {
        let name: NodeName = "cp1".parse().unwrap();
        let fingerprint = format!("SHA256:{}", "A".repeat(43));
        let key = Presented {
            kind: "Ed25519".into(),
            fingerprint: fingerprint.clone(),
            is_trusted: false,
        };
        assert_eq!(snippet(&[]), "");
        let text = snippet(&[(&name, vec![key])]);
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let node = &yaml["nodes"][0];
        assert_eq!(node["name"], "cp1");
        let ssh: crate::inventory::NodeSsh = serde_yaml::from_value(node["ssh"].clone()).unwrap();
        assert_eq!(ssh.host_keys[0].as_str(), fingerprint);
    }
}
