from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import BackendError, Tensor, use
from tinygrad_gru.backend import Backend, available, backend_of, current, move, resolve
from tinygrad_gru.backend.select import ENVIRONMENT_VARIABLE


def test_names():
    assert resolve("numpy") is resolve("cpu") is resolve(None) and resolve(STRICT) is STRICT
    assert repr(resolve("numpy")) == "<backend numpy>" and "numpy" in available()


@pytest.mark.parametrize("name", ["jax", "", "numpy:0", "cpu:1", "cupy:x", "cuda:-1", 3])
def test_unknown_names(name):
    with pytest.raises(BackendError, match=f"unknown backend {name!r}: expected 'numpy' or 'cupy'"):
        resolve(name)


def test_use_for_a_block_nests_and_ends_with_an_exception():
    with use(STRICT) as backend:
        assert backend is current() is STRICT
        with use("numpy"):
            assert current().name == "numpy"
        assert current() is STRICT
    with pytest.raises(KeyError), use(STRICT):
        raise KeyError
    assert current().name == "numpy"


def test_use_applies_to_the_calling_thread():
    seen = {}

    def other():
        use(STRICT)
        seen["other"] = Tensor([1.0]).device

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(10)
    assert seen == {"other": STRICT.name} and Tensor([1.0]).device == "numpy"


def test_the_environment_variable(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "jax")
    with pytest.raises(BackendError, match="unknown backend 'jax'"):
        Tensor([1.0])
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert Tensor([1.0]).device == "numpy"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "jax")
    with use("cpu"):
        assert Tensor([1.0]).device == "numpy"


def test_backend_of_arrays():
    for value in (np.ones(1), np.float32(1), 1.0, [1.0], None):
        assert backend_of(value) is resolve("numpy")
    found = backend_of(STRICT.asarray([1.0]))
    assert found.name == STRICT.name and found.device == STRICT.device


def test_the_attribute_backend_of_another_array_type():
    class Mine:
        __backend__ = Backend("mine", np)

    assert backend_of(Mine()).name == "mine"


def test_move(backend):
    values = np.arange(6.0).reshape(2, 3)
    there = move(values, backend)
    assert backend_of(there).name == backend.name
    np.testing.assert_array_equal(move(there, "numpy"), values)
    assert move(there, backend) is there


def test_importing_the_package_imports_no_other_array_library():
    """Neither CuPy nor Matplotlib nor PyTorch; checked in a process of its own."""
    program = (
        "import sys, tinygrad_gru\n"
        "print([n for n in ('cupy', 'matplotlib', 'torch', 'scipy', 'importlib.metadata') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
