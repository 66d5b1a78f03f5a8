# One transaction on a node: prepare, switch, confirm or revert.
#
# Usage: sh txn.sh prepare | switch | begin (both) | confirm | revert REASON | undo | state
#
# Lives in /var/lib/kubastion/txn/ID, beside what it needs:
#   steps       what to do, one step a line, fields separated by `|`; the first of several `dir` or `files` has one field
#               more, which names them all
#   checks      files to test before anything is done
#   expect      sha256sum lines of the files that must still be so before anything is done
#   absent      paths where nothing may be before
#   final       sha256sum lines of the files after the switch
#   files/N/    new files for one directory, below it by their final paths, with their owners and modes
#   forget      paths whose images are given up everywhere when this is final: what held a secret
# and what it writes:
#   before, ...   images of all that the steps touch, see images.sh
#   made-users  users that were not there
#   logins      who could log in
#   proof.nft   the rules by which it is confirmed; `proof` while they are loaded
#   given-up    paths whose images are gone
#   journal     begin and end of every step
#   state       staged, prepared, switching, switched, committed, reverting, reverted, incomplete
#   decision    made once, by whoever decides first: confirm or revert
#   ballast     room for the way back on a disk that gets full meanwhile
#
# POSIX sh with coreutils, grep, sed, tar and util-linux (flock, fallocate); awk, ip and unshare for what a confirmation
# proves (proof.sh); systemd where the node has it. Output for the caller
# starts with `@`; everything else is for people.

set -u
umask 077
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export LC_ALL PATH

# Hundreds of nodes may share their machines: what the shell can do needs no fork.
case $0 in
/*) T=${0%/*} ;;
*/*) T=$(cd "${0%/*}" && pwd) || exit 1 ;;
*) T=$(pwd) || exit 1 ;;
esac
id=${T##*/}
base=${T%/txn/*}
nl='
'
devices=
# A message to print once the step is done.
news=
# The last step that was begun, where one failed.
last_step=

# No program's output goes where this goes: what looks like an answer is one.
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

have_systemd() { [ -d /run/systemd/system ]; }

locked=
lock() {
    [ -z "$locked" ] || return 0
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

# --- prepare: nothing of the node is changed yet ----------------------------------------------

still_as_planned() {
    moved=
    while IFS= read -r path; do
        [ ! -e "$path" ] && [ ! -L "$path" ] || moved="$moved $path"
    done <"$T/absent"
    if [ -s "$T/expect" ] && ! sha256sum -c "$T/expect" >"$T/expect.out" 2>/dev/null; then
        moved="$moved $(grep -v ': OK$' "$T/expect.out" | sed 's/: .*//')"
    fi
    [ -z "$moved" ] || {
        # shellcheck disable=SC2086 # on one line
        say moved $moved
        return 1
    }
}

# Sets `count`: how many transactions were prepared on this node.
last_prepared() {
    count=0
    [ ! -r "$base/sequence" ] || IFS= read -r count <"$base/sequence" || count=0
}

prepare() {
    lock
    get_state
    [ "$state" = staged ] || {
        say "state $state"
        exit 1
    }
    nobody_waits
    still_as_planned || exit 3
    while IFS='|' read -r kind file; do
        case $kind in
        nft)
            nft -c -f "$T/$file" >&2 || {
                say "refused nft does not accept the rules"
                exit 4
            }
            ;;
        esac
    done <"$T/checks"
    take_images || {
        say "refused no image of the present state could be taken"
        exit 4
    }
    ! has_step 'check-logins|' || logins_before
    last_prepared
    count=$((count + 1))
    echo "$count" >"$base/sequence.new" && mv -f "$base/sequence.new" "$base/sequence" || exit 1
    echo "$count" >"$T/sequence" || exit 1
    say prepared
}

# --- switch -----------------------------------------------------------------------------------

journal() { printf '%s\n' "$*" >>"$T/journal"; }

# A rename keeps the label of the staging directory, which confined services may not read.
relabel() { # path...
    [ ! -e /sys/fs/selinux/enforce ] || restorecon -F "$@"
}

# Whether a directory is on the file system of this transaction. All that are there when the first is
# asked about are looked at in one go.
same_device() { # directory
    [ -n "$devices" ] || {
        targets=
        while IFS='|' read -r kind a b c; do
            case $kind in files) [ ! -d "$b" ] || targets="$targets ${b%/}/." ;; esac
        done <"$T/steps"
        # shellcheck disable=SC2086 # a list
        devices=$nl$(stat -c '%d %n' "$T/." $targets)$nl
        device=${devices#"$nl"}
        device=${device%% *}
    }
    case $devices in
    *"$nl$device $1/.$nl"*) return 0 ;;
    *" $1/.$nl"*) return 1 ;;
    esac
    [ "$(stat -c %d "$1/.")" = "$device" ]
}

