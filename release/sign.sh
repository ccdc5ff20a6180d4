#!/usr/bin/env bash
# Signs images and charts by their digests, and states their SBOMs:
#
#   release/sign.sh ghcr.io/conjur-operator/conjur-operator@sha256:… [conjur-operator-0.1.0-amd64.cdx.json]
#
# Without COSIGN_KEY it signs as the workflow that it runs in (keyless: a certificate of the workflow's identity, and an
# entry in the public transparency log). With COSIGN_KEY, a file of `cosign generate-key-pair` and its COSIGN_PASSWORD, it asks
# no service and leaves no entry.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools.sh"

[ $# -ge 1 ] && [ $# -le 2 ] || die "usage: $0 REPOSITORY@DIGEST [SBOM]"
needs_digest "$1"
how=(--yes)
[ -z "${COSIGN_KEY:-}" ] || how+=(--key "$COSIGN_KEY" --signing-config "$here/no-services.json")
cosign sign "${how[@]}" "$1"
[ $# -eq 1 ] || cosign attest "${how[@]}" --type cyclonedx --predicate "$2" "$1"
