//! What control planes do with encrypted resources.
//!
//! A cluster that stores objects in plain text gets to encrypted ones in steps (`plan/encryption.rs`): for each resource, a
//! control plane first learns to read, then writes, and at last no longer reads plain text.

use std::collections::BTreeMap;

use crate::inventory::{EncryptionProvider, Inventory, NodeName};
use crate::pki::Material;

/// What an API server does with the objects of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Form {
    /// It writes plain text, and reads both.
    Reader,
    /// It encrypts, and reads both.
    Promoted,
    /// It encrypts, and reads nothing else.
    #[default]
    Final,
}

/// The forms of resources on one node; a resource without one has the last.
pub type Forms = BTreeMap<String, Form>;

/// The forms of each node on the way; a node without an entry has the last form of everything.
pub type FormsByNode = BTreeMap<NodeName, Forms>;

/// Name of the KMS plugin in the configuration, which stored objects begin with.
pub(super) const KMS: &str = "kubastion";

/// Kind and name of every key that the inventory and the key store want, the one that writes first.
pub fn wanted_keys(inventory: &Inventory, material: &Material) -> Vec<(String, String)> {
    let kind = match inventory.encryption.provider {
        EncryptionProvider::Secretbox => "secretbox",
        EncryptionProvider::Aescbc => "aescbc",
        EncryptionProvider::Kms => return vec![("kms".into(), KMS.into())],
    };
    material.encryption_keys().iter().map(|k| (kind.to_owned(), k.name.clone())).collect()
}

/// What an encrypted value in etcd begins with (k8s.io/apiserver, pkg/server/options/encryptionconfig).
pub fn head((kind, name): &(String, String)) -> String {
    let version = if kind == "kms" { "v2" } else { "v1" };
    format!("k8s:enc:{kind}:{version}:{name}:")
}
