# Two commands do everything from a machine with only Python 3.11+ and git:
#   make run    trains the main job on the embedded images and scores it
#   make test   passes the tests
# Set-up happens once, in .venv; a second call reuses it.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/digits_poly.py
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/xla

.PHONY: run test lint clean

run: $(VENV)/.run
	$(BIN)/python run.py --config=$(CONFIG)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing jaxnoise into $(VENV) (once, about 1 GB) ..."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing jaxnoise and its development tools into $(VENV) (once) ..."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .cache .coverage* .mypy_cache .pytest_cache .ruff_cache
