//! Whether quotas and limits of a namespace bound anything (Kubernetes documentation, "Resource Quotas", "Limit Ranges").

use serde_json::Value;

use crate::checks::cluster::reading::{none_of, of, user_namespaces};
use crate::checks::model::Verdict;
use crate::facts::cluster::{ClusterFacts, ObjectKind, list, namespace};

/// What a quota has to bound: a word for it, keys of `hard` any of which does, and what is no bound any more, since it is
/// more than the largest cluster that Kubernetes supports has ("Considerations for large clusters": 5000 nodes, 150 000
/// pods; 64 cores and 256 GiB a node).
const BOUNDED: &[(&str, &[&str], f64)] = &[
    ("pods", &["pods", "count/pods"], 150_000.0),
    ("CPU", &["requests.cpu", "cpu", "limits.cpu"], 320_000.0),
    ("memory", &["requests.memory", "memory", "limits.memory"], 1.4e15),
];

pub(in crate::checks) fn quotas_and_limits(facts: &ClusterFacts) -> Result<Verdict, Verdict> {
    let spaces = user_namespaces(facts)?;
    let quotas = of(facts, ObjectKind::ResourceQuotas)?;
    let ranges = of(facts, ObjectKind::LimitRanges)?;
    let mut wrong = Vec::new();
    for space in &spaces {
        let within = |all: &'_ [Value]| -> Vec<Value> {
            all.iter().filter(|o| namespace(o) == *space).cloned().collect()
        };
        let (quotas, ranges) = (within(quotas), within(ranges));
        if quotas.is_empty() {
            wrong.push(format!("{space} has no ResourceQuota"));
        } else {
            let unbounded = BOUNDED.iter().filter(|(_, keys, most)| !bounds(&quotas, keys, *most));
            let words: Vec<&str> = unbounded.map(|(word, ..)| *word).collect();
            if !words.is_empty() {
                wrong.push(format!("no ResourceQuota of {space} bounds {}", words.join(", ")));
            }
        }
        if ranges.is_empty() {
            wrong.push(format!("{space} has no LimitRange"));
        } else if !ranges.iter().any(has_defaults) {
            wrong.push(format!("no LimitRange of {space} has defaults for containers"));
        }
    }
    let expected =
        "a ResourceQuota that bounds pods, CPU and memory, and a LimitRange with defaults, in each";
    Ok(none_of(expected, wrong, format!("both in {}", spaces.join(", "))))
}

/// Whether one of some quotas bounds a resource for all pods: one with scopes is about some of them.
fn bounds(quotas: &[Value], keys: &[&str], most: f64) -> bool {
    let for_all = |q: &&Value| {
        list(q, "/spec/scopes").is_empty()
            && list(q, "/spec/scopeSelector/matchExpressions").is_empty()
    };
    let hard = |q: &Value, key: &str| q.pointer("/spec/hard")?.get(key).and_then(quantity);
    quotas
        .iter()
        .filter(for_all)
        .any(|q| keys.iter().any(|key| hard(q, key).is_some_and(|limit| limit < most)))
}

/// Whether a container that says nothing gets bounds: a limit of memory, and a share or a limit of CPU. What a range
/// names as the most is the default too (`SetDefaults_LimitRangeItem` in Kubernetes).
fn has_defaults(range: &Value) -> bool {
    let given = |item: &Value, at: &str, key: &str| {
        item.get(at).and_then(|o| o.get(key)).and_then(quantity).is_some()
    };
    list(range, "/spec/limits").iter().any(|item| {
        item.get("type").is_some_and(|t| t == "Container")
            && (given(item, "default", "memory") || given(item, "max", "memory"))
            && ["default", "defaultRequest", "max"].iter().any(|at| given(item, at, "cpu"))
    })
}

/// A quantity (apimachinery's `resource.Quantity`): a number with a suffix of SI, of powers of two, or an exponent.
fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    const SUFFIXES: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text.as_str(), 1.0));
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, number) in [
            ("100", 100.0),
            ("50m", 0.05),
            ("64Mi", 67_108_864.0),
            ("1.5Gi", 1_610_612_736.0),
            ("2k", 2000.0),
            ("12e6", 12e6),
            ("1E", 1e18),
        ] {
            assert_eq!(quantity(&json!(text)), Some(number), "{text}");
        }
        assert_eq!(quantity(&json!(7)), Some(7.0));
        for bad in [json!(""), json!("Mi"), json!("many"), json!(null), json!("inf"), json!("NaN")]
        {
            assert_eq!(quantity(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quota_bounds_what_it_names_for_every_pod() {
        let quota = |hard: Value| json!({"spec": {"hard": hard}});
        let unbounded = |quotas: &[Value]| -> Vec<&str> {
            let left = BOUNDED.iter().filter(|(_, keys, most)| !bounds(quotas, keys, *most));
            left.map(|(word, ..)| *word).collect()
        };
        let whole = quota(json!({"pods": "100", "requests.cpu": "16", "limits.memory": "64Gi"}));
        assert!(unbounded(std::slice::from_ref(&whole)).is_empty());
        // One for each is as good.
        let parts = [quota(json!({"count/pods": 10})), quota(json!({"cpu": "4", "memory": "8Gi"}))];
        assert!(unbounded(&parts).is_empty());
        assert_eq!(unbounded(&[quota(json!({}))]).len(), 3);
        assert_eq!(unbounded(&[json!({"spec": {}})]).len(), 3);
        let wide = quota(json!({"pods": "1M", "cpu": "1e9", "memory": "1Ei"}));
        assert_eq!(unbounded(&[wide]).len(), 3);
        let mut some = whole.clone();
        some["spec"]["scopes"] = json!(["Terminating"]);
        assert_eq!(unbounded(&[some]).len(), 3);
        let mut some = whole;
        some["spec"]["scopeSelector"] = json!({"matchExpressions": [{"scopeName": "BestEffort"}]});
        assert_eq!(unbounded(&[some]).len(), 3);
    }

    #[test]
    fn what_kubastion_creates_bounds() {
        let [range, quota] = crate::desired::objects::resources().map(|o| o.body);
        assert!(has_defaults(&range));
        let quotas = [quota];
        assert!(BOUNDED.iter().all(|(_, keys, most)| bounds(&quotas, keys, *most)));
        let of = |item: Value| has_defaults(&json!({"spec": {"limits": [item]}}));
        assert!(of(json!({"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}})));
        assert!(!of(json!({"type": "Container", "min": {"cpu": "1m", "memory": "1Mi"}})));
        assert!(!of(json!({"type": "Pod", "max": {"cpu": "1", "memory": "1Gi"}})));
        assert!(!of(json!({"type": "Container", "default": {"cpu": "1"}})));
    }
}
