"""The report of a study: tables beside the paper's figures, the claim tested, a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..io import replacing
from .picture import draw
from .running import Outcome, plain, quality
from .statistics import LEVEL, Interval, interval, paired_difference
from .study import Study

REPORT, RESULTS, PICTURE = "report.md", "results.json", "picture.png"
_PERCENT = f"{LEVEL:.0%}"
_ANSWERS = {True: "yes", False: "no", None: "undecided"}


def write_report(outcome: Outcome, folder: str | Path, command: str = "") -> str:
    """Write report.md, results.json and picture.png to a folder; returns the report, which is Markdown.

    Without matplotlib there is no picture, and the report says so: raises PlotError after the rest is written.

    >>> reproduce.write_report(outcome, "runs/chung2014")               # doctest: +SKIP
    """
    folder = Path(folder)
    text = report(outcome, command)
    with replacing(folder / REPORT) as file:
        file.write(text.encode())
    with replacing(folder / RESULTS) as file:
        file.write(json.dumps(plain(_figures(outcome)), indent=1, allow_nan=False).encode() + b"\n")
    draw(outcome, folder / PICTURE)
    return text


def report(outcome: Outcome, command: str = "") -> str:
    """The report in Markdown: protocol, a table for each task, and a sentence about the claim.

    >>> print(reproduce.report(outcome))                                # doctest: +SKIP
    """
    study = outcome.study
    lines = [f"# {study.title}", "", f"{study.reference}.", ""]
    if outcome.quick:
        lines += ["**This was `--quick`: it shows the thing working, and is no result.**", ""]
    lines += ["Protocol:", "", *(f"- {sentence}" for sentence in study.protocol), ""]
    for task in outcome.tasks:
        lines += [f"## {study.tasks[task].title}", "", *table(outcome, task), "", claim(outcome, task), ""]
        lines += ["Each seed:", "", *_each_seed(outcome, task), ""]
    seeds = "one seed" if outcome.seeds == 1 else f"{outcome.seeds} seeds"
    how = (
        f"the mean over {seeds} ± the half-width of the {_PERCENT} confidence interval of Student's t with "
        f"{outcome.seeds - 1} degrees of freedom"
        if outcome.seeds > 1
        else "that of one seed, of which there is no confidence interval: give --seeds 3"
    )
    lines += [
        f"{_capital(study.metric)} is {how}. Time per step is the median of interleaved rounds (the least in brackets) "
        "of forward, backward and update, apart from the training runs.",
        "",
    ]
    if command:
        lines += [f"Command: `{command}`", ""]
    lines += [f"Machine, of the times: {outcome.machine}."]
    return "\n".join(lines) + "\n"


def table(outcome: Outcome, task: str) -> list[str]:
    """The lines of the table of a task, in Markdown.

    >>> print(*reproduce.table(outcome, "jsb"), sep="\\n")              # doctest: +SKIP
    """
    study, published = outcome.study, outcome.study.tasks[task].published
    unit = f", {study.unit}" if study.unit else ""
    rows = [["cell", "parameters", "time per step, ms", f"{study.metric}{unit}", "the paper's"]]
    for cell, name in study.cells.items():
        found, time = outcome.results[task, cell], outcome.times[task, cell]
        rows.append([
            name, f"{found[0].parameters:,}", f"{1e3 * time.median:.3g} ({1e3 * time.least:.3g})",
            _quality_or_diverged(outcome, task, cell), f"{published[cell]:.3g}" if cell in published else "none",
        ])  # fmt: skip
    rows += [[name, "", "", f"{value:.4g}", ""] for name, value in outcome.baselines[task].items()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]


def _each_seed(outcome: Outcome, task: str) -> list[str]:
    """Lines with the metric of each run, by cell, in the order of the seeds."""
    lines = []
    for cell, name in outcome.study.cells.items():
        found = [result.quality for result in outcome.results[task, cell]]
        lines.append(f"- {name}: {', '.join('diverged' if math.isnan(value) else f'{value:.5g}' for value in found)}")
    return lines


def _quality_or_diverged(outcome: Outcome, task: str, cell: str) -> str:
    """The metric of a cell, with a word on the seeds that diverged."""
    ended = quality(outcome, task, cell)
    if math.isnan(ended.mean):
        return "diverged, with every seed"
    few = ended.values < outcome.seeds
    return shown(ended) + f" ({ended.values} of {outcome.seeds} seeds, the others diverged)" * few


def claim(outcome: Outcome, task: str) -> str:
    """Sentences on whether the first cell of the study's claim does as well as the second for less, in this run.

    It does as well if the whole interval of the paired difference, seed by seed, is better than the task's margin, and
    does not if it is beyond that. For less is a smaller time per step, in three quarters of the rounds at least, and
    not for less a larger one in as many. The claim is supported if both hold, refuted if one does not, and otherwise
    undecided: also if a seed of the two cells diverged. Other cells of `Study.claim` are compared with the first one.

    >>> reproduce.claim(outcome, "jsb")                                 # doctest: +SKIP
    """
    study, (first, second, *others) = outcome.study, outcome.study.claim
    name, other = _name(study, first), _name(study, second)
    unit, margin = _unit(study), outcome.study.tasks[task].margin
    difference, words, lost = _difference(outcome, task, first, second)
    worse, best = (-difference.low, -difference.high) if study.higher_is_better else (difference.high, difference.low)
    as_well: bool | None = None
    if lost or math.isnan(difference.half):
        words += f", and {lost}" if lost else ""
    elif worse <= margin:
        as_well = True
        words += f": {name} is better" if worse < 0 else f": {name} is at most {margin:g}{unit} worse, which is as well"
    elif best > margin:
        as_well = False
        words += f": {name} is worse by more than {margin:g}{unit}"
    else:
        words += f", which reaches beyond {margin:g}{unit}, what counts as well"
    time = outcome.times[task, first]
    less = True if time.ratio_high < 1 else False if time.ratio_low >= 1 else None
    more = outcome.results[task, first][0].parameters / outcome.results[task, second][0].parameters - 1
    verdict = (
        "is refuted" if as_well is False or less is False
        else "is supported" if as_well and less
        else "is not tested, for one seed has no interval" if outcome.seeds < 2
        else "is undecided"
    )  # fmt: skip
    if outcome.quick:
        verdict += ", and nothing follows from --quick"
    sentences = [
        f"In this run “{name} does as well as {other} for less” {verdict}",
        f"As well, {_ANSWERS[as_well]}: {words}",
        f"For less, {_ANSWERS[less]}: {name} has {_percent(more)} parameters and takes {time.ratio:.2f} of the time "
        f"per step of {other} (quartiles of the rounds {time.ratio_low:.2f} to {time.ratio_high:.2f})",
        *(_beside(outcome, task, first, cell) for cell in others if cell in study.cells),
    ]
    return ". ".join(sentences) + "."


def _beside(outcome: Outcome, task: str, first: str, cell: str) -> str:
    """Whether one cell is better than another, in words."""
    study, (difference, words, lost) = outcome.study, _difference(outcome, task, first, cell)
    low, high = (-difference.high, -difference.low) if study.higher_is_better else (difference.low, difference.high)
    name, other = _name(study, first), _name(study, cell)
    if lost or not (high < 0 or low > 0):
        return f"Which of {name} and {other} is better is undecided: {words}{f', and {lost}' if lost else ''}"
    return f"{name} is {'better' if high < 0 else 'worse'} than {other}: {words}"


def _difference(outcome: Outcome, task: str, first: str, second: str) -> tuple[Interval, str, str]:
    """The paired difference of two cells over the seeds with which neither diverged; and in words; and who did."""
    study, keys = outcome.study, [(task, first), (task, second)]
    pairs = list(zip(*([result.quality for result in outcome.results[key]] for key in keys)))
    ended = [pair for pair in pairs if all(map(math.isfinite, pair))]
    difference = paired_difference(*zip(*ended)) if ended else interval([math.nan])
    name, other = _name(study, first), _name(study, second)
    found = f"{name} − {other} is {difference.mean:+.3g}{_unit(study)}"
    if not ended:
        found = f"there is no seed by which to compare {name} and {other}"
    elif difference.values > 1:
        found += f" ({_PERCENT} interval, paired by seed, {difference.low:+.3g} to {difference.high:+.3g})"
    lost = " and ".join(
        f"{len(outcome.diverged[task, cell])} of {len(pairs)} seeds of {_name(study, cell)} diverged"
        for cell in (first, second)
        if outcome.diverged.get((task, cell))
    )
    return difference, found, lost


def _name(study: Study, cell: str) -> str:
    return study.cells[cell].partition(",")[0]


def _unit(study: Study) -> str:
    return f" {study.unit}" if study.unit else ""


def shown(value: Interval) -> str:
    """The mean and the half-width, with as many digits as the half-width gives a meaning.

    >>> reproduce.shown(reproduce.interval([8.51, 8.55, 8.53]))
    '8.530 ± 0.050'
    """
    if math.isnan(value.half):
        return f"{value.mean:.4g}"
    if not value.half:
        return f"{value.mean:.4g} ± 0"
    digits = 1 - math.floor(math.log10(value.half))
    if value.mean and abs(math.log10(abs(value.mean))) > 3:
        figures = min(max(digits + 1 + math.floor(math.log10(abs(value.mean))), 1), 17)
        return f"{value.mean:.{figures}g} ± {value.half:.2g}"
    return f"{value.mean:.{max(digits, 0)}f} ± {value.half:.{max(digits, 0)}f}"


def _percent(more: float) -> str:
    return "as many" if abs(more) < 5e-4 else f"{abs(more):.1%} {'more' if more > 0 else 'fewer'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(outcome: Outcome) -> dict[str, Any]:
    tasks = {}
    for task in outcome.tasks:
        cells = {
            cell: {
                "parameters": outcome.results[task, cell][0].parameters,
                "mean": quality(outcome, task, cell).mean,
                "half_width": None if outcome.seeds < 2 else quality(outcome, task, cell).half,
                "published": outcome.study.tasks[task].published.get(cell),
                "time_per_step": outcome.times[task, cell]._asdict(),
                "runs": [result._asdict() for result in outcome.results[task, cell]],
            }
            for cell in outcome.study.cells
        }
        tasks[task] = {"cells": cells, "baselines": outcome.baselines[task], "claim": claim(outcome, task)}
    return {
        "study": outcome.study.name, "quick": outcome.quick, "seeds": outcome.seeds, "level": LEVEL,
        "settings": dict(outcome.settings), "machine": outcome.machine,
        "tasks": tasks,
    }  # fmt: skip
