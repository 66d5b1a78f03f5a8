//! Configuration that lies on a node for a Kubernetes that does not run yet: kubeadm's files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::yaml::{self, Value};

use crate::controls::{Config, Daemon};

/// Directory of the files that kubeadm is to be called with.
pub(in crate::checks) const STAGED_DIR: &str = "/etc/kubernetes/kubastion/";

/// What kubeadm starts the cluster with.
pub(in crate::checks) const KUBEADM_INIT: &str = "/etc/kubernetes/kubastion/kubeadm-init.yaml";

/// Files below [`STAGED_DIR`] that are looked at on a node.
pub(in crate::checks) const STAGED_FILES: &[&str] = &[
    KUBEADM_INIT,
    "/etc/kubernetes/kubastion/kubeadm-join.yaml",
    "/etc/kubernetes/kubastion/kubeadm-kubelet.yaml",
    "/etc/kubernetes/kubastion/patches/kubeletconfiguration0+json.yaml",
    APISERVER_PATCH,
];

/// Patch of the API server's static pod.
pub(in crate::checks) const APISERVER_PATCH: &str =
    "/etc/kubernetes/kubastion/patches/kube-apiserver0+json.yaml";

/// The file with which kubeadm configures the kubelet of a member.
const FOR_KUBELET: &str = "kubeadm-kubelet.yaml";

const CLUSTER: &str = "ClusterConfiguration";

fn kind(document: &Value) -> &str {
    document.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// What is staged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Staged {
    /// Arguments that kubeadm will give each daemon, beside its own defaults.
    argv: BTreeMap<Daemon, Vec<String>>,
    /// The address of the node's API server, as a part of a URL.
    address: Option<String>,
    documents: BTreeMap<&'static str, Value>,
}