# The first of several steps that bring files, root's, names them all: where none of the files is there yet, one
# program links them all to their names. What is new appears whole by a link as by a rename, and the staged name goes
# with the staging. If it cannot, each step says for itself what is wrong.
linked=
link_new() { # group=directory...
    sources= groups= new= staged=
    for row in $1; do
        g=${row%%=*} d=${row#*=}
        [ -d "$d" ] && same_device "$d" || return 0
        for f in "$T/files/$g$d"/*; do
            # Of staging that is gone, the pattern would stay, and stand for what is there.
            [ -f "$f" ] || return 0
            f=$d/${f##*/}
            [ ! -e "$f" ] && [ ! -L "$f" ] || return 0
            new="$new $f"
        done
        sources="$sources $T/files/$g/." groups="$groups $g " staged="$staged $T/files/$g"
    done
    # shellcheck disable=SC2086 # lists: paths have no blanks
    cp -rl $sources / 2>/dev/null && relabel $new || {
        # None of them was there; and no rename replaces a file by another name of it.
        set -f
        # shellcheck disable=SC2086 # a list
        rm -f $new
        set +f
        return 0
    }
    linked=$linked$groups
    # Now: taking away the second name of a file counts as a change of the file, and who reads it may have started by the
    # end of the transaction.
    # shellcheck disable=SC2086 # a list
    rm -rf $staged
}

place_files() { # group directory row
    [ -z "$3" ] || link_new "$3"
    case $linked in *" $1 "*) return 0 ;; esac
    from=$T/files/$1${2%/}
    to=${2%/}
    placed=
    if [ -f "$T/owners.$1" ]; then
        while IFS='|' read -r name owner group mode; do
            chown "$owner:$group" "$from/$name" && chmod "$mode" "$from/$name" || return 1
        done <"$T/owners.$1"
    fi
    for f in "$from"/*; do placed="$placed $to/${f##*/}"; done
    # rename(2) replaces each file at once, if the staged one is on the same file system. Every fork
    # counts here: hundreds of nodes do this at the same time.
    if same_device "$to"; then
        mv -f "$from"/* "$to/" || return 1
    else
        for f in "$from"/*; do
            leaf=${f##*/}
            cp -p --remove-destination "$f" "$to/.$leaf.kubastion" && sync "$to/.$leaf.kubastion" 2>/dev/null
            mv -f "$to/.$leaf.kubastion" "$to/$leaf" || {
                rm -f "$to/.$leaf.kubastion"
                return 1
            }
        done
    fi
    # Paths have no spaces: `path` in plan/model.rs sees to that.
    # shellcheck disable=SC2086 # a list
    relabel $placed
}

# Directories that belong to a service's user are that user's to play with: nothing here follows a
# link or writes into a file that it may have put there.
set_access() { # path owner group mode
    [ ! -L "$1" ] && chown -h "$2:$3" "$1" && [ ! -L "$1" ] && chmod "$4" "$1"
}

# Sets `record`: where the digest of a program is kept with what says that it is unchanged.
program_record() { # path
    record=$base/programs/${1##*/}.$(printf %s "$1" | cksum | tr ' ' -)
}

place_program() { # digest path owner group mode
    from=$base/blobs/$1
    if [ ! -f "$from" ]; then
        # It may be in its place from before this was cut off.
        [ "$(sha256sum 2>/dev/null <"$2")" = "$1  -" ] || {
            echo "$2 was not sent"
            return 1
        }
        return 0
    fi
    new=${2%/*}/.${2##*/}.kubastion
    # A rename where that is possible: the blob is needed no more.
    mv -f "$from" "$new" && chown "$3:$4" "$new" && chmod "$5" "$new" && mv -f "$new" "$2" &&
        relabel "$2" || {
        rm -f "$new"
        return 1
    }
    found=$(sha256sum <"$2")
    [ "${found%% *}" = "$1" ] || {
        echo "$2 is not what was sent"
        return 1
    }
    program_record "$2"
    mkdir -p "$base/programs" && rm -f "$record" &&
        printf '%s %s\n' "$1" "$(stat -c '%s %i %.9Y %.9Z %n' "$2")" >"$record"
}

# The first of several steps that make directories of the same access, root's, names them all: one program
# makes what is not there. If it cannot, each step says for itself what is wrong.
made=
make_directories() { # mode paths
    new=
    for p in $2; do [ -e "$p" ] || [ -L "$p" ] || new="$new $p"; done
    # shellcheck disable=SC2086 # a list
    [ -z "$new" ] || ! mkdir -m "$1" $new 2>/dev/null || made="$made$new "
}

# In the namespace of the kubelet; pinned, so that the kubelet does not collect what cannot be pulled.
take_in_images() { # digest references
    PATH=/usr/local/bin:$PATH
    archive=$base/blobs/$1
    [ -f "$archive" ] || {
        echo "the archive of $2 was not sent"
        return 1
    }
    ctr -n k8s.io images import --local "$archive" 2>&1 || ctr -n k8s.io images import "$archive" 2>&1 || {
        # Its name is not proof after a power cut; with it here, it would never be sent again.
        [ "$(sha256sum <"$archive")" = "$1  -" ] || {
            printf '%s\n' "the archive of $2 was damaged on this node; the next run sends it again"
            rm -f "$archive"
        }
        return 1
    }
    for i in $2; do
        ctr -n k8s.io images label "$i" io.cri-containerd.pinned=pinned >/dev/null || {
            echo "$i is not in containerd after its archive was taken in"
            return 1
        }
    done
    # With the digest, since a name can be given to another image later.
    there=$(
        ctr -n k8s.io images ls | while read -r name _ digest _; do
            case " $2 " in *" $name "*) printf '%s\n' "$name $digest" ;; esac
        done
    )
    mkdir -p "$base/images" && printf '%s\n' "$there" >"$base/images/$1" && rm -f "$archive"
}

