# Shared by the scripts; sourced, not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'etio: %s\n' "$*" >&2; exit 2; }
is_root() { [ "$(id -u)" = 0 ]; }

# Where things are installed. As root outside the checkout, where an unprivileged account can read it
# (a clone under /root cannot be read by one); else beside the sources.
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
  "$prefix/venv/bin/pip" install --disable-pip-version-check -c "$here/constraints.txt" "$@" 2>&1 | show_progress ||
    die "the Python packages could not be installed (pip's words above); can this host reach a package index? pip takes \
a mirror, a proxy, a certificate or a folder of wheels from PIP_INDEX_URL, PIP_PROXY, PIP_CERT, PIP_FIND_LINKS"
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

# Makes $prefix/venv with the pinned dependencies; $1 names an extra of pyproject.toml ("" or "dev").
make_venv() {
  local extra=$1 python stamp
  python=$(find_python) || { need_packages python3.11 python3.11-venv && python=$(find_python); } ||
    die "Python 3.11 or later is needed: apt install python3.11 python3.11-venv"
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    need_packages "$(basename "$(readlink -f "$python")")-venv" || need_packages python3-venv ||
      die "the venv module is missing: apt install python3-venv"
  fi
  stamp=$(cat "$here/constraints.txt" "$here/pyproject.toml" | sha256sum | cut -c1-16)-$extra
  if [ "$(cat "$prefix/stamp" 2>/dev/null || true)" != "$stamp" ]; then
    say "making a virtual environment in $prefix/venv (about a minute the first time)"
    mkdir -p "$prefix"
    [ -x "$prefix/venv/bin/python" ] || "$python" -m venv "$prefix/venv"
    pip_install setuptools
    local project
    project=$(copy_sources)
    pip_install --no-build-isolation "$project${extra:+[$extra]}"
    rm -rf "$project"
    echo "$stamp" >"$prefix/stamp"
  fi
}

# Puts the sources as they are now into the environment (fast; dependencies untouched).
install_sources() {
  local project
  project=$(copy_sources)
  "$prefix/venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall "$project"
  rm -rf "$project"
}

# A copy of the sources: building in the checkout would litter it, and a stale build folder would be installed.
copy_sources() {
  local copy
  copy=$(mktemp -d)
  (cd "$here" && cp -R pyproject.toml README.md LICENSE etio collector detectors rca api bench "$copy/" 2>/dev/null) || true
  printf '%s' "$copy"
}

# What eBPF needs. Never fatal: without it etio runs on tier T2 and says so.
prepare_ebpf() {
  if ! is_root; then say "not root: no eBPF, tier T2"; return 0; fi
  /usr/bin/python3 -c 'import bcc' 2>/dev/null || need_packages python3-bpfcc || say "python3-bpfcc cannot be installed: no eBPF, tier T2"
  if ! [ -e "/lib/modules/$(uname -r)/build" ] && ! ls -d /usr/src/linux-headers-* >/dev/null 2>&1; then
    need_packages "linux-headers-$(uname -r)" 2>/dev/null || need_packages linux-headers-amd64 2>/dev/null ||
      need_packages linux-headers-generic 2>/dev/null || say "no kernel headers to be had: no eBPF, tier T2"
  fi
  if [ -d /sys/kernel/tracing ] && ! [ -d /sys/kernel/tracing/events ]; then
    mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
  fi
}
