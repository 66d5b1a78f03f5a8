//! `kubastion pki`: how the certificates stand, and issuing what is due.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{Format, Global};
use super::output::{note, pretty, print};
use crate::clock::Clock;
use crate::command_error::{CommandError, Exit};
use crate::inventory::Loaded;
use crate::pki::{self, Assessment, Entry, Reason, San, State, Store};
use crate::workflow::keys;

/// What to do with keys and certificates.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show every certificate: names, expiry, and what is to be issued. Writes nothing.
    #[command(after_long_help = STATUS_HELP)]
    Status,
    /// Issue what is missing, expiring or no longer what the inventory wants.
    #[command(after_long_help = ENSURE_HELP)]
    Ensure,
}

const STATUS_HELP: &str =
    "Exit code 4 if something is to be issued or renewed, 5 if something has expired.

Examples:
  kubastion pki status
  kubastion -i prod.yaml --format json pki status |
      jq '.entries[] | select(.state != \"ok\")'";
const ENSURE_HELP: &str =
    "A second run issues nothing. What is replaced is kept in the store's `retired`.
CAs are made once and never replaced.

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

#[derive(Serialize)]
struct Report {
    entries: Vec<Row>,
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    name: String,
    node: Option<String>,
    issuer: Option<&'static str>,
    names: Vec<String>,
    not_after: Option<String>,
    days_left: Option<i64>,
    state: State,
    reasons: Vec<Reason>,
}

impl Row {
    fn new(a: Assessment) -> Self {
        let (name, node, issuer) = match &a.entry {
            Entry::Leaf(id) => {
                let profile = id.kind.profile();
                let node = id.node.as_ref().map(ToString::to_string);
                (profile.file.to_owned(), node, Some(profile.issuer.common_name()))
            }
            other => (other.to_string(), None, None),
        };
        Self {
            name,
            node,
            issuer,
            names: a.names.iter().map(San::to_string).collect(),
            not_after: a.not_after.map(rfc3339),
            days_left: a.days_left,
            state: a.state,
            reasons: a.reasons,
        }
    }
}

fn rfc3339(t: OffsetDateTime) -> String {
    t.format(&Rfc3339).expect("a certificate's year has four digits")
}

fn status(global: &Global, loaded: &Loaded) -> Result<Exit, CommandError> {
    let inventory = &loaded.inventory;
    let ask = |ask| keys::ask_passphrase(&inventory.pki, ask);
    let store = Store::open(&inventory.pki, &inventory.cluster.name, &ask)
        .map_err(|e| CommandError::from(&e))?;
    let contents = store.contents().map_err(|e| CommandError::from(&e))?;
    let all = pki::assess(inventory, &contents, Clock::System.now());
    let worst = all.iter().map(|a| a.state).max().unwrap_or(State::Ok);
    let rows: Vec<Row> = all.into_iter().map(Row::new).collect();
    match global.format {
        Format::Json => print(&pretty(&Report { entries: rows }))?,
        Format::Text => print(&table(&rows))?,
    };
    Ok(match worst {
        State::Ok => Exit::Done,
        State::Expired => Exit::Findings,
        State::Expiring | State::Mismatch | State::Missing => Exit::Pending,
    })
}

/// Widest list of names in the table; JSON has them all.
const NAMES_WIDTH: usize = 40;

fn table(rows: &[Row]) -> String {
    let header = ["NAME", "NODE", "ISSUER", "NAMES", "NOT AFTER", "DAYS", "STATE"];
    let dash = || "-".to_owned();
    let cells = |r: &Row| {
        [
            r.name.clone(),
            r.node.clone().unwrap_or_else(dash),
            r.issuer.map_or_else(dash, str::to_owned),
            short_names(&r.names),
            r.not_after.as_ref().map_or_else(dash, |t| t.chars().take(10).collect()),
            r.days_left.map_or_else(dash, |d| d.to_string()),
            r.state.to_string(),
        ]
    };
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
            let last = column + 1 == line.len();
            // Writing to a String cannot fail.
            _ = if last { write!(text, "{cell}") } else { write!(text, "{cell:width$}  ") };
        }
        text.push('\n');
        for reason in i.checked_sub(1).map_or(&[][..], |r| &rows[r].reasons) {
            _ = writeln!(text, "    {reason}");
        }
    }
    text
}

fn short_names(names: &[String]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for (i, name) in names.iter().enumerate() {
        if i > 0 && text.len() + name.len() + 1 > NAMES_WIDTH {
            _ = write!(text, " +{}", names.len() - i);
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(name);
    }
    text
}

#[derive(Serialize)]
struct IssuedReport {
    issued: Vec<IssuedRow>,
}

#[derive(Serialize)]
struct IssuedRow {
    name: String,
    reasons: Vec<Reason>,
}

fn ensure(global: &Global, loaded: &Loaded) -> Result<Exit, CommandError> {
    let inventory = &loaded.inventory;
    let ask = |ask| keys::ask_passphrase(&inventory.pki, ask);
    let mut store = Store::open(&inventory.pki, &inventory.cluster.name, &ask)
        .map_err(|e| CommandError::from(&e))?;
    let (_, issued) = pki::ensure(inventory, &mut store, &ask, Clock::System)
        .map_err(|e| CommandError::from(&e))?;
    if let Some(made) = keys::new_cas(inventory, &issued) {
        note(global.format, &made);
    }
    let issued: Vec<IssuedRow> = issued
        .into_iter()
        .map(|i| IssuedRow { name: i.entry.to_string(), reasons: i.reasons })
        .collect();
    match global.format {
        Format::Json => print(&pretty(&IssuedReport { issued })),
        Format::Text if issued.is_empty() => {
            print(&format!("nothing to issue in {}\n", store.dir().display()))
        }
        Format::Text => {
            let mut text = String::new();
            for row in &issued {
                let why: Vec<String> = row.reasons.iter().map(ToString::to_string).collect();
                _ = writeln!(text, "issued {}: {}", row.name, why.join("; "));
            }
            print(&text)
        }
    }
}
