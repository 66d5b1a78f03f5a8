//! The table of what somebody would notice.

use time::format_description::well_known::Rfc3339;

use super::model::{Impact, Item, Listed, NotSeen, Reading, Row, Section, Seen};
use super::{clients, ports, recorded, storage, webhooks, workloads};

/// Every row, in the order of reports.
pub const ROWS: &[Row] = &[
    Row {
        id: "pod-security",
        section: Section::Workloads,
        title: "Pods that Pod Security would reject",
        hardening: "sets `restricted` on namespaces without their own label, except kube-system; running pods keep running",
        noticed_by: "whoever recreates such a pod: after an eviction, a rollout, a scale-up, or at the next run of a CronJob",
        found_by: "templates and standalone pods, checked against the Pod Security Standards; each lists the rules it breaks",
        needs_acknowledgement: true,
        is_recorded: false,
        find: workloads::refused,
    },
    Row {
        id: "pod-security-labels",
        section: Section::Workloads,
        title: "Namespaces whose own label is weaker than the profile",
        hardening: "leaves the label; the control fails until the label is removed or the inventory exempts the namespace",
        noticed_by: "nobody, until the label is changed",
        found_by: "label pod-security.kubernetes.io/enforce; lists the workloads that are not restricted",
        needs_acknowledgement: false,
        is_recorded: false,
        find: workloads::labelled,
    },
    Row {
        id: "refused-pods",
        section: Section::Workloads,
        title: "Pods that Pod Security would have rejected",
        hardening: "rejects them",
        noticed_by: "whoever creates them",
        found_by: "the API servers' audit log, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::refused_pods,
    },
    Row {
        id: "node-ports",
        section: Section::Ports,
        title: "Node ports of Services",
        hardening: "opens them to `firewall.admin_networks`, nodes and pods; to everyone if `firewall.admin_networks` is empty",
        noticed_by: "clients that the port is not open to",
        found_by: "Services of type NodePort and LoadBalancer, checked against the planned firewall rules",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::node_ports,
    },
    Row {
        id: "service-addresses",
        section: Section::Ports,
        title: "LoadBalancer Services, and Services with external IPs",
        hardening: "drops traffic forwarded to pods unless a rule in `firewall.extra_rules` opens its port; rejects new external IPs",
        noticed_by: "clients that the port is not open to; users who set external IPs",
        found_by: "spec.externalIPs, type LoadBalancer and its status, checked against the planned firewall rules",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::service_addresses,
    },
    Row {
        id: "host-ports",
        section: Section::Ports,
        title: "Pods with host ports or the host network",
        hardening: "closes ports on nodes that no rule opens",
        noticed_by: "clients that the port is not open to",
        found_by: "hostPort and hostNetwork of templates and pods, checked against the planned firewall rules",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::host_ports,
    },
    Row {
        id: "listeners",
        section: Section::Ports,
        title: "Other listening ports on nodes",
        hardening: "closes ports on nodes that no rule opens",
        noticed_by: "clients on other machines",
        found_by: "listening sockets on nodes, checked against the planned firewall rules",
        needs_acknowledgement: false,
        is_recorded: false,
        find: ports::listeners,
    },
    Row {
        id: "flows",
        section: Section::Ports,
        title: "Connections that the firewall would drop",
        hardening: "drops them",
        noticed_by: "these clients",
        found_by: "firewall counters while the cluster is observed, checked against the planned firewall rules",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::flows,
    },
    Row {
        id: "anonymous-bindings",
        section: Section::Clients,
        title: "Roles granted to anonymous users",
        hardening: "removes anonymous users from every binding, including those that Kubernetes and kubeadm create",
        noticed_by: "clients without credentials",
        found_by: "bindings that name system:anonymous or system:unauthenticated",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::anonymous_bindings,
    },
    Row {
        id: "anonymous-api",
        section: Section::Clients,
        title: "API servers that accept anonymous requests",
        hardening: "rejects them, including /healthz, /livez, /readyz and /version",
        noticed_by: "health checks of load balancers, monitoring and version checks without credentials",
        found_by: "API server command lines",
        needs_acknowledgement: false,
        is_recorded: false,
        find: clients::anonymous_servers,
    },
    Row {
        id: "anonymous-requests",
        section: Section::Clients,
        title: "Anonymous requests",
        hardening: "rejects them with status 401",
        noticed_by: "these clients",
        found_by: "the API servers' audit log, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::anonymous,
    },
    Row {
        id: "stale-tokens",
        section: Section::Clients,
        title: "Requests with expired tokens that are still accepted",
        hardening: "lets pod tokens expire on time (--service-account-extend-token-expiration=false)",
        noticed_by: "programs in pods that read their token only once",
        found_by: "the API servers' audit log, while the cluster is observed",
        needs_acknowledgement: true,
        is_recorded: true,
        find: recorded::stale_tokens,
    },
    Row {
        id: "legacy-tokens",
        section: Section::Clients,
        title: "Requests with tokens from Secrets, which never expire",
        hardening: "leaves the tokens; a control fails until they are deleted",
        noticed_by: "nobody, until the tokens are deleted: then these clients",
        found_by: "the API servers' audit log, while the cluster is observed",
        needs_acknowledgement: false,
        is_recorded: true,
        find: recorded::legacy_tokens,
    },
    Row {
        id: "anonymous-kubelets",
        section: Section::Clients,
        title: "Kubelets that accept anonymous requests",
        hardening: "rejects them",
        noticed_by: "clients that read metrics or logs from port 10250 without credentials",
        found_by: "kubelet configuration and command lines",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::anonymous_kubelets,
    },
    Row {
        id: "kubelet-read-only-ports",
        section: Section::Clients,
        title: "Kubelets with a read-only port",
        hardening: "closes port 10255",
        noticed_by: "clients that read metrics or pods from it",
        found_by: "listening sockets on nodes",
        needs_acknowledgement: true,
        is_recorded: false,
        find: ports::read_only,
    },
    Row {
        id: "static-credentials",
        section: Section::Clients,
        title: "API servers with a password or token file",
        hardening: "removes the files from the command line: their credentials stop working",
        noticed_by: "every user in the files, which are not read",
        found_by: "API server command lines",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::static_credentials,
    },
    Row {
        id: "join-tokens",
        section: Section::Clients,
        title: "Join tokens",
        hardening: "deletes them, and the bindings that let their holders become nodes",
        noticed_by: "`kubeadm join` with such a token, and automation that runs it, such as an autoscaler",
        found_by: "Secrets of type bootstrap.kubernetes.io/token (values are not read), and bindings",
        needs_acknowledgement: true,
        is_recorded: false,
        find: clients::join_tokens,
    },
    Row {
        id: "account-tokens",
        section: Section::Clients,
        title: "ServiceAccount tokens that never expire",
        hardening: "leaves them; the control fails until they are deleted",
        noticed_by: "nobody, until they are deleted: then whoever uses one",
        found_by: "Secrets of type kubernetes.io/service-account-token (values are not read)",
        needs_acknowledgement: false,
        is_recorded: false,
        find: clients::account_tokens,
    },
    Row {
        id: "default-tokens",
        section: Section::Clients,
        title: "Pods that mount the default ServiceAccount token by default",
        hardening: "sets automountServiceAccountToken: false on the default ServiceAccount of namespaces where no pod mounts its token",
        noticed_by: "programs that use that token, once their pod is recreated",
        found_by: "templates and pods that use the default ServiceAccount and do not set automountServiceAccountToken",
        needs_acknowledgement: true,
        is_recorded: false,
        find: workloads::token_holders,
    },
    Row {
        id: "webhooks",
        section: Section::Webhooks,
        title: "Webhooks",
        hardening: "restarts API servers one at a time, and puts a firewall between them and the webhook",
        noticed_by: "clients whose requests the webhook intercepts, if the firewall blocks it and its failurePolicy is Fail",
        found_by: "webhook configurations and custom resource conversions; backends from EndpointSlices",
        needs_acknowledgement: false,
        is_recorded: false,
        find: webhooks::webhooks,
    },
    Row {
        id: "aggregated-apis",
        section: Section::Webhooks,
        title: "Aggregated APIs",
        hardening: "puts a firewall between API servers and the backend",
        noticed_by: "clients of that API, if the firewall blocks it",
        found_by: "APIServices with a Service; backends from EndpointSlices",
        needs_acknowledgement: false,
        is_recorded: false,
        find: webhooks::aggregated,
    },
    Row {
        id: "unencrypted",
        section: Section::Storage,
        title: "Objects stored in plain text",
        hardening: "encrypts new writes, and has the API server rewrite the objects that exist",
        noticed_by: "whoever reads etcd's files or backups, or restores a backup without the keys",
        found_by: "API server command lines; objects are counted, values of Secrets are not read",
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
        "TLS versions and cipher suites that clients use",
        "Kubernetes does not log them: needs observation of TLS handshakes",
    ),
    (
        "pods that operators create from custom resources, while none of them runs",
        "custom resources are not read",
    ),
    (
        "traffic that bypasses the kernel's packet filter, as with an eBPF CNI",
        "the firewall does not affect it",
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
