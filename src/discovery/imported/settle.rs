//! What becomes of each setting: passed through, set by a control to the same value, or decided by somebody.

use std::collections::BTreeMap;

use serde_json::Value;

use super::documents::text;
use super::reading::{Draft, Line, Setting, Stated, program};
use crate::controls::{self, Severity};
use crate::inventory::{
    AnyValue, ArgumentValues, Component, Conflict, ControlSwitch, Exception, Inventory,
    KUBEADM_VOLUMES, Passed, Stage, Switch, SwitchedOff,
};

/// A setting that a control sets otherwise.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct OpenConflict {
    /// What, as in `--audit-log-path`.
    pub what: String,
    /// Whose, as in `kube-apiserver`.
    pub component: &'static str,
    /// The cluster's value.
    pub value: String,
    /// Where it was found.
    pub at: String,
    /// The control.
    pub control: &'static str,
    /// How bad it is if the control does not hold.
    pub severity: Severity,
    /// What the control wants.
    pub wants: String,
}

/// What is done about a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The cluster's value stays, and the control is switched off.
    Keep,
    /// The control's value is set.
    Harden,
}

/// A conflict and what was decided.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Answer {
    /// The conflict.
    #[serde(flatten)]
    pub conflict: OpenConflict,
    /// `keep` or `harden`.
    pub decision: &'static str,
}

/// An inventory that is complete.
pub struct Settled {
    /// The inventory.
    pub inventory: Inventory,
    /// Files beside it, by name.
    pub files: BTreeMap<String, String>,
    /// What is a key of the inventory, or what a control sets to the same value.
    pub taken_over: Vec<Line>,
    /// What is passed through.
    pub passed_through: Vec<Line>,
    /// Conflicts and what was decided.
    pub conflicts: Vec<Answer>,
    /// What could not be taken over.
    pub not_taken_over: Vec<Line>,
}

/// Who is responsible for controls that are switched off, and until when.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who.
    pub owner: String,
    /// Last day, `YYYY-MM-DD`.
    pub expires: String,
}

