# Loads our nftables table at boot and records what was loaded, in the form in which an apply does:
# the digest of the rules file and of the listing right after loading it.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
rules=/etc/kubastion/firewall.nft
base=/var/lib/kubastion

nft -f "$rules" || exit 1
file=$(sha256sum <"$rules") && listing=$(nft -s list table inet kubastion | sha256sum) || exit 1
printf '%s %s\n' "${file%% *}" "${listing%% *}" >"$base/firewall.loaded.new" &&
    mv -f "$base/firewall.loaded.new" "$base/firewall.loaded"
