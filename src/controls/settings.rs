//! The flags and settings of all controls: what is set where, for daemons and for people.

use super::check::{Check, Config, Daemon, Rule};
use super::model::Control;
use super::set::{SUITES, Set};
use super::{CATALOGUE, find};
use crate::inventory::Inventory;

/// What is set for a control and judged by no check of its own: by the control's other checks, or as a part of the command
/// line (`*-in-effect`).
#[derive(Debug)]
pub struct Also {
    /// The control.
    pub control: &'static str,
    /// Where.
    pub subject: FlagOrSetting,
    /// How.
    pub set: Set,
}

/// A flag or a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagOrSetting {
    /// A flag of a daemon.
    Flag(Daemon, &'static str),
    /// A path in a configuration file.
    Setting(Config, &'static [&'static str]),
}

const fn also(control: &'static str, daemon: Daemon, flag: &'static str, set: Set) -> Also {
    Also { control, subject: FlagOrSetting::Flag(daemon, flag), set }
}

/// What is set beside what checks are about.
pub static ALSO: &[Also] = &[
    also(
        "apiserver-admission-namespacelifecycle",
        Daemon::Apiserver,
        PLUGINS,
        Set::Listed("NamespaceLifecycle"),
    ),
    also(
        "apiserver-admission-serviceaccount",
        Daemon::Apiserver,
        PLUGINS,
        Set::Listed("ServiceAccount"),
    ),
    also(
        "apiserver-admission-validatingwebhook",
        Daemon::Apiserver,
        PLUGINS,
        Set::Listed("MutatingAdmissionWebhook"),
    ),
    also("policy-pod-security", Daemon::Apiserver, PLUGINS, Set::Listed("PodSecurity")),
    also(
        "apiserver-anonymous-auth",
        Daemon::Apiserver,
        "anonymous-auth",
        Set::Inventory(PROBES, |i| on(PROBES, i).then(|| "false".to_owned())),
    ),
    // Probes without credentials need answers on the health paths.
    also(
        "apiserver-anonymous-auth",
        Daemon::Apiserver,
        "authentication-config",
        Set::Inventory(PROBES, |i| {
            (!on(PROBES, i)).then(|| "/etc/kubernetes/config/authentication.yaml".to_owned())
        }),
    ),
    also(
        "apiserver-encryption-config",
        Daemon::Apiserver,
        "encryption-provider-config-automatic-reload",
        Set::To("true"),
    ),
    also("kcm-tls-min-version", Daemon::ControllerManager, "tls-cipher-suites", Set::Suites),
    also(
        "pki-key-algorithm-and-lifetime",
        Daemon::ControllerManager,
        "cluster-signing-duration",
        Set::Inventory("pki.leaf_days", |i| Some(format!("{}h0m0s", i.pki.leaf_days * 24))),
    ),
    // From files: one that asks an API server for the CAs of clients when it starts ends where none answers yet,
    // and is started again ever later; or, if told to go on, takes every certificate for anonymous.
    also(
        "scheduler-client-ca",
        Daemon::Scheduler,
        "requestheader-allowed-names",
        Set::To("front-proxy-client"),
    ),
    also("scheduler-tls-min-version", Daemon::Scheduler, "tls-cipher-suites", Set::Suites),
    // Without it, nothing of exec, logs and port-forward works.
    Also {
        control: "kubelet-debug-handlers",
        subject: FlagOrSetting::Setting(Config::Kubelet, &["enableDebuggingHandlers"]),
        set: Set::To("true"),
    },
];

const PLUGINS: &str = "enable-admission-plugins";

const PROBES: &str = "apiserver-authenticated-probes";

fn on(control: &str, inventory: &Inventory) -> bool {
    find(control).is_some_and(|c| c.wanted(inventory))
}

/// A flag or a setting of a control, with how it is set.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The control.
    pub control: &'static Control,
    /// Where.
    pub subject: FlagOrSetting,
    /// How: never [`Set::AsJudged`].
    pub set: Set,
}

/// Every flag and setting that a control is about, by control; what goes with them last.
pub fn rows() -> impl Iterator<Item = Row> {
    let judged = CATALOGUE.iter().copied().flat_map(|control| {
        let row =
            move |check: &Check| of(check).map(|(subject, set)| Row { control, subject, set });
        control.checks.iter().filter_map(row)
    });
    let also = ALSO
        .iter()
        .filter_map(|a| Some(Row { control: find(a.control)?, subject: a.subject, set: a.set }));
    judged.chain(also)
}

/// What a check is about, if that is a flag or a setting, and how it is set.
fn of(check: &Check) -> Option<(FlagOrSetting, Set)> {
    match *check {
        Check::Flag(daemon, name, rule, set) => {
            Some((FlagOrSetting::Flag(daemon, name), by(set, rule)))
        }
        Check::Setting(config, path, rule, _, set) => {
            Some((FlagOrSetting::Setting(config, path), by(set, rule)))
        }
        _ => None,
    }
}

impl Row {
    /// Whether this program sets it, if only by leaving it out.
    pub fn is_ours(&self) -> bool {
        !matches!(self.set, Set::Elsewhere(_))
    }

    /// Whether the cluster's release has it.
    pub fn is_of_release(&self, inventory: &Inventory) -> bool {
        let (first, last) = self.control.minors;
        (first..=last).contains(&inventory.cluster.kubernetes.minor)
    }

