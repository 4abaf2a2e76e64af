"""Fixtures of the optimizer tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru import Tensor

SHAPES = [(3, 4), (5,), (), (2, 0), (2, 1, 3)]


@pytest.fixture
def parameter(device):
    """A factory of parameters, with a gradient if one is given."""

    def make(values, gradient=None, dtype="float64"):
        made = Tensor(np.asarray(values, dtype=dtype), requires_grad=True, device=device)
        if gradient is not None:
            made.grad = Tensor(np.asarray(gradient, dtype=dtype), device=device)
        return made

    return make


@pytest.fixture
def random_steps(parameter):
    """Parameters, and the gradients of all for each of a number of steps; two of them are None."""

    def make(steps, seed=0, dtype="float64", shapes=SHAPES):
        rng = np.random.default_rng(seed)
        parameters = [parameter(rng.standard_normal(shape), dtype=dtype) for shape in shapes]
        gradients = [[np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in shapes] for _ in range(steps)]
        if steps > 2:
            gradients[0][1] = gradients[2][0] = None
        return parameters, gradients

    return make


@pytest.fixture
def apply(device):
    """Steps an optimizer through given gradients."""

    def run(optimizer, gradients):
        for row in gradients:
            for tensor, gradient in zip(optimizer.parameters(), row, strict=True):
                tensor.grad = None if gradient is None else Tensor(gradient, device=device)
            optimizer.step()

    return run


@pytest.fixture
def equals_torch(random_steps, apply):
    """Runs one of our optimizers beside its namesake in PyTorch, in float64, compared after every step."""
    torch = pytest.importorskip("torch")

    def compare(optimizer_class, **settings):
        ours, gradients = random_steps(8)
        theirs = [torch.tensor(tensor.numpy(), requires_grad=True) for tensor in ours]
        mine = optimizer_class(ours, **settings)
        other = getattr(torch.optim, optimizer_class.__name__)(theirs, **settings)
        before = [tensor.numpy() for tensor in ours]
        for step, row in enumerate(gradients):
            apply(mine, [row])
            for tensor, gradient in zip(theirs, row, strict=True):
                tensor.grad = None if gradient is None else torch.tensor(gradient)
            other.step()
            for position, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                np.testing.assert_allclose(
                    a.numpy(), b.detach().numpy(), rtol=1e-11, atol=1e-13, err_msg=f"{step=} {position=}"
                )
        assert all(np.any(tensor.numpy() != old) for tensor, old in zip(ours, before, strict=True) if old.size)

    return compare


@pytest.fixture
def equals_frozen(parameter, apply):
    """Runs one of our optimizers through every case that make_frozen.py has written for it."""
    frozen = json.loads(Path(__file__).with_name("frozen.json").read_text())

    def compare(optimizer_class):
        cases = [case for case in frozen["cases"] if case["optimizer"] == optimizer_class.__name__]
        assert len(cases) >= 2
        for case in cases:
            tensor = parameter(frozen["start"])
            optimizer = optimizer_class([tensor], **case["settings"])
            for gradient, expected in zip(frozen["gradients"], case["trajectory"], strict=True):
                apply(optimizer, [[np.array(gradient)]])
                np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-11, atol=1e-13)

    return compare
