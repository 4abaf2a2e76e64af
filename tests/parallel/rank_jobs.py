"""What the ranks of the tests run: `mpiexec -n 2 python jobs.py NAME …` prints the results by name as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from tinygrad_gru import data, manual_seed, nn, ops, optim, parallel, train
from tinygrad_gru.data.sharded import _File
from tinygrad_gru.io.checkpoint import load_checkpoint
from tinygrad_gru.parallel import buckets


def digest(model):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.parameters())).hexdigest()


def regression(rows=13, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype("f")
    return x, x[:, :1] ** 2


def own_loop(exact=True, steps=20, dropout=0.3, result=digest, overlap=None):
    """Two lines in a loop of one's own, with dropout, clipping, a schedule, and rows that do not divide."""
    ranks = parallel.init(shards=4, exact=exact, overlap=overlap)
    manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), ops.tanh, nn.Dropout(dropout), nn.Linear(16, 1))
    optimizer = parallel.synchronised(optim.Adam(model.parameters(), lr=0.01))
    schedule = optim.WarmupCosine(optimizer, steps)
    for step in range(steps):
        x, y = regression(rows=3 if step == 7 else 13, seed=step)  # 3: an empty shard
        for rows, share in ranks.rows_of(len(x)):
            (share * ops.mse(model(x[rows]), y[rows])).backward()
        optimizer.synchronise()
        optim.clip_gradient_norm(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    return result(model)


def overlapping_loop():
    """The same with gradients that are sent while others are computed, each in a bucket of its own."""
    buckets.BUCKET_BYTES = 1
    return own_loop(overlap=True)


def inexact_loop():
    return own_loop(
        exact=False, dropout=0, result=lambda model: [p.numpy().ravel().tolist() for p in model.parameters()]
    )


def mean_of_ranks():
    """The two lines alone: each rank takes the mean over rows of its own; the gradient is the mean of those."""
    ranks = parallel.init(shards=4)
    model = nn.Linear(5, 1)
    model.W.data[...], model.b.data[...] = 1, 0
    optimizer = parallel.synchronised(optim.SGD(model.parameters(), lr=0.1))
    x, y = regression(rows=8)
    rows = slice(ranks.rank * 8 // ranks.size, (ranks.rank + 1) * 8 // ranks.size)
    ops.mse(model(x[rows]), y[rows]).backward()
    optimizer.step()
    return model.W.numpy().ravel().tolist()


def unused():
    """A parameter that only the last shard uses, and one that none does: its gradient stays None."""
    ranks = parallel.init(shards=4)
    a, b, c = (nn.Linear(1, 1) for _ in range(3))
    module = nn.Sequential(a, b, c)
    optimizer = parallel.synchronised(optim.SGD(module.parameters(), lr=0.1))
    x = np.ones((8, 1), "f")
    for rows, share in ranks.rows_of(8):
        (share * (b if rows.stop == 8 else a)(x[rows]).sum()).backward()
    optimizer.synchronise()
    return [None if p.grad is None else p.grad.numpy().tolist() for p in module.parameters()]


class Classes:
    """Sequences with a target per step, some of them ignored, for a GRU with dropout and zoneout."""

    def __init__(self, rows=22, batch_size=10, dropout=0.2):
        rng = np.random.default_rng(1)
        xs = [rng.standard_normal((rng.integers(2, 7), 3)).astype("f") for _ in range(rows)]
        ys = [np.where(rng.random(len(x)) < 0.2, -100, (x[:, 0] > 0).astype(int)) for x in xs]
        self.batches = data.SequenceBatches(xs, ys, batch_size, seed=3, per_step=True)
        manual_seed(0)
        self.model = nn.Sequential(
            nn.GRU(3, 8, num_layers=2, dropout=dropout, zoneout=dropout / 2), nn.Dropout(dropout), nn.Linear(8, 2)
        )  # fmt: skip
        self.loss = partial(ops.cross_entropy, ignore_index=-100, weight=np.array([1.0, 2.5], "f"))


def fit_classes(ranks="mpi", steps=8, **settings):
    """fit with lengths, ignored targets, class weights, accumulation, dropout, zoneout, clipping and metrics."""
    case = Classes()
    history = train.fit(
        case.model, case.loss, case.batches, validation=case.batches, steps=steps, parallel=ranks, progress=False,
        accumulate=2, clip_norm=0.5, metrics=[train.Accuracy(ignore_index=-100)], lr=0.01,
        schedule=optim.ReduceOnPlateau, **settings,
    )  # fmt: skip
    return [digest(case.model), [list(record.values()) for record in history], [*map(str, history.epochs)]]


def fit_arrays(ranks="mpi"):
    """fit with arrays of rows in float16 with a loss scale, in epochs."""
    manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), ops.tanh, nn.Dropout(0.3), nn.Linear(16, 1))
    train.fit(model, ops.mse, regression(50), epochs=3, batch_size=16, parallel=ranks,
              precision="float16", progress=False)  # fmt: skip
    return digest(model)


