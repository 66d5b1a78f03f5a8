//! Attempts on an etcd member, through another node.

use super::accepted::accepted;
use super::kubernetes::CAS;
use super::tls::{Answer, Side, ask, floor, plain, refusal, served};
use super::{Judged, Keys, Ports};
use crate::checks::Verdict;
use crate::checks::node::certificates::der;
use crate::controls::Attack;
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
pub fn attack_member(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Vec<(Attack, String, Judged)> {
    let mut made = client_port(through, member, keys, ports);
    made.extend(peer_port(through, member, keys, ports));
    let ca = keys.map(|k| std::slice::from_ref(&k.etcd_ca));
    for (attack, port) in [
        (Attack::EtcdAcceptedCas, ports.etcd_client),
        (Attack::EtcdPeerAcceptedCas, ports.etcd_peer),
    ] {
        made.push((attack, CAS, accepted(through, member.host, port, ca)));
    }
    made.into_iter().map(|(attack, what, verdict)| (attack, what.to_owned(), verdict)).collect()
}

type Results = Vec<(Attack, &'static str, Judged)>;

/// What is tried on the client port beside the question for its health.
const CLIENT_PORT: &[(Attack, &str)] = &[
    (Attack::EtcdWithoutCertificate, "GET /health without a certificate"),
    (Attack::EtcdForeignCertificate, "GET /health with a certificate of the cluster CA"),
    (Attack::EtcdPlainHttp, "plain HTTP on the client port"),
    (Attack::EtcdOldTls, "TLS 1.1 on the client port"),
    (Attack::EtcdWeakCiphers, "CBC and static RSA suites on the client port"),
    (Attack::EtcdServedCertificate, "certificate on the client port"),
];

fn client_port(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Results {
    let (host, port) = (member.host, ports.etcd_client);
    let side = |identity| Side { host, port, ca: None, identity };
    let (health, positive) = match keys {
        Some(keys) => healthy(through, host, keys, port),
        None => {
            let why = "there is no client certificate for etcd".to_owned();
            (Judged::unknown(why.clone()), Positive::Refused(why))
        }
    };
    let mut made = vec![(Attack::EtcdHealthy, "health with the health-check certificate", health)];
    if let Positive::NoWay(why) = positive {
        // One wait for a port that drops is enough.
        made.extend(CLIENT_PORT.iter().map(|&(p, what)| (p, what, Judged::unknown(why.clone()))));
        return made;
    }
    let positive = positive.result();
    let [old, weak] = floor(through, side(keys.map(|k| &k.health)));
    let presented = served(through, side(keys.map(|k| &k.health)));
    for &(attack, what) in CLIENT_PORT {
        let verdict = match attack {
            Attack::EtcdWithoutCertificate => {
                let answer = ask(through, side(None), "/health");
                refusal(answer, &positive, "no answer without a certificate")
            }
            Attack::EtcdForeignCertificate => {
                foreign(through, side(keys.map(|k| &k.foreign)), &positive)
            }
            Attack::EtcdPlainHttp => {
                refusal(plain(through, host, port, "/health"), &positive, "no answer to plain HTTP")
            }
            Attack::EtcdOldTls => old.clone(),
            Attack::EtcdWeakCiphers => weak.clone(),
            _ => same(&presented, member.files[0], member.store[0]),
        };
        made.push((attack, what, verdict));
    }
    made
}

fn peer_port(
    through: &mut dyn Transport,
    member: &Member<'_>,
    keys: Option<&Keys>,
    ports: Ports,
) -> Results {
    let (host, port) = (member.host, ports.etcd_peer);
    let side = |identity| Side { host, port, ca: None, identity };
    let without = "GET /version without a certificate on the peer port";
    let clear = "plain HTTP on the peer port";
    let certificate = "certificate on the peer port";
    // The handshake with a certificate of the etcd CA is what has to work here.
    let presented = served(through, side(keys.map(|k| &k.health)));
    if let Err(Answer::NoWay(why)) = &presented {
        return [
            (Attack::EtcdPeerServedCertificate, certificate),
            (Attack::EtcdPeerWithoutCertificate, without),
            (Attack::EtcdPeerPlainHttp, clear),
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
            Attack::EtcdPeerServedCertificate,
            certificate,
            same(&presented, member.files[1], member.store[1]),
        ),
        (Attack::EtcdPeerWithoutCertificate, without, unnamed),
        (Attack::EtcdPeerPlainHttp, clear, in_clear),
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
        return Judged::unknown("there is no certificate for the attempt");
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
    for (name, pem) in [("the node's file", file), ("the key store", store)] {
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
        Verdict::unknown(match file {
            None => "the node's file could not be read",
            Some(_) => "there is no certificate of a key store to compare with",
        })
    }
}
