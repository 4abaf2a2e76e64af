"""What the recurrence compiler asks of a CUDA device beyond arrays: kernels, products in place, and graphs, by CuPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any

from ...contexts import block
from ..base import Backend
from ..dtypes import dtype_name
from .cublas import IN_FLOAT32, IN_FLOAT64, IN_TF32, Cublas

#: Threads of a block; a power of two.
THREADS = 128

#: What kernels are made of: dtypes by NumPy's names, and the functions of one element.
PRELUDE = """\
typedef float float32; typedef double float64; typedef int int32; typedef long long int64;
#define inf __longlong_as_double(0x7ff0000000000000LL)
#define nan __longlong_as_double(0x7ff8000000000000LL)
#define ON_DEVICE static __device__ __forceinline__

#ifndef HALF_PRECISION
ON_DEVICE float widened(unsigned short bits) { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x; }
ON_DEVICE unsigned short narrowed(float x) {
    unsigned short bits; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); return bits;
}
#endif
struct float16 {  // in memory only: numbers are computed with in float32
    unsigned short bits;
    __device__ operator float() const { return widened(bits); }
    __device__ float16& operator=(float x) { bits = narrowed(x); return *this; }
};
struct bfloat16 {  // the upper half of a float32; rounded to the nearest, in doubt to the even one
    unsigned short bits;
    __device__ operator float() const { return __int_as_float(int(bits) << 16); }
    __device__ bfloat16& operator=(float x) {
        const unsigned int all = __float_as_int(x);
        bits = x != x ? 0x7fc0 : (all + 0x7fff + (all >> 16 & 1)) >> 16;
        return *this;
    }
};

template <class T> ON_DEVICE T select(bool condition, T a, T b) { return condition ? a : b; }
template <class T> ON_DEVICE T maximum(T a, T b) { return a >= b || a != a ? a : b; }
template <class T> ON_DEVICE T minimum(T a, T b) { return a <= b || a != a ? a : b; }
template <class T> ON_DEVICE T plus(T a, T b) { return a + b; }
template <class T> ON_DEVICE T power(T a, T b) { return pow(a, b); }
template <class T> ON_DEVICE T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }
ON_DEVICE float32 exp_float32(float32 x) { return expf(x); }
ON_DEVICE float64 exp_float64(float64 x) { return exp(x); }
ON_DEVICE float32 tanh_float32(float32 x) { return tanhf(x); }
ON_DEVICE float64 tanh_float64(float64 x) { return tanh(x); }
"""

_capturing: ContextVar[bool] = ContextVar("capturing", default=True)


def is_on_cuda(array: Any) -> bool:
    """Whether this is an array of CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


@block
def capturing(on: bool = True) -> Iterator[None]:
    """In this block recurrences on a GPU run as captured graphs (the default), or launch by launch."""
    token = _capturing.set(on)
    try:
        yield
    finally:
        _capturing.reset(token)


def wants_graphs() -> bool:
    """Whether work that is done again and again is to be captured."""
    return _capturing.get()


