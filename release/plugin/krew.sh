#!/usr/bin/env bash
# Prints the manifest for the index of krew, of the archives that were packed:
#
#   release/plugin/krew.sh 0.1.0 https://github.com/…/releases/download/v0.1.0 target/plugin/*.tar.gz
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 VERSION ADDRESS ARCHIVE…" >&2; exit 1; }
version=$1 address=$2
shift 2
cat <<MANIFEST
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: conjur
spec:
  version: v$version
  homepage: ${address%/releases/*}
  shortDescription: See and steer what conjur-operator keeps in step
  description: |
    Says why a Secret that comes from CyberArk Conjur is not there, with the permit or the rule that is missing; tries the
    way to Conjur step by step; shows what a policy would change; checks manifests and policies without a cluster; looks
    again at once; and comes from External Secrets Operator and back without a gap.
  caveats: |
    The commands read the objects of conjur-operator, and some log in to Conjur with the Secrets that they name: they can
    do what your own rights in the cluster allow, and no more.
  platforms:
MANIFEST
for archive in "$@"; do
  name=$(basename "$archive" .tar.gz)
  platform=${name#"kubectl-conjur-$version-"}
  [ "$platform" != "$name" ] || { echo "error: $archive is not named kubectl-conjur-$version-<os>-<arch>.tar.gz" >&2; exit 1; }
  cat <<PLATFORM
  - selector:
      matchLabels: {os: ${platform%-*}, arch: ${platform#*-}}
    uri: $address/$(basename "$archive")
    sha256: $(sha256sum <"$archive" | cut -d' ' -f1)
    bin: kubectl-conjur
PLATFORM
done
