//! `kubastion controls`: the catalogue, for people and machines.

use super::global::{Format, Global};
use super::output::{pretty, print};
use crate::controls::{CATALOGUE, Component, Control, find};
use crate::error::Problem;
use crate::inventory::diagnostic::nearest;
use crate::report::controls::{list, show, shown};
use crate::workflow::command_error::{CommandError, Exit};

/// What to do with the catalogue.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the controls.
    #[command(after_long_help = LIST_EXAMPLES)]
    List {
        /// Only the controls of one component.
        #[arg(long, value_enum, value_name = "COMPONENT")]
        component: Option<Component>,
    },
    /// Explain one control: its sources and its checks.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show {
        /// Control id.
        id: String,
    },
}

const LIST_EXAMPLES: &str = "Examples:
  kubastion controls list --component etcd
  kubastion --format json controls list |
      jq -r '.[] | select(.severity == \"critical\") | .id'";
const SHOW_EXAMPLES: &str = "Examples:
  kubastion controls show etcd-client-cert-auth";

/// Runs `kubastion controls`.
///
/// # Errors
/// An id that is no control.
pub fn run(global: &Global, command: &Command) -> Result<Exit, CommandError> {
    match command {
        Command::List { component } => {
            let rows: Vec<&Control> = CATALOGUE
                .iter()
                .copied()
                .filter(|c| component.is_none_or(|wanted| c.component == wanted))
                .collect();
            match global.format {
                Format::Json => print(&pretty(&rows)),
                Format::Text => print(&list(&rows)),
            }
        }
        Command::Show { id } => {
            let control = find(id).ok_or_else(|| unknown(id))?;
            match global.format {
                Format::Json => print(&pretty(&shown(control))),
                Format::Text => print(&show(control)),
            }
        }
    }
}

fn unknown(id: &str) -> CommandError {
    let hint = match nearest(id, CATALOGUE.iter().map(|c| c.id)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "run `kubastion controls list` to see all of them".to_owned(),
    };
    CommandError::one(Exit::Usage, Problem::new(format!("there is no control `{id}`")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_neighbour() {
        let stop = unknown("etcd-data-dri");
        assert_eq!(stop.problems[0].hint.as_deref(), Some("did you mean `etcd-data-dir`?"));
    }
}
