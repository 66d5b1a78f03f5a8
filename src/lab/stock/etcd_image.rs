//! An image of etcd, made from its programs: a bundle has them for a service of the host, and kubeadm's default is a static pod.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lab::error::Error;
use crate::plain::hex;

/// The architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes an archive as `docker save` does, with one image of one layer: the programs, in `/usr/local/bin`.
pub(super) fn write(archive: &Path, reference: &str, programs: &[&Path]) -> Result<(), Error> {
    let layer_path = archive.with_extension("layer");
    layer(&layer_path, programs)?;
    let digest = digest(&layer_path).map_err(Error::io("read", &layer_path))?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&digest))]},
    });
    let index =
        json!([{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]);
    let whole = || -> std::io::Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(File::create(archive)?));
        for (name, document) in [("manifest.json", index), ("config.json", config)] {
            let text = document.to_string();
            tar.append_data(&mut header(text.len() as u64, 0o644), name, text.as_bytes())?;
        }
        tar.append_file("layer.tar", &mut File::open(&layer_path)?)?;
        tar.into_inner()?.flush()
    };
    whole().map_err(Error::io("write", archive))?;
    std::fs::remove_file(&layer_path).map_err(Error::io("remove", &layer_path))
}

fn digest(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().to_vec()),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn layer(path: &Path, programs: &[&Path]) -> Result<(), Error> {
    let whole = || -> std::io::Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
        for program in programs {
            let file = File::open(program)?;
            let name = Path::new("usr/local/bin").join(program.file_name().unwrap_or_default());
            tar.append_data(&mut header(file.metadata()?.len(), 0o755), name, file)?;
        }
        tar.into_inner()?.flush()
    };
    whole().map_err(Error::io("write", path))
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_whole_and_has_the_name_that_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("etcd");
        std::fs::write(&program, "a program").unwrap();
        let archive = dir.path().join("image.tar");
        write(&archive, "registry.k8s.io/etcd:3.6.8-0", &[&program]).unwrap();
        let images = crate::bundle::image::inspect(File::open(&archive).unwrap()).unwrap();
        let names: Vec<&str> = images.iter().map(|i| i.reference.as_str()).collect();
        assert_eq!(names, ["registry.k8s.io/etcd:3.6.8-0"]);

        let mut whole = tar::Archive::new(File::open(&archive).unwrap());
        let mut layer = None;
        for entry in whole.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap() == Path::new("layer.tar") {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                layer = Some(bytes);
            }
        }
        let mut layer = tar::Archive::new(std::io::Cursor::new(layer.unwrap()));
        let entry = layer.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap(), Path::new("usr/local/bin/etcd"));
        assert_eq!(entry.header().mode().unwrap(), 0o755);
    }
}
