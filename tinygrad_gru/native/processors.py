"""Processors: how many of them this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_processors(of_process: Path = Path("/proc/self/cgroup"), cgroups: Path = _CGROUPS) -> int:
    """The processors that this process may use: those of its affinity, but no more than the quota of its cgroups,
    rounded down, and no more than OMP_NUM_THREADS, by which one limits the threads of BLAS; at least 1.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limits = [affinity, int(_quota(of_process, cgroups)), int(wanted) if wanted.isdecimal() else affinity]
    return max(1, min(limits))


def _quota(of_process: Path, cgroups: Path) -> float:
    """The smallest quota of the process's cgroups and of those that they are in, in processors."""
    quotas = [2.0**20]
    with suppress(OSError, ValueError):  # another system
        for line in of_process.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # version 2
                quotas += _quotas(cgroups, path, ("cpu.max",))
            elif "cpu" in controllers.split(","):  # version 1
                quotas += _quotas(cgroups / controllers, path, ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
                quotas += _quotas(cgroups / "cpu", path, ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return min(quotas)


def _quotas(root: Path, path: str, names: tuple[str, ...]) -> list[float]:
    folder, found = root / path.strip("/"), []
    while True:  # up to the root; in a container the path may be one of the host's, of which only the root is there
        with suppress(OSError, ValueError):
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if quota != "max" and int(quota) > 0:
                found.append(int(quota) / int(period))
        if folder == root or root not in folder.parents:
            return found
        folder = folder.parent
