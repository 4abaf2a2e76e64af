# Two commands matter: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CUDA ?= 13
LLVM := --only-binary=:all: "llvmlite>=0.46"

# One process per core, each with one thread. ARGS="-n 0": one process. Bytecode is kept, whatever the environment says:
# else every process that a test starts compiles the package anew, and pytest rewrites all test files in every worker.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-peers test-browser lint package docs bench gpu-check gpu-rehearsal clean

# One thread: the products of a recurrence are too small for more, which are slower.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.demo $(VENV)/.fast
	$(BIN)/python -m tinygrad_gru train $(ARGS)

test: $(VENV)/.test
	$(PYTEST) $(ARGS)

# Also the tests that compare with PyTorch, Keras, JAX, autograd and LLVM; ends with the list of skipped tests and reasons.
test-peers: $(VENV)/.test $(VENV)/.peers $(VENV)/.datasets
	$(PYTEST) -rs $(ARGS)

# The page of the explorer in headless Chromium, which must be installed (Debian: apt-get install chromium).
test-browser: $(VENV)/.test $(VENV)/.browser
	$(PYTEST) tests/browser -rs $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# sdist and wheel in dist/, and a smoke test of the wheel in an empty environment, and with llvmlite in it.
package: $(VENV)/.package
	rm -rf dist $(VENV)/installed
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv $(VENV)/installed
	$(VENV)/installed/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	$(VENV)/installed/bin/python -I tests/smoke.py
	$(VENV)/installed/bin/python -m pip install --quiet --disable-pip-version-check $(LLVM)
	$(VENV)/installed/bin/python -I tests/smoke.py

# The site in build/site, opened by build/site/index.html; fails on any warning. Cells of the course run, and are cached.
docs: export OMP_NUM_THREADS = 1
docs: $(VENV)/.docs
	@echo "building the site: every cell of the course runs, which takes a few minutes the first time"
	$(BIN)/python -m sphinx -W --keep-going -q -j auto -d build/doctrees -b html docs build/site $(ARGS)
	@echo "done: open build/site/index.html"

bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks $(ARGS)

# On a machine with a GPU: all checks and measurements, with a report in benchmarks/results. CUDA=12 for an older driver,
# ARGS=--quick for 10 minutes. Includes the comparison with PyTorch if it is installed in .venv.
gpu-check: $(VENV)/.test $(VENV)/.cuda$(CUDA)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# The GPU tests without a GPU: on a stand-in for CuPy, with kernels compiled by the host's C++ compiler.
gpu-rehearsal: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m pytest -p support.rehearsal -k cupy $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp file per set of extras: each is installed once, and again when pyproject.toml changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

# For speed, where there is a wheel for this Python; everything works without it.
$(VENV)/.fast: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LLVM) || \
		echo "without llvmlite, of which there is no wheel for this Python: recurrences run by NumPy"
	touch $@

# Data for examples: parts of packages, which are installed without their dependencies.
$(VENV)/.datasets: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aeon pycountry vega_datasets
	touch $@

clean:
	rm -rf $(VENV) build dist docs/reference *.egg-info
