# SPDX-License-Identifier: GPL-3.0-or-later
#
# All development commands of this collection: `make` lists them.
# On a bare Debian 12 or newer, as root, `make demo` and `make test` install what they need first.
# Output goes to .work, the built collection to dist.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python for the environments: 3.11 or newer.
PYTHON ?= python3
version_of = $(shell $1 -c 'import platform; print(platform.python_version())' 2>/dev/null)
PYTHON_VERSION := $(call version_of,$(PYTHON))
# ansible-core 2.16 runs on Python 3.10 to 3.12, the newest one on 3.12 and newer.
PYTHON_oldest := $(or $(shell tests/tools/find_python 3.11 3.12),$(PYTHON))
PYTHON_newest := $(or $(shell tests/tools/find_python 3.14 3.13 3.12),$(PYTHON))
VERSION_oldest := $(call version_of,$(PYTHON_oldest))
VERSION_newest := $(call version_of,$(PYTHON_newest))

VENV := .work/venv
# These need older versions of packages that the others share.
pins = tests/requirements/constraints$(if $(filter importer oldest,$1),-$1).txt
units = PATH="$(CURDIR)/$(VENV)/units/bin:$$PATH"
molecule = PATH="$(CURDIR)/$(VENV)/molecule/bin:$$PATH"
docs = PATH="$(CURDIR)/$(VENV)/docs/bin:$$PATH"
ready = $(VENV)/$1/.ready-$(or $(VERSION_$1),$(PYTHON_VERSION))
# CORE=oldest or CORE=newest runs a gate on that ansible-core.
core := $(if $(filter-out oldest newest,$(CORE)),$(error CORE is oldest or newest),$(or $(CORE),units))
say = @printf '\n== %s\n' "$1"

export LC_ALL := C.UTF-8
export ANSIBLE_HOME := $(CURDIR)/.work/ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/playbooks/collections
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.work/cache/hypothesis
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without bytecode each of the thousands of processes of a run compiles what it imports, which is most of its time.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.work/cache/python
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test
help:  ## lists the commands
	@sed -En 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: deps $(call ready,molecule)  ## shows a redeployment with and without this collection on a disposable host
	@$(molecule) demo/demo

# Checks that only read, mostly on one core, run in parallel; the others use all cores themselves. One process more than there are
# cores runs where they wait for downloads, disks or hosts.
READING := lint sanity cores docs-check build importer
RUNNING := units page lab-tests module-tests fault host-tests molecule
test: deps  ## all checks, from lint to scenarios on real hosts
	@$(MAKE) --jobs 3 environments
	@$(MAKE) --jobs 3 --output-sync=target $(READING); \
	echo "-- $(READING) passed, $${SECONDS} s since the start"; \
	for gate in $(RUNNING); do \
	    $(MAKE) "$$gate"; \
	    echo "-- $$gate passed, $${SECONDS} s since the start"; \
	done
	@echo "gates: $(words $(READING) $(RUNNING)) passed, 0 failed"

# --- Requirements of the checks -----------------------------------------------------------------------------

.PHONY: deps deps-gates environments pins
deps:  ## installs missing Debian packages
	@tests/tools/install_packages tests/requirements/debian.txt tests/lab/packages.txt

deps-gates:
	@tests/tools/install_packages tests/requirements/debian.txt

# Separate environments, because their pytest plugins and pins conflict in a common one.
.SECONDEXPANSION:
$(VENV)/%: tests/requirements/$$(*D).txt $$(call pins,$$(*D)) | deps-gates
	$(call say,environment $(*D))
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	@rm -rf $(@D)
	@$(or $(PYTHON_$(*D)),$(PYTHON)) -m venv $(@D)
	@$(@D)/bin/pip install -qq --no-compile --requirement $< --constraint $(call pins,$(*D))
	@touch $@

environments: $(foreach name,units molecule docs importer oldest newest,$(call ready,$(name)))

