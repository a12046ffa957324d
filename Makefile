# The words that people and CI share. Needs Python >= 3.11, make and a package index; nothing else.
#
# The environment lives in .venv and is built again only when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST_ARGS ?=

# Of `make fuzz`: mutations in all, what they are drawn from, part of the name of one format.
COUNT ?= 20000
SEED ?= 0
FORMAT ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow fuzz docs check format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime  ## Train four policies, drive them, write runs/demo/report.html
	$(BIN)/countersteer demo --out runs/demo

test: $(VENV)/.dev  ## Run the fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_ARGS)

# Sums are rounded in another order on each processor. What holds on this one with its best instructions and with the
# lowest of torch and numba holds on those between. Numba keeps kernels by processor, so neither finds the other's.
test-slow: $(VENV)/.dev $(VENV)/.docs  ## Run the tests that take minutes, build the site, and the fast tests as on the oldest processor
	$(BIN)/python -m pytest -n 2 -m slow $(PYTEST_ARGS)
	ATEN_CPU_CAPABILITY=default NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= \
	  $(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST_ARGS)

fuzz: $(VENV)/.dev  ## Damage files of every form and read them; COUNT, SEED, FORMAT; goes on where it was stopped
	PYTHONPATH=tests $(BIN)/python -m fuzzing --count "$(COUNT)" --seed "$(SEED)" --format "$(FORMAT)" --out runs/fuzz

docs: $(VENV)/.docs  ## Build the site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir site

check: $(VENV)/.dev  ## Lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(VENV)/.dev  ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Remove the environment, caches and build outputs; runs/ stays
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was installed from. The dev environment contains the runtime one, so
# building it marks both; a `make demo` after a `make test` installs nothing.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing countersteer into $(VENV) (a few minutes the first time)"
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing countersteer and its development tools into $(VENV) (a few minutes the first time)"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing countersteer and what builds its site into $(VENV)"
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $(VENV)/.runtime $@

$(BIN)/pip:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "error: no '$(PYTHON)' on this machine; name a Python >= 3.11: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: countersteer needs Python >= 3.11, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	  echo "       Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
