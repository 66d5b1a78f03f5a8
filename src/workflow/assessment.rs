//! Judges an existing cluster: from the named machines to all of its gaps.
//! Nothing is written, neither on nodes nor in the cluster's API.
//!
//! The machines that are named, their host keys, what they show; the nodes that the cluster's API names, their host keys, what they
//! show; an inventory in memory; and from there on what `verify` does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::finding::{ADMIN, Confirm, FoundCluster, Search, by_options, find, kubeconfig};
use super::observe::{self, Reach};
use super::verification::{Baseline, Judged, judge_on};
use crate::api::ApiAccess;
use crate::apply::execution::Sessions;
use crate::discovery::{self, Found, Kubeconfig};
use crate::error::chain;
use crate::facts::{Held, read_credentials};
use crate::inventory::{Files, Inventory, Loaded, Profile, Role};
use crate::transport::ssh::SshDialer;
use crate::verify::{ApiKeys, Keys, Writes};
use crate::workflow::command_error::CommandError;

/// What somebody asks for.
pub struct AssessRequest {
    /// The cluster.
    pub search: Search,
    /// Which controls are wanted.
    pub profile: Profile,
    /// Which nodes of those that are found.
    pub reach: Reach,
}

/// What was found of a cluster, and how it stands.
pub struct Assessed {
    /// The cluster as it is.
    pub found: Found,
    /// What every control comes to.
    pub judged: Judged,
}

const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
const FRONT_PROXY_CA: &str = "/etc/kubernetes/pki/front-proxy-ca.crt";
const ETCD_CA: &str = "/etc/kubernetes/pki/etcd/ca.crt";
/// Certificates of clients of etcd and their keys, those with the least use first.
const ETCD_CLIENTS: &[(&str, &str)] = &[
    (
        "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
        "/etc/kubernetes/pki/etcd/healthcheck-client.key",
    ),
    (
        "/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "/etc/kubernetes/pki/apiserver-etcd-client.key",
    ),
];

/// An existing cluster, ready to be read.
pub(super) struct ReadyCluster {
    /// The cluster as it is.
    pub found: Found,
    /// The same as an inventory.
    pub loaded: Loaded,
    /// What it is compared with, and whom it is asked as.
    pub baseline: Baseline<'static>,
    /// Makes connections.
    pub dialer: SshDialer,
    /// Which nodes of those that were found.
    pub reach: Reach,
}

/// Finds a cluster, and what its control planes hold that leads to its API.
///
/// # Errors
/// See [`find`].
pub(super) fn prepare(
    request: AssessRequest,
    confirm: Confirm<'_>,
    say: &dyn Fn(&str),
) -> Result<ReadyCluster, CommandError> {
    let AssessRequest { search, profile, reach } = request;
    let FoundCluster { found, access, named, mut sessions, dialer, .. } =
        find(search, &reach, confirm, say)?;
    let inventory = discovery::inventory(&found, &access, &named, profile);
    let held = of_control_planes(&inventory, &mut sessions);
    let baseline = baseline(&inventory, held);
    let loaded = Loaded {
        inventory,
        files: Files::default(),
        warnings: Vec::new(),
        sha256: String::new(),
        base_dir: PathBuf::new(),
    };
    Ok(ReadyCluster { found, loaded, baseline, dialer, reach })
}

/// Judges a cluster. `say` hears what is going on.
///
/// # Errors
/// A named machine that does not answer or presents another host key, a host key that is not confirmed, or a machine of another
/// cluster. A discovered node that does not answer is no error: it is in [`Judged::unreachable`].
pub fn assess(
    request: AssessRequest,
    confirm: Confirm<'_>,
    say: &dyn Fn(&str),
) -> Result<Assessed, CommandError> {
    let ReadyCluster { found, loaded, baseline, dialer, reach } = prepare(request, confirm, say)?;
    let nodes = loaded.inventory.nodes.len();
    say(&format!("reading and attacking {}", crate::plain::counted(nodes, "node")));
    let chosen = observe::chosen(&loaded.inventory, &reach)?;
    let mut judged = judge_on(&loaded, &chosen, &dialer, Writes::Forbidden, &baseline);
    judged.unreachable = judged.unreachable.into_iter().map(|(n, p)| (n, by_options(p))).collect();
    Ok(Assessed { found, judged })
}

