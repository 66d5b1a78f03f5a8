//! SSH with libssh2: one connection per node, channels strictly one after another, no SFTP, no PTY.
//!
//! libssh2 is bundled and at least 1.11.1, which has strict key exchange (Terrapin,
//! CVE-2023-48795) and RSA with SHA-2; a test reads the version that it announces. Concurrent channels
//! on one session are not safe with it (ssh2-rs issue 322) and its SFTP limits unacknowledged
//! writes, so that files travel as one tar stream on a program's standard input.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ssh2::{ErrorCode, ExtendedData, MethodType, Session};

use super::host_key::{self, Policy, Refusal};
use super::known_hosts::KnownHosts;
use super::{
    Credentials, DialFailure, Dialer, Output, Request, Rounds, Stream, Transport, TransportError,
    address, frame, relay, tail,
};
use crate::inventory::{HostKeyFingerprint, SshTarget, Sudo};

/// Host-key algorithms in the order of our preference. SHA-1 signatures (`ssh-rsa`) are not accepted.
const HOST_KEY_ALGORITHMS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Key exchanges, ciphers and MACs that are offered. libssh2 offers more by itself, down to
/// diffie-hellman-group1-sha1 and arcfour: a server that is nothing better should not be spoken to.
const METHODS: [(MethodType, &str); 5] = [
    (
        MethodType::Kex,
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,\
         ecdh-sha2-nistp521,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,\
         diffie-hellman-group-exchange-sha256,diffie-hellman-group14-sha256",
    ),
    (MethodType::CryptCs, CIPHERS),
    (MethodType::CryptSc, CIPHERS),
    (MethodType::MacCs, MACS),
    (MethodType::MacSc, MACS),
];
const CIPHERS: &str = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,\
                       aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr";
const MACS: &str = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,\
                    hmac-sha2-512";

/// Keys of an agent that are offered before giving up. With a key file they stay within the four
/// attempts that our own sshd drop-in allows.
const AGENT_KEYS: usize = 3;

/// Opens SSH connections with one set of credentials.
#[derive(Clone, Default)]
pub struct SshDialer {
    /// What logging in needs beside keys.
    pub credentials: Credentials,
}

impl Dialer for SshDialer {
    fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError> {
        Ok(Box::new(SshSession::connect(target, &self.credentials)?))
    }
}

/// A verified, logged-in connection to one node.
pub struct SshSession {
    session: Session,
    address: String,
    user: String,
    sudo: Sudo,
    credentials: Credentials,
    host_key: String,
    rounds: Rounds,
    // Relay threads of jump hosts end when their sockets close, which dropping the session does.
    _relays: Vec<relay::Relay>,
}

/// One host of a chain: a jump host or the node itself.
struct Hop<'a> {
    host: &'a str,
    port: u16,
    user: &'a str,
    key_file: Option<&'a Path>,
    agent: bool,
    host_keys: &'a [HostKeyFingerprint],
}

impl SshSession {
    /// Connects, verifies every host key on the way, and logs in.
    ///
    /// # Errors
    /// See [`TransportError`]. Nothing but the key exchange is sent to a host whose key is not trusted.
    pub fn connect(target: &SshTarget, credentials: &Credentials) -> Result<Self, TransportError> {
        let known = target.known_hosts.as_deref().map(read_known_hosts).transpose()?;
        let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
        let deadline = Instant::now() + timeout;
        let hops = hops(target);

        let Reached { session, relays, host_key, .. } =
            reach(&hops, known.as_ref(), deadline, timeout, Until::LoggedIn)?;
        let last = &hops[hops.len() - 1];
        Ok(Self {
            session,
            address: address(last.host, last.port),
            user: last.user.to_owned(),
            sudo: target.sudo,
            credentials: credentials.clone(),
            host_key,
            rounds: Rounds::default(),
            _relays: relays,
        })
    }

