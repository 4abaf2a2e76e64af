"""Equations as MathML, which browsers show by themselves: no script, no network, and screen readers read them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging


def _mathml(self: Any, node: Any, as_block: bool) -> str:
    try:
        return latex2mathml.tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("equation %r: %s", node.astext(), error, location=node)
        return self.encode(node.astext())


def _inline(self: Any, node: Any) -> None:
    self.body.append(_mathml(self, node, as_block=False))
    raise nodes.SkipNode


def _block(self: Any, node: Any) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    self.body.append(f'<div class="equation"{anchor}>{_mathml(self, node, as_block=True)}{number}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
