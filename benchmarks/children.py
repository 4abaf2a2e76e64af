"""New processes, for what must be set before NumPy, PyTorch and JAX are imported, or is measured in a fresh one."""

from __future__ import annotations

import os
import subprocess
import sys

#: The numbers of threads with which recurrences are measured.
THREADS = {1: "1 thread", 2: "2 threads"}
#: Seconds between the turns of contestants with threads: longer than OpenBLAS's wait busily for the next product.
PAUSE = 0.05


def printed(module: str, function: str, *arguments: object, threads: int = 1, echo: bool = True) -> list[str]:
    """The lines that `benchmarks.module.function(*arguments)` prints in a new process.

    All libraries of that process are given that number of threads. With `echo` the lines are printed here as they come.
    """
    call = f"from benchmarks.{module} import {function}; {function}{arguments!r}"
    command = [sys.executable, "-u", "-c", call]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits(threads)}) as child:
        assert child.stdout is not None
        lines = []
        for line in map(str.rstrip, child.stdout):
            lines.append(line)
            if echo:
                print(line, flush=True)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return lines


def limits(threads: int) -> dict[str, str]:
    """The environment in which libraries use that many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return {
        **dict.fromkeys(names, str(threads)),
        # XLA's pool has as many threads as it believes the machine to have cores; its products have a switch beside.
        "NPROC": str(threads),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
