# The rollback of a transaction: by its timer, the boot guard, the controller, or `kubastion rollback`. Part of txn.sh.
#
# Reads `state`, `decision` and the other transactions; images.sh restores what the steps changed.

stop_switching() {
    [ -e "$T/pid" ] || return 0
    pid=$(cat "$T/pid")
    [ "$pid" != $$ ] || return 0
    # Only if that process still is this transaction's shell.
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -e "$T/txn.sh switch" -e "$T/txn.sh begin" || return 0
    # With what it started. sshd makes it lead a process group; below sudo it is in sudo's.
    children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
    # shellcheck disable=SC2086 # a list
    kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" $children 2>/dev/null
    tries=0
    while [ -s "/proc/$pid/cmdline" ] && [ "$tries" -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    return 0
}

finish_revert() { # reason
    remove_proof_table
    rm -f "$T/ballast"
    set_state reverting
    printf '%s\n' "$1" >"$T/reason"
    if restore "$1" >"$T/restore.out" 2>&1; then
        forget_first
        rm -rf "$T/files" "$T/ballast"
        set_state reverted
        disarm
        [ ! -s "$T/given-up" ] || while IFS= read -r path; do
            say "note $path is not restored: its image was deleted when the key was removed from this node"
        done <"$T/given-up"
        say "state reverted"
        return 0
    fi
    # The rollback needs only the images.
    rm -rf "$T/files" "$T/ballast"
    tell "$T/restore.out"
    set_state incomplete
    disarm
    say "state incomplete"
    return 7
}

revert() { # reason
    get_state
    case $state in
    staged | prepared)
        # It may be about to start. Without a lock file it has not started.
        [ ! -e "$T/decision.lock" ] || deciding 300 || exit 7
        get_state
        ;;
    esac
    case $state in
    staged | prepared)
        # Nothing was changed.
        decide revert
        set_state reverted
        disarm
        rm -rf "$T/files" "$T/ballast"
        say "state reverted"
        exit 0
        ;;
    committed | reverted)
        disarm
        get_state
        say "state $state"
        exit 0
        ;;
    esac
    trap '' HUP PIPE
    # A transaction that another controller or a lost connection left running ends by itself; killing a package manager
    # would leave packages half installed.
    case $1 in
    left-open)
        exec 9>>"$base/lock" || exit 1
        flock -w 100 9 || {
            say "busy another run holds $base/lock"
            exit 75
        }
        ;;
    esac
    # Two reverts at once (timer and caller) must not run into each other.
    deciding 300 || exit 7
    get_state
    case $state in
    committed | reverted)
        disarm
        get_state
        say "state $state"
        exit 0
        ;;
    reverting | incomplete)
        # It was interrupted (for example by a reboot), or not everything could be undone.
        ;;
    *)
        # Only a confirmation prevents the rollback, even if nothing can be written any more. An interrupted confirmation is
        # completed.
        decide revert || [ "$(decided)" != confirm ] || commit
        ;;
    esac
    stop_switching
    finish_revert "$1"
    exit $?
}

# A later change builds on this one: undoing only this one would mix the two. The node's own count shows which is later,
# because ids come from the clocks of controllers.
newer_change() {
    ours=$(cat "$T/sequence" 2>/dev/null)
    for d in "$base"/txn/*/; do
        d=${d%/}
        other=${d##*/}
        case $other in *[!0-9a-z-]*) continue ;; esac
        [ "${other%-*}" != "${id%-*}" ] || continue
        theirs=$(cat "$d/sequence" 2>/dev/null)
        [ "${theirs:-0}" -gt "${ours:-0}" ] || continue
        # What it did stays anyway, as with packages: nothing of it goes back, before or after.
        [ -s "$d/before" ] || [ ! -e "$d/before" ] || continue
        case $(cat "$d/state" 2>/dev/null) in
        staged | prepared | reverted) ;;
        *) echo "$other" && return 0 ;;
        esac
    done
    return 1
}

# Rolls back a committed transaction at the operator's request.
undo() {
    lock
    nobody_waits
    trap '' HUP PIPE
    get_state
    case $state in
    committed | incomplete | reverting)
        if other=$(newer_change); then
            say "refused $other builds on it: roll back $other first"
            exit 4
        fi
        deciding 300 || exit 7
        # If the node goes down during the rollback, the boot guard continues it.
        printf '%s\n' "$id" >"$base/armed"
        finish_revert rollback
        exit $?
        ;;
    *) revert rollback ;;
    esac
}
