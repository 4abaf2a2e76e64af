"""The one error of this room."""

from __future__ import annotations


class InteropError(ValueError):
    """Weights, a file or a graph that cannot be read, or that cannot be converted exactly; the message says why."""
