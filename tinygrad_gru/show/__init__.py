"""Pictures: the tape, the loss curve of a run, an op and its derivative; a model as a page for the browser."""

from importlib import import_module
from typing import Any

from .figures import PlotError
from .graph.api import tape
from .loss import plot_loss
from .ops import plot_op

__all__ = ["Explorer", "PlotError", "explorer", "plot_loss", "plot_op", "tape"]


def __getattr__(name: str) -> Any:
    if name in ("Explorer", "explorer"):  # imported when it is first named: it imports `train`, which imports this
        return getattr(import_module(".explore", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
