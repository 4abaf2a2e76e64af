"""Proofs: a step that makes no promise is traced once where it is proved pure, and anew whenever it may differ."""

from __future__ import annotations

import functools
import gc
import itertools
import math
import operator
import os
import random
import time
import weakref
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from tinygrad_gru import Tensor, explain, nn, op, ops, scan
from tinygrad_gru.nn import Module, Parameter

X = Tensor(np.linspace(0.1, 1, 6).reshape(3, 2))
H = Tensor(np.zeros(2))
#: Calls after which a pure step must have been traced for the last time: the first, and the one that is proved.
TRACES = 2


def calls(step, traced, count=4, carry=H, xs=X):
    """How often the step is traced in that many calls, each of which must agree with eager mode."""
    before = len(traced)
    for _ in range(count):
        agree(step, carry, xs)
    return len(traced) - before


def agree(step, carry=H, xs=X):
    last, ys = scan(step, carry, xs)
    expected, expected_ys = scan(step, carry, xs, compiled=False)
    np.testing.assert_allclose(ops.stack(flat(last)).numpy(), ops.stack(flat(expected)).numpy())
    np.testing.assert_allclose(ys.numpy(), expected_ys.numpy())


def flat(tree):
    return [tree] if isinstance(tree, Tensor) else [part for item in tree for part in flat(item)]


def is_freed(gone, traced):
    """Whether nothing, such as a cache, refers to the object of a weak reference."""
    traced.clear()
    gc.collect()
    return gone() is None


class Pair(NamedTuple):
    h: Tensor
    c: Tensor

    def mixed(self):
        return self.h + 0.5 * self.c


SETTINGS = ModuleType("settings_of_proofs")


def make():
    """Steps that are pure, and for each what changes what it computes."""
    w, factors = Parameter(np.ones(2)), [0.5, 2.0]
    table = {"w": w, "k": 2.0}
    SETTINGS.k, SETTINGS.f = 1.0, lambda x: 2 * x
    namespace = {"ops": ops, "w": w, "k": 1.5, "SETTINGS": SETTINGS, "math": math, "np": np, "helper": None}
    exec("def helper(x, k=2.0, *, j=1.0): return ops.tanh(j * k * x)", namespace)
    linear, k = nn.Linear(2, 2, dtype="float64"), 3.0

    class Own(Module):
        rate = 0.5

        def __init__(self):
            self.w, self.inner, self.act = Parameter(np.ones(2)), nn.Linear(2, 2, dtype="float64"), ops.tanh

        def step(self, h, x):
            return self.rate * h + self.act(self.inner(x)) * self.w + self.more(x)

        def more(self, x):
            return x * self.doubled

        @property
        def doubled(self):
            return 2 * self.rate

    own = Own()

    def run(source):
        return eval(f"lambda h, x: {source}", namespace)

    def with_default(h, x, k=0.5):
        return k * h + x

    def closure(h, x):
        return k * h + x

    def set_k(value):
        nonlocal k
        k = value

    helper = namespace["helper"]
    return {
        "a weight": (lambda h, x: h * w + x, lambda: w.data.__setitem__(..., 2.0)),
        "another array": (lambda h, x: h * w + x, lambda: setattr(w, "data", np.full(2, 3.0))),
        "frozen": (lambda h, x: h * w + x, lambda: setattr(w, "requires_grad", False)),
        "a list": (lambda h, x: factors[0] * h + x * factors[-1], lambda: factors.append(3.0)),
        "a dictionary": (lambda h, x: table["w"] * h + table["k"] * x, lambda: table.update(k=3.0)),
        "an order": (lambda h, x: h + x * [*table].index("w"), lambda: table.update(w=table.pop("w"))),
        "a new key": (lambda h, x: len(table) * h + x, lambda: table.update(new=1.0)),
        "a global": (run("k * h + x * w"), lambda: namespace.update(k=2.5)),
        "a global tensor": (run("h + x * w"), lambda: namespace.update(w=Parameter(np.full(2, 4.0)))),
        "a helper": (run("helper(h) + x"), lambda: exec("def helper(x): return 3 * x", namespace)),
        "code of a helper": (run("helper(h) + x"), lambda: setattr(helper, "__code__", other_helper.__code__)),
        "its default": (run("helper(h) + x"), lambda: setattr(helper, "__defaults__", (0.1,))),
        "its keyword": (run("helper(h) + x"), lambda: helper.__kwdefaults__.update(j=0.1)),
        "a module": (run("SETTINGS.k * h + SETTINGS.f(x)"), lambda: setattr(SETTINGS, "k", 3.0)),
        "a module's function": (run("SETTINGS.k * h + SETTINGS.f(x)"), lambda: setattr(SETTINGS, "f", lambda x: x)),
        "a builtin": (run("max(0.1, 0.5) * h + x"), lambda: namespace.update(max=min)),
        "a default": (with_default, lambda: setattr(with_default, "__defaults__", (2.0,))),
        "code": (closure, lambda: setattr(closure, "__code__", replaced(k).__code__)),
        "a closure": (closure, lambda: set_k(0.5)),
        "a layer": (lambda h, x: ops.tanh(linear(h)) + x, lambda: linear.freeze()),
        "a layer's weight": (lambda h, x: linear(h) + x, lambda: setattr(linear, "W", Parameter(np.eye(2)))),
        "an attribute": (own.step, lambda: setattr(own, "act", ops.sigmoid)),
        "an inner layer": (own.step, lambda: setattr(own, "inner", nn.Linear(2, 2, dtype="float64"))),
        "a class": (own.step, lambda: setattr(Own, "rate", 0.25)),
        "a method": (own.step, lambda: setattr(Own, "more", lambda self, x: 3 * x)),
        "a method of the object": (own.step, lambda: setattr(own, "more", lambda x: 3 * x)),
        "a property": (own.step, lambda: setattr(Own, "doubled", property(lambda self: 5.0))),
        "a bound method": (lambda h, x: own.step(h, x), lambda: setattr(Own, "rate", 0.125)),
        "a partial": (functools.partial(lambda w, h, x: w * h + x, w), lambda: w.data.__setitem__(..., 5.0)),
        "a named function": (run("math.sqrt(2.0) * h + np.tanh(x)"), lambda: namespace.update(np=OTHER)),
        "ops": (run("ops.tanh(h) + x"), lambda: namespace.update(ops=OTHER)),
    }  # fmt: skip


