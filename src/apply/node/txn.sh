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
#   forget      paths of secrets whose images are deleted everywhere once this is final
# and what it writes:
#   before, ...   images of all that the steps touch, see images.sh
#   made-users  users that were not there
#   logins      who could log in
#   proof.nft   the rules by which it is confirmed; `proof` while they are loaded
#   given-up    paths whose images are gone
#   journal     begin and end of every step
#   state       staged, prepared, switching, switched, committed, reverting, reverted, incomplete
#   decision    made once, by whoever decides first: confirm or revert
#   ballast     reserved space for the rollback in case the disk fills up
#
# POSIX sh with coreutils, grep, sed, tar and util-linux (flock, fallocate); awk, ip and unshare for what a confirmation
# proves (proof.sh); systemd where the node has it. Output for the caller
# starts with `@`; everything else is for people.

set -u
umask 077
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export LC_ALL PATH

# Hundreds of nodes may share a machine, so avoid forks where the shell can do the work.
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

# Programs do not report that a file or its directory is immutable (chattr(1)), and by the time they fail, other files have been
# replaced.
refuse_immutable() {
    command -v lsattr >/dev/null || return 0
    targets=
    while IFS='|' read -r kind a b _; do
        case $kind in
        files) for f in "$T/files/$a${b%/}"/*; do targets="$targets ${b%/}/${f##*/} ${b%/}"; done ;;
        program) targets="$targets $b ${b%/*}" ;;
        dir | mode | remove) targets="$targets $a ${a%/*}" ;;
        swapoff) targets="$targets /etc/fstab /etc" ;;
        esac
    done <"$T/steps"
    # shellcheck disable=SC2086 # a list: paths have no blanks
    [ -z "$targets" ] || found=$(lsattr -d $targets 2>/dev/null | while read -r v f; do case $v in *[ia]*) printf '%s ' "$f" ;; esac; done)
    [ -n "${found-}" ] || return 0
    say "refused immutable or append-only: ${found% } (\`lsattr -d PATH\` shows it, \`chattr -ia PATH\` clears it); nothing was changed"
    exit 4
}

# Sets `count`: how many transactions were prepared on this node. The file of the last one may be gone, or hold what a power cut left:
# no count of a transaction that is there is given again, or a rollback would take an old one for the newest.
last_prepared() {
    count=0
    for f in "$base/sequence" "$base"/txn/*/sequence; do
        n=
        # A file of bytes that are no text has no end of line.
        [ ! -f "$f" ] || IFS= read -r n <"$f" || :
        case $n in '' | *[!0-9]* | ??????????*) continue ;; esac
        [ "$n" -le "$count" ] || count=$n
    done
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
    refuse_immutable
    while IFS='|' read -r kind file; do
        case $kind in
        nft)
            nft -c -f "$T/$file" >&2 || {
                say "refused nft rejects the rules"
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
    etcd-from-pod) etcd_from_pod "$a" ;;
    static-pod)
        # shellcheck source=/dev/null # checked together with this file
        . "$T/member.sh"
        static_pod_answers "$a" "$b"
        ;;
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
    sysctl)
        p=/proc/sys/$(printf %s "$a" | tr . /)
        # Interfaces of pods come and go.
        case $p in */conf/*) [ -e "$p" ] || return 0 ;; esac
        printf '%s\n' "$b" >"$p"
        ;;
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

# Descriptor 3 tells the caller something in the middle of a step. It is open to those alone who close it to all programs
# that they start: one that stays, like a daemon of a package, would hold the connection open.
carry_out() { # step
    case $1 in
    package-apt*) run_step "$1" 3>&1 >"$T/step.out" 2>&1 </dev/null ;;
    *) run_step "$1" >"$T/step.out" 2>&1 </dev/null ;;
    esac
}

switch() {
    # Images from before another change would restore what that change replaced.
    last_prepared
    [ -r "$T/sequence" ] && IFS= read -r ours <"$T/sequence" || ours=
    [ "$count" = "$ours" ] || {
        say "refused another run has prepared a change since"
        exit 4
    }
    # The caller may disconnect; the switch is still completed.
    trap '' HUP PIPE
    echo $$ >"$T/pid"
    # A rollback that was requested before this point is done. While the state is `prepared`, nothing would be undone.
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

# --- confirm ----------------------------------------------------------------------------------

# A transaction that was the first to touch a path keeps its images for as long as the node can be reset.
keep_first() {
    touched=$base/touched
    [ -e "$touched" ] || : >"$touched"
    new=$(cut -d'|' -f2 "$T/before") || return 0
    [ ! -s "$touched" ] || new=$(printf '%s\n' "$new" | grep -vxF -f "$touched" || [ $? -eq 1 ]) || {
        say "note $touched could not be read: a reset will not restore what this run replaced"
        return 0
    }
    [ -n "$new" ] || return 0
    printf '%s\n' "$new" >"$T/first" && printf '%s\n' "$new" >>"$touched" ||
        say "note $touched could not be written: a reset will not restore what this run replaced"
}

# Paths that were rolled back are original again: the next transaction that touches them is the first one again.
forget_first() {
    [ -e "$T/first" ] || return 0
    grep -vxF -f "$T/first" "$base/touched" >"$base/touched.new"
    [ $? -le 1 ] && mv -f "$base/touched.new" "$base/touched" && rm -f "$T/first"
}

commit() {
    said=$(remove_proof_table) || say "note $said"
    keep_first
    give_up_images
    # Before the final state is written: nothing cleans up after a power cut later, and these files may contain keys.
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
            say "refused table inet kubastion-proof, which the confirmation relies on, is missing"
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
