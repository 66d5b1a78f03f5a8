//! The catalogue of controls, for people and machines.

use std::fmt::Write as _;

use crate::checks::{check_expectation, check_words};
use crate::controls::settings::remediation;
use crate::controls::{ALL_MINORS, Affected, Check, Control, Disruption, Scope};
use crate::report::table::{self, Column};

/// A line a control.
pub fn list(rows: &[&Control]) -> String {
    let cells = |c: &&Control| [c.id.to_owned(), c.severity.to_string(), c.title.to_owned()];
    table::text([Column::TEXT, SEVERITY, Column::TEXT], rows.iter().map(cells))
}

/// As wide as `critical`.
const SEVERITY: Column = Column::TEXT.at_least(8);

/// Everything about one control: where it comes from, and how it is judged.
pub fn show(c: &Control) -> String {
    let mut out = format!("{}\n  {}\n\n", c.id, c.title);
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            rows.push([format!("  {name}"), value.to_owned()]);
        }
    };
    line("component", &c.component.to_string());
    line("severity", &c.severity.to_string());
    line("NSA/CISA", c.references.nsa);
    line("CIS", &c.references.cis.join(", "));
    line("STIG", &c.references.stig.join(", "));
    line("kubescape", &c.references.kubescape.join(", "));
    line("profiles", &word(&c.profiles));
    line("checked on", scope(c.scope));
    line("needs", &word(&c.needs));
    if c.minors != ALL_MINORS {
        line("releases", &format!("1.{} to 1.{}", c.minors.0, c.minors.1));
    }
    line("restarts", &restarts(&c.disruption));
    line("affects", &affected(&c.disruption));
    out.push_str(&table::text([Column::TEXT, Column::TEXT], rows));
    out.push_str("\n  Passes if all of these hold:\n");
    for check in c.checks {
        let _ = writeln!(out, "    - {}", how(check));
    }
    let remediation = remediation(c);
    if !remediation.is_empty() {
        out.push_str("\n  Settings:\n");
        for line in remediation {
            let _ = writeln!(out, "    - {line}");
        }
    }
    if c.checks.len() > 1 {
        out.push_str("\n  An exception names one of these as its `check`:\n");
        for check in c.checks {
            let _ = writeln!(out, "    - {}", check_words(check));
        }
    }
    out
}

/// Daemons that restart to make a control hold.
pub fn restarts(disruption: &Disruption) -> String {
    let names: Vec<&str> = disruption.restarts.iter().map(|d| d.program()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Who is affected when a control is made to hold.
pub fn affected(disruption: &Disruption) -> String {
    let words: Vec<&str> =
        disruption.everyone_affected().into_iter().map(Affected::words).collect();
    if words.is_empty() { Affected::Nobody.words().to_owned() } else { words.join("; ") }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Every => "every node",
        Scope::ControlPlane => "control planes",
        Scope::EtcdMember => "etcd members",
        Scope::Kubelet => "control planes and workers",
        Scope::Worker => "workers",
        Scope::Cluster => "the cluster",
    }
}

/// A unit variant as serde writes it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn how(check: &Check) -> String {
    match (check_words(check), check_expectation(check)) {
        (what, Some(expected)) => format!("{what}: {expected}"),
        (what, None) => what,
    }
}

/// The same for machines.
pub fn shown(control: &'static Control) -> serde_json::Value {
    let mut value = serde_json::to_value(control).unwrap_or_default();
    value["checks"] = control.checks.iter().map(how).collect();
    value["remediation"] = remediation(control).into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::CATALOGUE;

    /// Somebody who has to put it right by hand is told what to write where.
    #[test]
    fn a_control_about_a_flag_or_a_setting_says_how_it_is_set() {
        for (id, line) in [
            ("apiserver-profiling-off", "kube-apiserver --profiling=false"),
            (
                "apiserver-audit-log-rotation",
                "kube-apiserver --audit-log-maxage: the value of `audit.max_age_days` in the inventory",
            ),
            (
                "apiserver-admission-noderestriction",
                "kube-apiserver --enable-admission-plugins: add NodeRestriction to the list",
            ),
            (
                "apiserver-admission-no-alwaysadmit",
                "kube-apiserver --enable-admission-plugins: remove AlwaysAdmit from the list",
            ),
            ("apiserver-no-static-credentials", "kube-apiserver --token-auth-file: remove it"),
            (
                "kubelet-anonymous-auth",
                "KubeletConfiguration authentication.anonymous.enabled: false",
            ),
            ("kubelet-pod-pids-limit", "KubeletConfiguration podPidsLimit: 4096"),
            ("etcd-no-auto-tls", "etcd --auto-tls=false"),
        ] {
            let control = crate::controls::find(id).unwrap();
            assert!(show(control).contains(&format!("    - {line}\n")), "{}", show(control));
            let json = shown(control);
            assert!(json["remediation"].as_array().unwrap().contains(&line.into()), "{json}");
        }
        for c in CATALOGUE {
            let about = c.checks.iter().any(|k| matches!(k, Check::Flag(..) | Check::Setting(..)));
            assert!(!about || !remediation(c).is_empty(), "{}", c.id);
        }
    }

    #[test]
    fn every_control_can_be_shown() {
        for c in CATALOGUE {
            let text = show(c);
            assert!(text.starts_with(c.id) && text.contains("    - "), "{text}");
        }
        assert_eq!(list(&CATALOGUE).lines().count(), CATALOGUE.len());
    }
}
