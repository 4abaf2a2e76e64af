"""The benchmark of linear recurrences, rehearsed without a GPU."""

from __future__ import annotations

import pytest
from support.stand_in_cuda import COMPILER
from support.stand_in_cupy import stand_in_cupy

from benchmarks import linear_scan
from benchmarks.timing import wall_clock
from tinygrad_gru import Tensor
from tinygrad_gru.backend import available


@pytest.mark.skipif("cupy" in available() or COMPILER is None, reason="needs a C++ compiler, and stands in for CuPy")
def test_on_a_gpu(monkeypatch, capsys):
    with stand_in_cupy(monkeypatch):
        lines = linear_scan.on_gpu("cupy", [(4, 2, 3)], wall_clock, ["MinGRU"])
    assert len(lines) == 3 and capsys.readouterr().out.startswith("CORRECT")


def test_wrong_results_are_found():
    with pytest.raises(AssertionError, match="differs by 1"):
        linear_scan.check([Tensor(1.0)], [Tensor(0.5)], "one")
