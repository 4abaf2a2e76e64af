"""In-place changes between forward and backward: of leaves, of modules' parameters, of what remat recomputes with."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import (
    AnomalyError,
    TapeError,
    Tensor,
    compiling,
    detect_anomaly,
    nn,
    no_grad,
    ops,
    optim,
    remat,
    scan,
)


def changed(x):
    with no_grad():
        x.data[...] = 7.0
    x.mark_changed()


@pytest.mark.parametrize(
    "change",
    [changed, lambda x: x.__setattr__("data", x.data.__iadd__(1.0)), lambda x: no_grad()(x.__setitem__)(0, 5.0)],
)
def test_changing_a_saved_leaf_raises_and_names_it(change):
    x = leaf([1.0, 2.0])
    x.name = "gru.W_r"
    y = (x * x).sum()
    change(x)
    with pytest.raises(TapeError, match=r"gru\.W_r \(2,\) was changed in place after #\d+ hadamard .* had saved it"):
        y.backward()


def test_in_place_operators_on_data_are_detected():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data += 1.0
    x.data *= 2.0
    assert x.tolist() == [4.0, 6.0]
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_change_is_detected_through_a_chain_of_views():
    x = leaf(np.ones((2, 3)))
    y = (x.reshape(6)[1:4].expand_dims(0).T[::-1, 0] * leaf(np.ones(3))).sum()
    changed(x)
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_change_of_a_leaf_that_no_record_saved_is_harmless():
    x = leaf([1.0, 2.0])
    y = (x * 2.0 + 1.0).sum()  # no record has saved x
    changed(x)
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_change_before_the_record_is_harmless():
    x = leaf([1.0, 2.0])
    changed(x)
    y = (x * x).sum()
    y.backward()
    assert x.grad.tolist() == [14.0, 14.0]


def test_a_change_between_two_records_is_harmless_to_the_later_one():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    early = w * w
    changed(x)
    (early + x * x).sum().backward()
    assert x.grad.tolist() == [14.0, 14.0] and w.grad.tolist() == [6.0, 8.0]


def test_a_change_between_training_steps_is_harmless():
    x = leaf([1.0])
    for _ in range(3):
        x.zero_grad()
        (x * x).sum().backward()
        x.data -= 0.25 * x.grad.data
    assert x.tolist() == [0.125]


def test_a_change_of_one_leaf_is_harmless_to_records_of_another():
    x, w = leaf([1.0]), leaf([2.0])
    y = (x * 2.0) * w  # keeps x * 2 and w, not x
    changed(x)
    y.backward()
    assert x.grad.tolist() == [4.0]


def test_changing_the_input_is_harmless_if_only_the_output_was_saved():
    x = leaf([0.5])
    y = ops.tanh(x)
    changed(x)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(0.5) ** 2)


def test_turning_requires_grad_off_and_on_does_not_hide_a_change():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.requires_grad = False
    x.requires_grad = True
    x.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_setting_data_to_another_array_is_harmless():
    """The record holds the old array; only the leaf has another one."""
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data = np.array([5.0, 6.0])
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0] and x.tolist() == [5.0, 6.0]


def test_anomaly_mode_detects_writes_through_numpy():
    """The write log does not see them."""
    for saved in (constant([3.0, 4.0]), leaf([3.0, 4.0])):
        x = leaf([1.0, 2.0])
        with detect_anomaly():
            y = (x * saved.detach()).sum()
            np.add(saved.data, 1.0, out=saved.data)
            with pytest.raises(AnomalyError, match="was written before backward"):
                y.backward()


# -- modules ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers():
    generator, discriminator = nn.Linear(2, 3), nn.Linear(3, 1)
    return generator, discriminator, Tensor(np.ones((4, 2), np.float32))


def test_an_optimizer_step_of_a_frozen_module_before_backward_raises(layers):
    """The wrong order for a GAN: the discriminator is stepped before backward of the generator's loss."""
    generator, discriminator, z = layers
    step = optim.SGD(discriminator.parameters(), lr=0.1)
    loss = discriminator.freeze()(generator(z)).sum()
    discriminator.unfreeze()
    discriminator(generator(z).detach()).sum().backward()
    step.step()
    with pytest.raises(TapeError, match=r"Linear\.W \(3, 1\) was changed in place"):
        loss.backward()


