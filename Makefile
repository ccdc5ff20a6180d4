# `make` alone tells what there is.
SHELL := bash
.DEFAULT_GOAL := help

PROGRAMS := tests/control-plane/build.sh
# The script that builds them says where this is, too.
CACHE := $(or $(CONJUR_OPERATOR_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/conjur-operator)
# Run from here: `cargo run --package` would build much of it again, with other features.
BINARIES := $(or $(CARGO_TARGET_DIR),target)/debug
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
AUDITABLE_VERSION := 0.7.7
AUDITABLE := $(CACHE)/cargo-auditable-$(AUDITABLE_VERSION)/bin/cargo-auditable
MDBOOK_VERSION := 0.5.4
MDBOOK := $(CACHE)/mdbook-$(MDBOOK_VERSION)/bin/mdbook

# All that is built for release is built in this one way, and so just once: with the list of its crates written into it, and
# without the paths of this machine, so that the same commit gives the same bytes wherever it lies.
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)
RELEASE_CARGO = PATH="$(dir $(AUDITABLE)):$$PATH" \
  RUSTFLAGS="--remap-path-prefix=$(CARGO_FOLDER)=/cargo --remap-path-prefix=$(CURDIR)=/src $(RUSTFLAGS)" \
  CFLAGS="-ffile-prefix-map=$(CARGO_FOLDER)=/cargo -ffile-prefix-map=$(CURDIR)=/src $(CFLAGS)" \
  $(PAGES) cargo auditable build --release --locked

ARCH := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))
# jemalloc's pages are compiled in; those of 64 KiB, which ARM machines may have, work on smaller ones, too.
PAGES := $(if $(filter arm64,$(ARCH)),JEMALLOC_SYS_WITH_LG_PAGE=16)

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Where it is published, and under which name; the release sets both to its own.
IMAGE ?= ghcr.io/conjur-operator/conjur-operator
SOURCE ?= https://github.com/conjur-operator/conjur-operator

# Tests on the control plane mostly wait: three more than there are processors, and never fewer than five.
TEST_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 5 : n + 3)))

.PHONY: help demo demo-stop test test-versions test-fast test-otel test-fips nightly attack fuzz bench bench-docs image plugin fmt lint deny crds chart-docs docs gitops package chart image-push chart-push sign verify clean-cache cargo programs release-programs

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: cargo programs ## Everything once, before your eyes, on this machine; KEEP=1 leaves it running
	@cargo build --workspace --bins
	@$(BINARIES)/demo

demo-stop: cargo ## End what `KEEP=1 make demo` left running
	@cargo build --quiet --workspace --bins
	@$(BINARIES)/demo stop

test: cargo programs release-programs $(AUDITABLE) ## All tests: unit, recordings, cluster, node, other versions of Kubernetes
	@$(RELEASE_CARGO) --bin conjur-operator
	CONJUR_OPERATOR_RELEASE=$(abspath $(RELEASE))/conjur-operator RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace
	@$(MAKE) --no-print-directory test-versions

test-versions: cargo programs ## Some tests on the oldest and the newest version of Kubernetes
	@for version in oldest newest; do $(PROGRAMS) control-plane $$version >/dev/null || exit 1; done
	@RUST_TEST_THREADS=$(TEST_THREADS) tests/control-plane/test-versions.sh

# Compiles all of it once more, with other features: not a part of `test`.
test-otel: cargo programs ## The build with traces, feature `otel`: its span at a collector
	cargo test --package conjur-operator --features otel --lib -- telemetry::
	cargo test --package conjur-operator --features otel --test it -- cluster::traces

# The same of the build with aws-lc's FIPS module, which cmake, Go and Perl build from its source.
test-fips: cargo programs ## The build with feature `fips`: its TLS and a login over it
	cargo test --package conjur-client --features fips --lib -- tls
	cargo test --package conjur-operator --features fips --test it -- \
	  cluster::connection::https_works_with_the_right_authority_and_says_what_to_do_with_another

test-fast: cargo ## The tests that need no control plane
	cargo test --workspace --exclude testbed --exclude bench --exclude attack --exclude fuzz -- --skip cluster::
	cargo test --package testbed --lib

nightly: cargo programs $(AUDITABLE) ## The tests that take minutes each, which `make test` leaves out
	@$(RELEASE_CARGO) --bin conjur-operator
	CONJUR_OPERATOR_RELEASE=$(abspath $(RELEASE))/conjur-operator RUST_TEST_THREADS=1 cargo test --workspace --test it -- --ignored --nocapture
	@RUST_TEST_THREADS=$(TEST_THREADS) tests/control-plane/test-versions.sh all
	@$(MAKE) --no-print-directory test-otel test-fips

