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
log1p, sqrt, sin, cos, abs, sign, power, maximum, minimum (NaN wins), select, floor_divide and remainder of integers,
and `plus`, an addition that may be done in any order, for sums.

Semantics. Arithmetic is NumPy's: every operation is rounded by itself, integers wrap, division by zero is ±∞ or NaN,
booleans are bytes in memory. Only within a function of the library, such as `product` and `exp`, may a product and a
sum be contracted to a fused multiply-add: x * x - y * y of equal numbers is 0, and its square root no NaN. An index is
not checked. A function that `flushes` gives zero where a result would be subnormal (below 1.2e-38 in float32, 2.2e-308
in float64), as XLA does: they cost a processor some hundred cycles each. The pointers that a function is called with
must be of memory that does not overlap, where it writes: so its loops are vectorised.

llvmlite is imported when something is compiled or loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..version import __version__
from . import cache, product

#: The dtypes of memory: `pointer_float32` and so on.
DTYPES = ("float32", "float64", "int32", "int64", "bool")


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether llvmlite is installed; it isn't imported."""
    return importlib.util.find_spec("llvmlite") is not None


@lru_cache(maxsize=1)
def problem() -> str:
    """Why nothing can be compiled here, or "": llvmlite is not installed, too old, or broken. It is imported."""
    if not is_available():
        return "llvmlite is not installed: pip install tinygrad_gru[fast]"
    try:
        importlib.import_module(".compiler", __package__)
    except (ImportError, OSError, RuntimeError) as error:
        return f"llvmlite is installed and does not work: {error}"
    return ""


def compiler_is_loaded() -> bool:
    """Whether llvmlite is imported, as it is where native code runs, and works."""
    return f"{__name__}.compiler" in sys.modules


def panel_width(rows: int, inner: int, columns: int, item: int) -> int:
    """The width of the panels in which `product` reads its right operand (inner, columns); its left one has `rows`.

    item  the bytes of an element
    """
    return product.panel_width(rows, inner, columns, item, not problem() and _compiler().is_wide())


def address(array: np.ndarray) -> int:
    """The address of an array's first element."""
    return array.__array_interface__["data"][0]


class Function:
    """A native function of an array, and the library that it lives in.

    is_compiled  whether this process has compiled it, rather than read it from the cache on disk
    seconds      what either took
    """

    def __init__(self, library: Any, name: str, is_compiled: bool, seconds: float):
        self.library, self.is_compiled, self.seconds = library, is_compiled, seconds
        self.call: Callable[[int], None] = library.function(name)

    def __call__(self, steps: np.ndarray) -> None:
        assert steps.dtype == np.int64, f"expected an array of int64, got {steps.dtype}"
        self.call(address(steps))

    def on(self, *arguments: int | np.ndarray) -> None:
        """Call it with an array of these integers, and of the addresses of these arrays. Raises ValueError for an array
        that native code would misread: one that isn't C-contiguous, or is in the byte order of other machines."""
        numbers = list[int]()
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                if not argument.flags.c_contiguous or not argument.dtype.isnative:
                    raise ValueError(f"expected a C-contiguous array in native byte order, got {argument.dtype.str}")
                argument = address(argument)
            numbers.append(argument)
        self(np.array(numbers, np.int64))


@lru_cache(maxsize=256)
def function(text: str, name: str = "loop", flushes: bool = False) -> Function:
    """The function `name` of a text in the subset, whose one argument is a C-contiguous int64 array.

    flushes  whether subnormal results are zero while it runs, on x86

    The array holds integers and addresses: `x = pointer_float32(steps[1])` is the memory at address `steps[1]`. It runs
    without the GIL. Equal texts give the same function: from this process, from disk, or compiled. Raises ImportError
    without llvmlite, and SyntaxError for what is not in the subset.
    """
    compiler, started = _compiler(), time.perf_counter()
    parts = (text, name, str(flushes), __version__, _sources(), compiler.versions(), *compiler.processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    code = cache.load(key)
    is_compiled = code is None
    if code is None:
        frontend = importlib.import_module(".frontend", __package__)
        code = compiler.object_code(frontend.ir_of(text, name, compiler.is_wide(), flushes and compiler.is_x86()))
        cache.store(key, code)
    return Function(compiler.Library(code), name, is_compiled, time.perf_counter() - started)


def _compiler() -> Any:
    """The compiler, which imports llvmlite."""
    try:
        return importlib.import_module(".compiler", __package__)
    except ImportError as error:
        raise ImportError(f"native code needs llvmlite: pip install tinygrad_gru[fast] ({error})") from error


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the compiler itself."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
