# Takes images of what a transaction touches, and restores them. On a node this and txn.sh, which defines `T`,
# `base`, `nl`, `say` and `have_systemd`, are one program.
#
# A directory may belong to a service user, who can choose names and link targets in it. So no text from the node becomes
# part of a record: `before` holds lines `kind|name|...` whose fields come from the plan, are numbers, or are words of a
# fixed list. Everything else is kept apart, by number:
#   before.list, before.tar   regular files, by their paths
#   before.d/N                a link as it was, the value of a kernel setting, the swap areas in use
#   before.nft                our firewall table
# `images.format` is 2. An image without it is of an older format, in which targets of links were written into the records:
# old-images.sh.

# Sets `number` for the next item that is kept.
keep_next() {
    [ "$number" -gt 0 ] || mkdir "$T/before.d" || unfit="$unfit $T/before.d"
    number=$((number + 1))
}

image_path() { # path
    if [ -L "$1" ]; then
        keep_next
        # The link itself, not its target. It may have been replaced since the check.
        cp -RPp "$1" "$T/before.d/$number" && [ -L "$T/before.d/$number" ] || unfit="$unfit $1"
        printf 'link|%s|%s\n' "$1" "$number" >>"$T/before"
    elif [ -d "$1" ]; then
        access=$(stat -c '%a|%u|%g' "$1")
        case $access in '' | *[!0-9\|]*) unfit="$unfit $1" ;; esac
        printf 'dir|%s|%s\n' "$1" "$access" >>"$T/before"
    elif [ -f "$1" ]; then
        printf '%s\n' "${1#/}" >>"$T/before.list"
        printf 'file|%s\n' "$1" >>"$T/before"
    elif [ -S "$1" ] && [ "$kind" = mode ]; then
        # Of a socket there is only who may use it.
        access=$(stat -c '%a|%u|%g' "$1")
        case $access in '' | *[!0-9\|]*) unfit="$unfit $1" ;; esac
        printf 'socket|%s|%s\n' "$1" "$access" >>"$T/before"
    elif [ -e "$1" ]; then
        # Reading a pipe would block.
        unfit="$unfit $1"
    else
        printf 'absent|%s\n' "$1" >>"$T/before"
    fi
}

has_step() { # beginning
    grep -q "^$1" "$T/steps"
}

image_unit() { # name
    enabled=$(systemctl is-enabled "$1" 2>/dev/null)
    case $enabled in
    enabled | enabled-runtime | linked | linked-runtime | alias | masked | masked-runtime | static | indirect | \
        disabled | generated | transient | bad) ;;
    *) enabled=none ;;
    esac
    active=$(systemctl is-active "$1" 2>/dev/null)
    case $active in
    active | reloading | inactive | failed | activating | deactivating | maintenance | refreshing | unknown) ;;
    *) active=inactive ;;
    esac
    printf 'unit|%s|%s|%s\n' "$1" "$enabled" "$active" >>"$T/before"
}

# Records which iptables tables exist. If they cannot be listed, none is deleted later.
image_tables() {
    tables=$(nft list tables 2>/dev/null) || return 0
    then=
    for t in 'ip filter' 'ip nat' 'ip mangle' 'ip6 filter' 'ip6 nat' 'ip6 mangle'; do
        case $nl$tables$nl in *"${nl}table $t$nl"*) then="$then table $t" ;; esac
    done
    printf 'tables|then%s \n' "$then" >>"$T/before"
}

group_id() { # name
    sed -n "s/^$1:[^:]*:\([0-9]\{1,\}\):.*/\1/p" /etc/group | head -n 1
}

