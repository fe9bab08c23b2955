#!/usr/bin/env bash
# The whole loop on this machine, in about a minute: a server, an agent, a repository, a schedule, a scheduled backup, one
# more by hand, and the snapshots as plain restic sees them. Only commands you would type yourself.
#
#   ./examples/quickstart.sh [--dir DIR] [--keep]
#
# --dir DIR   where everything goes (default: a new folder under the temporary directory). It is left there.
# --keep      leave the server and the agent running; the last lines say how to stop them.
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }
die() {
  echo "quickstart: $*" >&2
  exit 1
}
bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m'); fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
show() { # a command as you would type it, then what it prints
  printf '%s$ restic-manager %s%s\n' "$dim" "$*" "$plain"
  restic-manager "$@"
}

root=$(cd "$(dirname "$0")/.." && pwd)
dir=''
keep=no
while [ $# -gt 0 ]; do
  case $1 in
  --dir)
    [ $# -ge 2 ] || die "--dir needs a folder"
    dir=$2
    shift 2
    ;;
  --keep)
    keep=yes
    shift
    ;;
  -h | --help)
    usage
    exit 0
    ;;
  *) die "no such option: $1 (try --help)" ;;
  esac
done

# -- what it needs ------------------------------------------------------------------------------------------------------

install() { # a Debian package, or a sentence about what is missing
  local package=$1 what=$2
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $package"
    apt-get install -y -q "$package" >/dev/null || { apt-get update -q >/dev/null && apt-get install -y -q "$package" >/dev/null; }
  else
    die "$what is missing. Install it with your package manager (on Debian: sudo apt-get install $package) and run this again."
  fi
}

python=''
for candidate in python3 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || die "Python 3.11 or newer is missing. Install it with your package manager and run this again."
command -v restic >/dev/null || install restic "restic"

if ! "$root/.venv/bin/python" -c 'import restic_manager, trio, sqlalchemy' 2>/dev/null || [ ! -x "$root/.venv/bin/restic-manager" ]; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install python3-venv "Python's venv module"
  say "making a virtual environment in $root/.venv"
  "$python" -m venv "$root/.venv"
  "$root/.venv/bin/pip" install --quiet --disable-pip-version-check --editable "$root"
fi
PATH=$root/.venv/bin:$PATH

# -- a folder, a port, and an end that stops what was started -----------------------------------------------------------

if [ -z "$dir" ]; then dir=$(mktemp -d "${TMPDIR:-/tmp}/restic-manager.XXXXXX"); fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ -e "$dir/data" ] || [ -e "$dir/repo" ]; then die "$dir holds an earlier run: name another folder, or remove it"; fi
export RESTIC_MANAGER_DATA_DIR=$dir/data
unset RESTIC_MANAGER_SERVER RESTIC_MANAGER_TOKEN
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

server=''
agent=''
done=no
finish() {
  local code=$?
  if [ "$done" = no ]; then
    echo "quickstart: it did not work; the logs are $dir/server.log and $dir/agent.log" >&2
    tail -n 5 "$dir/server.log" "$dir/agent.log" >&2 2>/dev/null || true
  fi
  if [ "$keep" = no ] || [ "$done" = no ]; then
    for pid in $agent $server; do
      if kill "$pid" 2>/dev/null; then wait "$pid" || true; fi
    done
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

until_true() { # SECONDS, what for, command: asks again until it says yes
  local seconds=$1 what=$2
  shift 2
  local deadline=$((SECONDS + seconds))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "waited ${seconds} s in vain for $what"
    sleep 0.2
  done
}
host_is_online() { restic-manager host show demo --json | grep -q '"online": *true'; }
scheduled_run() { # the id of a scheduled run that succeeded, if there is one
  restic-manager job list --schedule often --status succeeded --json | python -c '
import json, sys
print(next((job["id"] for job in json.load(sys.stdin) if job["actor_kind"] == "schedule"), ""))'
}
has_scheduled_run() { [ -n "$(scheduled_run)" ]; }

# -- the loop -----------------------------------------------------------------------------------------------------------

say "a server (log: $dir/server.log)"
restic-manager server --listen "127.0.0.1:$port" >"$dir/server.log" 2>&1 &
server=$!
show status --wait 30

say "a repository, its password in $dir/password"
(umask 077 && python -c 'import secrets; print(secrets.token_urlsafe(24))' >"$dir/password")
show repo add demo "$dir/repo" --password-file "$dir/password"

say "a host: invited here, and its agent started with the token (log: $dir/agent.log); it may use the repositories there are"
token=$(restic-manager host invite demo --json | python -c 'import json, sys; print(json.load(sys.stdin)["token"])')
restic-manager agent --server "ws://127.0.0.1:$port" --token "$token" >"$dir/agent.log" 2>&1 &
agent=$!
until_true 30 "the agent to connect" host_is_online
show host list
show repo init demo --host demo --wait

say "a schedule: this checkout's own files, every 10 seconds"
show schedule add often --host demo --every 10s --repo demo --exclude-caches "$root/restic_manager" "$root/docs"

say "waiting for a scheduled run"
until_true 60 "a scheduled run" has_scheduled_run
job=$(scheduled_run)
show job show "$job"
show job logs "$job"

say "and one now, by hand"
show schedule run often --wait

say "the fleet at a glance"
show status
show job list

say "the same snapshots, as plain restic sees them"
restic --repo "$dir/repo" --password-file "$dir/password" --no-cache snapshots
restic --repo "$dir/repo" --password-file "$dir/password" --no-cache check

done=yes
say "it works"
if [ "$keep" = yes ]; then
  cat <<EOT
The server (process $server) and the agent (process $agent) go on; stop them with: kill $agent $server
Ask them:   export RESTIC_MANAGER_DATA_DIR=$RESTIC_MANAGER_DATA_DIR PATH=$root/.venv/bin:\$PATH
            restic-manager status
EOT
else
  cat <<EOT
Everything is in $dir; the server and the agent have been stopped. To go on where this left off:
  export RESTIC_MANAGER_DATA_DIR=$RESTIC_MANAGER_DATA_DIR PATH=$root/.venv/bin:\$PATH
  restic-manager server --listen 127.0.0.1:$port &
  restic-manager agent --server ws://127.0.0.1:$port &
  restic-manager status --wait 10
EOT
fi
