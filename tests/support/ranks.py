"""Jobs of several ranks for tests: mpiexec on this machine, and what the ranks have written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def mpiexec():
    """The mpiexec beside Python, or on the path; None if there is none, or no mpi4py."""
    if find_spec("mpi4py") is None:
        return None
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


needs_mpi = pytest.mark.skipif(mpiexec() is None, reason="needs mpi4py and mpiexec: pip install 'tinygrad_gru[mpi]'")


def environment(**more):
    """With it a process may keep the bytecode of modules: a start of the next one takes half the time."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def start(ranks, *command, by=(), **more):
    """The process of mpiexec with `ranks` processes of Python, each started `by` another program."""
    return subprocess.Popen(
        [mpiexec(), "-n", str(ranks), *by, sys.executable, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more),
    )  # fmt: skip


def run(ranks, *command, **more):
    """The exit code, the output and the errors of such a job."""
    with start(ranks, *command, **more) as process:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    return process.returncode, out, err


def results(ranks, *command, **more):
    """The last line that rank 0 writes, read as JSON, of a job that must succeed."""
    code, out, err = run(ranks, *command, **more)
    assert code == 0, err
    return json.loads(out.splitlines()[-1])
