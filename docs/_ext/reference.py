"""The pages that are made from the package, as Markdown in docs/reference, when the site is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import api_pages
import nn_pages
import op_pages
from docstrings import fenced
from repository import ROOT, rewrite

from tinygrad_gru.learn import CHAPTERS, EXERCISES


def write(path: Path, text: str) -> None:
    """Write a page, unless it is there: Sphinx builds what has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def results() -> dict[str, str]:
    """The reports of the benchmarks, by the name of their page."""
    found = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    pages = {f"results/{p.stem}": rewrite(p.read_text(encoding="utf-8"), "benchmarks/results") for p in found}
    entries = "\n".join(p.stem for p in found)
    return {
        **pages,
        "results/index": f"# Results of the benchmarks\n\n```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n",
    }


def exercises() -> str:
    """The exercises by chapter, each with its task, and without its solution."""
    commands = """\
tinygrad-gru learn start 1     # writes a file with the task
tinygrad-gru learn check       # grades it, with the smallest counter-example and the likely mistake
tinygrad-gru learn hint"""
    where = "in the order of the [course](../course/index.md), and none needs a later one. In a folder of your own:"
    parts = [f"# Exercises\n\n{len(EXERCISES)}, {where}\n", fenced(commands, "text")]
    for number, chapter in enumerate(CHAPTERS, 1):
        parts.append(f"## {number}. [{chapter.title}](../course/{chapter.page}.md)\n")
        for exercise in EXERCISES:
            if exercise.chapter == number:
                task = exercise.file().partition('"""\n')[2].strip("\n")
                title = f"{exercise.number} · {exercise.title}"
                parts.append(
                    f":::::{{dropdown}} {title}\n:name: exercise-{exercise.number}\n\n{fenced(task, 'python')}:::::\n"
                )
    return "\n".join(parts)


def _generate(app: Any) -> None:
    folder = Path(app.srcdir, "reference")
    pages = results() | {f"ops/{name}": op_pages.page(name, folder / "ops") for name in op_pages.NAMES}
    pages["exercises"] = exercises()
    pages |= {f"nn/{name}": nn_pages.page(name, folder / "nn") for name in nn_pages.NAMES}
    pages |= {f"api/{package}": api_pages.page(package) for package in api_pages.PACKAGES}
    pages |= {"ops/index": op_pages.index(), "nn/index": nn_pages.index(), "api/index": api_pages.index()}
    for name, text in pages.items():
        write(folder / f"{name}.md", text)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).with_suffix("").as_posix() not in pages:
            path.unlink()


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", _generate, priority=100)  # before the environment looks for pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
