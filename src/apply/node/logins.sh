# Which accounts can log in, from sshd's effective settings for each (`sshd -T -C`, which evaluates `Match` blocks) and from
# the account's keys and password. Used by collect.sh, which also asks with our future settings, and by a transaction, which
# asks again once the settings are in place.
#
# sshd prints settings, not whether a login succeeds: AllowUsers and the like, AuthenticationMethods and the enabled methods
# are combined here. Where that is unknown (a key command, a CA, a network in AllowUsers), the login counts as able to get
# in, before and after.

# Limit of accounts that are checked.
max_logins=100

# Sets `from`, `from_port`, `to`, `to_port`: the SSH connection of this program. sudo does not pass SSH_CONNECTION on, but
# has it in its own environment.
own_connection() {
    from=127.0.0.1 from_port='' to=127.0.0.1 to_port=22
    found=${SSH_CONNECTION-}
    process=$$ levels=0
    while [ -z "$found" ] && [ "$levels" -lt 12 ] && [ -r "/proc/$process/status" ]; do
        levels=$((levels + 1))
        found=$(tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | sed -n 's/^SSH_CONNECTION=//p' | head -n 1)
        parent=
        while IFS=': 	' read -r key value _; do
            case $key in PPid) parent=$value && break ;; esac
        done <"/proc/$process/status"
        case $parent in '' | 0 | *[!0-9]*) break ;; esac
        process=$parent
    done
    IFS=' ' read -r a b c d <<CONNECTION
$found
CONNECTION
    case $a$c in '' | *[!0-9a-fA-F:.]*) return 0 ;; esac
    case $b$d in '' | *[!0-9]*) return 0 ;; esac
    [ -n "$a" ] && [ -n "$b" ] && [ -n "$c" ] && [ -n "$d" ] || return 0
    # shellcheck disable=SC2034 # for a transaction, which does not take its own connection for another one
    from=$a from_port=$b to=$c to_port=$d
}

# Accounts with a login shell, as lines of passwd(5): those that getent lists, and directory accounts that it does not list but
# that have logged in before.
accounts() {
    listed=$(timeout 10 getent passwd 2>/dev/null || cat /etc/passwd)
    printf '%s\n' "$listed"
    printf '%s\n' "$visits" | while read -r name _; do
        case $nl$listed in *"$nl$name:"*) continue ;; esac
        timeout 5 getent passwd -- "$name" 2>/dev/null
    done
}

# Sets `visits`: `NAME ADDRESS` of who logged in last, each name once.
last_visits() {
    visits=$(
        ! command -v last >/dev/null 2>&1 || timeout 5 last -w -i -n 300 2>/dev/null | while read -r name _ address _; do
            case $name in '' | -* | *[!A-Za-z0-9_.@+-]* | reboot | shutdown | wtmp) continue ;; esac
            case $address in *[!0-9a-fA-F:.]* | 0.0.0.0) continue ;; *.*.*.* | *:*:*) printf '%s %s\n' "$name" "$address" ;; esac
        done | sort -u -k1,1
    )
}

