//! Deviations from the controls that the inventory grants by name, with a reason, an owner and a last day.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Enforced and verified.
    On,
    /// Neither enforced nor verified; reported as not applicable.
    Off,
}

/// Exemptions from Pod Security.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PodSecurity {
    /// Namespaces whose pods may break the restricted standard.
    pub exemptions: Vec<PodSecurityExemption>,
}

/// A namespace that is exempt from the restricted standard until a given day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodSecurityExemption {
    /// The namespace.
    pub namespace: String,
    /// The level that applies instead.
    pub level: PodLevel,
    /// Exempt workloads, as `DaemonSet/NAME` (the top-level owner of a pod; `Pod/NAME` for a pod without an owner). Others
    /// in the namespace must meet the standard. Empty means all. The namespace's own admission level is the same for all.
    #[serde(default)]
    pub workloads: Vec<String>,
    /// Why.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day of the exemption, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

/// A level of the Pod Security Standards, the least strict first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PodLevel {
    /// Everything is allowed.
    Privileged,
    /// Known privilege escalations are blocked.
    Baseline,
    /// Good practice for pods is enforced.
    Restricted,
}

impl std::fmt::Display for PodLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            PodLevel::Privileged => "privileged",
            PodLevel::Baseline => "baseline",
            PodLevel::Restricted => "restricted",
        })
    }
}

/// An API object that would be a finding, allowed until a given day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedObject {
    /// Kind of the object.
    pub kind: AllowedKind,
    /// Name of the object; for a RoleBinding, `namespace/name`.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day on which it is allowed, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

/// Kinds of objects that can be allowed by name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum AllowedKind {
    /// Reviews requests, and so sees them.
    ValidatingWebhookConfiguration,
    /// Changes requests.
    MutatingWebhookConfiguration,
    /// Changes requests, inside the API server.
    MutatingAdmissionPolicy,
    /// Delegates a part of the API to a Service.
    #[serde(rename = "APIService")]
    ApiService,
    /// Grants rights in the whole cluster (`policy-rbac-minimal`).
    ClusterRoleBinding,
    /// Grants rights in a namespace (`policy-rbac-minimal`).
    RoleBinding,
    /// Is a path of a node (`policy-pod-security-in-force`).
    PersistentVolume,
    /// Prioritizes requests (`policy-cluster-configuration`).
    FlowSchema,
    /// Has a share of all requests (`policy-cluster-configuration`).
    PriorityLevelConfiguration,
    /// Converts its objects outside the cluster (`policy-webhooks-known`).
    CustomResourceDefinition,
    /// Receives pod tokens (`policy-webhooks-known`).
    #[serde(rename = "CSIDriver")]
    CsiDriver,
}

impl std::fmt::Display for AllowedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            AllowedKind::ValidatingWebhookConfiguration => "ValidatingWebhookConfiguration",
            AllowedKind::MutatingWebhookConfiguration => "MutatingWebhookConfiguration",
            AllowedKind::MutatingAdmissionPolicy => "MutatingAdmissionPolicy",
            AllowedKind::ApiService => "APIService",
            AllowedKind::ClusterRoleBinding => "ClusterRoleBinding",
            AllowedKind::RoleBinding => "RoleBinding",
            AllowedKind::PersistentVolume => "PersistentVolume",
            AllowedKind::FlowSchema => "FlowSchema",
            AllowedKind::PriorityLevelConfiguration => "PriorityLevelConfiguration",
            AllowedKind::CustomResourceDefinition => "CustomResourceDefinition",
            AllowedKind::CsiDriver => "CSIDriver",
        })
    }
}

/// Whether a control is enabled, and if not, why: `on`, `off`, or a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSwitch {
    /// On or off.
    pub state: Switch,
    /// Why it is off.
    pub granted: Option<SwitchedOff>,
}

/// Why a control is off, who is responsible for it, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchedOff {
    /// Why.
    pub reason: String,
    /// Who is responsible for it.
    pub owner: String,
    /// Last day on which it is off, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

impl From<Switch> for ControlSwitch {
    fn from(state: Switch) -> Self {
        Self { state, granted: None }
    }
}

/// A control that is off until a given day.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SwitchedOff")]
struct Written {
    /// `off`.
    state: Switch,
    /// Why.
    reason: String,
    /// Who is responsible for it.
    owner: String,
    /// Last day on which it is off, `YYYY-MM-DD` in UTC.
    expires: String,
}

impl<'de> Deserialize<'de> for ControlSwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ControlSwitch;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("on, off or a mapping")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Switch::deserialize(StrDeserializer::new(text)).map(ControlSwitch::from)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let Written { state, reason, owner, expires } =
                    Written::deserialize(MapAccessDeserializer::new(map))?;
                let granted = Some(SwitchedOff { reason, owner, expires });
                Ok(ControlSwitch { state, granted })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for ControlSwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.granted.clone() {
            None => self.state.serialize(serializer),
            Some(SwitchedOff { reason, owner, expires }) => {
                Written { state: self.state, reason, owner, expires }.serialize(serializer)
            }
        }
    }
}

impl JsonSchema for ControlSwitch {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ControlSwitch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (plain, mapping) =
            (generator.subschema_for::<Switch>(), generator.subschema_for::<Written>());
        json_schema!({ "anyOf": [plain, mapping] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_read_as_it_is_written() {
        for text in ["on\n", "off\n", "state: off\nreason: r\nowner: o\nexpires: 2040-01-31\n"] {
            let switch: ControlSwitch = crate::yaml::from_text(text).unwrap();
            let again = crate::yaml::to_text(&switch).replace('\'', "");
            assert_eq!(again, text);
        }
        for bad in ["maybe", "{state: off}", "{state: off, reason: r, owner: o, expires: x, a: b}"]
        {
            assert!(crate::yaml::from_text::<ControlSwitch>(bad).is_err(), "{bad}");
        }
    }
}
