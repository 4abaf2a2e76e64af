"""Every op keeps the contract, on every backend: the sheet says where and against what."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.strict import NOT_IN_THE_STANDARD, STRICT

from tinygrad_gru import ops
from tinygrad_gru.ops import op
from tinygrad_gru.testing import OP_SPECS, check_case
from tinygrad_gru.testing.op_specs import REACHED_BY

CASES = [(name, number) for name, cases in OP_SPECS.items() for number in range(len(cases))]

#: Ops that the compiler leaves to eager mode.
NOT_COMPILED = frozenset(
    "argmax argmin cross_entropy cumsum dropout einsum embedding gather getitem isfinite kl_divergence logsumexp "
    "nll one_hot pad repeat scatter_add take".split()
)
#: Cases in which all inputs or all outputs are empty, so that there is no derivative.
EMPTY = {("cumsum", 3), ("getitem", 10), ("matmul", 10), ("matmul", 11), ("matmul", 13), ("prod", 8), ("reshape", 3),
         ("sum", 7)}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_the_op_keeps_the_contract(backend, name, number):
    if backend is STRICT and name in NOT_IN_THE_STANDARD:
        with pytest.raises((AttributeError, NotImplementedError)):  # the exception is still needed
            check_case(name, OP_SPECS[name][number], backend, quick=True)
        return
    case = OP_SPECS[name][number]
    report = check_case(name, case, backend, quick=backend is STRICT)
    assert report or case.empty
    assert report.orders == ((1, 2) if case.differentiable and (name, number) not in EMPTY else ())
    if backend.name == "numpy":
        assert report.layouts and (report.compiled or name in NOT_COMPILED or (name, number) in EMPTY)
        assert {"float64", *case.dtypes} <= set(report.dtypes)


def test_every_public_op_has_an_entry_and_every_entry_an_op():
    public = {name for name in ops.__all__ if name not in ("Op", "op")}
    assert {name for name, cases in OP_SPECS.items() if not all(case.function for case in cases)} <= public
    assert public <= set(OP_SPECS)
    assert all(OP_SPECS.values()), "an entry without a case checks nothing"


def test_every_op_that_is_defined_is_checked():
    """No op escapes the sheet by being left out of `ops.__all__`, or by being defined elsewhere."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("tinygrad_gru")]
    values = [value for module in modules for value in list(vars(module).values())]
    defined = {
        f.formula.__name__ for f in values if type(f) is type(op) and hasattr(f, "formula") and f.__module__ != CONTRACT
    }
    assert len(defined) > 60 and "matmul" in defined
    assert {REACHED_BY.get(name, name) for name in defined} <= {*OP_SPECS, "_truncate"}, (
        "these have no entry in the sheet"
    )


CONTRACT = "tinygrad_gru.testing.contract"


def test_every_op_has_its_rules():
    for name in OP_SPECS:
        function = getattr(ops, name, None)
        if hasattr(function, "formula"):
            assert function.rules is not None, name


def test_implicit_copies_to_the_host_fail_on_the_strict_backend():
    """The test of the test: an op that reaches for NumPy cannot pass there."""

    @op
    def host_exp(x):
        return np.exp(x)

    with pytest.raises((TypeError, RuntimeError, ValueError)):
        host_exp(STRICT.asarray([1.0, 2.0]))