load_firewall() { # rules file
    nft -f "$1" || return 1
    record_firewall "$1"
}

record_firewall() {
    file=$(sha256sum <"$1") && listing=$(nft -s list table inet kubastion | sha256sum) || return 1
    printf '%s %s\n' "${file%% *}" "${listing%% *}" >"$base/firewall.loaded.new" &&
        mv -f "$base/firewall.loaded.new" "$base/firewall.loaded"
}

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

# sshd takes up its files by executing itself anew some time after it was told to. Until then the old one
# answers, and a new connection would prove nothing; then nobody does, for a moment. The new one has other
# sockets, or, where systemd holds those, other addresses (AT_RANDOM and the like, proc(5) of auxv).
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
            echo "$1 was told to take up its files, and 20 s later it still runs with those of before"
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

# dpkg itself does not wait for its lock, nor does apt-get for that of its lists, which the daily updates hold for minutes.
wait_for_lock() { # program argument...
    tries=0
    while :; do
        said=$("$@" </dev/null 2>&1 3>&-) && return 0
        case $said in
        *lock*) [ "$tries" -lt 150 ] || break ;;
        *) break ;;
        esac
        # Tell the caller now, not when it is over.
        [ "$tries" -gt 0 ] || say "waiting another package manager to finish, up to 300 s" >&3
        tries=$((tries + 1))
        sleep 2
    done
    printf '%s\n' "$said"
    return 1
}

# Variables that etcd reads while it has no data, for one start: with them in place for longer, a member that lost its
# data would come back under its old id, and might vote twice.
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

apt_install() {
    # What was killed or lost its power in the middle; costs little where there is nothing to do.
    wait_for_lock env DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a || return 1
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold -qq install -y --no-install-recommends "$@" </dev/null 3>&-
}

# Recorded before it is created, so that an interruption between the two is undone.
make_user() { # name home
    ! id "$1" >/dev/null 2>&1 || return 0
    printf '%s\n' "$1" >>"$T/made-users" || return 1
    group=--user-group
    [ -z "$(group_id "$1")" ] || group=--gid=$1
    useradd --system "$group" --no-create-home --home-dir "$2" --shell /usr/sbin/nologin "$1"
}

