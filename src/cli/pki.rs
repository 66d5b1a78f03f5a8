//! `kubastion pki`: how the certificates stand, and issuing what is due.

use serde::Serialize;

use super::global::{Format, Global};
use super::output::{note, pretty, print};
use crate::inventory::Loaded;
use crate::pki::State;
use crate::report::certificates::{IssuedRow, Row, issued, table};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::keys;

/// What to do with keys and certificates.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show every certificate: names, expiry, and what is due to be issued. Writes nothing.
    #[command(after_long_help = STATUS_HELP)]
    Status,
    /// Issue what is missing, expiring or no longer matches the inventory.
    #[command(after_long_help = ENSURE_HELP)]
    Ensure,
}

const STATUS_HELP: &str =
    "Exit code 4 if something is due to be issued or renewed, or an accepted CA to be
removed; 5 if something has expired.

Examples:
  kubastion pki status
  kubastion -i prod.yaml --format json pki status |
      jq '.entries[] | select(.state != \"ok\")'";
const ENSURE_HELP: &str =
    "A second run issues nothing. Replaced files are kept in the store's `retired` directory.
CAs are created once and never replaced.

Examples:
  kubastion pki ensure
  kubastion -i prod.yaml pki ensure && kubastion -i prod.yaml pki status";

/// Runs `kubastion pki`.
///
/// # Errors
/// Every problem of the inventory or the store.
pub fn run(global: &Global, command: &Command) -> Result<Exit, CommandError> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    match command {
        Command::Status => status(global, &loaded),
        Command::Ensure => ensure(global, &loaded),
    }
}

fn status(global: &Global, loaded: &Loaded) -> Result<Exit, CommandError> {
    #[derive(Serialize)]
    struct Report {
        entries: Vec<Row>,
    }
    let all = keys::assess(loaded)?;
    let worst = all.iter().map(|a| a.state).max().unwrap_or(State::Ok);
    let entries: Vec<Row> = all.into_iter().map(Row::new).collect();
    match global.format {
        Format::Json => print(&pretty(&Report { entries }))?,
        Format::Text => print(&table(&entries))?,
    };
    Ok(match worst {
        State::Ok => Exit::Done,
        State::Expired => Exit::Findings,
        State::Expiring | State::Mismatch | State::Missing => Exit::Pending,
    })
}

fn ensure(global: &Global, loaded: &Loaded) -> Result<Exit, CommandError> {
    #[derive(Serialize)]
    struct Report {
        issued: Vec<IssuedRow>,
    }
    let mut store = keys::open(loaded)?;
    let due = keys::issue_due(loaded, &mut store)?;
    if let Some(made) = keys::new_cas(&loaded.inventory, &due) {
        note(global.format, &made);
    }
    let rows: Vec<IssuedRow> = due.into_iter().map(IssuedRow::new).collect();
    match global.format {
        Format::Json => print(&pretty(&Report { issued: rows })),
        Format::Text if rows.is_empty() => {
            print(&format!("nothing to issue in {}\n", store.dir().display()))
        }
        Format::Text => print(&issued(&rows)),
    }
}
