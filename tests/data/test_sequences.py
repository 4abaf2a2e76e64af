import json

import numpy as np
import pytest

from tinygrad_gru.data import SequenceBatches


def sequences(lengths, features=3):
    return [np.full((length, features), number + 1.0, dtype=np.float32) for number, length in enumerate(lengths)]


def test_sequences_are_padded_to_the_longest_of_their_batch():
    first, second = SequenceBatches(sequences([2, 4, 1]), [10, 11, 12], batch_size=2)
    assert first.inputs.shape == (4, 2, 3)
    assert first.inputs.dtype == np.float32
    assert first.inputs[:, :, 0].T.tolist() == [[1, 1, 0, 0], [2, 2, 2, 2]]
    assert first.lengths.tolist() == [2, 4]
    assert first.targets.tolist() == [10, 11]
    assert second.inputs.shape == (1, 1, 3)
    assert second.targets.tolist() == [12]


def test_an_epoch_has_every_sequence_once_in_a_new_order():
    batches = SequenceBatches(sequences([1] * 10), np.arange(10), batch_size=4, seed=0)
    epochs = [[target for batch in batches for target in batch.targets.tolist()] for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_targets_stay_with_their_sequences_when_shuffled():
    for batch in SequenceBatches(sequences([1, 2, 3, 4, 5]), np.arange(5), batch_size=2, seed=1):
        assert batch.inputs[0, :, 0].tolist() == (batch.targets + 1).tolist()
        assert batch.lengths.tolist() == (batch.targets + 1).tolist()


def test_iteration_resumes_exactly_from_a_saved_position():
    def new():
        return SequenceBatches(sequences([1] * 10), np.arange(10), batch_size=4, seed=0)

    batches = new()
    for _ in range(5):
        batches.next_batch()
    restored = new()
    restored.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    for _ in range(4):
        assert restored.next_batch().targets.tolist() == batches.next_batch().targets.tolist()


def test_lists_of_ids_are_integers_of_two_axes():
    batch = SequenceBatches([[3, 1], [2], [5, 6, 7]]).next_batch()
    assert batch.inputs.T.tolist() == [[3, 1, 0], [2, 0, 0], [5, 6, 7]]
    assert batch.inputs.dtype == np.int64
    assert batch.targets is None
    arrays = [np.array([3, 1], np.uint8), np.array([2], np.uint64), np.array([-1])]
    assert SequenceBatches(arrays, padding_value=9).next_batch().inputs.T.tolist() == [[3, 1], [2, 9], [-1, 9]]


def test_ids_keep_their_value_beside_unsigned_ones():
    large = 2**62 + 1
    assert SequenceBatches([np.array([large], np.uint64), [1]]).next_batch().inputs[0, 0] == large


def test_a_series_of_floats_gets_an_axis_of_one_feature():
    batch = SequenceBatches([[0.5, 1.5], [2, 3, 4]]).next_batch()
    assert batch.inputs.shape == (3, 2, 1)
    assert batch.inputs[:, :, 0].T.tolist() == [[0.5, 1.5, 0], [2, 3, 4]]


def test_one_array_is_a_sequence_per_row():
    assert SequenceBatches(np.zeros((4, 5, 2))).next_batch().inputs.shape == (5, 4, 2)


def test_targets_per_sequence_have_any_shape():
    batch = SequenceBatches([[1], [2, 3]], np.arange(6.0).reshape(2, 3)).next_batch()
    assert batch.targets.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not batch.per_step


def test_integer_targets_per_step_are_padded_with_the_value_to_ignore():
    batch = SequenceBatches([[1], [2, 3, 4]], [[7], [8, 9, 8]], per_step=True).next_batch()
    assert batch.per_step
    assert batch.targets.T.tolist() == [[7, -100, -100], [8, 9, 8]]
    small = [np.array([7], np.uint8), np.array([8, 9], np.uint8)]
    batch = SequenceBatches([[1], [2, 3]], small, per_step=True, ignore_index=-1).next_batch()
    assert batch.targets.T.tolist() == [[7, -1], [8, 9]]
    batch = SequenceBatches([[1], [2, 3]], [[True], [False, True]], per_step=True).next_batch()
    assert batch.targets.T.tolist() == [[1, -100], [0, 1]]


def test_float_targets_per_step_are_padded_with_nan_so_that_no_average_over_padding_is_wrong_in_silence():
    targets = [np.ones((1, 2)), np.full((3, 2), 2.0)]
    batch = SequenceBatches([[1], [2, 3, 4]], targets, per_step=True).next_batch()
    assert batch.targets.shape == (3, 2, 2)
    assert np.isnan(batch.targets).tolist() == [[[False] * 2] * 2, [[True] * 2, [False] * 2], [[True] * 2, [False] * 2]]
    valid = np.arange(3)[:, None] < batch.lengths
    assert batch.targets[valid].mean() == 1.75 and np.isnan(batch.targets.mean())


def test_a_series_of_targets_per_step_is_of_one_feature_as_inputs_are():
    batch = SequenceBatches([[0.1], [0.2, 0.3]], [[1.5], [2, 3]], per_step=True).next_batch()
    assert batch.targets.shape == batch.inputs.shape == (2, 2, 1)


def test_a_batch_of_labels_per_step_is_still_a_tuple_of_three():
    inputs, lengths, targets = SequenceBatches([[1, 2]], [[0, 1]], per_step=True).next_batch()
    assert (inputs.shape, lengths.tolist(), targets.shape) == ((2, 1), [2], (2, 1))


@pytest.mark.parametrize("seed", [None, 0])
def test_buckets_have_sequences_of_similar_length_each_once_an_epoch(seed):
    lengths = np.random.default_rng(0).integers(1, 100, 250)
    data = sequences(lengths)

    def padding(**settings):
        batches = list(SequenceBatches(data, np.arange(250), batch_size=16, seed=seed, **settings))
        assert len(batches) == 16
        assert sorted(np.concatenate([batch.targets for batch in batches])) == list(range(250))
        for batch in batches:
            assert batch.lengths.tolist() == lengths[batch.targets].tolist()
        return sum((len(batch.inputs) - batch.lengths).sum() for batch in batches)

    none, some, all_at_once = padding(), padding(bucket=4), padding(bucket=1000)
    assert none / 3 > some > all_at_once
    assert padding(bucket=1) == none


def test_buckets_are_shuffled_every_epoch_and_depend_on_the_seed_alone():
    def epochs(seed):
        batches = SequenceBatches(sequences(range(1, 31)), np.arange(30), 4, seed, bucket=3)
        return [[batch.targets.tolist() for batch in batches] for _ in range(2)]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0)[0] != epochs(1)[0]
    in_one_bucket = SequenceBatches(sequences(range(1, 31)), batch_size=4, seed=0, bucket=100)
    longest = [len(batch.inputs) for batch in in_one_bucket]
    assert longest != sorted(longest)


