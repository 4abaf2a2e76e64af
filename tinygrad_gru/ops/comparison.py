"""Comparison, logic, and selection by a condition. In logic every number but 0 is true, NaN too, as in NumPy."""

from __future__ import annotations

from ..arguments import respelling
from ..backend import backend_of, dtype_name, xp_of
from .movement.shape import astype
from .op import op, unwrap
from .precision import keep_half_precision


@op
def where(condition, a, b):
    """y = a where the condition holds, else b        ∂L/∂a = g where it holds,  ∂L/∂b = g where it does not

    >>> ops.where(Tensor([1.0, -2.0]) > 0, Tensor([1.0, -2.0]), 0.0)
    Tensor([1., 0.], dtype=float32)
    """
    return keep_half_precision(xp_of(condition, a, b).where(condition, a, b), a, b)


where.vjp(condition=None,
          a=lambda g, condition: where(condition, g, 0.0),
          b=lambda g, condition: where(condition, 0.0, g))  # fmt: skip


@op
def select(condition, on_true, on_false):
    """y = on_true where the condition holds, else on_false: `where` as a product with a mask, m = 1 or 0

    ∂L/∂on_true = g ⊙ m,  ∂L/∂on_false = g ⊙ (1 − m). So the recurrence compiler can multiply m with the other factors
    of a cotangent before the loop. A NaN in g reaches both inputs, unlike with `where`.

    >>> ops.select(Tensor([True, False]), Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    Tensor([1., 4.], dtype=float32)
    """
    return where.formula(condition, on_true, on_false)


select.vjp(condition=None,
           on_true=lambda g, condition: g * astype(condition, dtype=g.dtype),
           on_false=lambda g, condition: g - g * astype(condition, dtype=g.dtype))  # fmt: skip


@respelling
def masked_fill(x, mask, value):
    """y = value where the mask holds, else x        ∂L/∂x = g where it does not (for a mask of booleans)

    >>> ops.masked_fill(Tensor([1.0, 2.0]), [True, False], -np.inf)
    Tensor([-inf,   2.], dtype=float32)
    """
    mask = unwrap(mask)
    mask = mask if hasattr(mask, "dtype") else backend_of(unwrap(x)).asarray(mask)
    if dtype_name(mask.dtype) != "bool":
        raise TypeError(f"masked_fill: mask must be an array of booleans, such as x > 0, got {mask.dtype}")
    y = where(mask, value, x)
    if tuple(y.shape) != tuple(x.shape):
        raise ValueError(f"masked_fill: mask {tuple(mask.shape)} and value do not broadcast to x {tuple(x.shape)}")
    return y


@op
def equal(a, b):
    """y = (a = b), booleans        no gradient

    >>> ops.equal(Tensor([1, 2]), 2)
    Tensor([False,  True], dtype=bool)
    """
    return a == b


@op
def not_equal(a, b):
    """y = (a ≠ b), booleans        no gradient

    >>> ops.not_equal(Tensor([1, 2]), 2)
    Tensor([ True, False], dtype=bool)
    """
    return a != b


@op
def less(a, b):
    """y = (a < b), booleans        no gradient

    >>> ops.less(Tensor([1, 2]), 2)
    Tensor([ True, False], dtype=bool)
    """
    return a < b


@op
def less_equal(a, b):
    """y = (a ≤ b), booleans        no gradient

    >>> ops.less_equal(Tensor([1, 2]), 2)
    Tensor([ True,  True], dtype=bool)
    """
    return a <= b


@op
def greater(a, b):
    """y = (a > b), booleans        no gradient

    >>> ops.greater(Tensor([1, 2]), 1)
    Tensor([False,  True], dtype=bool)
    """
    return a > b


@op
def greater_equal(a, b):
    """y = (a ≥ b), booleans        no gradient

    >>> ops.greater_equal(Tensor([1, 2]), 2)
    Tensor([False,  True], dtype=bool)
    """
    return a >= b


for _comparison in (equal, not_equal, less, less_equal, greater, greater_equal):
    _comparison.vjp(a=None, b=None)


@op
def isfinite(x):
    """y = whether each element is neither NaN nor infinite, booleans        no gradient

    >>> ops.isfinite(Tensor([1.0, np.nan, np.inf]))
    Tensor([ True, False, False], dtype=bool)
    """
    return xp_of(x).isfinite(x)


isfinite.vjp(x=None)


@op
def logical_and(a, b):
    """y = a ∧ b, booleans        no gradient

    >>> ops.logical_and(Tensor([True, True]), Tensor([True, False]))
    Tensor([ True, False], dtype=bool)
    """
    return xp_of(a, b).where(_truth(a), _truth(b), False)


@op
def logical_or(a, b):
    """y = a ∨ b, booleans        no gradient

    >>> ops.logical_or(Tensor([True, False]), Tensor([False, False]))
    Tensor([ True, False], dtype=bool)
    """
    return xp_of(a, b).where(_truth(a), True, _truth(b))


@op
def logical_xor(a, b):
    """y = whether exactly one of a and b is true, booleans        no gradient

    >>> ops.logical_xor(Tensor([True, False]), Tensor([True, True]))
    Tensor([False,  True], dtype=bool)
    """
    return xp_of(a, b).not_equal(_truth(a), _truth(b))


@op
def logical_not(x):
    """y = ¬x, booleans        no gradient

    >>> ops.logical_not(Tensor([True, False]))
    Tensor([False,  True], dtype=bool)
    """
    return xp_of(x).equal(_truth(x), False)


def _truth(x):
    """Whether each element is not 0."""
    if not hasattr(x, "dtype"):
        return bool(x)
    return x if dtype_name(x.dtype) == "bool" else x != 0


@op
def any(x, *, axis=None, keepdims=False):
    """y = whether any element along `axis` is true, booleans        no gradient

    >>> ops.any(Tensor([[True, False], [False, False]]), axis=1)
    Tensor([ True, False], dtype=bool)
    """
    return xp_of(x).any(_truth(x), axis=axis, keepdims=keepdims)


@op
def all(x, *, axis=None, keepdims=False):
    """y = whether all elements along `axis` are true, booleans        no gradient

    >>> ops.all(Tensor([[True, False], [True, True]]), axis=1)
    Tensor([False,  True], dtype=bool)
    """
    return xp_of(x).all(_truth(x), axis=axis, keepdims=keepdims)


for _logical in (logical_and, logical_or, logical_xor):
    _logical.vjp(a=None, b=None)
for _logical in (logical_not, any, all):
    _logical.vjp(x=None)
