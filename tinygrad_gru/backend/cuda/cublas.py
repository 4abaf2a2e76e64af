"""cuBLAS by ctypes: CuPy's own bindings refuse to be captured in a graph, so the one function needed is called here.

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
DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
COMPUTE_FLOAT32, COMPUTE_FLOAT64, COMPUTE_TF32 = 68, 70, 77
_ANY_ALGORITHM = -1
#: The size that NVIDIA recommends for Hopper; elsewhere less would do.
_WORKSPACE = 32 * 2**20
_NAMES = {"linux": "libcublas.so.{}", "win32": "cublas64_{}.dll"}
_SIGNATURES = {
    "cublasCreate_v2": "p", "cublasSetStream_v2": "pp", "cublasSetWorkspace_v2": "ppz",
    "cublasGemmEx": "piiiii" + "p" + "pii" + "pii" + "p" + "pii" + "ii",
}  # fmt: skip
_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "z": ctypes.c_size_t}
#: One and zero in host memory, for alpha and beta.
_ALPHA_AND_BETA = {name: np.array([1, 0], name) for name in ("float32", "float64")}


def library(cupy: Any) -> Any:
    """The library that CuPy has loaded. Raises BackendError if it cannot be found."""
    cupy.cuda.cublas  # noqa: B018  (CuPy loads it at the first access)
    already_loaded = getattr(os, "RTLD_NOLOAD", 0)
    for version in (13, 12, 11):
        try:
            return ctypes.CDLL(_NAMES[sys.platform].format(version), mode=ctypes.DEFAULT_MODE | already_loaded)
        except (OSError, KeyError):
            continue
    raise BackendError("cuBLAS is loaded by CuPy but cannot be found by its name (libcublas.so.13, .12 or .11)")


class Cublas:
    """A handle of cuBLAS on the current device, with a workspace of its own, for a graph must not allocate."""

    def __init__(self, cupy: Any):
        self._cupy, self._library = cupy, library(cupy)
        for name, letters in _SIGNATURES.items():
            getattr(self._library, name).argtypes = [_TYPES[letter] for letter in letters]
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.addressof(handle))
        self._handle, self._workspace = handle.value, cupy.empty(_WORKSPACE, "uint8")
        self._lock = Lock()

    def gemm(
        self, transposes: tuple[int, int], sizes: tuple[int, int, int], left: Any, left_ld: int, right: Any,
        right_ld: int, out: Any, out_ld: int, accumulate: bool, compute: int,
    ) -> None:  # fmt: skip
        """out = left right, or out += left right, for column-major matrices with leading dimensions `…_ld`.

        transposes  for each operand 1 if it is to be transposed
        sizes       m, n and k: the rows and columns of the result, and the length of the sums
        """
        numbers = _ALPHA_AND_BETA["float64" if compute == COMPUTE_FLOAT64 else "float32"]
        one, zero = numbers.ctypes.data, numbers.ctypes.data + numbers.itemsize
        with self._lock:
            # Setting the stream resets the workspace.
            self._call("cublasSetStream_v2", self._handle, self._cupy.cuda.get_current_stream().ptr)
            self._call("cublasSetWorkspace_v2", self._handle, self._workspace.data.ptr, _WORKSPACE)
            self._call(
                "cublasGemmEx", self._handle, *transposes, *sizes, one,
                left.data.ptr, DATA_TYPES[left.dtype.name], left_ld,
                right.data.ptr, DATA_TYPES[right.dtype.name], right_ld, one if accumulate else zero,
                out.data.ptr, DATA_TYPES[out.dtype.name], out_ld, compute, _ANY_ALGORITHM,
            )  # fmt: skip

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise BackendError(f"cuBLAS: {name} failed with status {status}")
