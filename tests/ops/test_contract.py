"""Every op keeps the contract on every backend, as its specs say."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.strict import NOT_IN_THE_STANDARD, STRICT

from tinygrad_gru import ops
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import is_op
from tinygrad_gru.testing import OP_SPECS, check_case
from tinygrad_gru.testing.op_specs import CHECKED_BY

CASES = [(name, number) for name, cases in OP_SPECS.items() for number in range(len(cases))]

#: The module whose identity op is a tool of the contract.
CLAUSES = "tinygrad_gru.testing.clauses"
#: Ops that scan runs in eager mode.
NOT_COMPILED = frozenset(
    "all any argmax argmin argsort categorical cross_entropy cumsum dropout einsum embedding floor_divide gather "
    "getitem isfinite kl_divergence logsumexp nll one_hot pad remainder repeat scatter_add sort take topk".split()
)
#: Cases whose inputs or outputs are all empty, so that there is no derivative.
EMPTY = {("cumsum", 3), ("getitem", 10), ("matmul", 10), ("matmul", 11), ("matmul", 13), ("prod", 8), ("reshape", 3),
         ("sum", 7)}  # fmt: skip
#: The cases that cast to integers or look for indices, which scan does not compile.
EAGER = {("astype", 1), *(("max", n) for n in (7, 8, 9)), ("min", 7), ("min", 8)}


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_op_keeps_the_contract(backend, name, number):
    if backend is STRICT and name in NOT_IN_THE_STANDARD:
        with pytest.raises((AttributeError, NotImplementedError)):  # the exception is still needed
            check_case(name, OP_SPECS[name][number], backend, quick=True)
        return
    case = OP_SPECS[name][number]
    report = check_case(name, case, backend, quick=backend is STRICT)
    assert report or case.empty
    assert report.orders == ((1, 2) if case.differentiable and (name, number) not in EMPTY else ())
    if backend.name == "numpy":
        eager = name in NOT_COMPILED or (name, number) in EMPTY | EAGER
        assert report.layouts
        assert report.compiled or eager, "no scan compiles it: see NOT_COMPILED, and explain() for the reason"
        assert {"float64", *case.dtypes} <= set(report.dtypes)


def test_every_public_op_has_specs_and_all_specs_have_an_op():
    public = {name for name in ops.__all__ if name not in ("Op", "op")}
    assert {name for name, cases in OP_SPECS.items() if not all(case.function for case in cases)} <= public
    assert public <= set(OP_SPECS)
    assert all(OP_SPECS.values()), "specs without a case check nothing"


def test_every_op_of_the_package_has_specs():
    """Also one that is not in `ops.__all__`, or is defined elsewhere."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("tinygrad_gru")]
    values = [value for module in modules for value in list(vars(module).values())]
    defined = {value.formula.__name__ for value in values if is_op(value) and value.__module__ != CLAUSES}
    assert len(defined) > 60 and "matmul" in defined
    assert {CHECKED_BY.get(name, name) for name in defined} <= {*OP_SPECS}, "these have no specs"


def test_every_op_has_rules():
    for name in OP_SPECS:
        function = getattr(ops, name, None)
        if hasattr(function, "formula"):
            assert function.rules is not None, name


def test_implicit_host_copies_fail_on_the_strict_backend():
    """This test can fail: an op that calls NumPy does not pass."""

    @op
    def host_exp(x):
        return np.exp(x)

    with pytest.raises((TypeError, RuntimeError, ValueError)):
        host_exp(STRICT.asarray([1.0, 2.0]))
