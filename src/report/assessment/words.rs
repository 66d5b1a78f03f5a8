//! What both forms say in the same words.

use crate::discovery::{AnsweredBy, Changes, EtcdPlace, Found};

/// Who answers at the endpoint, and what that comes to.
pub(super) fn answered_by(found: &Found) -> String {
    match &found.answered_by {
        AnsweredBy::Node(node) => {
            format!("{node}'s own address: the API is unreachable while that node is down")
        }
        AnsweredBy::Floating(node) => format!("a floating address, now on {node}"),
        AnsweredBy::Outside => "not a node's address: a load balancer or a DNS name".to_owned(),
    }
}

/// Where etcd runs.
pub(super) fn etcd(found: &Found) -> String {
    match &found.etcd {
        EtcdPlace::Stacked => "static pods on the control planes".to_owned(),
        EtcdPlace::OnControlPlanes => "a service on the control planes".to_owned(),
        EtcdPlace::Dedicated => "dedicated machines".to_owned(),
        EtcdPlace::Outside(at) => format!("external, at {}: not assessed", at.join(", ")),
        EtcdPlace::Unseen => "not found".to_owned(),
    }
}

/// The same in one word.
pub(super) fn etcd_name(place: &EtcdPlace) -> &'static str {
    match place {
        EtcdPlace::Stacked => "stacked",
        EtcdPlace::OnControlPlanes => "on-control-planes",
        EtcdPlace::Dedicated => "dedicated",
        EtcdPlace::Outside(_) => "outside",
        EtcdPlace::Unseen => "unseen",
    }
}

/// Whether this program may change it.
pub(super) fn changes(found: &Found) -> String {
    let row = found.recognized.distribution;
    match row.changes {
        Changes::Possible => format!("possible; assess judges {}", row.judged),
        Changes::Refused => format!("refused; assess can still judge {}", row.judged),
    }
}

/// Networks in one word.
pub(super) fn networks(all: &[crate::inventory::IpNetText]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(",")
}
