//! What the desired state needs to know of a bundle.

use super::model::{Architecture, ArtifactKind, File, Manifest};
use crate::inventory::{Software, SoftwareFile, SoftwareKind};

impl Manifest {
    /// The bundle as plain data, for stages that touch no disk.
    pub fn software(&self) -> Software {
        let file = |f: &File| SoftwareFile {
            kind: match f.kind {
                ArtifactKind::Binary => SoftwareKind::Program,
                ArtifactKind::CniPlugin => SoftwareKind::CniPlugin,
                ArtifactKind::Image => SoftwareKind::Images,
                ArtifactKind::Manifest => SoftwareKind::Manifest,
            },
            name: f.name().to_owned(),
            sha256: f.sha256.as_str().to_owned(),
            size: f.size,
            images: f.images.clone(),
        };
        let machine = match self.architecture {
            Architecture::Amd64 => "x86_64",
            Architecture::Arm64 => "aarch64",
        };
        Software {
            machine: machine.to_owned(),
            versions: self.components.iter().map(|(n, c)| (n.clone(), c.version.clone())).collect(),
            files: self.files.iter().map(file).collect(),
        }
    }
}
