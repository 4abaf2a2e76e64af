"""Indexing: repeated indices, bounds, and the cost of backward for many slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.strict import STRICT
from support.tensors import constant, gradient, leaf

from tinygrad_gru import Tensor, grad, no_grad, ops, tape
from tinygrad_gru.ops.movement import indexing
from tinygrad_gru.testing import gradcheck, gradgradcheck

SHAPE = (3, 4, 2)
BASIC = hnp.basic_indices(SHAPE, allow_newaxis=True, max_dims=5)
ADVANCED = hnp.integer_array_indices(SHAPE[:2], result_shape=hnp.array_shapes(max_dims=2, max_side=4))
MASKS = st.integers(0, 3).flatmap(lambda n: hnp.arrays(bool, SHAPE[:n]))


def check_index(index):
    """Forward as NumPy's; the gradient of Σ w ⊙ x[index] is w scatter-added at the index."""
    x = np.arange(24.0).reshape(SHAPE)
    t = leaf(x)
    y = t[index]
    np.testing.assert_array_equal(y.numpy(), x[index])
    assert y.shape == x[index].shape
    weight = np.random.default_rng(0).standard_normal(y.shape)
    expected = np.zeros(SHAPE)
    np.add.at(expected, index, weight)
    y.backward(weight)
    np.testing.assert_allclose(t.grad.numpy(), expected, atol=1e-15)


@given(BASIC)
def test_basic_indexing(index):
    check_index(index)


@given(ADVANCED)
def test_integer_arrays_with_repeated_indices(index):
    check_index(index)
    check_index(index[0])


@given(MASKS)
def test_boolean_masks(mask):
    check_index(mask)


@given(ADVANCED, st.permutations([0, 1, 2]), st.booleans())
def test_mixed_advanced_and_basic_indexing(index, order, with_slice):
    parts = [index[0] % 3, slice(None, None, 2) if with_slice else 1, index[1] % 2]
    check_index(tuple(parts))
    check_index((None, *parts[:2]))


@pytest.mark.parametrize(
    "index",
    [
        [0, 0, 2],
        [[0, 1], [1, 1]],
        ([0, 0], [1, 1]),
        ((0, 0),),
        ((0, 0), slice(None)),
        (np.int64(1), np.int8(2)),
        np.array(2),
        [True, False, True],
        (slice(None), [True, False, True, False]),
        [],
        (slice(0, 0), 1),
        (Ellipsis, 1),
        (1, Ellipsis, [0, 0, 1]),
        np.array([0, 2, 2], np.uint8),
        range(2),
    ],
    ids=repr,
)
def test_equivalent_index_forms(index):
    check_index(index)


@pytest.mark.parametrize("index", [[0, 0, 2], ([0, 0], [1, 1]), [True, False, True]])
def test_tensors_as_indices(index):
    x = np.arange(24.0).reshape(SHAPE)
    parts = index if isinstance(index, tuple) else (index,)
    tensors = tuple(Tensor(np.array(part)) for part in parts)
    expected = gradient(lambda t: t[index], x)
    for read in (lambda t: t[tensors if len(tensors) > 1 else tensors[0]], lambda t: ops.getitem(t, index=tensors)):
        np.testing.assert_array_equal(gradient(read, x), expected)


def test_tensors_as_indices_on_every_backend(backend):
    w = Tensor(backend.asarray(np.eye(3)), requires_grad=True)
    ids = Tensor(backend.asarray([0, 0, 2]))
    for read in (
        lambda: w[ids],
        lambda: ops.getitem(w, index=ids),
        lambda: ops.embedding(w, ids),
        lambda: ops.take(w, ids),
    ):
        w.zero_grad()
        read().sum().backward()
        assert w.grad.numpy()[:, 0].tolist() == [2.0, 0.0, 1.0]


def test_indexing_gradgradcheck(rng):
    x = rng.standard_normal((4, 3))
    for index in (0, [1, 1, 0], np.array([True, False, True, True]), (slice(None), [0, 0])):
        assert gradgradcheck(lambda x, index=index: x[index] ** 2, [x])


def test_second_order_through_a_sparse_cotangent(rng):
    """grad(grad) where slices and a dense use of one tensor are accumulated."""

    def mixed(x):
        return x[0] * x[1] + x[[2, 2]].sum() * x[0] + (x * x).sum() * x[-1]

    x = rng.standard_normal((3, 4))
    assert gradcheck(mixed, [x]) and gradgradcheck(mixed, [x])