impl Staged {
    /// Reads what is below the staging directory; other paths are passed over.
    pub fn from_texts<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut staged = Self::default();
        let mut patches = Vec::new();
        for (path, text) in texts.filter(|(p, _)| p.starts_with(STAGED_DIR)) {
            let name = path.rsplit('/').next().unwrap_or_default();
            if name.starts_with("kubeletconfiguration") && name.contains("+json.") {
                patches.push(text);
                continue;
            }
            if !(name.ends_with(".yaml") || name.ends_with(".yml")) {
                continue;
            }
            // Of a file that cannot be read as a whole nothing is known.
            for value in yaml::documents(text).unwrap_or_default() {
                // The file for a kubelet says nothing of the control plane.
                if name == FOR_KUBELET && kind(&value) == CLUSTER {
                    continue;
                }
                staged.take(value);
            }
        }
        if let Some(kubelet) = staged.documents.get_mut(Config::Kubelet.kind()) {
            for patch in patches {
                // What kubeadm would make of it is not known.
                if patch_document(kubelet, patch).is_none() {
                    staged.documents.remove(Config::Kubelet.kind());
                    break;
                }
            }
        }
        staged
    }

    fn take(&mut self, document: Value) {
        if let Some(endpoint) = document.get("localAPIEndpoint") {
            let address = endpoint.get("advertiseAddress").and_then(Value::as_str);
            self.address = address
                .and_then(|a| a.parse().ok())
                .map(|a: IpAddr| if a.is_ipv6() { format!("[{a}]") } else { a.to_string() });
        }
        if kind(&document) == CLUSTER {
            for (daemon, key) in [
                (Daemon::Apiserver, "apiServer"),
                (Daemon::ControllerManager, "controllerManager"),
                (Daemon::Scheduler, "scheduler"),
            ] {
                let args = document.get(key).and_then(|c| c.get("extraArgs"));
                let args = args.and_then(Value::as_sequence).map(Vec::as_slice).unwrap_or_default();
                let mut argv = vec![daemon.program().to_owned()];
                argv.extend(kubeadm_defaults(daemon).iter().filter_map(|default| {
                    let name = default.split('=').next()?;
                    let set = args.iter().any(|a| {
                        a.get("name")
                            .and_then(Value::as_str)
                            .is_some_and(|n| name == format!("--{n}"))
                    });
                    (!set).then(|| (*default).to_owned())
                }));
                argv.extend(args.iter().filter_map(|a| {
                    let text = |k| a.get(k).and_then(scalar);
                    Some(format!("--{}={}", text("name")?, text("value")?))
                }));
                if daemon == Daemon::Apiserver {
                    let set = |flag: &String| {
                        argv.iter().any(|a| a.split('=').next() == flag.split('=').next())
                    };
                    let more: Vec<String> =
                        of_etcd(&document).into_iter().filter(|flag| !set(flag)).collect();
                    argv.extend(more);
                }
                self.argv.insert(daemon, argv);
            }
            if let Some(local) = document.get("etcd").and_then(|e| e.get("local")) {
                self.argv.insert(Daemon::Etcd, self.stacked_etcd(local));
            }
        }
        for config in [Config::Kubelet, Config::KubeProxy] {
            if kind(&document) == config.kind() {
                self.documents.insert(config.kind(), document);
                return;
            }
        }
    }

    /// What kubeadm gives a static pod of etcd (cmd/kubeadm/app/phases/etcd/local.go, 1.34 to 1.36), as far as a control asks for it.
    fn stacked_etcd(&self, local: &Value) -> Vec<String> {
        let mut argv = vec![Daemon::Etcd.program().to_owned()];
        let args = local.get("extraArgs").and_then(Value::as_sequence);
        argv.extend(args.into_iter().flatten().filter_map(|a| {
            let text = |k| a.get(k).and_then(scalar);
            Some(format!("--{}={}", text("name")?, text("value")?))
        }));
        argv.extend(local.get("dataDir").and_then(scalar).map(|dir| format!("--data-dir={dir}")));
        if let Some(address) = &self.address {
            argv.extend([
                format!("--listen-client-urls=https://127.0.0.1:2379,https://{address}:2379"),
                format!("--advertise-client-urls=https://{address}:2379"),
                format!("--listen-peer-urls=https://{address}:2380"),
            ]);
        }
        argv
    }

    /// The command line that a daemon will get, if kubeadm's files are there.
    pub fn argv(&self, daemon: Daemon) -> Option<&[String]> {
        self.argv.get(&daemon).map(Vec::as_slice)
    }

    /// A configuration document.
    pub fn document(&self, config: Config) -> Option<&Value> {
        self.documents.get(config.kind())
    }
}

/// What kubeadm 1.34 and newer set by themselves unless `extraArgs` say otherwise
/// (<https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/>), as far
/// as a control asks for it.
fn kubeadm_defaults(daemon: Daemon) -> &'static [&'static str] {
    match daemon {
        Daemon::Apiserver => &[
            "--secure-port=6443",
            "--authorization-mode=Node,RBAC",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
            "--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key",
            "--requestheader-allowed-names=front-proxy-client",
            "--service-account-key-file=/etc/kubernetes/pki/sa.pub",
            "--service-account-signing-key-file=/etc/kubernetes/pki/sa.key",
            "--tls-cert-file=/etc/kubernetes/pki/apiserver.crt",
            "--tls-private-key-file=/etc/kubernetes/pki/apiserver.key",
        ],
        Daemon::ControllerManager => &[
            "--bind-address=127.0.0.1",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--use-service-account-credentials=true",
        ],
        Daemon::Scheduler => &["--bind-address=127.0.0.1"],
        Daemon::Etcd
        | Daemon::Kubelet
        | Daemon::KubeProxy
        | Daemon::Containerd
        | Daemon::Haproxy
        | Daemon::Keepalived => &[],
    }
}

