# Everything a contributor or a newcomer runs. Needs Python 3.11 or later and make; installs into .venv only.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 7071
SEEDS ?= 0:10000

.DEFAULT_GOAL := help
.PHONY: help setup demo run test killers simulate lint bench clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamps: each is older than nothing it depends on once its install is done, so that running again costs nothing.
$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; name a Python 3.11 or later: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old: Python 3.11 or later is needed. Name one: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@# pip older than 25.1 does not know dependency groups.
	@$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.runtime: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing the package and what it needs into $(VENV)"
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing the tools for tests and lint into $(VENV)"
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --group dev
	@touch $@

setup: $(VENV)/.dev ## a virtual environment with everything in it

demo: $(VENV)/.runtime ## run an orchestration and look at its history
	@$(BIN)/python -m samples.hello_sequence.demo

run: $(VENV)/.runtime ## the local host on this repository's function_app.py, port 7071
	@$(BIN)/durable run --port $(PORT)

test: $(VENV)/.dev ## all tests
	$(BIN)/python -m pytest

killers: $(VENV)/.dev ## a hundred rounds of functions that kill their process (about half an hour)
	KILLER_ROUNDS=100 $(BIN)/python -m pytest -q tests/faults/test_killers.py

simulate: $(VENV)/.dev ## random programs on a hostile store: make simulate SEEDS=0:100000
	$(BIN)/python tests/simulation/again.py $(SEEDS)
	$(BIN)/python tests/simulation/again.py --orderly $(SEEDS)

lint: $(VENV)/.dev ## format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.dev ## benchmarks on the embedded store
	$(BIN)/python -m benchmarks --store sqlite

clean: ## remove what make made
	rm -rf $(VENV) .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis .durable build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
