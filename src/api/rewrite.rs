//! Objects are written again as they are, so that the API server stores them with the key that writes now.
//!
//! An API server leaves out the write of an object that has not changed, but for one that is stored otherwise than it would be now
//! (k8s.io/apiserver, pkg/storage/etcd3/store.go: `origState.stale`). So an empty patch is enough: what an object holds is neither
//! asked for nor sent, and leaves neither the API server nor etcd.

use serde_json::{Value, json};

use super::client::{ANSWER, ApiError, Client, decode};
use super::objects::{escaped, segment};
use crate::facts::cluster::{FIELD_MANAGER, list, name, namespace, text};
use crate::transport::http::{Connection, HttpRequest};

/// Names on one page. They are without what the objects hold.
const PAGE: usize = 500;
/// What objects are called, without what they hold (Kubernetes documentation, "Kubernetes API Concepts": metadata of objects).
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// The same of one.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Groups of Kubernetes itself, whose objects etcd has below the name of the resource alone. Those of others, and of what extends the
/// API, are below the name of the group (k8s.io/apiserver, pkg/registry/generic; apiextensions-apiserver, pkg/apiserver).
const OWN_GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Resources that etcd has under another name (kubernetes, pkg/registry and pkg/kubeapiserver).
const OTHER_NAMES: &[(&str, &str)] = &[
    ("endpoints", "services/endpoints"),
    ("ingresses.networking.k8s.io", "ingress"),
    ("nodes", "minions"),
    ("replicationcontrollers", "controllers"),
    ("services", "services/specs"),
];

/// Plural and group of a resource as an inventory names it: `secrets`, `deployments.apps`.
fn parts(resource: &str) -> (&str, &str) {
    resource.split_once('.').unwrap_or((resource, ""))
}

/// What the keys of a resource's objects begin with in etcd.
pub fn etcd_prefix(resource: &str) -> String {
    let (plural, group) = parts(resource);
    let other = OTHER_NAMES.iter().find(|(r, _)| *r == resource);
    match other {
        Some((_, other)) => format!("/registry/{other}/"),
        None if OWN_GROUPS.contains(&group) => format!("/registry/{plural}/"),
        None => format!("/registry/{group}/{plural}/"),
    }
}

/// The path of a resource's objects in all namespaces; `None` where the API server does not have the group.
///
/// # Errors
/// See [`ApiError`].
pub fn list_path(client: &mut Client<'_>, resource: &str) -> Result<Option<String>, ApiError> {
    let (plural, group) = parts(resource);
    let plural = segment(plural)?;
    if group.is_empty() {
        return Ok(Some(format!("/api/v1/{plural}")));
    }
    let group = segment(group)?;
    let Some(answer) = client.find(&HttpRequest::get(format!("/apis/{group}")))? else {
        return Ok(None);
    };
    let version = segment(text(&answer, "/preferredVersion/version"))?;
    Ok(Some(format!("/apis/{group}/{version}/{plural}")))
}

/// Whether there is an object.
///
/// # Errors
/// See [`ApiError`].
pub fn has_any(client: &mut Client<'_>, path: &str) -> Result<bool, ApiError> {
    let request = HttpRequest::get(format!("{path}?limit=1")).accepting(METADATA_LIST);
    let found = client.find(&request)?;
    Ok(found.is_some_and(|answer| !list(&answer, "/items").is_empty()))
}

/// An object, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    namespace: String,
    name: String,
    uid: String,
    version: String,
}

impl Named {
    /// `namespace/name`, or the name alone.
    pub fn words(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            space => format!("{space}/{}", self.name),
        }
    }
}

/// Some objects of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub objects: Vec<Named>,
    /// Where it goes on, if there are more.
    pub next: Option<String>,
    /// How many more there are, as far as the server says.
    pub more: usize,
}

/// A page of names.
///
/// # Errors
/// See [`ApiError`]: 410 where the list has to be begun anew, since etcd does not have it any more.
pub fn page(client: &mut Client<'_>, path: &str, from: Option<&str>) -> Result<Page, ApiError> {
    let from = from.map(|token| format!("&continue={token}")).unwrap_or_default();
    let request = HttpRequest::get(format!("{path}?limit={PAGE}{from}")).accepting(METADATA_LIST);
    let answer = client.json(&request)?;
    let malformed =
        |why: &str| ApiError::Malformed { request: request.words(), why: why.to_owned() };
    if text(&answer, "/kind") != "PartialObjectMetadataList" {
        return Err(malformed("the answer is no list of metadata"));
    }
    let named = |object: &Value| Named {
        namespace: namespace(object).to_owned(),
        name: name(object).to_owned(),
        uid: text(object, "/metadata/uid").to_owned(),
        version: text(object, "/metadata/resourceVersion").to_owned(),
    };
    let next = text(&answer, "/metadata/continue");
    // Base64 for URLs (RFC 4648 section 5): nothing in it needs escaping.
    if !next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)) {
        return Err(malformed("the list cannot be continued"));
    }
    let more = answer.pointer("/metadata/remainingItemCount").and_then(Value::as_u64);
    Ok(Page {
        objects: list(&answer, "/items").iter().map(named).collect(),
        next: (!next.is_empty()).then(|| next.to_owned()),
        more: usize::try_from(more.unwrap_or_default()).unwrap_or_default(),
    })
}

