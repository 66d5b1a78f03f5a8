//! Checks of Kubernetes that take more than one value.

use crate::yaml::Value;

use crate::checks::basis::{Basis, Judged, flag_values, needs, running};
use crate::checks::cluster::workloads::may_be_left_out;
use crate::checks::model::Verdict;
use crate::checks::node::staged::scalar;
use crate::checks::rule::shown;
use crate::controls::{Config, Daemon};
use crate::facts::{EntryKind, FileFacts};
use crate::inventory::{AuditPolicy, Cni, Inventory, Profile};

pub(in crate::checks) const AUDIT_POLICY: &str = "/etc/kubernetes/config/audit-policy.yaml";
pub(in crate::checks) const ADMISSION: &str = "/etc/kubernetes/config/admission.yaml";
pub(in crate::checks) const AUTHENTICATION: &str = "/etc/kubernetes/config/authentication.yaml";
pub(in crate::checks) const ENCRYPTION: &str = "/etc/kubernetes/enc/encryption.yaml";
pub(in crate::checks) const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
pub(in crate::checks) const CNI_DIR: &str = "/etc/cni/net.d";
/// Unit files of the kubelet, and directories of drop-ins.
pub(in crate::checks) const KUBELET_UNITS: &[&str] = &[
    "/usr/lib/systemd/system/kubelet.service",
    "/lib/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service",
];
pub(in crate::checks) const KUBELET_DROP_INS: &[&str] =
    &["/etc/systemd/system/kubelet.service.d", "/usr/lib/systemd/system/kubelet.service.d"];

/// Paths that may be asked without a certificate where the inventory allows it.
const HEALTH_PATHS: &[&str] = &["/livez", "/readyz", "/healthz"];

/// Judges a file that the API server is told of by a flag. With no API server, the verdict is
/// about what is staged.
fn apiserver_file(
    on: &Basis<'_>,
    flag: &str,
    path: &str,
    judge: impl Fn(&Value) -> Verdict,
) -> Judged {
    let content = || match on.seen.text(path).map(crate::yaml::parse) {
        Ok(Ok(value)) => judge(&value),
        Ok(Err(e)) => Verdict::unknown(format!("{path} cannot be read as YAML: {e}")),
        Err(verdict) => verdict,
    };
    match running(Daemon::Apiserver, on) {
        Err(verdict) => Judged { verdict, staged: on.seen.exists(path).then(content) },
        Ok(processes) => {
            let verdicts =
                processes.iter().map(|argv| match flag_values(argv, flag, false).last() {
                    None => Verdict::fail(format!("--{flag}={path}"), "not set"),
                    Some(given) if given == path => content(),
                    Some(other) => Verdict::unknown(format!("{} was not read", shown(Some(other)))),
                });
            verdicts.reduce(Verdict::and).unwrap_or_else(|| needs(Daemon::Apiserver)).into()
        }
    }
}

pub(in crate::checks) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(in crate::checks) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_sequence).map(Vec::as_slice).unwrap_or_default()
}

pub(in crate::checks) fn audit_policy(on: &Basis<'_>) -> Judged {
    let policy = match (on.inventory.audit.policy, on.inventory.hardening.profile) {
        (AuditPolicy::Profile, Profile::Stig) => AuditPolicy::Stig,
        (AuditPolicy::Profile, _) => AuditPolicy::Balanced,
        (other, _) => other,
    };
    apiserver_file(on, "audit-policy-file", AUDIT_POLICY, |v| judge_policy(v, policy))
}

