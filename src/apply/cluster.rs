//! Objects of the cluster's API: read for plans and checks, and changed as a plan says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use openssl::x509::X509Req;
use serde_json::{Value, json};

use super::api::{ANSWER, ApiAccess, decode};
use super::gate::chain;
use super::{MEMBER_SCRIPT, UPLOAD_SCRIPT};
use crate::facts::cluster::{ClusterFacts, Kind, list, text};
use crate::inventory::{Inventory, Node, NodeName};
use crate::plain::plain;
use crate::plan::cluster::{ANONYMOUS, ApiChange, gives_a_node};
use crate::plan::policy;
use crate::transport::https::{Conversation, HttpRequest};
use crate::transport::{Request, Transport};

/// Objects on one page of a list. etcd takes 1.5 MiB for one (`--max-request-bytes`): a page of the
/// largest that a tenant can make still fits into an answer.
const PAGE: usize = 40;
/// Where roles and bindings are.
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
/// Pages of a list, before it is taken for endless.
const MAX_PAGES: usize = 2500;
/// Bytes of all pages of a list.
const MAX_LIST: usize = 512 << 20;

/// An API server, and the connection over which it is asked.
pub struct Server<'a> {
    /// The connection to its node.
    pub through: &'a mut dyn Transport,
    /// Its address.
    pub address: IpAddr,
    /// Whom it is asked as.
    pub access: &'a ApiAccess,
}

