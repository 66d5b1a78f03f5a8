//! The whole catalogue, put together from the components.

use super::model::Control;
use super::{
    admission, apiserver, containerd, controller_manager, etcd, host, in_effect, kube_proxy,
    kubelet, network, pki, policy, scheduler,
};

/// Rows of one component.
type Rows = &'static [Control];

/// In the order of the components.
const COMPONENTS: &[Rows] = &[
    admission::ROWS,
    apiserver::ROWS,
    controller_manager::ROWS,
    scheduler::ROWS,
    etcd::ROWS,
    kubelet::ROWS,
    kube_proxy::ROWS,
    containerd::ROWS,
    host::ROWS,
    network::ROWS,
    pki::ROWS,
    policy::ROWS,
    in_effect::ROWS,
];

/// How many controls there are.
pub const COUNT: usize = count();

/// Every control, sorted by id.
pub static CATALOGUE: [&Control; COUNT] = sorted();

/// The control with this id.
pub fn find(id: &str) -> Option<&'static Control> {
    CATALOGUE.binary_search_by(|c| c.id.cmp(id)).ok().map(|i| CATALOGUE[i])
}

const fn count() -> usize {
    let (mut n, mut i) = (0, 0);
    while i < COMPONENTS.len() {
        n += COMPONENTS[i].len();
        i += 1;
    }
    n
}

const fn sorted() -> [&'static Control; COUNT] {
    let mut all = [&COMPONENTS[0][0]; COUNT];
    let (mut filled, mut component) = (0, 0);
    while component < COMPONENTS.len() {
        let mut row = 0;
        while row < COMPONENTS[component].len() {
            // Insertion into the part that is sorted already.
            let mut at = filled;
            while at > 0 && less(COMPONENTS[component][row].id, all[at - 1].id) {
                all[at] = all[at - 1];
                at -= 1;
            }
            all[at] = &COMPONENTS[component][row];
            filled += 1;
            row += 1;
        }
        component += 1;
    }
    all
}

pub(super) const fn less(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() {
        if a[i] != b[i] {
            return a[i] < b[i];
        }
        i += 1;
    }
    a.len() < b.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::controls::{Check, Needs, Scope};

    /// Ids that were given out, a line each with what the control is about and where it is judged. Inventories and
    /// reports of others name them. A new control needs no line; `UPDATE_GOLDEN=1` adds it, and takes none away.
    const GIVEN_OUT: &str = "tests/fixtures/control-ids.txt";

    #[test]
    fn no_id_disappears_or_comes_to_mean_something_else() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(GIVEN_OUT);
        let text = std::fs::read_to_string(&file).unwrap();
        let word = |v: serde_json::Value| v.as_str().unwrap().to_owned();
        let line = |c: &Control| {
            let scope = word(serde_json::to_value(c.scope).unwrap());
            format!("{} {} {scope}", c.id, c.component)
        };
        let given_out: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert!(given_out.len() > 150, "{GIVEN_OUT} was cut short");
        for old in &given_out {
            let id = old.split(' ').next().unwrap();
            let now = find(id).unwrap_or_else(|| panic!("{id} disappeared; inventories name it"));
            assert_eq!(line(now), *old, "{id} means something else; give that another id");
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let all: BTreeSet<String> =
                given_out.into_iter().chain(CATALOGUE.iter().map(|c| line(c))).collect();
            let lines: Vec<String> = all.into_iter().collect();
            std::fs::write(file, lines.join("\n") + "\n").unwrap();
        }
    }

    #[test]
    fn the_catalogue_is_sorted_and_without_doubles() {
        let ids: Vec<&str> = CATALOGUE.iter().map(|c| c.id).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(ids, crate::controls::ids::ALL);
    }

    #[test]
    fn every_control_is_judged_or_says_in_words_why_not() {
        for c in CATALOGUE {
            assert!(!c.checks.is_empty(), "{} has no check", c.id);
            for check in c.checks {
                let words = match check {
                    Check::Api(rule) => Some(rule.words()),
                    Check::Manual(words) => Some(*words),
                    _ => None,
                };
                if let Some(words) = words {
                    assert!(words.split(' ').count() > 3, "{}: {words}", c.id);
                }
            }
            let cluster = c.scope == Scope::Cluster;
            let api = c.checks.iter().all(|k| matches!(k, Check::Api(_) | Check::Manual(_)));
            assert_eq!(cluster, api, "{}: only what the API holds is judged for a cluster", c.id);
            assert_eq!(cluster, c.needs == Needs::ClusterApi, "{}", c.id);
        }
    }

    #[test]
    fn every_row_names_its_origin() {
        for c in CATALOGUE {
            let r = &c.references;
            let named = !r.cis.is_empty() || !r.stig.is_empty() || !r.kubescape.is_empty();
            let own = ["apiserver-authenticated-probes"];
            assert!(named || !r.nsa.is_empty() || own.contains(&c.id), "{}", c.id);
            assert!(r.stig.iter().all(|s| s.starts_with("V-") && s.len() == 8), "{}", c.id);
            assert!(r.kubescape.iter().all(|s| s.starts_with("C-") && s.len() == 6), "{}", c.id);
            assert!(c.minors.0 <= c.minors.1 && !c.title.ends_with('.'), "{}", c.id);
        }
    }

    #[test]
    fn a_control_is_found_by_its_id() {
        assert_eq!(find("etcd-data-dir").unwrap().id, "etcd-data-dir");
        assert!(find("etcd-data-di").is_none());
    }
}