OTHER = ModuleType("other_ops")
OTHER.tanh = ops.sin


def other_helper(x, k, *, j):
    return 3 * x


def replaced(k):
    def closure(h, x):
        return h - k * x

    return closure


@pytest.mark.parametrize("name", list(make()))
def test_a_pure_step_is_traced_once_and_again_after_a_change(name, traced):
    step, change = make()[name]
    assert calls(step, traced) <= TRACES
    change()
    calls(step, traced, 3)


def test_an_op_that_is_replaced_or_given_other_rules_is_traced_again(traced, monkeypatch):
    step = eval("lambda h, x: ops.tanh(h) + x", {"ops": ops})
    assert calls(step, traced) <= TRACES
    monkeypatch.setattr(ops, "tanh", ops.sin)
    assert calls(step, traced, 1) == 1
    monkeypatch.setattr(Tensor, "__add__", lambda a, b: ops.subtract(a, b))
    assert calls(step, traced, 3) >= 1


def test_a_rule_that_is_given_anew_is_traced_again(traced):
    rule = ops.tanh.rules["x"]
    try:
        gradients = []
        for factor in (1.0, 1.0, 1.0, 3.0):
            if factor != 1:
                ops.tanh.vjp(x=lambda g, y: 3.0 * g)
            h = Tensor(np.zeros(2), requires_grad=True)
            scan(TANH, h, X)[0].sum().backward()
            gradients.append(h.grad.numpy())
    finally:
        ops.tanh.vjp(x=rule)
    assert len(traced) == 3
    np.testing.assert_allclose(gradients[3], 27.0)


def TANH(h, x):
    return ops.tanh(h) + x


def test_functions_of_one_code_share_traces_of_a_module_that_they_close_over(traced):
    class Net(Module):
        def __init__(self):
            self.w, self.rate = Parameter(np.ones(2)), 0.5

        def forward(self, xs, k=2.0):
            agree(lambda h, x: self.rate * h + k * x * self.w, H, xs)

    net, other = Net(), Net()
    for _ in range(4):
        net(X)
    assert len(traced) == TRACES
    net(X, k=float("2.0"))
    assert len(traced) == TRACES
    net(X, k=-0.0)
    net(X, k=0.0)
    assert len(traced) == TRACES + 2
    other.w.data[...] = 5.0
    other(X)
    net.rate = 0.25
    net(X)
    net.w = Parameter(np.full(2, 7.0))
    net(X)
    gone = weakref.ref(net)
    del net
    assert is_freed(gone, traced)


def test_a_named_tuple_as_carry_may_have_methods(traced, monkeypatch):
    def step(carry, x):
        return Pair(0.5 * carry.mixed(), x), carry.mixed()

    carry = Pair(H, H)
    assert calls(step, traced, carry=carry) <= TRACES
    monkeypatch.setattr(Pair, "mixed", lambda self: self.h - 3 * self.c)
    assert calls(step, traced, 1, carry) == 1


