//! What the inventory may pass through to daemons: whatever no control sets that is on, and neither kubeadm nor a cluster of
//! kubastion needs as it is.

use serde_json::Value;

use super::check::{Check, Config, Daemon, NodeRule, Rule};
use super::daemons::DaemonRow;
use super::set::{Place, Set};
use super::settings::{FlagOrSetting, Row, remediation_of, rows};
use super::{CATALOGUE, Control};
use crate::inventory::{Component, Conflict, Inventory, Passed};

/// The daemon that something is passed through to.
pub fn daemon(component: Component) -> Daemon {
    match component {
        Component::ApiServer => Daemon::Apiserver,
        Component::ControllerManager => Daemon::ControllerManager,
        Component::Scheduler => Daemon::Scheduler,
        Component::Kubelet => Daemon::Kubelet,
        Component::KubeProxy => Daemon::KubeProxy,
    }
}

/// Flags that kubeadm gives a daemon and that `extra_args` may give it otherwise: who issues tokens, which controllers run,
/// and by which of its addresses a node is reached.
const NEGOTIABLE: &[(Daemon, &str)] = &[
    (Daemon::Apiserver, "kubelet-preferred-address-types"),
    (Daemon::Apiserver, "service-account-issuer"),
    (Daemon::ControllerManager, "controllers"),
];

/// Flags that no control is about, and what stands in their place.
const FLAGS: &[(Daemon, &str, &str)] = &[
    (
        Daemon::Kubelet,
        "config-dir",
        "set the fields in `kubelet.extra`: files in the directory would override the kubelet's own configuration",
    ),
    (Daemon::Kubelet, "register-node", "every node registers itself"),
];

/// Fields that no control is about, and what sets them.
const FIELDS: &[(Config, &[&str], &str)] = &[
    (Config::Kubelet, &["apiVersion"], "kubelet.config.k8s.io/v1beta1"),
    (Config::Kubelet, &["kind"], "KubeletConfiguration"),
    (Config::Kubelet, &["cgroupDriver"], "systemd, or cgroupfs on a node with cgroup v1"),
    (Config::Kubelet, &["failCgroupV1"], "true, except on lab nodes"),
    (Config::Kubelet, &["clusterDNS"], "taken from `cluster.service_networks` in the inventory"),
    (Config::Kubelet, &["clusterDomain"], "taken from `cluster.domain` in the inventory"),
    (Config::Kubelet, &["containerRuntimeEndpoint"], "unix:///run/containerd/containerd.sock"),
    (Config::Kubelet, &["healthzPort"], "10248"),
    (Config::Kubelet, &["kubeReserved"], "computed from the memory of each node"),
    (Config::Kubelet, &["resolvConf"], "the node's own resolv.conf"),
    (Config::Kubelet, &["staticPodPath"], "/etc/kubernetes/manifests, on control planes only"),
    (Config::Kubelet, &["systemReserved"], "computed from the memory of each node"),
    (Config::KubeProxy, &["apiVersion"], "kubeproxy.config.k8s.io/v1alpha1"),
    (Config::KubeProxy, &["clientConnection", "kubeconfig"], "kubeadm sets it"),
    (Config::KubeProxy, &["clusterCIDR"], "taken from `cluster.pod_networks` in the inventory"),
    (Config::KubeProxy, &["hostnameOverride"], "the name of each node"),
    (Config::KubeProxy, &["kind"], "KubeProxyConfiguration"),
];

/// What is in the way of something that is passed through.
pub fn conflict(inventory: &Inventory, passed: &Passed<'_>) -> Option<Conflict> {
    match *passed {
        Passed::Flag(component, name, values) => {
            of_flag(inventory, daemon(component), name, values)
        }
        Passed::Field(component, way, value) => {
            let config = match component {
                Component::Kubelet => Config::Kubelet,
                Component::KubeProxy => Config::KubeProxy,
                Component::ApiServer | Component::ControllerManager | Component::Scheduler => {
                    return None;
                }
            };
            of_field(inventory, config, way, value)
        }
    }
}

