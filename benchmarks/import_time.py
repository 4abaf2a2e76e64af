"""Import time: what `import tinygrad_gru` adds to `import numpy`, in fresh processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from .timing import report

COMMAND = "python -m benchmarks.import_time"
PROGRAM = "import time; import numpy; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str, cache: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:  # of bytecode, written by the first process, as after installation
        times = [seconds("import tinygrad_gru", cache) for _ in range(21)][1:]
    milliseconds = [1000 * t for t in times]
    line = f"{statistics.median(milliseconds):.1f} ms median, {min(milliseconds):.1f} ms minimum of 20 fresh processes"
    report("import_time", "Import time on top of NumPy's", COMMAND, [line])


if __name__ == "__main__":
    main()
