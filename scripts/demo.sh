#!/bin/sh
# From nothing to hardened and proven, on this machine. $1: the program, $2: directory of the lab.
set -eu
case $1 in /*) kubastion=$1 ;; *) kubastion=$PWD/$1 ;; esac
dir=$2
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '\n%s\n' "$*" >&2; }

if [ -e "$dir/lab.json" ]; then
    say "Taking the lab of an earlier demo down"
    "$kubastion" lab down --dir "$dir"
    : >"$dir/.demo"
fi
if [ -e "$dir/.demo" ]; then
    # Keys and records of a lab that is no more.
    rm -rf "$dir/pki" "$dir/.kubastion" "$dir/admin.conf"
elif [ -e "$dir/pki" ] || [ -e "$dir/.kubastion" ] || [ -e "$dir/admin.conf" ]; then
    echo "$dir holds keys or records, but no demo lab: choose another directory (DEMO_DIR), or move them away" >&2
    exit 1
fi
mkdir -p "$dir"
: >"$dir/.demo"

# What a cluster is installed from; "none" does without.
bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
# Key and signers lie beside it, not in it.
bundle=${bundle%/}
if [ "$bundle" = none ]; then
    bundle=
else
    code=0
    sh "$(dirname "$0")/demo-bundle.sh" "$kubastion" "$bundle" || code=$?
    case $code in
    0) ;;
    # The projects' hosts cannot be reached, which was said.
    8) bundle= ;;
    *) exit "$code" ;;
    esac
fi

if [ -n "$bundle" ]; then
    say "1. Three control planes with etcd, and two workers, bare (kubastion lab up)"
    "$kubastion" lab up --control-planes 3 --workers 2 --dir "$dir" --bundle "$bundle"
else
    say "1. Three control-plane nodes with etcd, and a worker (kubastion lab up)"
    "$kubastion" lab up --control-planes 3 --workers 1 --dir "$dir"
fi
cd "$dir"

say "2. Keys and certificates (kubastion pki ensure)"
"$kubastion" pki ensure | tail -n 1

say "3. What would change (kubastion plan)"
"$kubastion" plan --out demo.plan

say "4. Carry it out (kubastion apply demo.plan)"
code=0
"$kubastion" apply demo.plan || code=$?
if [ "$code" -eq 4 ]; then
    # What packages bring along can make another plan of it. Once: what comes again is not theirs.
    say "   Packages changed more than the plan showed: plan again, and apply that"
    "$kubastion" plan --out demo.plan
    code=0
    "$kubastion" apply demo.plan || code=$?
fi
[ "$code" -eq 0 ] || exit "$code"

say "5. A second plan is empty (kubastion plan --exit-code)"
"$kubastion" plan --exit-code

say "6. Prove it, by reading and by attacking (kubastion verify --summary)"
"$kubastion" verify --summary

if [ -n "$bundle" ]; then
    say "7. The cluster (kubastion kubeconfig)"
    "$kubastion" kubeconfig --out admin.conf
    "$kubastion" lab exec --dir . cp1 -- /usr/local/bin/kubectl \
        --kubeconfig /etc/kubernetes/admin.conf get nodes
    say "8. Its kubeconfig is $dir/admin.conf"
fi

say "The lab stays up. Look around:"
cat >&2 <<END
  cd $dir
  $kubastion plan --verbose
  $kubastion verify --verbose
  $kubastion lab exec --dir . cp1 -- nft list table inet kubastion
  $kubastion lab down --dir .
END
