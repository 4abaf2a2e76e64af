"""The generated code of an op: its text, its names, and introspection of the op."""

from __future__ import annotations

import gc
import inspect
import linecache
import pydoc
import sys
import traceback
import weakref
from textwrap import indent

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import ops
from tinygrad_gru.ops import codegen, op

OWN_NAMES = [
    "accumulate", "any", "arrays", "cotangent", "enumerate", "error", "fit", "formula", "g", "i", "isinstance", "kind",
    "new", "node", "nodes", "number", "op", "parents", "recording", "result", "saved", "self", "sum_to_shape", "tuple",
    "type", "x_node", "x_rule", "Variable",
]  # fmt: skip


def doubled(x):
    """y = 2 x"""
    return 2 * x


def double():
    """A new op that has not been called."""
    function = op(doubled)
    function.vjp(x=lambda g: 2 * g)
    return function


# -- the text ------------------------------------------------------------------------------------------------------


def test_the_module_shows_the_whole_text_of_hadamard():
    text = indent(ops.hadamard.source(), "    ")
    assert f"\n\n{text}\n" in codegen.__doc__


def test_the_text_is_what_runs_and_stands_in_tracebacks():
    function = double()
    function(1.0)
    assert "".join(linecache.getlines(function.__code__.co_filename)) == function.source()
    with pytest.raises(TypeError) as caught:
        function(None)
    assert "_y = _formula(x)\n" in "".join(traceback.format_exception(caught.value))


def test_a_variadic_op_and_settings_with_defaults():
    @op
    def weighted(*xs, scale=3.0, offsets):
        return scale * sum(x + o for x, o in zip(xs, offsets))

    weighted.vjp(xs=lambda g, i, scale, xs_shape: g * scale * (i + 1) * len(xs_shape))
    assert "def weighted(*xs, scale=_scale_default, offsets, **_others):" in weighted.source()
    x, y = leaf([1.0]), leaf([2.0])
    z = weighted(x, np.array([1.0]), y, offsets=(0.0, 1.0, 2.0))
    z.backward()
    assert (z.tolist(), x.grad.tolist(), y.grad.tolist()) == ([21.0], [9.0], [27.0])


def test_replaced_rules_replace_the_text():
    function = double()
    function(1.0)
    filename = function.__code__.co_filename
    function.vjp(x=lambda g, y: g)
    assert function(leaf(1.0)).item() == 2.0 and function.__code__.co_filename == filename
    assert "".join(linecache.getlines(filename)) == function.source() and "_node.saved = (_y,)" in function.source()


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OWN_NAMES, "x"])
def test_an_op_of_any_name(name):
    scope = {}
    exec(f"def {name}(x, b): return x * b", scope)
    function = op(scope[name])
    function.vjp(x=lambda g, b: g * b, b=lambda g, x: g * x)
    x = leaf([2.0])
    function(x, 3.0).backward()
    assert function.__name__ == name and x.grad.tolist() == [3.0]


def test_own_names_are_not_those_made_of_the_names_of_inputs():
    """`_x_node`, `_x_rule` and `_x_default` are, so that x may have any name."""
    own = {*op(doubled).__globals__}
    assert not {name for name in own if name.endswith(("_node", "_rule", "_default"))}


@pytest.mark.parametrize("name", OWN_NAMES)
def test_inputs_and_settings_of_any_name(name):
    as_input = op(eval(f"lambda {name}, x: {name} * x"))
    as_input.vjp(**{name: eval("lambda g, x: g * x"), "x": eval(f"lambda cotangent_, {name}: cotangent_ * {name}")})
    as_setting = op(eval(f"lambda x, *, {name}: x * {name}"))
    as_setting.vjp(x=eval(f"lambda cotangent_, {name}: cotangent_ * {name}"))
    as_inputs = op(eval(f"lambda *{name}, x: x * ({name}[0] + {name}[1])"))
    as_inputs.vjp(**{name: lambda g, i, x: g * x})
    a, b = leaf([2.0]), leaf([3.0])
    (as_input(a, b) + as_setting(a, **{name: 10.0}) + as_inputs(a, b, x=100.0)).backward()
    assert a.grad.tolist() == [3.0 + 10.0 + 100.0] and b.grad.tolist() == [2.0 + 100.0]


def test_a_lambda():
    function = op(lambda x: x * x)
    function.vjp(x=lambda g, x: 2 * g * x)
    x = leaf([3.0])
    function(x).backward()
    assert function.__name__ == "<lambda>" and x.grad.tolist() == [6.0]
    with pytest.raises(TypeError, match=r"^<lambda>: input 0 must be a Tensor or an array, got a str$"):
        function("a")


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (lambda y: y, "cannot be called 'y'; rename it .y is the output of an op"),
        (lambda x, *, y: y, "cannot be called 'y'"),
        (lambda _x: _x, "cannot be called '_x'; rename it .the generated code begins its own names with _"),
        (
            lambda x, **settings: x,
            r"<lambda>\(x, \*\*settings\): the inputs of an op are named one by one, or all taken",
        ),
        (lambda x, *others: x, r"<lambda>\(x, \*others\): the inputs of an op are named one by one, or all taken"),
    ],
)
def test_parameters_that_are_refused(formula, reason):
    with pytest.raises(TypeError, match=reason):
        op(formula)


# -- an op is what it looks like -----------------------------------------------------------------------------------


def test_print_and_help_show_the_op_before_and_after_its_first_call():
    function = double()
    for _ in range(2):
        assert repr(function).startswith("<function doubled at ")
        text = pydoc.plaintext.document(function, "doubled")
        assert text.splitlines()[0] == "doubled(x)" and "y = 2 x" in text
        assert inspect.getsource(function) == inspect.getsource(doubled)
        assert function.__code__.co_name == "doubled"
        function(1.0)


def test_tracebacks_name_the_op_before_and_after_its_first_call():
    function = double()
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^doubled\(\) got an unexpected keyword argument 'axis'$"):
            function(1.0, axis=0)
        with pytest.raises(TypeError, match=r"^doubled: ") as caught:
            function(None)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert set(names[1:]) == {"doubled"}


def test_a_debugger_steps_through_the_text_of_the_op():
    function = double()
    function(1.0)
    lines = []

    def trace(frame, event, argument):
        if frame.f_code is function.__code__ and event == "line":
            lines.append(linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(leaf([1.0]))
    finally:
        sys.settrace(before)
    assert lines[:2] == ["_type = None", "if _isinstance(x, _Variable):"]
    assert "_y = _formula(x)" in lines and lines[-1] == "return _result"


def test_two_ops_of_one_name_have_each_their_own_source():
    first, second, third = double(), double(), double()
    second.vjp(x=lambda g, x: 2 * g)
    for function in (first, second, third):
        function(1.0)
    files = {function.__code__.co_filename for function in (first, second, third)}
    assert len(files) == 3
    assert all(file.startswith(f"<op {__name__}.doubled") for file in files)
    for function in (first, second):
        assert "".join(linecache.getlines(function.__code__.co_filename)) == function.source()


def test_the_source_of_an_op_goes_with_it():
    function = double()
    function(1.0)
    filename, reference = function.__code__.co_filename, weakref.ref(function)
    assert filename in linecache.cache
    del function
    gc.collect()
    assert reference() is None and filename not in linecache.cache


def test_the_module_of_an_op_is_that_of_its_formula():
    function = double()
    assert function.__module__ == function.__globals__["__name__"] == __name__
