#!/usr/bin/env bash
# The fast half of `make test`: every line is one judge, the first that objects ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { echo "check: $1"; shift; "$@"; }
run format .venv/bin/ruff format --check --quiet .
run lint .venv/bin/ruff check --quiet .
run types .venv/bin/mypy
run contracts .venv/bin/lint-imports --no-logo
run docs .venv/bin/python scripts/reference.py --check
