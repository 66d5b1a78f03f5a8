//! What a plan has to know of stored objects, where encryption is on its way.

use super::observe::Fleet;
use crate::api::{ApiAccess, Client, rewrite};
use crate::apply::gate::EtcdAccess;
use crate::apply::stored;
use crate::desired::forms::{head, wanted_keys};
use crate::error::chain;
use crate::facts::stored::Stored;
use crate::inventory::{Inventory, Role};
use crate::pki::Material;
use crate::plan::encryption;
use crate::transport::Dialer;

/// Who is asked, and how.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The members of etcd.
    pub etcd: Option<&'a EtcdAccess>,
    /// The API servers.
    pub api: Option<&'a ApiAccess>,
    /// Opens connections to nodes that have none.
    pub dialer: &'a dyn Dialer,
}

/// Counts stored objects by what they begin with, of resources whose next step depends on it. Nothing is written.
pub fn count_stored(
    inventory: &Inventory,
    fleet: &mut Fleet,
    material: &Material,
    access: Access<'_>,
) {
    let keys: Vec<String> = wanted_keys(inventory, material).iter().map(head).collect();
    for resource in encryption::to_be_counted(inventory, &fleet.facts, material) {
        let counted = count(inventory, fleet, access, &resource, &keys);
        fleet.facts.stored.insert(resource, counted);
    }
}

fn count(
    inventory: &Inventory,
    fleet: &mut Fleet,
    access: Access<'_>,
    resource: &str,
    keys: &[String],
) -> Result<Stored, String> {
    let etcd = access.etcd.ok_or("the key store has no client certificate for etcd")?;
    let prefix = rewrite::etcd_prefix(resource);
    let mut last = String::from("etcd has no members");
    for node in inventory.etcd_members() {
        let counted = fleet
            .session(inventory, node, access.dialer)
            .map_err(|problem| format!("{}: {}", node.name, problem.what))
            .and_then(|through| {
                let counted = stored::count(through, node.internal_ip(), etcd, &prefix, keys);
                counted.map_err(|why| format!("{}: {why}", node.name))
            });
        match counted {
            Ok(stored) if stored.objects == 0 => {
                return match has_any(inventory, fleet, access, resource)? {
                    false => Ok(stored),
                    true => Err(format!("the API lists some, but etcd has none under {prefix}")),
                };
            }
            Ok(stored) => return Ok(stored),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Whether the API has an object of a resource: where etcd has none, its keys may begin otherwise.
fn has_any(
    inventory: &Inventory,
    fleet: &mut Fleet,
    access: Access<'_>,
    resource: &str,
) -> Result<bool, String> {
    let api = access.api.ok_or("the key store has no administrator certificate")?;
    let mut last = String::from("there is no control plane");
    for node in inventory.with_role(Role::ControlPlane) {
        let asked = fleet
            .session(inventory, node, access.dialer)
            .map_err(|problem| problem.what)
            .and_then(|through| {
                let mut client = Client::new(through, node.internal_ip(), api);
                let path = rewrite::list_path(&mut client, resource).map_err(|e| chain(&e))?;
                let Some(path) = path else { return Ok(false) };
                rewrite::has_any(&mut client, &path).map_err(|e| chain(&e))
            });
        match asked {
            Ok(has) => return Ok(has),
            Err(why) => last = format!("{}: {why}", node.name),
        }
    }
    Err(last)
}
