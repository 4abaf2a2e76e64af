"""Agreement of both modes on a step: values, and gradients of all outputs together and of each alone."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, explain, grad, scan
from tinygrad_gru.scan import api as scan_api
from tinygrad_gru.scan.eager import scan_eager
from tinygrad_gru.scan.tracing.traced_array import TracedArray

LENGTH = 7
H = (3, 4)  # the shape of a state


def leaves(rng, shapes, *lead):
    return [Tensor(rng.standard_normal((*lead, *shape)), requires_grad=True) for shape in shapes]


def packed(tensors):
    """The structure that `scan` takes: None, one Tensor, or a tuple."""
    return tuple(tensors) if len(tensors) > 1 else tensors[0] if tensors else None


def unpacked(tensors):
    return list(tensors) if isinstance(tensors, tuple) else [] if tensors is None else [tensors]


def run(step, carry, xs, closure=(), **options):
    """All outputs of a scan of step(carry, x, *closure)."""
    last, ys = scan(lambda h, x: step(h, x, *closure), packed(carry), packed(xs), **options)
    return [*unpacked(last), *unpacked(ys)]


def gradients(outputs, inputs):
    """The gradient of a weighted sum of the outputs for every input; zeros where there is none."""
    random = np.random.default_rng(0)
    weights = [Tensor(random.standard_normal(y.shape).astype(y.dtype)) for y in outputs]
    differentiable = [(y, w) for y, w in zip(outputs, weights) if y.requires_grad]
    found = grad(
        [y for y, _ in differentiable], inputs, [w for _, w in differentiable], allow_unused=True, retain_graph=True
    )
    return [np.zeros(x.shape, x.dtype) if g is None else g.numpy() for x, g in zip(inputs, found)]


def assert_close(compiled, eager, tolerance=1e-10):
    for a, b in zip(compiled, eager, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@contextmanager
def really_compiling():
    """In this block a step that cannot be compiled is an error; a nested scan runs eagerly, on traced arrays."""

    def refuse(step, carry, xs, **options):
        if isinstance(unpacked(carry)[0].data, TracedArray):
            return scan_eager(step, carry, xs, **options)
        raise AssertionError(explain(step, carry, xs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_api, "scan_eager", refuse)
        yield


def assert_modes_agree(step, carry, xs=(), closure=(), tolerance=1e-10, mode=True, **options):
    """Compare values, and gradients of all outputs together and of each alone; raise if the step is not compiled."""
    eager = run(step, carry, xs, closure, compiled=False, **options)
    with really_compiling():
        compiled = run(step, carry, xs, closure, compiled=mode, **options)
    assert_close([y.numpy() for y in compiled], [y.numpy() for y in eager], tolerance)
    inputs = [x for x in (*carry, *xs, *closure) if x.requires_grad]
    for used in ([*range(len(eager))], *([k] for k in range(len(eager)))):
        if any(eager[k].requires_grad for k in used):
            both = ([outputs[k] for k in used] for outputs in (compiled, eager))
            assert_close(*(gradients(outputs, inputs) for outputs in both), tolerance)


def results_of_layer(layer, x, mode):
    """Output, state, and the gradients of the input and of all parameters, with recurrences in that mode."""
    layer.zero_grad()
    x = Tensor(x, requires_grad=True)
    with compiling(mode):
        output, state = layer(x)
    (output * np.linspace(-1, 1, output.size, dtype=str(output.dtype)).reshape(output.shape)).sum().backward()
    states = state if isinstance(state, tuple) else (state,)
    return [output.numpy(), *(s.numpy() for s in states), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]
