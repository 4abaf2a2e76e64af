import json

import numpy as np
import pytest

from tinygrad_gru.data import StreamBatches, TextStream, shuffle_chunks


def test_streams_continue_from_window_to_window():
    stream = TextStream(np.arange(13), window=3, batch_size=2)
    first, second = stream
    assert first.inputs.T.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert first.targets.T.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert second.inputs.T.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert second.targets.T.tolist() == [[4, 5, 6], [10, 11, 12]]
    assert (first.starts, second.starts) == (True, False)


@pytest.mark.parametrize("length", range(13, 19))
def test_an_incomplete_window_is_dropped(length):
    stream = TextStream(np.arange(length), window=3, batch_size=2)
    assert len(stream) == 2
    windows = list(stream)
    assert len(windows) == 2
    assert all(window.inputs.shape == window.targets.shape == (3, 2) for window in windows)


def test_every_character_of_a_fitting_text_is_a_target_once():
    windows = list(TextStream(np.arange(4 * 5 * 6 + 1), window=5, batch_size=6))
    assert sorted(np.concatenate([window.targets.ravel() for window in windows])) == list(range(1, 121))


def test_the_shortest_text_is_one_window_and_a_shorter_one_is_refused():
    assert len(TextStream(np.arange(7), window=3, batch_size=2)) == 1
    with pytest.raises(ValueError, match="has 6 characters, but 2 streams with a window of 3 need at least 7"):
        TextStream(np.arange(6), window=3, batch_size=2)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="has 0 characters"):
        TextStream(np.zeros(0, dtype=int), window=3, batch_size=2)


