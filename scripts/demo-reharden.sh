#!/bin/sh
# A cluster as others have it, on disposable nodes of this machine: what is weak, who would notice that it is hardened, its
# inventory, and the cluster hardened while it runs. $1: the program, $2: directory of the lab.
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
    rm -rf "$dir/imported" "$dir/assessment.txt" "$dir/impact.txt" "$dir/observed.txt" "$dir/verification.txt"
elif [ -e "$dir/imported" ]; then
    echo "$dir/imported holds keys, but there is no demo lab: choose another directory (DEMO_REHARDEN_DIR), or move it away" >&2
    exit 1
fi
mkdir -p "$dir"
: >"$dir/.demo"

bundle=${KUBASTION_BUNDLE:-/var/cache/kubastion/bundle}
# Key and signers lie beside it, not in it.
bundle=${bundle%/}
sh "$(dirname "$0")/demo-bundle.sh" "$kubastion" "$bundle"

say "1. A stock kubeadm cluster, with settings that operators often change (kubastion lab up --stock)"
"$kubastion" lab up --stock --stock-variant odd --control-planes 1 --workers 1 --dir "$dir" --bundle "$bundle"
cd "$dir"
# One line for each node: its name, and its address.
address=$("$kubastion" lab status --dir . | awk '$1 == "cp1" { print $2 }')
set -- "ssh://root@$address" --identity ssh/id_ed25519 --known-hosts ssh/known_hosts

# Gaps end it with 5, which is what this is about.
say "2. Its gaps, and how to fix them (kubastion assess)"
code=0
"$kubastion" assess "$@" >assessment.txt || code=$?
[ "$code" -eq 5 ] || exit "$code"
sed -n '/^Findings:/,$p' assessment.txt

say "3. Who would notice (kubastion impact)"
"$kubastion" impact "$@" >impact.txt
cat impact.txt

say "4. Its inventory, with every setting that is not kubeadm's default, and its CAs (kubastion import)"
"$kubastion" import "$@" --conflicts keep --owner demo --out imported

say "5. The inventory loads (kubastion inventory check)"
"$kubastion" -i imported/inventory.yaml inventory check

say "6. Observe: record who would notice, change nothing that anyone notices (hardening.stage: observe)"
# Nodes of a lab are containers, and only this machine may reach them.
printf 'firewall:\n  admin_networks: [%s.0/24]\nhost:\n  lab: true\n' "${address%.*}" >>imported/inventory.yaml
"$kubastion" -i imported/inventory.yaml pki ensure >/dev/null
"$kubastion" -i imported/inventory.yaml apply --yes
code=0
"$kubastion" -i imported/inventory.yaml impact >observed.txt || code=$?
[ "$code" -eq 0 ] || exit "$code"
sed -n '/^BEFORE/,/^$/p' observed.txt

# Nobody uses this cluster: there is nobody to wait for.
say "7. Harden it while it runs (kubastion apply, without the stage)"
sed -i '/^  stage: observe$/d' imported/inventory.yaml
"$kubastion" -i imported/inventory.yaml apply --yes

# What a lab and kubeadm's own CAs cannot give still fails.
say "8. What holds now (kubastion verify)"
code=0
"$kubastion" -i imported/inventory.yaml verify >verification.txt || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 5 ] || exit "$code"
sed -n '/^ *holds /,/^  all /p' verification.txt

say "9. The reports are assessment.txt, impact.txt, observed.txt and verification.txt in $dir; the inventory is $dir/imported/inventory.yaml"