/// kubeadm turns `etcd` into flags of the API server.
fn of_etcd(document: &Value) -> Vec<String> {
    if document.get("etcd").and_then(|e| e.get("local")).is_some() {
        return [
            "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
            "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
            "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
            "--etcd-servers=https://127.0.0.1:2379",
        ]
        .map(str::to_owned)
        .to_vec();
    }
    let Some(external) = document.get("etcd").and_then(|e| e.get("external")) else {
        return Vec::new();
    };
    let text = |key: &str| external.get(key).and_then(scalar);
    let mut argv: Vec<String> =
        [("caFile", "etcd-cafile"), ("certFile", "etcd-certfile"), ("keyFile", "etcd-keyfile")]
            .iter()
            .filter_map(|(key, flag)| Some(format!("--{flag}={}", text(key)?)))
            .collect();
    argv.extend(text("endpoints").map(|e| format!("--etcd-servers={e}")));
    argv
}

/// RFC 6902 `add`, `replace` and `remove`, on members of objects, which is all that patches of ours
/// do. `None` if it is no patch.
fn patch_document(document: &mut Value, patch: &str) -> Option<()> {
    let Ok(Value::Sequence(operations)) = yaml::parse(patch) else { return None };
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(op), Some(path)) = (text("op"), text("path")) else { continue };
        let Some((parent, member)) = path.rsplit_once('/') else { continue };
        let mut target = Some(&mut *document);
        for part in parent.split('/').filter(|p| !p.is_empty()) {
            target = target.and_then(|t| t.get_mut(part));
        }
        let Some(Value::Mapping(object)) = target else { continue };
        match (op.as_str(), operation.get("value")) {
            ("remove", _) => {
                object.remove(member);
            }
            ("add" | "replace", Some(value)) => {
                object.insert(member.into(), value.clone());
            }
            _ => {}
        }
    }
    Some(())
}

/// A YAML scalar, or a list of them joined by commas, as a flag would have it.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        Value::String(s) => Some(s.clone()),
        Value::Sequence(items) => {
            Some(items.iter().filter_map(scalar).collect::<Vec<_>>().join(","))
        }
        Value::Mapping(_) => Some("(an object)".to_owned()),
        Value::Tagged(t) => scalar(&t.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "kind: InitConfiguration\n---\nkind: ClusterConfiguration\napiServer:\n  extraArgs:\n  - name: anonymous-auth\n    value: \"false\"\n  - {name: authorization-mode, value: \"Node,RBAC,ABAC\"}\netcd:\n  external:\n    endpoints: [https://10.0.0.1:2379]\n    caFile: /ca\n---\nkind: KubeletConfiguration\nseccompDefault: true\nstaticPodPath: /x\n";

    #[test]
    fn kubeadm_files_become_command_lines() {
        let patch =
            "- {op: add, path: /readOnlyPort, value: 0}\n- {op: remove, path: /staticPodPath}\n";
        let staged = Staged::from_texts(
            [
                ("/etc/kubernetes/kubastion/init.yaml", CLUSTER),
                ("/etc/kubernetes/kubastion/patches/kubeletconfiguration0+json.yaml", patch),
                ("/etc/other.yaml", "kind: KubeProxyConfiguration\n"),
            ]
            .into_iter(),
        );
        let argv = staged.argv(Daemon::Apiserver).unwrap();
        for want in [
            "--anonymous-auth=false",
            "--authorization-mode=Node,RBAC,ABAC",
            "--etcd-servers=https://10.0.0.1:2379",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
        ] {
            assert!(argv.iter().any(|a| a == want), "{want} {argv:?}");
        }
        assert_eq!(argv.iter().filter(|a| a.starts_with("--authorization-mode=")).count(), 1);
        let kubelet = staged.document(Config::Kubelet).unwrap();
        assert_eq!(kubelet.get("readOnlyPort").and_then(scalar).as_deref(), Some("0"));
        assert!(kubelet.get("staticPodPath").is_none());
        assert!(staged.document(Config::KubeProxy).is_none(), "outside the staging directory");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(a in ".{0,300}", b in ".{0,300}") {
            let _ = Staged::from_texts(
                [
                    ("/etc/kubernetes/kubastion/init.yaml", a.as_str()),
                    ("/etc/kubernetes/kubastion/kubeletconfiguration0+json.yaml", b.as_str()),
                ]
                .into_iter(),
            );
        }
    }
}
