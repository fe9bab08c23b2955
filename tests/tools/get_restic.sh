#!/usr/bin/env bash
# Fetches the restic binaries that the tests run against, without installing anything.
#
#   tests/tools/get_restic.sh          fetch what is missing, then list what is there
#
# On Debian: restic 0.14.0 (bookworm), 0.18.0 (trixie), 0.19.1 (sid) and restic-rest-server, each unpacked from its Debian
# package into a folder of its own. Other suites are reached by copying the machine's own apt source with the suite's name
# changed, in a private apt configuration: the machine's sources, lists and packages are read, never changed.
# Elsewhere: the restic and restic-rest-server on PATH are linked, whatever their version, and the script says so.
#
# RESTIC_MANAGER_TEST_BIN   where to put them (default: .cache/restic in the checkout); tests look in the same place
#
# Layout: <folder>/<version>/restic and <folder>/rest-server/rest-server. Exit 0 with a list of what is available; 1 only
# when something that should have worked did not. A version that no suite has any more is remembered as <version>/gone, and
# the newest one there is fetched in its place; remove that folder to look again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${RESTIC_MANAGER_TEST_BIN:-$here/.cache/restic}
wanted=(0.14.0 0.18.0 0.19.1)
suites="bookworm trixie sid"
rest_server=$target/rest-server/rest-server

say() { printf '%s\n' "get_restic: $*"; }
die() { printf '%s\n' "get_restic: $*" >&2; exit 1; }

have_all() {
  local version
  for version in "${wanted[@]}"; do [ -x "$target/$version/restic" ] || [ -e "$target/$version/gone" ] || return 1; done
  [ -x "$rest_server" ]
}

list() {
  local found
  for found in "$target"/*/restic; do
    [ -x "$found" ] && say "have $("$found" version 2>/dev/null | head -n 1) at ${found#"$here"/}"
  done
  for found in "$target"/*/gone; do
    [ -e "$found" ] && say "$(cat "$found")"
  done
  [ -x "$rest_server" ] && say "have rest-server at ${rest_server#"$here"/}"
  return 0
}

# Puts one finished folder in place at once, so that a reader (or a second run of this script) never sees half of it.
publish() { # from-folder to-folder
  rm -rf "$2.old.$$"
  if [ -e "$2" ]; then mv "$2" "$2.old.$$"; fi
  mv -T "$1" "$2" || [ -d "$2" ]
  rm -rf "$2.old.$$"
}

