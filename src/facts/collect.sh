# Reads facts; changes nothing. On a node this, logins.sh and rules.sh are one program. The watch list comes on standard input: its length in bytes and a word, then one item a line:
# `F path`, `U unit`, `S key`, `M module`, `P package`, `C command`, `N process`, and, only where
# they are asked for, `B path` (one of the files, a large one), `I digest` (an image archive), `R path` (the
# text of a file), `D path` (a text that people will see), `T directory` (everything below it), `X extra`, and what sshd is
# to be told: `O =DIGEST path` and `O key value`.
# POSIX sh with coreutils, grep, sed and find; awk for the texts of files and for sshd's lines alone.
# Answers in sections `@WORD name`; the last line is `@WORD end`. Nobody on the node knows the word before: what a file, a
# name or a program says cannot begin a section. Within one, line breaks of names become another control character.
set -u
set -f
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
base=/var/lib/kubastion
nl='
'
files= units= sysctls= modules= packages= commands= processes= texts= shown= trees= extras= programs= images= sshd_wanted=
# `read` takes one byte a call; `dd` takes all of the list at once, and nothing of what may come after it.
IFS=' ' read -r line word
case $line in '' | *[!0-9]*) exit 2 ;; esac
case $word in '' | *[!0-9a-z]*) exit 2 ;; esac
list=$(dd bs="$line" count=1 iflag=fullblock 2>/dev/null)
# A sudo that records input (`log_input` of sudoers(5)) reads it first, so its program gets another pipe than sudo itself. With a log server, nothing else on the node shows it.
kept= above=
p=$PPID
while IFS=' ' read -r _ v _ q _ 2>/dev/null <"/proc/$p/stat" && [ "$v" = '(sudo)' ]; do
    above=$p
    p=$q
done
if [ -n "$above" ]; then
    kept=unknown
    v=$(readlink /proc/self/fd/0 "/proc/$above/fd/0" 2>/dev/null)
    case $v in
    *"$nl"*) if [ "${v%%"$nl"*}" = "${v#*"$nl"}" ]; then kept=no; else kept=yes; fi ;;
    esac
fi
exec </dev/null
IFS=$nl
for line in $list; do
    item=${line#? }
    case $line in
    'F '*) files=$files$item$nl ;;
    'B '*) programs=$programs$nl$item$nl ;;
    'I '*) images="$images $item" ;;
    'U '*) units="$units $item" ;;
    'S '*) sysctls="$sysctls $item" ;;
    'M '*) modules="$modules $item" ;;
    'P '*) packages="$packages $item" ;;
    'C '*) commands="$commands $item" ;;
    'N '*) processes="$processes $item" ;;
    'R '*) texts=$texts$item$nl ;;
    'D '*) shown=$shown$item$nl ;;
    'T '*) trees=$trees$item$nl ;;
    'X '*) extras="$extras $item" ;;
    'O '*) sshd_wanted=$sshd_wanted$item$nl ;;
    esac
done
IFS=' '
have() { command -v "$1" >/dev/null 2>&1; }
section() { printf '@%s %s\n' "$word" "$1"; }
# `echo` would take backslashes of the node apart: a line break, for one.
print() { printf '%s\n' "$1"; }

