"""Training steps of the text job on ranks: 1 process with 1 and 2 threads, 2 ranks with shards, and without (inexact).

Started by `python -m benchmarks.ranks`, which starts itself with mpiexec for each line. The measured time is that of a
step of rank 0, with its waits for the other; `exchange` is the part from the end of its backward passes on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COMMAND = "python -m benchmarks.ranks"
STEPS = 12


def measure(hidden: int, shards: int, exact: bool, threads: int, steps: int) -> None:
    """Time the steps of this rank, and print the times as JSON on rank 0."""
    from tinygrad_gru import manual_seed, ops, optim, parallel, train
    from tinygrad_gru.data import TextStream

    ranks = parallel.init(shards=max(shards, 1), exact=exact) if shards or not exact else None
    manual_seed(0)
    model = train.CharacterModel(100, hidden=hidden)
    ids = np.random.default_rng(0).integers(0, 100, 200_000)
    trainer = train.sharded.make_trainer(
        ranks, model, ops.cross_entropy, optim.Adam(model.parameters()), TextStream(ids, 64, 32), carry_state=True,
        clip_norm=1.0, compiled=f"llvm:{threads}",
    )  # fmt: skip
    exchange = [0.0]
    if ranks is not None:
        reduce = trainer._sum.reduce

        def timed() -> None:
            before = time.perf_counter()
            reduce()
            exchange.append(time.perf_counter() - before)

        trainer._sum.reduce = timed
    times = []
    for _ in range(steps + 3):
        before = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - before)
    if ranks is None or ranks.rank == 0:
        print(json.dumps([times[3:], exchange[3:] or [0.0]]))


def run(ranks: int, *settings: object) -> list[list[float]]:
    mpiexec = Path(sys.executable).with_name("mpiexec")
    launcher = [str(mpiexec), "-n", str(ranks)] if ranks > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings[3] if ranks == 1 else 1)}
    command = [*launcher, sys.executable, "-m", "benchmarks.ranks", *map(str, settings)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    cases = {
        "1 process, 1 thread": (1, 0, 1, 1), "1 process, 2 threads": (1, 0, 1, 2), "1 process, 8 shards": (1, 8, 1, 1),
        "2 ranks, 8 shards": (2, 8, 1, 1), "2 ranks, 4 shards": (2, 4, 1, 1), "2 ranks, 2 shards": (2, 2, 1, 1),
        "2 ranks, exact=False": (2, 2, 0, 1),
    }  # fmt: skip
    for hidden in map(int, sys.argv[1:] or (192, 512)):
        for name, (ranks, shards, exact, threads) in cases.items():
            times, exchange = run(ranks, hidden, shards, exact, threads, STEPS if hidden < 400 else STEPS // 2)
            best, median, part = min(times), statistics.median(times), statistics.median(exchange)
            print(f"| {hidden} | {name} | {1e3 * best:.1f} | {1e3 * median:.1f} | {1e3 * part:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        hidden, shards, exact, threads, steps = map(int, sys.argv[1:])
        measure(hidden, shards, bool(exact), threads, steps)
    else:
        main()
