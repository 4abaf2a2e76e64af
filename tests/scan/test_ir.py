"""Graph IR: the docstring's example, and attributes, which reach generated source, as literals."""

from __future__ import annotations

import builtins
import textwrap
from enum import IntEnum

import numpy as np
import pytest

from tinygrad_gru import Tensor, op, ops, scan
from tinygrad_gru.backend import xp_of
from tinygrad_gru.scan import ir
from tinygrad_gru.scan.ir import Graph
from tinygrad_gru.scan.tracing.tracer import trace_forward


class Odd(float):
    """A float whose repr is code."""

    def __repr__(self):
        return "__import__('builtins').note('run')"


class Axis(IntEnum):
    FEATURES = 1

    def __repr__(self):
        return "__import__('builtins').note('run')"


@pytest.fixture
def ran(monkeypatch):
    """The calls of a function that only injected code would call."""
    notes = []
    monkeypatch.setattr(builtins, "note", notes.append, raising=False)
    return notes


@op
def total(x, *, axis, keepdims):
    return xp_of(x).sum(x, axis=axis, keepdims=keepdims)


@op
def spread(x, *, shape):
    return xp_of(x).broadcast_to(x, shape)


total.vjp(x=lambda g, x_shape: spread(g, shape=x_shape))
spread.vjp(x=lambda g, x_shape: ops.reshape(g, x_shape))


INJECTED = "__import__('builtins').note('run')"
PROGRAM = "False) or __import__('builtins').note('run') or sum(x"


@pytest.mark.parametrize(
    "settings",
    [
        {"axis": 1, "keepdims": PROGRAM},
        {"axis": "__import__('builtins').note('run')", "keepdims": True},
        {"axis": ("__import__('builtins').note('run')",), "keepdims": True},
        {"axis": 1, "keepdims": object()},
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_string_as_a_setting_raises(ran, settings, compiled):
    xs, h = Tensor(np.ones((3, 2, 4), "f4")), Tensor(np.zeros((2, 1), "f4"), requires_grad=True)
    with pytest.raises(TypeError):
        scan(lambda h, x: h + total(x * h, **settings), h, xs, compiled=compiled)
    assert not ran


@pytest.mark.parametrize("axis", [np.int64(1), (np.int8(1),), Axis.FEATURES])
@pytest.mark.parametrize("keepdims", [np.True_, 1, True])
def test_settings_are_emitted_by_value(ran, axis, keepdims):
    xs, h = np.arange(24, dtype="f4").reshape(3, 2, 4), Tensor(np.zeros((2, 1), "f4"), requires_grad=True)
    last, _ = scan(lambda h, x: h * Odd(0.5) + total(x, axis=axis, keepdims=keepdims), h, Tensor(xs), compiled=True)
    expected = np.zeros((2, 1))
    for x in xs.astype("f8"):
        expected = expected * 0.5 + x.sum(1, keepdims=True)
    np.testing.assert_allclose(last.numpy(), expected)
    assert not ran


def test_the_example_of_the_docstring():
    U = Tensor(np.zeros((4, 4), "float32"))

    def step(h, x):
        z = ops.sigmoid(x + h @ U)
        return (1 - z) * h + z * ops.tanh(x)

    graph = trace_forward(step, Tensor(np.zeros((2, 4), "float32")), Tensor(np.zeros((1, 2, 4), "float32"))).graph
    assert textwrap.indent(repr(graph), "    ") in ir.__doc__


def test_a_graph_holds_python_scalars():
    graph = Graph()
    scalars = [graph.scalar(x) for x in (Odd(0.5), np.float64(0.5), Axis.FEATURES, np.float32(0.5))]
    assert [value.name for value in scalars] == ["0.5", "0.5", "1", "0.5"]
    value = graph.add("sum", (), (), "f4", axis=[np.int64(1), Axis.FEATURES], keepdims=np.True_)
    assert value.attributes == (("axis", (1, 1)), ("keepdims", True))
    assert repr(value.attributes) == "(('axis', (1, 1)), ('keepdims', True))"


@pytest.mark.parametrize("name", [f"f(): {INJECTED}\n{INJECTED}\ndef g", "<lambda>", "class", "a b", "_"])
def test_the_name_of_an_op_is_not_executed(name, ran):
    def formula(x):
        return x * 2

    formula.__name__ = name
    doubled = op(formula)
    doubled.vjp(x=lambda g: g * 2)
    last, _ = scan(lambda h, x: h + doubled(x), Tensor(np.zeros(2)), Tensor(np.ones((3, 2)), requires_grad=True))
    last.sum().backward()
    assert last.tolist() == [6, 6] and not ran
