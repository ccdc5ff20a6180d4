#!/usr/bin/env bash
# Pushes a packed chart as an OCI artifact, and prints repository@digest of it:
#
#   release/push-chart.sh ghcr.io/conjur-operator/charts conjur-operator-0.1.0.tgz
#
# The credentials are those of `docker login` or `helm registry login`. A version that is published already stays as it is: another
# chart of that version is refused; only in a registry on 127.0.0.1, where one tries things out, it takes its place.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ $# -eq 2 ] || die "usage: $0 REPOSITORY CHART.tgz"
shown=$(helm show chart "$2")
repository=$1/$(sed -n 's/^name: *//p' <<<"$shown")
# A tag has no plus sign; Helm writes it so, too.
tag=$(sed -n 's/^version: *//p' <<<"$shown" | tr + _)
there=$(published "$repository" "$tag")
if [ -n "$there" ]; then
  [[ $(crane manifest "$repository@$there") == *"$(sha256sum <"$2" | cut -d' ' -f1)"* ]] ||
    die "$repository:$tag is published already, as another chart. Release another version"
  echo "$repository@$there"
  exit
fi
plain=()
# Helm takes no registry for a local one by itself.
case $1 in 127.0.0.1:*) plain=(--plain-http) ;; esac
told=$(helm push "$2" "oci://$1" "${plain[@]}" 2>&1) || die "$told"
name=$(sed -n 's/^Pushed: *\(.*\):[^:]*$/\1/p' <<<"$told")
digest=$(sed -n 's/^Digest: *//p' <<<"$told")
[ -n "$name" ] && [ -n "$digest" ] || die "helm does not say what it pushed: $told"
echo "$name@$digest"
