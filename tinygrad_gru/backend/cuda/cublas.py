"""cuBLAS itself: CuPy's own bindings refuse to be captured in a graph, so its one function that we need is called here.

Constants and signatures are those of cublas_api.h and library_types.h.
"""

from __future__ import annotations

import ctypes
import os
import sys
from threading import Lock
from typing import Any

import numpy as np

from ..base import BackendError

#: cudaDataType_t, and cublasComputeType_t.
KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
IN_FLOAT32, IN_FLOAT64, IN_TF32 = 68, 70, 77
_ANY_ALGORITHM = -1
#: What NVIDIA recommends as workspace on Hopper; elsewhere less would do.
_WORKSPACE = 32 * 2**20
_NAMES = {"linux": "libcublas.so.{}", "win32": "cublas64_{}.dll"}
_SIGNATURES = {
    "cublasCreate_v2": "p", "cublasSetStream_v2": "pp", "cublasSetWorkspace_v2": "ppz",
    "cublasGemmEx": "piiiii" + "p" + "pii" + "pii" + "p" + "pii" + "ii",
}  # fmt: skip
_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "z": ctypes.c_size_t}
#: One and zero, where cuBLAS can read them.
_NUMBERS = {name: np.array([1, 0], name) for name in ("float32", "float64")}


def library(cupy: Any) -> Any:
    """The library that CuPy has loaded. Raises BackendError if there is none."""
    cupy.cuda.cublas  # noqa: B018  (CuPy loads it when it is first asked for)
    already_loaded = getattr(os, "RTLD_NOLOAD", 0)
    for version in (13, 12, 11):
        try:
            return ctypes.CDLL(_NAMES[sys.platform].format(version), mode=ctypes.DEFAULT_MODE | already_loaded)
        except (OSError, KeyError):
            continue
    raise BackendError("cuBLAS is loaded by CuPy but cannot be found by its name (libcublas.so.13, .12 or .11)")


class Cublas:
    """A handle of cuBLAS on the current device, with memory of its own: inside a graph it may not ask for any."""

    def __init__(self, cupy: Any):
        self._cupy, self._library = cupy, library(cupy)
        for name, letters in _SIGNATURES.items():
            getattr(self._library, name).argtypes = [_TYPES[letter] for letter in letters]
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.addressof(handle))
        self._handle, self._workspace = handle.value, cupy.empty(_WORKSPACE, "uint8")
        self._lock = Lock()

    def gemm(
        self, orders: tuple[int, int], sizes: tuple[int, int, int], left: Any, left_gap: int, right: Any,
        right_gap: int, out: Any, out_gap: int, accumulate: bool, compute: int,
    ) -> None:  # fmt: skip
        """out = left right, or out += left right, for matrices that lie column by column, each `gap` after the last.

        orders  for each operand 1 if it is to be transposed
        sizes   rows and columns of the result, and what is summed over
        """
        numbers = _NUMBERS["float64" if compute == IN_FLOAT64 else "float32"]
        one, zero = numbers.ctypes.data, numbers.ctypes.data + numbers.itemsize
        with self._lock:
            # The workspace goes with the stream.
            self._call("cublasSetStream_v2", self._handle, self._cupy.cuda.get_current_stream().ptr)
            self._call("cublasSetWorkspace_v2", self._handle, self._workspace.data.ptr, _WORKSPACE)
            self._call(
                "cublasGemmEx", self._handle, *orders, *sizes, one,
                left.data.ptr, KINDS[left.dtype.name], left_gap, right.data.ptr, KINDS[right.dtype.name], right_gap,
                one if accumulate else zero, out.data.ptr, KINDS[out.dtype.name], out_gap, compute, _ANY_ALGORITHM,
            )  # fmt: skip

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise BackendError(f"cuBLAS: {name} failed with status {status}")
