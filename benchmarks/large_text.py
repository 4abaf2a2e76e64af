"""A text that is larger than memory: its encoding, training on it, and the most memory that this takes.

A text of so many gigabytes is made of the standard library's source, in shards, in a temporary folder, which needs
twice the size and is removed. A process of its own then trains on it from the first step, and another one goes on; what
counts is the most resident memory of each (VmHWM of /proc), which must stay below the limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tinygrad_gru.data import standard_library

from .timing import report, row

COMMAND = "python -m benchmarks.large_text"
LIMIT = 300  # MiB
SHARDS = 8
STEPS = 300

#: One process: it prints the seconds until the text was encoded, MiB, steps, characters, and milliseconds per step.
JOB = """
import sys, time
from pathlib import Path
from tinygrad_gru.train import Progress, TextRun, TextSettings, load_checkpoint
source, folder, steps, end = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
began = time.perf_counter()
sizes = dict(embedding=16, hidden=64, batch=32, window=64, characters=2048 * steps, evaluations=2)
run = TextRun(TextSettings(source, **sizes))
encoded = time.perf_counter() - began
checkpoint = folder / "checkpoint.safetensors"
loop = run.loop(folder, load_checkpoint(checkpoint) if checkpoint.exists() else None)
step = run.trainer.step
def stepping():
    result = step()
    if run.trainer.steps == end:
        loop.request_stop("the part is done")
    return result
run.trainer.step = stepping
loop.run(Progress())
with open("/proc/self/status") as file:
    resident = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print(encoded, resident, loop.steps, len(run.training), 1e3 / loop.steps_per_second)
"""


def write_shards(folder: Path, size: int) -> None:
    """Shards of the standard library's source, repeated, of so many bytes in all."""
    block = standard_library().training.encode()
    for number in range(SHARDS):
        with open(folder / f"part-{number:05d}.txt", "wb") as file:
            for _ in range(max(1, size // SHARDS // len(block))):
                file.write(block)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", help="where there is room (default: the folder for temporary files)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "text").mkdir()
        write_shards(folder / "text", int(options.gigabytes * 1e9))
        size = sum(path.stat().st_size for path in (folder / "text").iterdir())
        results = []
        for end in (STEPS // 2, STEPS):
            done = subprocess.run(
                [sys.executable, "-c", JOB, str(folder / "text"), str(folder / "run"), str(STEPS), str(end)],
                env={**os.environ, "TINYGRAD_GRU_CACHE": str(folder / "cache")},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            results.append([float(value) for value in done.stdout.split()])
    (first, most, *_), (again, most_again, steps, characters, milliseconds) = results
    lines = [
        "| | |",
        "| --- | --- |",
        row(["text", f"{size / 1e9:.1f} GB in {SHARDS} shards, {characters:,.0f} characters for training"]),
        row(["encoding", f"{first:.0f} s ({size / first / 1e6:.0f} MB/s), once; found again in {again:.2f} s"]),
        row(["steps", f"{steps:.0f}, in two processes; {milliseconds:.1f} ms each in the second"]),
        row(["most resident memory", f"{most:.0f} MiB while encoding and training, {most_again:.0f} MiB when resumed"]),
    ]
    report("large_text", "A text that is larger than memory", COMMAND, lines)
    return int(max(most, most_again) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
