//! The store: a directory of PEM files that only its owner can read.
//!
//! ```text
//! meta.json                   format, cluster, encryption
//! lock                        held while writing
//! identity.age                with a passphrase: what the keys are encrypted to
//! ca.crt ca.key  etcd/  front-proxy-ca.*  sa.key  sa.pub
//! ca-accepted.crt  etcd/ca-accepted.crt  front-proxy-ca-accepted.crt
//!                             where there are CAs that are accepted and do not issue
//! nodes/NODE/...  operator/...
//! enc/keys.json               keys of the API server's encryption at rest
//! retired/TIME/...            pairs that were replaced
//! ```
//!
//! With encryption, secrets end in `.age`; certificates stay plain, so that they can be looked at.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::error::{Offender, PkiError};
use super::profile::Ca;
use super::seal::{Ask, AskPassphrase, Seal, word};
use crate::file_lock::FileLock;
use crate::inventory::{ClusterName, Pki, StoreEncryption};
use crate::secret::Secret;

const META: &str = "meta.json";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity.age";
const RETIRED: &str = "retired";
/// The only format so far.
const FORMAT: &str = "kubastion-pki/v1";
/// Largest file of a store in bytes; the largest real one is a key ring of a few kB.
const MAX_FILE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    format: String,
    cluster: String,
    encryption: StoreEncryption,
}

/// A key store on the operator's disk, checked and opened.
pub struct Store {
    dir: PathBuf,
    cluster: String,
    encryption: StoreEncryption,
    /// None for a store with a passphrase that does not exist yet.
    seal: Option<Seal>,
}

/// What a store holds, by path without the ending of encrypted files. Retired pairs are left out.
#[derive(Default)]
pub struct Contents {
    pub(super) public: BTreeMap<String, Vec<u8>>,
    pub(super) secret: BTreeMap<String, Secret<Vec<u8>>>,
}

impl Contents {
    /// Whether it is that of a new store.
    pub(super) fn is_empty(&self) -> bool {
        self.public.is_empty() && self.secret.is_empty()
    }

    /// The same with files that are not written yet.
    pub(super) fn with(&self, files: &[NewFile]) -> Self {
        let mut all = Self { public: self.public.clone(), secret: self.secret.clone() };
        for file in files {
            match file {
                NewFile::Public { path, bytes } => {
                    all.public.insert(path.clone(), bytes.clone());
                }
                NewFile::Secret { path, bytes } => {
                    all.secret.insert(path.clone(), bytes.clone());
                }
            }
        }
        all
    }

    /// Whether both hold the same, byte for byte.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let equal = |(a, x): (&String, &Secret<Vec<u8>>), (b, y): (&String, &Secret<Vec<u8>>)| {
            a == b && crate::secret::equal(x.expose(), y.expose())
        };
        self.public == other.public
            && self.secret.len() == other.secret.len()
            && self.secret.iter().zip(&other.secret).all(|(a, b)| equal(a, b))
    }
}

/// A file to be written.
pub(super) enum NewFile {
    Public { path: String, bytes: Vec<u8> },
    Secret { path: String, bytes: Secret<Vec<u8>> },
}

/// A file that is written and not yet in its place.
struct Staged {
    name: String,
    path: PathBuf,
    temporary: PathBuf,
}

impl Staged {
    fn switch_in(&self) -> Result<(), PkiError> {
        std::fs::rename(&self.temporary, &self.path).map_err(io_error("written", &self.path))
    }

