"""The chapters of the course, and other pages with cells, run cell after cell and have their parts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.markdown import blocks, run

from tinygrad_gru.learn import EXERCISES

COURSE = Path(__file__).parents[2] / "docs" / "course"
CHAPTERS = {path.relative_to(COURSE).as_posix(): path for path in sorted(COURSE.rglob("[0-9]*.md"))}
ORIGINALS = [name for name in CHAPTERS if "/" not in name]  # translations have the same programs
#: Beside the chapters, pages of docs/ that are notebooks.
PAGES = {path.name: path for path in sorted(COURSE.parent.glob("*.md")) if "{code-cell}" in path.read_text("utf-8")}
NOTEBOOKS = CHAPTERS | PAGES
FIGURE = re.compile(r"plt\.(subplots|figure)\(|show\.(?!explorer|tape)\w+\(")  # what draws one


def cells_of(path):
    return [block for block in blocks(path.read_text(encoding="utf-8")) if block.is_cell]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")  # plt.show()
@pytest.mark.parametrize("name", [*ORIGINALS, *PAGES])
def test_chapters_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    try:
        run(cells_of(NOTEBOOKS[name]), NOTEBOOKS[name], {"__name__": "__main__"})
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_chapters_are_notebooks(name):
    text = NOTEBOOKS[name].read_text(encoding="utf-8")
    header = re.match(r"---\n(.*?)\n---\n", text, re.S)
    assert header, "a chapter begins with the header that jupytext reads"
    assert re.search(r"^jupytext:", header[1], re.M)
    assert "format_name: myst" in header[1]
    assert re.search(r"^kernelspec:", header[1], re.M)
    for block in blocks(text):
        assert block.is_cell or "{code-cell}" not in block.text, (
            f"line {block.line}: a cell in another block never runs"
        )
        assert not block.is_cell or not re.search(r"^\s*[%!]", block.text, re.M), f"line {block.line}: a magic"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_figures_have_an_alternative_text(name):
    """It tells a reader who cannot see the figure what it shows. (A drawn tape brings a description along.)"""
    cells = [cell.split() for cell in cells_of(NOTEBOOKS[name])]
    figures = [options for options, cell in cells if FIGURE.search(cell.text)]
    texts = [re.search(r"^mystnb:\n  image:\n    alt: \"(.*)\"$", options, re.M) for options in figures]
    assert all(texts)
    assert len({text[1] for text in texts}) == len(texts)
    assert all(text[1].endswith((".", "。")) and len(text[1]) > 30 for text in texts)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_have_their_parts(name):
    text = "".join(re.split(r"^```.*?^```$", CHAPTERS[name].read_text(encoding="utf-8"), flags=re.S | re.M))
    number = int(Path(name).name[:2])
    assert re.findall(r"^# (\d+)\. \S", text, re.M) == [str(number)], "one title, with the chapter's number"
    assert re.search(r"^:::\{admonition\} (Predict|先猜一猜)", text, re.M), "something to predict"
    assert re.search(r"^ *:::\{dropdown\}", text, re.M), "an answer that is hidden"
    _, _, end = re.split(r"^(## (?:Exercises|练习))$", text, flags=re.M)
    graded = [int(n) for n in re.findall(r"^- \*\*Exercise (\d+)\*\*", end, re.M)]
    assert graded == [e.number for e in EXERCISES if e.chapter == number]
    assert len(graded) + len(re.findall(r"^\d+\. ", end, re.M)) >= 3


@pytest.mark.parametrize("name", ORIGINALS)
def test_exercises_have_the_titles_of_the_grader(name):
    text = CHAPTERS[name].read_text(encoding="utf-8")
    for number, title in re.findall(r"^- \*\*Exercise (\d+)\*\*: (.*)$", text, re.M):
        assert title.rstrip(".") == EXERCISES[int(number) - 1].title
