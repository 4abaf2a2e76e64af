"""Dependencies of a pure step: changes other than assignments to attributes of its object."""

from __future__ import annotations

import functools
from types import MethodType, ModuleType

import numpy as np
import pytest

from tests.scan.pure_steps import Decay, X, run
from tinygrad_gru import Tensor, op, ops, scan
from tinygrad_gru.nn import Module
from tinygrad_gru.scan import pure

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


def test_attributes_that_exchange_their_names():
    class Two(Decay):
        @pure
        def step(self, h, x):
            return h + self.first * x

    cell = Two()
    cell.first, cell.second = 1.0, 3.0
    np.testing.assert_allclose(run(cell).numpy(), 3)
    values = vars(cell).pop("first"), vars(cell).pop("second")
    cell.second, cell.first = values
    np.testing.assert_allclose(run(cell).numpy(), 9)


def test_an_attribute_that_moves_from_one_module_to_another():
    class Holder(Module):
        k = 3.0

    class Holders(Decay):
        @pure
        def step(self, h, x):
            return h + self.holders[1].k * x

    cell = Holders()
    cell.holders = [Holder(), Holder(), Holder()]
    cell.holders[1].k = 1.0
    np.testing.assert_allclose(run(cell).numpy(), 3)
    cell.holders[2].k = vars(cell.holders[1]).pop("k")
    np.testing.assert_allclose(run(cell).numpy(), 9)


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