from_path() {
  local found version
  found=$(command -v restic || true)
  if [ -z "$found" ]; then
    say "this is not Debian and there is no restic on PATH: tests that need it will be skipped"
  else
    version=$("$found" version | sed -n 's/^restic \([0-9][0-9.]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] || die "$found does not answer 'restic version' like restic does"
    mkdir -p "$target/$version"
    ln -sf "$found" "$target/$version/restic"
    say "this is not Debian: using restic $version from PATH only"
  fi
  found=$(command -v restic-rest-server || command -v rest-server || true)
  if [ -n "$found" ]; then
    mkdir -p "$target/rest-server"
    ln -sf "$found" "$rest_server"
  fi
}

# Prints the machine's own Debian archive source with the suites changed, one-line or deb822 format alike.
write_sources() { # output-folder
  local file uri signed
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    # A stanza of the main archive names the machine's own suite plainly, without -updates or -security alone.
    uri=$(awk -v RS= -v suite="$suite_here" '$0 ~ ("\nSuites:([^\n]* )?" suite "( |\n|$)") || $0 ~ ("^Suites:([^\n]* )?" suite "( |\n|$)")' \
      "$file" | sed -n 's/^URIs:[[:space:]]*//p' | head -n 1)
    signed=$(sed -n 's/^Signed-By:[[:space:]]*//p' "$file" | head -n 1)
    if [ -n "$uri" ]; then
      printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suites" >"$1/archive.sources"
      if [ -n "$signed" ]; then printf 'Signed-By: %s\n' "$signed" >>"$1/archive.sources"; fi
      return 0
    fi
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    awk -v suite="$suite_here" -v suites="$suites" '
      $1 == "deb" {
        at = 2; options = ""
        if ($2 ~ /^\[/) { while (at <= NF) { options = options " " $at; at++; if ($(at - 1) ~ /\]$/) break } }
        if ($(at + 1) == suite) {
          n = split(suites, names, " ")
          for (i = 1; i <= n; i++) print "deb" options, $at, names[i], "main"
          exit
        }
      }' "$file" >"$1/archive.list"
    if [ -s "$1/archive.list" ]; then return 0; fi
    rm -f "$1/archive.list"
  done
  return 1
}

from_debian() {
  local work arch version debian
  mkdir -p "$target"
  work=$(mktemp -d "$target/.fetch.XXXXXX")
  # shellcheck disable=SC2064  # the folder's name now, not at exit
  trap "rm -rf '$work'" EXIT
  mkdir -p "$work/sources" "$work/lists/partial" "$work/archives/partial" "$work/preferences" "$work/deb"
  suite_here=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-sid}")
  write_sources "$work/sources" || die "found no apt source for Debian's '$suite_here' to copy"
  : >"$work/status"
  arch=$(dpkg --print-architecture)
  # Everything apt would write is inside $work; its own settings (proxy, keys, retries) still hold.
  cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/none";
Dir::Etc::SourceParts "$work/sources";
Dir::Etc::Preferences "$work/none";
Dir::Etc::PreferencesParts "$work/preferences";
Dir::State::Lists "$work/lists";
Dir::State::Status "$work/status";
Dir::Cache "$work";
Dir::Cache::Archives "$work/archives";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Get::List-Cleanup "false";
APT::Sandbox::User "";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
CONF
  say "reading the package lists of $suites"
  APT_CONFIG=$work/apt.conf apt-get -q update >"$work/update.log" 2>&1 || { cat "$work/update.log" >&2; die "apt-get update failed"; }
  APT_CONFIG=$work/apt.conf apt-cache madison restic >"$work/restic.txt"
  APT_CONFIG=$work/apt.conf apt-cache madison restic-rest-server >"$work/rest.txt"

  for version in "${wanted[@]}"; do
    [ -x "$target/$version/restic" ] && continue
    debian=$(awk -F' *[|] *' -v want="$version" '{ split($2, part, "[-+~]") } part[1] == want { print $2; exit }' "$work/restic.txt")
    if [ -z "$debian" ]; then
      mkdir -p "$target/$version"
      debian=$(awk -F' *[|] *' 'NR == 1 { print $2 }' "$work/restic.txt")
      echo "restic $version is in none of $suites any more; newest there: ${debian:-none}" >"$target/$version/gone"
      version=${debian%%[-+~]*}
      if [ -z "$version" ] || [ -x "$target/$version/restic" ]; then continue; fi
    fi
    fetch "$work" restic "$debian"
    mkdir "$work/out"
    cp "$work/root/usr/bin/restic" "$work/out/restic"
    "$work/out/restic" version | grep -q "^restic $version" || die "the package restic $debian does not answer as $version"
    publish "$work/out" "$target/$version"
  done
  if ! [ -x "$rest_server" ]; then
    debian=$(awk -F' *[|] *' 'NR == 1 { print $2 }' "$work/rest.txt")
    if [ -n "$debian" ]; then
      fetch "$work" restic-rest-server "$debian"
      mkdir "$work/out"
      cp "$work"/root/usr/bin/*rest-server "$work/out/rest-server"
      publish "$work/out" "$target/rest-server"
    fi
  fi
}

fetch() { # work package version
  say "fetching $2 $3"
  (cd "$1/deb" && APT_CONFIG=$1/apt.conf apt-get -q download "$2=$3" >"$1/download.log" 2>&1) || { cat "$1/download.log" >&2; die "could not download $2 $3"; }
  rm -rf "$1/root" "$1/out"
  dpkg -x "$1"/deb/"$2"_*.deb "$1/root"
  rm -f "$1"/deb/*.deb
}

if have_all; then
  :
elif [ -r /etc/debian_version ] && (. /etc/os-release && [ "${ID:-}" = debian ]) && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
  from_debian
else
  from_path
fi
list
