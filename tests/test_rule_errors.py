"""A rule that returns something else than a cotangent of its input: the error names op, input, shapes and the rule."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import cube_with

from tinygrad_gru import TapeError, Tensor, compiling, nn, op, ops, scan
from tinygrad_gru.scan import NotCompiledError
from tinygrad_gru.testing import ContractError, check_op, gradcheck


def of_other_shape(g, x):
    return (3 * g * x * x)[:1]


RULES = {
    "None": (lambda g: None, TypeError, r"cube: the rule of x returned None, expected an array of shape \(3, 4\)"),
    "a number": (lambda g: 0.0, TypeError, r"cube: the rule of x returned a float, expected an array of shape"),
    "a shape": (of_other_shape, ValueError, r"cube: the rule of x returned shape \(1, 4\), expected \(3, 4\)"),
}
LINE = r".*\(.*test_rule_errors\.py:\d+: "


@pytest.mark.parametrize("name", RULES)
def test_eager_compiled_and_checked(name):
    rule, kind, message = RULES[name]
    cube, text = cube_with(rule), "def of_other_shape" if name == "a shape" else f'"{name}": .lambda g'
    x = Tensor(np.ones((3, 4)), requires_grad=True)
    xs, start = Tensor(np.ones((5, 3, 4)), requires_grad=True), Tensor(np.zeros((3, 4)))
    with pytest.raises(kind, match=message + LINE + text):
        cube(x).sum().backward()
    with pytest.raises(kind, match=message + LINE + text):
        scan(lambda h, u: h + cube(u), start, xs, compiled=False)[0].sum().backward()
    with pytest.raises(NotCompiledError, match=message):
        scan(lambda h, u: h + cube(u), start, xs, compiled=True)
    with pytest.raises(kind, match=message + LINE + text):
        gradcheck(cube, [np.ones((3, 4))])
    with pytest.raises(kind, match=message + LINE + text):
        check_op(cube, lambda x: np.power(x, 3), [(3, 4)])


def test_the_rule_of_a_variadic_op():
    @op
    def total(*xs):
        return sum(xs)

    total.vjp(xs=lambda g, i: None if i else g)
    with pytest.raises(TypeError, match=r"total: the rule of xs returned None, expected .*\(2,\).*total\.vjp\(xs="):
        total(Tensor(np.ones(2)), Tensor(np.ones(2), requires_grad=True)).sum().backward()


def test_check_op_names_the_rule_that_changes_the_dtype():
    cube = cube_with(lambda g, x: (3 * g * x * x).astype("float64"))
    with pytest.raises(ContractError, match=r"in float32: .*became float64, by the rule of x in cube \(.*astype"):
        check_op(cube, lambda x: np.power(x, 3), [(3, 4)])


# -- a graph that an earlier backward has freed ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, False])
def test_a_state_that_is_carried_over_without_detach(mode):
    layer, x = nn.GRU(2, 3), Tensor(np.ones((4, 1, 2), "float32"))
    with compiling(mode):
        y, state = layer(x)
        y.sum().backward()
        with pytest.raises(TapeError, match=r"carried over from an earlier step goes on as `state\.detach\(\)`"):
            layer(x, state)[0].sum().backward()
        layer(x, layer(x)[1].detach())[0].sum().backward()


def test_one_graph_twice():
    loss = ops.sum(ops.exp(Tensor(np.ones(2), requires_grad=True)))
    loss.backward()
    with pytest.raises(TapeError, match=r"to run it twice, give the first backward retain_graph=True$"):
        loss.backward()
