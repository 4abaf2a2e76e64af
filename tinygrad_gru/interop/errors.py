"""InteropError: the exception that all readers and converters raise."""

from __future__ import annotations


class InteropError(ValueError):
    """Weights, a file or a graph that cannot be read, or that cannot be converted exactly; the message says why."""
