//! Where Services lead: kube-proxy sends traffic to whatever EndpointSlices and addresses say.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::model::Verdict;
use super::objects::{Cluster, full_name, none_of, of};
use crate::facts::cluster::{Kind, list, name, namespace, text};
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

pub(super) fn endpoints_known(on: &Cluster<'_>) -> Result<Verdict, Verdict> {
    let slices = of(on.facts, Kind::EndpointSlices)?;
    let services = of(on.facts, Kind::Services)?;
    let pods = of(on.facts, Kind::Pods)?;
    if slices.is_empty() || services.is_empty() {
        return Err(Verdict::unknown("the list of EndpointSlices or Services is empty"));
    }
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
        let is_selected = |pod: &Value| {
            let labels = pod.pointer("/metadata/labels");
            let has = |(k, v): (&String, &Value)| labels.and_then(|l| l.get(k)) == Some(v);
            namespace(pod) == "kube-system" && selector.is_none_or(|s| s.iter().all(has))
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
            wrong.push(format!("Service {full} leads to {leads_to}"));
        }
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        let is_dns = (namespace(service), name(service)) == ("kube-system", "kube-dns");
        let selects_dns = |s: &serde_json::Map<String, Value>| {
            s.len() == 1 && s.get("k8s-app").is_some_and(|v| v == "kube-dns")
        };
        if is_dns && !selector.is_some_and(selects_dns) {
            wrong.push(format!("Service {full} selects other pods than CoreDNS"));
        }
    }
    let expected = "API servers and pods of the cluster, and no address of others";
    let looked_at = format!("{} Services, {} EndpointSlices", services.len(), slices.len());
    Ok(none_of(expected, wrong, looked_at))
}
