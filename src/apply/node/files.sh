# Files, directories and programs of a transaction, put into their places. Part of txn.sh.
#
# Reads `files`, `owners.N` and the programs that were sent; writes the paths that the steps name and the records of programs.
# images.sh undoes it.

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
    # Now, because removing the second name of a file counts as a change of the file, and its reader may have started by the
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

# A service user can change anything in its directories, so nothing here follows a link or writes into a file that it may
# have created there.
set_access() { # path owner group mode
    [ ! -L "$1" ] && chown -h "$2:$3" "$1" && [ ! -L "$1" ] && chmod "$4" "$1"
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
        echo "$2 differs from what was sent"
        return 1
    }
    program_record "$2"
    mkdir -p "$base/programs" && rm -f "$record" &&
        printf '%s %s\n' "$1" "$(stat -c '%s %i %.9Y %.9Z %n' "$2")" >"$record"
}