    /// If that fails, the next run does it.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Store {
    /// Checks and opens the store of a cluster. A directory that does not exist is an empty store;
    /// nothing is created.
    ///
    /// # Errors
    /// [`PkiError::Loose`] with every file or directory that others can read, write or replace;
    /// a store of another cluster or with another encryption; a passphrase or identity that does
    /// not open it.
    pub fn open(
        pki: &Pki,
        cluster: &ClusterName,
        ask: AskPassphrase<'_>,
    ) -> Result<Self, PkiError> {
        let dir = pki.dir.clone();
        let mut store = Self {
            dir,
            cluster: cluster.to_string(),
            encryption: pki.store.encryption,
            seal: None,
        };
        let exists = store.check_access()?;
        let meta = if exists { store.read_meta()? } else { None };
        store.seal = match pki.store.encryption {
            StoreEncryption::None => Some(Seal::None),
            StoreEncryption::AgeRecipients => {
                let file = pki.store.identity_file.as_deref().ok_or_else(|| {
                    PkiError::Identity("`pki.store.identity_file` is not set".to_owned())
                })?;
                let bytes = read_private(file)?;
                Some(Seal::from_recipients(&pki.store, bytes.expose())?)
            }
            StoreEncryption::AgePassphrase if meta.is_some() => {
                let path = store.dir.join(IDENTITY);
                let sealed = read_file(&path)?;
                let passphrase = ask(Ask::Open).map_err(PkiError::Passphrase)?;
                Some(Seal::from_passphrase(&path, &sealed, &passphrase)?)
            }
            StoreEncryption::AgePassphrase => None,
        };
        Ok(store)
    }

    /// The CAs of which there is no certificate here. Certificates are never encrypted.
    pub fn missing_cas(&self) -> Vec<Ca> {
        let there = |ca: &Ca| self.dir.join(format!("{}.crt", ca.file())).exists();
        Ca::ALL.iter().copied().filter(|ca| !there(ca)).collect()
    }

    /// Whether there is a certificate of any CA.
    pub fn has_cas(&self) -> bool {
        self.missing_cas().len() < Ca::ALL.len()
    }

