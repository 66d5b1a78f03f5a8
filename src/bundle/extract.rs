//! Files of a bundle as plain files on this machine.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::fault::{BundleError, Fault};
use super::model::{ArtifactKind, File};
use super::verify::Bundle;

impl Bundle {
    /// Copies all files of some kinds into a new directory that only the user may enter, each into the folder of its kind, and
    /// returns how many there are. A file is compared with its signed digest while it is copied.
    ///
    /// # Errors
    /// A directory that exists, and the first file that is not what the manifest says. What was copied until then stays.
    pub fn extract(&self, kinds: &[ArtifactKind], to: &Path) -> Result<usize, BundleError> {
        self.copy_files(kinds, to).map_err(|fault| BundleError::new(self.dir(), vec![fault]))
    }

    fn copy_files(&self, kinds: &[ArtifactKind], to: &Path) -> Result<usize, Fault> {
        let make = |dir: &Path| {
            DirBuilder::new().mode(0o700).create(dir).map_err(Fault::io("created", dir))
        };
        make(to)?;
        let mut count = 0;
        for kind in kinds {
            let folder = to.join(kind.directory());
            make(&folder)?;
            for file in self.manifest().files.iter().filter(|f| f.kind == *kind) {
                self.copy_file(file, &folder.join(file.name()))?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn copy_file(&self, file: &File, to: &Path) -> Result<(), Fault> {
        let mut from = self.reader(file)?;
        let mut options = std::fs::File::options();
        let mut target = options
            .write(true)
            .create_new(true)
            .mode(file.kind.mode().bits())
            .open(to)
            .map_err(Fault::io("created", to))?;
        io::copy(&mut from, &mut target).map_err(Fault::io("copied", to))?;
        Ok(())
    }
}