run_step() {
    IFS='|' read -r kind a b c d e f <<STEP
$1
STEP
    case $kind in
    dir)
        [ -z "$e" ] || make_directories "$d" "$e"
        case $made in *" $a "*) return 0 ;; esac
        if [ "$b:$c" = root:root ] && [ ! -d "$a" ]; then
            mkdir -m "$d" "$a"
        else
            [ -d "$a" ] || mkdir "$a" || return 1
            set_access "$a" "$b" "$c" "$d"
        fi
        ;;
    mode) set_access "$a" "$b" "$c" "$d" ;;
    files) place_files "$a" "$b" "$c" ;;
    program) place_program "$a" "$b" "$c" "$d" "$e" ;;
    images) take_in_images "$a" "$b" ;;
    member)
        # shellcheck source=/dev/null # checked together with this file
        . "$T/member.sh"
        become_member "$a" "$b"
        ;;
    etcd-join) join_etcd "$a" ;;
    stale) mark_unit "$a" changed ;;
    remove) rm -f "$a" ;;
    package-apt)
        # A fresh machine has no package lists yet, an old one lists that point to what is gone.
        # shellcheck disable=SC2086 # a list
        apt_install $a || { wait_for_lock apt-get -qq update && apt_install $a; }
        ;;
    package-dnf)
        # shellcheck disable=SC2086 # a list
        dnf -y -q install $a </dev/null
        ;;
    user) make_user "$a" "$b" ;;
    sysctl) printf '%s\n' "$b" >"/proc/sys/$(printf %s "$a" | tr . /)" ;;
    module) modprobe "$a" ;;
    swapoff)
        swapoff -a && sed 's/^\([^#].*[[:space:]]swap[[:space:]].*\)$/#kubastion# \1/' /etc/fstab \
            >"$T/fstab" && cp -p --remove-destination /etc/fstab /etc/.fstab.kubastion &&
            cat "$T/fstab" >/etc/.fstab.kubastion && sync /etc/.fstab.kubastion &&
            mv -f /etc/.fstab.kubastion /etc/fstab
        ;;
    arm) arm "$a" ;;
    check-sshd) sshd -t ;;
    check-logins) logins_after "$a" ;;
    firewall) load_firewall "$a" ;;
    firewall-absent)
        nft list table inet kubastion >/dev/null 2>&1 && nft delete table inet kubastion
        rm -f "$base/firewall.loaded"
        ;;
    daemon-reload) systemctl daemon-reload ;;
    prove) prove ;;
    unit) run_unit "$a" "$b" "$c" "$d" "$e" "$f" ;;
    verify) sha256sum -c "$T/final" >"$T/final.out" 2>&1 || {
        grep -v ': OK$' "$T/final.out"
        return 1
    } ;;
    *)
        echo "unknown step: $kind"
        return 1
        ;;
    esac
}

# From here on the node goes back by itself unless somebody confirms: also when this shell, the
# network or the controller dies (timer), and when the node reboots (boot guard).
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
    # Another transaction's mark is not ours to take away.
    if [ -e "$base/armed" ]; then
        case $(cat "$base/armed" 2>/dev/null) in "$id" | '') rm -f "$base/armed" ;; esac
    fi
    if have_systemd && [ -e "$T/armed" ]; then
        systemctl stop "kubastion-revert-$id.timer" 2>/dev/null
    fi
    return 0
}

# Descriptor 3 tells the caller something in the middle of a step. It is open to those alone who close it to all programs
# that they start: one that stays, like a daemon of a package, would hold the connection open.
carry_out() { # step
    case $1 in
    package-apt*) run_step "$1" 3>&1 >"$T/step.out" 2>&1 </dev/null ;;
    *) run_step "$1" >"$T/step.out" 2>&1 </dev/null ;;
    esac
}

switch() {
    # Images that were taken before another change would bring back what that one replaced.
    last_prepared
    [ -r "$T/sequence" ] && IFS= read -r ours <"$T/sequence" || ours=
    [ "$count" = "$ours" ] || {
        say "refused another run prepared a change since"
        exit 4
    }
    # The caller may go away; what was begun is brought to an end.
    trap '' HUP PIPE
    echo $$ >"$T/pid"
    # Whoever wanted the way back before now has had it. As long as the node is called prepared, nobody would undo
    # anything.
    deciding 300 && get_state && [ ! -e "$T/decision" ] || overtaken
    case $state in staged | prepared) ;; *) overtaken ;; esac
    set_state switching || {
        say "refused $T/state cannot be written (disk full?)"
        exit 4
    }
    exec 8>&-
    n=0
    while IFS= read -r step; do
        n=$((n + 1))
        [ ! -e "$T/decision" ] || overtaken
        journal "$n begin $step"
        say "step $n begin"
        if carry_out "$step"; then
            [ -z "$news" ] || say "$news"
            news=
            journal "$n done"
            say "step $n done"
        else
            journal "$n failed"
            say "step $n failed"
            tell "$T/step.out"
            last_step=$n
            revert "step $n failed"
        fi
    done <"$T/steps"
    deciding 300 && [ ! -e "$T/decision" ] || overtaken
    if [ -e "$T/armed" ]; then
        set_state switched
        exec 8>&-
        say "state switched"
    elif decide confirm; then
        commit
    else
        overtaken
    fi
}

# The time to be confirmed ran out in the middle, or the connection broke and another one asked for the way
# back. What was undone is not done again.
overtaken() {
    deciding 300
    get_state
    say "state $state"
    exit 6
}

# --- decide -----------------------------------------------------------------------------------

