//! Last stage before the report: does what was wanted hold?
//!
//! [`watch`] says what has to be looked at, [`Observed`] is what was seen on a node or what was
//! rendered for it, and [`judge`] evaluates every row of the catalogue on it. [`probes`] attack from
//! the operator's machine and from other nodes. [`findings`] puts both together. Nothing here
//! changes a node; some probes write to the cluster's API and clean up after themselves.

mod access;
mod addons;
mod certificates;
mod default_roles;
mod extensions;
pub mod findings;
mod foreign_rules;
mod health;
mod host;
mod in_effect;
mod judge;
mod kept;
mod kubernetes;
mod model;
mod network_policies;
mod objects;
#[cfg(test)]
mod objects_tests;
mod observed;
mod owners;
mod packet;
mod pod_standard;
mod powers;
pub mod probes;
mod quotas;
mod rbac;
mod reachable;
mod root_access;
mod rule;
mod services;
mod ssh;
mod staged;
#[cfg(test)]
mod tests;
mod watch;
mod workloads;

pub use access::live_request;
pub use findings::{
    Summary, Verification, exceptions_without_a_check, of_node, of_rendered, unreachable,
};
pub use judge::{Subject, check_expectation, judge, words as check_words};
pub use kept::Reference;
pub use model::{Evidence, ExceptionGrant, Finding, NothingToJudge, Outcome, Verdict};
pub use objects::{Cluster, judge_objects};
pub use observed::{Observed, Origin};
pub use watch::watch;
