"""Plots: the loss curve of a run."""

from .loss import PlotError, plot_loss

__all__ = ["PlotError", "plot_loss"]
