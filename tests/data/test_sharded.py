import copy
import os
import pickle
import threading

import numpy as np
import pytest

from tinygrad_gru.data import ArrayBatches, ShardedArray, Standardizer, StreamBatches, TextStream, windows


@pytest.fixture
def shards(tmp_path, rng):
    """Three shards of 10, 1 and 12 rows, and the whole array."""
    whole = rng.normal(size=(23, 3)).astype(np.float32)
    for number, part in enumerate(np.split(whole, [10, 11])):
        np.save(tmp_path / f"part-{number}.npy", part)
    return str(tmp_path / "part-*.npy"), whole


def test_rows_are_those_of_the_concatenated_array(shards, rng):
    pattern, whole = shards
    array = ShardedArray(pattern)
    assert (array.shape, array.ndim, array.dtype, len(array)) == (whole.shape, 2, whole.dtype, 23)
    np.testing.assert_array_equal(np.asarray(array), whole)
    for indices in ([9, 10, 11], [0, 22, -1, -23], [], rng.integers(0, 23, (4, 5))):
        np.testing.assert_array_equal(array[indices], whole[np.asarray(indices, int)])
    np.testing.assert_array_equal(array[-2], whole[-2])


@pytest.mark.parametrize("part", [slice(3, 12), slice(-5, None), slice(None, -1), slice(8, 3), slice(0, 99)])
def test_a_slice_is_a_view_that_reads_nothing(shards, part, monkeypatch):
    array, whole = ShardedArray(shards[0]), shards[1]
    with monkeypatch.context() as patch:
        patch.setattr("tinygrad_gru.data.sharded._File.read", None)
        view = array[part]
        assert len(view) == len(whole[part])
    np.testing.assert_array_equal(np.asarray(view), whole[part])
    np.testing.assert_array_equal(np.asarray(view[1:]), whole[part][1:])


@pytest.mark.parametrize(
    "index", [23, -24, [0, 23], slice(0, 9, 2), 1.5, [True, False], (1, 2.0), (1, 0), (), np.zeros(0, bool)]
)
def test_a_wrong_index_is_refused(shards, index):
    with pytest.raises(IndexError):
        ShardedArray(shards[0])[index]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_indices_of_a_small_type_do_not_overflow(tmp_path, dtype):
    np.save(tmp_path / "part.npy", np.arange(1000))
    array = ShardedArray([tmp_path / "part.npy"])
    np.testing.assert_array_equal(array[200:][np.array([100, 3], dtype)], [300, 203])
    if np.issubdtype(dtype, np.signedinteger):
        np.testing.assert_array_equal(array[200:][np.array([-1, -100], dtype)], [999, 900])


def test_a_copy_reads_the_same_rows(shards):
    array = ShardedArray(shards[0])[4:]
    _ = array[0]  # opens a file, which no copy shares
    for other in (copy.deepcopy(array), pickle.loads(pickle.dumps(array))):
        np.testing.assert_array_equal(np.asarray(other), shards[1][4:])


def big_endian(path):
    return np.save(path, np.arange(6.0).reshape(2, 3).astype(">f4"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: np.save(path, np.empty((0, 3), np.float32)), "is an empty shard"),
        (lambda path: np.save(path, np.ones((2, 3))), r"float64 and shape \(3,\), but .*part-0.* has float32"),
        (lambda path: np.save(path, np.ones((2, 4), np.float32)), r"shape \(4,\), but"),
        (big_endian, "rows of >f4"),
        (lambda path: np.save(path, np.asfortranarray(np.ones((4, 3), np.float32))), "in Fortran order"),
        (lambda path: np.save(path, np.array(["a"])), "holds <U1"),
        (lambda path: np.save(path, np.float32(3)), r"of shape \(\)"),
        (lambda path: path.write_bytes(b"text"), "is not a .npy file"),
        (lambda path: path.write_bytes(b""), "is not a .npy file"),
    ],
)
def test_a_shard_that_does_not_fit_is_named(shards, tmp_path, write, message):
    write(tmp_path / "part-3.npy")
    with pytest.raises(ValueError, match=message) as caught:
        ShardedArray(shards[0])
    assert "part-3.npy" in str(caught.value)


