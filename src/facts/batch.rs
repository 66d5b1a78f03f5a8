//! The one exec that reads a node.

use std::time::Duration;

use super::model::{Extra, NodeFacts, WatchList};
use super::parse::{self, ParseError};
use crate::clock::Clock;
use crate::inventory::NodeName;
use crate::transport::{Request, Transport, TransportError};

/// The program that reads facts. It writes nothing anywhere.
pub const SCRIPT: &str = concat!(
    include_str!("../apply/node/logins.sh"),
    include_str!("../apply/node/rules.sh"),
    include_str!("collect.sh")
);

/// Commands whose presence matters to later stages.
pub const COMMANDS: &[&str] = &[
    "apt-get",
    "auditctl",
    "bash",
    "containerd",
    "dnf",
    "etcd",
    "fallocate",
    "flock",
    "kubeadm",
    "kubelet",
    "nft",
    "sha256sum",
    "stat",
    "systemctl",
    "systemd-run",
    "tar",
];

/// Daemons whose command lines are read.
pub const PROCESSES: &[&str] = &[
    "containerd",
    "etcd",
    "haproxy",
    "keepalived",
    "kube-apiserver",
    "kube-controller",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
];

/// How long a node may take to answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// More than any honest answer: 10,000 watched paths take about 2 MB.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Why facts could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The program could not be run.
    #[error(transparent)]
    Transport(TransportError),
    /// The program ended with an error.
    #[error("reading facts ended with status {status}: {stderr}")]
    Failed {
        /// Exit status.
        status: i32,
        /// End of standard error.
        stderr: String,
    },
    /// The answer is not of the expected shape.
    #[error("the node's answer cannot be parsed")]
    Parse(#[source] ParseError),
}

/// Reads what the watch list names, in one exec.
///
/// # Errors
/// If the node cannot be asked, or answers with anything but a whole answer.
pub fn collect(
    transport: &mut dyn Transport,
    node: &NodeName,
    watch: &WatchList,
) -> Result<NodeFacts, FactsError> {
    let word = crate::plain::hex(&crate::clock::random_bytes::<12>());
    let input = request_lines(watch, &word);
    let output = transport
        .run(
            Request {
                script: &compact(SCRIPT),
                input: &mut input.as_bytes(),
                deadline: DEADLINE,
                max_output: MAX_BYTES,
                stays: true,
            },
            &mut |_| {},
        )
        .map_err(FactsError::Transport)?;
    if output.status != 0 {
        return Err(FactsError::Failed { status: output.status, stderr: output.stderr_tail() });
    }
    let mut facts = parse::facts(node, watch, &word, &output.stdout).map_err(FactsError::Parse)?;
    facts.answers.read = Some(Clock::System.now());
    Ok(facts)
}

/// The program without comments and indentation, which no node needs.
fn compact(script: &str) -> String {
    script
        .lines()
        .map(str::trim_start)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .flat_map(|l| [l, "\n"])
        .collect()
}

/// `word` begins the sections of the answer.
pub(super) fn request_lines(watch: &WatchList, word: &str) -> String {
    let mut lines = String::new();
    let WatchList {
        files,
        programs,
        images,
        units,
        sysctls,
        modules,
        packages,
        // Out of /etc/passwd, which is read anyway.
        users: _,
        texts,
        shown,
        trees,
        sshd,
        extras,
    } = watch;
    // A test wants a branch for each in the program.
    let sections = [
        ('F', files),
        ('B', programs),
        ('I', images),
        ('U', units),
        ('S', sysctls),
        ('M', modules),
        ('P', packages),
        ('R', texts),
        ('D', shown),
        ('T', trees),
        ('O', sshd),
    ];
    for (letter, items) in sections {
        for item in items {
            lines.extend([&letter.to_string(), " ", item, "\n"]);
        }
    }
    for extra in extras {
        lines.push_str(match extra {
            Extra::Lsm => "X lsm\n",
            Extra::Time => "X time\n",
            Extra::Audit => "X audit\n",
            Extra::SshdMatches => "X matches\n",
            Extra::EncryptionKeys => "X encryption\n",
            Extra::Observation => "X observation\n",
        });
    }
    for &command in COMMANDS {
        lines.extend(["C ", command, "\n"]);
    }
    for &process in PROCESSES {
        lines.extend(["N ", process, "\n"]);
    }
    // How long it is comes first: what a shell that stays is sent next is not part of it.
    format!("{} {word}\n{lines}", lines.len())
}