impl Server<'_> {
    pub(super) fn json(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        self.access.json(self.through, self.address, method, path, body)
    }

    /// A request that may find nothing: `None` for 404.
    pub(super) fn maybe(&mut self, method: &str, path: &str) -> Result<Option<Value>, String> {
        let answer = self.access.ask(self.through, self.address, method, path, None)?;
        match answer.status {
            404 => Ok(None),
            200..300 => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|e| format!("{method} {path}: {e}")),
            status => Err(format!("{method} {path} answers {status}")),
        }
    }

    /// Reads lists of objects, over one connection as long as it holds. What cannot be read is said so
    /// in the facts.
    pub fn facts(&mut self, kinds: &[Kind]) -> ClusterFacts {
        let mut facts = ClusterFacts::default();
        let mut left = kinds;
        while !left.is_empty() {
            left = self.read_while_open(left, &mut facts);
        }
        facts
    }

    /// Reads lists until the connection breaks. Hands back what is left to be read over another one.
    fn read_while_open<'k>(&mut self, kinds: &'k [Kind], facts: &mut ClusterFacts) -> &'k [Kind] {
        let within = ANSWER * u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        let mut server = match self.access.converse(self.through, self.address, within) {
            Ok(open) => open,
            Err(why) => {
                facts.unread.extend(kinds.iter().map(|kind| (*kind, why.clone())));
                return &[];
            }
        };
        for (i, kind) in kinds.iter().enumerate() {
            let read = match whole_list(&mut server, kind.path()) {
                Ok(mut list) => facts.insert(*kind, &mut list),
                Err(Unread::Said(why)) => Err(why),
                // A server may hang up between two answers, as one does that stops. Not before the
                // first, or this would go on for ever.
                Err(Unread::Broken(_)) if i > 0 => return &kinds[i..],
                Err(Unread::Broken(why)) => {
                    facts.unread.insert(*kind, why);
                    return &kinds[i + 1..];
                }
            };
            if let Err(why) = read {
                facts.unread.insert(*kind, why);
            }
        }
        &[]
    }

    /// Carries one change out. Doing it twice does no harm.
    ///
    /// # Errors
    /// What the API server said, or why the object is not what the plan took it for.
    pub fn change(&mut self, inventory: &Inventory, change: &ApiChange) -> Result<(), String> {
        match change {
            ApiChange::DeleteToken { name } => {
                let path = format!("/api/v1/namespaces/kube-system/secrets/{}", segment(name)?);
                self.maybe("DELETE", &path).map(|_| ())
            }
            ApiChange::DeleteBootstrapBinding { name } => {
                let path = format!("{RBAC}/clusterrolebindings/{}", escaped(name)?);
                // Another one of that name may be there by now.
                match self.maybe("GET", &path)? {
                    Some(binding) if gives_a_node(&binding) => {
                        self.maybe("DELETE", &path).map(|_| ())
                    }
                    _ => Ok(()),
                }
            }
            ApiChange::DeleteRoleBinding { namespace, name } => {
                let path = format!(
                    "{RBAC}/namespaces/{}/rolebindings/{}",
                    segment(namespace)?,
                    escaped(name)?
                );
                self.maybe("DELETE", &path).map(|_| ())
            }
            ApiChange::KeepSubjects { namespace, name, .. } => self.drop_anonymous(namespace, name),
            ApiChange::Approve { name, node } => self.approve(inventory, name, node),
            ApiChange::Label { node, labels } => {
                let body = json!({"metadata": {"labels": labels}});
                let path = format!("/api/v1/nodes/{}", segment(node.as_str())?);
                self.json("PATCH", &path, Some(&body)).map(|_| ())
            }
            ApiChange::UnmountDefaultAccount { namespace } => {
                let path =
                    format!("/api/v1/namespaces/{}/serviceaccounts/default", segment(namespace)?);
                let body = json!({"automountServiceAccountToken": false});
                if self.maybe("GET", &path)?.is_none() {
                    let account = json!({
                        "apiVersion": "v1", "kind": "ServiceAccount",
                        "metadata": {"name": "default"}, "automountServiceAccountToken": false,
                    });
                    let all = format!("/api/v1/namespaces/{}/serviceaccounts", segment(namespace)?);
                    self.create(&all, &account)?;
                }
                // Also after creating it: the controller manager may have been first.
                self.json("PATCH", &path, Some(&body)).map(|_| ())
            }
            ApiChange::MountNothingInNewNamespaces => {
                for (kind, object) in policy::mount_nothing() {
                    // One that is there says something else, and may be narrowed in many ways.
                    self.maybe("DELETE", &format!("{}/{}", kind.path(), policy::NAME))?;
                    self.create(kind.path(), &object)?;
                }
                Ok(())
            }
            ApiChange::DenyByDefault { namespace } => {
                // DNS first: for a moment too much is allowed, and never too little.
                for object in policy::traffic() {
                    self.create(&within(&object, namespace)?, &object.wanted)?;
                }
                Ok(())
            }
            ApiChange::LimitResources { namespace } => {
                // Limits first: with a quota alone, pods that name no limits would be refused.
                for object in policy::resources() {
                    self.create(&within(&object, namespace)?, &object.wanted)?;
                }
                Ok(())
            }
            ApiChange::UploadConfiguration => self.upload_configuration(),
            ApiChange::Restore { kind, namespace, name } => {
                let object = policy::of_a_namespace(kind, name);
                let object = object.ok_or("no such object is kubastion's")?;
                let all = within(&object, namespace)?;
                let one = format!("{all}/{}", segment(name)?);
                match self.maybe("GET", &one)? {
                    None => self.create(&all, &object.wanted),
                    Some(now) => {
                        let mut body = object.wanted;
                        // Nobody's change in between is lost without a word.
                        body["metadata"]["resourceVersion"] =
                            json!(text(&now, "/metadata/resourceVersion"));
                        self.json("PUT", &one, Some(&body)).map(|_| ())
                    }
                }
            }
        }
    }

    /// kubeadm's own way of writing them, on the node of the connection: releases differ in what they write.
    fn upload_configuration(&mut self) -> Result<(), String> {
        const WITHIN: Duration = Duration::from_secs(180);
        let script = format!("{MEMBER_SCRIPT}\n{UPLOAD_SCRIPT}");
        let request = Request {
            script: &script,
            input: &mut std::io::empty(),
            deadline: WITHIN,
            max_output: 64 * 1024,
            stays: false,
        };
        let output = self.through.run(request, &mut |_| {}).map_err(|e| chain(&e))?;
        match output.status {
            0 => Ok(()),
            _ => Err(plain(String::from_utf8_lossy(&output.stdout).trim())),
        }
    }

    /// Deletes the object of a node that has left. One that never was there is as good.
    ///
    /// # Errors
    /// What the API server said instead.
    pub fn forget(&mut self, node: &NodeName) -> Result<(), String> {
        self.maybe("DELETE", &format!("/api/v1/nodes/{node}")).map(|_| ())
    }

    /// Creates an object; one that is there already stays as it is.
    fn create(&mut self, path: &str, body: &Value) -> Result<(), String> {
        let answer = self.access.ask(self.through, self.address, "POST", path, Some(body))?;
        match answer.status {
            200..300 | 409 => Ok(()),
            status => Err(format!(
                "POST {path} answers {status}: {}",
                crate::transport::tail(&answer.body[..answer.body.len().min(300)])
            )),
        }
    }

    fn drop_anonymous(&mut self, namespace: &str, name: &str) -> Result<(), String> {
        let name = escaped(name)?;
        let path = match namespace {
            "" => format!("{RBAC}/clusterrolebindings/{name}"),
            space => format!("{RBAC}/namespaces/{}/rolebindings/{name}", segment(space)?),
        };
        let Some(binding) = self.maybe("GET", &path)? else { return Ok(()) };
        let subjects: Vec<&Value> = list(&binding, "/subjects")
            .iter()
            .filter(|s| !ANONYMOUS.contains(&text(s, "/name")))
            .collect();
        let body = json!({
            // Without the annotation, the API server puts the subjects of its own bindings back when it
            // starts (RBAC documentation, "Auto-reconciliation").
            "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}},
            "subjects": subjects,
        });
        self.json("PATCH", &path, Some(&body)).map(|_| ())
    }

    fn approve(
        &mut self,
        inventory: &Inventory,
        name: &str,
        node: &NodeName,
    ) -> Result<(), String> {
        let path =
            format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{}", segment(name)?);
        let Some(mut request) = self.maybe("GET", &path)? else { return Ok(()) };
        let node = inventory.nodes.iter().find(|n| n.name == *node);
        let node = node.ok_or("the inventory has no such node")?;
        says_what_the_inventory_says(&request, node)?;
        approved(&mut request)?;
        self.json("PUT", &format!("{path}/approval"), Some(&request)).map(|_| ())
    }
}

