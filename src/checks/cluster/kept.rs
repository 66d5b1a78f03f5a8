//! Configuration that lies in the cluster: what joining nodes and kubeadm go by, what DNS answers by.

use crate::checks::cluster::documents::KEPT;
use crate::checks::cluster::documents::data;
use crate::checks::cluster::documents::differ;
use crate::checks::cluster::documents::differences_of_proxy;
use crate::checks::cluster::documents::is_zero;
use crate::checks::cluster::documents::least_differences;
use std::collections::BTreeSet;

use crate::yaml::Value as Yaml;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::checks::cluster::addons;
use crate::checks::cluster::rbac;
use crate::checks::cluster::reading::{Cluster, full_name, none_of, of, proxy_configuration};
use crate::checks::cluster::reading::{is_allowed, over};
use crate::checks::model::Verdict;
use crate::checks::rule::shown;
use crate::desired::cluster_cas::{cas_of, has_expired};
use crate::facts::cluster::{
    AUTHENTICATION_CONFIG, CLUSTER_INFO, DNS_CONFIG, ObjectKind, PROXY_CONFIG, list, name,
    namespace, text,
};
use crate::inventory::AllowedKind;

/// What kubeadm's ConfigMaps say, against the files that they were made of.
pub(in crate::checks) fn kubeadm_configuration(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let mut wrong = Vec::new();
    for &(map, key, kind) in KEPT {
        let Some(said) = data(on, map, key)? else {
            wrong.push(format!("{map} has no {key}"));
            continue;
        };
        let Ok(said) = crate::yaml::parse(said) else {
            wrong.push(format!("{map} is not YAML"));
            continue;
        };
        let least = least_differences(on, kind, &said)?;
        wrong.extend(least.into_iter().map(|at| format!("{map} differs in {at}")));
    }
    Ok(none_of(
        "what apply wrote",
        wrong,
        "kubeadm-config and kubelet-config as apply wrote them".into(),
    ))
}

/// Whether kubeadm has to write its ConfigMaps and kube-proxy's anew: a plan asks what `verify` asks, or it would offer what
/// changes nothing, or nothing where something is wrong.
pub fn has_to_be_uploaded(on: &Cluster<'_>) -> bool {
    let fails = |judged: Result<Verdict, Verdict>| matches!(judged, Ok(Verdict::Fail { .. }));
    // Where no kube-proxy runs, kubeadm is not asked to write its ConfigMap.
    let pods = on.facts.of(ObjectKind::Pods).unwrap_or_default();
    let has_proxy = pods.iter().any(|pod| {
        namespace(pod) == "kube-system"
            && list(pod, "/metadata/ownerReferences")
                .iter()
                .any(|o| (text(o, "/kind"), text(o, "/name")) == ("DaemonSet", "kube-proxy"))
    });
    let proxy_differs = || differences_of_proxy(on).is_ok_and(|differing| !differing.is_empty());
    fails(kubeadm_configuration(on))
        || has_proxy && (proxy_differs() || fails(proxy_kubeconfig(on)))
}

/// The kubeconfig that joining nodes read: the cluster's CA and its endpoint.
pub(in crate::checks) fn cluster_info(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let Some(said) = data(on, CLUSTER_INFO, "kubeconfig")? else {
        return Ok(Verdict::pass("there is none"));
    };
    let Some(ca) = &on.reference.ca_pem else {
        return Err(Verdict::unknown("there is no cluster CA to compare with"));
    };
    let expected = "the cluster's CA, and the endpoint";
    let said: Yaml = crate::yaml::parse(said).unwrap_or_default();
    let clusters = said.get("clusters").and_then(Yaml::as_sequence).cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    if clusters.is_empty() {
        wrong.push(format!("{CLUSTER_INFO} names no cluster"));
    }
    // Whoever joins, or asks without credentials, goes by all that it says.
    for (key, value) in said.as_mapping().into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if !matches!(key, "apiVersion" | "kind" | "clusters") && !is_zero(value) {
            wrong.push(format!("{CLUSTER_INFO} has {key}"));
        }
    }
    for entry in &clusters {
        let keys = entry.get("cluster").and_then(Yaml::as_mapping).into_iter().flatten();
        for (key, value) in keys {
            let key = key.as_str().unwrap_or_default();
            if !matches!(key, "server" | "certificate-authority-data") && !is_zero(value) {
                wrong.push(format!("{CLUSTER_INFO} has {key}"));
            }
        }
        let of =
            |key: &str| entry.get("cluster").and_then(|c| c.get(key)?.as_str()).unwrap_or_default();
        let endpoint = format!("https://{}", on.inventory.cluster.endpoint);
        if of("server") != endpoint {
            wrong.push(format!("{CLUSTER_INFO} points to {}", of("server")));
        }
        let held = BASE64_STANDARD.decode(of("certificate-authority-data")).unwrap_or_default();
        if !hold_alike(&String::from_utf8_lossy(&held), ca) {
            wrong.push(format!("{CLUSTER_INFO} contains another CA"));
        }
    }
    Ok(none_of(expected, wrong, "CA and endpoint in kube-public/cluster-info".into()))
}

