# Reports why an etcd member does not come up, from systemd and the journal or from the log of its static pod: how often it was
# restarted, then its last log lines. Changes nothing.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
restarts=$(systemctl show etcd.service -p NRestarts --value 2>/dev/null)
case $restarts in '' | *[!0-9]*) restarts=0 ;; esac
echo "@restarts $restarts"
all=$(journalctl -u etcd.service -n 80 --no-pager -o cat 2>/dev/null)
# A static pod's logs are in files, one for each start, with a head by the container runtime before each line.
# shellcheck disable=SC2012 # by time; the kubelet names these files
log=$(ls -1t /var/log/pods/kube-system_etcd-*/etcd/*.log 2>/dev/null | head -n 1)
if [ -e /etc/kubernetes/manifests/etcd.yaml ] && [ -n "$log" ]; then
    all=$(tail -n 80 "$log" | sed 's/^[^ ]* std[a-z]* [FP] //')
fi
# Leave out call stacks and warnings: they rarely show the cause.
bad=$(printf '%s\n' "$all" | grep -e '^{"level":"\(error\|fatal\|panic\|dpanic\)"' -e '^panic: ' -e '^etcd.service: Main')
printf '%s\n' "${bad:-$all}" | sed 's/,"stacktrace":.*/}/' | cut -c-400 | tail -n 4 | sed 's/^/@said /'
