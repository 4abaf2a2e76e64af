"""Pictures: the tape, gates and states, how far a gradient reaches, the loss of a run, an op and its derivative; a
model as a page for the browser.

Figures are matplotlib's (PlotError without it) and show themselves in notebooks; each function takes `path=`.
"""

from importlib import import_module
from typing import Any

from ..hints import missing_name
from .curves import loss
from .figures import PlotError
from .graph.api import tape
from .graph.picture import TapePicture
from .heatmap import gates
from .ops import plot_op
from .reach import gradient_reach
from .units import saturation

__all__ = [
    "Explorer", "PlotError", "TapePicture", "explorer", "gates", "gradient_reach", "loss", "plot_op", "saturation",
    "tape",
]  # fmt: skip

_HINTS = {
    **dict.fromkeys("plot_loss history plot_history".split(), "show.loss(runs, path=…)"),
    "heatmap": "show.gates(model, text, vocabulary)",
    **dict.fromkeys("make_dot plot_model".split(), "show.tape(result), of what was computed"),
    "summary": "nn.summary(model, x)",
    "confusion_matrix": "train.ConfusionMatrix(), whose value print shows",
}


def __getattr__(name: str) -> Any:
    if name in ("Explorer", "explorer"):  # imported when it is first named: it imports `train`, which imports this
        return getattr(import_module(".explore", __name__), name)
    raise missing_name(__name__, name, _HINTS, __all__)
