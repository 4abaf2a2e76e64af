"""Each rank reads its own rows alone, with the results of one process."""

import random

import numpy as np
import pytest
from rank_results import on
from support.ranks import needs_mpi

from tinygrad_gru import nn, ops, optim, parallel
from tinygrad_gru.parallel.global_random import random_states
from tinygrad_gru.parallel.transport import Single
from tinygrad_gru.train.batches import Passes
from tinygrad_gru.train.sharded import ShardedTrainer
from tinygrad_gru.train.sharded.loader import own_rows

#: What each of so many ranks reads of `fit_rows`.
READ = {
    1: [[292, 480, 75]],
    2: [[148, 240, 38], [144, 240, 37]],
    4: [[74, 120, 19], [74, 120, 19], [72, 120, 19], [72, 120, 18]],
}


@needs_mpi
@pytest.mark.parametrize("ranks", READ)
def test_each_rank_reads_its_own_rows(ranks):
    weights, read = on(ranks)["fit_rows"]
    assert weights == on(1)["fit_rows"][0] and read == READ[ranks]


def loader(items=10, draw=lambda index: 0.0, read=None, **settings):
    """Batches of 4 items, shuffled; what is read is noted."""
    torch = pytest.importorskip("torch")

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return items

        def __getitem__(self, index):
            (read if read is not None else []).append(index)
            return np.full(3, index + draw(index), "f"), index

    settings = {"shuffle": True, "generator": torch.Generator().manual_seed(0), **settings}
    return torch.utils.data.DataLoader(Items(), batch_size=4, **settings)


def test_a_loader_of_pytorch_reads_rows_in_the_order_of_its_sampler():
    """Batches of 4, 4 and 2 items in 4 shards: the last ones have none of the third. Two passes, which differ."""
    read, whole, orders = [], Passes(loader()), []
    parts = [own_rows(Passes(loader(read=read)), lambda count, at=at: slice(min(at, count), min(at + 2, count)))
             for at in (0, 2)]  # fmt: skip
    for step in range(6):
        (x, y), (first, count, digest), last = whole.next_batch(), *(part.next_batch() for part in parts)
        assert last[1:] == (count, digest) == (len(y), digest) and (last[0] is None) == (step % 3 == 2)
        joined = [np.concatenate(both) for both in zip(first, *([last[0]] if last[0] else []))]
        assert np.array_equal(joined[0], x) and np.array_equal(joined[1], y)
        assert [part.at_end for part in parts] == [whole.at_end] * 2 == [step % 3 == 2] * 2
        orders.append(y.tolist())
    assert sorted(read) == sorted([*range(10)] * 2 + orders[0])  # the first are read twice: are they the same?
    assert orders[0] != orders[3]


class Second(Single):
    """A transport on which the other one of two ranks sends the same."""

    rank, size = 1, 2

    def gather(self, values):
        return np.stack([values, values])

    def gather_bytes(self, content):
        return [content, content]


def trainer(batches):
    model = nn.Linear(3, 1)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    return ShardedTrainer(model, ops.mse, sgd, batches, ranks=parallel.Ranks(Second(), 4, exact=True))


own = np.random.default_rng(0)


@pytest.mark.parametrize("draw, words", [
    (lambda index: np.random.standard_normal(), "draws random numbers from numpy.random"),
    (lambda index: own.standard_normal(), "gives another item when it is read again"),
])  # fmt: skip
@pytest.mark.parametrize("when", ["check_ranks", "step"])
def test_random_numbers_of_a_data_set_that_ranks_would_not_share_are_named(draw, words, when):
    with pytest.raises(parallel.ParallelError, match=f"Items, the data set of the DataLoader, {words}"):
        getattr(trainer(loader(draw=draw)), when)(*[{}] * (when == "check_ranks"))


def test_what_the_first_rank_evaluates_moves_no_random_numbers_that_the_ranks_share():
    """As a DataLoader for validation does, without shuffling, too: the one for training would have another order."""
    torch = pytest.importorskip("torch")

    def draw():
        return [random.random(), np.random.random(), torch.rand(1).item()]

    for ranks in (parallel.init(shards=4), parallel.Ranks(Second(), 4, exact=True)):
        ranks.rank = 0
        before = random_states()
        ranks.of_first(draw)
        assert random_states() == before
    assert draw() != draw()


def test_a_loader_whose_batches_depend_on_all_rows_is_read_as_a_whole():
    batches = loader(collate_fn=lambda items: (np.stack([x for x, _ in items]), np.ones((len(items), 1), "f")))
    case = trainer(batches)
    assert type(case.source) is Passes and case.source.batches is batches
