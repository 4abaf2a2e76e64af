"""The tape: order, length and memory; no_grad and enable_grad."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import Tensor, enable_grad, grad, no_grad, ops, tape
from tinygrad_gru.ops import op
from tinygrad_gru.tape import Node, name_of


@contextmanager
def without_collector():
    """A block in which memory is freed by reference counting alone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def nodes_alive():
    return sum(type(o) is Node for o in gc.get_objects())


# -- the tape as a list ----------------------------------------------------------------------------------------------


def test_tape_lists_records_in_execution_order():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    late = ops.exp(x)  # runs first, is used last
    y = (ops.tanh(x * w) + late).sum()
    names = [record.op.__name__ for record in tape(y)]
    assert names == ["exp", "hadamard", "tanh", "add", "sum"]
    numbers = [record.number for record in tape(y)]
    assert numbers == sorted(numbers) and len(set(numbers)) == 5
    assert isinstance(tape(y), list)


def test_a_record_with_several_uses_is_listed_once():
    x = leaf([2.0])
    h = x * x
    assert len(tape(h + h * h, h)) == 3


def test_tape_prints_one_record_per_line():
    x = leaf(np.ones((2, 3)))
    x.name = "x"
    h = x * np.ones(3)
    y = ops.tanh(h)
    first, second = map(name_of, (h.node, y.node))
    assert repr(tape(y)) == f"{first} hadamard (2, 3)  <-  x, a constant\n{second} tanh (2, 3)  <-  {first}"
    assert repr(x.node) == "x leaf (2, 3)"


def test_tape_of_several_roots_of_leaves_and_of_constants():
    x = leaf([1.0])
    assert tape(x) == [] and tape(constant([1.0])) == [] and repr(tape(x)).startswith("no record: ")
    assert [record.op.__name__ for record in tape(ops.exp(x), ops.sin(x))] == ["exp", "sin"]


# -- length and memory -----------------------------------------------------------------------------------------------


def test_a_tape_without_records_says_so_and_arrays_have_none():
    assert str(tape(Tensor(3.0))).startswith("no record: nothing was recorded")
    for root in (np.ones(3), None, [Tensor(1.0)]):
        with pytest.raises(TypeError, match=rf"tape: expected Tensors, .* got {re.escape(repr(root))}"):
            tape(root)


def test_two_hundred_thousand_chained_ops_need_no_recursion():
    """Recorded, printed in part, differentiated and freed without recursion."""
    x = leaf(1.0)
    h = x
    for _ in range(200_000):
        h = h + 0.0
    records = tape(h)
    assert len(records) == 200_000
    h.backward()
    assert x.grad.item() == 1.0
    del h, records


def test_two_hundred_thousand_ops_are_freed_without_backward():
    x = leaf(1.0)
    h = x
    for _ in range(200_000):
        h = -h
    record = h.node
    del h
    assert record.saved == ()
    del record


def test_backward_visits_each_record_once():
    """2⁶⁰ paths lead from y to x, over 60 records."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


@pytest.mark.parametrize("create_graph", [False, True])
def test_records_are_freed_by_reference_counting_alone(create_graph):
    """A GRU-like recurrence: all records are freed with the loss, without the garbage collector."""
    W, U = leaf(np.full((3, 3), 0.1)), leaf(np.full((3, 3), 0.2))
    xs = constant(np.ones((5, 2, 3)))

    def loss():
        h = constant(np.zeros((2, 3)))
        for t in range(5):
            z = ops.sigmoid(xs[t] @ W + h @ U)
            h = (1 - z) * h + z * ops.tanh(xs[t] @ W + (h * z) @ U)
        return (h * h).mean()

    with without_collector():
        before = nodes_alive()
        y = loss()
        reference = weakref.ref(y.data)
        gradients = grad(y, [W, U], create_graph=create_graph)
        assert nodes_alive() > before
        del y, gradients
        assert reference() is None and nodes_alive() == before


def test_backward_without_create_graph_leaves_no_reference_cycle():
    with without_collector():
        before = nodes_alive()
        x = leaf([1.0, 2.0])
        y = (ops.tanh(x) * x).sum()
        y.backward()
        del x, y
        assert nodes_alive() == before


def test_backward_frees_residuals():
    x = leaf([1.0, 2.0])
    inner = ops.exp(x)
    y = (inner * inner).sum()
    reference = weakref.ref(inner.data)
    del inner
    assert reference() is not None
    y.backward()
    assert reference() is None


def test_an_error_in_a_rule_leaves_no_gradient_and_no_reference_cycle():
    @op
    def broken(x):
        return x + 0.0

    def rule(g):
        raise RuntimeError("broken rule")

    broken.vjp(x=rule)
    with without_collector():
        before = nodes_alive()
        x = leaf([1.0])
        y = broken(x) * 2.0
        try:
            y.backward()
        except RuntimeError as error:
            assert str(error) == "broken rule"
            error.__traceback__ = None
        assert x.grad is None
        del x, y
        assert nodes_alive() == before


# -- no_grad and enable_grad -----------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_nest():
    x = leaf([1.0])
    with no_grad():
        assert not (x * x).requires_grad
        with enable_grad():
            assert (x * x).requires_grad
            with no_grad():
                assert not (x * x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_and_enable_grad_decorate_functions():
    x = leaf([1.0])

    @no_grad()
    def evaluate(scale):
        return x * scale

    @enable_grad()
    def measure():
        return x * 2.0

    assert not evaluate(2.0).requires_grad and not evaluate(3.0).requires_grad
    with no_grad():
        assert measure().requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_with_an_exception():
    x = leaf([1.0])
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * x).requires_grad


def test_no_grad_is_local_to_a_thread():
    x, inside, outside = leaf([1.0]), threading.Event(), threading.Event()
    seen = {}

    def other():
        with no_grad():
            inside.set()
            outside.wait(10)
            seen["other"] = (x * x).requires_grad

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    seen["main"] = (x * x).requires_grad
    outside.set()
    thread.join(10)
    assert seen == {"main": True, "other": False}


def test_threads_record_and_differentiate_concurrently():
    x, results = leaf(np.ones(3)), {}

    def work(k):
        y = x
        for _ in range(200):
            y = y * 1.0 + 0.0
        results[k] = grad((y * float(k)).sum(), x).numpy().sum()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {k: 3.0 * k for k in range(4)}


def test_backward_works_under_no_grad():
    x = leaf([3.0])
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.tolist() == [6.0]
