# Every verb of the project; `make help` lists them. CLUSTER=native|kind|existing picks the cluster.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(FOOTPLATE_CACHE),$(HOME)/.cache/footplate)
UV_VERSION := 0.13.9
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
export UV_CACHE_DIR := $(CACHE)/uv
export FOOTPLATE_CACHE := $(CACHE)
unexport PYTHONDONTWRITEBYTECODE # compiled once, tests start twice as fast
BIN := .venv/bin
CLUSTER_TOOL := python3 dev/cluster
LOCKED := $(CLUSTER_TOOL) locked # FILE COMMAND: two checkouts may create the same at once
APT := /run/footplate/packages.lock
PYTEST := $(BIN)/python -m pytest
# In CI a test that failed is run once more, alone; on a desk it has failed.
SUITE := $(if $(CI),$(BIN)/python -m tools.rerun,$(PYTEST))
LONGEST := --durations 40 --durations-min 4 # seconds: where the time of a suite goes
TORCH_TESTS := $(addprefix tests/unit/footplate_trainer/,callbacks checkpoint commands frozen generation huggingface loop \
	metrics model optim parallel rollout stages test_failures.py) $(addprefix tests/unit/footplate_planning/, \
	test_agreement.py test_flops.py test_inventory.py test_topology.py) tests/unit/house/test_doctests.py # those that import torch
MEMORY := $(if $(wildcard /dev/shm),TMPDIR=/dev/shm) # unit tests' files need no disk
PACKAGES := contracts/src planning/src ledger/src operator/src api/src elastic/src trainer-image/src
OURS := contracts planning ledger operator api elastic trainer
CODE := $(PACKAGES) dev tools bench tests

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- the two commands ---------------------------------------------------------------

.PHONY: demo test bill
demo: .venv/ready ## a cluster, an installation and a real run to Succeeded
	@$(BIN)/python dev/demo

bill: .venv/ready ## what a run costs: tried, submitted, disturbed, stopped by its budget, billed
	@$(BIN)/python dev/demo bill

# The cluster comes up beside the simulation: it waits half of that time, and would be idle beside the rest.
test: unit component ## every test but those of test-long, on the same cluster
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target simulation install
	$(SYSTEM_TESTS)

# -- parts of the tests ---------------------------------------------------------------

.PHONY: unit simulation component system cluster-down-test
unit: .venv/ready ## pure tests, in seconds, without sockets
	@torch=$$(mktemp); trap "rm -f $$torch" EXIT; code=0; \
	$(MEMORY) $(PYTEST) $(TORCH_TESTS) -q > $$torch 2>&1 & \
	$(MEMORY) $(PYTEST) -p tests.support.without_torch tests/unit -q $(TORCH_TESTS:%=--ignore=%) \
		--numprocesses 2 --dist worksteal || code=$$?; \
	wait $$! || code=$$?; cat $$torch; exit $$code

simulation: .venv/ready ## faults and histories of whole clusters, in one process and virtual time
	@$(PYTEST) -p tests.support.without_torch tests/simulation -q -m 'not long' --numprocesses 2 --dist worksteal

# A third of their time these wait for others: three at a time keep two cores busy.
component: .venv/ready binaries postgresql prometheus ## real PostgreSQL, real ranks, a real API server
	@$(SUITE) tests/component -q -m 'not long' --numprocesses 3 --dist worksteal $(LONGEST)

define SYSTEM_TESTS
@$(SUITE) tests/system -q -m 'system and not long' --numprocesses 3 --maxschedchunk 1 $(LONGEST)
@$(SUITE) tests/system -q -m cluster_down
endef
system: install ## whole runs on the cluster, faults included; takes the cluster down at the end
	$(SYSTEM_TESTS)

# Run by hand, and recorded in docs/seen/proofs.jsonl by what they are wrapped in.
MANUAL := test-long faults faults-sample chaos upgrade-day air-gap
PROOF := $(BIN)/python -m tools.proof

.PHONY: test-long long-tests
test-long: .venv/ready ## what takes minutes: layout matrices, many kills, hangs and lack of room on the cluster
	@$(PROOF) test-long $(MAKE) --no-print-directory long-tests