@op
def scaled(x, w):
    return x * float(w.max())


def impure():
    w, state, stream = Parameter(np.ones(2)), [0.0], itertools.count()
    constant = Tensor(np.ones(2))
    cells = nn.GRUCell(2, 2, dtype="float64")

    class Plain:
        k = 1.0

    class Level(int):
        k = 1.0

    plain, level, generator = Plain(), Level(1), (k for k in range(10**6))

    def reads(h, x):
        return (h if w[0] > 0 else -h) + x

    def formats(h, x):
        return h + (x if f"{constant}"[8] == "1" else -x)

    def matches(h, x):
        match constant:
            case Tensor(shape=shape):
                return h * len(shape) + x

    def remembers(h, x):
        plain.last = 1
        return h + x

    def imports(h, x):
        import math

        return math.pi * h + x

    return {
        "time": lambda h, x: h + x * time.time() * 0,
        "random": lambda h, x: h + x * random.random() * 0,
        "NumPy's random": lambda h, x: h + x * np.random.rand() * 0,
        "a counter": lambda h, x: h + x * (state[0] * 0),
        "an iterator": lambda h, x: h + x * (0 * operator.length_hint(stream, 1)),
        "a generator": lambda h, x: h + x * bool(generator),
        "an object": lambda h, x: h + plain.k * x,
        "a number with attributes": lambda h, x: h + level.k * x,
        "getattr": lambda h, x: h + getattr(plain, "k") * x,  # noqa: B009
        "values in a condition": reads,
        "a float": lambda h, x: h + float(constant[0]) * x,
        "max": lambda h, x: h + x * (1 if max(constant[0], constant[1]) is constant else 2),
        "an item": lambda h, x: h + constant.item_of(0) if hasattr(constant, "item_of") else h + x,
        "data": lambda h, x: h + x * constant.data,
        "numpy": lambda h, x: h + x * constant.numpy(),
        "a mask": lambda h, x: h + x[constant > 0],
        "a transpose": lambda h, x: h + x * w.T,
        "a format": formats,
        "a pattern": matches,
        "an attribute that is set": remembers,
        "an import": imports,
        "an op of one's own": lambda h, x: scaled(h, constant) + x,
        "a new array": lambda h, x: h + x * Tensor(np.ones(2)),
        "a function of a library": lambda h, x: h + x * len(gc.get_stats()) / len(gc.get_stats()),
        "an array": (lambda a: lambda h, x: h + x * a)(np.ones(2)),
        "print": lambda h, x: print(end="") or h + x,
        "a gradient": lambda h, x: h + x * (1 if w.grad is None else 2),
        "a method of a layer": lambda h, x: h + x * len(cells.state_dict()),
        "a module of one's own": (lambda module: lambda h, x: h + x * module.k)(dynamic()),
    }


def dynamic():
    """A module whose attributes a function gives."""
    module = ModuleType("dynamic_of_proofs")
    module.__getattr__ = lambda name: 2.0
    return module


class Property(property):
    def __get__(self, instance, owner=None):
        return FOREIGN[0]


class Static(staticmethod):
    def __get__(self, instance, owner=None):
        return lambda: FOREIGN[0]


class Items(Module, list):
    pass


FOREIGN = [1.0]


def of_others(name, patch):
    """A step whose value depends on FOREIGN by what no code of its own names."""
    items, linear = Items(), nn.Linear(2, 2, dtype="float64")
    list.append(items, FOREIGN[0])
    record = np.zeros(1, [("k", float)])[0]

    class Own(Module):
        by_property, by_function, w = Property(lambda self: 1.0), Static(lambda: 1.0), Tensor(np.ones(2))

    class Triple(NamedTuple):
        k: float

    Triple.by_property = Property(lambda self: 1.0)
    own, triple = Own(), Triple(1.0)

    def change():
        FOREIGN[0] = items[0] = record["k"] = FOREIGN[0] + 1

    if name == "a method of tensors":
        patch(Tensor, "scaled", lambda self: FOREIGN[0] * self, raising=False)
    elif name == "a forward of this package":
        patch(nn.Linear, "forward", lambda self, x: FOREIGN[0] * x)
    elif name == "a partial of it":
        patch(nn.Linear, "forward", functools.partialmethod(lambda self, x: FOREIGN[0] * x))
    steps = {
        "a method of tensors": lambda h, x: h + x.scaled(),
        "a forward of this package": lambda h, x: h + linear(x),
        "a partial of it": lambda h, x: h + linear(x),
        "a property of another kind": lambda h, x: h * own.w + own.by_property * x,
        "a static method of another kind": lambda h, x: h * own.w + own.by_function() * x,
        "a property of a named tuple": lambda h, x: h + triple.by_property * x,
        "a module that is a list": lambda h, x: h + items[0] * x,
        "a record": lambda h, x: h + float(record["k"]) * x,
    }
    return steps[name], change


