"""Hints: a name that this package has not is an error that says what to write."""

from __future__ import annotations

import importlib
import re

import pytest

import tinygrad_gru
from tinygrad_gru import Tensor, hints, nn, ops, optim, parallel, train
from tinygrad_gru.nn.base import hints as nn_hints
from tinygrad_gru.parallel import hints as parallel_hints
from tinygrad_gru.tensor import hints as tensor_hints
from tinygrad_gru.train import hints as train_hints

TABLES = [
    (tinygrad_gru, hints.PACKAGE), (nn, nn_hints.NN), (ops, hints.OPS), (optim, hints.OPTIM),
    (train, train_hints.TRAIN), (optim.Optimizer, hints.OPTIMIZER), (nn.Embedding, nn_hints.MODULE),
    (parallel, parallel_hints.PARALLEL), (parallel.Ranks, parallel_hints.RANKS),
    (Tensor, tensor_hints.TENSOR), (train.History, train_hints.HISTORY), (train.Callback, train_hints.CALLBACK),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "table"), TABLES, ids=lambda owner: getattr(owner, "__name__", ""))
def test_a_hint_is_one_line_for_a_name_that_does_not_exist(owner, table):
    assert table, "each has at least one"
    for name, hint in table.items():
        assert not hasattr(owner, name), f"{name} exists, so its hint is never seen"
        assert hint == hint.strip() and "\n" not in hint and len(hint) < 120


@pytest.mark.parametrize("module", [tinygrad_gru, nn, ops, optim, train, parallel], ids=lambda module: module.__name__)
def test_a_missing_name_of_a_module_is_answered(module):
    table = dict(TABLES[[owner for owner, _ in TABLES].index(module)][1])
    name = next(iter(table))
    with pytest.raises(AttributeError) as attribute:
        getattr(module, name)
    with pytest.raises(ImportError) as imported:
        exec(f"from {module.__name__} import {name}")
    for error in (attribute, imported):
        assert f"module {module.__name__!r} has no attribute {name!r}; here it is {table[name]}" in str(error.value)


def test_the_package_answers_what_ops_answers():
    with pytest.raises(AttributeError, match=r"'permute'; here it is ops.transpose\(x, axes\)"):
        _ = tinygrad_gru.permute


def test_a_misspelt_name_is_answered_with_the_one_most_like_it():
    with pytest.raises(AttributeError, match=r"has no attribute 'Liner' \(did you mean 'Linear'\?\)$"):
        _ = nn.Liner
    with pytest.raises(ImportError, match=r"has no attribute 'sotfmax' \(did you mean 'softmax'\?\)$"):
        exec("from tinygrad_gru.ops import sotfmax")
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing_like_it'$"):
        _ = optim.nothing_like_it
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tinygrad_gru.nn.functional")


def test_a_hint_of_tensor_is_an_attribute_error_and_not_in_dir():
    t = Tensor([1.0])
    for name, hint in tensor_hints.TENSOR.items():
        assert not hasattr(t, name) and name not in dir(t)
        with pytest.raises(AttributeError, match=f"^Tensor has no attribute '{name}'; here it is {re.escape(hint)}$"):
            getattr(t, name)
    assert "sum" in dir(t)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = t.nothing


@pytest.mark.parametrize("given", [True, 2])
def test_parallel_of_fit_is_a_name_or_ranks(given):
    with pytest.raises(TypeError, match="parallel: expected 'mpi'"):
        train.fit(nn.Linear(1, 1), ops.mse, ([[1.0]], [[1.0]]), epochs=1, parallel=given, progress=False)
