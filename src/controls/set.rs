//! How a flag or a setting comes to its value. A check that is about one says it in its row: daemons' command lines and
//! configuration files are put together from there, and so is what people are told to set.

use crate::inventory::Inventory;

/// How a flag or a setting comes to its value.
#[derive(Debug, Clone, Copy)]
pub enum Set {
    /// What its rule names: the one value, the one entry of a list; nothing where the rule wants nothing given.
    AsJudged,
    /// This value.
    To(&'static str),
    /// This entry of a list that is joined with commas.
    Listed(&'static str),
    /// This value, also where the control is switched off: it is no stricter than what a cluster needs.
    Always(&'static str),
    /// One value or another, and always given: what kubeadm or the daemon makes of nothing is not the second.
    Switch {
        /// Where the control is on, and `if_so` says yes.
        on: &'static str,
        /// Anywhere else.
        off: &'static str,
        /// Whether the node can have it.
        if_so: fn(&Place<'_>) -> bool,
    },
    /// A key of the inventory, and the value by it; `None` leaves the flag out.
    Inventory(&'static str, fn(&Inventory) -> Option<String>),
    /// The suites of [`SUITES`].
    Suites,
    /// Nothing: what is not given holds.
    Nothing,
    /// Not here; what sets it, or its value, in words.
    Elsewhere(&'static str),
}

/// Where something is set.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The cluster.
    pub inventory: &'a Inventory,
    /// Whether the node is a container.
    pub container: bool,
}

/// AEAD suites with forward secrecy, as Kubernetes and etcd spell them. The ChaCha20 names without `_SHA256` are
/// understood by every release.
pub const SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
];

impl Set {
    /// The value on a node, if there is one; of a list, its entry.
    pub fn value(self, wanted: bool, place: &Place<'_>) -> Option<String> {
        match self {
            Set::To(value) | Set::Listed(value) => wanted.then(|| value.to_owned()),
            Set::Always(value) => Some(value.to_owned()),
            Set::Switch { on, off, if_so } => {
                Some(if wanted && if_so(place) { on } else { off }.to_owned())
            }
            Set::Inventory(_, value) => wanted.then(|| value(place.inventory)).flatten(),
            Set::Suites => wanted.then(|| SUITES.join(",")),
            Set::AsJudged | Set::Nothing | Set::Elsewhere(_) => None,
        }
    }
}
