//! `kubastion completions` and `kubastion man`: what a shell and a reader of manuals want, made from the
//! same definition as the parser.

use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::output::print;
use crate::error::Problem;
use crate::workflow::command_error::{CommandError, Exit};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "Examples:
  source <(kubastion completions bash)
  kubastion completions zsh > \"${fpath[1]}/_kubastion\"
  kubastion completions fish > ~/.config/fish/completions/kubastion.fish";

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = MAN_EXAMPLES)]
pub struct Man {
    /// Output directory, one page per verb. Created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const MAN_EXAMPLES: &str = "Examples:
  kubastion man --out ~/.local/share/man/man1 && man kubastion-apply";

/// Prints a completion script of the verbs of a definition.
///
/// # Errors
/// If standard output cannot be written.
pub fn completions(args: &Completions, mut definition: Command) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "kubastion", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages.
///
/// # Errors
/// If the directory cannot be made or written.
pub fn man(args: &Man, definition: Command) -> Result<Exit, CommandError> {
    let failed = |e: std::io::Error| {
        let problem = Problem::from_error("the manual pages cannot be written", &e);
        CommandError::one(Exit::Unexpected, problem.at(args.out.display().to_string()))
    };
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    clap_mangen::generate_to(definition, &args.out).map_err(failed)?;
    Ok(Exit::Done)
}
