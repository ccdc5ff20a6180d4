#!/usr/bin/env bash
# Pushes the archives of one version, one for each architecture, and one index of them under the version as its tag:
#
#   release/push-image.sh ghcr.io/conjur-operator/conjur-operator 0.1.0 conjur-operator-0.1.0-amd64.oci.tar …
#
# Prints a line for each architecture and one for the index: its name, and repository@digest. The credentials are those of
# `docker login` or `crane auth login`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ $# -ge 3 ] || die "usage: $0 REPOSITORY VERSION ARCHIVE…"
repository=$1 version=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

parts=()
for archive in "$@"; do
  name=$(basename "$archive" .oci.tar)
  arch=${name##*-}
  [[ $(basename "$archive") == *-"$version-$arch".oci.tar ]] ||
    die "$archive is not named …-$version-<architecture>.oci.tar"
  mkdir "$work/$arch"
  tar -xf "$archive" -C "$work/$arch"
  crane push "$work/$arch" "$repository:$version-$arch" >/dev/null
  said=$(crane config "$repository:$version-$arch" | sed -n 's/.*"architecture": *"\([^"]*\)".*/\1/p')
  [ "$said" = "$arch" ] || die "$archive holds an image for $said"
  reference=$repository@$(crane digest "$repository:$version-$arch")
  parts+=(--manifest "$reference")
  echo "$arch $reference"
done
crane index append "${parts[@]}" --tag "$repository:$version" >/dev/null
echo "index $repository@$(crane digest "$repository:$version")"
