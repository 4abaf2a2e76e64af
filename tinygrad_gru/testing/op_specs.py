"""Op specs, the test registry: for every op the inputs on which it is checked, and the oracle that it is compared with.

An op without specs fails the tests; so do specs without an op. Oracles are NumPy's functions, or the definition of the
op written for NumPy in another way than the op computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import ops
from ..backend import Backend, bfloat16, manual_seed, random_state, set_random_state
from ..ops.linear import _affine
from . import oracles
from .contract import DTYPES, check_op
from .report import Report

#: The dtypes in which our own ops are checked besides float64.
OUR_DTYPES = (*DTYPES, *(("bfloat16",) if bfloat16() is not None else ()))


@dataclass(frozen=True)
class Case:
    """One spec of an op: the arguments of `check_op` after the op itself.

    >>> case = testing.Case(np.tanh, shapes=[(3, 4)], elementwise=True)
    >>> testing.check_op(ops.tanh, case.oracle, case.shapes, elementwise=case.elementwise).orders
    (1, 2)
    """

    oracle: Callable[..., Any]
    shapes: Sequence[Any]
    domain: Any = (-2.0, 2.0)
    settings: dict[str, Any] = field(default_factory=dict)
    elementwise: bool = False
    differentiable: bool = True
    dtypes: Sequence[str] = OUR_DTYPES
    empty: bool = False  # nothing to compare but shapes
    function: Callable[..., Any] | None = None  # a wrapper, where the op takes a list of arrays or needs a seed


#: Private ops, and the public op whose specs check them.
CHECKED_BY = {
    "_advanced_index": "getitem", "_affine": "linear", "_cast": "astype", "_concatenate": "concatenate",
    "_einsum": "einsum", "_log_likelihood": "cross_entropy", "log_likelihood_gradient": "cross_entropy",
    "_log_likelihoods": "linear_cross_entropy",
    "_max": "max", "_min": "min", "_norm": "norm", "_scatter": "getitem", "_scatter_add": "scatter_add",
    "_slice": "getitem", "_stack": "stack", "_truncate": "astype",
}  # fmt: skip


def function_of(name: str, case: Case) -> Callable[..., Any]:
    """What a spec calls: the op of that name, or the spec's own function of it."""
    return case.function or getattr(ops, name)


def check_case(name: str, case: Case, backend: str | Backend = "numpy", **options: Any) -> Report:
    """Check the op of that name by one of its specs.

    >>> testing.check_case("negative", testing.OP_SPECS["negative"][0]).orders
    (1, 2)
    """
    how: dict[str, Any] = {
        "dtypes": case.dtypes,
        "elementwise": case.elementwise,
        "differentiable": case.differentiable,
    }
    how |= {"backend": backend, "empty": case.empty, **options}
    return check_op(function_of(name, case), case.oracle, case.shapes, case.domain, **how, **case.settings)


def check_all(backend: str | Backend = "numpy", names: Iterable[str] | None = None) -> Iterator[tuple[str, bool, str]]:
    """Check every op, or those of these names: yields (name, whether it passed, the report or the error).

    >>> [(name, passed) for name, passed, _ in testing.check_all(names=["negative"])]
    [('negative', True)]
    """
    for name in OP_SPECS if names is None else names:
        try:
            report = Report()
            for case in OP_SPECS[name]:
                report += check_case(name, case, backend)
        except Exception as error:  # a broken op may raise anything; go on with the others
            yield name, False, f"{type(error).__name__}: {error}"
        else:
            yield name, True, str(report)
    for name in () if names is not None else sorted({*ops.__all__} - {*OP_SPECS, "Op", "op"}):
        yield name, False, "has no op specs, so nothing of it was checked"


def _elementwise(oracle: Callable, domain: Any = (-2.0, 2.0), inputs: int = 1, **settings: Any) -> list[Case]:
    return [Case(oracle, [(3, 4)] * inputs, domain, settings, elementwise=True)]


def _constant(
    oracle: Callable, inputs: int = 1, domain: Any = (-2.0, 2.0), function: Callable | None = None, **settings: Any
) -> list[Case]:
    return [Case(oracle, [(3, 4)] * inputs, domain, settings, differentiable=False, function=function)]


