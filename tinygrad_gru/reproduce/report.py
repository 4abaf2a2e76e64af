"""The report of a study: tables beside the paper's figures, the claim tested, a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..io import replacing
from .picture import draw
from .running import Outcome, plain
from .statistics import LEVEL, Interval, interval, paired_difference

REPORT, RESULTS, PICTURE = "report.md", "results.json", "picture.png"
_PERCENT = f"{LEVEL:.0%}"


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
    if len(outcome.versions) > 1:
        lines += ["", f"The runs were made by different versions: {', '.join(outcome.versions)}."]
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
            shown(quality(outcome, task, cell)), f"{published[cell]:.3g}" if cell in published else "none",
        ])  # fmt: skip
    rows += [[name, "", "", f"{value:.4g}", ""] for name, value in outcome.baselines[task].items()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]


def quality(outcome: Outcome, task: str, cell: str) -> Interval:
    """The metric of a cell on a task: the interval over its seeds.

    >>> reproduce.quality(outcome, "jsb", "gru").mean                   # doctest: +SKIP
    8.55
    """
    return interval([result.quality for result in outcome.results[task, cell]])


def claim(outcome: Outcome, task: str) -> str:
    """A sentence on whether the first cell of the study's claim does as well as the second for less, in this run.

    It does as well if the whole interval of the paired difference, seed by seed, is better than the task's margin, and
    worse if it is beyond that; between the two the run does not decide. For less is a smaller time per step, in three
    quarters of the rounds at least.

    >>> reproduce.claim(outcome, "jsb")                                 # doctest: +SKIP
    """
    study, (first, second) = outcome.study, outcome.study.claim
    ours, other = (outcome.results[task, cell] for cell in (first, second))
    names = [study.cells[cell].partition(",")[0] for cell in (first, second)]
    unit, margin = f" {study.unit}" if study.unit else "", outcome.study.tasks[task].margin
    said = f"“{names[0]} does as well as {names[1]} for less”"
    more = ours[0].parameters / other[0].parameters - 1
    time = outcome.times[task, first]
    cost = (
        f"{names[0]} has {_percent(more)} parameters and takes {time.ratio:.2f} of the time per step of {names[1]} "
        f"(quartiles {time.ratio_low:.2f} to {time.ratio_high:.2f})"
    )
    difference = paired_difference(*([result.quality for result in results] for results in (ours, other)))
    words = f"{names[0]} − {names[1]} is {difference.mean:+.3g}{unit}"
    if difference.values < 2:
        return f"{said}: not tested, for one seed has no interval ({words}); {cost}."
    worse, best = (-difference.low, -difference.high) if study.higher_is_better else (difference.high, difference.low)
    words += f" ({_PERCENT} interval of the paired difference {difference.low:+.3g} to {difference.high:+.3g})"
    if worse <= margin:
        as_well = (
            f"so {names[0]} is better" if worse < 0 else f"so {names[0]} is at most {margin:g}{unit} worse: as well"
        )
        verdict = "holds" if time.ratio_high < 1 else "does not hold: as well, but not for less"
    elif best > margin:
        as_well, verdict = f"so {names[0]} is worse by more than {margin:g}{unit}", "does not hold"
    else:
        as_well, verdict = f"which reaches beyond {margin:g}{unit}, what counts as well", "is not decided"
    if outcome.quick:
        verdict += ", and nothing follows from --quick"
    return f"In this run {said} {verdict}. {words}, {as_well}; {cost}."


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
        "settings": dict(outcome.settings), "machine": outcome.machine, "versions": list(outcome.versions),
        "tasks": tasks,
    }  # fmt: skip