# The operator alone, with the features that it is shipped with; what measures it, apart.
bench: cargo programs $(AUDITABLE) ## What the operator costs, in some 15 minutes; CASES="cold refresh" for some, SMALL=1 for a try
	@$(RELEASE_CARGO) --bin conjur-operator
	@$(RELEASE_CARGO) --package bench --package conjur-dev --bins
	@$(RELEASE)/bench $(CASES) $(BENCH_FLAGS)

# The operator as it is shipped; what attacks it needs no speed.
attack: cargo programs $(AUDITABLE) ## Hostile tenants beside honest ones, for ten minutes; KINDS="templates loops" for some, ATTACK_SECONDS=60
	@$(RELEASE_CARGO) --bin conjur-operator
	@cargo build --package attack --package conjur-dev --bins
	@$(BINARIES)/attack $(KINDS) --operator $(RELEASE)/conjur-operator --json target/attack/attack.json $(ATTACK_FLAGS)

fuzz: cargo $(AUDITABLE) ## What reads what tenants and servers write, for half an hour; FUZZ="templates json" for some, FUZZ_SECONDS=3600 each
	@$(RELEASE_CARGO) --package fuzz
	@$(RELEASE)/fuzz $(FUZZ) $(FUZZ_FLAGS)

bench-docs: ## All of it, and the figures into docs/benchmarks.md
	@$(MAKE) bench BENCH_FLAGS="--docs docs/benchmarks.md"

# No container engine is needed: target/image has the archive (OCI layout), its digest, and its bill of materials.
image: cargo $(AUDITABLE) ## The container image and its bill of materials, in target/image
	@$(RELEASE_CARGO) --bin conjur-operator
	@cargo build --quiet --package operator-image
	@mkdir -p target/image
	@epoch=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}; revision=$$(git rev-parse HEAD); \
	file=target/image/conjur-operator-$(VERSION)-$(ARCH); program=$(RELEASE)/conjur-operator; \
	digest=$$($(BINARIES)/operator-image archive --program $$program --name $(IMAGE):$(VERSION) \
	  --created $$epoch --out $$file.oci.tar \
	  --label org.opencontainers.image.title=conjur-operator \
	  --label "org.opencontainers.image.description=Keeps CyberArk Conjur and a Kubernetes cluster in step" \
	  --label org.opencontainers.image.version=$(VERSION) \
	  --label org.opencontainers.image.revision=$$revision \
	  --label org.opencontainers.image.created=$$(date -u -d @$$epoch +%Y-%m-%dT%H:%M:%SZ) \
	  --label org.opencontainers.image.licenses=Apache-2.0 \
	  --label org.opencontainers.image.source=$(SOURCE) \
	  --label org.opencontainers.image.url=$(SOURCE) \
	  --label org.opencontainers.image.documentation=$(SOURCE)/tree/v$(VERSION)/docs) && \
	$(BINARIES)/operator-image sbom --program $$program --out $$file.cdx.json && \
	echo "$$digest" >$$file.digest && echo "$$file.oci.tar" && echo "$$file.cdx.json" && echo "$$digest"

# For this platform; the release has others, too.
plugin: cargo $(AUDITABLE) ## kubectl conjur for this platform, packed for krew, in target/plugin
	@$(RELEASE_CARGO) --package kubectl-conjur
	@platform=$$(uname -s | tr A-Z a-z)-$(ARCH); \
	archive=$$(release/plugin/pack.sh $(VERSION) $$platform $(RELEASE)/kubectl-conjur target/plugin) && echo "$$archive" && \
	release/plugin/krew.sh $(VERSION) $(SOURCE)/releases/download/v$(VERSION) target/plugin/kubectl-conjur-$(VERSION)-*.tar.gz >target/plugin/conjur.yaml && \
	echo target/plugin/conjur.yaml

fmt: cargo ## Format the code
	cargo fmt --all

lint: cargo ## Formatting and clippy, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: cargo $(DENY) ## Licences, sources and bans of the dependencies; advisories where they can be fetched
	$(DENY) --workspace check --hide-inclusion-graph bans licenses sources
	@if $(DENY) fetch db 2>/dev/null; then \
	  $(DENY) --workspace check --disable-fetch --hide-inclusion-graph advisories; \
	else \
	  echo "The database of security advisories can't be reached from here: NOT checked against it."; \
	fi

