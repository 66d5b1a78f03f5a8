# Reads the live state of a node, as opposed to its files: processes with their programs and environment, who may
# replace what root runs, settings of each interface, what the next boot will set, rules in the kernel. Changes nothing.
#
# The request comes on standard input: its length in bytes, then one item a line: `N program`, `U unit`, `P path` (who
# may write it, and when it was changed), `I family key` (a kernel setting of each interface), `H directory` (a home).
# POSIX sh with coreutils, find, grep and sed.
# Every answer is a line of its own, `@NAME FIELD...`, each field in base64: what a node's names, links and programs
# hold can look like nothing else. The last line is `@end`.
set -u
set -f
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export LC_ALL PATH
nl='
'
programs='' units='' paths='' keys='' homes=''
IFS= read -r line
case $line in '' | *[!0-9]*) exit 2 ;; esac
list=$(dd bs="$line" count=1 iflag=fullblock 2>/dev/null)
exec </dev/null
IFS=$nl
for line in $list; do
    item=${line#? }
    case $line in
    'N '*) programs="$programs $item" ;;
    'U '*) units="$units $item" ;;
    'P '*) paths=$paths$item$nl ;;
    'I '*) keys=$keys$item$nl ;;
    'H '*) homes=$homes$item$nl ;;
    esac
done
IFS=' '
have() { command -v "$1" >/dev/null 2>&1; }
# One field, out of standard input.
field() {
    printf ' '
    base64 -w 0
}
answer() { # name; its one field is standard input
    printf '@%s' "$1"
    field
    echo
}
# A program that asks others, or reads files of its own choice, may wait for what never comes.
within() { timeout -k 1 10 "$@" 2>/dev/null; }
# What a file holds that is a regular one. A pipe or a device under its name would keep a reader waiting: no file of the node's
# configuration is opened in any other way.
text_of() { # path [bytes]
    [ -f "$1" ] && dd if="$1" bs="${2:-8388608}" count=1 iflag=nonblock,fullblock 2>/dev/null
}

# What is no regular file where programs read all that they find: pipes, devices and sockets, also behind links. A link to
# /dev/null masks a name.
irregular=$({
    for d in 9:/etc 1:/run/sysctl.d 1:/usr/lib/sysctl.d 1:/usr/local/lib/sysctl.d 1:/var/lib/dpkg 2:/var/lib/kubastion \
        0:/var/lib/kubelet/config.yaml 0:/var/lib/kubelet/kubeadm-flags.env 0:/var/lib/kubelet/instance-config.yaml; do
        [ ! -e "${d#*:}" ] || find "${d#*:}" -maxdepth "${d%%:*}" \( -xtype p -o -xtype b -o -xtype c ! -lname '*dev/null' -o \
            -xtype s ! -name '*.sock' \) -printf '%Y %p\0' 2>/dev/null | head -z -n 100
    done
    echo ok
} | base64 -w 0)
printf '@irregular %s\n' "$irregular"
irregular=$nl$(printf %s "$irregular" | base64 -d | tr '\n\0' '\001\n')

# A process' start is counted from the boot, which is found by both clocks. The uptime is read first and by the shell itself:
# what passes between the two makes starts later, and never a file that was written before look newer.
read -r up rest </proc/uptime
{ date +%s.%N && printf '%s\n' "$up" && getconf CLK_TCK; } | answer clock

# By the program's file, by the name of the process, and as the owner of a socket.
have ss && within ss -Hlntup | answer sockets
byfile='' byname=''
for p in $programs; do
    # The kernel says `(deleted)` of a program that was replaced.
    byfile="$byfile${byfile:+ -o }-lname */$p -o -lname */$p?(deleted)"
    byname="$byname -e $(printf %.15s "$p")"
