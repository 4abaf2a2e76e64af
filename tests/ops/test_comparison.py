from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, ops


@pytest.mark.parametrize("other", [Tensor([2.0, 2.0, 2.0]), np.full(3, 2.0), 2.0, 2])
def test_operators(other):
    x = leaf([1.0, 2.0, 3.0])
    for y, expected in (
        (x < other, [True, False, False]), (x <= other, [True, True, False]), (x > other, [False, False, True]),
        (x >= other, [False, True, True]), (x == other, [False, True, False]), (x != other, [True, False, True]),
        (other < x, [False, False, True]), (other >= x, [True, True, False]), (other == x, [False, True, False]),
    ):  # fmt: skip
        assert type(y) is Tensor and y.dtype == bool and y.tolist() == expected and not y.requires_grad


def test_results_are_constants():
    x = leaf([[1.0, 3.0, 2.0]])
    for y in (
        ops.argmax(x),
        ops.argmin(x, axis=1),
        ops.isfinite(x),
        x > 1,
        ops.sign(x),
        ops.one_hot(Tensor([1]), depth=2),
    ):
        assert not y.requires_grad


def test_the_first_of_equals_is_chosen():
    assert ops.argmax(Tensor([1.0, 3.0, 3.0])).item() == 1 and Tensor([2.0, 1.0, 1.0]).argmin(0).item() == 1
    assert Tensor([[1.0, 5.0], [7.0, 0.0]]).argmax().item() == 2


def test_isfinite():
    assert ops.isfinite(Tensor([1.0, np.inf, -np.inf, np.nan])).tolist() == [True, False, False, False]


def test_a_comparison_may_choose():
    x = leaf([-1.0, 2.0])
    ops.where(x > 0, x, 0.1 * x).sum().backward()
    assert x.grad.tolist() == [0.1, 1.0]


def test_tensors_are_found_in_dictionaries_by_identity():
    x, y = leaf([1.0]), leaf([1.0])
    assert {x: "x", y: "y"}[x] == "x" and x in {x} and y not in {x}
