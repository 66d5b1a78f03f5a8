#!/bin/sh
# The bundle of the demo: made from the projects' releases where there is none, and kept for the next time.
# $1: the program, $2: directory of the bundle.
#
# Ends with 0 if the bundle is there, with 8 and one line if the projects' hosts cannot be reached, and as
# `bundle create` does, with its words, if anything else is wrong. What was fetched till then is not fetched again.
set -eu
kubastion=$1
bundle=$2
key=$bundle.demo-key
signers=$bundle.signers

[ ! -e "$bundle/manifest.json" ] || exit 0

failed() { # exit code
    echo "No bundle, so no cluster. Run \`KUBASTION_BUNDLE=none make demo\` to see hosts and etcd without one." >&2
    exit "$1"
}

# Before anything is written: a machine without a network gets no key that nobody needs.
code=0
said=$("$kubastion" bundle create --check --out "$bundle" --key "$key" 2>&1 >/dev/null) || code=$?
case $code in
0) ;;
8)
    # The first line has the hosts and the reason.
    said=$(printf '%s\n' "$said" | head -n 1)
    echo "No cluster, only hosts and etcd: ${said#error: }. Set HTTPS_PROXY, or bring a bundle (KUBASTION_BUNDLE)." >&2
    exit 8
    ;;
*)
    printf '%s\n' "$said" >&2
    failed "$code"
    ;;
esac

# The sizes of the versions that `bundle create` takes by default.
cat >&2 <<END
No bundle in $bundle: making one there, and keeping it for the next run.
  download  about 400 MiB from dl.k8s.io, github.com and registry.k8s.io, once
  disk      about 1400 MiB meanwhile ($bundle.download, $bundle.partial), 550 MiB afterwards; the bundle is kept
  signed    with the demo's own key, $key; $bundle.signers lists it for labs
END

if [ ! -e "$key" ]; then
    mkdir -p "$(dirname "$bundle")"
    # Under another name first: half a key would be in the way of every later demo.
    rm -f "$key.new" "$key.new.pub"
    ssh-keygen -q -t ed25519 -N '' -C kubastion-demo -f "$key.new" </dev/null
    rm -f "$key.new.pub"
    mv "$key.new" "$key"
fi
# Before the bundle: one without its signer would be refused by every later demo. -P: asks for no passphrase.
public=$(ssh-keygen -y -P '' -f "$key" </dev/null) || {
    echo "$key cannot sign: move it away, and the next demo creates a new one" >&2
    failed 1
}
if ! grep -qsxF "$public" "$signers"; then
    printf '%s\n' "$public" >>"$signers"
fi

# What it prints is for an inventory; that of the lab is written by `lab up`.
"$kubastion" bundle create --out "$bundle" --key "$key" >&2 </dev/null || {
    code=$?
    [ "$code" -ne 8 ] || exit 8
    failed "$code"
}