done
set +f
set -- /proc/[0-9]*
set -f
# shellcheck disable=SC2086 # words of an expression; names of programs have no blanks
found=$(
    find "$@" -maxdepth 1 -name exe \( $byfile \) -printf '%h\n' 2>/dev/null
    find "$@" -maxdepth 1 -name comm -exec grep -lsxF $byname {} + 2>/dev/null | sed 's|/comm$||'
)
own=$(readlink /proc/self/ns/net)
mounts=$(readlink /proc/self/ns/mnt)
top=$(stat -c %d:%i /)
# Configuration and keys of daemons: each path, and the digest of what it holds in a mount namespace.
files_below() { # root
    (cd "$1" && find etc/kubernetes etc/etcd etc/containerd etc/haproxy etc/keepalived -type f -size -1024k -exec sha256sum -z {} + 2>/dev/null)
}
elsewhere='' mapped=''
IFS=$nl
for p in $(printf '%s\n' "$found" | grep '^/proc/[0-9]*$' | sort -u); do
    # Whether it is in the node's own network: a pod may run programs of any name in one of its own.
    where=pod
    [ "$(readlink "$p/ns/net")" != "$own" ] || where=node
    printf '@process'
    printf %s "${p#/proc/}" | field
    field <"$p/stat"
    stat -c %U "$p" | field
    readlink -n "$p/exe" | field
    printf %s "$where" | field
    field <"$p/cmdline"
    # Names alone: values may be secrets. That of PATH says which programs it starts.
    sed -z '/^PATH=/!s/=.*//' "$p/environ" | field
    # What it runs beside its own file, of one that sees the node's. A title may stand where its environment was. One that has
    # changed its root since (haproxy's workers) sees what its parent sees, by whose names the kernel calls its files.
    files='' sees=$p parent=/proc/$(sed -n 's/^PPid:[^0-9]*//p' "$p/status")
    [ "$(readlink "$p/ns/mnt")" != "$(readlink "$parent/ns/mnt")" ] || sees=$parent
    [ "$where" = node ] && [ "$(stat -L -c %d:%i "$sees/root/.")" = "$top" ] &&
        files=$(sed -n 's|^[^ ]* ..x. [^ ]* [^ ]* [^ ]* *\(/.*\)|\1|p' "$p/maps" | sort -u) && files=$files${files:+$nl} mapped=$mapped$files
    printf %s "$files" | field
    echo
    # In a mount namespace of its own it may see other files than are here now: a mount over one lasts there. What a tenant's
    # pod holds under such a name is not judged, and could keep this waiting.
    [ "$where" = node ] && [ "$(readlink "$p/ns/mnt")" != "$mounts" ] || continue
    elsewhere=yes
    printf '@inside'
    printf %s "${p#/proc/}" | field
    files_below "$p/root/" | field
    echo
done 2>/dev/null
IFS=' '
[ -z "$elsewhere" ] || files_below / | answer files

if have systemctl; then
    for u in $units; do
        printf '@unit'
        printf %s "$u" | field
        within systemctl show -p LoadState -p ActiveState -p FragmentPath -p DropInPaths -p NeedDaemonReload -p MainPID \
            -p StateChangeTimestampMonotonic "$u" | field
        echo
    done
fi

# What was mounted over configuration and is no longer: systemd notes each mount that goes. Of pods and containers there are
# many, at other places.
if have journalctl && gone=$(within journalctl -q -F UNIT); then
    # From when to when it tells of this boot, and whether anything older was put aside: an empty one tells of nothing.
    printf '@journal'
    within journalctl -q -b -o json --output-fields=PRIORITY | head -n 1 | field
    within journalctl -q -b -o json --output-fields=PRIORITY -n 1 | field
    find /var/log/journal /run/log/journal -maxdepth 2 -name 'system@*.journal' -printf x -quit 2>/dev/null | field
    # What systemd does not write is not there either.
    within systemctl show -p LogLevel -p LogTarget | field
    echo
    set --
    IFS=$nl
    for u in $(printf '%s\n' "$gone" | grep -e '^\(etc\|usr\)[-.].*mount$' -e '^var\(-lib\(-kubelet\(-[cik][^/]*\)\?\)\?\)\?\.mount$' |
        head -n 500); do
        set -- "$@" "UNIT=$u"
    done
    IFS=' '
    {
        # Several of one field are alternatives.
        [ "$#" -eq 0 ] || within journalctl -q -b -o json --output-fields=UNIT _PID=1 "$@"
        echo ok
    } | answer mounts
fi