@pytest.mark.parametrize(
    "index", [3, -4, (0, 4), [3], [-4], (slice(None), [4]), np.array([[0, 3]]), (0, 0, 0, 0), 1.5, "a", [1.0], {}],
    ids=repr,
)  # fmt: skip
def test_invalid_indices_raise(index):
    with pytest.raises((IndexError, TypeError)):
        leaf(np.zeros(SHAPE))[index]


def test_indices_out_of_bounds_raise_on_every_backend(backend):
    weight = Tensor(backend.asarray(np.ones((3, 2))), requires_grad=True)
    for ids in ([3], [-4], [0, 100]):
        with pytest.raises(IndexError):
            weight[backend.asarray(ids)]
        with pytest.raises(IndexError):
            ops.take(weight, backend.asarray(ids))
        with pytest.raises(IndexError):
            ops.scatter_add(weight, backend.asarray(np.ones((len(ids), 2))), index=backend.asarray(ids))


# -- cost of backward ----------------------------------------------------------------------------------------------


@pytest.fixture
def scattered(monkeypatch):
    """Counts of scattered pieces, one entry per dense array."""
    counts = []
    scatter = indexing._scatter
    monkeypatch.setattr(indexing, "_scatter", lambda *xs, **k: (counts.append(len(xs)), scatter(*xs, **k))[1])
    return counts


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("steps", [10, 1000])
def test_slices_of_one_tensor_are_scattered_once(scattered, steps, create_graph):
    x = leaf(np.arange(2.0 * steps).reshape(steps, 2))
    h = constant(np.zeros(2))
    for t in range(steps):
        h = h * 0.5 + x[t]
    h.sum().backward(create_graph=create_graph)
    assert scattered == [steps]
    np.testing.assert_array_equal(x.grad.numpy()[:, 0], 0.5 ** np.arange(steps)[::-1])


@pytest.mark.parametrize("create_graph", [False, True])
def test_slices_beside_dense_uses_are_scattered_once(scattered, create_graph):
    """Pieces and the dense part are summed in either order."""
    x = leaf(np.arange(40.0).reshape(20, 2))
    dense_first, dense_last = (x * 3.0).sum(), None
    total = dense_first
    for t in range(20):
        total = total + (x[t] * float(t)).sum()
    dense_last = (x * x).sum()
    (total + dense_last).backward(create_graph=create_graph)
    assert scattered == [20]
    np.testing.assert_allclose(x.grad.numpy(), 3.0 + np.arange(20.0)[:, None] + 2 * x.numpy())


def test_slices_of_a_recorded_tensor_are_scattered_once(scattered):
    w = leaf(np.ones((2, 2)))
    x = leaf(np.ones((50, 2))) @ w
    sum((x[t] * x[t]).sum() for t in range(50)).backward()
    assert scattered == [100]


def test_second_order_of_slices(scattered):
    x = leaf(np.arange(1.0, 31.0))
    y = sum(x[t] * x[t] * x[t] for t in range(30))
    g = grad(y, x, create_graph=True)
    np.testing.assert_allclose(g.numpy(), 3 * x.numpy() ** 2)
    np.testing.assert_allclose(grad(g.sum(), x).numpy(), 6 * x.numpy())
    assert scattered == [90, 90]


# -- take, gather, embedding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_ids_of_narrow_dtypes_do_not_wrap_around(dtype):
    """300 rows and ids of eight bits."""
    weight = leaf(np.arange(600.0).reshape(300, 2))
    ids = np.array([100, 2, 100], dtype)
    for function in (ops.embedding, ops.take, lambda w, ids: w[ids]):
        assert gradient(lambda w, f=function: f(w, ids), weight.numpy())[[0, 2, 100]].tolist() == [
            [0, 0],
            [1, 1],
            [2, 2],
        ]
        assert function(weight, ids).tolist() == weight.numpy()[ids].tolist()


@pytest.mark.parametrize("ids", [[3], [-1], [[0, 1], [2, 3]], np.array([-128], np.int8)])
def test_token_ids_out_of_range_raise(ids, backend):
    weight = Tensor(backend.asarray(np.ones((3, 2))))
    worst = int(np.asarray(ids).min()) if np.asarray(ids).min() < 0 else 3
    with pytest.raises(IndexError, match=rf"ids must lie in 0 … 2, got {worst} \(a vocabulary of another size\?\)"):
        ops.embedding(weight, backend.asarray(ids))