section node
[ -z "$kept" ] || echo "input_kept=$kept"
# Newer kernels say it among their settings below.
[ -e /proc/sys/kernel/arch ] || print "arch=$(uname -m)"
echo "clock=$(date +%s)"
IFS= read -r v </proc/1/comm && print "init=$v"
[ ! -r /run/systemd/container ] || { IFS= read -r v </run/systemd/container; print "container=$v"; }
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo cgroup=2; else echo cgroup=1; fi
if have auditctl; then
    # `enabled 1` among other lines.
    if v=$(auditctl -s 2>/dev/null); then
        v=${v#*enabled[ =]}
        echo audit=yes
        print "audit_enabled=${v%%[!0-9]*}"
    else
        echo audit=no
    fi
else
    echo audit=unknown
fi
# It begins with that.
read -r k v _ </proc/meminfo && [ "$k" = MemTotal: ] && print "memory_kib=$v"
section disks
# Those of them that are there; a directory may be a disk of its own.
stat -f -c '%n %i %a %S' /var/lib /var/lib/kubastion /var/lib/containerd /var/lib/etcd /var/lib/kubelet 2>/dev/null

section commands
for c in $commands; do ! have "$c" || echo "$c"; done
for c in /usr/local/bin/kubelet /usr/bin/kubelet; do [ ! -x "$c" ] || echo "$c"; done

# What a package manager installed is asked of it below, which costs less than starting programs.
section versions
for c in containerd etcd kubelet; do
    # What was put beside a package comes before it, as in systemd's own search path.
    for p in "/usr/local/sbin/$c" "/usr/local/bin/$c"; do
        [ -x "$p" ] && v=$("$p" --version 2>/dev/null) && printf '%s %s\n' $c "${v%%"$nl"*}" && break
    done
done

section swaps
while read -r name rest; do
    case $name in /*) print "$name" ;; esac
done </proc/swaps

section modules
for m in $modules; do
    [ ! -d "/sys/module/$m" ] || echo "$m"
    case $m in br_netfilter) [ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo "$m" ;; esac
done

# Small files of the node as they are, each line with its path. One grep for all: files below /proc/sys give nothing to
# readers that take one byte at a time, as the shell's own `read` does, and every program costs.
section read
paths='/proc/filesystems /proc/self/status /sys/devices/system/cpu/online /etc/passwd'
if [ -r /etc/os-release ]; then paths="$paths /etc/os-release"; else paths="$paths /usr/lib/os-release"; fi
IFS=' '
for k in kernel.hostname kernel.osrelease kernel.arch kernel.random.boot_id $sysctls; do
    p=/proc/sys
    rest=$k.
    while [ -n "$rest" ]; do
        p=$p/${rest%%.*}
        rest=${rest#*.}
    done
    paths="$paths $p"
done
# Keys of each interface have a pattern for its name.
set +f
# shellcheck disable=SC2086 # a list
grep -as -D skip '' /dev/null $paths
set -f

section packages
if have dpkg-query; then
    echo manager=dpkg
    # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
    [ -z "$packages" ] || dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' $packages 2>/dev/null
elif have rpm; then
    echo manager=rpm
    # shellcheck disable=SC2086 # a list
    [ -z "$packages" ] || rpm -q --qf '%{NAME} installed %{VERSION}-%{RELEASE}\n' $packages | grep ' installed '
fi

# `systemctl show` costs a millisecond a unit, and more for one that does not exist; `is-enabled`
# reads all unit files there are. So the links that enabling makes are looked for here (systemd.unit(5)),
# and systemd gets one question, for what it has loaded. An alias answers for its unit.
section units
set +f
# In systemd's own order (systemd.unit(5), "Unit File Load Path").
set -- /etc/systemd/system.control /run/systemd/system.control /run/systemd/transient /run/systemd/generator.early \
    /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system \
    /usr/lib/systemd/system /lib/systemd/system /run/systemd/generator*
set -f
there= linked= targets=
for u in $units; do
    for d in "$@"; do
        [ -e "$d/$u" ] || [ -L "$d/$u" ] || continue
        there="$there $d/$u"
        [ ! -L "$d/$u" ] || linked="$linked $d/$u"
        break
    done
done
# shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
[ -z "$linked" ] || targets=$nl$(find $linked -maxdepth 0 -type l -printf '%p %l\0' | tr '\n\0' '\001\n')$nl
asked=$units
unlinked=
for file in $there; do
    u=${file##*/}
    to=
    case $targets in *"$nl$file "*) to=${targets#*"$nl$file "} && to=${to%%"$nl"*} ;; esac
    if [ "$to" = /dev/null ] || { [ -f "$file" ] && [ ! -s "$file" ]; }; then
        state=masked
    elif [ -n "$to" ] && [ "${to##*/}" != "$u" ]; then
        state="alias ${to##*/}"
        asked="$asked ${to##*/}"
    else
        case $file in
        /run/systemd/generator*) state=generated ;;
        *)
            unlinked="$unlinked $file"
            continue
            ;;
        esac
    fi
    print "file $u $state"
