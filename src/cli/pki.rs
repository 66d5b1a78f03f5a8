//! `kubastion pki`: how the certificates stand, and issuing what is due.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{Format, Global};
use super::exit::Exit;
use super::output::{pretty, print};
use super::run::Stop;
use crate::clock::Clock;
use crate::inventory::{Loaded, Pki};
use crate::pki::{self, Ask, Assessment, Entry, PkiError, Reason, San, State, Store};
use crate::secret::{self, Secret};

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
pub fn run(global: &Global, command: &Command) -> Result<Exit, Stop> {
    let loaded = super::inventory::load_host_keys_optional(global)?;
    match command {
        Command::Status => status(global, &loaded),
        Command::Ensure => ensure(global, &loaded),
    }
}

/// The passphrase of the store: from its file, else from the terminal.
///
/// # Errors
/// If there is neither, or the two entries for a new store differ.
pub fn ask_passphrase(pki: &Pki, ask: Ask) -> std::io::Result<Secret<String>> {
    if let Some(file) = &pki.store.passphrase_file {
        return Store::read_passphrase_file(file).map_err(std::io::Error::other);
    }
    let prompt = |text: &str| rpassword::prompt_password(text).map(Secret::new);
    let place = pki.dir.display();
    let first = match ask {
        Ask::Open => return prompt(&format!("Passphrase of the key store {place}: ")),
        Ask::New => prompt(&format!("Passphrase for the new key store {place}: "))?,
    };
    let again = prompt("Once more: ")?;
    if first.expose().is_empty() {
        return Err(std::io::Error::other("the passphrase is empty"));
    }
    if !secret::equal(first.expose().as_bytes(), again.expose().as_bytes()) {
        return Err(std::io::Error::other("the two entries differ"));
    }
    Ok(first)
}

/// A failure of the store as the end of a verb.
pub fn stop(error: &PkiError) -> Stop {
    let exit = match error {
        PkiError::Io { .. } | PkiError::Sign { .. } | PkiError::Key { .. } => Exit::Unexpected,
        _ => Exit::InvalidInput,
    };
    Stop { exit, problems: error.problems() }
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

fn status(global: &Global, loaded: &Loaded) -> Result<Exit, Stop> {
    let inventory = &loaded.inventory;
    let ask = |ask| ask_passphrase(&inventory.pki, ask);
    let store = Store::open(&inventory.pki, &inventory.cluster.name, &ask).map_err(|e| stop(&e))?;
    let contents = store.contents().map_err(|e| stop(&e))?;
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

fn ensure(global: &Global, loaded: &Loaded) -> Result<Exit, Stop> {
    let inventory = &loaded.inventory;
    let ask = |ask| ask_passphrase(&inventory.pki, ask);
    let mut store =
        Store::open(&inventory.pki, &inventory.cluster.name, &ask).map_err(|e| stop(&e))?;
    let (_, issued) =
        pki::ensure(inventory, &mut store, &ask, Clock::System).map_err(|e| stop(&e))?;
    super::keys::say_if_new(inventory, &issued, global.format);
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
