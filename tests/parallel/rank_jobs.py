"""What the ranks of the tests run: `mpiexec -n 2 python jobs.py NAME …` prints the results by name as JSON."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from tinygrad_gru import manual_seed, nn, ops, optim, parallel


def digest(model):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.parameters())).hexdigest()


def regression(rows=13, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype("f")
    return x, x[:, :1] ** 2


def own_loop(exact=True, steps=40):
    """Two lines in a loop of one's own, with dropout, clipping, a schedule, and rows that do not divide."""
    ranks = parallel.init(shards=4, exact=exact)
    manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), ops.tanh, nn.Dropout(0.3), nn.Linear(16, 1))
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
    return digest(model)


def inexact_loop():
    return own_loop(exact=False)


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


JOBS = {job.__name__: job for job in (own_loop, inexact_loop, mean_of_ranks, unused)}


def main(names):
    found = {name: JOBS[name]() for name in names}
    if parallel.current().rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
