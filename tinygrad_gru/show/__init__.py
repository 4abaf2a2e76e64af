"""Plots: the loss curve of a run, an op and its derivative."""

from .figures import PlotError
from .graph.api import tape
from .loss import plot_loss
from .ops import plot_op

__all__ = ["PlotError", "plot_loss", "plot_op", "tape"]
