# Everything a contributor types. `make` alone lists it.
# A bare machine needs python3 (3.11 or newer, with venv) and a PyPI index; nothing else.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup up up-two-dc test lint lives sim chaos bench lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.ready ## make .venv from the hash-locked requirements

up: .venv/.ready ## start a demo deployment on this machine
	$(BIN)/vcap up --demo

up-two-dc: .venv/.ready ## start two data centres and a broker, with traffic that empties one
	$(BIN)/python -m compose.two_dc

test: .venv/.ready ## run all tests; the last line has the totals
	$(BIN)/python -m pytest

lint: .venv/.ready ## check style, types and architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict vcap_es compose
	$(BIN)/python -m pytest -q tests/architecture

lives: .venv/.ready ## live 1,000 simulated lives that this commit has not lived before
	$(BIN)/python -m vcap_es.sim --seeds 0..1000 --base "$(shell git rev-parse HEAD 2>/dev/null)"

sim: .venv/.ready ## live 10,000 simulated lives, and hunt every planted bug
	$(BIN)/python -m vcap_es.sim --regression
	$(BIN)/python -m vcap_es.sim --seeds 0..10000 --base "$(shell git rev-parse HEAD 2>/dev/null)"
	$(BIN)/python -m vcap_es.sim --mutations

chaos: .venv/.ready ## break real masters, servers and brokers under load; 30 minutes, prints what held
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.centres

bench: .venv/.ready ## run the benchmarks; fetches wrk, nginx and RabbitMQ where they are not
	$(BIN)/python -m benchmarks

# A line that is locked stays as it is while it satisfies pyproject.toml; delete it to raise it.
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile pyproject.toml --quiet \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links

lock: .venv/.ready ## write both requirements locks anew from pyproject.toml
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## remove .venv, caches and build results; never data
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "vcap_es needs Python 3.11 or newer, and '$(PYTHON)' is not." >&2; \
		echo "Name another one: make setup PYTHON=python3.12" >&2; \
		exit 1; \
	}
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e .
	@touch $@