def test_a_truncated_shard_is_refused(shards, tmp_path):
    os.truncate(tmp_path / "part-1.npy", (tmp_path / "part-1.npy").stat().st_size - 1)
    with pytest.raises(ValueError, match=r"part-1\.npy is truncated"):
        ShardedArray(shards[0])


def test_a_pattern_without_a_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none that matches"):
        ShardedArray(tmp_path / "part-*.npy")
    with pytest.raises(ValueError, match="the list is empty"):
        ShardedArray([])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "part-2.npy"),
        (lambda path: os.truncate(path, 150), "has changed since it was first opened"),
        (lambda path: np.save(path, np.zeros((12, 3), np.float32)), "has changed since it was first opened"),
    ],
)
def test_a_shard_that_vanishes_or_changes_in_mid_run_is_named(shards, tmp_path, harm, message):
    array = ShardedArray(shards[0])
    os.utime(tmp_path / "part-2.npy", ns=(0, 0))
    array = ShardedArray(shards[0])
    harm(tmp_path / "part-2.npy")
    np.testing.assert_array_equal(array[0], shards[1][0])
    with pytest.raises(OSError, match=message):
        array[20]


def test_an_open_shard_that_is_truncated_is_an_error_and_no_crash(shards, tmp_path):
    array = ShardedArray(shards[0])
    array[22]
    os.truncate(tmp_path / "part-2.npy", 150)
    with pytest.raises(OSError, match=r"part-2\.npy ends before its last row"):
        array[22]


def test_an_open_shard_that_is_written_over_is_an_error_and_no_mixture(shards, tmp_path):
    os.utime(tmp_path / "part-2.npy", ns=(0, 0))
    array = ShardedArray(shards[0])
    array[22]
    np.save(tmp_path / "part-2.npy", np.zeros((12, 3), np.float32))  # in place: the file is the same, and open
    with pytest.raises(OSError, match=r"part-2\.npy has changed since it was first opened"):
        array[22]


@pytest.mark.skipif(not hasattr(os, "pread"), reason="the position of the file is moved there")
def test_a_file_is_not_closed_while_another_thread_reads_it(shards, tmp_path, monkeypatch):
    array, whole = ShardedArray(shards[0]), shards[1]
    array[0]
    (tmp_path / "other").write_bytes(b"x" * 1000)
    pread, threads, opened = os.pread, [], []

    def close_and_open():
        array._files[0].close()
        opened.append(os.open(tmp_path / "other", os.O_RDONLY))  # gets the number of the file that was closed

    def slow_pread(*arguments):
        if not threads:
            threads.append(threading.Thread(target=close_and_open))
            threads[0].start()
            threads[0].join(0.2)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow_pread)
    np.testing.assert_array_equal(array[1], whole[1])
    threads[0].join()
    os.close(opened[0])


def test_many_shards_need_few_open_files(tmp_path):
    for number in range(70):
        np.save(tmp_path / f"{number:03d}.npy", np.full(3, number))
    array = ShardedArray(tmp_path / "*.npy")
    for _ in range(2):
        assert array[np.arange(0, 210, 3)].tolist() == list(range(70))
        assert sum(file.is_open for file in array._files) <= 64


