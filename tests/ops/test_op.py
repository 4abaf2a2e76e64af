"""`@op`: what it makes of a formula and its rules."""

from __future__ import annotations

import gc
import traceback
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tensors import constant, leaf

from tinygrad_gru import TapeError, Tensor, enable_grad, grad, no_grad, ops, tape
from tinygrad_gru.backend import xp_of
from tinygrad_gru.ops import op, sum_to


@pytest.fixture
def affine():
    """y = a x + s, with a setting that has a default."""

    @op
    def affine(a, x, *, shift=1.0):
        """y = a x + shift"""
        return a * x + shift

    affine.vjp(a=lambda g, x: g * x, x=lambda g, a: g * a)
    return affine


# -- calling -------------------------------------------------------------------------------------------------------


def test_arrays_in_arrays_out(affine):
    y = affine(np.array([2.0]), np.array([3.0]))
    assert type(y) is np.ndarray and y.tolist() == [7.0]
    assert affine(2.0, 3.0) == 7.0


def test_tensors_in_a_tensor_out(affine):
    y = affine(leaf([2.0]), np.array([3.0]), shift=0.0)
    assert type(y) is Tensor and y.tolist() == [6.0] and y.requires_grad
    assert not affine(constant([2.0]), 3.0).requires_grad


def test_inputs_may_be_given_by_name(affine):
    assert affine(x=leaf([3.0]), a=2.0).tolist() == [7.0]


def test_an_op_keeps_its_name_signature_and_text(affine):
    assert (affine.__name__, affine.__doc__) == ("affine", "y = a x + shift")
    assert repr(affine.__signature__) == "<Signature (a, x, *, shift=1.0)>"
    assert affine.formula(2.0, 3.0) == 7.0


@pytest.mark.parametrize(
    "call", [lambda f: f(1.0), lambda f: f(1.0, 2.0, 3.0), lambda f: f(1.0, 2.0, offset=1.0), lambda f: f()]
)
def test_a_wrong_call_is_pythons_own_error(affine, call):
    for _ in range(2):  # also before the body is written
        with pytest.raises(TypeError, match=r"affine\(\)|_first_call"):
            call(affine)


def test_a_method_is_an_op_held_by_a_class(affine):
    class Line:
        at = affine

    assert isinstance(Line.at, type(lambda: None))
    y = ops.hadamard(leaf([2.0]), leaf([3.0]))
    assert y.tolist() == (leaf([2.0]) * leaf([3.0])).tolist()
    assert Tensor.__mul__ is ops.hadamard


def test_a_subclass_makes_more_of_itself(affine):
    class Named(Tensor):
        __slots__ = ()

    x = Named([1.0, 2.0], requires_grad=True)
    y = affine(x, 2.0)
    assert type(y) is Named and type((y * y).sum()) is Named
    y.sum().backward()
    assert type(x.grad) is Named


def test_any_number_of_inputs():
    @op
    def total(*xs, scale=1.0):
        return scale * sum(xs[1:], xs[0])

    total.vjp(xs=lambda g, i, scale, xs: g * scale)
    a, b, c = leaf([1.0, 2.0]), leaf([[3.0], [4.0]]), constant([5.0])
    y = total(a, b, c, 2.0, scale=10.0)
    np.testing.assert_allclose(y.numpy(), 10 * (a.numpy() + b.numpy() + 7.0))
    y.sum().backward()
    assert a.grad.tolist() == [20.0, 20.0] and b.grad.tolist() == [[20.0], [20.0]]


def test_an_index_says_which_of_many_inputs():
    @op
    def weighed(*xs):
        return sum((k + 1) * x for k, x in enumerate(xs))

    weighed.vjp(xs=lambda g, i: (i + 1) * g)
    leaves = [leaf([1.0]) for _ in range(4)]
    weighed(*leaves).backward()
    assert [x.grad.item() for x in leaves] == [1.0, 2.0, 3.0, 4.0]


# -- rules ---------------------------------------------------------------------------------------------------------


