//! Extensions between a request and the API server's storage: webhooks, admission policies, aggregated APIs. They see or
//! change requests, including Secrets.

use crate::checks::cluster::reading::is_allowed;
use crate::checks::cluster::reading::over;
use serde_json::Value;

use crate::checks::cluster::reading::{Cluster, none_of, of};
use crate::checks::model::Verdict;
use crate::desired::objects::POLICY;
use crate::facts::cluster::{ClusterFacts, ObjectKind, list, name, text};
use crate::inventory::AllowedKind;

/// What a webhook is asked about, in words; the most telling first.
fn sees(webhook: &Value) -> String {
    let rules = list(webhook, "/rules");
    let asked = |resource: &str, group: &str| {
        rules.iter().any(|r| {
            let holds = |at, wanted: &str| list(r, at).iter().any(|v| v == wanted || v == "*");
            let any = list(r, "/resources").iter().any(|v| v == "*/*");
            (any || holds("/resources", resource)) && holds("/apiGroups", group)
        })
    };
    let seen: Vec<&str> = [("secrets", ""), ("pods", ""), ("serviceaccounts", "")]
        .into_iter()
        .filter(|(resource, group)| asked(resource, group))
        .map(|(resource, _)| resource)
        .collect();
    let others = rules.iter().flat_map(|r| list(r, "/resources")).filter_map(Value::as_str);
    match seen.is_empty() {
        false => seen.join(", "),
        true => others.take(3).collect::<Vec<_>>().join(", "),
    }
}

pub(in crate::checks) fn webhooks_known(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let kinds = [
        (ObjectKind::ValidatingWebhooks, AllowedKind::ValidatingWebhookConfiguration, "sees"),
        (
            ObjectKind::MutatingWebhooks,
            AllowedKind::MutatingWebhookConfiguration,
            "sees and changes",
        ),
    ];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (kind, allowed, does) in kinds {
        for object in of(on.facts, kind)? {
            count += 1;
            let webhooks = list(object, "/webhooks");
            if !is_allowed(on, allowed, name(object)) {
                let seen: Vec<String> =
                    webhooks.iter().map(sees).filter(|s| !s.is_empty()).collect();
                wrong.push(format!("{allowed} {} {does} {}", name(object), seen.join(", ")));
                continue;
            }
            // One that changes requests may do so where it can: what it leaves is judged all the same.
            let ignores = |w: &&Value| text(w, "/failurePolicy") == "Ignore";
            if kind == ObjectKind::ValidatingWebhooks && webhooks.iter().any(|w| ignores(&w)) {
                wrong.push(format!("{allowed} {} fails open", name(object)));
            }
        }
        wrong.extend(over(on, allowed));
    }
    // Releases that have none are not asked for them.
    let minor = on.inventory.cluster.kubernetes.minor;
    if minor >= ObjectKind::MutatingPolicies.since_minor() {
        let kind = AllowedKind::MutatingAdmissionPolicy;
        for object in of(on.facts, ObjectKind::MutatingPolicies)? {
            count += 1;
            let own = name(object) == POLICY;
            if !own && !is_allowed(on, kind, name(object)) {
                wrong.push(format!("{kind} {} changes requests", name(object)));
            }
        }
        wrong.extend(over(on, kind));
    }
    // One of a Service is in the cluster, with the rights of its pods.
    let kind = AllowedKind::CustomResourceDefinition;
    for object in of(on.facts, ObjectKind::CustomResources)? {
        let url = text(object, "/spec/conversion/webhook/clientConfig/url");
        count += usize::from(!url.is_empty());
        if !url.is_empty() && !is_allowed(on, kind, name(object)) {
            wrong.push(format!("{kind} {} converts objects through {url}", name(object)));
        }
    }
    wrong.extend(over(on, kind));
    let kind = AllowedKind::CsiDriver;
    for driver in of(on.facts, ObjectKind::CsiDrivers)? {
        let given = !list(driver, "/spec/tokenRequests").is_empty();
        count += usize::from(given);
        if given && !is_allowed(on, kind, name(driver)) {
            wrong.push(format!("{kind} {} receives pod tokens", name(driver)));
        }
    }
    wrong.extend(over(on, kind));
    let expected = "webhooks, policies and drivers that `hardening.allowed_objects` names";
    Ok(none_of(expected, wrong, format!("{count} known")))
}

