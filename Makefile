# `make demo` and `make test` need nothing but Python >= 3.11: each sets up its own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-all faults soak lint full-size bench bench-gpu bench-tui soak-tui example clean

demo: $(VENV)/.installed
	$(BIN)/obstui demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal

# What does not fit into ten minutes: pictures of every screen, other schemes, exports run elsewhere,
# tmux.
test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -n 3 --dist worksteal

test-all: test test-slow
	$(BIN)/python -m pytest -m "faults or gpu" -n 0

# The fault table, with its figures.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "faults or not bench and not gpu and not full" -n 0 -s \
		tests/faults tests/obstui/worker

# Kills for half an hour; SOAK_MINUTES=120 for longer.
soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.soak --minutes $${SOAK_MINUTES:-30}

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check core obstui tests
	$(BIN)/ruff format --check core obstui tests
	$(BIN)/mypy
	$(BIN)/lint-imports

full-size: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m full -n 0 -s tests/core/test_full_size.py

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "bench and not gpu" -n 0 -s tests/bench

# The dashboard's bytes, milliseconds and megabytes beside the design's limits.
bench-tui: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.tui

# The dashboard left open for an hour, with a real worker; MINUTES=10 for less.
soak-tui: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.tui_soak --minutes $${MINUTES:-60}

bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "bench and gpu" -n 0 -s tests/bench

# A night on the demo model, lived through again, becomes jobs.db.example.
example: $(VENV)/.installed-dev
	$(BIN)/python -m tests.example

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (PyTorch among it: a few minutes the first time) ..."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) --group dev
	touch $@