    /// Directory of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads and opens everything, while nobody writes.
    ///
    /// # Errors
    /// Files that cannot be read, or do not open; [`PkiError::Busy`] while another process writes.
    pub fn contents(&self) -> Result<Contents, PkiError> {
        let path = self.dir.join(LOCK);
        let _held = match OpenOptions::new().read(true).custom_flags(no_follow()).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => {
                let file = other.map_err(io_error("opened", &path))?;
                let lock = FileLock::try_shared(file);
                Some(lock.map_err(|_| PkiError::Busy(self.dir.clone()))?)
            }
        };
        self.read_all()
    }

    /// Reads and opens everything; the caller holds the lock.
    pub(super) fn read_all(&self) -> Result<Contents, PkiError> {
        let mut contents = Contents::default();
        let Some(seal) = &self.seal else { return Ok(contents) };
        let mut files = Vec::new();
        walk(&self.dir, &mut |path, meta| {
            if meta.is_file() {
                files.push(path.to_owned());
            }
        })?;
        files.sort();
        for path in files {
            let name = path.strip_prefix(&self.dir).unwrap_or(&path).to_string_lossy().into_owned();
            if [META, LOCK, IDENTITY].contains(&name.as_str())
                || name.starts_with(RETIRED)
                || is_temporary(&name)
            {
                continue;
            }
            let plain_name = name.strip_suffix(".age").unwrap_or(&name);
            if !is_secret(plain_name) {
                contents.public.insert(name, read_file(&path)?);
                continue;
            }
            if plain_name.len() + seal.suffix().len() != name.len() {
                return Err(PkiError::Damaged {
                    path,
                    why: format!("this store has encryption `{}`", word(self.encryption)),
                });
            }
            let secret = seal.open(&path, read_file(&path)?)?;
            contents.secret.insert(plain_name.to_owned(), secret);
        }
        Ok(contents)
    }

    /// Takes the lock, and first makes the store if there is none.
    pub(super) fn lock(&mut self, ask: AskPassphrase<'_>) -> Result<FileLock, PkiError> {
        make_dir(&self.dir)?;
        let path = self.dir.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(io_error("opened", &path))?;
        let lock = FileLock::try_exclusive(file).map_err(|_| PkiError::Busy(self.dir.clone()))?;
        // Under the lock: another process may have made the store since it was opened.
        if self.read_meta()?.is_none() {
            self.initialize(ask)?;
        } else if self.seal.is_none() {
            return Err(PkiError::Busy(self.dir.clone()));
        }
        Ok(lock)
    }

    fn initialize(&mut self, ask: AskPassphrase<'_>) -> Result<(), PkiError> {
        if self.seal.is_none() {
            let passphrase = ask(Ask::New).map_err(PkiError::Passphrase)?;
            let (seal, sealed) = Seal::generate(&passphrase)?;
            self.put(IDENTITY, &sealed)?;
            self.seal = Some(seal);
        }
        let meta = Meta {
            format: FORMAT.to_owned(),
            cluster: self.cluster.clone(),
            encryption: self.encryption,
        };
        let mut text = serde_json::to_string_pretty(&meta).expect("three texts are JSON");
        text.push('\n');
        self.put(META, text.as_bytes())
    }

    /// Writes files, each atomically, in the order given. What a file replaces is kept in
    /// `retired/STAMP`.
    pub(super) fn write(
        &self,
        _held: &FileLock,
        files: &[NewFile],
        stamp: &str,
    ) -> Result<(), PkiError> {
        let seal = self.seal.as_ref().expect("the lock is only given out with the store open");
        if files.is_empty() {
            return Ok(());
        }
        let mut staged = Vec::new();
        let done = (|| {
            for file in files {
                let (name, bytes) = match file {
                    NewFile::Public { path, bytes } => (path.clone(), bytes.clone()),
                    NewFile::Secret { path, bytes } => {
                        (format!("{path}{}", seal.suffix()), seal.close(bytes.expose())?)
                    }
                };
                staged.push(self.stage(&name, &bytes)?);
            }
            // Two flushes for all, not four for each: a thousand nodes have several thousand files.
            self.flush()?;
            for file in &staged {
                self.retire(&file.name, stamp)?;
                file.switch_in()?;
            }
            self.flush()
        })();
        if done.is_err() {
            // The error that is reported is the first one.
            staged.iter().for_each(Staged::remove);
        }
        done
    }

    /// Gives what is about to be replaced a second name, under which it stays.
    fn retire(&self, name: &str, stamp: &str) -> Result<(), PkiError> {
        let old = self.dir.join(name);
        let kept = self.dir.join(RETIRED).join(stamp).join(name);
        if !old.exists() {
            return Ok(());
        }
        make_dir(kept.parent().unwrap_or(&self.dir))?;
        std::fs::hard_link(&old, &kept).map_err(io_error("kept", &old))
    }

    /// Writes one file atomically.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), PkiError> {
        let staged = self.stage(name, bytes)?;
        let done = self.flush().and_then(|()| staged.switch_in()).and_then(|()| self.flush());
        if done.is_err() {
            staged.remove();
        }
        done
    }

    /// Writes what a file will hold beside it.
    fn stage(&self, name: &str, bytes: &[u8]) -> Result<Staged, PkiError> {
        let path = self.dir.join(name);
        make_dir(path.parent().unwrap_or(&self.dir))?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY);
        let staged = Staged { name: name.to_owned(), path, temporary: temporary.into() };
        // What a killed run left here is no use to anyone.
        match std::fs::remove_file(&staged.temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("removed", &staged.temporary)(e));
            }
            _ => {}
        }
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&staged.temporary)
            .and_then(|mut f| f.write_all(bytes));
        if let Err(e) = written {
            staged.remove();
            return Err(io_error("written", &staged.path)(e));
        }
        Ok(staged)
    }

    /// Waits until everything that was written is on the disk, names too.
    fn flush(&self) -> Result<(), PkiError> {
        let synced = File::open(&self.dir).and_then(|d| Ok(rustix::fs::syncfs(d)?));
        synced.map_err(io_error("synced", &self.dir))
    }

    fn read_meta(&self) -> Result<Option<Meta>, PkiError> {
        let path = self.dir.join(META);
        if !path.exists() {
            return Ok(None);
        }
        let damaged = |why| PkiError::Damaged { path: path.clone(), why };
        let meta: Meta =
            serde_json::from_slice(&read_file(&path)?).map_err(|e| damaged(e.to_string()))?;
        if meta.format != FORMAT {
            return Err(damaged(format!("format `{}` is not `{FORMAT}`", meta.format)));
        }
        let dir = self.dir.clone();
        if meta.cluster != self.cluster {
            let (found, wanted) = (meta.cluster, self.cluster.clone());
            return Err(PkiError::OtherCluster { dir, found, wanted });
        }
        if meta.encryption != self.encryption {
            let (found, wanted) = (word(meta.encryption).into(), word(self.encryption).into());
            return Err(PkiError::OtherEncryption { dir, found, wanted });
        }
        Ok(Some(meta))
    }

    /// Looks for everything that others could read or replace. False if there is no store.
    fn check_access(&self) -> Result<bool, PkiError> {
        let meta = match std::fs::symlink_metadata(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(io_error("checked", &self.dir))?,
        };
        let mut offenders = Vec::new();
        judge(&self.dir, &meta, &mut offenders);
        if meta.is_dir() {
            walk(&self.dir, &mut |path, meta| judge(path, meta, &mut offenders))?;
        }
        offenders.sort_by(|a, b| a.path.cmp(&b.path));
        if offenders.is_empty() { Ok(true) } else { Err(PkiError::Loose(offenders)) }
    }
}

