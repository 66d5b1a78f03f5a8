//! Requests of kubelets for serving certificates: what one must say to be signed, and its approval.

use std::collections::BTreeSet;
use std::net::IpAddr;

use openssl::x509::X509Req;
use serde_json::{Value, json};

use super::client::{ApiError, Client};
use super::objects;
use crate::facts::cluster::{ObjectKind, list, text};
use crate::inventory::{Inventory, Node, NodeName};
use crate::transport::http::HttpRequest;

/// Why a request is not approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The inventory has no such node.
    #[error("the inventory has no node {0}")]
    Stranger(NodeName),
    /// It says something that the inventory does not.
    #[error("{0}")]
    Judged(String),
}

/// Approves a pending request of a node's kubelet, if it says what the inventory says. One that is gone needs none.
///
/// # Errors
/// See [`ApprovalError`].
pub fn approve(
    client: &mut Client<'_>,
    inventory: &Inventory,
    name: &str,
    node: &NodeName,
) -> Result<(), ApprovalError> {
    let path = objects::path(ObjectKind::SigningRequests, "", name)?;
    let Some(mut request) = client.find(&HttpRequest::get(&path))? else { return Ok(()) };
    let known = inventory.nodes.iter().find(|n| n.name == *node);
    let known = known.ok_or_else(|| ApprovalError::Stranger(node.clone()))?;
    matches_inventory(&request, known).map_err(ApprovalError::Judged)?;
    approved(&mut request).map_err(ApprovalError::Judged)?;
    // With the resourceVersion that was read: what was judged is what is approved.
    client.json(&HttpRequest::put(format!("{path}/approval"), &request))?;
    Ok(())
}

/// Adds the approval to a request. What an API server answers may be of any shape.
fn approved(request: &mut Value) -> Result<(), String> {
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "KubastionInventory",
        "message": "requester, names and addresses match the inventory",
    });
    let status = request.as_object_mut().map(|r| r.entry("status").or_insert(Value::Null));
    let status = status.ok_or("the request is not an object")?;
    if status.is_null() {
        *status = json!({});
    }
    let status = status.as_object_mut().ok_or("the status of the request is not an object")?;
    status.insert("conditions".to_owned(), json!([condition]));
    Ok(())
}

/// Whether a request for a serving certificate is from the node's kubelet and contains only what the
/// inventory has (Kubernetes documentation, "Kubelet TLS bootstrapping").
///
/// # Errors
/// What differs.
pub fn matches_inventory(request: &Value, node: &Node) -> Result<(), String> {
    use base64::prelude::*;
    let user = format!("system:node:{}", node.name);
    if text(request, "/spec/signerName") != "kubernetes.io/kubelet-serving"
        || text(request, "/spec/username") != user
    {
        return Err(format!(
            "the request is not a request of {} for a serving certificate",
            node.name
        ));
    }
    let usages: BTreeSet<&str> =
        list(request, "/spec/usages").iter().filter_map(Value::as_str).collect();
    let allowed = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
    if !usages.is_subset(&allowed) || !usages.contains("server auth") {
        return Err(format!("it requests the usages {usages:?}"));
    }
    let pem = BASE64_STANDARD.decode(text(request, "/spec/request")).map_err(|e| e.to_string())?;
    let csr = X509Req::from_pem(&pem).map_err(|e| format!("its request cannot be read: {e}"))?;
    // What is judged must be what is signed. Parsers of PEM do not agree on where a block ends and
    // which of several counts: OpenSSL takes one that Go passes over for the next.
    if csr.to_pem().map_err(|e| e.to_string())? != pem {
        return Err("its request is not exactly one PEM block".into());
    }
    let key = csr.public_key().map_err(|e| format!("its key cannot be read: {e}"))?;
    if !csr.verify(&key).unwrap_or(false) {
        return Err("its request is not signed by its own key".into());
    }
    let mut subject: Vec<(String, String)> = csr
        .subject_name()
        .entries()
        .map(|e| {
            let value = e.data().to_string().unwrap_or_default();
            (e.object().nid().short_name().unwrap_or_default().to_owned(), value)
        })
        .collect();
    subject.sort();
    let wanted = [("CN".to_owned(), user), ("O".to_owned(), "system:nodes".to_owned())];
    if subject != wanted {
        return Err(format!("its subject is {subject:?}"));
    }
    let names = subject_alt_names(&csr)?;
    for name in &names {
        let known = match name {
            AltName::Dns(dns) => *dns == node.name.as_str(),
            AltName::Ip(ip) => node.addresses.contains(ip),
            AltName::Other => false,
        };
        if !known {
            return Err(format!(
                "it requests {name:?}, which is not {} in the inventory",
                node.name
            ));
        }
    }
    if names.is_empty() { Err("it requests no name".into()) } else { Ok(()) }
}

