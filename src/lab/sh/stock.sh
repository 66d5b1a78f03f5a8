#!/bin/sh
# One step of a node on its way into a stock kubeadm cluster.
#
#   stock.sh configure VERSION   containerd and kubelet as units, from the programs that are in /usr/local/bin
#   stock.sh images VERSION      prints the images that kubeadm asks for
#   stock.sh import              takes in the image archive on standard input
#   stock.sh single-ca           makes one CA, as that of the cluster, of etcd and of the front proxy
#   stock.sh etcd-ca             makes a CA for etcd
#   stock.sh etcd-certificates NAME ADDRESS  prints an archive, in base64, of what a member needs and API servers use
#   stock.sh etcd NAME ADDRESS CLUSTER       starts a member, with that archive on standard input
#   stock.sh etcd-wait ADDRESS   until the member answers
#   stock.sh init                kubeadm init, with the configuration on standard input
#   stock.sh pin                 prints the SHA-256 of the CA's public key
#   stock.sh join                kubeadm join, with the configuration on standard input
#   stock.sh networks            prints a line for each node: its name, and its pod network once it has one
#   stock.sh network [CIDR=VIA]...  the node's pod network as standard input has it, and routes to those of other nodes
#   stock.sh wait SECONDS        until all nodes and the pods of kube-system are ready
#
# Reads the programs in /usr/local/bin and, on the first control plane, the CAs and the administrator's kubeconfig.
# Writes /etc/kubernetes/pki (single-ca), /etc/etcd/pki (etcd-*), /etc/containerd/config.toml, units and the kubelet's drop-in in /etc/systemd/system, /etc/sysctl.d/90-lab-stock.conf,
# /etc/cni/net.d/10-bridge.conflist, and what kubeadm itself writes. kubeadm's output is in /var/log/kubeadm.log; its
# configuration has secrets and is in /run, for root alone, while kubeadm runs.
#
# A step that fails prints the last dozen lines of the component on standard error.
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf KUBECACHEDIR=/run/lab-kubectl
log=/var/log/kubeadm.log

images() { kubeadm config images list --kubernetes-version "v$1" 2>/dev/null; }

# The main section of a CRI plugin has another name in each version of the file.
containerd_config() { # image of the sandbox
    # restrict_oom_score_adj: a node has no CAP_SYS_RESOURCE where this machine has none, and runc dies of a negative score.
    case $(containerd --version) in
    *' v1.'* | *' 1.'*)
        printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "%s"\nrestrict_oom_score_adj = true\n' "$1"
        ;;
    *)
        printf 'version = 3\n[plugins."io.containerd.cri.v1.runtime"]\nrestrict_oom_score_adj = true\n'
        printf '[plugins."io.containerd.cri.v1.images".pinned_images]\nsandbox = "%s"\n' "$1"
        ;;
    esac
}

