"""Products in place, on the stand-in's cuBLAS, which is given addresses, leading dimensions and transposes."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru.backend import as_array, cuda_of, is_matrix, resolve, to_host


@pytest.fixture
def product(gpu):
    """`Cuda.product` of host arrays, whose result is copied back."""
    cuda = cuda_of(resolve("cupy"))

    def run(left, right, out, accumulate=False, seen=lambda left, right: (left, right)):
        there = [as_array(array, device="cupy") for array in (left, right, out)]
        cuda.product(*seen(*there[:2]), there[2], accumulate)
        return to_host(there[2])

    return run


SEEN = {
    "as they are": lambda a, b: (a, b),
    "transposed": lambda a, b: (a.T, b.T),
    "with gaps": lambda a, b: (a[:, 1:4], b[1:4, 2:]),
    "one row": lambda a, b: (a[:1, :3], b[:3]),
    "one column": lambda a, b: (a[:, :3], b[:3, 1:2]),
    "every second row": lambda a, b: (a[::2, :3], b[:3]),
    "a vector on the left": lambda a, b: (a[0, :3], b[:3]),
    "a vector on the right": lambda a, b: (a[:, :3], b[:3, 2]),
    "a column as a vector": lambda a, b: (a[:3, 1], b[:3]),
    "nothing to add": lambda a, b: (a[:, :0], b[:0]),
    "no rows": lambda a, b: (a[:0, :3], b[:3]),
}


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("name", SEEN)
def test_products_of_strided_operands(product, rng, name, accumulate):
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((6, 5))
    if name == "transposed":
        a, b = a.T.copy(), b.T.copy()
    expected = np.matmul(*SEEN[name](a, b))
    out = rng.standard_normal(expected.shape)
    found = product(a, b, out, accumulate, SEEN[name])
    np.testing.assert_allclose(found, expected + out if accumulate else expected, rtol=0, atol=1e-14)


def test_half_precision_operands_accumulate_in_float32(product):
    ones = np.ones((1, 4096), "float16")
    assert product(ones, ones.T.copy(), np.zeros((1, 1), "float32")) == 4096


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (lambda a: a, True),
        (lambda a: a.T, True),
        (lambda a: a[:, 2:], True),
        (lambda a: a[::2], True),
        (lambda a: a[:, ::2], False),
        (lambda a: a[::-1], False),
        (lambda a: np.broadcast_to(a[:1], a.shape), False),
        (lambda a: a[0], True),
        (lambda a: a[:, 0], True),
        (lambda a: a[0, ::-1], False),
        (lambda a: a[:, :0], True),
        (lambda a: a[None], False),
    ],
)
def test_is_matrix(view, expected):
    seen = view(np.zeros((4, 6)))
    assert is_matrix(seen.strides, seen.shape, seen.itemsize) is expected
