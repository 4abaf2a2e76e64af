"""CUDA kernels of the backend, compiled by the host's C++ compiler."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from tinygrad_gru.backend import RandomStream
from tinygrad_gru.backend.cuda.random import BLOCK

COMPILER = shutil.which("c++") or shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here")

DRAW = f"""
typedef unsigned long long word;
static word __umul64hi(word a, word b) {{ return (word)(((unsigned __int128)a * b) >> 64); }}
template <typename T> void draw(word seed, word position, long long n, T* numbers, long long blocks) {{
    for (long long i = 0; i < blocks; ++i) {{ {BLOCK} }}
}}
extern "C" void float32(word s, word p, long long n, float* x, long long b) {{ draw<float>(s, p, n, x, b); }}
extern "C" void float64(word s, word p, long long n, double* x, long long b) {{ draw<double>(s, p, n, x, b); }}
"""


def compiled(folder, source):
    path = folder / "kernel"
    path.with_suffix(".cpp").write_text(source)
    options = ["-O1", "-ffp-contract=off", "-shared", "-fPIC"]  # a product and a sum stay two roundings
    subprocess.run([COMPILER, *options, path.with_suffix(".cpp"), "-o", path.with_suffix(".so")], check=True)
    return ctypes.CDLL(str(path.with_suffix(".so")))


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    library = compiled(tmp_path_factory.mktemp("draw"), DRAW)

    def draw(seed, position, n, dtype):
        numbers = np.full(n + 1, -1, dtype)
        word, many = ctypes.c_ulonglong, ctypes.c_longlong
        blocks = -(-n * numbers.itemsize // 32)
        getattr(library, dtype)(word(seed), word(position), many(n), ctypes.c_void_p(numbers.ctypes.data), many(blocks))
        assert numbers[n] == -1, "written past the end"
        return numbers[:n]

    return draw


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_uniform_numbers_are_numpys_bit_for_bit(draw, seed, dtype):
    for position in (0, 1, 2**40):
        for n in (0, 1, 3, 4, 5, 8, 9, 1001):
            expected = RandomStream(seed, position).uniform((n,), dtype, "numpy")
            np.testing.assert_array_equal(draw(seed, position, n, dtype), expected)
