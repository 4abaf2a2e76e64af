"""What the libraries do not tell of a dtype in one voice."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

import numpy as np

#: Names of the dtypes whose numbers have gradients. NumPy does not count bfloat16, which comes from ml_dtypes, as one.
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})


def is_floating(dtype: Any) -> bool:
    """Whether numbers of this dtype, of any library, are real and have gradients."""
    return getattr(dtype, "kind", "") == "f" or dtype_name(dtype) in FLOATS


def is_half(dtype: Any) -> bool:
    """Whether numbers of this dtype are real, and have 16 bits."""
    size = getattr(dtype, "itemsize", None)  # NumPy makes the name of a dtype anew every time, which takes long
    return (size == 2 or type(size) is not int) and dtype_name(dtype) in ("float16", "bfloat16")


def dtype_name(dtype: Any) -> str:
    """The name of a dtype: NumPy has objects and classes for them, other libraries objects of their own."""
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]


def bfloat16() -> np.dtype | None:
    """What the package ml_dtypes adds to NumPy under that name, and CuPy knows; None where it is not installed."""
    with suppress(ImportError):
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return None
