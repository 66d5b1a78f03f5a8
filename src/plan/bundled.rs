//! Objects of the bundle's manifests against those that are there.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::desired::differences::changes_by_sending;
use crate::facts::cluster::{BundledFact, ClusterFacts, list, name, namespace, text};
use crate::inventory::BundledObject;
use crate::plain::hex;
use crate::plan::api_change::{Action, ApiChange};

/// What is to be done with them, in the order in which they are sent.
pub(super) fn changes(facts: &ClusterFacts) -> Vec<ApiChange> {
    facts.bundled.iter().filter_map(change).collect()
}

fn change(fact: &BundledFact) -> Option<ApiChange> {
    let BundledFact { file, object, seen } = fact;
    let (action, differs) = match seen {
        None => (Action::Create, Vec::new()),
        Some((is, would_be)) => (Action::Change, changes_by_sending(is, would_be)),
    };
    (action == Action::Create || !differs.is_empty()).then(|| ApiChange::Bundled {
        action,
        file: file.clone(),
        api_version: text(object, "/apiVersion").to_owned(),
        kind: text(object, "/kind").to_owned(),
        namespace: namespace(object).to_owned(),
        name: name(object).to_owned(),
        sha256: sha256(object),
        differs,
    })
}

/// By what a plan names the content of an object: of its JSON, whose fields are sorted.
pub fn sha256(object: &Value) -> String {
    hex(&Sha256::digest(object.to_string()))
}

/// Whether one of them is a network of pods: a DaemonSet that puts its configuration where runtimes look for it.
pub fn brings_network(bundled: &[BundledObject]) -> bool {
    let is_network = |o: &Value| {
        let volumes = list(o, "/spec/template/spec/volumes").iter();
        text(o, "/kind") == "DaemonSet"
            && volumes.map(|v| text(v, "/hostPath/path")).any(|p| p.starts_with("/etc/cni/net.d"))
    };
    bundled.iter().any(|b| is_network(&b.object))
}

/// The objects as they are in a cluster that has just been started.
pub(super) fn none_of(bundled: &[BundledObject]) -> Vec<BundledFact> {
    let missing = |a: &BundledObject| BundledFact {
        file: a.file.clone(),
        object: a.object.clone(),
        seen: None,
    };
    bundled.iter().map(missing).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "b"},
               "data": {"k": value}})
    }

    fn planned(of: BundledFact) -> Vec<ApiChange> {
        changes(&ClusterFacts { bundled: vec![of], ..ClusterFacts::default() })
    }

    fn fact(kind: &str, is: Option<&str>) -> BundledFact {
        let seen = is.map(|value| (object(kind, value), object(kind, "wanted")));
        BundledFact { file: "net.yaml".into(), object: object(kind, "wanted"), seen }
    }

    #[test]
    fn what_is_missing_is_made_and_what_differs_is_changed() {
        let said = |kind, is| -> Vec<String> {
            planned(fact(kind, is)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(said("ConfigMap", None), ["create ConfigMap b/a (net.yaml)"]);
        assert_eq!(said("ConfigMap", Some("wanted")), Vec::<String>::new());
        assert_eq!(
            said("ConfigMap", Some("drift")),
            ["change ConfigMap b/a (net.yaml): data.k: \"drift\" -> \"wanted\""]
        );
    }

    #[test]
    fn a_plan_holds_no_secret_and_is_bound_to_what_is_sent() {
        for is in [None, Some("drift")] {
            let plan = serde_json::to_string(&planned(fact("Secret", is))).unwrap();
            assert!(!plan.contains(":\"wanted") && !plan.contains("drift"), "{plan}");
            let mut other = fact("Secret", is);
            other.object["data"]["k"] = json!("another");
            let other = planned(other);
            assert_ne!(planned(fact("Secret", is)), other);
            assert!(!other[0].is_in(&planned(fact("Secret", is)), true, |_| true));
        }
    }

    #[test]
    fn a_plan_covers_what_it_shows_of_an_add_on_and_not_more() {
        let change = |names: &[&str]| {
            let mut all = planned(fact("ConfigMap", Some("drift")));
            if let ApiChange::Bundled { differs, .. } = &mut all[0] {
                let one = differs[0].clone();
                let named = |path: &&str| crate::desired::differences::Difference {
                    path: (*path).to_owned(),
                    ..one.clone()
                };
                *differs = names.iter().map(named).collect();
            }
            all.remove(0)
        };
        let (both, one) = (change(&["a", "b"]), change(&["a"]));
        assert!(one.is_in(std::slice::from_ref(&both), false, |_| false));
        assert!(!both.is_in(std::slice::from_ref(&one), false, |_| false));
        let create = planned(fact("ConfigMap", None)).remove(0);
        assert!(!one.is_in(&[create], false, |_| false));
    }
}