def fit_stops(ranks="mpi"):
    """fit that stops early, and returns to the best weights: the learning rate is too high for the validation data."""
    manual_seed(0)
    model, (x, y) = nn.Linear(5, 1), regression(32)
    history = train.fit(model, ops.mse, (x, y), validation=(x, -y), epochs=20, batch_size=8, lr=0.05, patience=2,
                        parallel=ranks, progress=False)  # fmt: skip
    return [digest(model), history.stopped, len(history.epochs)]


def fit_diverges(ranks="mpi"):
    """What each rank says of a NaN in the third shard, and whether its weights are those before."""
    ranks = parallel.init() if ranks == "mpi" else ranks
    manual_seed(0)
    model, (x, y) = nn.Linear(5, 1), regression(16)
    before = digest(model)
    x[9] = np.nan
    try:
        train.fit(model, ops.mse, (x, y), steps=1, batch_size=16, parallel=ranks, progress=False)
    except train.TrainingError as error:
        said = [str(error).rpartition(". ")[2], digest(model) == before]
        return [part["said"] for part in ranks.gather({"said": said})]


class Forecaster(nn.Module):
    """A GRU that carries its state over a series."""

    def __init__(self):
        self.gru, self.drop, self.linear = nn.GRU(1, 6), nn.Dropout(0.2), nn.Linear(6, 1)

    def forward(self, x, state):
        output, state = self.gru(x, state)
        return self.linear(self.drop(output)), state


def fit_stream(ranks="mpi", steps=12, folder=None):
    """fit with a state that is carried over windows of a series; goes on from the checkpoint in a folder, which is that
    of the best evaluation, and so is written again."""
    manual_seed(0)
    model, series = Forecaster(), np.sin(np.arange(2000.0)).astype("f")
    batches, few = (data.StreamBatches(series[:n], series[1 : n + 1], window=5, batch_size=8) for n in (1999, 80))
    train.fit(model, ops.mse, batches, steps=int(steps), parallel=ranks, carry_state=True, folder=folder,
              resume=folder is not None, progress=False, validation=few)  # fmt: skip
    return digest(model)


class Reads:
    """Counts the rows that are read of files; a shard of an array is one."""

    def __enter__(self):
        self.rows, self.read = 0, _File.read
        _File.read = lambda file, row, out: (setattr(self, "rows", self.rows + len(out)), self.read(file, row, out))[1]
        return self

    def __exit__(self, *_):
        _File.read = self.read


class CountedList(list):
    """Counts the sequences that are taken."""

    taken = 0

    def __getitem__(self, index):
        self.taken += 1
        return super().__getitem__(index)


def fit_rows(ranks="mpi"):
    """fit on files and sequences of which each rank reads its own rows: the weights, and what the ranks have read.

    10 batches: of 16 rows of two arrays, the last one of 2; of 8 streams of 5 characters and the next one; of 8
    sequences, the last one of 3, with a position in the middle that is loaded.
    """
    ranks = parallel.init(shards=4) if ranks == "mpi" else ranks
    x, y = regression(146)
    with tempfile.TemporaryDirectory() as name:
        for place, array in (("x", x), ("y", y), ("ids", np.arange(450) ** 2 % 7)):
            np.save(f"{name}/{place}.npy", array)
        arrays = data.ArrayBatches(data.ShardedArray(f"{name}/x.npy"), data.ShardedArray(f"{name}/y.npy"), 16, seed=0)
        text = data.TextStream(data.ShardedArray(f"{name}/ids.npy"), window=5, batch_size=8, chunk=9)
        case = Classes(rows=75, batch_size=8)
        case.batches.sequences = CountedList(case.batches.sequences)
        models = [
            nn.Sequential(nn.Linear(5, 16), ops.tanh, nn.Dropout(0.3), nn.Linear(16, 1)),
            nn.Sequential(nn.Embedding(7, 4), nn.GRU(4, 6), nn.Dropout(0.3), nn.Linear(6, 7)),
            case.model,
        ]
        weights, read = [], []
        for model, loss, batches in zip(models, (ops.mse, ops.cross_entropy, case.loss), (arrays, text, case.batches)):
            manual_seed(0)
            trainer = train.sharded.ShardedTrainer(model, loss, optim.Adam(model.parameters()), batches, ranks=ranks)
            with Reads() as reads:
                for step in range(10):
                    trainer.step()
                    if step == 4:
                        trainer.load_state_dict(trainer.state_dict())
            weights.append(digest(model))
            read.append(reads.rows)
        read[2] = case.batches.sequences.taken
    return [weights, [part["read"] for part in ranks.gather({"read": read})]]


