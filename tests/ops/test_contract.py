"""Every op keeps the contract, on every backend: the sheet says where and against what."""

from __future__ import annotations

import types

import numpy as np
import pytest
from support.strict import NOT_IN_THE_STANDARD, STRICT

from tinygrad_gru import ops
from tinygrad_gru.ops import op
from tinygrad_gru.testing import SHEET, check_case

CASES = [(name, number) for name, cases in SHEET.items() for number in range(len(cases))]


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_the_op_keeps_the_contract(backend, name, number):
    if backend is STRICT and name in NOT_IN_THE_STANDARD:
        with pytest.raises((AttributeError, NotImplementedError)):  # the exception is still needed
            check_case(name, SHEET[name][number], backend)
    else:
        check_case(name, SHEET[name][number], backend)


def test_every_public_op_has_an_entry_and_every_entry_an_op():
    public = {name for name in ops.__all__ if name not in ("Op", "op")}
    assert set(SHEET) == public
    assert all(SHEET.values()), "an entry without a case checks nothing"


def test_every_op_that_is_defined_is_public_or_part_of_one_that_is():
    """No op escapes the sheet by being left out of `ops.__all__`."""
    modules = [module for module in vars(ops).values() if isinstance(module, types.ModuleType)]
    defined = {f.formula.__name__ for module in modules for f in vars(module).values() if hasattr(f, "formula")}
    assert len(defined) > 50
    assert {name for name in defined if not name.startswith("_")} <= set(SHEET), "these have no entry in the sheet"


def test_every_op_has_its_rules():
    for name in SHEET:
        function = getattr(ops, name)
        if hasattr(function, "formula"):
            assert function.rules is not None, name


def test_implicit_copies_to_the_host_fail_on_the_strict_backend():
    """The test of the test: an op that reaches for NumPy cannot pass there."""

    @op
    def host_exp(x):
        return np.exp(x)

    with pytest.raises((TypeError, RuntimeError, ValueError)):
        host_exp(STRICT.asarray([1.0, 2.0]))
