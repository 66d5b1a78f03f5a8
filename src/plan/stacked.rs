//! etcd that kubeadm runs as static pods.

use crate::error::Problem;
use crate::inventory::Inventory;
use crate::plan::members::MembershipChanges;

/// Why the members cannot become what the inventory says: kubeadm adds and removes them where they are static pods.
pub(super) fn refused(inventory: &Inventory, to: &MembershipChanges) -> Option<Problem> {
    let names: Vec<&str> = to.join.keys().map(|n| n.as_str()).collect();
    let changes = !(names.is_empty() && to.remove.is_empty() && to.promote.is_empty());
    (inventory.has_stacked_etcd() && changes).then(|| {
        let because = match names.is_empty() {
            true => "etcd has members that are not in the inventory".to_owned(),
            false => format!("etcd does not list {}", names.join(", ")),
        };
        Problem::new("members of stacked etcd are not added or removed")
            .because(because)
            .left("no plan was made")
            .hint(
                "`kubeadm join --control-plane` adds a member and `etcdctl member remove` removes one; with \
                 `etcd.placement: control-plane` members become services, and plan and apply do both",
            )
    })
}
