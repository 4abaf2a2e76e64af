"""ONNX graphs: import as a Module (`load`), export of a Module (`save`), and a check for a known fault (`check`)."""

from __future__ import annotations

try:
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError("ONNX files need the onnx package: pip install 'tinygrad_gru[onnx]'") from error

from ...hints import missing_name
from ..errors import InteropError
from .check import Finding, check
from .exporter.save import save
from .exporter.text_model import save_text_model
from .importer.graph import Graph, load

__all__ = ["Finding", "Graph", "InteropError", "check", "load", "save", "save_text_model"]


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, {"export": "onnx.save(module, path, example_inputs)"}, __all__)
