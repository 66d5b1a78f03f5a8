//! Where Services lead: kube-proxy sends traffic to whatever EndpointSlices and addresses say.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::checks::cluster::addons;
use crate::checks::cluster::owners::Owners;
use crate::checks::cluster::reading::{Cluster, full_name, none_of, of};
use crate::checks::model::Verdict;
use crate::facts::cluster::{ObjectKind, list, name, namespace, text};
use crate::inventory::Role;
use crate::pki::kubeconfig::API_PORT;

/// The label by which an EndpointSlice is a Service's.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// The Service of a slice, and the ports that it leads to: those of Kubernetes' own Services.
fn target_ports(slice: &Value, services: &[Value], pods: &[Value]) -> Option<(String, Vec<u64>)> {
    let called = slice.pointer("/metadata/labels")?.get(OF_SERVICE)?.as_str()?;
    let service =
        services.iter().find(|s| namespace(s) == namespace(slice) && name(s) == called)?;
    let full = full_name(service);
    if full == "default/kubernetes" {
        return Some((full, vec![u64::from(API_PORT)]));
    }
    if namespace(service) != "kube-system" {
        return None;
    }
    let of_pods = |wanted: &str| -> Vec<u64> {
        let pods = pods.iter().filter(|p| namespace(p) == "kube-system");
        let containers = pods.flat_map(|p| list(p, "/spec/containers"));
        let ports = containers.flat_map(|c| list(c, "/ports"));
        let ports = ports.filter(|p| text(p, "/name") == wanted);
        ports.filter_map(|p| p.get("containerPort")?.as_u64()).collect()
    };
    let mut ports = Vec::new();
    for port in list(service, "/spec/ports") {
        match port.get("targetPort") {
            Some(Value::String(named)) => ports.extend(of_pods(named)),
            Some(number) => ports.extend(number.as_u64()),
            None => ports.extend(port.get("port").and_then(Value::as_u64)),
        }
    }
    Some((full, ports))
}

/// A port of a Service: its number, its protocol, and what it may lead to, by number or by name.
type Port = (u64, &'static str, &'static [&'static str]);

/// What Kubernetes and kubeadm make of their own Services: name, the place of its address in the first Service network, and
/// its ports (`GetDNSIP` and phases/addons/dns/manifests.go in kubeadm).
const OWN: &[(&str, u128, &[Port])] = &[
    ("default/kubernetes", 1, &[(443, "TCP", &["6443"])]),
    (
        "kube-system/kube-dns",
        10,
        &[
            (53, "UDP", &["53", "dns"]),
            (53, "TCP", &["53", "dns-tcp"]),
            (9153, "TCP", &["9153", "metrics"]),
        ],
    ),
];

/// The n-th address of a network.
fn nth(net: &IpNet, n: u128) -> IpAddr {
    match net.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first).wrapping_add(n as u32)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first).wrapping_add(n)).to_be_bytes()),
    }
}

/// Addresses of a Service; one without any has `None`.
fn cluster_addresses(service: &Value) -> Vec<&str> {
    let first = text(service, "/spec/clusterIP");
    let all = list(service, "/spec/clusterIPs").iter().filter_map(Value::as_str);
    let mut all: Vec<&str> = std::iter::once(first).chain(all).collect();
    all.retain(|a| !matches!(*a, "" | "None"));
    all.dedup();
    all
}