fn of_flag(
    inventory: &Inventory,
    daemon: Daemon,
    name: &str,
    values: &[String],
) -> Option<Conflict> {
    let joined = values.join(",");
    for row in rows().filter(|r| r.is_of_release(inventory)) {
        let is_meant =
            matches!(row.subject, FlagOrSetting::Flag(of, known) if of == daemon && known == name);
        if is_meant && let Some(sets) = in_the_way(inventory, &row, &joined) {
            return Some(by(row.control, row.subject, sets));
        }
    }
    // A flag stands above the file that has the setting.
    for control in CATALOGUE.iter().filter(|c| c.wanted(inventory)) {
        for check in control.checks {
            if let Check::Setting(config, path, _, Some(flag), _) = *check
                && config.daemon() == daemon
                && flag == name
            {
                return Some(by(control, FlagOrSetting::Setting(config, path), None));
            }
        }
    }
    if matches!(name, "feature-gates" | "runtime-config")
        && let Some(control) = opens_alpha(inventory, &joined)
    {
        let wants = no_alpha(daemon, name);
        return Some(Conflict { control: Some(control.id), wants, sets: None });
    }
    let of_kubeadm = DaemonRow::of(daemon).flags.iter().any(|(known, _)| *known == name);
    if of_kubeadm && !is_list(daemon, name) && !NEGOTIABLE.contains(&(daemon, name)) {
        let who = if daemon == Daemon::Kubelet { "kubeadm or its unit" } else { "kubeadm" };
        let wants = format!("the value that {who} sets from other keys of the inventory");
        return Some(Conflict { control: None, wants, sets: None });
    }
    let (.., wants) = FLAGS.iter().find(|(of, known, _)| *of == daemon && *known == name)?;
    Some(Conflict { control: None, wants: (*wants).to_owned(), sets: None })
}

fn of_field(
    inventory: &Inventory,
    config: Config,
    way: &[&str],
    value: &Value,
) -> Option<Conflict> {
    let said = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for row in rows().filter(|r| r.is_of_release(inventory)) {
        let FlagOrSetting::Setting(of, path) = row.subject else { continue };
        if of == config
            && is_related(path, way)
            && let Some(sets) = in_the_way(inventory, &row, &said)
        {
            // A part of a field, or all around it, is not what the row sets.
            return Some(by(row.control, row.subject, sets.filter(|_| path == way)));
        }
    }
    if let (["featureGates", gate], true) = (way, value == &Value::Bool(true))
        && let Some(control) = opens_alpha(inventory, &format!("{gate}=true"))
    {
        let wants = no_alpha(config.daemon(), "featureGates");
        return Some(Conflict { control: Some(control.id), wants, sets: None });
    }
    let (.., wants) = FIELDS.iter().find(|(of, path, _)| *of == config && is_related(path, way))?;
    Some(Conflict { control: None, wants: (*wants).to_owned(), sets: None })
}

/// Whether a flag is a list that controls and the inventory add to.
pub fn is_list(daemon: Daemon, name: &str) -> bool {
    rows().any(|row| {
        matches!(row.set, Set::Listed(_))
            && matches!(row.subject, FlagOrSetting::Flag(of, known) if of == daemon && known == name)
    })
}

/// Whether one way leads to a part of the other.
fn is_related(a: &[&str], b: &[&str]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// Whether a row sets its flag or field, and to what, or does not bear the value. Entries of a list are added to those of others.
fn in_the_way(inventory: &Inventory, row: &Row, value: &str) -> Option<Option<String>> {
    let wanted = row.control.wanted(inventory);
    match row.set {
        Set::Listed(entry) => {
            let is_file = matches!(row.subject, FlagOrSetting::Setting(..));
            (is_file && wanted).then(|| Some(entry.to_owned()))
        }
        Set::Nothing => (wanted && !bears(row, value)).then_some(None),
        Set::Elsewhere(_) => wanted.then_some(None),
        set => set.value(wanted, &Place { inventory, container: false }).map(Some),
    }
}

/// Whether a value is one that a control takes where it sets none.
fn bears(row: &Row, value: &str) -> bool {
    let rules = row.control.checks.iter().filter_map(|check| match *check {
        Check::Flag(daemon, name, rule, _) if FlagOrSetting::Flag(daemon, name) == row.subject => {
            Some(rule)
        }
        Check::Setting(config, path, rule, ..)
            if FlagOrSetting::Setting(config, path) == row.subject =>
        {
            Some(rule)
        }
        _ => None,
    });
    rules.into_iter().all(|rule| match rule {
        Rule::Absent => false,
        Rule::Is(one) | Rule::IsOrAbsent(one) => value == one,
        Rule::OneOf(some) | Rule::OneOfOrAbsent(some) => some.contains(&value),
        Rule::Lacks(entry) => !value.split(',').any(|e| e.trim() == entry),
        // What is left to be judged on the node.
        _ => true,
    })
}

/// The control that keeps alpha features and APIs off, if the value opens them all.
fn opens_alpha(inventory: &Inventory, value: &str) -> Option<&'static Control> {
    let opens = ["AllAlpha=true", "AllBeta=false", "api/all=true", "api/alpha=true"];
    value.split(',').find(|entry| opens.contains(&entry.trim()))?;
    let control = CATALOGUE
        .iter()
        .find(|c| c.checks.iter().any(|k| matches!(k, Check::Node(NodeRule::NoAlpha))))?;
    control.wanted(inventory).then_some(*control)
}

fn no_alpha(daemon: Daemon, name: &str) -> String {
    format!("{} {name}: name features one by one", daemon.program())
}

