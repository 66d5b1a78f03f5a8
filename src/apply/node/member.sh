# How a node becomes part of a Kubernetes cluster, and how it is taken out of it again. Read by txn.sh
# (and by reset.sh), which define `T`, `base`, `say` and `mark_unit`.

staged=/etc/kubernetes/kubastion
manifests=/etc/kubernetes/manifests
volumes=/usr/libexec/kubernetes
# shellcheck disable=SC2034 # for images.sh
made_by_members="$volumes $volumes/kubelet-plugins $volumes/kubelet-plugins/volume
    $volumes/kubelet-plugins/volume/exec /usr/lib/modules"

# What was installed from a bundle comes before what a package brought.
member_path() { PATH=/usr/local/bin:/opt/cni/bin:$PATH; }

# Whoever is taken for none and fails to join is cleared away: any sign of a member counts.
is_member() {
    [ -e "$base/units/kubernetes" ] || [ -e /var/lib/kubelet/config.yaml ] ||
        [ -e "$manifests/kube-apiserver.yaml" ]
}

control_plane() { [ -e "$staged/kubeadm-init.yaml" ]; }

# kubeadm writes 0644 and 0755 unless it is told otherwise.
become_member() { # way mark
    member_path
    umask 077
    if is_member; then
        configure_member || return 1
    else
        case $1 in
        init)
            run_kubeadm init --config "$staged/kubeadm-init.yaml" --skip-token-print \
                --skip-certificate-key-print
            ;;
        join) run_kubeadm join --config "$staged/kubeadm-join.yaml" ;;
        *)
            echo "the node was part of the cluster when the plan was made, but no longer is"
            return 1
            ;;
        esac || return 1
    fi
    # Of use once, to give the administrators' group its rights; it is not bound by any role.
    rm -f /etc/kubernetes/super-admin.conf
    mark_unit kubernetes "$2"
    # By these the next plan sees that somebody changed what kubeadm made.
    for f in "$manifests/etcd.yaml" "$manifests/kube-apiserver.yaml" "$manifests/kube-controller-manager.yaml" \
        "$manifests/kube-scheduler.yaml" /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env; do
        [ ! -e "$f" ] || sha256sum "$f" || return 1
    done >>"$base/units/kubernetes"
}

# The API as its administrator, with what kubectl learns of it kept where the transaction ends. kubectl is here where a node's own
# transaction needs the API between two steps of kubeadm, or has to fail with it: objects that should exist, those of add-ons
# too, are sent by the operator's side (src/api).
kube() {
    kubectl --cache-dir "$T/kubectl" --kubeconfig /etc/kubernetes/admin.conf --request-timeout 30s "$@"
}

# What kubeadm says of each good step is of no use where it fails; the whole stays in a file.
run_kubeadm() {
    kubeadm "$@" >"$T/kubeadm.out" 2>&1 && return 0
    # From its error on and what its preflight found, without the colours and tabs of that report.
    plain=$(sed 's/\x1b\[[0-9;]*m//g' "$T/kubeadm.out" | tr '\t' ' ' | grep -v -e '^$' -e '^To see the stack')
    last=$(printf '%s\n' "$plain" | sed -n -e '/^ *\[ERROR /p' -e '/^error/,$p')
    printf '%s\n' "${last:-$plain}" | grep -v '^\[[a-z-]*\]' | cut -c-600 | tail -n 12
    component_logs
    return 1
}

