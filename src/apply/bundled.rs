//! Objects of the bundle's manifests are sent as a plan says.

use serde_json::{Value, json};

use super::change_error::{ChangeError, words};
use crate::api::Client;
use crate::api::bundled;
use crate::api::discovery::Discovery;
use crate::desired::differences::{Difference, changes_by_sending};
use crate::facts::cluster::{name, namespace, text};
use crate::inventory::BundledObject;
use crate::plan::api_change::{Action, ApiChange};
use crate::plan::bundled::sha256;

/// The manifests of a run, and what the API server has said of kinds so far.
pub(super) struct BundledObjects<'a> {
    all: &'a [BundledObject],
    discovery: Discovery,
    said: &'a mut dyn FnMut(&str),
}

impl<'a> BundledObjects<'a> {
    pub(super) fn new(all: &'a [BundledObject], said: &'a mut dyn FnMut(&str)) -> Self {
        Self { all, discovery: Discovery::default(), said }
    }

    /// Sends one. What was not in the plan is not changed: the server is asked again what sending would come to.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(super) fn send(
        &mut self,
        client: &mut Client<'_>,
        change: &ApiChange,
    ) -> Result<(), ChangeError> {
        let ApiChange::Bundled { action, differs, .. } = change else {
            return Err(ChangeError::NotWanted);
        };
        let wanted = self.all.iter().find(|a| is_meant(change, &a.object));
        let object = &wanted.ok_or(ChangeError::NotWanted)?.object;
        let is_defined = self.all.iter().any(|a| defines(&a.object, object));
        let place =
            bundled::resource(client, &mut self.discovery, object, is_defined, &mut *self.said)?;
        let path = place.path(object)?;
        let seen = bundled::compare(client, &path, object)?;
        let due = seen.as_ref().map(|s| changes_by_sending(&s.is, &s.would_be));
        let unplanned: Vec<&Difference> = match (action, &due) {
            (_, Some(due)) if due.is_empty() => return Ok(()),
            (Action::Create, None) => Vec::new(),
            (Action::Change, None) => {
                return Err(ChangeError::NotAsPlanned("it was deleted".into()));
            }
            (Action::Create, Some(due)) => due.iter().collect(),
            (Action::Change, Some(due)) => due.iter().filter(|d| !differs.contains(d)).collect(),
        };
        if !unplanned.is_empty() {
            return Err(ChangeError::NotAsPlanned(words(unplanned)));
        }
        let mut body = object.clone();
        if let Some(seen) = &seen {
            // Another one of its name is refused.
            body["metadata"]["uid"] = json!(text(&seen.is, "/metadata/uid"));
        }
        bundled::send(client, &path, &body)?;
        Ok(())
    }
}

/// Whether a change is about an object, word for word.
fn is_meant(change: &ApiChange, object: &Value) -> bool {
    let ApiChange::Bundled { api_version, kind, namespace: space, name: own, sha256: sum, .. } =
        change
    else {
        return false;
    };
    (text(object, "/apiVersion"), text(object, "/kind")) == (api_version, kind)
        && (namespace(object), name(object)) == (space, own)
        && sha256(object) == *sum
}

