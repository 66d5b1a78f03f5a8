//! What every subject is worked out from.

use super::platform::Platform;
use super::shared::Shared;
use crate::controls;
use crate::facts::NodeFacts;
use crate::inventory::{CaCustody, Files, Inventory, Node, Role};
use crate::os::Os;
use crate::pki::{Ca, Material};

/// One node of one cluster.
pub(super) struct Context<'a> {
    pub inventory: &'a Inventory,
    pub files: &'a Files,
    pub node: &'a Node,
    /// Decides which items there are.
    pub platform: Platform,
    /// What other nodes have as well.
    pub shared: &'a Shared,
    /// What contents are made from; absent while only paths are asked for.
    pub source: Option<Source<'a>>,
}

/// What contents are made from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub facts: &'a NodeFacts,
    pub material: &'a Material,
}

impl<'a> Context<'a> {
    /// Whether a control is wanted.
    pub fn on(&self, control: &str) -> bool {
        let row = controls::find(control).expect("a test checks the id of every item");
        row.wanted(self.inventory)
    }

    /// Whether a note should warn that the control will not hold: it is on, and there is no exception.
    pub fn warns_about(&self, control: &str) -> bool {
        let hardening = &self.inventory.hardening;
        self.on(control) && hardening.exceptions_of(control, Some(&self.node.name)).next().is_none()
    }

    pub fn is_control_plane(&self) -> bool {
        self.node.has_role(Role::ControlPlane)
    }

    /// Whether the node is an etcd member.
    pub fn is_member(&self) -> bool {
        self.inventory.is_etcd_member(self.node)
    }

    /// Whether etcd is a service of the node.
    pub fn has_etcd_service(&self) -> bool {
        self.is_member() && !self.inventory.has_stacked_etcd()
    }

    /// Whether the node runs a kubelet.
    pub fn has_kubelet(&self) -> bool {
        self.is_control_plane() || self.node.has_role(Role::Worker)
    }

    pub fn minor(&self) -> u16 {
        self.inventory.cluster.kubernetes.minor
    }

    /// What is the distribution family's own.
    pub fn os(&self) -> &'static Os {
        self.platform.family.row()
    }

    /// Whether CAs are accepted beside one of these.
    pub fn accepts(&self, cas: &[Ca]) -> bool {
        let accepts =
            |material: &Material| cas.iter().any(|ca| !material.trust(*ca).accepted().is_empty());
        self.source.is_some_and(|s| accepts(s.material))
    }

    /// Whether the controller manager signs with a certificate that has a file of its own.
    pub fn signs_apart(&self) -> bool {
        self.inventory.pki.ca_custody == CaCustody::ControlPlane && self.accepts(&[Ca::Cluster])
    }

    /// Facts, for contents and for items that may be left out; absent while only paths are asked
    /// for.
    pub fn facts(&self) -> Option<&'a NodeFacts> {
        self.source.map(|s| s.facts)
    }
}
