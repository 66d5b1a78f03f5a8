//! From a file to an [`Inventory`]: read, check the shape, type the values, check the meaning.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use sha2::{Digest, Sha256};

use super::check::{Checked, check};
use super::context::LoadContext;
use super::diagnostic::{Diagnostic, Path, Place};
use super::files::Files;
use super::model::Inventory;
use super::validate::review::Parsed;
use super::validate::validate;
use crate::error::Problem;
use crate::plain::hex;
use crate::yaml::{self, tree};

/// A key with many signatures on it has some ten kilobytes.
const MAX_KEY_BYTES: usize = 1 << 20;

/// Largest inventory file in bytes; 5,000 nodes take about two million.
pub const MAX_BYTES: u64 = 64 << 20;

/// The inventory itself needs seven levels.
const BOUNDS: tree::Bounds = tree::Bounds { depth: 32, values: 2_000_000 };

/// An inventory that holds every rule of this stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The inventory: nodes sorted by name, every path absolute.
    pub inventory: Inventory,
    /// What is read beside it.
    pub files: Files,
    /// What is allowed but doubtful.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 of the file's bytes, in hex.
    pub sha256: String,
    /// Directory from which relative paths in the file start.
    pub base_dir: PathBuf,
}

/// Why an inventory cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} has {}", file.display(), crate::plain::counted(problems.len(), "problem"))]
pub struct LoadError {
    /// The file as named by the user.
    pub file: PathBuf,
    /// All problems, in the order of the file.
    pub problems: Vec<Diagnostic>,
    /// What is allowed but doubtful.
    pub warnings: Vec<Diagnostic>,
}

impl LoadError {
    /// All problems as the user sees them.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.iter().map(|d| d.problem(&self.file)).collect()
    }
}

/// Loads and checks an inventory file.
///
/// Beside this file a custom audit policy and the key of a repository are read, which nodes get. SSH keys
/// and known_hosts files are not opened, and no name is resolved.
///
/// # Errors
/// Every problem of the file at once.
pub fn load(file: &FilePath, context: &LoadContext<'_>) -> Result<Loaded, LoadError> {
    let unreadable = |message: String| LoadError {
        file: file.to_owned(),
        problems: vec![Diagnostic::new(None, &Path::root(), message)],
        warnings: Vec::new(),
    };
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file);
    open.and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|e| {
        let mut error = unreadable(format!("the inventory cannot be read: {e}"));
        error.problems[0]
            .hint("set -i to another file, or run `kubastion inventory init` to write one");
        error
    })?;
    let base = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => FilePath::new("."),
    };
    let base = std::path::absolute(base)
        .map_err(|e| unreadable(format!("the current directory is unknown: {e}")))?;
    // `absolute` keeps a trailing `.`, which would show up in every path.
    let base = base.components().collect::<PathBuf>();
    let mut loaded = load_bytes(&bytes, file, &base, context)?;
    if let Some(policy) = &loaded.inventory.audit.file {
        let text = std::fs::read_to_string(policy).map_err(|e| {
            let what = format!("{} cannot be read: {e}", policy.display());
            let path = Path::root().then("audit").then("file");
            let problems = vec![Diagnostic::new(None, &path, what)];
            LoadError { file: file.to_owned(), problems, warnings: loaded.warnings.clone() }
        })?;
        loaded.files.audit_policy = Some(text);
    }
    if let Some(key) = &loaded.inventory.kubernetes.packages.signing_key {
        let refuse = |what: String| {
            let path = Path::root().then("kubernetes").then("packages").then("signing_key");
            let problems = vec![Diagnostic::new(None, &path, what)];
            LoadError { file: file.to_owned(), problems, warnings: loaded.warnings.clone() }
        };
        let text = std::fs::read_to_string(key)
            .map_err(|e| refuse(format!("{} cannot be read: {e}", key.display())))?;
        let begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
        if !text.starts_with(begin) || text.len() > MAX_KEY_BYTES {
            return Err(refuse(format!("{} is not an ASCII-armored OpenPGP key", key.display())));
        }
        loaded.files.signing_key = Some(text);
    }
    Ok(loaded)
}

