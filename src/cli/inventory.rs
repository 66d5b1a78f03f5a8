//! `kubastion inventory`: check and show the operator's file.

use std::path::PathBuf;

use serde::Serialize;

use super::args::{Format, Global};
use super::init;
use super::output::{note, pretty, print, to_yaml};
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::inventory::{self, Diagnostic, LoadContext, Loaded};
use crate::plain::counted;
use crate::verify::exceptions_without_a_check;

/// What to do with the inventory.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a commented inventory to start from.
    Init(Box<init::Args>),
    /// Report everything that is wrong in the inventory; needs no network.
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

/// The clock, the controls of this release and the user's home directory.
pub fn load_context() -> LoadContext<'static> {
    LoadContext {
        clock: Clock::System,
        known_controls: &crate::controls::ids::ALL,
        critical_controls: &crate::controls::ids::CRITICAL,
        home: std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute()),
        host_keys_optional: false,
    }
}

/// Loads the inventory that the command line names; warnings go to standard error.
///
/// # Errors
/// Every problem of the inventory, with exit code 3.
pub fn load(global: &Global) -> Result<Loaded, CommandError> {
    load_with(global, &load_context())
}

/// The same where nodes may lack a host key: for what logs in to none, or leaves those out.
///
/// # Errors
/// As [`load`].
pub fn load_host_keys_optional(global: &Global) -> Result<Loaded, CommandError> {
    load_with(global, &LoadContext { host_keys_optional: true, ..load_context() })
}

fn load_with(global: &Global, context: &LoadContext<'_>) -> Result<Loaded, CommandError> {
    let loaded = inventory::load(&global.inventory, context)
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    let problems = exceptions_without_a_check(&loaded.inventory);
    if !problems.is_empty() {
        return Err(CommandError { exit: Exit::InvalidInput, problems });
    }
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
    let (report, summary) = match inventory::load(file, &load_context()) {
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