    fn set_deadline(&self, deadline: Instant) -> Result<(), io::Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        // 0 means no timeout to libssh2.
        let ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        if ms == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.session.set_timeout(ms);
        Ok(())
    }

    /// Opens a channel. sshd counts a session until it has reaped its process: with `MaxSessions 1`
    /// the next one is refused for that moment, so that a refusal is tried again a few times.
    fn open_channel(&self, deadline: Instant) -> Result<ssh2::Channel, io::Error> {
        /// `LIBSSH2_ERROR_CHANNEL_FAILURE`.
        const REFUSED: ErrorCode = ErrorCode::Session(-21);
        for pause_ms in [20, 100, 300, 1000] {
            self.set_deadline(deadline)?;
            match self.session.channel_session() {
                Err(e) if e.code() == REFUSED => {
                    std::thread::sleep(Duration::from_millis(pause_ms));
                }
                other => return other.map_err(io::Error::from),
            }
        }
        self.set_deadline(deadline)?;
        self.session.channel_session().map_err(io::Error::from)
    }

    /// Answers sudo's prompt, and waits for the marker, which only a root shell prints. Until then
    /// nothing else is sent: sudo would take it for another password.
    fn become_root(
        &self,
        channel: &mut ssh2::Channel,
        lines: &mut LineReader<'_>,
        deadline: Instant,
        timeout: Duration,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), TransportError> {
        let step = |what| Self::broken(what, timeout);
        let refused = |reason: String| TransportError::Root { user: self.user.clone(), reason };
        let password = self.credentials.sudo_password.as_ref().ok_or_else(|| {
            refused("the inventory says `sudo: password` and none was given".into())
        })?;
        let prompt = frame::prompt(lines.marker);
        // sudo prompts on standard error; it is read as part of the noise before the marker.
        let merge = |channel: &mut ssh2::Channel, mode| {
            channel.handle_extended_data(mode).map_err(|e| step("waiting for sudo")(e.into()))
        };
        merge(channel, ExtendedData::Merge)?;
        let mut asked = 0;
        while !lines.started {
            self.set_deadline(deadline).map_err(step("waiting for sudo"))?;
            let n = lines.read_from(channel, on_line, step("waiting for sudo"))?;
            let prompts = count(&lines.noise, prompt.as_bytes());
            if n == 0 || prompts > 1 {
                let said = String::from_utf8_lossy(&lines.noise).replace(&prompt, "");
                return Err(refused(tail(said.as_bytes())));
            }
            if prompts > asked {
                asked = prompts;
                let mut line = zeroize::Zeroizing::new(password.expose().clone().into_bytes());
                line.push(b'\n');
                channel.write_all(&line).map_err(step("sending the sudo password"))?;
            }
        }
        merge(channel, ExtendedData::Normal)
    }

    fn broken(what: &'static str, timeout: Duration) -> impl Fn(io::Error) -> TransportError {
        move |source| {
            if source.kind() == io::ErrorKind::TimedOut {
                TransportError::Deadline { what, timeout_s: timeout.as_secs() }
            } else {
                TransportError::Broken { what, source }
            }
        }
    }
}

