"""Recurrences: a step function run over time, in eager or in compiled mode."""

from __future__ import annotations

from .api import compiling, scan
from .explain import explain
from .tracing.trace_cache import pure

__all__ = ["compiling", "explain", "pure", "scan"]
