//! Rules about objects of the cluster's API, by subject.

mod addons;
pub(super) mod bindings;
mod default_roles;
mod documents;
mod extensions;
pub(super) mod kept;
mod network_policies;
pub(super) mod objects;
#[cfg(test)]
mod objects_tests;
pub(super) mod owners;
pub(super) mod pod_standard;
mod powers;
mod quotas;
mod rbac;
pub(super) mod reachable;
pub(super) mod reading;
mod services;
pub(super) mod sources;
pub(super) mod workloads;
