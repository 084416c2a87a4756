#!/usr/bin/env bash
# Makes .venv: with uv where it is, else with Python's own venv. $1 python, $2 uv or nothing.
set -euo pipefail
python=$1 uv=${2:-}
if [ -z "$python" ]; then
  echo "roost: no python3 on PATH. Install Python 3.11 or newer, then run make again." >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "roost: $python is $("$python" -V 2>&1); Roost needs 3.11 or newer." >&2
  echo "       Name another with: make PYTHON=/path/to/python3.12 install" >&2
  exit 1
fi
echo "roost: making .venv with $("$python" -V)"
if [ -n "$uv" ]; then
  "$uv" venv --quiet --seed --python "$python" .venv
elif ! "$python" -m venv .venv; then
  rm -rf .venv
  echo "roost: this Python cannot make environments; on Debian: apt-get install python3-venv" >&2
  exit 1
fi
