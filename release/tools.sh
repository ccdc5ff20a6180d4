# Sourced by the other scripts: the programs that they call, each built once from Go modules where no variable names one.

programs=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/tests/control-plane/build.sh

crane() { command "${CRANE:=$("$programs" crane)/crane}" "$@"; }
cosign() { command "${COSIGN:=$("$programs" cosign)/cosign}" "$@"; }
helm() { command "${HELM:=$("$programs" helm)/helm}" "$@"; }

die() { echo "error: $*" >&2; exit 1; }

# Refuses what names no digest: a tag may be moved between the look and the signature.
needs_digest() {
  [[ $1 =~ @sha256:[0-9a-f]{64}$ ]] || die "$1 names no digest; write repository@sha256:…"
}

# published REPOSITORY TAG: the digest that it leads to; nothing where there is no such tag, or the registry is one on 127.0.0.1,
# where one tries things out.
published() {
  local told
  case $1 in 127.0.0.1:*) return ;; esac
  if told=$(crane digest "$1:$2" 2>&1); then
    echo "$told"
  else
    grep -Eq 'MANIFEST_UNKNOWN|NAME_UNKNOWN|404' <<<"$told" || die "can't see whether $1:$2 is published: $told"
  fi
}
