//! Opening a bundle: signature, manifest, tree, digests; and reading from it without trusting the
//! disk meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fault::{BundleError, Fault};
use super::image;
use super::model::{
    ADD_ON, COMPONENTS, ComponentRow, FILES, FORMAT, File, FilePath, Kind, MANIFEST, MAX_FILE,
    MAX_MANIFEST, Manifest, Mode, Need, SIGNATURE, Sha256Hex,
};
use super::sign::{self, Trust};
use super::tree;
use crate::event::{Event, Sink};
use crate::inventory::SignerKey;

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
    pub fn file(&self, kind: Kind, name: &str) -> Option<&File> {
        self.of_kind(kind).find(|f| f.name() == name)
    }

    /// A program, by its name.
    pub fn binary(&self, name: &str) -> Option<&File> {
        self.file(Kind::Binary, name)
    }

    /// The image archives, sorted by path.
    pub fn images(&self) -> impl Iterator<Item = &File> {
        self.of_kind(Kind::Image)
    }

    /// The archive that holds an image, by its full reference.
    pub fn image(&self, reference: &str) -> Option<&File> {
        self.images().find(|f| f.images.iter().any(|i| i == reference))
    }

    /// The CNI plugins, sorted by path.
    pub fn cni_plugins(&self) -> impl Iterator<Item = &File> {
        self.of_kind(Kind::CniPlugin)
    }

    /// A Kubernetes manifest, by its file name.
    pub fn manifest_file(&self, name: &str) -> Option<&File> {
        self.file(Kind::Manifest, name)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &File> {
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
            return Err(self.refuse("has another content than the manifest says"));
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
    Fault::entry(in_bundle(&file.path), "has another size than the manifest says")
        .why(format!("{found} bytes instead of {}", file.size))
}

fn in_bundle(path: &FilePath) -> String {
    format!("{FILES}/{path}")
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

/// What a manifest must say beside what its types demand. Also judges one that is being made.
pub(super) fn check_manifest(manifest: &Manifest, faults: &mut Vec<Fault>) {
    let mut fault = |field: String, what: &str, why: String| {
        faults.push(Fault::entry(format!("{MANIFEST}: {field}"), what).why(why));
    };
    if !matches!(OffsetDateTime::parse(&manifest.created, &Rfc3339), Ok(t) if t.offset().is_utc()) {
        fault("created".into(), "is no time", "allowed: RFC 3339 in UTC".into());
    }
    for (name, component) in &manifest.components {
        let field = format!("components.{name}");
        match ComponentRow::find(name) {
            None => fault(field.clone(), "no such component", known_components()),
            Some(row) if !row.style.accepts(&component.version) => {
                let why = format!("found {:?}; {}", component.version, row.style.allowed());
                fault(field.clone(), "malformed version", why);
            }
            Some(_) => {}
        }
        if !is_origin(&component.origin) {
            fault(field, "malformed origin", format!("found {:?}", component.origin));
        }
    }
    for row in &COMPONENTS {
        let is_needed =
            !row.images.is_empty() || row.binaries.iter().any(|(_, need)| *need == Need::Always);
        if is_needed && !manifest.components.contains_key(row.name) {
            fault(format!("components.{}", row.name), "is missing", "every bundle has it".into());
        }
    }
    if let Some(kubernetes) = manifest.components.get("kubernetes")
        && kubernetes.version != format!("v{}", manifest.kubernetes)
    {
        let why = format!("{} and {}", kubernetes.version, manifest.kubernetes);
        fault("components.kubernetes".into(), "two Kubernetes versions", why);
    }
    for pair in manifest.files.windows(2) {
        if pair[0].path == pair[1].path {
            fault(in_bundle(&pair[1].path), "is there twice", "each path once".into());
        } else if pair[0].path > pair[1].path {
            let why = format!("it comes before {}", in_bundle(&pair[0].path));
            fault(in_bundle(&pair[1].path), "is not in its place", why);
        }
    }
    for file in &manifest.files {
        check_file(manifest, file, &mut fault);
    }
    check_complete(manifest, faults);
}

fn known_components() -> String {
    let names: Vec<&str> = COMPONENTS.iter().map(|c| c.name).collect();
    format!("allowed: {}", names.join(", "))
}

fn check_file(manifest: &Manifest, file: &File, fault: &mut impl FnMut(String, &str, String)) {
    let path = in_bundle(&file.path);
    if file.kind != file.path.kind() {
        let why = format!("kind {} under {}/", file.kind, file.path.kind().directory());
        fault(path.clone(), "is of another kind than its directory", why);
    }
    if file.mode != file.kind.mode() {
        let why = format!("{} instead of {}", file.mode, file.kind.mode());
        fault(path.clone(), "has a mode that its kind does not have", why);
    }
    if file.size > MAX_FILE {
        fault(path.clone(), "is too large", format!("{} bytes; allowed: {MAX_FILE}", file.size));
    }
    let of_table = match file.kind {
        Kind::Binary => ComponentRow::of_binary(file.name()).map(|(row, _)| row.name),
        Kind::CniPlugin => Some("cni-plugins"),
        Kind::Image | Kind::Manifest => Some(file.component.as_str()),
    };
    match of_table {
        None => fault(path.clone(), "is a program that no component brings", known_programs()),
        Some(name) if name != file.component => {
            fault(
                path.clone(),
                "is of another component",
                format!("{} and {name}", file.component),
            );
        }
        Some(name) if name != ADD_ON && !manifest.components.contains_key(name) => {
            fault(path.clone(), "is of a component without a version", name.to_owned());
        }
        Some(_) => {}
    }
    if !is_origin(&file.origin) {
        fault(path.clone(), "malformed origin", format!("found {:?}", file.origin));
    }
    if (file.kind == Kind::Image) == file.images.is_empty() {
        let why = "image archives have references, and nothing else has";
        fault(path.clone(), "references do not fit the kind", why.into());
    }
    if !file.images.is_sorted() || !file.images.iter().all(|i| image::is_reference(i)) {
        let why = format!("found {}", file.images.join(", "));
        fault(path, "malformed image references", why);
    }
}

pub(super) fn known_programs() -> String {
    let names: Vec<&str> =
        COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(name, _)| *name)).collect();
    format!("allowed: {}", names.join(", "))
}

