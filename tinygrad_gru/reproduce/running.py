"""run_study: all cells, tasks and seeds of a study, each kept as soon as it is finished, and the report."""

from __future__ import annotations

import inspect
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import current, manual_seed
from ..hints import did_you_mean
from ..io import FileFormatError, parse_json, remove_parts, replacing
from ..io.checkpoint import CheckpointError
from ..io.schema import COUNT, NUMBER, TEXT, ValueType, check, dict_of, list_of, optional
from ..native.cores import processor
from ..nn import Module
from ..scan.modes import mode_of
from ..train import Progress, RunFolder, Trainer, TrainingError
from ..train import progress as progress_display
from ..train.folder import create_folder
from ..version import __version__
from .statistics import Interval, interval, quantile
from .study import Result, Run, Study
from .timing import SECONDS, StepTime, step_times

STUDY, TIMES, RUNS, UNFINISHED = "study.json", "times.json", "runs", "unfinished"
QUICK_SEEDS = 2
_POINTS = ValueType(
    "[step, value] pairs",
    lambda value: (
        type(value) is list
        and all(type(pair) is list and len(pair) == 2 and all(map(optional(NUMBER).accepts, pair)) for pair in value)
    ),
)
_RECORD = {  # of a run; what was not finite is null
    "sizes": dict_of(TEXT), "parameters": COUNT, "quality": optional(NUMBER), "curve": _POINTS,
    "more": dict_of(optional(NUMBER)), "diverged": optional(TEXT),
}  # fmt: skip
_TIME = ValueType("five numbers", lambda value: list_of(NUMBER).accepts(value) and len(value) == len(StepTime._fields))


@dataclass(frozen=True)
class Outcome:
    """All that a study gave, for its report.

    results    of each (task, cell) a `Result` for each seed from 0
    times      of each (task, cell) the time per training step
    baselines  of each task the metric of models that are no network
    machine    that on which the times were measured
    diverged   of each (task, cell) what was said by the seeds that diverged; their `quality` is NaN

    >>> study = reproduce.STUDIES["chung2014"]
    >>> reproduce.Outcome(study, True, ["jsb"], 2, {}, {}, {}, "a laptop", study.settings).quick
    True
    """

    study: Study
    quick: bool
    tasks: Sequence[str]
    seeds: int
    results: Mapping[tuple[str, str], list[Result]]
    times: Mapping[tuple[str, str], StepTime]
    baselines: Mapping[str, Mapping[str, float]]
    machine: str
    settings: Mapping[str, Any]
    diverged: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)


