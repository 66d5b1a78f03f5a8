# Loads our nftables table at boot and records what was loaded, in the form in which an apply does:
# the digest of the rules file and of the listing right after loading it.
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
rules=/etc/kubastion/firewall.nft
base=/var/lib/kubastion

nft -f "$rules" || exit 1
file=$(sha256sum <"$rules") && listing=$(nft -s list table inet kubastion) || exit 1
# Whom a table that only logs has recorded since (the sets would_drop_*) is no part of it.
listing=$(printf '%s\n' "$listing" | awk '
/^\tset would_drop_/ { records = 1 }
records && /^\t\telements = / { skipped = 1 }
skipped { if (/}$/) skipped = 0; next }
/^\t}$/ { records = 0 }
{ print }' | sha256sum) || exit 1
printf '%s %s\n' "${file%% *}" "${listing%% *}" >"$base/firewall.loaded.new" &&
    mv -f "$base/firewall.loaded.new" "$base/firewall.loaded"
