"""The names of a traced step's values: its local variables when it returned, and the source that computed each."""

import cProfile
import functools
import gc
import sys
import threading
import weakref
from contextvars import ContextVar

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops, scan
from tinygrad_gru.scan.tracing.tracer import trace_forward, trace_with_names

H, X = Tensor(np.ones((2, 3), np.float32)), Tensor(np.ones((5, 2, 3), np.float32))


def named(step, carry=H, xs=X):
    """Each name, and the op whose result it is."""
    forward, names = trace_with_names(step, carry, xs)
    assert all(value in forward.graph.values for value in names.values.values())
    return {name: value.op for name, value in names.values.items()}


def plain(h, x):
    total = h + x
    total = ops.tanh(total)  # the last assignment counts
    pair = (total * 2, h)
    count = 3  # no Tensor
    return pair[0] - total / count


PLAIN = {"h": "carry", "x": "x", "total": "tanh", "pair[0]": "multiply", "pair[1]": "carry", "h'": "subtract"}


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        unrelated = ops.exp(arguments[0])
        return function(*arguments) + 0 * unrelated

    return wrapper


class Callable:
    def __call__(self, h, x):
        inner = h * x
        return inner


def test_each_kind_of_step_has_the_names_of_its_own_frame():
    assert named(plain) == PLAIN
    assert named(functools.partial(plain)) == PLAIN
    assert named(decorated(plain)) | {"h'": "subtract"} == PLAIN
    assert named(lambda h, x: h + x) == {"h": "carry", "x": "x", "h'": "add"}
    assert named(Callable()) == {"h": "carry", "x": "x", "inner": "multiply", "h'": "multiply"}
    assert named(lambda h, x: h) == {"h": "carry", "x": "x", "h'": "carry"}  # no op ran


def test_variables_name_the_parts_of_a_carry():
    def step(carry, x):
        h, c = carry
        c = c * x
        return ops.tanh(h), c

    names = {"x": "x", "h": "carry", "c": "multiply", "carry[0]": "carry", "carry[1]": "carry"}
    assert named(step, (H, H)) == names | {"h'": "tanh", "carry[1]'": "multiply"}
    _, found = trace_with_names(step, (H, H), X)
    assert sorted(found.of().values()) == ["c", "carry[1]", "h", "h'", "x"]  # a variable before a path

    def both(carry, x):
        h, c = carry
        return h + x, c * x

    same = Tensor(np.ones((2, 3), np.float32))
    *_, y = scan(both, (same, same), X[:1], record=("h'", "c'"), compiled=False)
    np.testing.assert_array_equal([y["h'"].numpy()[0], y["c'"].numpy()[0]], [same.numpy() + 1, same.numpy()])


def test_names_in_helpers_and_in_outer_runs_of_the_same_function_are_not_those_of_the_step():
    def helper(a):
        secret = a * 2
        return secret + 1

    def step(h, x, depth=2):
        inner = helper(h) if depth == 0 else step(h, x, depth - 1)
        level = h + depth
        kept = lambda: level  # noqa: E731  (makes `level` a variable of a cell)
        return inner * kept()

    _, names = trace_with_names(step, H, X)
    assert set(names.values) == {"h", "x", "level", "inner", "h'"}
    assert names.values["level"].inputs[1]["value"] == 2

    def outer(h, x):
        mine = h * x
        trace_forward(step, H, X)
        return mine

    assert named(outer)["mine"] == "multiply"


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("options", [{}, {"zoneout": 0.2}, {"layer_norm": True}, {"recurrent_dropout": 0.3}], ids=str)
def test_a_cell_has_the_names_of_its_equations(options, lengths):
    gru, lstm = nn.GRUCell(3, 4, **options), nn.LSTMCell(3, 4, **options)
    valid = Tensor(np.ones((5, 2, 1), bool)) if lengths else None
    for cell, expected in ((gru, "h x r z h_tilde h'"), (lstm, "h c x i f g o h' c'")):
        step, xs = cell.scan_arguments(X, valid)
        forward, names = trace_with_names(step, cell.initial_state(2), xs)
        assert set(expected.split()) <= set(names.values)
        states = [names.values[f"{name}'"] for name in cell.states]
        assert states == forward.new_carry  # the state after the step, with zoneout and padding


def test_the_places_are_the_lines_and_expressions_of_the_step():
    forward, names = trace_with_names(plain, H, X)
    first = plain.__code__.co_firstlineno
    of_tanh, of_product = names.places[names.values["total"]], names.places[names.values["pair[0]"]]
    assert (of_tanh.filename, of_tanh.line, of_product.line) == (__file__, first + 2, first + 3)
    if sys.version_info >= (3, 11):
        assert (of_tanh.text, of_product.text) == ("ops.tanh(total)", "total * 2")
    else:
        assert of_product.text == "pair = (total * 2, h)"
    assert set(names.places).isdisjoint([*forward.carry, *forward.xs])

    def helped(h, x):
        return plain(h, x) * 2

    _, names = trace_with_names(helped, H, X)
    lines = {place.line for place in names.places.values()}
    assert lines == {helped.__code__.co_firstlineno + 1}  # of the step, not of its helper
    without_source = {}
    exec("def step(h, x):\n    z = h * x\n    return z", without_source)
    _, names = trace_with_names(without_source["step"], H, X)
    place = names.places[names.values["z"]]
    assert (place.line, place.text) == (2, "")


def test_profilers_debuggers_and_threads_are_left_alone():
    profile, seen = cProfile.Profile(), []

    def profiler(frame, event, argument):
        seen.append(event)

    def tracer(frame, event, argument):
        seen.append(event)
        return tracer

    profile.enable()
    try:
        assert named(plain) == PLAIN
        active = sys.getprofile()
    finally:
        profile.disable()
    assert active is profile or sys.version_info >= (3, 12)  # from there on it uses sys.monitoring
    for get, set_, function in ((sys.getprofile, sys.setprofile, profiler), (sys.gettrace, sys.settrace, tracer)):
        before = get()
        set_(function)
        try:
            assert named(plain) == PLAIN
            assert get() is function
        finally:
            set_(before)
    assert seen
    results = []
    threads = [threading.Thread(target=lambda: results.append(named(plain))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [PLAIN] * 4


class Local:
    pass


def test_no_frame_is_kept_alive():
    seen = ContextVar("seen")  # which no snapshot looks into

    def step(h, x):
        local = Local()
        seen.set(weakref.ref(local))
        return h + x

    def failing(h, x):
        step(h, x)
        raise KeyError("x")

    gc.disable()  # so that a reference cycle would show
    try:
        named(step)
        assert seen.get()() is None
        with pytest.raises(Exception, match="KeyError"):
            named(failing)
        assert seen.get()() is None
    finally:
        gc.enable()