/// Writes an object again as it is, over a connection that is open. One that somebody else has written or deleted since
/// needs it no more.
///
/// # Errors
/// See [`ApiError`].
pub fn rewrite(
    connection: &mut Connection<'_>,
    path: &str,
    object: &Named,
) -> Result<(), ApiError> {
    let path = object_path(path, object)?;
    let metadata = json!({"uid": object.uid, "resourceVersion": object.version});
    let body = json!({ "metadata": metadata });
    let query = format!("fieldManager={FIELD_MANAGER}");
    let request = HttpRequest::merge_patch(format!("{path}?{query}"), &body).accepting(METADATA);
    let answer = connection.send(&request)?;
    match decode(&request, &answer) {
        Err(e) if matches!(e.status(), Some(404 | 409)) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn object_path(list: &str, object: &Named) -> Result<String, ApiError> {
    let name = escaped(&object.name)?;
    match (object.namespace.as_str(), list.rsplit_once('/')) {
        (space, Some((group, plural))) if !space.is_empty() => {
            Ok(format!("{group}/namespaces/{}/{plural}/{name}", segment(space)?))
        }
        _ => Ok(format!("{list}/{name}")),
    }
}

/// Objects written again over one connection, and what could not be.
///
/// # Errors
/// If there is no connection, or it broke. What was written until then stays so.
pub fn rewrite_all(
    client: &mut Client<'_>,
    path: &str,
    objects: &[Named],
) -> Result<Vec<(Named, ApiError)>, ApiError> {
    let within = ANSWER + ANSWER * u32::try_from(objects.len() / 50).unwrap_or(u32::MAX);
    let mut connection = client.connect(within)?;
    let mut failed = Vec::new();
    for object in objects {
        match rewrite(&mut connection, path, object) {
            Err(e) if e.is_no_answer() => return Err(e),
            Err(e) => failed.push((object.clone(), e)),
            Ok(()) => {}
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::played::Server;

    #[test]
    fn keys_in_etcd_have_their_prefix() {
        for (resource, prefix) in [
            ("secrets", "/registry/secrets/"),
            ("services", "/registry/services/specs/"),
            ("deployments.apps", "/registry/deployments/"),
            ("ingresses.networking.k8s.io", "/registry/ingress/"),
            ("widgets.example.com", "/registry/example.com/widgets/"),
            ("gateways.gateway.networking.k8s.io", "/registry/gateway.networking.k8s.io/gateways/"),
        ] {
            assert_eq!(etcd_prefix(resource), prefix);
        }
    }

    #[test]
    fn a_rewrite_names_the_object_as_it_was_read_and_holds_nothing_else() {
        let mut server = Server::new(|method, path, body| match method {
            "GET" => {
                let items = json!([
                    {"metadata": {"namespace": "a", "name": "s", "uid": "u1", "resourceVersion": "7"}},
                    {"metadata": {"namespace": "a", "name": "gone", "uid": "u2", "resourceVersion": "8"}},
                    {"metadata": {"namespace": "a", "name": "changed", "uid": "u3", "resourceVersion": "9"}},
                    {"metadata": {"namespace": "a", "name": "denied", "uid": "u4", "resourceVersion": "9"}},
                ]);
                let metadata = json!({"continue": "abc", "remainingItemCount": 3});
                (
                    200,
                    json!({"kind": "PartialObjectMetadataList", "metadata": metadata, "items": items}),
                )
            }
            "PATCH" if path.contains("/gone?") => (404, json!({"kind": "Status"})),
            "PATCH" if path.contains("/changed?") => (409, json!({"kind": "Status"})),
            "PATCH" if path.contains("/denied?") => {
                (403, json!({"kind": "Status", "message": "no"}))
            }
            "PATCH" => {
                assert!(path.starts_with("/api/v1/namespaces/a/secrets/s?"), "{path}");
                assert_eq!(*body, json!({"metadata": {"uid": "u1", "resourceVersion": "7"}}));
                (200, json!({}))
            }
            other => panic!("{other}"),
        });
        let found = page(&mut server.client(), "/api/v1/secrets", None).unwrap();
        assert_eq!((found.objects.len(), found.next.as_deref(), found.more), (4, Some("abc"), 3));
        let failed = rewrite_all(&mut server.client(), "/api/v1/secrets", &found.objects).unwrap();
        let failed: Vec<(String, Option<u16>)> =
            failed.iter().map(|(o, e)| (o.words(), e.status())).collect();
        assert_eq!(failed, [("a/denied".to_owned(), Some(403))]);
        assert!(server.asked().iter().all(|line| !line.contains("data")), "{:?}", server.asked());
    }

    #[test]
    fn whole_objects_are_no_list_of_names() {
        let mut whole = Server::new(|_, _, _| (200, json!({"kind": "SecretList", "items": []})));
        assert!(page(&mut whole.client(), "/api/v1/secrets", None).is_err());
        let mut endless = Server::new(|_, _, _| {
            (200, json!({"kind": "PartialObjectMetadataList", "metadata": {"continue": "a&b"}}))
        });
        assert!(page(&mut endless.client(), "/api/v1/secrets", None).is_err());
    }
}
