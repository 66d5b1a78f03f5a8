//! The files of a bundle on disk: opened without following links, and listed whole.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::model::{FILES, FilePath, MANIFEST, SIGNATURE};

/// Opens a file of a bundle. The bundle's own path may lead over links; nothing inside may.
///
/// # Errors
/// Also for what is not a regular file.
pub(super) fn open(bundle: &Path, path: &FilePath) -> io::Result<File> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, bundle, directory, Mode::empty())?;
    let files = openat(&root, FILES, directory | OFlags::NOFOLLOW, Mode::empty())?;
    let kind =
        openat(&files, path.kind().directory(), directory | OFlags::NOFOLLOW, Mode::empty())?;
    // Without NONBLOCK a named pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(&kind, path.name(), flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// What lies in a bundle beside its manifest and signature.
pub(super) struct Listing {
    /// Paths below `files/` that could be in a manifest.
    pub files: Vec<FilePath>,
    /// Everything else, as a path in the bundle, with what is wrong with it.
    pub strangers: Vec<(String, &'static str)>,
}

/// Lists a bundle.
pub(super) fn list(bundle: &Path) -> io::Result<Listing> {
    let mut listing = Listing { files: Vec::new(), strangers: Vec::new() };
    visit(bundle, "", 0, &mut listing)?;
    listing.files.sort();
    listing.strangers.sort();
    Ok(listing)
}

fn visit(directory: &Path, prefix: &str, depth: usize, listing: &mut Listing) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // Of the entry itself: a link is a link here.
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            listing.strangers.push((path, "a symbolic link"));
        } else if kind.is_dir() {
            let known = path == FILES
                || path.strip_prefix("files/").is_some_and(|d| {
                    super::model::ArtifactKind::ALL.iter().any(|k| k.directory() == d)
                });
            if known && depth < 2 {
                visit(&entry.path(), &format!("{path}/"), depth + 1, listing)?;
            } else {
                listing.strangers.push((path, "an unknown directory"));
            }
        } else if !kind.is_file() {
            listing.strangers.push((path, "not a regular file"));
        } else if depth == 0 && (path == MANIFEST || path == SIGNATURE) {
        } else {
            match path.strip_prefix("files/").map(str::parse) {
                Some(Ok(file)) => listing.files.push(file),
                _ => listing.strangers.push((path, "a file that the manifest does not list")),
            }
        }
    }
    Ok(())
}
