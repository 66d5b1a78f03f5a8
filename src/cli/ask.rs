//! The prompt before a change is made.

use std::io::{BufRead, IsTerminal};

use crate::error::Problem;
use crate::workflow::command_error::{CommandError, Exit};

/// What the operator confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// A change that can be undone: `y` is enough.
    Reversible,
    /// A change that cannot be undone: the whole word `yes` is required.
    Irreversible,
    /// Host keys: the whole word `yes` is required.
    HostKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Unclear,
}

impl Confirmation {
    fn words(self) -> &'static str {
        match self {
            Self::Reversible => "Continue? [y/N] ",
            Self::Irreversible => "This cannot be undone. Type yes to continue: ",
            Self::HostKeys => {
                "Are these the host keys that the machines show on their consoles? Type yes to continue: "
            }
        }
    }

    fn judge(self, typed: &str) -> Answer {
        match (self, typed.trim().to_ascii_lowercase().as_str()) {
            (_, "yes") | (Self::Reversible, "y") => Answer::Yes,
            (Self::Reversible, "n" | "no" | "") => Answer::No,
            (Self::Reversible, _) => Answer::Unclear,
            (Self::Irreversible | Self::HostKeys, _) => Answer::No,
        }
    }

    /// Reads until the answer is clear, at most twice. `forget` discards what was typed before the prompt, so pasted text cannot
    /// contain the answer. The end of input is a no.
    fn answer(self, mut from: impl BufRead, mut forget: impl FnMut()) -> Answer {
        for _ in 0..2 {
            forget();
            eprint!("{}", self.words());
            let mut typed = String::new();
            match from.read_line(&mut typed) {
                Err(_) | Ok(0) => return Answer::No,
                Ok(_) => {}
            }
            match self.judge(&typed) {
                Answer::Unclear => {
                    eprintln!("answer y or yes to continue; n, no or an empty line to stop")
                }
                clear => return clear,
            }
        }
        Answer::No
    }
}

/// Prompts on the terminal. Without one, it fails with the hint `instead`.
///
/// # Errors
/// If the answer is no, or there is no terminal.
pub fn ask(question: Confirmation, instead: &str) -> Result<(), CommandError> {
    if !std::io::stdin().is_terminal() {
        let problem = Problem::new("there is no terminal to prompt on").left("nothing was changed");
        return Err(CommandError::one(Exit::Usage, problem.hint(instead)));
    }
    eprintln!();
    let forget = || {
        let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
    };
    // A terminal gives one line at a time, so that nothing beyond it is in a buffer here.
    if question.answer(std::io::stdin().lock(), forget) == Answer::Yes {
        return Ok(());
    }
    let what = match question {
        Confirmation::Reversible => "the answer was no",
        Confirmation::Irreversible | Confirmation::HostKeys => "the answer was not the word `yes`",
    };
    Err(CommandError::one(Exit::Usage, Problem::new(what).left("nothing was changed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_will_do_where_there_is_a_way_back() {
        let answer = |question: Confirmation, typed: &str| question.answer(typed.as_bytes(), || ());
        for (typed, wanted) in [
            ("y\n", Answer::Yes),
            (" Yes \n", Answer::Yes),
            ("n\n", Answer::No),
            ("NO\n", Answer::No),
            ("\n", Answer::No),
            ("", Answer::No),
            ("what\ny\n", Answer::Yes),
            ("what\n", Answer::No),
            ("what\never\ny\n", Answer::No),
        ] {
            assert_eq!(answer(Confirmation::Reversible, typed), wanted, "{typed:?}");
        }
        assert_eq!(answer(Confirmation::Irreversible, "y\nyes\n"), Answer::No, "not the word");
        assert_eq!(answer(Confirmation::Irreversible, "yes\n"), Answer::Yes);
        let mut forgotten = 0;
        Confirmation::Reversible.answer("what\ny\n".as_bytes(), || forgotten += 1);
        assert_eq!(forgotten, 2, "before each question");
    }
}
