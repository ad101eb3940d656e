# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything that is done with this collection before an operator gets it: `make` lists it.
# On a bare Debian 12 or newer, as root, `make demo` and `make test` install what they need first.
# All that is made lies under .work, the built collection in dist.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python that environments are made with: 3.11 or newer.
PYTHON ?= python3
PYTHON_VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)

VENV := .work/venv
PINS := tests/requirements/constraints.txt
units = PATH="$(CURDIR)/$(VENV)/units/bin:$$PATH"
molecule = PATH="$(CURDIR)/$(VENV)/molecule/bin:$$PATH"
docs = PATH="$(CURDIR)/$(VENV)/docs/bin:$$PATH"
ready = $(VENV)/$1/.ready-$(PYTHON_VERSION)
say = @printf '\n== %s\n' "$1"

export LC_ALL := C.UTF-8
export ANSIBLE_HOME := $(CURDIR)/.work/ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/playbooks/collections
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.work/cache/hypothesis
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONPYCACHEPREFIX := $(CURDIR)/.work/cache/python

.PHONY: help demo test
help:  ## lists what can be made
	@sed -En 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: deps $(call ready,molecule)  ## shows the main job on a throw-away host: a redeploy with and without this collection
	@$(molecule) demo/demo

# Those that read only, most of them on one core, run side by side; the others use what cores there are.
READING := lint sanity docs-check build
RUNNING := units lab-tests module-tests fault host-tests molecule
test: deps environments  ## all gates, from lint to scenarios on real hosts
	@$(MAKE) --jobs 2 --output-sync=target $(READING); \
	echo "-- $(READING) passed, $${SECONDS} s since the start"; \
	for gate in $(RUNNING); do \
	    $(MAKE) "$$gate"; \
	    echo "-- $$gate passed, $${SECONDS} s since the start"; \
	done
	@echo "gates: $(words $(READING) $(RUNNING)) passed, 0 failed"

# --- What the gates need -----------------------------------------------------------------------------

.PHONY: deps deps-gates environments pins
deps:  ## installs the Debian packages that are missing, and nothing when none is
	@tests/tools/install_packages tests/requirements/debian.txt tests/lab/packages.txt

deps-gates:
	@tests/tools/install_packages tests/requirements/debian.txt

# One environment each: their pytest plugins and pins get in each other's way in a common one.
$(VENV)/%/.ready-$(PYTHON_VERSION): tests/requirements/%.txt $(PINS) | deps-gates
	$(call say,environment $*)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@rm -rf $(VENV)/$*
	@$(PYTHON) -m venv $(VENV)/$*
	@$(VENV)/$*/bin/pip install -qq --requirement $< --constraint $(PINS)
	@touch $@

environments: $(foreach name,units molecule docs,$(call ready,$(name)))

pins: $(call ready,pins)  ## resolves tests/requirements/*.txt anew into constraints.txt
	@sed -i '/^[^#]/d' $(PINS)
	@$(VENV)/pins/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	    tests/requirements/{units,molecule,docs,pins}.txt >>$(PINS)
	@grep -c == $(PINS)

# --- Gates without a host ----------------------------------------------------------------------------

.PHONY: quick quick-units
quick:  ## what one change needs, under three minutes: style, types, specs, YAML, unit tests of what changed (BASE=... for another branch than main)
	@failed=0; \
	$(MAKE) --jobs 2 --keep-going --output-sync=target lint-style lint-types lint-floor lint-repository lint-yamllint || failed=1; \
	$(MAKE) quick-units || failed=1; \
	exit "$$failed"

# What differs from the branch main, committed or not; tests/tools/changed_tests.py says how tests are chosen.
quick-units: $(call ready,units)
	$(call say,unit tests of what changed)
	@tests=$$($(units) python tests/tools/changed_tests.py $(BASE)); \
	if [[ -n $$tests ]]; then $(units) pytest --numprocesses 2 --timeout 120 --quiet $$tests $(ARGS); \
	else echo "no unit test is about what changed"; fi

