//! How a command fails: every problem that it met, and the exit code they amount to. Exit codes are a table, shown by
//! `--help` and walked by the tests.

use crate::bundle::{BundleError, Fault};
use crate::error::Problem;
use crate::pki::PkiError;

/// How a run ended, as a process exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something that should not happen.
    Unexpected = 1,
    /// The command line is wrong, or a question was not answered with yes.
    Usage = 2,
    /// The inventory, a plan file or another input is invalid, or what was asked for is refused before anything is
    /// begun, for some nodes or all.
    InvalidInput = 3,
    /// Changes are pending (`plan --exit-code`) or a node drifted.
    Pending = 4,
    /// A control failed or could not be judged.
    Findings = 5,
    /// A node failed or was unreachable; what was begun there is rolled back.
    NodeFailed = 6,
    /// A rollback is incomplete; a node needs manual repair.
    RollbackIncomplete = 7,
    /// A host that software is fetched from did not answer before anything was fetched (`bundle create`). A download
    /// that breaks off later, damage and a full disk are other failures.
    Unreachable = 8,
    /// Ctrl-C ended it; the message says how the nodes stand. The number is the shell's for SIGINT.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning.
    pub const ALL: &[(Exit, &'static str)] = &[
        (Exit::Done, "done"),
        (Exit::Unexpected, "unexpected error"),
        (Exit::Usage, "invalid command line, or the prompt was not answered with yes"),
        (
            Exit::InvalidInput,
            "invalid inventory, plan or other input, or a command or node was refused",
        ),
        (Exit::Pending, "changes are pending or a node drifted"),
        (Exit::Findings, "a control failed or could not be checked"),
        (
            Exit::NodeFailed,
            "a node failed or was unreachable; its unfinished changes are rolled back",
        ),
        (Exit::RollbackIncomplete, "a rollback is incomplete; a node needs manual repair"),
        (Exit::Unreachable, "a download host is unreachable; nothing was changed"),
        (Exit::Interrupted, "interrupted; the message says what state the nodes are in"),
    ];
}

/// How many nodes a plan leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Nodes, or an API server, that did not answer, or not all of what was asked.
    pub unanswered: usize,
    /// Nodes that answered and are refused.
    pub refused: usize,
}

impl LeftOut {
    /// What it amounts to where nothing is begun. A refusal is the inventory's business or the node's, and another try ends
    /// the same; of one that did not answer, nothing is known.
    pub fn exit(self) -> Exit {
        match self {
            LeftOut { unanswered: 0, refused: 0 } => Exit::Done,
            LeftOut { unanswered: 0, .. } => Exit::InvalidInput,
            LeftOut { .. } => Exit::NodeFailed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(e: Exit) -> Self {
        Self::from(e as u8)
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct CommandError {
    /// The exit code.
    pub exit: Exit,
    /// All problems, in the order of the nodes or lines they concern.
    pub problems: Vec<Problem>,
}

impl CommandError {
    /// One problem.
    pub fn one(exit: Exit, problem: Problem) -> Self {
        Self { exit, problems: vec![problem] }
    }
}

impl From<&PkiError> for CommandError {
    fn from(error: &PkiError) -> Self {
        let exit = match error {
            PkiError::Io { .. } | PkiError::Sign { .. } | PkiError::Key { .. } => Exit::Unexpected,
            _ => Exit::InvalidInput,
        };
        Self { exit, problems: error.problems() }
    }
}

/// A failure of a bundle that is the verb's own subject.
impl From<&BundleError> for CommandError {
    fn from(error: &BundleError) -> Self {
        let all = |kind: fn(&Fault) -> bool| error.faults.iter().all(kind);
        let exit = if all(|f| matches!(f, Fault::Unreachable(_))) {
            Exit::Unreachable
        } else if all(|f| {
            matches!(
                f,
                Fault::Io { .. }
                    | Fault::Busy(_)
                    | Fault::Unreachable(_)
                    | Fault::Fetch { .. }
                    | Fault::Pull { .. }
            )
        }) {
            Exit::Unexpected
        } else {
            Exit::InvalidInput
        };
        Self { exit, problems: error.problems() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_refused_are_no_nodes_that_failed() {
        for (unanswered, refused, exit) in [
            (0, 0, Exit::Done),
            (0, 1, Exit::InvalidInput),
            (0, 3, Exit::InvalidInput),
            (1, 0, Exit::NodeFailed),
            (1, 3, Exit::NodeFailed),
        ] {
            assert_eq!(LeftOut { unanswered, refused }.exit(), exit, "{unanswered} {refused}");
        }
    }

    /// A code without a row would be one that no help explains: another variant does not compile without its place here.
    #[test]
    fn every_exit_code_has_its_row() {
        let place = |exit| match exit {
            Exit::Done => 0,
            Exit::Unexpected => 1,
            Exit::Usage => 2,
            Exit::InvalidInput => 3,
            Exit::Pending => 4,
            Exit::Findings => 5,
            Exit::NodeFailed => 6,
            Exit::RollbackIncomplete => 7,
            Exit::Unreachable => 8,
            Exit::Interrupted => 9,
        };
        for (index, &(exit, _)) in Exit::ALL.iter().enumerate() {
            assert_eq!(place(exit), index);
        }
    }
}
