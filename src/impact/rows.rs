//! The table of what somebody would notice.

use time::format_description::well_known::Rfc3339;

use super::model::{Impact, Item, Listed, NotSeen, Reading, Row, Section, Seen};
use super::{clients, ports, recorded, storage, webhooks, workloads};

/// Every row, in the order of reports.
pub const ROWS: &[Row] = &[
    Row {
        id: "pod-security",
        section: Section::Workloads,
        title: "Pods that Pod Security would refuse",
        hardening: "sets `restricted` for namespaces without a label of their own, kube-system apart; what runs goes on",
        noticed_by: "who makes such a pod anew: after an eviction, a change, a new scale or at the next time of a CronJob",
        found_by: "templates and pods without an owner, by the rules of the Pod Security Standards; each says its rules",
        needs_acknowledgement: true,
        is_recorded: false,
        find: workloads::refused,
    },
    Row {
        id: "pod-security-labels",
        section: Section::Workloads,
        title: "Namespaces whose own label lets pods do more",
        hardening: "leaves the label; the control fails until it is gone or the inventory exempts the namespace",
        noticed_by: "nobody, until somebody changes the label",
        found_by: "label pod-security.kubernetes.io/enforce; workloads that are not restricted are named",
        needs_acknowledgement: false,
        is_recorded: false,
        find: workloads::labelled,
    },
    Row {
        id: "refused-pods",
        section: Section::Workloads,
        title: "Pods that were made and that Pod Security would have refused",
        hardening: "refuses them",
        noticed_by: "who makes them",
        found_by: "audit log of the API servers, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::refused_pods,
    },
    Row {
        id: "node-ports",
        section: Section::Ports,
        title: "Node ports of Services",
        hardening: "opens them to `firewall.admin_networks`, nodes and pods; to anybody while no such network is named",
        noticed_by: "clients that are none of those that the port is open to",
        found_by: "Services of type NodePort and LoadBalancer, against the rules that the firewall would have",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::node_ports,
    },
    Row {
        id: "service-addresses",
        section: Section::Ports,
        title: "Services of load balancers, and with external IPs",
        hardening: "closes what is forwarded to pods unless a rule of `firewall.extra_rules` opens its port; new external IPs are refused",
        noticed_by: "clients that are none of those that the port is open to; who sets an external IP",
        found_by: "spec.externalIPs, type LoadBalancer and its status, against the rules that the firewall would have",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::service_addresses,
    },
    Row {
        id: "host-ports",
        section: Section::Ports,
        title: "Pods with ports of their node",
        hardening: "closes ports of nodes that no rule opens",
        noticed_by: "clients that are none of those that the port is open to",
        found_by: "hostPort and hostNetwork of templates and pods, against the rules that the firewall would have",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::host_ports,
    },
    Row {
        id: "listeners",
        section: Section::Ports,
        title: "Other ports of nodes at which something listens",
        hardening: "closes ports of nodes that no rule opens",
        noticed_by: "clients from other machines",
        found_by: "listening sockets of nodes, against the rules that the firewall would have",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::listeners,
    },
    Row {
        id: "flows",
        section: Section::Ports,
        title: "Connections that the firewall would turn away",
        hardening: "drops them",
        noticed_by: "these clients",
        found_by: "the firewall, which counts them while the cluster is observed, against the rules that the inventory makes now",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::flows,
    },
    Row {
        id: "anonymous-bindings",
        section: Section::Clients,
        title: "Roles that whoever asks has",
        hardening: "takes anonymous users out of every binding, also out of those that Kubernetes and kubeadm make",
        noticed_by: "clients without credentials",
        found_by: "bindings that name system:anonymous or system:unauthenticated",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::anonymous_bindings,
    },
    Row {
        id: "anonymous-api",
        section: Section::Clients,
        title: "API servers that answer without credentials",
        hardening: "refuses such requests, also of /healthz, /livez, /readyz and /version",
        noticed_by: "health checks of load balancers, monitoring, and what looks for a version, where they have no credentials",
        found_by: "command lines of API servers",
        needs_acknowledgement: false,
        is_recorded: false,
        find: clients::anonymous_servers,
    },
    Row {
        id: "anonymous-requests",
        section: Section::Clients,
        title: "Requests without credentials",
        hardening: "answers 401",
        noticed_by: "these clients",
        found_by: "audit log of the API servers, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::anonymous,
    },
    Row {
        id: "stale-tokens",
        section: Section::Clients,
        title: "Requests with tokens whose end was put off",
        hardening: "lets tokens of pods end when they say (--service-account-extend-token-expiration=false)",
        noticed_by: "programs in pods that read their token once and never again",
        found_by: "audit log of the API servers, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::stale_tokens,
    },
    Row {
        id: "legacy-tokens",
        section: Section::Clients,
        title: "Requests with tokens out of Secrets, which never end",
        hardening: "leaves such tokens; a control fails until they are deleted",
        noticed_by: "nobody, until somebody deletes them: then, these clients",
        found_by: "audit log of the API servers, while the cluster is observed",
        needs_acknowledgement: false,
        is_recorded: true,
        find: recorded::legacy_tokens,
    },
    Row {
        id: "anonymous-kubelets",
        section: Section::Clients,
        title: "Kubelets that answer without credentials",
        hardening: "refuses such requests",
        noticed_by: "who reads metrics or logs from port 10250 without credentials",
        found_by: "configuration and command lines of kubelets",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::anonymous_kubelets,
    },
    Row {
        id: "kubelet-read-only-ports",
        section: Section::Clients,
        title: "Kubelets with a read-only port",
        hardening: "closes port 10255",
        noticed_by: "who reads metrics or pods from there",
        found_by: "listening sockets of nodes",
        needs_acknowledgement: true,
        is_recorded: false,
        find: ports::read_only,
    },
    Row {
        id: "static-credentials",
        section: Section::Clients,
        title: "API servers with passwords or tokens in a file",
        hardening: "takes the files from the command line: nobody has those credentials any more",
        noticed_by: "everybody who is in the files; they are not read",
        found_by: "command lines of API servers",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::static_credentials,
    },
    Row {
        id: "join-tokens",
        section: Section::Clients,
        title: "Tokens by which machines join",
        hardening: "deletes them, and what makes nodes of their holders",
        noticed_by: "`kubeadm join` with a token, and what runs it by itself, as an autoscaler",
        found_by: "Secrets of type bootstrap.kubernetes.io/token, without their values, and bindings",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::join_tokens,
    },
    Row {
        id: "account-tokens",
        section: Section::Clients,
        title: "Tokens of ServiceAccounts that never end",
        hardening: "leaves them; the control fails until they are deleted",
        noticed_by: "nobody, until somebody deletes them: then, who uses one",
        found_by: "Secrets of type kubernetes.io/service-account-token, without their values",
        needs_acknowledgement: false,
        is_recorded: false,
        find: clients::account_tokens,
    },
    Row {
        id: "default-tokens",
        section: Section::Clients,
        title: "Pods that hold a token of a default ServiceAccount without asking",
        hardening: "tells default ServiceAccounts to mount no token where no pod of the namespace holds one",
        noticed_by: "programs that ask the API with that token, once their pod is made anew",
        found_by: "templates and pods that name no other ServiceAccount, and do not say automountServiceAccountToken",
        needs_acknowledgement: true,
        is_recorded: false,
        find: workloads::token_holders,
    },
    Row {
        id: "webhooks",
        section: Section::Webhooks,
        title: "Webhooks",
        hardening: "starts API servers again, one at a time, and loads a firewall between them and what answers",
        noticed_by: "who sends what a webhook is asked about, where the network closes and its failurePolicy is Fail",
        found_by: "webhook configurations and conversions of custom resources; where they answer, by EndpointSlices",
        needs_acknowledgement: false,
        is_recorded: false,
        find: webhooks::webhooks,
    },
    Row {
        id: "aggregated-apis",
        section: Section::Webhooks,
        title: "Parts of the API that others serve",
        hardening: "loads a firewall between API servers and what answers",
        noticed_by: "clients of that part of the API, where the network closes",
        found_by: "APIServices with a Service; where they answer, by EndpointSlices",
        needs_acknowledgement: false,
        is_recorded: false,
        find: webhooks::aggregated,
    },
    Row {
        id: "unencrypted",
        section: Section::Storage,
        title: "Objects that are stored in clear",
        hardening: "encrypts what is written from then on, and has each of these written again by the API server",
        noticed_by: "who reads etcd's files or backups, and who restores a backup without the keys",
        found_by: "command lines of API servers; objects are counted, values of Secrets are not read",
        needs_acknowledgement: true,
        is_recorded: false,
        find: storage::unencrypted,
    },
];

