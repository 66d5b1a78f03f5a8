//! The API server's encryption configuration, in the form that a control plane is to have now.
//!
//! A cluster that stores objects in plain text gets to encrypted ones in steps (`plan/encryption.rs`): for each resource, a
//! control plane first learns to read, then writes, and at last no longer reads plain text.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::collector::Collector;
use super::context::{Context, Source};
use super::error::rendering;
use super::model::{Access, Content, FileCheck};
use super::places::ENC_DIR;
use crate::inventory::{EncryptionProvider, Inventory, NodeName};
use crate::pki::Material;
use crate::render;
use crate::render::Text;
use crate::render::input::kubernetes::{
    EncryptedResources, EncryptionConfig, Identity, NamedKey, Provider,
};
use crate::secret::Secret;

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
const KMS: &str = "kubastion";

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

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    const AUX: &str = "files-apiserver-aux-configs";
    let controls = [AUX, "apiserver-encryption-config", "apiserver-encryption-provider"];
    collector.directory(&[AUX], ENC_DIR, Access::root(0o700));
    let path = format!("{ENC_DIR}/encryption.yaml");
    collector.content(&controls, &path, Access::root(0o600), FileCheck::None, |source| {
        config(context, source).map(Content::Secret).map_err(|e| rendering(&path, e))
    });
}

fn config(
    context: &Context<'_>,
    source: Source<'_>,
) -> Result<Secret<Vec<u8>>, render::RenderError> {
    let encryption = &context.inventory.encryption;
    let keys = source.material.encryption_keys();
    let stand_in = |n: usize| format!("kubastionsecret{n:05}");
    let secrets: Vec<(String, Secret<String>)> = keys
        .iter()
        .enumerate()
        .map(|(n, k)| (stand_in(n), Secret::new(BASE64_STANDARD.encode(k.secret.expose()))))
        .collect();
    let named = keys
        .iter()
        .enumerate()
        .map(|(n, k)| NamedKey { name: Text::of(&k.name), secret: Text::of(stand_in(n)) });
    let none = Forms::new();
    let forms = context.shared.forms(&context.node.name).unwrap_or(&none);
    let input = EncryptionConfig {
        entries: entries(&encryption.resources, forms),
        provider: match encryption.provider {
            EncryptionProvider::Secretbox => Provider::Secretbox,
            EncryptionProvider::Aescbc => Provider::Aescbc,
            EncryptionProvider::Kms => Provider::Kms,
        },
        kms_name: Text::of(KMS),
        kms_endpoint: Text::of(encryption.kms_endpoint.as_deref().unwrap_or_default()),
        keys: named.collect(),
    };
    render::render_secret(&input, &secrets)
}

/// Resources of one form are one entry; those that are done come first.
fn entries(resources: &[String], forms: &Forms) -> Vec<EncryptedResources> {
    let form = |r: &String| forms.get(r).copied().unwrap_or_default();
    let all = [
        (Form::Final, Identity::None),
        (Form::Promoted, Identity::Last),
        (Form::Reader, Identity::First),
    ];
    let entry = |(wanted, identity)| {
        let of: Vec<&String> = resources.iter().filter(|r| form(r) == wanted).collect();
        (!of.is_empty()).then(|| EncryptedResources { resources: Text::all(of), identity })
    };
    all.into_iter().filter_map(entry).collect()
}
