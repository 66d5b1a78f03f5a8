//! Small programs and image archives.

use std::io::Write;

use sha2::{Digest, Sha256};

/// The header of a program for a machine, and something to tell it by.
pub(crate) fn elf(architecture: &str, name: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.push(if architecture == "amd64" { 62 } else { 183 });
    bytes.push(0);
    bytes.extend(format!("this is {name}").bytes().cycle().take(1000));
    bytes
}

/// A tar file of regular files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What `docker save` writes.
pub(crate) fn docker_archive(references: &[&str], architecture: &str) -> Vec<u8> {
    let configuration = format!("{{\"architecture\":\"{architecture}\",\"os\":\"linux\"}}");
    let manifest = serde_json::json!([
        { "Config": "c.json", "RepoTags": references, "Layers": ["l/layer.tar"] }
    ])
    .to_string();
    tar(&[
        ("l/layer.tar", format!("a layer of {references:?}").as_bytes()),
        ("c.json", configuration.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ])
}

/// An image as a registry serves it: the manifest and its blobs by digest.
pub(crate) struct OciImage {
    pub manifest: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
}

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn oci_image(name: &str, architecture: &str) -> OciImage {
    let configuration =
        format!("{{\"architecture\":\"{architecture}\",\"os\":\"linux\"}}").into_bytes();
    let layer = format!("a layer of {name}").into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| {
        serde_json::json!({
            "mediaType": kind,
            "digest": format!("sha256:{}", sha256(bytes)),
            "size": bytes.len(),
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    OciImage { manifest: manifest.to_string().into_bytes(), blobs: vec![configuration, layer] }
}

/// An OCI layout in a tar file.
pub(crate) fn oci_archive(reference: &str, architecture: &str) -> Vec<u8> {
    let image = oci_image(reference, architecture);
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": MANIFEST_TYPE,
            "digest": format!("sha256:{}", sha256(&image.manifest)),
            "size": image.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": reference },
        }],
    })
    .to_string();
    let mut files: Vec<(String, &[u8])> = vec![
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json".into(), index.as_bytes()),
    ];
    for blob in image.blobs.iter().chain([&image.manifest]) {
        files.push((format!("blobs/sha256/{}", sha256(blob)), blob));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), *b)).collect();
    tar(&files)
}
