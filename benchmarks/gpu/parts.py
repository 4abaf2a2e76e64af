"""The parts, and how one is run: in a process of its own, so that none can take another along when it falls."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import NamedTuple

from tinygrad_gru.backend import resolve

from .options import Failed, Options, Skipped, in_a_line


class Part(NamedTuple):
    """What it is, and how many seconds it may take, and when all is to be quick.

    A proof bears others at its side; figures are measured with nothing else on the device.
    """

    title: str
    proof: bool
    seconds: int
    quick_seconds: int


#: A module of this package each, whose `main` prints Markdown.
PARTS = {
    "machine": Part("Machine", False, 120, 20),
    "lockstep": Part("NumPy and the GPU, op by op", True, 900, 200),
    "second_order": Part("Second derivatives", True, 600, 200),
    "counts": Part("Launches, copies and waits", True, 300, 200),
    "curves": Part("Loss curves", True, 900, 200),
    "contract": Part("The contract of every op", True, 1200, 200),
    "tests": Part("Tests", True, 2400, 210),
    "memcheck": Part("Memory, checked by compute-sanitizer", True, 900, 200),
    "recurrence": Part("Recurrences beside cuDNN", False, 1800, 190),
    "cell": Part("A cell of one's own beside a loop of PyTorch's ops", False, 600, 50),
    "training": Part("Training of the main job", False, 600, 50),
    "where": Part("Where the time goes", False, 600, 50),
}
#: Run if they are asked for by name.
EXTRA = {"ablation": Part("Passes of the compiler, left out one by one", False, 900, 180)}
VERDICTS = {Failed: "FAIL", Skipped: "SKIP"}
_VERDICT = re.compile("(PASS|FAIL|SKIP)(?:: (.*))?")
#: Seconds between two looks at whether a part has taken too long.
_PATIENCE = 0.1


class Outcome(NamedTuple):
    verdict: str
    reason: str
    seconds: float
    lines: list[str]


def run_here(name: str, options: Options) -> int:
    """Run a part in this process: its report on standard output, and the verdict on the last line."""
    try:
        resolve(options.backend).make_current()
        importlib.import_module(f".{name}", __package__).main(options)
    except (Failed, Skipped) as verdict:
        print(f"{VERDICTS[type(verdict)]}: {verdict}", flush=True)
        return 1
    except Exception as error:  # whatever it is, it is the reason
        traceback.print_exc()
        print(f"FAIL: {in_a_line(error)}", flush=True)
        return 1
    print("PASS", flush=True)
    return 0


def command_of(name: str, options: Options) -> list[str]:
    """What runs a part in a process of its own."""
    command = [sys.executable, "-u", "-m", "benchmarks.gpu", "--here", name, "--backend", options.backend]
    return [*command, "--quick"] if options.quick else command


def run_apart(command: list[str], seconds: float, echo: bool = True, stop: threading.Event | None = None) -> Outcome:
    """Run a command with one thread on the host, for at most that long, or until somebody sets `stop`.

    `echo` shows its lines as they come.
    """
    lines, ended, late, start = [], threading.Event(), threading.Event(), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, errors="replace"
    ) as child:

        def watch() -> None:
            while not ended.wait(_PATIENCE):
                if time.perf_counter() - start > seconds or (stop and stop.is_set()):
                    late.set()
                    _kill(child)
                    return

        threading.Thread(target=watch).start()
        try:
            for line in map(str.rstrip, child.stdout or ()):
                lines.append(line)
                if echo and not _VERDICT.fullmatch(line):
                    print(line, flush=True)
            child.wait()
        finally:
            ended.set()
            _kill(child)  # with whatever it started
    spent = time.perf_counter() - start
    verdict = _VERDICT.fullmatch(lines[-1]) if lines else None
    if verdict:
        return Outcome(verdict[1], verdict[2] or "", spent, lines[:-1])
    if late.is_set():
        return Outcome("FAIL", f"not done in {seconds:.0f} s", spent, lines)
    return Outcome("FAIL", f"its process ended with {_described(child.returncode)}", spent, lines)


def _kill(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _described(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
