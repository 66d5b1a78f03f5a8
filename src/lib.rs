//! kubastion hardens Kubernetes nodes over SSH and proves that they are hardened.
//!
//! One line of stages; each folder is a stage and imports only earlier ones:
//!
//! ```text
//! inventory/*.yaml --Inventory--> facts --NodeFacts--> desired (+ render, pki) --DesiredState-->
//!   checks --Vec<Finding>--> plan --Plan--> apply --RunRecord--> verify --Vec<Attempt>--> report
//! ```
//!
//! [`api`] stands behind facts, and imports no later stage: it is the one client of the cluster's API, over the connection of a
//! node. By it facts about objects are read, `apply` sends what `desired::objects` says, and `verify` tries what must not work.
//!
//! [`discovery`] stands behind api: it builds an inventory of an existing cluster in memory.
//!
//! [`impact`] stands behind plan: of what was read, it lists who would notice what a plan does.
//!
//! [`checks`] judge what is rendered before it may be in a plan, and what a node shows afterwards. [`verify`] attacks, and goes by
//! no record of what was applied. [`workflow`] is what verbs do with the stages, a file for each story; [`cli`] parses, calls and
//! prints.
//!
//! The middle (desired, render, checks, plan, impact) is pure: no clock, network or disk. Only `inventory::load` (the inventory and
//! the files that it names), `transport`, `api`, `pki::store`, `bundle`, `apply`, `lab`, `verify`, `workflow` and `cli` touch the
//! world; time and randomness come from [`clock`].

pub mod api;
pub mod apply;
pub mod bundle;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod controls;
pub mod desired;
pub mod digest;
pub mod discovery;
pub mod error;
pub mod event;
pub mod facts;
pub mod file_lock;
pub mod impact;
pub mod inventory;
pub mod kubernetes;
pub mod lab;
pub mod os;
pub mod pki;
pub mod plain;
pub mod plan;
pub mod render;
pub mod report;
pub mod runs;
pub mod secret;
pub mod transport;
pub mod verify;
pub mod workflow;
pub mod yaml;