@pytest.mark.parametrize("ids", [[1.0], np.array([True]), [0.5]])
def test_token_ids_that_are_not_integers_raise(ids):
    with pytest.raises(TypeError, match="ids must be integers, got"):
        ops.embedding(leaf(np.ones((3, 2))), ids)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_embedding_of_ids_of_any_shape(shape, rng):
    weight, ids = rng.standard_normal((5, 2)), rng.integers(0, 5, shape)
    y = ops.embedding(leaf(weight), ids)
    assert y.shape == (*shape, 2)
    np.testing.assert_array_equal(y.numpy(), weight[ids])
    counts = np.bincount(ids.ravel(), minlength=5)
    np.testing.assert_array_equal(gradient(lambda w: ops.embedding(w, ids), weight), np.stack([counts, counts], axis=1))


def test_embedding_of_ids_as_tensor_and_list():
    weight = leaf(np.eye(3))
    assert (
        ops.embedding(weight, Tensor([2, 0])).tolist()
        == ops.embedding(weight, [2, 0]).tolist()
        == np.eye(3)[[2, 0]].tolist()
    )


def test_embedding_gradient_equals_torch(rng):
    torch = pytest.importorskip("torch")
    values, ids, cotangent = rng.standard_normal((7, 3)), rng.integers(0, 7, (5, 4)), rng.standard_normal((5, 4, 3))
    weight, peer = leaf(values), torch.tensor(values, requires_grad=True)
    ops.embedding(weight, ids).backward(cotangent)
    torch.nn.functional.embedding(torch.tensor(ids), peer).backward(torch.tensor(cotangent))
    np.testing.assert_allclose(weight.grad.numpy(), peer.grad.numpy(), atol=1e-14)


def test_take_with_negative_and_repeated_indices():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ops.take(x, [-1, 0, -1], axis=1), x[:, [-1, 0, -1]])
    assert gradient(lambda x: ops.take(x, [-1, 0, -1], axis=-1), x).tolist() == [[1, 0, 2]] * 2


def test_gather_equals_torch(rng):
    torch = pytest.importorskip("torch")
    values = rng.standard_normal((3, 4))
    for axis, shape in ((0, (5, 4)), (1, (3, 2)), (-1, (2, 6)), (0, (2, 3))):
        ids = rng.integers(0, values.shape[axis], shape)
        x, p = leaf(values), torch.tensor(values, requires_grad=True)
        y, q = ops.gather(x, ids, axis=axis), torch.gather(p, axis, torch.tensor(ids))
        weight = rng.standard_normal(shape)
        y.backward(weight)
        q.backward(torch.tensor(weight))
        np.testing.assert_array_equal(y.numpy(), q.detach().numpy())
        np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.take(x, [0], axis=2), ValueError, "axis 2 is out of bounds for an array of 2 axes"),
        (lambda x: ops.gather(x, [[0]], axis=-3), ValueError, "axis -3 is out of bounds for an array of 2 axes"),
        (lambda x: ops.gather(x, [0], axis=0), ValueError, r"gather: indices \(1,\) and x \(2, 3\) must have"),
        (lambda x: ops.gather(x, [[2]], axis=0), IndexError, r"indices must lie in 0 … 1, got 2"),
        (lambda x: ops.gather(x, [[0], [0], [0]], axis=1), IndexError, "index 2 is out of bounds for axis 0"),
        (lambda x: ops.take(x, [0.5]), TypeError, "indices must be integers, got float64"),
        (lambda x: ops.gather(x, [[0.5]], axis=0), TypeError, "indices must be integers, got float64"),
        (lambda x: ops.one_hot([0, 3], depth=3), IndexError, "one_hot: ids must lie in 0 … 2, got 3"),
        (lambda x: ops.one_hot([0, -1], depth=3), IndexError, "one_hot: ids must lie in 0 … 2, got -1"),
        (lambda x: ops.one_hot([0.0], depth=3), TypeError, "one_hot: ids must be integers, got float64"),
    ],
)
def test_invalid_arguments_raise(call, error, message):
    with pytest.raises(error, match=message):
        call(leaf(np.ones((2, 3))))


