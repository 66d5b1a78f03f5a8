//! What pods, nodes and service accounts must not do, tried in a namespace of the attack's own.
//!
//! Objects are created with `dryRun=All`: admission decides, and nothing is kept.

use serde_json::{Value, json};

use super::Judged;
use super::caller::{Answered, Call, Expect, heard, judge, only_if};
use crate::checks::Verdict;
use crate::controls::Attack;
use crate::secret::Secret;

/// Name of the attack's service account.
pub(super) const ACCOUNT: &str = "probe";
/// Name of the attack's Secret.
pub(super) const SECRET: &str = "probe";

/// An attempt, before it is made.
pub(super) struct Try {
    pub attack: Attack,
    pub what: &'static str,
    pub call: Call,
    pub expect: Expect,
}

/// Attempts with what came of them. The first of a table is what has to work: where it does not,
/// refusals of the others prove nothing.
pub(super) fn verdicts(tries: &[Try], answers: &[Answered]) -> Vec<(Attack, String, Judged)> {
    let judged: Vec<Verdict> =
        tries.iter().zip(answers).map(|(t, answer)| judge(t.expect, answer)).collect();
    let Some(positive) = judged.first().cloned() else { return Vec::new() };
    tries
        .iter()
        .zip(answers)
        .zip(judged)
        .map(|((t, answer), verdict)| {
            let verdict = only_if(&positive, verdict);
            (t.attack, t.what.to_owned(), Judged::by(heard(answer), verdict))
        })
        .collect()
}

