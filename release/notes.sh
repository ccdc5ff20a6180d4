#!/usr/bin/env bash
# Prints what CHANGELOG.md says of a version, for the page of its release: release/notes.sh 0.1.0
set -euo pipefail
cd "${RELEASE_TREE:-$(dirname "${BASH_SOURCE[0]}")/..}"

version=${1:?say which version}
notes=$(awk -v head="## [$version]" '
  /^## / { inside = index($0, head) == 1; next }
  /^\[[^]]+\]: / { inside = 0 }
  inside { print }
' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || { echo "error: CHANGELOG.md says nothing of $version" >&2; exit 1; }
echo "$notes"