# Whether a login finds a key of its own in the files that sshd reads for it.
has_key() { # name home uid files want
    set -f
    for file in $4; do
        case $file in none) continue ;; esac
        # sshd(8) knows %h, %u, %U and %%.
        file=$(printf '%s\n' "$file" | sed "s|%h|$(printf '%s' "$2" | sed 's/[\\|&]/\\&/g')|g; s|%u|$(printf '%s' "$1" | sed 's/[\\|&]/\\&/g')|g; s|%U|$3|g; s|%%|%|g")
        case $file in /*) ;; *) file=$2/$file ;; esac
        # A pipe would keep whoever reads it waiting.
        [ -f "$file" ] && timeout 2 grep -aqs -e "$5" "$file" && return 0
    done
    return 1
}

# `hash` is the first character of the password hash. `settings` are the relevant lines of `sshd -T`, keys in lower case. Sets
# `verdict` (`in` or `out`), `because` (the setting that refuses the login), and `place` (a checksum of ForceCommand and
# ChrootDirectory).
judge_login() { # name home uid hash address settings
    public=no password=no interactive=no gss=no host=no pam=no root=yes
    methods=any files=.ssh/authorized_keys command=none cas=none empty=no
    allow_users='' deny_users='' allow_groups='' deny_groups='' force=none chroot=none
    old_ifs=$IFS
    IFS=$nl
    set -f
    for line in $6; do
        value=${line#* }
        case $line in
        'pubkeyauthentication '*) public=$value ;;
        'passwordauthentication '*) password=$value ;;
        'kbdinteractiveauthentication '* | 'challengeresponseauthentication '*) interactive=$value ;;
        'gssapiauthentication '*) gss=$value ;;
        'hostbasedauthentication '*) host=$value ;;
        'usepam '*) pam=$value ;;
        'permitrootlogin '*) root=$value ;;
        'permitemptypasswords '*) empty=$value ;;
        'authenticationmethods '*) methods=$value ;;
        'authorizedkeysfile '*) files=$value ;;
        'authorizedkeyscommand '*) command=$value ;;
        'trustedusercakeys '*) cas=$value ;;
        'allowusers '*) allow_users="$allow_users $value" ;;
        'denyusers '*) deny_users="$deny_users $value" ;;
        'allowgroups '*) allow_groups="$allow_groups $value" ;;
        'denygroups '*) deny_groups="$deny_groups $value" ;;
        'forcecommand '*) force=$value ;;
        'chrootdirectory '*) chroot=$value ;;
        esac
    done
    IFS=' '
    place=none
    [ "$force$chroot" = nonenone ] || place=$(printf '%s\n%s\n' "$force" "$chroot" | cksum | tr ' ' -)
    verdict=out because=
    groups=
    [ -z "$allow_groups$deny_groups" ] || groups=$(id -Gnz "$1" 2>/dev/null | tr '\0' '\n')
    if in_users "$1" "$5" "$deny_users" no; then
        because=DenyUsers
    elif in_groups "$deny_groups"; then
        because=DenyGroups
    elif [ -n "$allow_users" ] && ! in_users "$1" "$5" "$allow_users" yes; then
        because=AllowUsers
    elif [ -n "$allow_groups" ] && ! in_groups "$allow_groups"; then
        because=AllowGroups
    else
        by_methods "$1" "$2" "$3" "$4"
    fi
    IFS=$old_ifs
}

# `unsure` is the answer where only a network is named, which is not worked out here.
in_users() { # name address patterns unsure
    for pattern in $3; do
        case $pattern in
        ?*@?*)
            network=${pattern##*@} pattern=${pattern%@*}
            # shellcheck disable=SC2254 # a pattern
            case $1 in $pattern) ;; *) continue ;; esac
            # shellcheck disable=SC2254 # a pattern
            case $2 in $network) return 0 ;; esac
            # A name, or a network by its length.
            case $network in */* | *[!0-9.*?:]*) [ "$4" = no ] || return 0 ;; esac
            ;;
        *)
            # shellcheck disable=SC2254 # a pattern
            case $1 in $pattern) return 0 ;; esac
            ;;
        esac
    done
    return 1
}

in_groups() { # patterns
    for pattern in $1; do
        IFS=$nl
        for group in $groups; do
            # shellcheck disable=SC2254 # a pattern
            case $group in $pattern) IFS=' ' && return 0 ;; esac
        done
        IFS=' '
    done
    return 1
}

