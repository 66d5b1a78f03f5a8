# Tries TCP connections from this node; changes nothing. Each line of standard input is
# `address port`; each line of the answer adds how it ended. The last line is `end`.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
if ! command -v bash >/dev/null 2>&1 || ! command -v timeout >/dev/null 2>&1; then
    echo notried
    exit 0
fi
n=0
while read -r host port; do
    {
        # shellcheck disable=SC2016 # bash expands them
        said=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>&1)
        status=$?
        case $status:$said in
        0:*) how=open ;;
        124:* | 143:* | *'timed out'*) how=timeout ;;
        *refused*) how=refused ;;
        *unreachable* | *'No route'*) how=unreachable ;;
        *) how=other ;;
        esac
        echo "$host $port $how"
    } &
    n=$((n + 1))
    [ $((n % 64)) -ne 0 ] || wait
done
wait
echo end
