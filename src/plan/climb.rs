//! What a plan does on the way to encrypted objects; how that is found is in [`super::encryption`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::step::Step;

/// A rung, in execution order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Every control plane can read what is encrypted.
    Read,
    /// Every control plane encrypts.
    Promote,
    /// Every object is encrypted.
    Rewrite,
    /// Plain text is not read any more.
    Drop,
}

impl Rung {
    /// All of them.
    pub const ALL: &[Rung] = &[Rung::Read, Rung::Promote, Rung::Rewrite, Rung::Drop];

    /// What is done on it.
    pub fn words(self) -> &'static str {
        match self {
            Rung::Read => {
                "read: restart each API server so that it can read encrypted objects; it still writes plain text"
            }
            Rung::Promote => {
                "promote: restart each API server so that it writes encrypted objects; it still reads both"
            }
            Rung::Rewrite => {
                "rewrite: rewrite every stored object through the API, until etcd holds none in plain text"
            }
            Rung::Drop => "drop: restart each API server so that it no longer reads plain text",
        }
    }

    /// The rungs above it.
    pub fn above(self) -> impl Iterator<Item = Rung> {
        Rung::ALL.iter().copied().filter(move |rung| *rung > self)
    }
}

/// What a plan does on the way to encryption. The rungs above follow in the same run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Climb {
    /// The rung.
    pub rung: Rung,
    /// The resources that are on it.
    pub resources: Vec<String>,
}

impl Climb {
    /// Whether a step of a control plane's plan is part of it: its file, what its API server is started with, and the start.
    pub fn has(&self, step: &Step) -> bool {
        match step {
            Step::Files { directory, .. } => {
                ["/etc/kubernetes/enc", "/etc/kubernetes/kubastion/patches"]
                    .contains(&directory.as_str())
            }
            Step::Kubeadm { .. } | Step::Verify => true,
            _ => false,
        }
    }
}

impl fmt::Display for Climb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resources.join(", "), self.rung.words())
    }
}
