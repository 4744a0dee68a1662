# Every target sets itself up: a virtual environment in .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
MODEL ?= embedded
PORT ?= 8000

.PHONY: demo test test-slow test-faults check format bench serve train clean

demo: $(READY)
	$(BIN)/python -m examples.demo

# Two processes; tests/conftest.py says which files run together.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Replicas, nodes and networks that fail under load.
test-faults: $(READY)
	$(BIN)/python -m pytest -m faults

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.bench_engine

# make serve MODEL=org/model PORT=8010
serve: $(READY)
	@RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$${RAY_AUTH_TOKEN:-$$($(BIN)/python -c 'import secrets; print(secrets.token_hex(32))')} \
		RAY_USAGE_STATS_ENABLED=0 exec $(BIN)/python -m deployments model=$(MODEL) port=$(PORT)

train: $(READY)
	$(BIN)/python -m jobs train --config embedded --output out/embedded

clean:
	rm -rf $(VENV) build *.egg-info out

# torch goes first and alone, so that a CPU build on disk is taken where there is one.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python >= 3.11 is needed; say which with PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV), once (about 2 GB; some minutes)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
