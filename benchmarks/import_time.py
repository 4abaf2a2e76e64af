"""What does `import tinygrad_gru` add to `import numpy`? Fresh processes in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys

from .timing import report

COMMAND = "python -m benchmarks.import_time"
PROGRAM = "import time; import numpy; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str) -> float:
    output = subprocess.run([sys.executable, "-c", PROGRAM.format(statement)], capture_output=True, check=True, text=True)
    return float(output.stdout)


def main() -> None:
    times = [seconds("import tinygrad_gru") for _ in range(21)][1:]
    milliseconds = [1000 * t for t in times]
    line = f"{statistics.median(milliseconds):.1f} ms median, {min(milliseconds):.1f} ms minimum of 20 fresh processes"
    report("import_time", "What importing adds to importing NumPy", COMMAND, [line])


if __name__ == "__main__":
    main()
