"""The texts of CUDA kernels, by what a C++ compiler of the host makes of them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from tinygrad_gru.backend import RandomStream
from tinygrad_gru.backend.cuda.random import BLOCK
from tinygrad_gru.backend.cuda.update import UpdateKernel

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


class Recorder:
    """Takes the place of CuPy and makes the kernel a function of a C++ program."""

    def ElementwiseKernel(self, inputs, outputs, text, name, preamble, no_return):
        parameters = [parameter.split()[1] for parameter in f"{inputs},{outputs}".split(",")]
        arrays = [name for name in parameters if name.startswith("a")]
        references = "".join(f"T &{name} = ((T*)given[{k}])[i];" for k, name in enumerate(arrays))
        numbers = "".join(f"T {name} = (T)numbers[{k}];" for k, name in enumerate(parameters) if name.startswith("c"))
        self.source = f"""
            #include <cmath>
            #define __device__
            using std::sqrt;
            {preamble}
            typedef float T;
            extern "C" void run(long long n, void** given, double* numbers) {{
                for (long long i = 0; i < n; ++i) {{ {references} {numbers} {text} }}
            }}"""


def test_an_update_rule_as_one_kernel_equals_its_operations(tmp_path, rng):
    arrays = [np.abs(rng.standard_normal(101)).astype("float32") for _ in range(3)]
    arrays[1][[3, 50]] = np.nan, np.inf
    recorder = Recorder()
    kernel = UpdateKernel(recorder, OPERATIONS, len(arrays))
    assert (kernel.read, kernel.constants, kernel.written) == ([1], [0, 1], [0, 2])
    library = compiled(tmp_path, recorder.source)
    found = [array.copy() for array in arrays]
    places = [found[register].ctypes.data for register in (*kernel.read, *kernel.written)]
    numbers = [0.0, *CONSTANTS]  # by the place of the parameter, after that of the array that is read
    library.run(
        ctypes.c_longlong(101), (ctypes.c_void_p * len(places))(*places), (ctypes.c_double * len(numbers))(*numbers)
    )
    registers = dict(enumerate(arrays))
    with np.errstate(invalid="ignore"):
        for function, sources, target in OPERATIONS:
            registers[target] = getattr(np, function)(*(registers[s] if s >= 0 else CONSTANTS[~s] for s in sources))
    for register in range(3):
        np.testing.assert_array_equal(found[register], registers[register], err_msg=f"register {register}")