def test_loading_weights_of_a_frozen_module_before_backward_raises(layers):
    generator, discriminator, z = layers
    loss = discriminator.freeze()(generator(z)).sum()
    discriminator.load_state_dict({name: value + 1 for name, value in discriminator.state_dict().items()})
    with pytest.raises(TapeError, match=r"Linear\.W \(3, 1\) was changed in place"):
        loss.backward()


def test_gan_training_in_the_right_order(layers):
    """Generator first, then discriminator; the expected gradient is by the chain rule on paper."""
    generator, discriminator, z = layers
    W = discriminator.W.numpy()
    discriminator.freeze()(generator(z)).sum().backward()
    discriminator.unfreeze()
    np.testing.assert_allclose(generator.W.grad.numpy(), z.numpy().T @ np.ones((4, 1)) @ W.T, rtol=1e-6)
    assert discriminator.W.grad is None


def test_freezing_between_forward_and_backward_is_harmless(layers):
    generator, discriminator, z = layers
    W = discriminator.W.numpy()
    loss = discriminator(generator(z)).sum()
    discriminator.freeze()
    loss.backward()
    np.testing.assert_allclose(generator.W.grad.numpy(), z.numpy().T @ np.ones((4, 1)) @ W.T, rtol=1e-6)
    assert discriminator.unfreeze().W.grad is None, "what is frozen when gradients come gets none"


def test_unfreezing_restores_the_leaves_of_a_module(layers):
    """Records from before lead to them again, and a gradient that they had is kept (PyTorch agrees)."""
    _, layer, _ = layers
    x = Tensor(np.ones((2, 3), np.float32))
    early = layer(x).sum()
    layer(x).sum().backward()
    layer.freeze().unfreeze()
    early.backward()
    assert layer.W.grad.tolist() == [[4.0]] * 3
    layer.freeze().zero_grad()
    assert layer.unfreeze().W.grad is None, "a frozen parameter forgets its gradient, too"


def test_unfreeze_does_not_make_constants_parameters(layers):
    model = nn.Sequential(*layers[:2])
    model.scale = Tensor(np.ones(3, np.float32))
    before = [name for name, _ in model.named_parameters()]
    model.freeze().freeze()
    assert not list(model.parameters())
    assert [name for name, _ in model.unfreeze().named_parameters()] == before
    assert not model.scale.requires_grad


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_loading_weights_of_a_recurrence_before_backward_raises(compiled, frozen):
    layer, x = nn.GRU(2, 3), leaf(np.ones((4, 1, 2)), "float32")
    if frozen:
        layer.freeze()
    with compiling(compiled):
        y = layer(x)[0].sum()
    layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})
    with pytest.raises(TapeError, match=r"GRUCell\.\w+ .* was changed in place"):
        y.backward()


@pytest.mark.parametrize("compiled", [False, True])
def test_changing_a_constant_that_a_step_closes_over_raises(compiled):
    x, U = leaf(np.ones((3, 1, 2))), leaf(np.eye(2))

    def step(h, x):
        return ops.tanh(h @ U.detach() + x)

    y = scan(step, Tensor(np.zeros((1, 2))), x, compiled=compiled)[0].sum()
    U.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


# -- remat -----------------------------------------------------------------------------------------------------------


def test_setting_data_of_a_leaf_that_remat_closes_over_raises():
    """The gradient of w x with respect to x at x = 0, where the value is the same."""
    x, w = leaf(0.0), leaf(2.0)
    y = remat(lambda x: x * w, x)
    w.data = np.array(50.0)
    with pytest.raises(TapeError, match="was given other data after a function under remat had used it"):
        y.backward()
    assert x.grad is None


def test_a_write_through_an_alias_of_a_leaf_that_remat_closes_over_raises():
    x, w = leaf(0.0), leaf(2.0)
    y = remat(lambda x: x * w, x)
    alias = w.detach()
    alias.data[...] = 50.0
    alias.mark_changed()
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_setting_data_after_backward_through_remat_is_harmless():
    x, w = leaf(3.0), leaf(2.0)
    for value in (2.0, 50.0):
        w.data = np.array(value)
        x.zero_grad()
        remat(lambda x: x * w, x).backward()
        assert x.grad.item() == value
