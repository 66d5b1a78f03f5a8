# Joins a node to a Kubernetes cluster, and removes it again. Read by txn.sh and by reset.sh, which define `T`, `base`, `say` and `mark_unit`.

staged=/etc/kubernetes/kubastion
manifests=/etc/kubernetes/manifests
volumes=/usr/libexec/kubernetes
# shellcheck disable=SC2034 # for images.sh
made_by_members="$volumes $volumes/kubelet-plugins $volumes/kubelet-plugins/volume
    $volumes/kubelet-plugins/volume/exec /usr/lib/modules"

# Programs from a bundle take precedence over those from packages.
member_path() { PATH=/usr/local/bin:/opt/cni/bin:$PATH; }

# A node that is not a member is cleaned up when its join fails, so any sign of membership counts.
is_member() {
    [ -e "$base/units/kubernetes" ] || [ -e /var/lib/kubelet/config.yaml ] ||
        [ -e "$manifests/kube-apiserver.yaml" ]
}

control_plane() { [ -e "$staged/kubeadm-init.yaml" ]; }

# kubeadm writes 0644 and 0755 unless the umask prevents it.
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
    # kubeadm needs it once, to bind the administrators' group. It bypasses RBAC.
    rm -f /etc/kubernetes/super-admin.conf
    mark_unit kubernetes "$2"
    # With these digests the next plan detects changes to kubeadm's files.
    for f in "$manifests/etcd.yaml" "$manifests/kube-apiserver.yaml" "$manifests/kube-controller-manager.yaml" \
        "$manifests/kube-scheduler.yaml" /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env; do
        [ ! -e "$f" ] || sha256sum "$f" || return 1
    done >>"$base/units/kubernetes"
}

# Calls the API as administrator; kubectl's cache is removed with the transaction. Only a node's own transaction uses kubectl, if it
# needs the API between two steps of kubeadm or must fail with it. The operator's side sends all other objects (src/api).
kube() {
    kubectl --cache-dir "$T/kubectl" --kubeconfig /etc/kubernetes/admin.conf --request-timeout 30s "$@"
}

# Prints only kubeadm's error; the full output stays in a file.
run_kubeadm() {
    kubeadm "$@" >"$T/kubeadm.out" 2>&1 && return 0
    # The error and the preflight findings, without colours and tabs.
    plain=$(sed 's/\x1b\[[0-9;]*m//g' "$T/kubeadm.out" | tr '\t' ' ' | grep -v -e '^$' -e '^To see the stack')
    last=$(printf '%s\n' "$plain" | sed -n -e '/^ *\[ERROR /p' -e '/^error/,$p')
    printf '%s\n' "${last:-$plain}" | grep -v '^\[[a-z-]*\]' | cut -c-600 | tail -n 12
    component_logs
    return 1
}

# Configures static pods and the kubelet from the staged files. A component that does not come up is an error, and
# the rollback restores the old manifests.
configure_member() {
    if control_plane; then
        ! grep -q '^  local:' "$staged/kubeadm-init.yaml" || configure_etcd || return 1
        was=$(sha256sum "$manifests/kube-apiserver.yaml" 2>/dev/null)
        run_kubeadm init phase control-plane all --config "$staged/kubeadm-init.yaml" || return 1
        # The kubelet does not restart a pod whose manifest is unchanged.
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

# The API reports a node as Ready for 40 s after its kubelet has ended, and systemd reports a kubelet as active that is about to
# exit. A kubelet that listens has read its configuration.
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

# Configures etcd's static pod. A missing one is not created: it would start a new cluster.
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

# A static pod whose manifest was just exchanged runs with it, and answers.
static_pod_answers() { # component manifest
    member_path
    since=$(stat -c %Z "$2") || return 1
    own=$(sed -n 's/^ *server: *"\{0,1\}\([^"]*\)"\{0,1\} *$/\1/p' /etc/kubernetes/controller-manager.conf)
    case $1 in
    kube-apiserver) url=$own/readyz ;;
    kube-controller-manager) url=https://127.0.0.1:10257/healthz ;;
    kube-scheduler) url=https://127.0.0.1:10259/healthz ;;
    *)
        echo "$1 is not a control plane component"
        return 1
        ;;
    esac
    end=$(($(cut -d. -f1 /proc/uptime) + 240))
    until began_after "$1" "$since" && component_answers "$url"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || {
            printf '%s\n' "$1 did not start with its new manifest, or did not answer $url, within 240 s"
            component_logs
            return 1
        }
        sleep 1
    done
}

