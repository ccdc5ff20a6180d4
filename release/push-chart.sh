#!/usr/bin/env bash
# Pushes a packed chart as an OCI artifact, and prints repository@digest of it:
#
#   release/push-chart.sh ghcr.io/conjur-operator/charts conjur-operator-0.1.0.tgz
#
# The credentials are those of `docker login` or `helm registry login`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

[ $# -eq 2 ] || die "usage: $0 REPOSITORY CHART.tgz"
plain=()
# Helm takes no registry for a local one by itself.
case $1 in 127.0.0.1:*) plain=(--plain-http) ;; esac
told=$(helm push "$2" "oci://$1" "${plain[@]}" 2>&1) || die "$told"
name=$(sed -n 's/^Pushed: *\(.*\):[^:]*$/\1/p' <<<"$told")
digest=$(sed -n 's/^Digest: *//p' <<<"$told")
[ -n "$name" ] && [ -n "$digest" ] || die "helm does not say what it pushed: $told"
echo "$name@$digest"
