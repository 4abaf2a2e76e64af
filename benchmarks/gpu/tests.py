"""The test suite on this backend: all tests that are parametrised over backends."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from .options import Failed, Options

ROOT = Path(__file__).parents[2]
#: The number of test processes with pytest-xdist: each takes some of the GPU's memory.
PROCESSES = 6
#: The tests that a rehearsal runs.
FEW = ["tests/backend/test_arrays.py"]
SHOWN = 40


def main(options: Options) -> None:
    name = options.backend.partition(":")[0]
    command = [sys.executable, "-m", "pytest", "-q", "-k", name, "--tb=short", "-rfE", "-p", "no:cacheprovider",
               "-p", "no:benchmark"]  # pytest-benchmark warns beside xdist, and warnings are errors  # fmt: skip
    if importlib.util.find_spec("xdist") and not options.rehearsal:
        command += ["-n", str(PROCESSES)]
    command += FEW if options.rehearsal else []
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # xdist needs the same test order in all processes
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    print(process.stdout, file=sys.stderr, flush=True)  # the whole output, for whoever watches
    lines = process.stdout.strip().splitlines() or ["pytest printed nothing"]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print("\n".join(["```", *failures[:SHOWN], *(["…"] if len(failures) > SHOWN else []), lines[-1], "```"]))
    if process.returncode:
        raise Failed(lines[-1])
