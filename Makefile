# Two commands matter: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CUDA ?= 13

# As many processes as there are cores, each of which would slow the others with threads of its own. ARGS="-n 0": one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-peers lint bench gpu-check gpu-rehearsal clean

# One thread: a recurrence's products are too small to be worth sharing, and shared they are slower.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.demo
	$(BIN)/python -m tinygrad_gru train $(ARGS)

test: $(VENV)/.test
	$(PYTEST) $(ARGS)

# The tests that compare with PyTorch, Keras, autograd and numba too; ends with what is skipped all the same, and why.
test-peers: $(VENV)/.test $(VENV)/.peers $(VENV)/.recordings
	$(PYTEST) -rs $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks $(ARGS)

# On a machine with a GPU: all proofs and figures, whose report goes to benchmarks/results. CUDA=12 for an older driver,
# ARGS=--quick for 10 minutes. PyTorch is compared with if it is installed in .venv.
gpu-check: $(VENV)/.test $(VENV)/.cuda$(CUDA)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# The tests of a GPU without one: on a stand-in for CuPy, for which the host's C++ compiler reads the kernels.
gpu-rehearsal: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m pytest -p support.rehearsal -k cupy $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras, so that each is installed once and again when pyproject.toml changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

# Real recordings for an example: they come inside a package, whose own needs are of no use here.
$(VENV)/.recordings: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aeon
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
