//! kubastion hardens Kubernetes nodes over SSH and proves that they are hardened.
//!
//! One line of stages; each folder is a stage and imports only earlier ones:
//!
//! ```text
//! inventory/*.yaml --Inventory--> facts --NodeFacts--> desired (+ render, pki) --DesiredState-->
//!   checks --Vec<Finding>--> plan --Plan--> apply --RunRecord--> verify --Vec<Attempt>--> report
//! ```
//!
//! [`api`] follows facts and imports no later stage. It is the only client of the cluster's API, over a node's connection: facts
//! about objects are read through it, `apply` sends the objects of `desired::objects`, and `verify` tries requests that must fail.
//!
//! [`discovery`] follows api: it builds an inventory of an existing cluster in memory.
//!
//! [`impact`] follows plan: it lists who would notice what a plan does.
//!
//! [`checks`] judges what is rendered before it may be in a plan, and what a node shows afterwards. [`verify`] attacks, and uses no
//! record of what was applied. [`workflow`] implements the verbs with the stages, a file for each; [`cli`] parses, calls and prints.
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