# A link on the way leads elsewhere: that place counts, too.
more=
IFS=$nl
for p in $paths; do
    hops=0
    while [ -L "$p" ] && [ "$hops" -lt 8 ]; do
        hops=$((hops + 1))
        # As the link is called by its directory's own name, and where it leads.
        in=$(realpath "${p%/*}/." 2>/dev/null) || break
        p=${in%/}/${p##*/}
        to=$(readlink "$p") || break
        case $to in /*) ;; *) to=${in%/}/$to ;; esac
        case $p$to in *"$nl"*) break ;; esac
        for q in "$p" "$to"; do
            while [ -n "$q" ]; do
                more=$more$q$nl
                q=${q%/*}
            done
        done
        p=$to
    done
done
# shellcheck disable=SC2086 # a list, parted by line breaks
[ -z "$paths" ] || find / $paths $more -maxdepth 0 -printf '%y %m %U %u %C@ %p\0%l\0' 2>/dev/null | answer paths
IFS=' '

# Units, programs and drop-ins that others have put beside ours; what comes before /etc/systemd/system is in systemd.unit(5).
for d in /etc/systemd/system.control /run/systemd/system.control /etc/systemd/system /etc/ssh/sshd_config.d \
    /etc/containerd /etc/haproxy /etc/keepalived /etc/kubernetes /etc/etcd /etc/default/ssh /etc/ssh/sshd_config; do
    [ -e "$d" ] && printf '%s\n' "$d"
done | {
    set --
    while IFS= read -r d; do set -- "$@" "$d"; done
    # Into mounts too: one over a directory is what a daemon sees there.
    [ $# -eq 0 ] || find "$@" -maxdepth 4 -printf '%y %m %U %u %C@ %p\0%l\0' 2>/dev/null
} | answer trees

# Rights beside the mode: ls marks them by a plus. What a name holds that steers a terminal is escaped.
{
    find /etc/kubernetes /etc/etcd /etc/shadow /etc/gshadow /etc/sudoers /etc/sudoers.d /etc/ssh /var/lib/kubelet/pki \
        /run/containerd/containerd.sock -maxdepth 4 -exec ls -ldbn --time-style=+%s {} + \
        2>/dev/null | grep '^.\{10\}+'
    echo ok
} | answer acls

# Interfaces that come and go in the middle are none.
IFS=$nl
for k in $keys; do
    set +f
    grep -s '' /dev/null /proc/sys/net/"${k% *}"/conf/*/"${k#* }"
    set -f
done | answer interfaces
IFS=' '

# Programs in directories that come first, of a name that a package has, too.
set +f
{
    for f in /usr/local/sbin/* /usr/local/bin/*; do
        [ -f "$f" ] && [ -x "$f" ] || continue
        for d in /usr/sbin /usr/bin /sbin /bin; do
            p=$d/${f##*/}
            [ -e "$p" ] || continue
            [ "$(readlink -f "$f")" = "$(readlink -f "$p")" ] || printf '%s\0' "$f"
            break
        done
    done
    echo ok
} | answer shadows
set -f

