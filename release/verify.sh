#!/usr/bin/env bash
# Sees that an image or a chart is signed by a release of this repository, and with a second word that its SBOM is stated:
#
#   release/verify.sh ghcr.io/conjur-operator/conjur-operator@sha256:… [sbom]
#
# RELEASE_REPOSITORY is another repository on GitHub that may have signed it. With COSIGN_PUBLIC_KEY it is to be signed with that
# key, whatever the transparency log has.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ $# -ge 1 ] && [ $# -le 2 ] || die "usage: $0 REPOSITORY@DIGEST [sbom]"
needs_digest "$1"
repository=${RELEASE_REPOSITORY:-conjur-operator/conjur-operator}
if [ -n "${COSIGN_PUBLIC_KEY:-}" ]; then
  by=(--key "$COSIGN_PUBLIC_KEY" --insecure-ignore-tlog=true)
else
  by=(
    --certificate-oidc-issuer https://token.actions.githubusercontent.com
    --certificate-identity-regexp "^https://github\.com/${repository//./\\.}/\.github/workflows/release\.yml@refs/tags/v[0-9].*\$"
  )
fi
cosign verify "${by[@]}" "$1" >/dev/null
[ $# -eq 1 ] || cosign verify-attestation "${by[@]}" --type cyclonedx "$1" >/dev/null
