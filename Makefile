# `make` alone lists the targets. PYTHON chooses the interpreter (with a VENV of its own), VENV where
# the environment goes, TEST narrows `make test` to a path, WORKERS is how many processes share the
# tests (0: all in one), PORT is where `make run` serves. SECONDS, DATABASE (both, sqlite or postgresql),
# SEED and PEERS=1 say how long, where and with whom `make histories` tries random programs.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
TEST ?= tests
WORKERS ?= 2
PART ?= all
SECONDS ?= 600
DATABASE ?= both
SEED ?= 0

BIN := $(VENV)/bin
# A file stays with one worker, and each worker has a PostgreSQL of its own.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-version histories suites lint types format check conformance \
	bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "asgi-dbconn needs Python 3.11 or later; say which: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"

# The stamps are as old as the dependencies they were made from, so a second run installs nothing.
$(VENV)/.stamp-run: $(BIN)/python pyproject.toml
	@echo "installing what the application needs"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cli]"
	@touch $@

$(VENV)/.stamp-dev: $(BIN)/python pyproject.toml
	@echo "installing what the tests need: frameworks, servers, a PostgreSQL (about a minute)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[all]" --group dev
	@touch $@ $(VENV)/.stamp-run

run: $(VENV)/.stamp-run  ## serve the example application at http://127.0.0.1:8000 (PORT=...)
	@$(BIN)/asgi-dbconn demo --port $(PORT)

test: $(VENV)/.stamp-dev  ## run every test, on SQLite and on a PostgreSQL of its own
	$(PYTEST) $(TEST)

test-fast: $(VENV)/.stamp-dev  ## run the tests that take no time, in under a minute
	$(PYTEST) $(TEST) -m "not server and not slow"

# What the version of Python makes no difference to is left out.
test-version: $(VENV)/.stamp-dev  ## run the tests that tell one Python from another
	$(PYTEST) -m "not server" $(addprefix --ignore=tests/,architecture benchmarks conformance docs suites typing)

histories: $(VENV)/.stamp-dev  ## try random programs on both databases (SECONDS=600 PEERS=1)
	$(BIN)/python -m tests.histories --seconds $(SECONDS) --database $(DATABASE) --seed $(SEED) \
		$(if $(PEERS),--peers)

lint: $(VENV)/.stamp-dev  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-dev  ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright

format: $(VENV)/.stamp-dev  ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test  ## all that must be green before a change lands

conformance: $(VENV)/.stamp-run  ## compare our lifespan with the incumbents' (ARGUMENTS=--verbose)
	@$(BIN)/python -m tests.conformance.incumbents.report $(ARGUMENTS)

suites: $(VENV)/.stamp-dev  ## run SQLAlchemy's, Starlette's and FastAPI's own tests on ours (PART=fixed)
	$(BIN)/python -m tests.suites --part $(PART) $(ARGUMENTS)

bench: $(VENV)/.stamp-dev  ## measure against the peers
	$(BIN)/python -m benchmarks

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venvs .suites build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
