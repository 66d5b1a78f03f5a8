# Receives one file of a bundle: `DIGEST SIZE OFFSET` on the first line of standard input, then the
# bytes from that offset on. Without bytes, `DIGEST SIZE ask` says how much of it is here. What arrived
# is kept when the connection breaks, so that the next call goes on from there.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
base=/var/lib/kubastion
blobs=$base/blobs

IFS=' ' read -r digest size offset
case $digest$size in *[!0-9a-f]* | '')
    echo '@refused the file name is malformed'
    exit 4
    ;;
esac
[ "${#digest}" -eq 64 ] || exit 4
part=$blobs/$digest.part

if [ -f "$blobs/$digest" ]; then
    echo '@have all'
    exit 0
fi
here=0
[ ! -f "$part" ] || here=$(stat -c %s "$part") || exit 4
if [ "$offset" = ask ]; then
    echo "@have $here"
    exit 0
fi
[ -d "$blobs" ] || { mkdir -p "$blobs" && chmod 0700 "$base" "$blobs"; } || {
    echo "@refused cannot write below $base"
    exit 4
}
[ "$here" -eq "$offset" ] || {
    echo "@have $here"
    exit 0
}
# As long as two runs send the same, one of them waits; it then finds the file.
exec 9>>"$part" && flock -w 300 9 || {
    echo '@refused another run is sending the same file'
    exit 4
}
free=$(($(stat -f -c '%a * %S' "$blobs")))
[ "$free" -gt $((size - here)) ] || {
    echo "@refused the disk has $((free / 1000000)) MB left, but the file needs $(((size - here) / 1000000)) MB more"
    exit 4
}
cat >&9
here=$(stat -c %s "$part") || exit 4
[ "$here" -ge "$size" ] || {
    echo "@have $here"
    exit 0
}
found=$(sha256sum <"$part") && [ "${found%% *}" = "$digest" ] || {
    rm -f "$part"
    echo '@refused the received file differs from the sent file'
    exit 4
}
mv -f "$part" "$blobs/$digest" && echo '@have all'