def test_a_rule_may_ask_for_output_inputs_settings_shapes_and_dtypes():
    asked = {}

    @op
    def curve(x, w, *, power, note="n"):
        return w * x**power

    def rule(g, note, y, power, x, w_shape, x_dtype, w):
        asked.update(note=note, y=y, power=power, x=x, w_shape=w_shape, x_dtype=x_dtype)
        return g * w * power * x ** (power - 1)

    curve.vjp(x=rule, w=lambda g, x, power: g * x**power)
    x = leaf([2.0, 3.0])
    curve(x, leaf(5.0), power=2).sum().backward()
    assert x.grad.tolist() == [20.0, 30.0]
    assert asked["note"] == "n" and asked["power"] == 2 and asked["w_shape"] == () and asked["x_dtype"] == np.float64
    assert asked["y"].tolist() == [20.0, 45.0] and asked["x"].tolist() == [2.0, 3.0]


def test_a_rule_is_called_only_for_an_input_that_wants_a_gradient():
    called = []

    @op
    def product(a, b):
        return a * b

    product.vjp(a=lambda g, b: called.append("a") or g * b, b=lambda g, a: called.append("b") or g * a)
    product(leaf([2.0]), constant([3.0])).backward()
    assert called == ["a"]
    x, y = leaf([2.0]), leaf([2.0])
    called.clear()
    grad(product(x, y), y)
    assert called == ["b"]


def test_an_input_without_a_gradient_is_declared_so():
    @op
    def masked(mask, x):
        return mask * x

    masked.vjp(mask=None, x=lambda g, mask: g * mask)
    mask, x = leaf([0.0, 1.0]), leaf([2.0, 3.0])
    masked(mask, x).sum().backward()
    assert mask.grad is None and x.grad.tolist() == [0.0, 1.0]
    assert not masked(mask, constant([2.0, 3.0])).requires_grad


def test_an_op_without_rules_runs_but_cannot_be_differentiated():
    @op
    def bare(x):
        return 2 * x

    assert bare(np.array(1.5)) == 3.0 and bare(constant(1.5)).item() == 3.0
    with no_grad():
        assert bare(leaf(1.5)).item() == 3.0
    with pytest.raises(TypeError, match=r"bare has no rules yet, so it cannot be differentiated: give one for each"):
        bare(leaf(1.5))
    bare.vjp(x=lambda g: 2 * g)
    x = leaf(1.5)
    bare(x).backward()
    assert x.grad.item() == 2.0


def test_rules_may_be_given_anew_and_the_op_stays_the_same_function(affine):
    held = affine
    x = leaf([3.0])
    affine(2.0, x).backward()
    affine.vjp(a=None, x=lambda g: g * 100)
    x.zero_grad()
    held(2.0, x).backward()
    assert held is affine and x.grad.tolist() == [100.0]


@pytest.mark.parametrize("rules", [{}, {"a": None}, {"a": None, "x": None, "shift": None}, {"a": None, "y": None}])
def test_a_rule_for_every_input_and_nothing_else(affine, rules):
    with pytest.raises(TypeError, match=r"affine.vjp: expected a rule for each of \['a', 'x'\], got"):
        affine.vjp(**rules)


def test_a_rule_that_asks_for_what_there_is_not(affine):
    with pytest.raises(
        TypeError, match=r"the rule of x asks for 'weight'; it can have \['y', 'a', 'x', 'shift', 'a_sh"
    ):
        affine.vjp(a=None, x=lambda g, weight: g)


@pytest.mark.parametrize(
    "name", ["y", "g", "kind", "node", "accumulate", "saved", "formula", "recording", "type", "new"]
)
def test_names_that_the_written_code_uses_are_refused(name):
    with pytest.raises(TypeError, match=rf"cannot be called \['{name}'\]"):
        op(eval(f"lambda {name}: {name} * 2"))
    with pytest.raises(TypeError, match=rf"cannot be called \['{name}'\]"):
        op(eval(f"lambda x, *, {name}: x"))


def test_a_setting_of_many_inputs_cannot_be_called_as_each_of_them_is():
    with pytest.raises(TypeError, match=r"cannot be called \['x'\]"):
        op(lambda *xs, x: x)


# -- broadcasting --------------------------------------------------------------------------------------------------


@st.composite
def broadcastable(draw):
    """Two shapes that go together, with their common shape."""
    full = draw(st.lists(st.integers(0, 3), max_size=4))

    def demote_float64():
        kept = full[draw(st.integers(0, len(full))) :]
        return tuple(n if draw(st.booleans()) else 1 for n in kept)

    return demote_float64(), demote_float64()


