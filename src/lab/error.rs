//! What can go wrong with a lab.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::error::Problem;

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prerequisite {
    /// What, as a sentence.
    pub what: String,
    /// What was observed, if that says more.
    pub why: Option<String>,
    /// How to get it.
    pub hint: String,
}

impl Prerequisite {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, hint: hint.into() }
    }

    /// As the user sees it.
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(&self.what).at("this machine").hint(&self.hint);
        match &self.why {
            Some(why) => problem.because(why),
            None => problem,
        }
    }
}

/// Why a lab could not be made, found or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for something that cannot be.
    #[error("{0}")]
    Spec(String),
    /// This machine cannot carry a lab; everything that is missing.
    #[error("this machine cannot run a lab: {} prerequisites are missing", .0.len())]
    Preflight(Vec<Prerequisite>),
    /// The directory holds no lab.
    #[error("{} contains no lab", .0.display())]
    NoLab(PathBuf),
    /// The directory holds a lab that is not the one asked for, or one that is not running.
    #[error("{} already contains a lab", dir.display())]
    Occupied {
        /// The lab directory.
        dir: PathBuf,
        /// What is different.
        why: String,
    },
    /// The state file cannot be understood.
    #[error("the state file {} cannot be read", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// No node of that name.
    #[error("the lab has no node `{name}`; it has {known}")]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// All names, comma-separated.
        known: String,
    },
    /// The node is not running.
    #[error("node {0} is not running")]
    NotRunning(String),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started or fed.
    #[error("cannot run `{command}`")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program failed.
    #[error("`{command}` ended with {status}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error.
        said: String,
    },
    /// The host's apt sources name no mirror for its own release.
    #[error("no apt source of this machine offers `main` of {codename}")]
    NoMirror {
        /// Code name of the release.
        codename: String,
    },
    /// All 254 networks are taken.
    #[error("every network from 10.213.1.0/24 to 10.213.254.0/24 is in use on this machine")]
    NoFreeNetwork,
    /// Something is still mounted below the lab directory, so nothing there is removed.
    #[error("{} is still mounted", .0.display())]
    StillMounted(PathBuf),
    /// The bundle lacks images of a stock cluster.
    #[error("the bundle lacks {} that kubeadm requires", crate::plain::counted(.0.len(), "image"))]
    LackingImages(Vec<String>),
    /// Some nodes failed.
    #[error("{} of the lab's nodes failed", .0.len())]
    Nodes(Vec<NodeError>),
}

/// What went wrong with one node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A step failed.
    #[error("node {node} could not be created")]
    Step {
        /// Its name.
        node: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// sshd did not answer in time.
    #[error("node {node} at {address} showed no SSH banner within {waited_s} s")]
    NoAnswer {
        /// Its name.
        node: String,
        /// Its address.
        address: Ipv4Addr,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// The last lines of its console.
        console: String,
    },
    /// sshd answered, but the node's init did not finish starting in time.
    #[error("node {node} was still starting after {waited_s} s (systemd says `{systemd}`)")]
    StillStarting {
        /// Its name.
        node: String,
        /// What systemd said last, or nothing.
        systemd: String,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// The last lines of its console.
        console: String,
    },
    /// The node ended while it was waited for.
    #[error("node {node} ended before its sshd answered")]
    Ended {
        /// Its name.
        node: String,
        /// The last lines of its console.
        console: String,
    },
    /// A step of making a stock cluster failed in the node.
    #[error("the stock cluster could not be created: step `{step}` ended with {status}")]
    Stock {
        /// Its name.
        node: String,
        /// The lab directory.
        dir: PathBuf,
        /// Which step of `sh/stock.sh`.
        step: String,
        /// How it ended.
        status: ExitStatus,
        /// What its components said last.
        said: String,
    },
    /// Kubernetes gave some nodes no network for their pods in time.
    #[error("not every node had a pod network within {waited_s} s")]
    NoPodNetwork {
        /// The node that was asked.
        node: String,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// What it said.
        said: String,
    },
    /// Processes of the node are left after SIGKILL.
    #[error("node {node} still has processes after SIGKILL: {pids}")]
    Unkillable {
        /// Its name.
        node: String,
        /// Their ids, space-separated.
        pids: String,
    },
}

impl Error {
    /// A file operation that failed; for `map_err`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// Whether the operator asked for something that cannot be, as opposed to something that broke.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Error::Spec(_)
                | Error::Preflight(_)
                | Error::NoLab(_)
                | Error::Occupied { .. }
                | Error::State { .. }
                | Error::UnknownNode { .. }
                | Error::NoMirror { .. }
        )
    }

    /// Every problem, as the user sees it.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Error::Preflight(missing) => missing.iter().map(Prerequisite::problem).collect(),
            Error::Nodes(nodes) => nodes.iter().map(NodeError::problem).collect(),
            Error::Command { said, .. } => vec![match said.as_str() {
                "" => Problem::new(self.to_string()),
                said => Problem::new(self.to_string()).because(said),
            }],
            Error::Occupied { dir, why } => vec![
                Problem::new(self.to_string())
                    .because(why)
                    .hint(format!("run `kubastion lab down --dir {}` to remove it", dir.display())),
            ],
            Error::LackingImages(images) => {
                vec![Problem::new(self.to_string()).because(images.join(", "))]
            }
            Error::NoLab(_) => {
                vec![Problem::new(self.to_string()).hint("run `kubastion lab up` to create one")]
            }
            Error::State { source, .. } => vec![
                Problem::new(self.to_string())
                    .because(source.to_string())
                    .hint("if another version of kubastion created the lab, use that version for `lab down`"),
            ],
            other => vec![problem_with_sources(other)],
        }
    }
}

impl NodeError {
    fn problem(&self) -> Problem {
        match self {
            NodeError::Step { node, source } => {
                let inner = source.problems().into_iter().next();
                let mut problem = Problem::new("the node could not be created").at(node);
                if let Some(inner) = inner {
                    problem = problem.because(inner.what);
                    problem.why.extend(inner.why);
                }
                problem
            }
            NodeError::NoAnswer { node, console, .. }
            | NodeError::StillStarting { node, console, .. }
            | NodeError::Ended { node, console } => Problem::new(self.to_string())
                .at(node)
                .because(format!("the end of its console:\n{console}")),
            NodeError::Stock { node, dir, step, said, .. } => {
                let look = match step.as_str() {
                    "init" | "join" => "less /var/log/kubeadm.log",
                    "configure" | "import" => "journalctl -u containerd",
                    _ => "journalctl -u kubelet",
                };
                let dir = dir.display();
                Problem::new(self.to_string())
                    .at(node)
                    .because(format!("its last output:\n{said}"))
                    .hint(format!("run `kubastion lab exec --dir {dir} {node} -- {look}`"))
            }
            NodeError::NoPodNetwork { node, said, .. } => Problem::new(self.to_string())
                .at(node)
                .because(format!("nodes and their networks:\n{said}")),
            NodeError::Unkillable { node, .. } => Problem::new(self.to_string()).at(node),
        }
    }
}

/// The problem of an error whose sources, not the error itself, are the why.
fn problem_with_sources(error: &Error) -> Problem {
    let mut problem = Problem::new(error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        problem = problem.because(e.to_string());
        source = e.source();
    }
    problem
}
