"""Ops that draw random numbers: from the stream of `manual_seed`, on the backend of their input."""

from __future__ import annotations

from ..backend import astype, backend_of, dtype_name, is_floating, random_stream
from .arithmetic import divide
from .comparison import greater_equal
from .op import unwrap


def dropout_mask(shape, p, *, like):
    """A constant of `shape`: 0 with probability p, else 1 / (1 − p); in the dtype and on the backend of `like`"""
    if not 0 <= p < 1:
        raise ValueError(f"p: expected a probability in [0, 1), got {p!r}")
    array = unwrap(like)
    if not is_floating(array.dtype):
        raise TypeError(f"dropout: expected floating-point numbers, got {array.dtype}: convert them first")
    dtype = "float64" if dtype_name(array.dtype) == "float64" else "float32"  # half precision would round p
    kept = greater_equal(random_stream().uniform(shape, dtype, backend_of(array)), float(p))
    return astype(divide(astype(kept, dtype), 1 - float(p)), array.dtype)


def dropout(x, *, p=0.5, training=True):
    """y = x ⊙ m / (1 − p), m = 0 with probability p, else 1; y = x outside of training (Srivastava et al. 2014)"""
    if not training or p == 0:
        return x
    return x * dropout_mask(x.shape, p, like=x)
