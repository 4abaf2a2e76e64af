"""CUDA kernels, cuBLAS products with an `out`, and captured graphs, for the recurrence compiler and optimizers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any

from ...contexts import block, setting
from ..base import Backend
from ..dtypes import dtype_name
from .cublas import COMPUTE_FLOAT32, COMPUTE_FLOAT64, COMPUTE_TF32, Cublas

#: Threads per block, a power of two.
THREADS = 128

#: The source before every kernel: dtypes by NumPy's names, and functions of one element.
PRELUDE = """\
typedef float float32; typedef double float64; typedef int int32; typedef long long int64;
#define inf __longlong_as_double(0x7ff0000000000000LL)
#define nan __longlong_as_double(0x7ff8000000000000LL)
#define ON_DEVICE static __device__ __forceinline__

#ifndef HALF_PRECISION
ON_DEVICE float half_to_float(unsigned short bits) {
    float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x;
}
ON_DEVICE unsigned short float_to_half(float x) {
    unsigned short bits; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); return bits;
}
#endif
struct float16 {  // only stored: arithmetic is in float32
    unsigned short bits;
    __device__ operator float() const { return half_to_float(bits); }
    __device__ float16& operator=(float x) { bits = float_to_half(x); return *this; }
};
struct bfloat16 {  // the upper half of a float32, rounded to nearest even
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
template <class T> ON_DEVICE T remainder(T a, T b) {  // of integers; 0 if b is 0, as in NumPy
    const T rest = b == 0 || b == -1 ? 0 : a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
template <class T> ON_DEVICE T floor_divide(T a, T b) {
    return b == 0 ? 0 : b == -1 ? T(0 - a) : a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}
ON_DEVICE int64 position(int64 i, int64 n) { return minimum(maximum(i < 0 ? i + n : i, int64(0)), n - 1); }
ON_DEVICE float32 exp_float32(float32 x) { return expf(x); }
ON_DEVICE float64 exp_float64(float64 x) { return exp(x); }
ON_DEVICE float32 tanh_float32(float32 x) { return tanhf(x); }
ON_DEVICE float64 tanh_float64(float64 x) { return tanh(x); }
"""

_capturing: ContextVar[bool] = ContextVar("capturing", default=True)


def is_on_cuda(array: Any) -> bool:
    """Whether this is a CuPy array."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, getattr(cupy, "ndarray", ()))  # it may be a folder of that name


@block
def capturing(on: bool = True) -> Iterator[None]:
    """A block in which recurrences on a GPU run as captured graphs (the default), or launch by launch."""
    with setting(_capturing, on):
        yield


def uses_graphs() -> bool:
    """Whether recurrences run as captured graphs (see `capturing`)."""
    return _capturing.get()


class Cuda:
    """The kernels, products and graphs of a CuPy backend."""

    def __init__(self, backend: Backend):
        self.backend, self.cupy = backend, backend.xp
        self._launched: dict[str, Callable[..., None]] = {}

    def kernels(self, source: str, names: list[str]) -> dict[str, Callable[..., None]]:
        """The kernels of these names in a source that may use `PRELUDE`, compiled when the first one is called.

        A kernel is called with the number of threads and its own arguments: arrays are passed as pointers, Python
        integers as `long long`, floats as `double`.
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
        """The launches of `work`, captured as a graph, which `launch()` runs as a whole.

        `work` is called once, and nothing is executed: it must neither allocate, nor wait, nor read values, and must
        have run before, so that its kernels are compiled.
        """
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):  # ending an invalid capture is an error, too
                    stream.end_capture()
                raise
            return stream.end_capture()

    def product(self, left: Any, right: Any, out: Any, accumulate: bool = False) -> None:
        """out = left @ right, or out += left @ right, for matrices and vectors, without a copy or an allocation.

        An operand is row- or column-major with any leading dimension (see `is_matrix`), `out` is row-major. Operands
        have one dtype, that of `out` or one of lower precision.
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
        # A row-major matrix is for cuBLAS the transpose of a column-major one: so outᵀ = rightᵀ leftᵀ.
        (left_transpose, left_ld), (right_transpose, right_ld), (_, out_ld) = map(_gemm_layout, (left, right, out))
        self._cublas.gemm(
            (right_transpose, left_transpose), (columns, rows, inner), right, right_ld, left, left_ld, out, out_ld,
            accumulate, self.compute_type(left.dtype),
        )  # fmt: skip

    def products(self, left: Any, right: Any, out: Any) -> None:
        """`product` for each step; an operand of two axes is loop-invariant."""
        for t in range(len(out)):
            self.product(left[t] if left.ndim > 2 else left, right[t] if right.ndim > 2 else right, out[t])

    def add_rows(self, ones: Any, matrix: Any, total: Any, accumulate: bool) -> None:
        """total = Σ rows of the matrix, or total += that, as a product with a row of ones."""
        self.product(ones[:, : len(matrix)], matrix, total.reshape(1, -1), accumulate)

    def compute_type(self, dtype: Any) -> int:
        """The compute type of cuBLAS for a dtype: for float32 it is TF32 if CuPy's own products may use that."""
        name = dtype_name(dtype)
        if name == "float64":
            return COMPUTE_FLOAT64
        return COMPUTE_TF32 if name == "float32" and self.backend.allows_tf32 else COMPUTE_FLOAT32

    @cached_property
    def _cublas(self) -> Cublas:
        with self.backend.as_current():
            return Cublas(self.cupy)


@cache
def cuda_of(backend: Backend) -> Cuda:
    """The `Cuda` of a backend, one for each."""
    return Cuda(backend)


class _Kernel:
    """A kernel of a module, called with the number of threads and its arguments."""

    def __init__(self, module: Any, name: str):
        self.module, self.name = module, name

    @cached_property
    def function(self) -> Any:
        return self.module.get_function(self.name)

    def __call__(self, threads: int, *arguments: Any) -> None:
        self.function((-(-threads // THREADS),), (THREADS,), arguments)


def is_matrix(strides: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether cuBLAS can read a matrix or vector with these strides: row- or column-major, no negative ones."""
    if len(shape) == 1:
        return shape[0] == 1 or strides[0] >= itemsize
    if 0 in shape or len(shape) != 2:
        return len(shape) == 2
    rows = shape[1] == 1 or strides[1] == itemsize
    columns = shape[0] == 1 or strides[0] == itemsize
    return (rows and (shape[0] == 1 or strides[0] >= shape[1] * itemsize)) or (
        columns and (shape[1] == 1 or strides[1] >= shape[0] * itemsize)
    )


def _gemm_layout(matrix: Any) -> tuple[int, int]:
    """The layout of a matrix for cuBLAS: whether it is row-major (0) or column-major (1), and its leading dimension."""
    (rows, columns), (down, along), item = matrix.shape, matrix.strides, matrix.itemsize
    if (columns == 1 or along == item) and (rows == 1 or down >= columns * item):
        return 0, max(columns, down // item if rows > 1 else 1)
    return 1, max(rows, along // item if columns > 1 else 1)
