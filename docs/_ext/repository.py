"""Links from pages into the repository, as they work on a code host, work on the site: a page for every source file.

A link to `../tinygrad_gru/tape.py` leads to a page with that file, one to a folder to the list of its files.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from docstrings import sentence
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
#: Pages of the site that are files outside of docs/.
PAGES = {
    "README.md": "/index.md",
    "CHANGELOG.md": "/changelog.md",
    "CONTRIBUTING.md": "/contributing.md",
    "benchmarks/results": "/reference/results/index.md",
}

_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_TEST = re.compile(r"\btests/[\w/]+\.py\b")
_CODE = re.compile(
    r"^ *(`{3,}|~{3,})(?!\{(?!code))[^\n]*\n.*?^ *\1`*[ ]*$|(?<!`)(`{1,2})(?!`).+?(?<!`)\2(?!`)", re.S | re.M
)


def rewrite(text: str, folder: str) -> str:
    """The text of a page that lies in a folder of the repository, with links that hold on every page of the site."""

    def rewritten(match: re.Match) -> str:
        path = normpath(f"{folder}/{match[2]}") if not match[2].startswith("/") else f"docs{match[2]}"
        if path.startswith("docs/"):
            target = path.removeprefix("docs")
        elif path.startswith("benchmarks/results/"):
            target = f"/reference/results/{PurePosixPath(path).name}"
        elif path in PAGES or (ROOT / path).exists():
            target = PAGES.get(path, f"source:{path}")
        else:
            return match[0]
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    parts, end = [], 0
    for block in _CODE.finditer(text):  # code is left as it is
        parts += [_LINK.sub(rewritten, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(rewritten, text[end:])])


def _read(app: Any, name: str, source: list[str]) -> None:
    source[0] = rewrite(source[0], str(PurePosixPath("docs", name).parent))


def _include(app: Any, path: Path, parent: str, source: list[str]) -> None:
    source[0] = rewrite(source[0], normpath(PurePosixPath("docs", path).parent.as_posix()))


def page_of(path: str) -> str:
    """The name of the page of a file or folder."""
    return f"source/{path}" if (ROOT / path).is_file() else f"source/{path}/index"


def _resolve(app: Any, document: Any, name: str) -> None:
    for link in document.findall(nodes.reference):
        scheme, _, target = link.get("refuri", "").partition(":")
        if scheme != "source":
            continue
        path, _, anchor = target.partition("#")
        if not (ROOT / path).exists():
            logging.getLogger(__name__).warning("the link leads to no file: %s", path, location=link)
            continue
        link["refuri"] = app.builder.get_relative_uri(name, page_of(path)) + (f"#{anchor}" if anchor else "")
        link["internal"] = True


def _files() -> Iterator[Path]:
    """The files that get a page: those of the package, of the examples and benchmarks, and tests that a page names."""
    for folder in ("tinygrad_gru", "examples", "benchmarks"):
        yield from sorted(p for p in (ROOT / folder).rglob("*.*") if p.suffix in (".py", ".js", ".css", ".html"))
    texts = (p.read_text(encoding="utf-8") for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    yield from sorted(p for p in {ROOT / name for text in texts for name in _TEST.findall(text)} if p.exists())


def summary(path: Path) -> str:
    """The first sentence of what a module says of itself."""
    if path.suffix != ".py":
        return ""
    return sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))


def _pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each source file, and one for each folder."""
    entries: dict[str, dict[str, str]] = {}
    site = [*Path(__file__).parent.glob("*.py"), Path(app.confdir, "conf.py"), Path(app.srcdir, "index.md")]
    newest = max(p.stat().st_mtime for p in site)
    for path in _files():
        name = path.relative_to(ROOT).as_posix()
        for inner, outer in zip((PurePosixPath(name), *PurePosixPath(name).parents), PurePosixPath(name).parents):
            if outer.name:
                said = summary(path if inner.suffix else ROOT / inner / "__init__.py") if _has_text(inner) else ""
                entries.setdefault(str(outer), {})[str(inner)] = said
        try:
            lexer = get_lexer_for_filename(name)
        except ClassNotFound:
            continue
        written = Path(app.outdir, f"source/{name}.html")
        if written.exists() and written.stat().st_mtime > max(path.stat().st_mtime, newest):
            continue
        style = HtmlFormatter(linenos="inline", anchorlinenos=True, lineanchors="L", cssclass="highlight")
        text = highlight(path.read_text(encoding="utf-8"), lexer, style)
        yield _page(app, f"source/{name}", name, text.replace('id="L-', 'id="L').replace('"#L-', '"#L'))
    for folder, inside in entries.items():
        rows = []
        for entry, said in sorted(inside.items(), key=lambda item: (bool(PurePosixPath(item[0]).suffix), item[0])):
            link = app.builder.get_relative_uri(page_of(folder), page_of(entry))
            name = PurePosixPath(entry).name + ("" if PurePosixPath(entry).suffix else "/")
            rows.append(f'<tr><td><a href="{link}">{name}</a></td><td>{html.escape(said)}</td></tr>')
        yield _page(app, page_of(folder), f"{folder}/", f"<table class='docutils files'>{''.join(rows)}</table>")


def _has_text(path: PurePosixPath) -> bool:
    return bool(path.suffix) or (ROOT / path / "__init__.py").exists()


def _page(app: Any, page: str, name: str, body: str) -> tuple[str, dict[str, Any], str]:
    parents = [p for p in reversed(PurePosixPath(name.rstrip("/")).parents) if p.name]
    crumbs = [f'<a href="{app.builder.get_relative_uri(page, page_of(str(p)))}">{p.name}</a> /' for p in parents]
    heading = f'<h1 class="source">{" ".join(crumbs)} {PurePosixPath(name).name}</h1>'
    return page, {"title": name, "body": f"{heading}\n{body}"}, "page.html"


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _read)
    app.connect("include-read", _include)
    app.connect("doctree-resolved", _resolve)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