/// What one of Kubernetes' own Services is beside what it has to be.
fn changed(service: &Value, place: u128, ports: &[Port], networks: &[IpNet]) -> Vec<String> {
    let mut said = Vec::new();
    let kind = text(service, "/spec/type");
    if !matches!(kind, "" | "ClusterIP") {
        said.push(format!("has type {kind}"));
    }
    let affinity = text(service, "/spec/sessionAffinity");
    if !matches!(affinity, "" | "None") {
        said.push(format!("has sessionAffinity {affinity}"));
    }
    // By these, nodes without such a pod have nobody to ask, or not everybody answers.
    for key in ["internalTrafficPolicy", "externalTrafficPolicy", "trafficDistribution"] {
        let value = service.pointer(&format!("/spec/{key}")).and_then(Value::as_str);
        if let Some(value) = value.filter(|v| !matches!(*v, "" | "Cluster")) {
            said.push(format!("has {key} {value}"));
        }
    }
    if service.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true)) {
        said.push("has publishNotReadyAddresses".to_owned());
    }
    let addresses = cluster_addresses(service);
    let is_its = |a: &str| networks.iter().any(|n| Ok(nth(n, place)) == a.parse());
    for address in addresses.iter().filter(|a| !is_its(a)) {
        said.push(format!("has address {address}"));
    }
    if addresses.is_empty() {
        said.push("has no address".to_owned());
    }
    let mut missing: Vec<&Port> = ports.iter().collect();
    for port in list(service, "/spec/ports") {
        let number = port.get("port").and_then(Value::as_u64).unwrap_or_default();
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            other => other,
        };
        let target = match port.get("targetPort") {
            Some(Value::String(named)) => named.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => number.to_string(),
        };
        let is = |p: &&Port| (p.0, p.1) == (number, protocol) && p.2.contains(&target.as_str());
        match missing.iter().position(is) {
            Some(at) => drop(missing.remove(at)),
            None => said.push(format!("has port {number} {protocol} to {target}")),
        }
    }
    said.extend(
        missing.iter().map(|(number, protocol, _)| format!("lacks port {number} {protocol}")),
    );
    said
}

