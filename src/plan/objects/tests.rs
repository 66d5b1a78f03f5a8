//! Objects as they are and as somebody changed them.

use crate::controls::IdList;
use crate::facts::cluster::PROBE_LABEL;
use serde_json::{Value, json};

use super::*;
use crate::desired::differences::{differences, is_as_desired, merge_patch, without_nothing};
use crate::desired::objects::{mount_nothing, resources, traffic};
use crate::inventory::{Role, testing};
use crate::plan::cluster::changes;

fn inventory() -> Inventory {
    testing::of_nodes([("cp1", Role::ControlPlane), ("w1", Role::Worker)])
}

fn own() -> impl Iterator<Item = DesiredObject> {
    traffic().into_iter().chain(resources())
}

/// As a list of an API server has it, which fills fields in.
fn served(object: &DesiredObject) -> Value {
    let mut served = object.body.clone();
    let fields = served.as_object_mut().unwrap();
    fields.remove("apiVersion");
    fields.remove("kind");
    served["metadata"]["uid"] = json!("u");
    served["metadata"]["resourceVersion"] = json!("1");
    served["metadata"]["managedFields"] = json!([
        {"manager": "kubastion", "operation": "Apply", "fieldsV1": {"f:spec": {"f:x": {}}}},
    ]);
    served["status"] = json!({"hard": {"pods": "1"}});
    served
}

fn said(object: &DesiredObject, found: &Value) -> Vec<String> {
    differences(object, Some(found)).iter().map(ToString::to_string).collect()
}