/// Whom aggregated API servers let speak for others, and by which headers: what kubeadm has API servers write there. With no
/// name, everybody with a certificate of the CA may.
const REQUEST_HEADERS: &[(&str, &str)] = &[
    ("requestheader-allowed-names", "front-proxy-client"),
    ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
    ("requestheader-group-headers", "X-Remote-Group"),
    ("requestheader-uid-headers", "X-Remote-Uid"),
    ("requestheader-username-headers", "X-Remote-User"),
];

/// The CAs of clients that aggregated API servers, the controller manager and the scheduler take from the cluster. An API
/// server adds its own to what it finds there.
pub(in crate::checks) fn extension_cas(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let expected = "the cluster's CAs, and the names and headers of the front proxy";
    let mut wrong = Vec::new();
    for (key, ca) in [
        ("client-ca-file", &on.reference.ca_pem),
        ("requestheader-client-ca-file", &on.reference.front_proxy_ca_pem),
    ] {
        let said = data(on, AUTHENTICATION_CONFIG, key)?;
        let Some(ca) = ca else {
            return Err(Verdict::unknown("there are no CAs to compare with"));
        };
        match said {
            None => wrong.push(format!("{AUTHENTICATION_CONFIG} has no {key}")),
            Some(said) if !is_published(said, ca, on.now) => {
                wrong.push(format!("{key} contains another CA"));
            }
            Some(_) => {}
        }
    }
    for &(key, own) in REQUEST_HEADERS {
        let said = data(on, AUTHENTICATION_CONFIG, key)?.unwrap_or_default();
        let values: Option<Vec<String>> = serde_json::from_str(said).ok();
        // Releases before it have no header for uids.
        let is_left_out = key == "requestheader-uid-headers"
            && (said.is_empty() || values.as_ref().is_some_and(Vec::is_empty));
        if !is_left_out && values.is_none_or(|v| v != [own]) {
            wrong.push(format!("{key} is {}, not {own}", shown(Some(said))));
        }
    }
    Ok(none_of(expected, wrong, "the CAs and headers of aggregated API servers".into()))
}

/// Whether two PEM texts hold the same certificates.
fn hold_alike(one: &str, other: &str) -> bool {
    one.trim() == other.trim()
        || matches!((cas_of(one), cas_of(other)), (Some(a), Some(b)) if a == b && !a.is_empty())
}

/// Whether an API server publishes a bundle so: all of it but what has expired, which it leaves out
/// (pkg/controlplane/controller/clusterauthenticationtrust, 1.34 to 1.36).
fn is_published(said: &str, bundle: &str, now: OffsetDateTime) -> bool {
    let (Some(said), Some(bundle)) = (cas_of(said), cas_of(bundle)) else { return false };
    said.is_subset(&bundle) && bundle.difference(&said).all(|der| has_expired(der, now))
}

/// kube-proxy's kubeconfig as kubeadm 1.34 to 1.37 writes it (phases/addons/proxy/manifests.go).
const PROXY_KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://ENDPOINT
contexts:
- name: default
  context:
    cluster: default
    namespace: default
    user: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
";

/// Whose words kube-proxy takes for those of the API server.
pub(in crate::checks) fn proxy_kubeconfig(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let expected = "the endpoint, and the CA and token of the ServiceAccount";
    let Some(said) = data(on, PROXY_CONFIG, "kubeconfig.conf")? else {
        return Ok(Verdict::fail(expected, format!("{PROXY_CONFIG} has no kubeconfig.conf")));
    };
    let wanted = PROXY_KUBECONFIG.replace("ENDPOINT", &on.inventory.cluster.endpoint.to_string());
    let wanted: Yaml = crate::yaml::parse(&wanted).unwrap_or_default();
    let mut wrong = Vec::new();
    match crate::yaml::parse(said) {
        Ok(said) => differ(&wanted, &said, "", &mut wrong),
        Err(_) => return Ok(Verdict::fail(expected, "kubeconfig.conf is not YAML")),
    }
    let mut wrong: Vec<String> =
        wrong.iter().map(|at| format!("kubeconfig.conf differs in {at}")).collect();
    let configuration = proxy_configuration(on.facts)?;
    let at = configuration.get("clientConnection").and_then(|c| c.get("kubeconfig")?.as_str());
    if at != Some("/var/lib/kube-proxy/kubeconfig.conf") {
        wrong.push(format!("config.conf names kubeconfig {}", at.unwrap_or("nowhere")));
    }
    Ok(none_of(expected, wrong, "kubeconfig.conf in kube-system/kube-proxy".into()))
}

