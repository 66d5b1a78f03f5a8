# Reads files that are named on standard input, one a line, and changes nothing. Each that is there is one line of the answer:
# its path, and what it holds in base64. What is larger than a kubeconfig ever is, is left out.
# POSIX sh with coreutils.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
nl='
'
# A sudo that records output (`log_output` of sudoers(5)) reads it first, so its program gets another pipe than sudo itself. With
# a log server it leaves the node.
above=
p=$PPID
while IFS=' ' read -r _ v _ q _ 2>/dev/null <"/proc/$p/stat" && [ "$v" = '(sudo)' ]; do
    above=$p
    p=$q
done
if [ -n "$above" ]; then
    exec 3>&1
    v=$(readlink /proc/self/fd/3 "/proc/$above/fd/1" 2>/dev/null)
    exec 3>&-
    case $v in
    *"$nl"*) [ "${v%%"$nl"*}" = "${v#*"$nl"}" ] || v= ;;
    *) v= ;;
    esac
    if [ -z "$v" ]; then
        # shellcheck disable=SC2016 # a word
        echo 'sudo records program output (`log_output`), so no key was read: log in as root, or switch `log_output` off' >&2
        exit 3
    fi
fi
while IFS= read -r path; do
    [ -f "$path" ] && [ "$(stat -L -c %s "$path")" -le 65536 ] || continue
    printf '%s ' "$path"
    base64 <"$path" | tr -d '\n'
    echo
done
