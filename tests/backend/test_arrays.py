from __future__ import annotations

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru.backend import as_array, as_dtype, astype, backend_of, check_ids, copy_of, scatter_add, to_host, xp_of


def test_xp_of():
    assert xp_of(np.ones(1)) is xp_of(1.0) is xp_of([1]) is np
    array = STRICT.asarray([1.0])
    assert xp_of(array) is xp_of(1.0, array) is xp_of(np.float64(1), array) is STRICT.xp


def test_as_array_keeps_the_device(backend):
    array = backend.asarray([1.0, 2.0])
    assert backend_of(as_array(array)).name == backend.name
    assert as_array([1, 2], dtype="float32").dtype == np.float32
    assert backend_of(as_array([1.0], device=backend)).name == backend.name


def test_to_host_gives_numpy(backend):
    host = to_host(backend.asarray([[1.0, 2.0]]))
    assert type(host) is np.ndarray and host.tolist() == [[1.0, 2.0]]
    assert to_host([1, 2]).tolist() == [1, 2] and to_host(2.5).shape == ()


def test_copies_share_no_memory(backend):
    array = backend.asarray([1.0, 2.0])
    copy = copy_of(array)
    copy[0] = 9.0
    assert to_host(array).tolist() == [1.0, 2.0] and to_host(copy).tolist() == [9.0, 2.0]


def test_astype_of_the_same_dtype_is_the_array_itself(backend):
    array = backend.asarray([1.0, 2.0], dtype=backend.xp.float32)
    assert astype(array, "float32") is array and astype(array, array.dtype) is array
    assert astype(array, "float64").dtype == as_dtype(array, "float64") == backend.xp.float64
    with pytest.raises(TypeError, match="dtype: 'float31' is not a dtype"):
        astype(array, "float31")


def test_zeros_and_arange_are_on_the_device(backend):
    for array in (backend.zeros((2, 3), backend.xp.float32), backend.arange(4)):
        assert backend_of(array).name == backend.name and getattr(backend_of(array), "device", 0) == backend.device
    assert to_host(backend.zeros((2,), backend.xp.int64)).tolist() == [0, 0]
    assert to_host(backend.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("ids", "bad"), [([0, 3], 3), ([-1, 0], -1), ([[5, -2]], -2), (7, 7)], ids=repr)
def test_ids_out_of_range(backend, ids, bad):
    with pytest.raises(IndexError, match=rf"words must lie in 0 … 2, got {bad} \(a vocabulary of another size\?\)"):
        check_ids(backend.asarray(ids), 3, "words")


def test_ids_in_range(backend):
    check_ids(backend.asarray([0, 2, 1]), 3, "ids")
    check_ids(backend.zeros((0, 3), backend.xp.int64), 0, "ids")
    check_ids(np.array([255], np.uint8), 256, "ids")
    with pytest.raises(TypeError, match="ids must be integers, got"):
        check_ids(backend.asarray([0.0]), 3, "ids")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scatter_add_accumulates_repeated_indices(backend, dtype):
    target = backend.zeros((3, 2), as_dtype(backend.zeros((1,), None), dtype))
    values = astype(backend.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), dtype)
    scatter_add(target, backend.asarray([2, 0, 2]), values)
    scatter_add(
        target, (slice(1, 2), 0), 7.0 if backend.name == "numpy" else backend.asarray([7.0], dtype=target.dtype)
    )
    assert to_host(target).tolist() == [[3.0, 4.0], [7.0, 0.0], [6.0, 8.0]]


def test_scatter_add_into_many_rows_equals_numpys(rng):
    """The quick way, by sorting: against `np.add.at`, for ids of any shape and dtype, negative ones too."""
    for shape, dtype in (((50,), np.int64), ((5, 7), np.uint8), ((0,), np.int64), ((), np.int8), ((4, 1, 3), np.int32)):
        low = -6 if np.dtype(dtype).kind == "i" else 0
        ids = rng.integers(low, 6, shape).astype(dtype)
        values = rng.standard_normal((*shape, 3))
        expected, found = np.zeros((6, 3)), np.zeros((6, 3))
        np.add.at(expected, ids, values)
        scatter_add(found, ids, values)
        np.testing.assert_allclose(found, expected, atol=1e-14)
        scatter_add(found, (ids,), 1.0)
        np.add.at(expected, ids, 1.0)
        np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("ids", [[6], [-7]])
def test_scatter_add_out_of_bounds_raises_and_writes_nothing(ids):
    target = np.zeros((6, 2))
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 6"):
        scatter_add(target, np.array([0, *ids]), 1.0)
    assert not target.any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_scatter_add_at_several_index_arrays_equals_numpys(rng, dtype):
    """Rows that two arrays select together, which broadcast; some negative, most repeated."""
    target = rng.integers(-9, 9, (3, 4, 5)).astype(dtype)
    index = rng.integers(-3, 3, (50, 1)), rng.integers(-4, 4, 7)
    values = rng.integers(-9, 9, (50, 7, 5)).astype(dtype)
    expected = target.copy()
    np.add.at(expected, index, values)
    scatter_add(target, index, values)
    np.testing.assert_array_equal(target, expected)


def test_scatter_add_refuses_what_numpy_refuses():
    """More arrays of indices than axes, which would be left out, and floats for integers, which would lose digits."""
    ids = np.array([0, 1])
    with pytest.raises(IndexError):
        np.add.at(np.zeros(3), (ids, ids), 1.0)
    with pytest.raises(IndexError, match="2 arrays of indices for the 1 axes"):
        scatter_add(np.zeros(3), (ids, ids), np.ones(2))
    with pytest.raises(TypeError):
        np.zeros(3, int)[...] += np.full(3, 0.5)
    with pytest.raises(TypeError, match="float64 cannot be added to int64"):
        scatter_add(np.zeros(3, np.int64), ids, np.full(2, 0.5))


def test_scatter_add_of_many_into_one_row_keeps_its_digits():
    """Three million times 0.1 one by one in float32 would be 3 % too small."""
    target = np.zeros((2, 1), np.float32)
    scatter_add(target, np.zeros(3_000_000, int), np.full((3_000_000, 1), np.float32(0.1)))
    np.testing.assert_allclose(target[:, 0], [3e6 * float(np.float32(0.1)), 0.0], rtol=1e-7)
