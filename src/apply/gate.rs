//! Health gates: what must hold before a node is touched and before its change is confirmed.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::chain;
use crate::inventory::NodeName;
use crate::secret::Secret;
use crate::transport::http::{ConnectError, Connection, Endpoint, HttpRequest};
use crate::transport::tls::ClientIdentity;
use crate::transport::{DialFailure, Request, Transport, TransportError, address, tail};

/// etcd's client port (IANA `etcd-client`).
pub const ETCD_CLIENT_PORT: u16 = 2379;

/// Pause between two checks of something that is not ready yet.
const POLL: Duration = Duration::from_millis(300);

/// How the etcd members are asked.
pub struct EtcdAccess {
    /// The members and their internal addresses.
    pub members: Vec<(NodeName, IpAddr)>,
    /// The etcd CA, and those accepted beside it, PEM.
    pub ca_pem: String,
    /// A client certificate of that CA, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret<Vec<u8>>,
}

impl EtcdAccess {
    /// A connection to a member, that `through` opens. All that is asked over it has to be answered `within`.
    ///
    /// # Errors
    /// What the member or the connection to it reported instead.
    pub fn connect<'t>(
        &self,
        through: &'t mut dyn Transport,
        member: IpAddr,
        within: Duration,
    ) -> Result<Connection<'t>, ConnectError> {
        let identity =
            ClientIdentity { certificate_pem: &self.certificate_pem, key_pem: &self.key_pem };
        let host = member.to_string();
        let ca_pem = Some(self.ca_pem.as_str());
        let endpoint = Endpoint { through, host, port: ETCD_CLIENT_PORT, ca_pem };
        endpoint.connect(Some(identity), within)
    }
}

/// How long one request to a member may take, from the first byte to the last: a member that sends a
/// byte now and then must not block a run.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// Asks one member for `/health`, over a connection that `through` opens.
///
/// A member is healthy if it has a leader and can commit (etcd documentation, "Monitoring etcd").
///
/// # Errors
/// What the member or the connection to it reported instead.
pub fn member_health(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
) -> Result<(), String> {
    let at = address(&member.to_string(), ETCD_CLIENT_PORT);
    let mut member = match access.connect(through, member, ANSWER) {
        Ok(member) => member,
        Err(e @ ConnectError::Dial(_)) => return Err(chain(&e)),
        Err(e) => return Err(format!("{at}: {}", chain(&e))),
    };
    let answer = member.send(&HttpRequest::get("/health"));
    let answer = answer.map_err(|e| format!("{at}: {}", chain(&e)))?;
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

/// How often systemd may restart a member before kubastion gives up. It restarts every two seconds;
/// waiting does not fix what makes the member exit.
pub(super) const RESTARTS: u32 = 5;

/// Pause between two checks of a member's service.
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
        said.push(format!("the journal of etcd could not be read: {}", chain(&e)));
    }
    (restarts, said.join("\n"))
}

/// Waits until a member is healthy. Gives up before the deadline on a member that keeps exiting.
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
                    "etcd does not stay up and was restarted {restarts} times\n{words}"
                ));
            }
            look = Instant::now() + LOOK;
        }
        std::thread::sleep(POLL);
    }
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
}