    /// What people set where, on one line.
    pub fn remediation(&self) -> String {
        match self.subject {
            FlagOrSetting::Flag(daemon, name) => {
                let flag = format!("{} --{name}", daemon.program());
                match self.set {
                    Set::To(value) | Set::Always(value) => format!("{flag}={value}"),
                    Set::Switch { on, .. } => format!("{flag}={on}"),
                    Set::Listed(entry) => format!("{flag}: add {entry} to the list"),
                    Set::Inventory(key, _) => {
                        format!("{flag}: the value of `{key}` in the inventory")
                    }
                    Set::Suites => format!("{flag}={}", SUITES.join(",")),
                    Set::AsJudged | Set::Nothing => format!("{flag}: remove it"),
                    Set::Elsewhere(words) => format!("{flag}: {words}"),
                }
            }
            FlagOrSetting::Setting(config, path) => {
                let key = format!("{} {}", config.kind(), path.join("."));
                match self.set {
                    Set::To(value) | Set::Always(value) => format!("{key}: {value}"),
                    Set::Listed(entry) => format!("{key}: [{entry}]"),
                    Set::Switch { on, .. } => format!("{key}: {on}"),
                    Set::Inventory(name, _) => {
                        format!("{key}: the value of `{name}` in the inventory")
                    }
                    Set::Suites => format!("{key}: [{}]", SUITES.join(", ")),
                    Set::AsJudged | Set::Nothing => format!("{key}: remove it"),
                    Set::Elsewhere(words) => format!("{key}: {words}"),
                }
            }
        }
    }
}

/// What people set where for a control, a line each.
pub fn remediation(control: &Control) -> Vec<String> {
    remediation_of(control, |_| true)
}

/// The same for some of its flags and settings.
pub fn remediation_of(control: &Control, is_meant: impl Fn(FlagOrSetting) -> bool) -> Vec<String> {
    let of = rows().filter(|row| row.control.id == control.id && is_meant(row.subject));
    let mut lines: Vec<String> = Vec::new();
    for row in of {
        // A list that has to lack something is left as it is otherwise.
        let line = match lacking(control, row.subject) {
            Some(entry) if matches!(row.set, Set::Nothing) => without(row.subject, entry),
            _ => row.remediation(),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// What a list may not hold, by a check of the control.
fn lacking(control: &Control, subject: FlagOrSetting) -> Option<&'static str> {
    control.checks.iter().find_map(|check| match *check {
        Check::Flag(daemon, name, Rule::Lacks(entry), _)
            if FlagOrSetting::Flag(daemon, name) == subject =>
        {
            Some(entry)
        }
        _ => None,
    })
}

fn without(subject: FlagOrSetting, entry: &str) -> String {
    match subject {
        FlagOrSetting::Flag(daemon, name) => {
            format!("{} --{name}: remove {entry} from the list", daemon.program())
        }
        FlagOrSetting::Setting(config, path) => {
            format!("{} {}: remove {entry} from the list", config.kind(), path.join("."))
        }
    }
}

/// With the value that a rule names in place of [`Set::AsJudged`]. A rule that names none is nothing to set by; a
/// test finds it.
fn by(set: Set, rule: Rule) -> Set {
    match (set, rule) {
        (Set::AsJudged, Rule::Is(value) | Rule::IsOrAbsent(value)) => Set::To(value),
        (Set::AsJudged, Rule::Has(entry)) => Set::Listed(entry),
        (Set::AsJudged, _) => Set::Nothing,
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A misspelt id would set nothing, and an id of a control that is about no flag would say so too late.
    #[test]
    fn what_goes_with_a_control_names_one() {
        for a in ALSO {
            assert!(find(a.control).is_some(), "{}", a.control);
        }
    }

    /// A file is written for all nodes that have the daemon: a control of fewer nodes would set its value on all of them.
    #[test]
    fn what_is_set_is_judged_wherever_its_daemon_runs() {
        use crate::controls::Scope;
        for row in rows().filter(|r| r.is_ours() && !matches!(r.set, Set::Nothing)) {
            let daemon = match row.subject {
                FlagOrSetting::Flag(daemon, _) => daemon,
                FlagOrSetting::Setting(config, _) => config.daemon(),
            };
            let wanted = match daemon {
                Daemon::Etcd => Scope::EtcdMember,
                Daemon::Kubelet | Daemon::KubeProxy | Daemon::Containerd => Scope::Kubelet,
                Daemon::Apiserver
                | Daemon::ControllerManager
                | Daemon::Scheduler
                | Daemon::Haproxy
                | Daemon::Keepalived => Scope::ControlPlane,
            };
            // Certificates are judged on every node.
            let everywhere = row.control.scope == Scope::Every;
            assert!(row.control.scope == wanted || everywhere, "{}", row.control.id);
        }
    }

    /// Two controls may want one flag, with one value.
    #[test]
    fn a_flag_has_one_value_whoever_wants_it() {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for row in rows().filter(|r| matches!(r.set, Set::To(_) | Set::Always(_) | Set::Suites)) {
            let subject = format!("{:?}", row.subject);
            let said = row.remediation();
            let before = seen.insert(subject, said.clone());
            assert!(before.is_none_or(|b| b == said), "{said}");
        }
    }

    /// A rule that accepts several values names none, and somebody has to choose.
    #[test]
    fn what_is_set_as_judged_has_a_rule_that_names_a_value() {
        for control in CATALOGUE {
            for check in control.checks {
                let (Check::Flag(_, _, rule, Set::AsJudged)
                | Check::Setting(_, _, rule, _, Set::AsJudged)) = check
                else {
                    continue;
                };
                let named = matches!(
                    rule,
                    Rule::Is(_)
                        | Rule::IsOrAbsent(_)
                        | Rule::Has(_)
                        | Rule::Absent
                        | Rule::Lacks(_)
                );
                assert!(named, "{}: {rule:?} names no value", control.id);
            }
        }
    }
}