impl Transport for SshSession {
    fn run(
        &mut self,
        request: Request<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, TransportError> {
        let timeout = request.deadline;
        let deadline = Instant::now() + timeout;
        let step = |what| Self::broken(what, timeout);
        let marker = frame::marker();

        let mut channel = self.open_channel(deadline).map_err(step("opening a channel"))?;
        channel
            .exec(&frame::command(&marker, self.sudo))
            .map_err(|e| step("starting a shell")(e.into()))?;
        self.rounds.execs += 1;

        let mut lines = LineReader::new(&marker, request.max_output);
        if self.sudo == Sudo::Password {
            self.become_root(&mut channel, &mut lines, deadline, timeout, on_line)?;
        }

        let mut sent = 0u64;
        let upload = (|| -> io::Result<()> {
            let program = frame::program(request.script);
            self.set_deadline(deadline)?;
            channel.write_all(&program)?;
            sent += program.len() as u64;
            let mut buffer = zeroize::Zeroizing::new(vec![0u8; 64 * 1024]);
            loop {
                let n = request.input.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                self.set_deadline(deadline)?;
                channel.write_all(&buffer[..n])?;
                sent += n as u64;
            }
            self.set_deadline(deadline)?;
            channel.send_eof()?;
            Ok(())
        })();
        self.rounds.sent_bytes += sent;
        if let Err(e) = upload {
            // A program that ends early closes the pipe; what it said is the better error.
            if e.kind() == io::ErrorKind::TimedOut {
                return Err(step("sending to the node")(e));
            }
        }

        loop {
            self.set_deadline(deadline).map_err(step("waiting for the node's answer"))?;
            let n =
                lines.read_from(&mut channel, on_line, step("waiting for the node's answer"))?;
            if n == 0 {
                break;
            }
        }
        let mut stderr = Vec::new();
        self.set_deadline(deadline).map_err(step("reading standard error"))?;
        channel
            .stderr()
            .take(request.max_output as u64 + 1)
            .read_to_end(&mut stderr)
            .map_err(step("reading standard error"))?;
        if stderr.len() > request.max_output {
            return Err(TransportError::TooMuch { limit: request.max_output });
        }
        self.set_deadline(deadline).map_err(step("closing a channel"))?;
        channel.wait_close().map_err(|e| step("closing a channel")(e.into()))?;
        let status = exit_status(&channel);
        let stdout = lines.finish(on_line);
        self.rounds.received_bytes += (stdout.len() + stderr.len()) as u64;
        if !lines.started {
            if self.sudo != Sudo::None && status != 0 {
                return Err(TransportError::Root {
                    user: self.user.clone(),
                    reason: tail(&stderr),
                });
            }
            let said = if stderr.is_empty() { tail(&lines.noise) } else { tail(&stderr) };
            return Err(TransportError::NotStarted { status, said });
        }
        Ok(Output { status, stdout, stderr })
    }

    fn dial(
        &mut self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        let address = address(host, port);
        let deadline = Instant::now() + timeout + Duration::from_secs(2);
        let step = |what| Self::broken(what, timeout);
        let mut channel = self.open_channel(deadline).map_err(step("opening a channel"))?;
        // bash's /dev/tcp is the one TCP client that Debian and RHEL both always have, and it works
        // where sshd forbids forwarding. A timer bounds the connect; bash prints the reason. The
        // timer holds none of the channel's streams, or a refusal would last as long as a timeout.
        // Once the connection is open, standard error is closed to the channel: bash may report the
        // killed timer there, in the middle of what the other side sends, and the writing side would
        // hold the channel open when the other side has ended.
        let relay = format!(
            "command -v bash >/dev/null || {{ echo NOBASH; exit; }}; exec bash -c {}",
            frame::quote(&format!(
                "(sleep {}; kill $$) >/dev/null 2>&1 </dev/null & t=$!; trap 'kill $t 2>/dev/null' EXIT; \
                 exec 3<>/dev/tcp/$0/$1 && \
                 {{ exec 2>/dev/null; trap - EXIT; kill $t; echo; echo OPEN; cat <&3 & exec cat >&3; }}",
                timeout.as_secs().max(1)
            ))
        );
        let command = format!("exec 2>&1; set -- {} {port}; {relay} \"$@\"", frame::quote(host));
        channel
            .exec(&format!("exec sh -c {}", frame::quote(&command)))
            .map_err(|e| step("starting a shell")(e.into()))?;
        self.rounds.execs += 1;
        let mut said = Vec::new();
        let mut byte = [0u8; 1];
        loop {
            self.set_deadline(deadline).map_err(step("connecting from the node"))?;
            let n = channel.read(&mut byte).map_err(step("connecting from the node"))?;
            if n == 0 || said.len() > 4096 {
                break;
            }
            said.push(byte[0]);
            if said.ends_with(b"\nOPEN\n") {
                self.session.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
                return Ok(Box::new(Dialled(channel)));
            }
        }
        let text = tail(&said);
        let failure = if text.contains("NOBASH") {
            DialFailure::NotTried
        } else if text.contains("refused") {
            DialFailure::Refused
        } else if text.contains("unreachable") || text.contains("No route") {
            DialFailure::Unreachable
        // The timer's signal shows as an interrupted call, or as nothing at all.
        } else if text.is_empty()
            || ["timed out", "Terminated", "Interrupted"].iter().any(|w| text.contains(w))
        {
            DialFailure::TimedOut
        } else {
            DialFailure::Other
        };
        Err(TransportError::Dial { address, failure, detail: text })
    }

    fn host_key(&self) -> &str {
        &self.host_key
    }

    fn rounds(&self) -> Rounds {
        self.rounds
    }
}

/// The channel of a dialled connection.
///
/// `libssh2_channel_flush_ex` throws away what has arrived and was not read yet; writes are never
/// buffered. A flush that did what `Write` says would lose TLS records here.
struct Dialled(ssh2::Channel);

impl Read for Dialled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Dialled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for SshSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshSession({}@{})", self.user, self.address)
    }
}