# link(2) fails where there is something: one decision can be made, and whoever finds it also finds
# what it says, as that was on the disk before. It needs no room on a full disk.
decide() { ln "$T/say.$1" "$T/decision" 2>/dev/null; }

decided() { cat "$T/decision" 2>/dev/null; }

# Nobody decides while somebody goes back, and only one goes back at a time.
deciding() { # seconds
    exec 8>>"$T/decision.lock"
    flock -w "$1" 8
}

# A transaction that was the first to touch something keeps its images for as long as there is a way
# back to what the node was.
keep_first() {
    touched=$base/touched
    [ -e "$touched" ] || : >"$touched"
    new=$(cut -d'|' -f2 "$T/before") || return 0
    [ ! -s "$touched" ] || new=$(printf '%s\n' "$new" | grep -vxF -f "$touched") || return 0
    [ -n "$new" ] || return 0
    printf '%s\n' "$new" >"$T/first" && printf '%s\n' "$new" >>"$touched"
}

# What went back is as it was: whoever touches it next is the first again.
forget_first() {
    [ -e "$T/first" ] || return 0
    grep -vxF -f "$T/first" "$base/touched" >"$base/touched.new"
    [ $? -le 1 ] && mv -f "$base/touched.new" "$base/touched" && rm -f "$T/first"
}

commit() {
    said=$(remove_proof_table) || say "note $said"
    keep_first
    give_up_images
    # Before the last word: nobody comes back for what a power cut leaves, and it may hold keys.
    rm -rf "$T/files" "$T/ballast"
    set_state committed
    disarm
    say "state committed"
    exit 0
}

confirm() {
    deciding 15 || {
        get_state
        say "state $state"
        exit 6
    }
    get_state
    case $state in
    switched)
        # Someone may have reloaded the rules meanwhile: then the new connection proves nothing.
        [ ! -e "$T/proof" ] || nft list table inet kubastion-proof >/dev/null 2>&1 || {
            say "refused table inet kubastion-proof, which the confirmation relies on, is gone"
            exit 6
        }
        if decide confirm || [ "$(decided)" = confirm ]; then
            commit
        fi
        ;;
    esac
    get_state
    say "state $state"
    exit 6
}

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
    # The way back goes by the images alone.
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
        # It may be about to begin. Before there is a lock there is nothing to begin with.
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
    # What another controller or a lost connection left running ends by itself; killed in the middle,
    # a package manager would leave the node's packages half installed.
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
        # It was cut off (by a reboot, say), or not all could be undone.
        ;;
    *)
        # Only a confirmation stands in the way, also where nothing can be written any more. One that
        # was cut off is brought to its end.
        decide revert || [ "$(decided)" != confirm ] || commit
        ;;
    esac
    stop_switching
    finish_revert "$1"
    exit $?
}

# A later change was made on top of this one: undoing this one alone would mix the two. Which is the
# later one says the node's own count: ids come from the clocks of controllers.
newer_change() {
    ours=$(cat "$T/sequence" 2>/dev/null)
    for d in "$base"/txn/*/; do
        d=${d%/}
        other=${d##*/}
        case $other in *[!0-9a-z-]*) continue ;; esac
        [ "${other%-*}" != "${id%-*}" ] || continue
        theirs=$(cat "$d/sequence" 2>/dev/null)
        [ "${theirs:-0}" -gt "${ours:-0}" ] || continue
        case $(cat "$d/state" 2>/dev/null) in
        staged | prepared | reverted) ;;
        *) echo "$other" && return 0 ;;
        esac
    done
    return 1
}

# Rollback of a committed transaction, on the operator's wish.
undo() {
    lock
    nobody_waits
    trap '' HUP PIPE
    get_state
    case $state in
    committed | incomplete | reverting)
        if other=$(newer_change); then
            say "refused $other was made on top of it: roll that back first"
            exit 4
        fi
        deciding 300 || exit 7
        # If the node goes down in the middle, the boot guard takes it up again.
        printf '%s\n' "$id" >"$base/armed"
        finish_revert rollback
        exit $?
        ;;
    *) revert rollback ;;
    esac
}

case ${1-} in
prepare) prepare && set_state prepared ;;
begin) prepare && switch ;;
switch)
    lock
    get_state
    [ "$state" = prepared ] || {
        say "state $state"
        exit 1
    }
    switch
    ;;
confirm) confirm ;;
revert) revert "${2-asked}" ;;
undo) undo ;;
state)
    get_state
    say "state $state"
    ;;
*)
    echo "usage: sh txn.sh prepare|switch|begin|confirm|revert REASON|undo|state" >&2
    exit 2
    ;;
esac