@given(broadcastable())
def test_a_rule_knows_nothing_of_broadcasting(shapes):
    """Σ w ⊙ (a + b): the gradient of each is w, summed over the axes along which it was broadcast."""
    a, b = (leaf(np.ones(shape)) for shape in shapes)
    y = a + b
    weight = np.arange(1.0, 1 + y.size).reshape(y.shape)
    y.backward(weight)
    for x in (a, b):
        extra = tuple(range(weight.ndim - x.ndim))
        stretched = tuple(k + len(extra) for k, n in enumerate(x.shape) if n == 1)
        expected = weight.sum(axis=extra + stretched).reshape(x.shape)
        assert x.grad.shape == x.shape
        np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "target"), [((4, 3), (3, 4)), ((2,), (2, 1)), ((), (1,)), ((4,), ()), ((2, 3), (3, 2)), ((2, 3), (2,))]
)
def test_a_sum_to_a_shape_that_does_not_broadcast_is_refused(shape, target):
    """Only a true sum over broadcast axes; nothing is reshaped into place."""
    if target == ():
        assert sum_to(np.ones(shape), shape=target) == 4
        return
    with pytest.raises(ValueError, match="cannot be broadcast to"):
        sum_to(np.ones(shape), shape=target)


def test_a_rule_whose_cotangent_has_the_wrong_shape_is_an_error():
    @op
    def turned(x):
        return x.T * 1

    turned.vjp(x=lambda g: g)
    with pytest.raises(ValueError, match="a rule whose cotangent has not the shape of its input"):
        turned(leaf(np.ones((2, 3)))).sum().backward()


# -- dtypes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("other", [2, 2.5, True, np.float64(2.5), [1.0, 2.0], "int32", "int64", "bool"])
def test_nothing_widens_a_tensor_in_silence(dtype, other):
    x = leaf([1.0, 2.0], dtype)
    operand = np.ones(2, other) if isinstance(other, str) else other
    for y in (x * operand, x + operand, x / 2 - operand, operand - x):
        assert y.dtype == dtype
        x.zero_grad()
        y.sum().backward()
        assert x.grad.dtype == dtype


def test_a_float64_array_is_taken_at_its_word():
    assert (leaf([1.0], "float32") * np.array([2.0])).dtype == "float64"


@pytest.mark.parametrize("number", [2, 2.5, True])
def test_integers_become_float32_not_float64(number):
    assert (Tensor([1, 2]) / number).dtype == "float32"
    assert (Tensor([1, 2]) * 0.5).dtype == "float32"
    assert ops.mean(Tensor([1, 2])).dtype == "float32"
    assert ops.sqrt(Tensor([1, 4])).tolist() == [1.0, 2.0]


def test_integers_stay_integers_where_they_can():
    assert (Tensor([1, 2]) * 2).dtype == "int64"
    assert ops.sum(Tensor([1, 2])).dtype == "int64"


def test_a_scalar_result_is_an_array():
    y = ops.sum(leaf([1.0, 2.0]))
    assert type(y.data) is np.ndarray and y.shape == ()


# -- errors --------------------------------------------------------------------------------------------------------


def test_errors_name_the_op_and_what_it_was_given():
    with pytest.raises(ValueError, match=r"^matmul: .*\(inputs: \(2, 3\) float64, \(4, 5\) float32\)$"):
        leaf(np.ones((2, 3))) @ leaf(np.ones((4, 5)), "float32")
    with pytest.raises(ValueError, match=r"^add: .*\(inputs: \(2, 3\) float64, \(4,\) float64\)$"):
        leaf(np.ones((2, 3))) + np.ones(4)
    with pytest.raises(TypeError, match=r"^hadamard: .*\(inputs: \(1,\) float64, str\)$"):
        leaf([1.0]) * "2"
    with pytest.raises(ValueError, match=r"^concatenate: .*\(inputs: \(1, 2\) float64, \(1,\) float64\)$"):
        ops.concatenate([leaf([[1.0, 2.0]]), leaf([1.0])])


def test_errors_are_the_same_with_arrays():
    with pytest.raises(ValueError, match=r"^matmul: .*inputs: \(2, 3\) float64, \(4, 5\) float64"):
        ops.matmul(np.ones((2, 3)), np.ones((4, 5)))


def test_an_error_keeps_its_kind_and_its_cause():
    with pytest.raises(IndexError) as caught:
        leaf([1.0])[3]
    assert isinstance(caught.value.__cause__, IndexError)


def test_the_written_source_can_be_read_and_stands_in_tracebacks(affine):
    assert "formula(a, x, shift=shift)" in affine.source()
    assert "a_rule(g, saved[0])" in affine.source()
    affine(1.0, 2.0)
    with pytest.raises(ValueError) as caught:
        affine(np.ones(2), np.ones(3))
    assert "try: y = formula(a, x, shift=shift)" in "".join(traceback.format_exception(caught.value))


