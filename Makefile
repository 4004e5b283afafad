# make venv     a virtual environment in .venv with everything to train, evaluate and test
# make demo     segment, train for a few minutes on made-up video, evaluate, report
# make check    style, types, one-way imports, and tests that compile nothing: before each commit
# make test     the quick test suite, on the CPU; compilations are kept for the next time
# make pytorch  PyTorch too, for the comparison with it
# make slow     the tests that make test leaves out, but for those that need a GPU
# make long     tests of minutes each, for changes of what they cover; half an hour or more in all
# make fuzz     damaged files for all readers, 100,000 cases: VOS_FUZZ_CASES, VOS_FUZZ_SEED
# make tables   the tables of README and docs, from docs/measurements
# make lint     style and the one-way imports; make types: the public API's types

BASE_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
STAMP := $(VENV)/.requirements
ifneq ($(shell command -v uv),)
  CREATE = uv venv --quiet --python $(BASE_PYTHON) $(VENV)
  INSTALL = uv pip install --quiet --python $(PYTHON)
else
  CREATE = $(BASE_PYTHON) -m venv $(VENV)
  INSTALL = $(PYTHON) -m pip install --quiet --disable-pip-version-check
endif
# A file's tests run in one process: what they share is made once. The order of the files is that of
# tests/conftest.py.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
# Tests that compile nothing.
CHECKS := tests/test_style.py tests/test_docs.py tests/test_imports.py tests/storage \
  $(addprefix tests/data/test_,augment.py jpeg.py layouts.py listing.py lists.py masks.py overlay.py pasting.py pictures.py png.py) \
  $(addprefix tests/evaluation/test_,compare.py metrics.py predictions.py protocols.py results.py) \
  $(addprefix tests/video/test_,given.py output.py scaling.py threads.py)
QUICK := not slow and not long and not gpu and not pytorch and not browser

.DEFAULT_GOAL := help
.PHONY: help venv pytorch demo check test slow long fuzz tables lint types format clean

help:
	@sed -n 's/^# //p' Makefile

venv: $(STAMP)

$(STAMP): pyproject.toml setup.py
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo '$(BASE_PYTHON) is older than 3.11: make venv BASE_PYTHON=python3.12' >&2; exit 2; }
	@test -x $(PYTHON) || $(CREATE) || { echo '$(CREATE) failed; install uv, or on Debian: apt-get install python3-venv' >&2; exit 2; }
	$(INSTALL) -e '.[dev]'
	@touch $@

pytorch: $(STAMP)
	$(INSTALL) -e '.[torch]'

demo: $(STAMP)
	$(PYTHON) -m vos_jax.commands.demo

check: lint types
	$(PYTHON) -m pytest -q $(WORKERS) -m '$(QUICK)' $(CHECKS)

test: $(STAMP)
	$(PYTHON) -m pytest $(WORKERS) -m '$(QUICK)' --ignore tests/benchmarks/test_pytorch.py

slow: $(STAMP)
	$(PYTHON) -m pytest $(WORKERS) -m '(slow or pytorch or browser) and not gpu and not long' || test $$? -eq 5  # 5: none

long: $(STAMP)
	$(PYTHON) -m pytest $(WORKERS) -m 'long and not gpu' || test $$? -eq 5

fuzz: $(STAMP)
	VOS_FUZZ_CASES=$${VOS_FUZZ_CASES:-100000} $(PYTHON) -m pytest tests/fuzz

tables: $(STAMP)
	$(PYTHON) -m benchmarks.tables

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP)
	$(BIN)/basedpyright --pythonpath $(PYTHON)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .jax_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
