#!/bin/sh
# Called with "remove" (deb) or 0 (rpm) when the package goes, and with others
# when another version takes its place.
set -e
case "$1" in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now countersign.socket countersign.service || true
    elif command -v systemctl >/dev/null; then
      systemctl disable countersign.socket countersign.service || true
    fi
    ;;
esac