def test_one_hot():
    assert ops.one_hot([[2, 0]], depth=3).tolist() == [[[0, 0, 1], [1, 0, 0]]]
    assert ops.one_hot(np.array(1), depth=2).dtype == "float32"
    assert ops.one_hot(Tensor([1]), depth=2, dtype="int64").dtype == "int64"
    assert ops.one_hot(np.zeros((0,), int), depth=2).shape == (0, 2)


# -- scatter_add ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [[0, 0, 2], np.array([0, 0, 2]), Tensor([0, 0, 2]), ((0, 0, 2),)], ids=str)
def test_scatter_add_with_repeated_indices(index):
    x, v = leaf(np.zeros(3)), leaf([1.0, 2.0, 4.0])
    y = ops.scatter_add(x, v, index=index)
    assert y.tolist() == [3.0, 0.0, 4.0] and x.tolist() == [0.0, 0.0, 0.0], "it gives a new array"
    y.backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == [1.0, 2.0, 3.0] and v.grad.numpy().ravel().tolist() == [1.0, 1.0, 3.0]


def test_scatter_add_broadcasts_its_values():
    x, v = leaf(np.zeros((3, 2))), leaf(1.0)
    y = ops.scatter_add(x, v, index=[0, 0])
    y.sum().backward()
    assert y.tolist() == [[2.0, 2.0], [0.0, 0.0], [0.0, 0.0]] and v.grad.item() == 4.0


def test_scatter_add_with_masks_and_slices(rng):
    x = rng.standard_normal((3, 4))
    for index in (np.array([True, False, True]), (slice(None), 1), (slice(None), [0, 0])):
        values = rng.standard_normal(x[index].shape)
        assert gradgradcheck(lambda x, v, i=index: ops.scatter_add(x, v, index=i) ** 2, [x, values])


@pytest.mark.parametrize("call", [lambda x: x[Tensor([0])], lambda x: ops.embedding(x, np.array([0]))])
def test_index_tensors_are_not_recorded(call):
    x = leaf(np.ones((2, 2)))
    assert [record.op.__name__ for record in tape(call(x))] == ["advanced_index"]
    with no_grad():
        assert call(x).node is None


@pytest.mark.parametrize("read", [
    lambda w, ids: w[ids], ops.embedding, ops.take, lambda w, ids: ops.gather(w, ids[:, None], axis=0),
    lambda w, ids: w[ids[:, None], ids[None]], lambda w, ids: ops.scatter_add(np.zeros((3, 3)), w[:2], index=ids),
])  # fmt: skip
def test_index_arrays_may_be_overwritten_before_backward(read):
    w, ids = leaf(np.eye(3)), np.array([0, 1])
    y = read(w, ids)
    weight = np.random.default_rng(0).standard_normal(y.shape)
    expected = grad(y, w, weight, retain_graph=True).numpy()
    ids[...] = 2
    np.testing.assert_array_equal(grad(y, w, weight).numpy(), expected)


def test_an_index_array_on_another_backend_raises():
    weight = Tensor(STRICT.asarray(np.ones((3, 2))))
    with pytest.raises(
        TypeError, match="an index on numpy for an array on array_api_strict: move it to the device of the array"
    ):
        weight[np.array([0])]
    with pytest.raises(TypeError, match="move it to the device of the array"):
        ops.scatter_add(weight, weight[:1], index=np.array([0]))


# -- padding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_idx", [0, 2, -1])
def test_padding_idx_equals_torch(padding_idx, rng):
    """The row is looked up as it is, and gets no gradient."""
    torch = pytest.importorskip("torch")
    values, ids = rng.standard_normal((4, 3)), np.array([[0, 2, 3], [3, 0, 1]])
    weight, peer = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    mine = ops.embedding(weight, ids, padding_idx=padding_idx)
    theirs = torch.nn.functional.embedding(torch.tensor(ids), peer, padding_idx=padding_idx)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    np.testing.assert_array_equal(mine.numpy(), theirs.detach().numpy())
    np.testing.assert_array_equal(weight.grad.numpy(), peer.grad.numpy())
    assert not weight.grad.numpy()[padding_idx].any()


@pytest.mark.parametrize("padding_idx", [4, -5, 1.0])
def test_padding_idx_of_no_row_raises(padding_idx):
    with pytest.raises(ValueError, match=f"padding_idx must be None or the id of one of the 4 rows, got {padding_idx}"):
        ops.embedding(np.zeros((4, 3)), [0], padding_idx=padding_idx)
