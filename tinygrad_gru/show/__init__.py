"""Plots: the loss curve of a run."""

from .figures import PlotError
from .loss import plot_loss

__all__ = ["PlotError", "plot_loss"]
