# Two commands do everything from a machine with only Python 3.11+ and git:
#   make run    trains the main job on the embedded images and scores it
#   make test   passes the tests (make test FAST=1: seven in ten, in two minutes)
# and a third one makes the pages of the documentation in site/:
#   make docs
# And two measure speed (docs/speed.md): make bench, and on a GPU make bench-gpu PYTHON=python3 OUT=folder.
# Set-up happens once, in .venv; a second call reuses it. The newest Python from 3.11 to 3.13 that is
# found is used, unless PYTHON= names one; CONSTRAINTS= names a file of versions to install.

ifndef PYTHON
PYTHON := $(shell sh .ci/newest_python)
endif
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/digits_poly.py
INSTALL = $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable

.PHONY: run test lint docs bench bench-gpu clean

run: $(VENV)/.run
	$(BIN)/python run.py --config=$(CONFIG)

# Without FAST= all tests, and which lines they run; with it, those that take less than a second.
ifdef FAST
TESTS := -m "not slow and not takes_a_second"
else
TESTS := --cov --cov-report=term
endif

test: $(VENV)/.dev
	COVERAGE_CORE=$$($(BIN)/python .ci/coverage_core) $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Any warning is an error. Pictures are drawn on the CPU.
docs: $(VENV)/.docs
	JAX_PLATFORMS=cpu NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html, or serve it, with its search: python -m http.server --directory site"

# TORCH= names a Python with PyTorch to compare with (pip install '.[bench]' there); by default the
# environment's own, if it has it.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.everything $(if $(TORCH),--torch-python=$(TORCH)) $(if $(QUICK),--quick)

# The interpreter as it stands; DATA= names a folder of CIFAR images, or a tar of one.
bench-gpu:
	@test -n "$(OUT)" || { echo "error: OUT= must name the folder of the results" >&2; exit 2; }
	$(PYTHON) -m benchmarks.gpu --out=$(OUT) $(if $(DATA),--data=$(DATA)) $(if $(QUICK),--quick)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer, with venv and pip, is needed" >&2; exit 2; }
	@echo "using $$($(PYTHON) --version), $(PYTHON)"
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing jaxnoise into $(VENV) (once, about 1 GB) ..."
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing jaxnoise and its development tools into $(VENV) (once) ..."
	$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@echo "installing jaxnoise and what makes its documentation into $(VENV) (once) ..."
	$(INSTALL) '.[docs]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) site .cache .coverage* .mypy_cache .pytest_cache .ruff_cache
