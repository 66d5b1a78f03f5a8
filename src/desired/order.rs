//! Flags and settings that the rows of the catalogue ask for, in the order in which they are written.

use serde_json::Value;

use super::context::Context;
use crate::controls::set::{Place, Set};
use crate::controls::settings::{self, FlagOrSetting, Row};
use crate::controls::{Config, Daemon};
use crate::inventory::{ArgumentValues, Component, fields};
use crate::render::Text;
use crate::render::input::kubernetes::{FlowMark, FlowPart, Setting, Shape};

/// The order that former versions wrote things in. A file in another order is another file: a control plane would be rendered
/// anew, and an etcd started anew, for nothing. What is not here follows by name, so that nothing new has to be added.
const AS_BEFORE: &[&str] = &[
    // etcd.
    "listen-metrics-urls",
    "cert-file",
    "key-file",
    "client-cert-auth",
    "trusted-ca-file",
    "auto-tls",
    "peer-cert-file",
    "peer-key-file",
    "peer-client-cert-auth",
    "peer-trusted-ca-file",
    "peer-auto-tls",
    "cipher-suites",
    "quota-backend-bytes",
    "auto-compaction-mode",
    "auto-compaction-retention",
    // kube-apiserver.
    "kubelet-certificate-authority",
    "kubelet-client-certificate",
    "kubelet-client-key",
    "authorization-mode",
    "profiling",
    "audit-policy-file",
    "audit-log-path",
    "audit-log-maxage",
    "audit-log-maxbackup",
    "audit-log-maxsize",
    "request-timeout",
    "service-account-lookup",
    "service-account-key-file",
    "service-account-signing-key-file",
    "service-account-max-token-expiration",
    "service-account-extend-token-expiration",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "tls-cert-file",
    "tls-private-key-file",
    // kube-controller-manager and kube-scheduler, and what all three have.
    "terminated-pod-gc-threshold",
    "use-service-account-credentials",
    "service-account-private-key-file",
    "root-ca-file",
    "client-ca-file",
    "requestheader-client-ca-file",
    "requestheader-allowed-names",
    "bind-address",
    "enable-bootstrap-token-auth",
    // The API server has its suites before its version, the others after it.
    "tls-cipher-suites of kube-apiserver",
    "tls-min-version",
    "tls-cipher-suites",
    "encryption-provider-config",
    "encryption-provider-config-automatic-reload",
    "anonymous-auth",
    "authentication-config",
    "shutdown-watch-termination-grace-period",
    "cluster-signing-duration",
    "enable-admission-plugins",
    "admission-control-config-file",
    // Admission plugins.
    "NodeRestriction",
    "PodSecurity",
    "ServiceAccount",
    "NamespaceLifecycle",
    "EventRateLimit",
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "ValidatingAdmissionWebhook",
    "MutatingAdmissionWebhook",
    // KubeletConfiguration.
    "authentication",
    "authorization",
    "cgroupDriver",
    "failCgroupV1",
    "clusterDomain",
    "clusterDNS",
    "healthzBindAddress",
    "healthzPort",
    "rotateCertificates",
    "serverTLSBootstrap",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "tlsMinVersion",
    "tlsCipherSuites",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "eventRecordQPS",
    "streamingConnectionIdleTimeout",
    "seccompDefault",
    "podPidsLimit",
    "enableDebuggingHandlers",
    "enableDebugFlagsHandler",
    "enableProfilingHandler",
    "enableSystemLogQuery",
    "imageMaximumGCAge",
    "imagePullCredentialsVerificationPolicy",
    // KubeProxyConfiguration.
    "clusterCIDR",
    "metricsBindAddress",
    "nodePortAddresses",
    "iptables",
];

/// Place of a name, for sorting.
fn place_of(name: &str) -> (usize, &str) {
    (AS_BEFORE.iter().position(|n| *n == name).unwrap_or(AS_BEFORE.len()), name)
}

/// Flags of a daemon with their values, and the controls that want them or their absence.
pub(super) struct Flags<'a> {
    pub flags: Vec<(&'a str, String)>,
    pub controls: Vec<&'static str>,
}

/// What is passed through to a daemon.
fn component(daemon: Daemon) -> Option<Component> {
    Component::ALL.iter().copied().find(|c| crate::controls::daemon(*c) == daemon)
}

