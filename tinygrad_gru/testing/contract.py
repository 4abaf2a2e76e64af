"""The contract that every op keeps, as one function to run on ours and on yours.

    check_op(tanh, oracle=np.tanh, shapes=[(3, 4)])

checks the forward pass against an oracle that is independent of us, first and second derivatives against finite
differences, that raw arrays and Tensors, and raw and recorded backward, give the same bits, that dtypes are kept
by the op and by each of its rules, that nothing writes into what it was given, and for an elementwise op arrays
without axes, of size 0 and 1, and that broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import Backend, dtype_name, resolve
from ..tape import Node, grad, walk
from ..tensor import Tensor
from .gradcheck import gradcheck, gradgradcheck

#: How far a result in that dtype may lie from the float64 result, relative to the largest value.
ROUNDING = {"float32": 2e-5, "float16": 2e-2}
BROADCASTS: dict[int, list[list[Any]]] = {
    1: [[()], [(0, 3)], [(1,)], [(2, 1, 3)]],
    2: [[(), ()], [(2, 3), ()], [(0, 3), (3,)], [(1,), (1,)], [(3, 1), (1, 4)], [(4,), (2, 3, 4)], [(2, 1, 3), (4, 1)]],
    3: [[(), (), ()], [(2, 3), (), (3,)], [(0, 3), (3,), (1,)], [(3, 1), (1, 4), (4,)]],
}


class ContractError(AssertionError):
    """An op does not keep the contract."""


def check_op(
    op: Callable[..., Any],
    oracle: Callable[..., Any],
    shapes: Sequence[Any],
    domain: tuple[float, float] | Sequence[tuple[float, float]] = (-2.0, 2.0),
    *,
    elementwise: bool = False,
    differentiable: bool = True,
    dtypes: Sequence[str] = ("float32", "float16"),
    backend: str | Backend = "numpy",
    seed: int = 0,
    rtol: float = 1e-10,
    **settings: Any,
) -> None:
    """Check that `op` keeps the contract; raise ContractError or GradientError that says which clause fails.

    op              the op, or any function of Tensors and settings
    oracle          the same on NumPy arrays, from another source than the op's own formula
    shapes          for each input its shape (it is filled at random from its domain), or an array to be used as it is
    domain          (low, high) for all inputs, or one for each: stay clear of kinks and poles
    elementwise     check arrays without axes, of size 0 and 1 and broadcasting ones as well
    differentiable  False for an op that has no gradient: it must then give constants
    dtypes          besides float64, those that the op must keep
    backend         where to run; the oracle stays on NumPy
    settings        passed to the op and to the oracle; to the op arrays among them on its backend
    """
    home, random = resolve(backend), np.random.default_rng(seed)
    name = getattr(op, "__name__", repr(op))
    moved = {key: _moved(value, home) for key, value in settings.items()}

    def run(*inputs: Any) -> Any:
        return op(*inputs, **moved)

    for case in [list(shapes), *(BROADCASTS[len(shapes)] if elementwise else [])]:
        values = _values(case, domain, random)
        arrays = [home.asarray(v) for v in values]
        clause = f"{name} at {[v.shape for v in values]}"
        expected = _all(oracle(*values, **settings))
        _check_forward(run, arrays, expected, home, rtol, clause)
        if not differentiable:
            _require(
                not any(y.requires_grad for y in _all(run(*_leaves(arrays)))), f"{clause}: no gradient was declared"
            )
            continue
        _check_backward(run, arrays, home, random, clause)
        gradcheck(run, arrays, seed=seed)
        gradgradcheck(run, arrays, seed=seed)
        for dtype in dtypes:
            _check_dtype(run, arrays, dtype, expected, home, f"{clause} in {dtype}")


def _values(case: list, domain: Any, random: np.random.Generator) -> list[np.ndarray]:
    domains = [domain] * len(case) if np.ndim(domain) == 1 else list(domain)
    return [
        shape if isinstance(shape, np.ndarray) else random.uniform(low, high, size=shape)
        for shape, (low, high) in zip(case, domains)
    ]


def _moved(value: Any, home: Backend) -> Any:
    """A setting with its arrays on a backend."""
    if isinstance(value, tuple):
        return tuple(_moved(part, home) for part in value)
    return home.asarray(value) if isinstance(value, np.ndarray) else value


def _leaves(arrays: list) -> list[Tensor]:
    return [Tensor(a, requires_grad="float" in str(a.dtype)) for a in arrays]


def _records(arrays: list) -> list[Tensor]:
    """Recorded tensors of these values: unlike a leaf's, their gradient is what the rules gave, in the rules' dtype."""
    return [ops.reshape(t, shape=t.shape) if t.requires_grad else t for t in _leaves(arrays)]


def _all(result: Any) -> list:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _require(holds: bool, clause: str) -> None:
    if not holds:
        raise ContractError(clause)


def _check_forward(run: Callable, arrays: list, expected: list, home: Backend, rtol: float, clause: str) -> None:
    before = [np.array(home.to_host(a)) for a in arrays]
    tensors = _all(run(*_leaves(arrays)))
    raw = _all(run(*arrays))
    _require(len(tensors) == len(expected), f"{clause}: {len(tensors)} outputs, the oracle has {len(expected)}")
    for y, r, e in zip(tensors, raw, expected):
        _require(isinstance(y, Tensor), f"{clause}: Tensors must give a Tensor, got {type(y).__name__}")
        value = home.to_host(y.data)
        _require(not isinstance(r, Tensor), f"{clause}: arrays must give an array, got a Tensor")
        _require(value.shape == np.shape(e), f"{clause}: shape {value.shape}, the oracle has {np.shape(e)}")
        error = _distance(value, e)
        _require(error <= rtol, f"{clause}: differs from the oracle by {error:.3g} (relative; allowed {rtol:.3g})")
        _require(_same(home.to_host(r), value), f"{clause}: arrays and Tensors give different values")
    for a, b in zip(arrays, before):
        _require(_same(home.to_host(a), b), f"{clause}: the op wrote into its input")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _distance(value: np.ndarray, expected: Any) -> float:
    if value.size == 0:
        return 0.0
    expected = np.asarray(expected)
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(value, expected) else np.inf
    scale = max(1.0, float(np.max(np.abs(expected))))
    return float(np.max(np.abs(value.astype(np.float64) - expected))) / scale


def _gradients(run: Callable, arrays: list, cotangents: list, create_graph: bool) -> tuple[list, list]:
    """The inputs that want a gradient, and what the rules give for each: `grad` would cast it."""
    inputs = _records(arrays)
    wanted = [t for t in inputs if t.requires_grad]
    start: dict[Node, Any] = {}
    for y, cotangent in zip(_all(run(*inputs)), cotangents):
        if y.node is not None:
            weight = Tensor.at(cotangent, None) if create_graph else cotangent
            start[y.node] = start[y.node] + weight if y.node in start else weight
    nodes = [t.node for t in wanted if t.node is not None]
    found = walk(Tensor, start, frozenset(nodes), create_graph, create_graph) if nodes else {}
    return wanted, [found.get(node) for node in nodes]


def _cotangents(run: Callable, arrays: list, home: Backend, random: np.random.Generator) -> list:
    outputs = _all(run(*arrays))
    return [_cast(random.standard_normal(y.shape), dtype_name(y.dtype), home) for y in outputs]


def _cast(values: Any, dtype: str, home: Backend) -> Any:
    return home.asarray(np.asarray(values).astype(dtype))


def _check_backward(run: Callable, arrays: list, home: Backend, random: np.random.Generator, clause: str) -> None:
    """Raw and recorded backward give the same bits, and write into nothing that they were given."""
    cotangents = _cotangents(run, arrays, home, random)
    inputs = _records(arrays)
    outputs = _all(run(*inputs))
    given = [*(t.data for t in inputs), *(y.data for y in outputs), *cotangents]
    before = [np.array(home.to_host(a)) for a in given]
    plain = grad(outputs, [t for t in inputs if t.requires_grad], cotangents, allow_unused=True)
    for a, b in zip(given, before):
        _require(_same(home.to_host(a), b), f"{clause}: a rule wrote into an array that it was given")
    inputs = _records(arrays)
    wanted = [t for t in inputs if t.requires_grad]
    recorded = grad(_all(run(*inputs)), wanted, cotangents, create_graph=True, allow_unused=True)
    for p, r in zip(plain, recorded):
        same = (p is None and r is None) or _same(home.to_host(p.data), home.to_host(r.data))
        _require(same, f"{clause}: raw and recorded backward give different bits")


def _check_dtype(run: Callable, arrays: list, dtype: str, expected: list, home: Backend, clause: str) -> None:
    if home.xp.__name__ == "array_api_strict" and dtype == "float16":
        return  # the standard has no float16
    narrow = [_cast(home.to_host(a), dtype, home) if "float" in str(a.dtype) else a for a in arrays]
    cotangents = _cotangents(run, narrow, home, np.random.default_rng(0))
    for y, e in zip(_all(run(*narrow)), expected):
        _require(str(y.dtype).endswith(dtype), f"{clause}: the output became {y.dtype}")
        if np.size(e):
            _require(_distance(home.to_host(y), e) <= ROUNDING[dtype] * 10, f"{clause}: far from the result in float64")
    for create_graph in (False, True):
        wanted, found = _gradients(run, narrow, cotangents, create_graph)
        for t, g in zip(wanted, found):
            if g is not None:
                _require(g.dtype == t.dtype, f"{clause}: the gradient became {g.dtype}")
                _require(g.shape == t.shape, f"{clause}: the gradient has shape {g.shape} for an input {t.shape}")
