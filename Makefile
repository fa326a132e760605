# Two commands matter: `make run` (sets up, then runs the demo) and `make test` (sets up, then passes the tests).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.PHONY: run test test-slow gpu lint types bench fuzz docs model golden help-text clean

run: $(STAMP)
	@$(BIN)/aiwm demo

test: $(STAMP)-test lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-slow: $(STAMP)-torch
	$(BIN)/python -m pytest -m slow

# exllamav2 on this machine's GPU: its tests unfaked, and its benchmark. Without a GPU the tests are emulated and nothing is measured.
gpu: $(STAMP)-torch
	$(BIN)/python -m tests.support.exllamav2_emulation
	$(BIN)/python -m pytest -n 0 -m slow $(wildcard tests/process/test_exllamav2_*.py)
	$(BIN)/python -m benchmarks.gpu

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(STAMP)-bench
	for script in $$(cd benchmarks && ls [!_]*.py); do $(BIN)/python -m benchmarks.$${script%.py} || exit 1; done

# The property tests with new examples, then every fuzz target for SECONDS, guided by coverage where atheris can be installed.
SECONDS ?= 180
fuzz: $(STAMP)-test
	-$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m pytest -n 2 -m "hypothesis and not slow" --hypothesis-profile=explore
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

# Trains the shipped model from nothing and writes its card: under an hour on two cores.
model: $(STAMP)-torch
	$(BIN)/python -m training

# Writes docs/reference/ from the requests, config.toml and the codes.
docs: $(STAMP)
	$(BIN)/python -m docs.generate

# Writes the texts that ship ready-made (the top-level help, what shells complete) from the code that they describe.
help-text: $(STAMP)
	$(BIN)/python -m aiwm_tui.cli.help_text
	$(BIN)/python -m aiwm_tui.cli.words

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aiwm needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(STAMP)-test: $(STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

$(STAMP)-bench: $(STAMP)-test
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,bench]'
	@touch $@

$(STAMP)-torch: $(STAMP)-test
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,test-torch]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
