# Needs Python 3.10 to 3.13 and make, nothing else. Another interpreter: make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BIN := $(VENV)/bin
DOCS := .venv-docs/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: demo test test-fast test-long lint docs clean

demo: $(VENV)/installed
	$(BIN)/python -m deepatlas_tf.train --workdir runs/demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-fast: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "not slow and not long" $(PYTEST_ARGS)

test-long: $(VENV)/installed-test
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: $(VENV)/installed-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .venv-docs site build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# The stamps are older than the two files after a change of the dependencies: then pip brings the environment up to date.
$(VENV)/installed: setup.py pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/installed-test: setup.py pyproject.toml | $(BIN)/python
	$(PIP) -e ".[test]"
	@touch $@ $(VENV)/installed

# An environment of its own, without TensorFlow
.venv-docs/installed: docs/requirements.txt
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv --clear .venv-docs
	$(DOCS)/python -m pip install --disable-pip-version-check --quiet -r docs/requirements.txt
	@touch $@

CHECK := import sys; v = sys.version_info; (3, 10) <= v < (3, 14) or sys.exit( \
  "deepatlas_tf needs Python 3.10 to 3.13, this is %d.%d: make PYTHON=/path/to/python3.11" % v[:2])

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) not found: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
