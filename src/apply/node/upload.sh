# Writes the ConfigMaps of kubeadm and kube-proxy again, on a control plane whose files are correct. Follows member.sh, the other
# part of this program. Reads nothing; on failure it prints the reason and exits with 1.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
base=/var/lib/kubastion
T=$(mktemp -d) || exit 1
trap 'rm -rf "$T"' EXIT
member_path
control_plane || {
    echo 'there is no kubeadm-init.yaml on this node'
    exit 1
}
# After a rollback that changed its manifest, the kubelet restarts the API server some time later.
n=0
until tell_cluster >"$T/said" 2>&1; do
    n=$((n + 1))
    [ "$n" -lt 20 ] || {
        tail -c 2000 "$T/said"
        exit 1
    }
    sleep 3
done