/// Lines of a Corefile that change no answer: what kubeadm 1.34 to 1.36 writes (phases/addons/dns/manifests.go), and what
/// logs, or answers less of pods. DOMAIN is the cluster's.
const COREFILE: &[&str] = &[
    ".:53 {",
    "errors",
    "log",
    "health {",
    "health",
    "lameduck 5s",
    "}",
    "ready",
    "kubernetes DOMAIN in-addr.arpa ip6.arpa {",
    "pods insecure",
    "pods verified",
    "pods disabled",
    "fallthrough in-addr.arpa ip6.arpa",
    "ttl 30",
    "prometheus :9153",
    "forward . /etc/resolv.conf {",
    "forward . /etc/resolv.conf",
    "max_concurrent 1000",
    "disable success DOMAIN",
    "disable denial DOMAIN",
    "loop",
    "reload",
    "loadbalance",
    "",
];

/// Lines without which it answers nothing of the cluster: pods would be given the answers of the node's own resolvers.
const COREFILE_NEEDS: &[&str] = &[".:53 {", "kubernetes DOMAIN in-addr.arpa ip6.arpa {"];

/// What CoreDNS answers by, and that its pods read that.
pub(in crate::checks) fn dns(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let domain = on.inventory.cluster.domain.to_string();
    let corefile = data(on, DNS_CONFIG, "Corefile")?;
    let deployment = addons::DNS.object(on)?;
    let expected = "ConfigMap and Deployment of CoreDNS as kubeadm writes them";
    // Another DNS server cannot be judged.
    let (Some(corefile), Some(deployment)) = (corefile, deployment) else {
        let what = format!("ConfigMap or Deployment coredns is missing ({})", addons::DNS.remade());
        return Ok(Verdict::fail(expected, what));
    };
    let lines: Vec<String> = corefile
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let missing = COREFILE_NEEDS.iter().map(|l| l.replace("DOMAIN", &domain));
    let missing = missing.filter(|needed| lines.iter().filter(|l| *l == needed).count() != 1);
    let mut wrong: Vec<String> =
        missing.map(|line| format!("Corefile does not have the line `{line}` once")).collect();
    wrong.extend(rbac::lacks_role(on, "coredns", "system:coredns")?);
    for words in lines {
        let known = COREFILE.iter().any(|l| l.replace("DOMAIN", &domain) == words);
        let seconds = words.strip_prefix("cache ").map(|rest| rest.trim_end_matches(" {"));
        let is_cache = seconds.is_some_and(|s| s.parse::<u16>().is_ok());
        if !known && !is_cache && !words.starts_with('#') {
            wrong.push(format!("Corefile has the unexpected line `{words}`"));
        }
    }
    wrong.extend(addons::DNS.deviations(on, deployment));
    wrong.extend(addons::is_silent(on, deployment));
    let earlier = pods_of_an_earlier_corefile(on)?;
    if wrong.is_empty() && !earlier.is_empty() {
        return Err(Verdict::unknown(format!(
            "started before the Corefile was changed and may still use the old version: {} (run `kubectl -n kube-system rollout restart deployment coredns`)",
            earlier.join(", ")
        )));
    }
    Ok(none_of(expected, wrong, "Corefile and Deployment coredns".into()))
}

/// Pods of CoreDNS that started before their ConfigMap was changed the last time. They read it again if the Corefile that
/// they started with has `reload`, which nobody can see any more.
fn pods_of_an_earlier_corefile(on: &Cluster<'_>) -> Result<Vec<String>, Verdict> {
    let maps = of(on.facts, ObjectKind::ConfigMaps)?;
    let Some(map) = maps.iter().find(|m| full_name(m) == DNS_CONFIG) else { return Ok(Vec::new()) };
    let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let written = list(map, "/metadata/managedFields").iter().map(|f| text(f, "/time"));
    let changed = written.chain([text(map, "/metadata/creationTimestamp")]).filter_map(time).max();
    let started = |pod: &Value| {
        let statuses = list(pod, "/status/containerStatuses").iter();
        statuses.filter_map(|s| time(text(s, "/state/running/startedAt"))).min()
    };
    let of_dns = of(on.facts, ObjectKind::Pods)?.iter().filter(|p| {
        text(p, "/metadata/namespace") == "kube-system"
            && text(p, "/metadata/labels/k8s-app") == "kube-dns"
    });
    let is_earlier = |pod: &&Value| started(pod).zip(changed).is_some_and(|(s, c)| s < c);
    Ok(of_dns.filter(is_earlier).map(full_name).collect())
}

