"""check_op: checks that an op keeps the contract that all ops keep, ours and users'.

    print(check_op(tanh, oracle=np.tanh, shapes=[(3, 4)]))

checks the values against an independent oracle, first and second derivatives against finite differences, and values
and both derivatives in lower precision against float64; that none of it depends on the memory layout of arrays and
cotangents, and nothing writes into them; that arrays and Tensors, and backward with and without `create_graph`, give
the same bits; that the op and each of its rules keep the dtype; that a write between forward and backward raises where
it matters; that a compiled scan agrees with an eager one; and for an elementwise op all of that for arrays that are
0-d, of size 0 and 1, and that broadcast. It returns a `Report` of how much was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..backend import Backend, resolve
from .clauses import Clauses, ContractError
from .report import Report

#: The dtypes that are checked besides float64. Not bfloat16: NumPy itself promotes it beside a Python scalar.
DTYPES = ("float32", "float16")
#: Shapes that broadcast, for one input and for several: input k takes shape k modulo their count.
CORNERS: tuple[list[Any], list[list[Any]]] = (
    [(), (0, 3), (1,), (2, 1, 3)],
    [[()], [(2, 3), ()], [(0, 3), (3,)], [(1,)], [(3, 1), (1, 4)], [(4,), (2, 3, 4)], [(2, 1, 3), (4, 1)]],
)


def check_op(
    op: Callable[..., Any],
    oracle: Callable[..., Any],
    shapes: Sequence[Any],
    domain: tuple[float, float] | Sequence[tuple[float, float]] = (-2.0, 2.0),
    *,
    elementwise: bool = False,
    differentiable: bool = True,
    dtypes: Sequence[str] = DTYPES,
    backend: str | Backend = "numpy",
    compiled: bool = True,
    quick: bool = False,
    empty: bool = False,
    seed: int = 0,
    rtol: float = 1e-10,
    **settings: Any,
) -> Report:
    """Check that `op` keeps the contract; raise ContractError or GradientError that says which clause fails, and where.

    op              the op, or any function of Tensors and settings
    oracle          the same on NumPy arrays, from another source than the op's own formula
    shapes          for each input its shape (it is sampled from its domain), or an array, which is used unchanged
    domain          (low, high) for all inputs, or one for each: stay clear of kinks and poles
    elementwise     check 0-d arrays, arrays of size 0 and 1, and broadcasting ones too
    differentiable  False for an op without a gradient: its outputs must be constants
    dtypes          that are checked besides float64 ("bfloat16" too, with ml_dtypes)
    backend         on which the op runs; the oracle runs on NumPy
    compiled        whether a compiled scan must agree with the eager one (on NumPy)
    quick           random directions instead of single entries of the Jacobian, and no memory layouts
    empty           True allows that every array is of size 0, so that only shapes are compared
    settings        passed to the op and to the oracle; arrays among them are moved to the op's backend

    >>> testing.check_op(ops.tanh, np.tanh, shapes=[(3, 4)], elementwise=True).orders
    (1, 2)
    """
    if not isinstance(shapes, (list, tuple)) or not all(isinstance(s, (list, tuple, np.ndarray)) for s in shapes):
        raise TypeError(f"shapes: expected a shape or an array for each input, such as [(3, 4)], got {shapes!r:.80}")
    if not callable(oracle):
        raise TypeError(f"oracle: expected a function of NumPy arrays, such as np.tanh, got {oracle!r:.80}")
    target, random = resolve(backend), np.random.default_rng(seed)
    moved = {key: _moved(value, target) for key, value in settings.items()}
    name = getattr(op, "__name__", repr(op))
    check = Clauses(partial(op, **moved), lambda *xs: oracle(*xs, **settings), target, random, rtol)
    report = Report()
    for number, case in enumerate([list(shapes), *(_corners(len(shapes)) if elementwise else [])]):
        values = values_of(case, domain, random)
        check.clause = f"{name} at {[v.shape for v in values]}"
        report += check.values(values)
        if not differentiable:
            check.outputs_are_constants(values)
        else:
            check.backward(values)
            report += check.derivatives(values, full=target.name == "numpy" and not quick)
            if number == 0 and not quick:  # at another point: a rule may have cached something of the first
                report += check.derivatives(values_of(case, domain, random), full=False)
        if number == 0 and target.name in ("numpy", "cupy") and not quick:
            report += check.layouts(values, differentiable)
        for dtype in dtypes:
            report += check.dtype(values, dtype, differentiable)
        if number == 0 and target.name == "numpy":
            if differentiable:
                check.writes(values)
            if compiled:
                samples = [values_of(case, domain, random) for _ in range(3)]
                report += check.compiled(samples, differentiable)
    if not (report or empty):
        raise ContractError(f"{name}: nothing was checked: every array was empty, or there was no output")
    return report


def _corners(inputs: int) -> list[list[Any]]:
    if inputs == 1:
        return [[shape] for shape in CORNERS[0]]
    return [[pattern[k % len(pattern)] for k in range(inputs)] for pattern in CORNERS[1]]


def values_of(case: Sequence[Any], domain: Any, random: np.random.Generator) -> list[np.ndarray]:
    """The inputs of a case: arrays as they are, and for each shape an array sampled from its domain."""
    domains = [domain] * len(case) if np.ndim(domain) == 1 else list(domain)
    if len(domains) != len(case):
        raise ValueError(f"domain: expected (low, high), or one for each of the {len(case)} inputs, got {domain!r}")
    return [
        shape if isinstance(shape, np.ndarray) else random.uniform(low, high, size=shape)
        for shape, (low, high) in zip(case, domains)
    ]


def _moved(value: Any, backend: Backend) -> Any:
    """A setting with its arrays on a backend."""
    if isinstance(value, tuple):
        return tuple(_moved(part, backend) for part in value)
    return backend.asarray(value) if isinstance(value, np.ndarray) else value
