"""Derivatives of functions of Tensors, and recomputation.

All are made of one thing, the pull-back of a cotangent through a recorded function, and work to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .backend import backend_of, random_state, set_random_state, xp_of
from .ops.op import raw
from .ops.several import record_several
from .tape import Node, TapeError, Variable, enable_grad, grad, leaf, leaves_of, walk
from .tensor import Tensor


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """y = f(x…), and the function that takes a cotangent v of y to vᵀ ∂y/∂x, one for each x

    Each pull-back may be used as often as one likes, and is itself recorded.
    """
    inputs = [_fresh(x) for x in primals]
    y = function(*inputs)

    def pullback(cotangent: Any) -> tuple[Tensor, ...]:
        found = grad(y, inputs, cotangent, create_graph=True, allow_unused=True)
        return tuple(_zeros_like(x) if g is None else g for x, g in zip(inputs, found))

    return y, pullback


def jvp(function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """y = f(x…), and Σ ∂y/∂x · t, the derivative of y along the tangents t

    Forward mode out of reverse mode: vᵀ J is linear in v, and its derivative with regard to v, weighed by t, is J t.
    """
    if len(tangents) != len(primals):
        raise ValueError(f"tangents: expected one for each of the {len(primals)} primals, got {len(tangents)}")
    y, pullback = vjp(function, *primals)
    dummy = Tensor(backend_of(y.data).zeros(y.shape, y.dtype), requires_grad=True)
    if not y.requires_grad:
        return y, _zeros_like(y)
    pulled = pullback(dummy)
    total = sum((ops.sum(p * raw(t)) for p, t in zip(pulled, tangents)), start=Tensor(0.0, dtype=y.dtype))
    if not total.requires_grad:
        return y, _zeros_like(y)
    return y, grad(total, dummy, create_graph=True)


def hvp(function: Callable[[Tensor], Tensor], x: Tensor, vector: Any) -> Tensor:
    """H v, H = ∂²f/∂x² of a scalar f: the gradient of gᵀ v, g = ∂f/∂x. H itself is never made."""
    x = _fresh(x)
    g = grad(_scalar(function(x), "hvp"), x, create_graph=True)
    if not g.requires_grad:
        return _zeros_like(x)
    result = grad(g, x, vector, create_graph=True, allow_unused=True)
    return _zeros_like(x) if result is None else result


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """J = ∂f/∂x, of shape f(x).shape + x.shape: one pull-back for each element of f(x)"""
    y, pullback = vjp(function, x)
    if not y.size:
        return Tensor(backend_of(y.data).zeros((*y.shape, *x.shape), x.dtype))
    identity = xp_of(y.data).eye(y.size, dtype=y.dtype).reshape((y.size, *y.shape))
    rows = [pullback(identity[i])[0] if y.requires_grad else _zeros_like(x) for i in range(y.size)]
    return ops.reshape(ops.stack(rows), shape=(*y.shape, *x.shape))


def hessian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """H = ∂²f/∂x² of a scalar f, of shape x.shape + x.shape: the Jacobian of the gradient"""
    return jacobian(lambda x: vjp(lambda x: _scalar(function(x), "hessian"), x)[1](1.0)[0], x)


def checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    """f(x…), of which nothing is kept for backward but the inputs: backward runs f again.

    What f computes takes memory while f runs and while its backward runs, not in between; the price is one more
    forward pass. Random numbers are drawn again as they were the first time. Leaves that f uses without being given
    them, such as a module's parameters, get their gradients too. f returns a Tensor or a tuple of Tensors.
    """
    state = random_state()
    fresh = [_apart(x) for x in inputs]
    result = function(*fresh)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    if not any(y.requires_grad for y in results):
        return result
    given = {x.node for x in fresh if isinstance(x, Tensor)}
    closed_over = tuple(node for node in leaves_of(*results) if node not in given)
    parents = (*(x.node if isinstance(x, Tensor) else None for x in inputs), *closed_over)
    saved = tuple(map(raw, inputs))
    outputs = record_several(Tensor, _Recomputation(function, state), parents, saved, [y.data for y in results])
    return tuple(outputs) if isinstance(result, (tuple, list)) else outputs[0]


class _Recomputation:
    """The op of a checkpoint: its pull-back runs the function again, recorded, and goes back through that."""

    __name__ = "checkpoint"
    view = False

    def __init__(self, function: Callable[..., Any], state: dict[str, int]):
        self.function = function
        self.state = state

    def pull(self, parents: tuple, saved: tuple, cotangents: list, give: Callable) -> None:
        recorded = any(isinstance(g, Variable) for g in cotangents)
        inputs = [_apart(x) if isinstance(x, Variable) else x for x in saved]
        if not recorded:
            inputs = [Tensor.at(x, leaf(x)) if node is not None else x for x, node in zip(saved, parents)]
        after = random_state()
        set_random_state(self.state)
        try:
            with enable_grad():
                result = self.function(*inputs)
        finally:
            set_random_state(after)
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        targets = {x.node: parent for x, parent in zip(inputs, parents) if isinstance(x, Tensor) and x.node is not None}
        targets |= {node: node for node in parents[len(saved) :] if node is not None}
        start = {y.node: g for y, g in zip(results, cotangents) if g is not None and y.node is not None}
        found = walk(Tensor, start, frozenset(targets), create_graph=recorded, retain_graph=True)
        for node, gradient in found.items():
            if targets.get(node) is not None:
                give(targets[node], gradient)

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        assert record.saved is not None
        return tuple(kind.at(x, node) if node is not None else x for x, node in zip(record.saved, record.parents))

    def keeps(self, record: Node, position: int) -> bool:
        return True


def _apart(x: Any) -> Any:
    """The same value at a place of its own on the tape, from which x can be reached; a constant as it is."""
    if not isinstance(x, Tensor) or x.node is None:
        return x
    return ops.reshape(x, shape=x.shape)


def _fresh(x: Tensor) -> Tensor:
    """A place of its own for x, to differentiate with regard to; a leaf if x is a constant."""
    return _apart(x) if x.requires_grad else Tensor.at(x.data, leaf(x.data))


def _zeros_like(x: Tensor) -> Tensor:
    return Tensor(backend_of(x.data).zeros(x.shape, x.dtype))


def _scalar(y: Tensor, caller: str) -> Tensor:
    if y.size != 1:
        raise TapeError(f"{caller}: the function must return one number, got shape {y.shape}")
    return y