/// RuntimeClasses name handlers of containerd; our configuration of it defines only runc.
pub(in crate::checks) fn runtime_classes(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let classes = of(on.facts, ObjectKind::RuntimeClasses)?;
    let other = classes.iter().filter(|c| text(c, "/handler") != "runc");
    let mut wrong: Vec<String> = other
        .map(|c| format!("RuntimeClass {} has handler {}", name(c), text(c, "/handler")))
        .collect();
    // It would lift the taint of control planes for every pod that names it.
    let tolerant = classes.iter().filter(|c| !list(c, "/scheduling/tolerations").is_empty());
    wrong.extend(tolerant.map(|c| format!("RuntimeClass {} adds tolerations", name(c))));
    Ok(none_of("only handler runc", wrong, format!("{} RuntimeClasses", classes.len())))
}

/// FlowSchemas of Kubernetes (apiserver, pkg/apis/flowcontrol/bootstrap) that send to `exempt`, where nothing waits.
const EXEMPT: &[&str] = &["exempt", "probes"];
/// The precedence of the one that takes everybody's requests; whatever is before it, is before everybody.
const GLOBAL_DEFAULT: u64 = 9900;
/// Shares of requests in all of Kubernetes' own levels are 245.
const MOST_SHARES: u64 = 1000;
/// By another value than `true`, the API server leaves what somebody changed.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Whether requests of others keep those of kubelets, controllers and administrators waiting.
pub(in crate::checks) fn flow_control(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let schemas = of(on.facts, ObjectKind::FlowSchemas)?;
    let levels = of(on.facts, ObjectKind::PriorityLevels)?;
    if !schemas.iter().any(|s| name(s) == "exempt") || !levels.iter().any(|l| name(l) == "exempt") {
        return Err(Verdict::unknown("the list of FlowSchemas or levels lacks `exempt`"));
    }
    let mut wrong = Vec::new();
    for (kind, objects) in
        [(AllowedKind::FlowSchema, schemas), (AllowedKind::PriorityLevelConfiguration, levels)]
    {
        for object in objects.iter().filter(|o| !is_allowed(on, kind, name(o))) {
            let keeps = object.pointer("/metadata/annotations").and_then(|a| a.get(AUTOUPDATE));
            let mut said = Vec::new();
            if keeps.is_some_and(|k| k != "true") {
                said.push("opts out of updates by Kubernetes".to_owned());
            }
            said.extend(match kind {
                AllowedKind::FlowSchema => passes(object),
                _ => shares(object),
            });
            wrong.extend(said.into_iter().map(|s| format!("{kind} {} {s}", name(object))));
        }
        wrong.extend(over(on, kind));
    }
    let expected =
        "no priority over Kubernetes' own requests, unless `hardening.allowed_objects` names it";
    Ok(none_of(expected, wrong, format!("{} FlowSchemas, {} levels", schemas.len(), levels.len())))
}

/// What a FlowSchema lets pass the others.
fn passes(schema: &serde_json::Value) -> Vec<String> {
    let rules = list(schema, "/spec/rules");
    let subjects = || rules.iter().flat_map(|r| list(r, "/subjects"));
    let whose = |s: &serde_json::Value| {
        let of_account =
            ["namespace", "name"].map(|key| text(s, &format!("/serviceAccount/{key}")));
        match ["/group/name", "/user/name"].into_iter().find(|at| !text(s, at).is_empty()) {
            Some(at) => text(s, at).to_owned(),
            None => of_account.join("/"),
        }
    };
    let mut said = Vec::new();
    if text(schema, "/spec/priorityLevelConfiguration/name") == "exempt" {
        let health = ["/healthz", "/livez", "/readyz"];
        let urls = || rules.iter().flat_map(|r| list(r, "/nonResourceRules"));
        let mut paths = urls().flat_map(|u| list(u, "/nonResourceURLs"));
        let is_own = match name(schema) {
            "exempt" => subjects().all(|s| whose(s) == "system:masters"),
            "probes" => {
                rules.iter().all(|r| list(r, "/resourceRules").is_empty())
                    && paths.all(|p| p.as_str().is_some_and(|p| health.contains(&p)))
            }
            _ => false,
        };
        if !is_own {
            let whose: BTreeSet<String> = subjects().map(whose).collect();
            let whose = whose.into_iter().collect::<Vec<_>>().join(" and ");
            said.push(format!("exempts requests of {whose}"));
        }
    }
    let precedence = schema.pointer("/spec/matchingPrecedence").and_then(serde_json::Value::as_u64);
    if precedence.unwrap_or_default() < GLOBAL_DEFAULT && !EXEMPT.contains(&name(schema)) {
        const ANYBODY: &[&str] =
            &["*", "system:anonymous", "system:authenticated", "system:unauthenticated"];
        let is_anybody = |s: &serde_json::Value| {
            text(s, "/kind") != "ServiceAccount" && ANYBODY.contains(&whose(s).as_str())
        };
        if let Some(subject) = subjects().find(|s| is_anybody(s)) {
            said.push(format!("prioritizes requests of {}", whose(subject)));
        }
    }
    said
}

