//! Objects of add-ons: how they are found, and how they are sent by server-side apply.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{ANSWER, ApiError, Client, decode};
use super::discovery::{Discovery, Resource};
use crate::facts::cluster::text;
use crate::transport::http::HttpRequest;

/// Whose fields they are. Not `kubastion`: of an object that both have to do with, what one of them does not send would be
/// taken away from the other.
pub const MANAGER: &str = "kubastion-bundle";

/// How long the kinds of a definition that was just sent may take.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks for them.
const AGAIN: Duration = Duration::from_millis(500);

/// An object as the server has it, and as a dry run of sending it would leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// As the server has it.
    pub is: Value,
    /// What would be there afterwards, with all that the server fills in.
    pub would_be: Value,
}

/// Why an object was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundledError {
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no such kind.
    #[error("the API server does not know the kind {0}")]
    NoKind(String),
}

/// Compares objects with the server's, in their order; `None` for those that do not exist. Nothing is changed: a dry run shows the
/// result of sending, because the server fills in defaults and normalizes what it gets.
///
/// # Errors
/// See [`ApiError`].
pub fn compare_all(
    client: &mut Client<'_>,
    objects: &[&Value],
) -> Result<Vec<Option<Compared>>, ApiError> {
    let mut discovery = Discovery::default();
    let mut paths = Vec::new();
    for object in objects {
        let resource = discovery.resource(client, object)?;
        paths.push(resource.map(|r: Resource| r.path(object)).transpose()?);
    }
    let gets: Vec<Option<HttpRequest>> =
        paths.iter().map(|p| p.as_ref().map(HttpRequest::get)).collect();
    let is = ask_all(client, &gets)?;
    let sends: Vec<Option<HttpRequest>> = objects
        .iter()
        .zip(&paths)
        .zip(&is)
        .map(|((object, path), is)| {
            let path = path.as_ref().filter(|_| is.is_some())?;
            Some(patch(path, object, "&dryRun=All"))
        })
        .collect();
    let would_be = ask_all(client, &sends)?;
    let both = is.into_iter().zip(would_be);
    Ok(both.map(|(is, would_be)| Some(Compared { is: is?, would_be: would_be? })).collect())
}

