//! A cluster that others built: kubeadm's own, with etcd beside the API server and everything else by default.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle of the cluster, as for `e2e`.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Mutex;

#[path = "reharden/assess.rs"]
mod assess;
#[path = "support/cluster.rs"]
#[allow(dead_code)] // the other tests need more of it
mod cluster;
#[path = "reharden/external.rs"]
mod external;
#[path = "reharden/failed.rs"]
mod failed;
#[path = "reharden/harden.rs"]
mod harden;
#[path = "reharden/impact.rs"]
mod impact;
#[path = "reharden/import.rs"]
mod import;
#[path = "reharden/observe.rs"]
mod observe;
#[path = "reharden/stock.rs"]
mod stock;

/// One lab at a time: two clusters on the same cores take longer than they are waited for.
static ONE_LAB: Mutex<()> = Mutex::new(());
