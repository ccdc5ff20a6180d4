#!/usr/bin/env bash
# Pushes the archives of one version, one for each architecture, and one index of them under the version as its tag:
#
#   release/push-image.sh ghcr.io/conjur-operator/conjur-operator 0.1.0 conjur-operator-0.1.0-amd64.oci.tar …
#
# Prints a line for each architecture and one for the index: its name, and repository@digest. The credentials are those of
# `docker login` or `crane auth login`. A tag that leads to something else already is refused, before anything is pushed; only in a
# registry on 127.0.0.1, where one tries things out, it is moved.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ $# -ge 3 ] || die "usage: $0 REPOSITORY VERSION ARCHIVE…"
repository=$1 version=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

moved() { die "$repository:$1 is published already, as something else than what was built. Release another version"; }

# digests: those in the JSON on the standard input, sorted.
digests() { grep -o '"digest": *"sha256:[0-9a-f]*"' | grep -o 'sha256:[0-9a-f]*' | sort; }

built=()
for archive in "$@"; do
  name=$(basename "$archive" .oci.tar)
  arch=${name##*-}
  [[ $(basename "$archive") == *-"$version-$arch".oci.tar ]] ||
    die "$archive is not named …-$version-<architecture>.oci.tar"
  mkdir "$work/$arch"
  tar -xf "$archive" -C "$work/$arch"
  digest=$(digests <"$work/$arch/index.json")
  there=$(published "$repository" "$version-$arch")
  [ -z "$there" ] || [ "$there" = "$digest" ] || moved "$version-$arch"
  built+=("$digest")
done
index=$(published "$repository" "$version")
if [ -n "$index" ]; then
  [ "$(crane manifest "$repository@$index" | digests)" = "$(printf '%s\n' "${built[@]}" | sort)" ] || moved "$version"
fi

parts=()
for archive in "$@"; do
  name=$(basename "$archive" .oci.tar)
  arch=${name##*-}
  crane push "$work/$arch" "$repository:$version-$arch" >/dev/null
  said=$(crane config "$repository:$version-$arch" | sed -n 's/.*"architecture": *"\([^"]*\)".*/\1/p')
  [ "$said" = "$arch" ] || die "$archive holds an image for $said"
  reference=$repository@$(crane digest "$repository:$version-$arch")
  parts+=(--manifest "$reference")
  echo "$arch $reference"
done
[ -n "$index" ] || crane index append "${parts[@]}" --tag "$repository:$version" >/dev/null
echo "index $repository@$(crane digest "$repository:$version")"
