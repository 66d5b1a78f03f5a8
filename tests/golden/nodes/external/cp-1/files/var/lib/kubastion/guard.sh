# Boot guard: a node that went down between a change and its confirmation comes up as it was before.
# Run by kubastion-guard.service before the network, sshd and sysctl are set up.
base=/var/lib/kubastion
for T in "$base"/txn/*/; do
    [ -s "${T}state" ] || [ "${T%/}" = "$base/txn/$(cat "$base/armed")" ] || continue
    # A power cut may leave the state empty.
    case $(cat "${T}state" 2>/dev/null) in
    switching | switched | reverting | '') /bin/sh "${T}txn.sh" revert boot ;;
    esac
done
rm -f "$base/armed"
