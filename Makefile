# `make help` lists what there is.

export HALDANE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/haldane
# One static binary is the whole image. The target is named because without it the flags would link build scripts statically too.
export CARGO_BUILD_TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
export RUSTFLAGS := -C target-feature=+crt-static
export CARGO_TARGET_DIR ?= $(HALDANE_CACHE)/target

.DEFAULT_GOAL := help
.PHONY: help setup cluster cluster-down cluster-check

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install the Debian packages that are missing (root)
	@tests/setup

cluster: ## start a test cluster (NAME=haldane), or use the one of KUBECONFIG
	@tests/cluster/cluster up $(NAME)

cluster-down: ## end a test cluster (NAME=haldane)
	@tests/cluster/cluster down $(NAME)

cluster-check: ## test the test cluster itself
	@tests/cluster/check
