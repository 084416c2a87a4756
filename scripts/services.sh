#!/usr/bin/env bash
# What the tests need beside Python. In CI: installed and started here, and a skip is a
# failure. Elsewhere: used when there; the tests say what they skipped.
set -euo pipefail
[ -n "${CI:-}" ] || exit 0
missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v pg_ctlcluster >/dev/null || missing+=(postgresql)
command -v chromium >/dev/null || missing+=(chromium)
command -v bwrap >/dev/null || missing+=(bubblewrap)
if [ ${#missing[@]} -gt 0 ]; then
  echo "services: installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
redis-cli ping >/dev/null 2>&1 ||
  redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save '' --appendonly no >/dev/null
if ! pg_isready -q; then
  version=$(ls /etc/postgresql | sort -n | tail -1)
  pg_ctlcluster --skip-systemctl-redirect "$version" main start
fi
for _ in $(seq 50); do pg_isready -q && break; sleep 0.2; done
# A role for whoever runs the tests; it exists already on the second run.
if ! psql -qtAc 'select 1' postgres >/dev/null 2>&1; then
  su postgres -c "createuser --superuser $(id -un)" || true
fi
echo "services: redis and postgresql answer"
