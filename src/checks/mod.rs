//! Stage between what should be and the plan: does what was wanted hold?
//!
//! [`watch`] says what has to be looked at, [`Observed`] is what was seen on a node or what was rendered for it, and [`judge`]
//! evaluates every row of the catalogue on it. [`findings`] puts these verdicts and the attempts of [`crate::verify`] together.
//! A plan asks the same checks whether what it would bring about breaks a critical control.
//!
//! Pure: no clock, network or disk. Checks of a node are in `node`, rules about objects of the cluster's API in `cluster`.

mod attempt;
mod basis;
mod cluster;
#[cfg(test)]
mod evidence_tests;
pub mod findings;
pub mod gaps;
mod judge;
mod model;
pub(crate) mod node;
mod observed;
pub(crate) mod outside;
pub(crate) mod rule;
mod source;
#[cfg(test)]
mod tests;
mod watch;

pub use attempt::{Attempt, Tried, Witness, attempt_words, flag_words, setting_words};
pub use basis::Basis;
pub use cluster::bindings::{ANONYMOUS, gives_a_node, gives_certificates, has_anonymous};
pub use cluster::kept::has_to_be_uploaded;
pub use cluster::objects::judge_objects;
pub(crate) use cluster::owners::{MAKERS, Owners};
pub(crate) use cluster::pod_standard::broken;
pub use cluster::reachable::InnerAddress;
pub use cluster::reading::{Cluster, Reference};
pub use cluster::sources::Lists;
pub(crate) use cluster::workloads::{
    is_of_kubernetes, level_by_default, makes_of_kubernetes, weaker_label,
};
pub use findings::{
    Summary, Verification, exceptions_without_a_check, of_node, of_rendered, unreachable,
};
pub use judge::{check_expectation, judge, words as check_words};
pub use model::{
    Asked, Evidence, ExceptionGrant, Finding, NothingToJudge, Outcome, Subject, Verdict,
};
pub use node::access::live_request;
pub use observed::{Observed, Origin};
pub use source::{Machine, Source, SourceKind, Sources};
pub use watch::watch;
