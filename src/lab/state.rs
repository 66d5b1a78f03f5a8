//! `lab.json`: what a lab made, written before it is made, so that a half-made lab can be removed.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::address;
use super::error::Error;
use crate::inventory::Role;

/// Name of the state file in a lab directory.
pub const STATE_FILE: &str = "lab.json";

/// What a lab made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Format of this file.
    pub version: Version,
    /// Six hexadecimal digits that every name of this lab carries.
    pub id: String,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// How far it came.
    pub phase: Phase,
    /// Third octet of its network.
    pub slot: u8,
    /// Shared read-only root filesystem.
    pub rootfs: PathBuf,
    /// The nodes, control planes first.
    pub nodes: Vec<NodeState>,
    /// The bundle that the inventory names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<super::spec::LabBundle>,
    /// The stock cluster on its nodes, if any. [`Phase::Up`] then is that the cluster is made, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock: Option<super::spec::Stock>,
}

/// Format of the state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    /// The first format.
    #[serde(rename = "kubastion-lab/v1")]
    V1,
}

/// How far a lab came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made, or given up half-way.
    Making,
    /// Every node answered once, the inventory is written, and the stock cluster made if one was asked for.
    Up,
}

/// One node of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeState {
    /// Host name.
    pub name: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Its address on the lab's network.
    pub address: Ipv4Addr,
}

impl State {
    /// Network namespace of the switch, and name of the host's link into it (15 characters at most,
    /// IFNAMSIZ).
    pub(super) fn switch(&self) -> String {
        format!("kb{}", self.id)
    }

    /// Network namespace of a node.
    pub(super) fn netns(&self, node: &str) -> String {
        format!("kb{}-{node}", self.id)
    }

    /// A node's MAC address: locally administered (IEEE 802, second bit of the first octet), the
    /// same at every boot.
    pub(super) fn mac(&self, node: &NodeState) -> String {
        let [_, _, slot, octet] = node.address.octets();
        let [_, a, b, c] = u32::from_str_radix(&self.id, 16).unwrap_or_default().to_be_bytes();
        format!("02:{a:02x}:{b:02x}:{c:02x}:{slot:02x}:{octet:02x}")
    }

    /// The host's address on the lab's network.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        address::gateway(self.slot)
    }

    /// Reads the state file of a lab directory.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(STATE_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoLab(dir.to_owned()));
            }
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        serde_json::from_slice(&text).map_err(|source| Error::State { path, source })
    }

    /// Writes the state file: whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(STATE_FILE);
        let temporary = dir.join(".lab.json.new");
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|source| Error::State { path: path.clone(), source })?;
        text.push(b'\n');
        let mut file = std::fs::File::create(&temporary).map_err(Error::io("make", &temporary))?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(Error::io("write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(Error::io("replace", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as the first version wrote it. Later versions must read it: the lab it describes may
    /// still be up.
    const V1: &str = r#"{
      "version": "kubastion-lab/v1", "id": "0a1b2c", "created": "2026-01-02T03:04:05Z",
      "phase": "up", "slot": 7, "rootfs": "/var/cache/kubastion/lab/x/rootfs",
      "nodes": [
        {"name": "cp1", "roles": ["control-plane"], "address": "10.213.7.11"},
        {"name": "w1", "roles": ["worker"], "address": "10.213.7.101"}
      ]
    }"#;

    #[test]
    fn a_file_of_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(STATE_FILE), V1).unwrap();
        let state = State::read(dir.path()).unwrap();
        assert_eq!(state.phase, Phase::Up);
        assert_eq!(state.switch(), "kb0a1b2c");
        assert_eq!(state.netns("cp1"), "kb0a1b2c-cp1");
        assert_eq!(state.gateway(), Ipv4Addr::new(10, 213, 7, 1));
        assert_eq!(state.mac(&state.nodes[1]), "02:0a:1b:2c:07:65");
        assert_eq!(state.nodes[1].roles, [Role::Worker]);
        state.write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), state);
    }

    #[test]
    fn no_file_is_no_lab_and_a_strange_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(State::read(dir.path()), Err(Error::NoLab(_))));
        let strange = V1.replace("kubastion-lab/v1", "kubastion-lab/v9");
        std::fs::write(dir.path().join(STATE_FILE), strange).unwrap();
        let e = State::read(dir.path()).unwrap_err();
        assert!(e.problems()[0].to_string().contains("lab.json"), "{e}");
    }
}
