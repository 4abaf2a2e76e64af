"""Comparisons and other ops whose results are booleans or integers: they have no gradient, and say so."""

from __future__ import annotations

from ..backend import xp_of
from .op import op


@op
def equal(a, b):
    """y = (a = b), booleans        no gradient"""
    return a == b


@op
def not_equal(a, b):
    """y = (a ≠ b), booleans        no gradient"""
    return a != b


@op
def less(a, b):
    """y = (a < b), booleans        no gradient"""
    return a < b


@op
def less_equal(a, b):
    """y = (a ≤ b), booleans        no gradient"""
    return a <= b


@op
def greater(a, b):
    """y = (a > b), booleans        no gradient"""
    return a > b


@op
def greater_equal(a, b):
    """y = (a ≥ b), booleans        no gradient"""
    return a >= b


for _comparison in (equal, not_equal, less, less_equal, greater, greater_equal):
    _comparison.vjp(a=None, b=None)


@op
def argmax(x, *, axis=None):
    """y = the index of the first largest element along `axis` (of the flattened array if None)        no gradient"""
    return xp_of(x).argmax(x, axis=axis)


@op
def argmin(x, *, axis=None):
    """y = the index of the first smallest element along `axis` (of the flattened array if None)        no gradient"""
    return xp_of(x).argmin(x, axis=axis)


@op
def isfinite(x):
    """y = whether each element is neither NaN nor infinite, booleans        no gradient"""
    return xp_of(x).isfinite(x)


for _choice in (argmax, argmin, isfinite):
    _choice.vjp(x=None)
