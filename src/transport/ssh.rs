//! Programs over SSH with libssh2: one connection per node, channels strictly one after another, no
//! SFTP, no PTY. A root shell may stay for the next program, where the one before allows it. How the connection comes about is in [`super::reach`].
//!
//! libssh2 is bundled and at least 1.11.1, which has strict key exchange (Terrapin,
//! CVE-2023-48795) and RSA with SHA-2; a test reads the version that it announces. Concurrent channels
//! on one session are not safe with it (ssh2-rs issue 322) and its SFTP limits unacknowledged
//! writes, so that files travel as one tar stream on a program's standard input.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, ErrorCode, ExtendedData, Session};

use super::reach::{self, Reached};
use super::{
    Credentials, DialFailure, Dialer, Output, Request, Rounds, Stream, Transport, TransportError,
    address, frame, relay, tail,
};
use crate::inventory::{SshTarget, Sudo};

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
    socket: Arc<OwnedFd>,
    /// A root shell that waits for its next program.
    shell: Option<ssh2::Channel>,
    // Relay threads of jump hosts end when their sockets close, which dropping the session does.
    _relays: Vec<relay::Relay>,
}

impl SshSession {
    /// Connects, verifies every host key on the way, and logs in.
    ///
    /// # Errors
    /// See [`TransportError`]. Nothing but the key exchange is sent to a host whose key is not trusted.
    pub fn connect(target: &SshTarget, credentials: &Credentials) -> Result<Self, TransportError> {
        let Reached { session, socket, relays, host_key } = reach::log_in(target)?;
        Ok(Self {
            session,
            address: address(target.host.as_str(), target.port),
            user: target.user.as_str().to_owned(),
            sudo: target.sudo,
            credentials: credentials.clone(),
            host_key,
            rounds: Rounds::default(),
            socket,
            shell: None,
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

    /// Sends all of it, as long as the program at the other end runs. In blocking mode libssh2 would wait
    /// until the deadline for room in a window that nobody opens any more.
    fn send(&self, channel: &mut ssh2::Channel, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.session.set_blocking(false);
        let sent = self.send_while_it_runs(channel, bytes, deadline);
        self.session.set_blocking(true);
        sent
    }

    fn send_while_it_runs(
        &self,
        channel: &mut ssh2::Channel,
        mut bytes: &[u8],
        deadline: Instant,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match channel.write(bytes) {
                Ok(n) if n > 0 => {
                    bytes = &bytes[n..];
                    continue;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            // Only says so in this mode; what the program has written stays to be read.
            if channel.wait_eof().is_ok() {
                self.finish_packet(channel, bytes, deadline)?;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let events = match self.session.block_directions() {
                BlockDirections::Outbound => PollFlags::OUT,
                BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
                BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
            };
            let most = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
            match poll(&mut [PollFd::new(&self.socket, events)], Some(&most)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Sends what is left of a packet that was begun: libssh2 can send no other one before. It knows the
    /// packet by its bytes.
    fn finish_packet(
        &self,
        channel: &mut ssh2::Channel,
        bytes: &[u8],
        deadline: Instant,
    ) -> io::Result<()> {
        let until = deadline.min(Instant::now() + AFTER_THE_END);
        while matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        ) && Instant::now() < until
        {
            match channel.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
            let most = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&most)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
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

    /// The shell that a program before left waiting, if it still does.
    fn waiting_shell(&mut self) -> Option<ssh2::Channel> {
        let mut shell = self.shell.take()?;
        self.session.set_blocking(false);
        let waits = shell.read(&mut [0u8]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.session.set_blocking(true);
        if waits {
            return Some(shell);
        }
        self.end(shell);
        None
    }

    /// Drops a channel without waiting long for its end, which may never come where its input was cut off.
    fn end(&self, mut channel: ssh2::Channel) {
        self.session.set_timeout(AFTER_THE_END.as_millis() as u32);
        // The answer is there already, or nobody waits for one.
        let _ = channel.send_eof();
        drop(channel);
    }

    fn new_shell(
        &mut self,
        marker: &str,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<ssh2::Channel, TransportError> {
        let step = |what| Self::broken(what, timeout);
        let mut channel = self.open_channel(deadline).map_err(step("opening a channel"))?;
        channel
            .exec(&frame::command(marker, self.sudo))
            .map_err(|e| step("starting a shell")(e.into()))?;
        self.rounds.execs += 1;
        Ok(channel)
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
            refused("the inventory says `sudo: password`, but no password was given".into())
        })?;
        let prompt = frame::prompt(lines.marker);
        // sudo prompts on standard error; it is read as part of the noise before the marker.
        let merge = |channel: &mut ssh2::Channel, mode| {
            channel.handle_extended_data(mode).map_err(|e| step("waiting for sudo")(e.into()))
        };
        merge(channel, ExtendedData::Merge)?;
        let mut asked = 0;
        let mut begins = Instant::now() + BEGINS;
        while !lines.started {
            self.set_deadline(deadline.min(begins)).map_err(step("waiting for sudo"))?;
            let n = match lines.read_from(channel, on_line, step("waiting for sudo")) {
                Err(TransportError::Deadline { .. }) if begins < deadline && asked == 0 => {
                    return Err(self.silent(&lines.noise));
                }
                read => read?,
            };
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
                begins = deadline;
            }
        }
        merge(channel, ExtendedData::Normal)
    }

    /// Sends a program and its input to a shell, and takes what it answers. `is_new`: the shell has just been started.
    /// Also says whether the shell waits for another program.
    fn talk(
        &mut self,
        channel: &mut ssh2::Channel,
        marker: &str,
        is_new: bool,
        request: Request<'_>,
        deadline: Instant,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(Output, bool), TransportError> {
        let timeout = request.deadline;
        let step = |what| Self::broken(what, timeout);
        let end = request.stays.then(frame::marker);
        let mut lines = LineReader::new(marker, end.as_deref(), request.max_output);
        if is_new && self.sudo == Sudo::Password {
            self.become_root(channel, &mut lines, deadline, timeout, on_line)?;
        }

        let mut sent = 0u64;
        let begins = Instant::now() + BEGINS;
        let upload = (|| -> io::Result<()> {
            let next = (!is_new).then(|| frame::next(request.script, marker));
            let script = next.as_deref().unwrap_or(request.script);
            let program = match &end {
                Some(end) => frame::staying(script, end),
                None => frame::program(script),
            };
            self.set_deadline(deadline.min(begins))?;
            channel.write_all(&program)?;
            sent += program.len() as u64;
            let mut buffer = zeroize::Zeroizing::new(vec![0u8; 64 * 1024]);
            loop {
                let n = request.input.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                // Much is sent to a shell only that has said that it is there.
                while is_new && sent > UNSEEN && !lines.started {
                    self.set_deadline(deadline.min(begins))?;
                    let read = lines.read_from(channel, on_line, step("waiting for a shell"));
                    let n = read.map_err(|e| match e {
                        TransportError::Deadline { .. } => io::ErrorKind::TimedOut.into(),
                        other => io::Error::other(other),
                    })?;
                    if n == 0 {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                self.send(channel, &buffer[..n], deadline)?;
                sent += n as u64;
            }
            if end.is_none() {
                self.set_deadline(deadline)?;
                channel.send_eof()?;
            }
            Ok(())
        })();
        self.rounds.sent_bytes += sent;
        if let Err(e) = upload {
            // A program that ends early closes the pipe; what it said is the better error.
            if e.kind() == io::ErrorKind::TimedOut {
                if is_new && !lines.started && Instant::now() < deadline {
                    return Err(self.silent(&lines.noise));
                }
                return Err(step("sending to the node")(e));
            }
        }

        while lines.ended.is_none() {
            let begins = if is_new && !lines.started { deadline.min(begins) } else { deadline };
            let answer = "waiting for the node's answer";
            let read = self
                .set_deadline(begins)
                .map_err(step(answer))
                .and_then(|()| lines.read_from(channel, on_line, step(answer)));
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(TransportError::Deadline { .. }) if begins < deadline => {
                    return Err(self.silent(&lines.noise));
                }
                Err(e) => return Err(e),
            }
        }
        let mut stderr = Vec::new();
        let complete = self
            .read_errors(channel, end.as_deref(), request.max_output, deadline, &mut stderr)
            .map_err(step("reading standard error"))?;
        if stderr.len() > request.max_output {
            return Err(TransportError::TooMuch { limit: request.max_output });
        }
        let status = match lines.ended {
            Some(status) if complete => status,
            _ => {
                self.set_deadline(deadline).map_err(step("closing a channel"))?;
                channel.wait_close().map_err(|e| step("closing a channel")(e.into()))?;
                exit_status(channel)
            }
        };
        let waits = complete && lines.ended.is_some();
        let stdout = lines.finish(on_line);
        self.rounds.received_bytes += (stdout.len() + stderr.len()) as u64;
        if !lines.started {
            if is_new && self.sudo != Sudo::None && status != 0 {
                return Err(TransportError::Root {
                    user: self.user.clone(),
                    reason: tail(&stderr),
                });
            }
            let said = if stderr.is_empty() { tail(&lines.noise) } else { tail(&stderr) };
            return Err(TransportError::NotStarted { status, said });
        }
        if is_new && status == frame::LOST && stdout.is_empty() && stderr.is_empty() {
            let said = "a start-up file of the shell read the program's input".to_owned();
            return Err(TransportError::NotStarted { status, said });
        }
        Ok((Output { status, stdout, stderr }, waits))
    }

    /// Reads standard error to its end, or to the word for it where the shell stays. Returns whether that came. Stops
    /// beyond `limit` bytes.
    fn read_errors(
        &self,
        channel: &ssh2::Channel,
        end: Option<&str>,
        limit: usize,
        deadline: Instant,
        stderr: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut stream = channel.stderr();
        let mut buffer = [0u8; 4096];
        while stderr.len() <= limit {
            // A node that sends a byte now and then would hold out for ever.
            self.set_deadline(deadline)?;
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            let searched = stderr.len().saturating_sub(WORD);
            stderr.extend_from_slice(&buffer[..n]);
            if let Some((length, _)) = end.and_then(|e| frame::end_of(stderr, e, searched)) {
                stderr.truncate(length);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The shell has said nothing that we know in all the time that one needs to start.
    fn silent(&self, noise: &[u8]) -> TransportError {
        TransportError::Silent {
            user: self.user.clone(),
            waited_s: BEGINS.as_secs(),
            said: tail(noise),
        }
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
        let marker = frame::marker();
        let waiting = self.waiting_shell();
        let is_new = waiting.is_none();
        let mut channel = match waiting {
            Some(shell) => shell,
            None => self.new_shell(&marker, deadline, timeout)?,
        };
        match self.talk(&mut channel, &marker, is_new, request, deadline, on_line) {
            Ok((output, true)) => {
                self.shell = Some(channel);
                Ok(output)
            }
            Ok((output, false)) => {
                self.end(channel);
                Ok(output)
            }
            Err(e) => {
                self.end(channel);
                Err(e)
            }
        }
    }

    fn dial(
        &mut self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        let address = address(host, port);
        let deadline = Instant::now() + timeout + Duration::from_secs(2);
        // One channel at a time.
        if let Some(shell) = self.shell.take() {
            self.end(shell);
        }
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
                "(sleep {}; kill $$) >/dev/null 2>&1 </dev/null & t=$!; trap \"kill $t 2>/dev/null\" EXIT; \
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

impl Drop for SshSession {
    fn drop(&mut self) {
        // libssh2 would tell the waiting shell to end, and wait for its word on that.
        if self.shell.is_some() {
            let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        }
    }
}

fn exit_status(channel: &ssh2::Channel) -> i32 {
    match channel.exit_signal() {
        Ok(signal) if signal.exit_signal.is_some() => 128,
        _ => channel.exit_status().unwrap_or(-1),
    }
}

/// How long the end of a channel may take whose program has ended.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// How long a shell may take to say that it is there: pam, directory services and start-up files of a slow machine.
const BEGINS: Duration = Duration::from_secs(15);

/// What may be sent to a shell that has not said that it is there, in bytes: programs, and small inputs.
const UNSEEN: u64 = 256 * 1024;

/// More than the word for an end is long, with what stands around it.
const WORD: usize = 80;

/// How often a word occurs.
fn count(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(word.len()).filter(|w| *w == word).count()
}

/// More noise than a start-up file makes.
const MAX_NOISE: usize = 64 * 1024;

/// Splits standard output into noise before the marker, lines after it, and the end of them where a shell stays.
struct LineReader<'m> {
    marker: &'m str,
    end: Option<&'m str>,
    started: bool,
    /// The status that stood beside the word for the end.
    ended: Option<i32>,
    noise: Vec<u8>,
    out: Vec<u8>,
    /// Start of the line in `out` that is not complete yet.
    line: usize,
    limit: usize,
}

impl<'m> LineReader<'m> {
    fn new(marker: &'m str, end: Option<&'m str>, limit: usize) -> Self {
        let (noise, out) = (Vec::new(), Vec::new());
        Self { marker, end, started: false, ended: None, noise, out, line: 0, limit }
    }

    fn read_from(
        &mut self,
        from: &mut impl Read,
        on_line: &mut dyn FnMut(&str),
        fail: impl Fn(io::Error) -> TransportError,
    ) -> Result<usize, TransportError> {
        let mut buffer = [0u8; 32 * 1024];
        let n = from.read(&mut buffer).map_err(fail)?;
        let searched = self.out.len().saturating_sub(WORD);
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
        if let Some(end) = self.end {
            if let Some((length, status)) = frame::end_of(&self.out, end, searched) {
                let status = std::str::from_utf8(status).ok().and_then(|s| s.trim().parse().ok());
                self.ended = Some(status.unwrap_or(-1));
                self.out.truncate(length);
            }
            return Ok(n);
        }
        self.say_lines(on_line);
        Ok(n)
    }

    fn say_lines(&mut self, on_line: &mut dyn FnMut(&str)) {
        while let Some(end) = self.out[self.line..].iter().position(|&b| b == b'\n') {
            on_line(&String::from_utf8_lossy(&self.out[self.line..self.line + end]));
            self.line += end + 1;
        }
    }

    fn finish(&mut self, on_line: &mut dyn FnMut(&str)) -> Vec<u8> {
        self.say_lines(on_line);
        if self.line < self.out.len() {
            on_line(&String::from_utf8_lossy(&self.out[self.line..]));
        }
        std::mem::take(&mut self.out)
    }
}