# Static pods and the kubelet from what is staged now. A component that does not come up again is an
# error, and the old manifests come back.
configure_member() {
    if control_plane; then
        ! grep -q '^  local:' "$staged/kubeadm-init.yaml" || configure_etcd || return 1
        was=$(sha256sum "$manifests/kube-apiserver.yaml" 2>/dev/null)
        run_kubeadm init phase control-plane all --config "$staged/kubeadm-init.yaml" || return 1
        # An equal manifest is no reason for the kubelet to start anything again.
        [ "$was" != "$(sha256sum "$manifests/kube-apiserver.yaml")" ] ||
            end_stale kube-apiserver /etc/kubernetes/config/*.yaml /etc/kubernetes/enc/*.yaml /etc/kubernetes/pki/sa.pub /etc/kubernetes/pki/sa.key \
                /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/etcd/ca.crt
        end_stale kube-controller-manager /etc/kubernetes/controller-manager.conf /etc/kubernetes/pki/sa.key \
            /etc/kubernetes/pki/ca.crt
        end_stale kube-scheduler /etc/kubernetes/scheduler.conf /etc/kubernetes/pki/ca.crt \
            /etc/kubernetes/pki/front-proxy-ca.crt
        components_answer 360 || {
            component_logs
            return 1
        }
        tell_cluster || return 1
    fi
    if [ -e "$staged/kubeadm-kubelet.yaml" ]; then
        run_kubeadm init phase kubelet-start --config "$staged/kubeadm-kubelet.yaml" || return 1
        kubelet_serves 120 || return 1
    fi
}

# The API calls a node Ready for 40 s after its kubelet has ended, and systemd calls a kubelet active that will end in a
# moment: one that listens has read its configuration.
kubelet_serves() { # seconds
    end=$(($(cut -d. -f1 /proc/uptime) + $1))
    until main=$(systemctl show -p MainPID --value kubelet.service) && [ "${main:-0}" -gt 0 ] && [ -n "$(listening "$main")" ]; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || {
            echo "kubelet.service did not listen on a port within $1 s after it was started"
            component_logs
            return 1
        }
        sleep 1
    done
}

# The member of etcd that is a static pod. One that is not there is not made: it would be a cluster of its own.
configure_etcd() {
    was=$(sha256sum "$manifests/etcd.yaml") || return 1
    run_kubeadm init phase etcd local --config "$staged/kubeadm-init.yaml" || return 1
    if [ "$was" != "$(sha256sum "$manifests/etcd.yaml")" ]; then
        since=$(date +%s)
    else
        since=0
        end_stale etcd /etc/kubernetes/pki/etcd/ca.crt
    fi
    end=$(($(cut -d. -f1 /proc/uptime) + 180))
    until began_after etcd "$since" && component_answers http://127.0.0.1:2381/health; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || {
            echo "etcd's static pod was not healthy 180 s after its manifest changed"
            component_logs
            return 1
        }
        sleep 1
    done
}

began_after() { # component, seconds of the clock
    for p in /proc/[0-9]*; do
        # Times of whole seconds may be one off.
        ! { is_component "$p" "$1" && began_at "$p" && [ "$began" -ge $(($2 - 1)) ]; } || return 0
    done
    return 1
}

# A component that runs with what was in files that it reads when it starts, and that were changed since. The kubelet starts
# it again.
end_stale() { # component files
    component=$1
    shift
    for p in /proc/[0-9]*; do
        is_component "$p" "$component" && began_at "$p" || continue
        for f in "$@"; do
            # Both times are of whole seconds.
            [ -e "$f" ] && [ "$(stat -c %Z "$f")" -ge $((began - 1)) ] || continue
            kill "${p#/proc/}"
            break
        done
    done
    return 0
}

# Anybody may call a process so: other users do not count, nor pods with a network of their own. The kernel cuts names off.
is_component() { # directory in /proc, name
    [ -O "$1" ] && IFS= read -r name <"$1/comm" && [ "$name" = "$(printf %.15s "$2")" ] &&
        [ "$(readlink "$1/ns/net")" = "$(readlink /proc/self/ns/net)" ]
} 2>/dev/null

# Sets `began`, in seconds of the clock as it goes now. A process that has ended has no beginning.
began_at() { # directory in /proc
    theirs=$(start_ticks "$(cat "$1/stat")") && now=$(start_ticks "$(cat /proc/self/stat)") &&
        began=$(($(date +%s) - (now - theirs) / $(getconf CLK_TCK)))
} 2>/dev/null

start_ticks() { # /proc/PID/stat
    # The fields from the third on: the second is a name in brackets.
    # shellcheck disable=SC2086 # fields
    set -- ${1##*) }
    [ -n "${20-}" ] && echo "${20}"
}

# What the cluster keeps of kubeadm's configuration: the next join or upgrade goes by it, and kube-proxy
# runs by it. A cluster without kube-proxy gets none.
tell_cluster() {
    run_kubeadm init phase upload-config all --config "$staged/kubeadm-init.yaml" || return 1
    # What kubectl says besides, of an aggregated API that is down for one, is no kube-proxy.
    there=$(kube -n kube-system get daemonset kube-proxy --ignore-not-found -o name 2>"$T/kube.err") || {
        printf '%s\n' "cannot read DaemonSet kube-proxy: $(tail -n 3 "$T/kube.err" | tr '\n' ' ')"
        return 1
    }
    if [ -n "$there" ]; then
        was=$(proxy_configuration)
        run_kubeadm init phase addon kube-proxy --config "$staged/kubeadm-init.yaml" || return 1
        # Its pods read the configuration once.
        [ "$was" = "$(proxy_configuration)" ] ||
            kube -n kube-system rollout restart daemonset kube-proxy >/dev/null || return 1
    fi
    patch_dns
}

# kubeadm gives CoreDNS our patch only where it makes it. Of one that is there already, only what the patch is about changes.
patch_dns() {
    patch=$staged/patches/corednsdeployment1+strategic.yaml
    [ -e "$patch" ] || return 0
    profile='{.spec.template.spec.securityContext.seccompProfile.type}'
    has=$(kube -n kube-system get deployment coredns --ignore-not-found -o "jsonpath={.kind} $profile" 2>"$T/kube.err") || {
        printf '%s\n' "cannot read Deployment coredns: $(tail -n 3 "$T/kube.err" | tr '\n' ' ')"
        return 1
    }
    [ "$has" = 'Deployment ' ] || return 0
    kube -n kube-system patch deployment coredns --patch-file "$patch" >/dev/null
}

proxy_configuration() { kube -n kube-system get configmap kube-proxy -o 'jsonpath={.data}'; }

# The components of this node, each by its own port: the endpoint may be answered by another node.
# Health is told to everybody on the loopback address (`--authorization-always-allow-paths`).
components_answer() { # seconds
    end=$(($(cut -d. -f1 /proc/uptime) + $1))
    # The kubelet takes a moment to see that a manifest has changed.
    sleep 3
    own=$(sed -n 's/^ *server: *"\{0,1\}\([^"]*\)"\{0,1\} *$/\1/p' /etc/kubernetes/controller-manager.conf)
    for component in "kube-apiserver $own/readyz" kube-controller-manager\ https://127.0.0.1:10257/healthz \
        kube-scheduler\ https://127.0.0.1:10259/healthz; do
        until component_answers "${component#* }"; do
            [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || {
                printf '%s\n' "${component%% *} of this node did not answer ${component#* } within $1 s"
                return 1
            }
            sleep 1
        done
    done
}

component_answers() { # URL
    server=${1%/*}
    client=/etc/kubernetes/pki/apiserver-kubelet-client
    case $server in
    # A certificate of any kind: without one, kubectl asks for a name and a password. A server that is
    # not who it says learns nothing from it.
    https://127.*) set -- "$1" --kubeconfig /dev/null --insecure-skip-tls-verify \
        --client-certificate "$client.crt" --client-key "$client.key" ;;
    http://127.*) set -- "$1" --kubeconfig /dev/null ;;
    *) set -- "$1" --kubeconfig /etc/kubernetes/admin.conf ;;
    esac
    path=/${1##*/}
    shift
    kubectl "$@" --server "$server" --request-timeout 5s get --raw "$path" >/dev/null 2>&1
}