/// Loads and checks an inventory from memory; `file` appears in messages, relative paths start at
/// `base_dir`. No other file is read.
///
/// # Errors
/// Every problem at once.
pub fn load_bytes(
    bytes: &[u8],
    file: &FilePath,
    base_dir: &FilePath,
    context: &LoadContext<'_>,
) -> Result<Loaded, LoadError> {
    let mut findings = Findings::default();
    let inventory = read(bytes, context, &mut findings);
    findings.problems.sort();
    findings.problems.dedup();
    findings.warnings.sort();
    match inventory {
        Some(mut inventory) if findings.problems.is_empty() => {
            inventory.nodes.sort_by(|a, b| a.name.cmp(&b.name));
            for path in paths(&mut inventory) {
                *path = absolute(path, base_dir, context.home.as_deref());
            }
            Ok(Loaded {
                inventory,
                files: Files::default(),
                warnings: findings.warnings,
                sha256: hex(&Sha256::digest(bytes)),
                base_dir: base_dir.to_owned(),
            })
        }
        _ => Err(LoadError {
            file: file.to_owned(),
            problems: findings.problems,
            warnings: findings.warnings,
        }),
    }
}

#[derive(Default)]
struct Findings {
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

/// Everything but paths and order. `None` only together with a problem.
fn read(bytes: &[u8], context: &LoadContext<'_>, findings: &mut Findings) -> Option<Inventory> {
    let mut stop = |place, message: String| {
        findings.problems.push(Diagnostic::new(Some(place), &Path::root(), message));
        None
    };
    if bytes.len() as u64 > MAX_BYTES {
        return stop(Place::START, format!("the file is larger than {MAX_BYTES} bytes"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let before = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
            return stop(Place { line, column }, "the file is not UTF-8".to_owned());
        }
    };
    let (root, problems) = tree::parse(text, BOUNDS);
    findings.problems.extend(problems.into_iter().map(Diagnostic::from));
    let root = root?;
    let Checked { mut diagnostics, rest, nodes, incomplete } = check(&root);
    let well_formed = diagnostics.is_empty() && findings.problems.is_empty();
    findings.problems.append(&mut diagnostics);

    // What was checked is what is typed: the text is not read a second time. Of a file with problems that is its well-formed
    // part, so that problems of meaning are shown in the same run.
    match yaml::from_value::<Inventory>(rest?) {
        Ok(inventory) => {
            let subject = Parsed { inventory: &inventory, root: &root, nodes: &nodes };
            let (mut errors, mut warnings) = validate(&subject, context, &incomplete);
            findings.problems.append(&mut errors);
            findings.warnings.append(&mut warnings);
            Some(inventory)
        }
        // Only what the schema cannot express could get here, and there is no such thing by
        // intention; the message is serde's own.
        Err(e) if well_formed => {
            let message = e.to_string();
            findings.problems.push(Diagnostic::new(Some(Place::START), &Path::root(), message));
            None
        }
        Err(_) => None,
    }
}

/// Every path that the inventory names.
fn paths(inventory: &mut Inventory) -> Vec<&mut PathBuf> {
    let ssh = &mut inventory.ssh;
    let mut all: Vec<&mut PathBuf> = Vec::new();
    all.extend(ssh.key_file.as_mut());
    all.extend(ssh.known_hosts.as_mut());
    all.extend(ssh.jump.iter_mut().filter_map(|j| j.key_file.as_mut()));
    for node in &mut inventory.nodes {
        all.extend(node.ssh.key_file.as_mut());
        all.extend(node.ssh.known_hosts.as_mut());
        let jumps = node.ssh.jump.iter_mut().flatten();
        all.extend(jumps.filter_map(|j| j.key_file.as_mut()));
    }
    let pki = &mut inventory.pki;
    all.push(&mut pki.dir);
    all.extend(pki.store.identity_file.as_mut());
    all.extend(pki.store.passphrase_file.as_mut());
    all.extend(inventory.audit.file.as_mut());
    all.extend(inventory.kubernetes.bundle.path.as_mut());
    all.extend(inventory.kubernetes.packages.signing_key.as_mut());
    all
}

fn absolute(path: &FilePath, base_dir: &FilePath, home: Option<&FilePath>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base_dir.join(path).components().collect(),
    }
}
