"""The garbage collector: a backward walk makes room for a tape, and leaves a user's thresholds alone."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from tinygrad_gru import Tensor
from tinygrad_gru.collector import YoungGeneration, young_generation

#: With which this process started: 700, from Python 3.13 on 2,000.
START = young_generation._start


@pytest.fixture(autouse=True)
def collector():
    """The thresholds of this process as they were."""
    thresholds = gc.get_threshold()
    gc.enable()
    yield
    gc.set_threshold(*thresholds)


def loss(ops: int) -> Tensor:
    h = Tensor(np.ones(3), requires_grad=True)
    for _ in range(ops):
        h = h * 1.0
    return h.sum()


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_the_second_pass_is_over_before_the_collector_looks():
    gc.set_threshold(700, 10, 10)
    young = YoungGeneration()
    gc.collect()
    before = collections()
    kept = loss(3000)
    assert collections() > before + 5
    del kept
    young.make_room(3001)
    gc.collect()
    before = collections()
    kept = loss(3000)
    assert collections() == before
    del kept


def test_a_walk_makes_room_for_its_own_tape_and_no_more():
    gc.set_threshold(START, 10, 5)
    loss(3000).backward()
    assert gc.get_threshold()[:2] == (START + 4 * 3001, 10)
    loss(10).backward()
    assert gc.get_threshold()[:2] == (START + 4 * 11, 10)


def test_room_is_limited():
    gc.set_threshold(700, 10, 10)
    YoungGeneration().make_room(10**9)
    assert gc.get_threshold()[0] == 20_700


@pytest.mark.parametrize("thresholds", [(5000, 10, 10), (0, 10, 10), (701, 5, 5)])
def test_a_threshold_that_a_user_sets_stays(thresholds):
    gc.set_threshold(700, 10, 10)
    young = YoungGeneration()
    young.make_room(3000)
    gc.set_threshold(*thresholds)
    young.make_room(3000)
    assert gc.get_threshold() == thresholds
    YoungGeneration().make_room(3000)  # as if it was set before the import
    assert gc.get_threshold() == thresholds


def test_the_older_thresholds_of_a_user_stay():
    gc.set_threshold(700, 7, 3)
    YoungGeneration().make_room(100)
    assert gc.get_threshold()[:2] == (1100, 7)


def test_cycles_of_a_user_are_still_found():
    """When 700 more containers live than the tape needs, or 6,000, for Python does not count tuples that it reuses."""
    gc.set_threshold(START, 10, 10)
    loss(1000).backward()

    class Cycle:
        living = 0

        def __init__(self):
            self.own = self
            Cycle.living += 1

        def __del__(self):
            Cycle.living -= 1

    most = 0
    for _ in range(40):
        y = loss(1000)
        for _ in range(250):
            Cycle()
        most = max(most, Cycle.living)
        y.backward()
        del y
    assert START <= most < START + 6300
