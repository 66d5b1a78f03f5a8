//! What verifying yields: verdicts, their evidence, and findings.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::controls::{Component, Control, Severity};
use crate::inventory::NodeName;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Pass {
        /// What was seen.
        actual: String,
    },
    /// It does not hold.
    Fail {
        /// What should be.
        expected: String,
        /// What is.
        actual: String,
    },
    /// There is nothing to judge.
    NotApplicable {
        /// Why.
        why: NothingToJudge,
    },
    /// It could not be judged. Never a pass.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// It holds.
    pub fn pass(actual: impl Into<String>) -> Self {
        Verdict::Pass { actual: actual.into() }
    }

    /// It does not hold.
    pub fn fail(expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Verdict::Fail { expected: expected.into(), actual: actual.into() }
    }

    /// Nothing to judge.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Verdict::NotApplicable { why: NothingToJudge::Other(why.into()) }
    }

    /// Nothing to judge before Kubernetes is there; `missing` says what of it is not, as in `it does not run yet`.
    pub fn needs_kubernetes(missing: impl Into<String>) -> Self {
        Verdict::NotApplicable { why: NothingToJudge::NeedsKubernetes(missing.into()) }
    }

    /// Could not be judged.
    pub fn unknown(why: impl Into<String>) -> Self {
        Verdict::Unknown { why: why.into() }
    }

    /// Which of the four it is.
    pub fn outcome(&self) -> Outcome {
        match self {
            Verdict::Pass { .. } => Outcome::Pass,
            Verdict::Fail { .. } => Outcome::Fail,
            Verdict::NotApplicable { .. } => Outcome::NotApplicable,
            Verdict::Unknown { .. } => Outcome::Unknown,
        }
    }

    /// The worse of two: a failure outweighs what is unknown, which outweighs a pass; what is not
    /// applicable counts only if nothing else does.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        if other.outcome().weight() > self.outcome().weight() { other } else { self }
    }
}

/// Why there is nothing to judge. Reports have it in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NothingToJudge {
    /// It is a part of Kubernetes that is not there yet; which, in words.
    NeedsKubernetes(String),
    /// It came with a later minor release of Kubernetes.
    NeedsRelease {
        /// The first that has it.
        minor: u16,
    },
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for NothingToJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsKubernetes(missing) => write!(f, "needs Kubernetes: {missing}"),
            Self::NeedsRelease { minor } => write!(f, "needs Kubernetes 1.{minor}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl Serialize for NothingToJudge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A verdict without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It could not be judged.
    Unknown,
    /// There is nothing to judge.
    NotApplicable,
}

impl Outcome {
    fn weight(self) -> u8 {
        match self {
            Outcome::NotApplicable => 0,
            Outcome::Pass => 1,
            Outcome::Unknown => 2,
            Outcome::Fail => 3,
        }
    }
}

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What was looked at or tried.
    pub what: String,
    /// The check that it belongs to, in the words by which an exception names it.
    pub check: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the check says about files that are on the node for a daemon that does not run yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Verdict>,
}

/// A control on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Control id.
    pub control: &'static str,
    /// What the control is about.
    pub component: Component,
    /// The control in one line.
    pub title: &'static str,
    /// How bad a failure is.
    pub severity: Severity,
    /// The node; absent for a control that is judged once for the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The worst of all checks, with its words.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The worst of what the checks say about staged files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Verdict>,
    /// The exception that covers a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<ExceptionGrant>,
    /// Checks that fail and that no exception names, where the inventory has some for the control.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_excused: Vec<String>,
    /// Every check.
    pub evidence: Vec<Evidence>,
}

/// An exception of the inventory, as far as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExceptionGrant {
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day on which it holds.
    pub expires: String,
}

impl Finding {
    /// A finding from its evidence. A failure speaks for the whole; else what is unknown; a pass
    /// needs at least one check that passed.
    pub fn new(
        control: &'static Control,
        node: Option<&NodeName>,
        evidence: Vec<Evidence>,
    ) -> Self {
        let worst = |verdicts: &mut dyn Iterator<Item = Verdict>| verdicts.reduce(Verdict::and);
        let verdict = worst(&mut evidence.iter().map(|e| e.verdict.clone()))
            .unwrap_or_else(|| Verdict::unknown("nothing was looked at"));
        let staged = worst(&mut evidence.iter().filter_map(|e| e.staged.clone()));
        Self {
            control: control.id,
            component: control.component,
            title: control.title,
            severity: control.severity,
            node: node.cloned(),
            verdict,
            staged,
            exception: None,
            not_excused: Vec::new(),
            evidence,
        }
    }

    /// Which of the four it is.
    pub fn outcome(&self) -> Outcome {
        self.verdict.outcome()
    }

    /// Whether it makes the run fail: a failure that no exception covers, or something unknown.
    pub fn is_bad(&self) -> bool {
        match self.outcome() {
            Outcome::Fail => self.exception.is_none(),
            Outcome::Unknown => true,
            Outcome::Pass | Outcome::NotApplicable => false,
        }
    }
}

/// Everything that is wrong in one verdict.
pub(super) fn verdict(
    expected: &str,
    wrong: Vec<String>,
    passed: impl FnOnce() -> String,
) -> Verdict {
    const SHOWN: usize = 6;
    if wrong.is_empty() {
        return Verdict::pass(passed());
    }
    let more = wrong.len().saturating_sub(SHOWN);
    let mut text = wrong.into_iter().take(SHOWN).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    Verdict::fail(expected, text)
}
