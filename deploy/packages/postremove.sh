#!/bin/sh
# What was made at run time (CA, keys, revocations, the record) outlives the
# package, until `purge` (deb) asks for it to go. The user stays: files elsewhere
# may be his, and must not become another's.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  rm -rf /var/lib/countersign /var/log/countersign
fi
