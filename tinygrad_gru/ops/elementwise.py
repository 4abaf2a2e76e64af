"""Elementwise ops: arithmetic and elementary functions."""

from __future__ import annotations

import math

from ..backend import xp_of
from ..tape import Variable
from .comparison import where
from .op import op
from .precision import accumulate_in_float32, promote_integers


@op
def add(a, b):
    """y = a + b        ∂L/∂a = g,  ∂L/∂b = g

    >>> ops.add(Tensor([1.0, 2.0]), 10.0)
    Tensor([11., 12.], dtype=float32)
    """
    return a + b


add.vjp(a=lambda g: g,
        b=lambda g: g)  # fmt: skip


@op
def subtract(a, b):
    """y = a − b        ∂L/∂a = g,  ∂L/∂b = −g

    >>> ops.subtract(Tensor([1.0, 2.0]), 10.0)
    Tensor([-9., -8.], dtype=float32)
    """
    return a - b


subtract.vjp(a=lambda g: g,
             b=lambda g: -g)  # fmt: skip


@op
def hadamard(a, b):
    """y = a ⊙ b, the Hadamard product (NumPy's name, multiply, is an alias)        ∂L/∂a = g ⊙ b,  ∂L/∂b = g ⊙ a

    >>> ops.hadamard(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    Tensor([3., 8.], dtype=float32)
    """
    return a * b


hadamard.vjp(a=lambda g, b: g * b,
             b=lambda g, a: g * a)  # fmt: skip
multiply = hadamard


@op
def divide(a, b):
    """y = a ⊘ b, elementwise        ∂L/∂a = g ⊘ b,  ∂L/∂b = −g ⊙ y ⊘ b

    >>> ops.divide(Tensor([1.0, 2.0]), 4.0)
    Tensor([0.25, 0.5 ], dtype=float32)
    """
    return a / b


divide.vjp(a=lambda g, b: g / b,
           b=accumulate_in_float32(lambda g, y, b: -g * y / b))  # fmt: skip


@op
def negative(x):
    """y = −x        ∂L/∂x = −g

    >>> ops.negative(Tensor([1.0, -2.0]))
    Tensor([-1.,  2.], dtype=float32)
    """
    return -x


negative.vjp(x=lambda g: -g)


@op
def power(a, b):
    """y = aᵇ, elementwise        ∂L/∂a = g ⊙ b a^(b − 1) (0 where b = 0),  ∂L/∂b = g ⊙ y log a (0 where a = 0)

    >>> ops.power(Tensor([1.0, 2.0, 3.0]), 2)
    Tensor([1., 4., 9.], dtype=float32)
    """
    return a**b


@accumulate_in_float32
def _power_rule_of_base(g, a, b):
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b else g * 0
    return g * b * a ** where(b == 0, 1.0, b - 1)


@accumulate_in_float32
def _power_rule_of_exponent(g, y, a):
    if isinstance(a, (int, float)):
        return g * y * (math.log(a) if a > 0 else math.nan if a else 0.0)
    return g * y * log(where(a == 0, 1.0, a))


power.vjp(a=_power_rule_of_base,
          b=_power_rule_of_exponent)  # fmt: skip


@op
@accumulate_in_float32
def floor_divide(a, b):
    """y = ⌊a / b⌋, rounded towards −∞ as in NumPy and Python        no gradient: it is constant but for its jumps

    >>> ops.floor_divide(Tensor([7.0, -7.0]), 2)
    Tensor([ 3., -4.], dtype=float32)
    """
    return xp_of(a, b).floor_divide(a, b)


@op
@accumulate_in_float32
def remainder(a, b):
    """y = a − b ⌊a / b⌋, with the sign of b as in NumPy and Python        ∂L/∂a = g,  ∂L/∂b = −g ⊙ ⌊a / b⌋

    >>> ops.remainder(Tensor([7.0, -7.0]), 4)
    Tensor([3., 1.], dtype=float32)
    """
    return xp_of(a, b).remainder(a, b)


floor_divide.vjp(a=None, b=None)
remainder.vjp(a=lambda g: g,
              b=accumulate_in_float32(lambda g, a, b: -g * floor_divide(a, b)))  # fmt: skip


