"""Wrong arguments of scan and explain, and steps that return something else: the errors say what to write."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, explain, nn, ops, scan

H, X = Tensor(np.zeros((2, 3), "float32")), Tensor(np.ones((5, 2, 3), "float32"))


def returns_nothing(h, x):
    h + x


@pytest.mark.parametrize("compiled", [None, True, False])
@pytest.mark.parametrize(
    ("step", "carry", "message"),
    [
        (returns_nothing, H, r"\(is a `return` missing\?\); the step is .*test_step_errors\.py:\d+: def returns_noth"),
        (lambda h, x: [h], H, r"\(carry: expected .*; a step returns carry or the tuple \(carry, y\)\)"),
        (lambda h, x: h + x.astype("float64"), H, r"\(an x of another dtype\? `\.astype\('float32'\)` converts it\)"),
        (lambda c, x: c[0], (H, H), r"\(carry: expected \(.*\), got \(2, 3\) .*; all 2 parts of it are ret"),
        (lambda c, x: (c[0], c[1].sum()), (H, H), r"\(carry\[1\]: a state without the batch axis, or broad"),
    ],
)
def test_the_cause_of_a_carry_of_another_type(step, carry, message, compiled):
    with pytest.raises(ValueError, match=r"scan: the carry must keep .*; step 0 was given .* " + message):
        scan(step, carry, X, compiled=compiled)


def test_a_carry_that_becomes_an_array_of_the_host():
    """In eager mode: a traced array has no values to convert."""
    with pytest.raises(ValueError, match=r"scan: the carry must keep .*; step 0 was given .* \(return a Tensor, for"):
        scan(lambda h, x: h.numpy(), H, X, compiled=False)


@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize(("y", "got"), [("a", "str"), (1.0, "float"), ({"a": [H, 2]}, r"int as y\['a'\]\[1\]")])
def test_a_y_that_cannot_be_stacked(y, got, compiled):
    with pytest.raises(TypeError, match=f"scan: the y of a step must be a Tensor .*, got {got}$"):
        scan(lambda h, x: (h + x, y), H, X, compiled=compiled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, H, X), r"step must be a function step\(carry, x\), got int"),
        ((nn.GRU(3, 3), H, X), r"got the layer GRU, which is called: layer\(x\)\. .*layer\.cells\[0\]\.step"),
        ((nn.GRUCell(3, 3), H, X), r"got the cell GRUCell: scan\(cell\.step, cell\.initial_state\(batch\), x\)"),
        ((ops.add, [H, 2.0], X), r"carry must be a Tensor or a tuple, list or dict.* got float as carry\[1\]"),
        ((ops.add, H, {"x": [X, "a"]}), r"xs must be a Tensor \(T, …\), .*, or None, got str as xs\['x'\]\[1\]"),
        ((ops.add, H, Tensor(1.0)), r"xs must have a first axis of time, \(T, …\); xs is a Tensor without axes"),
        ((ops.add, H, 5), r"xs must be .*, got int"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(TypeError, match=message):
        scan(*arguments)
    with pytest.raises(TypeError, match=message.replace("scan", "explain")):
        explain(*arguments)


def test_a_module_of_cells_may_be_a_step():
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.ModuleList([nn.GRUCell(3, 3), nn.GRUCell(3, 3)])

        def forward(self, state, x):
            h = self.cells[0].step(state[0], x)
            return h, self.cells[1].step(state[1], h)

    (h, _), ys = scan(Stack(), (H, H), X, compiled=True)
    np.testing.assert_array_equal(ys[-1].numpy(), h.numpy())


def test_a_length_that_is_no_number():
    with pytest.raises(TypeError, match=r"length must be a number of steps, got 3\.0"):
        scan(ops.add, H, length=3.0)


@pytest.mark.parametrize("module", [nn.Linear(3, 4), nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 1))])
def test_explain_of_a_module_says_how(module):
    with pytest.raises(
        TypeError, match=r"got the module .* and its input\. Of a recurrent layer in it: explain\(layer"
    ):
        explain(module, X)


def test_if_of_a_tensor_with_several_elements():
    with pytest.raises(ValueError, match=r"of shape \(2, 3\) is neither true nor false: ops\.any\(x\) .* ops\.where"):
        bool(H)
    with pytest.raises(ValueError, match="neither true nor false"):
        scan(lambda h, x: h if x > 0 else x, H, X)
