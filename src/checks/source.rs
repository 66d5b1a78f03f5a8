//! What a verdict was judged from: where it was looked, what the answer was, when, and on which machine.

use std::borrow::Cow;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::digest::Digest;

/// Where somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A file of a node: the digest is of what it holds.
    File,
    /// A program on a node: the digest is of what it printed.
    Command,
    /// A request to the cluster's API: the digest is of the bodies of its answer, page by page.
    Request,
    /// An attempt over the network: the digest is of what came back, or of how it ended.
    Attempt,
    /// What kubastion itself rendered for a node that nobody has looked at yet. There is no answer to take a digest of, and no
    /// report of `verify` has it.
    Rendered,
    /// Nobody looked: people have to judge it.
    People,
}

impl SourceKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Command => "command",
            Self::Request => "request",
            Self::Attempt => "attempt",
            Self::Rendered => "rendered",
            Self::People => "people",
        }
    }
}

/// The machine that an answer was read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The fingerprint of the host key that the connection was verified against, as `ssh-keygen -l` prints it.
    pub host_key: String,
    /// /proc/sys/kernel/random/boot_id: another one after each boot.
    pub boot_id: String,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where.
    pub kind: SourceKind,
    /// Path, command line, method and path of a request, or who tried what.
    pub what: Cow<'static, str>,
    /// SHA-256 of the answer as it came; `None` if there was none.
    pub sha256: Option<Digest>,
    /// When the answer was there, by the clock of the machine that kubastion runs on.
    pub read: Option<OffsetDateTime>,
    /// The machine that the answer was read on; `None` for what the operator's machine saw itself.
    pub machine: Option<Arc<Machine>>,
}

impl Source {
    /// What was rendered for a node.
    pub fn rendered() -> Self {
        Self::without_answer(SourceKind::Rendered, "the configuration rendered for the node")
    }

    /// What was to be looked at, and was not.
    pub fn without_answer(kind: SourceKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), sha256: None, read: None, machine: None }
    }

    /// Whether a pass may rest on it.
    fn proves(&self) -> bool {
        self.sha256.is_some() || self.kind == SourceKind::Rendered
    }
}

/// What a verdict was judged from: one look or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    first: Source,
    more: Vec<Source>,
}

impl Sources {
    /// Those of a list; `None` if it is empty.
    pub fn of(all: impl IntoIterator<Item = Source>) -> Option<Self> {
        let mut all = all.into_iter();
        Some(Self { first: all.next()?, more: all.collect() })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The first without an answer that a pass could rest on.
    pub(super) fn missing(&self) -> Option<&Source> {
        self.iter().find(|s| !s.proves())
    }
}

impl From<Source> for Sources {
    fn from(first: Source) -> Self {
        Self { first, more: Vec::new() }
    }
}
