"""Indexing by functions of the array API standard, against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.strict import STRICT

from tinygrad_gru import native
from tinygrad_gru.backend import numpy as numpy_backend
from tinygrad_gru.backend import resolve
from tinygrad_gru.backend.indexing import CheckedIndex, axes_of_parts, check_bounds, index_parts

NUMPY = resolve("numpy")

SHAPE = (3, 4, 2)
VALUES = np.arange(24.0).reshape(SHAPE)


def moved(index):
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(STRICT.asarray(part) if isinstance(part, np.ndarray) else part for part in parts)


def check(index):
    array = STRICT.asarray(VALUES)
    np.testing.assert_array_equal(STRICT.to_host(STRICT.advanced_index(array, moved(index))), VALUES[index])
    target, expected = STRICT.zeros(SHAPE, STRICT.xp.float64), np.zeros(SHAPE)
    values = np.random.default_rng(0).standard_normal(VALUES[index].shape)
    STRICT.scatter_add(target, moved(index), STRICT.asarray(values))
    np.add.at(expected, index, values)
    np.testing.assert_allclose(STRICT.to_host(target), expected, atol=1e-14)


@given(hnp.basic_indices(SHAPE, allow_newaxis=True, max_dims=5))
def test_basic_indices(index):
    check(index)


@given(hnp.integer_array_indices(SHAPE[:2], result_shape=hnp.array_shapes(max_dims=2, max_side=3)), st.integers(0, 3))
def test_adjacent_integer_arrays(index, form):
    check((index, index[0], (*index, Ellipsis, slice(None, None, -1)), (None, *index))[form])
    check((slice(1, 3), index[1]))
    check((Ellipsis, index[0] % 2))


@given(st.integers(1, 3).flatmap(lambda n: hnp.arrays(bool, SHAPE[:n])))
def test_masks(mask):
    check(mask)
    check((mask, Ellipsis))


def test_indices_of_narrow_dtypes_do_not_overflow():
    array = np.arange(600.0).reshape(300, 2)
    ids = np.array([[250, 3], [0, 255]], np.uint8)
    picked = STRICT.advanced_index(STRICT.asarray(array), (STRICT.asarray(ids), Ellipsis))
    np.testing.assert_array_equal(STRICT.to_host(picked), array[ids])


@pytest.mark.parametrize("index", [(np.array([0]), slice(None), np.array([0])), (0, np.array([1]))])
def test_unsupported_indices_raise(index):
    with pytest.raises(IndexError, match="on this backend an index holds arrays only side by side"):
        STRICT.advanced_index(STRICT.asarray(VALUES), moved(index))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.array([3]), "index 3 is out of bounds for axis 0 with size 3"),
        (np.array([0, -4]), "index -4 is out of bounds for axis 0 with size 3"),
        ((slice(None), np.array([4])), "index 4 is out of bounds for axis 1 with size 4"),
        ((None, 0, np.array([4])), "index 4 is out of bounds for axis 1 with size 4"),
        ((Ellipsis, np.array([2])), "index 2 is out of bounds for axis 2 with size 2"),
        ((np.ones((3, 4), bool), np.array([2])), "index 2 is out of bounds for axis 2 with size 2"),
    ],
)
def test_bounds(index, message):
    with pytest.raises(IndexError, match=message):
        check_bounds(NUMPY, index, SHAPE)


def test_bounds_of_empty_indices():
    check_bounds(NUMPY, np.array([], int), (0,))
    check_bounds(NUMPY, (np.array([-3, 2]), slice(9, 12)), SHAPE)


def test_checked_index_skips_bounds_but_not_the_library():
    check_bounds(NUMPY, CheckedIndex((np.array([99]),)), SHAPE)
    with pytest.raises(TypeError, match="an index on array_api_strict for an array on numpy"):
        check_bounds(NUMPY, CheckedIndex((STRICT.asarray([0]),)), SHAPE)


def test_axes_of_parts():
    mask, ids = np.ones((3, 4), bool), np.array([0])
    assert [list(axes) for _, axes in axes_of_parts((None, mask, ids), 3)] == [[], [0, 1], [2]]
    assert [list(axes) for _, axes in axes_of_parts((0, Ellipsis, ids), 4)] == [[0], [1, 2], [3]]
    assert index_parts(0) == (0, Ellipsis) and index_parts((Ellipsis, 1)) == (Ellipsis, 1)


@pytest.fixture(params=["native", "NumPy"])
def rows_added(request, monkeypatch):
    """`scatter_add` to rows by a native loop, or by NumPy."""
    if request.param == "native" and not native.is_available():
        pytest.skip("needs llvmlite")
    monkeypatch.setattr(numpy_backend, "_LEAST_NATIVE", 0 if request.param == "native" else 10**9)
    return NUMPY.scatter_add


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 3), (5,), (4, 5, 2), (300, 17)])
def test_values_are_added_to_rows_in_float64(rows_added, dtype, shape):
    rng = np.random.default_rng(0)
    index = tuple(rng.integers(-n, n, (40, 2)) for n in (shape[:-1] or shape))
    values = rng.standard_normal((40, 2, *shape[len(index) :])).astype(dtype)
    target = rng.standard_normal(shape).astype(dtype)
    sums = np.zeros(shape)
    np.add.at(sums, index, values.astype(np.float64))
    expected = (target + sums).astype(dtype)
    rows_added(target, index, values)
    np.testing.assert_allclose(target, expected, rtol=1e-7 if dtype == "float32" else 1e-14)


def test_rows_that_are_added_to_the_array_they_are_of(rows_added):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows_added(x, (np.array([1, 0, 1]),), x)
    np.testing.assert_array_equal(x, [[2, 4], [6, 9], [4, 5]])


def test_many_small_values_are_not_lost_beside_a_large_one(rows_added):
    target, values = np.zeros((2, 1), np.float32), np.ones((1001, 1), np.float32)
    values[0] = 2.0**26
    rows_added(target, (np.ones(1001, int),), values)
    assert target[1] == np.float32(2**26 + 1000)


def test_an_index_without_parts_adds_to_all():
    target = np.ones((2, 3))
    resolve("numpy").scatter_add(target, (), np.arange(3.0))
    np.testing.assert_array_equal(target, [[1, 2, 3]] * 2)