pins: $(call ready,pins)  ## resolves tests/requirements/*.txt into the constraints files
	@resolve() { \
	    sed -i '/^[^#]/d' "$$1"; \
	    $(VENV)/pins/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	        "$${@:2}" >>"$$1"; \
	    grep -c --with-filename == "$$1"; \
	}; \
	resolve $(call pins,units) tests/requirements/{units,molecule,docs,newest,pins}.txt; \
	resolve $(call pins,importer) tests/requirements/importer.txt; \
	resolve $(call pins,oldest) tests/requirements/oldest.txt

# --- Checks without a host ----------------------------------------------------------------------------

.PHONY: quick quick-units
quick:  ## checks for one change in under three minutes: style, types, specs, YAML, unit tests of changed code (BASE=... to compare with another branch than main)
	@failed=0; \
	$(MAKE) --jobs 2 --keep-going --output-sync=target lint-style lint-types lint-floor lint-repository lint-yamllint || failed=1; \
	$(MAKE) quick-units || failed=1; \
	exit "$$failed"

# Changes against the branch main, committed or not; tests/tools/changed_tests.py selects the tests.
quick-units: $(call ready,units)
	$(call say,unit tests of changed code)
	@tests=$$($(units) python tests/tools/changed_tests.py $(BASE)); \
	if [[ -n $$tests ]]; then $(units) pytest --numprocesses 2 --timeout 120 --quiet $$tests $(ARGS); \
	else echo "no unit test covers the changes"; fi

.PHONY: lint lint-style lint-types lint-floor lint-shell lint-repository lint-yaml lint-yamllint format readmes
lint:  ## style, types, Python version, shell, licences, roles, words, YAML; continues after a failure
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
	$(call say,licences and module sizes and specs of roles and playbooks and words and generated files)
	@failed=0; \
	for check in check_licences check_module_size check_role_specs check_playbook_specs check_words "generate_playbook_settings --check" "generate_role_readme --check" "generate_layout_table --check" "generate_limits_table --check" "generate_findings_table --check" "generate_awx --check" "generate_docs_index --check"; do \
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

format: $(call ready,units)  ## formats Python (FILES=... for some files)
	@$(VENV)/units/bin/ruff format $(or $(FILES),.)
	@$(VENV)/units/bin/ruff check --fix $(or $(FILES),.)

readmes: $(call ready,units)  ## generates the READMEs of roles, tables and the index of docs, and the definitions for AWX
	@$(VENV)/units/bin/python tests/tools/generate_playbook_settings.py
	@$(VENV)/units/bin/python tests/tools/generate_role_readme.py
	@$(VENV)/units/bin/python tests/tools/generate_layout_table.py
	@$(VENV)/units/bin/python tests/tools/generate_limits_table.py
	@$(VENV)/units/bin/python tests/tools/generate_findings_table.py
	@$(VENV)/units/bin/python tests/tools/generate_awx.py
	@$(VENV)/units/bin/python tests/tools/generate_docs_index.py

.PHONY: sanity units cores docs-check docs-site build importer
sanity: $(call ready,$(core))  ## every test of ansible-test sanity (ARGS=... for its arguments, CORE=oldest or newest)
	$(call say,ansible-test sanity)
	@$(VENV)/$(core)/bin/python tests/tools/say_core.py $(CORE)
	@tests/sanity/run $(CURDIR)/.work/sanity/$(core) $(CURDIR)/$(VENV)/$(core) $(ARGS)

units: $(call ready,$(core))  ## unit tests, without hosts and without root (ARGS=... for pytest, CORE=oldest or newest)
	$(call say,unit tests)
	@$(VENV)/$(core)/bin/python tests/tools/say_core.py $(CORE)
	@PATH="$(CURDIR)/$(VENV)/$(core)/bin:$$PATH" pytest --numprocesses 2 --dist worksteal --timeout 300 tests/unit $(ARGS)

cores: $(call ready,oldest) $(call ready,newest)  ## what can differ on the oldest and the newest ansible-core
	$(call say,oldest and newest ansible-core)
	@for core in oldest newest; do \
	    $(VENV)/$$core/bin/python tests/tools/say_core.py $$core; \
	    tests/tools/check_core $(CURDIR)/.work/sanity/$$core $(CURDIR)/$(VENV)/$$core; \
	done