@op
def exp(x):
    """y = eˣ        ∂L/∂x = g ⊙ y

    >>> ops.exp(Tensor([0.0, 1.0])).numpy().round(3)
    array([1.   , 2.718], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.exp(x)


exp.vjp(x=lambda g, y: g * y)


@op
def expm1(x):
    """y = eˣ − 1, exact for small x        ∂L/∂x = g ⊙ eˣ (y + 1 would cancel where x is far below 0)

    >>> ops.expm1(Tensor([0.0, 1e-20])).tolist()[1] > 0
    True
    """
    xp, x = promote_integers(x)
    return xp.expm1(x)


expm1.vjp(x=lambda g, x: g * exp(x))


@op
def log(x):
    """y = log x        ∂L/∂x = g ⊘ x

    >>> ops.log(Tensor([1.0, 10.0])).numpy().round(3)
    array([0.   , 2.303], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.log(x)


log.vjp(x=lambda g, x: g / x)


@op
def log1p(x):
    """y = log(1 + x), exact for small x        ∂L/∂x = g ⊘ (1 + x)

    >>> ops.log1p(Tensor([0.0, 1e-20])).tolist()[1] > 0
    True
    """
    xp, x = promote_integers(x)
    return xp.log1p(x)


log1p.vjp(x=accumulate_in_float32(lambda g, x: g / (1 + x)))


@op
def sqrt(x):
    """y = √x        ∂L/∂x = g ⊘ 2y

    >>> ops.sqrt(Tensor([4.0, 9.0]))
    Tensor([2., 3.], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.sqrt(x)


sqrt.vjp(x=accumulate_in_float32(lambda g, y: g / (2 * y)))


@op
def square(x):
    """y = x²        ∂L/∂x = 2 g ⊙ x

    >>> ops.square(Tensor([2.0, -3.0]))
    Tensor([4., 9.], dtype=float32)
    """
    return x * x


square.vjp(x=accumulate_in_float32(lambda g, x: 2 * g * x))


@op
def absolute(x):
    """y = |x|        ∂L/∂x = g ⊙ sign x (0 at 0)

    >>> ops.absolute(Tensor([2.0, -3.0]))
    Tensor([2., 3.], dtype=float32)
    """
    return xp_of(x).abs(x)


absolute.vjp(x=lambda g, x: g * sign(x))


@op
def sign(x):
    """y = −1, 0 or 1        no gradient

    >>> ops.sign(Tensor([2.0, 0.0, -3.0]))
    Tensor([ 1.,  0., -1.], dtype=float32)
    """
    return xp_of(x).sign(x)


sign.vjp(x=None)


@op
def sin(x):
    """y = sin x        ∂L/∂x = g ⊙ cos x

    >>> ops.sin(Tensor([0.0, np.pi / 2]))
    Tensor([0., 1.], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.sin(x)


@op
def cos(x):
    """y = cos x        ∂L/∂x = −g ⊙ sin x

    >>> ops.cos(Tensor([0.0, np.pi]))
    Tensor([ 1., -1.], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.cos(x)


sin.vjp(x=lambda g, x: g * cos(x))
cos.vjp(x=lambda g, x: -g * sin(x))


@op
def maximum(a, b):
    """y = max(a, b), elementwise        ∂L/∂a = g where a > b, g/2 where equal,  ∂L/∂b = g where b > a, g/2 where equal

    >>> ops.maximum(Tensor([1.0, -2.0]), 0.0)
    Tensor([1., 0.], dtype=float32)
    """
    return xp_of(a, b).maximum(a, b)


@op
def minimum(a, b):
    """y = min(a, b), elementwise        ∂L/∂a = g where a < b, g/2 where equal,  ∂L/∂b = g where b < a, g/2 where equal

    >>> ops.minimum(Tensor([1.0, -2.0]), 0.0)
    Tensor([ 0., -2.], dtype=float32)
    """
    return xp_of(a, b).minimum(a, b)


@accumulate_in_float32
def _split_ties(g, is_extremum, is_tie):
    return where(is_extremum, g, where(is_tie, 0.5 * g, 0.0))


maximum.vjp(a=lambda g, a, b: _split_ties(g, a > b, a == b),
            b=lambda g, a, b: _split_ties(g, b > a, a == b))  # fmt: skip
minimum.vjp(a=lambda g, a, b: _split_ties(g, a < b, a == b),
            b=lambda g, a, b: _split_ties(g, b < a, a == b))  # fmt: skip


@op
@accumulate_in_float32
def clip(x, *, low=None, high=None):
    """y = x, but at least `low` and at most `high`        ∂L/∂x = g where low ≤ x ≤ high, else 0

    >>> ops.clip(Tensor([-3.0, 0.5, 3.0]), low=-1.0, high=1.0)
    Tensor([-1. ,  0.5,  1. ], dtype=float32)
    """
    if isinstance(low, Variable) or isinstance(high, Variable):
        raise TypeError("low and high are scalars or arrays, and get no gradient; for Tensors use maximum and minimum")
    return xp_of(x).clip(x, low, high)


def _clip_rule(g, x, low, high):
    if low is not None:
        g = where(x >= low, g, 0.0)
    return g if high is None else where(x <= high, g, 0.0)


clip.vjp(x=_clip_rule)
