//! How a node is reached: the [`Transport`] trait, SSH, host-key checks and command framing.
//!
//! A transport runs one POSIX sh program after another as root, each with data on standard input
//! and a deadline. [`ssh::SshSession`] is the one that reaches nodes; tests put faults in front of
//! it. Why there is no in-memory node is in docs/decisions/node-programs.md.

pub mod deadline;
pub mod fleet;
pub mod frame;
pub mod host_key;
pub mod http;
pub mod known_hosts;
#[cfg(test)]
pub(crate) mod played;
pub mod reach;
mod relay;
pub mod ssh;
pub mod tls;

use std::io::{Read, Write};
use std::time::Duration;

use crate::inventory::SshTarget;

/// A program for a node.
pub struct Request<'a> {
    /// POSIX sh, run as root. A constant of this program: never holds a secret.
    pub script: &'a str,
    /// What the program finds on its standard input. Secrets travel here and nowhere else.
    pub input: &'a mut dyn Read,
    /// How long the whole may take.
    pub deadline: Duration,
    /// More bytes than this on either output stream end the run with an error.
    pub max_output: usize,
    /// Whether the node's shell stays for the next program, which saves two round trips and a login shell.
    /// The program must then take exactly its input, and no byte of what comes after; its lines are seen at its end.
    pub stays: bool,
}

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 + n for signal n.
    pub status: i32,
    /// Standard output, without anything a start-up file of the shell printed before the program.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The end of standard error as text, for an error message.
    pub fn stderr_tail(&self) -> String {
        tail(&self.stderr)
    }
}

/// The last lines of a byte stream as printable text, 600 characters at most.
pub fn tail(bytes: &[u8]) -> String {
    let text = crate::plain::plain(&String::from_utf8_lossy(bytes));
    let text = text.trim();
    match text.char_indices().rev().nth(599) {
        Some((i, _)) => format!("...{}", &text[i..]),
        None => text.to_owned(),
    }
}

/// A byte stream to somewhere, through a node.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A way to run programs on one node, one after another.
pub trait Transport: Send {
    /// Runs a program and waits for its end. `on_line` sees each line of standard output as it comes.
    ///
    /// # Errors
    /// If the program could not be run to its end; a program that ended with a status other
    /// than 0 is not an error here.
    fn run(
        &mut self,
        request: Request<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, TransportError>;

    /// Opens a TCP connection from the node to an address that the node reaches.
    ///
    /// The node needs bash for it. The stream must be dropped before the next call.
    ///
    /// # Errors
    /// [`TransportError::Dial`] says how the node's attempt ended.
    fn dial(
        &mut self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError>;

    /// The SHA-256 fingerprint of the host key that this connection was verified against.
    fn host_key(&self) -> &str;

    /// What this connection has cost so far.
    fn rounds(&self) -> Rounds;
}

/// What a connection has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Rounds {
    /// Channels opened. Programs run are more where a shell stayed.
    pub execs: u32,
    /// Payload bytes sent to programs.
    pub sent_bytes: u64,
    /// Payload bytes received from programs.
    pub received_bytes: u64,
}

/// How a dial from a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DialFailure {
    /// A reset answered: the port is closed, and something lets the packet through.
    Refused,
    /// Nothing answered in time: dropped on the way, or the host is gone.
    TimedOut,
    /// No route.
    Unreachable,
    /// The node has no bash, so that nothing could be tried.
    NotTried,
    /// Something else.
    Other,
}