#[test]
fn an_object_is_as_it_was_created_or_what_differs_is_named() {
    type Break = fn(&mut Value);
    let [dns, deny] = traffic();
    let [limits, quota] = resources();
    for object in own() {
        let mut served = served(&object);
        assert_eq!(said(&object, &served), Vec::<String>::new());
        served["spec"]["ingress"] = json!([]);
        served["spec"]["scopes"] = Value::Null;
        assert_eq!(said(&object, &served), Vec::<String>::new(), "empty is as good as none");
        served["spec"]["ingress"] = json!([{}]);
        assert_eq!(said(&object, &served), ["spec.ingress: [{}] -> (none)"]);
        assert!(!said(&object, &json!({"metadata": {}})).is_empty());
        assert!(!said(&object, &json!({"spec": [1]})).is_empty());
    }
    let rows: [(&DesiredObject, Break, &str); 5] = [
        (
            &deny,
            |o| o["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}}),
            "spec.podSelector.matchLabels: {\"a\":\"b\"} -> (none)",
        ),
        (
            &deny,
            |o| o["spec"]["policyTypes"] = json!(["Ingress"]),
            "spec.policyTypes: [\"Ingress\"] -> [\"Ingress\",\"Egress\"]",
        ),
        (
            &dns,
            |o| o["spec"]["egress"][0]["ports"][1]["port"] = json!(54),
            "spec.egress[0].ports[1].port: 54 -> 53",
        ),
        (
            &quota,
            |o| o["spec"]["hard"]["pods"] = json!("100000"),
            "spec.hard.pods: \"100000\" -> \"100\"",
        ),
        (
            &limits,
            |o| drop(o["spec"]["limits"][0].as_object_mut().unwrap().remove("default")),
            "spec.limits[0].default.cpu: (none) -> \"500m\"",
        ),
    ];
    for (object, change, wanted) in rows {
        let mut found = served(object);
        change(&mut found);
        assert_eq!(said(object, &found)[0], wanted);
    }
}

#[test]
fn defaults_are_overlooked_and_weakening_is_not() {
    let [policy, binding] = mount_nothing();
    let mut good = served(&policy);
    good["spec"]["matchConstraints"]["namespaceSelector"] = json!({});
    good["spec"]["matchConstraints"]["matchPolicy"] = json!("Equivalent");
    assert_eq!(said(&policy, &good), Vec::<String>::new());
    let weakened: [fn(&mut Value); 7] = [
        |o| o["spec"]["failurePolicy"] = json!("Ignore"),
        |o| o["spec"]["matchConditions"][0]["expression"] = json!("false"),
        |o| {
            let more = json!({"name": "never", "expression": "false"});
            o["spec"]["matchConditions"].as_array_mut().unwrap().push(more);
        },
        |o| o["spec"]["matchConstraints"]["excludeResourceRules"] = json!([{"operations": ["*"]}]),
        |o| o["spec"]["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster"),
        |o| o["spec"]["mutations"] = json!([]),
        |o| o["spec"]["paramKind"] = json!({"kind": "X"}),
    ];
    for weaken in weakened {
        let mut object = good.clone();
        weaken(&mut object);
        assert_eq!(said(&policy, &object).len(), 1, "{object}");
        assert!(!is_as_desired(&policy, &[object]));
    }
    let mut other = good.clone();
    other["metadata"]["name"] = json!("another");
    assert!(is_as_desired(&policy, &[other.clone(), good]) && !is_as_desired(&policy, &[other]));
    let mut narrow = served(&binding);
    assert!(is_as_desired(&binding, std::slice::from_ref(&narrow)));
    narrow["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
    assert!(!is_as_desired(&binding, &[narrow]));
}

#[test]
fn of_an_object_of_others_only_what_is_wanted_or_was_once_counts() {
    let all = objects(&inventory(), [], Wanted::ALL);
    let nodes: Vec<&DesiredObject> = all.iter().filter(|o| o.kind == ObjectKind::Nodes).collect();
    let [plane, node] = nodes.as_slice() else { panic!("{nodes:?}") };
    let managed = json!([{"manager": "kubastion", "operation": "Apply",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}]);
    let bare = json!({"metadata": {"name": "cp1"}});
    assert_eq!(said(plane, &bare), Vec::<String>::new());
    let once = json!({"metadata": {"name": "cp1", "labels": {"a": "b"}, "managedFields": managed}});
    assert_eq!(said(plane, &once), ["metadata.labels.a: \"b\" -> (none)"]);
    let label = "metadata.labels[node-role.kubernetes.io/worker]";
    assert_eq!(
        said(node, &json!({"metadata": {"name": "w1"}})),
        [format!("{label}: (none) -> \"\"")]
    );
    let mut found = json!({
        "metadata": {"name": "w1", "labels": {"node-role.kubernetes.io/worker": "", "a": "b"}},
        "spec": {"taints": [1]},
    });
    assert_eq!(said(node, &found), Vec::<String>::new());
    let owned = |manager: &str, operation: &str| {
        json!([{"manager": manager, "operation": operation, "fieldsV1": {"f:metadata": {"f:labels":
            {".": {}, "f:a": {}, "f:gone": {}, "f:node-role.kubernetes.io/worker": {}}}}}])
    };
    found["metadata"]["managedFields"] = owned("kubastion", "Apply");
    assert_eq!(said(node, &found), ["metadata.labels.a: \"b\" -> (none)"]);
    for other in [owned("kubectl", "Apply"), owned("kubastion", "Update")] {
        found["metadata"]["managedFields"] = other;
        assert_eq!(said(node, &found), Vec::<String>::new());
    }
}

#[test]
fn a_value_of_any_size_has_a_line_of_its_own() {
    let [_, quota] = resources();
    let mut found = served(&quota);
    found["spec"]["scopes"] = json!(["x".repeat(1 << 20), "\u{1b}[2K\u{202e}"]);
    let all = differences(&quota, Some(&found));
    let said = all[0].to_string();
    assert!(said.len() < 300 && !said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    // Two values that begin equal are two values.
    found["spec"]["scopes"][1] = json!("y");
    assert_ne!(all, differences(&quota, Some(&found)));
}

#[test]
fn a_plan_covers_less_than_it_shows_and_not_more() {
    let [_, quota] = resources();
    let change = |break_it: fn(&mut Value)| {
        let mut found = served(&quota);
        break_it(&mut found);
        ApiChange::Apply {
            action: Action::Change,
            object: quota.body.clone(),
            differs: differences(&quota, Some(&found)),
            after: None,
            controls: IdList::default(),
        }
    };
    let two = change(|o| {
        o["spec"]["hard"]["pods"] = json!("1");
        o["spec"]["scopes"] = json!(["BestEffort"]);
    });
    let one = change(|o| o["spec"]["hard"]["pods"] = json!("1"));
    let other = change(|o| o["spec"]["hard"]["pods"] = json!("2"));
    let is_in =
        |due: &ApiChange, plan: &ApiChange| due.is_in(std::slice::from_ref(plan), true, |_| true);
    assert!(is_in(&two, &two) && is_in(&one, &two));
    assert!(!is_in(&two, &one) && !is_in(&other, &one) && !is_in(&other, &two));
}

/// Facts about namespaces alone.
fn spaces(pods: Value) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    let mut put = |kind, items: Value| facts.insert(kind, &mut json!({"items": items})).unwrap();
    let account = |space: &str| json!({"metadata": {"namespace": space, "name": "default"}});
    let mut done = account("done");
    done["automountServiceAccountToken"] = json!(false);
    put(
        ObjectKind::Namespaces,
        json!([
            {"metadata": {"name": "default"}}, {"metadata": {"name": "shop"}},
            {"metadata": {"name": "done"}},
            {"metadata": {"name": "kubastion-probe-p", "labels": {PROBE_LABEL: "true"}}},
            {"metadata": {"name": "t"}, "status": {"phase": "Terminating"}},
        ]),
    );
    put(
        ObjectKind::ServiceAccounts,
        // The account of `shop` is not made yet.
        json!([account("default"), done, account("kubastion-probe-p"), account("t")]),
    );
    for kind in [ObjectKind::NetworkPolicies, ObjectKind::ResourceQuotas, ObjectKind::LimitRanges] {
        put(kind, json!([]));
    }
    put(ObjectKind::Pods, pods);
    facts
}

#[test]
fn namespaces_in_use_are_left_to_their_owners() {
    let said = |facts: &ClusterFacts| -> Vec<String> {
        changes(&inventory(), facts, Wanted::ALL).iter().map(ToString::to_string).collect()
    };
    let account = |space: &str| {
        format!(
            "change ServiceAccount {space}/default: automountServiceAccountToken: (none) -> false"
        )
    };
    let (of_default, of_shop) = (account("default"), account("shop"));
    const CREATED: &[&str] = &[
        "create NetworkPolicy default/kubastion-allow-dns",
        "create NetworkPolicy default/kubastion-default-deny",
        "create LimitRange default/kubastion-limits",
        "create ResourceQuota default/kubastion-quota",
    ];
    let all = said(&spaces(json!([])));
    assert_eq!(all[..2], [of_default.clone(), of_shop.clone()]);
    assert_eq!(&all[2..], CREATED);
    let token = json!([{"projected": {"sources": [{"serviceAccountToken": {}}]}}]);
    let pod = |space: &str| {
        json!({"metadata": {"namespace": space, "name": "x"},
        "spec": {"serviceAccountName": "default", "volumes": token.clone()}})
    };
    assert_eq!(said(&spaces(json!([pod("default")]))), [of_shop]);
    assert_eq!(said(&spaces(json!([pod("shop")])))[..1], [of_default]);
    let mut unread = spaces(json!([]));
    unread.objects.remove(&ObjectKind::Pods);
    assert!(said(&unread).is_empty());
    let mut blind = spaces(json!([]));
    blind.objects.remove(&ObjectKind::ServiceAccounts);
    assert_eq!(said(&blind), CREATED);
    let mut partly = spaces(json!([]));
    partly.objects.remove(&ObjectKind::NetworkPolicies);
    assert_eq!(said(&partly)[2..], CREATED[2..]);
    // A quota alone would refuse pods that name no limits.
    partly.objects.remove(&ObjectKind::LimitRanges);
    assert_eq!(said(&partly).len(), 2);
}

#[test]
fn an_object_of_kubastion_that_was_changed_is_put_back_and_those_of_others_are_left_alone() {
    type Objects = Vec<(ObjectKind, Value)>;
    const LISTS: &[ObjectKind] =
        &[ObjectKind::NetworkPolicies, ObjectKind::ResourceQuotas, ObjectKind::LimitRanges];
    // Every object of ours in `default`, which is in use, as somebody changed them.
    let said = |in_use: bool, change: &dyn Fn(&mut Objects)| -> Vec<String> {
        let pods = match in_use {
            true => json!([{"metadata": {"namespace": "default", "name": "x"}}]),
            false => json!([]),
        };
        let mut facts = spaces(pods);
        let mut objects: Objects = own().map(|o| (o.kind, served(&o))).collect();
        change(&mut objects);
        for &kind in LISTS {
            let items = objects.iter().filter(|(k, _)| *k == kind).map(|(_, o)| o.clone());
            facts.objects.insert(kind, items.collect());
        }
        let all = changes(&inventory(), &facts, Wanted::ALL).into_iter();
        all.map(|c| c.to_string()).filter(|c| !c.contains("ServiceAccount")).collect()
    };
    for in_use in [true, false] {
        assert_eq!(said(in_use, &|_| ()), Vec::<String>::new());
        for (i, object) in own().enumerate() {
            let called = format!("{} default/{}", object.word(), object.name());
            let changed = said(in_use, &|all| all[i].1["spec"]["more"] = json!("x"));
            assert_eq!(changed, [format!("change {called}: spec.more: \"x\" -> (none)")]);
            // Putting it back could cut off pods that were created since.
            let gone = said(in_use, &|all| drop(all.remove(i)));
            let mended = if in_use { vec![] } else { vec![format!("create {called}")] };
            assert_eq!(gone, mended, "{}", object.name());
            // Somebody wants another one.
            let replaced = said(in_use, &|all| all[i].1["metadata"]["name"] = json!("mine"));
            assert_eq!(replaced, Vec::<String>::new());
        }
    }
    assert_eq!(said(false, &|all| all.clear()).len(), 4);
    let off = Wanted { default_deny: false, quotas: false, ..Wanted::ALL };
    let mut facts = spaces(json!([]));
    facts.objects.insert(
        ObjectKind::NetworkPolicies,
        vec![json!({"metadata":
        {"namespace": "default", "name": "kubastion-default-deny"}})],
    );
    assert!(
        !changes(&inventory(), &facts, off).iter().any(|c| c.to_string().contains("kubastion-"))
    );
}

#[test]
fn a_label_alone_hides_no_namespace() {
    let mut facts = spaces(json!([]));
    let shop = &mut facts.objects.get_mut(&ObjectKind::Namespaces).unwrap()[1];
    assert_eq!(name(shop), "shop");
    shop["metadata"]["labels"] = json!({PROBE_LABEL: "true"});
    let due = changes(&inventory(), &facts, Wanted::ALL);
    assert!(due.iter().any(|c| c.object() == Some(("shop", "default"))));
}

#[test]
fn namespaces_to_come_have_their_policy_where_the_release_knows_it() {
    let said = |policies: Option<Vec<Value>>| {
        let mut facts = ClusterFacts::default();
        if let Some(objects) = policies {
            for wanted in mount_nothing() {
                let mut mine = objects.clone();
                mine.retain(|o| {
                    o["spec"].get("policyName") == wanted.body["spec"].get("policyName")
                });
                facts.insert(wanted.kind, &mut json!({"items": mine})).unwrap();
            }
        }
        changes(&inventory(), &facts, Wanted::ALL)
    };
    let objects = mount_nothing().map(|o| served(&o));
    let words = |changes: Vec<ApiChange>| -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    };
    let create = |word: &str| format!("create {word} kubastion-default-service-accounts");
    let (policy, binding) =
        (create("MutatingAdmissionPolicy"), create("MutatingAdmissionPolicyBinding"));
    assert_eq!(said(None), []);
    assert_eq!(words(said(Some(vec![]))), [policy, binding]);
    let both = |list: Vec<Value>| words(said(Some(list)));
    assert_eq!(both(objects.to_vec()), Vec::<String>::new());
    let mut weak = objects.clone();
    weak[0]["spec"]["failurePolicy"] = json!("Ignore");
    assert_eq!(
        both(weak.to_vec()),
        ["change MutatingAdmissionPolicy kubastion-default-service-accounts: \
          spec.failurePolicy: \"Ignore\" -> \"Fail\""]
    );
}

fn value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..3_i32).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// RFC 7396 section 2.
fn patched(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(key)),
            value => {
                let before = target.get(key).cloned().unwrap_or_default();
                target.insert(key.clone(), patched(&before, value));
            }
        }
    }
    Value::Object(target)
}

proptest::proptest! {
    #[test]
    fn a_merge_patch_makes_the_one_of_the_other(from in value(), to in value()) {
        proptest::prop_assert_eq!(patched(&from, &merge_patch(&from, &to)), to);
    }

    #[test]
    fn an_object_differs_in_nothing_only_if_it_is_the_same(spec in value(), other in value()) {
        let [_, mut quota] = resources();
        quota.body["spec"] = spec.clone();
        let mut found = served(&quota);
        proptest::prop_assert_eq!(said(&quota, &found), Vec::<String>::new());
        found["spec"] = other.clone();
        let same = without_nothing(&spec) == without_nothing(&other);
        proptest::prop_assert_eq!(said(&quota, &found).is_empty(), same, "{} {}", spec, other);
    }

    #[test]
    fn no_object_of_anybody_breaks_a_plan(items in value()) {
        let mut facts = ClusterFacts::default();
        for &(kind, _) in ObjectKind::ALL {
            facts.objects.insert(kind, vec![items.clone()]);
        }
        for change in changes(&inventory(), &facts, Wanted::ALL) {
            proptest::prop_assert!(!change.to_string().contains('\n'));
        }
    }
}