take_images() {
    number=0 unfit=
    : >"$T/before"
    : >"$T/before.list"
    echo 2 >"$T/images.format" || return 1
    while IFS='|' read -r kind a b rest; do
        case $kind in
        dir | mode | remove) image_path "$a" ;;
        program)
            image_path "$b"
            program_record "$b"
            image_path "$record"
            # A reset must not delete what others put there.
            case $b in */containerd)
                [ -z "$(ls -A /var/lib/containerd/io.containerd.content.v1.content/blobs/sha256 2>/dev/null)" ] ||
                    echo 'data|/var/lib/containerd' >>"$T/before"
                ;;
            esac
            ;;
        member)
            # shellcheck source=/dev/null # checked together with this file
            . "$T/member.sh"
            if is_member; then
                # By name: what else is in that directory is not touched.
                for f in "$manifests/kube-apiserver.yaml" "$manifests/kube-controller-manager.yaml" \
                    "$manifests/kube-scheduler.yaml" "$manifests/etcd.yaml" /var/lib/kubelet/config.yaml \
                    /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/kubeadm-flags.env; do
                    [ ! -e "$f" ] || image_path "$f"
                done
                image_path "$base/units/kubernetes"
                image_unit kubelet.service
            else
                echo 'member|none' >>"$T/before"
                image_tables
                # The kubelet and kube-proxy's pod make these where they are not.
                for f in $made_by_members; do
                    [ -e "$f" ] || image_path "$f"
                done
            fi
            ;;
        files)
            for f in "$T/files/$a${b%/}"/*; do image_path "${b%/}/${f##*/}"; done
            ;;
        sysctl)
            p=/proc/sys/$(printf %s "$a" | tr . /)
            [ ! -r "$p" ] || {
                keep_next
                cat "$p" >"$T/before.d/$number" || return 1
                printf 'sysctl|%s|%s\n' "$p" "$number" >>"$T/before"
            }
            ;;
        swapoff)
            image_path /etc/fstab
            [ -z "$(sed 1d /proc/swaps)" ] || {
                keep_next
                cat /proc/swaps >"$T/before.d/$number" || return 1
                printf 'swap|on|%s\n' "$number" >>"$T/before"
            }
            ;;
        user)
            # Whether it is made is noted when it is; a group of its name may be somebody's.
            id "$a" >/dev/null 2>&1 || {
                gid=$(group_id "$a")
                printf 'user|%s|%s\n' "$a" "${gid:-none}" >>"$T/before"
            }
            ;;
        firewall | firewall-absent)
            if nft list table inet kubastion >"$T/before.nft" 2>/dev/null; then
                echo 'firewall|loaded' >>"$T/before"
            else
                rm -f "$T/before.nft"
                echo 'firewall|absent' >>"$T/before"
            fi
            image_path "$base/firewall.loaded"
            ;;
        etcd-join)
            image_path /run/systemd/system/etcd.service.d/kubastion-join.conf
            image_path /run/kubastion-etcd-join.conf
            : >"$base/etcd-data" || return 1
            rm -f "$base/etcd-was-member"
            has_step 'unit|etcd\.service|' || image_unit etcd.service
            ;;
        etcd-from-pod)
            image_path "$a"
            access=$(stat -c '%u|%g' /var/lib/etcd/member)
            case $access in '' | *[!0-9\|]*) unfit="$unfit /var/lib/etcd/member" ;; esac
            printf 'owner|/var/lib/etcd|%s\n' "$access" >>"$T/before"
            ;;
        stale) image_path "$base/units/$a" ;;
        unit)
            # What etcd finds there later is its own, also after a way back that keeps it.
            [ "$a" != etcd.service ] || [ -e /var/lib/etcd/member ] || {
                : >"$base/etcd-data" || return 1
                rm -f "$base/etcd-was-member"
            }
            image_unit "$a"
            image_path "$base/units/$a"
            ;;
        esac
    done <"$T/steps"
    [ -z "$unfit" ] || {
        say "refused not a file, directory or link, or changed while it was read:$unfit"
        exit 4
    }
    if [ -s "$T/before.list" ]; then
        # Each with its own content: what of a second link to a file came out in part could not be seen.
        tar -C / --hard-dereference -cf "$T/before.tar" -T "$T/before.list" || return 1
    fi
    # Now, and not when it is needed: the disk may be full then, and it is the order of the way back.
    reverse=
    while IFS= read -r line; do reverse=$line$nl$reverse; done <"$T/before"
    printf %s "$reverse" >"$T/before.reverse" || return 1
    # Reserve space now: a full disk must not prevent a decision or a rollback, which needs the images once more, each file's
    # copy next to it, and some small files.
    echo confirm >"$T/say.confirm" && echo revert >"$T/say.revert" && : >"$T/decision.lock" || return 1
    images=0
    [ ! -e "$T/before.tar" ] || images=$(stat -c %s "$T/before.tar") || return 1
    fallocate -l $((2 * images + 262144)) "$T/ballast" || return 1
    # The images, and the files that will be renamed into place, must survive a power cut. One flush of the file system is
    # enough; a flush per file is a journal commit each, which took ten times as long.
    sync -f "$T/." 2>/dev/null || sync
}

