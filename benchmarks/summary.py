"""One page: ours, NumPy alone, PyTorch, JAX and the limit, measured now, in about a minute and a half.

What is compared runs in one process, in turns, on one thread; the least time counts, for other programs can only add to
a time. Where a peer is faster the page says so, in a list of its own.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from . import overhead, recurrence_memory, training_step
from .cells import CELLS
from .peers import Case, check_agreement, jax_variants, ours, pytorch
from .processes import output_of, thread_limits
from .recurrence import SIDE
from .timing import installed, interleaved, report, row

COMMAND = "python -m benchmarks --summary"
SIZES = [(50, 1, 32, 32), (50, 16, 64, 64), (100, 64, 128, 256)]
MEMORY_SIZE = (100, 64, 512, 512)
#: The columns: ours as a user gets it; ours without llvmlite; and the peers that are installed.
OURS, NUMPY = "ours", "NumPy alone"
PEERS = [name for name, package in (("PyTorch", "torch"), ("JAX", "jax")) if installed(package)]
LONGER = {
    "recurrence": "Recurrences", "training_step": "Training step", "overhead": "Tape",
    "recurrence_memory": "Memory", "import_time": "Import",
}  # fmt: skip

#: What a fresh process does until its first gradients are there; it prints the seconds of importing, and of the rest.
START = "import time; start = time.perf_counter()\nimport numpy as np\nx = np.ones((50, 16, 64), np.float32)\n"
IMPORTED = "\nimported = time.perf_counter()\n"
END = "\nprint(imported - start, time.perf_counter() - imported)"
OUR_START = "from tinygrad_gru import nn" + IMPORTED + "nn.GRU(64, 128)(x)[0].sum().backward()"
STARTS = {
    "PyTorch": "import torch" + IMPORTED + "torch.nn.GRU(64, 128)(torch.from_numpy(x))[0].sum().backward()",
    "JAX": "import jax" + IMPORTED + "from benchmarks.peers import Case, jax_variants\n"
    "jax_variants(Case('GRU', (50, 16, 64, 128)))[-1]()",
}  # fmt: skip


# -- measured in child processes, which print a line of JSON for each row ----------------------------------------------


def recurrences(rounds: int) -> None:
    """Least milliseconds of a training pass, by cell and size, and of its products at the rate of one large one."""
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    product = partial(np.matmul, a, b, out=np.empty_like(a))
    for kind in CELLS:
        for size in SIZES:
            case = Case(kind, size)
            runs: dict[str, Callable] = {OURS: ours(case), NUMPY: ours(case, "numpy")}
            runs |= {"PyTorch": pytorch(case)} if "PyTorch" in PEERS else {}
            runs |= {"JAX": jax_variants(case)[-1]} if "JAX" in PEERS else {}
            check_agreement(case, {n: run for n, run in runs.items() if n != "PyTorch" or kind == "two-speed"})
            least = _least({**runs, "limit": product}, rounds, 0.03)
            least["limit"] *= case.flops / (2 * SIDE**3)
            print(json.dumps([f"{kind} {size}", least]))


def step_and_tape(rounds: int) -> None:
    """Least milliseconds of a training step of the main job, and microseconds of an op on the tape."""
    settings = training_step.TextSettings()
    runs = {OURS: settings, NUMPY: replace(settings, compiled="numpy")}
    steps = {name: training_step.TextRun(given).trainer.step for name, given in runs.items()}
    if "PyTorch" in PEERS:
        steps["PyTorch"] = training_step.pytorch(training_step.TextRun(settings)).step
    print(json.dumps(["training step", _least(steps, rounds, 0.2)]))
    chains = {OURS: overhead.ours()} | ({"PyTorch": overhead.pytorch()} if "PyTorch" in PEERS else {})
    least = {name: 1e3 * value / overhead.OPS for name, value in _least(chains, 3 * rounds, 0.0).items()}
    print(json.dumps(["op on the tape", least]))


def _least(runs: dict[str, Callable[[], Any]], rounds: int, min_run_time: float) -> dict[str, float]:
    """Milliseconds."""
    seconds = interleaved(runs, rounds, min_run_time=min_run_time)
    return {name: 1e3 * min(times) for name, times in seconds.items()}


def _rows(function: str, rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    for line in output_of("summary", function, rounds, echo=False):
        if line.startswith("["):
            yield tuple(json.loads(line))


# -- fresh processes ---------------------------------------------------------------------------------------------------


def _start(program: str, **environment: str) -> tuple[float, float]:
    """Seconds of importing, and of the first training pass, in a fresh process."""
    command = [sys.executable, "-c", START + program + END]
    given = {**os.environ, **thread_limits(1), **environment}
    found = subprocess.run(command, capture_output=True, check=True, text=True, env=given).stdout.split()
    return float(found[-2]), float(found[-1])


def first_passes(times: int) -> dict[str, tuple[float, float]]:
    """The least of several processes each; ours with an empty cache is one process each time."""
    programs: dict[str, Callable[[], tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as cache:

        def emptied() -> tuple[float, float]:
            with tempfile.TemporaryDirectory() as empty:
                return _start(OUR_START, TINYGRAD_GRU_CACHE=empty)

        programs[f"{OURS}, the first time on a machine"] = emptied
        programs[f"{OURS}, from then on"] = lambda: _start(OUR_START, TINYGRAD_GRU_CACHE=cache)
        programs[NUMPY] = lambda: _start(OUR_START, TINYGRAD_GRU_COMPILED="numpy")
        for name in PEERS:
            programs[name] = partial(_start, STARTS[name])
        programs[f"{OURS}, from then on"]()  # which fills the cache
        return {name: min((run() for _ in range(times)), key=sum) for name, run in programs.items()}


# -- the page ----------------------------------------------------------------------------------------------------------


def _table(heading: str, unit: str, rows: list[tuple[str, dict[str, float]]], digits: int) -> list[str]:
    """A table of times, with the ratio of each peer's time to ours."""
    names = [name for name in (OURS, NUMPY, *PEERS) if name in rows[0][1]]
    against = [name for name in names if name != OURS]
    columns = ["", *(f"{name}, {unit}" for name in names), *(f"{name} over ours" for name in against)]
    has_limit = "limit" in rows[0][1]
    columns += ["limit over ours"] if has_limit else []
    lines = [f"**{heading}**", "", row(columns), row(["---"] * len(columns))]
    for label, least in rows:
        own = least[OURS]
        figures = [f"{least[name]:.{digits}f}" for name in names] + [f"{least[name] / own:.2f}" for name in against]
        lines.append(row([label, *figures, *([f"{100 * least['limit'] / own:.0f} %"] if has_limit else [])]))
    return [*lines, ""]


