//! Attempts on an API server and on a kubelet, through another node.

use super::accepted::accepted;
use super::tls::{Answer, Side, ask, floor, plain, refusal};
use super::{Judged, Ports};
use crate::checks::Verdict;
use crate::controls::Attack;
use crate::transport::Transport;

/// What an attempt is called that reads the names of CAs.
pub(super) const CAS: &str = "client CAs in its TLS handshake";

/// Whether health paths are refused to whoever has no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Refused,
    /// The inventory opens them, so that they are not tried.
    Open,
}

/// Tries an API server without credentials, without TLS and with weak TLS.
pub fn attack_apiserver(
    through: &mut dyn Transport,
    host: &str,
    ports: Ports,
    health: Health,
    cas: Option<&[String]>,
) -> Vec<(Attack, String, Judged)> {
    let side = Side { host, port: ports.apiserver, ca: None, identity: None };
    const PATHS: &[&str] = &[
        "/",
        "/api",
        "/metrics",
        "/openapi/v2",
        "/version",
        "/api/v1/namespaces/kube-public/configmaps/cluster-info",
    ];
    let mut paths = PATHS.to_vec();
    if health == Health::Refused {
        paths.extend(["/healthz", "/livez", "/readyz"]);
    }
    let mut made = anonymous(through, side, &paths, Attack::ApiserverAnonymous);
    // An answer of any kind shows that the way is open.
    let positive = ask(through, side, "/livez").why();
    let answer = plain(through, host, ports.apiserver, "/version");
    let verdict = refusal(answer, &positive, "no answer to plain HTTP");
    made.push((Attack::ApiserverPlainHttp, "plain HTTP".to_owned(), verdict));
    let [old, weak] = floor(through, side);
    made.push((Attack::ApiserverOldTls, "TLS 1.1".to_owned(), old));
    made.push((Attack::ApiserverWeakCiphers, "CBC and static RSA suites".to_owned(), weak));
    let taken = accepted(through, host, ports.apiserver, cas);
    made.push((Attack::ApiserverAcceptedCas, CAS.to_owned(), taken));
    made
}

/// Tries a kubelet without credentials and with weak TLS.
pub fn attack_kubelet(
    through: &mut dyn Transport,
    host: &str,
    ports: Ports,
    cas: Option<&[String]>,
) -> Vec<(Attack, String, Judged)> {
    let side = Side { host, port: ports.kubelet, ca: None, identity: None };
    const PATHS: &[&str] = &[
        "/pods",
        "/metrics",
        "/runningpods/",
        "/configz",
        "/logs/",
        "/run/kube-system/probe/probe",
        "/exec/kube-system/probe/probe?command=id",
    ];
    let mut made = anonymous(through, side, PATHS, Attack::KubeletAnonymous);
    let [_, weak] = floor(through, side);
    made.push((Attack::KubeletWeakCiphers, "CBC and static RSA suites".to_owned(), weak));
    let taken = accepted(through, host, ports.kubelet, cas);
    made.push((Attack::KubeletAcceptedCas, CAS.to_owned(), taken));
    made
}

/// 401 says that nobody is let in without a name; 403 that `system:anonymous` is somebody.
fn anonymous(
    through: &mut dyn Transport,
    side: Side<'_>,
    paths: &[&str],
    attack: Attack,
) -> Vec<(Attack, String, Judged)> {
    let mut made = Vec::new();
    for path in paths {
        let answer = ask(through, side, path);
        let heard = answer.digest();
        let verdict = match answer {
            Answer::Http { status: 401, .. } => Verdict::pass("HTTP status 401"),
            Answer::Http { status, .. } => {
                Verdict::fail("HTTP status 401", format!("HTTP status {status}"))
            }
            other => Verdict::unknown(other.why().err().unwrap_or_default()),
        };
        let what = format!("GET {path} without credentials");
        made.push((attack, what, Judged::by(heard, verdict)));
    }
    made
}
