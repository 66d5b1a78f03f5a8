#!/bin/sh
# mmdebstrap customize hook: downloads the packages named in KUBASTION_LAB_KEPT_OUT into the new
# root's own small repository without installing them. A hook, because only here do the package
# lists of the new root still exist.
set -eu
mkdir -p "$1/opt/lab-repository"
cd "$1/opt/lab-repository"
for package in $KUBASTION_LAB_KEPT_OUT; do
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o APT::Sandbox::User=root download "$package"
done