OF_OTHERS = (
    "a method of tensors", "a forward of this package", "a partial of it", "a property of another kind",
    "a static method of another kind", "a property of a named tuple", "a module that is a list", "a record",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_OTHERS)
def test_what_no_code_names_is_no_proof(name, monkeypatch):
    step, change = of_others(name, monkeypatch.setattr)
    for _ in range(3):
        for _ in range(2):
            agree(step)
        change()


def test_a_builtin_that_is_replaced_is_traced_again(traced, monkeypatch):
    step = eval("lambda h, x: divmod(3, 2)[0] * h + x", {})
    assert calls(step, traced) <= TRACES
    monkeypatch.setattr("builtins.divmod", lambda a, b: (FOREIGN[0] + 5, 0))
    for _ in range(3):
        agree(step)


@pytest.mark.parametrize("name", [name for name in impure() if name != "a counter"])
@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
def test_what_is_not_proved_is_traced_at_every_call(name, traced):
    assert calls(impure()[name], traced, 4) == 4


def test_explain_says_why_a_step_is_traced_at_every_call():
    w = Parameter(np.ones(2))
    assert "Traced once: " in explain(lambda h, x: h * w + x, H, X)
    assert "Traced once: " in explain(nn.GRUCell(2, 2, dtype="float64").step, Tensor(np.zeros((1, 2))), X[:, None])
    assert "at every call of scan: it may call `getpid`." in explain(lambda h, x: h + x * os.getpid(), H, X)
    assert "at every call of scan: it reads values of tensors" in explain(lambda h, x: h + x * float(w[0]), H, X)


def test_a_read_value_is_never_baked_in():
    w = Tensor(np.ones(2))
    steps = [
        lambda h, x: (h if w[0] > 0 else -h) + x,
        lambda h, x: h + float(w[1]) * x,
        lambda h, x: h + x * int(w.sum()),
        lambda h, x: h + x * [1.0, 2.0, 3.0][int(w[0])],
    ]
    for value in (1.0, 1.0, 1.0, -1.0, 2.0):
        w.data[...] = value
        for step in steps:
            agree(step)


def test_a_state_outside_that_every_call_changes_is_read_again(traced):
    state = [1.0]

    def step(h, x):
        return state[0] * h + x

    for k in range(30):
        state[0] = float(k)
        agree(step)
    assert len(traced) == 30


def test_a_module_that_a_step_calls_may_be_that_whose_forward_scans(traced):
    class Net(Module):
        def __init__(self):
            self.k, self.again = 2.0, False

        def forward(self, x):
            if self.again:
                return CALLED[0] * x
            self.again = True
            agree(lambda h, x: h + self(x))
            self.again = False

    CALLED, net = [1.0], Net()
    for k in (1.0, 1.0, 1.0, 3.0):
        CALLED[0] = k
        net(X)
    assert len(traced) == 4


def test_an_object_that_refers_to_itself_is_not_kept_alive(traced):
    class Net(Module):
        def __init__(self, attribute):
            self.w = Parameter(np.ones(2))
            self.other = attribute(self)

        def forward(self):
            agree(lambda h, x: h * self.w + x)

    for attribute in (lambda net: net.forward, lambda net: [{"net": net}], lambda net: lambda: net):
        net = Net(attribute)
        for _ in range(4):
            net()
        gone = weakref.ref(net)
        del net
        assert is_freed(gone, traced)


def test_a_cache_keeps_no_step_alive(traced):
    w = Parameter(np.ones(2))

    def step(h, x):
        return h * w + x

    assert calls(step, traced) <= TRACES
    gone = weakref.ref(step)
    del step
    assert is_freed(gone, traced)


def test_the_traces_of_few_functions_are_kept(monkeypatch, traced):
    from tinygrad_gru.scan.tracing import trace_cache

    monkeypatch.setattr(trace_cache, "PROVED", 2)
    steps = [eval("lambda h, x: h + x", {}) for _ in range(4)]
    for step in steps:
        calls(step, traced)
    count = len(traced)
    agree(steps[-1])
    assert len(traced) == count
    agree(steps[0])
    assert len(traced) == count + 1
