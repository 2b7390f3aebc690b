# make quickstart: train the quickstart sweep, fit its laws, write the report.   make test: run the tests.
# make long: run the tests that take long, such as simulations of how often intervals hold the truth.
# make faults: kill, damage and starve runs and fleets for an hour, and check that nothing is lost.
# Both make .venv first. PYTHON chooses the interpreter, e.g. make PYTHON=python3.12 test.
PYTHON ?= python3
EXTRAS ?= test
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test long faults lint clean

quickstart: $(VENV)/installed
	$(BIN)/scaling train +sweep=quickstart -m
	$(BIN)/scaling report runs/quickstart

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto --dist loadscope

long: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto -m long

faults: $(VENV)/installed-test
	$(BIN)/python -m tests.faults

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

$(VENV)/made:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

$(VENV)/installed-test: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) '.[$(EXTRAS)]'
	touch $@

$(VENV)/installed-dev: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
