//! From a command line to an exit code.

use super::args::{Cli, Verb};
use super::global::{Format, Global};
use crate::error::Problem;
use crate::workflow::command_error::{CommandError, Exit};

/// Parses the command line, runs the verb and prints what went wrong to standard error.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(e) => {
            let exit = if e.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nothing can be done about a closed terminal.
            let _ = e.print();
            return exit.into();
        }
    };
    match dispatch(&cli.global, cli.verb) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            for problem in &stop.problems {
                super::output::problem(cli.global.format, problem);
            }
            stop.exit.into()
        }
    }
}

/// How things stand when Ctrl-C ends a verb that changes nodes, and what goes on from there.
fn if_interrupted(verb: &Verb) -> Option<(&'static str, &'static str)> {
    match verb {
        Verb::Apply(_) => Some((
            "a node rolls back unconfirmed changes by itself, within minutes",
            "run `kubastion plan` to see what is open, and `kubastion apply` to continue",
        )),
        Verb::Rollback(_) => Some((
            "a node finishes by itself a rollback that has started",
            "run the same rollback again to continue; `kubastion runs` shows what was done",
        )),
        Verb::Reset(_) => {
            Some(("nodes may be partly reset, or drained", "run the same reset again to continue"))
        }
        _ => None,
    }
}

fn say_if_interrupted(format: Format, (state, hint): (&'static str, &'static str)) {
    let handler = move || {
        let problem = Problem::new("interrupted").left(state).hint(hint);
        super::output::problem(format, &problem);
        std::process::exit(Exit::Interrupted as i32);
    };
    // Without one, the run ends just the same.
    let _ = ctrlc::set_handler(handler);
}

fn dispatch(global: &Global, verb: Verb) -> Result<Exit, CommandError> {
    if let Some(words) = if_interrupted(&verb) {
        say_if_interrupted(global.format, words);
    }
    match verb {
        Verb::Doctor(args) => super::doctor::run(global, &args),
        Verb::Completions(args) => super::completions::completions(&args, Cli::definition()),
        Verb::Man(args) => super::completions::man(&args, Cli::definition()),
        Verb::Trust(args) => super::trust::run(global, &args),
        Verb::Import(args) => super::import::run(global, &args),
        Verb::Assess(args) => super::assess::run(global, &args),
        Verb::Impact(args) => super::impact::run(global, &args),
        Verb::Plan(args) => super::plan::run(global, &args),
        Verb::Apply(args) => super::apply::run(global, &args),
        Verb::Verify(args) => super::verify::run(global, &args),
        Verb::Kubeconfig(args) => super::kubeconfig::run(global, &args),
        Verb::Controls(command) => super::controls::run(global, &command),
        Verb::Runs => super::runs::list(global),
        Verb::Rollback(args) => super::rollback::run(global, &args),
        Verb::Reset(args) => super::reset::run(global, &args),
        Verb::Lab(verb) => super::lab::run(global, verb),
        Verb::Inventory(command) => super::inventory::run(global, &command),
        Verb::Pki(command) => super::pki::run(global, &command),
        Verb::Bundle(command) => super::bundle::run(global, &command),
    }
}
