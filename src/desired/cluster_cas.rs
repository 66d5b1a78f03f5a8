//! The CAs that the cluster keeps in ConfigMaps of its own: what they should hold, and what they hold.
//!
//! kubeadm writes the one of joining nodes when it starts a cluster, and never again. API servers add their CAs to the other
//! one, and take none out (pkg/controlplane/controller/clusterauthenticationtrust, 1.34 to 1.36): one that is accepted no more
//! would stay.

use std::collections::BTreeSet;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::facts::cluster::{AUTHENTICATION_CONFIG, CLUSTER_INFO, name, namespace};
use crate::pki::certificates;
use crate::plain::hex;
use crate::yaml::Value as Yaml;

/// A set of certificates, each DER.
pub type Certificates = BTreeSet<Vec<u8>>;

/// A place in the cluster's API that holds CAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaPlace {
    /// Whom joining nodes believe.
    ClusterInfo,
    /// Whose clients aggregated API servers know.
    Clients,
    /// Whose clients speak for others there.
    FrontProxy,
}

impl CaPlace {
    /// All of them.
    pub const ALL: &[CaPlace] = &[CaPlace::ClusterInfo, CaPlace::Clients, CaPlace::FrontProxy];

    /// Namespace and name of the ConfigMap.
    pub fn map(self) -> &'static str {
        match self {
            CaPlace::ClusterInfo => CLUSTER_INFO,
            CaPlace::Clients | CaPlace::FrontProxy => AUTHENTICATION_CONFIG,
        }
    }

    /// Key of its data.
    pub fn key(self) -> &'static str {
        match self {
            CaPlace::ClusterInfo => "kubeconfig",
            CaPlace::Clients => "client-ca-file",
            CaPlace::FrontProxy => "requestheader-client-ca-file",
        }
    }

    /// The text under its key, of a list of ConfigMaps.
    pub fn text(self, maps: &[Value]) -> Option<&str> {
        let map = maps.iter().find(|m| format!("{}/{}", namespace(m), name(m)) == self.map())?;
        map.pointer("/data")?.get(self.key())?.as_str()
    }

    /// The certificates in such a text; `None` if it cannot be read.
    pub fn held(self, text: &str) -> Option<Certificates> {
        match self {
            CaPlace::Clients | CaPlace::FrontProxy => cas_of(text),
            CaPlace::ClusterInfo => {
                let said: Yaml = crate::yaml::parse(text).ok()?;
                let [cluster] = said.get("clusters")?.as_sequence()?.as_slice() else {
                    return None;
                };
                let data = cluster.get("cluster")?.get("certificate-authority-data")?.as_str()?;
                cas_of(std::str::from_utf8(&BASE64_STANDARD.decode(data).ok()?).ok()?)
            }
        }
    }

    /// What should stand under its key: `pem` are the CAs, and `endpoint` is the cluster's. A kubeconfig as kubeadm
    /// writes it (phases/bootstraptoken/clusterinfo, 1.34 to 1.36).
    pub fn wanted(self, pem: &str, endpoint: &str) -> String {
        match self {
            CaPlace::Clients | CaPlace::FrontProxy => pem.to_owned(),
            CaPlace::ClusterInfo => format!(
                "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {}
    server: {}
  name: \"\"
contexts: null
current-context: \"\"
kind: Config
users: null
",
                BASE64_STANDARD.encode(pem),
                Value::from(format!("https://{endpoint}"))
            ),
        }
    }

    /// Which certificates are to be added to what it holds and which to be taken out, by their SHA-256; `None` if that is
    /// right, or for others to mend: API servers themselves add what they lack.
    pub fn change(self, text: &str, pem: &str) -> Option<(Vec<String>, Vec<String>)> {
        let (held, wanted) = (self.held(text)?, cas_of(pem)?);
        let prints = |set: &Certificates, without: &Certificates| {
            set.difference(without).map(|der| hex(&Sha256::digest(der))).collect::<Vec<String>>()
        };
        let (adds, drops) = (prints(&wanted, &held), prints(&held, &wanted));
        let is_due = !drops.is_empty() || (self == CaPlace::ClusterInfo && !adds.is_empty());
        is_due.then_some((adds, drops))
    }
}

impl fmt::Display for CaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ConfigMap {}", self.key(), self.map())
    }
}

/// The certificates of a PEM text; `None` if it holds anything else.
pub fn cas_of(text: &str) -> Option<Certificates> {
    Some(certificates(text)?.into_iter().collect())
}

/// Whether the time of a certificate is over.
pub fn has_expired(der: &[u8], now: OffsetDateTime) -> bool {
    let parsed = x509_parser::parse_x509_certificate(der);
    parsed.is_ok_and(|(_, c)| c.validity().not_after.to_datetime() < now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pki::made;

    #[test]
    fn only_what_nobody_else_mends_is_changed() {
        let (ours, other) = (made("ours"), made("other"));
        let both = format!("{}{}", ours.pem, other.pem);
        let endpoint = "api.example:6443";
        for &place in CaPlace::ALL {
            let text = |pem: &str| place.wanted(pem, endpoint);
            let (namespace, name) = place.map().split_once('/').unwrap();
            let maps = [
                json!({"metadata": {"namespace": namespace, "name": "other"}, "data": {}}),
                json!({"metadata": {"namespace": namespace, "name": name},
                       "data": {place.key(): text(&ours.pem)}}),
            ];
            assert_eq!(place.text(&maps), Some(text(&ours.pem).as_str()));
            assert_eq!(place.change(&text(&ours.pem), &ours.pem), None, "{place}");
            let swapped = format!("{}{}", other.pem, ours.pem);
            assert_eq!(place.change(&text(&swapped), &both), None, "another order is none");
            let out = Some((Vec::new(), vec![other.sha256.clone()]));
            assert_eq!(place.change(&text(&both), &ours.pem), out, "{place}");
            let into = Some((vec![other.sha256.clone()], Vec::new()));
            let lacks = place.change(&text(&ours.pem), &both);
            assert_eq!(lacks, into.filter(|_| place == CaPlace::ClusterInfo), "{place}");
            assert_eq!(place.change("a: [", &ours.pem), None, "what cannot be read is left alone");
        }
    }
}
