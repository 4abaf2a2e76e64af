"""Import and export of weights and graphs of PyTorch, Keras and ONNX, and export to JavaScript: exact, or refused with
the reason.

`interop.torch` and `interop.keras` need neither of the two; `interop.onnx` needs the onnx package. Each is imported
when it is first named.
"""

from __future__ import annotations

from importlib import import_module

from .errors import InteropError

__all__ = ["InteropError"]


def __getattr__(name: str) -> object:
    if name in ("javascript", "keras", "onnx", "torch"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