/// Why a node could not be reached or a program not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The TCP connection failed.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The SSH handshake failed.
    #[error("SSH handshake with {address} failed")]
    Handshake {
        /// `host:port`.
        address: String,
        /// libssh2's reason.
        #[source]
        source: ssh2::Error,
    },
    /// The host key is not one that was promised.
    #[error("host key of {address} is not trusted: {reason}")]
    HostKey {
        /// `host:port`.
        address: String,
        /// Which key came, and which were accepted.
        reason: String,
        /// The known_hosts file could not be read or parsed, if that was the cause.
        #[source]
        source: Option<std::io::Error>,
    },
    /// Nobody let us in.
    #[error("login as {user} at {address} refused; tried {tried}")]
    Login {
        /// `host:port`.
        address: String,
        /// Login user.
        user: String,
        /// Keys tried, as text.
        tried: String,
        /// libssh2's reason for the last.
        #[source]
        source: Option<ssh2::Error>,
    },
    /// The login worked and becoming root did not.
    #[error("{user} cannot become root: {reason}")]
    Root {
        /// Login user.
        user: String,
        /// What sudo said.
        reason: String,
    },
    /// It took too long.
    #[error("{what} took longer than {timeout_s} s")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// The deadline in seconds.
        timeout_s: u64,
    },
    /// The node sends more than any honest answer holds.
    #[error("the node sent more than {limit} bytes")]
    TooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// The program never said that it began.
    #[error("the remote shell did not run the program (status {status}): {said}")]
    NotStarted {
        /// Exit status.
        status: i32,
        /// End of what was printed instead.
        said: String,
    },
    /// The login worked, but `sh` did not start.
    #[error("the login shell of {user} did not start sh within {waited_s} s{}", said_instead(.said))]
    Silent {
        /// Login user.
        user: String,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// End of what was printed instead; may be empty.
        said: String,
    },
    /// The connection ended in the middle of a program.
    #[error("the connection broke while {what}")]
    Broken {
        /// What was going on.
        what: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A TCP connection from the node failed.
    #[error("from the node, {address}: {detail}")]
    Dial {
        /// `host:port` that was dialled.
        address: String,
        /// How it ended.
        failure: DialFailure,
        /// What the node said.
        detail: String,
    },
    /// A file of the operator could not be used.
    #[error("cannot use {path}")]
    LocalFile {
        /// Its path.
        path: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl TransportError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Connect { source, .. } => match source.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    "check that sshd is running and that `ssh.port` is right".into()
                }
                _ => "check the address, and that no firewall blocks this machine".into(),
            },
            Self::Handshake { .. } => {
                "check that this is an SSH server: `ssh -v` shows what it offers".into()
            }
            Self::HostKey { .. } => "nothing was sent. If the machine was rebuilt, compare `ssh-keygen -lf \
                                     /etc/ssh/ssh_host_ed25519_key.pub` on its console with `kubastion trust`, \
                                     then add the fingerprint to the inventory"
                .into(),
            Self::Login { .. } => "check `ssh.user` and `ssh.key_file`; a key with a passphrase \
                 must be in the ssh-agent, with `ssh.agent: true`"
                .into(),
            Self::Root { .. } => "check `ssh.sudo` (none, passwordless, password)".into(),
            Self::NotStarted { .. } | Self::Silent { .. } => {
                "check whether a start-up file of the login shell (.bashrc, .profile, /etc/profile.d) reads \
                 input, prompts or exits: `ssh USER@NODE sh -c true </dev/null` has to return at once"
                    .into()
            }
            Self::LocalFile { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "check `ssh.key_file` and `ssh.known_hosts`; relative paths start at the inventory"
                    .into()
            }
            Self::TooMuch { .. } => "inspect the node by hand before trusting it".into(),
            _ => return None,
        })
    }
}

/// What was printed where something else was waited for.
fn said_instead(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it said: {said}") }
}

/// Where a node answers, as `host:port` with IPv6 in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What a connection attempt needs beside the target: the sudo password, if one is used.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Asked for once per run.
    pub sudo_password: Option<crate::secret::Secret<String>>,
}

/// Opens transports to nodes. The executor holds one and asks it again for every new connection.
pub trait Dialer: Sync {
    /// A new, verified connection.
    ///
    /// # Errors
    /// See [`TransportError`]; nothing but the key exchange has been sent when the host key is not
    /// trusted.
    fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError>;
}
