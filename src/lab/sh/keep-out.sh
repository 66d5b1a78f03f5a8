#!/bin/sh
# mmdebstrap customize hook: downloads the packages named in KUBASTION_LAB_KEPT_OUT, with what they
# need, into the new root's own small repository without installing them. A hook, because only here
# do the package lists of the new root still exist.
set -eu
repository=$1/opt/lab-repository
mkdir -p "$repository/partial"
for package in $KUBASTION_LAB_KEPT_OUT; do
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o APT::Sandbox::User=root \
        -o Dir::Cache::archives="$repository" --no-install-recommends --download-only --assume-yes \
        install "$package"
done
rm -rf "$repository/partial" "$repository/lock"
