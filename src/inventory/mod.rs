//! First stage: the operator's YAML becomes a typed, validated [`Inventory`].
//!
//! Nothing here touches the network. A later stage may rely on every invariant
//! that [`validate`] checks.

mod check;
mod context;
pub mod diagnostic;
pub mod draft;
mod files;
mod granted;
mod hardening;
mod load;
pub mod model;
pub mod names;
mod passed;
mod passthrough;
mod probe;
mod reference;
mod software;
mod ssh;
#[cfg(test)]
pub(crate) mod testing;
mod validate;
mod written;

pub use check::schema;
pub use context::LoadContext;
pub use diagnostic::Diagnostic;
pub use files::Files;
pub use granted::{
    AllowedKind, AllowedObject, ControlSwitch, PodLevel, PodSecurity, PodSecurityExemption, Switch,
    SwitchedOff,
};
pub use hardening::*;
pub use load::{LoadError, Loaded, load, load_bytes};
pub use model::*;
pub use names::*;
pub use passed::{Component, Conflict, Conflicts, Passed, fields};
pub use passthrough::{
    AnyValue, ArgumentValues, ComponentExtras, ExtraVolume, KUBEADM_VOLUMES, KubeProxyExtras,
    KubeletExtras, PathType,
};
#[cfg(test)]
pub(crate) use probe::elf;
pub use probe::{BUILT_IN_PROBE, Probe, ProbeError};
pub use reference::reference;
pub use software::{BundledObject, Software, SoftwareFile, SoftwareKind};
pub use ssh::*;
pub(crate) use validate::is_reserved_label;
pub use written::{Comments, text};
