//! The objects in manifests of add-ons, such as a network: others' YAML, of kinds that only an API server knows.

use std::io::Read;

use serde_json::Value;

use super::fault::{BundleError, Fault};
use super::model::{ArtifactKind, in_bundle};
use super::verify::Bundle;
use crate::inventory::BundledObject;
use crate::yaml;

/// Largest manifest in bytes.
pub(super) const MAX_MANIFEST: u64 = 16 << 20;

/// What has to be there before other objects can be made.
const FIRST: &[(&str, &str)] =
    &[("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")];

impl Bundle {
    /// Reads the objects of all manifests, in the order in which they are sent: namespaces and definitions of kinds first,
    /// else as they stand in their files.
    ///
    /// # Errors
    /// Every manifest that is not what was signed, or holds something that is no object.
    pub fn objects(&self) -> Result<Vec<BundledObject>, BundleError> {
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for file in self.manifest().files.iter().filter(|f| f.kind == ArtifactKind::Manifest) {
            let place = in_bundle(&file.path);
            let read = self.reader(file).and_then(|reader| {
                let mut text = String::new();
                let bounded = &mut reader.take(MAX_MANIFEST + 1);
                let path = self.dir().join(&place);
                bounded.read_to_string(&mut text).map_err(Fault::io("read", &path))?;
                objects(&text)
                    .and_then(named)
                    .map_err(|why| Fault::entry(&place, "is not a Kubernetes manifest").why(why))
            });
            match read {
                Err(fault) => faults.push(fault),
                Ok(objects) => all.extend(
                    objects
                        .into_iter()
                        .map(|object| BundledObject { file: file.name().to_owned(), object }),
                ),
            }
        }
        if !faults.is_empty() {
            return Err(BundleError::new(self.dir(), faults));
        }
        all.sort_by_key(|a| rank(&a.object));
        Ok(all)
    }
}

fn rank(object: &Value) -> usize {
    let of = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let this = (of("apiVersion"), of("kind"));
    FIRST.iter().position(|first| *first == this).unwrap_or(FIRST.len())
}

/// The objects of a manifest: of each of its documents, and the items of lists.
///
/// # Errors
/// The first document that is no object, or that there is none.
pub(super) fn objects(text: &str) -> Result<Vec<Value>, String> {
    if text.len() as u64 > MAX_MANIFEST {
        return Err(format!("it is larger than {} MiB", MAX_MANIFEST >> 20));
    }
    let mut all = Vec::new();
    let documents = yaml::documents(text).map_err(|e| e.to_string())?;
    for (i, document) in documents.iter().enumerate().filter(|(_, d)| !d.is_null()) {
        let at = |why: String| format!("document {} {why}", i + 1);
        let object = serde_json::to_value(document).map_err(|e| at(format!("is not JSON: {e}")))?;
        let items = match (object.get("kind").and_then(Value::as_str), object.get("items")) {
            // `List`, and typed ones such as `ConfigMapList`.
            (Some(kind), Some(Value::Array(items))) if kind.ends_with("List") => items.clone(),
            _ => vec![object],
        };
        for item in items {
            check(&item).map_err(at)?;
            all.push(item);
        }
    }
    if all.is_empty() { Err("it is empty".to_owned()) } else { Ok(all) }
}

fn check(object: &Value) -> Result<(), String> {
    let of = |at| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    if of("/apiVersion").is_empty() || of("/kind").is_empty() {
        return Err("has no apiVersion or kind".into());
    }
    Ok(())
}

/// Without a name, nothing can be applied. Bundles that were made before it was looked at are read all the same.
fn named(objects: Vec<Value>) -> Result<Vec<Value>, String> {
    let name = |o: &Value| o.pointer("/metadata/name").is_some_and(|n| n.as_str() > Some(""));
    match objects.iter().find(|o| !name(o)) {
        None => Ok(objects),
        Some(o) => {
            Err(format!("it has a {} without a name", o["kind"].as_str().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let name = |o: &Value| o["metadata"]["name"].as_str().unwrap().to_owned();
        objects(text).and_then(named).map(|all| all.iter().map(name).collect())
    }

    #[test]
    fn a_manifest_is_all_objects_of_its_documents_and_lists() {
        let text = "# a\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\n\
            apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n\
            - {apiVersion: v1, kind: Secret, metadata: {name: c}}\n---\n\
            {apiVersion: example/v1, kind: Allowlist, metadata: {name: d}, items: []}\n";
        assert_eq!(names(text).unwrap(), ["a", "b", "c", "d"]);
        for (bad, why) in [
            ("", "empty"),
            ("# nothing\n", "empty"),
            ("{apiVersion: v1, kind: List, items: []}", "empty"),
            ("kind: Namespace\nmetadata: {name: a}\n", "document 1 has no apiVersion or kind"),
            ("a: [", "unclosed"),
            ("<html></html>", "document 1 has no apiVersion"),
            (
                "---\n{apiVersion: v1, kind: Pod, metadata: {generateName: a}}",
                "a Pod without a name",
            ),
            ("{apiVersion: v1, kind: List, items: [1]}", "document 1 has no apiVersion"),
        ] {
            let said = names(bad).unwrap_err();
            assert!(said.contains(why) || why == "unclosed", "{bad}: {said}");
        }
    }

    #[test]
    fn what_others_need_comes_first() {
        let of =
            |version: &str, kind: &str| serde_json::json!({"apiVersion": version, "kind": kind});
        let mut all = [
            of("example/v1", "Namespace"),
            of("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            of("v1", "Namespace"),
            of("v1", "Pod"),
        ];
        all.sort_by_key(rank);
        let kinds: Vec<_> = all.iter().map(|o| (&o["apiVersion"], &o["kind"])).collect();
        assert_eq!(kinds[0], (&"v1".into(), &"Namespace".into()));
        assert_eq!(kinds[1].1, "CustomResourceDefinition");
        assert_eq!((kinds[2].0, kinds[3].1), (&"example/v1".into(), &"Pod".into()));
    }
}