by_methods() { # name home uid hash
    knows=yes
    case $4 in
    '') knows=$empty ;;
    '!'*)
        knows=no
        # Without PAM, sshd takes it for a locked account.
        [ "$pam" = yes ] || { because='a locked account' && return 0; }
        ;;
    '*'*) knows=no ;;
    esac
    [ "$pam" = yes ] || interactive=no
    [ -e /etc/krb5.keytab ] || gss=no
    key='^[^#]'
    if [ "$3" = 0 ]; then
        case $root in
        no) because='PermitRootLogin no' && return 0 ;;
        yes) ;;
        *)
            password=no interactive=no
            [ "$root" != forced-commands-only ] || key='command='
            ;;
        esac
    fi
    if [ "$public" = yes ]; then
        [ "$command" != none ] || [ "$cas" != none ] || has_key "$1" "$2" "$3" "$files" "$key" || public=no
    fi
    case $methods in
    any | '')
        for way in "$public" "$gss" "$host"; do
            [ "$way" != yes ] || verdict=in
        done
        [ "$knows" != yes ] || [ "$password$interactive" = nono ] || verdict=in
        because='no enabled method'
        return 0
        ;;
    esac
    # Each list is a way of its own.
    because="AuthenticationMethods $methods"
    for list in $methods; do
        verdict=in
        IFS=,
        for way in $list; do
            case ${way%%:*} in
            publickey) way=$public ;;
            # A locked password is no answer; a second factor may be another one than a password.
            password) way=$password && [ "$knows" = yes ] || way=no ;;
            keyboard-interactive) way=$interactive ;;
            gssapi-with-mic | gssapi-keyex) way=$gss ;;
            hostbased) way=$host ;;
            *) way=no ;;
            esac
            [ "$way" = yes ] || verdict=out
        done
        IFS=' '
        [ "$verdict" = out ] || return 0
    done
}

# Those lines of sshd's answer that matter, keys in lower case: from OpenSSH 10.4 on it is `PasswordAuthentication`.
asked_of_sshd() { # name address options...
    name_asked=$1 address_asked=$2
    shift 2
    timeout 10 sshd -T -C "user=$name_asked,host=$address_asked,addr=$address_asked,laddr=$to,lport=$to_port" "$@" 2>/dev/null </dev/null |
        awk '{ key = tolower($1) }
key ~ /^((pubkey|password|kbdinteractive|challengeresponse|gssapi|hostbased)authentication|usepam|permitrootlogin|permitemptypasswords)$/ ||
key ~ /^(authenticationmethods|authorizedkeysfile|authorizedkeyscommand|trustedusercakeys|forcecommand|chrootdirectory)$/ ||
key ~ /^(allow|deny)(users|groups)$/ { value = substr($0, length($1) + 2); print key " " value; said = 1 }
END { exit !said }'
}

# Sets `addresses`, from which somebody may come: that of whoever asks, and that of the last visit.
addresses_of() { # name
    addresses=$from
    case $nl$visits$nl in
    *"$nl$1 "*)
        visited=$nl$visits
        visited=${visited#*"$nl$1 "}
        visited=${visited%%"$nl"*}
        [ "$visited" = "$from" ] || addresses="$from $visited"
        ;;
    esac
}

# Calls `seen NAME ADDRESS HOME UID HASH` for each login and each address that it may come from.
each_login() {
    own_connection
    last_visits
    logins=0
    all=$(accounts)
    IFS=$nl
    set -f
    for account in $all; do
        IFS=: read -r name _ uid _ _ home shell <<ACCOUNT
$account
ACCOUNT
        case $shell in '' | */nologin | */false | */sync | */shutdown | */halt | */true) continue ;; esac
        [ -x "$shell" ] || continue
        case $uid in '' | *[!0-9]*) continue ;; esac
        # What has a meaning of its own to sshd (a comma), or here.
        case $name in '' | -* | *[!A-Za-z0-9_.@+\\-]*) continue ;; esac
        logins=$((logins + 1))
        [ "$logins" -le "$max_logins" ] || break
        # The first sign of it alone: whether there is a password at all. A directory may know more than it shows.
        hash=$(timeout 5 getent shadow -- "$name" 2>/dev/null |
            awk -F: '{ hash = substr($2, 1, 1); found = 1 } END { print found ? hash : "directory" }')
        IFS=' '
        addresses_of "$name"
        for address in $addresses; do
            seen "$name" "$address" "$home" "$uid" "$hash"
        done
        IFS=$nl
    done
    IFS=' '
    [ "$logins" -le "$max_logins" ]
}