def _means(rows: list[tuple[str, dict[str, float]]]) -> str:
    """The geometric means of the ratios, by cell."""
    parts = []
    for kind in CELLS:
        here = [least for label, least in rows if label.startswith(f"{kind} ")]
        ratios = (
            f"{statistics.geometric_mean(least[name] / least[OURS] for least in here):.2f} ({name})"
            for name in (NUMPY, *PEERS)
        )
        parts.append(f"{kind} {', '.join(ratios)}")
    return f"Geometric means of their time over ours: {'; '.join(parts)}."


def _behind(rows: list[tuple[str, dict[str, float]]]) -> str:
    """Where a peer takes less time, or less memory, than ours."""
    found = [
        f"{label} against {name} ({least[name] / least[OURS]:.2f})"
        for label, least in rows
        for name in (NUMPY, *PEERS)
        if name in least and least[name] < least[OURS]
    ]
    return f"Where ours is behind here: {', '.join(found) or 'nowhere'}."


def page(rounds: int = 4) -> list[str]:
    """The lines of the summary."""
    passes = list(_rows("recurrences", rounds))
    step, tape = _rows("step_and_tape", rounds)
    starts = first_passes(3)
    makers = [name for name in recurrence_memory.MAKERS if name == OURS or name in PEERS]
    memory = [
        (kind, {name: recurrence_memory.measure(name, kind, MEMORY_SIZE) / 1e6 for name in makers}) for kind in CELLS
    ]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    lines = [
        f"Measured {datetime.datetime.now():%Y-%m-%d %H:%M}, on one thread, float32; the machine's load, this run "
        f"included, was {load} on {os.cpu_count()} cores: above {os.cpu_count()} other programs take part of every "
        "time. Least of interleaved rounds, what is compared in one process; only ratios carry over to other machines.",
        "",
        f"- {OURS}: what a user gets by default, compiled to machine code where llvmlite is installed"
        f"{'' if installed('llvmlite') else ' (here it is not: this is NumPy)'}. {NUMPY}: without llvmlite.",
        "- PyTorch: `nn.GRU`, `nn.LSTM`; for two-speed, a custom cell, a loop of its ops. JAX: `jax.jit` of `lax.scan` "
        "and its vjp, the products of x hoisted and joined by hand.",
        f"- Limit: all products of a pass at the rate of one product of {SIDE} × {SIDE} matrices by NumPy's BLAS, over "
        "our time: the share of our time that is arithmetic of products at that rate.",
        "",
        *_table("A training pass, (T, B, I, H): forward and all gradients", "ms", passes, 2),
        _means(passes),
        "",
        *_table("A training step of the main job: GRU of 192, embedding, loss, clipping, Adam", "ms", [step], 1),
        *_table("The tape: an op on 8 × 8 arrays, recorded, and its share of backward", "µs", [tape], 2),
        "**A fresh process: seconds of importing, and of the first training pass of a GRU**",
        "",
        row(["", "import", "first pass", "together"]),
        row(["---"] * 4),
        *(row([name, *(f"{t:.2f}" for t in (*times, sum(times)))]) for name, times in starts.items()),
        "",
        *_table(f"Memory: by how much the first pass at {MEMORY_SIZE} raises the peak", "MB", memory, 0),
        _behind([*passes, step, tape, *((f"memory of {kind}", found) for kind, found in memory)]),
        "",
        "At length, with medians, quartiles and two threads: "
        + ", ".join(f"[{title}]({name}.md) `python -m benchmarks.{name}`" for name, title in LONGER.items())
        + ".",
    ]  # fmt: skip
    return lines


def main() -> None:
    print("the summary, in about two minutes …", file=sys.stderr)
    report("summary", "The figures on one page", COMMAND, page(), ["llvmlite", "torch", "jax"], "1 thread")


if __name__ == "__main__":
    main()