configure() { # version
    units=/etc/systemd/system
    mkdir -p /etc/containerd /etc/cni/net.d "$units/kubelet.service.d"
    containerd_config "$(images "$1" | grep /pause:)" >/etc/containerd/config.toml
    cat >"$units/containerd.service" <<'UNIT'
[Unit]
Description=containerd
After=network.target

[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
UNIT
    cat >"$units/kubelet.service" <<'UNIT'
[Unit]
Description=kubelet
After=containerd.service
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
RestartSec=10

[Install]
WantedBy=multi-user.target
UNIT
    # The arguments that kubeadm writes and expects (kubernetes.io, "Configuring each kubelet in your cluster using kubeadm").
    cat >"$units/kubelet.service.d/10-kubeadm.conf" <<'UNIT'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
UNIT
    echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/90-lab-stock.conf
    sysctl -q -p /etc/sysctl.d/90-lab-stock.conf
    systemctl daemon-reload
    systemctl -q enable containerd kubelet
    systemctl restart containerd || {
        last containerd "$(journalctl -q -u containerd -o cat -n 8)"
        exit 1
    } >&2
}

last() { # who, what it said
    [ -z "$2" ] || printf '%s\n' "$2" | sed "s/^/$1: /"
}

# The error is before a page of help, or between progress lines.
errors() { # file
    grep -i -e error -e fatal -e panic -e 'not defined' "$1" | tail -n 4 | grep . || tail -n 4 "$1"
}

# The log of the container that was restarted most often: the others wait for it.
of_pods() {
    # shellcheck disable=SC2012 # their names are the kubelet's, and of those that are alike the newest is wanted
    newest=$(ls -tr /var/log/pods/*/*/[0-9]*.log 2>/dev/null | awk -F / '{ print $NF, $0 }' | sort -s -n | tail -n 1)
    newest=${newest#* }
    [ -n "$newest" ] || return 0
    # Before each line the runtime writes time, stream and whether the line is whole.
    container=${newest%/*}
    last "${container##*/}" "$(errors "$newest" | cut -d ' ' -f 4-)"
}

of_kubelet() {
    last kubelet "$(journalctl -q -u kubelet -o cat -n 300 | grep '^[EF][0-9]' | tail -n 2)"
}

# A CA and its key, as ca.crt and ca.key of a directory.
make_ca() { # directory, name
    mkdir -p "$1"
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=$2" -keyout "$1/ca.key" -out "$1/ca.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign 2>/dev/null
    chmod 600 "$1/ca.key"
}

single_ca() {
    pki=/etc/kubernetes/pki
    make_ca "$pki" kubernetes
    mkdir -p "$pki/etcd"
    for kind in crt key; do
        cp -p "$pki/ca.$kind" "$pki/etcd/ca.$kind"
        cp -p "$pki/ca.$kind" "$pki/front-proxy-ca.$kind"
    done
}

etcd_certificate() { # directory, name of the file, subject, names
    openssl req -newkey rsa:2048 -nodes -subj "$3" -keyout "$1/$2.key" -out "$1/$2.csr" 2>/dev/null
    {
        echo 'extendedKeyUsage=serverAuth,clientAuth'
        [ -z "$4" ] || echo "subjectAltName=$4"
    } >"$1/$2.ext"
    openssl x509 -req -in "$1/$2.csr" -CA /etc/etcd/pki/ca.crt -CAkey /etc/etcd/pki/ca.key -days 365 -extfile "$1/$2.ext" \
        -out "$1/$2.crt" 2>/dev/null
    rm "$1/$2.csr" "$1/$2.ext"
}

etcd_certificates() { # name, address
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    cp /etc/etcd/pki/ca.crt "$dir"
    etcd_certificate "$dir" server "/CN=$1" "DNS:$1,DNS:localhost,IP:$2,IP:127.0.0.1"
    etcd_certificate "$dir" apiserver-etcd-client /CN=kube-apiserver-etcd-client ''
    tar -C "$dir" -c . | base64 -w 0
}

# As root, as many run it.
etcd_service() { # name, address, cluster
    mkdir -p /etc/etcd/pki
    base64 -d | tar -C /etc/etcd/pki -x
    cat >/etc/systemd/system/etcd.service <<UNIT
[Unit]
Description=etcd
After=network.target

[Service]
Type=exec
ExecStart=/usr/local/bin/etcd --name=$1 --data-dir=/var/lib/etcd --listen-client-urls=https://$2:2379,https://127.0.0.1:2379 \\
    --advertise-client-urls=https://$2:2379 --listen-peer-urls=https://$2:2380 --initial-advertise-peer-urls=https://$2:2380 \\
    --initial-cluster=$3 --initial-cluster-state=new --client-cert-auth --peer-client-cert-auth \\
    --trusted-ca-file=/etc/etcd/pki/ca.crt --cert-file=/etc/etcd/pki/server.crt --key-file=/etc/etcd/pki/server.key \\
    --peer-trusted-ca-file=/etc/etcd/pki/ca.crt --peer-cert-file=/etc/etcd/pki/server.crt --peer-key-file=/etc/etcd/pki/server.key
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl -q enable etcd
    systemctl start etcd
}

etcd_answers() { # address
    pki=/etc/etcd/pki
    for _ in $(seq 60); do
        ! curl -sSf -m 2 --cacert $pki/ca.crt --cert $pki/apiserver-etcd-client.crt --key $pki/apiserver-etcd-client.key \
            "https://$1:2379/health" >/dev/null 2>&1 || return 0
        sleep 0.5
    done
    {
        last etcd "$(journalctl -q -u etcd -o cat -n 5)"
        exit 1
    } >&2
}

kubeadm_with() { # verb, arguments...
    trap 'rm -f /run/lab-kubeadm.yaml' EXIT
    (umask 077 && cat >/run/lab-kubeadm.yaml)
    kubeadm "$@" --config /run/lab-kubeadm.yaml >"$log" 2>&1 || {
        last kubeadm "$(errors "$log" | grep -v -e ignore-preflight-errors -e 'stack trace')"
        of_kubelet
        of_pods
        exit 1
    } >&2
}

network() { # CIDR=VIA...
    cat >/etc/cni/net.d/10-bridge.conflist
    unit=/etc/systemd/system/lab-pod-routes.service
    {
        printf '[Unit]\nDescription=Routes to the pods of other nodes\nAfter=network.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n'
        for route; do
            echo "ExecStart=/usr/bin/ip route replace ${route%=*} via ${route#*=}"
        done
        printf '\n[Install]\nWantedBy=multi-user.target\n'
    } >"$unit"
    # systemd requires at least one command.
    [ $# -gt 0 ] || {
        rm "$unit"
        return 0
    }
    systemctl daemon-reload
    systemctl -q enable --now lab-pod-routes
}

until_ready() { # seconds
    kubectl wait node --all --for=condition=Ready --timeout="$1s" >/dev/null 2>&1 &&
        kubectl -n kube-system wait pod --all --for=condition=Ready --timeout="$1s" >/dev/null 2>&1 && return 0
    {
        kubectl get nodes --no-headers | grep -v ' Ready ' | head -n 3 || true
        kubectl -n kube-system get pods --no-headers | grep -v ' 1/1 ' | head -n 5 || true
        of_kubelet
        exit 1
    } >&2
}

step=$1
shift
case $step in
configure) configure "$1" ;;
images) images "$1" ;;
import) ctr -n k8s.io images import - >/dev/null ;;
single-ca) single_ca ;;
etcd-ca) make_ca /etc/etcd/pki etcd-ca ;;
etcd-certificates) etcd_certificates "$1" "$2" ;;
etcd) etcd_service "$1" "$2" "$3" ;;
etcd-wait) etcd_answers "$1" ;;
# Keep the token and the key out of the log.
init) kubeadm_with init --upload-certs --skip-token-print --skip-certificate-key-print ;;
pin) openssl x509 -in /etc/kubernetes/pki/ca.crt -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d ' ' -f 1 ;;
join) kubeadm_with join ;;
networks) kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}' ;;
network) network "$@" ;;
wait) until_ready "$1" ;;
*)
    echo "stock.sh: no such step: $step" >&2
    exit 2
    ;;
esac
