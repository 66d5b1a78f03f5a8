//! Keys and certificates: the operator's store, and what every node gets from it.
//!
//! `profile` is the one table of certificates. `expiry` compares the store with the table and says
//! what is to be issued and why; `issue` signs it; `store` keeps it on disk. What a certificate
//! holds is read by `inspect`. Where the files go on a node is for a later stage to say.
//!
//! A CA is made once and never replaced here: that is a rotation, with steps in between. `trust` is whom nodes believe:
//! the CA that issues, and those that are accepted beside it meanwhile.

mod ensure;
mod entry;
mod error;
mod expiry;
mod inspect;
mod issue;
pub mod kubeconfig;
mod material;
mod profile;
mod seal;
mod store;
mod taken;
mod trust;

pub use ensure::{Issued, Prepared, ensure, prepare, refuse_imported};
pub use entry::Entry;
pub use error::{Offender, PkiError};
pub use expiry::{Assessment, Certificate, Reason, State, assess};
pub use inspect::San;
pub use material::{EncryptionKey, Material, Pair};
pub use profile::{Ca, CertId, CertificateKind, Holder, PROFILES, Profile};
pub use seal::{Ask, AskPassphrase};
pub use store::{Contents, Store};
pub use taken::{
    FoundCa, FoundEncryption, FoundKeys, Taken, TakenOver, found_encryption, take_over,
};
#[cfg(test)]
pub(crate) use trust::made;
pub use trust::{Anchor, Trust, certificates, trusts};