long-tests:
	@$(PYTEST) tests/simulation -q -m long --numprocesses 2 --dist worksteal
	@$(PYTEST) tests/component -q -m long --numprocesses 2
	@$(MAKE) --no-print-directory install
	@$(PYTEST) tests/system -q -m 'system and long'
	@$(CLUSTER_TOOL) down

.PHONY: faults faults-sample fault-matrix chaos
WHICH := $(if $(FAMILY),--family '$(FAMILY)') $(if $(FAULT),--fault '$(FAULT)') $(addprefix --phase ,$(PHASE))
faults: install ## every fault in every phase, simulated and on pods; goes on where it was ([FAMILY=] [FAULT=] [PHASE=] [AGAIN=1] [PAGE=1])
	@PYTHONPATH=dev $(PROOF) faults $(BIN)/python -m tests.system.faults $(WHICH) $(if $(AGAIN),--again) $(if $(PAGE),--page)

faults-sample: install ## some of them on pods: every family of faults, every phase; a release needs it green and fresh
	@PYTHONPATH=dev $(PROOF) faults-sample $(BIN)/python -m tests.system.faults --sample $(if $(AGAIN),--again)

fault-matrix: .venv/ready ## write docs/fault-matrix.md anew from its record: what is stale by now
	@PYTHONPATH=dev $(BIN)/python -m tests.system.faults --only-page

.PHONY: seen
seen: install ## what Prometheus saw of a run, as table and pictures in docs/seen
	@mkdir -p docs/seen; FOOTPLATE_SEEN=docs/seen $(PYTEST) tests/system/runs/test_bill.py -q -m system

.PHONY: upgrade-day
upgrade-day: .venv/ready ## upgrade, roll back, uninstall, install again: the previous release and this one under live runs
	@$(CLUSTER_TOOL) down
	@PYTHONPATH=dev $(PROOF) upgrade-day $(BIN)/python -m tests.system.upgrade

.PHONY: air-gap
air-gap: .venv/ready ## make air-gap RELEASE=dist/x.y.z: that folder is installed where no route leads out, and trains
	@$(CLUSTER_TOOL) down
	@$(CLUSTER_TOOL) binaries
	@$(CLUSTER_TOOL) binaries registry
	@PYTHONPATH=dev $(PROOF) air-gap unshare --net $(BIN)/python -m tests.system.air_gap '$(RELEASE)'

SEED := 0
chaos: install ## make chaos SEED=n: one run under 50 random faults, beside a calm one
	@PYTHONPATH=dev $(PROOF) chaos $(BIN)/python -m tests.system.faults.chaos --seed $(SEED)

.PHONY: stress
TIMES := 30
stress: .venv/ready ## make stress TEST=path::id [TIMES=30]: repeat a test under two busy cores
	@$(BIN)/python -m tools.stress '$(TEST)' --times $(TIMES)

.PHONY: gpu-check
gpu-check: .venv/ready ## layouts, MFU and memory on the GPUs of this machine, if it has any
	@$(BIN)/python -m bench.trainer.gpu_check

.PHONY: postgresql
postgresql:
	@compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || $(LOCKED) $(APT) $(SHELL) $(.SHELLFLAGS) ' \
		compgen -G "/usr/lib/postgresql/*/bin/postgres" > /dev/null && exit; \
		echo "[apt] installing postgresql"; apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql > /dev/null'

# Unpacked and not installed: the package would start a server of its own, and take its port.
PROMETHEUS := $(CACHE)/prometheus-$(shell . /etc/os-release && echo $$ID-$$VERSION_ID)
.PHONY: prometheus
prometheus: $(PROMETHEUS)/usr/bin/promtool
$(PROMETHEUS)/usr/bin/promtool:
	@mkdir -p $(CACHE); $(LOCKED) $(APT) $(SHELL) $(.SHELLFLAGS) 'test ! -e $@ || exit 0; \
		echo "[apt] unpacking prometheus"; apt-get update -qq; half=$$(mktemp -d -p $(CACHE)); cd $$half; \
		apt-get download -qq -o APT::Sandbox::User=root prometheus > /dev/null; dpkg-deb -x prometheus_*.deb tree; \
		rm -rf $(PROMETHEUS); mv tree $(PROMETHEUS); rm -rf $$half'

