//! What of a running cluster may differ from what the controls want: granted by name, with a reason, an owner and
//! an end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Pod Security lets through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PodSecurity {
    /// Namespaces that are held to less than the restricted standard.
    pub exemptions: Vec<PodSecurityExemption>,
}

/// A namespace that is held to less than the restricted standard until a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodSecurityExemption {
    /// The namespace.
    pub namespace: String,
    /// What its pods are held to instead.
    pub level: PodLevel,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day on which it holds, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

/// A level of the Pod Security Standards, the widest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PodLevel {
    /// Everything is let through.
    Privileged,
    /// Known ways to the node are closed.
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

/// An object of the API that sees or changes others' requests, and is wanted until a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedObject {
    /// What it is.
    pub kind: AllowedKind,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day on which it is wanted, `YYYY-MM-DD` in UTC.
    pub expires: String,
}

/// Kinds of objects that see or change others' requests.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum AllowedKind {
    /// Is asked about requests, and sees them.
    ValidatingWebhookConfiguration,
    /// Changes requests.
    MutatingWebhookConfiguration,
    /// Changes requests, inside the API server.
    MutatingAdmissionPolicy,
    /// Hands a part of the API to a Service.
    #[serde(rename = "APIService")]
    ApiService,
}

impl std::fmt::Display for AllowedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            AllowedKind::ValidatingWebhookConfiguration => "ValidatingWebhookConfiguration",
            AllowedKind::MutatingWebhookConfiguration => "MutatingWebhookConfiguration",
            AllowedKind::MutatingAdmissionPolicy => "MutatingAdmissionPolicy",
            AllowedKind::ApiService => "APIService",
        })
    }
}
