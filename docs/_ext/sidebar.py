"""The sidebar lists pages and not their sub-pages: with a hundred ops it would be long, and slow to build."""

from __future__ import annotations

from typing import Any


def _shorten(app: Any, page: str, template: str, context: dict[str, Any], document: Any) -> None:
    toctree = context.get("toctree")
    if toctree is None:
        return

    def short(**options: Any) -> Any:
        if page in app.env.found_docs:
            return toctree(**{**options, "maxdepth": 1})
        depth = page.count("/")  # on which the links of a page that is in no toctree depend, and on nothing else
        if depth not in sidebars:
            sidebars[depth] = toctree(**{**options, "maxdepth": 1})
        return sidebars[depth]

    sidebars = app.config.sidebars
    context["toctree"] = short


def setup(app: Any) -> dict[str, Any]:
    app.add_config_value("sidebars", {}, "")  # those of pages that are no documents, by the depth of their folder
    app.connect("html-page-context", _shorten, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
