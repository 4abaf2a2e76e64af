"""Debugging tools: anomaly mode, lockstep comparison of two backends, and counts of device events."""

from __future__ import annotations

from .anomaly import AnomalyError, detect_anomaly
from .device_events import sanitize
from .lockstep import Agreement, DivergenceError, lockstep

__all__ = ["Agreement", "AnomalyError", "DivergenceError", "detect_anomaly", "lockstep", "sanitize"]
