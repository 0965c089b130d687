#!/bin/sh
# The service is not started: its configuration comes first. One that runs takes
# up the new version.
set -e
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers countersign.conf
elif ! id countersign >/dev/null 2>&1; then
  useradd --system --no-create-home --home-dir /var/lib/countersign --shell /usr/sbin/nologin countersign
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart countersign.service
fi
