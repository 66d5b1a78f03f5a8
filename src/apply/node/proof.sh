# Makes a confirmation meaningful. On a node images.sh, logins.sh, this and txn.sh, which defines `T`, `base`, `nl`, `say` and
# `have_systemd`, are one program.
#
# A new connection alone proves too little:
#   - others log in by other methods than the operator: logins_before, logins_after;
#   - it may arrive through an established connection (a VPN or an SSH that ends on the node): load_proof_table;
#   - the next boot may load other rules and settings: rehearse_rules, rehearse_settings.

# --- other logins --------------------------------------------------------------------------

# Writes `NAME<tab>ADDRESS<tab>PLACE` of each login that gets in. In a subshell, since it changes IFS and globbing.
logins_before() (
    seen() {
        settings=$(asked_of_sshd "$1" "$2") || return 0
        judge_login "$1" "$3" "$4" "$5" "$2" "$settings"
        [ "$verdict" = out ] || printf '%s\t%s\t%s\n' "$1" "$2" "$place"
    }
    each_login >"$T/logins"
    # With too many accounts, the plan has a note.
    return 0
)

# Asks again with the new files in place, before sshd reloads. Fails if an unexpected login stops working.
logins_after() ( # names that the plan gives up, with commas
    lost=
    seen() {
        row="$1	$2	"
        case $nl$in_before in *"$nl$row"*) ;; *) return 0 ;; esac
        was=$nl$in_before
        was=${was#*"$nl$row"}
        was=${was%%"$nl"*}
        settings=$(asked_of_sshd "$1" "$2") || {
            lost=$lost$nl"sshd gave no settings for login $1"
            return 0
        }
        judge_login "$1" "$3" "$4" "$5" "$2" "$settings"
        case ,$given_up, in *",$1,"*) return 0 ;; esac
        if [ "$verdict" = out ]; then
            lost=$lost$nl"login $1 from $2 would no longer work: $because"
        elif [ "$place" != none ] && [ "$place" != "$was" ]; then
            lost=$lost$nl"login $1 from $2 would get a different ForceCommand or ChrootDirectory"
        fi
    }
    # The same addresses as before, even if someone has logged in meanwhile.
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
        printf '%s\n' "${lost#"$nl"}" "the plan does not list this"
        return 1
    }
)

# --- established connections -----------------------------------------------------------------

# Until the decision, packets of established connections are judged like first packets: a copy of our table runs just before
# it, without the line that accepts established connections. What the rules allow is not affected; what they do not (a tunnel
# without a rule) stalls until the decision, with every connection inside it. Replies to connections that the node began pass,
# and so does the connection that carries this change, over which it is undone.
load_proof_table() {
    rules=$(own_rules) || return 1
    own_connection
    spared=
    [ -z "$from_port" ] || {
        family=ip
        case $from in *:*) family=ip6 ;; esac
        spared="$family saddr $from $family daddr $to tcp sport $from_port tcp dport $to_port accept"
    }
    # `read` does not work on this file.
    ports=$(tr -s '\t ' - </proc/sys/net/ipv4/ip_local_port_range) || return 1
    # For a flow older than connection tracking, the kernel may have the direction wrong. A packet to a port on which something
    # listens is therefore never a reply.
    served=$(ss -Hlntu 2>/dev/null | sed -n 's/^\(tcp\|udp\) .*:\([0-9]\{1,5\}\)  *[^ ]*:\*.*/\1 \2/p' | sort -u)
    : >"$T/proof" || return 1
    {
        echo 'table inet kubastion-proof'
        echo 'delete table inet kubastion-proof'
        printf '%s\n' "$rules" | awk -v spared="$spared" -v ports="$ports" -v served="$(printf %s "$served" | tr '\n' ',')" '
BEGIN {
    n = split(served, pair, ",")
    for (i = 1; i <= n; i++) if (split(pair[i], word, " ") == 2) of[word[1]] = of[word[1]] ", " word[2]
}
# Answers to what the node itself began.
function answers(protocol,    to) {
    to = of[protocol] == "" ? "" : protocol " dport != { " substr(of[protocol], 3) " } "
    # Without a list, ports that are picked at random are the answers.
    if (to == "" || protocol == "udp") to = protocol " dport " ports " " to
    return to "ct direction reply accept"
}
/^table inet kubastion \{$/ { print "table inet kubastion-proof {"; next }
$1 == "chain" { drops = 0 }
$1 == "type" && $3 == "hook" {
    hook = $4
    drops = /policy drop;/
    at = $6
    n = 0
    if ($7 == "-" || $7 == "+") n = $7 $8
    sub(/;.*/, "", at)
    if (at ~ /^-?[0-9]+$/) { n = at - 1; at = "" } else { n = n - 1; at = at " " }
    if (at != "") n = n < 0 ? "- " (-n) : "+ " n
    print "type filter hook " hook " priority " at n "; policy accept;"
    if (hook != "forward") print "iif lo accept"
    print "ct state != established accept"
    if (spared != "") print spared
    if (hook == "input") {
        print "meta l4proto { icmp, ipv6-icmp } accept"
        # Both ends of a tunnel may have begun it: at a port that is not picked at random, and of a protocol without
        # ports, it has to be let in.
        print answers("tcp")
        print answers("udp")
    } else print "ct direction reply accept"
    chain = 1
    next
}
/^[ \t]*ct state established,related accept$/ { next }
/^[ \t]*\}$/ && chain { if (drops) print "counter drop"; chain = 0 }
{ print }'
    } >"$T/proof.nft" || return 1
    nft -f "$T/proof.nft"
}

