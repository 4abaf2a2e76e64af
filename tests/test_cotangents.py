"""Accumulation of cotangents: sums, and which arrays may be added to in place."""

from __future__ import annotations

import subprocess
import sys
import weakref

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import grad, op, ops


def test_gradients_accumulate_over_uses_and_over_backward_calls():
    x = leaf([1.0, 2.0])
    (x * x + 3.0 * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]
    x.zero_grad()
    assert x.grad is None


def test_a_cotangent_shared_by_two_inputs_is_not_added_to_in_place():
    """z = (a + b) + a: the rule of + returns one array for both; adding to a's in place would change b's."""
    a, b = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    ((a + b) + a).backward(np.ones(2))
    assert a.grad.tolist() == [2.0, 2.0] and b.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_own_their_arrays(create_graph):
    a, b, cotangent = leaf([1.0, 1.0]), leaf([1.0, 1.0]), np.ones(2)
    y = a + b
    y.retain_grad()
    y.backward(cotangent, create_graph=create_graph)
    a.grad.data[0] = 9.0
    cotangent[1] = 7.0
    assert a.grad.tolist() == [9.0, 1.0] and b.grad.tolist() == y.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_returned_gradients_own_their_arrays(create_graph):
    x, cotangent = leaf([1.0, 1.0]), np.ones(2)
    h, k = ops.tanh(x), ops.sin(x)
    first, second, third = grad(h + k, [h, k, x], cotangent, create_graph=create_graph)
    assert not any(
        np.shares_memory(p, q)
        for p, q in (
            (first.data, second.data),
            (first.data, cotangent),
            (third.data, cotangent),
            (first.data, third.data),
        )
    )
    assert first.data.flags.writeable


def test_an_array_that_nothing_else_refers_to_is_the_gradient_without_a_copy():
    """What a rule makes is given out as it is; what it keeps, or a view of that, is copied."""
    made, kept = [], []

    @op
    def doubled(x):
        return 2 * x

    def fresh(g):
        made.append(weakref.ref(array := 2 * g))
        return array

    def keeping(g):
        kept[:] = kept or [2 * g]
        return kept[0]

    for rule, is_own in ((fresh, True), (keeping, False), (lambda g: keeping(g)[:], False)):
        doubled.vjp(x=rule)
        x = leaf([1.0, 1.0])
        doubled(x).sum().backward()
        assert (made[-1]() is x.grad.data) == is_own
        x.grad.data[0] = 9.0
    assert kept[0].tolist() == [2.0, 2.0]


_IMPORTED_UNDER_A_DEBUGGER = """
import sys

def look(frame, event, argument):
    if frame.f_code.co_name != "<module>":
        frame.f_locals  # as a debugger does
    return look

sys.settrace(look)
from tinygrad_gru import Tensor
sys.settrace(None)
a, b = Tensor([1.0, 1.0], requires_grad=True), Tensor([1.0, 1.0], requires_grad=True)
(a + b).exp().sum().backward()
a.grad.data[0] = 9.0
print(b.grad.data[0] != 9.0)
"""


def test_a_debugger_that_looks_at_the_import_does_not_let_two_leaves_share_a_gradient():
    code = [sys.executable, "-c", _IMPORTED_UNDER_A_DEBUGGER]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_second_backward_does_not_write_into_the_first_gradient():
    x = leaf([1.0])
    x.sum().backward()
    held = x.grad
    x.sum().backward()
    assert held.tolist() == [1.0] and x.grad.tolist() == [2.0]


def test_a_given_cotangent_is_not_written_into():
    x, cotangent = leaf([1.0, 2.0]), np.ones(2)
    h = x * 1.0
    (h + h + h).backward(cotangent)
    assert cotangent.tolist() == [1.0, 1.0] and x.grad.tolist() == [3.0, 3.0]