def run_study(
    study: Study,
    *,
    data: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Outcome:
    """Run a study, or go on with it: every cell on every task with every seed from 0, and then the times per step.

    data      the data file, or the folder with the data files; None: they are downloaded
    tasks     names of some of its tasks; None: all
    seeds     how many; None: those of the study, and with `quick` two. Of one seed there is no confidence interval
    quick     the small settings of a run of a minute, which is no result
    out       the folder in which each finished run is kept, so that an interrupted study goes on where it was, and more
              seeds or tasks may be added later; None: nothing is written
    progress  whether to show a progress display

    A run that diverges is one with the quality NaN: it is counted in the report, and not made again.

    Raises ValueError for an unknown task or fewer than one seed, and if `out` is of another study, version or code, of
    other settings, data or sizes of models: the error says of which; ImportError without scipy, for several seeds; the
    errors of `DataFile.find`; TrainingError if all runs diverge.

    >>> outcome = reproduce.run_study(reproduce.STUDIES["chung2014"], tasks=["jbs"])
    Traceback (most recent call last):
    ValueError: chung2014 has no task 'jbs' (did you mean 'jsb'?); it has jsb, nottingham
    """
    chosen = list(study.tasks if tasks is None else dict.fromkeys(tasks))
    for task in chosen:
        if task not in study.tasks:
            known = f"{did_you_mean(task, study.tasks)}; it has {', '.join(study.tasks)}"
            raise ValueError(f"{study.name} has no task {task!r}{known}")
    count = seeds if seeds is not None else QUICK_SEEDS if quick else study.seeds
    if count < 1:
        raise ValueError(f"seeds: expected at least 1, and 2 for a confidence interval, got {count}")
    if count > 1:
        quantile(count - 1, 0.5)  # scipy is there: an error now, not after hours of training
    settings = {**study.settings, **(study.quick if quick else {})}
    files = {task: study.tasks[task].file for task in chosen}
    paths = {task: None if file is None else file.find(data) for task, file in files.items()}
    folder = None if out is None else Path(out)
    with nullcontext() if folder is None else RunFolder(folder):
        if folder is not None:
            _claim(folder, _identity(study, quick, settings))
        loaded = {task: study.load(task, paths[task], settings) for task in chosen}
        runs = [
            Run(task, cell, seed, loaded[task], settings)
            for seed in range(count) for task in chosen for cell in study.cells
        ]  # fmt: skip
        manual_seed(0)
        trainers = {(run.task, run.cell): study.trainer(run) for run in runs if run.seed == 0}
        models = {key: trainer.model for key, trainer in trainers.items()}
        kept = {_key(run): _kept(folder, run, models[run.task, run.cell]) for run in runs}
        total, done = (sum(study.steps(run) for run in runs if every or kept[_key(run)]) for every in (True, False))
        with progress_display(total, done, quiet=not progress) as display:
            for run in runs:
                if kept[_key(run)] is None:
                    kept[_key(run)] = _finished(study, run, models[run.task, run.cell], folder, display)
        records: dict[tuple[str, str], list[Any]] = {}
        for run in runs:
            records.setdefault((run.task, run.cell), []).append(kept[_key(run)])
        diverged = {
            key: [record["diverged"] for record in found if record["diverged"]] for key, found in records.items()
        }
        if sum(map(len, diverged.values())) == len(runs):
            raise TrainingError(
                f"all {len(runs)} runs diverged; {_named(runs[0])}: {diverged[chosen[0], runs[0].cell][0]}"
            )
        times, where = _times(study, trainers, folder, display, 0.0 if quick else SECONDS)
    return Outcome(
        study, quick, chosen, count,
        {key: [_result(record) for record in found] for key, found in records.items()},
        times, {task: study.baselines(task, loaded[task]) for task in chosen}, where, settings, diverged,
    )  # fmt: skip


def quality(outcome: Outcome, task: str, cell: str) -> Interval:
    """The metric of a cell on a task: the interval over its seeds, those that diverged left out; NaN of none.

    >>> reproduce.quality(outcome, "jsb", "gru").mean                   # doctest: +SKIP
    8.55
    """
    values = [result.quality for result in outcome.results[task, cell] if math.isfinite(result.quality)]
    return interval(values or [math.nan])


def machine() -> str:
    """The machine, in words, and the versions of what computes."""
    cores = f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, tinygrad_gru {__version__}"
    return f"{processor()}, {cores}, backend {current().name}, recurrences by {mode_of().family}, {versions}"


# -- one run -----------------------------------------------------------------------------------------------------------


class _RunProgress(Progress):
    """The display of a run as a part of the study's: steps advance it, messages are left out."""

    def __init__(self, display: Progress, steps: int) -> None:
        self._display, self._left = display, steps

    def advance(self, amount: int, **values: float) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        self._display.advance(amount, **values)

    def finish(self) -> None:
        """The steps that early stopping has saved."""
        self._display.advance(self._left)


def _sizes(model: Module) -> dict[str, str]:
    """Of each parameter its dtype and shape, in words."""
    return {name: f"{tensor.dtype} {tensor.shape}" for name, tensor in model.named_parameters()}


def _finished(study: Study, run: Run, model: Module, folder: Path | None, display: Progress) -> dict[str, Any]:
    """Make a run, whose model is of the sizes of this one: its record, which is kept."""
    unfinished = None if folder is None else folder / UNFINISHED / _key(run)
    if unfinished is not None:
        create_folder(unfinished)
    part, began = _RunProgress(display, study.steps(run)), time.perf_counter()
    manual_seed(run.seed)
    diverged = None
    try:
        result = study.run(replace(run, progress=part, folder=unfinished))
        if not math.isfinite(result.quality):
            diverged = f"the {study.metric} is {result.quality}"
    except TrainingError as error:
        diverged = str(error)
        result = Result(model.parameter_count(), math.nan, [], {})
    part.finish()
    record = {
        "task": run.task, "cell": run.cell, "seed": run.seed, "sizes": _sizes(model), **result._asdict(),
        "diverged": diverged, "seconds": time.perf_counter() - began,
    }  # fmt: skip
    display.write(f"{_named(run)}: {diverged or f'{study.metric} {result.quality:.4g} {study.unit}'.rstrip()}")
    if folder is not None and unfinished is not None:
        _write(_file(folder, run), record)
        shutil.rmtree(unfinished)
    return record


def _key(run: Run) -> str:
    return f"{run.task}-{run.cell}-{run.seed}"


def _named(run: Run) -> str:
    return f"{run.task}, {run.cell}, seed {run.seed}"


def _result(record: Mapping[str, Any]) -> Result:
    curve = [[math.nan if value is None else value for value in pair] for pair in record["curve"]]
    more = {name: math.nan if value is None else value for name, value in record["more"].items()}
    quality = math.nan if record["diverged"] else record["quality"]
    return Result(record["parameters"], quality, curve, more)


def plain(value: Any) -> Any:
    """A value for JSON: what is not finite, in it and below, is None."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- the folder --------------------------------------------------------------------------------------------------------


def _identity(study: Study, quick: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs in a folder have in common, by names that an error can say."""
    files = {f"data of {name}": task.file.sha256 for name, task in study.tasks.items() if task.file is not None}
    named = {f"setting {name}": value for name, value in settings.items()}
    identity = {
        "study": study.name, "version": __version__, "code": _code(study), "quick": quick, "backend": current().name,
        **files, **named,
    }  # fmt: skip
    return json.loads(json.dumps(identity))


def _code(study: Study) -> str:
    """A checksum of the modules that define the study, as far as they have a source."""
    whole = sha256()
    for cls in type(study).__mro__[: -len(Study.__mro__)]:
        with suppress(OSError, TypeError, KeyError):  # it was typed into an interpreter
            whole.update(inspect.getsource(sys.modules[cls.__module__]).encode())
    return whole.hexdigest()[:12]


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Write whose folder it is, or raise ValueError if it is that of another study or of other settings."""
    file = folder / STUDY
    if not file.exists():
        remove_parts(file)
        if any(path.name != ".lock" for path in folder.iterdir()):
            raise ValueError(f"out: {folder} holds other files and no {STUDY}: give a new folder")
        _write(file, identity)
        return
    _compare(folder, _read(file), identity)


def _compare(folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any], what: str = "") -> None:
    """Raise ValueError, with the name of what differs, if what is in a folder is not what is expected."""
    for name in (*expected, *found):
        there, here = (values.get(name, "nothing") for values in (found, expected))
        if there != here:
            raise ValueError(
                f"out: {folder} holds runs with another {what}{name}: {there!r:.60} there, {here!r:.60} now; give "
                "another folder"
            )


def _kept(folder: Path | None, run: Run, model: Module) -> dict[str, Any] | None:
    """The record of a finished run, if there is one, whose model must have had the sizes of this one."""
    if folder is None or not _file(folder, run).exists():
        return None
    record = _read(_file(folder, run))
    try:
        check(record, _RECORD)
        if (record["quality"] is None) != (record["diverged"] is not None):
            raise CheckpointError("quality: expected a finite number, or null of a run that diverged")
        for name in ("task", "cell", "seed"):
            if record.get(name) != getattr(run, name):
                raise CheckpointError(f"{name}: expected {getattr(run, name)!r}, got {record.get(name)!r:.40}")
    except CheckpointError as error:
        raise FileFormatError(f"{_file(folder, run)}: {error}; remove it, and the run is made again") from error
    _compare(folder, record["sizes"], _sizes(model), f"size of a parameter of {run.cell}, ")
    return record


def _file(folder: Path, run: Run) -> Path:
    return folder / RUNS / f"{_key(run)}.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        value = parse_json(file.read_bytes())
    except FileFormatError as error:
        raise FileFormatError(f"{file}: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{file}: expected an object")
    return value


def _write(file: Path, value: Any) -> None:
    create_folder(file.parent)
    with replacing(file) as open_file:
        open_file.write(json.dumps(plain(value), allow_nan=False).encode() + b"\n")


# -- the times ---------------------------------------------------------------------------------------------------------


def _times(
    study: Study, trainers: Mapping[tuple[str, str], Trainer], folder: Path | None, display: Progress, seconds: float
) -> tuple[dict[tuple[str, str], StepTime], str]:
    """Of each (task, cell) the time per training step, and on which machine; kept, for it needs one that is quiet."""
    file = None if folder is None else folder / TIMES
    kept = _read(file) if file is not None and file.exists() else {}
    tasks = dict.fromkeys(task for task, _ in trainers)
    for task in tasks:
        try:
            check(kept.get(task), {"machine": TEXT, "cells": dict.fromkeys(study.cells, _TIME)})
        except CheckpointError:  # there are none, or of other cells
            display.write(f"{task}: measuring the time per step")
            steps = {cell: trainer.step for (own, cell), trainer in trainers.items() if own == task}
            kept[task] = {"machine": machine(), "cells": step_times(steps, study.claim[1], seconds)}
    if file is not None:
        _write(file, kept)
    where = "; ".join(dict.fromkeys(kept[task]["machine"] for task in tasks))
    return {(task, cell): StepTime(*kept[task]["cells"][cell]) for task, cell in trainers}, where