# In the order of sysctl.d(5), which goes by names and not by directories.
set +f
for f in /usr/lib/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf /run/sysctl.d/*.conf /etc/sysctl.d/*.conf; do
    [ -e "$f" ] || [ -L "$f" ] || continue
    printf '@sysctl'
    printf %s "$f" | field
    # A link to nothing masks the file of its name.
    text_of "$f" 65537 | field
    echo
done
set -f

if have nft; then
    within nft -j list table inet kubastion | answer rules
    # What our file makes of an empty kernel, in a network of its own that ends with the program.
    have unshare && [ -f /etc/kubastion/firewall.nft ] &&
        within unshare -n sh -c 'nft -f /etc/kubastion/firewall.nft && nft -j list table inet kubastion' | answer file-rules
    # Rules of others, which may rewrite a packet before ours see it. Those of kube-proxy and of pods' networks are as many as
    # there are Services and pods, in chains of their own.
    ask='' table='' chain='' known=''
    IFS=$nl
    for line in $(within nft list chains); do
        case $line in
        'table inet kubastion {')
            table=
            continue
            ;;
        'table '*)
            table=${line#table }
            table=${table%% \{*}
            continue
            ;;
        *'chain '*) ;;
        # Where packets come in, whatever it is called.
        *type*hook*)
            [ -z "$table" ] || [ -z "$known" ] || ask=$ask$table' '$chain$nl
            continue
            ;;
        *) continue ;;
        esac
        chain=${line#*chain }
        chain=${chain%% \{*}
        [ -n "$table" ] || continue
        case $chain in
        KUBE-* | CNI-* | cali-* | CILIUM_*) known=yes ;;
        # As kube-proxy calls them in its nftables mode (pkg/proxy/nftables/proxier.go).
        service* | endpoint-* | external-* | firewall-* | cluster-ips-check | nodeport-endpoints-check | no-endpoints | \
            reject-chain | mark-for-masquerade | masquerading)
            known=
            case $table in ip\ kube-proxy | ip6\ kube-proxy) known=yes ;; esac
            ;;
        *) known= ;;
        esac
        [ -n "$known" ] || ask=$ask$table' '$chain$nl
    done
    # One at a time: with several, nft 1.0.6 looks for the chains of the first in the table of the last. One that is gone by now,
    # or has a name of several words, leaves half a line, which is no answer.
    {
        echo '{"nftables": []}'
        for line in $ask; do
            IFS=' '
            # shellcheck disable=SC2086 # family, table and chain
            within nft -j list chain $line || echo '{'
            IFS=$nl
        done
    } | answer foreign
    # The older programs have rules of their own in the kernel, which nft does not show.
    # Files of /proc have no size.
    if grep -qs . /proc/net/ip_tables_names /proc/net/ip6_tables_names; then
        for t in iptables ip6tables; do
            if have $t-legacy-save; then
                $t-legacy-save
            else
                case $($t -V) in *nf_tables*) ;; *) $t-save ;; esac
            fi
        done 2>/dev/null | grep -v -e '^-A KUBE-' -e '^-A CNI-' -e '^-A cali-' -e '^-A CILIUM_' | answer legacy
    fi
    IFS=' '
fi
# Containers that no kubelet asked for, by their namespace in containerd. Names of namespaces and ids are containerd's to check:
# letters, digits and `-_.`, no blanks.
PATH=$PATH:/usr/local/bin
if have ctr && spaces=$(within ctr namespaces ls -q); then
    {
        IFS=$nl
        for s in $spaces; do
            ours=
            [ "$s" != k8s.io ] || ours=$(within ctr -n k8s.io containers ls -q 'labels."io.kubernetes.pod.uid"')
            all=$(within ctr -n "$s" containers ls -q) || exit
            for c in $all; do
                case $nl$ours$nl in *"$nl$c$nl"*) ;; *) printf '%s\n' "$s/$c" ;; esac
            done
        done
        echo ok
    } | answer containers
    IFS=' '
fi
# apt would wait for what is no regular file. It takes names in any case, and values may be of several lines. Those of proxies may
# hold passwords.
case $irregular in
*' /etc/apt/'*) ;;
*)
    have apt-config && said=$(within apt-config dump --format '%F=%V%n') && printf '%s\n' "$said" |
        grep -ai -e '^\(APT\|Acquire\|Debug\|Dir\|DPkg\|RootDir\|Unattended-Upgrade\)[:=]' | grep -aiv '^Acquire:[^=]*Proxy' | answer apt
    # They would keep what they have worked out in /var/cache/apt, and a look leaves nothing behind.
    have apt-mark && within apt-mark -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= showhold | answer held
    have apt-cache && {
        within apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= policy && echo ok
    } | answer sources
    ;;
esac
# Options of sources, without what logs in to one.
set +f
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] || continue
    printf '@apt-source'
    printf %s "$f" | field
    text_of "$f" 65537 | sed 's|//[^/@[:blank:]]*@|//|g' | field
    echo
done
set -f

[ ! -f /etc/passwd ] || [ ! -f /etc/group ] || [ ! -f /etc/shadow ] || {
    # What is no plain number from 1 on may be read as 0: strtoul(3) takes signs and blanks.
    text_of /etc/passwd | sed -n -e '/^[^:]*:[^:]*:[1-9][0-9]*:/!s/^\([^:]*\).*/root \1/p' -e 's/^\([^:]*\)::.*/open \1/p'
    text_of /etc/shadow | sed -n 's/^\([^:]*\)::.*/open \1/p'
    # Who gets the rights of root's group: by its list of members, or as the own group of an account that can log in.
    text_of /etc/passwd | sed -n -e '/^[^:]*:[^:]*:[^:]*:[1-9][0-9]*:/d' \
        -e '/:\(\/usr\)\?\/s\?bin\/\(nologin\|false\|sync\|shutdown\|halt\)$/d' -e 's/^\([^:]*\):.*/group \1/p'
    text_of /etc/group | sed -n '/^[^:]*:[^:]*:[1-9][0-9]*:/!s/^[^:]*:[^:]*:[^:]*:\(..*\)$/members \1/p' && echo ok
} 2>/dev/null | answer accounts
# The first library of a name is the one that programs get.
have ldconfig && within ldconfig -p | answer libraries
[ ! -e /run/reboot-required ] || text_of /run/reboot-required.pkgs | sort -u | answer reboot

