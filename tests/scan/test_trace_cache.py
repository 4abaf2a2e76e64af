"""Trace cache: a pure step is traced once, and again whenever something on which its trace depends has changed."""

from __future__ import annotations

import functools
import gc
import weakref
from types import MethodType, ModuleType

import numpy as np
import pytest

from tinygrad_gru import Tensor, no_grad, op, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell, Module, Parameter
from tinygrad_gru.scan import pure
from tinygrad_gru.scan.tracing import trace_cache as traces
from tinygrad_gru.scan.tracing.tracer import trace_forward


@pytest.fixture
def traced(monkeypatch):
    """The steps that were traced, in order."""
    seen = []

    def counting(step, carry, xs):
        seen.append(step)
        return trace_forward(step, carry, xs)

    monkeypatch.setattr(traces, "trace_forward", counting)
    return seen


class Decay(Module):
    """h' = factor · h + x w"""

    def __init__(self, factor=0.5):
        self.factor, self.w = factor, Parameter(np.ones(2))

    @pure
    def step(self, h, x):
        return self.factor * h + x * self.w


X = np.ones((3, 2))


def run(cell, x=X):
    return scan(cell.step, Tensor(np.zeros(x.shape[1:], x.dtype)), x)[0]


def test_a_pure_step_is_traced_once(traced):
    cell = Decay()
    for length in (3, 5, 3):
        run(cell, np.ones((length, 2)))
    assert len(traced) == 1


@pytest.mark.parametrize("cell_type", [GRUCell, LSTMCell])
def test_our_cells_are_pure(cell_type, traced):
    cell, x = cell_type(3, 4), Tensor(np.ones((5, 2, 3), "float32"))
    for _ in range(3):
        scan(cell.step, cell.initial_state(2), x)
    assert len(traced) == 1


def test_weights_that_were_written_or_replaced_are_read_again(traced):
    cell = Decay()
    run(cell)
    cell.w.data[...] = 2
    np.testing.assert_allclose(run(cell).numpy(), 2 * 1.75)
    cell.w.data = np.full(2, 3.0)
    np.testing.assert_allclose(run(cell).numpy(), 3 * 1.75)
    assert len(traced) == 1
    cell.w = Parameter(np.full(2, 4.0))
    last = run(cell)
    last.sum().backward()
    np.testing.assert_allclose(last.numpy(), 4 * 1.75)
    np.testing.assert_allclose(cell.w.grad.numpy(), 1.75)


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: setattr(cell, "factor", 0.25),
        lambda cell: cell.freeze(),
        lambda cell: cell.eval(),
        lambda cell: setattr(cell, "w", Parameter(np.ones(1))),
    ],
    ids=["a scalar", "frozen", "evaluation", "another shape"],
)
def test_a_changed_dependency_is_traced_again(change, traced):
    cell = Decay()
    run(cell)
    change(cell)
    compiled = run(cell)
    assert len(traced) == 2
    expected = scan(cell.step, Tensor(np.zeros(2)), Tensor(X), compiled=False)[0]
    np.testing.assert_allclose(compiled.numpy(), expected.numpy())
    assert compiled.requires_grad == expected.requires_grad


def test_other_shapes_and_dtypes_of_the_arguments_are_traced_again(traced):
    cell = Decay()
    for x in (np.ones((3, 2)), np.ones((3, 4, 2)), np.ones((3, 2))):
        run(cell, x)
    assert len(traced) == 2
    halves = Decay()
    for dtype in ("float16", "float32", "float16"):
        halves.w = Parameter(np.ones(2), dtype=dtype)
        run(halves, np.ones((3, 2), dtype))
    assert len(traced) == 5


def test_a_step_that_computes_from_weights_alone_is_traced_every_time(traced):
    """The result is a constant of the trace that no tensor of the cell holds."""

    class Squared(Decay):
        @pure
        def step(self, h, x):
            return h + x * ops.square(self.w)

    cell = Squared()
    for value in (1.0, 2.0):
        cell.w.data[...] = value
        np.testing.assert_allclose(run(cell).numpy(), 3 * value**2)
    assert len(traced) == 2


def test_a_dictionary_attribute_is_traced_every_time(traced):
    class Table(Decay):
        @pure
        def step(self, h, x):
            return self.table["factor"] * h + x * self.w

    cell = Table()
    cell.table = {"factor": 0.0}
    np.testing.assert_allclose(run(cell).numpy(), 1)
    cell.table["factor"] = 1.0
    np.testing.assert_allclose(run(cell).numpy(), 3)
    assert len(traced) == 2