docs-check: docs-site  ## documentation of plugins and roles, the site, and the change log
	$(call say,documentation)
	@$(docs) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all \
	    --disallow-unknown-collection-refs .
	$(call say,change log)
	@$(docs) antsibull-changelog lint

docs-site: $(call ready,docs)  ## builds the documentation as a site in .work/site/html
	$(call say,documentation site)
	@$(docs) tests/tools/build_site .work/site

build: $(call ready,units)  ## builds dist/whatsapp_ops-sessions-VERSION.tar.gz, installs it below .work and reads its documentation
	$(call say,build and install)
	@$(units) tests/tools/build dist .work/installed

# awx.awx: one collection from the package that contains a hundred.
AWX_COLLECTIONS := .work/awx/collections
$(AWX_COLLECTIONS)/.ready: tests/requirements/awx.txt | $(call ready,units)
	@rm -rf $(dir $(@D)) && mkdir -p $(@D)
	@$(VENV)/units/bin/pip download -qq --no-deps --only-binary :all: --dest $(dir $(@D))package --requirement $<
	@$(PYTHON) tests/tools/extract_collection.py $(dir $(@D))package/ansible-*.whl awx/awx $(@D)
	@rm -rf $(dir $(@D))package
	@touch $@

.PHONY: awx
awx: $(call ready,units) $(AWX_COLLECTIONS)/.ready  ## applies the definitions for AWX with awx.awx to a server that answers as AWX does (ARGS=... for pytest)
	$(call say,definitions for AWX)
	@AWX_COLLECTIONS=$(CURDIR)/$(AWX_COLLECTIONS) $(units) pytest --timeout 300 tests/awx $(ARGS)

# A placeholder while galaxy.yml has no repository; no host has this name.
REPOSITORY ?= https://repository.example.invalid/set-by-the-publisher

