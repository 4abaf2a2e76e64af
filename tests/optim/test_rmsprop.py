from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor
from tinygrad_gru.optim import RMSprop


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 0.01])
@pytest.mark.parametrize(("alpha", "centered"), [(0.0, False), (0.9, False), (0.9, True)])
def test_equals_torch(equals_torch, alpha, centered, eps, weight_decay, momentum):
    equals_torch(
        RMSprop, lr=0.05, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
    )


def test_defaults_equal_torch(equals_torch):
    equals_torch(RMSprop)


def test_equals_frozen(equals_frozen):
    equals_frozen(RMSprop)


def test_a_constant_gradient_does_not_make_the_centered_variance_negative(parameter, apply):
    tensor = parameter(np.zeros(1000), dtype="float32")
    gradient = np.random.default_rng(0).standard_normal(1000).astype("float32")
    apply(RMSprop([tensor], alpha=0.5, centered=True), [[gradient]] * 60)
    assert np.isfinite(tensor.numpy()).all()


@pytest.mark.parametrize("settings", [{}, {"centered": True}, {"momentum": 0.9}])
def test_half_precision_parameters_with_zero_gradient_do_not_change(settings):
    x = Tensor(np.array([1.0, 2.0], np.float16), requires_grad=True)
    optimizer = RMSprop([x], **settings)  # eps = 1e-8 is 0 in float16
    (x * 0.0).sum().backward()
    optimizer.step()
    assert x.tolist() == [1.0, 2.0]


def test_half_precision_updates_are_computed_in_float32():
    """The square of a small gradient is 0 in float16."""
    moved = []
    for dtype in (np.float16, np.float32):
        x = Tensor(np.array([1.0], dtype), requires_grad=True)
        optimizer = RMSprop([x], lr=1e-2)
        for _ in range(3):
            x.grad = Tensor(np.array([1e-4], dtype))
            optimizer.step()
        moved.append(x.item())
    assert moved[0] == pytest.approx(moved[1], abs=2e-3) and moved[1] < 0.9