.PHONY: lint lint-style lint-types lint-floor lint-shell lint-repository lint-yaml lint-yamllint format readmes
lint:  ## style, types, Python floor, shell, licences, roles, YAML: all of them, even when one fails
	@$(MAKE) --keep-going lint-style lint-types lint-floor lint-shell lint-repository lint-yaml

lint-style: $(call ready,units)
	$(call say,style)
	@$(VENV)/units/bin/ruff check --output-format concise .
	@$(VENV)/units/bin/ruff format --check --output-format concise .

lint-types: $(call ready,units)
	$(call say,types)
	@$(VENV)/units/bin/mypy --package ansible_collections.whatsapp_ops.sessions.plugins
	@MYPYPATH=tests/tools $(VENV)/units/bin/mypy --no-warn-unused-configs tests/tools
	@MYPYPATH=tests/tools:benchmarks:playbooks/collections $(VENV)/units/bin/mypy --no-warn-unused-configs benchmarks

lint-floor: $(call ready,units)
	$(call say,nothing newer than Python 3.9 on targets)
	@$(VENV)/units/bin/vermin --quiet --target=3.9- --no-tips --violations --backport dataclasses plugins

lint-shell: deps-gates
	$(call say,shellcheck)
	@$(PYTHON) tests/tools/list_shell_scripts.py | xargs --no-run-if-empty shellcheck

lint-repository: $(call ready,units)
	$(call say,licences and module sizes and specs of roles and playbooks)
	@failed=0; \
	for check in check_licences check_module_size check_role_specs check_playbook_specs "generate_role_readme --check" "generate_layout_table --check" "generate_limits_table --check"; do \
	    read -r tool arguments <<<"$$check"; \
	    $(VENV)/units/bin/python "tests/tools/$$tool.py" $$arguments || failed=1; \
	done; \
	exit "$$failed"

lint-yaml: lint-yamllint
	$(call say,ansible-lint)
	@$(molecule) ansible-lint --nocolor -q

lint-yamllint: $(call ready,molecule)
	$(call say,yamllint)
	@$(VENV)/molecule/bin/yamllint --strict .

format: $(call ready,units)  ## lays out Python as the gates want it (FILES=... for some only)
	@$(VENV)/units/bin/ruff format $(or $(FILES),.)
	@$(VENV)/units/bin/ruff check --fix $(or $(FILES),.)

readmes: $(call ready,units)  ## writes the READMEs of the roles from their argument specs, docs/layouts.md and docs/security.md from the tables
	@$(VENV)/units/bin/python tests/tools/generate_role_readme.py
	@$(VENV)/units/bin/python tests/tools/generate_layout_table.py
	@$(VENV)/units/bin/python tests/tools/generate_limits_table.py

.PHONY: sanity units docs-check build
sanity: $(call ready,units)  ## every test of ansible-test sanity (ARGS=... for it)
	$(call say,ansible-test sanity)
	@tests/sanity/run $(CURDIR)/.work $(CURDIR)/$(VENV)/units $(ARGS)

units: $(call ready,units)  ## unit tests, without hosts and without root (ARGS=... for pytest)
	$(call say,unit tests)
	@$(units) pytest --numprocesses 2 --timeout 120 tests/unit $(ARGS)

docs-check: $(call ready,docs)  ## documentation of plugins and roles, and the change log
	$(call say,documentation)
	@$(docs) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all \
	    --disallow-unknown-collection-refs .
	$(call say,change log)
	@$(docs) antsibull-changelog lint

build: $(call ready,units)  ## builds dist/whatsapp_ops-sessions-VERSION.tar.gz, installs it aside and reads its documentation
	$(call say,build and install)
	@$(units) tests/tools/build dist .work/installed

# --- Gates on real parts -----------------------------------------------------------------------------

SCENARIOS := $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))

