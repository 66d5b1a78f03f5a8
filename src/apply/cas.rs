//! The CAs that the cluster keeps in ConfigMaps of its own are made those of the key store.

use serde_json::{Value, json};

use crate::api::objects::path;
use crate::api::{ApiAccess, ApiError, Client};
use crate::desired::cluster_cas::CaPlace;
use crate::facts::cluster::{ObjectKind, text};
use crate::inventory::Inventory;
use crate::transport::http::HttpRequest;

/// Why they were not.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The ConfigMap changed since the plan was made. Nothing was sent.
    #[error("the object changed since the plan was made: {0}")]
    NotAsPlanned(&'static str),
    /// The change was sent, but the object still differs.
    #[error("the change was sent, but the object does not contain the key store's CAs")]
    StillDiffers,
}

/// Writes the CAs of the key store where a ConfigMap holds others. Nothing comes in and nothing goes that the plan did not
/// name: an API server may have added its own meanwhile, and then less is left to do.
///
/// # Errors
/// See [`CasError`].
pub(super) fn set(
    client: &mut Client<'_>,
    inventory: &Inventory,
    access: &ApiAccess,
    place: CaPlace,
    planned: (&[String], &[String]),
) -> Result<(), CasError> {
    let pem = match place {
        CaPlace::ClusterInfo | CaPlace::Clients => &access.ca_pem,
        CaPlace::FrontProxy => &access.front_proxy_ca_pem,
    };
    let (namespace, name) = place.map().split_once('/').unwrap_or_default();
    let path = path(ObjectKind::ConfigMaps, namespace, name)?;
    let gone = CasError::NotAsPlanned("it was deleted");
    let Some(map) = client.find(&HttpRequest::get(&path))? else { return Err(gone) };
    let Some(said) = place.text(std::slice::from_ref(&map)) else { return Err(gone) };
    let Some((adds, drops)) = place.change(said, pem) else { return Ok(()) };
    let within = |all: &[String], shown: &[String]| all.iter().all(|one| shown.contains(one));
    if !within(&adds, planned.0) || !within(&drops, planned.1) {
        return Err(CasError::NotAsPlanned("it contains other CAs"));
    }
    let endpoint = inventory.cluster.endpoint.to_string();
    let body = json!({
        // A concurrent change is never overwritten silently.
        "metadata": {"resourceVersion": text(&map, "/metadata/resourceVersion")},
        "data": {place.key(): place.wanted(pem, &endpoint)},
    });
    let sent: Value = client.patch(&path, &body)?;
    let now = place.text(std::slice::from_ref(&sent));
    match now.is_some_and(|said| place.change(said, pem).is_none()) {
        true => Ok(()),
        false => Err(CasError::StillDiffers),
    }
}
