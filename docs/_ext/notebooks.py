"""Every chapter of the course as a notebook to download, beside its page, for Jupyter and Colab.

Its first cell installs the package where it is missing, from the archive that the site offers beside the notebook.
"""

from __future__ import annotations

import base64
import re
import zipfile
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell
from repository import ROOT

from tinygrad_gru.version import __version__

ARCHIVE = f"tinygrad_gru-{__version__}.zip"
INSTALL = f"""\
# Where tinygrad_gru is missing, this installs it from {ARCHIVE}, which lies beside this notebook on the site.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("tinygrad_gru") is None:
    if importlib.util.find_spec("google.colab") is not None and not Path("{ARCHIVE}").exists():
        from google.colab import files

        files.upload()  # choose {ARCHIVE}
    if not Path("{ARCHIVE}").exists():
        raise FileNotFoundError("download {ARCHIVE} from the site, put it into " + str(Path.cwd()) + ", run this again")
    %pip install --quiet "{ARCHIVE}[plot,learn]"
"""

_DROPDOWN = re.compile(r"^( *)(:{3,}|`{3,})\{dropdown\} *(.*?)\n(.*?)^\1\2 *$", re.S | re.M)
_ADMONITION = re.compile(r"^(:{3,}|`{3,})\{(?:admonition\} *(.*?)|(note|tip|warning)\} *)\n(.*?)^\1 *$", re.S | re.M)
_OPTIONS = re.compile(r"\A(:[\w-]+:.*\n)+\n?")
_LINK = re.compile(r"(!?)(\[[^\]]*\])\(([^)\s:]+?)(#[^)]*)?\)")


def _details(match: re.Match) -> str:
    text = re.sub(rf"^{match[1]}", "", _OPTIONS.sub("", match[4]), flags=re.M)
    return f"\n<details><summary><b>{match[3]}</b></summary>\n\n{text}\n</details>\n"


def _quote(match: re.Match) -> str:
    title = match[2] or str(match[3]).capitalize()
    return "".join(f"> {line}\n" for line in (f"**{title}**", "", *_OPTIONS.sub("", match[4]).splitlines()))


def _linked(match: re.Match, folder: Path) -> str:
    """Pictures become part of the notebook; a link to a chapter leads to its notebook; others become their text."""
    picture, text, target, anchor = match.groups()
    path = folder / target
    if picture and path.is_file():
        data = base64.b64encode(path.read_bytes()).decode()
        return f"!{text}(data:{guess_type(path.name)[0]};base64,{data})"
    if re.fullmatch(r"(\.\./|zh/)?\d\d_\w+\.md", target):
        return f"{text}({target.removesuffix('.md')}.ipynb{anchor or ''})"
    return match[0] if picture else text[1:-1]


def notebook(path: Path) -> str:
    """A chapter as the text of an .ipynb file, in the Markdown that every notebook shows."""
    book = jupytext.read(path)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            text = _ADMONITION.sub(_quote, _DROPDOWN.sub(_details, cell.source))
            cell.source = _LINK.sub(lambda match: _linked(match, path.parent), text)
    book.cells.insert(0, new_code_cell(INSTALL, id="install"))
    book.cells.insert(
        0, new_markdown_cell("*A chapter of the course of tinygrad_gru. Run the next cell first.*", id="about")
    )
    for number, cell in enumerate(book.cells[2:]):
        cell["id"] = f"cell-{number}"  # the same in every build
    book.metadata.pop("jupytext", None)
    return jupytext.writes(book, fmt="ipynb")


def _chapters(app: Any) -> list[Path]:
    return sorted(Path(app.srcdir, "course").rglob("[0-9]*.md"))


def _offer(app: Any, name: str, source: list[str]) -> None:
    """A line under the title of a chapter, with what can be downloaded."""
    if not re.match(r"course/(.*/)?\d", name):
        return
    archive = "../" * (name.count("/") - 1) + ARCHIVE
    words = (
        ("下载本章笔记本", "以及它所用的库")
        if "/zh/" in name
        else ("Download this chapter as a notebook", "and the package")
    )
    line = (
        f'<p class="download"><a download href="{name.rpartition("/")[2]}.ipynb">{words[0]}</a> '
        f'(<a download href="{archive}">{words[1]}</a>)</p>'
    )
    source[0] = re.sub(r"^(# .*\n)", rf"\1\n{line}\n", source[0], count=1, flags=re.M)


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in _chapters(app):
        target = Path(app.outdir, path.relative_to(app.srcdir)).with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(notebook(path), encoding="utf-8")
    with zipfile.ZipFile(Path(app.outdir, "course", ARCHIVE), "w", zipfile.ZIP_DEFLATED) as archive:
        package = sorted(p for p in (ROOT / "tinygrad_gru").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for path in (*package, *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"))):
            archive.write(path, Path("tinygrad_gru", path.relative_to(ROOT)))


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _offer)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
