# The state of a transaction, the node's lock, and what is said to the caller. Part of txn.sh.
#
# Reads and writes `state`, `journal` and the lock of this directory; nothing else of the node.

# No program's output goes here, so whatever looks like an answer is one.
say() { printf '@%s\n' "$*"; }

# Prints the last lines of a program's output, each marked.
tell() { # file
    { tail -n 20 "$1" && echo; } | cut -b-1000 | sed -n 's/..*/@said &/p'
}

# A state is replaced by rename, so that a crash leaves the old or the new one.
set_state() {
    printf '%s\n' "$1" >"$T/state.new" && mv -f "$T/state.new" "$T/state"
}

# Sets `state`.
get_state() {
    state=staged
    [ ! -r "$T/state" ] || IFS= read -r state <"$T/state" || state=
}

journal() { printf '%s\n' "$*" >>"$T/journal"; }

have_systemd() { [ -d /run/systemd/system ]; }

# Our names must be regular files: a shell that opens a directory fails silently, and one that opens a pipe waits.
refuse_strangers() {
    for f in lock touched sequence armed firewall.loaded etcd-data; do
        [ -e "$base/$f" ] || [ -L "$base/$f" ] || continue
        [ ! -f "$base/$f" ] || [ -L "$base/$f" ] || continue
        say "refused $base/$f is not a regular file ($(stat -c %F "$base/$f")): check what it is, move it away (mv $base/$f /root/), then run this again"
        exit 4
    done
}

locked=
lock() {
    [ -z "$locked" ] || return 0
    refuse_strangers
    exec 9>>"$base/lock" || exit 1
    flock -n 9 || {
        say "busy another run holds $base/lock"
        exit 75
    }
    locked=yes
}

# Ends if another transaction waits for its confirmation: its images are of what is there now, and its mark
# is all that the boot guard goes by.
nobody_waits() {
    [ -e "$base/armed" ] || return 0
    open=$(cat "$base/armed" 2>/dev/null)
    [ "$open" != "$id" ] || return 0
    case $(cat "$base/txn/${open:-none}/state" 2>/dev/null) in
    switching | switched | reverting)
        say "busy $open is not confirmed yet"
        exit 75
        ;;
    esac
}
