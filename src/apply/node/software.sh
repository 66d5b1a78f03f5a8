# Packages, images of containers, and users of services. Part of txn.sh.
#
# Reads the archives that were sent; writes the package manager's and containerd's state, the records of images, `made-users`.
# images.sh undoes it: created users are removed, packages and images stay.

# In the namespace of the kubelet; pinned, so that the kubelet does not collect what cannot be pulled.
take_in_images() { # digest references
    PATH=/usr/local/bin:$PATH
    archive=$base/blobs/$1
    [ -f "$archive" ] || {
        echo "the archive of $2 was not sent"
        return 1
    }
    ctr -n k8s.io images import --local "$archive" 2>&1 || ctr -n k8s.io images import "$archive" 2>&1 || {
        # After a power cut the file name does not prove its content, and a file that stays would never be sent again.
        [ "$(sha256sum <"$archive")" = "$1  -" ] || {
            printf '%s\n' "the archive of $2 was damaged on this node; the next run sends it again"
            rm -f "$archive"
        }
        return 1
    }
    for i in $2; do
        ctr -n k8s.io images label "$i" io.cri-containerd.pinned=pinned >/dev/null || {
            echo "$i is not in containerd after its archive was imported"
            return 1
        }
    done
    # With the digest, since a name can be given to another image later.
    there=$(
        ctr -n k8s.io images ls | while read -r name _ digest _; do
            case " $2 " in *" $name "*) printf '%s\n' "$name $digest" ;; esac
        done
    )
    mkdir -p "$base/images" && printf '%s\n' "$there" >"$base/images/$1" && rm -f "$archive"
}

# dpkg itself does not wait for its lock, nor does apt-get for that of its lists, which the daily updates hold for minutes.
wait_for_lock() { # program argument...
    tries=0
    while :; do
        said=$("$@" </dev/null 2>&1 3>&-) && return 0
        case $said in
        *lock*) [ "$tries" -lt 150 ] || break ;;
        *) break ;;
        esac
        # Tell the caller now, not when it is over.
        [ "$tries" -gt 0 ] || say "waiting another package manager to finish, up to 300 s" >&3
        tries=$((tries + 1))
        sleep 2
    done
    printf '%s\n' "$said"
    return 1
}

apt_install() {
    # Finish what a kill or a power cut interrupted; cheap if there is nothing to do.
    wait_for_lock env DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a || return 1
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold -qq install -y --no-install-recommends "$@" </dev/null 3>&-
}

# Recorded before it is created, so that an interruption between the two is undone.
make_user() { # name home
    ! id "$1" >/dev/null 2>&1 || return 0
    printf '%s\n' "$1" >>"$T/made-users" || return 1
    group=--user-group
    [ -z "$(group_id "$1")" ] || group=--gid=$1
    useradd --system "$group" --no-create-home --home-dir "$2" --shell /usr/sbin/nologin "$1"
}
