"""Fault injection: a run of several ranks, of which one is killed 20 times, by SIGKILL at random times, and resumed.

Each kill must end the whole job, with an exit status that is not 0, and the resumed run must end with the same files as
an undisturbed one of a single process, byte for byte: checkpoint and log. The number of ranks changes from start to
start.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tinygrad_gru.train.folder import CHECKPOINT, LOG

from .kills import differences, random_delay, text
from .processes import launcher
from .timing import report, row

COMMAND = "python -m benchmarks.rank_kills"
KILLS = 20
FILES = (CHECKPOINT, LOG)  # which must be the same, byte for byte
_OPTIONS = (
    "--cell lstm --hidden 16 --embedding 8 --batch 8 --window 16 --dropout 0.2 --shards 4 --evaluations 20".split()
)


def command(path: Path, folder: Path, steps: int, ranks: int) -> list[str]:
    """The command that begins the run, or goes on with it, in a folder."""
    train = [sys.executable, "-m", "tinygrad_gru", "train", "--text", str(path), *_OPTIONS, "--quiet"]
    return [*launcher(ranks), *train, "--characters", str(steps * 8 * 16), "--resume", "auto", "--out", str(folder)]


def processes_of(job: int) -> list[int]:
    """The processes of the ranks: the children of mpiexec's proxy, or of a job without mpiexec none."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    return sorted(rank for proxy in children.get(job, []) for rank in children.get(proxy, []))


def left_over(processes: list[int]) -> list[int]:
    """Those that still run after ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until and any(Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.05)
    return [process for process in processes if Path(f"/proc/{process}").exists()]


def main() -> None:
    choose, statuses, survivors, done = random.Random(0), [], 0, 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        parent = Path(temporary)
        path, whole, killed = text(parent), parent / "whole", parent / "killed"
        steps = 600
        subprocess.run(command(path, whole, steps, 1), check=True, stdout=subprocess.DEVNULL, env=environment)
        wait = random_delay(0.05 * (whole / LOG).stat().st_size, choose)
        different: list[str] = []
        while len(statuses) < KILLS:
            ranks = choose.choice([2, 4])
            with subprocess.Popen(
                command(path, killed, steps, ranks), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment,
            ) as job:  # fmt: skip
                wait(job, killed)
                processes = processes_of(job.pid)
                is_killed = bool(processes) and job.poll() is None
                if is_killed:
                    os.kill(choose.choice(processes), signal.SIGKILL)
                status = job.wait(timeout=300)
            if status and not is_killed:
                raise RuntimeError(f"a job that was not killed ended with status {status}")
            if status:
                statuses.append(status)
                survivors += len(left_over(processes))
                print(f"kill {len(statuses)}: {ranks} ranks, exit status {status}", flush=True)
            elif (killed / "summary.json").exists():  # it was at its end before the kill
                different += differences(killed, whole, FILES)
                done += 1
                shutil.rmtree(killed)
        subprocess.run(command(path, killed, steps, 2), check=True, stdout=subprocess.DEVNULL, env=environment)
        different += differences(killed, whole, FILES)
    lines = [
        "| kills | exit statuses | processes left over | runs resumed to their end | files that differ |",
        "| --- " * 5 + "|",
        row([str(KILLS), ", ".join(map(str, sorted(set(statuses)))), *map(str, (survivors, done + 1, len(different)))]),
    ]
    print("\n".join(lines))
    report("rank_kills", "Fault injection: ranks that are killed", COMMAND, lines)
    if different or survivors:
        sys.exit("a resumed run differs from an undisturbed one, or ranks were left over")


if __name__ == "__main__":
    main()
