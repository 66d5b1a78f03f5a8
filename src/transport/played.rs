//! Nodes that are played, for unit tests of what comes before and after a node's answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Dialer, Output, Request, Rounds, Stream, Transport, TransportError};
use crate::inventory::SshTarget;

/// What a node answers: its host, the program, its input; the lines of standard output.
pub type Play<'p> = &'p (dyn Fn(&str, &str, &[u8]) -> String + Sync);

/// Said by a node whose connection breaks before its answer.
pub const BREAKS: &str = "the connection breaks";

/// Said by a node that does not let its user become root.
pub const REFUSES_ROOT: &str = "sudo refuses";

/// Plays every node.
#[derive(Clone, Copy)]
pub struct Played(pub Play<'static>);

struct Session {
    host: String,
    play: Play<'static>,
}

impl Dialer for Played {
    fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError> {
        Ok(Box::new(Session { host: target.host.to_string(), play: self.0 }))
    }
}

impl Transport for Session {
    fn run(
        &mut self,
        request: Request<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, TransportError> {
        let mut input = Vec::new();
        request.input.read_to_end(&mut input).unwrap();
        let said = (self.play)(&self.host, request.script, &input);
        if said == BREAKS {
            return Err(TransportError::Deadline { what: "the answer", timeout_s: 0 });
        }
        if said == REFUSES_ROOT {
            return Err(TransportError::Root { user: "u".into(), reason: said });
        }
        said.lines().for_each(on_line);
        Ok(Output { status: 0, stdout: said.into_bytes(), stderr: Vec::new() })
    }

    fn dial(
        &mut self,
        _: &str,
        _: u16,
        _: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        unreachable!("a node that is played dials nobody")
    }

    fn host_key(&self) -> &str {
        "SHA256:played"
    }

    fn rounds(&self) -> Rounds {
        Rounds::default()
    }
}

/// What this machine's own shell makes of a program.
pub fn this_machine(script: &str, input: &[u8]) -> String {
    use std::io::Write;
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
