#!/usr/bin/env bash
# Everything that has to hold before a change is taken: environment, the restic binaries, lint, types, floors, tests.
#
#   ./tests/run.sh [pytest's own arguments, e.g. tests/link -k heartbeat]
#
# It makes or updates .venv in the checkout, and stops at the first step that fails. Nothing outside the checkout is
# changed, except that as root on Debian python3-venv is installed where it is missing.
#
# RESTIC_MANAGER_VENV       where the environment is (default: .venv in the checkout)
# RESTIC_MANAGER_TEST_BIN   where the restic binaries are (tests/tools/get_restic.sh)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${RESTIC_MANAGER_VENV:-.venv}
began=$SECONDS

step() {
  printf '\n== %s (at %d s)\n' "$*" "$((SECONDS - began))"
}
die() {
  printf '%s\n' "run.sh: $*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "there is no Python 3.11 or newer on PATH: install one and run this again"
}

make_venv() { # python
  if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get install -y -q python3-venv >/dev/null || { apt-get update -q >/dev/null && apt-get install -y -q python3-venv >/dev/null; }
    else
      die "Python's venv module is missing: install it (on Debian: sudo apt-get install python3-venv) and run this again"
    fi
  fi
  "$1" -m venv "$venv"
}

# What is installed depends on the dependencies, the version (the console script says it) and the Python.
fingerprint() {
  "$venv/bin/python" - <<'PY'
import hashlib, pathlib, sys
text = pathlib.Path("pyproject.toml").read_bytes() + pathlib.Path.cwd().as_posix().encode() + sys.version.encode()
print(hashlib.sha256(text).hexdigest())
PY
}

step "environment in $venv"
[ -x "$venv/bin/python" ] || make_venv "$(find_python)"
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$(fingerprint)" ]; then
  pip=("$venv/bin/python" -m pip --disable-pip-version-check --retries 8 --timeout 60)
  # Dependency groups came with pip 25.1; a new environment has what its Python shipped.
  "${pip[@]}" install --quiet --upgrade 'pip>=25.1'
  "${pip[@]}" install --quiet --editable . --group dev
  fingerprint >"$venv/.installed"
fi
PATH=$PWD/$venv/bin:$PATH
case $venv in /*) PATH=$venv/bin:$PATH ;; esac
export PATH

step "restic binaries"
tests/tools/get_restic.sh

step "ruff check"
ruff check .

step "ruff format"
ruff format --check .

step "mypy"
# Naming the package and the launcher of the same name at once would be a duplicate module; so it has a run of its own.
mapfile -t loose < <(find examples benchmarks -name '*.py' | sort)
mypy restic_manager tests ${loose[@]+"${loose[@]}"}
mypy restic_manager.py

step "floors and contracts"
lint-imports --no-cache

step "tests"
# All of them take long, most of it waiting: three files at a time. What somebody has chosen runs as they say.
if [ $# = 0 ]; then set -- -n 3 --dist loadfile; fi
if [ "${CI:-}" = true ]; then set -- --durations=15 "$@"; fi
exec pytest "$@"