# The last words of everything that may be the cause.
component_logs() {
    for d in /var/log/pods/kube-system_*/*/; do
        [ -d "$d" ] || continue
        # shellcheck disable=SC2012 # by time; what is called strangely gives a wrong last line at worst
        last=$(ls -1t "$d" | head -n 1)
        [ -n "$last" ] || continue
        name=${d%/}
        printf '%s\n' "--- ${name##*/}: $(tail -n 2 "$d$last" | cut -c-300 | tr '\n' ' ')"
    done
    printf '%s\n' "--- kubelet: $(journalctl -u kubelet -n 4 --no-pager -o cat 2>/dev/null | cut -c-300 | tr '\n' ' ')"
}

# iptables made tables for those rules. Of the ones that were not there before, those go that hold no more than the
# built-in chains with nothing in them but `accept`, which is what the kernel does without. An older record does not
# say what was there.
leave_no_empty_tables() {
    had=$(sed -n 's/^tables|then/ /p' "$T/before" 2>/dev/null)
    for t in 'ip filter' 'ip nat' 'ip mangle' 'ip6 filter' 'ip6 nat' 'ip6 mangle'; do
        case $had in '' | *" table $t "*) continue ;; esac
        # shellcheck disable=SC2086 # two words
        rules=$(nft list table $t 2>/dev/null) || continue
        printf '%s\n' "$rules" | grep -qv -e '^table ' -e '^#' -e '^[[:space:]]*}*$' \
            -e '^[[:space:]]chain \(PREROUTING\|INPUT\|FORWARD\|OUTPUT\|POSTROUTING\) {$' \
            -e '^[[:space:]]*type [a-z]* hook .*; policy accept;$' && continue
        # shellcheck disable=SC2086 # two words
        nft delete table $t || echo "the empty table $t could not be deleted"
    done
}