fn exit_status(channel: &ssh2::Channel) -> i32 {
    match channel.exit_signal() {
        Ok(signal) if signal.exit_signal.is_some() => 128,
        _ => channel.exit_status().unwrap_or(-1),
    }
}

/// How often a word occurs.
fn count(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(word.len()).filter(|w| *w == word).count()
}

/// More noise than a start-up file makes.
const MAX_NOISE: usize = 64 * 1024;

/// Splits standard output into noise before the marker and lines after it.
struct LineReader<'m> {
    marker: &'m str,
    started: bool,
    noise: Vec<u8>,
    out: Vec<u8>,
    /// Start of the line in `out` that is not complete yet.
    line: usize,
    limit: usize,
}

impl<'m> LineReader<'m> {
    fn new(marker: &'m str, limit: usize) -> Self {
        Self { marker, started: false, noise: Vec::new(), out: Vec::new(), line: 0, limit }
    }

    fn read_from(
        &mut self,
        from: &mut impl Read,
        on_line: &mut dyn FnMut(&str),
        fail: impl Fn(io::Error) -> TransportError,
    ) -> Result<usize, TransportError> {
        let mut buffer = [0u8; 32 * 1024];
        let n = from.read(&mut buffer).map_err(fail)?;
        if self.started {
            self.out.extend_from_slice(&buffer[..n]);
        } else {
            self.noise.extend_from_slice(&buffer[..n]);
            let marker = format!("{}\n", self.marker);
            if let Some(at) = self.noise.windows(marker.len()).position(|w| w == marker.as_bytes())
            {
                self.out = self.noise.split_off(at + marker.len());
                self.started = true;
            }
        }
        let noisy = !self.started && self.noise.len() > MAX_NOISE;
        if noisy || self.out.len() > self.limit {
            let limit = if noisy { MAX_NOISE } else { self.limit };
            return Err(TransportError::TooMuch { limit });
        }
        while let Some(end) = self.out[self.line..].iter().position(|&b| b == b'\n') {
            on_line(&String::from_utf8_lossy(&self.out[self.line..self.line + end]));
            self.line += end + 1;
        }
        Ok(n)
    }

    fn finish(&mut self, on_line: &mut dyn FnMut(&str)) -> Vec<u8> {
        if self.line < self.out.len() {
            on_line(&String::from_utf8_lossy(&self.out[self.line..]));
        }
        std::mem::take(&mut self.out)
    }
}

