"""Anomaly mode: the first value that is not finite is named, with its cause and location."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import AnomalyError, TapeError, Tensor, detect_anomaly, grad, nn, ops
from tinygrad_gru.cotangents import Sparse
from tinygrad_gru.ops import op
from tinygrad_gru.tape import inspector

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of NaNs and infinities


def test_the_first_op_that_gives_an_infinity_is_named_with_the_ranges_of_its_operands():
    x = leaf([1.0, 0.0, 4.0])
    with pytest.raises(AnomalyError) as caught, detect_anomaly():
        h = x * 2.0
        ops.log(h).sum()
    message = str(caught.value)
    assert message.startswith("log gave a value that is not finite, its inputs were finite; in the program, at ")
    assert "test_anomaly.py:" in message and "ops.log(h).sum()" in message
    assert "input 0: (3,) float64, 0 … 8, 0 NaN; result: (3,) float64, -inf … 2.079, 0 NaN" in message


def test_a_value_that_came_in_through_an_input_is_distinguished():
    expected = r"(?s)add gave .* it came in through input 1; .*input 1: \(2,\) float64, 1 … 1, 1 NaN"
    with pytest.raises(AnomalyError, match=expected), detect_anomaly():
        constant([1.0, 1.0]) + np.array([1.0, np.nan])


def test_scalars_among_the_operands():
    with pytest.raises(AnomalyError, match=r"(?s)divide gave .*input 1: 0\.0"), detect_anomaly():
        constant([1.0]) / 0.0
    with pytest.raises(AnomalyError, match="it came in through input 1"), detect_anomaly():
        constant([1.0]) * float("inf")


def test_the_module_path_is_named():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 2)

        def forward(self, x):
            return self.head(x)

    model = Model()
    model.head.W.data[...] = np.inf
    with pytest.raises(AnomalyError, match=r"matmul gave .*in .*head"), detect_anomaly():
        model(Tensor([[1.0, 2.0]]))


def test_a_gradient_that_is_not_finite_names_the_rule_and_the_line_of_its_op():
    x = leaf([0.0, 4.0])
    expected = r"the gradient that sqrt gives to its input 0 is not finite .*; ∂x = g / \(2 \* y\); .*test_anomaly\.py"
    with pytest.raises(AnomalyError, match=expected), detect_anomaly():
        y = ops.sqrt(x * 1.0)  # the slope at 0 is infinite
        y.sum().backward()


@pytest.mark.parametrize("through", ["backward", "grad"])
def test_the_rule_of_an_op_on_a_leaf_is_checked(through):
    x = leaf([0.0, 4.0])
    with pytest.raises(AnomalyError, match=r"sqrt gives to its input 0 is not finite .*inf"), detect_anomaly():
        y = ops.sqrt(x).sum()
        y.backward() if through == "backward" else grad(y, x)


def test_pieces_of_a_sparse_gradient_are_checked():
    @op
    def multiplied(x):
        return 2 * x

    multiplied.vjp(x=lambda g: Sparse((2,), [((slice(0, 1),), g[:1] * np.inf)], None))
    x = leaf([1.0, 4.0])
    with pytest.raises(AnomalyError, match="multiplied gives to its input 0"), detect_anomaly():
        multiplied(x).backward([1.0, 1.0])


def test_a_sum_of_gradients_that_overflows_is_found():
    x = leaf([1.0], dtype="float16")
    with (
        pytest.raises(AnomalyError, match=r"the gradient of #\d+ leaf \(1,\) is not finite .* a sum of them"),
        detect_anomaly(),
    ):
        grad([x * 4e4, x * 4e4], x)


def test_a_hook_that_returns_an_infinite_gradient_is_found():
    x = leaf([1.0])
    x.register_hook(lambda g: g * np.inf)
    with pytest.raises(AnomalyError), detect_anomaly():
        (x * 2.0).sum().backward()


def test_the_cotangent_of_a_leaf_is_checked():
    x = leaf([1.0])
    with pytest.raises(AnomalyError, match="the gradient of #"), detect_anomaly():
        x.backward([np.nan])


def test_with_create_graph_the_op_of_the_rule_is_named():
    """Then the rules are recorded too."""
    x = leaf([0.0])
    with pytest.raises(AnomalyError, match="divide gave a value that is not finite"), detect_anomaly():
        grad(ops.sqrt(x * 1.0).sum(), x, create_graph=True)


@pytest.mark.parametrize("which", range(3))
def test_saved_tuples_and_integers_are_checksummed_too(which):
    @op
    def total(*xs):
        return xs[0] * xs[1] * xs[2]

    total.vjp(xs=lambda g, i, xs: g * xs[i - 1] * xs[i - 2])
    inputs = [np.array([1.0, 2.0]), np.array([3, 4]), np.array([True, False])]
    x = Tensor([1.0, 1.0], requires_grad=True)
    with detect_anomaly():
        y = total(x, *inputs[:2]) if which < 2 else ops.where(inputs[2], x, 0.0)
        np.logical_not(inputs[which], out=inputs[which], casting="unsafe")
        with pytest.raises(AnomalyError, match="was written before backward"):
            y.sum().backward()


def test_a_saved_value_that_was_overwritten_unlogged_is_found():
    x = leaf([1.0, 2.0])
    h = ops.exp(x)
    with detect_anomaly():
        h = ops.exp(x)
        h.data[0] = 5.0  # no version counter sees this
        with pytest.raises(AnomalyError, match=r"an array that #\d+ exp .* had saved was written before backward"):
            h.sum().backward()


def test_finite_programs_give_the_same_gradients():
    def program():
        x = leaf([0.3, 0.5])
        (ops.tanh(x) * x + ops.softmax(x)).sum().backward()
        return x.grad.tolist()

    expected = program()
    with detect_anomaly():
        assert program() == expected


def test_records_from_before_the_block_can_be_differentiated_in_it():
    x = leaf([1.0])
    y = x * x
    with detect_anomaly():
        y.backward()
    assert x.grad.tolist() == [2.0]
    h = ops.sqrt(leaf([0.0]) * 1.0)
    with pytest.raises(AnomalyError, match="recorded before anomaly mode began"), detect_anomaly():
        h.backward()


def test_integers_and_booleans_are_always_finite():
    with detect_anomaly():
        assert (Tensor([1, 2]) > 1).tolist() == [False, True]
        assert ops.where(Tensor([True, False]), Tensor([1.0]), 2).tolist() == [1.0, 2.0]


def test_nothing_is_checked_outside_of_the_block():
    with pytest.raises(AnomalyError), detect_anomaly():
        constant([1.0]) / 0.0
    assert inspector.get() is None
    assert (constant([1.0]) / 0.0).tolist() == [np.inf]


def test_blocks_nest():
    with detect_anomaly():
        with detect_anomaly():
            pass
        with pytest.raises(AnomalyError):
            constant([1.0]) / 0.0


def test_an_anomaly_is_a_floating_point_error_and_not_a_tape_error():
    assert issubclass(AnomalyError, FloatingPointError) and not issubclass(AnomalyError, TapeError)


def test_it_works_on_every_backend(backend):
    x = Tensor(backend.asarray([1.0, 0.0]), requires_grad=True)
    with pytest.raises(AnomalyError, match="log gave a value that is not finite"), detect_anomaly():
        ops.log(x)
    with detect_anomaly():
        (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0]