def test_iteration_over_buckets_resumes_exactly_from_a_saved_position():
    def new(bucket=2):
        return SequenceBatches(sequences(range(1, 31)), np.arange(30), 4, seed=5, bucket=bucket)

    batches, restored = new(), new()
    for _ in range(11):
        batches.next_batch()
    restored.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    for _ in range(10):
        assert restored.next_batch().targets.tolist() == batches.next_batch().targets.tolist()
    with pytest.raises(ValueError, match="bucket 2 is invalid with bucket 3"):
        new(bucket=3).load_state_dict(batches.state_dict())


def test_the_order_is_that_of_former_versions():
    """Which positions in old checkpoints refer to: NumPy's generator, seeded by seed and epoch."""
    batches = SequenceBatches(sequences([1] * 10), np.arange(10), batch_size=10, seed=7)
    for epoch in range(2):
        expected = np.random.default_rng((7, epoch)).permutation(10)
        assert batches.next_batch().targets.tolist() == expected.tolist()
    former = {"epoch": 1, "index": 0, "arrangement": {"sequences": 10, "batch_size": 10, "seed": 7}}
    batches.load_state_dict(former)


@pytest.mark.parametrize(
    ("data", "targets", "settings", "error", "message"),
    [
        ([], [], {}, ValueError, "sequences is empty"),
        (sequences([1, 2]), [0], {}, ValueError, "targets must be one for each of 2"),
        (sequences([1, 2]), 0, {}, ValueError, "targets must be one for each of 2"),
        (sequences([1, 2]), [0, 1], {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (sequences([1, 2]), [0, 1], {"bucket": 0}, ValueError, "bucket must be at least 1"),
        (sequences([1, 0]), [0, 1], {}, ValueError, r"sequences\[1\] is empty"),
        ([[1, 2], []], None, {}, ValueError, r"sequences\[1\] is empty"),
        ([*sequences([2]), np.zeros((2, 4))], [0, 1], {}, ValueError, r"sequences\[1\] has the shape \(2, 4\)"),
        ([np.zeros((2, 3, 4))], [0], {}, ValueError, r"sequences\[0\] must have the shape \(T,\) or \(T, F\)"),
        ([1.5, 2.5], None, {}, ValueError, r"sequences\[0\] is the single number 1.5: a list of sequences"),
        ([[1], [[1, 2], [3]]], None, {}, ValueError, r"sequences\[1\] is not one array.*different sizes"),
        (5, None, {}, TypeError, "sequences must be a list of lists or arrays, got 5"),
        ("abc", None, {}, TypeError, "sequences must be a list of lists or arrays, got 'abc'"),
        ({"a": [1]}, None, {}, TypeError, "sequences must be a list of lists or arrays"),
        (["abc", "de"], None, {}, TypeError, r"sequences\[0\] must hold numbers, but holds strings.*'abc'"),
        ([["a", "b"]], None, {}, TypeError, r"such as 'a': .*CharacterVocabulary"),
        ([[1, None]], None, {}, TypeError, "holds objects, such as 1: .* np.nan"),
        ([[1], [2**63]], None, {}, ValueError, r"sequences\[1\] has integers beyond int64"),
        ([[1], [2**64]], None, {}, ValueError, r"sequences\[1\] has integers beyond int64"),
        ([[1, 2], [3]], [[1, 2], [3]], {}, ValueError, "targets is not one array.*per_step=True"),
        ([[1, 2], [3]], None, {"per_step": True}, ValueError, "per_step=True needs targets"),
        ([[1, 2], [3]], [[1, 2]], {"per_step": True}, ValueError, "a list for each of 2 sequences, got 1"),
        ([[1, 2], [3]], [0, 1], {"per_step": True}, ValueError, r"targets\[0\] is the single number 0"),
        (
            [[1, 2], [3]],
            [[1, 2], [3, 4]],
            {"per_step": True},
            ValueError,
            r"targets\[1\] has 2 targets, but .* 1 steps",
        ),
    ],
)
def test_invalid_batches_are_refused(data, targets, settings, error, message):
    with pytest.raises(error, match=message):
        SequenceBatches(data, targets, **{"batch_size": 1, **settings})
