"""Native code: functions in a small subset of Python, compiled by LLVM to machine code that is kept on disk.

    def loop(steps):
        x, y = pointer_float32(steps[1]), pointer_float32(steps[2])
        axpy(steps[0], x, y)

    def axpy(n, x, y):
        for i in range(n):
            y[i] = y[i] + float32(2) * x[i]

The subset. Statements: assignments (of a tuple to names, too), `x[i] += …`, `for i in range(…)` with a start and a
positive step, `if` and `else`, and calls of the functions of the text, which come in any order and return nothing. A
variable keeps the type of its first value: int32, int64, float32, float64, a boolean or a pointer. Numbers written in
the text take the type of what they meet; other types do not mix without a call of `int32`, `int64`, `float32`,
`float64` or `bool`, except for integers. Expressions: + - * /, comparisons, `and`, `or`, `not` and `a if c else b`, of
which both sides are evaluated, elements of pointers, and the functions of `native.library`: exp, tanh, expm1, log,
log1p, sqrt, sin, cos, abs, sign, power, maximum, minimum (NaN wins), select, and `plus`, an addition that may be done
in any order, for sums.

Semantics. Arithmetic is NumPy's: integers wrap, division by zero is ±∞ or NaN, booleans are bytes in memory. A product
and a sum may be contracted to a fused multiply-add, unless the function is decorated by `@exact`; nothing else is
assumed. An index is not checked. The pointers that a function is called with must be of memory that does not overlap,
where it writes: so its loops are vectorised.

llvmlite is imported when something is compiled or loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..version import __version__
from . import cache

#: The dtypes of memory: `pointer_float32` and so on.
DTYPES = ("float32", "float64", "int32", "int64", "bool")


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether llvmlite is installed; it isn't imported."""
    return importlib.util.find_spec("llvmlite") is not None


def function(text: str, name: str = "loop") -> Callable[[np.ndarray], None]:
    """The function `name` of a text in the subset, whose one argument is a C-contiguous int64 array.

    The array holds integers and addresses: `x = pointer_float32(steps[1])` is the memory at address `steps[1]`. It runs
    without the GIL. Equal texts give the same function: from this process, from disk, or compiled. Raises ImportError
    without llvmlite, and SyntaxError for what is not in the subset.
    """
    return _Function(*_loaded(text, name))


class _Function:
    """A function of an array, and the library that it lives in."""

    def __init__(self, library: Any, call: Callable[[int], None]):
        self.library, self.call = library, call

    def __call__(self, steps: np.ndarray) -> None:
        assert steps.dtype == np.int64, f"expected an array of int64, got {steps.dtype}"
        self.call(steps.__array_interface__["data"][0])


@lru_cache(maxsize=256)
def _loaded(text: str, name: str) -> tuple[Any, Callable]:
    """The library of a text, and its function `name`."""
    try:
        compiler = importlib.import_module(".compiler", __package__)
    except ImportError as error:
        raise ImportError(f"native code needs llvmlite: pip install tinygrad_gru[fast] ({error})") from error
    parts = (text, name, __version__, _sources(), compiler.versions(), *compiler.processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    code = cache.load(key)
    if code is None:
        frontend = importlib.import_module(".frontend", __package__)
        code = compiler.object_code(frontend.ir_of(text, name))
        cache.store(key, code)
    library = compiler.Library(code)
    return library, library.function(name)


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the compiler itself."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
