//! Health gates: what must hold before a node is touched and before its change is confirmed.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::inventory::NodeName;
use crate::secret::Secret;
use crate::transport::https::{ClientIdentity, TlsClient, request};
use crate::transport::{DialFailure, Request, Transport, TransportError, address, tail};

/// etcd's client port (IANA `etcd-client`).
pub const ETCD_CLIENT_PORT: u16 = 2379;

/// Pause between two looks at something that is not ready yet.
const POLL: Duration = Duration::from_millis(300);

/// How the etcd members are asked.
pub struct EtcdAccess {
    /// The members and their internal addresses.
    pub members: Vec<(NodeName, IpAddr)>,
    /// The etcd CA's certificate, PEM.
    pub ca_pem: String,
    /// A client certificate of that CA, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret<Vec<u8>>,
}

impl EtcdAccess {
    /// How to speak TLS to a member.
    pub fn client<'a>(&'a self, server: &'a str) -> TlsClient<'a> {
        TlsClient {
            ca_pem: Some(&self.ca_pem),
            server,
            identity: Some(ClientIdentity {
                certificate_pem: &self.certificate_pem,
                key_pem: &self.key_pem,
            }),
            max_version: None,
            ciphers: None,
        }
    }
}

/// How long one question to a member may take, from its first byte to its last: a member that sends a
/// byte now and then must not hold a run up.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// A stream that ends at a moment.
pub(crate) struct Until<S> {
    pub stream: S,
    pub deadline: Instant,
}

impl<S> Until<S> {
    /// Tries again what the stream gave up by its own clock, which is that of connecting: a server that is
    /// slow to answer is no server that cannot be reached.
    fn in_time<R>(&mut self, mut work: impl FnMut(&mut S) -> io::Result<R>) -> io::Result<R> {
        while Instant::now() < self.deadline {
            match work(&mut self.stream) {
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl<S: Read> Read for Until<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time(|stream| stream.read(buffer))
    }
}

impl<S: Write> Write for Until<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.in_time(|stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Asks one member for `/health`, over a connection that `through` opens.
///
/// A member is healthy if it has a leader and can commit (etcd documentation, "Monitoring etcd").
///
/// # Errors
/// What the member or the way to it said instead.
pub fn member_health(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
) -> Result<(), String> {
    let host = member.to_string();
    let stream =
        through.dial(&host, ETCD_CLIENT_PORT, Duration::from_secs(5)).map_err(|e| chain(&e))?;
    let stream = Box::new(Until { stream, deadline: Instant::now() + ANSWER });
    let answer = request(stream, &access.client(&host), "GET", "/health", None)
        .map_err(|e| format!("{}: {}", address(&host, ETCD_CLIENT_PORT), chain(&e)))?;
    judge(answer.status, &answer.body)
}

fn judge(status: u16, body: &[u8]) -> Result<(), String> {
    let healthy = serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|v| v.get("health").is_some_and(|h| h == "true" || h == true));
    if status == 200 && healthy {
        Ok(())
    } else {
        Err(format!("/health answers {status}: {}", tail(&body[..body.len().min(200)])))
    }
}

/// Whether nothing answers at a member's port, so that it can have no part in a quorum. A member
/// that cannot be asked may well have one.
pub fn is_stopped(through: &mut dyn Transport, member: IpAddr) -> bool {
    let dialled = through.dial(&member.to_string(), ETCD_CLIENT_PORT, Duration::from_secs(5));
    matches!(dialled, Err(TransportError::Dial { failure: DialFailure::Refused, .. }))
}

/// Whether stopping a member that is not known to be healthy may cost a quorum, by what the others
/// say.
///
/// One healthy member says that there is a quorum. Where the healthy others are too few to be one,
/// the member is part of it. Where none is healthy there is no quorum to lose.
pub fn is_needed(members: usize, healthy_others: usize) -> bool {
    healthy_others > 0 && healthy_others < members / 2 + 1
}

/// The program that asks a member's service for its last words.
const LAST_WORDS: &str = include_str!("node/etcd-words.sh");

/// How often a member may end and be started again by systemd before it is given up. Every two seconds
/// it is; what it dies of does not go away by waiting.
pub(super) const RESTARTS: u32 = 5;

/// Pause between two looks at a member's service.
const LOOK: Duration = Duration::from_secs(4);

/// What systemd and the journal say of a member: how often it was started again, and its last words.
pub(super) fn last_words(through: &mut dyn Transport) -> (u32, String) {
    let mut restarts = 0;
    let mut said = Vec::new();
    let request = Request {
        script: LAST_WORDS,
        input: &mut io::empty(),
        deadline: ANSWER,
        max_output: 64 * 1024,
        stays: false,
    };
    let asked = through.run(request, &mut |line| match line.split_once(' ') {
        Some(("@restarts", n)) => restarts = n.parse().unwrap_or(0),
        Some(("@said", words)) => said.push(tail(words.as_bytes())),
        _ => {}
    });
    if let Err(e) = asked {
        said.push(format!("its journal could not be read: {}", chain(&e)));
    }
    (restarts, said.join("\n"))
}

/// Waits until a member is healthy. One that ends again and again is given up before the deadline.
///
/// # Errors
/// The last answer and the last words of its log, when `within` has passed.
pub fn wait_for_member(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    within: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let mut look = Instant::now() + LOOK;
    loop {
        let Err(why) = member_health(through, member, access) else { return Ok(()) };
        let now = Instant::now();
        if now >= deadline {
            let (_, words) = last_words(through);
            return Err(format!("not healthy within {} s: {why}\n{words}", within.as_secs()));
        }
        if now >= look {
            let (restarts, words) = last_words(through);
            if restarts >= RESTARTS {
                return Err(format!(
                    "it does not stay up, and was started {restarts} times again\n{words}"
                ));
            }
            look = Instant::now() + LOOK;
        }
        std::thread::sleep(POLL);
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_cannot_be_asked_is_not_taken_for_a_stopped_one() {
        // Of three: one healthy, one down. The third must be what makes up the quorum.
        assert!(is_needed(3, 1));
        assert!(!is_needed(3, 2), "the others are a quorum");
        assert!(!is_needed(3, 0), "there is no quorum");
        assert!(is_needed(5, 2) && !is_needed(5, 3));
        assert!(!is_needed(1, 0));
    }

    #[test]
    fn what_a_member_says_cannot_steer_a_terminal() {
        assert_eq!(judge(200, b"{\"health\":\"true\"}"), Ok(()));
        let said = judge(503, b"\x1b]0;owned\x07{}").unwrap_err();
        assert!(!said.contains(char::is_control), "{said:?}");
        assert!(judge(200, b"{\"health\":\"false\"}").is_err());
    }

    #[test]
    fn an_answer_that_comes_late_is_waited_for_and_none_is_not_waited_for_too_long() {
        /// Gives up twice, as a connection does by the clock of its beginning, before there is an answer.
        struct Late(u8);
        impl Read for Late {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 < 3 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                (&b"yes"[..]).read(buffer)
            }
        }
        let within = |ms| Instant::now() + Duration::from_millis(ms);
        let mut answer = [0; 3];
        let read = Until { stream: Late(0), deadline: within(10_000) }.read(&mut answer);
        assert_eq!((read.unwrap(), &answer), (3, b"yes"));
        let never = Until { stream: Late(0), deadline: within(0) }.read(&mut answer);
        assert_eq!(never.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_answer_byte_by_byte_ends_in_time() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let mut slow = Until { stream: io::repeat(b'x'), deadline };
        let mut byte = [0];
        while slow.read(&mut byte).is_ok() {}
        assert!(Instant::now() >= deadline);
    }
}