/// What the first control plane with an administrator's kubeconfig holds that checks and attacks need.
///
/// # Errors
/// Why nobody can be asked as an administrator.
fn of_control_planes(
    inventory: &Inventory,
    sessions: &mut Sessions,
) -> Result<(Held, Kubeconfig), String> {
    let etcd = ETCD_CLIENTS.iter().flat_map(|(cert, key)| [*cert, *key]);
    let paths: Vec<&str> =
        ADMIN.iter().copied().chain([CLUSTER_CA, FRONT_PROXY_CA, ETCD_CA]).chain(etcd).collect();
    let mut why = "no control plane that answered has a usable administrator kubeconfig".to_owned();
    for node in inventory.with_role(Role::ControlPlane) {
        let Some(session) = sessions.get_mut(&node.name) else { continue };
        match read_credentials(session.as_mut(), &paths) {
            Ok(held) => {
                if let Some(config) = kubeconfig(&held, ADMIN) {
                    return Ok((held, config));
                }
            }
            Err(e) => why = format!("{}: {}", node.name, chain(&e)),
        }
    }
    Err(why)
}

/// What the cluster is compared with and asked as: its own CAs, its administrator, its own client of etcd. There is no key store,
/// so that nothing is known of what should be served, and no plan can be made.
fn baseline(inventory: &Inventory, held: Result<(Held, Kubeconfig), String>) -> Baseline<'static> {
    let plans = Err("there is no key store, which a plan needs");
    let (held, config) = match held {
        Ok(held) => held,
        Err(why) => {
            return Baseline {
                access: Err(why),
                trusted_cas: None,
                keys: None,
                api_keys: None,
                ca_pem: None,
                front_proxy_ca_pem: None,
                plans,
            };
        }
    };
    let ca_pem = held.text(CLUSTER_CA).unwrap_or_else(|| config.ca_pem.clone());
    let front_proxy_ca_pem = held.text(FRONT_PROXY_CA);
    let admin = || (config.certificate_pem.clone(), config.key_pem.clone());
    let health = ETCD_CLIENTS
        .iter()
        .find_map(|(cert, key)| Some((held.text(cert)?, held.file(key)?.clone())));
    let keys = held.text(ETCD_CA).zip(health).map(|(etcd_ca, health)| Keys {
        etcd_ca,
        apiserver_cas: [Some(ca_pem.clone()), front_proxy_ca_pem.clone()]
            .into_iter()
            .flatten()
            .collect(),
        kubelet_cas: vec![ca_pem.clone()],
        health,
        foreign: admin(),
        served: BTreeMap::new(),
    });
    let servers = inventory.with_role(Role::ControlPlane);
    Baseline {
        access: Ok(ApiAccess {
            servers: servers.map(|n| (n.name.clone(), n.internal_ip())).collect(),
            ca_pem: ca_pem.clone(),
            front_proxy_ca_pem: front_proxy_ca_pem.clone().unwrap_or_default(),
            certificate_pem: config.certificate_pem.clone(),
            key_pem: config.key_pem.clone(),
        }),
        trusted_cas: None,
        api_keys: Some(ApiKeys {
            ca: ca_pem.clone(),
            admin: admin(),
            probes: BTreeMap::new(),
            kubelets: BTreeMap::new(),
        }),
        keys,
        ca_pem: Some(ca_pem),
        front_proxy_ca_pem,
        plans,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::SshAccess;

    #[test]
    fn nobody_is_asked_as_without_an_administrators_kubeconfig() {
        let target = "ssh://192.0.2.11".parse().unwrap();
        let start = discovery::of_targets(&SshAccess::default(), &[target]);
        let baseline = baseline(&start, Err("why".into()));
        assert!(baseline.access.is_err() && baseline.keys.is_none() && baseline.api_keys.is_none());
        assert!(baseline.plans.is_err() && baseline.trusted_cas.is_none());
        // A kubeconfig that cannot be used is none.
        let held = Held::of([("/etc/kubernetes/admin.conf", "users: []".to_owned())]);
        assert!(kubeconfig(&held, ADMIN).is_none());
    }
}
