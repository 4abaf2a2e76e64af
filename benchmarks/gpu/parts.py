"""The parts of the GPU check, each run in a process of its own, so that a crash does not affect the others."""

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

from .options import Failed, Options, Skipped, one_line


class Part(NamedTuple):
    """A part: its title, and its time limits in seconds, the second with --quick.

    Proofs run in parallel with others; measurements run alone on the device.
    """

    title: str
    proof: bool
    seconds: int
    quick_seconds: int


#: Each is a module of this package, whose `main` prints Markdown.
PARTS = {
    "machine": Part("Machine", False, 120, 20),
    "lockstep": Part("NumPy and the GPU, op by op", True, 900, 200),
    "second_order": Part("Second derivatives", True, 600, 200),
    "counts": Part("Launches, copies and waits", True, 300, 200),
    "curves": Part("Loss curves", True, 900, 200),
    "contract": Part("The contract of every op", True, 1200, 200),
    "tests": Part("Tests", True, 2400, 210),
    "memcheck": Part("compute-sanitizer", True, 900, 200),
    "recurrence": Part("Recurrences beside cuDNN", False, 1800, 190),
    "cell": Part("A custom cell beside a loop of PyTorch's ops", False, 600, 50),
    "training": Part("Training of the main job", False, 600, 50),
    "kernels": Part("Profile by kernels", False, 600, 50),
}
#: Run only if requested by name.
EXTRA = {"ablation": Part("Ablation of the compiler's passes", False, 900, 180)}
VERDICTS = {Failed: "FAIL", Skipped: "SKIP"}
_VERDICT = re.compile("(PASS|FAIL|SKIP)(?:: (.*))?")
#: Seconds between two checks of the time limit.
_POLL_SECONDS = 0.1


class Outcome(NamedTuple):
    verdict: str
    reason: str
    seconds: float
    lines: list[str]


def run_part(name: str, options: Options) -> int:
    """Run a part in this process: it prints its report, and the verdict on the last line."""
    try:
        resolve(options.backend).make_current()
        importlib.import_module(f".{name}", __package__).main(options)
    except (Failed, Skipped) as verdict:
        print(f"{VERDICTS[type(verdict)]}: {verdict}", flush=True)
        return 1
    except Exception as error:  # any exception is a failure of the part
        traceback.print_exc()
        print(f"FAIL: {one_line(error)}", flush=True)
        return 1
    print("PASS", flush=True)
    return 0


def command_of(name: str, options: Options) -> list[str]:
    """The command that runs a part in a new process."""
    command = [sys.executable, "-u", "-m", "benchmarks.gpu", "--part", name, "--backend", options.backend]
    return [*command, "--quick"] if options.quick else command


def run_in_process(
    command: list[str], seconds: float, echo: bool = True, stop: threading.Event | None = None
) -> Outcome:
    """Run a command with one host thread, for at most `seconds`, or until `stop` is set.

    `echo` prints its lines at once.
    """
    lines, ended, late, start = [], threading.Event(), threading.Event(), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, errors="replace"
    ) as child:

        def enforce_limit() -> None:
            while not ended.wait(_POLL_SECONDS):
                if time.perf_counter() - start > seconds or (stop and stop.is_set()):
                    late.set()
                    _kill(child)
                    return

        threading.Thread(target=enforce_limit).start()
        try:
            for line in map(str.rstrip, child.stdout or ()):
                lines.append(line)
                if echo and not _VERDICT.fullmatch(line):
                    print(line, flush=True)
            child.wait()
        finally:
            ended.set()
            _kill(child)  # and its child processes
    elapsed = time.perf_counter() - start
    verdict = _VERDICT.fullmatch(lines[-1]) if lines else None
    if verdict:
        return Outcome(verdict[1], verdict[2] or "", elapsed, lines[:-1])
    if late.is_set():
        return Outcome("FAIL", f"timed out after {seconds:.0f} s", elapsed, lines)
    return Outcome("FAIL", f"its process ended with {_exit_description(child.returncode)}", elapsed, lines)


def _kill(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _exit_description(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