# -- what is kept alive --------------------------------------------------------------------------------------------


def alive(function, *shapes):
    enabled = gc.isenabled()
    gc.disable()
    try:
        arrays = [np.ones(shape) for shape in shapes]
        references = [weakref.ref(a) for a in arrays]
        tensors = [Tensor.from_node(a, leaf(np.ones(a.shape)).node) for a in arrays]
        result = function(*tensors)
        del arrays, tensors
        assert result.requires_grad
        return [reference() is not None for reference in references]
    finally:
        if enabled:
            gc.enable()


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (ops.add, [(3,), (3,)], [False, False]),
        (ops.hadamard, [(3,), (3,)], [True, True]),
        (ops.divide, [(3,), (3,)], [False, True]),
        (ops.tanh, [(3,)], [False]),
        (ops.exp, [(3,)], [False]),
        (ops.relu, [(3,)], [False]),
        (ops.log, [(3,)], [True]),
        (ops.sum, [(3,)], [False]),
        (ops.mean, [(3,)], [False]),
        (ops.softmax, [(3,)], [False]),
        (lambda x: ops.cumsum(x, axis=0), [(3,)], [False]),
        (lambda a, b: ops.concatenate([a, b]), [(3,), (2,)], [False, False]),
        (lambda a, b: ops.stack([a, b]), [(3,), (3,)], [False, False]),
        (lambda w: ops.embedding(w, [0, 1]), [(3, 2)], [False]),
        (lambda w: w[np.array([0])], [(3, 2)], [False]),
        (ops.matmul, [(2, 3), (3, 2)], [True, True]),
        (lambda a: ops.pad(a, width=((1, 1),)), [(3,)], [False]),
        (lambda x: ops.dropout(x, p=0.5), [(3,)], [False]),
    ],
)
def test_what_no_rule_names_is_not_kept_alive(function, shapes, expected):
    assert alive(function, *shapes) == expected


def test_what_only_a_constant_needs_is_not_kept_alive():
    """a's value serves b's gradient; where b is a constant nobody needs it."""
    a = np.ones(3)
    reference = weakref.ref(a)
    y = Tensor.from_node(a, leaf(np.ones(3)).node) * constant([1.0, 2.0, 3.0])
    del a
    assert reference() is None and y.requires_grad


def test_nothing_is_kept_under_no_grad():
    a = np.ones(3)
    reference = weakref.ref(a)
    with no_grad():
        y = ops.log(Tensor.from_node(a, leaf(np.ones(3)).node))
    del a
    assert reference() is None and not y.requires_grad


def test_recording_is_as_the_context_says():
    x = leaf([1.0])
    with no_grad():
        assert ops.tanh(x).node is None
        with enable_grad():
            assert len(tape(ops.tanh(x))) == 1


def test_xp_of_finds_the_library_of_any_input():
    a = np.ones(2)
    assert xp_of(a) is np and xp_of(2.0, a) is np and xp_of([1.0]) is np


# -- rules that are given again ----------------------------------------------------------------------------------------


def test_backward_refuses_a_record_whose_rules_were_given_anew():
    """It has saved what the old rules asked for; what ran since has the new ones."""

    @op
    def scaled(a, b):
        return a * b

    scaled.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)
    x, w = (Tensor([v], requires_grad=True) for v in (2.0, 3.0))
    early, other = scaled(x, w), x * w
    scaled.vjp(a=lambda g, a: g * a, b=lambda g, b: g * b)
    late = scaled(x, w)
    with pytest.raises(TapeError, match=r"scaled was given other rules after #\d+ scaled .* ran: run it again"):
        (early + late).backward()
    assert x.grad is None
    (late + other).backward()
    assert (x.grad.tolist(), w.grad.tolist()) == ([2.0 + 3.0], [3.0 + 2.0])


def test_rules_that_are_refused_leave_the_old_ones():
    @op
    def scaled(a, b):
        return a * b

    scaled.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)
    with pytest.raises(TypeError, match="the rule of b asks for 'c'"):
        scaled.vjp(a=lambda g: g, b=lambda g, c: g)
    x = Tensor([2.0], requires_grad=True)
    scaled(x, 3.0).backward()
    assert x.grad.tolist() == [3.0]
