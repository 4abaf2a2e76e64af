"""Recurrences: a step, run over time, plainly or compiled."""

from __future__ import annotations

from .explain import explain
from .readings import compiling, scan
from .traces import pure

__all__ = ["compiling", "explain", "pure", "scan"]
