"""Threads of native loops: a rule says how many there are, and results do not depend on it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.scan.agreement import results_of_layer
from tests.scan.random_cells import draw, run
from tinygrad_gru import Tensor, manual_seed, native, ops, scan
from tinygrad_gru.native.cores import Cores
from tinygrad_gru.nn import GRU, LSTM
from tinygrad_gru.scan import explain
from tinygrad_gru.scan.targets.llvm import shares
from tinygrad_gru.scan.targets.llvm.shares import LEAST_OF_CHUNK, LEAST_ROWS, run_shares, threads_for

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")


@pytest.fixture
def cores(monkeypatch):
    """Sets the number of cores."""
    return lambda number: monkeypatch.setattr(shares, "cores", lambda: Cores(number, f"{number} by the test"))


@pytest.mark.parametrize(
    ("number", "rows", "work", "threads", "reason"),
    [
        (1, 64, 2**30, 1, "1 by the test"),
        (2, 64, LEAST_OF_CHUNK // 8, 2, f"2 by the test, and 8 steps are as long as {LEAST_OF_CHUNK:,} multiply-adds"),
        (
            2, 64, LEAST_OF_CHUNK // 8 - 1, 1,
            f"8 steps are as long as {LEAST_OF_CHUNK - 8:,} multiply-adds, and threads pay from {LEAST_OF_CHUNK:,} on",
        ),
        (2, 2 * LEAST_ROWS, 2**30, 2, "2 by the test"),
        (2, 2 * LEAST_ROWS - 2, 2**30, 1, f"{2 * LEAST_ROWS - 2} rows are not equal shares of {LEAST_ROWS} or more"),
        (2, 33, 2**30, 1, "33 rows are not equal shares"),
        (2, 0, 2**30, 1, "0 rows are not"),
        (16, 64, 2**30, 2, "16 by the test"),  # more have not been measured
    ],
)  # fmt: skip
def test_the_rule(number, rows, work, threads, reason, cores):
    cores(number)
    found, words = threads_for(rows, work, 8)
    assert (found, words[: len(reason)]) == (threads, reason)


def words(step, mode, rows=4, width=2):
    text = explain(step, Tensor(np.zeros((rows, width))), Tensor(np.zeros((5, rows, width))), compiled=mode)
    return next(line for line in text.splitlines() if line.startswith("Forward"))


def test_explain_says_the_number_and_why(cores, cache):
    def step(h, x):
        return ops.tanh(h + x)

    cores(2)
    assert words(step, "llvm").endswith(
        f"in one thread: 256 steps are as long as 32,768 multiply-adds, and threads pay from {LEAST_OF_CHUNK:,} on"
    )
    long = words(step, "llvm", 256, 16384)
    assert long.endswith("shared by 2 threads: 2 by the test, and 4 steps are as long as 268,435,456 multiply-adds")
    assert words(step, "llvm:1", 256, 16384).endswith("in one thread")
    assert words(step, "llvm:2").endswith("shared by 2 threads")
    narrow = words(step, "llvm", 2**19, 7)
    assert narrow.endswith("in one thread: threads would round functions of rows shorter than 64 bytes otherwise")
    assert "shared by 2 threads" in words(lambda h, x: h * x, "llvm", 2**20, 7)
    cores(1)
    cache.plans.clear()
    assert words(step, "llvm", 256, 16384).endswith("in one thread: 1 by the test")
    assert words(step, "llvm:2", 256, 256).endswith("shared by 2 threads"), "what is asked for is done"


@needs_llvm
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize(("layer_type", "rows"), [(GRU, 2), (LSTM, 10), (GRU, 32), (LSTM, 40)])
def test_two_threads_give_the_same_bits(layer_type, rows, rng):
    """Sums over time and rows are computed by NumPy, all others within a row."""
    manual_seed(0)
    layer = layer_type(20, 35)
    x = rng.standard_normal((6, rows, 20)).astype("float32")
    for one, two in zip(results_of_layer(layer, x, "llvm:1"), results_of_layer(layer, x, "llvm:2"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_threads_share_only_independent_rows():
    assert "shared by 2 threads" in words(lambda h, x: ops.tanh(h + x), "llvm:2")
    for dependent in (
        lambda h, x: h - ops.sum(h, axis=0) + x,
        lambda h, x: h[::-1] + x,
        lambda h, x: ops.tanh(Tensor(np.eye(4)) @ h + x),
        lambda h, x: h[:1] + x,
    ):
        assert words(dependent, "llvm:2").endswith("in one thread: its rows depend on each other")
    assert words(lambda h, x: h + x, "llvm:3").endswith("in one thread: 4 rows are not 3 equal shares")


@needs_llvm
@pytest.mark.parametrize("seed", [1, 4, 6, 9, 11])
def test_random_cells_give_the_same_bits_in_any_number_of_threads(seed, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    cell = draw(seed)
    one, two, three = (run(cell, 5, seed % 2 == 1, f"llvm:{number}") for number in (1, 2, 3))
    for a, b, c in zip(one, two, three, strict=True):
        assert (a is None) == (b is None) == (c is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(
    ("work", "steps", "threads"),
    [(0, 1, 2), (LEAST_OF_CHUNK, 1, 2), (LEAST_OF_CHUNK - 1, 1, 1), (LEAST_OF_CHUNK // 50, 51, 2)],
)
def test_a_short_chunk_has_one_thread_unless_a_user_fixed_their_number(work, steps, threads, monkeypatch):
    seen, ran = [], []
    monkeypatch.setattr(shares, "run_together", lambda tasks, number: seen.append(number) or [task() for task in tasks])
    run_shares(lambda share: ran.append(int(share[1])), [np.array([steps, 7]), np.array([steps, 8])], work)
    assert (seen, ran) == ([threads], [7, 8])


@needs_llvm
def test_two_threads_by_rule_give_the_bits_of_one(cores, cache, rng):
    manual_seed(0)
    layer, x = GRU(40, 120), rng.standard_normal((40, 16, 40)).astype("float32")
    cores(1)
    one = results_of_layer(layer, x, "llvm")
    cache.plans.clear()
    cores(2)
    state = Tensor(np.zeros((16, 120), "f"))
    assert "shared by 2 threads" in explain(layer.cells[0].step, state, Tensor(x), compiled="llvm")
    for a, b in zip(one, results_of_layer(layer, x, "llvm"), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_llvm
def test_more_threads_than_cores():
    with pytest.raises(ValueError, match=rf"asks for 999 threads, and this machine has {os.cpu_count()} cores"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled="llvm:999")
