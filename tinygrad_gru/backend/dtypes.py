"""What the libraries do not tell of a dtype in one voice."""

from __future__ import annotations

from typing import Any

#: Names of the dtypes whose numbers have gradients. NumPy does not count bfloat16, which comes from ml_dtypes, as one.
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})


def is_floating(dtype: Any) -> bool:
    """Whether numbers of this dtype, of any library, are real and have gradients."""
    kind = getattr(dtype, "kind", "")
    return kind == "f" or (kind in ("", "V") and str(dtype).rpartition(".")[2] in FLOATS)


def is_half(dtype: Any) -> bool:
    """Whether numbers of this dtype have 16 bits."""
    return is_floating(dtype) and getattr(dtype, "itemsize", 0) == 2
