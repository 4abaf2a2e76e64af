"""next_rows: rows of a batch, read alone, are those of the whole batch."""

import numpy as np
import pytest

from tinygrad_gru import data


def arrays(**settings):
    x = np.arange(66.0).reshape(22, 3)
    return data.ArrayBatches((x, x[:, 0]), {"y": np.arange(22)}, batch_size=5, **settings)


def sequences(per_step=True, **settings):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((n, 2)) for n in rng.integers(1, 9, 22)]
    targets = [np.arange(len(value)) for value in values] if per_step else np.arange(22)
    return data.SequenceBatches(values, targets, batch_size=5, per_step=per_step, **settings)


def sharded(tmp_path, **settings):
    if not (tmp_path / "ids.npy").exists():
        np.save(tmp_path / "ids.npy", np.arange(300) % 11)
    return data.TextStream(data.ShardedArray(tmp_path / "ids.npy"), window=7, batch_size=5, **settings)


CASES = {
    "arrays": lambda _: arrays(),
    "shuffled arrays": lambda _: arrays(seed=3),
    "sequences": lambda _: sequences(seed=1),
    "buckets": lambda _: sequences(per_step=False, seed=1, bucket=2),
    "series": lambda _: data.StreamBatches(np.arange(300.0), np.arange(300), window=7, batch_size=5),
    "text": lambda _: data.TextStream(np.arange(300) % 11, window=7, batch_size=5, chunk=13),
    "text on the disk": lambda path: sharded(path, chunk=13),
}


def leaves(value):
    if isinstance(value, (tuple, dict)):
        return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
    return [value] if isinstance(value, np.ndarray) else []


@pytest.mark.parametrize("name", CASES)
def test_parts_of_batches_are_the_batches(name, tmp_path):
    """Cut at rows 0, 2, 2 and 5, in two epochs, of which the last batch has fewer rows."""
    whole, *parts = (CASES[name](tmp_path) for _ in range(4))
    assert all(batches.reads_rows for batches in parts)
    for _ in range(2 * len(whole)):
        expected = whole.next_batch()
        found = [
            batches.next_rows(lambda count, ends=ends: slice(*(min(end, count) for end in ends)))
            for batches, ends in zip(parts, [(0, 2), (2, 2), (2, 5)])
        ]
        (first, rows), (empty, _), (last, _) = found
        assert empty is None and {count for _, count in found} == {rows}
        assert [batches.state_dict() for batches in parts] == [whole.state_dict()] * 3
        for *both, array in zip(leaves(first), *([leaves(last)] if last else []), leaves(expected)):
            axis = next((k for k, size in enumerate(array.shape) if both[0].shape[k] != size), 0)
            assert np.array_equal(np.concatenate(both, axis), array, equal_nan=True)


class Scaled(data.ArrayBatches):
    def _batch(self, index):
        batch = super()._batch(index)
        return batch._replace(inputs=batch.inputs / batch.inputs.max())


class Skipping(data.ArrayBatches):
    def next_batch(self):
        super().next_batch()
        return super().next_batch()


class Halving:
    def next_batch(self):
        return super().next_batch()._replace(inputs=0.5)


class Halved(Halving, data.ArrayBatches):
    pass


def test_batches_that_a_derived_class_makes_or_changes_are_not_read_by_rows():
    changed = arrays()
    changed.next_batch = lambda: None
    for batches in (Scaled(np.ones(4)), Skipping(np.ones(4)), Halved(np.ones(4)), changed):
        assert not batches.reads_rows
    assert Scaled(np.arange(1.0, 5)).next_batch().inputs.tolist() == [0.25, 0.5, 0.75, 1]
