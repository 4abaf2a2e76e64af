"""Recurrences: a step, run over time."""

from __future__ import annotations

from .plain import scan

__all__ = ["scan"]