# -- code ------------------------------------------------------------------------------

.PHONY: venv check fix gen verify vendor
venv: .venv/ready ## the Python environment (.venv), from the cache where it can

$(UV):
	@$(LOCKED) $(CACHE)/uv-$(UV_VERSION).lock $(SHELL) $(.SHELLFLAGS) 'test ! -e $@ || exit 0; \
		echo "[venv] installing uv $(UV_VERSION)"; python3 -m venv $(CACHE)/uv-$(UV_VERSION); \
		$(CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)'

.venv/ready: constraints.txt pyproject.toml $(wildcard */pyproject.toml) | $(UV)
	@echo "[venv] installing the pinned packages (torch alone is 5 GB the first time)"
	@$(UV) venv --quiet --allow-existing --python python3 .venv
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --compile-bytecode --constraint constraints.txt $(OURS:%=--reinstall-package footplate-%) \
		--editable contracts --editable planning --editable ledger --editable operator --editable api --editable elastic \
		--editable trainer-image --group dev
	@touch $@

check: .venv/ready ## linters, types, import contracts, house rules
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "run \`make fix\`"; exit 1; }
	@contracts=$$(PYTHONPATH=dev $(BIN)/lint-imports) || { echo "$$contracts"; exit 1; }; tail -n 1 <<< "$$contracts"
	@$(BIN)/python tools/house.py
	@$(BIN)/mypy $(PACKAGES)
	@$(BIN)/mypy dev/cluster dev/demo tools
	@$(BIN)/mypy bench tests

fix: .venv/ready ## let ruff mend what it can
	@$(BIN)/ruff check --fix --quiet $(CODE) || true
	@$(BIN)/ruff format --quiet $(CODE)

gen: .venv/ready ## write what is generated (CRDs)
	@$(BIN)/python tools/gen.py

verify: .venv/ready ## fail if what is generated is out of date
	@$(BIN)/python tools/gen.py --check

vendor: .venv/ready ## renew the vendored page of the API from its package ([VERSION=])
	@$(BIN)/python -m tools.vendor $(or $(VERSION),latest)

constraints: | $(UV) ## resolve constraints.txt anew
	@$(UV) pip compile --quiet --no-header --no-annotate $(OURS:%=--no-emit-package footplate-%) --upgrade \
		--python-version 3.11 --group pyproject.toml:dev -o constraints.txt contracts/pyproject.toml \
		planning/pyproject.toml ledger/pyproject.toml operator/pyproject.toml api/pyproject.toml elastic/pyproject.toml trainer-image/pyproject.toml

.PHONY: release
release: .venv/ready ## make release VERSION=x.y.z: dist/x.y.z with all that an installation needs, and its tag
	@PYTHONPATH=dev $(BIN)/python -m tools.release '$(VERSION)'

# -- the cluster -------------------------------------------------------------------------

.PHONY: binaries images install uninstall cluster-up cluster-down cluster-status cluster-env constraints clean
binaries:
	@$(CLUSTER_TOOL) binaries

cluster-up: ## start the cluster (binaries and images come from the cache where they can)
	@$(CLUSTER_TOOL) up

cluster-down: ## stop it and leave nothing behind
	@$(CLUSTER_TOOL) down

cluster-status: ## nodes, components, versions
	@$(CLUSTER_TOOL) status

cluster-env: ## eval "$$(make -s cluster-env)": KUBECONFIG, kubectl and helm
	@$(CLUSTER_TOOL) env

images: ## build the four images and load them into the nodes
	@$(CLUSTER_TOOL) load

install: .venv/ready ## cluster, images and the Helm release
	@$(BIN)/python dev/demo install

uninstall: ## remove the Helm release
	@eval "$$($(CLUSTER_TOOL) env)" && helm uninstall footplate --namespace footplate-system

clean: ## remove this checkout's environment and tool caches (not ~/.cache/footplate)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
