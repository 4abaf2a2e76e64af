"""The chapters of the course run, cell after cell, and have their parts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.markdown import blocks, run

DOCS = Path(__file__).parents[2] / "docs"
CHAPTERS = {path.relative_to(DOCS / "course").as_posix(): path for path in sorted((DOCS / "course").rglob("[0-9]*.md"))}


def cells_of(path):
    return [block for block in blocks(path.read_text(encoding="utf-8")) if block.is_cell]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")  # plt.show()
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    try:
        run(cells_of(CHAPTERS[name]), CHAPTERS[name], {"__name__": "__main__"})
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_are_notebooks(name):
    text = CHAPTERS[name].read_text(encoding="utf-8")
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