done
# A link counts where the unit's own file says: anybody can make a directory for a unit that nothing starts. Ours are wanted
# in every place that it names. A link to nothing masks the wish (systemd.unit(5)).
# shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
[ -z "$unlinked" ] || installs=$nl$(grep -sH -D skip '^\(WantedBy\|RequiredBy\|UpheldBy\|Alias\|Also\) *=' $unlinked)
for file in $unlinked; do
    u=${file##*/}
    found= lacks=
    for k in WantedBy RequiredBy; do
        d=wants
        [ "$k" = WantedBy ] || d=requires
        rest=$installs
        while :; do
            case $rest in *"$nl$file:$k"*) ;; *) break ;; esac
            rest=${rest#*"$nl$file:$k"}
            v=${rest%%"$nl"*}
            for t in ${v#*=}; do
                if [ -L "/etc/systemd/system/$t.$d/$u" ] && [ -s "/etc/systemd/system/$t.$d/$u" ]; then
                    found=enabled
                elif [ -L "/run/systemd/system/$t.$d/$u" ] && [ -s "/run/systemd/system/$t.$d/$u" ]; then
                    found=${found:-enabled-runtime}
                else
                    lacks=yes
                fi
            done
        done
    done
    case $u:$lacks in kubastion-*:yes) found= ;; esac
    case $found:$installs in
    enabled*) state=$found ;;
    *"$nl$file:"[WRU]* | *"$nl$file:Alias"*) state=disabled ;;
    *"$nl$file:Also"*) state=indirect ;;
    *) state=static ;;
    esac
    print "file $u $state"
done
# shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
[ -z "$units" ] || { systemctl list-units --all --plain --no-legend --no-pager --full -- $asked 2>/dev/null && echo ok; }

section listeners
if have ss; then ss -Hlntu && echo ok; fi

section addresses
if have ip; then
    ip -o addr show 2>/dev/null
    # Interfaces that go by a router's advertisements, also when they forward (2), or whose way out is one (1).
    ways=
    [ ! -e /proc/net/if_inet6 ] || ways=$(ip -6 -o route show default 2>/dev/null)
    set +f
    for f in /proc/sys/net/ipv6/conf/*/accept_ra; do
        d=${f%/accept_ra}
        d=${d##*/}
        case $d in all | default) continue ;; esac
        IFS= read -r v 2>/dev/null <"$f" || continue
        case $v$nl$ways in
        2*) print "ra $d 2" ;;
        1*" dev $d proto ra "*) print "ra $d 1" ;;
        esac
    done
    set -f
fi

section sshd
# With `Match LocalPort`, sshd -T needs connection parameters: use ones that never occur (RFC 5737).
# It would wait for what is no regular file among those that it includes: then there is nobody to ask.
sshd_asked=
if have sshd; then
    sshd_asked=yes
    set +f
    for f in /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*; do
        [ ! -e "$f" ] || [ -f "$f" ] || [ -d "$f" ] || sshd_asked=
    done
    set -f
fi
if [ -n "$sshd_asked" ]; then
    { timeout 10 sshd -T 2>/dev/null || { [ $? -lt 124 ] &&
        timeout 10 sshd -T -C user=nobody-asks,host=192.0.2.1,addr=192.0.2.1,laddr=192.0.2.2,lport=1 2>/dev/null; }; } && echo ok