@contextmanager
def without_pictures():
    """A block without matplotlib, which takes a second."""
    name = "matplotlib.figure" if "matplotlib" in sys.modules else "matplotlib"
    kept = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None
    yield
    del sys.modules[name]
    sys.modules.update(kept)


def fit_table(ranks="mpi"):
    """The command `fit` on a table: its exit status, the model that it has written, and the log."""
    from tinygrad_gru import cli  # which imports what no other job needs

    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name, "table.csv"), Path(name, "run")
        rows = [f"{10 + 3 * np.sin(k / 4):.4f};{'ab'[k // 3 % 2]}" for k in range(120)]
        path.write_text("\n".join(["load;city", *rows]))
        ranks = parallel.init(shards=4) if ranks == "mpi" else ranks
        how = "--target load --window 8 --hidden 8 --layers 2 --dropout 0.2 --epochs 3 --batch 10 --shards 4 --quiet"
        with without_pictures():
            status = cli.main(["fit", str(path), *how.split(), "--out", str(folder)])
        if ranks.rank == 0:
            model = load_checkpoint(folder / "model.safetensors")["model"]
            return [status, parallel.checksum(model.values()), (folder / "log.jsonl").read_text()]


class Unordered:
    """Batches of which one sees nothing before they come, as those of a DataLoader that shuffles."""

    def __init__(self, passes):
        self.passes = passes

    def __iter__(self):
        return self.passes()


def other_order():
    """What each rank says of batches that rank 1 reads in another order."""
    ranks = parallel.init()
    manual_seed(0)
    model, (x, y) = nn.Linear(5, 1), regression(32)
    batches = Unordered(lambda: iter([(x[:8], y[:8]), (x[8:16], y[8:16])][:: -1 if ranks.rank == 1 else 1]))
    try:
        train.fit(model, ops.mse, batches, steps=2, parallel=ranks, progress=False)
    except parallel.ParallelError as error:
        return [part["said"] for part in ranks.gather({"said": str(error)})]


def other_weights():
    """fit on ranks of which one differs."""
    ranks = parallel.init(timeout=20)
    manual_seed(0)
    model = nn.Linear(5, 1)
    if ranks.rank == 1:
        model.W.data[0, 0] += 1e-6
    train.fit(model, ops.mse, regression(32), steps=2, parallel=ranks, progress=False, batch_size=8)
    print("trained")


def fails(how):
    """A loop in which rank 1 fails in the third step."""
    ranks = parallel.init(shards=4, timeout=1 if how == "hang" else 30)
    model = nn.Linear(5, 1)
    model.W.data[...], model.b.data[...] = 1, 0
    optimizer = parallel.synchronised(optim.SGD(model.parameters(), lr=0.1))
    x, y = regression(8)
    for step in range(5):
        if step == 2 and ranks.rank == 1:
            if how == "error":
                raise OSError("the disk is gone" + "…" * 1000 + "\udcff")  # as of a file name that is no UTF-8
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        for rows, share in ranks.rows_of(8):
            (share * ops.mse(model(x[rows]), y[rows])).backward()
        optimizer.step()


JOBS = {
    job.__name__: job
    for job in (own_loop, overlapping_loop, inexact_loop, mean_of_ranks, unused, fit_classes, fit_arrays, fit_stops,
                fit_diverges, fit_stream, fit_rows, fit_table, other_order, other_weights, fails)
}  # fmt: skip


def main(calls):
    """Run jobs, each by its name and maybe arguments, as fit_stream:6:FOLDER."""
    found = {}
    for call in calls:
        name, *inputs = call.split(":")
        found[name] = JOBS[name](*(["mpi"] if inputs and name.startswith("fit") else []), *inputs)
    if parallel.current().rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
