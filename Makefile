# papertrial: everything a newcomer needs. Python 3.11 or later, pip and make; nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test lint types imports tests bench reference install install-dev clean

help:           ## say what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed    ## set up, and put three papers on trial (about five minutes after installation)
	$(BIN)/papertrial try apollo retroinfer prmbench

test: lint types imports tests    ## set up and run every check

install: $(VENV)/.installed       ## set up what the demo needs

install-dev: $(VENV)/.installed-dev    ## set up what the checks need

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

tests: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

bench: $(VENV)/.installed-dev     ## measure every speed claim beside its peer, into bench/RESULTS.md
	$(BIN)/python bench/run.py

reference: $(VENV)/.installed-dev ## run every trial at its defaults and write the reference evidence and README's table
	$(BIN)/python bench/reference.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "papertrial needs Python 3.11 or later; $(PYTHON) is older. Try: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first: its range is what decides the build.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:          ## remove what was set up
	rm -rf $(VENV) .venvs build dist src/*.egg-info .mypy_cache .ruff_cache .import_linter_cache
