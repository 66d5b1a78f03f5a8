//! Files of a bundle on their way to a node: checked as they are read here, checked again there, and
//! resumed where a connection broke.

use std::io::{self, Read};
use std::time::Duration;

use super::BLOB_SCRIPT;
use crate::bundle::{self, Bundle};
use crate::desired::Blob;
use crate::event::{Event, Sink};
use crate::inventory::NodeName;
use crate::transport::{Request, Transport, TransportError, tail};

/// How long one file may take: 500 MB over a line of 10 Mbit/s.
const DEADLINE: Duration = Duration::from_secs(600);

/// Why a file did not reach a node.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The plan names a file that the bundle does not hold.
    #[error("the bundle holds no file with digest {0}")]
    NotInBundle(String),
    /// It cannot be opened.
    #[error("a file of the bundle cannot be opened")]
    Open(#[source] bundle::Fault),
    /// The node could not be asked, or the connection broke.
    #[error("{what} could not be sent")]
    Transport {
        /// Name of the file.
        what: String,
        /// Why.
        #[source]
        source: Box<TransportError>,
    },
    /// The file in the bundle is not what its manifest says.
    #[error("{what} was not sent")]
    Content {
        /// Name of the file.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node rejected it.
    #[error("{what} was rejected: {why}")]
    Refused {
        /// Name of the file.
        what: String,
        /// The node's reason.
        why: String,
    },
}

/// Sends one file to a node, unless the node has all of it.
///
/// # Errors
/// See [`UploadError`]. What arrived stays on the node for the next try.
pub fn send(
    transport: &mut dyn Transport,
    bundle: &Bundle,
    blob: &Blob,
    node: &NodeName,
    sink: &dyn Sink,
) -> Result<(), UploadError> {
    let file = bundle.manifest().files.iter().find(|f| f.sha256.as_str() == blob.sha256);
    let file = file.ok_or_else(|| UploadError::NotInBundle(blob.sha256.clone()))?;
    let what = file.name().to_owned();
    let refused = |why: String| UploadError::Refused { what: what.clone(), why };
    let mut here = match ask(transport, blob, "ask", &mut io::empty(), &what)? {
        Have::All => return Ok(()),
        Have::Bytes(n) => n,
        Have::Refused(why) => return Err(refused(why)),
    };
    sink.send(Event::Waiting {
        node: node.clone(),
        what: format!(
            "the upload of {what} ({} MB)",
            (blob.size - here.min(blob.size)) / 1_000_000
        ),
    });
    // Retried once if another run sent a part meanwhile.
    for _ in 0..2 {
        let mut reader = bundle.reader(file).map_err(UploadError::Open)?;
        let content = |source| UploadError::Content { what: what.clone(), source };
        // The part that the node has is read here too: the digest covers the complete file.
        let skipped = io::copy(&mut (&mut reader).take(here), &mut io::sink()).map_err(content)?;
        if skipped < here {
            return Err(refused(format!("the node has {here} bytes of it, more than its size")));
        }
        let mut failed = None;
        let mut watched = Watched { reader, failed: &mut failed };
        let asked = ask(transport, blob, &here.to_string(), &mut watched, &what);
        if let Some(source) = failed {
            return Err(content(source));
        }
        match asked? {
            Have::All => return Ok(()),
            Have::Bytes(n) => here = n,
            Have::Refused(why) => return Err(refused(why)),
        }
    }
    Err(refused(format!("{here} of {} bytes arrived", blob.size)))
}

enum Have {
    All,
    Bytes(u64),
    Refused(String),
}

fn ask(
    transport: &mut dyn Transport,
    blob: &Blob,
    offset: &str,
    bytes: &mut dyn Read,
    what: &str,
) -> Result<Have, UploadError> {
    let line = format!("{} {} {offset}\n", blob.sha256, blob.size);
    let mut input = line.as_bytes().chain(bytes);
    let request = Request {
        script: BLOB_SCRIPT,
        input: &mut input,
        deadline: DEADLINE,
        max_output: 64 * 1024,
        stays: false,
    };
    let output = transport.run(request, &mut |_| {}).map_err(|source| UploadError::Transport {
        what: what.to_owned(),
        source: Box::new(source),
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find_map(|l| l.strip_prefix('@'));
    Ok(match answer.and_then(|a| a.split_once(' ')) {
        Some(("have", "all")) => Have::All,
        Some(("have", n)) if n.parse::<u64>().is_ok_and(|n| n <= blob.size) => {
            Have::Bytes(n.parse().expect("the guard parsed it"))
        }
        Some(("refused", why)) => Have::Refused(tail(why.as_bytes())),
        _ => Have::Refused(format!("status {}: {}", output.status, tail(&output.stderr))),
    })
}

/// Keeps a reader's error, which the transport would report as a connection error.
struct Watched<'a, R> {
    reader: R,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|e| {
            let copy = io::Error::new(e.kind(), e.to_string());
            *self.failed = Some(e);
            copy
        })
    }
}
