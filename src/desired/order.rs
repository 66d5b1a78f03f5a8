//! Flags and settings that the rows of the catalogue ask for, in the order in which they are written.

use super::context::Context;
use crate::controls::set::{Place, Set};
use crate::controls::settings::{self, FlagOrSetting, Row};
use crate::controls::{Config, Daemon};
use crate::render::Text;
use crate::render::input::kubernetes::{Setting, Shape};

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
];

/// Place of a name, for sorting.
fn place_of(name: &str) -> (usize, &str) {
    (AS_BEFORE.iter().position(|n| *n == name).unwrap_or(AS_BEFORE.len()), name)
}

/// Flags of a daemon with their values, and the controls that want them or their absence.
pub(super) struct Flags {
    pub flags: Vec<(&'static str, String)>,
    pub controls: Vec<&'static str>,
}

/// Flags of a daemon. `also` are those that no control is about.
pub(super) fn flags(context: &Context<'_>, daemon: Daemon, also: &[(&'static str, &str)]) -> Flags {
    let place = place(context);
    let mut flags: Vec<(&'static str, String)> =
        also.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut lists: Vec<(&'static str, Vec<String>)> = Vec::new();
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
    let key = |name: &'static str| {
        let own = own(name);
        let own = AS_BEFORE.iter().find(|n| **n == own);
        place_of(own.copied().unwrap_or(name))
    };
    flags.sort_by_key(|(name, _)| key(name));
    Flags { flags, controls }
}

/// Settings of a configuration file, as the lines of its document. `also` are those that no control is about.
pub(super) fn settings(
    context: &Context<'_>,
    config: Config,
    also: Vec<(&'static [&'static str], Shape)>,
) -> Vec<Setting> {
    let place = place(context);
    let mut all = also;
    for row in settings::rows() {
        let FlagOrSetting::Setting(of, path) = row.subject else { continue };
        if of != config || !row.is_of_release(context.inventory) {
            continue;
        }
        let value = row.set.value(row.control.wanted(context.inventory), &place);
        if let Some(value) = value.filter(|_| !all.iter().any(|(p, _)| *p == path)) {
            all.push((path, shape(&row, &value)));
        }
    }
    all.sort_by_key(|(path, _)| (place_of(path[0]), *path));
    lines(&all)
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
    if matches!(row.set, Set::Suites | Set::Listed(_)) {
        return Shape::List(Text::all(value.split(',')));
    }
    match (value, value.parse()) {
        ("true", _) => Shape::Switch(true),
        ("false", _) => Shape::Switch(false),
        (_, Ok(number)) => Shape::Number(number),
        (word, Err(_)) => Shape::Word(Text::of(word)),
    }
}

/// One line for each key, of a section before what is in it.
fn lines(all: &[(&'static [&'static str], Shape)]) -> Vec<Setting> {
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
        let all: [(&'static [&'static str], Shape); 4] = [
            (&["a", "b", "c"], Shape::Switch(true)),
            (&["a", "b", "d"], Shape::Number(1)),
            (&["a", "e"], Shape::Switch(false)),
            (&["e"], Shape::Number(2)),
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
