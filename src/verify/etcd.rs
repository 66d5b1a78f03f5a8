//! Attempts on an etcd member, through another node.

use super::accepted::accepted;
use super::kubernetes::CAS;
use super::tls::{Answer, Side, ask, floor, plain, refusal, served};
use super::{Judged, Keys, Ports};
use crate::checks::Verdict;
use crate::checks::node::certificates::der;
use crate::controls::Probe;
use crate::digest::Digest;
use crate::transport::Transport;

/// Alias, so that callers see what a pair is for.
pub type EtcdKeys = Keys;

/// A member as it should present itself.
pub struct Member<'a> {
    /// Its address.
    pub host: &'a str,
    /// The certificates it serves clients and members with, PEM, as its files hold them.
    pub files: [Option<&'a str>; 2],
    /// The same as the operator's store holds them.
    pub store: [Option<&'a str>; 2],
}

/// Tries a member in every way that has to fail, and in the one that has to work.
pub fn probe_member(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Vec<(Probe, String, Judged)> {
    let mut made = client_port(through, member, keys, ports);
    made.extend(peer_port(through, member, keys, ports));
    let ca = keys.map(|k| std::slice::from_ref(&k.etcd_ca));
    for (probe, port) in
        [(Probe::EtcdAcceptedCas, ports.etcd_client), (Probe::EtcdPeerAcceptedCas, ports.etcd_peer)]
    {
        made.push((probe, CAS, accepted(through, member.host, port, ca)));
    }
    made.into_iter().map(|(probe, what, verdict)| (probe, what.to_owned(), verdict)).collect()
}

type Made = Vec<(Probe, &'static str, Judged)>;

/// What is tried on the client port beside the question for its health.
const CLIENT_PORT: [(Probe, &str); 6] = [
    (Probe::EtcdWithoutCertificate, "GET /health without a certificate"),
    (Probe::EtcdForeignCertificate, "GET /health with a certificate of the cluster CA"),
    (Probe::EtcdPlainHttp, "plain HTTP on the client port"),
    (Probe::EtcdOldTls, "TLS 1.1 on the client port"),
    (Probe::EtcdWeakCiphers, "CBC and static RSA suites on the client port"),
    (Probe::EtcdServedCertificate, "certificate on the client port"),
];

fn client_port(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Made {
    let (host, port) = (member.host, ports.etcd_client);
    let side = |identity| Side { host, port, ca: None, identity };
    let (health, positive) = match keys {
        Some(keys) => healthy(through, host, keys, port),
        None => {
            let why = "the operator's store gave no certificate to ask with".to_owned();
            (Judged::unknown(why.clone()), Positive::Refused(why))
        }
    };
    let mut made = vec![(Probe::EtcdHealthy, "health with the health-check certificate", health)];
    if let Positive::NoWay(why) = positive {
        // One wait for a port that drops is enough.
        made.extend(CLIENT_PORT.map(|(p, what)| (p, what, Judged::unknown(why.clone()))));
        return made;
    }
    let positive = positive.result();
    let [old, weak] = floor(through, side(keys.map(|k| &k.health)));
    let presented = served(through, side(keys.map(|k| &k.health)));
    for (probe, what) in CLIENT_PORT {
        let verdict = match probe {
            Probe::EtcdWithoutCertificate => {
                let answer = ask(through, side(None), "/health");
                refusal(answer, &positive, "no answer without a certificate")
            }
            Probe::EtcdForeignCertificate => {
                foreign(through, side(keys.map(|k| &k.foreign)), &positive)
            }
            Probe::EtcdPlainHttp => {
                refusal(plain(through, host, port, "/health"), &positive, "no answer to plain HTTP")
            }
            Probe::EtcdOldTls => old.clone(),
            Probe::EtcdWeakCiphers => weak.clone(),
            _ => same(&presented, member.files[0], member.store[0]),
        };
        made.push((probe, what, verdict));
    }
    made
}

fn peer_port(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Made {
    let (host, port) = (member.host, ports.etcd_peer);
    let side = |identity| Side { host, port, ca: None, identity };
    let without = "GET /version without a certificate on the peer port";
    let clear = "plain HTTP on the peer port";
    let certificate = "certificate on the peer port";
    // The handshake with a certificate of the etcd CA is what has to work here.
    let presented = served(through, side(keys.map(|k| &k.health)));
    if let Err(Answer::NoWay(why)) = &presented {
        return [
            (Probe::EtcdPeerServedCertificate, certificate),
            (Probe::EtcdPeerWithoutCertificate, without),
            (Probe::EtcdPeerPlainHttp, clear),
        ]
        .map(|(p, what)| (p, what, Judged::unknown(why.clone())))
        .into();
    }
    let positive = match &presented {
        Ok(_) => Ok(()),
        Err(Answer::Refused(why) | Answer::Nothing(why)) => Err(why.clone()),
        Err(_) => Err("no handshake".to_owned()),
    };
    let answer = ask(through, side(None), "/version");
    let unnamed = refusal(answer, &positive, "no answer without a certificate");
    let answer = plain(through, host, port, "/version");
    let in_clear = refusal(answer, &positive, "no answer to plain HTTP");
    vec![
        (
            Probe::EtcdPeerServedCertificate,
            certificate,
            same(&presented, member.files[1], member.store[1]),
        ),
        (Probe::EtcdPeerWithoutCertificate, without, unnamed),
        (Probe::EtcdPeerPlainHttp, clear, in_clear),
    ]
}

/// What came of the one question that has to be answered.
enum Positive {
    Answered,
    Refused(String),
    NoWay(String),
}

impl Positive {
    fn result(self) -> Result<(), String> {
        match self {
            Positive::Answered => Ok(()),
            Positive::Refused(why) | Positive::NoWay(why) => Err(why),
        }
    }
}

fn foreign(through: &mut dyn Transport, side: Side<'_>, positive: &Result<(), String>) -> Judged {
    if side.identity.is_none() {
        return Judged::unknown("the operator's store gave no certificate to try with");
    }
    refusal(ask(through, side, "/health"), positive, "a certificate of another CA refused")
}

/// Asks for `/health` as the operator does, with the server's certificate checked.
fn healthy(through: &mut dyn Transport, host: &str, keys: &Keys, port: u16) -> (Judged, Positive) {
    let side = Side { host, port, ca: Some(&keys.etcd_ca), identity: Some(&keys.health) };
    let answer = ask(through, side, "/health");
    let heard = answer.digest();
    let (verdict, positive) = match answer {
        Answer::Http { status: 200, body } if is_healthy(&body) => {
            (Verdict::pass("healthy, with a certificate of the etcd CA"), Positive::Answered)
        }
        Answer::Http { status, body } => {
            let text: String = String::from_utf8_lossy(&body).chars().take(120).collect();
            // It let us in, so that a refusal of others means something.
            (Verdict::fail("health true", format!("status {status}: {text}")), Positive::Answered)
        }
        Answer::Refused(why) => (Verdict::fail("health true", why.clone()), Positive::Refused(why)),
        Answer::NoWay(why) => (Verdict::unknown(why.clone()), Positive::NoWay(why)),
        Answer::Nothing(why) => (Verdict::unknown(why.clone()), Positive::Refused(why)),
    };
    (Judged::by(heard, verdict), positive)
}

fn is_healthy(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body)
        .is_ok_and(|v| v.get("health").is_some_and(|h| h == "true" || h == true))
}

/// Whether what is presented is what the file and the store hold.
fn same(presented: &Result<Vec<u8>, Answer>, file: Option<&str>, store: Option<&str>) -> Judged {
    let heard = match presented {
        Ok(der) => Some(Digest::of(der)),
        Err(answer) => answer.digest(),
    };
    Judged::by(heard, same_certificate(presented, file, store))
}

fn same_certificate(
    presented: &Result<Vec<u8>, Answer>,
    file: Option<&str>,
    store: Option<&str>,
) -> Verdict {
    let presented = match presented {
        Ok(presented) => presented,
        Err(Answer::Refused(why) | Answer::NoWay(why) | Answer::Nothing(why)) => {
            return Verdict::unknown(why.clone());
        }
        Err(Answer::Http { .. }) => return Verdict::unknown("no handshake"),
    };
    let mut compared = Vec::new();
    for (name, pem) in [("the node's file", file), ("the operator's store", store)] {
        let Some(pem) = pem else { continue };
        match der(pem) {
            Some(der) if der == *presented => compared.push(name),
            _ => {
                return Verdict::fail(
                    format!("the certificate of {name}"),
                    "another certificate is served",
                );
            }
        }
    }
    if compared.len() == 2 {
        Verdict::pass(format!("equals {}", compared.join(" and ")))
    } else {
        Verdict::unknown("the file or the store could not be read")
    }
}
