//! How certificates stand, and which were issued, for people and machines.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pki::{Assessment, Entry, Issued, Reason, San, State};
use crate::report::table::{self, Column};

/// How a certificate, or a key without one, stands.
#[derive(Serialize)]
pub struct Row {
    name: String,
    node: Option<String>,
    issuer: Option<&'static str>,
    #[serde(flatten)]
    certificate: Option<CertificateRow>,
    /// Of a CA that does not issue: why.
    #[serde(skip)]
    says: Option<&'static str>,
    /// Whether its CA's key is not in the store.
    signed_elsewhere: bool,
    names: Vec<String>,
    not_after: Option<String>,
    days_left: Option<i64>,
    state: State,
    reasons: Vec<Reason>,
}

/// Which certificate a CA has.
#[derive(Serialize)]
struct CertificateRow {
    subject: String,
    sha256: String,
}

impl Row {
    /// Of what was found in the store.
    pub fn new(a: Assessment) -> Self {
        let (name, node, issuer) = match &a.entry {
            Entry::Leaf(id) => {
                let profile = id.kind.profile();
                let node = id.node.as_ref().map(ToString::to_string);
                (profile.file.to_owned(), node, Some(profile.issuer.common_name()))
            }
            other => (other.to_string(), None, None),
        };
        let says = match &a.entry {
            Entry::Accepted(_) => Some("accepted, does not issue"),
            Entry::Ca(_) if a.signed_elsewhere => Some("its key is not here, issues nothing"),
            _ => None,
        };
        Self {
            name,
            says,
            signed_elsewhere: a.signed_elsewhere,
            node,
            issuer,
            certificate: a
                .certificate
                .map(|a| CertificateRow { subject: a.subject, sha256: a.sha256 }),
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

/// Widest list of names in the table; JSON has them all.
const NAMES_WIDTH: usize = 40;

/// A line a certificate, and below it why it is to be issued.
pub fn table(rows: &[Row]) -> String {
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
    for (i, line) in table::lines([Column::TEXT; 7], lines).into_iter().enumerate() {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{line}");
        let Some(row) = i.checked_sub(1).map(|r| &rows[r]) else { continue };
        if let (Some(ca), Some(says)) = (&row.certificate, row.says) {
            _ = writeln!(text, "    {}: {says}", ca.subject);
            _ = writeln!(text, "    SHA-256 {}", ca.sha256);
        }
        for reason in &row.reasons {
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

/// Something that was issued.
#[derive(Serialize)]
pub struct IssuedRow {
    name: String,
    reasons: Vec<Reason>,
}

impl IssuedRow {
    /// Of what was put into the store.
    pub fn new(issued: Issued) -> Self {
        Self { name: issued.entry.to_string(), reasons: issued.reasons }
    }
}

/// A line each, with the reasons.
pub fn issued(rows: &[IssuedRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let why: Vec<String> = row.reasons.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        _ = writeln!(text, "issued {}: {}", row.name, why.join("; "));
    }
    text
}
