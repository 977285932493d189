#!/usr/bin/env bash
# Tests what users install: the Debian package on a booted systemd, and the container image.
#   packaging/test.sh [deb] [image]     both, or one of them
#   PROFILE=dev packaging/test.sh       with a debug build
# Needs root, for mounts and namespaces; nothing outside of them is changed, except that the tools that
# are missing are installed (Debian and Ubuntu).
set -euo pipefail
cd "$(dirname "$0")/.."
source packaging/tests/support.sh

((EUID == 0)) || fail "this needs root: it boots a system of its own"
install_missing systemd-nspawn:systemd-container influxd:influxdb man:man-db curl:curl
command -v cargo-deb >/dev/null || cargo install --locked --debug cargo-deb

parts=("$@")
((${#parts[@]})) || parts=(deb image)
for part in "${parts[@]}"; do
    echo "::: $part"
    bash "packaging/tests/$part.sh"
done