def _logical(oracle: Callable, *inputs: Any) -> list[Case]:
    values = [*inputs, np.array([[0.0, -1.5], [2.0, 0.0]]), np.array([0.0, 0.7])]
    return [Case(oracle, values[: len(inputs) or 2], differentiable=False)]


def _reduction(oracle: Callable, domain: Any = (-2.0, 2.0), **settings: Any) -> list[Case]:
    choices: list[dict[str, Any]] = [
        {},
        {"axis": 0},
        {"axis": -1, "keepdims": True},
        {"axis": (0, 2)},
        {"keepdims": True},
    ]
    cases = [Case(oracle, [(2, 3, 4)], domain, {**choice, **settings}) for choice in choices]
    return [*cases, Case(oracle, [()], domain, settings), Case(oracle, [(1, 1)], domain, settings)]


def _losses(oracle: Callable, cases: Sequence[Any], domain: Any = (-2.0, 2.0), **settings: Any) -> list[Case]:
    def reduced(*inputs: np.ndarray, reduction: str = "mean", **more: Any) -> Any:
        loss = oracle(*inputs, **more)
        return loss if reduction == "none" else getattr(loss, reduction)()

    return [Case(reduced, cases, domain, {"reduction": r, **settings}) for r in ("mean", "sum", "none")]


def _matmul(*shapes: tuple[int, ...]) -> Case:
    return Case(lambda a, b: np.einsum(oracles.product_of(a.ndim, b.ndim), a, b), shapes)


def _seeded(op: Callable) -> Callable:
    def seeded(*inputs: Any, **settings: Any) -> Any:
        before = random_state()
        manual_seed(5)
        try:
            return op(*inputs, **settings)
        finally:
            set_random_state(before)

    return seeded


_ids = np.array([[0, 2, 2], [1, 0, 2]])
_close_pairs = [np.array([1.0, 1.0, -2.0, -2.0]), np.array([1.004, 0.996, -2.008, -1.992])]
_spread_out = (0.3, 2.0)
_probabilities = oracles.softmax(np.linspace(-1, 2, 12).reshape(3, 4))

