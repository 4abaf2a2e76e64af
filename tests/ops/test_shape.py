"""Shape ops: edge cases, views and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tensors import constant, gradient, leaf

from tinygrad_gru import TapeError, Tensor, ops, tape
from tinygrad_gru.testing import gradcheck, gradgradcheck

# -- reshape, transpose, … -----------------------------------------------------------------------------------------


@given(st.permutations(range(4)), st.data())
def test_transpose_roundtrip(axes, data):
    signed = tuple(a - 4 * data.draw(st.booleans()) for a in axes)
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    weight = np.random.default_rng(0).standard_normal(np.transpose(x, axes).shape)
    t = leaf(x)
    y = t.permute(*signed)
    y.backward(weight)
    np.testing.assert_array_equal(y.numpy(), np.transpose(x, axes))
    np.testing.assert_array_equal(np.transpose(t.grad.numpy(), axes), weight)


@given(st.data())
def test_moveaxis_roundtrip(data):
    n = data.draw(st.integers(0, 3))
    source, destination = (tuple(data.draw(st.permutations(range(3)))[:n]) for _ in range(2))
    x = np.arange(24.0).reshape(2, 3, 4)
    t = leaf(x)
    y = ops.moveaxis(t, source=source, destination=destination)
    np.testing.assert_array_equal(y.numpy(), np.moveaxis(x, source, destination))
    y.backward(y.numpy())
    np.testing.assert_array_equal(t.grad.numpy(), x)


@given(st.lists(st.integers(0, 4), max_size=3, unique=True), st.booleans())
def test_expand_dims_and_squeeze(axes, negative):
    n = 2 + len(axes)
    axis = tuple(a % n - n * negative for a in axes)
    if len({a % n for a in axis}) < len(axis):
        return
    t = leaf(np.arange(6.0).reshape(2, 3))
    y = t.expand_dims(axis)
    assert y.shape == np.expand_dims(t.numpy(), axis).shape
    z = y.squeeze(axis)
    z.backward(z.numpy())
    assert z.shape == (2, 3) and t.grad.tolist() == t.tolist()


@pytest.mark.parametrize("axis", [(1, 1), (1, -2), (0, -3)])
def test_expand_dims_with_an_axis_twice_raises(axis):
    with pytest.raises(ValueError, match="names an axis twice"):
        ops.expand_dims(np.ones(3 - len(axis)), axis)


def test_methods_take_axes_as_integers_or_a_tuple():
    x = leaf(np.zeros((2, 3, 4)))
    assert x.reshape(6, 4).shape == x.reshape((6, 4)).shape == x.reshape([6, -1]).shape == (6, 4)
    assert x.transpose(2, 0, 1).shape == x.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert x.transpose().shape == x.T.shape == (4, 3, 2) and x.mT.shape == (2, 4, 3)
    assert x.reshape(-1).shape == (24,) and x.sum().reshape(()).shape == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.reshape(4, 2), r"reshape: .*\(inputs: \(2, 3\)"),
        (lambda x: x.transpose(0), "transpose: "),
        (lambda x: x.transpose(0, 2), "transpose: "),
        (lambda x: x.squeeze(0), "squeeze: "),
        (lambda x: x.expand_dims(4), "expand_dims: "),
        (lambda x: x.broadcast_to((3, 3)), "broadcast_to: "),
        (lambda x: ops.moveaxis(x, source=2, destination=0), "moveaxis: "),
        (lambda x: ops.flip(x, axis=2), "flip: "),
        (lambda x: x.sum().mT, "matrix_transpose: "),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call(leaf(np.ones((2, 3))))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.reshape(3, 2), lambda x: x.T, lambda x: x.mT, lambda x: x.expand_dims(0), lambda x: x.squeeze(),
        lambda x: x.moveaxis(0, 1), lambda x: x.broadcast_to((4, 2, 3)), lambda x: ops.flip(x), lambda x: x[0],
        lambda x: x[..., ::2], lambda x: x[None], lambda x: ops.split(x, 2)[1],
        lambda x: x.reshape(6)[2:].T.reshape(2, 2),
    ],
)  # fmt: skip
def test_views_share_memory_and_writes_are_detected(view):
    """A write into the leaf is seen through the view, and backward refuses it."""
    x = leaf(np.arange(6.0).reshape(2, 3))
    y = view(x)
    assert np.shares_memory(y.data, x.data)
    z = (y * y).sum()
    x.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        z.backward()


@pytest.mark.parametrize(
    "copy", [lambda x: x[np.array([0, 1])], lambda x: x[[1]], lambda x: ops.repeat(x, repeats=2, axis=0), ops.exp]
)
def test_copies_do_not_share_memory(copy):
    x = leaf(np.arange(6.0).reshape(2, 3))
    y = copy(x)
    assert not np.shares_memory(y.data, x.data)
    z = (y * y).sum()
    x.data += 1.0
    z.backward()


# -- joining and splitting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [ops.concatenate, ops.stack])
def test_joining_an_empty_list_raises(join):
    with pytest.raises(ValueError, match=rf"^{join.__name__}: expected at least one array, got none"):
        join([])


@pytest.mark.parametrize("join", [ops.concatenate, ops.stack])
def test_joining_a_generator(join):
    leaves = [leaf([[1.0, 2.0]]), leaf([[3.0, 4.0]])]
    y = join(x for x in leaves)
    y.backward(np.arange(4.0).reshape(y.shape))
    assert [x.grad.numpy().ravel().tolist() for x in leaves] == [[0.0, 1.0], [2.0, 3.0]]


def test_concatenate_with_constants_and_itself():
    x = leaf([1.0, 2.0])
    y = ops.concatenate([x, np.zeros(1), x])
    y.backward(np.arange(5.0))
    assert x.grad.tolist() == [0.0 + 3.0, 1.0 + 4.0]


def test_joining_one_array():
    x = leaf([[1.0, 2.0]])
    assert ops.concatenate([x], axis=1).tolist() == [[1.0, 2.0]] and ops.stack([x], axis=2).shape == (1, 2, 1)


@pytest.mark.parametrize("axis", [2, -3])
def test_joining_along_an_axis_out_of_bounds_raises(axis):
    with pytest.raises(ValueError, match=f"axis {axis} is out of bounds for an array of 2 axes"):
        ops.concatenate([leaf([[1.0]])], axis=axis)
    with pytest.raises(ValueError, match=r"^stack: "):
        ops.stack([leaf([[1.0]])], axis=axis + 1 if axis > 0 else axis - 1)


def test_joining_arrays_of_different_shapes_raises():
    with pytest.raises(ValueError, match=r"^concatenate: .*\(2, 3\).*\(2, 2\)"):
        ops.concatenate([leaf(np.ones((2, 3))), leaf(np.ones((2, 2)))])
    with pytest.raises(ValueError, match=r"^stack: .*\(2, 3\).*\(2, 2\)"):
        ops.stack([leaf(np.ones((2, 3))), leaf(np.ones((2, 2)))])


def test_backward_of_concatenate_is_linear_in_the_number_of_arrays():
    """A rule looks up where its array ends, instead of adding up the lengths."""
    leaves = [leaf([float(k)]) for k in range(3000)]
    ops.concatenate(leaves).backward(np.arange(3000.0))
    assert [x.grad.item() for x in leaves] == list(range(3000))
    assert len(tape(ops.concatenate(leaves))) == 1


@given(st.integers(0, 3), st.integers(1, 4))
def test_split_into_equal_parts(length, sections):
    x = np.arange(2.0 * length * sections).reshape(2, -1)
    parts = ops.split(leaf(x), sections, axis=1)
    assert len(parts) == sections
    np.testing.assert_array_equal(ops.concatenate(parts, axis=-1).numpy(), x)
    assert not length or gradcheck(lambda x: ops.split(x, sections, axis=-1)[-1] * 2, [x])


@given(st.lists(st.integers(0, 6), max_size=4).map(sorted))
def test_split_at_indices(ends):
    x = np.arange(5.0)
    parts = ops.split(leaf(x), ends)
    for mine, theirs in zip(parts, np.split(x, ends), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)


def test_gradient_of_a_split_with_unused_parts():
    x = leaf(np.arange(6.0))
    first, *_ = ops.split(x, 3)
    (first * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("sections", [0, -1, 4])
def test_split_into_unequal_parts_raises(sections):
    with pytest.raises(ValueError, match=rf"split: axis 0 of length 6 cannot be cut into {sections} equal parts"):
        ops.split(leaf(np.ones(6)), sections)


def test_split_along_an_axis_out_of_bounds_raises():
    with pytest.raises(ValueError, match="axis 1 is out of bounds for an array of 1 axes"):
        ops.split(leaf(np.ones(6)), 2, axis=1)


# -- pad, repeat, flip ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=2), st.floats(-3, 3))
def test_pad_equals_numpy(width, value):
    x = np.arange(6.0).reshape(2, 3)
    y = ops.pad(leaf(x), width=tuple(width), value=value)
    np.testing.assert_array_equal(y.numpy(), np.pad(x, width, constant_values=value))
    assert gradgradcheck(lambda x: ops.pad(x, width=width, value=value) ** 2, [x])


def test_pad_keeps_the_dtype():
    assert ops.pad(constant([1, 2], "int32"), width=[(1, 0)], value=7).tolist() == [7, 1, 2]
    assert ops.pad(constant([1.0], "float16"), width=[(0, 1)]).dtype == "float16"
    assert ops.pad(leaf(3.0), width=()).item() == 3.0


@pytest.mark.parametrize("width", [((1, 1),), (1, 1), ((1,), (1,)), ((-1, 0), (0, 0)), ((1, 1), (1, 1), (1, 1)), (), 1])
def test_pad_requires_a_width_per_axis(width):
    with pytest.raises(ValueError, match=r"pad: width: expected \(before, after\), both ≥ 0, for each of the 2 axes"):
        ops.pad(leaf(np.ones((2, 3))), width=width)


@pytest.mark.parametrize("repeats", [0, 1, 3])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_repeat(repeats, axis):
    x = np.arange(6.0).reshape(2, 3)
    y = ops.repeat(leaf(x), repeats=repeats, axis=axis)
    np.testing.assert_array_equal(y.numpy(), np.repeat(x, repeats, axis))
    np.testing.assert_array_equal(gradient(lambda x: ops.repeat(x, repeats=repeats, axis=axis), x), repeats)


@pytest.mark.parametrize("repeats", [[1, 2], np.array([1, 2]), -1, 1.5])
def test_repeat_requires_one_integer(repeats):
    with pytest.raises(ValueError, match="repeat: repeats: expected one integer ≥ 0 for all elements, got"):
        ops.repeat(leaf([1.0, 2.0]), repeats=repeats, axis=0)


def test_repeat_along_an_axis_out_of_bounds_raises():
    with pytest.raises(ValueError, match="repeat: axis 1 is out of bounds"):
        ops.repeat(leaf([1.0, 2.0]), repeats=2, axis=1)


def test_flip_along_multiple_axes():
    x = np.arange(6.0).reshape(1, 2, 3)
    for axis in (None, 0, -1, (1, 2)):
        y = ops.flip(leaf(x), axis=axis)
        np.testing.assert_array_equal(y.numpy(), np.flip(x, axis))
        assert gradcheck(lambda x, axis=axis: ops.flip(x, axis=axis), [x])


# -- astype --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradient_of_astype_has_the_dtype_of_the_input(dtype):
    x = leaf([1.0, 2.0], "float32")
    inner = x * 2
    y = inner.astype(dtype)
    y.backward(np.ones(2))
    assert y.dtype == dtype and x.grad.dtype == "float32" and x.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_astype_to_integers_and_booleans_is_constant(dtype):
    y = leaf([0.0, 1.7]).astype(dtype)
    assert not y.requires_grad and y.tolist() == np.array([0.0, 1.7]).astype(dtype).tolist()
    assert not ops.astype(leaf([1.0]), dtype=np.int32).requires_grad


def test_astype_with_any_form_of_dtype():
    for dtype in ("float32", np.float32, np.dtype("float32")):
        assert ops.astype(leaf([1.0]), dtype=dtype).dtype == np.float32
        assert ops.astype(np.ones(1), dtype=dtype).dtype == np.float32
    with pytest.raises(TypeError, match="dtype: 'float31' is not a dtype"):
        Tensor([1.0]).astype("float31")
