//! `kubastion inventory`: check and show the operator's file.

use serde::Serialize;

use super::global::{Format, Global};
use super::init;
use super::output::{note, pretty, print, to_yaml};
use crate::checks::exceptions_without_a_check;
use crate::inventory::{self, Diagnostic, Loaded};
use crate::plain::counted;
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::inventory::{HostKeys, context, read};

/// What to do with the inventory.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a commented inventory to start from.
    Init(Box<init::Args>),
    /// Report every problem in the inventory. Needs no network.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check,
    /// Print the JSON schema of inventories, for editors.
    #[command(after_long_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Print every key with its values, default and meaning, as Markdown.
    #[command(after_long_help = REFERENCE_EXAMPLES)]
    Reference,
    /// Print the inventory with all defaults filled in and paths resolved.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show,
}

const REFERENCE_EXAMPLES: &str = "Examples:
  kubastion inventory reference | less";
const CHECK_EXAMPLES: &str = "Examples:
  kubastion inventory check
  kubastion --format json inventory check | jq '.problems[].message'";
const SCHEMA_EXAMPLES: &str = "Examples:
  kubastion inventory schema > inventory-schema.json
  # then, as the first line of an inventory, for a YAML language server:
  # yaml-language-server: $schema=inventory-schema.json";
const SHOW_EXAMPLES: &str = "Examples:
  kubastion inventory show
  kubastion -i prod.yaml --format json inventory show | jq .firewall";

/// Runs `kubastion inventory`.
///
/// # Errors
/// Every problem of the inventory, or why it cannot be written.
pub fn run(global: &Global, command: &Command) -> Result<Exit, CommandError> {
    match command {
        Command::Init(args) => init::run(global, args),
        Command::Check => check(global),
        Command::Schema => print(&pretty(&inventory::schema())),
        Command::Reference => print(&inventory::reference(&inventory::schema())),
        Command::Show => {
            let loaded = load_host_keys_optional(global)?;
            match global.format {
                Format::Json => print(&pretty(&loaded.inventory)),
                Format::Text => print(&to_yaml(&loaded.inventory)),
            }
        }
    }
}

/// Loads the inventory that the command line names; warnings go to standard error.
///
/// # Errors
/// Every problem of the inventory, with exit code 3.
pub(super) fn load(global: &Global) -> Result<Loaded, CommandError> {
    load_with(global, HostKeys::Required)
}

/// The same where nodes may lack a host key: for what logs in to none, or leaves those out.
///
/// # Errors
/// As [`load`].
pub(super) fn load_host_keys_optional(global: &Global) -> Result<Loaded, CommandError> {
    load_with(global, HostKeys::Optional)
}

fn load_with(global: &Global, host_keys: HostKeys) -> Result<Loaded, CommandError> {
    let loaded = read(&global.inventory, host_keys)?;
    for warning in &loaded.warnings {
        note(global.format, &warning.warning(&global.inventory).to_string());
    }
    Ok(loaded)
}

#[derive(Serialize)]
struct CheckReport {
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

fn check(global: &Global) -> Result<Exit, CommandError> {
    let file = &global.inventory;
    let (report, summary) = match inventory::load(file, &context(HostKeys::Required)) {
        Ok(loaded) => {
            let problems = exceptions_without_a_check(&loaded.inventory);
            if !problems.is_empty() {
                return Err(CommandError { exit: Exit::InvalidInput, problems });
            }
            let nodes = loaded.inventory.nodes.len();
            let nodes = counted(nodes, "node");
            let summary = format!("{}: {nodes}, no problems\n", file.display());
            (CheckReport { problems: Vec::new(), warnings: loaded.warnings }, Some(summary))
        }
        Err(e) => (CheckReport { problems: e.problems, warnings: e.warnings }, None),
    };
    match global.format {
        Format::Json => {
            print(&pretty(&report))?;
        }
        Format::Text => {
            for warning in &report.warnings {
                eprintln!("{}", warning.warning(file));
            }
            if let Some(summary) = summary {
                return print(&summary);
            }
        }
    }
    if report.problems.is_empty() {
        return Ok(Exit::Done);
    }
    let problems = match global.format {
        Format::Text => report.problems.iter().map(|d| d.problem(file)).collect(),
        Format::Json => Vec::new(),
    };
    Err(CommandError { exit: Exit::InvalidInput, problems })
}
