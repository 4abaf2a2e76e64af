"""Pictures: the tape, gates and states, how far a gradient reaches, the loss of a run, an op and its derivative.

Figures are matplotlib's (PlotError without it) and show themselves in notebooks; each function takes `path=`.
"""

from ..hints import missing_name
from .curves import loss
from .figures import PlotError
from .graph.api import tape
from .graph.picture import TapePicture
from .heatmap import gates
from .ops import plot_op
from .reach import gradient_reach
from .units import saturation

__all__ = ["PlotError", "TapePicture", "gates", "gradient_reach", "loss", "plot_op", "saturation", "tape"]

_HINTS = {"plot_loss": "show.loss(runs, path=…)", "heatmap": "show.gates(model, text, vocabulary)"}


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, _HINTS, __all__)
