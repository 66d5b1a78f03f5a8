//! Who is in no network of the inventory, and has a route to pods and Services by way of a node.
//!
//! `KUBASTION_E2E_BUNDLE` names the bundle of the cluster, as for `e2e`.

// A failed step is to be seen at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use kubastion::lab::Lab;
use kubastion::verify::STRANGER_SCRIPT;

use cluster::{Cluster, given, kubastion, say, text};

#[path = "support/cluster.rs"]
#[allow(dead_code)] // the other tests need more of it
mod cluster;

impl Cluster {
    /// What a stranger's connections by way of a node come to, one line an aim.
    fn stranger(&self, by: &str, aims: &[(&str, u16)]) -> Vec<String> {
        let lab = Lab::open(&self.dir).unwrap();
        let mut child = lab
            .command(by, &["sh", "-c", STRANGER_SCRIPT])
            .unwrap()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = "198.51.100.1 198.51.100.2\n- -\n".to_owned();
        for (host, port) in aims {
            input += &format!("{host} {port}\n");
        }
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.lines().any(|l| l == "linked 4") && said.ends_with("end\n"), "{said}");
        aims.iter()
            .map(|(host, port)| {
                let begin = format!("stranger {host} {port} ");
                said.lines().find_map(|l| l.strip_prefix(begin.as_str())).unwrap().to_owned()
            })
            .collect()
    }

    /// A program in the network of a pod of CoreDNS, on the node that it is on.
    fn in_pod(&self, node: &str, script: &str) -> bool {
        self.ends_in_pod(node, script) == Some(0)
    }

    /// What it ends with; 124 if it takes longer than 3 s.
    fn ends_in_pod(&self, node: &str, script: &str) -> Option<i32> {
        let script = format!(
            "p=$(pidof coredns | cut -d' ' -f1) && nsenter -t $p -n timeout 3 bash -c '{script}'"
        );
        self.inside(node, &script).status.code()
    }
}

fn connects(to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok()
}

