# Units of systemd and the rules of the firewall: started, reloaded, loaded. Part of txn.sh.
#
# Reads what systemd and nft say; writes the state of units, their marks, the table `inet kubastion` and the record of it.
# images.sh has the way back.

mark_unit() { # unit digest
    mkdir -p "$base/units" && printf '%s\n' "$2" >"$base/units/$1"
}

# Inodes of the TCP sockets that a process listens on.
listening() { # pid
    sockets=$(ls -l "/proc/$1/fd" 2>/dev/null)
    cat "/proc/$1/net/tcp" "/proc/$1/net/tcp6" 2>/dev/null |
        while read -r _ _ _ socket_state _ _ _ _ _ inode _; do
            [ "$socket_state" = 0A ] || continue
            case $sockets in *"socket:[$inode]"*) printf ' %s' "$inode" ;; esac
        done
}

# sshd reloads its files by executing itself again some time after the signal. Until then the old one answers, and a
# new connection would prove nothing; then nobody answers for a moment. The new one has other sockets, or, if systemd
# holds those, other addresses (AT_RANDOM and the like, proc(5) of auxv).
reload_unit() { # unit
    case $1 in
    ssh.service | sshd.service) ;;
    *)
        systemctl reload "$1"
        return
        ;;
    esac
    # Where systemd holds the port, executing itself anew ends in asking for it in vain. Connections wait at the socket
    # meanwhile, and those that are there stay (KillMode=process).
    if systemctl -q is-active "${1%.service}.socket"; then
        systemctl reset-failed "$1" 2>/dev/null
        systemctl restart "$1"
        return
    fi
    main=$(systemctl show -p MainPID --value "$1")
    before="$(cksum 2>/dev/null <"/proc/$main/auxv") $(listening "$main")"
    systemctl reload "$1" || return 1
    tries=0
    while :; do
        sockets=$(listening "$main")
        [ -z "$sockets" ] || [ "$(cksum 2>/dev/null <"/proc/$main/auxv") $sockets" = "$before" ] || return 0
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] || {
            echo "$1 still runs with its old files 20 s after it was told to reload"
            return 1
        }
        sleep 0.1
    done
}

run_unit() { # unit enabled active change digest wait
    case $2 in
    yes) systemctl enable "$1" 2>&1 || return 1 ;;
    no) systemctl disable "$1" 2>&1 || return 1 ;;
    esac
    block=
    [ "$6" = wait ] || block=--no-block
    case $3 in
    yes)
        if [ "$4" = restart ] || ! systemctl -q is-active "$1"; then
            systemctl reset-failed "$1" 2>/dev/null
            systemctl $block restart "$1" || return 1
        elif [ "$4" = reload ]; then
            reload_unit "$1" || return 1
        fi
        ;;
    no) systemctl stop "$1" || return 1 ;;
    esac
    [ "$5" = - ] || mark_unit "$1" "$5"
}

# Variables that etcd reads only while it has no data, for one start. If they stayed, a member that lost its data would
# come back under its old id, and might vote twice.
join_etcd() { # members
    drop_in=/run/systemd/system/etcd.service.d/kubastion-join.conf
    variables=/run/kubastion-etcd-join.conf
    data=/var/lib/etcd
    systemctl stop etcd.service 2>/dev/null
    if [ -e "$data/member" ] || [ -L "$data/member" ]; then
        mv -nT "$data/member" "$data/removed-$(date -u +%Y%m%dT%H%M%SZ)" && [ ! -e "$data/member" ] || {
            echo "$data/member cannot be moved aside"
            return 1
        }
    fi
    mkdir -p "${drop_in%/*}" &&
        printf 'ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER=%s\n' "$1" >"$variables" &&
        printf '[Service]\nEnvironmentFile=%s\n' "$variables" >"$drop_in" && systemctl daemon-reload || return 1
    systemctl reset-failed etcd.service 2>/dev/null
    systemctl --no-block start etcd.service
    # systemd reports it as started once it has joined.
    tries=0 joined=0
    until systemctl -q is-active etcd.service; do
        tries=$((tries + 1))
        [ "$tries" -lt 90 ] || {
            joined=1
            break
        }
        sleep 1
    done
    rm -f "$drop_in" "$variables"
    rmdir "${drop_in%/*}" 2>/dev/null
    systemctl daemon-reload
    [ "$joined" -eq 0 ] || {
        echo "etcd did not join the cluster within 90 s"
        journalctl -u etcd.service -n 40 --no-pager -o cat 2>/dev/null | grep '"level":"\(error\|fatal\|panic\)"' | tail -n 3
        return 1
    }
}

# Turns a static pod member into a service. Its name and id are in its data, so they stay.
etcd_from_pod() { # manifest
    data=/var/lib/etcd
    rm -f "$1" || return 1
    # The service has the data already, and a manifest that somebody put beside it cannot start.
    ! systemctl -q is-active etcd.service || return 0
    # etcd holds a lock on its database for as long as it runs, whatever it is called. The kubelet sees within 20 s that a
    # manifest is gone.
    tries=0
    until flock -n -x "$data/member/snap/db" true; do
        tries=$((tries + 1))
        [ "$tries" -lt 90 ] || {
            echo "etcd's static pod still has its data open 90 s after its manifest was removed: check \`systemctl status kubelet\`"
            return 1
        }
        sleep 1
    done
    chown -RhP etcd:etcd "$data"
}

load_firewall() { # rules file
    nft -f "$1" || return 1
    record_firewall "$1"
}

record_firewall() {
    file=$(sha256sum <"$1") && listing=$(own_rules | sha256sum) || return 1
    printf '%s %s\n' "${file%% *}" "${listing%% *}" >"$base/firewall.loaded.new" &&
        mv -f "$base/firewall.loaded.new" "$base/firewall.loaded"
}
