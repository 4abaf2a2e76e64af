from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru.optim import Adam, AdamW


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("eps", [1e-8, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.6), (0.0, 0.9)])
@pytest.mark.parametrize("optimizer_class", [Adam, AdamW])
def test_equals_torch(equals_torch, optimizer_class, betas, eps, weight_decay, amsgrad):
    equals_torch(optimizer_class, lr=0.1, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


@pytest.mark.parametrize("optimizer_class", [Adam, AdamW])
def test_defaults_equal_torch(equals_torch, optimizer_class):
    equals_torch(optimizer_class)


@pytest.mark.parametrize("optimizer_class", [Adam, AdamW])
def test_equals_frozen(equals_frozen, optimizer_class):
    equals_frozen(optimizer_class)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_first_step_is_lr_for_gradients_of_any_size(parameter, scale):
    tensor = parameter([1.0, 1.0], [scale, -scale])
    Adam([tensor], lr=0.01).step()
    np.testing.assert_allclose(tensor.numpy(), [0.99, 1.01], rtol=1e-6)


def test_adamw_decays_weights_without_a_gradient_term(parameter):
    tensor = parameter([2.0], [0.0])
    AdamW([tensor], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(tensor.numpy(), [2.0 * (1 - 0.1 * 0.5)])
