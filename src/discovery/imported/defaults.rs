//! What kubeadm gives daemons by itself: whatever else runs, somebody has set (kubeadm 1.34 to 1.37,
//! cmd/kubeadm/app/phases/controlplane/manifests.go and cmd/kubeadm/app/componentconfigs).

use crate::inventory::Component;

/// A value that kubeadm chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Default {
    /// This one.
    Is(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One that follows from addresses, networks, names or the place of etcd.
    Any,
}

impl Default {
    pub(super) fn fits(self, value: &str) -> bool {
        match self {
            Default::Is(one) => value == one,
            Default::OneOf(some) => some.contains(&value),
            Default::Any => true,
        }
    }
}

/// Flags of the control plane.
pub(super) const FLAGS: &[(Component, &str, Default)] = &[
    (Component::ApiServer, "advertise-address", Default::Any),
    (Component::ApiServer, "allow-privileged", Default::Is("true")),
    (Component::ApiServer, "authorization-mode", Default::Is("Node,RBAC")),
    (Component::ApiServer, "client-ca-file", Default::Is("/etc/kubernetes/pki/ca.crt")),
    (Component::ApiServer, "enable-admission-plugins", Default::Is("NodeRestriction")),
    (Component::ApiServer, "enable-bootstrap-token-auth", Default::Is("true")),
    (Component::ApiServer, "etcd-cafile", Default::Any),
    (Component::ApiServer, "etcd-certfile", Default::Any),
    (Component::ApiServer, "etcd-keyfile", Default::Any),
    (Component::ApiServer, "etcd-servers", Default::Any),
    (
        Component::ApiServer,
        "kubelet-client-certificate",
        Default::Is("/etc/kubernetes/pki/apiserver-kubelet-client.crt"),
    ),
    (
        Component::ApiServer,
        "kubelet-client-key",
        Default::Is("/etc/kubernetes/pki/apiserver-kubelet-client.key"),
    ),
    (
        Component::ApiServer,
        "kubelet-preferred-address-types",
        Default::Is("InternalIP,ExternalIP,Hostname"),
    ),
    (
        Component::ApiServer,
        "proxy-client-cert-file",
        Default::Is("/etc/kubernetes/pki/front-proxy-client.crt"),
    ),
    (
        Component::ApiServer,
        "proxy-client-key-file",
        Default::Is("/etc/kubernetes/pki/front-proxy-client.key"),
    ),
    (Component::ApiServer, "requestheader-allowed-names", Default::Is("front-proxy-client")),
    (
        Component::ApiServer,
        "requestheader-client-ca-file",
        Default::Is("/etc/kubernetes/pki/front-proxy-ca.crt"),
    ),
    (Component::ApiServer, "requestheader-extra-headers-prefix", Default::Is("X-Remote-Extra-")),
    (Component::ApiServer, "requestheader-group-headers", Default::Is("X-Remote-Group")),
    (Component::ApiServer, "requestheader-uid-headers", Default::Is("X-Remote-Uid")),
    (Component::ApiServer, "requestheader-username-headers", Default::Is("X-Remote-User")),
    (Component::ApiServer, "secure-port", Default::Is("6443")),
    (Component::ApiServer, "service-account-key-file", Default::Is("/etc/kubernetes/pki/sa.pub")),
    (
        Component::ApiServer,
        "service-account-signing-key-file",
        Default::Is("/etc/kubernetes/pki/sa.key"),
    ),
    (Component::ApiServer, "service-cluster-ip-range", Default::Any),
    (Component::ApiServer, "tls-cert-file", Default::Is("/etc/kubernetes/pki/apiserver.crt")),
    (
        Component::ApiServer,
        "tls-private-key-file",
        Default::Is("/etc/kubernetes/pki/apiserver.key"),
    ),
    (Component::ControllerManager, "allocate-node-cidrs", Default::Is("true")),
    (
        Component::ControllerManager,
        "authentication-kubeconfig",
        Default::Is("/etc/kubernetes/controller-manager.conf"),
    ),
    (
        Component::ControllerManager,
        "authorization-kubeconfig",
        Default::Is("/etc/kubernetes/controller-manager.conf"),
    ),
    (Component::ControllerManager, "bind-address", Default::Is("127.0.0.1")),
    (Component::ControllerManager, "client-ca-file", Default::Is("/etc/kubernetes/pki/ca.crt")),
    (Component::ControllerManager, "cluster-cidr", Default::Any),
    (Component::ControllerManager, "cluster-name", Default::Any),
    (
        Component::ControllerManager,
        "cluster-signing-cert-file",
        Default::OneOf(&["", "/etc/kubernetes/pki/ca.crt"]),
    ),
    (
        Component::ControllerManager,
        "cluster-signing-key-file",
        Default::OneOf(&["", "/etc/kubernetes/pki/ca.key"]),
    ),
    (Component::ControllerManager, "controllers", Default::Is("*,bootstrapsigner,tokencleaner")),
    (
        Component::ControllerManager,
        "kubeconfig",
        Default::Is("/etc/kubernetes/controller-manager.conf"),
    ),
    (Component::ControllerManager, "leader-elect", Default::Is("true")),
    (
        Component::ControllerManager,
        "requestheader-client-ca-file",
        Default::Is("/etc/kubernetes/pki/front-proxy-ca.crt"),
    ),
    (Component::ControllerManager, "root-ca-file", Default::Is("/etc/kubernetes/pki/ca.crt")),
    (
        Component::ControllerManager,
        "service-account-private-key-file",
        Default::Is("/etc/kubernetes/pki/sa.key"),
    ),
    (Component::ControllerManager, "service-cluster-ip-range", Default::Any),
    (Component::ControllerManager, "use-service-account-credentials", Default::Is("true")),
    (
        Component::Scheduler,
        "authentication-kubeconfig",
        Default::Is("/etc/kubernetes/scheduler.conf"),
    ),
    (
        Component::Scheduler,
        "authorization-kubeconfig",
        Default::Is("/etc/kubernetes/scheduler.conf"),
    ),
    (Component::Scheduler, "bind-address", Default::Is("127.0.0.1")),
    (Component::Scheduler, "kubeconfig", Default::Is("/etc/kubernetes/scheduler.conf")),
    (Component::Scheduler, "leader-elect", Default::Is("true")),
    (
        Component::Kubelet,
        "bootstrap-kubeconfig",
        Default::Is("/etc/kubernetes/bootstrap-kubelet.conf"),
    ),
    (Component::Kubelet, "config", Default::Is("/var/lib/kubelet/config.yaml")),
    (
        Component::Kubelet,
        "container-runtime-endpoint",
        Default::Is("unix:///run/containerd/containerd.sock"),
    ),
    (Component::Kubelet, "kubeconfig", Default::Is("/etc/kubernetes/kubelet.conf")),
    // A node's own address, its labels and taints are keys of the node.
    (Component::Kubelet, "node-ip", Default::Any),
    (Component::Kubelet, "node-labels", Default::Any),
    (Component::Kubelet, "pod-infra-container-image", Default::Any),
    (Component::Kubelet, "register-with-taints", Default::Any),
];

