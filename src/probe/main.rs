//! Asks an API server for its health, for a kubelet's exec probe.
//!
//! With anonymous requests refused, a kubelet's HTTP probe is answered 401. This program asks the
//! same with a client certificate, from inside the API server's container, where there is no shell
//! and no resolver. It is linked statically, reads the three files it is told of and nothing else,
//! and ends with 0 where the server answers 200, otherwise with 1 and one line that says why.

mod args;
mod ask;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = args::Args::parse(std::env::args_os().skip(1))
        .and_then(|args| ask::ask(&args).map_err(|e| e.to_string()));
    let Err(why) = result else { return ExitCode::SUCCESS };
    // Not eprintln!, which panics where standard error is closed. One line, whatever a server said.
    let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(std::io::stderr(), "kubastion-probe: {line}");
    ExitCode::FAILURE
}
