"""The weights after 500 steps on 1, 2 and 4 ranks, as checksums, which must be the same: GRU and LSTM, in float32.

Two layers with dropout and zoneout on sequences with lengths and ignored targets, trained by `fit` in batches of 18,
in the default compiled mode; on ranks also with `overlap`, each parameter in a bucket of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np

from tinygrad_gru import data, manual_seed, nn, ops, parallel, train
from tinygrad_gru.parallel import buckets

from .processes import launcher
from .timing import report, row

COMMAND = "python -m benchmarks.rank_weights"
STEPS = 500
CELLS = {"GRU": nn.GRU, "LSTM": nn.LSTM}
#: Ranks, and whether they send gradients while others are computed.
CASES = [(1, False), (2, False), (2, True), (4, False), (4, True)]


def weights(cell: str, ranks: parallel.Ranks) -> tuple[str, float]:
    """The checksum of the weights after all steps, and their largest change."""
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((rng.integers(3, 11), 6)).astype("f") for _ in range(203)]
    ys = [np.where(rng.random(len(x)) < 0.1, -100, np.cumsum(x[:, 0]) > 0).astype(int) for x in xs]
    manual_seed(0)
    model = nn.Sequential(CELLS[cell](6, 24, num_layers=2, dropout=0.2, zoneout=0.1), nn.Dropout(0.2), nn.Linear(24, 2))
    before = [parameter.numpy().copy() for parameter in model.parameters()]
    train.fit(
        model, partial(ops.cross_entropy, ignore_index=-100), data.SequenceBatches(xs, ys, 18, seed=1, per_step=True),
        steps=STEPS, parallel=ranks, progress=False, lr=3e-3, clip_norm=1.0,
    )  # fmt: skip
    arrays = [parameter.numpy() for parameter in model.parameters()]
    assert {array.dtype for array in arrays} == {np.dtype("f")}
    return parallel.checksum(arrays), max(float(abs(a - b).max()) for a, b in zip(arrays, before))


def serve(overlap: bool) -> None:
    if overlap:
        buckets.BUCKET_BYTES = 1
    ranks = parallel.init(overlap=overlap)
    found = ranks.gather({cell: weights(cell, ranks) for cell in CELLS})
    if ranks.rank == 0:
        print(json.dumps(found))


def main() -> None:
    lines, checksums = [row(["ranks", "", "", "SHA-256 of the weights", "largest change"]), "| --- " * 5 + "|"], set()
    for ranks, overlap in CASES:
        command = [*launcher(ranks), sys.executable, "-m", "benchmarks.rank_weights", "serve", "overlap" * overlap]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        everyone = json.loads(out.splitlines()[-1])
        for cell in CELLS:
            checksums |= {(cell, found[cell][0]) for found in everyone}
            checksum, change = everyone[0][cell]
            lines.append(row([str(ranks), "overlap" * overlap, cell, f"`{checksum}`", f"{change:.2f}"]))
            print(lines[-1], flush=True)
    report("rank_weights", f"Weights after {STEPS} steps", COMMAND, lines)
    if len(checksums) > len(CELLS):
        sys.exit("the weights depend on the number of ranks")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2] == "overlap")
    else:
        main()