def test_threads_read_the_same(shards):
    array, whole = ShardedArray(shards[0]), shards[1]
    wrong = []

    def read(seed):
        random = np.random.default_rng(seed)
        for _ in range(200):
            rows = random.integers(0, 23, 7)
            if not np.array_equal(array[rows], whole[rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_are_those_of_the_array(shards, seed):
    array, whole = ShardedArray(shards[0]), shards[1]
    ours, theirs = (ArrayBatches(x, (x, x[:]), 4, seed) for x in (array, whole))
    for _ in range(2):
        for one, other in zip(ours, theirs, strict=True):
            assert type(one.inputs) is np.ndarray
            np.testing.assert_array_equal(one.inputs, other.inputs)
            np.testing.assert_array_equal(one.targets[1], other.targets[1])


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_streams_are_those_of_the_array(tmp_path, rng, dtype, shape):
    whole = (100 * rng.normal(size=(101, *shape))).astype(dtype)
    np.save(tmp_path / "a.npy", whole[:40])
    np.save(tmp_path / "b.npy", whole[40:])
    array = ShardedArray(tmp_path / "*.npy")
    ours, theirs = (StreamBatches(x[:-1], x[1:], window=5, batch_size=3) for x in (array, whole))
    for one, other in zip(ours, theirs, strict=True):
        assert one.inputs.dtype == other.inputs.dtype and one.starts == other.starts
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets)


@pytest.mark.parametrize("chunk", [None, 1, 7, 64, 1000])
@pytest.mark.parametrize("length", [100, 140, 141])
def test_a_text_on_the_disk_is_read_in_the_order_of_one_in_memory(tmp_path, chunk, length):
    ids = np.random.default_rng(0).integers(0, 200, length).astype(np.uint8)
    np.save(tmp_path / "a.npy", ids[:40])
    np.save(tmp_path / "b.npy", ids[40:])
    np.save(tmp_path / "whole", ids)
    mapped = np.load(tmp_path / "whole.npy", mmap_mode="r")
    memory, *disk = (TextStream(x, 5, 3, chunk, 7) for x in (ids, ShardedArray(tmp_path / "?.npy"), mapped))
    for _ in range(3 * len(memory)):
        expected = memory.next_batch()
        for stream in disk:
            found = stream.next_batch()
            assert found.starts == expected.starts and found.inputs.flags.c_contiguous
            np.testing.assert_array_equal(found.inputs, expected.inputs)
            np.testing.assert_array_equal(found.targets, expected.targets)
    assert disk[0].state_dict() == memory.state_dict()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_inputs_may_be_written_to_and_leave_the_targets_and_the_text(tmp_path, batch_size):
    """As who drops words does: inputs and targets are the same text, shifted by one."""
    np.save(tmp_path / "ids.npy", np.arange(100))
    ids = np.arange(100)
    for source in (ids, ShardedArray([tmp_path / "ids.npy"]), np.load(tmp_path / "ids.npy", mmap_mode="c")):
        batch = TextStream(source, window=5, batch_size=batch_size).next_batch()
        batch.inputs[:] = -1
        np.testing.assert_array_equal(batch.targets[:, 0], [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(np.asarray(source), np.arange(100))


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_statistics_are_found_by_blocks(tmp_path, rng, monkeypatch, shape):
    values = rng.normal(1e4, 0.1, (500, *shape))
    values[rng.random(values.shape) < 0.1] = np.nan
    if shape:
        values[:100, ..., 0] = np.nan  # blocks without a value
        values[..., 1] = 7.0
    for number, part in enumerate(np.split(values, [123])):
        np.save(tmp_path / f"{number}.npy", part)
    whole = Standardizer().fit(values).state_dict()
    monkeypatch.setattr("tinygrad_gru.data.standardizer._BLOCK", 30)
    axes = tuple(range(max(1, values.ndim - 1)))
    for array in (values, ShardedArray(tmp_path / "?.npy")):
        found = Standardizer().fit(array)
        np.testing.assert_allclose(found.mean, np.atleast_1d(np.nanmean(values, axis=axes)), rtol=1e-12)
        std = np.atleast_1d(np.nanstd(values, axis=axes))
        np.testing.assert_allclose(found.std, np.where(std == 0, 1, std), rtol=1e-9)
        np.testing.assert_array_equal(found.constant, whole["constant"])
        np.testing.assert_array_equal(found.missing, np.atleast_1d(np.isnan(values).sum(axis=axes)))


def test_windows_of_a_mapped_array_are_views_of_it(tmp_path):
    np.save(tmp_path / "series.npy", np.arange(40.0).reshape(20, 2))
    mapped = np.load(tmp_path / "series.npy", mmap_mode="r")
    x, y = windows(mapped, width=3)
    assert np.shares_memory(x, mapped) and np.shares_memory(y, mapped)
    with pytest.raises(TypeError, match="series: windows are views of an array"):
        windows(ShardedArray([tmp_path / "series.npy"]), width=3)
    with pytest.raises(TypeError, match=r"series\[0\]: windows are views"):
        windows([ShardedArray([tmp_path / "series.npy"])], width=3)


def test_a_mapped_array_is_batched_without_a_copy_of_it(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.uint16).reshape(20, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for batches in (ArrayBatches(mapped, mapped[:, ::2], 4), StreamBatches(mapped, mapped, window=2, batch_size=2)):
        assert np.shares_memory(batches.inputs, mapped) and np.shares_memory(batches.targets, mapped)
