#!/usr/bin/env bash
# Finds, or builds once, what tests and the demo need of Kubernetes, from Go modules:
#
#   build.sh control-plane   etcd, kube-apiserver, kube-controller-manager, kubectl
#   build.sh control-plane oldest|newest
#                            the same with kube-apiserver and kube-controller-manager of the oldest version that is
#                            supported, or of the newest that there was (oldest.mod, newest.mod)
#   build.sh version oldest|newest
#                            nothing: prints which version that is
#   build.sh node            what a node needs beside them, on Debian: kubelet and kube-scheduler, containerd, runc,
#                            network plugins (Debian's packages, unpacked and not installed), and a pause program
#   build.sh helm            helm
#   build.sh rule-check      Prometheus' own check of alerting rules
#   build.sh crane           crane, which pushes and pulls images and is a registry for tests
#   build.sh cosign          cosign, which signs them
#   build.sh external-secrets
#                            the CRDs of External Secrets Operator, from which is migrated
#
# Prints the folder that holds them on stdout, and everything else on stderr. What is built is kept
# outside the tree, in $CONJUR_OPERATOR_CACHE or else ~/.cache/conjur-operator. KUBEBUILDER_ASSETS,
# where set, wins for the control plane: what it has is used, and only what it lacks is built.
set -euo pipefail

caller=$PWD
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CONJUR_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conjur-operator}
helm_version=v4.3.1
crane_version=v0.22.1
cosign_version=v3.1.3
external_secrets_version=v1.3.2
programs="etcd kube-apiserver kube-controller-manager kubectl"
node_programs="kubelet kube-scheduler"
packages="containerd runc containernetworking-plugins"
work="" builder=""

say() { echo "$*" >&2; }
die() { say "error: $*"; exit 1; }

