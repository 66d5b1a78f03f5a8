# The rules of our table in the kernel. Part of collect.sh and of txn.sh; templates/host/firewall.sh does the same at boot.

# As they were loaded: the counts, and whom a table that only logs has recorded (the sets would_drop_*), are left out.
own_rules() {
    listing=$(nft -s list table inet kubastion) || return 1
    printf '%s\n' "$listing" | awk '
/^\tset would_drop_/ { records = 1 }
records && /^\t\telements = / { skipped = 1 }
skipped { if (/}$/) skipped = 0; next }
/^\t}$/ { records = 0 }
{ print }'
}