# Whether two links have the same target, byte by byte: a command substitution drops trailing line breaks.
same_link() { # link link
    [ -L "$1" ] && [ -L "$2" ] && [ "$(readlink "$1" && echo .)" = "$(readlink "$2" && echo .)" ]
}

restore_path() { # kind path rest
    dir=${2%/*}
    case $1 in
    absent)
        if [ -d "$2" ] && [ ! -L "$2" ]; then
            rmdir "$2" 2>/dev/null || {
                # Data that a service created in the meantime (etcd's) is never deleted.
                echo "kept $2: it is not empty"
                return 0
            }
        else
            rm -f "$2"
        fi
        ;;
    file)
        image=$T/restore/${2#/}
        # It may have become something else between the look at it and its image.
        [ -f "$image" ] && [ ! -L "$image" ] || return 1
        # What was never changed is not written: it may be on a file system that cannot be.
        if [ -f "$2" ] && [ ! -L "$2" ] && [ "$(sha256sum <"$image")" = "$(sha256sum <"$2")" ] &&
            [ "$(stat -c '%a %u %g' "$image")" = "$(stat -c '%a %u %g' "$2")" ]; then
            return 0
        fi
        # Where the disk was full, the last one came out in part.
        [ -z "$partial" ] || tar -C "$T/restore" -df "$T/before.tar" "${2#/}" || return 1
        mkdir -p "$dir" && cp -p --remove-destination "$image" "$dir/.kubastion.restore" &&
            mv -fT "$dir/.kubastion.restore" "$2" && relabel "$2"
        ;;
    dir)
        [ ! -d "$2" ] || [ -L "$2" ] || [ "$(stat -c '%a|%u|%g' "$2")" != "$3" ] || return 0
        IFS='|' read -r mode uid gid <<META
$3
META
        [ -d "$2" ] || mkdir -p "$2" || return 1
        set_access "$2" "$uid" "$gid" "$mode"
        ;;
    socket)
        # Its daemon may have made another one, or ended.
        [ -S "$2" ] || return 0
        IFS='|' read -r mode uid gid <<META
$3
META
        set_access "$2" "$uid" "$gid" "$mode"
        ;;
    link)
        [ -L "$T/before.d/$3" ] || return 1
        ! same_link "$2" "$T/before.d/$3" || return 0
        rm -f "$dir/.kubastion.restore" && cp -RPp "$T/before.d/$3" "$dir/.kubastion.restore" &&
            mv -fT "$dir/.kubastion.restore" "$2"
        ;;
    esac
}

run_as_before() { # unit state
    case $1 in
    ssh.service | sshd.service)
        # Never stop a running sshd: if its files had a mistake before this run, it would not come up again, and nobody
        # could log in to fix it.
        if systemctl -q is-active "$1"; then
            if sshd -t; then reload_unit "$1"; else echo "$1 keeps running with its old settings"; fi
            return
        fi
        ;;
    esac
    case $2 in
    # It was starting, or failing repeatedly, before the run: that it still does is not a failure of the rollback.
    activating) systemctl --no-block restart "$1" || echo "$1 does not start; it did not start before this run either" ;;
    *) systemctl restart "$1" ;;
    esac
}

# Whether a step that changes or starts this unit was begun. `last_step` is only known after a failure.
was_begun() { # unit
    [ -n "$last_step" ] || return 0
    head -n "$last_step" "$T/steps" | grep -q -e "^unit|$1|" -e '^member|' -e '^etcd-join|'
}

# Removes a user that this transaction created, and leaves the group of the same name as it was.
unmake_user() { # name group
    grep -qsxF -e "$1" "$T/made-users" || return 0
    ! id "$1" >/dev/null 2>&1 || userdel "$1" || return 1
    case $2 in
    # Of a useradd that ended half way.
    none) [ -z "$(group_id "$1")" ] || groupdel "$1" ;;
    # userdel takes it along.
    *) [ -n "$(group_id "$1")" ] || groupadd --system --gid "$2" "$1" ;;
    esac
}

swaps_are_on() { # listing
    while IFS=' ' read -r name _; do
        case $name in /*) sed 's/[[:space:]].*//' /proc/swaps | grep -qxF -e "${name%%	*}" || return 1 ;; esac
    done <"$1"
}

restore_firewall() { # state
    case $1 in
    # Where it cannot be listed, as before, it cannot be there.
    absent) ! nft list table inet kubastion >/dev/null 2>&1 || nft delete table inet kubastion ;;
    *)
        {
            echo 'table inet kubastion'
            echo 'delete table inet kubastion'
            [ ! -s "$T/before.nft" ] || cat "$T/before.nft"
        } | nft -f -
        ;;
    esac
}