@pytest.mark.parametrize("name", ["window", "batch_size", "chunk"])
def test_sizes_are_at_least_one(name):
    sizes = {"window": 2, "batch_size": 2, "chunk": 2, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        TextStream(np.arange(100), **sizes)


@pytest.mark.parametrize("ids", [np.zeros((3, 4), dtype=int), np.zeros(12)])
def test_ids_are_integers_of_one_dimension(ids):
    with pytest.raises(ValueError, match="integers of one dimension"):
        TextStream(ids, window=1, batch_size=1)


def test_every_epoch_starts_from_the_first_window():
    stream = TextStream(np.arange(13), window=3, batch_size=2)
    windows = [stream.next_batch() for _ in range(5)]
    assert [window.starts for window in windows] == [True, False, True, False, True]
    assert np.array_equal(windows[0].inputs, windows[2].inputs)


def test_a_loop_continues_the_current_epoch_and_the_next_loop_has_the_next():
    stream = TextStream(np.arange(100), window=3, batch_size=2, chunk=5)
    stream.next_batch()
    assert len(list(stream)) == len(stream) - 1
    assert len(list(stream)) == len(stream)
    assert stream.epoch == 1


def test_shuffled_chunks_are_a_permutation():
    ids = np.arange(1000)
    shuffled = shuffle_chunks(ids, 64, seed=1)
    assert not np.array_equal(shuffled, ids)
    assert np.array_equal(np.sort(shuffled), ids)
    starts = np.flatnonzero(np.diff(shuffled) != 1) + 1
    pieces = np.split(shuffled, starts)
    assert all(piece[0] % 64 == 0 for piece in pieces)


def test_every_epoch_has_a_new_order_that_depends_on_the_seed_alone():
    def epochs(seed):
        stream = TextStream(np.arange(200), window=5, batch_size=2, chunk=7, seed=seed)
        return [np.concatenate([window.inputs for window in stream]).tolist() for _ in range(2)]

    assert epochs(seed=0) == epochs(seed=0)
    assert epochs(seed=0)[0] != epochs(seed=0)[1]
    assert epochs(seed=0)[0] != epochs(seed=1)[0]


@pytest.mark.parametrize("taken", [0, 3, 9, 10, 25])
def test_iteration_resumes_exactly_from_a_saved_position(taken):
    def new():
        return TextStream(np.arange(101), window=5, batch_size=2, chunk=7, seed=4)

    stream = new()
    for _ in range(taken):
        stream.next_batch()
    restored = new()
    restored.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    for _ in range(25):
        ours, theirs = restored.next_batch(), stream.next_batch()
        assert np.array_equal(ours.inputs, theirs.inputs)
        assert np.array_equal(ours.targets, theirs.targets)
        assert ours.starts == theirs.starts


def test_a_position_saved_with_other_sizes_is_refused():
    position = TextStream(np.arange(100), window=5, batch_size=2).state_dict()
    with pytest.raises(ValueError, match=r"window 5 .* window 4"):
        TextStream(np.arange(100), window=4, batch_size=2).load_state_dict(position)


@pytest.mark.parametrize("spoiled", [{"index": 11}, {"index": -1}, {"epoch": -1}, {"index": 2.5}, {"epoch": None}])
def test_a_position_outside_of_the_data_is_refused(spoiled):
    stream = TextStream(np.arange(101), window=5, batch_size=2)
    saved = stream.state_dict()
    with pytest.raises(ValueError, match="are not a position in epochs of 10 batches"):
        stream.load_state_dict({**saved, **spoiled})
    assert stream.state_dict() == saved
    stream.load_state_dict({**saved, "index": 10})
    assert stream.next_batch().starts


def test_a_series_is_cut_into_streams_that_continue_from_window_to_window():
    inputs, targets = np.arange(26.0).reshape(13, 2), np.arange(13.0)
    first, second = StreamBatches(inputs, targets, window=3, batch_size=2)
    assert first.inputs.shape == (3, 2, 2) and first.targets.shape == (3, 2, 1)
    assert first.inputs[:, 1].tolist() == inputs[6:9].tolist()
    assert second.inputs[:, 1].tolist() == inputs[9:12].tolist()
    assert second.targets[:, :, 0].T.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert (first.starts, second.starts) == (True, False)
    assert first.per_step and first.inputs.flags.c_contiguous


def test_a_text_is_the_stream_of_its_ids_and_the_next_ones():
    ids = np.random.default_rng(0).integers(0, 50, 333)
    text, stream = TextStream(ids, 7, 4), StreamBatches(ids[:-1], ids[1:], 7, 4)
    assert len(text) == len(stream) == 11
    for one, other in zip(text, stream):
        assert np.array_equal(one.inputs, other.inputs) and np.array_equal(one.targets, other.targets)


def test_what_is_saved_of_a_text_stream_is_as_in_former_versions():
    assert TextStream(np.arange(100), 5, 2, chunk=7, seed=4).state_dict() == {
        "epoch": 0,
        "index": 0,
        "arrangement": {"characters": 100, "window": 5, "lanes": 2, "chunk": 7, "seed": 4},
    }


def test_the_windows_of_shuffled_chunks_are_those_of_former_versions():
    """Positions in old checkpoints refer to them: chunks in the order of NumPy's generator, by seed and epoch."""
    stream = TextStream(np.arange(100), window=5, batch_size=2, chunk=7, seed=4)
    for epoch in range(2):
        chunks = [list(range(start, min(start + 7, 100))) for start in range(0, 100, 7)]
        order = np.random.default_rng((4, epoch)).permutation(15)
        shuffled = [number for k in order for number in chunks[k]]
        windows = list(stream)
        for column, start in ((0, 0), (1, 45)):
            inputs = np.concatenate([window.inputs[:, column] for window in windows])
            assert inputs.tolist() == shuffled[start : start + 45]
            assert windows[0].targets[:, column].tolist() == shuffled[start + 1 : start + 6]


@pytest.mark.parametrize("taken", [0, 3, 8])
def test_a_series_resumes_exactly_from_a_saved_position(taken):
    stream, restored = (StreamBatches(np.arange(31.0), np.arange(31), 5, 2) for _ in range(2))
    for _ in range(taken):
        stream.next_batch()
    restored.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    for _ in range(7):
        ours, theirs = restored.next_batch(), stream.next_batch()
        assert np.array_equal(ours.inputs, theirs.inputs) and np.array_equal(ours.targets, theirs.targets)
        assert ours.starts == theirs.starts


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros(10), np.zeros(9), "must have as many steps, got 10 and 9"),
        (np.zeros(5), np.zeros(5), "has 5 steps, but 2 streams with a window of 3 need at least 6"),
        (np.zeros(10), 0.5, "targets is the single number 0.5"),
        ([[1, 2], [3]], [1, 2], "inputs is not one array, for its lists have different lengths: give one series"),
    ],
)
def test_an_invalid_series_is_refused(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        StreamBatches(inputs, targets, window=3, batch_size=2)