fi
# It leaves out what a `Match` line says of some connections only. `Match all` is for all of them.
section matches
case "$extras " in *' matches '*) search=yes ;; *) search= ;; esac
if [ -n "$search" ] && [ -n "$sshd_asked" ]; then
    searched= more=/etc/ssh/sshd_config whole=ok
    IFS=$nl
    while [ -n "$more" ]; do
        searched=$searched$nl$more$nl
        # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
        said=$(awk '
FNR == 1 { some = 0 }
{
    raw = $0
    gsub(/["\r]/, "")
    sub(/^[ \t]+/, "")
    key = tolower($0)
    sub(/[ \t=].*/, "", key)
    if (key == "" || key ~ /^#/) next
    value = substr($0, length(key) + 1)
    sub(/^[ \t=]+/, "", value)
    sub(/([ \t]+#.*|[ \t]+)$/, "", value)
    if (key == "match") some = tolower(value) != "all"
    else if (some) print "=" FILENAME "\t" key "\t" value
    else if (key == "include") {
        if (is_quoted(raw)) hidden = 1
        gsub(/[ \t]+/, "\n", value)
        print value
    }
}
# Whether quotes and backslashes make other words of a line than its blanks do.
function is_quoted(line, part, n, i) {
    sub(/[ \t]+#.*/, "", line)
    if (line ~ /[\\\047]/) return 1
    n = split(line, part, "\"")
    for (i = 2; i <= n; i += 2) if (part[i] ~ /[ \t]/) return 1
    return n > 0 && n % 2 == 0
}
END { exit hidden }' $more 2>/dev/null) || whole=
        more=
        for line in $said; do
            case $line in
            =*) print "${line#=}" && continue ;;
            /*) ;;
            *) line=/etc/ssh/$line ;;
            esac
            set +f
            for f in $line; do
                # Two names, for what follows.
                case $f in *"$nl"*) whole= && continue ;; esac
                case $searched$nl$more$nl in *"$nl$f$nl"*) continue ;; esac
                if [ -f "$f" ]; then
                    more=$more${more:+$nl}$f
                else
                    # What sshd read there, out of a pipe or before somebody removed it, is gone. A pattern may match nothing.
                    case $f in *[*?[]*) [ ! -e "$f" ] || whole= ;; *) whole= ;; esac
                fi
            done
            set -f
        done
    done
    [ -z "$whole" ] || echo ok
    IFS=' '
fi

# Who gets in, and would not with what sshd is to be told. That costs a start of sshd or two for each; with its file in place
# there is nothing to be told.
section logins
sshd_file=
IFS=$nl
for v in $sshd_wanted; do
    case $v in =*) sshd_file=${v#=} ;; esac
done
IFS=' '
if [ -n "$sshd_file" ] && [ -n "$sshd_asked" ] && [ "$([ -f "${sshd_file#* }" ] && sha256sum 2>/dev/null <"${sshd_file#* }")" != "${sshd_file%% *}  -" ]; then (
    # In a shell of its own, since logins.sh has names of its own.
    whole=ok
    # What is said first is what counts, also for sshd, and a `Match` goes before either.
    asked_with_ours() { # name address
        of=$1 at=$2
        set --
        IFS=$nl
        for v in $sshd_wanted; do
            case $v in =*) ;; *) set -- "$@" -o "$v" ;; esac
        done
        IFS=' '
        asked_of_sshd "$of" "$at" "$@"
    }
    seen() { # name address home uid hash
        now=$(asked_of_sshd "$1" "$2") && later=$(asked_with_ours "$1" "$2") || {
            whole=
            return 0
        }
        judge_login "$1" "$3" "$4" "$5" "$2" "$now"
        [ "$verdict" = in ] || return 0
        was=$place
        judge_login "$1" "$3" "$4" "$5" "$2" "$later"
        [ "$verdict" != in ] || because=
        [ "$verdict:$place" = "in:$was" ] || [ "$verdict:$place" = in:none ] || [ -n "$because" ] || because='a different ForceCommand or ChrootDirectory'
        printf '%s\t%s\t%s\n' "$1" "$2" "$because"
    }
    each_login || whole=
    [ -z "$whole" ] || echo ok
); fi

section nft
if have nft && tables=$(nft list tables 2>/dev/null); then
    echo usable
    printf '%s\n' "$tables"
    # Chains of others that drop what none of their rules lets in.
    nft list chains 2>/dev/null | while IFS= read -r line; do
        case $line in
        table*) t=${line#table } t=${t%% \{*} ;;
        *' hook '*'policy drop;'*)
            line=${line#* hook }
            [ "$t" = 'inet kubastion' ] || print "drops ${line%% *} $t"
            ;;
        esac
    done
    case $nl$tables$nl in
    *"${nl}table inet kubastion$nl"*)
        sum=$(own_rules | sha256sum) && print "listing ${sum%% *}"
        ;;
    esac
fi
[ ! -f "$base/firewall.loaded" ] || { IFS= read -r v <"$base/firewall.loaded"; print "recorded $v"; }

section marks
set +f
for f in "$base"/units/*; do
    case ${f##*/} in *"$nl"*) continue ;; esac
    [ -f "$f" ] && IFS= read -r v <"$f" || continue
    # Below the mark stand the files that kubeadm made, as they were then.
    [ "${f##*/}" != kubernetes ] || [ "$(wc -l <"$f")" -lt 2 ] ||
        sed 1d "$f" | sha256sum -c >/dev/null 2>&1 || v=changed
    print "${f##*/} $v"
done
section transactions
for d in "$base"/txn/*/; do
    # What is still being received, or was cut off then, is `ID.new`. A power cut may leave a state empty.
    case $d in *.new/ | *"$nl"*) continue ;; esac
    [ -f "${d}state" ] || continue
    IFS= read -r v <"${d}state" || v=unknown
    case $v in committed | reverted) ;; *) d=${d%/} && print "${d##*/} $v" ;; esac
done
section processes
if [ -n "$processes" ]; then
    # One program for all: a node may have thousands of processes, and `read` takes them byte by byte.
    names=
    for v in $processes; do names="$names -e $v"; done
    # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
    found=$(grep -sHxF $names /proc/[0-9]*/comm)
    IFS=$nl
    for p in $found; do
        v=${p#*:}
        p=${p%/comm:*}
        [ -r "$p/cmdline" ] || continue
        printf '%s\t%s\t%s\t' "${p#/proc/}" "$v" "$(stat -c %U "$p")"
        tr '\0\n\t' '\t  ' <"$p/cmdline"
        echo
    done 2>/dev/null
    IFS=' '
fi
set -f

section images
# Names with their digests: a name can be given to another image. A record without digests predates them.
if [ -n "$images" ] && there=$(ctr -n k8s.io images ls 2>/dev/null | while read -r name _ v _; do print "$name $v"; done); then
    for i in $images; do
        [ -f "$base/images/$i" ] || continue
        missing=
        while IFS= read -r v; do
            case $v in *' '*) ;; *) missing=yes ;; esac
            case $nl$there$nl in *"$nl$v$nl"*) ;; *) missing=yes ;; esac
        done <"$base/images/$i"
        [ -n "$missing" ] || echo "$i"
    done
