//! Single objects: found, applied, patched, deleted.

use serde_json::{Value, json};

use super::client::{ApiError, Client};
use crate::facts::cluster::{FIELD_MANAGER, ObjectKind, text};
use crate::transport::http::HttpRequest;

/// What becomes of fields that another manager owns and that have another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// The request is refused with 409, and nothing is changed.
    Refuse,
    /// The fields get the value that is sent, and change hands.
    Force,
}

/// The path of an object. The namespace is empty for one without.
///
/// # Errors
/// [`ApiError::BadName`] for what would lead elsewhere.
pub fn path(kind: ObjectKind, namespace: &str, name: &str) -> Result<String, ApiError> {
    let list = kind.path().split('?').next().unwrap_or_default();
    let name = escaped(name)?;
    match (namespace, list.rsplit_once('/')) {
        (space, Some((group, kind))) if !space.is_empty() => {
            Ok(format!("{group}/namespaces/{}/{kind}/{name}", segment(space)?))
        }
        _ => Ok(format!("{list}/{name}")),
    }
}

/// A name as a part of a path (RFC 3986 section 2.1). Those of RBAC may be anything that is one part of a path; most others
/// never need escaping (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>).
pub fn escaped(name: &str) -> Result<String, ApiError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '%']) {
        return Err(ApiError::BadName(name.to_owned()));
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

/// A name as a part of a path that needs no escaping.
///
/// # Errors
/// [`ApiError::BadName`] if it would.
pub fn segment(name: &str) -> Result<&str, ApiError> {
    match escaped(name)? {
        same if same == name => Ok(name),
        _ => Err(ApiError::BadName(name.to_owned())),
    }
}

impl Client<'_> {
    /// Sends an object by server-side apply. Returns it as it is then.
    ///
    /// # Errors
    /// See [`ApiError`]: 409 for a conflict, or where the object is not the one whose `resourceVersion` or `uid` is in
    /// the body. Nothing is changed then.
    pub fn apply(
        &mut self,
        path: &str,
        body: &Value,
        conflicts: Conflicts,
    ) -> Result<Value, ApiError> {
        let force = conflicts == Conflicts::Force;
        // What the server does not know is an error, and not left out without a word.
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force={force}");
        self.json(&HttpRequest::apply_patch(format!("{path}?{query}"), body))
    }

    /// Changes fields of an object by a merge patch.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn patch(&mut self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        self.json(&HttpRequest::merge_patch(path, body))
    }

    /// Deletes an object. One that is gone is as good.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn delete(&mut self, path: &str) -> Result<(), ApiError> {
        self.find(&HttpRequest::delete(path)).map(|_| ())
    }

    /// Deletes an object as it was read: one that was changed since stays, and the server says 409.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn delete_as_read(&mut self, path: &str, object: &Value) -> Result<(), ApiError> {
        let of = |at| text(object, at).to_owned();
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {
                "uid": of("/metadata/uid"), "resourceVersion": of("/metadata/resourceVersion"),
            },
        });
        self.find(&HttpRequest::delete_with(path, &options)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_object() {
        assert_eq!(escaped("a b?\u{1b}:c").as_deref(), Ok("a%20b%3F%1B:c"));
        for bad in ["", ".", "..", "a/b", "a%2fb"] {
            assert!(escaped(bad).is_err(), "{bad}");
            assert!(path(ObjectKind::Nodes, "", bad).is_err(), "{bad}");
        }
        assert!(segment("kubeadm:bootstrap-signer-clusterinfo").is_ok());
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "a b"] {
            assert!(segment(bad).is_err(), "{bad}");
            assert!(bad.is_empty() || path(ObjectKind::RoleBindings, bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn an_object_has_its_path() {
        for (kind, namespace, wanted) in [
            (ObjectKind::Nodes, "", "/api/v1/nodes/x"),
            (ObjectKind::ServiceAccounts, "a", "/api/v1/namespaces/a/serviceaccounts/x"),
            (ObjectKind::JoinTokens, "", "/api/v1/namespaces/kube-system/secrets/x"),
            (
                ObjectKind::RoleBindings,
                "a",
                "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/x",
            ),
        ] {
            assert_eq!(path(kind, namespace, "x").as_deref(), Ok(wanted));
        }
    }
}