/// Flags of a daemon. `also` are those that no control is about. What the inventory passes through stands in place of both,
/// which it may only where the control is switched off; entries of a list are added to it.
pub(super) fn flags<'a>(
    context: &Context<'a>,
    daemon: Daemon,
    also: &[(&'static str, &str)],
) -> Flags<'a> {
    let place = place(context);
    let mut flags: Vec<(&'a str, String)> = Vec::new();
    let mut lists: Vec<(&'a str, Vec<String>)> = Vec::new();
    let passed = component(daemon).map(|c| context.inventory.extra_args(c));
    for (name, ArgumentValues(values)) in passed.into_iter().flatten() {
        if crate::controls::is_list(daemon, name) {
            let entries = values.iter().flat_map(|v| v.split(',')).map(|e| e.trim().to_owned());
            lists.push((name, entries.collect()));
        } else {
            flags.extend(values.iter().map(|value| (name.as_str(), value.clone())));
        }
    }
    for (name, value) in also {
        if !flags.iter().any(|(n, _)| n == name) {
            flags.push((name, (*value).to_owned()));
        }
    }
    let mut controls = Vec::new();
    let rows = settings::rows().filter_map(|row| match row.subject {
        FlagOrSetting::Flag(of, name) if of == daemon && row.is_ours() => Some((name, row)),
        _ => None,
    });
    for (name, row) in rows {
        controls.push(row.control.id);
        if !row.is_of_release(context.inventory) {
            continue;
        }
        // What a member runs with is no matter of switches: a cluster needs it as it is.
        let wanted = daemon == Daemon::Etcd || row.control.wanted(context.inventory);
        let Some(value) = row.set.value(wanted, &place) else { continue };
        if matches!(row.set, Set::Listed(_)) {
            match lists.iter_mut().find(|(n, _)| *n == name) {
                Some((_, entries)) => entries.push(value),
                None => lists.push((name, vec![value])),
            }
        } else if !flags.iter().any(|(n, _)| *n == name) {
            flags.push((name, value));
        }
    }
    for (name, mut entries) in lists {
        entries.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
        entries.dedup();
        flags.push((name, entries.join(",")));
    }
    let own = |name: &str| format!("{name} of {}", daemon.program());
    let key = |name: &'a str| -> (usize, &'a str) {
        let own = own(name);
        let own = AS_BEFORE.iter().find(|n| **n == own);
        place_of(own.copied().unwrap_or(name))
    };
    flags.sort_by_key(|(name, _)| key(name));
    Flags { flags, controls }
}

/// Settings of a configuration file, as the lines of its document. `also` are those that no control is about. What the
/// inventory passes through stands in place of what a control would set that is switched off.
pub(super) fn settings(
    context: &Context<'_>,
    config: Config,
    also: Vec<(&'static [&'static str], Shape)>,
) -> Vec<Setting> {
    let place = place(context);
    let mut all: Vec<(Vec<&str>, Shape)> =
        also.into_iter().map(|(path, shape)| (path.to_vec(), shape)).collect();
    let passed = component(config.daemon()).map(|c| context.inventory.extra_fields(c));
    for (way, value) in passed.into_iter().flat_map(fields) {
        all.push(within(way, value));
    }
    for row in settings::rows() {
        let FlagOrSetting::Setting(of, path) = row.subject else { continue };
        if of != config || !row.is_of_release(context.inventory) {
            continue;
        }
        let value = row.set.value(row.control.wanted(context.inventory), &place);
        // A field that is passed through may be all of what the control would set a part of.
        let is_there = |(p, _): &(Vec<&str>, Shape)| p.iter().zip(path).all(|(a, b)| a == b);
        if let Some(value) = value.filter(|_| !all.iter().any(is_there)) {
            all.push((path.to_vec(), shape(&row, &value)));
        }
    }
    all.sort_by(|(a, _), (b, _)| (place_of(a[0]), a).cmp(&(place_of(b[0]), b)));
    lines(&all)
}

/// How many sections a document may have in each other; what is deeper stands on one line.
const DEPTH: usize = 3;

