//! The meaning of the file: what is well-formed but cannot work, or works worse than it looks.
//!
//! One table of rules, each of which sees the whole inventory and reports everything it finds.
//! Every rule takes at most n log n steps for n nodes.

mod cluster;
mod nodes;
mod passthrough;
pub(super) mod review;
mod settings;
mod ssh;

pub(crate) use nodes::is_reserved_label;

use std::collections::BTreeSet;

use self::review::{Parsed, Review};
use super::context::LoadContext;
use super::diagnostic::Diagnostic;
use super::model::Inventory;

/// A rule about meaning.
struct Rule {
    /// Sections of the file without which the rule would report what is not so. A rule that looks
    /// for clashes needs none: a clash between the well-formed parts is one in any case.
    needs: &'static [&'static str],
    check: fn(&Inventory, &mut Review<'_>),
}

const RULES: &[Rule] = &[
    Rule { needs: &["cluster"], check: cluster::network_families },
    Rule { needs: &["cluster"], check: cluster::network_sizes },
    Rule { needs: &["cluster"], check: cluster::network_overlaps },
    Rule { needs: &["cluster"], check: cluster::nodes_in_cluster_networks },
    Rule { needs: &["cluster", "nodes"], check: cluster::endpoint },
    Rule { needs: &["cluster"], check: cluster::load_balancer },
    Rule { needs: &[], check: cluster::host_bits },
    Rule { needs: &["nodes"], check: cluster::room_for_nodes },
    Rule { needs: &[], check: nodes::duplicate_names },
    Rule { needs: &[], check: nodes::duplicate_addresses },
    Rule { needs: &[], check: nodes::addresses },
    Rule { needs: &["cluster"], check: nodes::address_families },
    Rule { needs: &["etcd"], check: nodes::roles },
    Rule { needs: &["nodes", "etcd"], check: nodes::member_counts },
    Rule { needs: &[], check: nodes::labels },
    Rule { needs: &[], check: nodes::taints },
    Rule { needs: &["ssh"], check: ssh::targets },
    Rule { needs: &["ssh"], check: ssh::duplicate_targets },
    Rule { needs: &["ssh"], check: ssh::defaults },
    Rule { needs: &["kubernetes"], check: settings::kubernetes },
    Rule { needs: &["hardening"], check: settings::controls },
    Rule { needs: &["hardening"], check: settings::exceptions },
    Rule { needs: &["hardening"], check: settings::granted },
    Rule { needs: &["hardening"], check: settings::acknowledged },
    Rule { needs: &["firewall"], check: settings::firewall },
    Rule { needs: &["cluster", "firewall"], check: settings::administrators },
    Rule { needs: &["audit"], check: settings::audit },
    Rule { needs: &["encryption"], check: settings::encryption },
    Rule { needs: &["pki"], check: settings::pki },
    Rule { needs: &["runtime"], check: settings::runtime },
    Rule { needs: &["hardening"], check: passthrough::arguments },
    Rule { needs: &["hardening"], check: passthrough::fields },
    Rule { needs: &[], check: passthrough::volumes },
];

/// Runs every rule that can be judged. Returns errors and warnings.
pub(super) fn validate(
    subject: &Parsed<'_>,
    context: &LoadContext<'_>,
    incomplete: &BTreeSet<String>,
) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let mut review = Review {
        root: subject.root,
        nodes: subject.nodes,
        nodes_complete: !incomplete.contains("nodes"),
        today: context.clock.now().date(),
        known_controls: context.known_controls,
        critical_controls: context.critical_controls,
        impact_rows: context.impact_rows,
        conflicts: context.conflicts,
        host_keys_optional: context.host_keys_optional,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    for rule in RULES {
        if !rule.needs.iter().any(|section| incomplete.contains(*section)) {
            (rule.check)(subject.inventory, &mut review);
        }
    }
    (review.errors, review.warnings)
}