def test_a_method_that_overrides_a_pure_one_is_not_pure(traced):
    scale = [1.0]

    class Mine(Decay):
        def step(self, h, x):
            return scale[0] * h + x * self.w

    cell = Mine()
    run(cell)
    scale[0] = 2.0
    np.testing.assert_allclose(run(cell).numpy(), 1 + 2 + 4)
    assert len(traced) == 2


# -- dependencies that are easily missed -----------------------------------------------------------------------------

SETTINGS = ModuleType("settings")
SETTINGS.one, SETTINGS.two = 1.0, 1.0


def one(x):
    return SETTINGS.one * x


def two(x):
    return SETTINGS.two * x


def with_keyword(x, *, k=1.0):
    return k * x


def with_global(x):
    return float(abs(-1.0)) * x


def scale_of_closure():
    k = 1.0

    def scale(x):
        return k * x

    return scale


class Base(Module):
    def factor(self):
        return 1.0


class OtherBase(Module):
    def factor(self):
        return 3.0


class Scaled(Base):
    """h' = h + f(x), where f is `apply`"""

    def __init__(self):
        self.factors, self.inner, self.scale = [1.0], Decay(1.0), scale_of_closure()
        self.functions = (one, two)

    @pure
    def step(self, h, x):
        return h + self.apply(x)

    def apply(self, x):
        return x


@pytest.mark.parametrize(
    ("expression", "change"),
    [
        (lambda cell, x: cell.functions[1](cell.functions[0](x)), lambda cell: setattr(SETTINGS, "two", 3.0)),
        (lambda cell, x: with_keyword(x), lambda cell: with_keyword.__kwdefaults__.update(k=3.0)),
        (lambda cell, x: with_global(x), lambda cell: globals().update(abs=lambda x: 3.0)),
        (lambda cell, x: cell.factors[0] * x, lambda cell: cell.factors.__setitem__(0, 3.0)),
        (lambda cell, x: cell.inner.factor * x, lambda cell: setattr(cell.inner, "factor", 3.0)),
        (lambda cell, x: cell.factor() * x, lambda cell: setattr(type(cell), "__bases__", (OtherBase,))),
        (lambda cell, x: cell.factor() * x, lambda cell: setattr(cell, "__class__", TimesThree)),
        (lambda cell, x: cell.scale(x), lambda cell: setattr(cell.scale.__closure__[0], "cell_contents", 3.0)),
    ],
    ids=[
        "two names of a module", "a default in place", "a built-in that is shadowed", "an item of a list",
        "an attribute of a module inside", "the bases of a class", "the class", "a closure",
    ],
)  # fmt: skip
def test_a_change_that_is_no_assignment_to_the_object(expression, change, monkeypatch, traced):
    monkeypatch.setattr(SETTINGS, "two", 1.0)
    monkeypatch.setattr(with_keyword, "__kwdefaults__", {"k": 1.0})
    monkeypatch.delitem(globals(), "abs", raising=False)
    bases = Scaled.__bases__
    monkeypatch.setattr(Scaled, "apply", expression)
    cell = Scaled()
    try:
        np.testing.assert_allclose(run(cell).numpy(), 3)
        run(cell)
        assert len(traced) == 1
        change(cell)
        expected = scan(cell.step, Tensor(np.zeros(2)), Tensor(X), compiled=False)[0]
        np.testing.assert_allclose(run(cell).numpy(), expected.numpy())
        np.testing.assert_allclose(expected.numpy(), 9)
    finally:
        Scaled.__bases__ = bases
        globals().pop("abs", None)


class TimesThree(Scaled):
    def factor(self):
        return 3.0


GAIN = 1.0


@functools.wraps(ops.square)
def wrapper_of_an_op(x):
    return GAIN * ops.square(x)


def test_a_function_that_wraps_an_op_is_no_op(monkeypatch):
    """It has the attributes of the op, and code of its own."""

    class Wrapped(Module):
        @pure
        def step(self, h, x):
            return h + wrapper_of_an_op(x)

    cell = Wrapped()
    np.testing.assert_allclose(run(cell).numpy(), 3)
    monkeypatch.setitem(globals(), "GAIN", 2.0)
    np.testing.assert_allclose(run(cell).numpy(), 6)


