//! Kernel settings: which there are, where, and what for. What is applied and what is judged are this table.

use super::scope::Scope;
use crate::inventory::{Inventory, Node};

/// A kernel setting.
#[derive(Debug)]
pub struct KernelSetting {
    /// Dotted key.
    pub key: &'static str,
    /// Value as /proc/sys shows it.
    pub value: &'static str,
    /// Who wants it.
    pub wanted: WantedBy,
}

/// Who wants a kernel setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedBy {
    /// The hardening of every node.
    Hardening,
    /// A kubelet with protectKernelDefaults, which does not start with another value.
    Kubelet,
    /// kubeadm and pods' networks: a node of Kubernetes needs it, whatever is switched off.
    Pods,
    /// The same, where pods have IPv6 addresses.
    PodsWithIpv6,
}

impl KernelSetting {
    /// Controls that are about it.
    pub fn controls(&self) -> &'static [&'static str] {
        match self.wanted {
            WantedBy::Kubelet => &["host-sysctls", "kubelet-protect-kernel-defaults"],
            WantedBy::Hardening | WantedBy::Pods | WantedBy::PodsWithIpv6 => &["host-sysctls"],
        }
    }

    /// Whether a node gets it, if its controls are on.
    pub fn is_for(&self, inventory: &Inventory, node: &Node) -> bool {
        let ipv6 = || inventory.cluster.pod_networks.iter().any(|n| n.0.addr().is_ipv6());
        match self.wanted {
            WantedBy::Hardening => true,
            WantedBy::Kubelet | WantedBy::Pods => Scope::Kubelet.holds(inventory, node),
            WantedBy::PodsWithIpv6 => Scope::Kubelet.holds(inventory, node) && ipv6(),
        }
    }

    /// Whether a node gets it also if all its controls are off.
    pub fn is_needed(&self) -> bool {
        matches!(self.wanted, WantedBy::Pods | WantedBy::PodsWithIpv6)
    }

    /// Whether it belongs to the node also where that is a container: to its network, and not to the kernel.
    pub fn is_of_the_network(&self) -> bool {
        self.key.starts_with("net.")
    }
}

/// The key of each interface, with `*` for its name (`net.ipv4.conf.*.x` for `net.ipv4.conf.all.x`), where the kernel does
/// not go by the value for all alone: for some keys either counts, and for IPv6 that of the interface
/// (<https://docs.kernel.org/networking/ip-sysctl.html>). Forwarding is set for each interface with that for all.
pub fn of_interfaces(key: &str) -> Option<String> {
    let alone = !key.contains(".conf.all.") || key.ends_with(".forwarding");
    (!alone).then(|| key.replacen(".conf.all.", ".conf.*.", 1))
}

/// Kernel settings, by key.
///
/// What the kubelet insists on with protectKernelDefaults is its own list (setupKernelTunables in
/// pkg/kubelet/cm). `rp_filter` is not among them: Cilium and multi-homed nodes need it off, and
/// what a loose filter would drop a CNI may have sent.
#[rustfmt::skip]
pub static KERNEL_SETTINGS: &[KernelSetting] = &[
    KernelSetting { key: "fs.protected_hardlinks",                        value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "fs.protected_symlinks",                         value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "fs.suid_dumpable",                              value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "kernel.dmesg_restrict",                         value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "kernel.keys.root_maxbytes",                     value: "25000000", wanted: WantedBy::Kubelet },
    KernelSetting { key: "kernel.keys.root_maxkeys",                      value: "1000000",  wanted: WantedBy::Kubelet },
    KernelSetting { key: "kernel.kptr_restrict",                          value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "kernel.panic",                                  value: "10",       wanted: WantedBy::Kubelet },
    KernelSetting { key: "kernel.panic_on_oops",                          value: "1",        wanted: WantedBy::Kubelet },
    KernelSetting { key: "kernel.randomize_va_space",                     value: "2",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.bridge.bridge-nf-call-ip6tables",           value: "1",        wanted: WantedBy::Pods },
    KernelSetting { key: "net.bridge.bridge-nf-call-iptables",            value: "1",        wanted: WantedBy::Pods },
    // Before the settings below: switching it sets some of them anew.
    KernelSetting { key: "net.ipv4.ip_forward",                           value: "1",        wanted: WantedBy::Pods },
    KernelSetting { key: "net.ipv6.conf.all.forwarding",                  value: "1",        wanted: WantedBy::PodsWithIpv6 },
    KernelSetting { key: "net.ipv4.conf.all.accept_redirects",            value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.all.accept_source_route",         value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.all.secure_redirects",            value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.all.send_redirects",              value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.default.accept_redirects",        value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.default.accept_source_route",     value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.default.secure_redirects",        value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.conf.default.send_redirects",          value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.icmp_echo_ignore_broadcasts",          value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.icmp_ignore_bogus_error_responses",    value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv4.tcp_syncookies",                       value: "1",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv6.conf.all.accept_redirects",            value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv6.conf.all.accept_source_route",         value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv6.conf.default.accept_redirects",        value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "net.ipv6.conf.default.accept_source_route",     value: "0",        wanted: WantedBy::Hardening },
    KernelSetting { key: "vm.overcommit_memory",                          value: "1",        wanted: WantedBy::Kubelet },
    KernelSetting { key: "vm.panic_on_oom",                               value: "0",        wanted: WantedBy::Kubelet },
];
