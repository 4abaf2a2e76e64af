"""Child processes with a number of threads, which must be set before NumPy, PyTorch and JAX are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: The numbers of threads of the recurrence benchmarks, with their headings.
THREADS = {1: "1 thread", 2: "2 threads"}
#: Seconds between measurements with threads: longer than OpenBLAS's threads busy-wait for the next product.
PAUSE = 0.05


def output_of(module: str, function: str, *arguments: object, threads: int = 1, echo: bool = True) -> list[str]:
    """The lines that `benchmarks.module.function(*arguments)` prints in a new process.

    All libraries in that process use that number of threads. With `echo` the lines are also printed here at once.
    """
    call = f"from benchmarks.{module} import {function}; {function}{arguments!r}"
    command = [sys.executable, "-u", "-c", call]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **thread_limits(threads)}
    ) as child:
        assert child.stdout is not None
        lines = []
        for line in map(str.rstrip, child.stdout):
            lines.append(line)
            if echo:
                print(line, flush=True)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return lines


def launcher(ranks: int) -> list[str]:
    """The words before a command that start it in so many processes: mpiexec, beside Python or on the path, if many."""
    beside = Path(sys.executable).with_name("mpiexec")
    return [str(beside if beside.exists() else "mpiexec"), "-n", str(ranks)] if ranks > 1 else []


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that limit the number of threads of all libraries."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return {
        **dict.fromkeys(names, str(threads)),
        # XLA's pool has one thread per core that it detects; its products have a switch of their own.
        "NPROC": str(threads),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