# Of credentials that somebody left lying about, the certificates alone. Users choose what lies there, and while it is read: regular
# files, opened so that nothing is waited for, so many, so much of each, all in so much time. Last, so that its silence costs
# only itself; what is not complete is not told.
cd / || exit 2
roots=
# A directory that is searched with none of those before: elsewhere, behind a link, or on another file system.
root() { # directory
    h=$(readlink -f "$1") && [ -d "$h" ] || return 0
    for r in $roots; do
        case $h/ in "$r"/*) [ "$(stat -c %d "$h")" != "$(stat -c %d "$r")" ] || return 0 ;; esac
    done
    roots=$roots$h$nl
}
IFS=$nl
for h in $homes; do root "$h"; done
for d in $(text_of /etc/passwd | cut -d: -f6); do
    case $d in
    / | /bin* | /boot* | /dev* | /etc* | /lib* | /nonexistent* | /proc* | /run* | /sbin* | /sys* | /usr* | [!/]*) ;;
    *) root "$d" ;;
    esac
done
# shellcheck disable=SC2086 # a list, parted by line breaks
set -- $roots
IFS=' '
# shellcheck disable=SC2016 # for the other shell
each='
    [ "$#" -le 300 ] || exit 255
    # A dash may be written by its number.
    text() { dd if="$1" bs=8192k count=1 iflag=nonblock,fullblock 2>/dev/null | sed "s/\\\\[xuU]0*2[dD]/-/g"; }
    for f do
        printf "@kubeconfig "
        printf %s "$f" | base64 -w 0
        printf " "
        # As YAML has it, and as JSON has it, in quotes or not. Of a text of several lines only that it is one.
        text "$f" | tr -d "\042\047" | grep -aoE "client-certificate-data *: *([A-Za-z0-9+/=]+|[>|])" | head -n 50 |
            sed "s/^[^:]*: *//" | base64 -w 0
        printf " "
        text "$f" | tr -d "\042\047" | grep -aoE "client-certificate *: *[^,} ]+" | head -n 20 | sed "s/^[^:]*: *//" |
            while IFS= read -r c; do
                case $c in /*) ;; *) c=${f%/*}/$c ;; esac
                [ ! -f "$c" ] || text "$c" | sed -n "/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p"
            done | base64 -w 0
        printf " "
        stat -c %a "$f" | base64 -w 0
        echo
    done'
# One more than are looked at says that there are more.
# shellcheck disable=SC2016 # for the other shell
found=$(timeout -k 1 20 sh -c '
    each=$1
    shift
    [ "$#" -eq 0 ] || {
        find "$@" -xdev -maxdepth 4 -type f -size -512k -print0
        find "$@" -xdev -maxdepth 8 -type f -path "*/.kube/*" -size -8192k -print0
    } 2>/dev/null | sort -zu | xargs -0 -r grep -lasZ -D skip -e client-certificate -e "client\\\\[xuU]" | head -z -n 301 |
        xargs -0 -r -n 301 sh -c "$each" each && echo complete' sh "$each" "$@" 2>/dev/null)
case $found in
*complete)
    printf '%s' "${found%complete}"
    printf ok | answer kubeconfigs
    ;;
esac