pub(in crate::checks) fn endpoints_known(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let slices = of(on.facts, ObjectKind::EndpointSlices)?;
    let services = of(on.facts, ObjectKind::Services)?;
    let pods = of(on.facts, ObjectKind::Pods)?;
    if slices.is_empty() || services.is_empty() {
        return Err(Verdict::unknown("the list of EndpointSlices or Services is empty"));
    }
    let owners = Owners::in_(on)?;
    let nodes = &on.inventory.nodes;
    let of_nodes: Vec<String> =
        nodes.iter().flat_map(|n| &n.addresses).map(IpAddr::to_string).collect();
    let planes = on.inventory.with_role(Role::ControlPlane);
    let of_planes: Vec<String> = planes.flat_map(|n| &n.addresses).map(IpAddr::to_string).collect();
    let mut wrong = Vec::new();
    for slice in slices {
        let service = slice.pointer("/metadata/labels").and_then(|l| l.get(OF_SERVICE));
        let Some(service) = service.and_then(Value::as_str) else { continue };
        let owner =
            services.iter().find(|s| namespace(s) == namespace(slice) && name(s) == service);
        let selector =
            owner.and_then(|s| s.pointer("/spec/selector")?.as_object()).filter(|s| !s.is_empty());
        let is_dns = (namespace(slice), service) == ("kube-system", "kube-dns");
        let is_selected = |pod: &Value| {
            let labels = pod.pointer("/metadata/labels");
            let has = |(k, v): (&String, &Value)| labels.and_then(|l| l.get(k)) == Some(v);
            // A label makes nobody CoreDNS.
            (!is_dns || owners.is_of(pod, "Deployment", "coredns"))
                && namespace(pod) == "kube-system"
                && selector.is_none_or(|s| s.iter().all(has))
        };
        let is_known = |address: &str| match (namespace(slice), service) {
            ("default", "kubernetes") => of_planes.iter().any(|a| a == address),
            ("kube-system", _) => {
                let of_pod = |p: &Value| {
                    is_selected(p)
                        && (text(p, "/status/podIP") == address
                            || list(p, "/status/podIPs")
                                .iter()
                                .any(|ip| text(ip, "/ip") == address))
                };
                // What has no selector was written by somebody: kubelets, for who measures them.
                (selector.is_none() && of_nodes.iter().any(|a| a == address))
                    || pods.iter().any(of_pod)
            }
            _ => true,
        };
        let addresses = list(slice, "/endpoints").iter().flat_map(|e| list(e, "/addresses"));
        for address in addresses.filter_map(Value::as_str).filter(|a| !is_known(a)) {
            wrong.push(format!(
                "Service {}/{service} has foreign endpoint {address}",
                namespace(slice)
            ));
        }
    }
    for slice in slices {
        let Some((service, ports)) = target_ports(slice, services, pods) else { continue };
        for port in list(slice, "/ports").iter().map(|p| p.get("port").and_then(Value::as_u64)) {
            if !port.is_some_and(|p| ports.contains(&p)) {
                let port = port.map_or("of any number".to_owned(), |p| p.to_string());
                wrong.push(format!("Service {service} has foreign endpoint port {port}"));
            }
        }
    }
    let cluster = &on.inventory.cluster;
    let of_services: Vec<IpNet> =
        cluster.service_networks.iter().filter_map(|net| net.to_string().parse().ok()).collect();
    // From another range, an address may be anybody's: kube-proxy takes its traffic on every node.
    let ranges = of(on.facts, ObjectKind::ServiceCidrs)?;
    if ranges.is_empty() {
        return Err(Verdict::unknown("the list of ServiceCIDRs is empty"));
    }
    for range in ranges {
        for cidr in list(range, "/spec/cidrs").iter().filter_map(Value::as_str) {
            let inside = |net: IpNet| of_services.iter().any(|n| n.contains(&net));
            if !cidr.parse().is_ok_and(inside) {
                wrong.push(format!(
                    "ServiceCIDR {} adds {cidr} to cluster.service_networks",
                    name(range)
                ));
            }
        }
    }
    for service in services {
        for address in cluster_addresses(service) {
            let inside = |ip: IpAddr| of_services.iter().any(|n| n.contains(&ip));
            if !address.parse().is_ok_and(inside) {
                wrong.push(format!("Service {} takes {address} (clusterIP)", full_name(service)));
            }
        }
    }
    for &(called, place, ports) in OWN {
        let Some(service) = services.iter().find(|s| full_name(s) == called) else {
            // The API server makes its own anew.
            let how = match called {
                "kube-system/kube-dns" => format!(" ({})", addons::DNS.remade()),
                _ => String::new(),
            };
            wrong.push(format!("Service {called} is missing{how}"));
            continue;
        };
        let said = changed(service, place, ports, &of_services);
        wrong.extend(said.into_iter().map(|s| format!("Service {called} {s}")));
    }
    let networks: Vec<IpNet> = cluster
        .pod_networks
        .iter()
        .chain(&cluster.service_networks)
        .filter_map(|net| net.to_string().parse().ok())
        .collect();
    let is_of_cluster = |address: &str| {
        address == cluster.endpoint.host.to_string()
            || of_nodes.iter().any(|a| a == address)
            || address.parse::<IpAddr>().is_ok_and(|ip| networks.iter().any(|n| n.contains(&ip)))
    };
    for service in services {
        let full = full_name(service);
        for address in list(service, "/spec/externalIPs").iter().filter_map(Value::as_str) {
            wrong.push(format!("Service {full} claims {address} (externalIPs)"));
        }
        let is_balanced = text(service, "/spec/type") == "LoadBalancer";
        for ingress in list(service, "/status/loadBalancer/ingress") {
            let address = text(ingress, "/ip");
            if !address.is_empty() && (!is_balanced || is_of_cluster(address)) {
                wrong.push(format!("Service {full} claims {address} (status)"));
            }
        }
        if namespace(service) == "kube-system" && text(service, "/spec/type") == "ExternalName" {
            let leads_to = text(service, "/spec/externalName");
            wrong.push(format!("Service {full} points to {leads_to}"));
        }
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        let is_dns = (namespace(service), name(service)) == ("kube-system", "kube-dns");
        let selects_dns = |s: &serde_json::Map<String, Value>| {
            s.len() == 1 && s.get("k8s-app").is_some_and(|v| v == "kube-dns")
        };
        if is_dns && !selector.is_some_and(selects_dns) {
            wrong.push(format!("Service {full} selects pods other than CoreDNS"));
        }
    }
    let expected = "API servers and pods of the cluster, and no foreign address";
    let looked_at = format!("{} Services, {} EndpointSlices", services.len(), slices.len());
    Ok(none_of(expected, wrong, looked_at))
}