importer: build $(call ready,importer)  ## imports the built collection as Galaxy does (REPOSITORY=... if galaxy.yml has none)
	$(call say,galaxy-importer)
	@$(VENV)/importer/bin/python tests/tools/import_collection.py dist/*.tar.gz "$(REPOSITORY)"
	$(call say,execution environment)
	@tests/tools/check_execution_environment $(VENV)/importer .work/installed

# --- Checks on real hosts ----------------------------------------------------------------------------

# The longest one first.
SCENARIOS := fleet $(filter-out fleet,$(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))

.PHONY: lab-tests module-tests fault host-tests molecule
lab-tests: deps $(call ready,units)  ## the test hosts themselves: boot, separate cgroup, complete removal; root
	$(call say,test hosts)
	@$(units) pytest --timeout 300 tests/lab

module-tests: deps $(call ready,units)  ## real modules against real directories, users and mounts; root (ARGS=... for pytest)
	$(call say,module tests)
	@$(units) pytest --numprocesses 3 --dist loadfile --timeout 300 $(if $(filter tests/%,$(ARGS)),,tests/module) $(ARGS)

fault: deps $(call ready,units)  ## kills, failing disks, power cuts and attacks during migrations; root (ARGS=... for pytest)
	$(call say,fault tests)
	@$(units) pytest --numprocesses 3 --dist worksteal --timeout 300 $(if $(filter tests/%,$(ARGS)),,tests/fault) $(ARGS)

host-tests: deps $(call ready,units)  ## a real host with a real backend: playbooks as an operator runs them, kills in every phase; root
	$(call say,host tests)
	@$(units) pytest --numprocesses 2 --dist loadfile --timeout 600 $(if $(filter tests/%,$(ARGS)),,tests/host) $(ARGS)

molecule: deps $(call ready,molecule)  ## scenarios on disposable systemd hosts; root (SCENARIO=... for one)
	$(call say,molecule)
	@$(molecule) $(if $(SCENARIO),molecule test --scenario-name $(SCENARIO),tests/tools/run_scenarios $(SCENARIOS))

.PHONY: page report-sample
page: deps $(call ready,units)  ## the page of the report in a real browser (ARGS=... for pytest)
	$(call say,page of the report)
	@tests/lab/prepare
	@$(units) pytest --timeout 120 tests/browser $(ARGS)

report-sample: deps $(call ready,units)  ## builds a report of invented hosts in .work/report-sample and takes the picture of the README
	@PYTHONPATH=playbooks/collections:tests/tools $(VENV)/units/bin/python tests/tools/sample_report.py \
	    --picture docs/images/report.png .work/report-sample

.PHONY: mutants
mutants: deps $(call ready,units)  ## plants faults in the engine and lists those that no test detects, half an hour; root (ARGS="--only rescue", --host)
	$(call say,planted faults)
	@$(units) python tests/mutants/run $(ARGS)

# --- Measurements ------------------------------------------------------------------------------------

SIZES ?= 10000 100000 1000000
RUNS ?= 5

# ansible.posix, for comparison: one collection from the package that contains a hundred.
.work/bench/collections/.ready-$(PYTHON_VERSION): benchmarks/requirements.txt | $(call ready,units)
	@mkdir -p .work/bench/package
	@$(VENV)/units/bin/pip download -qq --no-deps --only-binary :all: --dest .work/bench/package --requirement $<
	@rm -rf $(@D) && mkdir $(@D)
	@$(PYTHON) -m zipfile --extract .work/bench/package/ansible-*.whl .work/bench/package/all
	@mkdir -p $(@D)/ansible_collections/ansible && mv .work/bench/package/all/ansible_collections/ansible/posix $(@D)/ansible_collections/ansible
	@rm -rf .work/bench/package
	@touch $@

.PHONY: bench measure-stops
bench: deps $(call ready,units) .work/bench/collections/.ready-$(PYTHON_VERSION)  ## compares with rsync, cp and Ansible's own modules, half an hour; root (SIZES, RUNS)
	$(call say,benchmarks)
	@$(units) python benchmarks/bench.py --sizes "$(SIZES)" --runs $(RUNS)

measure-stops: deps  ## measures which way to stop browsers preserves their latest data, seven minutes; root
	$(call say,ways to stop browsers)
	@tests/backends/wwebjs/measure_stops --write

HOSTS ?= 1 20 50
FLEET_RUNS ?= 3

.PHONY: bench-fleet
bench-fleet: deps $(call ready,units)  ## compares persist with a manual playbook on up to 50 hosts, 45 minutes; root (HOSTS, FLEET_RUNS)
	$(call say,benchmarks with a fleet)
	@$(units) python benchmarks/fleet.py --hosts "$(HOSTS)" --runs $(FLEET_RUNS)

SLICE_HOSTS ?= 100

.PHONY: bench-slices
bench-slices: deps $(call ready,units)  ## measures a job in 1, 2 and 4 slices on 100 hosts, 20 minutes; root, 16 GB of memory (SLICE_HOSTS)
	$(call say,benchmark of slices)
	@$(units) python benchmarks/slices.py --hosts $(SLICE_HOSTS)

.PHONY: bench-audit
bench-audit: deps $(call ready,units)  ## compares an audit of 300 accounts with find, two minutes; root
	$(call say,benchmark of an audit)
	@$(units) python benchmarks/audit.py

.PHONY: bench-progress
bench-progress: deps $(call ready,units)  ## measures what reports of progress cost a migration of 100,000 files, ten minutes; root
	$(call say,benchmark of progress)
	@$(units) python benchmarks/progress.py

BENCH_FILES ?= 100000

.PHONY: bench-backup
bench-backup: deps $(call ready,units)  ## compares backups with restic, tar, rsync and cp, 20 minutes; root, restic, xfsprogs (BENCH_FILES, RUNS)
	$(call say,benchmarks of backups)
	@$(units) python benchmarks/backup.py --files $(BENCH_FILES) --runs $(RUNS)

.PHONY: changelog clean
changelog: $(call ready,docs)  ## releases the version of galaxy.yml: moves fragments to CHANGELOG.md
	@$(docs) antsibull-changelog release

clean:  ## removes build output; images and environments are kept (rm -rf .work removes them too)
	@rm -rf dist .work/ansible .work/cache .work/installed .work/site .work/sanity/*/ansible_collections .work/sanity/*/interpreters