#[derive(Debug, PartialEq, Eq)]
enum AltName {
    Dns(String),
    Ip(IpAddr),
    Other,
}

fn subject_alt_names(csr: &X509Req) -> Result<Vec<AltName>, String> {
    // The request's extensions as a certificate would carry them: openssl reads names only there.
    let extensions = match csr.extensions() {
        Ok(e) => e,
        Err(_) => return Ok(Vec::new()),
    };
    let mut builder = openssl::x509::X509Builder::new().map_err(|e| e.to_string())?;
    for extension in extensions {
        builder.append_extension2(&extension).map_err(|e| e.to_string())?;
    }
    let certificate = builder.build();
    let Some(names) = certificate.subject_alt_names() else { return Ok(Vec::new()) };
    Ok(names
        .iter()
        .map(|n| {
            if let Some(dns) = n.dnsname() {
                return AltName::Dns(dns.to_owned());
            }
            match n.ipaddress() {
                Some([a, b, c, d]) => AltName::Ip(IpAddr::from([*a, *b, *c, *d])),
                Some(bytes) => {
                    <[u8; 16]>::try_from(bytes).map_or(AltName::Other, |b| AltName::Ip(b.into()))
                }
                None => AltName::Other,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use base64::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn node() -> Node {
        crate::yaml::from_text("{name: w1, addresses: [10.0.0.2], roles: [worker]}").unwrap()
    }

    fn request(names: &[&str], cn: &str, o: &str, usages: &[&str]) -> Value {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, o);
        params.distinguished_name.push(DnType::CommonName, cn);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap().replace('\r', "");
        json!({"spec": {
            "signerName": "kubernetes.io/kubelet-serving", "username": "system:node:w1",
            "usages": usages, "request": BASE64_STANDARD.encode(pem),
        }})
    }

    #[test]
    fn only_a_request_that_says_what_the_inventory_says_is_approved() {
        let usages = ["digital signature", "server auth"];
        let judge = |names: &[&str], cn: &str, o: &str, usages: &[&str]| {
            matches_inventory(&request(names, cn, o, usages), &node())
        };
        let good = ("system:node:w1", "system:nodes");
        assert_eq!(judge(&["w1", "10.0.0.2"], good.0, good.1, &usages), Ok(()));
        assert!(
            judge(&["w1", "10.0.0.9"], good.0, good.1, &usages).unwrap_err().contains("10.0.0.9")
        );
        assert!(judge(&["kubernetes"], good.0, good.1, &usages).is_err());
        assert!(judge(&[], good.0, good.1, &usages).is_err());
        assert!(judge(&["w1"], "system:node:cp1", good.1, &usages).is_err());
        assert!(judge(&["w1"], good.0, "system:masters", &usages).is_err());
        assert!(judge(&["w1"], good.0, good.1, &["client auth", "server auth"]).is_err());
        let mut other = request(&["w1"], good.0, good.1, &usages);
        other["spec"]["username"] = json!("system:node:cp1");
        assert!(matches_inventory(&other, &node()).is_err());
    }

    #[test]
    fn a_request_that_parsers_read_differently_is_not_approved() {
        let pem_of = |r: &Value| {
            String::from_utf8(BASE64_STANDARD.decode(text(r, "/spec/request")).unwrap()).unwrap()
        };
        let ask = |name: &str| {
            request(
                &[name],
                "system:node:w1",
                "system:nodes",
                &["digital signature", "server auth"],
            )
        };
        let (good, evil) = (ask("w1"), ask("kubernetes"));
        assert_eq!(matches_inventory(&good, &node()), Ok(()));
        // Base64 ends at a `-` for OpenSSL; Go drops the block and goes on to the next.
        let (block, other) = (pem_of(&good), pem_of(&evil));
        let cut = block.replace("\n-----END", "-\n-----END");
        for pem in [format!("{cut}{other}"), format!("{block}{other}"), format!("x\n{block}")] {
            let mut request = good.clone();
            request["spec"]["request"] = json!(BASE64_STANDARD.encode(&pem));
            assert!(X509Req::from_pem(pem.as_bytes()).is_ok());
            let why = matches_inventory(&request, &node()).unwrap_err();
            assert!(why.contains("one PEM block"), "{why}");
        }
    }

    #[test]
    fn a_request_whose_status_is_of_another_shape_is_an_error() {
        for status in [json!({}), Value::Null, json!({"conditions": "x", "certificate": "y"})] {
            let mut request = json!({"spec": {}, "status": status});
            assert_eq!(approved(&mut request), Ok(()));
            assert_eq!(list(&request, "/status/conditions").len(), 1);
        }
        let mut bare = json!({"spec": {}});
        assert_eq!(approved(&mut bare), Ok(()));
        for bad in [json!({"status": "x"}), json!({"status": [1]}), json!("x")] {
            let mut request = bad.clone();
            assert!(approved(&mut request).is_err(), "{bad}");
        }
    }
}
