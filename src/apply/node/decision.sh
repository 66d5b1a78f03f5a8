# Who decides about a transaction: the timer that is armed, the controller that confirms, and which of them was first.
# Part of txn.sh.
#
# Reads and writes `armed` of the node, the timer, `say.*` and `decision`.

# From here on the node rolls back by itself unless the change is confirmed: also when this shell, the network or
# the controller dies (timer), and when the node reboots (boot guard).
arm() {
    printf '%s\n' "$id" >"$base/armed" || return 1
    sync "$base/armed" 2>/dev/null
    if have_systemd; then
        systemctl -q is-enabled kubastion-guard.service || return 1
        systemd-run -q --collect --on-active="${1}s" --timer-property=AccuracySec=100ms \
            --unit="kubastion-revert-$id" /bin/sh "$T/txn.sh" revert timeout || return 1
    else
        # The deadline is of the monotonic clock: a wall clock that jumps must not matter.
        (
            exec >/dev/null 2>&1 9>&-
            trap '' HUP
            # shellcheck disable=SC2016 # it expands them itself
            exec setsid /bin/sh -c '
                end=$(($(cut -d. -f1 /proc/uptime) + $2))
                while [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do sleep 1; done
                exec /bin/sh "$1" revert timeout' sh "$T/txn.sh" "$1"
        ) &
    fi
    : >"$T/armed"
    news="armed $id $1"
}

disarm() {
    # Keep another transaction's mark.
    if [ -e "$base/armed" ]; then
        case $(cat "$base/armed" 2>/dev/null) in "$id" | '') rm -f "$base/armed" ;; esac
    fi
    if have_systemd && [ -e "$T/armed" ]; then
        systemctl stop "kubastion-revert-$id.timer" 2>/dev/null
    fi
    return 0
}

# link(2) fails if the name exists, so only one decision can be made. Its content was on the disk before, so whoever finds
# the decision can read it. It needs no space on a full disk.
decide() { ln "$T/say.$1" "$T/decision" 2>/dev/null; }

decided() { cat "$T/decision" 2>/dev/null; }

# No decision is made during a rollback, and only one rollback runs at a time.
deciding() { # seconds
    exec 8>>"$T/decision.lock"
    flock -w "$1" 8
}

# The deadline passed during the switch, or the connection broke and another one requested the rollback. What was
# undone is not done again.
overtaken() {
    deciding 300
    get_state
    say "state $state"
    exit 6
}
