//! What came of an attempt, with the digest of what answered it.

use crate::checks::{Outcome, Verdict};
use crate::digest::Digest;

/// A verdict, and what it was judged from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What came of it.
    pub verdict: Verdict,
    /// Of what came back, or of how it ended; `None` where nothing was tried, or nothing can be concluded from what happened.
    pub answer: Option<Digest>,
}

impl Judged {
    /// A verdict by an answer.
    pub fn by(answer: impl Into<Option<Digest>>, verdict: Verdict) -> Self {
        Self { verdict, answer: answer.into() }
    }

    /// Nothing can be concluded.
    pub fn unknown(why: impl Into<String>) -> Self {
        Verdict::unknown(why).into()
    }

    /// Which of the four it is.
    pub fn outcome(&self) -> Outcome {
        self.verdict.outcome()
    }
}

/// Of an attempt without an answer. It must not be a pass: one would become unknown.
impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, answer: None }
    }
}
