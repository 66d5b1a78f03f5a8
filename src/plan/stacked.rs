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
        Problem::new("kubastion does not add or remove members of stacked etcd")
            .because(because)
            .left("no plan was made")
            .hint(
                "add members with `kubeadm join --control-plane` and remove them with `etcdctl member remove`; or set \
                 `etcd.placement: control-plane`, which turns members into services that apply adds and removes",
            )
    })
}
