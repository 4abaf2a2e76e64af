"""One training pass in tinygrad_gru, PyTorch and JAX: forward, and gradients of input, initial state and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, compiling, grad, nn, ops, scan
from tinygrad_gru.interop.torch import state_dict

from .cells import CELLS, JOINED, contributions, joined

#: A training pass; returns the gradients of x, of the parts of the initial state, and of the weights.
Pass = Callable[[], Sequence[Any]]


@dataclass
class Case:
    """A cell at a size (T, B, I, H), with random float32 arrays; `cotangents` are those of the ys, of all steps.

    reset_after  the GRU variant that resets after the product, with a second bias, as in PyTorch
    """

    kind: str
    size: tuple[int, int, int, int]
    reset_after: bool = False

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
        if self.reset_after:
            self.weights["c_h"] = normal(hidden)
        self.x = normal(steps, batch, features)
        self.carry = tuple(normal(batch, hidden) for _ in range(cell.parts))
        self.cotangents = tuple(normal(steps, batch, width) for width in widths(cell.ys))

    @property
    def is_torch_layer(self) -> bool:
        """Whether PyTorch's layer of that name has the same equations."""
        return self.kind == "LSTM" or self.reset_after

    @property
    def flops(self) -> int:
        """The floating-point operations of the products of a pass: each is computed forward, and for two gradients."""
        rows = self.size[0] * self.size[1]
        return 3 * sum(2 * rows * w.size for w in self.weights.values() if w.ndim == 2)


def ours(case: Case, compiled: bool | str = True, device: str = "numpy", dtype: str = "float32") -> Pass:
    return in_modes(case, (compiled,), device, dtype)[0]


def in_modes(case: Case, compiled: Sequence[bool | str], device: str = "numpy", dtype: str = "float32") -> list[Pass]:
    """Our pass in several modes (eager or compiled), on the same arrays."""
    layer = getattr(nn, case.kind, None)
    forward, leaves = _our_scan(case, device, dtype) if layer is None else _our_layer(case, device, dtype)
    cotangents = [Tensor(array, dtype=dtype, device=device) for array in case.cotangents]

    def run(mode: bool | str) -> Sequence[Any]:
        with compiling(mode):
            ys = forward()
        return grad(ys, leaves, cotangents)

    return [partial(run, mode) for mode in compiled]


def _our_layer(case: Case, device: str, dtype: str) -> tuple[Callable, list[Tensor]]:
    model = _module(case, device, dtype)
    x, *carry = _our_leaves((case.x, *(part[None] for part in case.carry)), device, dtype)
    return lambda: (model(x, _state(carry))[0],), [x, *carry, *model.parameters()]


def _module(case: Case, device: str = "numpy", dtype: str = "float32") -> nn.Module:
    """Our layer with the weights of a case."""
    options = {"reset_after": True} if case.reset_after else {}
    model = getattr(nn, case.kind)(*case.size[2:], dtype=dtype, device=device, **options)
    model.load_state_dict({f"cells.0.{name}": array for name, array in case.weights.items()})
    return model


def _our_scan(case: Case, device: str, dtype: str) -> tuple[Callable, list[Tensor]]:
    cell = CELLS[case.kind]
    x, *carry = _our_leaves((case.x, *case.carry), device, dtype)
    w = dict(zip(case.weights, _our_leaves(case.weights.values(), device, dtype)))

    def step(carry: tuple, x: Tensor) -> tuple:
        return cell.step(ops, w, carry, contributions(w, x))

    return lambda: scan(step, tuple(carry), x)[1], [x, *carry, *w.values()]


def _our_leaves(arrays: Iterable[np.ndarray], device: str, dtype: str) -> list[Tensor]:
    return [Tensor(array, requires_grad=True, dtype=dtype, device=device) for array in arrays]


def _state(parts: Sequence[Any]) -> Any:
    """A state as an argument of layers: a tuple or its only part."""
    return tuple(parts) if len(parts) > 1 else parts[0]


def pytorch(case: Case, device: str = "cpu", dtype: str = "float32") -> Pass:
    """PyTorch's layer of that name (its GRU resets after the product and has a second bias), or a loop of its ops."""
    import torch

    layer = getattr(torch.nn, case.kind, None)
    return _torch_loop(case, device, dtype) if layer is None else _torch_layer(layer, case, device, dtype)


def _torch_layer(layer: type, case: Case, device: str, dtype: str) -> Pass:
    import torch

    model = layer(*case.size[2:])
    if case.is_torch_layer:
        model.load_state_dict({name: torch.tensor(array) for name, array in state_dict(_module(case)).items()})
    model.to(device, getattr(torch, dtype)).flatten_parameters()  # otherwise cuDNN would do it at every call
    x, *carry = _torch_leaves((case.x, *(part[None] for part in case.carry)), device, dtype)
    leaves, cotangents = [x, *carry, *model.parameters()], _torch_arrays(case.cotangents, device, dtype)
    return lambda: torch.autograd.grad(model(x, _state(carry))[:1], leaves, cotangents)


