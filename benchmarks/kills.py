"""What is left of a training run that is killed 40 times? SIGKILL at random moments, and `--resume` after each.

A killed run and one that was left alone must end with the same files, byte for byte: the checkpoint (weights,
optimiser, random numbers, position in the text), the best weights, and the log with each step and evaluation once.

Two runs are killed: the command line's, which saves ten times, and one that saves after every step, so that most kills
come while files are written.
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
from tinygrad_gru.train.folder import BEST, CHECKPOINT, LOG, RunFolder
from tinygrad_gru.train.loop import read_log

from .timing import report

COMMAND = "python -m benchmarks.kills"
KILLS = 40
_OPTIONS = [
    "--cell",
    "lstm",
    "--hidden",
    "32",
    "--embedding",
    "16",
    "--batch",
    "8",
    "--window",
    "16",
    "--dropout",
    "0.2",
]


class Job(NamedTuple):
    """A run that can be begun, and gone on with, in a process of its own.

    command  gives what to execute for a folder; a folder with a checkpoint is to be gone on with
    share    of the whole log which a process adds at most before it is killed
    files    that must end as if there had been no kill
    """

    name: str
    command: Callable[[Path], list[str]]
    share: float
    files: tuple[str, ...]


class Outcome(NamedTuple):
    """What became of `runs` that met `kills`.

    How many kills came before there was a checkpoint, and how many while a file was half written; how many records of
    the log were taken again after them; and what differs in the end.
    """

    runs: int
    kills: int
    before_a_checkpoint: int
    half_written: int
    records_taken_again: int
    differences: list[str]


def text(folder: Path) -> Path:
    """A text to learn, the same each time."""
    path = folder / "text.txt"
    choose = random.Random(0)
    words = ["ba", "be", "do", "du", "ka", "ko", "mi", "mu", "ra", "ti"]
    lines = (" ".join("".join(choose.choices(words, k=2)) for _ in range(6)) + "\n" for _ in range(600))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def by_command_line(path: Path, steps: int) -> Job:
    def command(folder: Path) -> list[str]:
        begin = ["--text", str(path), *_OPTIONS, "--characters", str(steps * 8 * 16)]
        how = ["--resume"] if (folder / CHECKPOINT).exists() else begin
        return [sys.executable, "-m", "tinygrad_gru", "train", "--out", str(folder), "--quiet", *how]

    return Job("`tinygrad-gru train`, which saves ten times", command, 0.115, (CHECKPOINT, LOG))


def saving_always(path: Path, steps: int) -> Job:
    def command(folder: Path) -> list[str]:
        call = f"from benchmarks.kills import go_on; go_on({str(path)!r}, {str(folder)!r}, {steps})"
        return [sys.executable, "-c", call]

    return Job("a loop that saves after every step", command, 0.04, (CHECKPOINT, BEST, LOG))


def go_on(path: str, folder: str, steps: int) -> None:
    """Begin a run that evaluates and saves after every step, or go on with it."""
    settings = TextSettings(
        text=path,
        cell="lstm",
        embedding=4,
        hidden=8,
        batch=4,
        window=8,
        characters=steps * 32,
        dropout=0.2,
        patience=steps,
    )
    run = TextRun(settings)
    with RunFolder(folder) as held:
        loop = run.loop(held, load_checkpoint(held.checkpoint) if held.checkpoint.exists() else None)
        loop.evaluations, loop.on_evaluation = steps, lambda progress: None
        loop.run(Progress())


def at_random(growth: float, choose: random.Random) -> Callable[[subprocess.Popen, Path], None]:
    """Wait until a moment in the life of a process: in one of five while it starts, else while the log grows.

    It has then grown by at most that many bytes, so that the moments are as random on a slow machine.
    """

    def wait(process: subprocess.Popen, folder: Path) -> None:
        if choose.random() < 0.2:
            time.sleep(choose.uniform(0, 1))
            return
        before, goal, size = _facts(folder / LOG), choose.uniform(0, growth), None
        while process.poll() is None:
            now = _facts(folder / LOG)
            if size is None and now != before:  # the process has opened a new log, or cut the old one
                size = now[-1]
            if size is not None and now[-1] >= size + goal:
                break
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.02))

    return wait


def _facts(path: Path) -> tuple[int, int, int]:
    """What changes when a log is opened, cut or written: its file, the time and the size."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def killed(job: Job, place: Path, whole: Path, kills: int, wait: Callable[[subprocess.Popen, Path], None]) -> Outcome:
    """Kill a job so many times, let it end, and compare it with the one in `whole` that was let alone.

    If it comes to its end before, another one is begun. Their folders are made in `place`.
    """
    met = before = half_written = again = 0
    different: list[str] = []
    for number in itertools.count(1):
        folder, ended = place / str(number), False
        while met < kills and not ended:
            with subprocess.Popen(job.command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                wait(process, folder)
                process.kill()
                errors = process.communicate()[1].decode()
            ended = process.returncode == 0
            if ended:
                continue
            if process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"{job.name}: after {met} kills: {errors}")
            met += 1
            half_written += any(folder.glob(".*.part"))
            if (folder / CHECKPOINT).exists():
                step = load_checkpoint(folder / CHECKPOINT)["trainer"]["steps"]
                again += sum(record["step"] > step for record in read_log(folder / LOG))
            else:
                before += 1
        if not ended:
            subprocess.run(job.command(folder), check=True, stdout=subprocess.DEVNULL)
        different += differences(folder, whole, job.files)
        if met == kills:
            break
    return Outcome(number, met, before, half_written, again, different)


def differences(folder: Path, whole: Path, files: tuple[str, ...]) -> list[str]:
    """The files that are not the same, byte for byte, and what stands in the folder besides its files."""
    found = [name for name in files if (folder / name).read_bytes() != (whole / name).read_bytes()]
    return found + sorted({path.name for path in folder.iterdir()} ^ {path.name for path in whole.iterdir()})


def main() -> None:
    names = ("run", "runs", "kills", "before a checkpoint", "with a file half written", "records taken again")
    lines = [f"| {' | '.join(names)} | differences |", "| --- " * 7 + "|"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        path = text(place)
        for number, job in enumerate((by_command_line(path, 1500), saving_always(path, 1000))):
            whole, folder = place / f"whole {number}", place / f"killed {number}"
            folder.mkdir()
            subprocess.run(job.command(whole), check=True, stdout=subprocess.DEVNULL)
            growth = job.share * (whole / LOG).stat().st_size
            outcome = killed(job, folder, whole, KILLS, at_random(growth, random.Random(number)))
            *counts, different = outcome
            lines.append(f"| {job.name} | {' | '.join(map(str, counts))} | {', '.join(different) or 'none'} |")
            print(lines[-1], flush=True)
    about = "Checkpoint, best weights and log are compared byte for byte with those of a run that was left alone."
    report("kills", "A run that is killed again and again", COMMAND, [about, "", *lines])
    if any(not line.endswith("none |") for line in lines[2:]):
        sys.exit("a killed run did not end as the one that was left alone")


if __name__ == "__main__":
    main()
