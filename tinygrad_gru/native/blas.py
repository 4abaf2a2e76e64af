"""Products of arrays by NumPy's BLAS, in one thread unless they are large.

Threads of OpenBLAS, which is in NumPy's wheels, wait for one another without giving their cores away. On a busy machine
a product then takes as long as another process may keep a core, some milliseconds: 100 times as long as in one thread
if it is as small as those of a recurrence. See benchmarks/results/threads.md.
"""

from __future__ import annotations

import ctypes
import operator
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Multiply-adds from which on OpenBLAS uses threads: of matrices, and with a vector.
LEAST, LEAST_OF_VECTOR = 2**18, 2**13
#: Multiply-adds from which on it shall: a product then takes 3 ms or more on a core, about as long as it may wait.
LARGE = 2**28


class Threads(NamedTuple):
    """The number of threads that a BLAS uses, for the whole process."""

    get: Callable[[], int]
    set_to: Callable[[int], Any]


def threads_of_numpy() -> Threads | None:
    """Those of the OpenBLAS in NumPy. None where a user has set their number, where there is one, and where they are
    those of OpenMP, of which setting the number moves memory."""
    if "OMP_NUM_THREADS" in os.environ or "OPENBLAS_NUM_THREADS" in os.environ:
        return None
    try:  # this library's symbols, and of those that it needs
        library = ctypes.PyDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (AttributeError, OSError, TypeError):
        return None
    for name in ("scipy_openblas_{}64_", "openblas_{}64_", "openblas_{}"):  # in wheels, and in distributions
        if hasattr(library, name.format("get_parallel")):
            parallel, *functions = (
                library[name.format(word)] for word in ("get_parallel", "get_num_threads", "set_num_threads")
            )
            threads = Threads(*functions)
            return threads if parallel() == 1 and threads.get() > 1 else None
    return None


def in_one_thread(function: Callable, threads: Threads | None) -> Callable:
    """The function, a product of two arrays, in one thread unless it is large; the function itself for None.

    Another Python thread that multiplies at the same time may run in one thread, too. There is no lock, which a fork
    could leave held: whoever finds more than one thread restores that number.
    """
    if threads is None:
        return function
    get, set_to = threads
    array = np.ndarray

    def product(a: Any, b: Any, *out: Any) -> Any:
        if type(a) is not array or type(b) is not array or a.size * b.size < LEAST_OF_VECTOR or not a.ndim:
            return function(a, b, *out)
        rows, columns = a.shape[-2] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1  # of one of a stack
        least = LEAST_OF_VECTOR if rows == 1 or columns == 1 else LEAST
        if not least <= rows * a.shape[-1] * columns < LARGE or (before := get()) == 1:
            return function(a, b, *out)
        set_to(1)
        try:
            return function(a, b, *out)
        finally:
            set_to(before)

    return product


_numpy = threads_of_numpy()
#: a @ b, of anything
product = in_one_thread(operator.matmul, _numpy)
#: a @ b of arrays, with an `out`
matmul = in_one_thread(np.matmul, _numpy)
#: a @ b of two matrices of one dtype, with an `out`; 0.4 µs faster
dot = in_one_thread(np.ndarray.dot, _numpy)
