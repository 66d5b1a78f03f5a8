//! How etcd's members are asked.

use crate::apply::gate::EtcdAccess;
use crate::inventory::Inventory;
use crate::pki::{Ca, CertificateKind, Material};

/// How etcd members are asked for their health.
pub fn etcd_access(inventory: &Inventory, material: &Material) -> Option<EtcdAccess> {
    let members: Vec<_> =
        inventory.etcd_members().map(|n| (n.name.clone(), n.internal_ip())).collect();
    let first = inventory.etcd_members().next()?;
    let pair = material.node(CertificateKind::EtcdHealthcheckClient, &first.name)?;
    Some(EtcdAccess {
        members,
        ca_pem: material.trust(Ca::Etcd).bundle().to_owned(),
        certificate_pem: pair.cert_pem.clone(),
        key_pem: pair.key_pem.clone(),
    })
}
