"""Import and export of weights and graphs of PyTorch, Keras and ONNX: exact, or refused with the reason.

`interop.torch` and `interop.keras` need neither of the two; `interop.onnx` needs the onnx package, so that it is
imported by name.
"""

from __future__ import annotations

from .errors import InteropError

__all__ = ["InteropError"]
