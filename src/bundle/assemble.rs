//! Writing a bundle: whole and signed, or not at all.
//!
//! Everything is written to `OUT.partial`, read back, and exchanged with OUT in one rename.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};

use super::fault::{BundleError, Fault};
use super::model::{
    ArtifactKind, FILES, FilePath, MANIFEST, MAX_FILE, Manifest, SIGNATURE, Sha256Hex,
};
use super::sign::SigningKey;
use super::verify::Bundle;
use crate::file_lock::FileLock;

/// A bundle that is being written. Dropped before [`Assembly::finish`], it leaves nothing.
pub(super) struct Assembly {
    out: PathBuf,
    partial: PathBuf,
    /// The directory, locked.
    lock: FileLock,
    finished: bool,
}

/// Whether a bundle may be written there: the path is free, empty, or holds another bundle.
pub(super) fn vacant(out: &Path) -> Result<(), Fault> {
    match std::fs::symlink_metadata(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Fault::io("read", out)(e)),
        Ok(m) if m.is_dir() && (out.join(MANIFEST).is_file() || is_empty(out)) => Ok(()),
        Ok(_) => Err(Fault::Occupied(out.to_owned())),
    }
}

/// Size and digest of what was written.
pub(super) struct Written {
    pub size: u64,
    pub sha256: Sha256Hex,
}

impl Assembly {
    /// Begins a bundle. What an interrupted run has left is removed.
    ///
    /// # Errors
    /// If OUT exists and is not a bundle, or somebody else writes the same one.
    pub fn begin(out: &Path) -> Result<Self, Fault> {
        vacant(out)?;
        let partial = beside(out, ".partial")?;
        if let Some(parent) = partial.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(Fault::io("created", parent))?;
        }
        let lock = lock(&partial)?;
        let mut assembly = Self { out: out.to_owned(), partial, lock, finished: false };
        if !assembly.clear().map_err(Fault::io("cleared", &assembly.partial))? {
            // Somebody else's: not for us to remove.
            assembly.finished = true;
            return Err(Fault::Occupied(assembly.partial.clone()));
        }
        let files = assembly.partial.join(FILES);
        make_directory(&files).map_err(Fault::io("created", &files))?;
        Ok(assembly)
    }

    /// Removes what an interrupted run has left. False if there is anything else: then nothing is.
    fn clear(&self) -> io::Result<bool> {
        let mut ours = Vec::new();
        for entry in std::fs::read_dir(&self.partial)? {
            let entry = entry?;
            if ![FILES, MANIFEST, SIGNATURE].iter().any(|name| entry.file_name() == *name) {
                return Ok(false);
            }
            ours.push((entry.path(), entry.file_type()?));
        }
        for (path, kind) in ours {
            if kind.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(true)
    }

    /// Where a file lies meanwhile.
    pub fn path(&self, path: &FilePath) -> PathBuf {
        self.partial.join(FILES).join(path.as_str())
    }

    /// Copies a file. A copy and no hard link: who may write the original later must not be able to
    /// change the bundle with it.
    pub fn copy(
        &self,
        path: &FilePath,
        source: &mut impl Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Written, Fault> {
        let place = self.path(path);
        let kind = path.kind();
        self.copy_io(&place, kind, source, progress).map_err(Fault::io("copied", &place))
    }

    fn copy_io(
        &self,
        place: &Path,
        kind: ArtifactKind,
        source: &mut impl Read,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<Written> {
        let directory = self.partial.join(FILES).join(kind.directory());
        make_directory(&directory)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
        let mut digest = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            size += count as u64;
            if size > MAX_FILE {
                return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
            }
            digest.update(&buffer[..count]);
            file.write_all(&buffer[..count])?;
            progress(count as u64);
        }
        // Not left to the umask: the mode is part of the manifest.
        file.set_permissions(Permissions::from_mode(kind.mode().bits()))?;
        file.sync_all()?;
        Ok(Written { size, sha256: Sha256Hex::of(digest.finalize()) })
    }

    /// Signs the manifest, opens the result as anybody would, and puts it in its place.
    ///
    /// # Errors
    /// If it cannot be written, or would not be accepted.
    pub fn finish(mut self, manifest: &Manifest, key: &SigningKey) -> Result<Bundle, BundleError> {
        let fail = |fault| BundleError::new(&self.out, vec![fault]);
        let text = manifest.canonical();
        let signature = key.sign(&text).map_err(fail)?;
        for (name, bytes) in [(MANIFEST, &text[..]), (SIGNATURE, signature.as_bytes())] {
            let path = self.partial.join(name);
            write_file(&path, bytes).map_err(Fault::io("written", &path)).map_err(fail)?;
        }
        Bundle::open(&self.partial, &[key.signer()])?;
        self.publish().map_err(fail)?;
        self.finished = true;
        Bundle::open(&self.out, &[key.signer()])
    }

    fn publish(&self) -> Result<(), Fault> {
        let files = self.partial.join(FILES);
        sync_tree(&files)
            .and_then(|()| self.lock.file().set_permissions(Permissions::from_mode(0o755)))
            .and_then(|()| self.lock.file().sync_all())
            .map_err(Fault::io("written", &self.partial))?;
        let replaced = self.out.symlink_metadata().is_ok();
        let flags = if replaced { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &self.partial, CWD, &self.out, flags)
            .map_err(|e| Fault::io("moved into place", &self.out)(e.into()))?;
        if replaced {
            // Now the old bundle. That it stays would cost only room.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
        if let Some(parent) = self.out.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            std::fs::File::open(parent)
                .and_then(|d| d.sync_all())
                .map_err(Fault::io("written", parent))?;
        }
        Ok(())
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed is removed by the next run.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

/// OUT with an ending to its name.
pub(super) fn beside(out: &Path, ending: &str) -> Result<PathBuf, Fault> {
    let name = out.file_name().map(ToOwned::to_owned);
    let mut name = name
        .ok_or_else(|| Fault::io("written", out)(io::Error::other("the path has no file name")))?;
    name.push(ending);
    Ok(out.with_file_name(name))
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Locks the directory, making it if it is not there.
fn lock(partial: &Path) -> Result<FileLock, Fault> {
    DirBuilder::new().mode(0o755).create(partial).or_else(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(Fault::io("created", partial)(e)),
    })?;
    let is_directory = std::fs::symlink_metadata(partial).is_ok_and(|m| m.is_dir());
    if !is_directory {
        return Err(Fault::Occupied(partial.to_owned()));
    }
    let lock = std::fs::File::open(partial).map_err(Fault::io("opened", partial))?;
    let lock = FileLock::try_exclusive(lock).map_err(|_| Fault::Busy(partial.to_owned()))?;
    // Another run may have finished between the two: then the lock is on its bundle.
    let ours = lock.file().metadata().map_err(Fault::io("read", partial))?.ino();
    match std::fs::symlink_metadata(partial) {
        Ok(now) if now.ino() == ours => Ok(lock),
        _ => Err(Fault::Busy(partial.to_owned())),
    }
}

/// A directory with mode 0755, whatever the umask.
fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// Makes the names durable; the contents are already.
fn sync_tree(files: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(files)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(files)?.sync_all()
}