def test_an_attribute_in_a_slot():
    class Slotted:
        __slots__ = ("k",)

    class SlotDecay(Decay, Slotted):
        @pure
        def step(self, h, x):
            return h + self.k * x

    cell = SlotDecay()
    for cell.k in (1.0, 3.0):
        np.testing.assert_allclose(run(cell).numpy(), 3 * cell.k)


def test_an_item_that_moves_from_one_list_to_another():
    class Lists(Decay):
        @pure
        def step(self, h, x):
            return h + self.first[-1] * x

    cell = Lists()
    cell.first, cell.second = [1.0, 3.0], [2.0]
    np.testing.assert_allclose(run(cell).numpy(), 9)
    cell.second.insert(0, cell.first.pop())
    np.testing.assert_allclose(run(cell).numpy(), 3)


def test_a_weight_of_another_dtype(traced):
    cell = Decay()
    run(cell)
    cell.w._rebind(np.full(2, 2.0, "float32"))
    np.testing.assert_allclose(run(cell).numpy(), 2 * 1.75)
    assert len(traced) == 2


def test_two_pure_methods_of_one_object():
    class Two(Decay):
        @pure
        def other(self, h, x):
            return h - x * self.w

    cell = Two(1.0)
    for sign, step in ((1, cell.step), (-1, cell.other), (1, cell.step)):
        last, _ = scan(step, Tensor(np.zeros(2)), Tensor(X))
        np.testing.assert_allclose(last.numpy(), sign * 3)


@pytest.mark.parametrize("which", ["carry", "x"])
def test_an_argument_that_requires_a_gradient_later(which):
    cell = Decay()
    for requires_grad in (False, True):
        arguments = {"carry": Tensor(np.zeros(2)), "x": Tensor(X)}
        arguments[which].requires_grad = requires_grad
        scan(cell.step, arguments["carry"], arguments["x"])[0].sum().backward()
        assert (arguments[which].grad is not None) == requires_grad


def test_a_pure_function_bound_to_an_object_of_another_class(monkeypatch):
    monkeypatch.setattr(SETTINGS, "one", 1.0)

    @pure
    def step(self, h, x):
        return h + SETTINGS.one * x

    cell = Decay()
    for factor in (1.0, 3.0):
        monkeypatch.setattr(SETTINGS, "one", factor)
        last, _ = scan(MethodType(step, cell), Tensor(np.zeros(2)), Tensor(X))
        np.testing.assert_allclose(last.numpy(), 3 * factor)


def test_other_rules_of_an_op_that_the_library_calls():
    def formula(x):
        return x * 1.0

    formula.__module__ = "tinygrad_gru.ops.fake"
    identity = op(formula)

    def scaled(factor):
        return lambda g: factor * g

    class Calls(Decay):
        @pure
        def step(self, h, x):
            return h + self.function(x)

    library = {"__name__": "tinygrad_gru.fake", "identity": identity}
    exec("def function(x): return identity(x)", library)
    cell = Calls()
    cell.function = library["function"]
    for factor in (1, 3, 5):
        identity.vjp(x=scaled(factor))
        x = Tensor(X, requires_grad=True)
        run(cell, x)[0].backward()
        np.testing.assert_array_equal(x.grad.numpy()[:, 0], factor)


def test_a_step_that_calls_super_is_traced_once(traced):
    class Sub(Decay):
        @pure
        def step(self, h, x):
            return super().step(h, x)

    cell = Sub()
    for _ in range(3):
        run(cell)
    assert len(traced) == 1


def test_an_object_without_a_hash_is_traced_every_time(traced):
    class Unhashable(Decay):
        __hash__ = None

    cell = Unhashable()
    for _ in range(2):
        np.testing.assert_allclose(run(cell).numpy(), 1.75)
    assert len(traced) == 2


def test_gradients_of_a_cached_trace_reach_the_weights():
    cell = GRUCell(3, 4, dtype="float64")
    x, start = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3))), cell.initial_state(2)

    def gradients(compiled):
        cell.zero_grad()
        scan(cell.step, start, x, compiled=compiled)[1].sum().backward()
        return [p.grad.numpy() for p in cell.parameters()]

    for _ in range(3):
        for compiled, eager in zip(gradients(True), gradients(False)):
            np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=1e-14)
    with no_grad():
        assert not scan(cell.step, start, x)[0].requires_grad
    assert scan(cell.step, start, x)[0].requires_grad


def test_the_trace_cache_is_bounded_and_keeps_no_cell_alive():
    cell = Decay()
    for size in range(1, 20):
        run(cell, np.ones((2, size, 2)))
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None
