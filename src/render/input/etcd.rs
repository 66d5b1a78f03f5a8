//! Inputs of templates/etcd.

use serde::Serialize;

use super::host::input;
use crate::render::{Input, Text};

/// The service.
#[derive(Debug, Clone, Serialize)]
pub struct EtcdUnit {
    /// Command-line flags, in order. Always `--name=value`: scanners read two words as `true`.
    pub flags: Vec<Flag>,
    /// Adjustment for the kernel's out-of-memory killer, -1000 to 1000.
    pub oom_score_adjust: i16,
}
input!(EtcdUnit, "etcd/etcd.service");

/// A command-line flag.
#[derive(Debug, Clone, Serialize)]
pub struct Flag {
    /// Without dashes.
    pub name: Text,
    /// Value.
    pub value: Text,
}

/// How a member without data finds the others.
#[derive(Debug, Clone, Serialize)]
pub struct EtcdBootstrap {
    /// Keeps clusters apart that meet by mistake.
    pub token: Text,
    /// All members, sorted by name.
    pub members: Vec<Member>,
}
input!(EtcdBootstrap, "etcd/etcd.conf");

/// An etcd member.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Its name.
    pub name: Text,
    /// Where its peers reach it.
    pub peer_url: Text,
}
