from __future__ import annotations

import numpy as np

from tinygrad_gru import ops
from tinygrad_gru.testing import OP_SPECS, Case, check_all


def test_check_all_reports_every_op_and_its_error(monkeypatch):
    monkeypatch.setattr("tinygrad_gru.testing.op_specs.OP_SPECS", {
        "tanh": OP_SPECS["tanh"],
        "sin": [Case(np.cos, [(3,)])],
        "cos": [Case(np.cos, [(3,)], function=lambda x: x.no_such_method())],
        "matmul": OP_SPECS["matmul"][:1],
    })  # fmt: skip
    results = list(check_all())
    assert [(name, passed) for name, passed, _ in results[:4]] == [
        ("tanh", True), ("sin", False), ("cos", False), ("matmul", True),
    ]  # fmt: skip
    assert "ContractError" in results[1][2] and "differs from the oracle" in results[1][2]
    assert "AttributeError" in results[2][2]
    assert ("add", False, "has no op specs, so nothing of it was checked") in results[4:]


def test_every_case_has_an_op_or_a_function():
    assert all(
        callable(getattr(ops, name, None) or case.function) for name, cases in OP_SPECS.items() for case in cases
    )
