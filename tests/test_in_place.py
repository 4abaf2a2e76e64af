"""In-place changes between forward and backward: of leaves, of modules' parameters, of what remat recomputes with."""

from __future__ import annotations

import operator
import sys

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import (
    AnomalyError,
    TapeError,
    Tensor,
    compiling,
    detect_anomaly,
    enable_grad,
    grad,
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


# -- in-place operators ----------------------------------------------------------------------------------------------

OPERATORS = [
    (operator.iadd, operator.add),
    (operator.isub, operator.sub),
    (operator.imul, operator.mul),
    (operator.itruediv, operator.truediv),
    (operator.ipow, operator.pow),
    (operator.ifloordiv, operator.floordiv),
    (operator.imod, operator.mod),
]


@pytest.mark.parametrize(("in_place", "plain"), OPERATORS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", [2.0, "array", "constant"])
def test_an_in_place_operator_writes_a_leaf_under_no_grad(in_place, plain, other, backend):
    values, operand = np.array([1.5, 4.0]), np.array([2.0, 3.0])
    x = Tensor(values, requires_grad=True, device=backend)
    array, alias = x.data, x
    other = {"array": x.data * 0 + 2.0, "constant": Tensor(operand, device=backend)}.get(other, other)
    with no_grad():
        x = in_place(x, other)
    assert x is alias and x.data is array and x.requires_grad and x.is_leaf
    expected = plain(values, operand if isinstance(other, Tensor) else 2.0)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("in_place", "plain"), OPERATORS, ids=lambda f: f.__name__)
def test_an_in_place_operator_on_a_leaf_outside_of_no_grad_is_refused(in_place, plain):
    x = leaf([1.5, 4.0])
    x.name = "W"
    with pytest.raises(
        TapeError, match=r"would write into a leaf that requires a gradient \(W \(2,\)\).*`with no_grad"
    ):
        in_place(x, 2.0)
    assert x.tolist() == [1.5, 4.0]


def test_gradient_descent_by_hand_trains(layers):
    """The loop that every user of PyTorch writes once; PyTorch's own result is the oracle."""
    torch = pytest.importorskip("torch")
    layer, _, z = layers
    W = torch.tensor(layer.W.numpy(), requires_grad=True)
    with no_grad():
        layer.b *= 0.0
    layer.b.requires_grad = False
    for _ in range(2):
        (layer(z) ** 2).sum().backward()
        ((torch.tensor(z.numpy()) @ W) ** 2).sum().backward()
        with no_grad(), torch.no_grad():
            for p in layer.parameters():
                if p.grad is None:  # frozen
                    continue
                p -= 0.1 * p.grad
                p.zero_grad()
            W -= 0.1 * W.grad
            W.grad = None
            layer.b *= 0.0
    np.testing.assert_allclose(layer.W.numpy(), W.detach().numpy(), rtol=1e-5)


def test_backward_through_records_from_before_an_in_place_operator_raises():
    x = leaf([1.0, 2.0])
    x.name = "W"
    y = (x * x).sum()
    with no_grad():
        x -= 0.5
    with pytest.raises(TapeError, match=r"W \(2,\) was changed in place after #\d+ hadamard"):
        y.backward()


def test_in_place_operators_on_a_constant_change_it_under_all_of_its_names():
    for block in (no_grad, enable_grad):
        with block():
            x = constant([1.0, 2.0])
            alias = x
            x += 1.0
            x *= [2.0, 3.0]
            assert alias is x and alias.tolist() == [4.0, 9.0]
    mask = Tensor([True, False])
    mask &= Tensor([True, True])
    mask |= Tensor([False, False])
    mask ^= Tensor([True, True])
    assert mask.tolist() == [False, True]
    count = Tensor(3)
    count //= 2
    count += 4
    assert count.item() == 5 and count.dtype == np.int64


def test_in_place_operators_on_a_constant_do_not_change_what_records_saved():
    c, w = constant([1.0, 2.0]), leaf([3.0, 4.0])
    y = (c * w).sum()
    c += 100.0
    y.backward()
    assert w.grad.tolist() == [1.0, 2.0] and c.tolist() == [101.0, 102.0]


def test_in_place_operators_on_records_are_recorded():
    """As in PyTorch, which is the oracle; where PyTorch refuses because it wrote what a record saved, this is right."""
    torch = pytest.importorskip("torch")

    def run(x, w, zeros):
        total = zeros
        for _ in range(3):
            h = x * w
            alias = h
            h += w
            h *= 2.0
            total += (alias * x).sum()
        return total

    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    run(x, w, constant(0.0)).backward()
    tx, tw = (torch.tensor(t.numpy(), requires_grad=True) for t in (x, w))
    run(tx, tw, torch.zeros((), dtype=torch.float64)).backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy())
    np.testing.assert_allclose(w.grad.numpy(), tw.grad.numpy())
    y = leaf([1.0]).exp()
    y += 1.0  # exp has saved its output
    y.backward()


