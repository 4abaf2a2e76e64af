"""Native code: functions in a small subset of Python, compiled by LLVM to machine code that is kept on disk.

    def loop(steps):
        x, y = pointer_float32(steps[1]), pointer_float32(steps[2])
        axpy(steps[0], x, y)

    def axpy(n, x, y):
        for i in range(n):
            y[i] = y[i] + float32(2) * x[i]

The subset. Statements: assignments (of a tuple of names, too), `x[i] += …`, `for i in range(…)` with a start and a
positive step, `if` and `else`, calls of the functions of the text, which come in any order and return nothing. A
variable keeps the type of its first value: an int64, int32, float32, float64, a boolean or a pointer; numbers written
in the text take the type of what they meet, other types never mix without a call of `int32`, `int64`, `float32`,
`float64` or `bool`, but integers in an index. Expressions: + - * /, comparisons, `and`, `or`, `not` and
`a if c else b`, of which both sides are evaluated, elements of pointers, and the functions of `native.library`: exp, tanh,
expm1, log, log1p, sqrt, sin, cos, abs, sign, power, maximum, minimum (NaN wins), `select`, `min` and `max` of integers,
and `plus`, an addition that may be done in any order, for sums.

Semantics. Arithmetic is NumPy's: integers wrap, division by zero is ±∞ or NaN, booleans are bytes in memory. A product
and a sum may be contracted to a fused multiply-add; nothing else is assumed. Memory is not bounds-checked. The pointers that
a function is called with must be of memory that does not overlap, where it writes: so its loops are vectorised.

llvmlite is imported when something is compiled or loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np


def is_available() -> bool:
    """Whether llvmlite is installed; it isn't imported."""
    return importlib.util.find_spec("llvmlite") is not None


def function(text: str, name: str = "loop") -> Callable[[np.ndarray], None]:
    """The function `name` of a text in the subset, whose one argument is a C-contiguous int64 array.

    The array holds integers and addresses: `x = pointer_float32(steps[1])` is the memory at address `steps[1]`. Without the
    GIL while it runs. Equal texts give the same function: from this process, from disk, or compiled. Raises ImportError
    without llvmlite, and SyntaxError for what is not in the subset.
    """
    raise NotImplementedError
