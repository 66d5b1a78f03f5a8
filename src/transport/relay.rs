//! Carries one connection through a jump host: a local socket pair and a thread that copies.
//!
//! The thread is the only user of the jump host's session once it runs, because libssh2 sessions
//! are not safe for concurrent channels.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use ssh2::{BlockDirections, Session};

/// A running relay. It ends when either side closes.
pub struct Relay {
    _thread: std::thread::JoinHandle<()>,
}

impl Relay {
    /// Opens a `direct-tcpip` channel (RFC 4254 section 7.2) and copies between it and the returned
    /// socket.
    /// `jump_socket` is the socket under `jump`, to wait on.
    ///
    /// # Errors
    /// If the jump host does not connect in time or forbids forwarding.
    pub fn start(
        jump: Session,
        jump_socket: Arc<OwnedFd>,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> io::Result<(Self, OwnedFd)> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        jump.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
        let channel = jump.channel_direct_tcpip(host, port, None).map_err(io::Error::from)?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        jump.set_blocking(false);
        let thread = std::thread::Builder::new().name("jump-relay".into()).spawn(move || {
            // A broken relay shows on the node's side as a closed connection.
            let _ = copy(&jump, &jump_socket, channel, ours);
        })?;
        Ok((Self { _thread: thread }, theirs.into()))
    }
}

fn copy(
    jump: &Session,
    jump_socket: &OwnedFd,
    mut channel: ssh2::Channel,
    mut local: UnixStream,
) -> io::Result<()> {
    let mut to_node: Vec<u8> = Vec::new();
    let mut to_local: Vec<u8> = Vec::new();
    let mut buffer = [0u8; 32 * 1024];
    let mut local_open = true;
    loop {
        let mut moved = false;
        if to_node.is_empty() && local_open {
            match local.read(&mut buffer) {
                Ok(0) => {
                    local_open = false;
                    moved = true;
                }
                Ok(n) => {
                    to_node.extend_from_slice(&buffer[..n]);
                    moved = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if !to_node.is_empty() {
            match channel.write(&to_node) {
                Ok(n) => {
                    to_node.drain(..n);
                    moved |= n > 0;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if to_local.is_empty() {
            match channel.read(&mut buffer) {
                Ok(0) if channel.eof() => return Ok(()),
                Ok(n) => {
                    to_local.extend_from_slice(&buffer[..n]);
                    moved |= n > 0;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if !to_local.is_empty() {
            match local.write(&to_local) {
                Ok(n) => {
                    to_local.drain(..n);
                    moved |= n > 0;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if !local_open && to_node.is_empty() {
            return Ok(());
        }
        if !moved {
            wait(jump, jump_socket, &local, to_node.is_empty(), !to_local.is_empty())?;
        }
    }
}

fn wait(
    jump: &Session,
    jump_socket: &OwnedFd,
    local: &UnixStream,
    read_local: bool,
    write_local: bool,
) -> io::Result<()> {
    let mut node_events = PollFlags::IN;
    if matches!(jump.block_directions(), BlockDirections::Outbound | BlockDirections::Both) {
        node_events |= PollFlags::OUT;
    }
    let mut local_events = PollFlags::empty();
    if read_local {
        local_events |= PollFlags::IN;
    }
    if write_local {
        local_events |= PollFlags::OUT;
    }
    let mut fds = [
        PollFd::from_borrowed_fd(jump_socket.as_fd(), node_events),
        PollFd::new(local, local_events),
    ];
    let timeout = Duration::from_secs(30).try_into().expect("30 s is a valid timeout");
    poll(&mut fds, Some(&timeout))?;
    Ok(())
}
