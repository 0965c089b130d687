#!/bin/sh
# The service is not started: its configuration comes first.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if systemctl is-active --quiet countersign.service; then
    systemctl restart countersign.service
  fi
fi
exit 0
