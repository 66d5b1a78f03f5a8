//! Opening a bundle: signature, manifest, tree, digests; and reading from it without trusting the
//! disk meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::fault::{BundleError, Fault};
use super::image::{self, Image, ImageError};
use super::model::{
    ArtifactKind, FILES, FORMAT, File, FilePath, MANIFEST, MAX_MANIFEST, Manifest, Mode, SIGNATURE,
    Sha256Hex, in_bundle,
};
use super::rules::check_manifest;
use super::sign::{self, Trust};
use super::tree;
use crate::event::{Event, Sink};
use crate::inventory::SignerKey;
use crate::plain::counted;
use sha2::{Digest, Sha256};

/// A bundle whose manifest is signed by somebody who is trusted.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
    signer: String,
}

/// What a full check has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What was found out about a bundle, and what is wrong.
struct Examined {
    manifest: Option<Manifest>,
    signer: Option<String>,
    faults: Vec<Fault>,
}

impl Bundle {
    /// Opens a bundle: the signature must be of one of the signers, the manifest of a known format
    /// and complete, and the tree hold exactly its files, with their sizes and modes.
    ///
    /// Does not read the files: that is for [`Bundle::verify_all`], and [`Bundle::reader`] does it
    /// for what is used.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn open(dir: &Path, signers: &[SignerKey]) -> Result<Self, BundleError> {
        Self::from_examined(dir, examine(dir, Trust::Signers(signers)))
    }

    /// Opens a bundle that anybody may have signed, to look at what it holds. Nothing of it may go
    /// to a node.
    ///
    /// # Errors
    /// As [`Bundle::open`], but for the signer.
    pub fn open_untrusted(dir: &Path) -> Result<Self, BundleError> {
        Self::from_examined(dir, examine(dir, Trust::Anybody))
    }

    /// Opens a bundle and reads all of it. Files are also compared when the signature is wrong, so
    /// that everything that is wrong is shown.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn open_and_verify(
        dir: &Path,
        signers: &[SignerKey],
        sink: &dyn Sink,
    ) -> Result<(Self, Summary), BundleError> {
        let mut examined = examine(dir, Trust::Signers(signers));
        let mut summary = Summary { files: 0, bytes: 0 };
        if let Some(manifest) = &examined.manifest {
            summary = Summary { files: manifest.files.len(), bytes: manifest.total_size() };
            let known: BTreeSet<_> = examined.faults.iter().map(identity).collect();
            let mut faults = read_all(dir, &manifest.files, sink);
            // What the look at the tree has found already, such as a missing file.
            faults.retain(|f| !known.contains(&identity(f)));
            examined.faults.append(&mut faults);
        }
        Ok((Self::from_examined(dir, examined)?, summary))
    }

    fn from_examined(dir: &Path, examined: Examined) -> Result<Self, BundleError> {
        match examined {
            Examined { manifest: Some(manifest), signer: Some(signer), faults }
                if faults.is_empty() =>
            {
                Ok(Self { dir: dir.to_owned(), manifest, signer })
            }
            Examined { faults, .. } => Err(BundleError::new(dir, faults)),
        }
    }

    /// Reads every file and compares its digest, on all processors.
    ///
    /// # Errors
    /// Every file that is not what the manifest says.
    pub fn verify_all(&self, sink: &dyn Sink) -> Result<Summary, BundleError> {
        let faults = read_all(&self.dir, &self.manifest.files, sink);
        if faults.is_empty() {
            Ok(Summary { files: self.manifest.files.len(), bytes: self.manifest.total_size() })
        } else {
            Err(BundleError::new(&self.dir, faults))
        }
    }

    /// As [`Bundle::verify_all`], only files with these digests.
    ///
    /// # Errors
    /// Every one of them that is not what the manifest says.
    pub fn verify_some(
        &self,
        digests: &BTreeSet<&str>,
        sink: &dyn Sink,
    ) -> Result<(), BundleError> {
        let chosen = |f: &&File| digests.contains(f.sha256.as_str());
        let files: Vec<File> = self.manifest.files.iter().filter(chosen).cloned().collect();
        let faults = read_all(&self.dir, &files, sink);
        if faults.is_empty() { Ok(()) } else { Err(BundleError::new(&self.dir, faults)) }
    }

    /// Where the bundle lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Fingerprint of the key that signed it, `SHA256:...`.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Version of a component as its project writes it, as in `v3.6.8`.
    pub fn version(&self, component: &str) -> Option<&str> {
        self.manifest.components.get(component).map(|c| c.version.as_str())
    }

    /// The file of a kind and name, as in `calico.yaml`.
    pub fn file(&self, kind: ArtifactKind, name: &str) -> Option<&File> {
        self.of_kind(kind).find(|f| f.name() == name)
    }

    /// A program, by its name.
    pub fn binary(&self, name: &str) -> Option<&File> {
        self.file(ArtifactKind::Binary, name)
    }

    /// The image archives, sorted by path.
    pub fn images(&self) -> impl Iterator<Item = &File> {
        self.of_kind(ArtifactKind::Image)
    }

    /// The archive that holds an image, by its full reference.
    pub fn image(&self, reference: &str) -> Option<&File> {
        self.images().find(|f| f.images.iter().any(|i| i == reference))
    }

    /// The CNI plugins, sorted by path.
    pub fn cni_plugins(&self) -> impl Iterator<Item = &File> {
        self.of_kind(ArtifactKind::CniPlugin)
    }

    /// A Kubernetes manifest, by its file name.
    pub fn manifest_file(&self, name: &str) -> Option<&File> {
        self.file(ArtifactKind::Manifest, name)
    }

    fn of_kind(&self, kind: ArtifactKind) -> impl Iterator<Item = &File> {
        self.manifest.files.iter().filter(move |f| f.kind == kind)
    }

    /// Opens a file of the bundle for a node. See [`VerifiedReader`].
    ///
    /// # Errors
    /// If it cannot be opened, or is not a regular file of its size.
    pub fn reader(&self, file: &File) -> Result<VerifiedReader, Fault> {
        VerifiedReader::open(&self.dir, file)
    }
}