const TEMPORARY: &str = ".new";

fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// Whether a path of the store holds a secret.
fn is_secret(name: &str) -> bool {
    name.ends_with(".key") || name.starts_with("enc/")
}

/// Reads a file that must be private: a passphrase or an age identity.
///
/// # Errors
/// If others can read or replace it, or it cannot be read.
pub(super) fn read_private(path: &Path) -> Result<Secret<Vec<u8>>, PkiError> {
    let meta = std::fs::symlink_metadata(path).map_err(io_error("checked", path))?;
    let mut offenders = Vec::new();
    judge(path, &meta, &mut offenders);
    if !offenders.is_empty() {
        return Err(PkiError::Loose(offenders));
    }
    read_file(path).map(Secret::new)
}

impl Store {
    /// Reads a passphrase file: its first line, from a file that only its owner can read.
    ///
    /// # Errors
    /// If others can read or replace the file, or it holds no passphrase.
    pub fn read_passphrase_file(path: &Path) -> Result<Secret<String>, PkiError> {
        let bytes = read_private(path)?;
        let no_passphrase = || PkiError::Damaged {
            path: path.to_owned(),
            why: "its first line is not a passphrase".to_owned(),
        };
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| no_passphrase())?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() { Err(no_passphrase()) } else { Ok(Secret::new(line.to_owned())) }
    }
}

/// Reports what others could read or replace.
fn judge(path: &Path, meta: &std::fs::Metadata, offenders: &mut Vec<Offender>) {
    let mut offend = |what: String, mend: Option<String>| {
        offenders.push(Offender { path: path.to_owned(), what, mend });
    };
    if meta.is_symlink() {
        return offend("it is a symbolic link".to_owned(), None);
    }
    if !meta.is_dir() && !meta.is_file() {
        return offend("it is neither a file nor a directory".to_owned(), None);
    }
    let owner = rustix::process::geteuid().as_raw();
    if meta.uid() != owner {
        offend(format!("it belongs to uid {}, not to you (uid {owner})", meta.uid()), None);
    }
    let (mode, wanted) = (meta.mode() & 0o7777, if meta.is_dir() { 0o700 } else { 0o600 });
    if mode & !wanted != 0 {
        let mend = format!("chmod {wanted:04o} {}", path.display());
        offend(format!("its mode is {mode:04o}, but must be {wanted:04o} or tighter"), Some(mend));
    }
}

/// Visits everything below a directory, links not followed.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path, &std::fs::Metadata)) -> Result<(), PkiError> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("listed", dir))?,
    };
    for entry in entries {
        let path = entry.map_err(io_error("listed", dir))?.path();
        let meta = std::fs::symlink_metadata(&path).map_err(io_error("checked", &path))?;
        visit(&path, &meta);
        if meta.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Vec<u8>, PkiError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
        .map_err(io_error("read", path))?;
    let size = file.metadata().map_err(io_error("read", path))?.len();
    if size > MAX_FILE {
        return Err(PkiError::Damaged { path: path.to_owned(), why: "it is too large".to_owned() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    Ok(bytes)
}

fn make_dir(path: &Path) -> Result<(), PkiError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(io_error("made", path))
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).expect("open flags are small numbers")
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    move |source| PkiError::Io { action, path: path.to_owned(), source }
}
