"""The same pass by us, by PyTorch and by JAX: forward, and the gradients of input, initial state and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, compiling, grad, nn, ops, scan

from .cells import CELLS, JOINED, contributions, joined

#: One pass. It returns the gradients of x, of the parts of the initial state, and of the weights.
Pass = Callable[[], Sequence[Any]]


@dataclass
class Case:
    """A cell at a size (T, B, I, H), with random float32 arrays; `cotangents` weigh the ys, of all steps."""

    kind: str
    size: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        cell, random = CELLS[self.kind], np.random.default_rng(0)
        steps, batch, features, hidden = self.size

        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal(shape, np.float32)

        def widths(units: Sequence[int]) -> list[int]:
            return [unit * hidden or 1 for unit in units]

        self.weights: dict[str, np.ndarray] = {}
        for gate, width in zip(cell.gates, widths(list(cell.gates.values()))):
            self.weights[f"W_{gate}"] = normal(features, width) / np.float32(features) ** 0.5
            self.weights[f"U_{gate}"] = normal(hidden, width) / np.float32(hidden) ** 0.5
            self.weights[f"b_{gate}"] = normal(width)
        self.x = normal(steps, batch, features)
        self.carry = tuple(normal(batch, hidden) for _ in range(cell.parts))
        self.cotangents = tuple(normal(steps, batch, width) for width in widths(cell.ys))

    @property
    def flops(self) -> int:
        """Of the products of one pass, exactly: each is made forward, and for each of its two gradients."""
        rows = self.size[0] * self.size[1]
        return 3 * sum(2 * rows * w.size for w in self.weights.values() if w.ndim == 2)


def ours(case: Case, compiled: bool | str = True) -> Pass:
    layer = getattr(nn, case.kind, None)
    forward, leaves = _our_scan(case) if layer is None else _our_layer(layer, case)

    def run() -> Sequence[Any]:
        with compiling(compiled):
            ys = forward()
        return grad(ys, leaves, case.cotangents)

    return run


def _our_layer(layer: type, case: Case) -> tuple[Callable, list[Tensor]]:
    model = layer(*case.size[2:])
    model.load_state_dict({f"cells.0.{name}": array for name, array in case.weights.items()})
    x, *carry = (Tensor(array, requires_grad=True) for array in (case.x, *(part[None] for part in case.carry)))
    return lambda: (model(x, _state(carry))[0],), [x, *carry, *model.parameters()]


def _our_scan(case: Case) -> tuple[Callable, list[Tensor]]:
    cell = CELLS[case.kind]
    x, *carry = (Tensor(array, requires_grad=True) for array in (case.x, *case.carry))
    w = {name: Tensor(array, requires_grad=True) for name, array in case.weights.items()}

    def step(carry: tuple, x: Tensor) -> tuple:
        return cell.step(ops, w, carry, contributions(w, x))

    return lambda: scan(step, tuple(carry), x)[1], [x, *carry, *w.values()]


def _state(parts: Sequence[Any]) -> Any:
    """A state as layers take it."""
    return tuple(parts) if len(parts) > 1 else parts[0]


def pytorch(case: Case) -> Pass:
    """PyTorch's layer of that name (its GRU resets after the product and has a second bias), else a loop of its ops."""
    import torch

    layer = getattr(torch.nn, case.kind, None)
    return _torch_loop(case) if layer is None else _torch_layer(layer, case)


def _torch_layer(layer: type, case: Case) -> Pass:
    import torch

    model = layer(*case.size[2:])
    x, *carry = (torch.tensor(array).requires_grad_() for array in (case.x, *(part[None] for part in case.carry)))
    leaves, cotangents = [x, *carry, *model.parameters()], [torch.tensor(array) for array in case.cotangents]
    return lambda: torch.autograd.grad(model(x, _state(carry))[:1], leaves, cotangents)


def _torch_loop(case: Case) -> Pass:
    import torch

    cell = CELLS[case.kind]
    x, *start = (torch.tensor(array).requires_grad_() for array in (case.x, *case.carry))
    w = {name: torch.tensor(array).requires_grad_() for name, array in case.weights.items()}
    leaves, cotangents = [x, *start, *w.values()], [torch.tensor(array) for array in case.cotangents]

    def run() -> Sequence[Any]:
        # As one would write it for speed: what the input contributes is computed for all steps at once, and taken apart
        # by unbind, for the backward of a[t] fills an array as large as a at every step.
        every = contributions(w, x)
        carry, rows = tuple(start), []
        for parts in zip(*(a.unbind() for a in every.values())):
            carry, ys = cell.step(torch, w, carry, dict(zip(every, parts)))
            rows.append(ys)
        return torch.autograd.grad([torch.stack(column) for column in zip(*rows)], leaves, cotangents)

    return run


def jax(case: Case) -> Pass:
    """`jax.jit` of the pull-back of `lax.scan`; the fastest of the equations as they stand, hoisted, and joined."""
    return fastest(jax_ways(case))


def jax_ways(case: Case) -> list[Pass]:
    step = CELLS[case.kind].step
    ways = [_jax_way(case, step, case.weights, hoisted) for hoisted in (False, True)]
    if case.kind in JOINED:
        step, groups = JOINED[case.kind]
        ways.append(_jax_way(case, step, joined(case.weights, groups), True))
    return ways


def _jax_way(case: Case, step: Callable, weights: dict[str, np.ndarray], hoisted: bool) -> Pass:
    import jax

    math = SimpleNamespace(sigmoid=jax.nn.sigmoid, tanh=jax.numpy.tanh)

    def forward(x: Any, carry: tuple, w: dict) -> tuple:
        if hoisted:
            return jax.lax.scan(lambda carry, a: step(math, w, carry, a), carry, contributions(w, x))[1]
        return jax.lax.scan(lambda carry, x: step(math, w, carry, contributions(w, x)), carry, x)[1]

    @jax.jit
    def both(inputs: tuple, cotangents: tuple) -> tuple:
        ys, pull = jax.vjp(forward, *inputs)
        return ys, pull(cotangents)

    inputs = jax.tree.map(jax.numpy.asarray, (case.x, case.carry, weights))
    cotangents = jax.tree.map(jax.numpy.asarray, case.cotangents)

    def run() -> Sequence[Any]:
        _, gradients = jax.block_until_ready(both(inputs, cotangents))
        return jax.tree.leaves(gradients)

    return run


def fastest(ways: Sequence[Pass]) -> Pass:
    def seconds(run: Pass) -> float:
        run()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    return min(ways, key=seconds)


def check_agreement(case: Case, passes: dict[str, Pass]) -> None:
    """Raise AssertionError unless all passes give the same gradients of x and of the initial state, to rounding."""
    first, *others = (list(map(np.ravel, run()))[: 1 + len(case.carry)] for run in passes.values())
    for name, gradients in zip(list(passes)[1:], others):
        for expected, found in zip(first, gradients):
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert error < 1e-4, f"{name} computes something else: {case.kind} {case.size}, relative error {error:.1e}"