clean_up() {
  [ -z "$builder" ] || kill "$builder" 2>/dev/null || true
  [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_go() {
  command -v go >/dev/null || die "go is missing, and what Kubernetes needs is built with it. Install it with
    sudo apt-get install golang-go     (Debian, Ubuntu)
    brew install go                    (macOS)
then run this again."
}

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

# progress WHAT COUNT_COMMAND: runs until $builder ends; one updating line on a terminal, else a line every 15 s.
progress() {
  local what=$1 count=$2 started=$SECONDS last=$SECONDS line
  while kill -0 "$builder" 2>/dev/null; do
    sleep 0.5
    line="  $what: $("$count"), $((SECONDS - started)) s"
    if [ -t 2 ]; then
      printf '\r%s\033[K' "$line" >&2
    elif [ $((SECONDS - last)) -ge 15 ]; then
      say "$line"
      last=$SECONDS
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
}

lines() { local n; n=$(grep -c "$1" "$work/log" || true); echo "${n:-0}"; }
downloads() { echo "$(lines '^go: downloading') modules fetched"; }
compiled() { echo "$(lines '^[a-z0-9]')${total:+ of at most $total} packages compiled"; }

# run_go WHAT COUNT_COMMAND ARGS…: go with progress; its stdout goes to $work/out, what it says to $work/log.
run_go() {
  local what=$1 count=$2
  shift 2
  : >"$work/log"
  go "$@" >"$work/out" 2>"$work/log" &
  builder=$!
  progress "$what" "$count"
  if ! wait "$builder"; then
    builder=""
    tail -n 20 "$work/log" >&2
    die "\`go $*\` failed; its last lines are above. Run this again when that is mended: what was compiled is kept."
  fi
  builder=""
}

# once FOLDER BUILD_FUNCTION ARGS…: FOLDER appears whole or not at all, and two at once build it once.
once() {
  local folder=$1 build=$2
  shift 2
  [ -d "$folder" ] && return
  mkdir -p "$cache"
  # The kernel lets go of the lock when its holder ends, however it ends. Without flock (macOS) two at once
  # both build, and the first to be ready wins.
  if command -v flock >/dev/null; then
    exec 9>"$folder.lock"
    flock -n 9 || { say "another run builds $(basename "$folder"); waiting for it"; flock 9; }
    [ -d "$folder" ] && { exec 9>&-; return; }
    rm -rf "$folder".tmp.*
  fi
  work=$(mktemp -d "$folder.tmp.XXXXXX")
  mkdir "$work/bin"
  need_go
  "$build" "$@"
  [ -e "$folder" ] || mv "$work/bin" "$folder"
  rm -rf "$work"
  work=""
  exec 9>&-
}

# kubelet is for Linux.
on_linux() { [ "$(uname -s)" = Linux ]; }

# compile NAMES FLAGS…: the one binary of this folder, and a link to it by each of its names.
compile() {
  local names=$1 program
  shift
  run_go "finding out what to compile" downloads list "$@" -deps .
  total=$(wc -l <"$work/out" | tr -d ' ')
  run_go "compiling" compiled build "$@" -v -trimpath -buildvcs=false -ldflags "$ldflags" -o "$work/bin/kubernetes" .
  for program in $names; do ln -s kubernetes "$work/bin/$program"; done
}

build_control_plane() {
  local started=$SECONDS also=""
  if on_linux; then also=", kubelet, kube-scheduler"; else node_programs=""; fi
  say "building etcd, kube-apiserver, kube-controller-manager, kubectl$also $kubernetes_version from source."
  say "This happens once and takes 7 to 10 minutes on two cores, longer on a slow network."
  compile "$programs $node_programs"
  say "built in $((SECONDS - started)) s, kept in $cache"
}

# install_module NAME PACKAGE VERSION TIME: one program of another's module.
install_module() {
  local started=$SECONDS
  say "building $1 $3 from source. This happens once and takes about $4 on two cores."
  total=""
  GOBIN="$work/bin" run_go "compiling" compiled install -v -trimpath "$2@$3"
  say "built in $((SECONDS - started)) s, kept in $cache"
}

build_helm() { install_module helm helm.sh/helm/v4/cmd/helm "$helm_version" "3 minutes"; }
build_crane() { install_module crane github.com/google/go-containerregistry/cmd/crane "$crane_version" "half a minute"; }
build_cosign() { install_module cosign github.com/sigstore/cosign/v3/cmd/cosign "$cosign_version" "3 minutes"; }

# Its module has them as files; nothing is compiled.
build_external_secrets() {
  local module=github.com/external-secrets/external-secrets folder
  say "fetching the CRDs of External Secrets Operator $external_secrets_version."
  folder=$(go mod download -json "$module@$external_secrets_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -d "$folder/config/crds/bases" ] || die "the module $module $external_secrets_version can't be fetched, or has no config/crds/bases"
  cp "$folder"/config/crds/bases/external-secrets.io_*.yaml "$work/bin/"
  chmod u+w "$work"/bin/*
}

build_rule_check() {
  local started=$SECONDS
  say "building Prometheus' check of rules from source. This happens once and takes less than a minute."
  total=""
  cd "$here/rule-check"
  run_go "compiling" compiled build -v -trimpath -o "$work/bin/rule-check" .
  cd "$here"
  say "built in $((SECONDS - started)) s, kept in $cache"
}

# A node's folder: `bin` leads to Kubernetes' programs, `usr` is what Debian's packages have, `pause` holds a Pod's namespaces.
build_node() {
  local started=$SECONDS
  say "fetching $packages, which are unpacked and not installed."
  mkdir "$work/get"
  (cd "$work/get" && apt-get -q download $packages || { [ "$(id -u)" = 0 ] && apt-get -q update && apt-get -q download $packages; }) >&2 ||
    die "$packages can't be fetched; \`sudo apt-get update\`, then run this again."
  local package
  for package in "$work"/get/*.deb; do dpkg-deb --extract "$package" "$work/bin"; done
  rm -rf "$work/bin"/usr/share "$work/bin"/usr/bin/containerd-shim "$work/bin"/usr/bin/containerd-shim-runc-v1
  CGO_ENABLED=0 run_go "compiling pause" compiled build -trimpath -ldflags "-s -w" -o "$work/bin/pause" pause.go
  ln -s "$1" "$work/bin/bin"
  say "done in $((SECONDS - started)) s, kept in $cache"
}

# version_of MODFILE: the version of Kubernetes in it.
version_of() { awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/$1"; }

# ldflags_of VERSION: what the programs say of themselves.
ldflags_of() {
  local minor=${1#v1.} package=k8s.io/component-base/version
  echo "-s -w -X $package.gitVersion=$1 -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
}

control_plane() {
  need_go
  kubernetes_version=$(version_of go.mod)
  ldflags=$(ldflags_of "$kubernetes_version")
  local folder
  folder=$cache/control-plane-$({ cat "$here"/{main,also,node}.go "$here"/go.{mod,sum}; go version; echo "$ldflags"; } | digest)
  once "$folder" build_control_plane
  echo "$folder"
}

# build_version NAME OTHERS: OTHERS is the folder that the programs are taken from that serve every version.
build_version() {
  local started=$SECONDS program
  say "building kube-apiserver and kube-controller-manager $kubernetes_version from source."
  say "This happens once and takes some 5 minutes on two cores, longer on a slow network."
  compile "kube-apiserver kube-controller-manager" -modfile="$1.mod" -tags version
  for program in etcd kubectl; do ln -s "$2/$program" "$work/bin/$program"; done
  say "built in $((SECONDS - started)) s, kept in $cache"
}

# version NAME: the control plane of oldest.mod or newest.mod.
version() {
  [ -e "$here/$1.mod" ] || die "\`$1\`? There are oldest and newest."
  local others folder
  others=$(control_plane)
  kubernetes_version=$(version_of "$1.mod")
  ldflags=$(ldflags_of "$kubernetes_version")
  folder=$cache/control-plane-$1-$({ cat "$here/main.go" "$here/$1".{mod,sum}; echo "$others $ldflags"; } | digest)
  once "$folder" build_version "$1" "$others"
  echo "$folder"
}

node() {
  on_linux && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    die "a node is made of Debian's packages, and this is no Debian."
  local programs_folder folder
  programs_folder=$(control_plane)
  folder=$cache/node-$({ cat "$here/pause.go"; echo "$programs_folder $packages"; } | digest)
  once "$folder" build_node "$programs_folder"
  echo "$folder"
}

# build_assets THEIRS OURS LACKING: links to the programs of THEIRS, and to those of OURS for what it lacks.
build_assets() {
  local program from
  for program in $programs; do
    case " $3 " in *" $program "*) from=$2 ;; *) from=$1 ;; esac
    ln -s "$from/$program" "$work/bin/$program"
  done
}

# What KUBEBUILDER_ASSETS has, and our own build for the rest.
assets() {
  local theirs=$KUBEBUILDER_ASSETS ours="" lacking="" program folder
  theirs=$(cd "$caller" && cd "$theirs" 2>/dev/null && pwd) ||
    die "KUBEBUILDER_ASSETS is $KUBEBUILDER_ASSETS, which is no folder. Correct it, or unset it to have all built here."
  for program in $programs; do [ -x "$theirs/$program" ] || lacking="$lacking $program"; done
  [ -n "$lacking" ] || { echo "$theirs"; return; }
  lacking=${lacking# }
  say "KUBEBUILDER_ASSETS ($theirs) lacks ${lacking// /, }: taken from our own build; the rest from there."
  ours=$(control_plane)
  folder=$cache/assets-$(echo "$theirs $ours $lacking" | digest)
  once "$folder" build_assets "$theirs" "$ours" "$lacking"
  echo "$folder"
}

# A function, so that bash has read all of this file before minutes go by and somebody changes it.
main() {
  # `go version` depends on the go.mod of the folder it is asked in, and what is cached goes by it.
  cd "$here"
  case ${1:-control-plane} in
  control-plane) if [ -n "${2:-}" ]; then version "$2"; elif [ -n "${KUBEBUILDER_ASSETS:-}" ]; then assets; else control_plane; fi ;;
  node) node ;;
  version) echo "Kubernetes $(version_of "${2:?}.mod")" ;;
  helm | crane | cosign)
    need_go
    local version=${1}_version
    local folder=$cache/$1-${!version}-$(go version | digest)
    once "$folder" "build_$1"
    echo "$folder"
    ;;
  external-secrets)
    need_go
    once "$cache/external-secrets-$external_secrets_version" build_external_secrets
    echo "$cache/external-secrets-$external_secrets_version"
    ;;
  rule-check)
    need_go
    local checker
    checker=$cache/rule-check-$({ cat rule-check/main.go rule-check/go.mod rule-check/go.sum; go version; } | digest)
    once "$checker" build_rule_check
    echo "$checker"
    ;;
  *) die "\`$1\`? Say \`$0\` and one of control-plane [oldest|newest], node, helm, rule-check, crane, cosign, external-secrets." ;;
  esac
}

main "$@"
exit
