"""The command line: `tinygrad-gru train`, `generate`, `export`, `info` and `check`, or `python -m tinygrad_gru …`."""

from .main import main

__all__ = ["main"]
