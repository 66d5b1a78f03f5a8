//! The offline set: everything a cluster is installed from, in one signed directory.
//!
//! ```text
//! BUNDLE/manifest.json       what there is: path, sha256, size, mode, origin (see `model`)
//! BUNDLE/manifest.json.sig   OpenSSH signature of it, for `ssh-keygen -Y verify` too (see `sign`)
//! BUNDLE/files/bin|cni|images|manifests/...
//! ```
//!
//! A bundle is made on the operator's side by `import` (from a directory) or `create` (from the
//! projects' releases), and opened by `verify`, which trusts nothing but the signers it is given:
//! the signature covers the manifest, the manifest covers every byte of every file, and
//! [`Bundle::reader`] hashes what it hands out, so that a file that changes after the check is
//! refused too.

mod assemble;
pub mod component;
pub mod create;
mod extract;
pub mod fault;
pub mod fetch;
pub mod image;
pub mod import;
pub mod layout;
pub mod model;
mod objects;
pub mod registry;
mod rules;
pub mod sign;
mod software;
pub mod sources;
mod tree;
pub mod verify;

pub use component::{COMPONENTS, ComponentRow};
pub use create::{Contents, CreateRequest, check, create};
pub use fault::{BundleError, Fault};
pub use fetch::{Client, ClientOptions, FetchError, Unreached};
pub use import::{ImportRequest, import};
pub use model::{
    Architecture, ArtifactKind, Component, DEFAULT_DIR, File, FilePath, Manifest, Mode, Sha256Hex,
};
pub use registry::Reference;
pub use sign::SigningKey;
pub use verify::{Bundle, Summary, VerifiedReader};
