# What somebody may have put on the node: libraries in running daemons, programs with more rights than their caller, keys that
# everybody can read, changed programs of packages. Part of live.sh, with its functions and lists; the last part.

# Names alone, as those of processes: values may be secrets.
if have systemctl && names=$(within systemctl show-environment); then
    {
        printf '%s\n' "$names" | sed 's/=.*//'
        echo ok
    } | answer manager
fi
set +f
for f in /etc/systemd/system.conf /usr/lib/systemd/system.conf /etc/systemd/system.conf.d/*.conf \
    /run/systemd/system.conf.d/*.conf /usr/local/lib/systemd/system.conf.d/*.conf /usr/lib/systemd/system.conf.d/*.conf; do
    # A line may go on after a backslash, so all names of such a file are told.
    text_of "$f" | grep -aqs '^[[:blank:]]*\(Default\|Manager\)Environment' || continue
    printf '@manager-file'
    printf %s "$f" | field
    text_of "$f" | grep -av '^[[:blank:]]*[#;]' | grep -ao '[A-Za-z_][A-Za-z0-9_]*=' | sed 's/=$//' | field
    echo
done
set -f

# Which files no package brought: of those that daemons run, that answer for names of users and hosts, and that OpenSSL loads.
asked=$mapped
IFS=$nl
set +f
for s in $(text_of /etc/nsswitch.conf | sed -e 's/#.*//' -e 's/^[^:]*://' -e 's/\[[^]]*\]//g' | tr -s '[:blank:]' '\n' | grep -x '[A-Za-z0-9_-]*' |
    sort -u); do
    for f in /lib/libnss_"$s".so.2 /usr/lib/libnss_"$s".so.2 /lib/*/libnss_"$s".so.2 /usr/lib/*/libnss_"$s".so.2 \
        /lib64/libnss_"$s".so.2 /usr/lib64/libnss_"$s".so.2 /usr/local/lib/libnss_"$s".so.2 /usr/local/lib/*/libnss_"$s".so.2; do
        [ ! -e "$f" ] || asked=$asked$(readlink -f "$f")$nl
    done
done
modules=
for f in /etc/ssl/openssl.cnf /usr/lib/ssl/openssl.cnf /etc/pki/tls/openssl.cnf /etc/pki/tls/openssl.d/*.cnf; do
    for m in $(text_of "$f" | sed -n 's/^[[:blank:]]*\(module\|dynamic_path\|SO_PATH\)[[:blank:]]*=[[:blank:]]*\([^[:blank:]#]*\).*/\2/p' |
        tr -d '"\047'); do
        case $m in
        /*) ;;
        # It is looked for where the distribution's are.
        *) for g in /usr/lib/*/ossl-modules/"$m" /usr/lib64/ossl-modules/"$m" /usr/lib/*/engines-3/"$m"; do [ ! -e "$g" ] || m=$g; done ;;
        esac
        modules=$modules$f' '$m$nl
        asked=$asked$m$nl
    done
done
set -f
IFS=' '
printf %s "$modules" | answer modules
asked=$(printf %s "$asked" | sed 's/ (deleted)$//' | grep '^/' | sort -u)
# A directory may have two names, and a package files under one of them.
names=$(printf '%s\n' "$asked" | sed -e 'p;s|^/usr/|/|;t' -e 's|^/|/usr/|')
found='' owners=''
if have dpkg-query; then
    set +f
    found=$(printf '%s\n' "$names" | grep -HsxF -D skip -f - /var/lib/dpkg/info/*.list)
    set -f
    owners=$(printf '%s\n' "$found" | sed -n 's|^/var/lib/dpkg/info/\(.*\)\.list:/.*|\1|p' | sort -u)
    found=$(printf '%s\n' "$found" | sed -n 's|^.*\.list:/|/|p' | sort -u && echo ok)
elif have rpm; then
    IFS=$nl
    found=$(for f in $names; do v=$(within rpm -qf --qf '%{NAME}\n' "$f") && printf '%s:%s\n' "$v" "$f"; done)
    owners=$(printf '%s\n' "$found" | sed -n 's|:/.*||p' | sort -u)
    found=$(printf '%s\n' "$found" | sed -n 's|^[^/]*:/|/|p' | sort -u && echo ok)
    IFS=' '
fi
case $found in
*ok)
    printf '@owned'
    printf %s "$asked" | field
    printf %s "$found" | field
    echo
    ;;
esac

# Programs of packages that the node's safety rests on and libraries that its daemons run, against the digests that came with them.
relied='apt auditd bash chrony containerd coreutils dash dnf haproxy iptables keepalived libc6 libpam-modules libpam-runtime'
relied="$relied libpam-systemd login mount nftables openssh-server openssh-sftp-server passwd runc sudo systemd"
relied="$relied unattended-upgrades util-linux audit glibc openssh pam shadow-utils $(printf %s "$owners" | tr '\n' ' ')"
there='' said=''
if have dpkg-query; then
    # shellcheck disable=SC2086 # a list: names of packages have no blanks
    there=$(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' $relied 2>/dev/null | sed -n 's/ installed$//p')
    [ -z "$there" ] || said=$(
        # shellcheck disable=SC2086 # a list
        IFS=$nl && timeout -k 1 20 dpkg --verify $there 2>/dev/null
        [ $? -ge 124 ] || echo ok
    )
elif have rpm; then
    # shellcheck disable=SC2086 # a list: names of packages have no blanks
    there=$(rpm -q --qf '%{NAME}\n' $relied 2>/dev/null | grep -v ' ')
    [ -z "$there" ] || said=$(
        # shellcheck disable=SC2086 # a list
        IFS=$nl && timeout -k 1 20 rpm -V --nodeps --noscripts --nomtime $there 2>/dev/null
        [ $? -ge 124 ] || echo ok
    )
fi
# Documentation and translations may have been left out.
case $said in *ok) printf '%s\n' "$said" | grep -v ' /usr/share/' | answer verified ;; esac

# Programs that run as somebody else than who starts them, or with a part of root's rights, on each file system where that has
# an effect. What images of containers hold can be reached by root alone.
places=/$nl
while read -r _ m t o _; do
    case $t in ext[234] | xfs | btrfs | f2fs | tmpfs | zfs) ;; *) continue ;; esac
    case ,$o, in *,nosuid,*) continue ;; esac
    case $m/ in
    // | *\\* | /proc/* | /sys/* | /var/lib/containerd/* | /var/lib/kubelet/* | /run/containerd/* | /var/lib/docker/*) continue ;;
    esac
    places=$places$m$nl
done </proc/mounts
IFS=$nl
# shellcheck disable=SC2086 # a list, parted by line breaks
set -- $places
IFS=' '
# shellcheck disable=SC2016 # for the other shell
setid=$(timeout -k 1 15 sh -c 'find "$@" -xdev \( -path /var/lib/containerd -o -path /var/lib/kubelet -o -path /var/lib/docker \) -prune -o \
    -type f -perm /6000 -printf "%m %U %u %g %p\0" 2>/dev/null | head -z -n 501 | base64 -w 0 && echo .' sh "$@" 2>/dev/null)
case $setid in *.) printf '@setid %s\n' "${setid%.}" ;; esac
# The file capabilities of each program, by tar's mark in a listing: for /dev/null it reads none of them. Its own warning says that
# it cannot.
# shellcheck disable=SC2016 # for the other shell
found=$(timeout -k 1 20 sh -c 'find "$@" -xdev \( -path /var/lib/containerd -o -path /var/lib/kubelet -o -path /var/lib/docker \) -prune -o \
    -type f -perm /111 -print0 2>/dev/null |
    tar --null --no-recursion --hard-dereference --numeric-owner --quoting-style=escape --xattrs \
        --xattrs-include=security.capability -P -cvvf /dev/null -T - 2>&1 |
    grep -a -e "^-.........[*]" -e "^tar: .*upport" -e "^tar: .*recognized" | head -n 201
    echo .' sh "$@" 2>/dev/null)
case $found in
tar:* | *"${nl}tar:"*) ;;
*.)
    IFS=$nl
    for line in ${found%.}; do
        f=/${line#* /}
        printf '@capable'
        printf %s "$f" | field
        # The header alone, where they stand as the kernel has them.
        tar --xattrs --xattrs-include=security.capability --format=pax -P -cf - -- "$f" 2>/dev/null | head -c 4096 | field
        echo
    done
    IFS=' '
    printf ok | answer capables
    ;;
esac

# Keys in files that everybody can read, as copies of kubeconfigs are left. A directory that others may not pass hides all below.
# shellcheck disable=SC2016 # for the other shell
keys=$(timeout -k 1 15 sh -c '
    set -f
    cd /
    there=
    for d in /root /home /opt /etc /srv /tmp /var/tmp /mnt; do [ ! -d "$d" ] || there="$there $d"; done
    find $there -xdev -maxdepth 5 \( -type d ! -perm -o=x -prune \) -o -type f -perm -o=r -size -512k -print0 2>/dev/null |
        xargs -0 -r grep -lasZE -D skip -e "client-key-data[\"\047]? *: *[\"\047]?[A-Za-z0-9+/=]{40}" \
            -e "^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----" | head -z -n 101 | base64 -w 0
    echo .' 2>/dev/null)
case $keys in *.) printf '@keys %s\n' "${keys%.}" ;; esac
echo @end