/// Reads a file of a bundle and hashes what it hands out.
///
/// The file may change on disk at any time, also between a check and its use. What is handed out is
/// therefore what was hashed, and the last bytes are held back until the digest of the whole is that
/// of the manifest: a reader of a wrong file gets an error of kind `InvalidData` and never all of
/// it. It must not use what it got before the end.
#[derive(Debug)]
pub struct VerifiedReader {
    file: std::fs::File,
    path: FilePath,
    digest: Sha256,
    expected: Sha256Hex,
    left: u64,
    done: bool,
}

impl VerifiedReader {
    fn open(dir: &Path, file: &File) -> Result<Self, Fault> {
        let place = dir.join(FILES).join(file.path.as_str());
        let handle = match tree::open(dir, &file.path) {
            Ok(handle) => handle,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Fault::entry(in_bundle(&file.path), "is missing"));
            }
            Err(e) => return Err(Fault::io("opened", &place)(e)),
        };
        let size = handle.metadata().map_err(Fault::io("read", &place))?.len();
        if size != file.size {
            return Err(wrong_size(file, size));
        }
        Ok(Self {
            file: handle,
            path: file.path.clone(),
            digest: Sha256::new(),
            expected: file.sha256.clone(),
            left: file.size,
            done: false,
        })
    }

    fn refuse(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{FILES}/{} {what}", self.path))
    }

    /// At the end: nothing follows, and the digest is right.
    fn finish(&mut self) -> io::Result<()> {
        if self.file.read(&mut [0])? != 0 {
            return Err(self.refuse("grew while it was read"));
        }
        if Sha256Hex::of(self.digest.clone().finalize()) != self.expected {
            return Err(self.refuse("differs in content from the manifest"));
        }
        self.done = true;
        Ok(())
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.done {
            return Ok(0);
        }
        if self.left == 0 {
            self.finish()?;
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(self.refuse("became shorter while it was read"));
        }
        self.digest.update(&buffer[..count]);
        self.left -= count as u64;
        if self.left == 0 {
            self.finish()?;
        }
        Ok(count)
    }
}

