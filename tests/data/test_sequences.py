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


@pytest.mark.parametrize(
    ("data", "targets", "batch_size", "message"),
    [
        ([], [], 1, "sequences is empty"),
        (sequences([1, 2]), [0], 1, "targets must be one for each of 2"),
        (sequences([1, 2]), 0, 1, "targets must be one for each of 2"),
        (sequences([1, 2]), [0, 1], 0, "batch_size must be at least 1"),
        (sequences([1, 0]), [0, 1], 1, "sequence 1 has"),
        ([*sequences([2]), np.zeros((2, 4))], [0, 1], 1, "sequence 1 has"),
        ([np.zeros(3)], [0], 1, "sequence 0 has"),
    ],
)
def test_invalid_batches_are_refused(data, targets, batch_size, message):
    with pytest.raises(ValueError, match=message):
        SequenceBatches(data, targets, batch_size)
