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

# Tests on the control plane mostly wait: one more than there are processors, and never fewer than three.
TEST_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 3 : n + 1)))

.PHONY: help demo demo-stop test test-fast attack fuzz bench bench-docs fmt lint deny crds package clean-cache cargo programs

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: cargo programs ## Everything once, before your eyes, on this machine; KEEP=1 leaves it running
	@cargo build --workspace --bins
	@$(BINARIES)/demo

demo-stop: cargo ## End what `KEEP=1 make demo` left running
	@cargo build --quiet --workspace --bins
	@$(BINARIES)/demo stop

test: cargo programs ## All tests: unit, recordings, cluster
	@cargo build --release --bin conjur-operator
	CONJUR_OPERATOR_RELEASE=$(abspath $(RELEASE))/conjur-operator RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace

test-fast: cargo ## The tests that need no control plane
	cargo test --workspace --exclude testbed --exclude bench --exclude attack --exclude fuzz -- --skip cluster::
	cargo test --package testbed --lib

# The operator alone, with the features that it is shipped with; what measures it, apart.
bench: cargo programs ## What the operator costs, in some 15 minutes; CASES="cold refresh" for some, SMALL=1 for a try
	@cargo build --release --bin conjur-operator
	@cargo build --release --package bench --package conjur-dev --bins
	@$(RELEASE)/bench $(CASES) $(BENCH_FLAGS)

# The operator as it is shipped; what attacks it needs no speed.
attack: cargo programs ## Hostile tenants beside honest ones, for ten minutes; KINDS="templates loops" for some, ATTACK_SECONDS=60
	@cargo build --release --bin conjur-operator
	@cargo build --package attack --package conjur-dev --bins
	@$(BINARIES)/attack $(KINDS) --operator $(RELEASE)/conjur-operator --json target/attack/attack.json $(ATTACK_FLAGS)

fuzz: cargo ## What reads what tenants and servers write, for half an hour; FUZZ="templates json" for some, FUZZ_SECONDS=3600 each
	@cargo build --release --package fuzz
	@$(RELEASE)/fuzz $(FUZZ) $(FUZZ_FLAGS)

bench-docs: ## All of it, and the figures into docs/benchmarks.md
	@$(MAKE) bench BENCH_FLAGS="--docs docs/benchmarks.md"

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
crds: cargo ## Write the CRDs anew from the code
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
	@ls crds

package: cargo ## The crates that stand alone, as they would be published, built from that
	cargo package --package conjur-client --package conjur-operator-api

clean-cache: ## Remove the programs that were built for tests and the demo
	rm -rf "$(CACHE)"/{control-plane,helm,assets,cargo-deny}-*

cargo:
	@command -v cargo >/dev/null || { \
	  echo "error: cargo is missing, and the operator is built with it. Install it with" >&2; \
	  echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2; \
	  echo "then run this again." >&2; exit 1; }

programs:
	@$(PROGRAMS) control-plane >/dev/null
	@$(PROGRAMS) helm >/dev/null

$(DENY):
	@echo "installing cargo-deny $(DENY_VERSION); this happens once and takes some minutes."
	@cargo install --quiet --locked --root "$(CACHE)/cargo-deny-$(DENY_VERSION)" cargo-deny@$(DENY_VERSION)
