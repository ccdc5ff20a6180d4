#!/usr/bin/env bash
# Packs the plugin for one platform, as krew takes it: the program, its completion, the licence, man pages. The same bytes twice.
#
#   release/plugin/pack.sh 0.1.0 linux-amd64 target/release/kubectl-conjur target/plugin
#
# Prints the archive's name. The man pages are written by the program itself where it runs here.
set -euo pipefail

[ $# -eq 4 ] || { echo "usage: $0 VERSION OS-ARCH PROGRAM FOLDER" >&2; exit 1; }
version=$1 platform=$2 program=$3 out=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$program" "$work/kubectl-conjur"
cp "$here/kubectl_complete-conjur" "$here/../../LICENSE" "$work/"
"$work/kubectl-conjur" man "$work/man" >/dev/null
mkdir -p "$out"
archive=$out/kubectl-conjur-$version-$platform.tar.gz
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C "$work" -cf - . | gzip -n9 >"$archive"
echo "$archive"
