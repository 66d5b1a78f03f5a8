#!/bin/bash
# Made by kubastion. Run by keepalived, as a user without rights, with one argument:
# `alive`: haproxy answers; `ready`: and the API server of this node is ready.
exec 3<>/dev/tcp/127.0.0.1/10262 || exit 1
printf 'GET /%s HTTP/1.0\r\n\r\n' "$1" >&3
IFS= read -r -t 1 line <&3 || exit 1
case $line in 'HTTP/1.'?' 200'*) exit 0 ;; esac
exit 1