/// What tells faults apart for a reader: what is wrong with which file.
fn identity(fault: &Fault) -> (String, String) {
    let place = match fault {
        Fault::Entry { place, .. } => place.clone(),
        _ => String::new(),
    };
    (place, fault.to_string())
}

fn wrong_size(file: &File, found: u64) -> Fault {
    Fault::entry(in_bundle(&file.path), "differs in size from the manifest")
        .why(format!("{found} bytes instead of {}", file.size))
}

fn examine(dir: &Path, trust: Trust<'_>) -> Examined {
    let mut examined = Examined { manifest: None, signer: None, faults: Vec::new() };
    let text = match sign::read_small(&dir.join(MANIFEST), MAX_MANIFEST) {
        Ok(Some(text)) => text,
        Ok(None) => {
            examined.faults.push(Fault::NoManifest);
            return examined;
        }
        Err(fault) => {
            examined.faults.push(fault);
            return examined;
        }
    };
    // What is parsed below are the bytes whose signature is checked here; the file is not read twice.
    let signature = sign::read_signature(&dir.join(SIGNATURE));
    match signature.and_then(|s| sign::check(&text, &s, trust)) {
        Ok(signer) => examined.signer = Some(signer),
        Err(fault) => examined.faults.push(fault),
    }
    match parse(&text) {
        Ok(manifest) => {
            check_manifest(&manifest, &mut examined.faults);
            check_tree(dir, &manifest, &mut examined.faults);
            examined.manifest = Some(manifest);
        }
        Err(fault) => examined.faults.push(fault),
    }
    examined
}

fn parse(text: &[u8]) -> Result<Manifest, Fault> {
    /// Only what says how to read the rest.
    #[derive(serde::Deserialize)]
    struct Header {
        format: serde_json::Value,
    }
    let header: Header = serde_json::from_slice(text).map_err(Fault::Malformed)?;
    if header.format != FORMAT {
        return Err(Fault::Format { found: header.format.to_string() });
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(Fault::Malformed)?;
    // Also catches what JSON readers disagree on: keys that stand twice, other spellings.
    if manifest.canonical() != text { Err(Fault::NotCanonical) } else { Ok(manifest) }
}

/// The tree holds the manifest's files and nothing else.
fn check_tree(dir: &Path, manifest: &Manifest, faults: &mut Vec<Fault>) {
    let listing = match tree::list(dir) {
        Ok(listing) => listing,
        Err(e) => {
            faults.push(Fault::io("listed", dir)(e));
            return;
        }
    };
    let wanted: BTreeSet<&FilePath> = manifest.files.iter().map(|f| &f.path).collect();
    let strange: BTreeSet<&str> = listing.strangers.iter().map(|(p, _)| p.as_str()).collect();
    for (path, what) in &listing.strangers {
        faults.push(Fault::entry(path, format!("is {what}")));
    }
    for path in listing.files.iter().filter(|p| !wanted.contains(p)) {
        faults.push(Fault::entry(in_bundle(path), "is not in the manifest"));
    }
    for file in &manifest.files {
        let path = in_bundle(&file.path);
        if strange.contains(path.as_str()) {
            continue;
        }
        let metadata = match tree::open(dir, &file.path).and_then(|f| f.metadata()) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                faults.push(Fault::entry(path, "is missing"));
                continue;
            }
            Err(e) => {
                faults.push(Fault::io("opened", &dir.join(path))(e));
                continue;
            }
        };
        if metadata.len() != file.size {
            faults.push(wrong_size(file, metadata.len()));
        }
        let mode = Mode::of(&metadata);
        if mode != file.mode {
            let why = format!("{mode} instead of {}", file.mode);
            faults.push(Fault::entry(path, "differs in mode from the manifest").why(why));
        }
    }
}

