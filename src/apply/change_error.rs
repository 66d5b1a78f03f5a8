//! Why a change of an object was not made.

use super::cas;
use crate::api::ApiError;
use crate::api::bundled::BundledError;
use crate::api::certificate_requests::ApprovalError;
use crate::desired::differences::Difference;
use crate::transport::TransportError;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The request for a certificate is not one to approve.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The object changed since the plan was made. Nothing was sent.
    #[error("the object changed since the plan was made: {0}")]
    NotAsPlanned(String),
    /// The object of an add-on could not be sent.
    #[error(transparent)]
    Bundled(#[from] BundledError),
    /// The CAs of the key store could not be written.
    #[error(transparent)]
    Cas(#[from] cas::CasError),
    /// The inventory does not define the object that the plan sends.
    #[error("the inventory does not define this object")]
    NotWanted,
    /// The change was sent, but the object still differs.
    #[error("the change was sent, but the object still differs: {0}")]
    StillDiffers(String),
    /// The node could not be asked to write kubeadm's ConfigMaps.
    #[error("the node did not answer")]
    Node(#[source] TransportError),
    /// kubeadm could not write them.
    #[error("{0}")]
    Kubeadm(String),
}

/// Differences on one line.
pub(super) fn words<'d>(differences: impl IntoIterator<Item = &'d Difference>) -> String {
    let all: Vec<String> = differences.into_iter().map(ToString::to_string).collect();
    all.join("; ")
}
