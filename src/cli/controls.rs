//! `kubastion controls`: the catalogue, for people and machines.

use std::fmt::Write as _;

use super::args::{Format, Global};
use super::output::{pretty, print};
use crate::command_error::{CommandError, Exit};
use crate::controls::{CATALOGUE, Check, Component, Control, Scope, find};
use crate::error::Problem;
use crate::inventory::diagnostic::nearest;
use crate::verify::{check_expectation, check_words};

/// What to do with the catalogue.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the controls.
    #[command(after_long_help = LIST_EXAMPLES)]
    List {
        /// Only those of one component.
        #[arg(long, value_enum, value_name = "COMPONENT")]
        component: Option<Component>,
    },
    /// Explain one control: where it comes from, and how it is judged.
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
        None => "`kubastion controls list` has them all".to_owned(),
    };
    CommandError::one(Exit::Usage, Problem::new(format!("there is no control `{id}`")).hint(hint))
}

fn list(rows: &[&Control]) -> String {
    let width = rows.iter().map(|c| c.id.len()).max().unwrap_or_default();
    let mut out = String::new();
    for c in rows {
        let _ = writeln!(out, "{:<width$}  {:<8}  {}", c.id, c.severity, c.title);
    }
    out
}

fn show(c: &Control) -> String {
    let mut out = format!("{}\n  {}\n\n", c.id, c.title);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<11}{value}");
        }
    };
    line("component", &c.component.to_string());
    line("severity", &c.severity.to_string());
    line("NSA/CISA", c.references.nsa);
    line("CIS", &c.references.cis.join(", "));
    line("STIG", &c.references.stig.join(", "));
    line("kubescape", &c.references.kubescape.join(", "));
    line("profiles", &word(&c.profiles));
    line("judged on", scope(c.scope));
    line("needs", &word(&c.needs));
    if c.minors != crate::controls::ALL_MINORS {
        line("releases", &format!("1.{} to 1.{}", c.minors.0, c.minors.1));
    }
    out.push_str("\n  It holds if all of this does:\n");
    for check in c.checks {
        let _ = writeln!(out, "    - {}", how(check));
    }
    if c.checks.len() > 1 {
        out.push_str("\n  An exception names one of these as its `check`:\n");
        for check in c.checks {
            let _ = writeln!(out, "    - {}", check_words(check));
        }
    }
    out
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Every => "every node",
        Scope::ControlPlane => "control planes",
        Scope::EtcdMember => "etcd members",
        Scope::Kubelet => "control planes and workers",
        Scope::Worker => "workers",
        Scope::Cluster => "the cluster",
    }
}

/// A unit variant as serde writes it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn how(check: &Check) -> String {
    match (check_words(check), check_expectation(check)) {
        (what, Some(expected)) => format!("{what}: {expected}"),
        (what, None) => what,
    }
}

fn shown(control: &'static Control) -> serde_json::Value {
    let mut value = serde_json::to_value(control).unwrap_or_default();
    value["checks"] = control.checks.iter().map(how).collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_can_be_shown() {
        for c in CATALOGUE {
            let text = show(c);
            assert!(text.starts_with(c.id) && text.contains("    - "), "{text}");
        }
        assert_eq!(list(&CATALOGUE).lines().count(), CATALOGUE.len());
    }

    #[test]
    fn a_typing_error_finds_its_neighbour() {
        let stop = unknown("etcd-data-dri");
        assert_eq!(stop.problems[0].hint.as_deref(), Some("did you mean `etcd-data-dir`?"));
    }
}
