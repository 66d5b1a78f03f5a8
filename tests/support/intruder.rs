//! What somebody who was root on a node leaves there: planted, named by `verify` thing by thing, and taken away again.

use super::cluster::{Cluster, text};

/// Something to plant.
struct Plant {
    /// Where.
    node: &'static str,
    /// How, as root.
    plant: &'static str,
    /// How it is taken away again.
    undo: &'static str,
    /// The control that has to fail there, and what it has to say.
    control: &'static str,
    words: &'static str,
}

const PLANTED: &[Plant] = &[
    Plant {
        node: "w1",
        plant: "printf '#!/bin/sh\\nexec /usr/sbin/ethtool \"$@\"\\n' >/usr/local/sbin/ethtool; \
                chmod 755 /usr/local/sbin/ethtool",
        undo: "rm /usr/local/sbin/ethtool",
        control: "host-no-shadowed-programs",
        words: "/usr/local/sbin/ethtool shadows the packaged program",
    },
    Plant {
        node: "w1",
        plant: "cp -p /etc/passwd /root/passwd; printf '%s\\n' toor:x:+0:0::/root:/bin/sh guest::1001:1001::/tmp:/bin/sh >>/etc/passwd",
        undo: "cat /root/passwd >/etc/passwd; rm /root/passwd",
        control: "host-accounts",
        words: "toor has user id 0; guest has an empty password",
    },
    Plant {
        node: "w1",
        plant: "nft add table ip other; \
                nft 'add chain ip other pre { type nat hook prerouting priority -150; }'; \
                nft add rule ip other pre tcp dport 8443 redirect to :22",
        undo: "nft delete table ip other",
        control: "host-firewall-worker",
        words: "chain pre of table ip other does redirect",
    },
    Plant {
        node: "w1",
        plant: "mkdir -p /opt/nri/plugins; echo x >/opt/nri/plugins/10-every-container",
        undo: "rm -r /opt/nri",
        control: "containerd-files-known",
        words: "/opt/nri/plugins/10-every-container",
    },
    Plant {
        node: "w1",
        plant: "PATH=/usr/local/bin:$PATH; set -- $(ctr -n k8s.io images ls -q | grep -e /pause: -e /kube-proxy:); \
                ctr -n k8s.io images tag --force $2 $1",
        undo: ":",
        control: "host-no-pending-change",
        words: "import registry.k8s.io/kube-proxy",
    },
    Plant {
        node: "w1",
        plant: "image=$(ctr -n k8s.io images ls -q | grep /pause:); ctr -n k8s.io run -d \"$image\" hidden",
        undo: "ctr -n k8s.io tasks kill -s KILL hidden; sleep 1; ctr -n k8s.io tasks delete -f hidden; \
               ctr -n k8s.io containers delete hidden",
        control: "containerd-only-pods",
        words: "k8s.io/hidden",
    },
    // A user of the node, who would like the search to wait for ever.
    Plant {
        node: "w1",
        plant: "useradd -m guest2; cd /home/guest2; mkfifo pipe; echo 'client-certificate: pipe' >asks; \
                c=$(base64 -w 0 /var/lib/kubelet/pki/kubelet-client-current.pem 2>/dev/null || base64 -w 0 /etc/kubernetes/pki/ca.crt); \
                echo \"users: [{name: x, user: {client-certificate-data: $c, client-key-data: eA==}}]\" >flow",
        undo: "userdel -r guest2 2>/dev/null; ! id guest2",
        control: "pki-super-admin-removed",
        words: "/home/guest2/flow",
    },
    Plant {
        node: "w1",
        plant: "usermod -aG root nobody",
        undo: "gpasswd -d nobody root",
        control: "host-accounts",
        words: "nobody is in group root",
    },
    Plant {
        node: "w1",
        plant: "systemctl mask apt-daily-upgrade.service; apt-mark hold openssh-server",
        undo: "systemctl unmask apt-daily-upgrade.service; apt-mark unhold openssh-server",
        control: "host-updates",
        words: "apt-daily-upgrade.service is `masked`; openssh-server is held",
    },
    // The record of what was loaded says that all is well.
    Plant {
        node: "cp2",
        plant: "nft insert rule inet kubastion input ip saddr 203.0.113.77 accept; \
                d=$(nft -s list table inet kubastion | sha256sum); \
                sed -i \"s/^[0-9a-f]*/${d%% *}/\" /var/lib/kubastion/firewall.loaded",
        undo: "systemctl restart kubastion-firewall",
        control: "host-firewall-control-plane",
        words: "the loaded table was changed since it was loaded",
    },
    // Daemons of the node share its mounts: that something was there is only in the journal.
    Plant {
        node: "w1",
        plant: "cp /etc/ssh/sshd_config /root/sshd_config; mount --bind /root/sshd_config /etc/ssh/sshd_config; \
                systemctl reload ssh; umount /etc/ssh/sshd_config; rm /root/sshd_config; sleep 1",
        undo: "systemctl reload ssh",
        control: "host-ssh-in-effect",
        words: "a mount over /etc/ssh/sshd_config was made after it was read",
    },
    Plant {
        node: "w1",
        plant: "cp -r /etc/containerd /root/covering; mount --bind /root/covering /etc/containerd; \
                systemctl restart containerd; umount /etc/containerd; rm -r /root/covering; sleep 1",
        undo: "systemctl restart containerd",
        control: "containerd-in-effect",
        words: "a mount over /etc/containerd was made after the start",
    },
    // A mount that is gone again: the API server goes on with what it saw when it started.
    Plant {
        node: "cp1",
        plant: "f=/etc/kubernetes/config/audit-policy.yaml; \
                printf 'apiVersion: audit.k8s.io/v1\\nkind: Policy\\nrules: [{level: None}]\\n' >/root/policy; \
                mount --bind /root/policy $f; \
                for p in $(ctr -n k8s.io tasks ls | awk '{print $2}'); do \
                    ! grep -qs '^kube-apiserver' /proc/$p/cmdline || kill $p; done; \
                sleep 5; for i in $(seq 60); do \
                    curl -sk -m 2 https://127.0.0.1:6443/readyz | grep -q . && break; sleep 1; done; \
                umount $f; rm /root/policy",
        undo: "for p in $(ctr -n k8s.io tasks ls | awk '{print $2}'); do \
                   ! grep -qs '^kube-apiserver' /proc/$p/cmdline || kill $p; done; sleep 5; \
               for i in $(seq 60); do curl -sk -m 2 https://127.0.0.1:6443/readyz | grep -q . && break; sleep 1; done",
        control: "apiserver-in-effect",
        words: "its /etc/kubernetes/config/audit-policy.yaml differs from the node's",
    },
    // The ConfigMap is back as it was, and what read it runs on: kube-proxy reads it once. A pod whose annotation changes gets
    // its volumes anew at once, and a container that ends is started again: no controller, which waits after a restart of its
    // API server, has to make another pod.
    Plant {
        node: "cp1",
        plant: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }; \
                p=$(k get pod -l k8s-app=kube-proxy --field-selector spec.nodeName=cp1 -o name); \
                k get configmap kube-proxy -o yaml >/root/proxy.yaml; \
                sed 's/localhostNodePorts: false/localhostNodePorts: true/' /root/proxy.yaml | k replace -f -; \
                for i in $(seq 90); do \
                    k annotate --overwrite \"$p\" attempt=$i >/dev/null; sleep 1; \
                    grep -q 'localhostNodePorts: true' /var/lib/kubelet/pods/*/volumes/*/kube-proxy/config.conf && break; \
                    [ $i -lt 90 ] || exit 1; done; \
                kill $(pidof kube-proxy); \
                for i in $(seq 180); do curl -s -m 2 http://127.0.0.1:10249/configz | grep -qi 'localhostnodeports\":true' && break; sleep 1; [ $i -lt 180 ] || exit 2; done; \
                k delete configmap kube-proxy; \
                grep -v -e resourceVersion -e uid: /root/proxy.yaml | k create -f -; rm /root/proxy.yaml",
        undo: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }; \
               p=$(k get pod -l k8s-app=kube-proxy --field-selector spec.nodeName=cp1 -o name); \
               for i in $(seq 90); do \
                   k annotate --overwrite \"$p\" attempt=back$i >/dev/null; sleep 1; \
                   grep -q 'localhostNodePorts: false' /var/lib/kubelet/pods/*/volumes/*/kube-proxy/config.conf && break; \
                   [ $i -lt 90 ] || exit 1; done; \
               k annotate \"$p\" attempt-; kill $(pidof kube-proxy); \
               for i in $(seq 180); do curl -s -m 2 http://127.0.0.1:10249/configz | grep -qi 'localhostnodeports\":false' && break; sleep 1; [ $i -lt 180 ] || exit 2; done",
        control: "kube-proxy-node-ports",
        words: "true",
    },
];

/// Plants everything, has each thing named, and takes it all away.
pub fn is_named(c: &Cluster) {
    for p in PLANTED {
        let script = format!("PATH=/usr/local/bin:$PATH; {}", p.plant);
        let out = c.inside(p.node, &script);
        assert!(out.status.success(), "{}\n{}", p.plant, text(&out));
    }
    let report = c.ends(5, &["verify", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    for p in PLANTED {
        let finding = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["node"] == p.node && f["control"] == p.control)
            .unwrap_or_else(|| panic!("{} of {} is not in the report", p.control, p.node));
        assert_eq!(finding["verdict"], "fail", "{}: {finding:#}", p.plant);
        let said = finding["evidence"].to_string();
        assert!(said.contains(p.words), "{}\nis not named: {finding:#}", p.plant);
    }
    for p in PLANTED.iter().rev() {
        let script = format!("PATH=/usr/local/bin:$PATH; {}", p.undo);
        let out = c.inside(p.node, &script);
        assert!(out.status.success(), "{}\n{}", p.undo, text(&out));
    }
}
