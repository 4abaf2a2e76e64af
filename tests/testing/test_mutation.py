"""Mutation testing of the op contract, on a sample of the ops of `tinygrad-gru check --mutants`."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, ops
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.testing import GradientError, MutationScore, mutants
from tinygrad_gru.testing.mutation import ops_with_rules
from tinygrad_gru.testing.mutation import scores as mutation


@op
def cube(x):
    return x * x * x


RIGHT = {"x": lambda g, x: 3 * g * x * x}
CHECK = {"oracle": lambda x: np.power(x, 3), "shapes": [(3, 4)], "elementwise": True}
cube.vjp(**RIGHT)


@pytest.mark.parametrize(
    "name", ["tanh", "divide", "sum", "transpose", "_concatenate", "_cast", "_slice", "select", "_affine"]
)
def test_every_mutant_of_an_op_is_killed(name):
    score = mutants(ops_with_rules()[name])
    assert score.perfect, str(score)
    assert score.killed >= 14 and not score.equivalent
    assert all(m.killed_by.startswith(("GradientError: ", "ContractError: ")) for m in score.mutants)


def test_mutants_of_a_user_defined_op():
    score = mutants(cube, **CHECK)
    assert score.perfect and score.killed >= 25 and not score.equivalent
    assert str(score) == f"cube: {score.killed} of {score.killed} mutants killed"
    assert cube.rules == RIGHT
    x = Tensor(2.0, requires_grad=True)
    assert grad(cube(x), x).item() == 12.0


def test_mutants_of_an_op_with_an_input_of_the_name_g():
    @op
    def scaled(g, x):
        return g * x

    scaled.vjp(g=lambda u, x: u * x, x=lambda u, g: u * g)
    score = mutants(scaled, oracle=np.multiply, shapes=[(3, 4), (3, 4)], elementwise=True)
    assert score.perfect and score.killed >= 40, str(score)


def test_every_mutation_operator_that_applies_is_used():
    made = {m.operator for m in mutants(ops.divide).mutants if m.input == "b"}
    assert made >= {
        "wrong sign", "times 1.001", "zero", "not linear in g", "transposed", "reversed", "every second entry doubled",
        "sum over a broadcast axis missing", "mean over a broadcast axis", "y replaced by 0 (a term dropped)",
        "b replaced by 1 (a factor dropped)", "b in another order", "b of the first call", "second order: b a constant",
        "second order: g a constant", "times 1.001 when recorded", "times 1.5 when traced", "right at (3, 4) only",
        "times 1.001 in float32", "times 1.1 in float16", "casts to float64", "wrong for a cotangent: stride 0",
        "wrong for a cotangent: negative strides", "wrong for a cotangent: not contiguous",
        "wrong for residuals: not contiguous", "writes into g",
    }  # fmt: skip


def test_a_mutant_survives_a_check_that_is_too_weak():
    """No random value falls near the thresholds of clip."""
    score = mutants(ops.clip, lambda x, low: np.maximum(x, low), [(3, 4)], low=0.5)
    assert not score.perfect and [m.operator for m in score.survived] == ["x off by 1 %"]
    assert str(score).endswith("\n  survived: rule of x, x off by 1 %")


def test_equivalent_mutants_are_not_counted_as_killed():
    score = mutants(ops.relu)
    assert score.perfect
    assert {m.operator for m in score.equivalent} == {"y off by 1 %", "second order: y a constant"}
    assert all("the same values and derivatives in all" in m.equivalent for m in score.equivalent)


def test_a_mutant_with_other_derivatives_is_not_equivalent():
    """The same values, but other derivatives with respect to the residuals."""

    def detached(g, x):
        return g * Tensor(unwrap(x)) ** 2 * 3 if isinstance(x, Tensor) else 3 * g * x * x

    call = mutation.Call(
        lambda: 3 * G * X * X, G := Tensor(np.ones(3), requires_grad=True), {"x": (X := G * 2.0)}, (3,)
    )
    assert mutation._same(call, 3 * G * X * X, G * X * X * 3)
    assert not mutation._same(call, 3 * G * X * X, detached(G, X))
    assert not mutation._same(call, 3 * G * X * X, 3.001 * G * X * X)


def test_mutants_of_an_op_that_fails_unchanged_raises(monkeypatch):
    @op
    def broken(x):
        return x * x

    broken.vjp(x=lambda g, x: g * x)
    with pytest.raises(GradientError, match=r"off by a factor of 0\.5 everywhere"):
        mutants(broken, np.square, [(3, 4)])
    monkeypatch.setattr(mutation, "ops_with_rules", lambda: {"broken": broken})
    score = mutation._score_of("broken")
    assert (
        isinstance(score, MutationScore)
        and not score.perfect
        and "the check of its unchanged rules fails" in str(score)
    )


def test_mutants_without_oracle_or_rules_raises():
    with pytest.raises(TypeError, match="oracle and shapes"):
        mutants(cube)
    with pytest.raises(TypeError, match="an op with rules"):
        mutants(ops.sign)
    with pytest.raises(TypeError, match="an op with rules"):
        mutants(np.tanh)


def test_ops_with_rules_finds_every_op():
    assert {"matmul", "_einsum", "select", "sum_to", "_scatter", "layer_norm"} - set(ops_with_rules()) == {"layer_norm"}
    assert len(ops_with_rules()) > 55
