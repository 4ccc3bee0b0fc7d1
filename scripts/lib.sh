# Shared by the scripts; sourced, not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'etio: %s\n' "$*" >&2; exit 2; }
is_root() { [ "$(id -u)" = 0 ]; }

# Where things are installed. As root outside the checkout, where an unprivileged account can read it
# (a clone under /root cannot be read by one); else beside the sources.
if [ -n "${ETIO_PREFIX:-}" ]; then ETIO_PREFIX=$(realpath -ms -- "$ETIO_PREFIX"); fi
if is_root; then prefix=${ETIO_PREFIX:-/opt/etio}; else prefix=${ETIO_PREFIX:-$here/.venv}; fi

# One line that changes while pip works (none where nobody watches); what went wrong is shown.
show_progress() {
  local watched=0
  if [ -t 2 ]; then watched=1; fi
  awk -v watched=$watched '/^(Collecting|Downloading|Installing|Building|Using cached|Processing)/ {
         if (watched) printf "\r    %-70.70s", $0 > "/dev/stderr"; next }
       /^(ERROR|error|Could not)/ { printf "%s%.300s\n", watched ? "\n" : "", $0 > "/dev/stderr" }
       END { if (watched) printf "\r%-76s\r", "" > "/dev/stderr" }'
}

# Installs into the environment. Without the index pip speaks of conflicting versions, so the likely reason is named.
pip_install() {
  "$prefix/venv/bin/pip" install --disable-pip-version-check -c "$here/constraints.txt" "$@" 2>&1 | show_progress || {
    # pip puts back what it could not replace: an environment that was whole still is (one interrupted is not).
    if [ -n "$stamp_before" ]; then echo "$stamp_before" >"$prefix/stamp"; fi
    die "the Python packages could not be installed (pip's words above); can this host reach a package index? pip takes \
a mirror, a proxy, a certificate or a folder of wheels from PIP_INDEX_URL, PIP_PROXY, PIP_CERT, PIP_FIND_LINKS"
  }
}

apt_updated=
# Installs those of the named packages that are missing; returns 1 where that is not possible.
need_packages() {
  local missing=() p
  for p in "$@"; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  is_root && command -v apt-get >/dev/null || return 1
  if [ -z "$apt_updated" ]; then
    say "reading package lists"
    apt-get update -qq >/dev/null || return 1
    apt_updated=1
  fi
  say "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A Python of 3.11 or later; as root only one that every account can run.
find_python() {
  local p
  local candidates=(/usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11)
  is_root || candidates+=(python3 python3.13 python3.12 python3.11)
  for p in "${candidates[@]}"; do
    if command -v "$p" >/dev/null && "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$p"; return 0
    fi
  done
  return 1
}

# Why the environment in $prefix/venv has to be made anew; prints nothing where it can stay, or where there is none.
venv_fault() {
  local python=$prefix/venv/bin/python version
  if ! [ -e "$prefix/venv" ]; then return 0; fi
  if [ "$(cat "$prefix/stamp" 2>/dev/null || echo unfinished)" = unfinished ]; then echo "its installation was interrupted"; return 0; fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    { echo "its Python is gone"; return 0; }
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then echo "it has Python $version"
  elif ! "$python" -c 'import pip' 2>/dev/null; then echo "its Python is $version now, its packages are of another one"
  elif ! grep -qF "$prefix/venv/bin/" "$prefix/venv/bin/pip"; then echo "it was made in another folder"
  fi
}

# Makes an empty $prefix/venv with a Python of this host, whatever was there.
new_venv() {
  local python name
  python=$(find_python) || { need_packages python3.11 python3.11-venv && python=$(find_python); } ||
    die "Python 3.11 or later is needed: apt install python3.11 python3.11-venv"
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    name=$(basename "$(readlink -f "$python")")-venv
    need_packages "$name" || need_packages python3-venv || die "the venv module is missing: apt install $name"
  fi
  mkdir -p "$prefix"
  echo unfinished >"$prefix/stamp"
  "$python" -m venv --clear "$prefix/venv"
}

stamp_before=
# Makes $prefix/venv with the pinned dependencies; $1 names an extra of pyproject.toml ("" or "dev").
make_venv() {
  local extra=$1 stamp fault project
  if [ -n "${ETIO_PREFIX:-}" ] && [ -e "$prefix/venv" ] && ! [ -e "$prefix/stamp" ]; then
    die "$prefix/venv is there and not etio's: remove it, or name another folder by ETIO_PREFIX"
  fi
  stamp=$(cat "$here/constraints.txt" "$here/pyproject.toml" | sha256sum | cut -c1-16)-$extra
  fault=$(venv_fault)
  if [ -n "$fault" ] || ! [ -e "$prefix/venv" ]; then
    if [ -n "$fault" ]; then say "making the virtual environment in $prefix/venv anew: $fault"
    else say "making a virtual environment in $prefix/venv (about a minute the first time)"; fi
    new_venv
  elif [ "$(cat "$prefix/stamp")" = "$stamp" ]; then
    return 0
  else
    say "bringing the packages in $prefix/venv up to date"
    stamp_before=$(cat "$prefix/stamp")
    echo unfinished >"$prefix/stamp"
  fi
  rm -f "$prefix/sources"
  pip_install setuptools
  project=$(copy_sources)
  pip_install --no-build-isolation "$project${extra:+[$extra]}"
  rm -rf "$project"
  echo "$stamp" >"$prefix/stamp"
}

# Puts the sources as they are now into the environment, unless they are in it (fast; dependencies untouched).
install_sources() {
  local project digest
  digest=$(sources_digest)
  if [ "$(cat "$prefix/sources" 2>/dev/null || true)" = "$digest" ]; then return 0; fi
  rm -f "$prefix/sources"
  project=$(copy_sources)
  "$prefix/venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall "$project" || {
    echo unfinished >"$prefix/stamp"
    die "the sources could not be installed (pip's words above); the next start makes the environment anew"
  }
  rm -rf "$project"
  echo "$digest" >"$prefix/sources"
}

sources=(pyproject.toml README.md LICENSE etio collector detectors rca api bench)
# One number for the sources as they are now.
sources_digest() {
  (cd "$here" && find "${sources[@]}" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-32
}

# A copy of the sources: building in the checkout would litter it, and a stale build folder would be installed.
copy_sources() {
  local copy
  copy=$(mktemp -d)
  (cd "$here" && cp -R "${sources[@]}" "$copy/" 2>/dev/null) || true
  printf '%s' "$copy"
}

# What eBPF needs. Never fatal: without it etio runs on tier T2 and says so.
prepare_ebpf() {
  if ! is_root; then say "not root: no eBPF, tier T2"; return 0; fi
  /usr/bin/python3 -c 'import bcc' 2>/dev/null || need_packages python3-bpfcc || say "python3-bpfcc cannot be installed: no eBPF, tier T2"
  if [ -d /sys/kernel/tracing ] && ! [ -d /sys/kernel/tracing/events ]; then
    mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
  fi
}