.PHONY: lab-tests module-tests fault host-tests molecule
lab-tests: deps $(call ready,units)  ## the test hosts themselves: boot, own cgroup, nothing left behind; root
	$(call say,test hosts)
	@$(units) pytest --timeout 300 tests/lab

module-tests: deps $(call ready,units)  ## real modules against real directories, users and mounts; root (ARGS=... for pytest)
	$(call say,module tests)
	@$(units) pytest --numprocesses 2 --dist loadfile --timeout 300 $(if $(filter tests/%,$(ARGS)),,tests/module) $(ARGS)

fault: deps $(call ready,units)  ## kills, failing disks, power cuts and attacks during migrations; root (ARGS=... for pytest)
	$(call say,fault tests)
	@$(units) pytest --numprocesses 2 --timeout 300 $(if $(filter tests/%,$(ARGS)),,tests/fault) $(ARGS)

host-tests: deps $(call ready,units)  ## a real host with a real backend: playbooks as an operator runs them, kills in every phase; root
	$(call say,host tests)
	@$(units) pytest --numprocesses 2 --dist loadfile --timeout 600 $(if $(filter tests/%,$(ARGS)),,tests/host) $(ARGS)

molecule: deps $(call ready,molecule)  ## scenarios on throw-away systemd hosts; root (SCENARIO=... for one)
	$(call say,molecule)
	@$(molecule) $(if $(SCENARIO),molecule test --scenario-name $(SCENARIO),tests/tools/run_scenarios $(SCENARIOS))

.PHONY: mutants
mutants: deps $(call ready,units)  ## plants faults in the engine one by one and says which of them tests see, half an hour; root (ARGS="--only rescue", --host)
	$(call say,planted faults)
	@$(units) python tests/mutants/run $(ARGS)

# --- Measurements ------------------------------------------------------------------------------------

SIZES ?= 10000 100000 1000000
RUNS ?= 5

# ansible.posix, to be compared with: one collection out of the package that holds a hundred.
.work/bench/collections/.ready-$(PYTHON_VERSION): benchmarks/requirements.txt | $(call ready,units)
	@mkdir -p .work/bench/package
	@$(VENV)/units/bin/pip download -qq --no-deps --only-binary :all: --dest .work/bench/package --requirement $<
	@rm -rf $(@D) && mkdir $(@D)
	@$(PYTHON) -m zipfile --extract .work/bench/package/ansible-*.whl .work/bench/package/all
	@mkdir -p $(@D)/ansible_collections/ansible && mv .work/bench/package/all/ansible_collections/ansible/posix $(@D)/ansible_collections/ansible
	@rm -rf .work/bench/package
	@touch $@

.PHONY: bench measure-stops
bench: deps $(call ready,units) .work/bench/collections/.ready-$(PYTHON_VERSION)  ## measures beside rsync, cp and Ansible's own modules, half an hour; root (SIZES, RUNS)
	$(call say,benchmarks)
	@$(units) python benchmarks/bench.py --sizes "$(SIZES)" --runs $(RUNS)

measure-stops: deps  ## measures which way to stop browsers keeps what they wrote last, seven minutes; root
	$(call say,ways to stop browsers)
	@tests/backends/wwebjs/measure_stops --write

HOSTS ?= 1 20 50
FLEET_RUNS ?= 3

.PHONY: bench-fleet
bench-fleet: deps $(call ready,units)  ## measures persist beside a hand-written playbook on up to 50 hosts, 45 minutes; root (HOSTS, FLEET_RUNS)
	$(call say,benchmarks with a fleet)
	@$(units) python benchmarks/fleet.py --hosts "$(HOSTS)" --runs $(FLEET_RUNS)

.PHONY: changelog clean
changelog: $(call ready,docs)  ## closes the version of galaxy.yml: fragments become its entry in CHANGELOG.md
	@$(docs) antsibull-changelog release

clean:  ## removes what was built; images and environments stay (rm -rf .work removes them too)
	@rm -rf dist .work/ansible .work/ansible_collections .work/cache .work/installed .work/interpreters
