"""A stand-in for CUDA on machines without a GPU: kernels compiled for the host, cuBLAS on raw addresses, graphs.

The kernels are the emitted source itself, compiled by the host's C++ compiler; their threads run one after the other,
or as coroutines where they synchronise. cuBLAS is NumPy on raw memory, given by address, leading dimension and
transpose. A graph replays the captured launches; during a capture nothing is executed, and any other use of an array is
an error.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru.backend import cuda_of
from tinygrad_gru.scan import plan_cache

COMPILER = shutil.which("g++")

#: What CUDA declares for every source, on the host. Headers take a second to compile, so unneeded ones are left out.
_ON_HOST = r"""
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
struct Index { int x; };
static thread_local Index blockIdx, threadIdx, blockDim;
static inline float __int_as_float(int bits) { float x; __builtin_memcpy(&x, &bits, 4); return x; }
static inline int __float_as_int(float x) { int bits; __builtin_memcpy(&bits, &x, 4); return bits; }
static inline double __longlong_as_double(long long bits) { double x; __builtin_memcpy(&x, &bits, 8); return x; }
#define BOTH(name) static inline float name(float x) { return __builtin_##name##f(x); } \
                   static inline double name(double x) { return __builtin_##name(x); }
BOTH(exp) BOTH(expm1) BOTH(log) BOTH(log1p) BOTH(sqrt) BOTH(sin) BOTH(cos) BOTH(tanh)
static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return __builtin_fabsf(x); }
static inline double abs(double x) { return __builtin_fabs(x); }
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }
static inline float expf(float x) { return __builtin_expf(x); }
template <class T> static inline void atomicAdd(T* total, T x) { *total += x; }
static inline float tanhf(float x) { return __builtin_tanhf(x); }
#define HALF_PRECISION
"""
_NO_HALVES = "static float half_to_float(unsigned short);\nstatic unsigned short float_to_half(float);\n"
_HALVES = r"""
static float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, rest = bits & 1023;
    const float size = exponent == 31 ? (rest ? __builtin_nanf("") : __builtin_inff())
        : exponent ? __builtin_ldexpf(1024 + rest, exponent - 25) : __builtin_ldexpf(rest, -24);
    return bits >> 15 ? -size : size;
}
static unsigned short float_to_half(float x) {
    const float size = __builtin_fabsf(x);
    const int sign = __builtin_signbit(x) ? 32768 : 0;
    if (x != x) return 0x7e00;
    if (size >= 65520) return sign + 0x7c00;
    if (size < 0x1p-14f) return sign + int(__builtin_nearbyintf(size * 0x1p24f));
    int exponent;
    const float part = __builtin_frexpf(size, &exponent);
    return sign + ((exponent + 13) << 10) + int(__builtin_nearbyintf(part * 2048));
}
"""
_ALONE = r"""
template <class F> static void launch(int blocks, int threads, F kernel) {
    for (int b = 0; b < blocks; b++)
        for (int i = 0; i < threads; i++) { blockIdx.x = b; threadIdx.x = i; blockDim.x = threads; kernel(); }
}
"""
#: Threads that synchronise are coroutines: each runs until its barrier. Without a barrier one always reads what later
#: threads have not written yet.
_TOGETHER = r"""
static ucontext_t contexts[1024], back;
static char stacks[1024][32768];
static bool finished[1024];
static void* running;
static inline void __syncthreads() { swapcontext(&contexts[threadIdx.x], &back); }
template <class F> static void run_thread() { (*static_cast<F*>(running))(); finished[threadIdx.x] = true; }
template <class F> static void launch(int blocks, int threads, F kernel) {
    running = &kernel;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        for (int i = 0; i < threads; i++) {
            getcontext(&contexts[i]);
            contexts[i].uc_stack.ss_sp = stacks[i];
            contexts[i].uc_stack.ss_size = sizeof stacks[i];
            contexts[i].uc_link = &back;
            finished[i] = false;
            makecontext(&contexts[i], run_thread<F>, 0);
        }
        for (int waiting = threads; waiting;)
            for (int i = waiting = 0; i < threads; i++)
                if (!finished[i]) { threadIdx.x = i; swapcontext(&back, &contexts[i]); waiting += !finished[i]; }
    }
}
"""


@cache
def compiled(source):
    """The compiled library of a source, with a function for each kernel that runs all blocks."""
    entries = []
    for name, parameters in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source):
        names = ", ".join(p.split()[-1] for p in parameters.split(", "))
        entries.append(
            f'extern "C" void run_{name}(int blocks, int threads, {parameters}) '
            f"{{ launch(blocks, threads, [&] {{ {name}({names}); }}); }}"
        )
    halves, together = "float16*" in source, "__syncthreads" in source
    text = "\n".join([
        "#include <ucontext.h>" * together, _ON_HOST, _HALVES if halves else _NO_HALVES,
        _TOGETHER if together else _ALONE, source, *entries,
    ])  # fmt: skip
    folder = Path(tempfile.gettempdir()) / "tinygrad_gru_kernels"
    folder.mkdir(exist_ok=True)
    if COMPILER is None:
        pytest.skip("needs a C++ compiler to stand in for CUDA's")
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as place:
            file, made = Path(place) / "kernels.cpp", Path(place) / "kernels.so"
            file.write_text(text)
            command = [COMPILER, "-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
            result = subprocess.run([*command, str(file), "-o", str(made)], capture_output=True, text=True)
            assert result.returncode == 0, result.stderr[:3000]
            shutil.move(made, library)
    return ctypes.CDLL(str(library))


class RawModule:
    def __init__(self, code, options):
        self.code, self.options = code, options

    def get_function(self, name):
        function = getattr(compiled(self.code), f"run_{name}")

        def run(blocks, threads, arguments):
            assert 0 < blocks[0] < 2**31 and threads[0] <= 1024
            values = [_argument(argument) for argument in arguments]
            launched(name, lambda: function(blocks[0], threads[0], *values), arguments)

        return run


def _argument(value):
    """The argument of a kernel as CuPy passes it."""
    if isinstance(value, int):
        return ctypes.c_longlong(value)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_void_p(value.data.ptr)


class Stream:
    """A stream, which records launches while it captures; there is one current stream."""

    capturing = machine = None

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def begin_capture(self):
        assert Stream.capturing is None
        Stream.capturing = []

    def end_capture(self):
        work, Stream.capturing = Stream.capturing, None
        return Graph(work)


class Graph:
    def __init__(self, work):
        self.work = work

    def launch(self):
        Stream.machine.note("launch", "graph")
        for run, _ in self.work:
            run()


def launched(name, run, arrays=()):
    """Run a launch now, or capture it. A graph keeps its arrays alive."""
    if Stream.capturing is None:
        Stream.machine.note("launch", name)
        run()
    else:
        Stream.capturing.append((run, arrays))


def matrix_at(pointer, dtype, rows, columns, ld):
    """The column-major matrix at an address, with leading dimension `ld`."""
    assert ld >= max(rows, 1), "the leading dimension is too small"
    item = np.dtype(dtype).itemsize
    buffer = (ctypes.c_char * ((ld * (columns - 1) + rows) * item)).from_address(pointer)
    flat = np.frombuffer(buffer, dtype)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (item, ld * item))


DATA_TYPES = {0: np.float32, 1: np.float64, 2: np.float16}
with suppress(ImportError):
    import ml_dtypes

    DATA_TYPES[14] = ml_dtypes.bfloat16


class Library:
    """The functions of cuBLAS that are called. Unlike CuPy's own bindings they can be captured."""

    def __init__(self):
        def create(handle):
            ctypes.c_void_p.from_address(handle).value = 1
            return 0

        self.cublasCreate_v2 = create
        self.cublasSetStream_v2 = lambda handle, stream: 0
        self.cublasSetWorkspace_v2 = lambda handle, pointer, size: 0 if pointer and size else 7
        self.cublasGemmEx = lambda *arguments: self._gemm_ex(*arguments)

    @staticmethod
    def _gemm_ex(
        handle, transpose_a, transpose_b, m, n, k, alpha, a, kind_a, ld_a, b, kind_b, ld_b, beta, c, kind_c, ld_c,
        compute, algorithm,
    ):  # fmt: skip
        accumulator = np.float64 if compute == 70 else np.float32
        item = np.dtype(accumulator).itemsize
        scale = [np.frombuffer((ctypes.c_char * item).from_address(p), accumulator)[0] for p in (alpha, beta)]
        assert scale[0] == 1 and scale[1] in (0, 1)

        def run():
            left = matrix_at(a, DATA_TYPES[kind_a], *((k, m) if transpose_a else (m, k)), ld_a)
            right = matrix_at(b, DATA_TYPES[kind_b], *((n, k) if transpose_b else (k, n)), ld_b)
            out = matrix_at(c, DATA_TYPES[kind_c], m, n, ld_c)
            product = (left.T if transpose_a else left).astype(accumulator) @ (
                right.T if transpose_b else right
            ).astype(accumulator)
            with np.errstate(all="ignore"):
                out[...] = product + out if scale[1] else product

        launched("gemm", run)
        return 0


def add_cuda(cupy, patch):
    """Add kernels, streams and cuBLAS to the stand-in for CuPy."""
    patch.setattr("tinygrad_gru.backend.cuda.cublas.library", lambda cupy: Library())
    cuda_of.cache_clear()
    Stream.machine, Stream.capturing = cupy.machine, None
    cupy.RawModule = RawModule
    cupy.cuda.Stream = Stream
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(ptr=0)


def forget_cuda():
    """Drop the plans and the handles of cuBLAS that were made with the stand-in."""
    cuda_of.cache_clear()
    plan_cache._cache.plans.clear()
