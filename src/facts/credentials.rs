//! What a node holds to prove who somebody is: kubeconfigs, certificates and their keys. They stay in memory, and no part of them
//! is printed, logged or sent on.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroize;

use super::batch::FactsError;
use crate::secret::Secret;
use crate::transport::{Request, Transport};

/// The program that reads them. It writes nothing anywhere.
pub const CREDENTIALS_SCRIPT: &str = include_str!("credentials.sh");

/// How long a node may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// More than all files together: each has 64 KiB at most.
const MAX_BYTES: usize = 2 << 20;

/// Files of a node, by path.
#[derive(Default)]
pub struct Held(BTreeMap<String, Secret<Vec<u8>>>);

impl Held {
    /// A file; none if it is not there.
    pub fn file(&self, path: &str) -> Option<&Secret<Vec<u8>>> {
        self.0.get(path)
    }

    /// A file that is text and no secret.
    pub fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.file(path)?.expose().clone()).ok()
    }

    #[cfg(test)]
    pub(crate) fn of(files: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(files.into_iter().map(|(p, t)| (p.to_owned(), Secret::new(t.into_bytes()))).collect())
    }
}

/// Reads some files of a node. Name no more than are needed: what is not read cannot get lost.
///
/// # Errors
/// If the node cannot be asked.
pub fn read_credentials(transport: &mut dyn Transport, paths: &[&str]) -> Result<Held, FactsError> {
    let input: String = paths.iter().flat_map(|p| [*p, "\n"]).collect();
    let mut output = transport
        .run(
            Request {
                script: CREDENTIALS_SCRIPT,
                input: &mut input.as_bytes(),
                deadline: DEADLINE,
                max_output: MAX_BYTES,
                stays: false,
            },
            &mut |_| {},
        )
        .map_err(FactsError::Transport)?;
    let held = parse(&output.stdout, paths);
    output.stdout.zeroize();
    if output.status != 0 {
        return Err(FactsError::Failed { status: output.status, stderr: output.stderr_tail() });
    }
    Ok(held)
}

/// Of the paths that were asked for, and of no others.
fn parse(answer: &[u8], paths: &[&str]) -> Held {
    let mut held = Held::default();
    for line in answer.split(|b| *b == b'\n') {
        let Some(at) = line.iter().position(|b| *b == b' ') else { continue };
        let path = paths.iter().find(|p| p.as_bytes() == &line[..at]);
        if let (Some(path), Ok(bytes)) = (path, BASE64_STANDARD.decode(&line[at + 1..])) {
            held.0.insert((*path).to_owned(), Secret::new(bytes));
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Dialer;
    use crate::transport::played::{Played, this_machine};

    #[test]
    fn what_is_there_is_read_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a.conf"), "PLANTED\nKEY").unwrap();
        std::fs::write(path("large"), vec![b'x'; 65537]).unwrap();
        std::os::unix::fs::symlink(path("a.conf"), path("link.pem")).unwrap();
        let inventory = crate::inventory::testing::two_and_two();
        let target = inventory.ssh.for_node(&inventory.nodes[0]);
        let here = Played(&|_, script, input| this_machine(script, input));
        let mut session = here.connect(&target).unwrap();
        let all = ["a.conf", "large", "link.pem", "none"].map(path);
        let held = read_credentials(session.as_mut(), &all.each_ref().map(String::as_str)).unwrap();
        assert_eq!(held.text(&all[0]).unwrap(), "PLANTED\nKEY");
        assert_eq!(held.text(&all[2]).unwrap(), "PLANTED\nKEY");
        assert!(held.file(&all[1]).is_none() && held.file(&all[3]).is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_node_answers_for_what_it_was_asked_alone() {
        let held = parse(b"/a eA==\n/b eA==\n/a\n\n/c !\n", &["/a", "/c"]);
        assert_eq!(held.text("/a").unwrap(), "x");
        assert!(held.file("/b").is_none() && held.file("/c").is_none());
    }
}