def _torch_arrays(arrays: Iterable[np.ndarray], device: str, dtype: str) -> list[Any]:
    import torch

    return [torch.tensor(array, device=device, dtype=getattr(torch, dtype)) for array in arrays]


def _torch_leaves(arrays: Iterable[np.ndarray], device: str, dtype: str) -> list[Any]:
    return [array.requires_grad_() for array in _torch_arrays(arrays, device, dtype)]


def pytorch_compiled(case: Case, what: str) -> Pass:
    """A loop of PyTorch's ops with its "step" or the whole "loop" under `torch.compile`, or nothing: "eager"."""
    return _torch_loop(case, "cpu", "float32", what)


def _torch_loop(case: Case, device: str, dtype: str, what: str = "eager") -> Pass:
    import torch

    cell = CELLS[case.kind]
    x, *start = _torch_leaves((case.x, *case.carry), device, dtype)
    w = dict(zip(case.weights, _torch_leaves(case.weights.values(), device, dtype)))
    leaves, cotangents = [x, *start, *w.values()], _torch_arrays(case.cotangents, device, dtype)

    def step(carry: tuple, a: dict[str, Any]) -> tuple:
        return cell.step(torch, w, carry, a)

    step = torch.compile(step, dynamic=False) if what == "step" else step

    def loop() -> list[Any]:
        # Written for speed: the input contributions are computed for all steps at once and split by unbind, because the
        # backward of a[t] fills an array as large as a at every step.
        every = contributions(w, x)
        carry, rows = tuple(start), []
        for parts in zip(*(a.unbind() for a in every.values())):
            carry, ys = step(carry, dict(zip(every, parts)))
            rows.append(ys)
        return [torch.stack(column) for column in zip(*rows)]

    forward = torch.compile(loop, dynamic=False) if what == "loop" else loop
    return lambda: torch.autograd.grad(forward(), leaves, cotangents)


def jax(case: Case) -> Pass:
    """`jax.jit` of the vjp of `lax.scan`: the fastest of three forms: unchanged, hoisted, and with joined weights."""
    return fastest(jax_variants(case))


def jax_variants(case: Case) -> list[Pass]:
    step = CELLS[case.kind].step
    variants = [_jax_variant(case, step, case.weights, hoisted) for hoisted in (False, True)]
    if case.kind in JOINED:
        step, groups = JOINED[case.kind]
        variants.append(_jax_variant(case, step, joined(case.weights, groups), True))
    return variants


def _jax_variant(case: Case, step: Callable, weights: dict[str, np.ndarray], hoisted: bool) -> Pass:
    import jax

    math = SimpleNamespace(sigmoid=jax.nn.sigmoid, tanh=jax.numpy.tanh)

    def forward(x: Any, carry: tuple, w: dict) -> tuple:
        if hoisted:
            return jax.lax.scan(lambda carry, a: step(math, w, carry, a), carry, contributions(w, x))[1]
        return jax.lax.scan(lambda carry, x: step(math, w, carry, contributions(w, x)), carry, x)[1]

    @jax.jit
    def both(inputs: tuple, cotangents: tuple) -> tuple:
        ys, vjp = jax.vjp(forward, *inputs)
        return ys, vjp(cotangents)

    inputs = jax.tree.map(jax.numpy.asarray, (case.x, case.carry, weights))
    cotangents = jax.tree.map(jax.numpy.asarray, case.cotangents)

    def run() -> Sequence[Any]:
        _, gradients = jax.block_until_ready(both(inputs, cotangents))
        return jax.tree.leaves(gradients)

    return run


def fastest(variants: Sequence[Pass]) -> Pass:
    def seconds(run: Pass) -> float:
        run()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    return min(variants, key=seconds)


def check_agreement(case: Case, passes: dict[str, Pass], allowed: float = 1e-4) -> dict[str, float]:
    """Relative errors (by norm) of the gradients of x and of the initial state, compared with those of the first pass.

    Raises AssertionError if one is greater than `allowed`, a bound of rounding errors.
    """
    expected, *others = (list(map(_to_host, run()))[: 1 + len(case.carry)] for run in passes.values())
    errors = {}
    for name, found in zip(list(passes)[1:], others):
        errors[name] = max(float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in zip(found, expected))
        differs = f"{name} computes other gradients: {case.kind} {case.size}, relative error {errors[name]:.1e}"
        assert errors[name] < allowed, differs
    return errors


def _to_host(gradient: Any) -> np.ndarray:
    """A gradient of any library as a flat NumPy array."""
    if hasattr(gradient, "cpu"):
        gradient = gradient.float().cpu()
    return np.asarray(gradient.numpy() if hasattr(gradient, "numpy") else gradient, np.float32).ravel()
