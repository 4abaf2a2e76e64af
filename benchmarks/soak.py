"""A soak: a run of 20,000 steps, in which memory, live objects, open files and the time per step must not grow.

The run is the text job with a small model, with its log, heartbeat, checkpoints and evaluations. It is looked at every
thousand steps, after a collection of garbage. The time is that of the processor, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tinygrad_gru.train import Callback, Progress, TextRun, TextSettings

from .timing import report, row

COMMAND = "python -m benchmarks.soak"
EVERY = 1000
#: What the second half of the run may add: MiB of resident memory, live objects, open files.
MOST = (2.0, 100, 0)


class Sample(NamedTuple):
    """What a process holds after a step; `milliseconds` are those of a step since the last sample."""

    step: int
    resident: float
    objects: int
    files: int
    log: int
    milliseconds: float


class Watch(Callback):
    """A sample every so many steps."""

    def __init__(self, log: Path) -> None:
        self.log, self.samples = log, list[Sample]()
        self.began = time.process_time()

    def on_step_end(self, loop: Any, record: Any) -> None:
        if loop.steps % EVERY:
            return
        spent = 1e3 * (time.process_time() - self.began) / EVERY
        gc.collect()
        with open("/proc/self/status") as file:
            resident = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
        counts = len(gc.get_objects()), len(os.listdir("/proc/self/fd")), self.log.stat().st_size
        self.samples.append(Sample(loop.steps, resident, *counts, spent))
        self.began = time.process_time()


def soak(steps: int) -> list[Sample]:
    """The samples of a run of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TextSettings(
            cell="gru", embedding=16, hidden=32, batch=8, window=16, dropout=0.1, characters=steps * 128, evaluations=20
        )
        run = TextRun(settings)
        loop = run.loop(folder)
        watch = Watch(Path(folder) / "log.jsonl")
        loop.callbacks.append(watch)
        loop.run(Progress())
        return watch.samples


def growth(samples: list[Sample]) -> tuple[float, ...]:
    """What the second half of a run added: MiB, objects, files."""
    middle, last = samples[len(samples) // 2 - 1], samples[-1]
    return last.resident - middle.resident, last.objects - middle.objects, last.files - middle.files


def _row(sample: Sample) -> str:
    step, resident, objects, files, log, milliseconds = sample
    return row(
        [f"{step:,}", f"{resident:.1f}", f"{objects:,}", str(files), f"{log / 1024:,.0f}", f"{milliseconds:.2f}"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    samples = soak(parser.parse_args().steps)
    added = growth(samples)
    shown = [sample for sample in samples if sample.step % (4 * EVERY) == 0 or sample is samples[0]]
    lines = [
        "| step | resident, MiB | live objects | open files | log, KiB | ms of a processor per step |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_row, shown),
        "",
        f"The second half adds {added[0]:.1f} MiB, {added[1]:,} objects and {added[2]} open files; evaluations and "
        "checkpoints are part of the time per step.",
    ]
    report("soak", f"A soak of {samples[-1].step:,} steps", COMMAND, lines)
    return int(any(value > most for value, most in zip(added, MOST)))


if __name__ == "__main__":
    sys.exit(main())
