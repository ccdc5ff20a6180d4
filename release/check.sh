#!/usr/bin/env bash
# Sees that all places agree on the version, and prints it:
#
#   release/check.sh          Cargo.toml, the chart's version and appVersion
#   release/check.sh v0.1.0   the tag, too, and that CHANGELOG.md has a section of that version with a date
#
# RELEASE_TREE is another folder to look at, for tests.
set -euo pipefail
cd "${RELEASE_TREE:-$(dirname "${BASH_SOURCE[0]}")/..}"

die() { echo "error: $*" >&2; exit 1; }

# field FILE NAME: the value of a top-level field of a YAML file.
field() { sed -n "s/^$2: *\"\{0,1\}\([^\" ]*\)\"\{0,1\} *\(#.*\)\{0,1\}$/\1/p" "$1"; }

version=$(awk '/^\[/ { inside = $0 == "[workspace.package]" } inside && /^version = / { gsub(/"/, "", $3); print $3 }' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] ||
  die "Cargo.toml: workspace.package.version is \"$version\", which is no version"
# The crates of the workspace name each other with a version.
while read -r crate named; do
  [ "$named" = "$version" ] || die "Cargo.toml: $crate is named with version $named, and workspace.package.version is $version"
done < <(sed -n 's/^\([a-z-]*\) = { path = .*version = "\([^"]*\)".*/\1 \2/p' Cargo.toml)
chart=charts/conjur-operator/Chart.yaml
for name in version appVersion; do
  said=$(field "$chart" "$name")
  [ "$said" = "$version" ] || die "$chart: $name is \"$said\", and Cargo.toml says $version"
done

if [ $# -gt 0 ]; then
  [ "$1" = "v$version" ] || die "the tag is $1, and Cargo.toml says $version: it would be v$version"
  grep -Eq "^## \[${version//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
    die "CHANGELOG.md has no section \"## [$version] - <year>-<month>-<day>\""
  grep -Eq "^\[${version//./\\.}\]: https://" CHANGELOG.md ||
    die "CHANGELOG.md has no link [$version] at its end"
fi
echo "$version"
