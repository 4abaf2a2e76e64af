"""Scans over an op, eager and compiled, whose results must agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..backend import is_floating, to_host
from ..scan import NotCompiledError, scan
from ..tensor import Tensor
from ..transforms import grad
from ..trees import leaves


def check_compiled(
    function: Callable[..., Any], samples: Sequence[Sequence[np.ndarray]], differentiable: bool
) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], str]:
    """(name, compiled, eager) of all results to second order; none, and the reason, if the step is not compiled.

    function  the op, of as many Tensors as a sample has arrays
    samples   the inputs of each step. The first real one, scaled by the carry, and integers are xs of the scan; other
              real ones are parameters of the step
    """
    eager = _results(function, samples, differentiable, compiled=False)
    try:
        compiled = _results(function, samples, differentiable, compiled=True)
    except NotCompiledError as error:
        return [], str(error.__cause__)
    return [(name, compiled[name], eager[name]) for name in eager], ""


def _results(
    function: Callable, samples: Sequence[Sequence[np.ndarray]], differentiable: bool, compiled: bool
) -> dict[str, np.ndarray]:
    """All results by name."""
    real = [i for i, x in enumerate(samples[0]) if is_floating(x.dtype)]
    scanned = [i for i in range(len(samples[0])) if i not in real[1:]]
    xs = [Tensor(np.stack([sample[i] for sample in samples]), requires_grad=i in real) for i in scanned]
    parameters = {i: Tensor(samples[0][i], requires_grad=True) for i in real[1:]}

    def step(carry: Tensor, x: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inputs = {**dict(zip(scanned, x)), **parameters}
        if real:
            inputs[real[0]] = inputs[real[0]] * (1 + 0.01 * carry)
        ys = tuple(y for _, y in leaves(function(*(inputs[i] for i in sorted(inputs))), "output"))
        for y in ys if differentiable else ():
            carry = carry + 0.1 * ops.sum(y)
        return ops.tanh(carry), ys

    carry = Tensor(np.array(0.3), requires_grad=True)
    last, ys = scan(step, carry, tuple(xs), compiled=compiled)
    outputs = {"the carry": last, **{f"output {k}": y for k, y in enumerate(ys)}}
    results = dict(outputs)
    targets = {"the carry": carry, **{f"input {i}": x for i, x in zip(scanned, xs) if x.requires_grad}}
    targets |= {f"input {i}": p for i, p in parameters.items()}
    random = np.random.default_rng(0)
    for order in ("first", "recorded first", "second") if differentiable else ():
        differentiated = [y for y in outputs.values() if y.requires_grad]
        weights = [random.standard_normal(y.shape) for y in differentiated]
        found = grad(
            differentiated, list(targets.values()), weights, create_graph=order == "recorded first", retain_graph=True,
            allow_unused=True,
        )  # fmt: skip
        derivatives = {f"the {order} derivative by {n}": g for n, g in zip(targets, found) if g is not None}
        results |= derivatives
        outputs = derivatives if order == "recorded first" else outputs
    return {name: np.asarray(to_host(y.data)) for name, y in results.items()}
