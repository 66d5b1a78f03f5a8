//! `kubastion trust`: the first contact with a machine.

use super::global::{Format, Global};
use super::output::{pretty, print};
use crate::inventory::NodeName;
use crate::plain::plain_line;
use crate::report::table::{self, Column};
use crate::transport::reach::Presented;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::first_contact::{Presentation, host_keys};
use crate::workflow::observe::Reach;

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// Only these nodes. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "NODE,...")]
    pub nodes: Vec<NodeName>,
}

const HELP: &str =
    "Asks each node for its host keys, without logging in, and shows their fingerprints and whether
the inventory, or the known_hosts file that it names, has them. Compare them on the machine's
console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`) or with your provider, then add them
to the node's `ssh.host_keys`: for nodes without host keys, YAML to copy is printed. Nothing is trusted
automatically. The exit code is 6 if a node presents no key, or no key that the inventory lists.

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
    let (shown, problems) = host_keys(inventory, &reach)?;
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for Presentation { node, keys, .. } in &shown {
        for Presented { kind, fingerprint, is_trusted, .. } in keys {
            let mark = if *is_trusted { "trusted" } else { "NOT trusted" };
            lines.push([node.to_string(), kind.to_string(), fingerprint.to_string(), mark.into()]);
            rows.push(serde_json::json!({
                "node": node, "type": kind, "fingerprint": fingerprint,
                "promised": is_trusted,
            }));
        }
    }
    match global.format {
        Format::Json => print(&pretty(&rows))?,
        Format::Text => {
            let keys = table::text([Column::TEXT; 4], lines);
            print(&(keys + &snippet(&shown)))?
        }
    };
    if problems.is_empty() {
        Ok(Exit::Done)
    } else {
        Err(CommandError { exit: Exit::NodeFailed, problems })
    }
}

/// What to write into the inventory, as YAML, for nodes of which it says nothing yet.
fn snippet(shown: &[Presentation]) -> String {
    let mut yaml = String::new();
    for Presentation { node, keys, .. } in shown.iter().filter(|p| p.is_new) {
        if yaml.is_empty() {
            yaml.push_str(
                "\n# First compare the fingerprints on the console of each machine. Then copy each `ssh` part to \
                 the\n# node of that name in the inventory.\nnodes:\n",
            );
        }
        yaml.push_str(&format!("  - name: {node}\n    ssh:\n      host_keys:\n"));
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
        let fingerprint = format!("SHA256:{}", "A".repeat(43));
        let key = Presented {
            kind: "Ed25519".into(),
            fingerprint: fingerprint.clone(),
            is_trusted: false,
            refused: None,
        };
        assert_eq!(snippet(&[]), "");
        let new = Presentation { node: "cp1".parse().unwrap(), keys: vec![key], is_new: true };
        let text = snippet(&[new]);
        let yaml: crate::yaml::Value = crate::yaml::parse(&text).unwrap();
        let node = &yaml["nodes"][0];
        assert_eq!(node["name"], "cp1");
        let ssh: crate::inventory::NodeSsh = crate::yaml::from_value(node["ssh"].clone()).unwrap();
        assert_eq!(ssh.host_keys[0].as_str(), fingerprint);
    }
}
