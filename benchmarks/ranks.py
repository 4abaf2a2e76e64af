"""Training steps of the text job: 1 process with 1 and 2 threads and with shards; 2 ranks with shards, and inexact.

`python -m benchmarks.ranks` starts a process for each way of running, which waits for its turns: the cases are
interleaved, some steps each. The time is that of a step of rank 0, with its waits for the other; `exchange` is the part
from the end of its backward passes on. Of each case the turns count, three at least, in which other processes have used
the cores least; `others` is what these used of a core then.

`mpiexec -n 2 python -m benchmarks.ranks overlap` compares steps of four layers without and with `overlap`, in one job:
on one machine, or on what its network is, or is made to be.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_gru import manual_seed, ops, optim, parallel, train
from tinygrad_gru.data import TextStream

from .processes import PAUSE, launcher
from .timing import report, row

COMMAND = "python -m benchmarks.ranks"
#: Cases by the process that runs them: the number of shards, or 0 for the batch as a whole, or inexact sums on ranks.
CASES: dict[str, tuple[int, str, list[int]]] = {
    "1 process, 1 thread": (1, "1", [0, 4]),
    "1 process, 2 threads": (1, "", [0]),
    "2 ranks": (2, "1", [0, 2, 4, 8]),
}
#: Rounds and steps of a turn, of which the first does not count, by the number of units.
TURNS = {192: (14, 6), 256: (12, 5), 512: (5, 3)}


def make(
    hidden: int, ranks: parallel.Ranks | None, rows: int = 32, compiled: str | None = None, layers: int = 1
) -> Any:
    """A trainer of the text job, whose `exchange` are the seconds of the last exchange of gradients."""
    manual_seed(0)
    model = train.CharacterModel(100, hidden=hidden, layers=layers)
    ids = np.random.default_rng(0).integers(0, 100, 200_000)
    trainer: Any = train.sharded.make_trainer(
        ranks, model, ops.cross_entropy, optim.Adam(model.parameters()), TextStream(ids, 64, rows), carry_state=True,
        clip_norm=1.0, compiled=compiled,
    )  # fmt: skip
    trainer.exchange = 0.0
    if ranks is not None:
        reduce = trainer._sum.reduce

        def timed() -> None:
            before = time.perf_counter()
            reduce()
            trainer.exchange = time.perf_counter() - before

        trainer._sum.reduce = timed
    return trainer


def serve(hidden: int, cases: list[int]) -> None:
    """Make a trainer for each case; of each whose number comes on the standard input print the times of some steps."""
    ranks = parallel.init(shards=2)
    trainers = [make(hidden, ranks.with_shards(shards) if shards or ranks.size > 1 else None) for shards in cases]
    while True:
        line = np.array([int(sys.stdin.readline() or -1) if ranks.rank == 0 else 0])
        if ranks.size > 1:  # the others sleep meanwhile
            request = import_module("mpi4py.MPI").COMM_WORLD.Ibcast(line)
            while not request.Test():
                time.sleep(2e-3)
        if line[0] < 0:
            return
        trainer, times = trainers[line[0]], []
        begin = time.perf_counter(), used(), time.process_time()
        for _ in range(TURNS[hidden][1]):
            before = time.perf_counter()
            trainer.step()
            times.append([time.perf_counter() - before, trainer.exchange])
        wall, all_processes, own = (b - a for a, b in zip(begin, (time.perf_counter(), used(), time.process_time())))
        others = (all_processes - ranks.transport.gather(np.array([own])).sum()) / wall
        if ranks.rank == 0:
            print(json.dumps([max(0.0, others), times[1:]]), flush=True)


def used() -> float:
    """The seconds of all cores that all processes have used, in steps of 0.01 s."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def compare_overlap(hidden: int = 192, layers: int = 4, rounds: int = 12) -> None:
    """Print the smallest and the median time of a step without and with overlap; the two take turns."""
    job = parallel.init(shards=2)
    trainers = {
        overlap: make(hidden, parallel.Ranks(job.transport, 2, exact=True, overlap=overlap), layers=layers)
        for overlap in (False, True)
    }
    times: dict[bool, list[list[float]]] = {overlap: [] for overlap in trainers}
    for turn in range(rounds + 1):
        for overlap, trainer in trainers.items():
            job.agreed(0.0)  # so that both begin together
            before = time.perf_counter()
            trainer.step()
            if turn:
                times[overlap].append([time.perf_counter() - before, trainer.exchange])
    if job.rank == 0:
        size = sum(parameter.data.nbytes for parameter in trainers[True].model.parameters())
        print(f"{layers} layers of {hidden} units, gradients of {size / 1e6:.1f} MB; ms of a step, and of its exchange")
        for overlap, found in times.items():
            steps, exchanges = zip(*found)
            numbers = [f"{1e3 * f(part):.1f}" for part in (steps, exchanges) for f in (min, statistics.median)]
            print(row(["overlap" if overlap else "", *numbers]))


def start(hidden: int, ranks: int, threads: str, cases: list[int]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    if not threads:
        del environment["OMP_NUM_THREADS"]
    command = [*launcher(ranks), sys.executable, "-m", "benchmarks.ranks", "serve", str(hidden), json.dumps(cases)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def measure(hidden: int) -> list[str]:
    found: dict[tuple[str, int], list[tuple[float, list[list[float]]]]] = {}
    jobs = {name: start(hidden, *settings) for name, settings in CASES.items()}
    for round_number in range(TURNS[hidden][0] + 1):
        for name, (_, _, cases) in CASES.items():
            for number, shards in enumerate(cases):
                job = jobs[name]
                assert job.stdin is not None and job.stdout is not None
                print(number, file=job.stdin, flush=True)
                others, times = json.loads(job.stdout.readline())
                time.sleep(PAUSE)
                if round_number:
                    found.setdefault((name, shards), []).append((others, times))
    for job in jobs.values():
        job.communicate()
    lines = []
    for (name, shards), turns in found.items():
        turns.sort()
        quiet = [turn for k, turn in enumerate(turns) if k < 3 or turn[0] < 0.1]
        times, exchanges = zip(*(step for _, steps in quiet for step in steps))
        how = f"{shards} shards" if shards else "`exact=False`" if "ranks" in name else ""
        numbers = [min(times), statistics.median(times), statistics.median(exchanges)]
        others = f"{statistics.mean(other for other, _ in quiet):.2f}"
        lines.append(row([str(hidden), name, how, *(f"{1e3 * number:.1f}" for number in numbers), others]))
    return lines


def main() -> None:
    sizes = [*map(int, sys.argv[1:])] or [*TURNS]
    lines = [row(["hidden", "", "", "smallest", "median", "exchange", "others"]), "| --- " * 7 + "|"]
    for hidden in sizes:
        lines += measure(hidden)
    report("ranks", "Training steps on ranks", COMMAND, lines, threads="1 thread of each process, or as said")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), json.loads(sys.argv[3]))
    elif sys.argv[1:2] == ["overlap"]:
        compare_overlap(*map(int, sys.argv[2:]))
    else:
        main()