/// Resources that an audit log has to tell of, by API group.
const SENSITIVE: &[(&str, &str)] = &[
    ("", "secrets"),
    ("", "configmaps"),
    ("authentication.k8s.io", "tokenreviews"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "pods/attach"),
    ("", "pods/portforward"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

fn judge_policy(policy: &Value, wanted: AuditPolicy) -> Verdict {
    let rules = list(policy, "rules");
    if text(policy, "kind") != "Policy" || rules.is_empty() {
        return Verdict::fail("an audit.k8s.io/v1 Policy with rules", "no rules");
    }
    if wanted == AuditPolicy::Stig {
        let levels: Vec<&str> = rules.iter().map(|r| text(r, "level")).collect();
        return if levels == ["RequestResponse"] {
            Verdict::pass("one RequestResponse rule")
        } else {
            Verdict::fail("one RequestResponse rule", format!("levels {}", levels.join(", ")))
        };
    }
    if let Some(why) = silent(policy, rules) {
        return Verdict::fail("no omissions except reads and noise", why);
    }
    for (index, (group, resource)) in SENSITIVE.iter().enumerate() {
        let name = format!("{group}/{resource}");
        let name = name.trim_start_matches('/');
        // The first rule that matches decides; one that holds for some users or verbs only leaves
        // the others to a later rule.
        let Some(level) = rules
            .iter()
            .filter(|r| is_about(r, group, resource))
            .map(|r| (text(r, "level"), narrowed(r)))
            .find(|(level, narrowed)| !narrowed || is_body(level))
        else {
            return Verdict::fail(format!("a rule for {name}"), "none");
        };
        if level.0 == "None" || level.0.is_empty() {
            return Verdict::fail(format!("{name} logged"), "level None");
        }
        // The first three hold secrets: their bodies must not be in the log.
        if index < 3 && is_body(level.0) {
            return Verdict::fail(format!("{name} at Metadata"), format!("level {}", level.0));
        }
    }
    Verdict::pass(format!("{} rules, no bodies of Secrets", rules.len()))
}

/// Paths that say nothing of who did what; a star at the end stands for what follows.
const PATHS: &[&str] = &[
    "/api", "/healthz", "/livez", "/metrics", "/openapi", "/readyz", "/swagger", "/version",
    "/apis",
];
/// Objects that daemons write all the time and that lead nowhere.
const NOISE: &[(&str, &str)] =
    &[("coordination.k8s.io", "leases"), ("", "events"), ("events.k8s.io", "events")];

/// What a policy keeps from the log that has to be there: for whom ever it does, a rule that comes first leaves
/// nothing to those that follow.
fn silent(policy: &Value, rules: &[Value]) -> Option<String> {
    let omits = |v: &Value| list(v, "omitStages").iter().any(|s| s == "ResponseComplete");
    if omits(policy) || rules.iter().any(omits) {
        return Some("stage ResponseComplete is omitted".to_owned());
    }
    let closing = rules.last().is_some_and(|r| {
        text(r, "level") != "None" && !narrowed(r) && list(r, "resources").is_empty()
    });
    if !closing {
        return Some("no catch-all rule at the end".to_owned());
    }
    let loud = |rule: &&Value| text(rule, "level") == "None" && !is_quiet(rule);
    let rule = rules.iter().find(loud)?;
    let who = ["users", "userGroups"].iter().flat_map(|k| list(rule, k)).filter_map(Value::as_str);
    let who: Vec<&str> = who.collect();
    let who = if who.is_empty() { "everybody".to_owned() } else { who.join(", ") };
    let what = list(rule, "resources").iter().flat_map(|r| list(r, "resources"));
    let what: Vec<&str> = what.filter_map(Value::as_str).collect();
    let what = if what.is_empty() { "everything".to_owned() } else { what.join(", ") };
    Some(shown(Some(&format!("level None for {what} by {who}"))))
}

/// Whether a rule of level None keeps nothing from the log that matters: paths of health and discovery, leases and
/// events, and reads of named resources that hold no secrets and run nothing.
fn is_quiet(rule: &Value) -> bool {
    let words = |v: &Value, key: &str| -> Vec<String> {
        list(v, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let resources = list(rule, "resources");
    let paths = words(rule, "nonResourceURLs");
    if !paths.is_empty() {
        let known = |p: &String| {
            let p = p.trim_end_matches('*').trim_end_matches('/');
            PATHS.iter().any(|k| p == *k || p.strip_prefix(k).is_some_and(|r| r.starts_with('/')))
        };
        return resources.is_empty() && paths.iter().all(known);
    }
    let verbs = words(rule, "verbs");
    let reads =
        !verbs.is_empty() && verbs.iter().all(|v| matches!(v.as_str(), "get" | "list" | "watch"));
    !resources.is_empty()
        && resources.iter().all(|r| {
            let (group, names) = (text(r, "group"), words(r, "resources"));
            // Without names, all of a group.
            let noise = |n: &String| NOISE.contains(&(group, n.as_str()));
            let harmless = |n: &String| {
                let sensitive = SENSITIVE.iter().any(|(g, known)| *g == group && n == known);
                reads && !n.contains(['*', '/']) && (!sensitive || n == "pods")
            };
            !names.is_empty() && names.iter().all(|n| noise(n) || harmless(n))
        })
}

fn is_body(level: &str) -> bool {
    matches!(level, "Request" | "RequestResponse")
}

fn narrowed(rule: &Value) -> bool {
    ["users", "userGroups", "verbs", "namespaces", "nonResourceURLs"]
        .iter()
        .any(|k| !list(rule, k).is_empty())
}

fn is_about(rule: &Value, group: &str, resource: &str) -> bool {
    if !list(rule, "nonResourceURLs").is_empty() {
        return false;
    }
    let resources = list(rule, "resources");
    resources.is_empty()
        || resources.iter().any(|r| {
            let names = list(r, "resources");
            text(r, "group") == group
                && list(r, "resourceNames").is_empty()
                && (names.is_empty()
                    || names.iter().filter_map(Value::as_str).any(|n| {
                        n == resource
                            || n == "*"
                            || resource.split_once('/').is_some_and(|(base, sub)| {
                                n == format!("{base}/*") || n == format!("*/{sub}")
                            })
                    }))
        })
}

pub(in crate::checks) fn encrypted_secrets(on: &Basis<'_>) -> Judged {
    apiserver_file(on, "encryption-provider-config", ENCRYPTION, |v| {
        let covered = list(v, "resources").iter().any(|r| {
            let names = list(r, "resources");
            names.iter().filter_map(Value::as_str).any(|n| matches!(n, "secrets" | "*." | "*.*"))
        });
        if covered {
            Verdict::pass("secrets are encrypted")
        } else {
            Verdict::fail("secrets among the resources", "secrets are missing")
        }
    })
}

pub(in crate::checks) fn encryption_provider(on: &Basis<'_>) -> Judged {
    apiserver_file(on, "encryption-provider-config", ENCRYPTION, |v| {
        let blocks = list(v, "resources");
        let first = |block: &Value| -> String {
            let provider = list(block, "providers").first();
            let provider = provider.and_then(Value::as_mapping).and_then(|m| m.iter().next());
            let Some((name, settings)) = provider else { return "none".to_owned() };
            match name.as_str().unwrap_or("none") {
                // Without a version it is the first one, which Kubernetes has switched off since 1.29.
                "kms" if text(settings, "apiVersion") != "v2" => "kms v1".to_owned(),
                name => name.to_owned(),
            }
        };
        let names: Vec<String> = blocks.iter().map(first).collect();
        let expected = "secretbox, aescbc or kms first";
        if names.is_empty() {
            return Verdict::fail(expected, "no providers");
        }
        if names.iter().all(|n| matches!(n.as_str(), "secretbox" | "aescbc" | "kms")) {
            Verdict::pass(names.join(", "))
        } else {
            Verdict::fail(expected, shown(Some(&names.join(", "))))
        }
    })
}

/// The configuration of an admission plugin: inline, or in a file of its own.
fn plugin(on: &Basis<'_>, document: &Value, name: &str) -> Result<Value, Verdict> {
    let row = list(document, "plugins").iter().find(|p| text(p, "name") == name);
    let row = row.ok_or_else(|| Verdict::fail(format!("a configuration of {name}"), "none"))?;
    if let Some(inline) = row.get("configuration") {
        return Ok(inline.clone());
    }
    let path = text(row, "path");
    if path.is_empty() {
        return Err(Verdict::fail(format!("a configuration of {name}"), "empty"));
    }
    let path = match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/etc/kubernetes/config/{path}"),
    };
    crate::yaml::parse(on.seen.text(&path)?)
        .map_err(|e| Verdict::unknown(format!("{path} cannot be read as YAML: {e}")))
}

pub(in crate::checks) fn event_rate_limit(on: &Basis<'_>) -> Judged {
    apiserver_file(on, "admission-control-config-file", ADMISSION, |v| {
        match plugin(on, v, "EventRateLimit") {
            Err(verdict) => verdict,
            Ok(c) if list(&c, "limits").is_empty() => Verdict::fail("at least one limit", "none"),
            Ok(c) => Verdict::pass(format!("{} limits", list(&c, "limits").len())),
        }
    })
}

pub(in crate::checks) fn pod_security(on: &Basis<'_>) -> Judged {
    apiserver_file(on, "admission-control-config-file", ADMISSION, |v| {
        match plugin(on, v, "PodSecurity") {
            Err(verdict) => verdict,
            Ok(c) => judge_pod_security(on.inventory, &c),
        }
    })
}

/// The default level, and whom it is not for.
fn judge_pod_security(inventory: &Inventory, configuration: &Value) -> Verdict {
    let defaults = configuration.get("defaults");
    let level = defaults.map(|d| text(d, "enforce")).unwrap_or_default();
    let verdict = crate::checks::rule::judge(&crate::controls::Rule::Is("restricted"), Some(level));
    let version = defaults.map(|d| text(d, "enforce-version")).unwrap_or_default();
    let wanted = inventory.cluster.kubernetes.minor;
    let is_old = match version {
        "" | "latest" => false,
        other => {
            let minor = other.strip_prefix("v1.").and_then(|m| m.parse::<u16>().ok());
            minor.is_none_or(|m| m < wanted)
        }
    };
    if is_old {
        let version = Verdict::fail("restricted as of latest", shown(Some(version)));
        return verdict.and(version);
    }
    let exemptions = configuration.get("exemptions");
    let named = |key: &str| -> Vec<String> {
        let all = exemptions.and_then(|e| e.get(key)).and_then(Value::as_sequence);
        all.into_iter().flatten().filter_map(scalar).collect()
    };
    let spaces = named("namespaces");
    let more = [
        ("user", named("usernames")),
        ("runtime class", named("runtimeClasses")),
        ("namespace", spaces.into_iter().filter(|n| !may_be_left_out(inventory, n)).collect()),
    ];
    let more: Vec<String> = more
        .iter()
        .flat_map(|(kind, names)| names.iter().map(move |n| format!("{kind} {n}")))
        .collect();
    if more.is_empty() {
        return verdict;
    }
    let expected = "no exemption except kube-system and what the inventory exempts from everything";
    verdict.and(Verdict::fail(expected, shown(Some(&more.join(", ")))))
}

/// That a configuration is there says nothing of people: the one for health paths is there, too.
pub(in crate::checks) fn user_authentication(on: &Basis<'_>) -> Judged {
    apiserver_file(on, "authentication-config", AUTHENTICATION, |v| {
        let url = |issuer: &Value| issuer.get("issuer").map(|i| text(i, "url").to_owned());
        let issuers: Vec<String> = list(v, "jwt").iter().filter_map(url).collect();
        if issuers.is_empty() {
            return Verdict::fail("an issuer of user tokens", "none");
        }
        let issuers = shown(Some(&issuers.join(", ")));
        Verdict::unknown(format!("{issuers} can authenticate users; no login was attempted"))
    })
}

/// Whether anonymous requests are off by the flag, on every API server process.
pub(in crate::checks) fn anonymous_off(processes: &[&[String]]) -> bool {
    processes.iter().all(|argv| {
        let values = flag_values(argv, "anonymous-auth", true);
        !values.is_empty() && values.iter().all(|v| v == "false")
    })
}

pub(in crate::checks) fn anonymous_requests(on: &Basis<'_>) -> Judged {
    let expected = "--anonymous-auth=false, or only the health paths in the authentication file";
    let by_file = || match on.seen.text(AUTHENTICATION).map(crate::yaml::parse) {
        Ok(Ok(v)) => {
            let Some(anonymous) = v.get("anonymous") else {
                return Verdict::fail(expected, "the file does not set it");
            };
            if anonymous.get("enabled").and_then(Value::as_bool) == Some(false) {
                return Verdict::pass("off in the authentication file");
            }
            let paths: Vec<&str> =
                list(anonymous, "conditions").iter().map(|c| text(c, "path")).collect();
            if !paths.is_empty() && paths.iter().all(|p| HEALTH_PATHS.contains(p)) {
                Verdict::pass(format!("only for {}", paths.join(", ")))
            } else {
                Verdict::fail(expected, "on for more than the health paths")
            }
        }
        Ok(Err(e)) => Verdict::unknown(format!("{AUTHENTICATION} cannot be read as YAML: {e}")),
        Err(verdict) => verdict,
    };
    let judge = |argv: &[String]| {
        if anonymous_off(&[argv]) {
            return Verdict::pass("--anonymous-auth=false");
        }
        if !flag_values(argv, "anonymous-auth", true).is_empty() {
            return Verdict::fail(expected, "--anonymous-auth is not false");
        }
        match flag_values(argv, "authentication-config", false).last() {
            None => Verdict::fail(expected, "neither is set"),
            Some(path) if path == AUTHENTICATION => by_file(),
            Some(other) => Verdict::unknown(format!("{} was not read", shown(Some(other)))),
        }
    };
    let staged = on.seen.staged.argv(Daemon::Apiserver).map(judge);
    match running(Daemon::Apiserver, on) {
        Err(verdict) => Judged { verdict, staged },
        Ok(processes) => processes
            .into_iter()
            .map(judge)
            .reduce(Verdict::and)
            .unwrap_or_else(|| needs(Daemon::Apiserver))
            .into(),
    }
}

pub(in crate::checks) fn no_alpha(on: &Basis<'_>) -> Judged {
    let daemons = [
        Daemon::Apiserver,
        Daemon::ControllerManager,
        Daemon::Scheduler,
        Daemon::Kubelet,
        Daemon::KubeProxy,
    ];
    let judge = |argv: &[String]| {
        let gates = flag_values(argv, "feature-gates", false).join(",");
        let on =
            gates.split(',').map(str::trim).any(|g| g == "AllAlpha=true" || g == "AllBeta=false");
        if on { Some(gates) } else { None }
    };
    let mut running_now = 0;
    for daemon in daemons {
        for argv in on.seen.running(daemon).into_iter().flatten() {
            running_now += 1;
            if let Some(gates) = judge(&argv.argv) {
                return Verdict::fail("no AllAlpha", format!("{} {gates}", daemon.program()))
                    .into();
            }
        }
    }
    let config_gate = |document: &Value| {
        let gate = document.get("featureGates").and_then(|g| g.get("AllAlpha"));
        gate.and_then(scalar).as_deref() == Some("true")
    };
    if running_now == 0 {
        let argv = daemons.iter().filter_map(|d| on.seen.staged.argv(*d));
        let bad = argv.into_iter().any(|a| judge(a).is_some())
            || on.seen.staged.document(Config::Kubelet).is_some_and(config_gate);
        let there = on.seen.staged.argv(Daemon::Apiserver).is_some()
            || on.seen.staged.document(Config::Kubelet).is_some();
        let staged = there.then(|| {
            if bad {
                Verdict::fail("no AllAlpha", "staged with AllAlpha")
            } else {
                Verdict::pass("off")
            }
        });
        return Judged { verdict: needs(Daemon::Kubelet), staged };
    }
    if on.seen.runs(Daemon::Kubelet)
        && let Some(path) = Config::Kubelet.path()
    {
        match on.seen.text(path).map(crate::yaml::parse) {
            Ok(Ok(v)) if config_gate(&v) => {
                return Verdict::fail("no AllAlpha", format!("on in {path}")).into();
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Verdict::unknown(format!("{path} is not YAML")).into(),
            Err(verdict) => return verdict.into(),
        }
    }
    Verdict::pass(format!("off in {running_now} processes")).into()
}

pub(in crate::checks) fn kubelet_units(on: &Basis<'_>) -> Verdict {
    let expected = "root:root 0600 or tighter";
    let mut found = 0;
    let mut worst: Option<String> = None;
    for &path in KUBELET_UNITS {
        if let Some(FileFacts::File { mode, owner, group, .. }) = on.seen.files.get(path) {
            found += 1;
            if mode & !0o600 != 0 || owner != "root" || group != "root" {
                worst.get_or_insert(format!("{path} {owner}:{group} {mode:04o}"));
            }
        }
    }
    let Some(trees) = &on.seen.trees else {
        return Verdict::not_applicable("only the running node can show this");
    };
    for &dir in KUBELET_DROP_INS {
        let Some(tree) = trees.get(dir) else { continue };
        if !tree.complete {
            return Verdict::unknown(format!("{dir} could not be listed completely"));
        }
        for (path, e) in &tree.entries {
            let max = if e.kind == EntryKind::Directory { 0o755 } else { 0o600 };
            if e.mode & !max != 0 || e.owner != "root" || e.group != "root" {
                worst.get_or_insert(format!("{path} {}:{} {:04o}", e.owner, e.group, e.mode));
            }
        }
    }
    match worst {
        Some(actual) => Verdict::fail(expected, actual),
        None if found == 0 => {
            Verdict::not_applicable("needs Kubernetes: the kubelet is not installed yet")
        }
        None => Verdict::pass(expected),
    }
}

pub(in crate::checks) fn cni_config(on: &Basis<'_>) -> Judged {
    let in_tree = on.seen.trees.as_ref().and_then(|t| t.get(CNI_DIR));
    let names: Vec<&String> = match (&on.seen.trees, in_tree) {
        (Some(_), tree) => {
            let entries = tree.into_iter().flat_map(|t| &t.entries);
            entries.filter(|(_, e)| e.kind == EntryKind::File).map(|(n, _)| n).collect()
        }
        (None, _) => {
            let files = on.seen.files.iter().filter(|(p, _)| p.starts_with(CNI_DIR));
            files.filter(|(_, f)| matches!(f, FileFacts::File { .. })).map(|(n, _)| n).collect()
        }
    };
    let expected = "Calico or Cilium";
    let enforcing = names.iter().find(|n| n.contains("calico") || n.contains("cilium"));
    let verdict = match (enforcing, on.inventory.runtime.cni) {
        // The name of a file enforces nothing.
        (Some(name), _) => Verdict::unknown(format!(
            "{} is installed; policy enforcement was not tested",
            shown(Some(name))
        )),
        (None, Cni::Bridge) => Verdict::fail(expected, "a bridge, which does not support policies"),
        (None, Cni::None) => Verdict::fail(expected, "neither is configured"),
    };
    if on.seen.runs(Daemon::Kubelet) {
        return verdict.into();
    }
    let staged = (!names.is_empty()).then_some(verdict);
    Judged { verdict: needs(Daemon::Kubelet), staged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Outcome;

    const BALANCED: &str = "
kind: Policy
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources: [{group: \"\", resources: [endpoints]}]
- level: Metadata
  resources:
  - {group: \"\", resources: [secrets, configmaps, serviceaccounts/token]}
  - {group: authentication.k8s.io, resources: [tokenreviews]}
- level: RequestResponse
  resources:
  - {group: \"\", resources: [pods, pods/exec, \"pods/*\"]}
  - {group: rbac.authorization.k8s.io}
- level: Metadata
";

    fn outcome(policy: &str, wanted: AuditPolicy) -> Outcome {
        judge_policy(&crate::yaml::parse(policy).unwrap(), wanted).outcome()
    }

    #[test]
    fn an_audit_policy_tells_of_secrets_and_does_not_tell_them() {
        assert_eq!(outcome(BALANCED, AuditPolicy::Balanced), Outcome::Pass);
        let rest = BALANCED.strip_suffix("- level: Metadata\n").unwrap();
        for (from, to, last) in [
            ("- level: Metadata\n  resources", "- level: RequestResponse\n  resources", "Metadata"),
            ("- level: Metadata\n  resources", "- level: None\n  resources", "Metadata"),
            // What no rule names falls to the last one.
            ("secrets, configmaps", "configmaps", "Request"),
            ("secrets, configmaps", "configmaps", "None"),
            ("- level: RequestResponse", "- level: None", "Metadata"),
            ("kind: Policy", "kind: Other", "Metadata"),
        ] {
            let broken = format!("{}- level: {last}\n", rest.replacen(from, to, 1));
            assert_eq!(outcome(&broken, AuditPolicy::Balanced), Outcome::Fail, "{from} -> {to}");
        }
        let no_secrets = rest.replace("secrets, configmaps", "configmaps");
        assert_eq!(outcome(&no_secrets, AuditPolicy::Balanced), Outcome::Fail);
    }

    #[test]
    fn an_audit_policy_leaves_nobody_and_nothing_out() {
        let with = |rule: &str| {
            let policy = BALANCED.replacen("rules:\n", &format!("rules:\n- {rule}\n"), 1);
            outcome(&policy, AuditPolicy::Balanced)
        };
        for loud in [
            "{level: None, userGroups: [\"system:serviceaccounts\"]}",
            "{level: None, users: [\"system:serviceaccount:shop:app\"]}",
            "{level: None, namespaces: [shop]}",
            "{level: None, verbs: [create, get]}",
            "{level: None, verbs: [get]}",
            "{level: None, verbs: [create], resources: [{group: \"\", resources: [pods/exec]}]}",
            "{level: None, verbs: [get], resources: [{group: \"\", resources: [pods/exec]}]}",
            "{level: None, verbs: [get], resources: [{group: \"\", resources: [\"pods/*\"]}]}",
            "{level: None, verbs: [get], resources: [{group: \"\", resources: [\"*\"]}]}",
            "{level: None, verbs: [get], resources: [{group: \"\"}]}",
            "{level: None, users: [alice], verbs: [get], resources: [{group: \"\", resources: [secrets]}]}",
            "{level: None, users: [alice], verbs: [patch], resources: [{group: apps, resources: [deployments]}]}",
            "{level: None, nonResourceURLs: [\"*\"]}",
            "{level: None, nonResourceURLs: [\"/logs*\"]}",
            "{level: Metadata, omitStages: [ResponseComplete]}",
        ] {
            assert_eq!(with(loud), Outcome::Fail, "{loud}");
        }
        for quiet in [
            "{level: None, nonResourceURLs: [\"/healthz*\", /version, \"/livez/*\"]}",
            "{level: None, resources: [{group: coordination.k8s.io, resources: [leases]}]}",
            "{level: None, verbs: [get, list, watch], resources: [{group: \"\", resources: [services]}]}",
        ] {
            assert_eq!(with(quiet), Outcome::Pass, "{quiet}");
        }
        let open = BALANCED.strip_suffix("- level: Metadata\n").unwrap();
        assert_eq!(outcome(open, AuditPolicy::Balanced), Outcome::Fail);
        let stages = format!("omitStages: [RequestReceived, ResponseComplete]{BALANCED}");
        assert_eq!(outcome(&stages, AuditPolicy::Balanced), Outcome::Fail);
    }

    #[test]
    fn pod_security_is_for_everybody_whom_the_inventory_does_not_exempt() {
        let of = |inventory: &Inventory, exemptions: &str| {
            let text = format!("{{defaults: {{enforce: restricted}}, exemptions: {exemptions}}}");
            judge_pod_security(inventory, &crate::yaml::parse(&text).unwrap()).outcome()
        };
        let inventory = crate::inventory::testing::with("");
        assert_eq!(of(&inventory, "{}"), Outcome::Pass);
        assert_eq!(of(&inventory, "{namespaces: [kube-system], usernames: []}"), Outcome::Pass);
        for more in [
            "{usernames: [alice]}",
            "{runtimeClasses: [kata]}",
            "{namespaces: [kube-system, shop]}",
            "{namespaces: [1]}",
        ] {
            assert_eq!(of(&inventory, more), Outcome::Fail, "{more}");
        }
        let exempt = |level: &str| {
            crate::inventory::testing::with(&format!(
                "hardening: {{pod_security: {{exemptions: [{{namespace: shop, level: {level}, \
                 reason: r, owner: o, expires: 2999-01-01}}]}}}}\n"
            ))
        };
        assert_eq!(of(&exempt("privileged"), "{namespaces: [shop]}"), Outcome::Pass);
        assert_eq!(of(&exempt("baseline"), "{namespaces: [shop]}"), Outcome::Fail);
        let old = "{defaults: {enforce: restricted, enforce-version: v1.20}}";
        let old = judge_pod_security(&inventory, &crate::yaml::parse(old).unwrap());
        assert_eq!(old.outcome(), Outcome::Fail);
    }

    #[test]
    fn the_stig_wants_everything_and_nothing_else() {
        let stig = "kind: Policy\nrules:\n- level: RequestResponse\n";
        assert_eq!(outcome(stig, AuditPolicy::Stig), Outcome::Pass);
        assert_eq!(outcome(stig, AuditPolicy::Balanced), Outcome::Fail);
        assert_eq!(outcome(BALANCED, AuditPolicy::Stig), Outcome::Fail);
    }
}