fn read_known_hosts(path: &Path) -> Result<KnownHosts, TransportError> {
    let local = |source| TransportError::LocalFile { path: path.display().to_string(), source };
    let text = std::fs::read_to_string(path).map_err(local)?;
    KnownHosts::parse(&text)
        .map_err(|e| local(io::Error::new(io::ErrorKind::InvalidData, e.to_string())))
}

/// The way to a node: its jump hosts, then the node.
fn hops(target: &SshTarget) -> Vec<Hop<'_>> {
    target
        .jump
        .iter()
        .map(|j| Hop {
            host: j.host.as_str(),
            port: j.port,
            user: j.user.as_ref().unwrap_or(&target.user).as_str(),
            key_file: j.key_file.as_deref().or(target.key_file.as_deref()),
            agent: target.agent,
            host_keys: &j.host_keys,
        })
        .chain(std::iter::once(Hop {
            host: target.host.as_str(),
            port: target.port,
            user: target.user.as_str(),
            key_file: target.key_file.as_deref(),
            agent: target.agent,
            host_keys: &target.host_keys,
        }))
        .collect()
}

/// A socket to a host: direct, or through the verified hosts before it.
fn open_socket(
    hop: &Hop<'_>,
    before: &[Hop<'_>],
    known: Option<&KnownHosts>,
    deadline: Instant,
    timeout: Duration,
) -> Result<(OwnedFd, Vec<relay::Relay>), TransportError> {
    if before.is_empty() {
        return Ok((connect_tcp(hop, deadline)?.into(), Vec::new()));
    }
    let jump = reach(before, known, deadline, timeout, Until::LoggedIn)?;
    let (relay, socket) =
        relay::Relay::start(jump.session, jump.socket, hop.host, hop.port, deadline).map_err(
            |source| TransportError::Connect {
                address: format!("{} (through a jump host)", address(hop.host, hop.port)),
                source,
            },
        )?;
    let mut relays = jump.relays;
    relays.push(relay);
    Ok((socket, relays))
}

/// How far to go on the last hop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Its host key is verified.
    Verified,
    /// We are logged in.
    LoggedIn,
}

/// A verified and, as far as asked for, logged-in session to a hop.
struct Reached {
    session: Session,
    /// A duplicate of the socket under the session, for a relay to wait on.
    socket: OwnedFd,
    relays: Vec<relay::Relay>,
    host_key: String,
}

