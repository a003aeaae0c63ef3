# Needs Python >= 3.11 and make, nothing else: the first target that wants packages makes .venv and fills it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip would compile all of torch, which takes longer than unpacking it. Python compiles what is imported, and must be
# allowed to keep the result: without it, each process compiles torch again, which takes longer than importing it.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile
# Tests compare numbers and share the cores among themselves: one thread each. The tests of a file stay together,
# because they share models that were trained for that file.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format docs bench audit clean

help:
	@echo "make demo      train on real solar-cell images and write runs/demo/report.html (CPU, minutes)"
	@echo "make test      lint and all quick tests"
	@echo "make test-all  lint and all tests"
	@echo "make lint      style, types, import order"
	@echo "make format    bring the code into shape"
	@echo "make docs      write the documentation as a site into build/site; needs no network once it is installed"
	@echo "make bench     measure training, detection, token dropping, loaders, simulators and metrics"
	@echo "make audit     ask for known vulnerabilities of the installed packages, where the network allows it"
	@echo "make clean     remove caches and builds; .venv and runs stay"

demo: $(VENV)/.installed-demo
	$(BIN)/flawmap demo

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(VENV)/.installed-dev
	$(BIN)/python -m flawmap_bench.speed.training_speed
	$(BIN)/python -m flawmap_bench.speed.simulator_speed
	$(BIN)/python -m flawmap_bench.speed.metric_speed
	$(BIN)/python -m flawmap_bench.speed.ratios

audit: $(VENV)/.installed-dev
	@$(PIP_INSTALL) --quiet pip-audit
	@$(BIN)/python -m flawmap_bench.audit

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the environment: made once, filled again when pyproject.toml changes

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: flawmap needs Python 3.11 or newer; \`$(PYTHON)\` is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "remedy: install one, and name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "error: \`$(PYTHON)\` cannot make virtual environments" >&2; \
	  echo "remedy: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml | $(VENV)/.created
	$(PIP_INSTALL) -e '.[train,demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml bench/pyproject.toml | $(VENV)/.created
	$(PIP_INSTALL) -e '.[train,demo,dev]' -e bench
	@$(BIN)/pyright --version  # fetches what it needs now, so that tests need no network
	@touch $@ $(VENV)/.installed-demo