# Takes the node out of the cluster as far as the node itself goes. Goes on past failures.
leave_cluster() {
    member_path
    left=0
    systemctl disable --now kubelet.service 2>/dev/null
    # Static pods would come back as long as there is a manifest.
    rm -f "$manifests"/*.yaml
    if [ -S /run/containerd/containerd.sock ]; then
        for c in $(ctr -n k8s.io tasks ls -q 2>/dev/null); do
            ctr -n k8s.io tasks kill -s SIGKILL "$c" >/dev/null 2>&1
        done
        for c in $(ctr -n k8s.io containers ls -q 2>/dev/null); do
            ctr -n k8s.io tasks delete -f "$c" >/dev/null 2>&1
            ctr -n k8s.io containers delete "$c" >/dev/null 2>&1
        done
        # A shim whose sandbox and containers end at the same moment may miss its own end. Nothing that
        # it could be of use to is left in this namespace, and containerd clears away what it had.
        for p in /proc/[0-9]*; do
            case $(tr '\0' ' ' 2>/dev/null <"$p/cmdline") in
            */containerd-shim-runc-v2' -namespace k8s.io '*) kill -KILL "${p#/proc/}" 2>/dev/null ;;
            esac
        done
        # Sandboxes keep their network namespace and mounts until containerd forgets them.
        systemctl try-restart containerd.service 2>/dev/null
    fi
    sed -n 's/^[^ ]* \(\/var\/lib\/kubelet\/[^ ]*\) .*/\1/p' /proc/mounts | sort -r | while IFS= read -r m; do
        umount -l "$m" 2>/dev/null
    done
    # Deleting would go through to whatever is mounted.
    ! grep -q '^[^ ]* /var/lib/kubelet/' /proc/mounts || {
        echo 'a file system below /var/lib/kubelet cannot be unmounted'
        return 1
    }
    for n in /run/netns/cni-*; do [ ! -e "$n" ] || ip netns delete "${n##*/}" 2>/dev/null; done
    ! ip link show cni0 >/dev/null 2>&1 || ip link delete cni0
    # Only the chains that kube-proxy and the kubelet made; nobody else's rules are touched.
    for t in iptables ip6tables; do
        command -v $t-save >/dev/null || continue
        $t-save 2>/dev/null | grep -q KUBE- || continue
        $t-save | grep -v -e KUBE- -e CNI- | $t-restore || left=1
    done
    for t in 'ip kube-proxy' 'ip6 kube-proxy'; do
        # shellcheck disable=SC2086 # two words
        ! nft list table $t >/dev/null 2>&1 || nft delete table $t
    done
    leave_no_empty_tables
    set -- /var/lib/kubelet/pods /var/lib/kubelet/plugins /var/lib/kubelet/plugins_registry \
        /var/lib/kubelet/device-plugins /var/lib/kubelet/checkpoints /var/lib/kubelet/pod-resources \
        /var/lib/kubelet/actuated_pods_state /var/lib/kubelet/allocated_pods_state \
        /var/lib/kubelet/image_manager /var/lib/cni/results /var/lib/cni/cache /var/log/pods /var/log/containers /etc/kubernetes/tmp
    # Deleting would go through here, too.
    for p; do
        ! grep -q "^[^ ]* ${p}[/ ]" /proc/mounts || {
            printf '%s\n' "a file system is mounted on or below $p: nothing there was deleted; unmount it"
            return 1
        }
    done
    rm -rf "$@"
    set -- "$@" /var/lib/kubelet/*_state /var/lib/kubelet/.lock /var/lib/kubelet/config.yaml \
        /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/kubeadm-flags.env \
        /var/lib/kubelet/pki/kubelet-* /etc/kubernetes/super-admin.conf \
        /etc/kubernetes/bootstrap-kubelet.conf
    rm -f "$@" 2>/dev/null
    for p; do
        [ ! -e "$p" ] && [ ! -L "$p" ] || {
            printf '%s\n' "$p could not be deleted: check \`lsattr\` and \`findmnt\`"
            left=1
        }
    done
    # The directories are hardened before there is a lease, and stay so.
    [ ! -d /var/lib/cni/networks ] || find /var/lib/cni/networks -type f ! -name lock -exec rm -f {} +
    rmdir "$manifests" 2>/dev/null
    rm -f "$base/units/kubernetes"
    return $left
}