/// A pod that fulfils the restricted standard
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
fn compliant() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
        "spec": {
            "serviceAccountName": ACCOUNT, "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "c", "image": "registry.k8s.io/pause:3.10",
                "resources": {
                    "requests": {"cpu": "1m", "memory": "1Mi"},
                    "limits": {"cpu": "1m", "memory": "1Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// A change that makes a pod break the standard, in words, where in the pod, and to what.
fn bad_pods() -> Vec<(&'static str, &'static str, Value)> {
    const CONTAINER: &str = "/spec/containers/0/securityContext";
    vec![
        ("a privileged pod", CONTAINER, json!({"privileged": true})),
        ("a pod on the host's network", "/spec/hostNetwork", json!(true)),
        ("a pod in the host's process namespace", "/spec/hostPID", json!(true)),
        ("a pod in the host's IPC namespace", "/spec/hostIPC", json!(true)),
        (
            "a pod with a directory of the host",
            "/spec/volumes",
            json!([{"name": "v", "hostPath": {"path": "/"}}]),
        ),
        (
            "a pod with a port of the host",
            "/spec/containers/0/ports",
            json!([{"containerPort": 48123, "hostPort": 48123}]),
        ),
        (
            "a pod that runs as root",
            "/spec/securityContext",
            json!({"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        (
            "a pod with an added capability",
            CONTAINER,
            json!({"allowPrivilegeEscalation": false,
                   "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}),
        ),
        (
            "a pod without a seccomp profile",
            "/spec/securityContext",
            json!({"runAsNonRoot": true, "runAsUser": 65534}),
        ),
    ]
}

/// Puts a value at a pointer whose parent is there.
fn put(object: &mut Value, pointer: &str, value: Value) {
    if let Some((parent, member)) = pointer.rsplit_once('/')
        && let Some(Value::Object(parent)) = object.pointer_mut(parent)
    {
        parent.insert(member.to_owned(), value);
    }
}

/// What an administrator tries: even for one, admission says no.
pub(super) fn admission(space: &str) -> Vec<Try> {
    let pods = format!("/api/v1/namespaces/{space}/pods?dryRun=All");
    let mut tries = vec![Try {
        attack: Attack::PodSecurity,
        what: "create a pod that meets the restricted standard (dry run)",
        call: Call::post(&pods, compliant()),
        expect: Expect::Status(201),
    }];
    for (what, at, value) in bad_pods() {
        let mut pod = compliant();
        put(&mut pod, at, value);
        let (call, expect) = (Call::post(&pods, pod), Expect::Denied("violates PodSecurity"));
        tries.push(Try { attack: Attack::PodSecurity, what, call, expect });
    }
    let mut nobody = compliant();
    put(&mut nobody, "/spec/serviceAccountName", json!("nobody"));
    tries.push(Try {
        attack: Attack::MissingServiceAccount,
        what: "create a pod with a service account that does not exist (dry run)",
        call: Call::post(&pods, nobody),
        expect: Expect::Denied("error looking up service account"),
    });
    tries.push(Try {
        attack: Attack::MissingNamespace,
        what: "create a ConfigMap in a namespace that does not exist (dry run)",
        call: Call::post(
            format!("/api/v1/namespaces/{space}-gone/configmaps?dryRun=All"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}),
        ),
        expect: Expect::Status(404),
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe"},
        // TEST-NET-1, RFC 5737.
        "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]},
    });
    tries.push(Try {
        attack: Attack::ExternalIps,
        what: "create a Service that claims an external address (dry run)",
        call: Call::post(format!("/api/v1/namespaces/{space}/services?dryRun=All"), service),
        expect: Expect::Denied("external IPs"),
    });
    tries
}

/// A good pod whose image would be taken from the node's store if it is there.
pub(super) fn cached_pod() -> Value {
    let mut pod = compliant();
    put(&mut pod, "/spec/containers/0/imagePullPolicy", json!("IfNotPresent"));
    pod
}

/// Whether AlwaysPullImages has changed [`cached_pod`] on its way in.
pub(super) fn pulled_anew(answer: &Answered) -> Verdict {
    let created = judge(Expect::Status(201), answer);
    let (Verdict::Pass { .. }, Ok(answer)) = (&created, answer) else { return created };
    let pod: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match pod.pointer("/spec/containers/0/imagePullPolicy").and_then(Value::as_str) {
        Some("Always") => Verdict::pass("imagePullPolicy: Always"),
        Some(other) => {
            Verdict::fail("imagePullPolicy: Always", format!("imagePullPolicy: {other}"))
        }
        None => Verdict::unknown("the answer holds no pod"),
    }
}

/// An event, as any component writes it.
pub(super) fn event_in(space: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "Probe",
        "metadata": {"name": "probe"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "probe", "namespace": space},
    })
}

/// Whether EventRateLimit had a say in an event that was just created. Its limits themselves are far
/// above what an attack should send: the configuration file is judged for those.
pub(super) fn limited(answers: &[Answered]) -> Verdict {
    let [event, metrics] = answers else { return Verdict::unknown("no request was made") };
    let created = judge(Expect::Status(201), event);
    if !matches!(created, Verdict::Pass { .. }) {
        return created;
    }
    let readable = judge(Expect::Status(200), metrics);
    let (Verdict::Pass { .. }, Ok(metrics)) = (&readable, metrics) else { return readable };
    // Kubernetes Metrics Reference, v1.36: a histogram by name, operation, rejected and type.
    let page = String::from_utf8_lossy(&metrics.body);
    let mut counts = page.lines().filter(|l| {
        l.starts_with("apiserver_admission_controller_admission_duration_seconds_count{")
    });
    let of = |name: &str| format!("name=\"{name}\"");
    let counted = |l: &str| l.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()) > Some(0.0);
    let create = "operation=\"CREATE\"";
    match () {
        () if counts
            .clone()
            .any(|l| l.contains(&of("EventRateLimit")) && l.contains(create) && counted(l)) =>
        {
            Verdict::pass("EventRateLimit handled the event")
        }
        () if counts.any(|l| l.contains(&of("NamespaceLifecycle"))) => {
            Verdict::fail("EventRateLimit handles events", "no event passed through it")
        }
        () => Verdict::unknown("the metrics do not show which admission plugins ran"),
    }
}

/// What the kubelet of `own` tries.
pub(super) fn as_kubelet(own: &str, space: &str) -> Vec<Try> {
    let label = |key: &str| json!({"metadata": {"labels": {key: "probe"}}});
    let node = |name: &str| format!("/api/v1/nodes/{name}?dryRun=All");
    let name = format!("{own}-probe");
    let another = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    vec![
        Try {
            attack: Attack::NodeRestriction,
            what: "as a kubelet, read its own Node",
            call: Call::get(format!("/api/v1/nodes/{own}")),
            expect: Expect::Status(200),
        },
        Try {
            attack: Attack::NodeRestriction,
            // A Node that is there would do as well, but a cluster may have one alone.
            what: "as a kubelet, create a Node with another name (dry run)",
            call: Call::post("/api/v1/nodes?dryRun=All", another),
            expect: Expect::Denied("is not allowed to modify node"),
        },
        Try {
            attack: Attack::NodeRestriction,
            what: "as a kubelet, give its own Node a label of node-restriction.kubernetes.io (dry run)",
            call: Call::merge_patch(node(own), label("node-restriction.kubernetes.io/probe")),
            expect: Expect::Denied("is not allowed to modify labels"),
        },
        Try {
            attack: Attack::NodeAuthorizer,
            what: "as a kubelet, read a Secret that no pod of its node uses",
            call: Call::get(format!("/api/v1/namespaces/{space}/secrets/{SECRET}")),
            expect: Expect::Status(403),
        },
        Try {
            attack: Attack::NodeAuthorizer,
            what: "as a kubelet, list the Secrets of kube-system",
            call: Call::get("/api/v1/namespaces/kube-system/secrets"),
            expect: Expect::Status(403),
        },
    ]
}

/// What a service account without a role tries.
pub(super) fn as_account(space: &str, token: &Secret<String>) -> Vec<Try> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let pods = format!("/api/v1/namespaces/{space}/pods?dryRun=All");
    let table = [
        (
            "with the token of a service account, ask who it is",
            Call::post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review),
            201,
        ),
        (
            "with the token of a service account, list all Secrets",
            Call::get("/api/v1/secrets"),
            403,
        ),
        (
            "with the token of a service account, list the Secrets of its namespace",
            Call::get(format!("/api/v1/namespaces/{space}/secrets")),
            403,
        ),
        ("with the token of a service account, list Nodes", Call::get("/api/v1/nodes"), 403),
        (
            "with the token of a service account, create a pod (dry run)",
            Call::post(pods, compliant()),
            403,
        ),
        (
            "with the token of a service account, control a kubelet",
            Call::get("/api/v1/nodes/probe/proxy/pods"),
            403,
        ),
    ];
    let tries = table.into_iter().map(|(what, call, status)| Try {
        attack: Attack::ServiceAccountRights,
        what,
        call: call.with_token(token),
        expect: Expect::Status(status),
    });
    tries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;
    use crate::transport::http::HttpAnswer;

    #[test]
    fn every_bad_pod_differs_from_the_good_one() {
        let good = compliant();
        for (what, at, value) in bad_pods() {
            let mut pod = compliant();
            put(&mut pod, at, value);
            assert_ne!(pod, good, "{what}");
        }
    }

    fn said(status: u16, body: &str) -> Answered {
        Ok(HttpAnswer { status, body: body.into() })
    }

    #[test]
    fn an_image_is_pulled_anew_only_if_the_pod_says_so_when_it_comes_back() {
        let pod = |policy: &str| {
            said(201, &json!({"spec": {"containers": [{"imagePullPolicy": policy}]}}).to_string())
        };
        assert_eq!(pulled_anew(&pod("Always")).outcome(), Outcome::Pass);
        assert_eq!(pulled_anew(&pod("IfNotPresent")).outcome(), Outcome::Fail);
        assert_eq!(pulled_anew(&said(201, "{}")).outcome(), Outcome::Unknown);
        assert_ne!(pulled_anew(&said(403, "{}")).outcome(), Outcome::Pass);
        assert_eq!(pulled_anew(&Err("no way".into())).outcome(), Outcome::Unknown);
    }

    #[test]
    fn events_are_limited_only_if_the_plugin_counted_one() {
        let line = |name: &str, operation: &str, n: u32| {
            format!(
                "apiserver_admission_controller_admission_duration_seconds_count{{name=\"{name}\",\
                 operation=\"{operation}\",rejected=\"false\",type=\"validate\"}} {n}\n"
            )
        };
        let others = line("NamespaceLifecycle", "CREATE", 7);
        let outcome =
            |event: u16, page: String| limited(&[said(event, "{}"), said(200, &page)]).outcome();
        assert_eq!(
            outcome(201, others.clone() + &line("EventRateLimit", "CREATE", 1)),
            Outcome::Pass
        );
        assert_eq!(outcome(201, others.clone()), Outcome::Fail);
        assert_eq!(
            outcome(201, others.clone() + &line("EventRateLimit", "CREATE", 0)),
            Outcome::Fail
        );
        assert_eq!(
            outcome(201, others.clone() + &line("EventRateLimit", "UPDATE", 3)),
            Outcome::Fail
        );
        assert_eq!(outcome(201, String::new()), Outcome::Unknown);
        assert_ne!(outcome(403, others + &line("EventRateLimit", "CREATE", 1)), Outcome::Pass);
        assert_eq!(limited(&[]).outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_server_that_lets_everything_in_fails_every_attempt_but_the_allowed() {
        let token = Secret::new("t".to_owned());
        for tries in [admission("s"), as_kubelet("a", "s"), as_account("s", &token)] {
            let open = |t: &Try| {
                let status = if t.call.words().starts_with("POST ") { 201 } else { 200 };
                Ok(HttpAnswer { status, body: b"{}".to_vec() })
            };
            let answers: Vec<Answered> = tries.iter().map(open).collect();
            let made = verdicts(&tries, &answers);
            assert_eq!(made[0].2.outcome(), Outcome::Pass);
            for (_, what, verdict) in &made[1..] {
                assert_eq!(verdict.outcome(), Outcome::Fail, "{what}");
            }
            // One that refuses everything proves nothing.
            let shut = |_: &Try| {
                let body = b"violates PodSecurity, external IPs, error looking up service account, is not allowed to modify labels".to_vec();
                Ok(HttpAnswer { status: 403, body })
            };
            let answers: Vec<Answered> = tries.iter().map(shut).collect();
            for (_, what, verdict) in verdicts(&tries, &answers) {
                assert_ne!(verdict.outcome(), Outcome::Pass, "{what}");
            }
        }
    }
}