manifests_now() { (cd /etc/kubernetes/manifests 2>/dev/null && sha256sum -- *.yaml 2>/dev/null); }

# The kubelet is about to be restarted. A kubelet that ends while it replaces a static pod starts the new pod minutes later, and
# nothing works without etcd or an API server until then. A stopped kubelet replaces nothing.
pods_are_exchanged() { # manifests as they were
    have_systemd && systemctl -q is-active kubelet.service || return 0
    # shellcheck source=/dev/null # checked together with this file
    . "$T/member.sh"
    since=$(date +%s) tries=0
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
        line=$(manifests_now | grep " $component.yaml$") || continue
        case $nl$1$nl in *"$nl$line$nl"*) continue ;; esac
        until began_after "$component" "$since" || [ "$tries" -ge 90 ]; do
            tries=$((tries + 1))
            sleep 1
        done
    done
}

# Undoes everything, in reverse order, and continues after failures. Can be repeated.
restore() { # reason
    failed=0
    [ -e "$T/before" ] || {
        echo "$T/before is missing: the earlier state is unknown"
        return 1
    }
    [ -s "$T/before" ] || return 0
    rm -rf "$T/restore" "$T/ballast"
    mkdir "$T/restore" || failed=1
    partial=
    if [ -s "$T/before.tar" ]; then
        tar -C "$T/restore" -xpf "$T/before.tar" || failed=1 partial=yes
    fi
    # The same lines, so as long. Without them all, success would be said of nothing.
    forward=
    sizes=$(stat -c %s "$T/before" "$T/before.reverse" 2>/dev/null)
    [ "${sizes%%"$nl"*}" = "${sizes##*"$nl"}" ] && [ "${sizes%%"$nl"*}" != "$sizes" ] ||
        sed -n '1!G;h;$p' "$T/before" >"$T/before.reverse" || {
        echo "$T/before.reverse can be neither read nor rewritten"
        rm -f "$T/before.reverse"
        # What is there goes by the other order, which may leave directories; the next try makes it anew.
        ln "$T/before" "$T/before.reverse"
        failed=1 forward=yes
    }
    if grep -q '^member|none' "$T/before"; then
        # shellcheck source=/dev/null # checked together with this file
        . "$T/member.sh"
        leave_cluster || failed=1
    fi
    if [ "$1" != boot ] && have_systemd; then
        while IFS='|' read -r kind name enabled active; do
            [ "$kind" = unit ] && was_begun "$name" || continue
            case $active in active | activating | reloading | refreshing) ;; *) systemctl stop "$name" 2>/dev/null ;; esac
        done <"$T/before.reverse"
    fi
    if have_systemd; then
        while IFS='|' read -r kind name enabled active; do
            [ "$kind" = unit ] && was_begun "$name" || continue
            case $enabled in enabled | static | indirect | alias | generated) ;; *) systemctl disable "$name" 2>/dev/null ;; esac
        done <"$T/before.reverse"
    fi
    was=$(manifests_now)
    while IFS='|' read -r kind a rest; do
        case $kind in
        absent | file | dir | link | socket)
            restore_path "$kind" "$a" "$rest" || {
                echo "could not restore $a"
                failed=1
            }
            ;;
        esac
    done <"$T/before.reverse"
    [ "$1" = boot ] || [ "$was" = "$(manifests_now)" ] || pods_are_exchanged "$was"
    ! have_systemd || systemctl daemon-reload || failed=1
    # The kernel still uses the rules that were loaded; a boot loads the restored files. A container shares its host's
    # kernel.
    if [ "$1" != boot ] && grep -q '|/etc/audit/rules\.d/' "$T/before" && command -v augenrules >/dev/null &&
        have_systemd && ! systemd-detect-virt -qc; then
        # Rules that were locked (`-e 2`) stay until the next boot.
        augenrules --load >/dev/null 2>&1 || echo 'the previous audit rules are loaded at the next boot'
    fi
    while IFS='|' read -r kind a b c; do
        case $kind in
        sysctl)
            # Interfaces of pods come and go.
            case $a in */conf/*) [ -e "$a" ] || continue ;; esac
            [ "$1" = boot ] || [ "$(cat "$T/before.d/$b")" = "$(cat "$a")" ] || cat "$T/before.d/$b" >"$a" || {
                echo "could not restore $a"
                failed=1
            }
            ;;
        swap)
            # What of it could not be switched on before us cannot be now.
            [ "$1" = boot ] || swaps_are_on "$T/before.d/$b" || swapon -a || swaps_are_on "$T/before.d/$b" || failed=1
            ;;
        user)
            unmake_user "$a" "$b" || {
                echo "could not remove user $a"
                failed=1
            }
            ;;
        firewall)
            [ "$1" = boot ] || restore_firewall "$a" || failed=1
            ;;
        owner)
            chown -RhP "$b:$c" "$a" || {
                echo "could not restore the owner of $a"
                failed=1
            }
            ;;
        unit)
            have_systemd && was_begun "$a" || continue
            case $b in enabled) systemctl enable "$a" >/dev/null 2>&1 || failed=1 ;; esac
            case $c in
            active | activating | reloading | refreshing)
                [ "$1" = boot ] || run_as_before "$a" "$c" || {
                    echo "$a ran before, but does not start"
                    failed=1
                }
                ;;
            esac
            ;;
        esac
    done <"$T/before"
    rm -rf "$T/restore"
    [ -z "$forward" ] || rm -f "$T/before.reverse"
    return $failed
}

# Deletes the images of removed files that held a secret: otherwise a key that was removed from this node would stay in the
# images of this and earlier runs.
give_up_images() {
    [ -s "$T/forget" ] || return 0
    records=
    while IFS= read -r path; do records=$records${records:+$nl}"file|$path"; done <"$T/forget"
    # shellcheck disable=SC2013 # ids have no blanks
    for holder in $(grep -lsxF -e "$records" "$base"/txn/*/before); do
        thin_out "${holder%/before}" || {
            rm -rf "${holder%before}thin" "${holder%before}"*.thin
            say "note the images in ${holder%/before} still hold a key that was removed from this node"
        }
    done
}

thin_out() { # transaction
    mkdir "$1/thin" && tar -C "$1/thin" -xpf "$1/before.tar" || return 1
    names=$(sed 's/^\///' "$T/forget")
    grep -vxF -e "$names" "$1/before.list" >"$1/list.thin" || [ $? -eq 1 ] || return 1
    # None is left of a transaction that had this image alone.
    tar -C "$1/thin" --hard-dereference -cf "$1/tar.thin" -T "$1/list.thin" || return 1
    grep -vxF -e "$records" "$1/before" >"$1/before.thin" || [ $? -eq 1 ] || return 1
    sed -n '1!G;h;$p' "$1/before.thin" >"$1/reverse.thin" || return 1
    # First the records: one without its image could not be carried out.
    grep -xF -e "$records" "$1/before" | sed 's/^file|//' >>"$1/given-up" &&
        mv -f "$1/before.thin" "$1/before" && mv -f "$1/reverse.thin" "$1/before.reverse" &&
        mv -f "$1/tar.thin" "$1/before.tar" && mv -f "$1/list.thin" "$1/before.list" && rm -rf "$1/thin"
}