/// A field with the value that is passed through: below as many sections as a document has.
fn within<'v>(mut way: Vec<&'v str>, value: &Value) -> (Vec<&'v str>, Shape) {
    let inner = way.split_off(way.len().min(DEPTH));
    let value = inner.into_iter().rev().fold(value.clone(), |value, key| {
        Value::Object([(key.to_owned(), value)].into_iter().collect())
    });
    let shape = match &value {
        Value::Bool(on) => Shape::Switch(*on),
        Value::String(text) => Shape::Quoted(Text::of(text)),
        Value::Number(n) if n.is_i64() => Shape::Number(n.as_i64().unwrap_or_default()),
        other => {
            let mut parts = Vec::new();
            flow(other, &mut parts);
            Shape::Flow(parts)
        }
    };
    (way, shape)
}

/// A value on one line.
fn flow(value: &Value, parts: &mut Vec<FlowPart>) {
    let mark = |parts: &mut Vec<FlowPart>, mark| parts.push(FlowPart::Mark(mark));
    match value {
        Value::Null => mark(parts, FlowMark::Null),
        Value::Bool(on) => parts.push(FlowPart::Switch(*on)),
        Value::Number(n) => parts.push(FlowPart::Number(n.clone())),
        Value::String(text) => parts.push(FlowPart::Text(Text::of(text))),
        Value::Array(items) => {
            mark(parts, FlowMark::ListBegins);
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    mark(parts, FlowMark::Next);
                }
                flow(item, parts);
            }
            mark(parts, FlowMark::ListEnds);
        }
        Value::Object(entries) => {
            mark(parts, FlowMark::MappingBegins);
            for (n, (key, value)) in entries.iter().enumerate() {
                if n > 0 {
                    mark(parts, FlowMark::Next);
                }
                parts.push(FlowPart::Text(Text::of(key)));
                mark(parts, FlowMark::Is);
                flow(value, parts);
            }
            mark(parts, FlowMark::MappingEnds);
        }
    }
}

/// Controls that a configuration file is written for.
pub(super) fn of_settings(config: Config) -> impl Iterator<Item = &'static str> {
    settings::rows().filter_map(move |row| match row.subject {
        FlagOrSetting::Setting(of, _) if of == config && row.is_ours() => Some(row.control.id),
        _ => None,
    })
}

fn place<'a>(context: &Context<'a>) -> Place<'a> {
    Place { inventory: context.inventory, container: context.platform.container }
}

/// A value of a row in the type that it has in a document.
fn shape(row: &Row, value: &str) -> Shape {
    match row.set {
        Set::Suites => return Shape::List(Text::all(value.split(','))),
        Set::Listed(entry) => return Shape::Words(Text::all([entry])),
        _ => {}
    }
    match (value, value.parse()) {
        ("true", _) => Shape::Switch(true),
        ("false", _) => Shape::Switch(false),
        (_, Ok(number)) => Shape::Number(number),
        (word, Err(_)) => Shape::Word(Text::of(word)),
    }
}

/// One line for each key, of a section before what is in it.
fn lines(all: &[(Vec<&str>, Shape)]) -> Vec<Setting> {
    let mut lines = Vec::new();
    let mut before: &[&str] = &[];
    for (path, shape) in all {
        for depth in 0..path.len() {
            let last = depth + 1 == path.len();
            if last || before.get(..=depth) != Some(&path[..=depth]) {
                let shape = if last { shape.clone() } else { Shape::Section };
                lines.push(Setting { depth, key: Text::of(path[depth]), shape });
            }
        }
        before = path;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_stand_once_and_before_what_is_in_them() {
        let all = [
            (vec!["a", "b", "c"], Shape::Switch(true)),
            (vec!["a", "b", "d"], Shape::Number(1)),
            (vec!["a", "e"], Shape::Switch(false)),
            (vec!["e"], Shape::Number(2)),
        ];
        let shown: Vec<String> =
            lines(&all).iter().map(|l| format!("{} {:?}", l.depth, l.key)).collect();
        let keys = [(0, "a"), (1, "b"), (2, "c"), (2, "d"), (1, "e"), (0, "e")];
        let wanted = keys.map(|(depth, key)| format!("{depth} {:?}", Text::of(key)));
        assert_eq!(shown, wanted);
    }

    #[test]
    fn the_order_names_nothing_twice() {
        let names: std::collections::BTreeSet<&str> = AS_BEFORE.iter().copied().collect();
        assert_eq!(names.len(), AS_BEFORE.len());
    }
}
