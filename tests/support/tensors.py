"""Tensors for tests."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, grad, op


def leaf(values, dtype="float64", device=None):
    """A tensor that requires a gradient."""
    return Tensor(np.asarray(values, dtype=dtype), requires_grad=True, device=device)


def constant(values, dtype="float64", device=None):
    return Tensor(np.asarray(values, dtype=dtype), device=device)


def gradient(function, *values, dtype="float64", device=None):
    """The gradients of Σ function(x…) with regard to every x, as NumPy arrays; one alone for one x."""
    leaves = [leaf(v, dtype, device) for v in values]
    gradients = grad(function(*leaves).sum(), leaves)
    assert all(g.dtype == x.dtype for g, x in zip(gradients, leaves)), "a gradient has not the dtype of its leaf"
    arrays = [g.numpy() for g in gradients]
    return arrays[0] if len(arrays) == 1 else arrays


def cube_with(rule):
    """The op x³ with a vjp rule that may be wrong."""

    @op
    def cube(x):
        return x * x * x

    cube.vjp(x=rule)
    return cube