fi

section extras
start_ticks() ( # /proc/PID/stat
    # The fields from the third on: the second is a name in brackets.
    IFS=' '
    # shellcheck disable=SC2086 # fields
    set -- ${1##*) }
    [ -n "${20-}" ] && echo "${20}"
)
for x in $extras; do
    case $x in
    lsm) grep -s '' /dev/null /sys/kernel/security/lsm /sys/module/apparmor/parameters/enabled /sys/fs/selinux/enforce ;;
    time)
        ! have timedatectl || timeout 5 timedatectl show -p NTPSynchronized 2>/dev/null
        ! have chronyc || { v=$(timeout 5 chronyc -n -c tracking 2>/dev/null) && print "chrony=${v%%"$nl"*}"; }
        ;;
    encryption)
        f=/etc/kubernetes/enc/encryption.yaml
        [ ! -f "$f" ] || {
            v=$(sed -n 's/^ *secret: *//p' "$f" | tr -d '"' | sha256sum)
            print "encryption=${v%% *}"
            changed=$(stat -c %Z "$f")
            # API servers of the node itself, with whose start the change is compared: both times are of whole seconds.
            set +f
            found=$(grep -slxF kube-apiserver /proc/[0-9]*/comm)
            IFS=$nl
            for p in $found; do
                p=${p%/comm}
                [ -O "$p" ] && [ "$(readlink "$p/ns/net")" = "$(readlink /proc/self/ns/net)" ] || continue
                theirs=$(start_ticks "$(cat "$p/stat")") && now=$(start_ticks "$(cat /proc/self/stat)") || continue
                v=$(($(date +%s) - (now - theirs) / $(getconf CLK_TCK)))
                if [ "$changed" -lt $((v - 1)) ]; then v=yes; else v=no; fi
                echo "encryption_in_effect=$v"
            done 2>/dev/null
            set -f
            IFS=' '
        }
        ;;
    observation)
        # Whom our firewall would turn away, where it only logs: the sets are part of the table.
        ! v=$(nft -j list table inet kubastion 2>/dev/null) || {
            print "rules=$v"
            v=$(stat -c %Y "$base/firewall.loaded" 2>/dev/null) && echo "rules_since=$v"
        }
        # Requests in the API server's audit log that would end otherwise. A node that runs no API server has none.
        set +f
        found=$(grep -slxF kube-apiserver /proc/[0-9]*/comm)
        set -f
        IFS=$nl
        logs=
        for p in $found; do
            p=${p%/comm}
            [ -O "$p" ] && [ "$(readlink "$p/ns/net")" = "$(readlink /proc/self/ns/net)" ] || continue
            echo apiserver=yes
            v=$(tr '\0' '\n' <"$p/cmdline" | sed -n 's/^--audit-policy-file=//p')
            print "audit_policy=$v"
            v=$(tr '\0' '\n' <"$p/cmdline" | sed -n 's/^--audit-log-path=//p')
            case $v in /*.*) logs=$v ;; esac
        done 2>/dev/null
        # Full ones are beside it, with the time in their names: the oldest is first.
        [ -z "$logs" ] || {
            set +f
            v=$(ls -1tr "${logs%.*}"-*."${logs##*.}" "$logs" 2>/dev/null)
            set -f
            for p in $v; do
                first=$(head -n 1 "$p" | grep -o '"requestReceivedTimestamp":"[^"]*"' | head -n 1)
                [ -z "$first" ] || break
            done
            print "audit_since=$first"
            # shellcheck disable=SC2086 # a list: `IFS` is a line break
            set -- $v
            # One a line, which is any of them to grep.
            patterns='"username":"system:anonymous"'$nl'authentication.k8s.io/legacy-token'$nl'authentication.k8s.io/stale-token'
            patterns=$patterns$nl'pod-security.kubernetes.io/audit-violations'
            print "audit_count=$(timeout 20 cat "$@" | grep -cF "$patterns")"
            timeout 20 cat "$@" | grep -F "$patterns" | tail -c 4000000 | sed 's/^/audit_event=/'
        }
        IFS=' '
        ;;
    audit) ! have auditctl || { auditctl -l 2>/dev/null && echo ok; } | sed 's/^/audit=/' ;;
    esac
done

IFS=$nl
# The type, the mode in octal, owner, group, size and path, each entry with a mark.
section trees
if [ -n "$trees" ]; then
    there=
    for d in $trees; do [ ! -d "$d" ] || there=$there$d$nl; done
    # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
    {
        [ -z "$there" ] || find $there -xdev -printf '%y %m %u %g %s %p\0' 2>/dev/null
        printf 'status %s\0' $?
    } | tr '\n\0' '\001\n' | head -n 20000 | sed 's/^/=/'
fi
# What others may not read was not meant for a diff either, unless kubastion wrote it.
for f in $shown; do
    [ -f "$f" ] && [ ! -L "$f" ] || continue
    case $(stat -c %a "$f"):$f in
    *[4-7]:* | *kubastion*) ;;
    *) head -n 2 "$f" | grep -q 'Made by kubastion' || continue ;;
    esac
    texts=$texts$f$nl
done
# Each line starts with its path. What looks like a key or a token does not leave the node: the value
# of a setting whose name ends like a secret's (`name: value`, `name = value`, `name value`), what
# stands further in below it without a name of its own, private keys, and what logs in to a URL. Lines
# stay lines and settings stay settings, so that the rest can be judged. In a comment of some length,
# what follows a name after a blank is prose, but for forms that are no language.
section texts
# shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
[ -z "$texts" ] || grep -a -D skip -H -s -m 5000 '' $texts | tr '\0' '\001' | LC_ALL=C awk '
BEGIN {
    word = "(pass|passwd|password|passphrase|passcode|pwd|psk|secret|token|auth|authorization|credential"
    word = word "|dockerconfigjson|key-data|(api|access|secret|private|shared|signing|encryption|certificate)[-_]?key)s?"
    edge = "(^|[^a-z0-9_./-])"
    named = edge "[a-z0-9_./-]*" word "[\"\047]?[ \t]*[:=][ \t]*"
    spaced = edge "([a-z0-9_-]*(auth_?pass|password|passwd|passphrase|secret|token|credential|authorization"
    spaced = spaced "|(api|private)[-_]?key)|stats[ \t]+auth)[\"\047]?[ \t]+"
    plain = "^(true|false|yes|no|on|off|null|none|~|\"\"|\047\047)?[ \t]*(([,;}#]|\\]|\\\\).*)?$"
    surely = edge "(stats[ \t]+auth|[a-z0-9_-]*[_-](pass|password)|user[ \t]+[^ \t]+[ \t]+password)[ \t]+"
    begin = "-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
    end = "-----END [A-Z0-9 ]*PRIVATE KEY"
    own_name = "^[ \t]*((- +)?[\"\047]?[A-Za-z0-9_./~-]+[\"\047]?[ \t]*[:=]|[{}#]|\\[|\\])"
}
{
    at = index($0, ":")
    text = substr($0, at + 1)
    if (substr($0, 1, at) != file) { file = substr($0, 1, at); inside = 0; quote = ""; deep = -1 }
    match(text, /^[ \t]*/)
    indent = RLENGTH
    hide = inside || quote != ""
    if (quote != "") { if (index(text, quote)) quote = "" }
    else if (inside) { if (text ~ end) inside = 0 }
    else if (match(text, begin)) {
        inside = text !~ end
        text = substr(text, 1, RSTART - 1) "# (redacted)"
    } else if (indent < length(text)) {
        if (deep >= 0 && indent > deep && text !~ own_name) hide = 1
        else { deep = -1; text = without(text) }
    }
    print file (hide ? substr(text, 1, indent) "# (redacted)" : text)
}
# A line without its secrets.
function without(s, out, name, n, form) {
    gsub(/:\/\/[^\/ \t"\047]*@/, "://(redacted)@", s)
    while (match(tolower(s), named)) {
        name = tolower(substr(s, RSTART, RLENGTH))
        out = out substr(s, 1, RSTART + RLENGTH - 1)
        s = substr(s, RSTART + RLENGTH)
        # It keeps etcd clusters apart and opens nothing.
        if (name ~ /initial[-_]cluster[-_]token/) continue
        n = value(s, name)
        if (n > 0) out = out "\"(redacted)\""
        s = substr(s, n + 1)
    }
    s = out s
    form = s ~ /^[ \t]*[#;!]/ && split(s, part) > 5 ? surely : spaced
    out = ""
    while (match(tolower(s), form)) {
        out = out substr(s, 1, RSTART + RLENGTH - 1)
        s = substr(s, RSTART + RLENGTH)
        if (s ~ /^([:=|&{}]|\[|\])/ || tolower(s) ~ plain) continue
        deep = indent
        return out "(redacted)"
    }
    return out s
}
# The length of the value at the start of a text; without an end that is sure, the whole of it.
function value(s, name, q) {
    if (s != "" && tolower(s) ~ plain) return 0
    deep = indent
    q = substr(s, 1, 3)
    if (q == "\"\"\"" || q == "\047\047\047") {
        if (!index(substr(s, 4), q)) quote = q
        return length(s)
    }
    if (match(s, /^"([^"\\]|\\.)*"/) || match(s, /^(\047[^\047]*\047)+/)) return RLENGTH
    if (s ~ /^[{]/ || s ~ /^\[[ \t]*(#.*)?$/ || s ~ /^[|>][-+0-9]*[ \t]*(#.*)?$/) return 0
    if (match(s, /^\[.*\]/)) return RLENGTH
    if (q ~ /^["\047]/) quote = substr(s, 1, 1)
    if (name ~ /--[a-z]/ && match(s, /^[^ \t]+/)) return RLENGTH
    return length(s)
}'
IFS=' '

section stat
IFS=$nl
if [ -n "$files" ]; then
    # The type and mode in hexadecimal, owner, group, size, path.
    # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
    stat -c '%f %U %G %s %n' $files 2>&1
    section links
    regular= recorded=
    for f in $files; do
        if [ -L "$f" ]; then
            v=$(readlink "$f" && echo .) && v=${v%"$nl".}
            case $v in *"$nl"*) v=$(printf %s "$v" | tr '\n' '\001') ;; esac
            printf '%s\t%s\n' "$f" "$v"
        elif [ -f "$f" ]; then
            case $programs in
            *"$nl$f$nl"*)
                # A program is hundreds of times larger than a setting. Its digest was recorded when it
                # was read last; no write and no replacement leaves all of this as it was.
                record=$base/programs/${f##*/}.$(printf %s "$f" | cksum | tr ' ' -)
                if [ -f "$record" ] && IFS= read -r v <"$record" &&
                    [ "${v#* }" = "$(stat -c '%s %i %.9Y %.9Z %n' "$f")" ]; then
                    recorded="$recorded${v%% *}  $f$nl"
                    continue
                fi 2>/dev/null
                ;;
            esac
            regular=$regular$f$nl
        fi
    done
    section sha256
    printf %s "$recorded"
    # shellcheck disable=SC2086 # a list: no item has a blank, or `IFS` is a line break
    [ -z "$regular" ] || sha256sum $regular 2>&1
fi
section end