# One file for each kind, under its name: for `kubectl apply -f crds/`, and for the chart.
crds: cargo ## Write the CRDs and docs/reference.md anew from the code
	@cargo build --quiet --bin conjur-operator
	@rm -rf target/crds && mkdir -p target/crds
	@cargo run --quiet --bin conjur-operator -- crds | awk ' \
	  function flush() { if (name) { printf "%s", text > ("target/crds/" name ".yaml"); close("target/crds/" name ".yaml") } text = name = "" } \
	  /^---/ { flush(); next } \
	  { text = text $$0 "\n" } \
	  /^  name: / && !name { name = $$2 } \
	  END { flush() }'
	@for folder in crds charts/conjur-operator/files/crds; do \
	  mkdir -p $$folder && rm -f $$folder/*.yaml && cp target/crds/*.yaml $$folder/; \
	done
	@cargo run --quiet --package api-docs
	@ls crds

chart-docs: cargo ## Write the chart's schema and README anew from the comments of its values
	@cargo run --quiet --package chart-docs

# What lies outside of docs/ is no page of the site: links to it lead to the repository.
docs: cargo $(MDBOOK) ## The site of docs/, searchable, in target/docs
	@rm -rf target/docs target/docs-source && mkdir -p target && cp -r docs target/docs-source
	@sed -i -E 's#\]\(\.\./#]($(SOURCE)/blob/main/#g' target/docs-source/*.md
	@MDBOOK_LOG=warn $(MDBOOK) build target/docs-source --dest-dir "$(CURDIR)/target/docs"
	@echo target/docs/index.html

package: cargo ## The crates that stand alone, as they would be published, built from that
	cargo package --package conjur-client --package conjur-operator-api

gitops: ## Write the settings for Argo CD anew from its scripts
	@gitops/argocd/argocd-cm.sh >gitops/argocd/argocd-cm.yaml

# What is published: by .github/workflows/release.yml, or by hand to a registry that one is logged in to.
CHARTS ?= ghcr.io/conjur-operator/charts
RELEASE_OUT ?= target
PUSHED := $(RELEASE_OUT)/release/pushed

chart: ## The chart, packed
	@"$$($(PROGRAMS) helm)/helm" package charts/conjur-operator --destination $(RELEASE_OUT)/release

image-push: ## The images of `make image`, of all architectures, and their index, to IMAGE
	@mkdir -p $(PUSHED)
	@set -o pipefail; release/push-image.sh $(IMAGE) $(VERSION) \
	  $(RELEASE_OUT)/image/conjur-operator-$(VERSION)-*.oci.tar | tee $(PUSHED)/image

chart-push: chart ## The chart, to CHARTS
	@mkdir -p $(PUSHED)
	@set -o pipefail; release/push-chart.sh $(CHARTS) $(RELEASE_OUT)/release/conjur-operator-$(VERSION).tgz \
	  | sed 's/^/chart /' | tee $(PUSHED)/chart

sign: ## What was pushed, by digest; COSIGN_KEY=cosign.key for a key of one's own
	@cat $(PUSHED)/* | while read -r what reference; do \
	  sbom=$(RELEASE_OUT)/image/conjur-operator-$(VERSION)-$$what.cdx.json; \
	  [ -e "$$sbom" ] || sbom=; \
	  release/sign.sh "$$reference" $${sbom:+"$$sbom"} </dev/null || exit 1; \
	done

verify: ## The signatures of what was pushed; COSIGN_PUBLIC_KEY=cosign.pub for a key of one's own
	@cat $(PUSHED)/* | while read -r what reference; do \
	  case $$what in index | chart) sbom= ;; *) sbom=sbom ;; esac; \
	  release/verify.sh "$$reference" $$sbom </dev/null || exit 1; \
	  echo "$$what $$reference is signed"; \
	done

clean-cache: ## Remove the programs that were built for tests and the demo
	rm -rf "$(CACHE)"/{control-plane,node,helm,crane,cosign,rule-check,external-secrets,assets,cargo-deny,cargo-auditable,mdbook}-*

cargo:
	@command -v cargo >/dev/null || { \
	  echo "error: cargo is missing, and the operator is built with it. Install it with" >&2; \
	  echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2; \
	  echo "then run this again." >&2; exit 1; }

programs:
	@$(PROGRAMS) control-plane >/dev/null
	@$(PROGRAMS) helm >/dev/null
	@$(PROGRAMS) rule-check >/dev/null
	@$(PROGRAMS) external-secrets >/dev/null

release-programs:
	@$(PROGRAMS) crane >/dev/null
	@$(PROGRAMS) cosign >/dev/null

$(AUDITABLE):
	@echo "installing cargo-auditable $(AUDITABLE_VERSION); this happens once and takes a minute."
	@cargo install --quiet --locked --root "$(CACHE)/cargo-auditable-$(AUDITABLE_VERSION)" cargo-auditable@$(AUDITABLE_VERSION)

$(DENY):
	@echo "installing cargo-deny $(DENY_VERSION); this happens once and takes some minutes."
	@cargo install --quiet --locked --root "$(CACHE)/cargo-deny-$(DENY_VERSION)" cargo-deny@$(DENY_VERSION)

$(MDBOOK):
	@echo "installing mdbook $(MDBOOK_VERSION); this happens once and takes some minutes."
	@cargo install --quiet --locked --no-default-features --features search \
	  --root "$(CACHE)/mdbook-$(MDBOOK_VERSION)" mdbook@$(MDBOOK_VERSION)
