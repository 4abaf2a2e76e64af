"""What ranks cost: a model of a training step, fitted on two cores, and what it predicts for GPUs.

    T(N ranks, s shards, B rows) = o + (r·B + c·s) / N + a + b·bytes

o is what every rank does by itself, as the optimizer's step, r the time of a row, c that of a shard besides its rows, a
and b those of the exchange of gradients. The first three are fitted to steps of a process while another one does the
same, for cores that share caches and memory are slower together. `python -m benchmarks.scaling` measures and fits them
in less than a minute; `python -m benchmarks.scaling predict` prints only the predictions for clusters of GPUs.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, optim, parallel, train
from tinygrad_gru.parallel.buckets import GradientSum
from tinygrad_gru.parallel.ranks import ALONE

from .processes import launcher
from .ranks import make

#: (rows, shards) of the steps of one process that are fitted, and of two ranks, which are predicted.
FITTED = [(32, 1), (32, 2), (32, 4), (32, 8), (16, 1), (16, 2), (16, 4)]
PREDICTED = [(32, 2), (32, 4), (32, 8)]
SIZES = [2**10, 2**14, 2**18, 2**20, 2**22]  # numbers in float32
ROUNDS = {192: 12, 512: 4}

# -- predictions: assumptions all, but for the steps, which are in benchmarks/results/gpu-nvidia-h200.md
GPUS_PER_NODE = 8
NVLINK, NETWORK = 0.7 * 450e9, 0.85 * 12.5e9  # bytes per second and direction: of a GPU; of a node, for all its GPUs
LINK_LATENCY, NETWORK_LATENCY, MESSAGE = 5e-6, 15e-6, 2e-6  # seconds
SMALL_COLLECTIVES = 5  # of a step: counts, losses, which gradients there are, and two of the loop
LOCAL_STEPS = 8
STEPS = {  # hidden: (seconds of a step on one GPU, what it is)
    (192, "float32"): 5.61e-3,
    (1024, "float32"): 15.86e-3,
    (1024, "bfloat16"): 7.17e-3,
}


def exchange_flat(size: float, gpus: int) -> float:
    """As built: all ranks send to all (Alltoall), and the sums go round a ring (Allgather)."""
    nodes = gpus // GPUS_PER_NODE
    if nodes == 1:
        return 2 * (size * 7 / 8 / NVLINK + 7 * MESSAGE + LINK_LATENCY)
    outside = GPUS_PER_NODE * size * (gpus - GPUS_PER_NODE) / gpus + size * (nodes - 1) / nodes
    return outside / NETWORK + 2 * ((gpus - 1) * MESSAGE + NETWORK_LATENCY)


def exchange_by_node(size: float, gpus: int, bytes_of_network: float = 1.0) -> float:
    """The same tree: the GPUs of a node are a subtree of it, summed on NVLink; each sends an eighth of that on."""
    nodes = gpus // GPUS_PER_NODE
    inside = exchange_flat(size, GPUS_PER_NODE)
    if nodes == 1:
        return inside
    outside = 2 * (nodes - 1) / nodes * size * bytes_of_network / NETWORK
    return inside + outside + 2 * ((nodes - 1) * MESSAGE + NETWORK_LATENCY)


def exchange_ring(size: float, gpus: int) -> float:
    """An all-reduce in the order of its own: rings inside of nodes, trees between them."""
    nodes = gpus // GPUS_PER_NODE
    inside = 2 * (size * 7 / 8 / NVLINK + 7 * LINK_LATENCY)
    return inside + 2 * ((nodes - 1) / nodes * size / NETWORK + math.ceil(math.log2(nodes)) * NETWORK_LATENCY)


def small(gpus: int) -> float:
    latency = LINK_LATENCY if gpus <= GPUS_PER_NODE else NETWORK_LATENCY
    return SMALL_COLLECTIVES * math.ceil(math.log2(gpus)) * latency


def predict() -> None:
    print("\nPREDICTED, not measured: ms beyond the step of one GPU (its batch stays the same), and efficiency.\n")
    print("| hidden | step, ms | gradient, MB | GPUs | as built | by node | all-reduce "
          f"| efficiency: as built | by node | by node, 16 bits | by node, every {LOCAL_STEPS}th step |")  # fmt: skip
    print("| --- " * 11 + "|")
    for (hidden, dtype), step in STEPS.items():
        size = 4 * parameters(hidden)
        for gpus in (8, 16, 32, 64, 128, 256, 512):
            built, by_node, ring = (
                f(size, gpus) + small(gpus) for f in (exchange_flat, exchange_by_node, exchange_ring)
            )
            half = exchange_by_node(size, gpus, 0.5) + small(gpus)
            part = [step / (step + extra) for extra in (built, by_node, half, by_node / LOCAL_STEPS)]
            print(f"| {hidden}, {dtype} | {1e3 * step:.2f} | {size / 1e6:.1f} | {gpus} | "
                  + " | ".join(f"{1e3 * extra:.2f}" for extra in (built, by_node, ring)) + " | "
                  + " | ".join(f"{share:.0%}" for share in part) + " |")  # fmt: skip
    print("\nThe gradient, in MB, at which the exchange by node takes a tenth of a step:\n")
    print("| step, ms | " + " | ".join(f"{gpus} GPUs" for gpus in (8, 16, 64, 512)) + " |\n" + "| --- " * 5 + "|")
    for step in (5e-3, 20e-3, 100e-3, 500e-3):
        limits = [_largest(lambda size, g=gpus: exchange_by_node(size, g) + small(g), step / 10)
                  for gpus in (8, 16, 64, 512)]  # fmt: skip
        print(
            f"| {1e3 * step:.0f} | " + " | ".join(f"{limit / 1e6:,.1f}" if limit else "none" for limit in limits) + " |"
        )


def _largest(seconds: Callable[[float], float], limit: float) -> float:
    """The bytes that take so long; `seconds` is linear in them."""
    fixed, slope = seconds(0), (seconds(1e9) - seconds(0)) / 1e9
    return max(0.0, (limit - fixed) / slope)


def parameters(hidden: int) -> int:
    return sum(parameter.size for parameter in train.CharacterModel(100, hidden=hidden).parameters())


# -- measurements ------------------------------------------------------------------------------------------------------


def _steps(hidden: int, cases: list[tuple[int, int]], apart: bool) -> list[list[float]]:
    """The median seconds of a step in each case, and of its exchange; the cases take turns.

    apart   each process trains by itself, whatever others do
    """
    job = parallel.init(exact=False)
    ranks = ALONE if apart else job
    trainers = [make(hidden, ranks.with_shards(shards), rows, "llvm:1") for rows, shards in cases]
    found: list[list[tuple[float, float]]] = [[] for _ in cases]
    for turn in range(ROUNDS[hidden] + 1):
        for trainer, times in zip(trainers, found):
            before = time.perf_counter()
            trainer.step()
            if turn:
                times.append((time.perf_counter() - before, trainer.exchange))
    return [[statistics.median(part) for part in zip(*times)] for times in found]


def _exchange() -> list[list[float]]:
    """The least seconds of the sum of a vector in the fixed tree, and by Allreduce, for each of the sizes."""
    ranks, found = parallel.init(exact=False), []
    world = import_module("mpi4py.MPI").COMM_WORLD
    for size in SIZES:
        optimizer = optim.SGD([Tensor(np.zeros(size, "f"), requires_grad=True)], lr=0.1)
        total, values = GradientSum(optimizer, ranks.transport, exact=True), np.ones(size, "f")

        def plain(values: np.ndarray = values) -> None:
            world.Allreduce(values, np.empty_like(values))

        least = [math.inf, math.inf]
        for _ in range(40 if size < 2**20 else 12):
            optimizer.parameters()[0].grad = Tensor(values)
            total.push()
            for k, run in enumerate((total.reduce, plain)):
                ranks.transport.gather(np.zeros(1))
                before = time.perf_counter()
                run()
                least[k] = min(least[k], time.perf_counter() - before)
        found.append(least)
    return found


def _two_ranks(*command: str) -> Any:
    out = subprocess.run(
        [*launcher(2), sys.executable, "-m", "benchmarks.scaling", *command],
        check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip
    return json.loads(out.splitlines()[-1])


def main() -> None:
    size, (exact, plain) = 4.0 * np.array(SIZES), np.array(_two_ranks("exchange")).T
    print("| MB | in the fixed tree, ms | Allreduce, ms |\n| --- | --- | --- |")
    for megabytes, *times in zip(size / 1e6, exact, plain):
        print(f"| {megabytes:.3f} | " + " | ".join(f"{1e3 * seconds:.3f}" for seconds in times) + " |")
    a, b = _fit(np.stack([np.ones_like(size), size], 1), exact)
    print(f"\nexchange: a = {1e6 * a:.0f} µs, b = {1e9 * b:.2f} ms/MB ({1e-9 / b:.2f} GB/s)\n")
    for hidden in ROUNDS:
        rows, shards = np.array(FITTED, float).T
        columns = np.stack([np.ones_like(rows), rows, shards], 1)
        alone = np.array(_steps(hidden, FITTED, apart=True))[:, 0]
        beside = np.array(_two_ranks("apart", str(hidden)))[:, 0]
        for name, seconds in {"the other core is idle": alone, "another process does the same": beside}.items():
            o, r, c = fitted = _fit(columns, seconds)
            error = np.abs(columns @ fitted / seconds - 1).max()
            print(f"hidden {hidden}, {name}: o = {1e3 * o:.2f} ms, r = {1e3 * r:.3f} ms a row, c = {1e3 * c:.2f} ms a "
                  f"shard; largest error of the fit {error:.0%}\n")  # fmt: skip
        print("| hidden | rows, shards | 1 process, ms | 2 ranks: predicted, ms | measured | exchange |")
        print("| --- " * 6 + "|")
        times = dict(zip(FITTED, alone.tolist()))
        for case, (whole, part) in zip(PREDICTED, _two_ranks("steps", str(hidden))):
            predicted = o + (r * case[0] + c * case[1]) / 2 + a + b * 4 * parameters(hidden)
            print(f"| {hidden} | {case[0]}, {case[1]} | {1e3 * times[case]:.1f} | {1e3 * predicted:.1f} "
                  f"| {1e3 * whole:.1f} | {1e3 * part:.2f} |", flush=True)  # fmt: skip
        print()
    predict()


def _fit(columns: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Least squares of the relative errors."""
    return np.linalg.lstsq(columns / seconds[:, None], np.ones_like(seconds), rcond=None)[0]


if __name__ == "__main__":
    what = sys.argv[1:2]
    if what == ["predict"]:
        predict()
    elif what:
        if what == ["exchange"]:
            found = _exchange()
        else:
            apart = what == ["apart"]
            found = _steps(int(sys.argv[2]), FITTED if apart else PREDICTED, apart)
        ranks = parallel.current()
        if ranks is None or ranks.rank == 0:
            print(json.dumps(found))
    else:
        main()
