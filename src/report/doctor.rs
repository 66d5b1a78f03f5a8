//! What `doctor` found, for people and machines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::error::Problem;
use crate::plain::counted;
use crate::report::table::{self, Column};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something to know.
    Note,
    /// Something to mend.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `operator`, `etcd`, or a node's name.
    pub place: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// The cause, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// Without cause and hint.
    pub fn new(place: &str, level: Level, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), level, what: what.into(), why: Vec::new(), hint: None }
    }

    /// From a problem of a place.
    pub fn of(place: &str, problem: Problem) -> Self {
        let at = problem.place.filter(|p| p != place).map(|p| format!("{p}: ")).unwrap_or_default();
        Self {
            what: format!("{at}{}", problem.what),
            why: problem.why,
            hint: problem.hint,
            ..Self::new(place, Level::Problem, "")
        }
    }

    /// Says how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The findings in their order, then how many are problems.
pub fn text(findings: &[Finding]) -> String {
    let rows = findings.iter().flat_map(|f| {
        let word = match f.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "PROBLEM",
        };
        let rest = f.why.iter().map(|w| ("why", w)).chain(f.hint.iter().map(|h| ("hint", h)));
        let rest = rest.map(|(word, line)| ["", "", &format!("{word}: {line}")].map(str::to_owned));
        std::iter::once([f.place.clone(), word.to_owned(), f.what.clone()]).chain(rest)
    });
    // As wide as `PROBLEM`.
    let columns = [Column::TEXT, Column::TEXT.at_least(7), Column::TEXT];
    let mut text = table::text(columns, rows);
    let bad = findings.iter().filter(|f| f.level == Level::Problem).count();
    _ = writeln!(text, "\n{}", counted(bad, "problem"));
    text
}
