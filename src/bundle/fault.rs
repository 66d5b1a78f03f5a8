//! What can be wrong with a bundle or with what one is made from.

use std::path::{Path, PathBuf};

use super::fetch::{FetchError, Unreached};
use super::model::{FORMAT, MANIFEST};
use super::registry::RegistryError;
use crate::error::Problem;
use crate::plain::listed;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file operation failed.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// What was tried, as a participle.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory is there that is no bundle, and is not replaced by one.
    #[error("{} exists and is not a bundle", .0.display())]
    Occupied(PathBuf),
    /// Another process makes the same bundle.
    #[error("{} is being written by another process", .0.display())]
    Busy(PathBuf),
    /// There is no manifest.
    #[error("{MANIFEST} is missing: this is not a bundle")]
    NoManifest,
    /// The manifest has another format.
    #[error("the manifest has format {found}")]
    Format {
        /// The format, as written.
        found: String,
    },
    /// The manifest is not what this format says.
    #[error("the manifest is malformed")]
    Malformed(#[source] serde_json::Error),
    /// The manifest is not the canonical text of what it says.
    #[error("the manifest is not in canonical form")]
    NotCanonical,
    /// There is no signature.
    #[error("the bundle is not signed")]
    Unsigned,
    /// The signature is no OpenSSH signature.
    #[error("the signature cannot be read")]
    SignatureMalformed(#[source] ssh_key::Error),
    /// The signature is one of something else.
    #[error("the signature does not match the manifest")]
    SignatureWrong(#[source] ssh_key::Error),
    /// Somebody else signed.
    #[error("the bundle is signed by a key that is not trusted")]
    UnknownSigner {
        /// Fingerprint of the key that signed, `SHA256:...`.
        found: String,
        /// Fingerprints of the keys that would be accepted.
        trusted: Vec<String>,
    },
    /// The key to sign with cannot be used.
    #[error("{} cannot sign: {why}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// How it can be mended.
        hint: &'static str,
    },
    /// Hosts that releases and images come from did not answer, before anything was fetched.
    #[error("{}", cannot_be_reached(.0))]
    Unreachable(Vec<Unreached>),
    /// A release could not be fetched.
    #[error("{url} cannot be fetched")]
    Fetch {
        /// Its address.
        url: String,
        /// Why.
        source: Box<FetchError>,
    },
    /// An image could not be pulled.
    #[error("the image {image} cannot be pulled")]
    Pull {
        /// Its name.
        image: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// An entry of a bundle or of an imported directory is not as it must be.
    #[error("{what}")]
    Entry {
        /// Which, as a path in the bundle or directory, with a field if one is meant.
        place: String,
        /// What is wrong.
        what: String,
        /// What was found or is allowed.
        why: Option<String>,
        /// What can be done.
        hint: Option<String>,
    },
}

impl Fault {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Fault::Io { action, path, source }
    }

    pub(super) fn entry(place: impl Into<String>, what: impl Into<String>) -> Self {
        Fault::Entry { place: place.into(), what: what.into(), why: None, hint: None }
    }

    pub(super) fn why(mut self, text: impl Into<String>) -> Self {
        if let Fault::Entry { why, .. } = &mut self {
            *why = Some(text.into());
        }
        self
    }

    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Fault::Entry { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    fn problem(&self, subject: &Path) -> Problem {
        let chain = std::iter::successors(std::error::Error::source(self), |e| e.source());
        let mut problem = Problem::new(self.to_string()).at(subject.display().to_string());
        problem.why.extend(chain.map(ToString::to_string));
        match self {
            Fault::Entry { place, why, hint, .. } => {
                problem.place = Some(subject.join(place).display().to_string());
                problem.why.extend(why.clone());
                problem.hint = hint.clone();
            }
            Fault::Format { .. } => {
                problem.why.push(format!("this version of kubastion reads format {FORMAT}"));
                problem.hint = Some("create the bundle again with this version".to_owned());
            }
            Fault::UnknownSigner { found, trusted } => {
                problem.why.push(format!("signed by {found}"));
                problem.why.push(match trusted.is_empty() {
                    true => "no signer is trusted".to_owned(),
                    false => format!("trusted: {}", trusted.join(", ")),
                });
                problem.state = Some("nothing was read from it".to_owned());
                problem.hint = Some(
                    "if you know this key, add its public key to `kubernetes.bundle.signers` (`--signer \
                     \"$(cat KEY.pub)\"` for `bundle verify`); otherwise use another bundle"
                        .to_owned(),
                );
            }
            Fault::Unreachable(_) => {
                // The output path has nothing to do with it.
                problem.place = None;
                let hint = "set HTTPS_PROXY, use --mirror, or create the bundle from your own files with \
                            `kubastion bundle import`";
                problem.hint = Some(hint.to_owned());
            }
            Fault::NoManifest => {
                if !subject.is_dir() {
                    problem.what = "the directory does not exist".to_owned();
                }
                let hint = "check the path (`kubernetes.bundle.path` in the inventory), or run `kubastion bundle \
                            create` to create a bundle";
                problem.hint = Some(hint.to_owned());
            }
            Fault::Occupied(_) => {
                problem.hint =
                    Some("set --out to another directory, or move this one away".to_owned());
            }
            Fault::Key { hint, .. } => problem.hint = Some((*hint).to_owned()),
            _ => {}
        }
        problem
    }
}

/// Groups hosts by reason: a machine without a network has the same one for all.
fn cannot_be_reached(hosts: &[Unreached]) -> String {
    let mut whys: Vec<&str> = Vec::new();
    for Unreached { why, .. } in hosts {
        if !whys.contains(&why.as_str()) {
            whys.push(why);
        }
    }
    let of = |why: &str| {
        let names = hosts.iter().filter(|h| h.why == why).map(|h| h.host.as_str());
        format!("{} cannot be reached: {why}", listed(&names.collect::<Vec<_>>()))
    };
    whys.into_iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Everything that is wrong, at once.
#[derive(Debug, thiserror::Error)]
#[error("{} has {}", subject.display(), crate::plain::counted(faults.len(), "problem"))]
pub struct BundleError {
    /// The bundle, or the directory that was to become one.
    pub subject: PathBuf,
    /// All faults, in the order in which they were met.
    pub faults: Vec<Fault>,
    /// In which state things were left, if anything was written.
    pub state: Option<&'static str>,
}

impl BundleError {
    pub(super) fn new(subject: &Path, faults: Vec<Fault>) -> Self {
        Self { subject: subject.to_owned(), faults, state: None }
    }

    /// Says in which state things were left.
    #[must_use]
    pub fn left(mut self, state: &'static str) -> Self {
        self.state = Some(state);
        self
    }

    /// As the user sees them.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.faults.iter().map(|f| f.problem(&self.subject)).collect();
        if let (Some(last), Some(state)) = (problems.last_mut(), self.state) {
            last.state = Some(state.to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_cannot_be_reached_are_one_line() {
        let unreached = |host: &str, why: &str| Unreached { host: host.into(), why: why.into() };
        let mut hosts = vec![unreached("a.example", "refused"), unreached("b.example", "refused")];
        let line = Fault::Unreachable(hosts.clone()).to_string();
        assert_eq!(line, "a.example and b.example cannot be reached: refused");
        hosts.push(unreached("c.example", "no answer"));
        let line = Fault::Unreachable(hosts).to_string();
        assert!(line.ends_with("refused; c.example cannot be reached: no answer"), "{line}");
    }
}
