"""Update rules as CUDA kernels, compiled for the host: they equal their operations one by one."""

from __future__ import annotations

import numpy as np
import pytest
from support.stand_in_cupy import inner

from tinygrad_gru.backend import Cuda, as_array
from tinygrad_gru.optim.update_kernel import update_in_one_kernel, update_kernel

#: Of every function one, on registers: 0 is read and written, 1 read, 2 written, 3 and 4 are scratch, ~i constants.
OPERATIONS = (
    ("multiply", (1, ~0), 3),
    ("add", (3, 0), 4),
    ("positive", (4,), 2),
    ("maximum", (4, ~1), 4),
    ("sqrt", (4,), 4),
    ("subtract", (3, 4), 3),
    ("divide", (3, 4), 0),
    ("maximum", (0, 1), 0),
)
CONSTANTS = [0.1, 1e-8]


def arrays_for(rng, dtype="float32"):
    arrays = [np.abs(rng.standard_normal((101, 3))).astype(dtype) for _ in range(3)]
    arrays[1][[3, 50], 0] = np.nan, np.inf
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_kernel_equals_its_operations(gpu, rng, dtype):
    arrays = arrays_for(rng, dtype)
    there = [as_array(array, device="cupy") for array in arrays]
    assert update_in_one_kernel(OPERATIONS, there, CONSTANTS)
    registers = dict(enumerate(arrays))
    with np.errstate(invalid="ignore"):
        for function, sources, target in OPERATIONS:
            registers[target] = getattr(np, function)(*(registers[s] if s >= 0 else CONSTANTS[~s] for s in sources))
    for register in range(3):
        np.testing.assert_array_equal(inner(there[register]), registers[register], err_msg=f"register {register}")


def test_only_what_the_rule_uses_is_a_parameter():
    kernel = update_kernel(OPERATIONS, 3, "float32")
    assert (kernel.read, kernel.constants, kernel.written) == ((1,), (0, 1), (0, 2))
    assert "(int64 count, const float32* a1_, float64 c0_, float64 c1_, float32* a0_, float32* a2_)" in kernel.source


def test_an_unused_array_of_the_rule_may_have_any_layout(gpu, rng):
    arrays = [as_array(array, device="cupy") for array in arrays_for(rng)]
    assert update_in_one_kernel((("multiply", (0, ~0), 0),), [arrays[0], arrays[1].T, arrays[2]], [2.0])


@pytest.mark.parametrize("layout", [lambda a: a.T, lambda a: a[::2], lambda a: a.astype("float64")])
def test_arrays_that_one_number_does_not_address_are_left_to_single_operations(gpu, rng, monkeypatch, layout):
    p, g, _ = (as_array(array, device="cupy") for array in arrays_for(rng))
    monkeypatch.setattr(Cuda, "launch", None)
    assert not update_in_one_kernel((("add", (0, 1), 0),), [p, layout(g)], [])


def test_host_arrays_are_left_to_single_operations(rng):
    assert not update_in_one_kernel((("multiply", (0, ~0), 0),), arrays_for(rng), [2.0])
