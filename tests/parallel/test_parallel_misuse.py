"""What would be silently wrong: loops that lose gradients, and ranks that come to differ, are errors."""

import math

import numpy as np
import pytest

from tinygrad_gru import data, manual_seed, nn, ops, optim, parallel, train
from tinygrad_gru.io.checkpoint import from_bytes, to_bytes
from tinygrad_gru.parallel.transport import Single
from tinygrad_gru.train.sharded import ShardedTrainer


class Case:
    def __init__(self):
        self.ranks, self.model = parallel.init(shards=4), nn.Linear(3, 1)
        self.x = np.random.default_rng(0).standard_normal((16, 3)).astype("f")
        self.optimizer = self.synchronised()

    def synchronised(self):
        return parallel.synchronised(optim.SGD(self.model.parameters(), lr=0.1), self.ranks)

    def backward(self, rows=slice(None), share=1):
        (share * ops.mse(self.model(self.x[rows]), self.x[rows, :1])).backward()

    def shards(self, begin=0):
        for rows, share in self.ranks.rows_of(16):
            if rows.start >= begin:
                self.backward(rows, share)

    def change(self, step):
        """How a step changes the weights, which it sets to 0."""
        self.model.W.data[...] = self.model.b.data[...] = 0
        step()
        return self.model.W.numpy().ravel().tolist()


def test_the_step_comes_after_all_shards():
    case = Case()
    for _ in range(2):  # the error leaves nothing behind
        for index, (rows, share) in enumerate(case.ranks.rows_of(16)):
            case.backward(rows, share)
            if index == 1:
                break
        with pytest.raises(ValueError, match=r"1 of this rank's 4 shards are done: .* after the loop"):
            case.optimizer.step()
    with pytest.raises(ValueError, match="0 of this rank's 4 shards"):
        for rows, share in case.ranks.rows_of(16):
            case.backward(rows, share)
            case.optimizer.step()


def test_a_gradient_of_no_shard_is_not_lost_without_a_word():
    case = Case()
    case.shards()
    (case.model.W * case.model.W).sum().backward()
    with pytest.raises(ValueError, match="after the loop over rows_of, and would be lost"):
        case.optimizer.step()


def test_a_gradient_that_was_summed_and_not_used_is_not_taken_for_the_next():
    case = Case()

    def skips():
        case.shards()
        case.optimizer.synchronise()  # its norm is too large, say

    def step():
        case.shards()
        case.optimizer.step()

    expected = case.change(step)
    case.change(skips)
    assert case.change(step) == expected != [0, 0, 0]
    case.change(skips)
    case.optimizer.zero_grad()
    case.backward()
    assert np.allclose(case.change(case.optimizer.step), expected)


def test_several_optimizers_of_the_same_ranks():
    """A second one for the same model, after or instead of the first; and two models in turn, as of a GAN."""
    case = Case()

    def steps(optimizer):
        case.shards()
        optimizer.step()

    expected = case.change(lambda: steps(case.optimizer))
    second = case.synchronised()
    again = parallel.synchronised(second, case.ranks)
    for optimizer in (second, again, case.optimizer, case.optimizer, second):
        assert case.change(lambda o=optimizer: steps(o)) == expected
    other = nn.Linear(3, 1)
    both = parallel.synchronised(optim.SGD(other.parameters(), lr=0.1), case.ranks)
    for _ in range(2):
        for rows, share in case.ranks.rows_of(16):
            (share * ops.sum(other(case.x[rows]) * case.model(case.x[rows]))).backward()
        both.step()
        assert case.change(lambda: steps(again)) == expected


def test_parameters_that_are_frozen_change_or_are_added():
    case = Case()
    model = nn.Sequential(nn.Linear(3, 3), ops.tanh, case.model)
    case.model.W.requires_grad = False
    train.fit(model, ops.mse, (np.ones((8, 3)), np.ones((8, 1))), batch_size=8, steps=2, parallel=case.ranks,
              progress=False, optimizer=optim.SGD(model.parameters(), lr=0.1))  # fmt: skip
    optimizer = parallel.synchronised(optim.SGD([{"parameters": [case.model.b]}], lr=0.1), case.ranks)
    case.shards()
    optimizer.step()
    case.model.W.requires_grad = True
    optimizer.groups[0]["parameters"] = (case.model.b, case.model.W)
    model.to("float64")
    case.x = case.x.astype("float64")
    case.shards()
    optimizer.synchronise()
    gradient = case.model.W.grad.numpy()
    case.model.W.zero_grad()
    case.backward()
    assert np.allclose(gradient, case.model.W.grad.numpy(), rtol=1e-12) and gradient.dtype == "float64"


class Other(Single):
    """A transport on which another rank sends the same, but for one number, and other bytes."""

    size = 2

    def __init__(self, column):
        self.column = column

    def gather(self, values):
        rows = np.stack([values, values])
        rows[1, self.column] += 1
        return rows

    def gather_bytes(self, content):
        return [content, to_bytes(dict.fromkeys(from_bytes(content), "another"))]


def test_batches_are_compared_in_each_step():
    manual_seed(0)
    model = nn.Linear(3, 1)
    trainer = ShardedTrainer(
        model, ops.mse, optim.SGD(model.parameters(), lr=0.1), data.ArrayBatches(np.ones((8, 3)), np.ones((8, 1)), 8),
        ranks=parallel.Ranks(Other(1), 2, exact=False),
    )  # fmt: skip
    with pytest.raises(parallel.ParallelError, match="in step 1 rank 1 of 2 has read another batch"):
        trainer.step()
    with pytest.raises(parallel.ParallelError, match="rank 1 of 2 differs from rank 0 in weights after step 0"):
        trainer.collect()


def test_a_loop_whose_gradients_no_optimizer_sums_is_an_error():
    """Such as of an optimizer that is synchronised with what another call of `init` has returned."""
    ranks, others = (parallel.Ranks(Other(-1), 2, exact=False) for _ in range(2))
    parallel.synchronised(optim.SGD(nn.Linear(3, 1).parameters(), lr=0.1), others)
    with pytest.raises(ValueError, match="rows_of: no optimizer sums the gradients over these ranks"):
        next(ranks.rows_of(8))


def test_the_settings_of_optimizers_are_compared_in_each_step():
    model = nn.Linear(3, 1)
    optimizer = parallel.synchronised(
        optim.SGD(model.parameters(), lr=0.1), parallel.Ranks(Other(-1), 2, exact=False)
    )  # fmt: skip
    optimizer.is_checked = True
    with pytest.raises(parallel.ParallelError, match=r"rank 1 of 2 has another learning rate, .* than rank 0.*lr=0\.1"):
        optimizer.step()


@pytest.mark.parametrize("rank, order", [(0, ["function", "waits"]), (1, ["waits", "function"])])
def test_what_the_first_rank_does_alone_takes_as_long_as_it_takes(rank, order):
    ranks, called = parallel.Ranks(Other(0), 2, exact=False), []
    ranks.rank, ranks.transport.timeout = rank, 5.0

    def gather(values):
        assert ranks.transport.timeout == math.inf
        called.append("waits")

    ranks.transport.gather = gather
    assert ranks.first_alone(lambda: called.append("function")) is None
    assert called == order and ranks.transport.timeout == 5
