# Everything a newcomer needs, in one word each.  `make` alone lists it.
#
# The commands share one virtual environment, made when first needed and brought up to date when pyproject.toml
# changes.  One stamp file per extra says what is in it, so nothing is done twice.

VENV ?= .venv
PYTHON ?= python3
TARGET ?=
LISTEN ?= $(if $(strip $(TARGET)),tcp:8080,tcp:8080:interface=127.0.0.1)
ARGS ?=

BIN := $(VENV)/bin
NEWENOUGH = $(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>&1)

.PHONY: help run test lint docs bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make run                               a proxy with a small demo site behind it, on port 8080'
	@echo 'make run TARGET=http://localhost:3000  a proxy in front of that; several targets are balanced'
	@echo 'make run LISTEN=tcp:9000 ARGS=--help   another port; anything else that the command takes'
	@echo 'make test                              every test;  make test ARGS="-k tunnel -x"  some of them'
	@echo 'make lint                              style and types'
	@echo 'make docs                              the guide and the API reference, into docs/_build'
	@echo 'make bench                             measure against other proxies, into benchmarks/RESULTS.md'
	@echo 'make clean                             remove everything that was made'
	@echo
	@echo 'PYTHON=python3.12 chooses the interpreter, VENV=dir the place of the environment ($(VENV)).'

# Ctrl-C and SIGTERM let running exchanges finish; the command then ends with 0, so make has no error to report.
run: $(VENV)/.has-run
	@$(BIN)/twist revproxy $(if $(strip $(TARGET)),$(TARGET:%=--target '%'),--demo) $(LISTEN:%=--listen '%') $(ARGS)

test: $(VENV)/.has-test
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.has-test
	@$(BIN)/ruff check $(ARGS)
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing/api.py

docs: $(VENV)/.has-docs
	@$(BIN)/python docs/inventory.py docs/_build/twisted.inv
	@$(BIN)/pydoctor --quiet
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html and docs/_build/api/index.html'

bench: $(VENV)/.has-benchmarks
	@sh benchmarks/setup.sh
	@$(BIN)/python -m benchmarks compare --write $(ARGS)

clean:
	@rm -rf .venv build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name dropin.cache -type f -delete

$(BIN)/pip:
	$(if $(filter True,$(NEWENOUGH)),,$(error twistproxy needs Python 3.11 or newer, and $(PYTHON) is not: \
	choose one with PYTHON=, as in "make run PYTHON=python3.12"))
	@echo 'making the environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.has-run: EXTRA =
$(VENV)/.has-test: EXTRA = [test]
$(VENV)/.has-docs: EXTRA = [docs]
$(VENV)/.has-benchmarks: EXTRA = [benchmarks]

$(VENV)/.has-%: pyproject.toml | $(BIN)/pip
	@echo 'installing twistproxy$(EXTRA) into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRA)'
	@touch $@