def test_a_matrix_product_in_place():
    x, m = constant(np.eye(2)), np.array([[0.0, 1.0], [1.0, 0.0]])
    x @= m
    assert x.tolist() == m.tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda: operator.iadd(constant([1.0]), np.ones((2, 1))),
            ValueError,
            r"the result has shape \(2, 1\), and this",
        ),
        (
            lambda: operator.itruediv(Tensor([1, 2]), 2),
            TypeError,
            "the result is float32, and this tensor int64; write",
        ),
        (lambda: operator.iadd(Tensor([True]), 1), TypeError, "the result is int64, and this tensor bool"),
        (lambda: no_grad()(operator.iadd)(leaf([1.0]) * 2.0, 1.0), TapeError, "was computed by .* hadamard .* detach"),
        (lambda: operator.iadd(constant([1.0]), "a"), TypeError, "add"),
    ],
)
def test_an_in_place_operator_that_would_change_shape_dtype_or_a_record_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        change()


def test_in_place_operators_keep_the_dtype():
    """As in NumPy and PyTorch."""
    x = Tensor([1.0, 2.0])
    x += np.ones(2)
    assert x.dtype == np.float32 and x.tolist() == [2.0, 3.0]


def test_a_frozen_parameter_takes_values_but_no_record():
    x = leaf([1.0])
    x.requires_grad = False
    x += 1.0
    with pytest.raises(TapeError, match="into a frozen parameter"):
        x += leaf([1.0])
    x.requires_grad = True
    assert x.tolist() == [2.0] and x.node.grad_state.array is x.data


@pytest.mark.parametrize("start", [constant([1.0]), leaf([1.0]), leaf([1.0]) * 1.0], ids=["constant", "leaf", "record"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_of_a_scan_may_change_its_state_in_place(compiled, start):
    """It changes the step's own Tensor, neither the initial state nor former outputs."""
    xs = leaf([[1.0], [2.0], [3.0]])

    def step(h, x):
        h += x
        return h

    last, ys = scan(step, start, xs, compiled=compiled)
    assert start.tolist() == [1.0] and ys.tolist() == [[2.0], [4.0], [7.0]] and last.tolist() == [7.0]
    assert grad(ys.sum(), xs).tolist() == [[3.0], [2.0], [1.0]]
    if start.requires_grad:
        assert grad(scan(step, start, xs, compiled=compiled)[1].sum(), start).tolist() == [3.0]


def test_under_no_grad_a_step_does_not_write_a_leaf_that_is_the_initial_state():
    start = leaf([1.0])

    def step(h, x):
        h += x
        return h

    with no_grad(), compiling(False):
        assert scan(step, start, constant([[1.0], [2.0]]))[0].tolist() == [4.0]
    assert start.tolist() == [1.0]


def test_a_step_that_changes_what_it_closes_over_runs_eagerly():
    total = constant([0.0])

    def step(h, x):
        nonlocal total
        total += x
        return h + x

    xs = leaf([[1.0], [2.0]])
    with pytest.warns(Warning, match="it changes a Tensor outside of it"):
        scan(step, constant([0.0]), xs)
    assert total.tolist() == [3.0]
    total.backward()
    assert xs.grad.tolist() == [[1.0], [1.0]]


def test_remat_of_a_function_that_changes_its_input_in_place():
    """The expected gradient is by hand: y = (2 x)² · w."""

    def f(h, w):
        h *= 2.0
        return h * h * w

    x, w = leaf(3.0), leaf(5.0)
    remat(f, x * 1.0, w).backward()
    assert x.grad.item() == 8 * 3 * 5 and w.grad.item() == 36


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
    assert not model.trainable and [name for name, _ in model.named_parameters()] == before
    assert [name for name, p in model.unfreeze().named_parameters() if p.requires_grad] == before
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


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its references do not tell a temporary from a name")
@pytest.mark.parametrize(
    "statement",
    [
        "x[0][1] = 5.0",
        "x[0][1] += 1.0",
        "x.view(-1)[0] = 5.0",
        "x.T[0] = 5.0",
        "x.detach()[0] = 5.0",
        "(x + 1)[0] = 5.0",
    ],
)
def test_a_write_into_a_tensor_without_a_name_is_refused(statement):
    x = Tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"no name, so that it would be lost.*write x\[i, j\] = … for x\[i\]\[j\] = …"):
        exec(statement, {"x": x})
    assert not x.numpy().any()


def test_a_write_into_a_tensor_with_any_name_is_not():
    x, several, layer = Tensor(np.zeros(2)), [Tensor(np.zeros(2))], nn.Linear(2, 3)
    for _ in range(100):  # until the interpreter has specialised the bytecode
        x[0] = 5.0
        several[0][0] = 5.0
        x.__setitem__(1, 5.0)
        operator.setitem(x, 1, 5.0)
        for t in (Tensor(np.zeros(2)) for _ in range(2)):
            t[0] = 5.0
        with no_grad():
            layer.W[0] = 5.0
            next(layer.parameters())[1] = 5.0
            dict(layer.named_parameters())["b"][0] = 5.0
    assert x.tolist() == [5.0, 5.0] and several[0].tolist() == [5.0, 0.0]
    assert layer.W.tolist() == [[5.0] * 3] * 2 and layer.b.tolist()[0] == 5.0
