"""JavaScript target: programs on typed arrays, for Node.js and for pages.

target      the target: passes, plan, emitter
operations  the statements of a plan
products.js the functions that they call
"""

from __future__ import annotations

from .target import JavaScriptTarget, products

__all__ = ["JavaScriptTarget", "products"]
