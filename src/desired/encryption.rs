//! The API server's encryption configuration, in the form that a control plane is to have now ([`super::forms`]).

use base64::prelude::{BASE64_STANDARD, Engine};

use super::collector::Collector;
use super::context::{Context, Source};
use super::error::rendering;
use super::forms::{Form, Forms, KMS};
use super::model::{Access, Content, FileCheck};
use super::places::ENC_DIR;
use crate::inventory::EncryptionProvider;
use crate::render;
use crate::render::Text;
use crate::render::input::kubernetes::{
    EncryptedResources, EncryptionConfig, Identity, NamedKey, Provider,
};
use crate::secret::Secret;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_comes_first_and_each_form_is_one_entry() {
        let resources = ["secrets", "configmaps", "events", "leases.coordination.k8s.io"];
        let resources = resources.map(str::to_owned);
        let forms: Forms = [("configmaps", Form::Reader), ("events", Form::Promoted)]
            .map(|(r, form)| (r.to_owned(), form))
            .into();
        let input = EncryptionConfig {
            entries: entries(&resources, &forms),
            provider: Provider::Secretbox,
            kms_name: Text::default(),
            kms_endpoint: Text::default(),
            keys: vec![NamedKey { name: Text::of("k1"), secret: Text::of("standin1x") }],
        };
        let secret = ("standin1x".to_owned(), Secret::new("QUJD".to_owned()));
        let text = render::render_secret(&input, &[secret]).unwrap();
        let text = std::str::from_utf8(text.expose()).unwrap();
        let (_, entries) = text.split_once("resources:\n").unwrap();
        let key = "  - secretbox:\n      keys:\n      - name: \"k1\"\n        secret: \"QUJD\"\n";
        let expected = format!(
            "- resources:\n  - \"secrets\"\n  - \"leases.coordination.k8s.io\"\n  providers:\n{key}\
             - resources:\n  - \"events\"\n  providers:\n{key}  - identity: {{}}\n\
             - resources:\n  - \"configmaps\"\n  providers:\n  - identity: {{}}\n{key}"
        );
        assert_eq!(entries, expected);
    }
}
