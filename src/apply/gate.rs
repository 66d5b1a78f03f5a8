//! Health gates: what must hold before a node is touched and before its change is confirmed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::inventory::NodeName;
use crate::secret::Secret;
use crate::transport::https::{ClientIdentity, TlsClient, request};
use crate::transport::{Transport, address};

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
    let answer = request(stream, &access.client(&host), "GET", "/health", None)
        .map_err(|e| format!("{}: {}", address(&host, ETCD_CLIENT_PORT), chain(&e)))?;
    let body = String::from_utf8_lossy(&answer.body);
    let healthy = serde_json::from_str::<serde_json::Value>(&body)
        .is_ok_and(|v| v.get("health").is_some_and(|h| h == "true" || h == true));
    if answer.status == 200 && healthy {
        Ok(())
    } else {
        Err(format!(
            "/health answers {}: {}",
            answer.status,
            body.chars().take(200).collect::<String>()
        ))
    }
}

/// Waits until a member is healthy.
///
/// # Errors
/// The last answer, when `within` has passed.
pub fn wait_for_member(
    through: &mut dyn Transport,
    member: IpAddr,
    access: &EtcdAccess,
    within: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        match member_health(through, member, access) {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => {
                return Err(format!("not healthy within {} s: {why}", within.as_secs()));
            }
            Err(_) => std::thread::sleep(POLL),
        }
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
