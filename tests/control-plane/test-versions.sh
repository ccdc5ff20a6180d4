#!/usr/bin/env bash
# Runs the tests of version-tests.txt on the oldest and on the newest version of Kubernetes, and with `all` those of the chart, too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

mapfile -t names <"$here/version-tests.txt"
found=$(cargo test --quiet --workspace --test it -- --exact --list "${names[@]}" | grep -c ': test$' || true)
[ "$found" = "${#names[@]}" ] || {
  echo "error: version-tests.txt names ${#names[@]} tests, and $found of them exist" >&2
  exit 1
}
# With the whole workspace, for another choice of packages would be another choice of features, and build much of it again.
for version in oldest newest; do
  echo "== on $("$here/build.sh" version "$version")"
  export CONJUR_OPERATOR_KUBERNETES=$version
  cargo test --quiet --workspace --test it -- --exact "${names[@]}"
  [ "${1:-}" != all ] || cargo test --quiet --workspace --test chart
done
