//! What a daemon is given beside what controls and other keys set: arguments, volumes and fields of its configuration, by the
//! names that Kubernetes has for them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Additional settings of a control plane component, beyond those of controls and other keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ComponentExtras {
    /// Command-line flags, by name without dashes; a list repeats the flag. Entries of `enable-admission-plugins` are added to
    /// those that controls want; any other flag that a control sets is refused as long as that control is on.
    pub extra_args: BTreeMap<String, ArgumentValues>,
    /// Files and directories of the node that are mounted into its static pod.
    pub extra_volumes: Vec<ExtraVolume>,
}

/// A file or directory of the node in a static pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraVolume {
    /// Name of the volume.
    pub name: String,
    /// Path on the node.
    pub host_path: String,
    /// Path in the pod. Default: `host_path`.
    #[serde(default)]
    pub mount_path: Option<String>,
    /// Whether the pod may only read it.
    #[serde(default = "read_only")]
    pub read_only: bool,
    /// What must exist at the path. If absent, it is not checked.
    #[serde(default)]
    pub path_type: Option<PathType>,
}

/// Volumes that kubeadm puts into static pods (cmd/kubeadm/app/phases/controlplane/volumes.go).
pub const KUBEADM_VOLUMES: &[&str] = &[
    "ca-certs",
    "etc-ca-certificates",
    "etc-pki",
    "etc-pki-ca-trust",
    "etc-pki-tls-certs",
    "etcd-certs-0",
    "etcd-certs-1",
    "flexvolume-dir",
    "k8s-certs",
    "kubeconfig",
    "usr-local-share-ca-certificates",
    "usr-share-ca-certificates",
];

fn read_only() -> bool {
    true
}

impl ExtraVolume {
    /// Path in the pod.
    pub fn mount_path(&self) -> &str {
        self.mount_path.as_deref().unwrap_or(&self.host_path)
    }
}

/// What has to be at the path of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathType {
    /// A directory.
    Directory,
    /// A directory, which the kubelet makes if there is none.
    DirectoryOrCreate,
    /// A file.
    File,
    /// A file, which the kubelet makes if there is none.
    FileOrCreate,
    /// A socket.
    Socket,
}

/// Additional settings of kubelets, beyond those of controls and other keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeletExtras {
    /// Fields of KubeletConfiguration, by their own names, as in `maxPods` or `evictionHard`. A field that a control sets is
    /// refused as long as that control is on.
    pub extra: BTreeMap<String, AnyValue>,
    /// Command-line flags without a field in KubeletConfiguration, by name without dashes.
    pub extra_args: BTreeMap<String, ArgumentValues>,
}

/// Additional settings of kube-proxy, beyond those of controls and other keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeProxyExtras {
    /// Fields of KubeProxyConfiguration, by their own names, as in `mode` or `conntrack`. A field that a control sets is
    /// refused as long as that control is on.
    pub extra: BTreeMap<String, AnyValue>,
}

/// The values of a flag: one, or one for each time that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArgumentValues(pub Vec<String>);

impl<'de> Deserialize<'de> for ArgumentValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ArgumentValues;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text or a list of text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ArgumentValues(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(ArgumentValues)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                // Serde's own words for what is neither.
                String::deserialize(MapAccessDeserializer::new(map))
                    .map(|text| ArgumentValues(vec![text]))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for ArgumentValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            all => {
                let mut list = serializer.serialize_seq(Some(all.len()))?;
                all.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
        }
    }
}

impl JsonSchema for ArgumentValues {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ArgumentValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// What the schema says of a value that may be of any kind.
pub(super) const ANY_FORMAT: &str = "any-json";

/// A value of a field that only Kubernetes knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnyValue(pub serde_json::Value);

impl JsonSchema for AnyValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "format": ANY_FORMAT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_has_one_value_or_several_and_is_written_as_it_was_read() {
        for text in ["a\n", "- a\n- b\n"] {
            let values: ArgumentValues = crate::yaml::from_text(text).unwrap();
            assert_eq!(crate::yaml::to_text(&values), text);
        }
        assert!(crate::yaml::from_text::<ArgumentValues>("{a: b}").is_err());
        assert!(crate::yaml::from_text::<ArgumentValues>("[{a: b}]").is_err());
    }
}
