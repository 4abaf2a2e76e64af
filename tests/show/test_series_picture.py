"""The picture of a run on a table."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_gru import train
from tinygrad_gru.show import series


@pytest.mark.parametrize(("losses", "scale"), [([1.13, 1.06], "linear"), ([1.0, 0.01], "log")])
def test_the_loss_has_a_logarithmic_axis_only_if_it_spans_decades(monkeypatch, losses, scale):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(series, "save_figure", lambda figure, path: drawn.append(figure))
    records = [{"step": k, "epoch": 0, "loss": loss} for k, loss in enumerate(losses)]
    classes = np.array(["a", "b"])
    results = SimpleNamespace(truth=classes, predicted=classes)
    series.plot_series("fit.png", results, train.History([*records, {"step": 1, "validation_loss": losses[0]}]), "kind")
    assert drawn[0].axes[0].get_yscale() == scale