/// Most threads that read at once; more do not make a disk faster.
const MAX_THREADS: usize = 8;
/// Bytes between two events.
const STEP: u64 = 8 << 20;

/// Reads files on all processors and returns what is wrong, in the order of the files.
fn read_all(dir: &Path, files: &[File], sink: &dyn Sink) -> Vec<Fault> {
    let total = files.iter().fold(0, |sum: u64, f| sum.saturating_add(f.size));
    let what = "verify".to_owned();
    let progress = |done_bytes| {
        sink.send(Event::Transfer { what: what.clone(), done_bytes, total_bytes: Some(total) });
    };
    progress(0);
    // The largest first, so that no thread is left alone with it at the end.
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(files[i].size), i));
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let faults: Mutex<BTreeMap<usize, Fault>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let work = || {
        let mut buffer = vec![0; 1 << 18];
        while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let advance = |bytes: u64| {
                let before = done.fetch_add(bytes, Ordering::Relaxed);
                if before / STEP != (before + bytes) / STEP {
                    progress(before + bytes);
                }
            };
            if let Err(fault) = read_one(dir, &files[i], &mut buffer, advance) {
                faults.lock().expect("no thread panics while holding it").insert(i, fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(work);
        }
    });
    let faults: Vec<Fault> =
        faults.into_inner().expect("no thread panics while holding it").into_values().collect();
    let (how, good) = match faults.len() {
        0 => {
            let files = counted(files.len(), "file");
            (format!("{files} verified against the manifest"), true)
        }
        n => {
            let not = if n == 1 { "is" } else { "are" };
            let files = counted(files.len(), "file");
            (format!("{n} of {files} {not} different from the manifest"), false)
        }
    };
    sink.send(Event::TransferEnd { what, how, good });
    faults
}

fn read_one(
    dir: &Path,
    file: &File,
    buffer: &mut [u8],
    advance: impl Fn(u64),
) -> Result<(), Fault> {
    let mut reader = Counted { reader: VerifiedReader::open(dir, file)?, advance };
    // What an archive says it holds is looked at in the same go, and believed only after its end.
    let images = (file.kind == ArtifactKind::Image).then(|| image::inspect(&mut reader));
    loop {
        match reader.read(buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(Fault::entry(in_bundle(&file.path), "is not what was signed")
                    .why(format!("its SHA-256 is not {}", file.sha256)));
            }
            Err(e) => return Err(Fault::io("read", &dir.join(in_bundle(&file.path)))(e)),
        }
    }
    images.map_or(Ok(()), |images| holds_its_images(file, images))
}

/// Whether an archive holds what the manifest says: signed or not, a kubelet that looks for an image
/// that is not there would wait for it without an end.
fn holds_its_images(file: &File, found: Result<Vec<Image>, ImageError>) -> Result<(), Fault> {
    let place = in_bundle(&file.path);
    let found = found.map_err(|e| {
        let why = std::iter::successors(Some(&e as &dyn std::error::Error), |e| e.source());
        let why: Vec<String> = why.map(ToString::to_string).collect();
        Fault::entry(&place, "cannot be used").why(why.join(": "))
    })?;
    let missing: Vec<&str> = file
        .images
        .iter()
        .filter(|wanted| !found.iter().any(|i| i.reference == **wanted))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let held: Vec<String> = found.into_iter().map(|i| i.reference).collect();
    Err(Fault::entry(place, "contains other images than the manifest lists").why(format!(
        "{} instead of {}",
        held.join(", "),
        missing.join(", ")
    )))
}

/// Says how much was read.
struct Counted<R, F> {
    reader: R,
    advance: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        (self.advance)(count as u64);
        Ok(count)
    }
}
