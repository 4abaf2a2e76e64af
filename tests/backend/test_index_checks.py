"""Deferred index checks: run on the GPU, and raised at the next copy to the host."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tinygrad_gru import Tensor, detect_anomaly, ops
from tinygrad_gru.backend import as_array, check_ids, immediate_checks, resolve, scatter_add
from tinygrad_gru.backend.cuda.index_checks import ENVIRONMENT_VARIABLE, SLOTS

LATE = "the GPU found it in an op before this one: to see in which, run it again under detect_anomaly()"
OUTSIDE = [[2], [-3], (slice(None), [5]), (None, [2]), (Ellipsis, [5]), (0, [5])]


def there(values):
    return as_array(values, device="cupy")


def arrays(index):
    """The index with arrays on the GPU for its lists."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(there(part) if isinstance(part, list) else part for part in parts)


@pytest.mark.parametrize("index", OUTSIDE, ids=repr)
def test_an_index_out_of_bounds_raises_at_the_next_copy_to_the_host(gpu, index):
    x = Tensor(np.ones((2, 5)), device="cupy")
    picked = x[index]
    with pytest.raises(
        IndexError, match=r"index -?[0-9] is out of bounds for axis [01] with size [25]; the GPU found it"
    ):
        picked.tolist()
    assert x.numpy().tolist() == np.ones((2, 5)).tolist(), "it is said once"


@pytest.mark.parametrize("index", OUTSIDE, ids=repr)
def test_scatter_add_out_of_bounds(gpu, index):
    target = there(np.ones((2, 5)))
    scatter_add(target, arrays(index), 1.0)
    with pytest.raises(IndexError, match="is out of bounds for axis"):
        resolve("cupy").synchronize()


@pytest.mark.parametrize("ids", [[0, 7], [[-1], [2]], 3])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_ids(gpu, ids, dtype):
    array = there(np.asarray(ids).astype(dtype))
    check_ids(array, 3, "words")
    bad = {7: 7, -1: 255 if dtype == "uint8" else -1, 3: 3}[next(i for i in np.ravel(ids).tolist() if not 0 <= i < 3)]
    with pytest.raises(
        IndexError, match=rf"words must lie in 0 … 2, got {bad} \(a vocabulary of another size\?\); {LATE}"
    ):
        Tensor(1.0, device="cupy").item()


def test_checks_of_a_training_step_neither_wait_nor_copy(stand_in):
    weight, ids = Tensor(np.ones((4, 2)), device="cupy", requires_grad=True), there([1, 3, 1])
    logits = ops.embedding(weight, ids)
    stand_in.machine.calls.clear()
    ops.cross_entropy(logits, there([0, 1, 0])).backward()
    weight[there([0])].sum().backward()
    assert stand_in.machine.count("wait") == stand_in.machine.count("to host") == 0
    assert stand_in.machine.calls["launch", "check_index"] == 2, "of targets and of an index, not again in backward"


def test_the_slots_are_copied_beside_a_fetched_value(stand_in):
    """One more copy, and no additional wait."""
    x = Tensor([1.0], device="cupy")
    check_ids(there([1]), 2, "ids")
    stand_in.machine.calls.clear()
    x.item()
    assert stand_in.machine.count("to host") == 2
    x.item()
    assert stand_in.machine.count("to host") == 3, "nothing was checked since"


def test_the_first_of_several_errors_is_raised(gpu):
    check_ids(there([0]), 2, "good")
    check_ids(there([5]), 2, "bad")
    check_ids(there([6]), 2, "worse")
    check_ids(there([1]), 2, "bad")
    with pytest.raises(IndexError, match="bad must lie in 0 … 1, got 5"):
        resolve("cupy").synchronize()
    resolve("cupy").synchronize()
    check_ids(there([7]), 2, "worse")
    with pytest.raises(IndexError, match="worse must lie in 0 … 1, got 7"):
        resolve("cupy").synchronize()


@pytest.mark.parametrize("how", ["block", "anomaly", "variable"])
def test_immediate_checks(gpu, monkeypatch, how):
    x, late = Tensor(np.ones(3), device="cupy"), "the GPU"
    if how == "variable":
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    with {"block": immediate_checks, "anomaly": detect_anomaly, "variable": lambda: immediate_checks(None)}[how]():
        with pytest.raises(
            IndexError, match="advanced_index: index 3 is out of bounds for axis 0 with size 3"
        ) as error:
            x[[3]]
        assert late not in str(error.value)
        with pytest.raises(IndexError, match="ids must lie in 0 … 2, got -1"):
            check_ids(there([-1]), 3, "ids")
    resolve("cupy").synchronize()


def test_an_axis_without_elements_is_checked_on_the_host(gpu):
    with pytest.raises(IndexError, match="index 0 is out of bounds for axis 0 with size 0"):
        Tensor(np.ones((0, 2)), device="cupy")[[0]]
    with pytest.raises(IndexError, match="ids must lie in 0 … -1, got 0"):
        check_ids(there([0]), 0, "ids")
    check_ids(there(np.zeros(0, int)), 0, "ids")


def test_more_messages_than_slots(stand_in):
    for n in range(1, 3 * SLOTS):
        check_ids(there([0]), n, "ids")
    assert stand_in.machine.calls["to host", "get"] == 2
    for n in range(1, SLOTS // 2):
        check_ids(there([n - 1]), n, "ids")
    check_ids(there([9]), 9, "ids")
    with pytest.raises(IndexError, match="ids must lie in 0 … 8, got 9"):
        for n in range(1, 3 * SLOTS):
            check_ids(there([0]), n, "other ids")


def test_checks_of_several_threads(gpu):
    found = []

    def work(name):
        for _ in range(50):
            check_ids(there([0, 1]), 2, name)
        check_ids(there([2]), 2, name)
        try:
            resolve("cupy").synchronize()
        except IndexError as error:
            found.append(str(error).split()[0])

    threads = [threading.Thread(target=work, args=(f"ids{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found and set(found) <= {"ids0", "ids1", "ids2", "ids3"}


def test_training_stops_before_wrong_ids_reach_the_weights(gpu):
    """The loss is read between backward and the optimizer's step."""
    weight = Tensor(np.ones((4, 2)), device="cupy", requires_grad=True)
    loss = ops.embedding(weight, there([4])).sum()
    loss.backward()
    with pytest.raises(IndexError, match="ids must lie in 0 … 3, got 4"):
        loss.item()