pub(in crate::checks) fn aggregated_apis_known(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let services = of(on.facts, ObjectKind::ApiServices)?;
    if !services.iter().any(|s| name(s) == "v1.") {
        return Err(Verdict::unknown("the list of APIServices lacks `v1.`"));
    }
    let kind = AllowedKind::ApiService;
    let mut wrong = over(on, kind);
    for service in services {
        // Without a Service, the API server answers itself.
        let Some(to) = service.pointer("/spec/service").filter(|s| !s.is_null()) else { continue };
        let (called, to) =
            (name(service), format!("{}/{}", text(to, "/namespace"), text(to, "/name")));
        if !is_allowed(on, kind, called) {
            wrong.push(format!("{kind} {called} is served by {to}"));
        } else if service.pointer("/spec/insecureSkipTLSVerify") == Some(&Value::Bool(true)) {
            wrong.push(format!("{kind} {called} accepts any certificate for {to}"));
        }
    }
    let expected =
        "APIs that the API server serves itself, and those that `hardening.allowed_objects` names";
    Ok(none_of(expected, wrong, format!("{} APIServices", services.len())))
}

/// Whether a policy is asked about every pod that is created.
fn is_about_pods(policy: &Value) -> bool {
    let has = |rule: &Value, at: &str, wanted: &str| {
        list(rule, at).iter().any(|v| v == wanted || v == "*")
    };
    list(policy, "/spec/matchConstraints/resourceRules").iter().any(|r| {
        has(r, "/apiGroups", "")
            && has(r, "/apiVersions", "v1")
            && has(r, "/operations", "CREATE")
            && (has(r, "/resources", "pods") || list(r, "/resources").iter().any(|v| v == "*/*"))
            && list(r, "/resourceNames").is_empty()
            && text(r, "/scope") != "Cluster"
    })
}

/// What keeps a policy from being asked about something that its rules name.
fn narrowed_policy(policy: &Value) -> Option<&'static str> {
    const NARROWING: &[(&str, &str)] = &[
        ("/spec/paramKind", "depends on a parameter"),
        ("/spec/matchConditions", "has conditions"),
        ("/spec/matchConstraints/namespaceSelector", "excludes namespaces"),
        ("/spec/matchConstraints/objectSelector", "excludes objects"),
        ("/spec/matchConstraints/excludeResourceRules", "excludes resources"),
    ];
    let narrows = |at: &str| !policy.pointer(at).is_none_or(is_nothing);
    let by = NARROWING.iter().find(|(at, _)| narrows(at)).map(|(_, words)| *words);
    by.or_else(|| (text(policy, "/spec/failurePolicy") == "Ignore").then_some("fails open"))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        // The API server fills in empty selectors.
        Value::Object(o) => o.values().all(is_nothing),
        _ => false,
    }
}

/// What keeps a binding from putting its policy in force for everything that the policy is about.
fn narrowed_binding(binding: &Value) -> Option<&'static str> {
    if !list(binding, "/spec/validationActions").iter().any(|a| a == "Deny") {
        return Some("is bound without Deny");
    }
    // `matchPolicy` alone, which the API server fills in, leaves nothing out.
    let narrowing =
        ["namespaceSelector", "objectSelector", "resourceRules", "excludeResourceRules"];
    let narrows = |key: &str| {
        let at = format!("/spec/matchResources/{key}");
        !binding.pointer(&at).is_none_or(is_nothing)
    };
    if narrowing.iter().any(|k| narrows(k)) {
        return Some("is bound for some objects only");
    }
    let by = !binding.pointer("/spec/paramRef").is_none_or(is_nothing);
    by.then_some("depends on a parameter")
}

pub(in crate::checks) fn secrets_not_in_environment(
    facts: &ClusterFacts,
) -> Result<Verdict, Verdict> {
    let policies = of(facts, ObjectKind::ValidatingPolicies)?;
    let bindings = of(facts, ObjectKind::ValidatingBindings)?;
    let looks = |p: &&Value| {
        let expressions = ["/spec/validations", "/spec/variables"].into_iter();
        let all: Vec<&str> =
            expressions.flat_map(|at| list(p, at)).map(|v| text(v, "/expression")).collect();
        ["secretKeyRef", "secretRef"].iter().all(|k| all.iter().any(|e| e.contains(k)))
    };
    let mut why = Vec::new();
    for policy in policies.iter().filter(|p| looks(p)) {
        let called = name(policy);
        let own = bindings.iter().filter(|b| text(b, "/spec/policyName") == called);
        let bound: Vec<Option<&str>> = own.map(narrowed_binding).collect();
        let found = if !is_about_pods(policy) {
            Some("does not cover pods")
        } else if let Some(narrowed) = narrowed_policy(policy) {
            Some(narrowed)
        } else if bound.contains(&None) {
            None
        } else {
            Some(bound.into_iter().flatten().next().unwrap_or("is not bound"))
        };
        match found {
            None => return Ok(Verdict::pass(format!("ValidatingAdmissionPolicy {called}"))),
            Some(found) => why.push(format!("{called} {found}")),
        }
    }
    if why.is_empty() {
        why.push(format!("none among {}", policies.len()));
    }
    let expected =
        "a ValidatingAdmissionPolicy on secretKeyRef and secretRef of pods, bound with Deny";
    Ok(none_of(expected, why, String::new()))
}
