//! What has to be looked at on a node, derived from the checks of the catalogue.

use crate::checks::node::access;
use crate::checks::node::certificates;
use crate::checks::node::host;
use crate::checks::node::kubernetes;
use crate::checks::node::staged;
use crate::checks::observed;
use crate::controls::{CATALOGUE, Check, Config, Daemon, NodeRule};
use crate::desired::APISERVER_PROBE;
use crate::facts::{Extra, WatchList};
use crate::inventory::{Inventory, Node};

/// Everything that the checks of the controls look at on this node.
pub fn watch(inventory: &Inventory, node: &Node) -> WatchList {
    let mut watch = WatchList::default();
    let wanted = CATALOGUE.iter().filter(|c| c.scope.holds(inventory, node) && c.wanted(inventory));
    for check in wanted.flat_map(|c| c.checks).filter(|c| c.is_for(inventory, node)) {
        add(&mut watch, check);
    }
    for path in staged::STAGED_FILES {
        read(&mut watch, path);
    }
    // Whether Kubernetes is set up decides about many verdicts.
    watch.files.extend([kubernetes::MANIFEST, "/var/lib/kubelet/config.yaml"].map(str::to_owned));
    watch
}

fn read(watch: &mut WatchList, path: &str) {
    watch.files.insert(path.to_owned());
    watch.texts.insert(path.to_owned());
}

fn add(watch: &mut WatchList, check: &Check) {
    match check {
        Check::Path(rule) => {
            watch.files.insert(rule.path.to_owned());
        }
        Check::Tree(rule) => {
            watch.trees.insert(rule.dir.to_owned());
        }
        Check::Gone(path) => {
            watch.files.insert((*path).to_owned());
        }
        Check::Sysctl(setting) => {
            watch.sysctls.insert(setting.key.to_owned());
        }
        Check::Setting(config, ..) => read_config(watch, *config),
        Check::Node(fact) => add_fact(watch, *fact),
        Check::Sshd(..) => {
            watch.extras.insert(Extra::SshdMatches);
        }
        Check::InEffect(daemon) => {
            if *daemon == Daemon::Etcd {
                read(watch, observed::ETCD_UNIT);
            }
        }
        Check::Flag(..)
        | Check::RunsAs(..)
        | Check::LoopbackOnly(..)
        | Check::Probe(_)
        | Check::Api(_)
        | Check::Manual(_) => {}
    }
}

fn read_config(watch: &mut WatchList, config: Config) {
    if let Some(path) = config.path() {
        read(watch, path);
    }
}

fn add_fact(watch: &mut WatchList, fact: NodeRule) {
    let mut texts: Vec<&str> = Vec::new();
    match fact {
        NodeRule::Firewall | NodeRule::MetadataBlocked => texts.push(observed::FIREWALL_FILE),
        NodeRule::MandatoryAccessControl => {
            watch.extras.insert(Extra::Lsm);
        }
        NodeRule::TimeSync => {
            watch.extras.insert(Extra::Time);
        }
        NodeRule::AuditRules => {
            watch.extras.insert(Extra::Audit);
        }
        NodeRule::SecurityUpdates => {
            watch.units.extend(host::UPDATE_TIMERS.map(str::to_owned));
            watch.units.insert(host::LISTS_TIMER.to_owned());
            watch.packages.insert("unattended-upgrades".to_owned());
        }
        NodeRule::ContainerdNoTcp => texts.push(host::CONTAINERD_CONFIG),
        NodeRule::ContainerdRuntime => texts.push(host::CONTAINERD_CONFIG),
        NodeRule::ForeignFiles => {
            watch.trees.extend(host::READ_AS_A_WHOLE.map(str::to_owned));
        }
        NodeRule::ContainerdRelease => {
            watch.packages.extend(observed::CONTAINERD_PACKAGES.map(str::to_owned));
        }
        NodeRule::LogForwarding => {
            watch.units.extend(host::FORWARDERS.map(|f| f.unit.to_owned()));
            texts.extend(host::FORWARDERS.map(|f| f.file));
        }
        NodeRule::SshdSettings => {
            texts.push(observed::SSHD_DROP_IN);
            watch.extras.insert(Extra::SshdMatches);
        }
        NodeRule::NoSshd => watch.units.extend(host::SSH_UNITS.map(str::to_owned)),
        NodeRule::AuditPolicy => texts.push(kubernetes::AUDIT_POLICY),
        NodeRule::EncryptedSecrets | NodeRule::EncryptionProvider => {
            texts.push(kubernetes::ENCRYPTION)
        }
        NodeRule::EventRateLimit | NodeRule::PodSecurity => texts.extend([
            kubernetes::ADMISSION,
            "/etc/kubernetes/config/eventratelimit.yaml",
            "/etc/kubernetes/config/podsecurity.yaml",
        ]),
        NodeRule::AuthenticatedProbes => {
            texts.push(kubernetes::MANIFEST);
            watch.files.insert(APISERVER_PROBE.to_owned());
        }
        NodeRule::AnonymousRequests | NodeRule::UserAuthentication => {
            texts.push(kubernetes::AUTHENTICATION)
        }
        NodeRule::KubeletUnits => {
            watch.files.extend(kubernetes::KUBELET_UNITS.map(str::to_owned));
            watch.trees.extend(kubernetes::KUBELET_DROP_INS.map(str::to_owned));
        }
        NodeRule::CniConfig => {
            watch.trees.insert(kubernetes::CNI_DIR.to_owned());
        }
        NodeRule::NoAlpha => read_config(watch, Config::Kubelet),
        NodeRule::NoMasters => texts.extend(certificates::KUBECONFIGS),
        NodeRule::SeparateCas | NodeRule::EtcdOwnCa => {
            texts.extend(certificates::ETCD_CAS);
            texts.extend([certificates::CLUSTER_CA, certificates::FRONT_PROXY_CA]);
        }
        NodeRule::CertificateLifetimes => texts.extend(certificates::CERTIFICATES),
        NodeRule::KubeletServingFiles => {
            texts.push(certificates::KUBELET_SERVING);
            watch.files.insert(certificates::KUBELET_ROTATED.to_owned());
        }
        NodeRule::OneCaPerFile => {
            texts.extend(certificates::ETCD_CAS);
            texts.extend([certificates::CLUSTER_CA, certificates::FRONT_PROXY_CA]);
        }
        // Read apart: see `live_request`.
        NodeRule::EtcdCorruptionCheck
        | NodeRule::NoRebootDue
        | NodeRule::ForeignRules
        | NodeRule::OnlyPods
        | NodeRule::ProgramsNotShadowed
        | NodeRule::Accounts
        | NodeRule::RootOwnedPaths
        | NodeRule::SecretsUnreadable
        | NodeRule::SshdInEffect
        | NodeRule::SysctlsAtBoot
        | NodeRule::UnitsAsWritten => {}
        NodeRule::StaticPods => {
            watch.files.insert(access::STATIC_POD_DIR.to_owned());
        }
        // The first by a plan; the other is part of every look.
        NodeRule::NoPendingChange | NodeRule::NoSwap => {}
    }
    for path in texts {
        read(watch, path);
    }
}
