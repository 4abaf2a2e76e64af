"""Multi-output records: cotangents by output, unused outputs, second order, and the tape."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, grad, ops, tape
from tinygrad_gru.ops.multi_output import record_multi_output


class Halves:
    """An op x ↦ (x[:2], x[2:]) that remembers the cotangents that its vjp is given."""

    __name__ = "halves"

    def __init__(self):
        self.given = []

    def apply_vjp(self, parents, saved, cotangents, accumulate):
        self.given.append([None if g is None else type(g).__name__ for g in cotangents])
        missing = next(g for g in cotangents if g is not None) * 0.0
        accumulate(parents[0], ops.concatenate([missing if g is None else g for g in cotangents]))

    def lift(self, tensor_type, record):
        return ()


@pytest.fixture
def halves():
    op, x = Halves(), leaf([1.0, 2.0, 3.0, 4.0])
    return op, x, record_multi_output(Tensor, op, (x.node,), (), [x.data[:2], x.data[2:]])


def test_cotangents_reach_the_op_as_one_list(halves):
    op, x, (a, b) = halves
    (a * 2.0 + b * 3.0 + a).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 3.0, 3.0] and op.given == [["ndarray", "ndarray"]]


@pytest.mark.parametrize(
    ("used", "given", "expected"), [(0, ["ndarray", None], [1, 1, 0, 0]), (1, [None, "ndarray"], [0, 0, 1, 1])]
)
def test_the_cotangent_of_an_unused_output_is_none(halves, used, given, expected):
    op, x, outputs = halves
    outputs[used].sum().backward()
    assert op.given == [given] and x.grad.tolist() == expected


def test_cotangents_are_tensors_with_create_graph(halves):
    op, x, (a, _) = halves
    v = leaf([1.0, 1.0])
    g = grad(a, x, v, create_graph=True)
    assert op.given == [["Tensor", None]] and grad(g.sum(), v).tolist() == [1.0, 1.0]


def test_the_tape_shows_the_record_and_its_outputs(halves):
    _, _, (a, b) = halves
    assert [record.op.__name__ for record in tape(a, b)] == ["halves", "output", "output"]
    assert np.array_equal(a.numpy(), [1.0, 2.0])
