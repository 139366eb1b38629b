# Every verb of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(FOOTPLATE_CACHE),$(HOME)/.cache/footplate)
UV_VERSION := 0.13.9
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
export UV_CACHE_DIR := $(CACHE)/uv
export FOOTPLATE_CACHE := $(CACHE)
PY := .venv/bin/python
CLUSTER_TOOL := python3 dev/cluster

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- environment ---------------------------------------------------------------

$(UV):
	@echo "[venv] installing uv $(UV_VERSION)"
	@python3 -m venv $(CACHE)/uv-$(UV_VERSION)
	@$(CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/ready: constraints.txt pyproject.toml $(wildcard */pyproject.toml) | $(UV)
	@echo "[venv] installing the pinned packages (torch alone is 5 GB the first time)"
	@$(UV) venv --quiet --allow-existing --python python3 .venv
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --constraint constraints.txt \
		--editable contracts --editable operator --editable api --editable 'trainer-image[torch]' --group dev
	@touch $@

.PHONY: venv
venv: .venv/ready ## the Python environment (.venv), from the cache where it can

# -- code ------------------------------------------------------------------------

.PHONY: gen verify
gen: .venv/ready ## write what is generated (CRDs)
	@$(PY) tools/gen.py

verify: .venv/ready ## fail if what is generated is out of date
	@$(PY) tools/gen.py --check
