"""Properties of dtypes, the same for all libraries."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

import numpy as np

#: The dtypes that have gradients. For NumPy bfloat16, which comes from ml_dtypes, is not a floating dtype.
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})


def is_floating(dtype: Any) -> bool:
    """Whether this is a floating dtype of any library; those have gradients."""
    kind = getattr(dtype, "kind", "")  # first, for NumPy computes the name of a dtype at every access
    return kind == "f" or (kind not in ("i", "u", "b") and dtype_name(dtype) in FLOATS)


def is_half(dtype: Any) -> bool:
    """Whether this is a floating dtype of 16 bits."""
    size = getattr(dtype, "itemsize", None)  # first, for NumPy computes the name of a dtype at every access
    return (size == 2 or type(size) is not int) and dtype_name(dtype) in ("float16", "bfloat16")


def dtype_name(dtype: Any) -> str:
    """The name of a dtype: a NumPy dtype, a scalar type, or another library's object."""
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    return name if isinstance(name, str) else str(dtype).rpartition(".")[2]


def bfloat16() -> np.dtype | None:
    """The dtype bfloat16 of the package ml_dtypes; None where that is not installed."""
    with suppress(ImportError):
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return None