/// Goes through all hops; the last one is the node.
fn reach(
    hops: &[Hop<'_>],
    known: Option<&KnownHosts>,
    deadline: Instant,
    timeout: Duration,
    until: Until,
) -> Result<Reached, TransportError> {
    let (hop, before) = hops.split_last().expect("a chain has at least the node itself");
    let place = address(hop.host, hop.port);
    let policy =
        Policy { fingerprints: hop.host_keys, known_hosts: known, host: hop.host, port: hop.port };
    // A server offers one of its keys. Where that is not a promised one, a key of another type may
    // be: ask for the other types before refusing. Nothing but the key exchange is sent meanwhile.
    let candidates = host_key_preferences(&policy);
    let mut refused: Option<TransportError> = None;
    for algorithms in &candidates {
        let (socket, relays) = open_socket(hop, before, known, deadline, timeout)?;
        let duplicate = socket
            .try_clone()
            .map_err(|source| TransportError::Connect { address: place.clone(), source })?;
        let session = match handshake(socket, algorithms, &place, deadline) {
            Ok(session) => session,
            // The first list names every algorithm: if that fails, there is nothing to negotiate.
            // A later one fails where the server has no key of these types.
            Err(e) => return Err(refused.unwrap_or(e)),
        };
        let blob = session.host_key().map(|(blob, _)| blob.to_vec()).unwrap_or_default();
        match host_key::judge(&policy, &blob) {
            Ok(host_key) => {
                set_timeout_until(&session, deadline, timeout)?;
                if until == Until::LoggedIn {
                    login(&session, hop, &place)?;
                }
                return Ok(Reached { session, socket: duplicate, relays, host_key });
            }
            Err(refusal) => {
                let mismatch = matches!(refusal, Refusal::Mismatch(_));
                refused.get_or_insert(TransportError::HostKey {
                    address: place.clone(),
                    reason: refusal.reason().to_owned(),
                    source: None,
                });
                if !mismatch {
                    break;
                }
            }
        }
    }
    Err(refused.expect("the loop ran at least once and ended in a refusal"))
}

fn set_timeout_until(
    session: &Session,
    deadline: Instant,
    timeout: Duration,
) -> Result<(), TransportError> {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    if left == 0 {
        return Err(TransportError::Deadline { what: "logging in", timeout_s: timeout.as_secs() });
    }
    session.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
    Ok(())
}

/// Algorithm lists to try, best first: what known_hosts promises, else each family of keys.
fn host_key_preferences(policy: &Policy<'_>) -> Vec<String> {
    if policy.fingerprints.is_empty()
        && let Some(known) = policy.known_hosts
    {
        let promised = known.lookup(policy.host, policy.port).keys;
        let names: Vec<&str> = HOST_KEY_ALGORITHMS
            .into_iter()
            .filter(|a| {
                promised.iter().any(|k| {
                    k.algorithm == *a || (k.algorithm == "ssh-rsa" && a.starts_with("rsa-sha2"))
                })
            })
            .collect();
        if !names.is_empty() {
            return vec![names.join(",")];
        }
        return vec![HOST_KEY_ALGORITHMS.join(",")];
    }
    vec![
        HOST_KEY_ALGORITHMS.join(","),
        HOST_KEY_ALGORITHMS[1..4].join(","),
        HOST_KEY_ALGORITHMS[4..].join(","),
    ]
}

fn connect_tcp(hop: &Hop<'_>, deadline: Instant) -> Result<TcpStream, TransportError> {
    let place = address(hop.host, hop.port);
    let fail = |source| TransportError::Connect { address: place.clone(), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket_address in (hop.host, hop.port).to_socket_addrs().map_err(fail)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(fail(io::ErrorKind::TimedOut.into()));
        }
        match TcpStream::connect_timeout(&socket_address, left) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(fail)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(fail(last))
}

fn handshake(
    socket: OwnedFd,
    algorithms: &str,
    place: &str,
    deadline: Instant,
) -> Result<Session, TransportError> {
    let fail = |source| TransportError::Handshake { address: place.to_owned(), source };
    let mut session = Session::new().map_err(fail)?;
    session.method_pref(MethodType::HostKey, algorithms).map_err(fail)?;
    for (method, names) in METHODS {
        session.method_pref(method, names).map_err(fail)?;
    }
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    session.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
    session.set_tcp_stream(Socket(socket));
    session.handshake().map_err(fail)?;
    Ok(session)
}

/// What libssh2 needs of a socket: its descriptor.
struct Socket(OwnedFd);

impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn login(session: &Session, hop: &Hop<'_>, place: &str) -> Result<(), TransportError> {
    let mut tried = Vec::new();
    let mut last = None;
    if let Some(path) = hop.key_file {
        check_key_file(path)?;
        tried.push(format!("key {}", path.display()));
        match session.userauth_pubkey_file(hop.user, None, path, None) {
            Ok(()) => return Ok(()),
            Err(e) => last = Some(e),
        }
    }
    if hop.agent {
        match agent_login(session, hop.user) {
            Ok(()) => return Ok(()),
            Err((what, e)) => {
                tried.push(what);
                last = e.or(last);
            }
        }
    }
    if tried.is_empty() {
        tried.push("nothing, since the inventory names neither `key_file` nor `agent`".into());
    }
    Err(TransportError::Login {
        address: place.to_owned(),
        user: hop.user.to_owned(),
        tried: tried.join(", "),
        source: last,
    })
}

/// A private key that others can read is refused, as OpenSSH does.
fn check_key_file(path: &Path) -> Result<(), TransportError> {
    use std::os::unix::fs::MetadataExt;
    let local = |source| TransportError::LocalFile { path: path.display().to_string(), source };
    let meta = std::fs::metadata(path).map_err(local)?;
    if meta.mode() & 0o077 != 0 {
        return Err(local(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "mode {:04o} lets others read this private key; chmod 600 it",
                meta.mode() & 0o7777
            ),
        )));
    }
    Ok(())
}

