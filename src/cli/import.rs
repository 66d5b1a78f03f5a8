//! `kubastion import`: writes the inventory of an existing cluster. Changes only its output directory.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use clap::ValueEnum;
use time::macros::format_description;

use super::global::{Format, Global};
use super::machines::{Machines, Set, confirm};
use super::output::{note, pretty, print};
use crate::clock::Clock;
use crate::discovery;
use crate::discovery::imported::{Decision, Grant, OpenConflict};
use crate::error::Problem;
use crate::plain::counted;
use crate::report::imported::{Report, conflicts, question, summary};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::import::{ImportRequest, Imported, Judge, import};
use crate::workflow::observe::Reach;

/// Days after which somebody has to decide anew about a control that was switched off.
const GRANTED_DAYS: i64 = 90;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct Args {
    /// The machines, and how to log in to them.
    #[command(flatten)]
    pub machines: Machines,
    /// Directory for the inventory and the key store. Must contain neither.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Profile of the inventory: its set of controls.
    #[arg(long, value_enum, default_value_t = Set::Nsa, value_name = "PROFILE")]
    pub profile: Set,
    /// What to do with settings that violate a control. Default: ask about each.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub conflicts: Option<Choice>,
    /// Owner of the controls that are switched off. Default: your login user.
    #[arg(long, value_name = "WHO")]
    pub owner: Option<String>,
    /// File with the sudo password, mode 0600, for use without a terminal.
    #[arg(long, value_name = "FILE")]
    pub sudo_password_file: Option<PathBuf>,
}

/// What becomes of a setting that a control wants otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Keep the setting, and switch the control off for 90 days.
    Keep,
    /// Let the next apply set the control's value.
    Harden,
}

const HELP: &str =
    "Writes the inventory of an existing kubeadm cluster: addresses, host keys, roles, endpoint, networks,
release, labels, taints, and every setting that is not kubeadm's default. Settings without an
inventory key are passed through (`api_server.extra_args`, `kubelet.extra` and others). A setting that
violates a control is a conflict: you decide to keep it or to harden it. Settings that fit nowhere are
listed with their location.

The key store next to the inventory takes over the cluster's CAs, with their keys where readable, its
service-account key and its encryption keys. kubastion never creates a replacement for one that it
does not find.

Writes nothing on nodes or in the API. Finds machines and confirms host keys as `kubastion assess` does.

Exit code 3: the directory has an inventory or a key store, the cluster cannot be imported, or there are
conflicts, no terminal and no --conflicts. 6: a machine did not answer. 2: a host key is not confirmed.

Examples:
  kubastion import ssh://root@192.0.2.11 --out prod
  kubastion import ssh://ops@cp1 --known-hosts ~/.ssh/known_hosts --out prod
  kubastion import ssh://root@cp1 --conflicts keep --owner ops --out prod
  kubastion --format json import ssh://root@cp1 --conflicts harden --out prod |
      jq '.not_taken_over'";

/// Runs `kubastion import`.
///
/// # Errors
/// Those of [`import`].
pub fn run(global: &Global, args: &Args) -> Result<Exit, CommandError> {
    let expires = Clock::System.now().date() + time::Duration::days(GRANTED_DAYS);
    let user = args.machines.machines.first().and_then(|m| m.user.as_ref());
    let user = user.map_or_else(|| "root".to_owned(), ToString::to_string);
    let request = ImportRequest {
        search: args.machines.search(|_, _, _| discovery::watch_settings()),
        profile: args.profile.into(),
        reach: Reach { nodes: Vec::new(), sudo_password_file: args.sudo_password_file.clone() },
        out: args.out.clone(),
        grant: Grant {
            owner: args.owner.clone().unwrap_or(user),
            expires: expires
                .format(format_description!("[year]-[month]-[day]"))
                .expect("a date of this century has these parts"),
        },
    };
    let say = |line: &str| note(global.format, line);
    let mut judge = Person { choice: args.conflicts };
    let Imported { found, settled, file } = import(request, &mut confirm, &mut judge, &say)?;
    match global.format {
        Format::Json => {
            print(&pretty(&Report::of(&found, &settled, &file)))?;
        }
        Format::Text => {
            note(global.format, &summary(&found, &settled));
        }
    }
    note(global.format, &format!("wrote {}", file.display()));
    let keys = file.with_file_name("pki");
    let exposed = "it holds the cluster's private keys, NOT encrypted; back it up and protect it";
    note(global.format, &format!("wrote the key store {}: {exposed}", keys.display()));
    note(
        global.format,
        &format!("next: review it, then run `kubastion -i {} inventory check`", file.display()),
    );
    Ok(Exit::Done)
}

/// Whoever decides: the option, or the terminal.
struct Person {
    choice: Option<Choice>,
}

impl Judge for Person {
    fn begin(&mut self, all: &[OpenConflict]) -> Result<(), CommandError> {
        if all.is_empty() || self.choice.is_some() || std::io::stdin().is_terminal() {
            return Ok(());
        }
        eprint!("{}", conflicts(all.iter().map(|c| (c, "open"))));
        let problem = Problem::new(format!("{} with controls must be decided", counted(all.len(), "conflict")))
            .because("there is no terminal to prompt on")
            .left("nothing was written")
            .hint("set --conflicts keep to switch those controls off for 90 days, or --conflicts harden to have the next apply set their values");
        Err(CommandError::one(Exit::InvalidInput, problem))
    }

    fn decide(&mut self, conflict: &OpenConflict) -> Result<Decision, CommandError> {
        match self.choice {
            Some(Choice::Keep) => return Ok(Decision::Keep),
            Some(Choice::Harden) => return Ok(Decision::Harden),
            None => {}
        }
        eprint!("{}", question(conflict));
        for _ in 0..3 {
            eprint!(
                "Keep the cluster's value and switch the control off, or harden? [keep/harden] "
            );
            let mut typed = String::new();
            match std::io::stdin().lock().read_line(&mut typed) {
                Err(_) | Ok(0) => break,
                Ok(_) => {}
            }
            match typed.trim().to_ascii_lowercase().as_str() {
                "k" | "keep" => return Ok(Decision::Keep),
                "h" | "harden" => return Ok(Decision::Harden),
                _ => eprintln!("answer keep or harden"),
            }
        }
        let problem = Problem::new("a conflict was not decided").left("nothing was written");
        Err(CommandError::one(Exit::Usage, problem))
    }
}
