//! What an inventory passes through to daemons, by component, and what may be in the way of it.

use std::collections::BTreeMap;

use super::model::Inventory;
use super::passthrough::{AnyValue, ArgumentValues, ExtraVolume};

/// Who something is passed through to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
}

impl Component {
    /// All of them, in the order of the inventory.
    pub const ALL: &[Component] = &[
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kubelet,
        Component::KubeProxy,
    ];

    /// Its section of the inventory.
    pub fn section(self) -> &'static str {
        match self {
            Component::ApiServer => "api_server",
            Component::ControllerManager => "controller_manager",
            Component::Scheduler => "scheduler",
            Component::Kubelet => "kubelet",
            Component::KubeProxy => "kube_proxy",
        }
    }
}

/// Something that the inventory passes through.
#[derive(Debug, Clone, Copy)]
pub enum Passed<'a> {
    /// A flag and its values.
    Flag(Component, &'a str, &'a [String]),
    /// A field of a configuration, by the way to it, and its value, which is no mapping with fields of its own.
    Field(Component, &'a [&'a str], &'a serde_json::Value),
}

/// Why something is not passed through: somebody else sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The control that does, and that can be switched off; `None` for what every cluster of kubastion needs.
    pub control: Option<&'static str>,
    /// What it sets, in words.
    pub wants: String,
    /// The value that it sets, if it is one.
    pub sets: Option<String>,
}

/// Says what is in the way of something that is passed through.
pub type Conflicts = fn(&Inventory, &Passed<'_>) -> Option<Conflict>;

static NO_ARGS: BTreeMap<String, ArgumentValues> = BTreeMap::new();
static NO_FIELDS: BTreeMap<String, AnyValue> = BTreeMap::new();

impl Inventory {
    /// The flags that are passed through to a component.
    pub fn extra_args(&self, component: Component) -> &BTreeMap<String, ArgumentValues> {
        match component {
            Component::ApiServer => &self.api_server.extra_args,
            Component::ControllerManager => &self.controller_manager.extra_args,
            Component::Scheduler => &self.scheduler.extra_args,
            Component::Kubelet => &self.kubelet.extra_args,
            Component::KubeProxy => &NO_ARGS,
        }
    }

    /// The fields that are passed through into the configuration of a component.
    pub fn extra_fields(&self, component: Component) -> &BTreeMap<String, AnyValue> {
        match component {
            Component::Kubelet => &self.kubelet.extra,
            Component::KubeProxy => &self.kube_proxy.extra,
            Component::ApiServer | Component::ControllerManager | Component::Scheduler => {
                &NO_FIELDS
            }
        }
    }

    /// The volumes that are passed through into the static pod of a component.
    pub fn extra_volumes(&self, component: Component) -> &[ExtraVolume] {
        match component {
            Component::ApiServer => &self.api_server.extra_volumes,
            Component::ControllerManager => &self.controller_manager.extra_volumes,
            Component::Scheduler => &self.scheduler.extra_volumes,
            Component::Kubelet | Component::KubeProxy => &[],
        }
    }
}

/// The fields below a value, by the way to each: mappings are gone through, all else is a value.
pub fn fields(extra: &BTreeMap<String, AnyValue>) -> Vec<(Vec<&str>, &serde_json::Value)> {
    fn walk<'v>(
        at: &[&'v str],
        value: &'v serde_json::Value,
        all: &mut Vec<(Vec<&'v str>, &'v serde_json::Value)>,
    ) {
        match value.as_object().filter(|o| !o.is_empty()) {
            None => all.push((at.to_vec(), value)),
            Some(object) => {
                for (key, value) in object {
                    walk(&[at, &[key.as_str()]].concat(), value, all);
                }
            }
        }
    }
    let mut all = Vec::new();
    for (key, AnyValue(value)) in extra {
        walk(&[key], value, &mut all);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_the_ends_of_all_ways() {
        let extra: BTreeMap<String, AnyValue> =
            crate::yaml::from_text("a: 1\nb: {c: {d: [1], e: {}}}\n").unwrap();
        let ways: Vec<String> = fields(&extra).iter().map(|(way, _)| way.join(".")).collect();
        assert_eq!(ways, ["a", "b.c.d", "b.c.e"]);
    }
}
