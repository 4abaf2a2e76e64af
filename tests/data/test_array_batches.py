import json

import numpy as np
import pytest

from tinygrad_gru.data import ArrayBatches


def test_the_last_batch_may_be_smaller():
    x, y = np.arange(21.0).reshape(7, 3), np.arange(7)
    batches = list(ArrayBatches(x, y, batch_size=3))
    assert [batch.inputs.shape for batch in batches] == [(3, 3), (3, 3), (1, 3)]
    assert np.array_equal(np.concatenate([inputs for inputs, _ in batches]), x)
    assert np.array_equal(np.concatenate([targets for _, targets in batches]), y)


def test_without_a_seed_batches_are_views():
    x = np.zeros((4, 2))
    assert np.shares_memory(ArrayBatches(x, batch_size=2).next_batch().inputs, x)


def test_an_epoch_has_every_example_once_in_a_new_order_and_targets_stay_with_their_inputs():
    batches = ArrayBatches(np.arange(20), np.arange(20) * 10, batch_size=6, seed=3)
    epochs = [[batch.inputs.tolist() for batch in batches] for _ in range(2)]
    assert all(sorted(np.concatenate(epoch)) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert all((batch.targets == batch.inputs * 10).all() for batch in batches)
    again = ArrayBatches(np.arange(20), batch_size=6, seed=3)
    assert epochs == [[batch.inputs.tolist() for batch in again] for _ in range(2)]


def test_several_arrays_are_a_tuple_or_a_dict():
    a, b = np.arange(5), np.arange(10).reshape(5, 2)
    batch = ArrayBatches((a, b), {"sum": a, "rest": b}, batch_size=2).next_batch()
    assert [part.tolist() for part in batch.inputs] == [[0, 1], [[0, 1], [2, 3]]]
    assert batch.targets["sum"].tolist() == [0, 1]
    assert batch.targets["rest"].shape == (2, 2)


def test_without_targets_they_are_none():
    assert ArrayBatches(np.arange(3)).next_batch().targets is None


def test_a_list_is_one_array_and_dtypes_stay():
    batch = ArrayBatches([[1, 2], [3, 4]], np.zeros(2, dtype=np.float32)).next_batch()
    assert batch.inputs.tolist() == [[1, 2], [3, 4]]
    assert (batch.inputs.dtype.kind, batch.targets.dtype) == ("i", np.float32)


def test_tensors_of_pytorch_are_arrays():
    torch = pytest.importorskip("torch")
    batch = ArrayBatches(torch.ones(3, 2), torch.arange(3)).next_batch()
    assert type(batch.inputs) is np.ndarray and batch.targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("taken", [0, 2, 4, 7])
def test_iteration_resumes_exactly_from_a_saved_position(taken):
    batches, restored = (ArrayBatches(np.arange(10), batch_size=3, seed=1) for _ in range(2))
    for _ in range(taken):
        batches.next_batch()
    restored.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    for _ in range(9):
        assert restored.next_batch().inputs.tolist() == batches.next_batch().inputs.tolist()


@pytest.mark.parametrize("other", [{"seed": 2}, {"batch_size": 4}, {"x": np.arange(11)}])
def test_a_position_saved_with_other_settings_is_refused(other):
    settings = {"x": np.arange(10), "batch_size": 3, "seed": 1}
    position = ArrayBatches(**settings).state_dict()
    with pytest.raises(ValueError, match="is invalid with"):
        ArrayBatches(**{**settings, **other}).load_state_dict(position)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros((3, 2)), np.zeros(4), ValueError, "3 in x, 4 in y"),
        ((np.zeros(3), np.zeros(2)), None, ValueError, r"3 in x\[0\], 2 in x\[1\]"),
        ([np.zeros(4), np.zeros(4)], np.zeros(4), ValueError, "2 in x, 4 in y; several inputs are a tuple"),
        ({"a": np.zeros(3)}, 0, ValueError, "y is the single number 0"),
        (np.zeros((0, 2)), None, ValueError, "no examples to batch: 0 in x"),
        ((), None, ValueError, "no examples to batch: x holds no array"),
        (None, None, ValueError, "no examples to batch: x holds no array"),
        ([[1, 2], [3]], [0, 1], ValueError, "x is not one array.*SequenceBatches"),
        (["a", "b"], None, TypeError, "x must hold numbers, but holds strings, such as .*'a'"),
        ({"when": np.array(["2020-01-01"], "M8[D]")}, None, TypeError, r"x\['when'\] must hold numbers, but .* dates"),
        ([None, 1], None, TypeError, "x must hold numbers, but holds objects, such as None"),
    ],
)
def test_invalid_arrays_are_refused(x, y, error, message):
    with pytest.raises(error, match=message):
        ArrayBatches(x, y)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError)])
def test_a_seed_is_a_natural_number(seed, error):
    with pytest.raises(error, match="seed must be"):
        ArrayBatches(np.zeros(3), seed=seed)
    state = ArrayBatches(np.zeros(3), seed=np.int64(3)).state_dict()
    assert json.loads(json.dumps(state))["arrangement"]["seed"] == 3


def test_batches_say_what_they_are():
    batches = ArrayBatches(np.zeros(5), batch_size=2)
    assert repr(batches) == "ArrayBatches(examples=5, batch_size=2, seed=None): 3 batches in an epoch"


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), (None, TypeError)])
def test_a_batch_size_is_an_integer_of_at_least_one(size, error):
    with pytest.raises(error, match="batch_size must be"):
        ArrayBatches(np.zeros(3), batch_size=size)
