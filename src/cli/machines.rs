//! The machines of an existing cluster on the command line, and the prompt that confirms their host keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::ask::{Confirmation as Ask, ask};
use crate::discovery::{HostKey, SshAccess, Target};
use crate::inventory::{Profile, Sudo};
use crate::plain::plain_line;
use crate::report::table::{self, Column};
use crate::workflow::command_error::CommandError;
use crate::workflow::finding::Search;
use crate::workflow::first_contact::UnknownHost;
use crate::workflow::observe::Watch;

/// Machines, and how to log in to them.
#[derive(Debug, Clone, clap::Args)]
pub struct Machines {
    /// Machines of the cluster, a control plane first. The API names the others.
    #[arg(required = true, value_name = "ssh://[USER@]HOST[:PORT]")]
    pub machines: Vec<Target>,
    /// Private key to log in with. Default: the keys of the running ssh-agent.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Jump host to the machines. Repeatable, in order: the first is reached directly.
    #[arg(long, value_name = "ssh://[USER@]HOST[:PORT]")]
    pub jump: Vec<Target>,
    /// How the login user becomes root. Default: none for root, passwordless for others.
    #[arg(long, value_enum, value_name = "HOW")]
    pub sudo: Option<How>,
    /// OpenSSH known_hosts file with the machines' keys. It is only read.
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// Host key of a machine or jump host, as its console shows it. Repeatable.
    #[arg(long = "host-key", value_name = "HOST=SHA256:FINGERPRINT")]
    pub host_keys: Vec<HostKey>,
}

impl Machines {
    /// The cluster that they belong to. `watch` is what its nodes are asked for.
    pub(super) fn search(&self, watch: Watch) -> Search {
        let mut access = SshAccess {
            key_file: self.identity.clone(),
            sudo: self.sudo.map(|how| match how {
                How::None => Sudo::None,
                How::Passwordless => Sudo::Passwordless,
                How::Password => Sudo::Password,
            }),
            jump: self.jump.clone(),
            known_hosts: self.known_hosts.clone(),
            ..SshAccess::default()
        };
        self.host_keys.iter().for_each(|key| access.accept(key.clone()));
        Search { targets: self.machines.clone(), access, watch }
    }
}

/// How the login user becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// The login user is root.
    None,
    /// With sudo, without a password.
    Passwordless,
    /// With sudo and a password.
    Password,
}

/// A set of controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// NSA/CISA Kubernetes Hardening Guidance 1.2.
    Nsa,
    /// CIS Kubernetes Benchmark 1.12.
    Cis,
    /// DISA STIG for Kubernetes.
    Stig,
}

impl From<Set> for Profile {
    fn from(set: Set) -> Self {
        match set {
            Set::Nsa => Profile::Nsa,
            Set::Cis => Profile::Cis,
            Set::Stig => Profile::Stig,
        }
    }
}

/// Shows host keys that nobody has promised, and asks whether they are right.
pub(super) fn confirm(unknown_hosts: &[UnknownHost]) -> Result<(), CommandError> {
    eprint!("{}", shown(unknown_hosts));
    ask(Ask::HostKeys, &instead(unknown_hosts))
}

/// The keys of each machine. What a machine calls a key is its own word.
fn shown(unknown_hosts: &[UnknownHost]) -> String {
    let rows = unknown_hosts.iter().flat_map(|s| {
        let called = s.called.as_ref().map(ToString::to_string).unwrap_or_default();
        s.keys.iter().map(move |k| {
            [
                s.host.to_string(),
                called.clone(),
                plain_line(&k.kind).to_string(),
                k.fingerprint.clone(),
            ]
        })
    });
    let head = ["HOST", "NODE", "TYPE", "FINGERPRINT"].map(str::to_owned);
    table::text([Column::TEXT; 4], std::iter::once(head).chain(rows))
}

/// What to add to the command where nobody can be asked: one key of each machine, the first that it presents.
fn instead(unknown_hosts: &[UnknownHost]) -> String {
    let mut out = String::from(
        "compare the fingerprints on the machines' consoles, then add to the command: --known-hosts FILE, or",
    );
    let mut seen = BTreeSet::new();
    for unknown_host in unknown_hosts.iter().filter(|s| seen.insert(s.host.clone())) {
        if let Some(key) = unknown_host.keys.first() {
            // Writing to a String cannot fail.
            let _ = write!(out, " --host-key {}={}", unknown_host.host, key.fingerprint);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::reach::Presented;

    #[test]
    fn what_no_machine_can_be_reached_by_is_refused_at_once() {
        use crate::cli::args::Cli;
        use clap::Parser;
        let parse = |words: &str| {
            Cli::try_parse_from(["kubastion", "assess"].into_iter().chain(words.split_whitespace()))
        };
        let key = format!("--host-key cp1=SHA256:{}", "A".repeat(43));
        assert!(parse(&format!("ssh://root@cp1:22 ssh://cp2 --identity k {key}")).is_ok());
        for bad in [
            "",
            "cp1",
            "root@cp1",
            "ssh://root@cp1 --host-key SHA256:x",
            "ssh://root@cp1 --jump bastion",
            "ssh://root@cp1 --sudo perhaps",
            "ssh://root@cp1 --profile none",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_to_be_added_to_the_command_is_what_it_takes() {
        let print = |c: char| format!("SHA256:{}", c.to_string().repeat(43));
        let key = |c| Presented {
            kind: "Ed25519\u{1b}[2J".into(),
            fingerprint: print(c),
            is_trusted: false,
            refused: None,
        };
        let unknown_hosts = [
            UnknownHost {
                host: "192.0.2.1".parse().unwrap(),
                called: None,
                keys: vec![key('a'), key('b')],
            },
            UnknownHost {
                host: "2001:db8::2".parse().unwrap(),
                called: Some("w1".parse().unwrap()),
                keys: vec![key('c')],
            },
        ];
        let said = instead(&unknown_hosts);
        let keys: Vec<HostKey> = said
            .split(" --host-key ")
            .skip(1)
            .map(|k| k.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(keys.len(), 2, "{said}");
        assert_eq!(keys[1].host.as_str(), "2001:db8::2");
        let shown = shown(&unknown_hosts);
        assert!(shown.contains("w1") && !shown.contains('\u{1b}'), "{shown:?}");
        assert_eq!(shown.lines().count(), 4);
    }
}