began_after() { # component, seconds of the clock
    for p in /proc/[0-9]*; do
        # Both times are in whole seconds, so they may be one off.
        ! { is_component "$p" "$1" && began_at "$p" && [ "$began" -ge $(($2 - 1)) ]; } || return 0
    done
    return 1
}

# Ends a component whose files changed after it read them at its start. The kubelet restarts it.
end_stale() { # component files
    component=$1
    shift
    for p in /proc/[0-9]*; do
        is_component "$p" "$component" && began_at "$p" || continue
        for f in "$@"; do
            # Both times are in whole seconds.
            [ -e "$f" ] && [ "$(stat -c %Z "$f")" -ge $((began - 1)) ] || continue
            kill "${p#/proc/}"
            break
        done
    done
    return 0
}

# Any process can have this name, so only processes of root in the node's network namespace count. The kernel truncates names.
is_component() { # directory in /proc, name
    [ -O "$1" ] && IFS= read -r name <"$1/comm" && [ "$name" = "$(printf %.15s "$2")" ] &&
        [ "$(readlink "$1/ns/net")" = "$(readlink /proc/self/ns/net)" ]
} 2>/dev/null

# Sets `began`, in seconds of the present clock. Fails if the process has ended.
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

# Updates the configuration in the cluster, which the next join or upgrade and kube-proxy use. A cluster without
# kube-proxy does not get one.
tell_cluster() {
    run_kubeadm init phase upload-config all --config "$staged/kubeadm-init.yaml" || return 1
    # kubectl may print warnings, such as about an aggregated API that is down: they are not kube-proxy.
    there=$(kube -n kube-system get daemonset kube-proxy --ignore-not-found -o name 2>"$T/kube.err") || {
        printf '%s\n' "cannot read DaemonSet kube-proxy: $(tail -n 3 "$T/kube.err" | tr '\n' ' ')"
        return 1
    }
    if [ -n "$there" ]; then
        was=$(proxy_configuration)
        run_kubeadm init phase addon kube-proxy --config "$staged/kubeadm-init.yaml" || return 1
        # Its pods read the configuration only at their start.
        [ "$was" = "$(proxy_configuration)" ] ||
            kube -n kube-system rollout restart daemonset kube-proxy >/dev/null || return 1
    fi
    patch_dns
}

# kubeadm applies our CoreDNS patch only when it creates CoreDNS. For an existing one, only the patched fields change.
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

# Checks the components of this node, each at its own port: another node may answer at the endpoint. Health paths need no
# authorization on the loopback address (`--authorization-always-allow-paths`).
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
    # Any certificate will do: without one, kubectl prompts for a user name and a password. A server that is not the real one
    # learns nothing from it.
    https://127.*) set -- "$1" --kubeconfig /dev/null --insecure-skip-tls-verify \
        --client-certificate "$client.crt" --client-key "$client.key" ;;
    http://127.*) set -- "$1" --kubeconfig /dev/null ;;
    *) set -- "$1" --kubeconfig /etc/kubernetes/admin.conf ;;
    esac
    path=/${1##*/}
    shift
    kubectl "$@" --server "$server" --request-timeout 5s get --raw "$path" >/dev/null 2>&1
}

# The last log lines of every component that may be the cause.
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

# Removes the cluster from the node. Continues after failures.
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
    # Deleting would reach the mounted file system.
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