OP_SPECS: dict[str, list[Case]] = {
    # arithmetic
    "add": _elementwise(np.add, inputs=2),
    "subtract": _elementwise(np.subtract, inputs=2),
    "hadamard": _elementwise(np.multiply, inputs=2),
    "multiply": _elementwise(np.multiply, inputs=2),
    "divide": _elementwise(np.divide, [(-2.0, 2.0), _spread_out], inputs=2),
    "negative": _elementwise(np.negative),
    "power": [
        *_elementwise(np.power, [_spread_out, (-2.0, 2.0)], inputs=2),
        Case(lambda x: x * x * x, [(3, 4)], function=lambda x: x**3),
        Case(lambda x: 1 / x, [(3, 4)], _spread_out, function=lambda x: x**-1),
        Case(lambda x: np.exp2(x), [(3, 4)], function=lambda x: ops.power(2.0, x)),
    ],
    "floor_divide": _constant(lambda a, b: np.floor(a / b), 2, domain=[(-2.0, 2.0), (-0.6, -0.5)])
    + _constant(lambda a: np.floor(a / 0.75), function=lambda a: ops.floor_divide(a, 0.75)),
    "remainder": [
        Case(lambda a, b: a - b * np.floor(a / b), [np.array([1.3, -1.3, 2.9]), np.array([0.5, 0.5, -0.9])]),
        Case(lambda a, b: a - b * np.floor(a / b), [np.array([[1.3], [-1.3]]), np.array([0.5, -0.4, 0.9])]),
        Case(lambda a, b: a - b * np.floor(a / b), [(3, 4), (3, 4)], [(-2.0, 2.0), (0.4, 0.9)]),
        Case(lambda a: a - np.floor(a), [np.array([0.25, -2.3])], function=lambda a: ops.remainder(a, 1.0)),
    ],
    "exp": _elementwise(np.exp),
    "expm1": _elementwise(oracles.each(math.expm1)),
    "log": _elementwise(np.log, _spread_out),
    "log1p": _elementwise(oracles.each(math.log1p), (-0.7, 2.0)),
    "sqrt": _elementwise(oracles.each(math.sqrt), _spread_out),
    "square": _elementwise(np.square),
    "absolute": _elementwise(np.abs, _spread_out) + _elementwise(np.abs, (-2.0, -0.3)) + [Case(np.abs, [np.array([0.5, -0.7, -1.2])])],
    "sign": _constant(np.sign),
    "sin": _elementwise(np.sin),
    "cos": _elementwise(np.cos),
    "maximum": [*_elementwise(np.fmax, inputs=2), Case(np.fmax, _close_pairs)],
    "minimum": [*_elementwise(np.fmin, inputs=2), Case(np.fmin, _close_pairs)],
    "clip": _elementwise(lambda x, low, high: np.minimum(np.maximum(x, low), high), low=-0.5, high=1.1)
    + _elementwise(lambda x, low: np.maximum(x, low), low=0.2)
    + [Case(lambda x, low, high: np.minimum(np.maximum(x, low), high), [np.array([-0.502, -0.498, 1.097, 1.103])],
            settings={"low": -0.5, "high": 1.1}, dtypes=("float32",))],
    "where": [
        Case(lambda c, a, b: np.choose(c, [b, a]), [np.array(c), (3, 4), (4,)])
        for c in ([[True], [False], [False]], [[False], [True], [True]])
    ],
    "select": [
        Case(lambda c, a, b: np.choose(c, [b, a]), [np.array(c), (3, 4), (3, 4)])
        for c in ([[True], [False], [False]], [[False], [True], [True]])
    ],
    # comparison
    "equal": _constant(np.equal, 2),
    "not_equal": _constant(np.not_equal, 2),
    "less": _constant(np.less, 2),
    "less_equal": _constant(np.less_equal, 2),
    "greater": _constant(np.greater, 2),
    "greater_equal": _constant(np.greater_equal, 2),
    "logical_and": _logical(lambda a, b: (a != 0) & (b != 0)),
    "logical_or": _logical(lambda a, b: (a != 0) | (b != 0)),
    "logical_xor": _logical(lambda a, b: (a != 0) ^ (b != 0)),
    "logical_not": _logical(lambda x: x == 0, np.array([0.0, -1.5, 2.0])),
    "any": [Case(lambda x, **k: (x != 0).sum(**k) > 0, [np.array([[0.0, 0.0, 0.0], [0.0, -1.5, 0.0]])], settings=k, differentiable=False)
            for k in ({}, {"axis": 0}, {"axis": (0, 1), "keepdims": True})],
    "all": [Case(lambda x, **k: (x == 0).sum(**k) == 0, [np.array([[1.0, 0.0, 3.0], [1.0, -1.5, 2.0]])], settings=k, differentiable=False)
            for k in ({}, {"axis": 0}, {"axis": (0, 1), "keepdims": True})],
    "masked_fill": [
        Case(lambda x, mask, value: np.choose(mask, [x, value]), [(2, 3)], settings={"mask": m, "value": 1.5})
        for m in (np.array([[True, False, True], [False, False, True]]), np.array([True, False, False]))
    ],
    "argmax": _constant(np.argmax, axis=1) + _constant(np.argmax),
    "argmin": _constant(np.argmin, axis=0) + _constant(np.argmin),
    "argsort": [Case(oracles.ordered, [x], settings={"axis": axis, "descending": down}, differentiable=False)
                for x in ((3, 4), np.array([[1.0, 0.0, 1.0, 0.0], [2.0, 2.0, 0.5, 2.0]])) for axis in (-1, 0) for down in (False, True)],
    "sort": [Case(lambda x, axis, descending: np.take_along_axis(x, oracles.ordered(x, axis, descending), axis), [(3, 4)],
                  settings={"axis": axis, "descending": down}) for axis, down in ((-1, False), (0, True))],
    "topk": [
        Case(lambda x: np.sort(x)[..., :-3:-1], [(3, 4)], function=lambda x: ops.topk(x, 2)[0]),
        Case(lambda x: np.sort(x, axis=0)[:2], [(3, 2, 2)], function=lambda x: ops.topk(x, 2, axis=0, largest=False)[0]),
        Case(lambda x: oracles.ordered(x, 0, True)[:1], [(3, 4)], function=lambda x: ops.topk(x, 1, axis=0)[1], differentiable=False),
    ],
    "isfinite": _constant(np.isfinite),
    # activation
    "sigmoid": _elementwise(oracles.each(lambda x: 1 / (1 + math.exp(-x)))),
    "tanh": _elementwise(oracles.each(math.tanh)),
    "relu": _elementwise(lambda x: x * (x > 0)),
    "leaky_relu": _elementwise(lambda x, slope: np.where(x > 0, x, x * slope), slope=0.1),
    "elu": _elementwise(oracles.each(lambda x, alpha: x if x > 0 else alpha * (math.exp(x) - 1)), alpha=1.3),
    "softplus": _elementwise(oracles.each(lambda x: math.log(1 + math.exp(x)))),
    "log_sigmoid": _elementwise(oracles.each(lambda x: -math.log(1 + math.exp(-x)))),
    "silu": _elementwise(oracles.each(lambda x: x / (1 + math.exp(-x)))),
    "gelu": _elementwise(
        oracles.each(lambda x: x / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    ),
    "softmax": [Case(oracles.softmax, [(3, 4)]), Case(oracles.softmax, [(2, 3, 4)], settings={"axis": 1}), Case(oracles.softmax, [(1,)])],
    "log_softmax": [
        Case(lambda x, axis=-1: np.log(oracles.softmax(x, axis)), [(3, 4)]),
        Case(lambda x, axis=-1: np.log(oracles.softmax(x, axis)), [(2, 3, 4)], settings={"axis": 0}),
    ],
    # linear
    "matmul": [
        _matmul((3, 4), (4, 5)), _matmul((4,), (4,)), _matmul((3, 4), (4,)), _matmul((4,), (4, 5)),
        _matmul((2, 3, 4), (4, 5)), _matmul((2, 3, 4), (2, 4, 5)), _matmul((3, 4), (2, 4, 5)),
        _matmul((2, 1, 3, 4), (3, 4, 5)), _matmul((2, 3, 4), (4,)), _matmul((4,), (2, 4, 5)),
        _matmul((0, 4), (4, 5)), _matmul((3, 0), (0, 5)), _matmul((1, 1), (1, 1)), _matmul((2, 0, 4), (4, 5)),
    ],
    "linear": [
        Case(lambda x, w, b: np.tensordot(x, w, 1) + b, [(3, 4), (4, 5), (5,)]),
        Case(lambda x, w, b: np.tensordot(x, w, 1) + b, [(2, 3, 4), (4, 5), (5,)]),
        Case(lambda x, w, b: x @ w.T + b, [(2, 3, 4), (5, 4), (5,)], function=lambda x, w, b: ops.linear(x, w.T, b)),
        *(Case(lambda x, w, b, transposed: x @ w + b, [x, (4, 5), (5,)], settings={"transposed": t}, function=_affine)
          for x, t in (((2, 3, 4), False), ((2, 3, 4), True), ((4,), False))),  # what a large output takes
        Case(lambda x, w: np.tensordot(x, w, 1), [(2, 3, 4), (4, 5)]),
        Case(lambda x, w: np.tensordot(x, w, 1), [(4,), (4, 5)]),
    ],
    "einsum": [
        Case(lambda a, b: np.tensordot(a, b, 1), [(2, 3), (3, 4)], function=lambda a, b: ops.einsum("ij,jk", a, b)),
        Case(lambda a: a.sum(axis=1).T, [(2, 3, 4)], function=lambda a: ops.einsum("ijk->ki", a)),
        Case(lambda a, b: a.sum() * b.sum(), [(2,), (3,)], function=lambda a, b: ops.einsum("i,j->", a, b)),
        Case(lambda a, b: a @ b, [(2, 3, 4), (4, 5)], function=lambda a, b: ops.einsum("...ij,jk->...ik", a, b)),
        Case(
            lambda a, b, c: (a[:, :, None] * b[None, :, :] * c[:, None, :]).sum(axis=1), [(2, 3), (3, 4), (2, 4)],
            function=lambda a, b, c: ops.einsum("ij,jk,ik->ik", a, b, c),
        ),
    ],
    # reduction
    "sum": _reduction(np.sum) + [Case(np.sum, [(0, 3)], settings={"axis": 0})],
    "mean": _reduction(np.mean),
    "var": _reduction(np.var)[:5] + [Case(lambda x, correction: np.var(x, ddof=correction), [(3, 4)], settings={"correction": 1})],
    "std": _reduction(np.std)[:5],
    "max": _reduction(np.max) + [
        Case(np.max, [(3, 4)], function=lambda x: ops.max(x, return_indices=True)[0]),
        Case(lambda x: np.max(x, axis=1, keepdims=True), [(3, 4)], function=lambda x: ops.max(x, 1, True, return_indices=True)[0]),
        Case(lambda x: np.argmax(x, axis=0), [(3, 4)], function=lambda x: ops.max(x, 0, return_indices=True)[1], differentiable=False),
    ],
    "min": _reduction(np.min) + [
        Case(lambda x: np.min(x, keepdims=True), [(3, 4)], function=lambda x: ops.min(x, None, True, return_indices=True)[0]),
        Case(lambda x: np.argmin(x, axis=0), [(3, 4)], function=lambda x: ops.min(x, 0, return_indices=True)[1], differentiable=False),
    ],
    "prod": _reduction(np.prod) + [
        Case(np.prod, [np.array([[1.5, 0.0, 2.0], [0.0, 0.0, 1.0]])], settings={"axis": 1}),
        Case(np.prod, [(0, 3)], settings={"axis": 0}), Case(np.prod, [(5, 2)], settings={"axis": 0}),
    ],
    "logsumexp": _reduction(lambda x, **k: np.log(np.sum(np.exp(x), **k))),
    "cumsum": [Case(np.cumsum, [(3, 4)], settings={"axis": a}) for a in (0, 1, -1)] + [Case(np.cumsum, [(0, 2)], settings={"axis": 0}, empty=True)],
    "norm": _reduction(lambda x, axis=None, keepdims=False: np.sqrt((x * x).sum(axis=axis, keepdims=keepdims)), _spread_out),
    # shape
    "reshape": [Case(lambda x, shape: x.reshape(shape), [(3, 4)], settings={"shape": s}) for s in ((2, 6), (-1,), (1, 12, 1))]
    + [Case(lambda x, shape: x.reshape(shape), [(0, 4)], settings={"shape": (2, 0)}, empty=True)],
    "transpose": [Case(np.transpose, [(2, 3, 4)]), Case(np.transpose, [(2, 3, 4)], settings={"axes": (1, 2, 0)}),
                  Case(np.transpose, [(2, 3, 4)], settings={"axes": (-1, 0, 1)}), Case(np.transpose, [()])],
    "matrix_transpose": [Case(lambda x: np.swapaxes(x, -1, -2), [s]) for s in ((3, 4), (2, 3, 4))],
    "moveaxis": [Case(np.moveaxis, [(2, 3, 4)], settings={"source": s, "destination": d})
                 for s, d in ((0, 2), (-1, 0), ((0, 1), (2, 0)))],
    "expand_dims": [Case(np.expand_dims, [(3, 4)], settings={"axis": a}) for a in (0, 1, -1, (0, 2), (-1, 0))],
    "squeeze": [Case(np.squeeze, [(1, 3, 1)]), Case(np.squeeze, [(1, 3, 1)], settings={"axis": 0}),
                Case(np.squeeze, [(1, 3, 1)], settings={"axis": (0, -1)}), Case(np.squeeze, [(1, 3, 4)])],
    "broadcast_to": [Case(np.broadcast_to, [s], settings={"shape": (2, 3, 4)}) for s in ((), (4,), (3, 1), (2, 1, 4), (2, 3, 4))],
    "sum_to": [
        Case(lambda x, shape: x.sum(), [(2, 3)], settings={"shape": ()}),
        Case(lambda x, shape: x.sum(axis=(0, 1))[None], [(2, 3, 4)], settings={"shape": (1, 4)}),
        Case(lambda x, shape: x.sum(axis=1, keepdims=True), [(2, 3)], settings={"shape": (2, 1)}),
        Case(lambda x, shape: x, [(2, 3)], settings={"shape": (2, 3)}),
    ],
    "concatenate": [
        Case(lambda *xs: np.vstack(xs), [(2, 3), (1, 3), (0, 3)], function=lambda *xs: ops.concatenate(xs)),
        Case(lambda *xs: np.dstack(xs), [(2, 1, 3), (2, 1, 1)], function=lambda *xs: ops.concatenate(xs, axis=-1)),
    ],
    "stack": [
        Case(lambda *xs: np.array(xs), [(2, 3), (2, 3)], function=lambda *xs: ops.stack(xs)),
        Case(lambda *xs: np.moveaxis(np.array(xs), 0, -1), [(2, 3), (2, 3)], function=lambda *xs: ops.stack(xs, axis=-1)),
    ],
    "split": [
        Case(lambda x: np.split(x, 3, axis=1), [(2, 6)], function=lambda x: ops.split(x, 3, axis=1)),
        Case(lambda x: np.split(x, [1, 4]), [(6, 2)], function=lambda x: ops.split(x, [1, 4])),
    ],
    "chunk": [
        Case(lambda x: [x[:2], x[2:4], x[4:]], [(5, 2)], function=lambda x: ops.chunk(x, 3)),
        Case(lambda x: [x[:, :2], x[:, 2:4], x[:, 4:]], [(2, 6)], function=lambda x: ops.chunk(x, 5, axis=1)),
    ],
    "flip": [Case(lambda x, axis=None: x[::-1, ::-1] if axis is None else x[:, ::-1], [(2, 3)], settings=s) for s in ({}, {"axis": 1})],
    "pad": [Case(lambda x, width, value=0.0: np.pad(x, width, constant_values=value), [(2, 3)],
                 settings={"width": ((1, 0), (0, 2)), **s}) for s in ({}, {"value": 1.5})],
    "repeat": [Case(lambda x, repeats, axis: np.repeat(x, repeats, axis), [(2, 3)], settings={"repeats": 3, "axis": a}) for a in (0, -1)],
    "astype": [Case(lambda x, dtype: x, [(3, 4)], settings={"dtype": "float64"}, dtypes=()),
               Case(lambda x, dtype: np.trunc(x), [(3, 4)], settings={"dtype": "int32"}, differentiable=False)],
    # indexing
    "getitem": [
        Case(lambda x, index: x[index], [(4, 3)], settings={"index": i})
        for i in (1, slice(0, 4, 2), (slice(None), -1), (None, Ellipsis, slice(1, 3)), slice(3, None, -1),
                  np.array([0, 2, 2]), np.array([3, 0, 1]), [1, 1], np.array([True, False, True, False]), (np.array([0, 0]), np.array([1, 1])),
                  slice(2, 2))
    ],
    "take": [
        Case(lambda x, indices, axis=0: np.take(x, indices, axis), [(3, 4)], settings={"indices": _ids, "axis": 0}),
        Case(lambda x, indices, axis=0: np.take(x, indices, axis), [(2, 3)], settings={"indices": [-1, 0], "axis": 1}),
    ],
    "gather": [
        Case(lambda x, indices, axis: np.take_along_axis(x, indices, axis), [(2, 3)], settings={"indices": _ids, "axis": 1}),
        Case(lambda x, indices, axis: np.take_along_axis(x, indices, axis), [(3, 3)], settings={"indices": _ids, "axis": 0}),
    ],
    "scatter_add": [
        Case(oracles.scatter, [(3, 2), (2, 3, 2)], settings={"index": _ids}),
        Case(oracles.scatter, [(3, 2), (2, 3, 2)], settings={"index": 2 - _ids}),
        Case(oracles.scatter, [(3, 2), (1, 2)], settings={"index": slice(1, 2)}),
    ],
    "embedding": [Case(oracles.embedded, [(3, 4), _ids]), Case(oracles.embedded, [(3, 4), np.array([2])])],
    "one_hot": [Case(lambda ids, depth, dtype: np.eye(depth)[ids], [_ids], settings={"depth": 4, "dtype": "float64"},
                     differentiable=False)],
    # normalization and random (float32 draws other numbers than float64, so dropout is compared in float64 alone)
    "layer_norm": [
        Case(oracles.layer_norm, [(3, 4)]), Case(oracles.layer_norm, [(2, 3, 4), (4,), (4,)]),
        Case(oracles.layer_norm, [(3, 4), (4,)], settings={"eps": 0.1}),
    ],
    "dropout": [Case(oracles.kept, [(3, 4)], settings={"p": 0.4}, dtypes=(), function=_seeded(ops.dropout)),
                Case(oracles.kept, [(3, 4)], settings={"p": 0.4, "training": False}, function=_seeded(ops.dropout))],
    "categorical": [
        Case(oracles.drawn, [(3, 4)], function=_seeded(ops.categorical), settings=k, differentiable=False)
        for k in ({}, {"axis": 0, "sample_shape": (5,)})
    ],
    # losses
    "mse": _losses(lambda p, t: (p - t) ** 2, [(3, 4), (3, 4)]),
    "mae": _losses(lambda p, t: np.abs(p - t), [(3, 4), (3, 4)], [(0.5, 2.0), (-2.0, 0.0)]),
    "huber": _losses(
        lambda p, t, delta: np.where(np.abs(p - t) <= delta, (p - t) ** 2 / 2, delta * (np.abs(p - t) - delta / 2)),
        [(3, 4), (3, 4)], delta=0.7,
    ),
    "nll": [
        *_losses(oracles.nll, [(6, 3), _ids.ravel()]),
        *(Case(oracles.nll_with_weights, [(6, 3), _ids.ravel()], settings={"weight": (0.5, 2.0, 3.0), **k})
          for k in ({}, {"ignore_index": 2}, {"reduction": "none"}, {"reduction": "sum"})),
    ],
    "cross_entropy": [
        *_losses(oracles.cross_entropy, [(6, 3), _ids.ravel()]),
        _losses(oracles.cross_entropy, [(6, 3), 2 - _ids.ravel()])[0],
        *_losses(oracles.cross_entropy, [(6, 3), _ids.ravel()], label_smoothing=0.2),
        *_losses(oracles.cross_entropy, [(3, 4), _probabilities]),
        Case(oracles.ignoring, [(6, 3), _ids.ravel()], settings={"ignore_index": 2}),
        Case(oracles.smooth_with_weights, [(6, 3), _ids.ravel()], settings={"weight": (0.5, 2.0, 3.0), "label_smoothing": 0.2}),
        Case(lambda x, q, weight: -(q * weight * np.log(oracles.softmax(x))).sum() / 3, [(3, 4), _probabilities],
             settings={"weight": (0.5, 2.0, 3.0, 0.1)}),
    ],
    "linear_cross_entropy": [
        *_losses(lambda x, w, ids: oracles.cross_entropy(x @ w, ids), [(6, 2), (2, 3), _ids.ravel()]),
        Case(lambda x, w, ids, b: oracles.cross_entropy(x @ w + b, ids).mean(), [(6, 2), (2, 3), _ids.ravel(), (3,)],
             function=lambda x, w, ids, b: ops.linear_cross_entropy(x, w, ids, linear_bias=b)),
    ],
    "binary_cross_entropy_with_logits": [
        *_losses(oracles.binary, [(3, 4), (3, 4)], [(-2.0, 2.0), (0.0, 1.0)]),
        *_losses(oracles.binary, [(3, 2), (3, 2)], [(-2.0, 2.0), (0.0, 1.0)], pos_weight=np.array([0.5, 3.0]), weight=np.array([[1.0], [2.0], [0.5]])),
    ],
    "kl_divergence": _losses(lambda log_q, p: (p * (np.log(p) - log_q)).sum(-1), [(3, 4), (3, 4)], [(-2.0, 0.0), (0.1, 1.0)]),
}  # fmt: skip
