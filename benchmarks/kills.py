"""Fault injection: a training run that is killed 40 times, by SIGKILL at random times, and resumed after each.

It must end with the same files as an uninterrupted run, byte for byte: the checkpoint (weights, optimizer, random
numbers, position in the text), the best weights, and the log with each step and evaluation once.

Two runs are killed: the command line's, which saves ten times, and one that saves after every step, so that most kills
happen while files are written.
"""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tinygrad_gru.train import Progress, TextRun, TextSettings, load_checkpoint
from tinygrad_gru.train.folder import BEST, CHECKPOINT, LOG, RunFolder, read_log

from .timing import report

COMMAND = "python -m benchmarks.kills"
KILLS = 40
_OPTIONS = "--cell lstm --hidden 32 --embedding 16 --batch 8 --window 16 --dropout 0.2".split()


class Job(NamedTuple):
    """A run that is started or resumed in a process of its own.

    command  returns the command for a folder; it resumes the run if there is a checkpoint in the folder
    share    the largest share of the whole log that a process adds before it is killed
    files    the files to compare with those of an uninterrupted run
    """

    name: str
    command: Callable[[Path], list[str]]
    share: float
    files: tuple[str, ...]


class Outcome(NamedTuple):
    """The result of a job: its runs and kills, and what they led to.

    before_a_checkpoint  kills before the first checkpoint
    half_written         kills while a file was half written
    records_repeated     log records that were repeated after the kills
    differences          the files that differ in the end
    """

    runs: int
    kills: int
    before_a_checkpoint: int
    half_written: int
    records_repeated: int
    differences: list[str]


def text(folder: Path) -> Path:
    """A text to train on, the same each time."""
    path = folder / "text.txt"
    choose = random.Random(0)
    words = ["ba", "be", "do", "du", "ka", "ko", "mi", "mu", "ra", "ti"]
    lines = (" ".join("".join(choose.choices(words, k=2)) for _ in range(6)) + "\n" for _ in range(600))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def command_line_job(path: Path, steps: int) -> Job:
    def command(folder: Path) -> list[str]:
        begin = ["--text", str(path), *_OPTIONS, "--characters", str(steps * 8 * 16)]
        how = ["--resume"] if (folder / CHECKPOINT).exists() else begin
        return [sys.executable, "-m", "tinygrad_gru", "train", "--out", str(folder), "--quiet", *how]

    return Job("`tinygrad-gru train`, which saves ten times", command, 0.115, (CHECKPOINT, LOG))


def frequent_saves_job(path: Path, steps: int) -> Job:
    def command(folder: Path) -> list[str]:
        call = f"from benchmarks.kills import run_or_resume; run_or_resume({str(path)!r}, {str(folder)!r}, {steps})"
        return [sys.executable, "-c", call]

    return Job("a loop that saves after every step", command, 0.04, (CHECKPOINT, BEST, LOG))


def run_or_resume(path: str, folder: str, steps: int) -> None:
    """Start, or resume, a run that evaluates and saves after every step."""
    settings = TextSettings(
        text=path, cell="lstm", embedding=4, hidden=8, batch=4, window=8, characters=steps * 32, dropout=0.2,
        patience=steps,
    )  # fmt: skip
    run = TextRun(settings)
    with RunFolder(folder) as locked:
        loop = run.loop(locked, load_checkpoint(locked.checkpoint) if locked.checkpoint.exists() else None)
        loop.evaluations, loop.report = steps, lambda record: None
        loop.run(Progress())


def random_delay(growth: float, choose: random.Random) -> Callable[[subprocess.Popen, Path], None]:
    """A function that waits for a random time: in one of five cases while the process starts, else while it logs.

    The wait is measured by the growth of the log, up to `growth` bytes, so that it does not depend on the machine.
    """

    def wait(process: subprocess.Popen, folder: Path) -> None:
        if choose.random() < 0.2:
            time.sleep(choose.uniform(0, 1))
            return
        before, target, size = _file_state(folder / LOG), choose.uniform(0, growth), None
        while process.poll() is None:
            now = _file_state(folder / LOG)
            if size is None and now != before:  # the process has opened a new log, or cut the old one
                size = now[-1]
            if size is not None and now[-1] >= size + target:
                break
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.02))

    return wait


def _file_state(path: Path) -> tuple[int, int, int]:
    """The inode, modification time and size of a file, which change when a log is opened, cut or written."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return state.st_ino, state.st_mtime_ns, state.st_size


def run_with_kills(
    job: Job, parent: Path, whole: Path, kills: int, wait: Callable[[subprocess.Popen, Path], None]
) -> Outcome:
    """Kill a job `kills` times, let it finish, and compare it with the uninterrupted run in `whole`.

    If it finishes earlier, another run is started. Their folders are created in `parent`.
    """
    count = before = half_written = repeated = 0
    different: list[str] = []
    for number in itertools.count(1):
        folder, ended = parent / str(number), False
        while count < kills and not ended:
            with subprocess.Popen(job.command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                wait(process, folder)
                process.kill()
                errors = process.communicate()[1].decode()
            ended = process.returncode == 0
            if ended:
                continue
            if process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"{job.name}: after {count} kills: {errors}")
            count += 1
            half_written += any(folder.glob(".*.part"))
            if (folder / CHECKPOINT).exists():
                step = load_checkpoint(folder / CHECKPOINT)["trainer"]["steps"]
                repeated += sum(record["step"] > step for record in read_log(folder / LOG))
            else:
                before += 1
        if not ended:
            subprocess.run(job.command(folder), check=True, stdout=subprocess.DEVNULL)
        different += differences(folder, whole, job.files)
        if count == kills:
            break
    return Outcome(number, count, before, half_written, repeated, different)


def differences(folder: Path, whole: Path, files: tuple[str, ...]) -> list[str]:
    """The files that differ, byte for byte, and those that only one of the folders has."""
    found = [name for name in files if (folder / name).read_bytes() != (whole / name).read_bytes()]
    return found + sorted({path.name for path in folder.iterdir()} ^ {path.name for path in whole.iterdir()})


def main() -> None:
    names = ("run", "runs", "kills", "before a checkpoint", "with a file half written", "records repeated")
    lines = [f"| {' | '.join(names)} | differences |", "| --- " * 7 + "|"]
    with tempfile.TemporaryDirectory() as temporary:
        parent = Path(temporary)
        path = text(parent)
        for number, job in enumerate((command_line_job(path, 1500), frequent_saves_job(path, 1000))):
            whole, folder = parent / f"whole {number}", parent / f"killed {number}"
            folder.mkdir()
            subprocess.run(job.command(whole), check=True, stdout=subprocess.DEVNULL)
            growth = job.share * (whole / LOG).stat().st_size
            outcome = run_with_kills(job, folder, whole, KILLS, random_delay(growth, random.Random(number)))
            *counts, different = outcome
            lines.append(f"| {job.name} | {' | '.join(map(str, counts))} | {', '.join(different) or 'none'} |")
            print(lines[-1], flush=True)
    note = "Checkpoint, best weights and log are compared byte for byte with those of an uninterrupted run."
    report("kills", "Fault injection: runs that are killed and resumed", COMMAND, [note, "", *lines])
    if any(not line.endswith("none |") for line in lines[2:]):
        sys.exit("a killed run differs from an uninterrupted one")


if __name__ == "__main__":
    main()