class Cuda:
    """A CUDA device, seen through the backend of its arrays."""

    def __init__(self, backend: Backend):
        self.backend, self.cupy = backend, backend.xp
        self._launched: dict[str, Callable[..., None]] = {}

    def kernels(self, source: str, names: list[str]) -> dict[str, Callable[..., None]]:
        """The kernels of these names in a source that may use `PRELUDE`, compiled when the first one is called.

        One is called with how many threads are needed, then with its own arguments: arrays are handed over as
        pointers, Python integers as `long long`, floats as `double`.
        """
        module = self.cupy.RawModule(code=f"{PRELUDE}\n{source}", options=("--std=c++14",))
        return {name: _Kernel(module, name) for name in names}

    def launch(self, source: str, name: str, threads: int, *arguments: Any) -> None:
        """Launch the one kernel of a source, which is compiled once."""
        with self.backend.as_current():
            if source not in self._launched:
                self._launched |= {source: self.kernels(source, [name])[name]}
            self._launched[source](threads, *arguments)

    def graph(self, work: Callable[[], Any]) -> Any:
        """What `work` launches, as one thing that is given to the device whole by `launch()`.

        `work` is called once, and nothing of it is done: it must neither allocate, nor wait, nor ask for numbers, and
        must have been done before, so that its kernels are compiled.
        """
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):  # the capture is invalid, and says so when it is ended
                    stream.end_capture()
                raise
            return stream.end_capture()

    def product(self, left: Any, right: Any, out: Any, accumulate: bool = False) -> None:
        """out = left @ right, or out += left @ right, for matrices and vectors, without a copy or an allocation.

        Along one of its axes a matrix lies element by element; along the other it may leave gaps. `out` lies row by
        row. Operands have one dtype, that of `out` or one that is narrower.
        """
        left, out = (left[None, :], out[None, ...]) if left.ndim == 1 else (left, out)
        right, out = (right[:, None], out[..., None]) if right.ndim == 1 else (right, out)
        (rows, inner), columns = left.shape, right.shape[1]
        if not out.size:
            return
        if not inner:
            if not accumulate:
                out.fill(0)
            return
        # What lies row by row is for cuBLAS a transposed matrix that lies column by column: so outᵀ = rightᵀ leftᵀ.
        (left_order, left_gap), (right_order, right_gap), (_, out_gap) = map(_order, (left, right, out))
        self._cublas.gemm(
            (right_order, left_order), (columns, rows, inner), right, right_gap, left, left_gap, out, out_gap,
            accumulate, self.compute_type(left.dtype),
        )  # fmt: skip

    def products(self, left: Any, right: Any, out: Any) -> None:
        """`product` for each step; an operand with only two axes is the same at all."""
        for t in range(len(out)):
            self.product(left[t] if left.ndim > 2 else left, right[t] if right.ndim > 2 else right, out[t])

    def add_rows(self, ones: Any, matrix: Any, total: Any, accumulate: bool) -> None:
        """total = Σ of the rows of the matrix, or total += that, as a product with a row of ones."""
        self.product(ones[:, : len(matrix)], matrix, total.reshape(1, -1), accumulate)

    def compute_type(self, dtype: Any) -> int:
        """In what cuBLAS multiplies and adds: for float32 that is TF32 if CuPy's own products may use it."""
        name = dtype_name(dtype)
        if name == "float64":
            return IN_FLOAT64
        return IN_TF32 if name == "float32" and self.backend.allows_tf32 else IN_FLOAT32

    @cached_property
    def _cublas(self) -> Cublas:
        with self.backend.as_current():
            return Cublas(self.cupy)


@cache
def cuda_of(backend: Backend) -> Cuda:
    """The device of a backend."""
    return Cuda(backend)


class _Kernel:
    def __init__(self, module: Any, name: str):
        self.module, self.name = module, name

    @cached_property
    def function(self) -> Any:
        return self.module.get_function(self.name)

    def __call__(self, threads: int, *arguments: Any) -> None:
        self.function((-(-threads // THREADS),), (THREADS,), arguments)


def is_matrix(strides: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether cuBLAS can read a matrix that lies so, or a vector."""
    if len(shape) == 1:
        return shape[0] == 1 or strides[0] >= itemsize
    if 0 in shape or len(shape) != 2:
        return len(shape) == 2
    rows = shape[1] == 1 or strides[1] == itemsize
    columns = shape[0] == 1 or strides[0] == itemsize
    return (rows and (shape[0] == 1 or strides[0] >= shape[1] * itemsize)) or (
        columns and (shape[1] == 1 or strides[1] >= shape[0] * itemsize)
    )


def _order(matrix: Any) -> tuple[int, int]:
    """How the matrix lies, as cuBLAS is told: row by row (0), or column by column (1), and from one to the next."""
    (rows, columns), (down, along), item = matrix.shape, matrix.strides, matrix.itemsize
    if (columns == 1 or along == item) and (rows == 1 or down >= columns * item):
        return 0, max(columns, down // item if rows > 1 else 1)
    return 1, max(rows, along // item if columns > 1 else 1)
