#!/usr/bin/env bash
# Installs what scripts/packages.txt lists and is not there yet. Asks nothing; needs root or sudo
# only if something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v dpkg-query >/dev/null; then
  echo "install_packages.sh: this is no Debian system; install the likes of scripts/packages.txt by hand" >&2
  exit 1
fi

missing=()
while read -r package; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' scripts/packages.txt)

if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all installed"
  exit 0
fi
echo "packages: installing ${missing[*]}"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: run as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi
# Debian's packages ask questions unless told not to, and sudo drops the environment.
apt() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"
}

# A fresh machine has no package lists; one that has been updated may have stale ones.
if ! apt install --yes --no-install-recommends "${missing[@]}" </dev/null 2>/dev/null; then
  apt update </dev/null
  apt install --yes --no-install-recommends "${missing[@]}" </dev/null
fi