/// Their names.
pub const IDS: &[&str] = &{
    let mut ids = [""; ROWS.len()];
    let mut n = 0;
    while n < ids.len() {
        ids[n] = ROWS[n].id;
        n += 1;
    }
    ids
};

/// What reading cannot show: what, and what it takes.
const NOT_SEEN: &[(&str, &str)] = &[
    (
        "versions and suites of TLS that clients speak",
        "no log of Kubernetes has them: needs observation of handshakes",
    ),
    (
        "pods that operators make of objects of their own kinds, while none runs",
        "such objects are not read",
    ),
    (
        "traffic that a CNI takes past the kernel's filters, as with eBPF",
        "what such a program lets in does not depend on the firewall",
    ),
];

/// Everything that would be noticed, by what was read.
pub fn impact(reading: &Reading<'_>) -> Impact {
    let seen = Seen::of(reading);
    let by_namespace = |mut items: Vec<Item>| {
        // What has none is first; within one, the order is the row's.
        items.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        items
    };
    let list = |row: &'static Row| Listed { row, found: (row.find)(&seen).map(by_namespace) };
    let listed: Vec<Listed> = ROWS.iter().map(list).collect();
    let unread = listed.iter().filter_map(|l| Some((l.row, l.found.as_ref().err()?)));
    let mut not_seen: Vec<NotSeen> =
        unread.map(|(row, why)| NotSeen { what: row.title.to_owned(), why: why.clone() }).collect();
    let always = NOT_SEEN.iter();
    not_seen.extend(always.map(|(what, why)| NotSeen { what: (*what).into(), why: (*why).into() }));
    let profile = reading.inventory.hardening.profile;
    let second = reading.now.replace_nanosecond(0).unwrap_or(reading.now);
    let time = second.format(&Rfc3339).unwrap_or_default();
    Impact { profile, time, listed, not_seen }
}

/// All items of a row.
#[cfg(test)]
pub(super) fn items<'i>(impact: &'i Impact, id: &str) -> &'i [Item] {
    let row = impact.listed.iter().find(|l| l.row.id == id).expect("there is such a row");
    row.found.as_deref().unwrap_or_else(|why| panic!("{id}: {why}"))
}
