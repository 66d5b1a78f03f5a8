//! Runs a program of this machine and turns its failure into an [`Error`].

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::Error;

/// Where Debian keeps administrators' programs.
pub(super) const SBIN: &[&str] = &["/usr/sbin", "/sbin"];

/// Runs a program with empty standard input and returns its standard output.
pub(super) fn run(command: &mut Command) -> Result<Vec<u8>, Error> {
    finish(command.stdin(Stdio::null()), None)
}

/// Runs a program with `input` on its standard input and returns its standard output.
pub(super) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Error> {
    finish(command.stdin(Stdio::piped()), Some(input))
}

/// Runs a program with a file as its standard input and returns its standard output.
pub(super) fn run_with_file(command: &mut Command, file: File) -> Result<Vec<u8>, Error> {
    finish(command.stdin(file), None)
}

fn finish(command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let shown = shown(command);
    let spawn_error = |source| Error::Spawn { command: shown.clone(), source };
    let mut child = with_sbin(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn_error)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input).map_err(spawn_error)?;
    }
    let output = child.wait_with_output().map_err(spawn_error)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command { command: shown, status: output.status, said: tail(&stderr, 12) })
}

/// Lets a program be found where Debian keeps administrators' programs: a shell that `su` started
/// has a PATH without those directories.
fn with_sbin(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SBIN.iter().map(PathBuf::from));
    match std::env::join_paths(dirs) {
        Ok(path) => command.env("PATH", path),
        Err(_) => command,
    }
}

/// The command line as a reader would type it; for messages only.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last `lines` lines that hold something, without terminal control sequences.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let clean = strip_terminal_controls(text);
    let kept: Vec<&str> = clean.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    kept[kept.len().saturating_sub(lines)..].join("\n")
}

/// Drops escape sequences (ECMA-48 CSI and OSC) and control characters other than newlines.
fn strip_terminal_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => {
                    // A CSI sequence ends with a byte from 0x40 to 0x7e.
                    chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
                Some(']') => {
                    chars.by_ref().find(|&c| c == '\u{7}' || c == '\\');
                }
                _ => {}
            },
            '\n' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_log_is_quoted_without_colours_and_only_its_end() {
        let log = "one\r\n[\u{1b}[0;1;31mFAILED\u{1b}[0m] Failed to start x\r\n\r\n\u{1b}]0;t\u{7}three\r\n";
        assert_eq!(tail(log, 2), "[FAILED] Failed to start x\nthree");
        assert_eq!(tail("", 3), "");
    }

    #[test]
    fn a_failing_command_tells_its_name_and_what_it_said() {
        let e = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 4"])).unwrap_err();
        let Error::Command { command, status, said } = e else { panic!("{e:?}") };
        assert!(command.starts_with("sh -c"));
        assert_eq!(status.code(), Some(4));
        assert_eq!(said, "no such thing");
    }
}
