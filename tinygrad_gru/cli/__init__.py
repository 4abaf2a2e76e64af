"""The command line: `tinygrad-gru COMMAND`, or `python -m tinygrad_gru COMMAND`."""

from .main import main

__all__ = ["main"]
