# Images that an earlier release took: in those, the target of a link and the value of a kernel setting were written
# into the records, where a user of the node could have put lines that look like others. That release's own program,
# which lies beside them, carries out what is there. So it is looked at first: every record is about something that
# its steps touch, and nothing has two that differ. A line that was put in would stand beside the true one.

# Whether the images of a transaction can be trusted.
images_are_sound() { # transaction
    [ ! -e "$1/images.format" ] || return 0
    [ -s "$1/before" ] || return 0
    twice=$(sort -u "$1/before" | cut -d'|' -f2 | sort | uniq -d)
    [ -z "$twice" ] || return 1
    steps=$(cut -d'|' -f1,2,3 "$1/steps")
    while IFS='|' read -r kind name rest; do
        was_touched "$1" || return 1
    done <"$1/before"
}

was_touched() { # transaction
    nl='
'
    case $kind:$name in
    member:none | data:/var/lib/containerd | swap:on | firewall:loaded | firewall:absent | tables:then*) return 0 ;;
    user:*)
        case $nl$steps in *"${nl}user|$name|"*) return 0 ;; esac
        ;;
    unit:kubelet.service)
        case $nl$steps in *"${nl}member|"*) return 0 ;; esac
        case $nl$steps in *"${nl}unit|kubelet.service|"*) return 0 ;; esac
        ;;
    unit:*)
        case $nl$steps in *"${nl}unit|$name|"*) return 0 ;; esac
        ;;
    sysctl:/proc/sys/*)
        for key in $(printf '%s\n' "$steps" | sed -n 's/^sysctl|\([^|]*\)|.*/\1/p' | tr . /); do
            [ "$name" != "/proc/sys/$key" ] || return 0
        done
        ;;
    absent:/* | file:/* | dir:/* | link:/*)
        case $name in
        # Of programs, units and daemons: what those steps note for themselves.
        "$base"/programs/* | "$base"/units/* | "$base/firewall.loaded")
            case ${name#"$base"/*/} in */*) ;; *) return 0 ;; esac
            ;;
        /etc/fstab)
            case $nl$steps$nl in *"${nl}swapoff$nl"*) return 0 ;; esac
            ;;
        /etc/kubernetes/manifests/* | /var/lib/kubelet/config.yaml | /var/lib/kubelet/instance-config.yaml | \
            /var/lib/kubelet/kubeadm-flags.env | /usr/libexec/kubernetes | /usr/libexec/kubernetes/* | /usr/lib/modules)
            case $nl$steps in *"${nl}member|"*) return 0 ;; esac
            ;;
        esac
        case $nl$steps$nl in
        *"${nl}dir|$name|"* | *"${nl}mode|$name|"* | *"${nl}remove|$name$nl"* | *"${nl}program|"*"|$name$nl"*) return 0 ;;
        esac
        # What was put in place, by its digest.
        grep -qxE -e '[0-9a-f]{64}  .*' "$1/final" && cut -c67- "$1/final" | grep -qxF -e "$name" && return 0
        ;;
    esac
    return 1
}
