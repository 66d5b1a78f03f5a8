//! An error as the user sees it: what, where, why, in which state things were left, and how to go on.
//!
//! Every module has an error enum of its own; at the edge it becomes a [`Problem`]. All problems of
//! a run are shown, not the first.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::plain::plain;

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What failed, as a sentence without a full stop.
    pub what: String,
    /// Node, `file:line:column` or stage.
    pub place: Option<String>,
    /// The cause, outermost first.
    pub why: Vec<String>,
    /// In which state things were left.
    pub state: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with nothing but its name.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, why: Vec::new(), state: None, hint: None }
    }

    /// A problem from an error and its chain of sources.
    pub fn from_error(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(Some(error), |e| e.source());
        Self { why: chain.map(|e| e.to_string()).collect(), ..Self::new(what) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Says in which state things were left.
    #[must_use]
    pub fn left(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Says what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.text()?))
    }
}

impl Problem {
    fn text(&self) -> Result<String, fmt::Error> {
        let mut f = String::new();
        write!(f, "error: ")?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.what)?;
        for why in &self.why {
            write!(f, "\n  why:   {}", why.replace('\n', "\n         "))?;
        }
        if let Some(state) = &self.state {
            write!(f, "\n  state: {state}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint:  {hint}")?;
        }
        Ok(f)
    }
}
