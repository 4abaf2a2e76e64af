# Two commands matter: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test lint bench gpu-check clean

# One thread: a recurrence's products are too small to be worth sharing, and shared they are slower.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.demo
	$(BIN)/python -m tinygrad_gru train $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks $(ARGS)

# On a machine with a GPU, with the wheel for its driver installed: the contract of every op, and all tests, on CuPy.
gpu-check: $(VENV)/.test
	$(BIN)/python -c "import tinygrad_gru; tinygrad_gru.use('cupy')"
	$(BIN)/python -m tinygrad_gru check --backend cupy
	$(BIN)/python -m pytest -k "cupy" $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras, so that each is installed once and again when pyproject.toml changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
