"""Mutation: a sample of the wrong rules that `tinygrad-gru check --mutants` makes, all of which must be noticed."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, ops
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.testing import GradientError, MutationScore, mutants, mutation
from tinygrad_gru.testing.mutation import ops_with_rules


@op
def cube(x):
    return x * x * x


RIGHT = {"x": lambda g, x: 3 * g * x * x}
CHECK = {"oracle": lambda x: np.power(x, 3), "shapes": [(3, 4)], "elementwise": True}
cube.vjp(**RIGHT)


@pytest.mark.parametrize("name", ["tanh", "divide", "sum", "transpose", "_concatenate", "_cast", "_slice", "select"])
def test_every_wrong_rule_of_an_op_is_noticed(name):
    score = mutants(ops_with_rules()[name])
    assert score.perfect, str(score)
    assert score.noticed >= 14 and not score.equivalent
    assert all(m.noticed.startswith(("GradientError: ", "ContractError: ")) for m in score.mutants)


def test_an_op_of_the_users_own():
    score = mutants(cube, **CHECK)
    assert score.perfect and score.noticed >= 25 and not score.equivalent
    assert str(score) == f"cube: {score.noticed} of {score.noticed} wrong rules are noticed"
    assert cube.rules == RIGHT
    x = Tensor(2.0, requires_grad=True)
    assert grad(cube(x), x).item() == 12.0


def test_the_faults_that_the_issue_of_a_rule_may_have_are_all_made():
    made = {m.fault for m in mutants(ops.divide).mutants if m.input == "b"}
    assert made >= {
        "wrong sign", "times 1.001", "zero", "not linear in g", "transposed", "reversed", "every second entry doubled",
        "sum over a broadcast axis missing", "mean over a broadcast axis", "y taken for 0 (a term dropped)",
        "b taken for 1 (a factor dropped)", "b in another order", "b of the first call", "second order: b a constant",
        "second order: g a constant", "times 1.001 when recorded", "times 1.5 when traced", "right at (3, 4) only",
        "times 1.001 in float32", "times 1.1 in float16", "widens to float64", "wrong for a cotangent: stride 0",
        "wrong for a cotangent: negative strides", "wrong for a cotangent: not contiguous",
        "wrong for what it keeps: not contiguous", "writes into g",
    }  # fmt: skip


def test_a_check_that_is_too_weak_is_told():
    """clip's thresholds lie where no random number falls."""
    score = mutants(ops.clip, lambda x, low: np.maximum(x, low), [(3, 4)], low=0.5)
    assert not score.perfect and [m.fault for m in score.survivors] == ["x off by 1 %"]
    assert str(score).endswith("\n  not noticed: rule of x, x off by 1 %")


def test_what_is_no_fault_is_not_counted_as_noticed():
    score = mutants(ops.relu)
    assert score.perfect
    assert {m.fault for m in score.equivalent} == {"y off by 1 %", "second order: y a constant"}
    assert all("the same values and derivatives in all" in m.equivalent for m in score.equivalent)


def test_only_rules_that_give_the_same_are_no_fault():
    """A rule right to second order and wrong in the derivatives by what it keeps is no equal of the right one."""

    def detached(g, x):
        return g * Tensor(unwrap(x)) ** 2 * 3 if isinstance(x, Tensor) else 3 * g * x * x

    call = mutation.Call(
        lambda: 3 * G * X * X, G := Tensor(np.ones(3), requires_grad=True), {"x": (X := G * 2.0)}, (3,)
    )
    assert mutation._same(call, 3 * G * X * X, G * X * X * 3)
    assert not mutation._same(call, 3 * G * X * X, detached(G, X))
    assert not mutation._same(call, 3 * G * X * X, 3.001 * G * X * X)


def test_an_op_that_does_not_pass_unchanged(monkeypatch):
    @op
    def broken(x):
        return x * x

    broken.vjp(x=lambda g, x: g * x)
    with pytest.raises(GradientError, match=r"off by a factor of 0\.5 everywhere"):
        mutants(broken, np.square, [(3, 4)])
    monkeypatch.setattr(mutation, "ops_with_rules", lambda: {"broken": broken})
    score = mutation._score_of("broken")
    assert isinstance(score, MutationScore) and not score.perfect and "its own rules do not pass" in str(score)


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(TypeError, match="oracle and shapes"):
        mutants(cube)
    with pytest.raises(TypeError, match="an op with rules"):
        mutants(ops.sign)
    with pytest.raises(TypeError, match="an op with rules"):
        mutants(np.tanh)


def test_no_op_is_forgotten():
    assert {"matmul", "_einsum", "select", "sum_to", "_scatter", "layer_norm"} - set(ops_with_rules()) == {"layer_norm"}
    assert len(ops_with_rules()) > 55