/// Whether an object is the definition of another one's kind.
fn defines(definition: &Value, object: &Value) -> bool {
    let group = text(object, "/apiVersion").split_once('/').map(|(group, _)| group);
    text(definition, "/kind") == "CustomResourceDefinition"
        && Some(text(definition, "/spec/group")) == group
        && text(definition, "/spec/names/kind") == text(object, "/kind")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::api::played::Server;

    fn change(object: &Value, action: Action, differs: Vec<Difference>) -> ApiChange {
        ApiChange::Bundled {
            action,
            file: "net.yaml".into(),
            api_version: text(object, "/apiVersion").into(),
            kind: text(object, "/kind").into(),
            namespace: namespace(object).into(),
            name: name(object).into(),
            sha256: sha256(object),
            differs,
        }
    }

    fn object_of(object: &Value) -> BundledObject {
        BundledObject { file: "net.yaml".into(), object: object.clone() }
    }

    /// A server that holds one ConfigMap, or none.
    fn server(here: Option<&'static str>, sent: &'static Mutex<Vec<Value>>) -> Server {
        Server::new(move |method, path, body| match (method, path.contains("dryRun=All")) {
            ("GET", _) if path == "/api/v1" => {
                let map = json!({"name": "configmaps", "kind": "ConfigMap", "namespaced": true});
                (200, json!({"resources": [map]}))
            }
            ("GET", _) => match here {
                None => (404, json!({})),
                Some(value) => {
                    (200, json!({"metadata": {"name": "a", "uid": "u"}, "data": {"k": value}}))
                }
            },
            ("PATCH", true) => (200, json!({"metadata": {"name": "a"}, "data": body["data"]})),
            ("PATCH", false) => {
                sent.lock().unwrap().push(body.clone());
                (200, body.clone())
            }
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_the_plan_did_not_say_is_not_sent() {
        static SENT: Mutex<Vec<Value>> = Mutex::new(Vec::new());
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
                         "data": {"k": "wanted"}});
        let differs = |is: &str| Difference {
            path: "data.k".into(),
            is: Some(format!("\"{is}\"")),
            wanted: Some("\"wanted\"".into()),
        };
        let all = [object_of(&map)];
        let sends = |here, action, differs| {
            SENT.lock().unwrap().clear();
            let mut quiet = |_: &str| {};
            let mut bundled = BundledObjects::new(&all, &mut quiet);
            let result =
                bundled.send(&mut server(here, &SENT).client(), &change(&map, action, differs));
            (result.map_err(|e| e.to_string()), SENT.lock().unwrap().clone())
        };
        let (done, sent) = sends(None, Action::Create, vec![]);
        assert_eq!((done, sent), (Ok(()), vec![map.clone()]));
        let (done, sent) = sends(Some("drift"), Action::Change, vec![differs("drift")]);
        assert_eq!(done, Ok(()));
        assert_eq!(
            (sent.len(), &sent[0]["metadata"]["uid"]),
            (1, &json!("u")),
            "that one and no other"
        );
        let (done, sent) = sends(Some("wanted"), Action::Change, vec![differs("drift")]);
        assert_eq!((done, sent), (Ok(()), vec![]), "somebody was quicker");
        for (here, action, planned, why) in [
            (Some("other"), Action::Change, vec![differs("drift")], "data.k: \"other\""),
            (Some("drift"), Action::Create, vec![], "data.k: \"drift\""),
            (None, Action::Change, vec![differs("drift")], "it was deleted"),
        ] {
            let (done, sent) = sends(here, action, planned);
            let said = done.unwrap_err();
            assert!(
                said.contains("changed since the plan was made") && said.contains(why),
                "{said}"
            );
            assert_eq!(sent, Vec::<Value>::new());
        }
        let mut other = map.clone();
        other["data"]["k"] = json!("another");
        let mut quiet = |_: &str| {};
        let not_in_bundle = change(&other, Action::Create, vec![]);
        let mut bundled = BundledObjects::new(&all, &mut quiet);
        let result = bundled.send(&mut server(None, &SENT).client(), &not_in_bundle);
        assert!(matches!(result, Err(ChangeError::NotWanted)), "{result:?}");
    }

    #[test]
    fn an_object_of_a_kind_that_the_manifest_defines_waits_for_it() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "owns.example.com"},
            "spec": {"group": "example.com", "names": {"kind": "Own", "plural": "owns"}},
        });
        let own = json!({"apiVersion": "example.com/v1", "kind": "Own", "metadata": {"name": "x"}});
        let all = [object_of(&definition), object_of(&own)];
        let mut server = Server::new(|method, path, body| match (method, path) {
            ("GET", "/apis/apiextensions.k8s.io/v1") => {
                let of = "customresourcedefinitions";
                let kind =
                    json!({"name": of, "kind": "CustomResourceDefinition", "namespaced": false});
                (200, json!({"resources": [kind]}))
            }
            ("GET", "/apis/example.com/v1") if LOOKS.fetch_add(1, Ordering::SeqCst) == 0 => {
                (404, json!({}))
            }
            ("GET", "/apis/example.com/v1") => {
                (200, json!({"resources": [{"name": "owns", "kind": "Own", "namespaced": false}]}))
            }
            ("GET", _) => (404, json!({})),
            _ => (201, body.clone()),
        });
        let mut heard = Vec::new();
        let mut hear = |what: &str| heard.push(what.to_owned());
        let mut bundled = BundledObjects::new(&all, &mut hear);
        for object in [&definition, &own] {
            let made = change(object, Action::Create, vec![]);
            bundled.send(&mut server.client(), &made).unwrap();
        }
        assert_eq!(heard, ["the API server to know the kind Own of example.com/v1"]);
        let sent = server.asked().into_iter().filter(|a| a.starts_with("PATCH"));
        let sent: Vec<String> = sent.map(|a| a.split('?').next().unwrap().to_owned()).collect();
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        assert_eq!(
            sent,
            [
                format!("PATCH {definitions}/owns.example.com"),
                "PATCH /apis/example.com/v1/owns/x".into()
            ]
        );
    }
}
