//! The way to a node, up to a login: jump hosts, key exchange, host key, keys and agent. Nothing but the
//! key exchange is sent to a host whose key is not trusted.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use ssh2::{MethodType, Session};

use super::host_key::{self, Policy, Refusal};
use super::known_hosts::KnownHosts;
use super::{TransportError, address, relay};
use crate::inventory::{HostKeyFingerprint, SshTarget};

/// Host-key algorithms in the order of our preference. SHA-1 signatures (`ssh-rsa`) are not accepted.
const HOST_KEY_ALGORITHMS: &[&str] = &[
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Key exchanges, ciphers and MACs that are offered. libssh2 offers more by itself, down to
/// diffie-hellman-group1-sha1 and arcfour: a server that is nothing better should not be spoken to.
const METHODS: &[(MethodType, &str)] = &[
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

/// One host of a chain: a jump host or the node itself.
struct Hop<'a> {
    host: &'a str,
    port: u16,
    user: &'a str,
    key_file: Option<&'a Path>,
    agent: bool,
    host_keys: &'a [HostKeyFingerprint],
}

impl<'a> Hop<'a> {
    fn policy(&self, known_hosts: Option<&'a KnownHosts>) -> Policy<'a> {
        Policy { fingerprints: self.host_keys, known_hosts, host: self.host, port: self.port }
    }
}

/// Connects, verifies every host key on the way, and logs in.
///
/// # Errors
/// See [`TransportError`].
pub(super) fn log_in(target: &SshTarget) -> Result<Reached, TransportError> {
    let known = target.known_hosts.as_deref().map(read_known_hosts).transpose()?;
    let timeout = Duration::from_secs(u64::from(target.connect_timeout_s));
    let deadline = Instant::now() + timeout;
    reach(&hops(target), known.as_ref(), deadline, timeout, Until::LoggedIn)
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
pub(super) struct Reached {
    /// The session, in blocking mode.
    pub(super) session: Session,
    /// The socket under the session, to wait on. Shared and not duplicated: a thousand nodes are a thousand
    /// open files then.
    pub(super) socket: Arc<OwnedFd>,
    /// Of the jump hosts on the way; they end when their sockets close.
    pub(super) relays: Vec<relay::Relay>,
    /// The SHA-256 fingerprint of the host key that was accepted.
    pub(super) host_key: String,
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
    let policy = hop.policy(known);
    // A server offers one of its keys. Where that is not a promised one, a key of another type may
    // be: ask for the other types before refusing. Nothing but the key exchange is sent meanwhile.
    let candidates = host_key_preferences(&policy);
    let mut refused: Option<TransportError> = None;
    for algorithms in &candidates {
        let mut dropped = 0;
        let (session, socket, relays) = loop {
            let (socket, relays) = open_socket(hop, before, known, deadline, timeout)?;
            let socket = Arc::new(socket);
            match handshake(Arc::clone(&socket), algorithms, &place, deadline) {
                Ok(session) => break (session, socket, relays),
                Err(e) => {
                    let pause = pause(dropped);
                    if is_dropped(&e) && dropped < DROPS && Instant::now() + pause < deadline {
                        dropped += 1;
                        std::thread::sleep(pause);
                        continue;
                    }
                    // The first list names every algorithm: if that fails, there is nothing to negotiate.
                    // A later one fails where the server has no key of these types.
                    return Err(refused.unwrap_or(e));
                }
            }
        };
        let blob = session.host_key().map(|(blob, _)| blob.to_vec()).unwrap_or_default();
        match host_key::judge(&policy, &blob) {
            Ok(host_key) => {
                set_timeout_until(&session, deadline, timeout)?;
                if until == Until::LoggedIn {
                    login(&session, hop, &place)?;
                }
                return Ok(Reached { session, socket, relays, host_key });
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

/// Retries of a connection that sshd drops at its start. It drops some at random while more than ten are unauthenticated
/// (`MaxStartups 10:30:100` of sshd_config(5)), as on a jump host to many nodes.
const DROPS: u32 = 6;

/// Longer each time, with jitter, so that connections dropped together do not retry together.
fn pause(dropped: u32) -> Duration {
    let [jitter] = crate::clock::random_bytes::<1>();
    let base = 200u64 << dropped.min(4);
    Duration::from_millis(base + base * u64::from(jitter) / 256)
}

/// Whether the server went away before it said who it is.
fn is_dropped(error: &TransportError) -> bool {
    /// `LIBSSH2_ERROR_` `BANNER_RECV`, `SOCKET_DISCONNECT`, `SOCKET_RECV`.
    const CODES: &[i32] = &[-2, -13, -43];
    match error {
        TransportError::Handshake { source, .. } => {
            CODES.iter().any(|c| source.code() == ssh2::ErrorCode::Session(*c))
        }
        _ => false,
    }
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
            .iter()
            .copied()
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
                notice_death(&stream).map_err(|e| fail(e.into()))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(fail(last))
}

/// A machine that loses its power says no goodbye. Without this, whoever waits for the end of a long
/// step there would wait until that step's deadline, a quarter of an hour. Behind a jump host it is the
/// jump host that is watched.
fn notice_death(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, QUIET)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    // Also says when keepalive gives up, and counts what a node that is merely slow does not take.
    sockopt::set_tcp_user_timeout(stream, DEAD_MS)
}

/// How long a connection is quiet before the other side is asked whether it is there (tcp(7)).
const QUIET: Duration = Duration::from_secs(15);
/// How long nothing may be acknowledged, in milliseconds.
const DEAD_MS: u32 = 60_000;

fn handshake(
    socket: Arc<OwnedFd>,
    algorithms: &str,
    place: &str,
    deadline: Instant,
) -> Result<Session, TransportError> {
    let fail = |source| TransportError::Handshake { address: place.to_owned(), source };
    let mut session = Session::new().map_err(fail)?;
    session.method_pref(MethodType::HostKey, algorithms).map_err(fail)?;
    for &(method, names) in METHODS {
        session.method_pref(method, names).map_err(fail)?;
    }
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    session.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
    session.set_tcp_stream(Socket(socket));
    session.handshake().map_err(fail)?;
    Ok(session)
}

/// What libssh2 needs of a socket: its descriptor.
struct Socket(Arc<OwnedFd>);

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
        tried.push("nothing: the inventory has neither `key_file` nor `agent: true`".into());
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
        tried: "only the query for login methods".to_owned(),
        source: Some(source),
    })
}

/// A host key that a server presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Type, as in `Ed25519`.
    pub kind: String,
    /// `SHA256:` and 43 characters.
    pub fingerprint: String,
    /// Whether a connection would be made: the inventory, or the known_hosts file it names, has it.
    pub is_trusted: bool,
    /// Why not, where something else was promised, or it is revoked; `None` where nobody has said anything of the host.
    pub refused: Option<String>,
}

/// The host keys a server presents, one for each family of algorithms, without logging in.
///
/// # Errors
/// If the server cannot be reached or speaks no SSH.
pub fn present_host_keys(
    target: &SshTarget,
    timeout: Duration,
) -> Result<Vec<Presented>, TransportError> {
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
        match handshake(Arc::new(socket), &algorithms, &place, deadline) {
            Ok(session) => {
                if let Some((blob, kind)) = session.host_key() {
                    let judged = host_key::judge(&hop.policy(known.as_ref()), blob);
                    keys.push(Presented {
                        kind: format!("{kind:?}"),
                        fingerprint: host_key::fingerprint(blob),
                        is_trusted: judged.is_ok(),
                        refused: match judged {
                            Ok(_) | Err(Refusal::Unknown(_)) => None,
                            Err(other) => Some(other.reason().to_owned()),
                        },
                    });
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// As a jump host does by its `MaxStartups`: some connections end before a word was said.
    #[test]
    fn a_connection_that_is_dropped_at_its_beginning_is_tried_again() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                MADE.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        let hop = Hop {
            host: "127.0.0.1",
            port,
            user: "u",
            key_file: None,
            agent: false,
            host_keys: &[],
        };
        let timeout = Duration::from_secs(3);
        let deadline = Instant::now() + timeout;
        let reached = reach(&[hop], None, deadline, timeout, Until::Verified);
        assert!(matches!(reached, Err(TransportError::Handshake { .. })));
        assert!(MADE.load(Ordering::SeqCst) > 2 && Instant::now() < deadline);
    }

    #[test]
    fn pauses_grow_and_differ() {
        assert!((0..DROPS).all(|n| pause(n) < Duration::from_secs(8)));
        assert!(pause(3) > pause(0));
        let some: std::collections::BTreeSet<Duration> = (0..50).map(|_| pause(2)).collect();
        assert!(some.len() > 10);
    }
}
