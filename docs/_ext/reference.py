"""The pages that are made from the package, as Markdown in docs/reference, when the site is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import op_pages
from repository import ROOT, rewrite


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


def _generate(app: Any) -> None:
    folder = Path(app.srcdir, "reference")
    pages = results() | {f"ops/{name}": op_pages.page(name, folder / "ops") for name in op_pages.NAMES}
    pages["ops/index"] = op_pages.index()
    for name, text in pages.items():
        write(folder / f"{name}.md", text)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).with_suffix("").as_posix() not in pages:
            path.unlink()


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", _generate, priority=100)  # before the environment looks for pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