/// Adds the approval to a request. What an API server answers may be of any shape.
fn approved(request: &mut Value) -> Result<(), String> {
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "KubastionInventory",
        "message": "requester, names and addresses are those of the inventory",
    });
    let status = request.as_object_mut().map(|r| r.entry("status").or_insert(Value::Null));
    let status = status.ok_or("the request is no object")?;
    if status.is_null() {
        *status = json!({});
    }
    let status = status.as_object_mut().ok_or("the status of the request is no object")?;
    status.insert("conditions".to_owned(), json!([condition]));
    Ok(())
}

/// Why a list was not read.
pub(super) enum Unread {
    /// The server said something else.
    Said(String),
    /// The connection is of no use any more.
    Broken(String),
}

impl Unread {
    /// In words.
    pub(super) fn why(self) -> String {
        match self {
            Unread::Said(why) | Unread::Broken(why) => why,
        }
    }
}

/// A list, however many pages it has.
pub(super) fn whole_list(server: &mut Conversation<'_>, path: &str) -> Result<Value, Unread> {
    let mut bytes = 0;
    let mut get = |path: &str| {
        let request = HttpRequest { method: "GET", path, token: None, json: None };
        let answer = server.ask(&request).map_err(|e| Unread::Broken(chain(&e)))?;
        bytes += answer.body.len();
        if bytes > MAX_LIST {
            return Err(Unread::Said(format!("the list has more than {} MiB", MAX_LIST >> 20)));
        }
        decode("GET", path, &answer).map_err(Unread::Said)
    };
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut list = get(&format!("{path}{sign}limit={PAGE}"))?;
    for _ in 0..MAX_PAGES {
        let more = text(&list, "/metadata/continue");
        // Base64 for URLs (RFC 4648 section 5): nothing in it needs escaping.
        if more.is_empty()
            || !more.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b))
        {
            break;
        }
        let mut next = get(&format!("{path}{sign}limit={PAGE}&continue={more}"))?;
        let rest = next.get_mut("items").map(Value::take);
        let (Some(Value::Array(items)), Some(Value::Array(rest))) = (list.get_mut("items"), rest)
        else {
            return Err(Unread::Said("the answer has no items".into()));
        };
        items.extend(rest);
        list["metadata"] = next["metadata"].take();
    }
    Ok(list)
}

