"""Recurrences: a step function run over time, in eager or in compiled mode."""

from __future__ import annotations

from .api import scan
from .explain import explain
from .fallback import NotCompiledError, NotCompiledWarning
from .modes import compiling
from .tracing.trace_cache import pure

__all__ = ["NotCompiledError", "NotCompiledWarning", "compiling", "explain", "pure", "scan"]