fn agent_login(session: &Session, user: &str) -> Result<(), (String, Option<ssh2::Error>)> {
    let unusable = |e| ("ssh-agent (not reachable)".to_owned(), Some(e));
    let mut agent = session.agent().map_err(unusable)?;
    agent.connect().map_err(unusable)?;
    agent.list_identities().map_err(unusable)?;
    let keys = agent.identities().map_err(unusable)?;
    let mut last = None;
    for key in keys.iter().take(AGENT_KEYS) {
        match agent.userauth(user, key) {
            Ok(()) => return Ok(()),
            Err(e) => last = Some(e),
        }
    }
    Err((format!("{} key(s) of the ssh-agent", keys.len().min(AGENT_KEYS)), last))
}

/// The ways to log in that a node's sshd offers a user, after its host key was verified; `none` if
/// it asks for nothing at all. Tries none of them.
///
/// # Errors
/// If the node cannot be reached or its host key is not trusted.
pub fn offered_methods(
    target: &SshTarget,
    user: &str,
    timeout: Duration,
) -> Result<Vec<String>, TransportError> {
    let known = target.known_hosts.as_deref().map(read_known_hosts).transpose()?;
    let deadline = Instant::now() + timeout;
    let hops = hops(target);
    let reached = reach(&hops, known.as_ref(), deadline, timeout, Until::Verified)?;
    set_timeout_until(&reached.session, deadline, timeout)?;
    // Asks with the method `none` (RFC 4252 section 5.2); the refusal lists the others.
    let methods =
        reached.session.auth_methods(user).map(|m| m.split(',').map(str::to_owned).collect());
    if reached.session.authenticated() {
        return Ok(vec!["none".to_owned()]);
    }
    methods.map_err(|source| TransportError::Login {
        address: address(target.host.as_str(), target.port),
        user: user.to_owned(),
        tried: "nothing but the question what is offered".to_owned(),
        source: Some(source),
    })
}

/// The host keys a server presents, one for each family of algorithms, without logging in.
///
/// # Errors
/// If the server cannot be reached or speaks no SSH.
pub fn present_host_keys(
    target: &SshTarget,
    timeout: Duration,
) -> Result<Vec<(String, String)>, TransportError> {
    let known = target.known_hosts.as_deref().map(read_known_hosts).transpose()?;
    let hops = hops(target);
    let (hop, before) = hops.split_last().expect("a chain has at least the node itself");
    let place = address(hop.host, hop.port);
    let families = [
        HOST_KEY_ALGORITHMS[0].to_owned(),
        HOST_KEY_ALGORITHMS[1..4].join(","),
        HOST_KEY_ALGORITHMS[4..].join(","),
    ];
    let mut keys = Vec::new();
    let mut last = None;
    for algorithms in families {
        let deadline = Instant::now() + timeout;
        // Through the jump hosts, as every other connection: whoever answers to a private address on
        // the operator's own network is somebody else.
        let (socket, _relays) = open_socket(hop, before, known.as_ref(), deadline, timeout)?;
        match handshake(socket, &algorithms, &place, deadline) {
            Ok(session) => {
                if let Some((blob, kind)) = session.host_key() {
                    keys.push((format!("{kind:?}"), host_key::fingerprint(blob)));
                }
            }
            Err(e) => last = Some(e),
        }
    }
    match last {
        Some(e) if keys.is_empty() => Err(e),
        _ => Ok(keys),
    }
}
