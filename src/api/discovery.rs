//! Which kinds of objects an API server knows, and where they are (Kubernetes documentation, "The Kubernetes API": unaggregated
//! discovery). Each version of a group is asked for once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::{ApiError, Client};
use super::objects::{escaped, segment};
use crate::facts::cluster::{list, name, namespace, text};
use crate::transport::http::HttpRequest;

/// Where the objects of a kind are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Path of the group's version.
    base: String,
    /// The plural by which its paths go.
    plural: String,
    /// Whether its objects are in namespaces.
    namespaced: bool,
}

impl Resource {
    /// The path of an object. One that names no namespace, and has to be in one, is in `default`.
    ///
    /// # Errors
    /// [`ApiError::BadName`] for what would lead elsewhere.
    pub fn path(&self, object: &Value) -> Result<String, ApiError> {
        let Self { base, plural, namespaced } = self;
        let name = escaped(name(object))?;
        Ok(match (namespaced, namespace(object)) {
            (false, _) => format!("{base}/{plural}/{name}"),
            (true, "") => format!("{base}/namespaces/default/{plural}/{name}"),
            (true, space) => format!("{base}/namespaces/{}/{plural}/{name}", segment(space)?),
        })
    }
}

/// What an API server has said so far.
#[derive(Debug, Default)]
pub struct Discovery {
    versions: BTreeMap<String, Vec<(String, Resource)>>,
}

impl Discovery {
    /// Where the objects of this object's kind are; `None` if the server does not know the kind.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn resource(
        &mut self,
        client: &mut Client<'_>,
        object: &Value,
    ) -> Result<Option<Resource>, ApiError> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        if !self.versions.contains_key(version) {
            let known = ask(client, version)?;
            self.versions.insert(version.to_owned(), known);
        }
        let known = self.versions.get(version).into_iter().flatten();
        Ok(known.into_iter().find(|(k, _)| k == kind).map(|(_, resource)| resource.clone()))
    }

    /// Has the version of a group asked for again: a kind may have come since.
    pub fn forget(&mut self, version: &str) {
        self.versions.remove(version);
    }
}

/// The kinds of a version of a group; none where the server does not have it.
fn ask(client: &mut Client<'_>, version: &str) -> Result<Vec<(String, Resource)>, ApiError> {
    let base = match version.split_once('/') {
        None => format!("/api/{}", segment(version)?),
        Some((group, version)) => format!("/apis/{}/{}", segment(group)?, segment(version)?),
    };
    let request = HttpRequest::get(&base);
    let Some(answer) = client.find(&request)? else { return Ok(Vec::new()) };
    if answer.get("resources").is_none_or(|r| !r.is_array()) {
        let why = "the answer has no resources".to_owned();
        return Err(ApiError::Malformed { request: request.words(), why });
    }
    let mut known = Vec::new();
    // Others are parts of objects: `pods/log`.
    for found in list(&answer, "/resources").iter().filter(|r| !text(r, "/name").contains('/')) {
        let plural = segment(text(found, "/name"))?.to_owned();
        let namespaced = found.get("namespaced").and_then(Value::as_bool).unwrap_or_default();
        let resource = Resource { base: base.clone(), plural, namespaced };
        known.push((text(found, "/kind").to_owned(), resource));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::played::Server;

    #[test]
    fn a_kind_is_found_where_the_server_says_and_asked_for_once() {
        let mut server = Server::new(|method, path, _| match (method, path) {
            ("GET", "/api/v1") => (
                200,
                json!({"resources": [
                    {"name": "pods/log", "kind": "Pod", "namespaced": true},
                    {"name": "pods", "kind": "Pod", "namespaced": true},
                    {"name": "namespaces", "kind": "Namespace", "namespaced": false},
                ]}),
            ),
            ("GET", "/apis/example.com/v1") => (404, json!({"kind": "Status"})),
            ("GET", "/apis/broken/v1") => (200, json!({"resources": "x"})),
            ("GET", "/apis/evil/v1") => {
                (200, json!({"resources": [{"name": "..", "kind": "A", "namespaced": false}]}))
            }
            other => panic!("{other:?}"),
        });
        let mut discovery = Discovery::default();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
        let found = discovery.resource(&mut server.client(), &pod).unwrap().unwrap();
        assert_eq!(found.path(&pod).unwrap(), "/api/v1/namespaces/default/pods/a");
        let found = discovery.resource(&mut server.client(), &space).unwrap().unwrap();
        assert_eq!(found.path(&space).unwrap(), "/api/v1/namespaces/a");
        assert_eq!(server.asked().len(), 1, "the second kind is of the same version");
        let own = json!({"apiVersion": "example.com/v1", "kind": "A", "metadata": {"name": "a"}});
        for _ in 0..2 {
            assert_eq!(discovery.resource(&mut server.client(), &own).unwrap(), None);
        }
        assert_eq!(server.asked().len(), 2);
        discovery.forget("example.com/v1");
        assert_eq!(discovery.resource(&mut server.client(), &own).unwrap(), None);
        assert_eq!(server.asked().len(), 3);
        for version in ["broken/v1", "evil/v1", "../v1", "a/b/c", ""] {
            let object = json!({"apiVersion": version, "kind": "A", "metadata": {"name": "a"}});
            assert!(discovery.resource(&mut server.client(), &object).is_err(), "{version}");
        }
        let bad = json!({"metadata": {"name": "a", "namespace": "../x"}});
        let pods = discovery.resource(&mut server.client(), &pod).unwrap().unwrap();
        assert!(pods.path(&bad).is_err());
    }
}
