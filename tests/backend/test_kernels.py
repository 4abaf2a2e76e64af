"""The texts of CUDA kernels, by what a C++ compiler of the host makes of them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from tinygrad_gru.backend import RandomStream
from tinygrad_gru.backend.cupy_random import BLOCK
from tinygrad_gru.backend.cupy_update import UpdateKernel
from tinygrad_gru.optim import SGD, Adagrad, Adam, RMSprop
from tinygrad_gru.optim.elementwise import Program

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


class Recorder:
    """`cupy.ElementwiseKernel`, which keeps what it is given."""

    def ElementwiseKernel(self, inputs, outputs, text, name, preamble, no_return):
        self.inputs, self.outputs = ([p.split()[1] for p in ps.split(",") if p.strip()] for ps in (inputs, outputs))
        self.source = f"""
            #include <cmath>
            #define __device__
            using std::sqrt;
            {preamble}
            extern "C" void run(long long n, void** given, double* numbers) {{
                typedef float T;
                for (long long i = 0; i < n; ++i) {{
                    {"".join(f"T &{x} = ((T*)given[{k}])[i];" for k, x in enumerate([*self.arrays, *self.outputs]))}
                    {"".join(f"T {x} = (T)numbers[{k}];" for k, x in enumerate(self.numbers))}
                    {text}
                }}
            }}"""

    @property
    def arrays(self):
        return [x for x in self.inputs if x.startswith("a")]

    @property
    def numbers(self):
        return [x for x in self.inputs if x.startswith("c")]


RULES = [
    (Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "nesterov": True}),
    (RMSprop, {"centered": True}),
    (Adagrad, {"lr_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "options"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_an_update_rule_as_one_kernel_equals_its_operations(kind, options, parameter, tmp_path, rng):
    optimizer = kind([parameter([1.0])], lr=0.01, **options)
    names = optimizer._arrays
    program = Program(kind.rule, names, {"step": 3, **optimizer._settings(optimizer.groups[0], "")})
    operations, constants = program._operations, program._constants[::-1]
    arrays = {name: np.abs(rng.standard_normal(101)).astype("float32") for name in names}
    arrays["g"][[3, 50]] = np.nan, np.inf
    recorder = Recorder()
    kernel = UpdateKernel(recorder, operations, len(names))
    library = compiled(tmp_path, recorder.source)
    found = {name: array.copy() for name, array in arrays.items()}
    places = [found[names[register]].ctypes.data for register in (*kernel.read, *kernel.written)]
    numbers = [constants[i] for i in kernel.constants]
    library.run(
        ctypes.c_longlong(101), (ctypes.c_void_p * len(places))(*places), (ctypes.c_double * len(numbers))(*numbers)
    )
    registers = {**{k: arrays[name].copy() for k, name in enumerate(names)}}
    for function, sources, target in operations:
        operands = [registers[s] if s >= 0 else constants[~s] for s in sources]
        registers[target] = getattr(np, function)(*operands)
    for k, name in enumerate(names):
        np.testing.assert_array_equal(found[name], registers[k], err_msg=name)