# Runs first in every decision.
remove_proof_table() {
    [ -e "$T/proof" ] || return 0
    nft delete table inet kubastion-proof 2>/dev/null || ! nft list table inet kubastion-proof >/dev/null 2>&1 || {
        echo "table inet kubastion-proof cannot be removed"
        return 1
    }
    rm -f "$T/proof"
}

# --- the next boot ---------------------------------------------------------------------------

# Names of interfaces to recreate in the network namespace: rules and settings may name them.
interfaces() {
    while IFS=': ' read -r i _; do
        case $i in lo | '' | Inter-* | face* | *[!A-Za-z0-9_.@-]*) ;; *) printf '%s ' "$i" ;; esac
    done </proc/net/dev
}

# Runs a program in a new network namespace with dummy interfaces of the same names.
# shellcheck disable=SC2016 # it expands them itself
in_a_namespace() { # program argument...
    unshare -n sh -c '
        for i in $1; do
            ip link add "$i" type dummy 2>/dev/null || ip link add "$i" type veth 2>/dev/null
        done
        program=$2
        shift 2
        eval "$program"' sh "$(interfaces | cut -d' ' -f1-500)" "$@"
}

# Compares network settings with what systemd-sysctl sets at boot. Other keys are not per namespace, and cannot cut access.
rehearse_settings() {
    for program in /usr/lib/systemd/systemd-sysctl /lib/systemd/systemd-sysctl none; do
        [ ! -x "$program" ] || break
    done
    keys=$({
        sed -n 's/^sysctl|\(net\.[^|]*\)|.*/\1/p' "$T/steps"
        sed -n 's/^[[:space:]]*-*\(net[./][^=[:space:]]*\)[[:space:]]*=.*/\1/p' /etc/sysctl.d/90-kubastion.conf 2>/dev/null
    } | grep -x '[A-Za-z0-9_./-]*' | sort -u)
    [ -n "$keys" ] || return 0
    [ "$program" != none ] || {
        echo "the settings of the next boot cannot be checked: systemd-sysctl is missing"
        return 1
    }
    set -f
    # shellcheck disable=SC2016,SC2086 # it expands them itself; a list
    values=$(in_a_namespace '
        "$1" --prefix=net >/dev/null 2>&1
        shift
        for key; do
            p=/proc/sys/$(printf %s "$key" | tr . /)
            if [ -r "$p" ]; then printf "%s %s\n" "$key" "$(cat "$p")"; else echo "$key -"; fi
        done
        echo whole' "$program" $keys | tr '\t' ' ')
    set +f
    case $values in
    whole | *"${nl}whole") ;;
    *)
        echo "the settings of the next boot cannot be checked: no network namespace can be created"
        return 1
        ;;
    esac
    differ=0
    while read -r key booted; do
        [ "$key" != whole ] || continue
        case $booted:$key in
        # An interface that comes and goes, and what has no namespace.
        -:*.conf.all.* | -:*.conf.default.*) ;;
        -:net.ipv[46].conf.* | -:net.[!i]*) continue ;;
        esac
        now=$(tr '\t' ' ' 2>/dev/null <"/proc/sys/$(printf %s "$key" | tr . /)") || continue
        [ "$now" != "$booted" ] || continue
        differ=1
        [ "$booted" != - ] || {
            echo "the value of $key after the next boot cannot be checked"
            continue
        }
        file=$("$program" --cat-config 2>/dev/null | awk -v wanted="$key" '
/^# \// { file = substr($0, 3); next }
{ sub(/^[ \t]*-?/, ""); key = $0; sub(/[ \t]*=.*/, "", key); gsub(/\//, ".", key) }
key == wanted { found = file }
END { print found }')
        echo "$key is $now, but the next boot sets it to $booted${file:+ ($file)}"
    done <<VALUES
$values
VALUES
    return $differ
}

# Loads our rules with the unit that loads them at boot, then what other units load before and after it, in a namespace, and
# compares the result with what is loaded now.
rehearse_rules() {
    unit=kubastion-firewall.service
    [ "$(systemctl show -p LoadState --value "$unit")" = loaded ] || return 0
    systemctl -q is-enabled "$unit" || {
        echo "$unit is not enabled: the next boot would not load the rules"
        return 1
    }
    rules=$(own_rules) || return 1
    systemctl restart "$unit" || return 1
    [ "$(own_rules)" = "$rules" ] || {
        echo "$unit, which loads the rules at boot, loads different rules"
        return 1
    }
    loaders || return 0
    rm -rf "${T:?}/boot"
    mkdir "$T/boot" || return 1
    {
        printf '%s' "$before"
        echo 'nft -f /etc/kubastion/firewall.nft'
        printf '%s' "$behind"
    } >"$T/boot/order"
    # shellcheck disable=SC2016 # it expands them itself
    in_a_namespace '
        cd "$1" && set -f || exit 1
        while IFS= read -r line; do $line || echo "$line" >>failed; done <order
        nft -s list tables >tables || exit 1
        while read -r _ family name; do nft -s list table "$family" "$name" >"$family $name"; done <tables
        : >whole' "$T/boot" 2>&1
    [ -e "$T/boot/whole" ] || {
        echo "the rules of the next boot cannot be checked: no network namespace can be created"
        return 1
    }
    [ "$(cat "$T/boot/inet kubastion" 2>/dev/null)" = "$rules" ] || {
        echo "after a boot, table inet kubastion would differ from now, since other units load rules too ($units)"
        return 1
    }
    differ=0
    while read -r _ family name; do
        case "$family $name" in 'inet kubastion' | *[!a-z0-9A-Z_.' '-]*) continue ;; esac
        grep -qwE 'drop|reject' "$T/boot/$family $name" || continue
        [ "$(nft -s list table "$family" "$name" 2>/dev/null)" != "$(cat "$T/boot/$family $name")" ] || continue
        differ=1
        echo "after a boot, table $family $name drops packets, and differs from what is loaded now ($units)"
    done <"$T/boot/tables"
    [ ! -s "$T/boot/failed" ] || {
        differ=1
        echo "the next boot loads rules that nft rejects ($units):" "$(head -n 3 "$T/boot/failed")"
    }
    rm -rf "${T:?}/boot"
    return $differ
}

# Sets `before` and `behind`, the nft calls of other units before and after ours at boot, and `units`, their names. Fails if
# there are none.
loaders() {
    before='' behind='' units=
    links=$(grep -lsE '^Exec(Start|StartPost)=.*nft' /etc/systemd/system/*.wants/*.service \
        /etc/systemd/system/*.requires/*.service /run/systemd/system/*.wants/*.service /usr/lib/systemd/system/*.wants/*.service)
    [ -n "$links" ] || return 1
    earlier=" $(systemctl show -p After --value kubastion-firewall.service) "
    for link in $links; do
        u=${link##*/}
        case $u in kubastion-*) continue ;; esac
        case " $units" in *" $u"*) continue ;; esac
        # `{ path=/usr/sbin/nft ; argv[]=/usr/sbin/nft -f /etc/nftables.conf ; ... }`, one a line.
        calls=$(systemctl show -p ExecStart -p ExecStartPost --value -- "$u" | sed -n 's/^{ path=[^ ]* ; argv\[\]=\([^;]*\) ; .*/\1/p' |
            grep -x '/[a-z/]*/nft [A-Za-z0-9_./ -]*')
        [ -n "$calls" ] || {
            echo "$u: the rules it loads at boot are not checked, since it does not run nft directly" >&2
            continue
        }
        units="$units${units:+, }$u"
        case $earlier in
        *" $u "*) before=$before$calls$nl ;;
        *) behind=$behind$calls$nl ;;
        esac
    done
    [ -n "$units" ]
}

prove() {
    ! have_systemd || {
        ! has_step 'firewall|' || rehearse_rules || return 1
        rehearse_settings || return 1
    }
    ! has_step 'firewall|' || load_proof_table
}