/// What a level takes from the others.
fn shares(level: &serde_json::Value) -> Vec<String> {
    let of = ["/spec/limited", "/spec/exempt"].map(|at| format!("{at}/nominalConcurrencyShares"));
    let of = of.iter().filter_map(|at| level.pointer(at)?.as_u64());
    of.filter(|s| *s > MOST_SHARES).map(|s| format!("takes {s} shares of requests")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(wanted: &str, said: &str) -> Vec<String> {
        let parse = |text| crate::yaml::parse(text).unwrap();
        let mut found = Vec::new();
        differ(&parse(wanted), &parse(said), "", &mut found);
        found
    }

    /// What kubeadm adds by itself, from `kubeadm config print init-defaults`.
    #[test]
    fn what_kubeadm_fills_in_is_no_difference() {
        let wanted =
            "{kind: K, authentication: {anonymous: {enabled: false}, webhook: {enabled: true}},
            protectKernelDefaults: false, podPidsLimit: -1, clusterDNS: [10.96.0.10]}";
        let said = "{kind: K, authentication: {anonymous: {enabled: false}, webhook: {enabled: true, cacheTTL: 0s}},
            podPidsLimit: -1, clusterDNS: [10.96.0.10], staticPodPath: /etc/kubernetes/manifests,
            resolvConf: /run/systemd/resolve/resolv.conf, crashLoopBackOff: {}, imageRepository: registry.k8s.io,
            logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}, verbosity: 0}, dns: {}}";
        assert_eq!(differences(wanted, said), Vec::<String>::new());
        for (from, to, at) in [
            ("{enabled: false}", "{enabled: true}", "authentication.anonymous.enabled"),
            ("podPidsLimit: -1, ", "", "podPidsLimit"),
            ("[10.96.0.10]", "[10.96.0.10, 192.0.2.1]", "clusterDNS"),
            ("/etc/kubernetes/manifests", "/tmp", "staticPodPath"),
            ("dns: {}", "staticPodURL: 'http://192.0.2.1'", "staticPodURL"),
            ("dns: {}", "featureGates: {X: true}", "featureGates"),
            ("registry.k8s.io", "r.example.com", "imageRepository"),
        ] {
            assert_eq!(differences(wanted, &said.replacen(from, to, 1)), [at], "{from} -> {to}");
        }
    }

    #[test]
    fn what_go_leaves_out_of_lists_is_no_difference_either() {
        let wanted = "{etcd: {external: {endpoints: [a]}}, v: [{p: x, readOnly: false}, {p: y, readOnly: true}]}";
        let said = "{etcd: {external: {endpoints: [a], httpEndpoints: [a]}}, v: [{p: x}, {p: y, readOnly: true}]}";
        assert!(differences(wanted, said).is_empty());
        assert_eq!(
            differences(wanted, &said.replace("s: [a]}", "s: [b]}")),
            ["etcd.external.httpEndpoints"]
        );
        assert_eq!(differences(wanted, &said.replace(", readOnly: true", "")), ["v"]);
        assert_eq!(differences(wanted, &said.replace("p: x", "p: z")), ["v"]);
    }

    #[test]
    fn arguments_are_compared_as_a_list() {
        let args =
            |more: &str| format!("{{apiServer: {{extraArgs: [{{name: a, value: b}}{more}]}}}}");
        assert!(differences(&args(""), &args("")).is_empty());
        let found = differences(&args(""), &args(", {name: anonymous-auth, value: 'true'}"));
        assert_eq!(found, ["apiServer.extraArgs"]);
    }
}
