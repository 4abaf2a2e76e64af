"""Gradients that are summed over shards and ranks: the same bits on any number of ranks."""

import itertools

import numpy as np
import pytest
import rank_jobs as jobs
from rank_results import on
from support.ranks import needs_mpi

from tinygrad_gru import Tensor, nn, ops, optim, parallel
from tinygrad_gru.parallel.buckets import GradientSum
from tinygrad_gru.parallel.sums import TreeSum, tree_sum
from tinygrad_gru.parallel.transport import Single


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_loop_of_ones_own_gives_the_same_weights_on_any_number_of_ranks(ranks):
    assert on(ranks)["own_loop"] == on(ranks)["overlapping_loop"] == on(1)["own_loop"]


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_inexact_sums_are_equal_to_rounding(ranks):
    """After 20 steps the weights, of which the largest are about 1, differ by 1e-5 at most."""
    for weights, expected in zip(on(ranks)["inexact_loop"], on(1)["inexact_loop"]):
        assert np.allclose(weights, expected, rtol=0, atol=1e-5)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_gradient_of_ranks_with_rows_of_their_own_is_the_mean(ranks):
    x, y = (array.astype("d") for array in jobs.regression(rows=8))
    expected = 1 - 0.1 * 2 / 8 * x.T @ (x.sum(1, keepdims=True) - y)
    assert np.allclose(on(ranks)["mean_of_ranks"], expected.ravel(), atol=1e-5)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_gradient_is_none_only_where_no_rank_has_one(ranks):
    assert on(ranks)["unused"] == on(1)["unused"] == [[[0.75 * 2]], [0.75 * 2], [[0.25 * 2]], [0.25 * 2], None, None]


def fractions(rng, *shape):
    """Numbers of very different sizes, whose sum depends on its order."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape)).astype("f")


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_subtrees_of_ranks_make_the_same_tree(ranks, rng):
    values = fractions(rng, 8, 100)
    halves = [(values[i] + values[i + 1]) for i in range(0, 8, 2)]
    expected = (halves[0] + halves[1]) + (halves[2] + halves[3])
    parts = []
    for own in values.reshape(ranks, 8 // ranks, 100):
        total = TreeSum(lambda: np.empty(100, "f"))
        for row in own[:-1]:
            array = total.next()
            array[:] = row
            total.push(array)
        parts.append(total.total(own[-1]))
    total = tree_sum(parts, np.empty(100, "f")) if ranks > 1 else parts[0]
    assert np.array_equal(total, expected)
    assert not np.array_equal(expected, sum(values, np.zeros(100, "f")))  # another order is another result


def test_buckets_are_of_one_dtype_and_of_limited_size(monkeypatch):
    monkeypatch.setattr("tinygrad_gru.parallel.buckets.BUCKET_BYTES", 36)
    parameters = [
        Tensor(np.ones(n, dtype), requires_grad=True) for n, dtype in [(4, "f"), (9, "f"), (2, "d"), (8, "e")]
    ]
    gradients = GradientSum(optim.SGD(parameters), Single(), exact=True)
    gradients.push()
    assert [[p.size for p in bucket.parameters] for bucket in gradients.buckets] == [[8], [2], [9], [4]]
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = Tensor(np.full(parameter.shape, 1.5, parameter.dtype))
        gradients.push()
    gradients.reduce()
    assert [p.grad.dtype for p in parameters] == [p.dtype for p in parameters]
    assert all(bool((p.grad == 4.5).all()) for p in parameters)


def test_gradients_from_before_are_not_added():
    ranks, model = parallel.init(shards=2), nn.Linear(1, 1)
    optimizer = parallel.synchronised(optim.SGD(model.parameters(), lr=1.0))
    model.W.grad = Tensor([[100.0]])
    x = np.ones((4, 1), "f")
    shards = ranks.rows_of(4)
    next(shards)
    ops.sum(model(x)).backward()  # an error ends this loop
    for _, share in ranks.rows_of(4):
        (share * ops.sum(model(x))).backward()
    optimizer.synchronise()
    assert model.W.grad.item() == 4
    with pytest.raises(ValueError, match="of another one without"):
        [*ranks.rows_of(4), *ranks.rows_of(4)]


def test_a_synchronised_optimizer_is_the_optimizer_but_for_its_step():
    model = nn.Linear(2, 1)
    adam = optim.Adam(model.parameters(), lr=0.5)
    both = parallel.synchronised(adam, parallel.init(shards=1))
    assert repr(both) == repr(adam) and isinstance(both, optim.Adam)
    optim.StepDecay(both, every=1).step()
    model(np.ones((3, 2), "f")).sum().backward()
    both.step()
    assert adam.steps == 1 and adam.state_dict()["groups"] == both.state_dict()["groups"]
    assert optim.Adam(model.parameters()).load_state_dict(both.state_dict()) is None
    with pytest.raises(ValueError, match="closure"):
        both.step(lambda: None)


def test_shards_are_contiguous_and_cover_the_batch():
    ranks = parallel.init(shards=8)
    for rows in (3, 8, 13, 32):
        parts = [list(range(rows))[part] for part in ranks.cut(rows)]
        assert list(itertools.chain(*parts)) == list(range(rows)) and max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("settings, error, words", [
    ({"shards": 6}, ValueError, "power of two, got 6"),
    ({"shards": 0}, ValueError, "power of two, got 0"),
    ({"timeout": 0}, ValueError, "seconds above 0"),
    ({"engine": "nccl"}, parallel.ParallelError, "not there yet"),
    ({"engine": "gloo"}, ValueError, "expected 'mpi'"),
])  # fmt: skip
def test_wrong_settings(settings, error, words):
    with pytest.raises(error, match=words):
        parallel.init(**settings)
