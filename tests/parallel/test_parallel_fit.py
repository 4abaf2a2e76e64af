"""fit(parallel="mpi"): the same weights, logs and metrics on any number of ranks, and on one without mpiexec."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import rank_jobs as jobs
from rank_results import JOBS, OF_FIT, on, stream_folder
from support.ranks import needs_mpi, results, run

from tinygrad_gru import Tensor, data, manual_seed, nn, ops, optim, parallel, train
from tinygrad_gru.parallel.transport import Single
from tinygrad_gru.train.sharded import ShardedTrainer
from tinygrad_gru.train.sharded.cut import Cuttable


@needs_mpi
@pytest.mark.parametrize("ranks, name", [(ranks, name) for ranks, names in OF_FIT.items() for name in names])
def test_fit_is_the_same_on_any_number_of_ranks(ranks, name):
    assert on(ranks)[name] == on(1)[name]


@needs_mpi
def test_fit_of_one_process_by_mpi_is_the_same():
    assert results(1, JOBS, "fit_stops") == {"fit_stops": on(1)["fit_stops"]}


def test_a_job_that_stops_early_has_stopped():
    _, stopped, epochs = on(1)["fit_stops"]
    assert "early stopping" in stopped and epochs < 20


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_all_ranks_report_a_loss_that_is_not_finite(ranks):
    where = f"The loss is not finite in shard 2 (rank {2 * ranks // 4}) of 4"
    assert on(ranks)["fit_diverges"] == [[where, True]] * ranks


def test_one_shard_is_the_whole_batch():
    """Then the loss, its weights and the gradient are those of a Trainer, bit for bit."""
    weights = []
    for ranks in (None, parallel.init(shards=1)):
        case = jobs.Classes(dropout=0)
        train.fit(
            case.model, case.loss, case.batches, steps=8, accumulate=2, clip_norm=0.5, parallel=ranks, progress=False
        )
        weights.append(jobs.digest(case.model))
    assert weights[0] == weights[1]


def test_shards_equal_the_whole_batch_to_rounding():
    """Ignored targets, lengths, class weights and a batch that does not divide are weighted as in one batch."""
    values = []
    for ranks in (None, parallel.init(shards=8)):
        case = jobs.Classes(dropout=0)
        history = train.fit(case.model, case.loss, case.batches, steps=6, parallel=ranks, lr=0.01, metrics=[
            train.Accuracy(ignore_index=-100)], progress=False)  # fmt: skip
        values.append([*history["loss"], *history["gradient_norm"], *(epoch["accuracy"] for epoch in history.epochs)])
    assert np.allclose(*values, rtol=2e-5)


def test_shards_draw_their_own_random_numbers():
    """Were those of a shard the same as those of another, dropout would drop the same units in all rows."""
    ranks, seen = parallel.init(shards=4), []

    class Noisy(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(1, 1)

        def forward(self, x):
            seen.append(ops.dropout(Tensor(np.ones((1, 20), "f")), 0.5).numpy().ravel().tolist())
            return self.linear(x)

    train.fit(Noisy(), ops.mse, (np.ones((8, 1), "f"), np.ones((8, 1), "f")), steps=2, batch_size=8, parallel=ranks,
              progress=False)  # fmt: skip
    assert len(seen) == 8 and len(set(map(tuple, seen))) == 8


@needs_mpi
def test_a_run_is_resumed_on_another_number_of_ranks():
    """4 steps on 4 ranks, 4 more on 2, 4 more on one."""
    whole = jobs.fit_stream(parallel.init(), steps=12)
    on(2)
    folder = Path(stream_folder().name)
    assert jobs.fit_stream(parallel.init(), 12, str(folder)) == whole
    log = [record["step"] for record in train.read_log(folder / "log.jsonl") if "lr" in record]
    assert log == list(range(1, 13))
    with pytest.raises(train.CheckpointError, match="shards"):
        jobs.fit_stream(parallel.init(shards=2), 12, str(folder))


@needs_mpi
def test_ranks_with_other_weights_are_named_by_one_voice():
    code, out, err = run(2, JOBS, "other_weights")
    assert code == 1 and "trained" not in out
    assert err.count("ParallelError:") == 1 and "rank 1 of 2 differs from rank 0 in weights" in err


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_all_ranks_report_that_one_has_read_another_batch(ranks):
    words = f"parallel: in step 1 rank 1 of {ranks} has read another batch"
    assert [said[: len(words)] for said in on(ranks)["other_order"]] == [words] * ranks


class Pretended(Single):
    """A transport whose other ranks have sent what the trainer of this one did before."""

    size = 3

    def __init__(self, *others):
        self.others = others

    def gather_bytes(self, content):
        self.sent = content
        return [content, *self.others]


def trainer(transport, x=1.0, loss=ops.mse, seed=0, clip_norm=None, **settings):
    manual_seed(0)
    model = nn.Linear(2, 1)
    manual_seed(seed)
    ranks = parallel.Ranks(transport, shards=3, exact=False)
    batches = data.ArrayBatches(np.full((8, 2), x), np.ones((8, 1)), **settings)
    return ShardedTrainer(model, loss, optim.SGD(model.parameters(), lr=0.1), batches, ranks=ranks, clip_norm=clip_norm)


@pytest.mark.parametrize("name, other", [
    ("data", {"x": 2.0}), ("seed", {"seed": 1}), ("data", {"batch_size": 4}), ("settings", {"loss": ops.mae}),
    ("settings", {"clip_norm": 1.0}),
])  # fmt: skip
def test_what_is_compared_at_the_start(name, other):
    first, second = Pretended(b"", b""), Pretended(b"", b"")
    for transport, settings in ((first, {}), (second, other)):
        with contextlib.suppress(Exception):
            trainer(transport, **settings).check_ranks({})
    trainer(Pretended(first.sent, first.sent)).check_ranks({})
    with pytest.raises(parallel.ParallelError, match=f"rank 2 of 3 differs from rank 0 in {name}: "):
        trainer(Pretended(first.sent, second.sent)).check_ranks({})


def test_buffers_that_each_rank_has_set_from_its_own_rows_are_found_at_a_checkpoint():
    def collect(transport, mean):
        case = trainer(transport)
        case.model.running_mean = Tensor([mean])
        case.collect()

    first, second = Pretended(b"", b""), Pretended(b"", b"")
    for transport, mean in ((first, 0.5), (second, 0.25)):
        with contextlib.suppress(train.CheckpointError):
            collect(transport, mean)
    collect(Pretended(first.sent, first.sent), 0.5)
    with pytest.raises(parallel.ParallelError, match="rank 2 of 3 differs from rank 0 in weights after step 0"):
        collect(Pretended(first.sent, second.sent), 0.5)


def synchronise(transport):
    manual_seed(0)
    optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    parallel.synchronised(optimizer, parallel.Ranks(transport, shards=3, exact=False)).synchronise()


@pytest.mark.parametrize("start", [synchronise, lambda transport: trainer(transport).check_ranks({})])
@pytest.mark.parametrize("other", ["version", "threads"])
def test_versions_are_compared(start, other, monkeypatch):
    """And the threads of a BLAS that has more than one."""
    first, second = Pretended(b"", b""), Pretended(b"", b"")
    with contextlib.suppress(Exception):
        start(first)
    if other == "version":
        monkeypatch.setattr("tinygrad_gru.parallel.checks.__version__", "0.0")
    else:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with contextlib.suppress(Exception):
        start(second)
    monkeypatch.undo()
    with pytest.raises(parallel.ParallelError, match="rank 2 of 3 differs from rank 0 in versions"):
        start(Pretended(first.sent, second.sent))


def test_what_a_shard_cannot_be_cut_from():
    model = nn.Linear(2, 1)
    x, y = np.ones((8, 2), "f"), np.ones((8, 1), "f")
    with pytest.raises(ValueError, match="as many, got 8 in inputs, 4 in targets"):
        train.fit(model, ops.mse, [(x, y[:4])], steps=1, parallel=parallel.init(), progress=False)
    with pytest.raises(parallel.ParallelError, match=r"batches of 2 rows cannot be cut into 4 shards: .* shards=2"):
        train.fit(model, ops.mse, (x, y), batch_size=2, steps=1, parallel=parallel.init(), progress=False)
    with pytest.raises(ValueError, match="time-major"):
        train.fit(nn.GRU(2, 1), ops.mse, [(x[None], y[None])], steps=1, parallel=parallel.init(), progress=False)
    with pytest.raises(ValueError, match="state of its own"):
        train.fit(model, ops.mse, (x, y), steps=1, parallel=parallel.init(), metrics=[Own()], progress=False)


class Sum(nn.Module):
    def __init__(self):
        self.left, self.right = nn.Linear(3, 1), nn.Linear(2, 1)

    def forward(self, a, b):
        return self.left(a) + self.right(b)


def test_several_inputs_of_a_loader_of_pytorch_are_cut_by_their_rows():
    """The loader makes a list of them; here of as many as a batch has rows."""
    torch, rng, weights = pytest.importorskip("torch"), np.random.default_rng(0), []
    rows = [tuple(rng.standard_normal(n).astype("f") for n in (3, 2, 1)) for _ in range(8)]
    loader = torch.utils.data.DataLoader([((a, b), c) for a, b, c in rows], batch_size=2)
    for ranks in (None, parallel.init(shards=2)):
        manual_seed(0)
        model = Sum()
        train.fit(model, ops.mse, loader, steps=4, lr=0.05, parallel=ranks, progress=False)
        weights.append(np.concatenate([tensor.numpy().ravel() for tensor in model.parameters()]))
    assert np.allclose(*weights, rtol=1e-5)
    whole = [array.tolist() for array in Cuttable(next(iter(loader))).arrays()]
    assert whole == [np.stack([row[k] for row in rows[:2]]).tolist() for k in range(3)]


class Own(train.Metric):
    name = "own"

    def state_dict(self):
        return {}


def test_a_loss_that_is_not_finite_names_its_shard():
    x = np.ones((16, 2), "f")
    x[5] = np.nan
    manual_seed(0)
    with pytest.raises(train.TrainingError, match=r"NaN or infinity in this step.* in shard 1 \(rank 0\) of 4"):
        train.fit(nn.Linear(2, 1), ops.mse, data.ArrayBatches(x, x[:, :1], 16), steps=1, parallel=parallel.init(),
                  progress=False)  # fmt: skip
