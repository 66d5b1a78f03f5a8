//! What verifying yields: verdicts, their evidence, and findings.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::checks::source::Sources;
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

    /// The verdict if all its sources have an answer: a pass without an answer becomes unknown.
    #[must_use]
    pub(super) fn unknown_without_sources(self, sources: &Sources) -> Verdict {
        match (&self, sources.missing()) {
            (Verdict::Pass { .. }, Some(missing)) => Verdict::unknown(format!(
                "evidence is missing: no answer from {} `{}`",
                missing.kind.name(),
                missing.what
            )),
            _ => self,
        }
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

/// What a check is called, and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was looked at or tried.
    pub what: String,
    /// The check that it belongs to, in the words by which an exception names it.
    pub check: String,
    /// What should be.
    pub expected: String,
}

/// One check and what came of it. There is none without a source, and none that holds by a source without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    asked: Asked,
    verdict: Verdict,
    staged: Option<Verdict>,
    sources: Sources,
}

impl Evidence {
    /// What a check comes to. A pass that one of the sources does not bear is unknown.
    pub fn new(asked: Asked, verdict: Verdict, sources: Sources) -> Self {
        let verdict = verdict.unknown_without_sources(&sources);
        Self { asked, verdict, staged: None, sources }
    }

    /// With what the check says about files that are on the node for a daemon that does not run yet.
    #[must_use]
    pub fn with_staged(mut self, staged: Option<Verdict>) -> Self {
        self.staged = staged.map(|verdict| verdict.unknown_without_sources(&self.sources));
        self
    }

    /// What was looked at or tried.
    pub fn what(&self) -> &str {
        &self.asked.what
    }

    /// The check that it belongs to, in the words by which an exception names it.
    pub fn check(&self) -> &str {
        &self.asked.check
    }

    /// What should be.
    pub fn expected(&self) -> &str {
        match &self.verdict {
            Verdict::Fail { expected, .. } => expected,
            _ => &self.asked.expected,
        }
    }

    /// What came of it.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What the check says about files that are on the node for a daemon that does not run yet.
    pub fn staged(&self) -> Option<&Verdict> {
        self.staged.as_ref()
    }

    /// What it was judged from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// One object of the cluster's API.
    Object {
        /// Its kind, as manifests have it.
        kind: &'static str,
        /// Its namespace; empty for an object without one.
        namespace: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A node.
    Node(NodeName),
}

impl Subject {
    /// The node, where it is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Subject::Node(name) => Some(name),
            Subject::Cluster | Subject::Object { .. } => None,
        }
    }
}

/// What a control comes to on its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Control id.
    pub control: &'static str,
    /// What the control is about.
    pub component: Component,
    /// The control in one line.
    pub title: &'static str,
    /// How bad a failure is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// The worst of all checks, with its words.
    pub verdict: Verdict,
    /// What should be, by the check whose verdict it is; `None` of what was not judged.
    pub expected: Option<String>,
    /// The worst of what the checks say about staged files.
    pub staged: Option<Verdict>,
    /// The exception that covers a failure.
    pub exception: Option<ExceptionGrant>,
    /// Checks that fail and that no exception names, where the inventory has some for the control.
    pub not_excused: Vec<String>,
    /// Every check.
    pub evidence: Vec<Evidence>,
}

/// An exception of the inventory, as far as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExceptionGrant {
    /// Why.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day on which it holds.
    pub expires: String,
}

impl Finding {
    /// A finding from its evidence. A failure speaks for the whole; else what is unknown; a pass
    /// needs at least one check that passed.
    pub fn new(control: &'static Control, subject: Subject, evidence: Vec<Evidence>) -> Self {
        // The first of those that are equally bad, as `Verdict::and` has it.
        let weight = |e: &Evidence| e.verdict().outcome().weight();
        let worst =
            evidence.iter().reduce(|worst, e| if weight(e) > weight(worst) { e } else { worst });
        let verdict =
            worst.map_or_else(|| Verdict::unknown("nothing was checked"), |e| e.verdict().clone());
        let expected = worst.map(|e| e.expected().to_owned());
        let staged = evidence.iter().filter_map(|e| e.staged().cloned()).reduce(Verdict::and);
        Self {
            control: control.id,
            component: control.component,
            title: control.title,
            severity: control.severity,
            subject,
            verdict,
            expected,
            staged,
            exception: None,
            not_excused: Vec::new(),
            evidence,
        }
    }

    /// A finding with one verdict for the whole control, of which nothing was checked.
    pub(super) fn not_looked_at(
        control: &'static Control,
        subject: Subject,
        verdict: Verdict,
    ) -> Self {
        debug_assert_ne!(verdict.outcome(), Outcome::Pass, "{}: a pass needs evidence", control.id);
        Self { verdict, ..Self::new(control, subject, Vec::new()) }
    }

    /// The node that it is about, if it is about one.
    pub fn node(&self) -> Option<&NodeName> {
        self.subject.node()
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