/// A short text on one line.
fn is_origin(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2048 && text.bytes().all(|c| c.is_ascii_graphic())
}

/// Required programs and images.
fn check_complete(manifest: &Manifest, faults: &mut Vec<Fault>) {
    let has: BTreeSet<&str> =
        manifest.files.iter().filter(|f| f.kind == Kind::Binary).map(File::name).collect();
    let programs = || COMPONENTS.iter().flat_map(|row| row.binaries);
    let has_runtime = programs().any(|(n, need)| *need == Need::WithRuntime && has.contains(n));
    for (name, need) in programs() {
        let why = match need {
            Need::Always => "every bundle has it",
            Need::WithRuntime if has_runtime => "the container runtime comes whole or not at all",
            Need::WithRuntime | Need::Optional => continue,
        };
        if !has.contains(name) {
            faults.push(Fault::entry(format!("{FILES}/bin/{name}"), "is missing").why(why));
        }
    }
    let mut owners: BTreeMap<&str, &FilePath> = BTreeMap::new();
    for file in &manifest.files {
        for reference in &file.images {
            if let Some(first) = owners.insert(reference, &file.path) {
                let why = format!("{reference} is also in {}", in_bundle(first));
                faults.push(
                    Fault::entry(in_bundle(&file.path), "holds an image a second time").why(why),
                );
            }
        }
    }
    for reference in manifest.required_images() {
        if !owners.contains_key(reference.as_str()) {
            let suffix = format!("-{}:", manifest.architecture);
            let other = owners.keys().find(|r| r.replacen(&suffix, ":", 1) == reference);
            let fault = Fault::entry(format!("{FILES}/images"), format!("{reference} is missing"))
                .why("a cluster of this version does not start without it");
            faults.push(match other {
                Some(other) => fault.hint(format!(
                    "an archive names it {other}: load it into a container engine, tag it \
                     {reference} and save it again"
                )),
                None => fault,
            });
        }
    }
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
            faults.push(Fault::entry(path, "has another mode than the manifest says").why(why));
        }
    }
}

/// Most threads that read at once; more do not make a disk faster.
const MAX_THREADS: usize = 8;
/// Bytes between two events.
const STEP: u64 = 8 << 20;

/// Reads files on all processors and returns what is wrong, in the order of the files.
fn read_all(dir: &Path, files: &[File], sink: &dyn Sink) -> Vec<Fault> {
    let total = files.iter().map(|f| f.size).sum();
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
        0 => (format!("{} files are what the manifest says", files.len()), true),
        n => (format!("{n} of {} files are not what the manifest says", files.len()), false),
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
    let mut reader = VerifiedReader::open(dir, file)?;
    loop {
        match reader.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => advance(count as u64),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(Fault::entry(in_bundle(&file.path), "is not what was signed")
                    .why(format!("its SHA-256 is not {}", file.sha256)));
            }
            Err(e) => return Err(Fault::io("read", &dir.join(in_bundle(&file.path)))(e)),
        }
    }
}
