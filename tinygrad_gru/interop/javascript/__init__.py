"""Export to JavaScript: a text model with all of its values and gradients, and any step that compiles.

interop.javascript.source(model, vocabulary)    one script, for a page or for Node.js
"""

from __future__ import annotations

from .script import scan_source, source

__all__ = ["scan_source", "source"]
