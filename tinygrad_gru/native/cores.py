"""Cores: which they are, and how many threads of this process can run at once, as its environment limits them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

#: Variables in which a launcher of MPI says how many of its processes are on this machine.
_LOCAL_RANKS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")


class Cores(NamedTuple):
    """How many threads may run at once, and what limits their number."""

    number: int
    reason: str


@lru_cache(maxsize=1)
def cores() -> Cores:
    """Those that this process can use, as they were when it first asked."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return least(total, usable, quota(), os.environ)


def least(total: int, usable: int, quota: float | None, environment: Mapping[str, str]) -> Cores:
    """The smallest of all limits.

    total        the cores of the machine
    usable       those on which the process may run
    quota        the cores' time that its cgroup may use, as a number of cores; None for no limit
    environment  OMP_NUM_THREADS, and how many processes a launcher of MPI has started here
    """
    limits = []
    if threads := _number(environment.get("OMP_NUM_THREADS", "").partition(",")[0]):
        limits.append(Cores(threads, f"OMP_NUM_THREADS={threads}"))
    is_part = f", of which this process may use {usable}" if usable < total else ""
    limits.append(Cores(usable, f"this machine has {total} core{'s' * (total > 1)}{is_part}"))
    if quota is not None:
        limits.append(Cores(max(1, int(quota)), f"the CPU quota of its cgroup is {quota:.3g} cores"))
    for name in _LOCAL_RANKS:
        if ranks := _number(environment.get(name, "")):
            limits.append(Cores(max(1, total // ranks), f"{name}={ranks} on {total} cores"))
    return min(limits, key=lambda limit: limit.number)


def processor() -> str:
    """The name of the processor, for reports of measurements."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _number(text: str) -> int:
    """A positive number, or 0 for anything else."""
    return int(text) if text.strip().isdecimal() else 0


def quota(root: str = "/") -> float | None:
    """The CPU quota of this process's cgroup and those around it, as a number of cores; None for no limit.

    root  the root of the file system
    """
    base = Path(root)
    found = list[float]()
    with suppress(OSError, ValueError):
        for line in (base / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _quotas(base / "sys/fs/cgroup", path, _of_version_2)
            elif "cpu" in controllers.split(","):
                found += _quotas(base / "sys/fs/cgroup" / controllers, path, _of_version_1)
    return min(found, default=None)


def _quotas(mount: Path, path: str, read: Callable[[Path], tuple[float, float]]) -> Iterator[float]:
    """Those of a cgroup and of all around it. In a container some of them may not be there."""
    inner = PurePosixPath(path.lstrip("/"))
    for folder in (inner, *inner.parents):
        with suppress(OSError, ValueError):
            quota, period = read(mount / folder)
            if quota > 0 < period:
                yield quota / period


def _of_version_2(folder: Path) -> tuple[float, float]:
    quota, period = (folder / "cpu.max").read_text().split()  # "max 100000" is no limit
    return float(quota), float(period)


def _of_version_1(folder: Path) -> tuple[float, float]:
    return float((folder / "cpu.cfs_quota_us").read_text()), float((folder / "cpu.cfs_period_us").read_text())
