# What a confirmation proves. Part of txn.sh, which defines `T`, `base`, `nl`, `say` and `have_systemd`, and of the same
# program as logins.sh.
#
# A new connection that is let in proves less than it seems to:
#   - others log in by other ways than the operator does: logins_before, logins_after;

# --- others who log in --------------------------------------------------------------------------

# `NAME<tab>ADDRESS<tab>PLACE` of each login that gets in. In a subshell: no pattern, and another IFS.
logins_before() (
    seen() {
        settings=$(asked_of_sshd "$1" "$2") || return 0
        judge_login "$1" "$3" "$4" "$5" "$2" "$settings"
        [ "$verdict" = out ] || printf '%s\t%s\t%s\n' "$1" "$2" "$place"
    }
    each_login >"$T/logins"
    # Too many are a note of the plan.
    return 0
)

# Asks again, by the files that are there now, and before sshd takes them up.
logins_after() ( # names that the plan gives up, with commas
    lost=
    seen() {
        row="$1	$2	"
        case $nl$in_before in *"$nl$row"*) ;; *) return 0 ;; esac
        was=$nl$in_before
        was=${was#*"$nl$row"}
        was=${was%%"$nl"*}
        settings=$(asked_of_sshd "$1" "$2") || {
            lost=$lost$nl"$1 cannot be asked about"
            return 0
        }
        judge_login "$1" "$3" "$4" "$5" "$2" "$settings"
        case ,$given_up, in *",$1,"*) return 0 ;; esac
        if [ "$verdict" = out ]; then
            lost=$lost$nl"$1, who got in from $2, would not any more: $because"
        elif [ "$place" != none ] && [ "$place" != "$was" ]; then
            lost=$lost$nl"$1, who gets in from $2, would get another ForceCommand or ChrootDirectory"
        fi
    }
    # From where they came then, whoever logged in meanwhile.
    addresses_of() {
        addresses=
        IFS=$nl
        for row in $in_before; do
            case $row in "$1	"*) row=${row#*"	"} && addresses="$addresses ${row%%"	"*}" ;; esac
        done
        IFS=' '
    }
    given_up=$1
    in_before=$(cat "$T/logins") || return 1
    each_login
    [ -z "$lost" ] || {
        printf '%s\n' "${lost#"$nl"}" "and the plan names none of this"
        return 1
    }
)
