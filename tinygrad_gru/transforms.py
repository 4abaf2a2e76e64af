"""Derivatives of functions of Tensors, and recomputation.

All are made of one thing, the pull-back of a cotangent through a recorded function, and work to any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .backend import astype, backend_of, dtype_name, random_state, replayed_from, xp_of
from .fingerprint import fingerprint
from .ops.multi_output import record_multi_output
from .ops.op import unwrap
from .tape import Node, TapeError, Variable, enable_grad, grad, history, inspector, leaf, name_of, tick, walk
from .tensor import Tensor


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """y = f(x…), and the function that takes a cotangent v of y to vᵀ ∂y/∂x, one for each x

    A y with one element can do without a cotangent (None). Each pull-back may be used as often as one likes, and is
    itself recorded, also under no_grad.
    """
    with enable_grad():
        inputs = [_fresh(x) for x in primals]
        y = function(*inputs)

    def pullback(cotangent: Any) -> tuple[Tensor, ...]:
        if not y.requires_grad:
            return tuple(map(_zeros_like, inputs))
        found = grad(y, inputs, cotangent, create_graph=True, allow_unused=True)
        return tuple(_zeros_like(x) if g is None else g for x, g in zip(inputs, found))

    return y, pullback


def jvp(function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """y = f(x…), and Σ ∂y/∂x · t, the derivative of y along the tangents t

    Forward mode out of reverse mode: vᵀ J is linear in v, and its derivative with regard to v, weighed by t, is J t.
    """
    if len(tangents) != len(primals):
        raise ValueError(f"tangents: expected one for each of the {len(primals)} primals, got {len(tangents)}")
    for i, (x, t) in enumerate(zip(primals, tangents)):
        if tuple(t.shape) != tuple(x.shape):
            raise ValueError(f"tangents[{i}]: expected the shape {tuple(x.shape)} of its primal, got {tuple(t.shape)}")
    y, pullback = vjp(function, *primals)
    v = _fresh(_zeros_like(y))
    pulled = [(g, t) for g, t in zip(pullback(v), tangents) if g.requires_grad]
    if not pulled:
        return y, _zeros_like(y)
    gradients, weights = zip(*pulled)
    derivative = grad(list(gradients), v, list(weights), create_graph=True, allow_unused=True)
    return y, _zeros_like(y) if derivative is None else derivative


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, vector: Any) -> Tensor:
    """H v, H = ∂²f/∂x² of a scalar f: the gradient of gᵀ v, g = ∂f/∂x. H itself is never made."""
    with enable_grad():
        x = _fresh(x)
        y = _scalar(function(x), "hvp")
    if not y.requires_grad:
        return _zeros_like(x)
    g = grad(y, x, create_graph=True, allow_unused=True)
    if g is None or not g.requires_grad:
        return _zeros_like(x)
    result = grad(g, x, vector, create_graph=True, allow_unused=True)
    return _zeros_like(x) if result is None else result


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """J = ∂f/∂x, of shape f(x).shape + x.shape: one pull-back for each element of f(x)"""
    y, pullback = vjp(function, x)
    if not y.size:
        return Tensor(backend_of(y.data).zeros((*y.shape, *x.shape), x.dtype))
    places = backend_of(y.data).arange(y.size)
    identity = ops.reshape(ops.one_hot(places, depth=y.size, dtype=y.dtype), shape=(y.size, *y.shape))
    with enable_grad():
        rows = ops.stack([pullback(identity[i, ...])[0] for i in range(y.size)])
        return ops.reshape(rows, shape=(*y.shape, *x.shape))


def hessian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """H = ∂²f/∂x² of a scalar f, of shape x.shape + x.shape: the Jacobian of the gradient"""
    return jacobian(lambda x: vjp(lambda x: _scalar(function(x), "hessian"), x)[1](None)[0], x)


def checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    """f(x…), of which nothing is kept for backward but the inputs: backward runs f again.

    What f computes takes memory while f runs and while its backward runs, not in between; the price is one more
    forward pass. Random numbers are drawn again as they were the first time. Leaves that f uses without being given
    them, such as a module's parameters, get their gradients too. f returns a Tensor or a tuple of Tensors. What it
    computes again must be what it has computed: backward raises TapeError if a closure, say, has changed since.
    """
    observer = inspector.get()
    if observer is not None and not observer.recomputes:
        return function(*inputs)
    state, start = random_state(), tick()
    result = function(*inputs)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    if not any(y.requires_grad for y in results):
        return result
    given = [x.node if isinstance(x, Tensor) else None for x in inputs]
    records, reached = history(results, start)
    closed_over = [node for node in reached if node not in given]
    digests = [_digest(y.data) for y in results]
    operation = Recomputation(function, state, digests, set(reached), fingerprint(records))
    saved = (
        *map(unwrap, inputs),
        {node: node.grad_state.array for node in closed_over if node.op is None and node.grad_state},
    )
    outputs = record_multi_output(Tensor, operation, (*given, *closed_over), saved, [y.data for y in results])
    outputs = [made if y.requires_grad else y for made, y in zip(outputs, results)]
    return tuple(outputs) if isinstance(result, (tuple, list)) else outputs[0]


class Recomputation:
    """The op of a checkpoint: its pull-back runs the function again, recorded, and goes back through that.

    Its parents are the nodes of what the function was given, then those of what it used besides. What it saved are the
    arrays that it was given and, last, those of the leaves that it used besides, by their nodes.
    """

    __name__ = "checkpoint"

    def __init__(
        self, function: Callable[..., Any], state: dict[str, int], digests: list[Any], reached: set[Node], recorded: int
    ):
        self.function = function
        self.state = state
        self.digests, self.reached = digests, reached  # of what it gave, and the nodes that gradients reach from there
        self.fingerprint = recorded  # of what was recorded; what holds this checkpoint compares it too

    def apply_vjp(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        create_graph = any(isinstance(g, Variable) for g in cotangents)
        *given, leaves = saved
        for node, array in leaves.items():
            if node.grad_state.array is not array:
                raise TapeError(
                    f"{name_of(node)} {node.shape} was given other data after a checkpointed function had used it, "
                    "which would be computed again with other values: set data after backward"
                )
        inputs = [Tensor.from_node(unwrap(x), node) if node is not None else x for x, node in zip(given, parents)]
        start = tick()
        with replayed_from(self.state), enable_grad():
            result = self.function(*inputs)
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        self._check(results, start)
        pull_through(results, cotangents, parents, accumulate, create_graph, start)

    def _check(self, results: list[Tensor], start: int) -> None:
        """Raise TapeError if what was computed again is not what was computed, of other tensors or by other rules."""
        records, reached = history(results, start)
        same = len(results) == len(self.digests) and all(
            _is_digest(before, y.data) for y, before in zip(results, self.digests)
        )
        if not same or set(reached) != self.reached or fingerprint(records) != self.fingerprint:
            raise TapeError(
                "a checkpointed function gave other values in backward than in forward, or used other tensors, rules, "
                "settings or hooks: something that it sees has changed since (a variable of a closure, an attribute, "
                "train() or eval())"
            )

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        assert record.saved is not None
        *given, leaves = record.saved
        return (*(kind.from_node(x, node) if node is not None else x for x, node in zip(given, record.parents)), leaves)


def pull_through(
    results: Sequence[Tensor],
    cotangents: Sequence[Any],
    parents: tuple,
    accumulate: Callable,
    create_graph: bool,
    start: int,
) -> None:
    """Carry cotangents back through what was recorded since the moment `start`, and give them to the parents."""
    weights: dict[Node, Any] = {}
    for y, g in zip(results, cotangents):
        if g is not None and y.node is not None:
            weights[y.node] = weights[y.node] + g if y.node in weights else g
    for node, gradient in walk(Tensor, weights, frozenset(), create_graph, create_graph, start).items():
        if node in parents:
            accumulate(node, gradient)


def _digest(array: Any) -> tuple[Any, Any]:
    """A number for every row of an array that tells whether an element has changed, and how large it could be.

    It is the row times numbers without a pattern, a small part of the memory that the array itself would take.
    """
    home = backend_of(array)
    n = array.shape[-1] if array.shape else 1
    wide = "float64" if dtype_name(array.dtype) in ("float64", "int64") else "float32"
    array, irregular = astype(array, wide), 1.5 + home.xp.cos(astype(home.arange(n), wide))
    rows = home.xp.reshape(array, (math.prod(array.shape[:-1]), n))
    return rows @ irregular, home.xp.abs(rows) @ irregular


def _is_digest(before: tuple[Any, Any], array: Any) -> bool:
    """Whether the array is that of the digest, but for rounding in the last places."""
    now, size = _digest(array)
    if now.shape != before[0].shape:
        return False
    places = {"float64": 1e-14, "float32": 1e-5}.get(dtype_name(array.dtype), 2e-3)
    return not bool(xp_of(now).any(xp_of(now).abs(now - before[0]) > places * size))


def _apart(x: Any) -> Any:
    """The same value at a place of its own on the tape, from which x can be reached; a constant as it is."""
    if not isinstance(x, Tensor) or x.node is None:
        return x
    return ops.reshape(x, shape=x.shape)


def _fresh(x: Tensor) -> Tensor:
    """A place of its own for x, to differentiate with regard to; a leaf if x is a constant."""
    return _apart(x) if x.requires_grad else Tensor.from_node(x.data, leaf(x.data))


def _zeros_like(x: Tensor) -> Tensor:
    return Tensor(backend_of(x.data).zeros(x.shape, x.dtype))


def _scalar(y: Tensor, caller: str) -> Tensor:
    if y.size != 1:
        raise TapeError(f"{caller}: the function must return one number, got shape {y.shape}")
    return y