fn by(control: &'static Control, subject: FlagOrSetting, sets: Option<String>) -> Conflict {
    let wants = remediation_of(control, |s| s == subject).join("; ");
    Conflict { control: Some(control.id), wants, sets }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inventory::{Role, Switch, testing};

    fn inventory() -> Inventory {
        testing::of_nodes([("cp1", Role::ControlPlane)])
    }

    fn flag(
        inventory: &Inventory,
        component: Component,
        name: &str,
        value: &str,
    ) -> Option<String> {
        let values: Vec<String> = value.split(' ').map(str::to_owned).collect();
        let found = conflict(inventory, &Passed::Flag(component, name, &values))?;
        Some(found.control.unwrap_or("-").to_owned())
    }

    fn field(inventory: &Inventory, way: &[&str], value: Value) -> Option<String> {
        let found = conflict(inventory, &Passed::Field(Component::Kubelet, way, &value))?;
        Some(found.control.unwrap_or("-").to_owned())
    }

    #[test]
    fn what_a_control_sets_is_a_conflict_with_it_as_long_as_it_is_on() {
        let mut i = inventory();
        let api = Component::ApiServer;
        let id = Some("apiserver-profiling-off".to_owned());
        assert_eq!(flag(&i, api, "profiling", "true"), id);
        i.hardening.controls.insert("apiserver-profiling-off".into(), Switch::Off.into());
        assert_eq!(flag(&i, api, "profiling", "true"), None);
        // A value that a control wants absent, and one that only its file may have.
        assert!(flag(&i, api, "token-auth-file", "/etc/tokens.csv").is_some());
        assert!(flag(&i, Component::Kubelet, "anonymous-auth", "true").is_some());
        assert!(flag(&i, Component::Scheduler, "profiling", "true").is_some());
    }

    #[test]
    fn what_kubeadm_needs_as_it_is_belongs_to_no_control() {
        let i = inventory();
        let none = Some("-".to_owned());
        assert_eq!(flag(&i, Component::ApiServer, "advertise-address", "192.0.2.1"), none);
        assert_eq!(flag(&i, Component::Kubelet, "node-labels", "a=b"), none);
        assert_eq!(flag(&i, Component::Kubelet, "config-dir", "/etc/x"), none);
        assert_eq!(field(&i, &["clusterDNS"], json!(["10.96.0.10"])), none);
        assert_eq!(field(&i, &["kubeReserved", "pid"], json!("100")), none);
    }

    #[test]
    fn what_nobody_sets_is_passed_through() {
        let i = inventory();
        let api = Component::ApiServer;
        for (name, value) in [
            ("event-ttl", "3h0m0s"),
            ("feature-gates", "HPAScaleToZero=true"),
            ("service-account-issuer", "https://a.example https://b.example"),
            ("enable-admission-plugins", "PodNodeSelector"),
            ("disable-admission-plugins", "DefaultTolerationSeconds"),
            ("runtime-config", "resource.k8s.io/v1beta1=true"),
        ] {
            assert_eq!(flag(&i, api, name, value), None, "{name}");
        }
        assert_eq!(field(&i, &["maxPods"], json!(60)), None);
        assert_eq!(field(&i, &["authentication", "webhook", "cacheTTL"], json!("2m")), None);
        assert_eq!(field(&i, &["featureGates", "KubeletPodResources"], json!(true)), None);
    }

    #[test]
    fn values_that_a_control_forbids_are_a_conflict_and_others_of_the_same_flag_are_none() {
        let i = inventory();
        let api = Component::ApiServer;
        for (name, value) in [
            ("enable-admission-plugins", "PodNodeSelector,AlwaysAdmit"),
            ("disable-admission-plugins", "ServiceAccount"),
            ("feature-gates", "A=true,AllAlpha=true"),
            ("runtime-config", "api/all=true"),
        ] {
            assert!(flag(&i, api, name, value).is_some_and(|c| c != "-"), "{name}");
        }
        assert!(field(&i, &["featureGates", "AllAlpha"], json!(true)).is_some());
        assert!(field(&i, &["authentication"], json!({})).is_some());
        assert!(field(&i, &["enableSystemLogQuery"], json!(true)).is_some());
    }

    /// A row of the tables that a control is about would say something else than the control.
    #[test]
    fn the_tables_name_what_exists_and_nothing_that_a_control_is_about() {
        for (daemon, name) in NEGOTIABLE {
            assert!(DaemonRow::of(*daemon).flags.iter().any(|(known, _)| known == name), "{name}");
        }
        for row in rows().filter(|r| !matches!(r.set, Set::Nothing | Set::Elsewhere(_))) {
            match row.subject {
                FlagOrSetting::Flag(of, name) => {
                    assert!(!FLAGS.iter().any(|(d, n, _)| *d == of && *n == name), "{name}");
                }
                FlagOrSetting::Setting(of, path) => {
                    let known = FIELDS.iter().any(|(c, p, _)| *c == of && *p == path);
                    assert!(!known, "{path:?}");
                }
            }
        }
    }
}