#[test]
fn nobody_walks_around_the_firewall() {
    let Some((bundle, dir)) = given("strangers") else { return };
    let began = Instant::now();
    let c = Cluster { dir };
    let up = ["lab", "up", "--control-planes", "1", "--workers", "1", "--dir", "."];
    c.ends(0, &[&up[..], &["--bundle", &bundle]].concat());
    c.ends(0, &["apply", "--yes"]);
    c.until("DNS to run", 120, || {
        let pods = c.kubectl("cp1", "-n kube-system get pods -l k8s-app=kube-dns --no-headers");
        let text = text(&pods);
        text.lines().filter(|l| l.contains(" 1/1 ") && l.contains(" Running ")).count() == 2
    });
    say(began, "the cluster is up");

    // Node ports, and a load balancer's address, with CoreDNS behind them.
    let expose = "-n kube-system expose deployment coredns --name out --type LoadBalancer --protocol TCP \
         --port 53 --target-port 53";
    assert!(c.kubectl("cp1", expose).status.success());
    let status = r#"-n kube-system patch service out --subresource=status --type=merge -p '{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.53"}]}}}'"#;
    let patched = c.kubectl("cp1", status);
    assert!(patched.status.success(), "{}", text(&patched));
    let port = "-n kube-system get service out -o jsonpath={.spec.ports[0].nodePort}";
    let port = String::from_utf8_lossy(&c.kubectl("cp1", port).stdout).into_owned();
    // A node answers a stranger that came by way of itself alone: the pod and the way to it are on one.
    let pod = "-n kube-system get pods -l k8s-app=kube-dns -o \
         jsonpath='{.items[0].status.podIP} {.items[0].spec.nodeName}'";
    let pod = String::from_utf8_lossy(&c.kubectl("cp1", pod).stdout).into_owned();
    let (pod, on) = pod.split_once(' ').unwrap();
    let node = |name: &str| {
        let shown = c.inside(name, "ip -4 -o addr show eth0 | sed 's/.*inet //; s,/.*,,'");
        String::from_utf8_lossy(&shown.stdout).trim().to_owned()
    };
    let (w1, number) = (node("w1"), port.parse::<u16>().unwrap());
    let services = [("10.96.0.1", 443), ("10.96.0.10", 53)];
    let balancer = [("203.0.113.53", 53)];

    // The attack, as it was before there were rules about what is forwarded.
    let open = "nft flush chain inet kubastion services && nft flush chain inet kubastion forward";
    assert!(c.inside("w1", open).status.success() && c.inside("cp1", open).status.success());
    c.until("the load balancer's address to be known", 30, || {
        c.stranger("w1", &balancer) == ["open"]
    });
    assert_eq!(c.stranger("w1", &services), ["open", "open"]);
    assert_eq!(c.stranger(on, &[(pod, 53)]), ["open"]);
    let found = c.ends(5, &["verify"]);
    assert!(found.contains("host-firewall-worker"), "{found}");
    assert!(found.contains("the connection was accepted"), "{found}");
    say(began, "without the rules, everything is open, and verify says so");

    let load = "systemctl restart kubastion-firewall";
    assert!(c.inside("w1", load).status.success() && c.inside("cp1", load).status.success());
    for by in ["w1", "cp1"] {
        assert_eq!(c.stranger(by, &services), ["timeout", "timeout"], "by way of {by}");
        assert_eq!(c.stranger(by, &balancer), ["timeout"], "by way of {by}");
        // A pod's address, and the node's own port for it.
        assert_eq!(c.stranger(by, &[(pod, 53), (&node(by), number)]), ["timeout", "timeout"]);
    }
    say(began, "with them, a stranger reaches neither Services nor pods");

    // Who may, still may: administrators node ports, pods everything, nodes everything.
    assert!(connects(&format!("{w1}:{number}")), "a node port");
    assert!(c.in_pod(on, "exec 3<>/dev/tcp/10.96.0.1/443"), "a pod to a Service");
    assert!(c.in_pod(on, &format!("exec 3<>/dev/tcp/{w1}/10250")), "a pod to a node");
    // A Service that kube-proxy does not serve, as all are until it runs: an error at once, and not a connection to nobody
    // that outlives the moment when it does.
    assert_eq!(c.ends_in_pod(on, "exec 3<>/dev/tcp/10.96.250.250/443"), Some(1));
    let bridge = w1.rsplit_once('.').unwrap().0.to_owned() + ".1";
    let outside = TcpListener::bind((bridge.as_str(), 0)).unwrap();
    let outside = outside.local_addr().unwrap();
    assert!(c.in_pod(on, &format!("exec 3<>/dev/tcp/{bridge}/{}", outside.port())), "{outside}");
    for from in ["w1", "cp1"] {
        let script = format!(
            "for a in 10.96.0.1/443 10.96.0.10/53 203.0.113.53/53; do timeout 3 bash -c \"exec 3<>/dev/tcp/$a\" || exit 1; done; timeout 3 bash -c 'exec 3<>/dev/tcp/{pod}/53'"
        );
        let made = c.inside(from, &script);
        assert!(made.status.success(), "{from}: {}", text(&made));
    }
    let logs = c.kubectl("cp1", "-n kube-system logs -l k8s-app=kube-dns --tail=1");
    assert!(logs.status.success(), "{}", text(&logs));
    say(began, "pods, nodes and administrators go on");

    // Named by the inventory: one by its own address, one by a port.
    let inventory = std::fs::read_to_string(c.dir.join("inventory.yaml")).unwrap();
    let apply = |extra: &str| {
        let other = inventory.replacen("firewall:\n", &format!("firewall:\n{extra}"), 1);
        assert_ne!(other, inventory);
        std::fs::write(c.dir.join("inventory.yaml"), other).unwrap();
        c.ends(0, &["apply", "--yes"]);
    };
    apply("  extra_rules: [{ name: dns, protocol: tcp, ports: [53], from: [198.51.100.0/24] }]\n");
    assert_eq!(c.stranger("w1", &balancer), ["open"]);
    assert_eq!(c.stranger("w1", &services), ["timeout", "timeout"]);
    apply("  service_clients: [198.51.100.0/24]\n");
    assert_eq!(c.stranger("w1", &services), ["open", "open"]);
    // Another address of nobody is tried then.
    let proven = kubastion(&c.dir, &["verify", "--format", "json"]).output().unwrap();
    let proven: serde_json::Value = serde_json::from_slice(&proven.stdout).unwrap();
    let findings = proven["findings"].as_array().unwrap().iter();
    let of_firewall =
        findings.filter(|f| f["control"].as_str().unwrap().starts_with("host-firewall"));
    for finding in of_firewall.clone() {
        assert_eq!(finding["verdict"], "pass", "{finding:#}");
        let tried = "connect from 203.0.113.2 to Service default/kubernetes";
        assert!(finding.to_string().contains(tried), "{finding:#}");
    }
    assert_eq!(of_firewall.count(), 2);
    say(began, "whom the inventory names gets in");
}
