# `make help` lists what there is.

SHELL := bash
# Every recipe that builds starts with this.
env := . tests/support/env.sh &&

.DEFAULT_GOAL := help
.PHONY: help setup components demo demo-down test test-code test-cluster matrix releases bench soak lint cluster cluster-down cluster-check

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## a cluster, a shop with customers, a good release and a bad one, with figures
	@tests/demo/demo up

demo-down: ## remove everything that the demo made
	@tests/demo/demo down

test: components ## everything: code, the test cluster itself, the controller on a real cluster
	@failed=0; for part in test-code cluster-check test-cluster; do $(MAKE) --no-print-directory $$part || failed=1; done; exit $$failed

test-code: components ## unit tests, simulation, stories, CRDs, chart, GitHub's published contracts
	$(env) cargo test --locked --all-targets --no-fail-fast

test-cluster: components ## the controller on a real cluster
	@tests/lanes

matrix: ## every phase of a rollout x everything that others may do meanwhile, as a table (long)
	$(env) cargo test --locked --test matrix
	@tests/cluster/cluster down matrix

releases: ## bad releases of every kind, and good ones in bad weather: time to the verdict and what was told (long)
	$(env) cargo test --locked --test releases
	@tests/cluster/cluster down releases

# Rows that begin with J, AA and P9 need no cluster, and an optimised build.
simulated := $(filter J% AA P9,$(ROWS))
bench: ## the figures of the README (ROWS="P2 P4" N=5); of the judge: ROWS="J1 J2"
ifneq ($(simulated),)
	$(env) ROWS="$(simulated)" cargo run --release --locked --example judge
endif
ifneq ($(if $(ROWS),$(filter-out J% AA P9,$(ROWS)),all),)
	$(env) cargo run --locked --example bench
	@tests/cluster/cluster down bench
endif

soak: ## good and bad releases under load by the gateway, and how many requests failed (MINUTES=30)
	$(env) MINUTES=$(MINUTES) cargo run --locked --example soak
	@tests/cluster/cluster down soak

lint: ## format, clippy, documentation, licences
	cargo fmt --check
	$(env) cargo clippy --locked --all-targets -- -D warnings
	$(env) RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo deny is not installed: licences and bans are not checked"; fi

components: setup
	@tests/cluster/cluster build
	@tests/contract/parts >/dev/null

setup: ## install the Debian packages that are missing (root)
	@tests/setup

cluster: ## start a test cluster (NAME=haldane), or use the one of KUBECONFIG
	@tests/cluster/cluster up $(NAME)

cluster-down: ## end a test cluster (NAME=haldane)
	@tests/cluster/cluster down $(NAME)

cluster-check: ## test the test cluster itself
	@tests/cluster/check