/// The answers to requests, of which some are none.
fn ask_all(
    client: &mut Client<'_>,
    requests: &[Option<HttpRequest>],
) -> Result<Vec<Option<Value>>, ApiError> {
    let asked: Vec<&HttpRequest> = requests.iter().flatten().collect();
    let within = ANSWER * u32::try_from(asked.len()).unwrap_or(u32::MAX);
    let mut answers = client.batch(&asked, within).into_iter();
    let one = |request: &Option<HttpRequest>| {
        let (Some(request), answer) = (request, request.as_ref().and_then(|_| answers.next()))
        else {
            return Ok(None);
        };
        let Some(answer) = answer else { return Ok(None) };
        match decode(request, &answer?) {
            Err(e) if e.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    };
    requests.iter().map(one).collect()
}

/// Fields that others have are taken over, as an operator who sends a manifest means it.
fn patch(path: &str, object: &Value, more: &str) -> HttpRequest {
    let query = format!("fieldManager={MANAGER}&fieldValidation=Strict&force=true{more}");
    HttpRequest::apply_patch(format!("{path}?{query}"), object)
}

/// Where the objects of a kind are. One of which a definition was sent before is waited for: it is known once the definition
/// is established (Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions").
///
/// # Errors
/// [`BundledError::NoKind`] where there is none, after the wait where there is one.
pub fn resource(
    client: &mut Client<'_>,
    discovery: &mut Discovery,
    object: &Value,
    is_defined: bool,
    said: &mut dyn FnMut(&str),
) -> Result<Resource, BundledError> {
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let called = crate::plain::plain_line(&format!("{kind} of {version}"));
    let deadline = Instant::now() + KNOWN_WITHIN;
    let mut waits = false;
    loop {
        if let Some(found) = discovery.resource(client, object)? {
            return Ok(found);
        }
        if !is_defined || Instant::now() >= deadline {
            return Err(BundledError::NoKind(called));
        }
        if !std::mem::replace(&mut waits, true) {
            said(&format!("the API server to know the kind {called}"));
        }
        discovery.forget(version);
        std::thread::sleep(AGAIN);
    }
}

/// Compares one object.
///
/// # Errors
/// See [`ApiError`].
pub fn compare(
    client: &mut Client<'_>,
    path: &str,
    object: &Value,
) -> Result<Option<Compared>, ApiError> {
    let Some(is) = client.find(&HttpRequest::get(path))? else { return Ok(None) };
    let would_be = client.json(&patch(path, object, "&dryRun=All"))?;
    Ok(Some(Compared { is, would_be }))
}

/// Sends an object.
///
/// # Errors
/// See [`ApiError`]: 409 where the object has another `uid` than the body.
pub fn send(client: &mut Client<'_>, path: &str, object: &Value) -> Result<Value, ApiError> {
    client.json(&patch(path, object, ""))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::api::played::Server;

    fn map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
    }

    fn kinds() -> (u16, Value) {
        let map = json!({"name": "configmaps", "kind": "ConfigMap", "namespaced": true});
        (200, json!({"resources": [map]}))
    }

    #[test]
    fn a_look_changes_nothing_and_says_what_sending_would_come_to() {
        let mut server = Server::new(|method, path, body| match (method, path) {
            ("GET", "/api/v1") => kinds(),
            ("GET", "/apis/example.com/v1") => (404, json!({})),
            ("GET", "/api/v1/namespaces/default/configmaps/here") => (200, json!({"data": {}})),
            ("GET", "/api/v1/namespaces/default/configmaps/away") => (404, json!({})),
            ("PATCH", path) => {
                let (path, query) = path.split_once('?').unwrap();
                assert_eq!(path, "/api/v1/namespaces/default/configmaps/here");
                assert!(query.contains("dryRun=All") && query.contains("force=true"), "{query}");
                assert!(query.contains("fieldManager=kubastion-bundle"), "{query}");
                (200, json!({"data": body["data"], "filled": "in"}))
            }
            other => panic!("{other:?}"),
        });
        let own = json!({"apiVersion": "example.com/v1", "kind": "Own", "metadata": {"name": "x"}});
        let (here, away) = (map("here"), map("away"));
        let seen = compare_all(&mut server.client(), &[&away, &own, &here]).unwrap();
        let would_be = json!({"data": {"a": "b"}, "filled": "in"});
        assert_eq!(seen, [None, None, Some(Compared { is: json!({"data": {}}), would_be })]);
    }

    #[test]
    fn a_refusal_of_the_look_is_an_error_with_the_servers_words() {
        let mut server = Server::new(|method, path, _| match (method, path) {
            ("GET", "/api/v1") => kinds(),
            ("GET", _) => (200, json!({})),
            _ => (422, json!({"kind": "Status", "message": "spec.selector is immutable"})),
        });
        let said = compare_all(&mut server.client(), &[&map("a")]).unwrap_err().to_string();
        assert!(said.contains("answers 422: spec.selector is immutable"), "{said}");
        let mut server = Server::new(|_, path, _| match path {
            "/api/v1" => kinds(),
            _ => (500, json!({})),
        });
        assert!(compare_all(&mut server.client(), &[&map("a")]).is_err(), "unread is not missing");
    }

    #[test]
    fn a_kind_whose_definition_was_sent_is_waited_for_and_no_other() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let mut server = Server::new(|_, _, _| match LOOKS.fetch_add(1, Ordering::SeqCst) {
            0 => (404, json!({})),
            1 => (200, json!({"resources": []})),
            _ => {
                (200, json!({"resources": [{"name": "owns", "kind": "Own", "namespaced": false}]}))
            }
        });
        let own = json!({"apiVersion": "example.com/v1", "kind": "Own", "metadata": {"name": "x"}});
        let mut discovery = Discovery::default();
        let mut said = Vec::new();
        let mut hear = |what: &str| said.push(what.to_owned());
        let found = resource(&mut server.client(), &mut discovery, &own, true, &mut hear).unwrap();
        assert_eq!(found.path(&own).unwrap(), "/apis/example.com/v1/owns/x");
        assert_eq!(said, ["the API server to know the kind Own of example.com/v1"]);
        let other = json!({"apiVersion": "example.com/v1", "kind": "Other"});
        let none = resource(&mut server.client(), &mut discovery, &other, false, &mut |_| {});
        assert_eq!(none, Err(BundledError::NoKind("Other of example.com/v1".into())));
    }

    #[test]
    fn an_object_is_sent_by_a_manager_of_its_own() {
        let mut server = Server::new(|method, path, body| {
            assert_eq!((method, body), ("PATCH", &map("a")));
            assert!(
                path.ends_with("?fieldManager=kubastion-bundle&fieldValidation=Strict&force=true")
            );
            (201, body.clone())
        });
        assert_eq!(send(&mut server.client(), "/x", &map("a")).unwrap(), map("a"));
    }
}
