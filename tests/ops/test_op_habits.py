"""Functions of ops as people type them: settings by position, by PyTorch's names and misspelt, and lists."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tinygrad_gru import Tensor, ops
from tinygrad_gru.hints import OPS

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda x: ops.var(x, 1, ddof=1), np.var(X, 1, ddof=1)),
        (lambda x: ops.std(x, dim=0, keepdim=True, correction=0), np.std(X, 0, keepdims=True)),
        (lambda x: ops.prod(x, -1), np.prod(X, -1)),
        (lambda x: ops.max(x, dim=1, return_indices=True)[0], np.max(X, 1)),
        (lambda x: ops.min(x, 0, True), np.min(X, 0, keepdims=True)),
        (lambda x: ops.concatenate([x, x], 1), np.hstack([X, X])),
        (lambda x: ops.concatenate([x, [[7.0, 8.0, 9.0]]]), np.vstack([X, [[7, 8, 9]]])),
        (lambda x: ops.stack([x, x], dim=-1), np.dstack([X, X])),
        (lambda x: ops.split(x, 3, 1)[1], X[:, 1:2]),
        (lambda x: ops.chunk(x, 2, dim=1)[1], X[:, 2:]),
        (lambda x: ops.take(x, [2, 0], 1), X[:, [2, 0]]),
        (lambda x: ops.gather(x, [[0], [1]], dim=1), [[0.0], [4.0]]),
        (lambda x: ops.sort(x, dim=1, descending=True), X[:, ::-1]),
        (lambda x: ops.topk(x, 1, dim=0)[0], X[1:]),
        (lambda x: ops.any(x, 1), [True, True]),
        (lambda x: ops.all(x, dim=1), [False, True]),
        (lambda x: ops.sum(ops.softmax(x, -1), -1), [1.0, 1.0]),
        (lambda x: ops.dropout(x, 0.9, False), X),
    ],
)
def test_settings_by_position_and_by_the_names_of_pytorch(write, expected):
    np.testing.assert_allclose(write(Tensor(X)).numpy(), expected)
    np.testing.assert_allclose(write(X), expected)


def test_lists_are_arrays():
    assert ops.sort([3, 1, 2]).tolist() == [1, 2, 3]
    assert ops.var([1.0, 3.0]) == 1.0 and ops.max([1.0, 3.0]) == 3.0
    assert ops.mse([1.0, 3.0], [1.0, 1.0]) == 2.0
    assert ops.embedding([[1.0, 2.0], [3.0, 4.0]], [1]).tolist() == [[3.0, 4.0]]
    assert ops.masked_fill([1.0, 2.0], [True, False], 0.0).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("write", "answer"),
    [
        (
            lambda x: ops.var(x, axi=1),
            r"var: there is no setting 'axi' \(did you mean 'axis'\?\); it has axis, keepdims",
        ),
        (lambda x: ops.std(x, unbiased=True), "write correction=1 for True, correction=0 for False"),
        (lambda x: ops.max(x, dim=0, axis=1), "max: dim is axis, which was given, too"),
        (lambda x: ops.std(x, dim=0), r"std: PyTorch's default is correction=1, here and in NumPy it is 0: say which"),
        (
            lambda x: ops.min(x, dim=0),
            r"min: PyTorch's gives \(values, indices\) along dim: write axis=… for the values",
        ),
        (
            lambda x: ops.norm(x, 1),
            "norm: p must be 2, got 1: write the formula of another norm; along an axis: axis=…",
        ),
        (lambda x: ops.split(x, 1, dim=0), "split: PyTorch's split takes the length of each part.* write axis=…"),
        (lambda x: ops.mse(x, x, reducton="sum"), r"\(did you mean 'reduction'\?\)"),
        (lambda x: ops.cross_entropy(x, [0, 1], weights=[1.0, 2.0, 3.0]), r"\(did you mean 'weight'\?\)"),
    ],
)
def test_settings_that_do_not_exist_are_answered(write, answer):
    with pytest.raises(TypeError, match=answer):
        write(Tensor(X))


@pytest.mark.parametrize(
    ("name", "answer"),
    {"mse_loss": "ops.mse", "abs": "ops.absolute", "clamp": "ops.clip(x, low, high)", "bmm": "ops.matmul(a, b)",
     "multinomial": "ops.categorical(logits", "relue": "did you mean 'relu'"}.items(),
)  # fmt: skip
def test_names_that_ops_have_elsewhere_are_answered(name, answer):
    with pytest.raises(AttributeError) as error:
        getattr(ops, name)
    assert answer in str(error.value)


def test_hints_of_ops_name_what_exists():
    for name, hint in OPS.items():
        assert not hasattr(ops, name), name
        assert all(hasattr(ops, found) for found in re.findall(r"ops\.(\w+)", hint)), hint