/// Fields of configurations, by the way to each.
pub(super) const FIELDS: &[(Component, &str, Default)] = &[
    (Component::Kubelet, "apiVersion", Default::Any),
    (Component::Kubelet, "authentication.anonymous.enabled", Default::Is("false")),
    (Component::Kubelet, "authentication.webhook.enabled", Default::Is("true")),
    (
        Component::Kubelet,
        "authentication.x509.clientCAFile",
        Default::Is("/etc/kubernetes/pki/ca.crt"),
    ),
    (Component::Kubelet, "authorization.mode", Default::Is("Webhook")),
    (Component::Kubelet, "cgroupDriver", Default::Is("systemd")),
    (Component::Kubelet, "clusterDNS", Default::Any),
    (Component::Kubelet, "clusterDomain", Default::Any),
    (
        Component::Kubelet,
        "containerRuntimeEndpoint",
        Default::Is("unix:///run/containerd/containerd.sock"),
    ),
    (Component::Kubelet, "healthzBindAddress", Default::Is("127.0.0.1")),
    (Component::Kubelet, "healthzPort", Default::Is("10248")),
    (Component::Kubelet, "kind", Default::Any),
    (
        Component::Kubelet,
        "resolvConf",
        Default::OneOf(&["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]),
    ),
    (Component::Kubelet, "rotateCertificates", Default::Is("true")),
    (Component::Kubelet, "staticPodPath", Default::Is("/etc/kubernetes/manifests")),
    (Component::KubeProxy, "apiVersion", Default::Any),
    (Component::KubeProxy, "bindAddress", Default::OneOf(&["0.0.0.0", "::"])),
    (
        Component::KubeProxy,
        "clientConnection.kubeconfig",
        Default::Is("/var/lib/kube-proxy/kubeconfig.conf"),
    ),
    (Component::KubeProxy, "clusterCIDR", Default::Any),
    (Component::KubeProxy, "kind", Default::Any),
];

/// Fields of which a zero or `false` is a value of its own: kubeadm writes null where nothing was said (pointers in
/// k8s.io/kube-proxy/config/v1alpha1).
pub(super) const ZERO_IS_SAID: &[(Component, &str)] = &[
    (Component::KubeProxy, "conntrack.maxPerCore"),
    (Component::KubeProxy, "conntrack.min"),
    (Component::KubeProxy, "conntrack.tcpCloseWaitTimeout"),
    (Component::KubeProxy, "conntrack.tcpEstablishedTimeout"),
    (Component::KubeProxy, "iptables.localhostNodePorts"),
    (Component::KubeProxy, "iptables.masqueradeBit"),
    (Component::KubeProxy, "nftables.masqueradeBit"),
    (Component::KubeProxy, "oomScoreAdj"),
];

/// Fields of which Go writes a zero where nothing was said; of a kubelet, all others are left out then
/// (k8s.io/kubelet/config/v1beta1).
pub(super) const ZERO_IS_NOTHING: &[(Component, &str)] = &[
    (Component::Kubelet, "logging.flushFrequency"),
    (Component::Kubelet, "logging.options.json.infoBufferSize"),
    (Component::Kubelet, "logging.options.text.infoBufferSize"),
    (Component::Kubelet, "logging.verbosity"),
];

/// Labels that the kubelet, kubeadm or the node controller set by themselves.
pub(super) const LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
    "node.kubernetes.io/exclude-from-external-load-balancers",
];

/// Beginnings of taints that say how a node is, and that come and go by themselves.
pub(super) const CONDITIONS: &[&str] =
    &["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// The taint that kubeadm gives control planes.
pub(super) const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane:NoSchedule";