/// The path of an object's kind in a namespace.
fn within(object: &policy::NamespaceObject, namespace: &str) -> Result<String, String> {
    let (group, kind) = object.kind.path().rsplit_once('/').ok_or("a kind without a path")?;
    Ok(format!("{group}/namespaces/{}/{kind}", segment(namespace)?))
}

/// The name of an object of RBAC as a part of a path (RFC 3986 section 2.1): it may be anything that is
/// one part of a path.
fn escaped(name: &str) -> Result<String, String> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '%']) {
        return Err(format!("{name:?} is no name of an object"));
    }
    Ok(name
        .bytes()
        .map(|b| match b {
            b'-' | b'.' | b'_' | b'~' | b':' => char::from(b).to_string(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect())
}

/// A name as a part of a path. Names of objects never need escaping
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>); RBAC allows `:`.
pub(super) fn segment(name: &str) -> Result<&str, String> {
    let plain = !name.is_empty()
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    if plain { Ok(name) } else { Err(format!("{name:?} is no name of an object")) }
}

/// Whether a request for a serving certificate is from the node's kubelet and would say nothing that
/// the inventory does not (Kubernetes documentation, "Kubelet TLS bootstrapping").
pub(crate) fn says_what_the_inventory_says(request: &Value, node: &Node) -> Result<(), String> {
    use base64::prelude::*;
    let user = format!("system:node:{}", node.name);
    if text(request, "/spec/signerName") != "kubernetes.io/kubelet-serving"
        || text(request, "/spec/username") != user
    {
        return Err(format!("the request is not one of {} for a serving certificate", node.name));
    }
    let usages: BTreeSet<&str> =
        list(request, "/spec/usages").iter().filter_map(Value::as_str).collect();
    let allowed = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
    if !usages.is_subset(&allowed) || !usages.contains("server auth") {
        return Err(format!("it asks for the usages {usages:?}"));
    }
    let pem = BASE64_STANDARD.decode(text(request, "/spec/request")).map_err(|e| e.to_string())?;
    let csr = X509Req::from_pem(&pem).map_err(|e| format!("its request cannot be read: {e}"))?;
    // What is judged must be what is signed. Parsers of PEM do not agree on where a block ends and
    // which of several counts: OpenSSL takes one that Go passes over for the next.
    if csr.to_pem().map_err(|e| e.to_string())? != pem {
        return Err("its request is more or other than one PEM block".into());
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
                "it asks for {name:?}, which is not {} in the inventory",
                node.name
            ));
        }
    }
    if names.is_empty() { Err("it asks for no name".into()) } else { Ok(()) }
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
            says_what_the_inventory_says(&request(names, cn, o, usages), &node())
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
        assert!(says_what_the_inventory_says(&other, &node()).is_err());
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
        assert_eq!(says_what_the_inventory_says(&good, &node()), Ok(()));
        // Base64 ends at a `-` for OpenSSL; Go drops the block and goes on to the next.
        let (block, other) = (pem_of(&good), pem_of(&evil));
        let cut = block.replace("\n-----END", "-\n-----END");
        for pem in [format!("{cut}{other}"), format!("{block}{other}"), format!("x\n{block}")] {
            let mut request = good.clone();
            request["spec"]["request"] = json!(BASE64_STANDARD.encode(&pem));
            assert!(X509Req::from_pem(pem.as_bytes()).is_ok());
            let why = says_what_the_inventory_says(&request, &node()).unwrap_err();
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

    #[test]
    fn a_page_of_the_largest_objects_fits_into_an_answer() {
        // As many as a tenant has the right to make: the list must not become unreadable by them.
        let largest = 3 * (1 << 20) / 2;
        assert!((PAGE * largest) as u64 <= crate::transport::https::MAX_ANSWER);
    }

    #[test]
    fn a_name_cannot_lead_to_another_object() {
        assert_eq!(escaped("a b?\u{1b}:c").as_deref(), Ok("a%20b%3F%1B:c"));
        for bad in ["", ".", "..", "a/b", "a%2fb"] {
            assert!(escaped(bad).is_err(), "{bad}");
        }
        assert!(segment("kubeadm:bootstrap-signer-clusterinfo").is_ok());
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "a b"] {
            assert!(segment(bad).is_err(), "{bad}");
        }
    }
}
