"""Sorting, the k largest, extremes with their indices: ties, NaN, gradients, and PyTorch's and NumPy's results."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, ops

TIES = [[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]


def test_of_equal_elements_the_first_comes_first(backend):
    x = backend.asarray(np.array(TIES))
    assert backend.to_host(ops.argsort(x, descending=True)).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]
    assert backend.to_host(ops.argsort(x)).tolist() == [[0, 3, 1, 2], [0, 1, 2, 3]]
    assert backend.to_host(ops.topk(x, 2)[1]).tolist() == [[1, 2], [0, 1]]


def test_nan_counts_as_larger_than_any_number():
    x = np.array([1.0, np.nan, np.inf])
    assert ops.topk(x, 2)[1].tolist() == [1, 2] and ops.argsort(x).tolist() == [0, 2, 1]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, -1])
def test_topk_equals_torch(axis, largest, rng):
    torch = pytest.importorskip("torch")
    values = rng.standard_normal((5, 6))
    x, p = leaf(values), torch.tensor(values, requires_grad=True)
    mine, theirs = ops.topk(x, 3, axis, largest), torch.topk(p, 3, axis, largest)
    (mine[0] ** 2).sum().backward()
    (theirs[0] ** 2).sum().backward()
    np.testing.assert_array_equal(mine[0].numpy(), theirs[0].detach().numpy())
    np.testing.assert_array_equal(mine[1].numpy(), theirs[1].numpy())
    np.testing.assert_array_equal(x.grad.numpy(), p.grad.numpy())


def test_topk_of_integers_and_of_none():
    values, indices = ops.topk(Tensor([3, -7, 5]), 2)
    assert values.tolist() == [5, 3] and indices.tolist() == [2, 0]
    assert ops.topk(Tensor(np.array([3, 7, 5], np.uint8)), 3, largest=False)[0].tolist() == [3, 5, 7]
    assert ops.topk(np.ones((2, 3)), 0)[0].shape == (2, 0)


@pytest.mark.parametrize("k", [-1, 5, 1.0, None])
def test_topk_of_more_elements_than_there_are_raises(k):
    with pytest.raises(ValueError, match=f"k must be an integer in 0 … 4, the length of axis 1 of x, got {k}"):
        ops.topk(np.zeros((2, 4)), k)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_with_indices_equal_torch(name, rng):
    """Also the gradient: at the index alone, while without indices ties share it, as torch.amax does."""
    torch = pytest.importorskip("torch")
    values = np.array(TIES)
    x, p = leaf(values), torch.tensor(values, requires_grad=True)
    mine = getattr(ops, name)(x, axis=1, keepdims=True, return_indices=True)
    theirs = getattr(torch, name)(p, dim=1, keepdim=True)
    np.testing.assert_array_equal(mine[0].numpy(), theirs[0].detach().numpy())
    np.testing.assert_array_equal(mine[1].numpy(), theirs[1].numpy())
    mine[0].sum().backward()
    theirs[0].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), p.grad.numpy())


def test_extremes_of_all_axes_with_indices():
    x = np.arange(6.0).reshape(2, 3)
    value, index = ops.max(x, return_indices=True)
    assert (value, index) == (5.0, 5) and value.shape == index.shape == ()
    value, index = ops.min(Tensor(x), keepdims=True, return_indices=True)
    assert value.shape == index.shape == (1, 1) and (value.item(), index.item()) == (0.0, 0)
    with pytest.raises(TypeError, match="axis: expected an integer"):
        ops.max(x, axis=(0, 1), return_indices=True)


def test_of_nothing_there_are_as_many_chunks_as_were_asked_for():
    assert [part.shape for part in ops.chunk(np.ones((2, 0)), 3, axis=1)] == [(2, 0)] * 3  # as torch.chunk gives


def test_chunks_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for n in range(9):
        for chunks in range(1, 9):
            mine = [len(part) for part in ops.chunk(np.arange(n), chunks)]
            assert mine == [len(part) for part in torch.chunk(torch.arange(n), chunks)], (n, chunks)
    with pytest.raises(ValueError, match="chunks must be an integer of at least 1, got 0"):
        ops.chunk(np.arange(3), 0)
