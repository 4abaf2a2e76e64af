"""Array backends: NumPy on the host, CuPy on a GPU, and any library of the Python array API standard.

This package is the only place that knows which libraries exist. All other code writes `xp_of(x).tanh(x)`, with the
names of the standard, and calls the functions below where the libraries differ: conversion, scatter-add,
index checks, random numbers.
"""

from __future__ import annotations

from ..native.blas import dot_of_arrays, product
from .arrays import as_array, as_dtype, astype, check_ids, copy_of, is_unshared, scatter_add, to_host, xp_of
from .base import Backend, BackendError
from .cuda.device import PRELUDE, THREADS, Cuda, capturing, cuda_of, is_matrix, is_on_cuda, uses_graphs
from .cuda.index_checks import immediate_checks
from .dtypes import bfloat16, dtype_name, is_floating, is_half
from .events import record_launches
from .indexing import CheckedIndex
from .memory import IDLE_POOL, MemoryReport, OutOfMemoryError, with_memory_report
from .random import RandomStream, drawing_from, manual_seed, random_state, random_stream, set_random_state
from .select import available, backend_of, current, move, resolve, use
from .settings import memory_limit, memory_report, tf32, tf32_allowed

__all__ = [
    "IDLE_POOL",
    "PRELUDE",
    "THREADS",
    "Backend",
    "BackendError",
    "CheckedIndex",
    "Cuda",
    "MemoryReport",
    "OutOfMemoryError",
    "RandomStream",
    "as_array",
    "as_dtype",
    "astype",
    "available",
    "backend_of",
    "bfloat16",
    "capturing",
    "check_ids",
    "copy_of",
    "cuda_of",
    "dtype_name",
    "dot_of_arrays",
    "drawing_from",
    "current",
    "with_memory_report",
    "immediate_checks",
    "is_floating",
    "is_half",
    "is_matrix",
    "is_on_cuda",
    "is_unshared",
    "manual_seed",
    "memory_limit",
    "memory_report",
    "move",
    "product",
    "record_launches",
    "random_state",
    "random_stream",
    "resolve",
    "scatter_add",
    "set_random_state",
    "tf32",
    "tf32_allowed",
    "to_host",
    "use",
    "uses_graphs",
    "xp_of",
]
