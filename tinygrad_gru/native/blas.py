"""Products of arrays by NumPy's BLAS, in one thread of it each; large ones in pieces, which threads of ours share.

Threads of OpenBLAS, which is in NumPy's wheels, wait for one another without giving their cores away. On a busy machine
a product then takes as long as another process may keep a core, some milliseconds: 100 times as long as in one thread
if it is as small as those of a recurrence. See benchmarks/results/threads.md.

A product is cut by its sizes alone, so that its numbers do not depend on how many threads there are.
"""

from __future__ import annotations

import ctypes
import operator
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .cores import cores
from .threads import run_together

#: Multiply-adds from which on OpenBLAS uses threads: of matrices, and with a vector.
LEAST, LEAST_OF_VECTOR = 2**18, 2**13
#: Multiply-adds from which on a product is cut, and by the pieces' number from which on it is cut into more.
PIECES = {2: 2**25, 4: 2**29, 8: 2**31, 16: 2**33, 32: 2**35, 64: 2**37}
LARGE = PIECES[2]


class Threads(NamedTuple):
    """The number of threads that a BLAS uses, for the whole process."""

    get: Callable[[], int]
    set_to: Callable[[int], Any]


def threads_of_numpy() -> Threads | None:
    """Those of the OpenBLAS in NumPy. None where a user has set their number, where there is another BLAS, and where
    they are those of OpenMP, of which setting the number moves memory."""
    if "OPENBLAS_NUM_THREADS" in os.environ:
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
            return Threads(*functions) if parallel() == 1 else None
    return None


def runs_in_one_thread(rows: int, inner: int, columns: int) -> bool:
    """Whether BLAS computes a product of matrices of these sizes in one thread, however many it has."""
    return rows * inner * columns < (LEAST_OF_VECTOR if rows == 1 or columns == 1 else LEAST)


def in_one_thread(function: Callable, threads: Threads | None) -> Callable:
    """The function, a product of two arrays, in one thread of BLAS, and in pieces if it is large; the function itself
    for None.

    Another Python thread that multiplies at the same time may run in one thread, too. There is no lock, which a fork
    could leave held: whoever finds more than one thread restores that number.
    """
    if threads is None:
        return function
    get, set_to = threads
    array, least = np.ndarray, LEAST_OF_VECTOR if get() > 1 else LARGE

    def product(a: Any, b: Any, *out: Any) -> Any:
        if type(a) is not array or type(b) is not array or a.size * b.size < least or not a.ndim:
            return function(a, b, *out) if out else function(a, b)  # the latter takes 0.1 µs less
        rows, columns = a.shape[-2] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1  # of one of a stack
        work = rows * a.shape[-1] * columns
        if work < LARGE and (least == LARGE or runs_in_one_thread(rows, a.shape[-1], columns)):
            return function(a, b, *out)
        before = get()
        if before != 1:
            set_to(1)
        try:
            return function(a, b, *out) if work < LARGE else in_pieces(function, work, a, b, *out)
        finally:
            if before != 1:
                set_to(before)

    return product


def in_pieces(function: Callable, work: int, a: np.ndarray, b: np.ndarray, *out: np.ndarray) -> Any:
    """The function, a product of two arrays, by pieces of the result, as square as halves of halves are.

    The whole at once if it is none of matrices of one floating dtype, or overlaps with its operands: then NumPy copies.
    """
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype or a.dtype.char not in "fd" or a.shape[1] != b.shape[0]:
        return function(a, b, *out)
    (rows, _), (_, columns) = a.shape, b.shape
    if not out:
        result = np.empty((rows, columns), a.dtype)
    elif (
        out[0].shape != (rows, columns) or out[0].dtype != a.dtype
        or np.may_share_memory(out[0], a) or np.may_share_memory(out[0], b)
    ):  # fmt: skip
        return function(a, b, *out)
    else:
        (result,) = out
    height, width = rows, columns
    for _ in range(max(n for n, least in PIECES.items() if work >= least).bit_length() - 1):
        if height >= width:
            height = -(-height // 32) * 16  # whole blocks of BLAS
        else:
            width = -(-width // 32) * 16
    pieces = []
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            row_part, column_part = slice(row, row + height), slice(column, column + width)
            pieces.append(partial(np.matmul, a[row_part], b[:, column_part], result[row_part, column_part]))
    run_together(pieces, cores().number)
    return result


_numpy = threads_of_numpy()
#: a @ b, of anything
product = in_one_thread(operator.matmul, _numpy)
#: a @ b of arrays, with an `out`
matmul = in_one_thread(np.matmul, _numpy)
#: a @ b of two matrices of one dtype, with an `out`; 0.4 µs faster
dot = in_one_thread(np.ndarray.dot, _numpy)
#: The product of the operands' sizes up to which a product of matrices is in one thread anyway.
_SMALL = LARGE if _numpy is None or _numpy.get() == 1 else LEAST_OF_VECTOR


def dot_of_arrays(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`dot` of NumPy arrays, which takes 0.1 µs less where they are small."""
    return a.dot(b) if a.size * b.size < _SMALL else dot(a, b)
