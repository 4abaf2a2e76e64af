"""Attacks on check_op and gradcheck: wrong ops that must be caught, and right ones that must pass.

Each wrong op passed an earlier version of the checkers, or resembles one that did.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import Tensor, ops
from tinygrad_gru.backend import bfloat16, dtype_name
from tinygrad_gru.debug import lockstep
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.scan.tracing.traced_array import TracedArray
from tinygrad_gru.testing import check_op, gradcheck, gradgradcheck

X = np.array([[0.3, -0.7, 1.1], [0.5, 0.2, -1.3]])
Pair = namedtuple("Pair", "first second")


@dataclass
class Result:
    value: Any
    extra: Any


def make_op_with(formula: Callable, *rules: Callable | None) -> Any:
    """An op of one, two or four inputs, or of any number (`xs`)."""
    if len(rules) == 1:

        @op
        def attacked(x):
            return formula(x)

        attacked.vjp(x=rules[0])
    elif len(rules) == 2:

        @op
        def attacked(a, b):
            return formula(a, b)

        attacked.vjp(a=rules[0], b=rules[1])
    else:

        @op
        def attacked(a, b, c, d):
            return formula(a, b, c, d)

        attacked.vjp(a=rules[0], b=rules[1], c=rules[2], d=rules[3])
    return attacked


def sum_with_rule_off_by(wrong: Callable[[int], float]) -> Any:
    """The sum of any number of arrays, whose rule of input i is off by wrong(i)."""

    @op
    def attacked(*xs):
        return sum(xs[1:], xs[0])

    attacked.vjp(xs=lambda g, i: g * wrong(i))
    return attacked


def square_with(rule: Callable) -> Callable:
    return lambda **how: check_op(make_op_with(lambda x: x * x, rule), np.square, [(3, 4)], **how)


def identity(formula: Callable, rule: Callable = lambda g: g * 1.0) -> Callable:
    return lambda **how: check_op(make_op_with(formula, rule), lambda x: x, [(3, 4)], **how)


def is_in(value: Any, dtype: str) -> bool:
    return dtype_name(unwrap(value).dtype) == dtype


def constant(value: Any) -> Any:
    return Tensor.from_node(value.data, None) if isinstance(value, Tensor) else value


def in_memory_order(x: Any) -> Any:
    """What a formula or rule gives that reads the buffer and forgets the strides."""
    return np.ravel(x, order="K").reshape(x.shape) * 1.0 if isinstance(x, np.ndarray) else x * 1.0


def wrong_at_stride_0(g: Any) -> Any:
    """Wrong for a cotangent of stride 0 alone."""
    repeated = isinstance(g, np.ndarray) and g.size > 1 and 0 in g.strides
    return g * 1.0 if not repeated else np.concatenate([g.ravel()[:1], np.zeros(g.size - 1)]).reshape(g.shape)


def reads_base(x: Any) -> Any:
    """Wrong for negative strides: the memory from its beginning."""
    backwards = isinstance(x, np.ndarray) and x.ndim and min(x.strides) < 0
    return x[..., ::-1] * 1.0 if backwards else x * 1.0


def after_write(x: Any, name: str) -> Any:
    """x, after a write where writing is possible."""
    array = unwrap(x)
    if isinstance(array, np.ndarray) and array.flags.writeable and name == "written":
        array[...] = 0.25
    return x


def writes_into_g(g, x):
    result = 2 * g * x
    after_write(g, "written")
    return result


def writes_into_x(g, x):
    result = 2 * g * x
    after_write(x, "written")
    return result


def adds_in_place(x):
    x += 1
    return x


def remembers_first() -> Callable:
    known: dict[Any, Any] = {}

    def rule(g, x):
        if isinstance(x, np.ndarray):
            x = known.setdefault((x.shape, x.dtype), x.copy())
        return 2 * g * x

    return rule


def keeps_the_input_itself() -> Any:
    """A square whose rule knows x by itself, not by name: nothing notices a write into it."""
    seen: dict[tuple, Any] = {}

    @op
    def attacked(x):
        seen[x.shape] = x
        return x * x

    attacked.vjp(x=lambda g, x_shape: 2 * g * seen[x_shape])
    return attacked


def at_shape(condition: Callable[[tuple], bool], rule: Callable) -> Callable:
    return lambda g, x: rule(g, x) * (1.01 if condition(tuple(g.shape)) else 1.0)


def product(a: Callable | None, b: Callable | None, shapes: Any = ((3, 4), (3, 4))) -> Callable:
    return lambda **how: check_op(
        make_op_with(lambda a, b: a * b, a, b), np.multiply, list(shapes), elementwise=True, **how
    )


def right_a(g, b):
    return g * b


def right_b(g, a):
    return g * a


def four(wrong: float) -> Any:
    rules = [lambda g: g * 1.0] * 3
    return make_op_with(lambda a, b, c, d: a + b + c + d, *rules, lambda g: g * wrong)


def four_added(a, b, c, d):
    return a + b + c + d


def hundredfold(wrong: bool) -> Callable[[Tensor], Any]:
    """A large and a small result of different outputs."""
    cube = make_op_with(lambda x: x * x * x, lambda g, x: (2 if wrong else 3) * g * x * x)
    return lambda x: (1e8 * ops.exp(x), cube(x))


def both(**parts: Any) -> Any:
    return lockstep(parts.pop("function"), np.array([0.3, 0.7]), backends=("numpy", STRICT), **parts)


def only_here(x: Any, here: Any, there: Any) -> Any:
    return there if "strict" in type(x.data).__module__ else here


TWICE = make_op_with(lambda x: x * x, lambda g, x: 3 * g * x)  # its rule should say 2
LARGE = np.random.default_rng(0).uniform(0.5, 2.0, (20, 20))

WRONG: dict[str, Callable[[], Any]] = {
    # dtypes
    "gradient in float32 alone": square_with(lambda g, x: (7 if is_in(g, "float32") else 2) * g * x),
    "gradient in float16 alone": square_with(lambda g, x: (2.2 if is_in(g, "float16") else 2) * g * x),
    "gradient 0.1 % off in float32": square_with(lambda g, x: (2.002 if is_in(g, "float32") else 2) * g * x),
    "values in float32 alone": identity(lambda x: x * (1.001 if is_in(x, "float32") else 1.0)),
    "values in float16 alone": identity(lambda x: x * (1.1 if is_in(x, "float16") else 1.0)),
    "sign in float32 alone": square_with(lambda g, x: (-2 if is_in(g, "float32") else 2) * g * x),
    "one float32 entry": identity(lambda x: x + (np.arange(12).reshape(3, 4) == 5).astype(x.dtype) * (0.01 if is_in(x, "float32") else 0)),
    "second order in float32 alone": square_with(lambda g, x: 2 * g * (constant(x) if is_in(x, "float32") else x)),
    "second order in float16 alone": square_with(lambda g, x: 2 * g * (constant(x) if is_in(x, "float16") else x)),
    "a rule that widens": square_with(lambda g, x: ops.astype(2 * g * x, dtype="float64")),
    "a formula that widens": identity(lambda x: x + np.zeros(x.shape)),
    # memory layouts
    "a cotangent in memory order": identity(lambda x: x * 1.0, in_memory_order),
    "a cotangent of stride 0": identity(lambda x: x * 1.0, wrong_at_stride_0),
    "a cotangent of negative strides": identity(lambda x: x * 1.0, reads_base),
    "an input in memory order": identity(in_memory_order),
    "an input of stride 0": identity(wrong_at_stride_0),
    "an input of negative strides": identity(reads_base),
    "a residual in memory order": square_with(lambda g, x: 2 * g * in_memory_order(x)),
    "a residual of stride 0": square_with(lambda g, x: 2 * g * wrong_at_stride_0(x)),
    "an element out of the gaps": identity(lambda x: x * 1.0 if not isinstance(x, np.ndarray) or x.flags.c_contiguous else np.lib.stride_tricks.as_strided(x, x.shape) + 0.0 * x[:1] + (1 if abs(x.strides[-1]) == 16 else 0)),
    "a write into the cotangent": square_with(writes_into_g),
    "a write into a residual": square_with(writes_into_x),
    "a write into the input": lambda: check_op(make_op_with(adds_in_place, lambda g: g * 1.0), lambda x: x + 1, [(3, 4)]),
    "an array that no rule names": lambda: check_op(keeps_the_input_itself(), np.square, [(3, 4)]),
    # first derivatives
    "sign": square_with(lambda g, x: -2 * g * x),
    "a factor of 1.001": square_with(lambda g, x: 2.002 * g * x),
    "a factor of 1.00001": square_with(lambda g, x: 2.00002 * g * x),
    "a dropped term": lambda: check_op(make_op_with(np.tanh, lambda g, y: g * 1.0), np.tanh, [(3, 4)]),
    "zero": square_with(lambda g, x: 0.0 * g * x),
    "not a number": square_with(lambda g, x: 2 * g * x * np.nan),
    "an infinity": square_with(lambda g, x: 2 * g * x / 0.0),
    "without its cotangent": square_with(lambda g, x: 2 * x + 0.0 * g),
    "the square of the cotangent": identity(lambda x: x * 1.0, lambda g: g * g),
    "the size of the cotangent": identity(lambda x: x * 1.0, lambda g: ops.absolute(g)),
    "right for positive cotangents": identity(lambda x: x * 1.0, lambda g: ops.maximum(g, 0.5 * g)),
    "the largest cotangent for all": identity(lambda x: x * 1.0, lambda g: g + 1e-3 * ops.max(g)),
    "transposed": lambda: check_op(make_op_with(lambda x: x * 1.0, lambda g: g.T * 1.0), lambda x: x, [(3, 3)]),
    "reversed": identity(lambda x: x * 1.0, lambda g: g[::-1] * 1.0),
    "one entry": identity(lambda x: x * 1.0, lambda g: g * np.where(np.arange(12).reshape(3, 4) == 7, 1.01, 1).astype(np.float32)),
    "hidden from the tape": lambda: check_op(lambda x: x * (x.detach() if isinstance(x, Tensor) else x), np.square, [(3, 4)]),
    "the rule of the other input": product(lambda g, a: g * a, lambda g, b: g * b),
    "a rule of None": product(right_a, None),
    "a rule of a for b": product(right_a, lambda g, b: g * b),
    "a sum over a broadcast axis missing": product(right_a, lambda g, a, b_shape: (g * a)[tuple(slice(0, 1) if n == 1 else slice(None) for n in b_shape)] if len(b_shape) == len(g.shape) else g * a),
    "a mean over broadcast axes": product(right_a, lambda g, a, b_shape: g * a * (1.0 if tuple(g.shape) == tuple(b_shape) else 0.5)),
    "a tiny function": lambda: check_op(make_op_with(lambda x: 1e-12 * x, lambda g: 2e-12 * g), lambda x: 1e-12 * x, [(3, 4)]),
    "a tiny value": lambda: check_op(make_op_with(lambda x: 2e-12 * x, lambda g: 2e-12 * g), lambda x: 1e-12 * x, [(3, 4)]),
    # history, shapes
    "a residual of the first call": square_with(remembers_first()),
    "wrong without axes": lambda: check_op(make_op_with(lambda x: x * x, at_shape(lambda s: s == (), lambda g, x: 2 * g * x)), np.square, [(3, 4)], elementwise=True),
    "wrong at size 1": lambda: check_op(make_op_with(lambda x: x * x, at_shape(lambda s: s == (1,), lambda g, x: 2 * g * x)), np.square, [(3, 4)], elementwise=True),
    "right at one shape": lambda: check_op(make_op_with(lambda x: x * x, at_shape(lambda s: s != (3, 4), lambda g, x: 2 * g * x)), np.square, [(3, 4)], elementwise=True),
    "random": lambda: check_op(lambda x: x * Tensor(np.random.default_rng().random()) if isinstance(x, Tensor) else x, lambda x: x, [(3, 4)]),
    "the third of three": lambda: check_op(sum_with_rule_off_by(lambda i: 1.001 if i == 2 else 1.0), lambda *xs: np.sum(xs, axis=0), [(3, 4)] * 3, elementwise=False),
    "the third of three, with corners": lambda: check_op(sum_with_rule_off_by(lambda i: 1.001 if i == 2 else 1.0), lambda a, b, c: a + b + c, [(3, 4)] * 3, elementwise=True),
    "the fourth of four": lambda: check_op(four(0.999), four_added, [(3, 4)] * 4, elementwise=True),
    "nothing but empty arrays": lambda: check_op(ops.tanh, np.tanh, [(0, 3)]),
    "a gradient where none was declared": lambda: check_op(ops.tanh, np.tanh, [(3, 4)], differentiable=False),
    "a number of outputs": lambda: check_op(lambda x: ops.split(x, 2), lambda x: np.split(x, 3), [(6,)]),
    "fewer outputs for arrays": lambda: check_op(lambda x: [x * 1.0, x * 2.0] if isinstance(x, Tensor) else [x], lambda x: [x, 2 * x], [(3,)]),
    "an output of integers": lambda: check_op(ops.argmax, np.argmin, [(3, 4)], differentiable=False),
    # second derivatives, forms
    "second order: a constant output": lambda: check_op(make_op_with(np.tanh, lambda g, y: g * (1 - constant(y) * constant(y))), np.tanh, [(3, 4)]),
    "second order: a constant cotangent": square_with(lambda g, x: 2 * constant(g) * x),
    "other bits when recorded": square_with(lambda g, x: g * x + g * x if isinstance(g, Tensor) else 2.0000000001 * g * x),
    "a gradient when traced": square_with(lambda g, x: 2 * g * x * (1.5 if isinstance(unwrap(g), TracedArray) else 1.0)),
    "values when traced": identity(lambda x: x * (1.5 if isinstance(x, TracedArray) else 1.0)),
    # gradcheck
    "a small output beside a large one": lambda: gradcheck(hundredfold(wrong=True), [X]),
    "in random directions too": lambda: gradcheck(hundredfold(wrong=True), [LARGE], full=False),
    "second order beside a large one": lambda: gradgradcheck(lambda x: (1e8 * ops.exp(x), make_op_with(lambda x: x * x, lambda g, x: 2 * g * constant(x))(x)), [X]),
    "−5e-9 for 1e-9": lambda: gradcheck(make_op_with(lambda x: 1e-9 * x, lambda g: -5e-9 * g), [X]),
    "−5e-9 for 1e-9, in random directions": lambda: gradcheck(make_op_with(lambda x: 1e-9 * x, lambda g: -5e-9 * g), [X], full=False),
    "log beside 10⁶": lambda: gradcheck(make_op_with(np.log, lambda g, x: g / x * np.where(np.arange(2) == 1, 1.001, 1)), [np.array([1e6, 1.0])]),
    "a small coordinate beside a large one": lambda: gradcheck(make_op_with(lambda x: x * np.array([1e8, 1.0]), lambda g: g * np.array([1e8, 1.01])), [np.array([0.4, 0.3])], full=False),
    "no output": lambda: gradcheck(lambda x: [], [X]),
    "no output in a dict": lambda: gradcheck(lambda x: {}, [X]),
    "no second derivative": lambda: gradgradcheck(lambda x: None, [X]),
    "an empty input": lambda: gradcheck(ops.tanh, [np.zeros((0, 3))]),
    "in a dict": lambda: gradcheck(lambda x: {"a": x * 1.0, "b": {"c": TWICE(x)}}, [X]),
    "in a named tuple": lambda: gradcheck(lambda x: Pair(x * 1.0, TWICE(x)), [X]),
    "in a dataclass": lambda: gradcheck(lambda x: Result(None, [TWICE(x)]), [X]),
    "in a list in a tuple": lambda: gradcheck(lambda x: (x * 1.0, [x * 2.0, (TWICE(x),)]), [X]),
    "one of 400 entries": lambda: gradcheck(make_op_with(lambda x: x * x, lambda g, x: 2 * g * x * np.where(np.arange(400).reshape(20, 20) == 77, 1.1, 1)), [LARGE]),
    # lockstep
    "lockstep: in a dict": lambda: both(function=lambda x: {"a": only_here(x, x * 1.0, x * 1.01)}, every_op=False),
    "lockstep: nested": lambda: both(function=lambda x: [Pair(x, {"b": only_here(x, x * 1.0, x * 1.01)})], every_op=False),
    "lockstep: in a dataclass": lambda: both(function=lambda x: Result(x, only_here(x, x * 1.0, x * 1.01)), every_op=False),
    "lockstep: a number": lambda: both(function=lambda x: {"n": only_here(x, 1.0, 2.0)}),
    "lockstep: nothing": lambda: both(function=lambda x: {}),
    "lockstep: None": lambda: both(function=lambda x: None),
    "lockstep: another key": lambda: both(function=lambda x: {only_here(x, "a", "b"): x * 1.0}),
}  # fmt: skip
if bfloat16() is not None:
    WRONG["gradient in bfloat16 alone"] = lambda: square_with(
        lambda g, x: (3 if is_in(g, "bfloat16") else 2) * g * x
    )(dtypes=("bfloat16",))  # fmt: skip

RIGHT: dict[str, Callable[[], Any]] = {
    "log beside 10⁶": lambda: gradcheck(ops.log, [np.array([1e6, 1.0])]),
    "log beside 10⁶, second order": lambda: gradgradcheck(ops.log, [np.array([1e6, 1.0])]),
    "log beside 10⁶, in random directions": lambda: gradcheck(ops.log, [np.array([1e6, 1.0, 1e-6])], full=False),
    "log at 1e-9": lambda: gradcheck(ops.log, [np.array([1e-9, 1.0, 1e9])]),
    "√ at 1e-12": lambda: gradcheck(ops.sqrt, [np.array([1e-12, 4.0])]),
    "1/x at 1e-6": lambda: gradcheck(lambda x: 1 / x, [np.array([1e-6, 1e6])]),
    "cos at 1e-9": lambda: gradcheck(ops.cos, [np.array([1e-9, 0.0, 1e5])]),
    "x³ at 0": lambda: gradcheck(lambda x: x * x * x, [np.array([0.0, 1.0])]),
    "a small slope on a large value": lambda: gradcheck(lambda x: 1e3 + 1e-3 * x, [X]),
    "1e-9 x": lambda: gradcheck(lambda x: 1e-9 * x, [X]),
    "1e9 x": lambda: gradcheck(lambda x: 1e9 * x, [X]),
    "a large and a small output": lambda: gradcheck(hundredfold(wrong=False), [X]),
    "a large and a small output, in random directions": lambda: gradcheck(hundredfold(wrong=False), [LARGE], full=False),
    "a large and a small output, second order": lambda: gradgradcheck(hundredfold(wrong=False), [X]),
    "relu beside its kink": lambda: gradcheck(ops.relu, [np.array([1e-3, -1e-3, 1e-7, 5.0])]),
    "max of close numbers": lambda: gradcheck(ops.max, [np.array([1.0, 1.001, 0.5])]),
    "a product with zeros": lambda: gradcheck(ops.prod, [np.array([0.0, 2.0, 3.0])]),
    "softmax of one number": lambda: gradcheck(ops.softmax, [np.array([[0.3], [2.0]])]),
    "x − mean x of one number": lambda: gradcheck(lambda x: x - ops.mean(x), [np.array([0.7])]),
    "a sum that cancels": lambda: gradcheck(ops.sum, [np.array([1e8, -1e8, 1.0])]),
    "logsumexp of large numbers": lambda: gradcheck(ops.logsumexp, [np.array([1000.0, 999.0])]),
    "a step function": lambda: gradcheck(ops.sign, [X]),
    "an unused input": lambda: gradcheck(lambda a, b: a * 2.0, [X, X]),
    "outputs in containers": lambda: gradcheck(lambda x: {"a": Pair(x * 2.0, [ops.exp(x)]), "b": Result(None, x * x)}, [X]),
    "400 entries": lambda: gradgradcheck(lambda x: ops.tanh(x @ x.T), [LARGE / 20]),
    "three inputs": lambda: check_op(sum_with_rule_off_by(lambda i: 1.0), lambda a, b, c: a + b + c, [(3, 4)] * 3, elementwise=True),
    "four inputs": lambda: check_op(four(1.0), four_added, [(3, 4)] * 4, elementwise=True),
    "a cube": lambda: check_op(make_op_with(lambda x: x * x * x, lambda g, x: 3 * g * x * x), lambda x: np.power(x, 3), [(3, 4)], elementwise=True),
    "a view": lambda: check_op(make_op_with(lambda x: x.T, lambda g: g.T), np.transpose, [(3, 4)]),
    "a product of matrices in half precision": lambda: check_op(ops.matmul, np.dot, [(12, 30), (30, 7)], compiled=False),
    "an ill-conditioned variance": lambda: check_op(lambda x: ops.var(x, axis=0), lambda x: np.var(x, axis=0), [(20, 2)], (0.9, 1.0)),
    "a function without gradient": lambda: check_op(ops.greater, np.greater, [(3, 4), (3, 4)], differentiable=False),
    "lockstep of a dict": lambda: both(function=lambda x: {"a": [ops.exp(x)], "n": 3, "none": None}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what is wrong on purpose
@pytest.mark.parametrize("attack", WRONG.values(), ids=WRONG)
def test_wrong_ops_are_caught(attack):
    with pytest.raises(AssertionError):  # every error of a checker is one
        attack()


@pytest.mark.parametrize("attack", RIGHT.values(), ids=RIGHT)
def test_right_ops_pass(attack):
    report = attack()
    assert report if not hasattr(report, "kinds") else report.results


def test_there_are_enough_attacks():
    assert len(WRONG) >= 60 and len(RIGHT) >= 30


def test_a_wrong_output_beside_a_large_one_is_caught_at_every_seed():
    for seed in range(20):
        with pytest.raises(AssertionError, match=r"∂output\[1\]"):
            gradcheck(hundredfold(wrong=True), [X], full=False, seed=seed)


def test_a_wrong_number_of_domains_raises():
    """Of three inputs the third was left out, without a word, if there were two domains."""
    with pytest.raises(ValueError, match="one for each of the 3 inputs"):
        check_op(
            sum_with_rule_off_by(lambda i: 1.0), lambda *xs: np.sum(xs, axis=0), [(3, 4)] * 3, [(0.0, 1.0), (0.0, 1.0)]
        )


CAUSES: dict[str, tuple[Callable[[], Any], str]] = {
    "a factor": (WRONG["sign"], r"attacked at \[\(3, 4\)\]: ∂output\[0, 0\] / ∂inputs\[0\]\[0, 0\]: the rules give -1.*, finite differences 1.*off by a factor of −1 everywhere"),
    "transposed": (WRONG["transposed"], "looks transposed"),
    "reversed": (WRONG["reversed"], "looks reversed along axis 0"),
    "zero": (WRONG["zero"], "all of it is 0: a rule is missing"),
    "one entry": (WRONG["one entry"], r"∂output\[1, 3\] / ∂inputs\[0\]\[1, 3\]: .*only 1 of 12 nonzero entries are wrong"),
    "a missing sum": (WRONG["a sum over a broadcast axis missing"], "sum over axis 0 of the output missing"),
    "a mean": (lambda: check_op(make_op_with(lambda a, b: a * b, right_a, lambda g, a, b_shape: g * a * (1 / 3)), np.multiply, [(3, 2), (1, 2)]), "1/3, the length of an axis: a mean instead of a sum"),
    "a dtype": (WRONG["gradient in float32 alone"], r"in float32: the gradient of input 0 differs from that in float64: at \[0, 0\] got .*off by a factor of 3.5 everywhere"),
    "a layout": (WRONG["a cotangent of stride 0"], r"the gradient of input 0 for a cotangent broadcast along .* \(stride 0\) differs from contiguous ones"),
    "nonlinear": (WRONG["the size of the cotangent"], "factor of −1|not linear in its cotangent|entries are wrong"),
    "additivity": (WRONG["the largest cotangent for all"], "not linear|entries are wrong"),
    "nothing": (WRONG["no output"], "nothing was checked: 0 outputs"),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "cause"), CAUSES.values(), ids=CAUSES)
def test_errors_name_the_entry_and_the_likely_cause(attack, cause):
    with pytest.raises(AssertionError, match=cause):
        attack()