/// What becomes of a setting.
enum Resolution {
    /// Nothing else sets it.
    PassThrough,
    /// A control sets the same value.
    SameAsControl(&'static str),
    /// Something sets it that cannot be switched off; with its value.
    Fixed(String),
    /// A control sets it that can be switched off; with its value.
    Conflict(&'static str, String),
}

impl Draft {
    /// The first conflict of each setting.
    pub fn conflicts(&self) -> Vec<OpenConflict> {
        let open = |s: &Stated| match resolve(&self.inventory, &s.setting) {
            Resolution::Conflict(control, wants) => Some(conflict(s, control, wants)),
            _ => None,
        };
        self.reading.stated.iter().filter_map(open).collect()
    }
}

/// Completes an inventory. `decide` is asked about each conflict.
///
/// # Errors
/// Those of `decide`.
pub fn settle<E>(
    draft: Draft,
    grant: &Grant,
    decide: &mut dyn FnMut(&OpenConflict) -> Result<Decision, E>,
) -> Result<Settled, E> {
    let Draft { mut inventory, files, reading } = draft;
    let (mut taken_over, mut not_taken_over) = (reading.taken_over, reading.not_taken_over);
    let (mut passed_through, mut conflicts) = (Vec::new(), Vec::new());
    for stated in reading.stated {
        let (what, value) = (what(&stated.setting), value(&stated.setting));
        let line = |now: String| Line {
            what: what.clone(),
            value: value.clone(),
            at: stated.at.clone(),
            now,
        };
        loop {
            match resolve(&inventory, &stated.setting) {
                Resolution::PassThrough => {
                    passed_through.push(line(pass(&mut inventory, &stated.setting)));
                }
                Resolution::SameAsControl(control) => {
                    taken_over.push(line(format!("control {control}")))
                }
                Resolution::Fixed(wants) => {
                    not_taken_over.push(line(format!("kubastion sets it: {wants}")))
                }
                Resolution::Conflict(control, wants) => {
                    let conflict = conflict(&stated, control, wants);
                    let decision = decide(&conflict)?;
                    let word = match decision {
                        Decision::Keep => "keep",
                        Decision::Harden => "harden",
                    };
                    if decision == Decision::Keep {
                        let reason = format!("{} {what} is kept as imported", conflict.component);
                        let off = SwitchedOff {
                            reason,
                            owner: grant.owner.clone(),
                            expires: grant.expires.clone(),
                        };
                        let off = ControlSwitch { state: Switch::Off, granted: Some(off) };
                        inventory.hardening.controls.insert(control.to_owned(), off);
                    }
                    conflicts.push(Answer { conflict, decision: word });
                    if decision == Decision::Keep {
                        continue;
                    }
                }
            }
            break;
        }
    }
    for (component, volume, at) in reading.volumes {
        let (what, value) = (format!("volume {}", volume.name), volume.host_path.clone());
        if volume.name.starts_with("kubastion-") || KUBEADM_VOLUMES.contains(&volume.name.as_str())
        {
            let now = "kubeadm or kubastion already uses this volume name".to_owned();
            not_taken_over.push(Line { what, value, at, now });
            continue;
        }
        let now = format!("{}.extra_volumes", component.section());
        passed_through.push(Line { what, value, at, now });
        match component {
            Component::ApiServer => inventory.api_server.extra_volumes.push(volume),
            Component::ControllerManager => inventory.controller_manager.extra_volumes.push(volume),
            Component::Scheduler => inventory.scheduler.extra_volumes.push(volume),
            Component::Kubelet | Component::KubeProxy => {}
        }
    }
    if inventory.has_stacked_etcd() {
        taken_over.push(except_static_pods(&mut inventory, grant));
    }
    // Nobody notices anything until the operator knows who would.
    inventory.hardening.stage = Some(Stage::Observe);
    Ok(Settled { inventory, files, taken_over, passed_through, conflicts, not_taken_over })
}

/// Controls and their checks that no static pod of kubeadm's can meet.
const OF_STATIC_PODS: &[(&str, &str)] = &[
    ("etcd-data-dir", "/var/lib/etcd is etcd's with mode 0700 or tighter"),
    ("etcd-data-dir", "/var/lib/etcd/member is etcd's with mode 0700 or tighter"),
    ("etcd-run-as-user", "user of etcd"),
];

fn except_static_pods(inventory: &mut Inventory, grant: &Grant) -> Line {
    let exceptions = OF_STATIC_PODS.iter().map(|(control, check)| Exception {
        control: (*control).to_owned(),
        check: Some((*check).to_owned()),
        nodes: Vec::new(),
        reason: "kubeadm runs etcd as a static pod, as root".to_owned(),
        owner: grant.owner.clone(),
        expires: grant.expires.clone(),
    });
    inventory.hardening.exceptions.extend(exceptions);
    Line {
        what: "etcd as root".to_owned(),
        value: String::new(),
        at: "static pods of etcd".to_owned(),
        now: format!(
            "exceptions for etcd-data-dir and etcd-run-as-user until {}; remove them once `etcd.placement` is `control-plane`",
            grant.expires
        ),
    }
}

fn conflict(stated: &Stated, control: &'static str, wants: String) -> OpenConflict {
    let (Setting::Flag(component, ..) | Setting::Field(component, ..)) = &stated.setting;
    let row = controls::find(control);
    OpenConflict {
        what: what(&stated.setting),
        component: program(*component),
        value: value(&stated.setting),
        at: stated.at.clone(),
        control,
        severity: row.map_or(Severity::High, |c| c.severity),
        wants,
    }
}

fn what(setting: &Setting) -> String {
    match setting {
        Setting::Flag(_, name, _) => format!("--{name}"),
        Setting::Field(_, path, _) => path.join("."),
    }
}

fn value(setting: &Setting) -> String {
    match setting {
        Setting::Flag(.., values) => values.join(","),
        Setting::Field(.., value) => text(value),
    }
}

fn in_the_way(inventory: &Inventory, setting: &Setting) -> Option<Conflict> {
    match setting {
        Setting::Flag(component, name, values) => {
            controls::conflict(inventory, &Passed::Flag(*component, name, values))
        }
        Setting::Field(component, path, value) => {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            controls::conflict(inventory, &Passed::Field(*component, &path, value))
        }
    }
}

fn resolve(inventory: &Inventory, setting: &Setting) -> Resolution {
    let Some(conflict) = in_the_way(inventory, setting) else { return Resolution::PassThrough };
    let Some(control) = conflict.control else { return Resolution::Fixed(conflict.wants) };
    if conflict.sets.is_some_and(|sets| sets == value(setting)) {
        return Resolution::SameAsControl(control);
    }
    // Some controls set one value or another, also where they are off; if that is the cluster's, it is kept.
    let mut without = inventory.clone();
    without.hardening.controls.insert(control.to_owned(), Switch::Off.into());
    match in_the_way(&without, setting) {
        Some(again)
            if again.control == Some(control)
                && again.sets.as_ref().is_none_or(|sets| *sets != value(setting)) =>
        {
            Resolution::Fixed(conflict.wants)
        }
        _ => Resolution::Conflict(control, conflict.wants),
    }
}

/// Puts a setting into the inventory, and says under which key.
fn pass(inventory: &mut Inventory, setting: &Setting) -> String {
    match setting {
        Setting::Flag(component, name, values) => {
            let all = match component {
                Component::ApiServer => &mut inventory.api_server.extra_args,
                Component::ControllerManager => &mut inventory.controller_manager.extra_args,
                Component::Scheduler => &mut inventory.scheduler.extra_args,
                Component::Kubelet | Component::KubeProxy => &mut inventory.kubelet.extra_args,
            };
            all.insert(name.clone(), ArgumentValues(values.clone()));
            format!("{}.extra_args", component.section())
        }
        Setting::Field(component, path, value) => {
            let all = match component {
                Component::KubeProxy => &mut inventory.kube_proxy.extra,
                _ => &mut inventory.kubelet.extra,
            };
            if let [first, rest @ ..] = path.as_slice() {
                let field = all.entry(first.clone()).or_insert(AnyValue(Value::Null));
                put(&mut field.0, rest, value);
            }
            format!("{}.extra", component.section())
        }
    }
}

fn put(into: &mut Value, path: &[String], value: &Value) {
    let [first, rest @ ..] = path else {
        *into = value.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    if let Some(object) = into.as_object_mut() {
        put(object.entry(first.clone()).or_insert(Value::Null), rest, value);
    }
}
